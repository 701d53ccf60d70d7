//! What can go wrong with membership.

#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    #[error("gossip cannot listen on {address}: {reason}")]
    Listen { address: String, reason: String },
    #[error("join address {address:?} is not HOST:PORT")]
    BadSeed { address: String },
}
