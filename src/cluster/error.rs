//! What can go wrong with membership.

/// Why a server could not take part in gossip.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    #[error("gossip cannot listen on {address}: {reason}; free the UDP port or set `--gossip`")]
    Listen { address: String, reason: String },
    #[error("join address {address:?} is not HOST:PORT; write it as 10.0.0.5:50051")]
    BadSeed { address: String },
    #[error("advertised address {address:?} cannot be resolved: {reason}; check `--advertise`")]
    BadAdvertise { address: String, reason: String },
}
