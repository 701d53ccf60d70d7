//! Who is alive. Liveness only, by gossip; truth lives in the store. Knows no jobs and no data.

pub mod error;
pub mod membership;

pub use error::ClusterError;
pub use membership::{Cluster, ClusterConfig, Member, MemberState};
