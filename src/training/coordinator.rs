//! The server that a job was submitted to drives it: prepares it, starts a worker on every server (itself the first),
//! keeps status and history, commits the model, and says in the end what happened.
//!
//! Knows other servers as a `PeerNetwork`; takes no part in the arithmetic.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures::future::join_all;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::TrainingError;
use super::admission::Place;
use super::checkpoint::CheckpointReference;
use super::decode::feature_columns;
use super::host::Running;
use super::keeping::Keeping;
use super::network::{PeerNetwork, StartWorker, TrainingPeer};
use super::news::HistoryRow;
use super::outputs::objectives;
use super::prepare::{CheckedRequest, PreparedJob, prepare};
use super::resume::Resumed;
use super::rows::clean_up;
use super::watch::{RemoteEvent, Suspicion, Watch, known};
use super::worker::Trained;
use super::{Training, TrainingConfig};
use crate::catalog::{
    Catalog, JobError, JobOutcome, JobState, LiveJob, ModelManifest, ModelOutput,
};
use crate::features::{FittedPipeline, QueryEngine};
use crate::nn::{Model, ModelSpec, ParameterInfo};
use crate::support::fault::Faulty;
use crate::support::machine;
use crate::tensor::archive::{self, NamedArray};

/// Form of the model manifest.
const MANIFEST_FORMAT: u32 = 1;

/// A job's first generation; it rises when a server that did not answer is left out.
const FIRST_GENERATION: u64 = 1;

/// What a job is to do.
#[derive(Debug)]
pub(super) enum Work {
    New(Box<CheckedRequest>),
    GoOn(Box<Resumed>),
}

impl Work {
    /// The model's name.
    fn name(&self) -> &str {
        match self {
            Self::New(checked) => &checked.request.name,
            Self::GoOn(resumed) => &resumed.name,
        }
    }

    /// The checkpoint that it goes on from.
    fn from(&self) -> Option<CheckpointReference> {
        match self {
            Self::New(_) => None,
            Self::GoOn(resumed) => Some(resumed.from),
        }
    }
}

impl Training {
    /// Waits for the job's turn, runs it to its end and writes down how it ended.
    pub(super) async fn drive(self: Arc<Self>, live: LiveJob, work: Work, place: Place) {
        let from = work.from();
        // Cancelled or not, a job that ends gives its place to the next.
        let turn = tokio::select! {
            biased;
            () = live.cancelled.cancelled() => Err(TrainingError::Cancelled),
            turn = place.turn() => Ok(turn),
        };
        let outcome = match turn {
            Ok(_turn) => self.run_job(&live, work).await,
            Err(error) => Err(error),
        };
        let own = live.status().checkpoints.last().copied();
        // Who goes on from a checkpoint reads the rows again.
        if own.is_none() {
            clean_up(live.id, &self.catalog).await;
        }
        let kept = live.status().checkpoints.clone();
        if let Err(error) = self.catalog.checkpoints.retain(live.id, &kept).await {
            tracing::warn!(job = %live.id, %error, "parts of a checkpoint that broke off were not removed");
        }
        let own = own.map(|epoch| CheckpointReference {
            job: live.id,
            epoch,
        });
        let outcome = match outcome {
            Ok(version) => Ok(Some(version)),
            Err(TrainingError::Cancelled) => Err(JobOutcome::Cancelled),
            Err(error) => {
                tracing::warn!(job = %live.id, %error, "a training job failed");
                Err(JobOutcome::Failed(JobError {
                    code: error.fault().name().to_owned(),
                    message: match own.or(from.filter(|_| !error.is_about_what_is_kept())) {
                        Some(CheckpointReference { job, epoch }) => format!(
                            "{error}; the checkpoint of epoch {epoch} is kept: resume job {job} from it"
                        ),
                        None if matches!(error, TrainingError::NotFinite { .. }) => {
                            format!("{error}; no checkpoint was asked for")
                        }
                        None => error.to_string(),
                    },
                }))
            }
        };
        live.finish(outcome).await;
    }

    async fn run_job(&self, live: &LiveJob, work: Work) -> Result<u64, TrainingError> {
        let name = work.name().to_owned();
        live.update(|status| status.state = JobState::Running);
        let Self {
            catalog,
            queries,
            config,
            ..
        } = self;
        let (catalog, queries): (&Catalog, &QueryEngine) = (catalog, queries);
        let trained = async {
            let prepared = match work {
                Work::New(checked) => {
                    let preparing =
                        prepare(*checked, live.id, catalog, queries, config.cache_bytes);
                    preparing.boxed().await?
                }
                Work::GoOn(resumed) => match resumed.over(catalog).await? {
                    Some(trained) => return Ok((resumed.prepared, trained)),
                    None => resumed.prepared,
                },
            };
            let servers = servers_in_order(self.network.as_ref())?;
            announce(live, &prepared, &servers, config);
            let trained = self.train_on(live, &name, &prepared, servers).await?;
            Ok::<_, TrainingError>((prepared, trained))
        };
        let (prepared, trained) = tokio::select! {
            biased;
            () = live.cancelled.cancelled() => return Err(TrainingError::Cancelled),
            trained = trained => trained?,
        };
        // Once begun, the commit is not broken off: a cancelled job has no version and a committed version no cancelled job.
        let manifest = manifest(&name, live, &prepared, &trained.row);
        let weights = weights(&prepared, &trained)?;
        let manifest = catalog.models.commit(manifest, weights).await?;
        live.update(|status| status.progress = 1.0);
        Ok(manifest.version)
    }

    async fn train_on(
        &self,
        live: &LiveJob,
        name: &str,
        prepared: &PreparedJob,
        servers: Vec<TrainingPeer>,
    ) -> Result<Trained, TrainingError> {
        let mut servers = servers;
        let mut generation = FIRST_GENERATION;
        let Started {
            local,
            events,
            _stops,
        } = loop {
            let started = self.start_workers(live, prepared, &servers, generation);
            match started.await {
                Ok(started) => break started,
                // Nothing is trained yet and the weights do not depend on who trains: the others do without.
                Err(TrainingError::ServerLost { server, reason }) if servers.len() > 1 => {
                    servers.retain(|peer| peer.name != server);
                    generation += 1;
                    live.update(|status| {
                        status.servers.retain(|name| *name != server);
                        let note = format!("server {server:?} takes no part: {reason}");
                        status.notes.push(note);
                    });
                }
                Err(other) => return Err(other),
            }
        };
        let total_steps = prepared
            .job
            .train
            .rows
            .div_ceil(u64::from(prepared.job.batch_size))
            * u64::from(prepared.job.epochs);
        let watch = Watch {
            live,
            servers: &servers,
            total_steps,
            suspicion: Suspicion::default(),
            keeping: Keeping::new(live, &self.catalog, name, prepared, servers.len()),
        };
        let lost = servers.iter().skip(1).map(|server| {
            Box::pin(async move {
                self.network.lost(&server.name).await;
                server.name.clone()
            })
        });
        watch
            .until_over(local, futures::stream::select_all(events), lost.collect())
            .await
    }

    /// Starts a worker on every server, this one's own first; a remote one's answers come with its number.
    async fn start_workers(
        &self,
        live: &LiveJob,
        prepared: &PreparedJob,
        servers: &[TrainingPeer],
        generation: u64,
    ) -> Result<Started, TrainingError> {
        let plan = serde_json::to_vec(&prepared.job).map_err(|error| TrainingError::Internal {
            reason: format!("the plan cannot be written: {error}"),
        })?;
        let start = |worker: usize| StartWorker {
            job: live.id,
            generation,
            worker: worker as u32,
            servers: servers.to_vec(),
            plan: Bytes::from(plan.clone()),
        };
        let stop = CancellationToken::new();
        let stops = stop.clone().drop_guard();
        let local = self.host.start(
            start(0),
            &self.catalog,
            Arc::clone(&self.network),
            self.config.threads,
            stop,
        );
        let local = local.await?;
        let remote = servers.iter().enumerate().skip(1).map(|(worker, server)| {
            let start = start(worker);
            async move {
                let events = self.network.start_worker(server, start).await;
                events
                    .map(|events| (worker, events))
                    .map_err(|error| match error {
                        // Another server's own refusal is passed on; no answer at all is a lost server.
                        TrainingError::Internal { reason } => TrainingError::ServerLost {
                            server: server.name.clone(),
                            reason,
                        },
                        other => other,
                    })
            }
        });
        let mut events: Vec<BoxStream<'static, (usize, RemoteEvent)>> = Vec::new();
        for started in join_all(remote).await {
            let (worker, stream) = started?;
            let told = stream.map(move |event| (worker, RemoteEvent::of(event)));
            let end = futures::stream::iter([(worker, RemoteEvent::Ended)]);
            events.push(told.chain(end).boxed());
        }
        Ok(Started {
            local,
            events,
            _stops: stops,
        })
    }
}

/// The workers of a job. Dropped, however the job ends, the local one stops, as the others do when their event streams are
/// dropped.
struct Started {
    local: Running,
    events: Vec<BoxStream<'static, (usize, RemoteEvent)>>,
    _stops: DropGuard,
}

/// This server first, then the others by name: the first worker keeps history and has the weights in the end.
fn servers_in_order(network: &dyn PeerNetwork) -> Result<Vec<TrainingPeer>, TrainingError> {
    let (mut servers, others): (Vec<_>, Vec<_>) = network
        .peers()
        .into_iter()
        .partition(|peer| peer.name == network.own_name());
    if servers.len() != 1 {
        return Err(TrainingError::Stopping);
    }
    servers.extend(others);
    Ok(servers)
}

fn announce(
    live: &LiveJob,
    prepared: &PreparedJob,
    servers: &[TrainingPeer],
    config: &TrainingConfig,
) {
    let job = &prepared.job;
    let elsewhere: u64 = servers
        .iter()
        .skip(1)
        .map(|server| u64::from(server.cores))
        .sum();
    let cores = config.threads as u64 + elsewhere;
    let mut notes = Vec::new();
    if u64::from(job.lanes) < cores {
        notes.push(format!(
            "{} lanes cannot fill {cores} cores; raise `batch_size` (now {}) or `lanes`",
            job.lanes, job.batch_size
        ));
    }
    let cache_bytes = prepared.record.training_cache_bytes;
    let sides = [
        ("rows to train on", Some(&job.train)),
        ("rows to validate on", job.validation.as_ref()),
    ];
    for (what, rows) in sides {
        if let Some(rows) = rows.filter(|rows| !rows.cached) {
            notes.push(format!(
                "{} {what} are more than fits a job's half of the training cache ({}); each of the {} lanes reads \
                 them in windows of up to {} rows. Raise `--training-cache` to keep them in memory and shuffle them \
                 all together, which gives other weights",
                rows.rows,
                size(cache_bytes),
                job.lanes,
                rows.window_rows
            ));
        }
    }
    let memory_bytes = machine::memory_bytes();
    if cache_bytes > memory_bytes {
        notes.push(format!(
            "the training cache ({}) is larger than this server's memory ({}); lower `--training-cache` on all servers",
            size(cache_bytes),
            size(memory_bytes)
        ));
    }
    live.update(|status| {
        status.servers = servers.iter().map(|server| server.name.clone()).collect();
        status.notes.extend(notes);
        status.training = Some(prepared.record.clone());
    });
}

/// Bytes as they are written in settings.
fn size(bytes: u64) -> String {
    let units = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    let unit = units
        .iter()
        .find(|(_, factor)| bytes >= *factor && bytes.is_multiple_of(*factor));
    match unit {
        Some((name, factor)) => format!("{}{name}", bytes / factor),
        None if bytes >= 10 << 20 => format!("{} MiB", bytes >> 20),
        None => format!("{bytes} bytes"),
    }
}

/// What the model is worth: loss and metrics, without the times and rates that stand beside them in the history.
fn measured(row: &HistoryRow, outputs: &[ModelOutput]) -> impl Iterator<Item = (String, f64)> {
    let columns = objectives(outputs).map(|objectives| objectives.columns());
    let columns = columns.unwrap_or_default();
    known(row).filter(move |(name, _)| {
        let measure = name.strip_prefix("val_").unwrap_or(name);
        columns.iter().any(|(name, _)| name == measure)
    })
}

fn manifest(name: &str, live: &LiveJob, prepared: &PreparedJob, row: &HistoryRow) -> ModelManifest {
    let job = &prepared.job;
    let first = &job.outputs[0];
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    ModelManifest {
        format_version: MANIFEST_FORMAT,
        name: name.to_owned(),
        // Set by the commit.
        version: 0,
        spec: job.model.clone(),
        pipeline: job.pipeline.clone(),
        label: first.label.clone(),
        loss: first.loss.clone(),
        metric_names: first.metric_names.clone(),
        outputs: match job.outputs.as_slice() {
            // As manifests were before there could be several.
            [only] if only.loss_weight == 1.0 => Vec::new(),
            several => several.to_vec(),
        },
        metrics: measured(row, &job.outputs).collect(),
        parameters: prepared.parameters,
        job: live.id.to_string(),
        source: prepared.source.clone(),
        dataset_version: prepared.dataset_version,
        seed: job.seed,
        training: Some(prepared.record.clone()),
        code_version: env!("CARGO_PKG_VERSION").to_owned(),
        committed_ms: now.map_or(0, |since| since.as_millis() as u64),
    }
}

/// Parameters and statistics by name, as safetensors: no times, no servers, so that equal weights are equal bytes.
fn weights(prepared: &PreparedJob, trained: &Trained) -> Result<Bytes, TrainingError> {
    let internal = |error: &dyn std::fmt::Display| TrainingError::Internal {
        reason: format!("the weights cannot be written: {error}"),
    };
    let spec = ModelSpec::from_json(&prepared.job.model).map_err(|error| internal(&error))?;
    let pipeline = FittedPipeline::from_json(&prepared.job.pipeline)?;
    let model =
        Model::build(&spec, &feature_columns(&pipeline)?).map_err(|error| internal(&error))?;
    let named = |info: &ParameterInfo, values: &[f32]| {
        let length: usize = info.shape.iter().product();
        NamedArray {
            name: info.name.clone(),
            shape: info.shape.clone(),
            values: values[info.offset..info.offset + length].to_vec(),
        }
    };
    let parameters = model.parameters().iter();
    let parameters = parameters.map(|info| named(info, &trained.parameters));
    let statistics = model.statistics().iter();
    let statistics = statistics.map(|info| named(info, &trained.statistics));
    let arrays: Vec<NamedArray> = parameters.chain(statistics).collect();
    let bytes = archive::to_bytes(&arrays).map_err(|error| internal(&error))?;
    Ok(Bytes::from(bytes))
}
