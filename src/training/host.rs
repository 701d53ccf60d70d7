//! The workers that run on this server: taken in, found by gradient streams, stopped.
//!
//! Every job has at most one worker here. A worker of an older generation gives way to a newer one.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::TrainingError;
use super::checkpoint::{Checkpoint, CheckpointReference, PartSink, Saved};
use super::decode::{DatasetRows, feature_columns, open_place};
use super::exchange::{Exchange, Link};
use super::job::{ResolvedJob, ResolvedRows, RowsPlace};
use super::network::{GradientStream, PeerNetwork, StartWorker};
use super::news::WorkerNews;
use super::outputs::objectives;
use super::prepare::first_file;
use super::worker::{RowsOfJob, Trained, WorkerTask, train};
use crate::catalog::{Catalog, Checkpoints, JobId};
use crate::features::FittedPipeline;
use crate::nn::{Model, ModelSpec};
use crate::optim::{Optimizer, OptimizerSpec};

/// How long a gradient stream waits for the worker it is meant for: servers learn of a job at slightly different times.
const WORKER_WAIT: Duration = Duration::from_secs(5);

/// Gradient streams that wait to be taken by a worker that is still reading rows: one per other worker at most.
const STREAMS_WAITING: usize = 1024;

/// The workers of this server.
#[derive(Debug, Default)]
pub(crate) struct Host {
    workers: Mutex<HashMap<JobId, Hosted>>,
    arrived: Notify,
}

#[derive(Debug)]
struct Hosted {
    generation: u64,
    worker: u32,
    streams: mpsc::Sender<(u32, GradientStream)>,
    stop: CancellationToken,
}

/// A worker under way.
pub(crate) struct Running {
    pub(crate) news: mpsc::Receiver<WorkerNews>,
    pub(crate) outcome: oneshot::Receiver<Result<Trained, TrainingError>>,
}

impl Host {
    /// Starts a worker of a job on threads of its own; `stop` ends it within a step or two.
    pub(crate) async fn start(
        self: &Arc<Self>,
        start: StartWorker,
        catalog: &Catalog,
        network: Arc<dyn PeerNetwork>,
        threads: usize,
        stop: CancellationToken,
    ) -> Result<Running, TrainingError> {
        let me = start.servers.get(start.worker as usize);
        if me.is_none_or(|server| server.name != network.own_name()) {
            return Err(TrainingError::Internal {
                reason: format!(
                    "worker {} of job {} is not this server",
                    start.worker, start.job
                ),
            });
        }
        let (sender, streams) = mpsc::channel(STREAMS_WAITING);
        let registration = self.register(&start, sender, stop.clone())?;
        let task = build_task(&start, catalog, threads).await?;
        let (news_sender, news) = mpsc::channel(64);
        let (outcome_sender, outcome) = oneshot::channel();
        let runtime = Handle::current();
        let name = format!("train-{}", start.worker);
        std::thread::Builder::new()
            .name(name)
            // Pipelines' expressions are evaluated here too, by recursion.
            .stack_size(crate::support::machine::THREAD_STACK_BYTES)
            .spawn(move || {
                let _registration = registration;
                let _ = news_sender.blocking_send(WorkerNews::Accepted);
                let connect = connect(&start, network.as_ref(), streams);
                let result = train(task, connect, &news_sender, &runtime, &stop);
                let last = match &result {
                    Ok(_) => WorkerNews::Finished,
                    Err(error) => WorkerNews::Failed(error.into()),
                };
                // The outcome first: who waits for both must not see the news end without it.
                let _ = outcome_sender.send(result);
                let _ = news_sender.blocking_send(last);
            })
            .map_err(|error| TrainingError::Internal {
                reason: format!("a thread cannot be started: {error}"),
            })?;
        Ok(Running { news, outcome })
    }

    /// Hands a gradient stream to the worker it is meant for, waiting shortly for one that is about to start.
    pub(crate) async fn accept_gradients(
        &self,
        job: JobId,
        generation: u64,
        from_worker: u32,
        to_worker: u32,
        stream: GradientStream,
    ) -> Result<(), TrainingError> {
        let unknown = || TrainingError::UnknownWorker {
            job: job.to_string(),
            generation,
        };
        let deadline = tokio::time::Instant::now() + WORKER_WAIT;
        let streams = loop {
            let arrived = self.arrived.notified();
            tokio::pin!(arrived);
            arrived.as_mut().enable();
            {
                let workers = self.workers.lock();
                match workers.get(&job) {
                    Some(hosted)
                        if hosted.generation > generation || hosted.worker != to_worker =>
                    {
                        return Err(unknown());
                    }
                    Some(hosted) if hosted.generation == generation => {
                        break hosted.streams.clone();
                    }
                    _ => {}
                }
            }
            tokio::time::timeout_at(deadline, arrived)
                .await
                .map_err(|_| unknown())?;
        };
        streams
            .send((from_worker, stream))
            .await
            .map_err(|_| unknown())
    }

    fn register(
        self: &Arc<Self>,
        start: &StartWorker,
        streams: mpsc::Sender<(u32, GradientStream)>,
        stop: CancellationToken,
    ) -> Result<Registration, TrainingError> {
        let mut workers = self.workers.lock();
        if let Some(present) = workers.get(&start.job) {
            if present.generation >= start.generation {
                return Err(TrainingError::UnknownWorker {
                    job: start.job.to_string(),
                    generation: start.generation,
                });
            }
            present.stop.cancel();
        }
        let hosted = Hosted {
            generation: start.generation,
            worker: start.worker,
            streams,
            stop,
        };
        workers.insert(start.job, hosted);
        drop(workers);
        self.arrived.notify_waiters();
        Ok(Registration {
            host: Arc::clone(self),
            job: start.job,
            generation: start.generation,
        })
    }
}

/// A worker's entry; taken out when the worker ends.
struct Registration {
    host: Arc<Host>,
    job: JobId,
    generation: u64,
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut workers = self.host.workers.lock();
        if workers
            .get(&self.job)
            .is_some_and(|hosted| hosted.generation == self.generation)
        {
            workers.remove(&self.job);
        }
    }
}

/// Opens this worker's streams to all others and takes theirs.
async fn connect(
    start: &StartWorker,
    network: &dyn PeerNetwork,
    mut streams: mpsc::Receiver<(u32, GradientStream)>,
) -> Result<Option<Exchange>, TrainingError> {
    let others: Vec<u32> = (0..start.servers.len() as u32)
        .filter(|&worker| worker != start.worker)
        .collect();
    if others.is_empty() {
        return Ok(None);
    }
    let open = others.iter().map(|&worker| async move {
        let peer = &start.servers[worker as usize];
        let stream = network
            .open_gradients(peer, start.job, start.generation, start.worker, worker)
            .await;
        stream.map_err(|error| match error {
            lost @ TrainingError::ServerLost { .. } => lost,
            other => TrainingError::ServerLost {
                server: peer.name.clone(),
                reason: other.to_string(),
            },
        })
    });
    let accept = async {
        let mut accepted: HashMap<u32, GradientStream> = HashMap::new();
        while accepted.len() < others.len() {
            let (from, stream) = streams
                .recv()
                .await
                .ok_or_else(|| TrainingError::Internal {
                    reason: "the worker was replaced while it waited for streams".into(),
                })?;
            if !others.contains(&from) || accepted.insert(from, stream).is_some() {
                return Err(TrainingError::Internal {
                    reason: format!("worker {from} opened a gradient stream that is not expected"),
                });
            }
        }
        Ok(accepted)
    };
    let (opened, mut accepted) =
        futures::future::try_join(futures::future::try_join_all(open), accept).await?;
    let mut links = Vec::with_capacity(others.len());
    for (&worker, toward) in others.iter().zip(opened) {
        let from = accepted
            .remove(&worker)
            .ok_or_else(|| TrainingError::Internal {
                reason: format!("worker {worker} opened no gradient stream"),
            })?;
        links.push(Link {
            worker,
            server: start.servers[worker as usize].name.clone(),
            toward,
            from,
        });
    }
    Ok(Some(Exchange::new(links)))
}

/// The parts of one worker, where the store keeps them.
#[derive(Debug)]
struct CatalogParts {
    checkpoints: Arc<Checkpoints>,
    job: JobId,
    worker: u32,
}

#[async_trait]
impl PartSink for CatalogParts {
    async fn write(&self, epoch: u32, part: Bytes) -> Result<(), TrainingError> {
        let (job, worker) = (self.job, self.worker);
        let written = self.checkpoints.write_part(job, epoch, worker, part);
        Ok(written.await?)
    }
}

/// A checkpoint's manifest.
pub(crate) async fn read_checkpoint(
    job: JobId,
    epoch: Option<u32>,
    catalog: &Catalog,
) -> Result<Checkpoint, TrainingError> {
    Checkpoint::from_bytes(&catalog.checkpoints.manifest(job, epoch).await?)
}

/// The whole of a checkpoint, whoever wrote its parts.
pub(crate) async fn read_saved(
    reference: &CheckpointReference,
    catalog: &Catalog,
) -> Result<Saved, TrainingError> {
    let CheckpointReference { job, epoch } = *reference;
    let checkpoint = read_checkpoint(job, Some(epoch), catalog).await?;
    let mut parts = Vec::with_capacity(checkpoint.workers as usize);
    for worker in 0..checkpoint.workers {
        parts.push(catalog.checkpoints.part(job, epoch, worker).await?);
    }
    Saved::join(epoch, checkpoint.standing, &parts)
}

/// Rebuilds from the plan what every worker must have in common.
async fn build_task(
    start: &StartWorker,
    catalog: &Catalog,
    threads: usize,
) -> Result<WorkerTask, TrainingError> {
    let job: ResolvedJob =
        serde_json::from_slice(&start.plan).map_err(|error| TrainingError::Internal {
            reason: format!("the plan of job {} cannot be read: {error}", start.job),
        })?;
    let bad_model = |error: &dyn std::fmt::Display| TrainingError::BadModel {
        reason: error.to_string(),
    };
    let pipeline = FittedPipeline::from_json(&job.pipeline)?;
    let spec = ModelSpec::from_json(&job.model).map_err(|error| bad_model(&error))?;
    let model =
        Model::build(&spec, &feature_columns(&pipeline)?).map_err(|error| bad_model(&error))?;
    let objectives = objectives(&job.outputs).map_err(|error| bad_model(&error))?;
    let optimizer = OptimizerSpec::from_json(&job.optimizer).map_err(|error| bad_model(&error))?;
    let decoding = Arc::new(Semaphore::new(threads.max(1)));
    let rows = async |resolved: &ResolvedRows, validation: bool| {
        let dataset = open_place(catalog, &resolved.place).await?;
        if let RowsPlace::Table { name, version } = &resolved.place
            && (dataset.rows != resolved.rows
                || first_file(&resolved.place, &dataset) != resolved.first_file)
        {
            return Err(TrainingError::OtherRows {
                table: name.clone(),
                version: *version,
            });
        }
        let (split, decoding) = (resolved.split, Arc::clone(&decoding));
        let source = DatasetRows::new(
            dataset, &job, &pipeline, &model, validation, split, decoding,
        )?;
        Ok::<_, TrainingError>(RowsOfJob {
            source: Arc::new(source),
            cached: resolved.cached,
            window_rows: resolved.window_rows,
        })
    };
    let train = rows(&job.train, false).await?;
    let validation = match &job.validation {
        Some(validation) => Some(rows(validation, true).await?),
        None => None,
    };
    let sink = CatalogParts {
        checkpoints: Arc::clone(&catalog.checkpoints),
        job: start.job,
        worker: start.worker,
    };
    let sink: Arc<dyn PartSink> = Arc::new(sink);
    let saved = match &job.resume {
        Some(reference) => {
            let mut saved = read_saved(reference, catalog).await?;
            if job.rate_is_new {
                saved.standing.forget_plateau();
            }
            Some(saved)
        }
        None => None,
    };
    Ok(WorkerTask {
        optimizer: Optimizer::build(&optimizer).map_err(|error| bad_model(&error))?,
        model: Arc::new(model),
        objectives,
        seed: job.seed,
        epochs: job.epochs,
        batch_size: job.batch_size,
        lanes: job.lanes,
        shuffle: job.shuffle,
        early_stopping: job.early_stopping,
        reduce_on_plateau: job.reduce_on_plateau,
        checkpoints: job.checkpoints.map(|rule| (rule, sink)),
        saved,
        train,
        validation,
        worker: start.worker,
        workers: start.servers.len() as u32,
        threads,
    })
}
