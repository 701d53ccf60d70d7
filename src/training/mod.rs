//! Synchronous data-parallel training: lanes, a fixed reduction tree, sharded owners. Does not know Flight or serving.

pub mod error;
pub mod exchange;
pub mod job;
pub mod network;

use std::sync::Arc;

use futures::stream::BoxStream;

pub use error::TrainingError;
pub use job::{EarlyStopping, TrainRequest, Validation};
pub use network::{
    GradientMessage, GradientStream, PeerNetwork, StartWorker, TrainingPeer, WorkerEvent,
};

use crate::catalog::{Catalog, JobId};
use crate::features::QueryEngine;

/// Settings of training on one server.
#[derive(Debug, Clone)]
pub struct TrainingConfig {
    /// Lanes computed at a time on this server.
    pub threads: usize,
    /// Decoded training rows kept in memory, bytes; larger data is shuffled by blocks instead of rows.
    pub cache_bytes: u64,
}

/// Both roles of a server in training: coordinator of jobs submitted here, worker of anybody's jobs.
#[derive(Debug)]
pub struct Training {}

impl Training {
    pub fn new(
        catalog: Catalog,
        queries: Arc<QueryEngine>,
        network: Arc<dyn PeerNetwork>,
        config: TrainingConfig,
    ) -> Arc<Self> {
        let _ = (catalog, queries, network, config);
        todo!("training")
    }

    /// Checks what can be checked at once, starts the job, returns its id.
    pub async fn submit(self: &Arc<Self>, request: TrainRequest) -> Result<JobId, TrainingError> {
        let _ = request;
        todo!("training")
    }

    /// Becomes a worker of a job; ends the work when the returned stream is dropped.
    pub async fn accept_worker(
        self: &Arc<Self>,
        start: StartWorker,
    ) -> Result<BoxStream<'static, WorkerEvent>, TrainingError> {
        let _ = start;
        todo!("training")
    }

    /// The owner's end of a gradient stream that another worker opened.
    pub async fn accept_gradients(
        self: &Arc<Self>,
        job: JobId,
        generation: u64,
        from_worker: u32,
        to_worker: u32,
        stream: GradientStream,
    ) -> Result<(), TrainingError> {
        let _ = (job, generation, from_worker, to_worker, stream);
        todo!("training")
    }
}
