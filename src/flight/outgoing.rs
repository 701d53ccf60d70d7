//! Connections that we open, to other servers and from the command line, with or without TLS. Knows no calls.

use std::io;
use std::sync::Arc;

use futures::future::BoxFuture;
use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint, Error};

use crate::access::{ClientTls, SecureStream, ServerTls};

/// As whom a connection is opened, and whose certificate it believes.
#[derive(Debug, Clone)]
pub(super) enum Security {
    None,
    Server(Arc<ServerTls>),
    Client(Arc<ClientTls>),
}

impl Security {
    /// How `HOST:PORT` is written for the endpoint of such a connection.
    pub(super) fn uri(&self, address: &str) -> String {
        let scheme = match self {
            Self::None => "http",
            Self::Server(_) | Self::Client(_) => "https",
        };
        format!("{scheme}://{address}")
    }

    /// A channel that is connected when it is first used.
    pub(super) fn connect_lazily(&self, endpoint: &Endpoint) -> Channel {
        match self {
            Self::None => endpoint.connect_lazy(),
            secure => endpoint.connect_with_connector_lazy(secure.connector()),
        }
    }

    /// A channel that is connected.
    pub(super) async fn connect(&self, endpoint: &Endpoint) -> Result<Channel, Error> {
        match self {
            Self::None => endpoint.connect().await,
            secure => endpoint.connect_with_connector(secure.connector()).await,
        }
    }

    fn connector(
        &self,
    ) -> impl tower::Service<
        Uri,
        Response = TokioIo<SecureStream>,
        Error = io::Error,
        Future = BoxFuture<'static, io::Result<TokioIo<SecureStream>>>,
    > + Send
    + 'static {
        let security = self.clone();
        tower::service_fn(move |uri: Uri| {
            let security = security.clone();
            let connected: BoxFuture<'static, _> =
                Box::pin(async move { security.secured(&uri).await.map(TokioIo::new) });
            connected
        })
    }

    async fn secured(&self, uri: &Uri) -> io::Result<SecureStream> {
        let host = uri.host().unwrap_or_default();
        let port = uri.port_u16().unwrap_or(443);
        // IPv6 addresses stand in brackets in a URI and without them everywhere else.
        let name = host.trim_start_matches('[').trim_end_matches(']');
        let stream = TcpStream::connect((name, port)).await?;
        stream.set_nodelay(true)?;
        match self {
            Self::None => Err(io::Error::other("a plain connection was asked for TLS")),
            Self::Server(tls) => tls.connect(name, stream).await,
            Self::Client(tls) => tls.connect(name, stream).await,
        }
    }
}

/// Transport errors say "transport error" and keep the reason ("connection refused") inside.
pub(super) fn innermost(error: &dyn std::error::Error) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}
