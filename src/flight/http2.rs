//! The port's HTTP/2 connections, from the first byte to the last. Knows no verb.
//!
//! tonic's server takes bodies of whole `Bytes` alone, and then every column of a message is a frame and a system call of
//! its own. Served by hyper itself, a message goes out as one list of pieces, in as few calls as the kernel allows.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::{Stream, StreamExt};
use hyper::server::conn::http2::Builder;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::port::FlightPort;

/// To clients and servers alike: enough for one busy stream over a slow link, and for several on one connection.
const STREAM_WINDOW_BYTES: u32 = 16 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 64 << 20;

/// HTTP/2's default of 16 KiB makes 128 frames of a 2 MiB message.
const FRAME_BYTES_MAX: u32 = 1 << 20;

/// Bytes of a stream that wait for the socket: beyond them no further message is asked for.
const SEND_BYTES_MAX: usize = 2 << 20;

/// Streams one connection may have open: a cluster's gradient streams share one with its actions.
const STREAMS_MAX: u32 = 4096;

/// Tokens, cookies and traces together outgrow the default of 16 KiB.
const HEADER_BYTES_MAX: u32 = 64 << 10;

/// A client that is gone without a word is noticed by these. They are long, because some gRPC libraries answer pings
/// only while the program is inside a call, and a program may compute between two writes.
const CLIENT_PING_EVERY: Duration = Duration::from_secs(60);
const CLIENT_PING_TIMEOUT: Duration = Duration::from_secs(60);

/// What a client sends first (RFC 9113, section 3.4); one that has not by then is let go.
const PREFACE_BYTES: usize = 24;
const PREFACE_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves what comes in until `stopping` is done; then closes the door, and ends when the last stream has ended.
pub(super) async fn serve<IO>(
    incoming: impl Stream<Item = IO>,
    port: FlightPort,
    stopping: impl Future<Output = ()>,
) where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (connections, stop) = (TaskTracker::new(), CancellationToken::new());
    {
        // Dropped at the end of this block, which closes the listening socket.
        let mut incoming = std::pin::pin!(incoming);
        let mut stopping = std::pin::pin!(stopping);
        loop {
            let accepted = tokio::select! {
                () = &mut stopping => break,
                accepted = incoming.next() => accepted,
            };
            let Some(io) = accepted else { break };
            connections.spawn(serve_connection(io, port.clone(), stop.clone()));
        }
    }
    stop.cancel();
    connections.close();
    connections.wait().await;
}

/// One connection; once `stop` is given it takes no new stream, and one that has not begun is closed.
async fn serve_connection<IO>(io: IO, port: FlightPort, stop: CancellationToken)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES_MAX)
        .max_send_buf_size(SEND_BYTES_MAX)
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADER_BYTES_MAX)
        .keep_alive_interval(CLIENT_PING_EVERY)
        .keep_alive_timeout(CLIENT_PING_TIMEOUT);
    let heard = Arc::new(AtomicUsize::new(0));
    let io = Heard {
        io,
        bytes: Arc::clone(&heard),
    };
    let has_begun = || heard.load(Ordering::Relaxed) >= PREFACE_BYTES;
    let never_begins = async {
        tokio::time::sleep(PREFACE_TIMEOUT).await;
        if has_begun() {
            std::future::pending::<()>().await;
        }
    };
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(io), port));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = never_begins => return,
        () = stop.cancelled() => {
            if !has_begun() {
                return;
            }
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// Counts the bytes that a client has sent: hyper waits for the preface without an end.
struct Heard<IO> {
    io: IO,
    bytes: Arc<AtomicUsize>,
}

impl<IO: AsyncRead + Unpin> AsyncRead for Heard<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.io).poll_read(context, buffer);
        let bytes = buffer.filled().len() - before;
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        read
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Heard<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}
