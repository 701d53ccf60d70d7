//! chitchat with our key-values: every server's name, address, state, version, cores and memory.

use std::net::SocketAddr;

use tokio::sync::watch;

use super::ClusterError;

#[derive(Debug, Clone)]
pub struct ClusterConfig {
    /// Unique name of this server.
    pub name: String,
    /// Address others reach this server's gRPC port at.
    pub advertise: String,
    /// UDP address of gossip.
    pub gossip_listen: SocketAddr,
    /// `HOST:PORT` of any other servers (their gossip port).
    pub seeds: Vec<String>,
    pub cores: u32,
    pub memory_bytes: u64,
    pub version: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberState {
    Ready,
    Draining,
    Dead,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub name: String,
    pub address: String,
    pub state: MemberState,
    pub version: String,
    pub cores: u32,
    pub memory_bytes: u64,
}

/// This server's view of the cluster.
#[derive(Debug)]
pub struct Cluster {}

impl Cluster {
    pub async fn start(config: ClusterConfig) -> Result<Self, ClusterError> {
        let _ = config;
        todo!("node")
    }
    /// Every server seen, this one included, sorted by name.
    pub fn members(&self) -> Vec<Member> {
        todo!("node")
    }
    /// Changes of the view.
    pub fn watch(&self) -> watch::Receiver<Vec<Member>> {
        todo!("node")
    }
    pub fn own_name(&self) -> &str {
        todo!("node")
    }
    /// Tells the others that this server takes no new work.
    pub async fn drain(&self) {
        todo!("node")
    }
    /// Leaves.
    pub async fn stop(&self) {
        todo!("node")
    }
}
