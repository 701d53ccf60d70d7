//! Connections as they arrive at the port, with or without TLS. Knows no calls.
//!
//! A slow client keeps no other one waiting: handshakes run beside each other, each for a bounded time, and one that fails
//! is a line in the log at most. Their number is bounded, too; who opens that many connections and says nothing can keep
//! others out, which only a firewall that counts connections prevents.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::{Stream, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;
use tonic::transport::server::TcpIncoming;

use crate::access::{SecureStream, ServerTls};

/// A client that has not shaken hands by then is let go.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Handshakes under way; further clients wait in the system's queue of the port.
const HANDSHAKES_MAX: usize = 512;

/// After an error of the port itself, such as no more files for this process: it would only come again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Connections that are gone without a word are noticed by the system, too.
const KEEP_ALIVE: Duration = Duration::from_secs(60);

/// One client's connection.
pub(super) enum Connection {
    Plain(TcpStream),
    Secure(Box<SecureStream>),
}

/// The connections of a port, each when it can be read. Never ends and never fails.
pub(super) fn connections(
    listener: TcpListener,
    tls: Option<Arc<ServerTls>>,
) -> impl Stream<Item = Connection> + Send {
    TcpIncoming::from(listener)
        .with_nodelay(Some(true))
        .with_keepalive(Some(KEEP_ALIVE))
        .filter_map(|arrived| async {
            match arrived {
                Ok(stream) => Some(stream),
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be taken");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    None
                }
            }
        })
        .map(move |stream| {
            let tls = tls.clone();
            async move {
                match tls {
                    None => Some(Connection::Plain(stream)),
                    // On a task of its own, so that the arithmetic of several handshakes has several cores.
                    Some(tls) => AbortOnDropHandle::new(tokio::spawn(secured(tls, stream)))
                        .await
                        .ok()
                        .flatten(),
                }
            }
        })
        .buffer_unordered(HANDSHAKES_MAX)
        .filter_map(async |connection| connection)
}

async fn secured(tls: Arc<ServerTls>, stream: TcpStream) -> Option<Connection> {
    let peer = stream.peer_addr().ok();
    let reason = match tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
        Ok(Ok(stream)) => return Some(Connection::Secure(Box::new(stream))),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("nothing came of it within {HANDSHAKE_TIMEOUT:?}"),
    };
    tracing::debug!(?peer, reason, "a TLS handshake failed");
    None
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Secure(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Secure(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(context, pieces),
            Self::Secure(stream) => Pin::new(stream).poll_write_vectored(context, pieces),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Secure(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Secure(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Secure(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
