//! Why a server could not start or ended other than well.

use std::net::SocketAddr;

/// Failures of a whole server.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    #[error("{what} port {address} cannot be opened: {source}; free it or set `{option}`")]
    Listen {
        what: &'static str,
        option: &'static str,
        address: SocketAddr,
        source: std::io::Error,
    },
    #[error("signals cannot be received: {source}; check the limits of the process")]
    Signals { source: std::io::Error },
    #[error(transparent)]
    Tls(#[from] crate::access::TlsError),
    #[error(transparent)]
    Catalog(#[from] crate::catalog::CatalogError),
    #[error(transparent)]
    Cluster(#[from] crate::cluster::ClusterError),
    #[error("the {what} port stopped serving: {reason}; see the log")]
    Stopped { what: &'static str, reason: String },
}
