//! What training needs of other servers, as a trait; `flight/peer.rs` fulfils it over DoExchange, tests in memory.

use std::collections::BTreeSet;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use tokio::sync::mpsc;

use super::TrainingError;
use crate::catalog::JobId;

/// A server that can take part in a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrainingPeer {
    pub name: String,
    pub address: String,
    pub cores: u32,
}

/// The coordinator's word to a worker.
#[derive(Debug, Clone, PartialEq)]
pub struct StartWorker {
    pub job: JobId,
    pub generation: u64,
    pub worker: u32,
    /// All workers of the job in order.
    pub servers: Vec<TrainingPeer>,
    /// The resolved job as JSON (`training::job::ResolvedJob`).
    pub plan: Bytes,
}

/// A worker's word to its coordinator: JSON of an enum that `training::worker` owns.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkerEvent(pub Bytes);

/// One message on a gradient stream: numbers are little-endian float32.
#[derive(Debug, Clone, PartialEq)]
pub struct GradientMessage {
    pub step: u64,
    pub node: u32,
    pub offset: u64,
    pub last: bool,
    pub values: Bytes,
}

/// Both directions of a gradient stream; bounded channels. A closed channel is a lost peer.
#[derive(Debug)]
pub struct GradientStream {
    pub outgoing: mpsc::Sender<GradientMessage>,
    /// An `Err` says why the peer is lost.
    pub incoming: mpsc::Receiver<Result<GradientMessage, TrainingError>>,
}

#[async_trait]
pub trait PeerNetwork: std::fmt::Debug + Send + Sync {
    /// Servers that are ready, this one included, sorted by name.
    fn peers(&self) -> Vec<TrainingPeer>;
    /// Names of all servers that are alive, those included that take no new work.
    fn alive(&self) -> BTreeSet<String>;
    /// Whether something listens at the address that the server was last known at, be it seen or not.
    async fn reaches(&self, name: &str) -> bool;
    /// Name of this server.
    fn own_name(&self) -> &str;
    /// Resolves when the named server is no longer alive.
    async fn lost(&self, name: &str);
    /// Makes `peer` (never this server itself) a worker; dropping the stream ends it. An `Err` item: the peer is lost.
    async fn start_worker(
        &self,
        peer: &TrainingPeer,
        start: StartWorker,
    ) -> Result<BoxStream<'static, Result<WorkerEvent, TrainingError>>, TrainingError>;
    /// Opens the long-lived stream on which `from_worker` sends partial sums to the owner `to_worker` at `peer`.
    async fn open_gradients(
        &self,
        peer: &TrainingPeer,
        job: JobId,
        generation: u64,
        from_worker: u32,
        to_worker: u32,
    ) -> Result<GradientStream, TrainingError>;
}
