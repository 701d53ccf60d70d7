//! Who is alive. Liveness only, by gossip; truth lives in the store. Knows no jobs and no data.

pub mod error;
pub mod membership;
pub mod view;

pub use error::ClusterError;
pub use membership::{Cluster, ClusterConfig};
pub use view::{Member, MemberState};
