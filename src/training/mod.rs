//! Synchronous data-parallel training: lanes, a fixed reduction tree, sharded owners. Does not know Flight or serving.
//!
//! The invariant: the same job, seed and data give the same bits on any number of servers and threads.
//! `docs/training.md` says how. In reading order: what a job is (`job`, `defaults`, `label`, `rows`, `memory`, `prepare`), the sums
//! (`reduction`), one worker (`crew`, `feed`, `decode`, `step`, `update`, `exchange`, `report`, `early_stopping`, `news`,
//! `worker`), the workers of this server (`host`), the server that drives jobs (`admission`, `coordinator`, `watch`), and what is kept
//! of a job for another to go on from (`checkpoint`, `saving`, `keeping`, `resume`), and jobs whose server is gone (`left_overs`).

mod admission;
#[cfg(test)]
mod architectures;
pub mod checkpoint;
mod coordinator;
mod crew;
mod decode;
pub mod defaults;
pub mod early_stopping;
#[cfg(test)]
mod end_to_end;
pub mod error;
pub mod exchange;
mod feed;
#[cfg(test)]
mod golden;
mod host;
#[cfg(test)]
mod invariance;
pub mod job;
mod keeping;
mod label;
mod left_overs;
mod memory;
#[cfg(test)]
mod memory_network;
mod monitor;
pub mod network;
mod news;
#[cfg(test)]
mod optimizers;
mod outputs;
mod prepare;
pub mod reduction;
mod report;
mod resume;
#[cfg(test)]
mod resumption;
mod rows;
mod saving;
mod step;
mod tables;
mod targets;
mod update;
mod watch;
mod worker;

use std::sync::Arc;

use futures::StreamExt;
use futures::stream::BoxStream;
use tokio_util::sync::CancellationToken;

pub use checkpoint::CheckpointRule;
pub use defaults::{LeftOut, NamedNetwork};
pub use error::TrainingError;
pub use job::{
    EarlyStopping, OutputRequest, ReduceOnPlateau, ResumeRequest, TrainRequest, Validation,
};
pub use network::{
    GradientMessage, GradientStream, PeerNetwork, StartWorker, TrainingPeer, WorkerEvent,
};

use coordinator::Work;

use crate::catalog::{Catalog, JobId, JobKind};
use crate::features::QueryEngine;

/// Settings of training on one server.
#[derive(Debug, Clone)]
pub struct TrainingConfig {
    /// Lanes computed at a time on this server.
    pub threads: usize,
    /// Decoded training rows kept in memory, bytes, by all jobs that run at once in equal parts; larger data is read
    /// in windows, in another order. So this enters the weights, and must not follow the machine.
    pub cache_bytes: u64,
}

/// Both roles of a server in training: coordinator of jobs submitted here, worker of anybody's jobs.
#[derive(Debug)]
pub struct Training {
    catalog: Catalog,
    queries: Arc<QueryEngine>,
    network: Arc<dyn PeerNetwork>,
    config: TrainingConfig,
    host: Arc<host::Host>,
    admission: admission::Admission,
}

impl Training {
    pub fn new(
        catalog: Catalog,
        queries: Arc<QueryEngine>,
        network: Arc<dyn PeerNetwork>,
        config: TrainingConfig,
    ) -> Arc<Self> {
        Arc::new(Self {
            catalog,
            queries,
            network,
            config,
            host: Arc::default(),
            admission: admission::Admission::default(),
        })
    }

    /// Checks what can be checked at once, starts the job (QUEUED while as many run as may), returns its id.
    pub async fn submit(self: &Arc<Self>, request: TrainRequest) -> Result<JobId, TrainingError> {
        let place = self.admission.admit()?;
        let checked = prepare::check(request, &self.queries).await?;
        let (name, epochs) = (&checked.request.name, checked.request.epochs);
        let terms = checked.request.terms.clone();
        let live = self
            .catalog
            .jobs
            .create(JobKind::Train, name, epochs, terms)
            .await?;
        let id = live.id;
        let work = Work::New(Box::new(checked));
        tokio::spawn(Arc::clone(self).drive(live, work, place));
        Ok(id)
    }

    /// Becomes a worker of a job; ends the work when the returned stream is dropped.
    pub async fn accept_worker(
        self: &Arc<Self>,
        start: StartWorker,
    ) -> Result<BoxStream<'static, WorkerEvent>, TrainingError> {
        let stop = CancellationToken::new();
        // Moves into the stream: dropped with it, or here when the worker cannot start.
        let stops = stop.clone().drop_guard();
        let network = Arc::clone(&self.network);
        let running = self
            .host
            .start(start, &self.catalog, network, self.config.threads, stop)
            .await?;
        let mut news = running.news;
        let events = async_stream::stream! {
            let _stops = stops;
            while let Some(told) = news.recv().await {
                match serde_json::to_vec(&told) {
                    Ok(bytes) => yield WorkerEvent(bytes.into()),
                    Err(error) => {
                        tracing::error!(%error, "a worker's word cannot be written");
                        break;
                    }
                }
            }
        };
        Ok(events.boxed())
    }

    /// The owner's end of a gradient stream that another worker opened. Returns once the worker has it; a job or
    /// generation that does not run here is refused after a short wait, an older generation at once.
    pub async fn accept_gradients(
        self: &Arc<Self>,
        job: JobId,
        generation: u64,
        from_worker: u32,
        to_worker: u32,
        stream: GradientStream,
    ) -> Result<(), TrainingError> {
        self.host
            .accept_gradients(job, generation, from_worker, to_worker, stream)
            .await
    }
}
