//! Connections that we open, to other servers and from the command line, with or without TLS. Knows no calls.

use std::io;
use std::sync::Arc;

use futures::future::BoxFuture;
use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint, Error};

use crate::access::{ClientTls, SecureStream, ServerTls};

/// As whom connections are opened, and whose certificates they believe; without TLS anybody's.
#[derive(Debug, Clone, Default)]
pub(super) struct Security(Option<Party>);

#[derive(Debug, Clone)]
enum Party {
    Server(Arc<ServerTls>),
    Client(Arc<ClientTls>),
}

impl Security {
    pub(super) fn server(tls: Option<Arc<ServerTls>>) -> Self {
        Self(tls.map(Party::Server))
    }

    pub(super) fn client(tls: ClientTls) -> Self {
        Self(Some(Party::Client(Arc::new(tls))))
    }

    /// Where a client of Flight reads from the server at `HOST:PORT`.
    pub(super) fn location(&self, address: &str) -> String {
        let scheme = if self.0.is_some() {
            "grpc+tls"
        } else {
            "grpc+tcp"
        };
        format!("{scheme}://{address}")
    }

    /// How `HOST:PORT` is written for the endpoint of such a connection.
    pub(super) fn uri(&self, address: &str) -> String {
        let scheme = if self.0.is_some() { "https" } else { "http" };
        format!("{scheme}://{address}")
    }

    /// A channel that is connected when it is first used.
    pub(super) fn connect_lazily(&self, endpoint: &Endpoint) -> Channel {
        match &self.0 {
            None => endpoint.connect_lazy(),
            Some(party) => endpoint.connect_with_connector_lazy(party.connector()),
        }
    }

    /// A channel that is connected.
    pub(super) async fn connect(&self, endpoint: &Endpoint) -> Result<Channel, Error> {
        match &self.0 {
            None => endpoint.connect().await,
            Some(party) => endpoint.connect_with_connector(party.connector()).await,
        }
    }
}

type Connected = BoxFuture<'static, io::Result<TokioIo<SecureStream>>>;

impl Party {
    fn connector(
        &self,
    ) -> impl tower::Service<
        Uri,
        Response = TokioIo<SecureStream>,
        Error = io::Error,
        Future = Connected,
    > + Send
    + 'static {
        let party = self.clone();
        tower::service_fn(move |uri: Uri| {
            let party = party.clone();
            Box::pin(async move { party.secured(&uri).await.map(TokioIo::new) }) as Connected
        })
    }

    async fn secured(&self, uri: &Uri) -> io::Result<SecureStream> {
        let host = uri.host().unwrap_or_default();
        let port = uri.port_u16().unwrap_or(443);
        // IPv6 addresses stand in brackets in a URI and without them everywhere else.
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let stream = TcpStream::connect((host, port)).await?;
        stream.set_nodelay(true)?;
        match self {
            Self::Server(tls) => tls.connect(host, stream).await,
            Self::Client(tls) => tls.connect(host, stream).await,
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
