//! The server that a job was submitted to drives it: prepares it, starts a worker on every server (itself the first),
//! keeps status and history, commits the model, and says in the end what happened.
//!
//! Knows other servers as a `PeerNetwork`; takes no part in the arithmetic.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures::future::{join_all, select_all};
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::TrainingError;
use super::admission::Place;
use super::checkpoint::CheckpointReference;
use super::decode::feature_columns;
use super::host::Running;
use super::keeping::Keeping;
use super::network::{PeerNetwork, StartWorker, TrainingPeer, WorkerEvent};
use super::news::{HistoryRow, WorkerNews};
use super::outputs::objectives;
use super::prepare::{CheckedRequest, PreparedJob, prepare};
use super::resume::Resumed;
use super::rows::clean_up;
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

/// How long after the first word of a lost server others may say what really happened: when one worker ends, its
/// neighbors see their streams close and accuse it before its own last word is here.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How long a model that is trained waits for what other servers still write of its last checkpoint.
const PARTS_WAIT: Duration = Duration::from_secs(30);

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

/// A remote worker's word.
enum RemoteEvent {
    News(WorkerNews),
    /// Its event stream broke.
    Broken(TrainingError),
    Ended,
}

impl RemoteEvent {
    fn of(event: Result<WorkerEvent, TrainingError>) -> Self {
        match event {
            Err(error) => Self::Broken(error),
            Ok(WorkerEvent(bytes)) => match serde_json::from_slice(&bytes) {
                Ok(news) => Self::News(news),
                Err(error) => Self::Broken(TrainingError::Internal {
                    reason: format!("a worker's word cannot be read: {error}"),
                }),
            },
        }
    }
}

/// Who may be lost, while the last words are awaited.
#[derive(Debug, Default)]
struct Suspicion {
    /// Servers that others accuse, with the reason, in the order of accusation.
    accused: Vec<(String, String)>,
    /// Servers that spoke for themselves: they are alive.
    alive: BTreeSet<String>,
}

impl Suspicion {
    /// The server that was lost: the first one accused that has not spoken itself, or else the first one accused.
    fn verdict(&self) -> Option<TrainingError> {
        let silent = self
            .accused
            .iter()
            .find(|(server, _)| !self.alive.contains(server));
        let (server, reason) = silent.or_else(|| self.accused.first())?;
        Some(TrainingError::ServerLost {
            server: server.clone(),
            reason: reason.clone(),
        })
    }
}

/// The watch over a running job.
struct Watch<'a> {
    live: &'a LiveJob,
    servers: &'a [TrainingPeer],
    total_steps: u64,
    suspicion: Suspicion,
    keeping: Keeping<'a>,
}

impl Watch<'_> {
    /// The job to its end; after a failure, what is still said of checkpoints.
    async fn until_over(
        mut self,
        mut local: Running,
        mut remote: impl futures::Stream<Item = (usize, RemoteEvent)> + Unpin,
        lost: Vec<impl Future<Output = String> + Unpin>,
    ) -> Result<Trained, TrainingError> {
        let outcome = self.until_done(&mut local, &mut remote, lost).await;
        if outcome.is_err() && self.keeping.keeps() {
            // The workers end by themselves when one has, each after the part that it is writing.
            let heard = self.hear_of_parts(&mut local.news, &mut remote);
            let _ = tokio::time::timeout(LAST_WORDS, heard).await;
        }
        outcome
    }

    async fn hear_of_parts(
        &mut self,
        local: &mut mpsc::Receiver<WorkerNews>,
        mut remote: impl futures::Stream<Item = (usize, RemoteEvent)> + Unpin,
    ) {
        let (mut local_open, mut remote_open) = (true, true);
        while local_open || remote_open {
            let told = tokio::select! {
                told = local.recv(), if local_open => {
                    local_open = told.is_some();
                    told.map(|news| (0, news))
                }
                told = remote.next(), if remote_open => {
                    remote_open = told.is_some();
                    match told {
                        Some((worker, RemoteEvent::News(news))) => Some((worker, news)),
                        _ => None,
                    }
                }
            };
            if let Some((
                worker,
                WorkerNews::Saved {
                    epoch,
                    standing,
                    problem,
                },
            )) = told
            {
                self.keeping
                    .part_written(worker, epoch, standing, problem)
                    .await;
            }
        }
    }

    async fn until_done(
        &mut self,
        local: &mut Running,
        mut remote: impl futures::Stream<Item = (usize, RemoteEvent)> + Unpin,
        lost: Vec<impl Future<Output = String> + Unpin>,
    ) -> Result<Trained, TrainingError> {
        let Running { news, outcome } = local;
        let nobody_else = lost.is_empty();
        let mut lost = Box::pin(async {
            if nobody_else {
                std::future::pending::<String>().await
            } else {
                select_all(lost).await.0
            }
        });
        let last_words = tokio::time::sleep(Duration::MAX);
        tokio::pin!(last_words);
        // How long a model that is trained waits for its last checkpoint.
        let patience = tokio::time::sleep(Duration::MAX);
        tokio::pin!(patience);
        let mut patient = false;
        let mut news_open = true;
        let mut trained = None;
        loop {
            if !news_open
                && !self.keeping.waits()
                && let Some(trained) = trained.take()
            {
                return Ok(trained);
            }
            let suspected = !self.suspicion.accused.is_empty();
            tokio::select! {
                biased;
                told = news.recv(), if news_open => match told {
                    // Its last word is the outcome, below.
                    Some(WorkerNews::Failed(_)) => {}
                    Some(told) => self.take_news(told).await?,
                    None => news_open = false,
                },
                ended = &mut *outcome, if trained.is_none() && !self.spoke_itself(0) => match ended {
                    Ok(Ok(done)) => trained = Some(done),
                    Ok(Err(error)) => self.suspect(0, error)?,
                    Err(_) => return Err(TrainingError::Internal {
                        reason: "this server's worker ended without a word".into(),
                    }),
                },
                Some((worker, event)) = remote.next(), if trained.is_none() || self.keeping.waits() => match event {
                    RemoteEvent::News(WorkerNews::Saved { epoch, standing, problem }) => {
                        self.keeping.part_written(worker, epoch, standing, problem).await;
                    }
                    RemoteEvent::Broken(_) | RemoteEvent::Ended if trained.is_some() => {
                        self.keeping.expects_no_more_of(worker);
                    }
                    RemoteEvent::News(WorkerNews::Failed(failure)) => {
                        self.suspect(worker, failure.into())?;
                    }
                    RemoteEvent::News(WorkerNews::Finished) => {
                        self.suspicion.alive.insert(self.servers[worker].name.clone());
                    }
                    RemoteEvent::News(_) => {}
                    RemoteEvent::Broken(error) => return Err(self.broken(worker, error)),
                    RemoteEvent::Ended if self.spoke_itself(worker) => {}
                    RemoteEvent::Ended => {
                        return Err(self.lost(worker, "its event stream ended".into()));
                    }
                },
                server = &mut lost, if trained.is_none() => {
                    return Err(TrainingError::ServerLost {
                        server,
                        reason: "the cluster no longer sees it".into(),
                    });
                }
                () = &mut patience, if trained.is_some() && !news_open => self.keeping.give_up(),
                () = &mut last_words, if suspected => {
                    return Err(self.suspicion.verdict().unwrap_or(TrainingError::Cancelled));
                }
            }
            if trained.is_some() && !patient {
                patient = true;
                patience
                    .as_mut()
                    .reset(tokio::time::Instant::now() + PARTS_WAIT);
            }
            if !suspected && !self.suspicion.accused.is_empty() {
                last_words
                    .as_mut()
                    .reset(tokio::time::Instant::now() + LAST_WORDS);
            }
        }
    }

    fn spoke_itself(&self, worker: usize) -> bool {
        self.suspicion.alive.contains(&self.servers[worker].name)
    }

    /// A worker's own failure ends the job at once; its word of a lost neighbor is an accusation.
    fn suspect(&mut self, worker: usize, error: TrainingError) -> Result<(), TrainingError> {
        self.suspicion
            .alive
            .insert(self.servers[worker].name.clone());
        match error {
            TrainingError::ServerLost { server, reason } => {
                self.suspicion.accused.push((server, reason));
                Ok(())
            }
            // A worker that was told to stop says nothing of the cause.
            TrainingError::Cancelled => {
                let server = self.servers[worker].name.clone();
                self.suspicion
                    .accused
                    .push((server, "its worker was stopped".into()));
                Ok(())
            }
            own => Err(own),
        }
    }

    /// A broken event stream that names the lost server already is passed on as it is.
    fn broken(&self, worker: usize, error: TrainingError) -> TrainingError {
        match error {
            lost @ TrainingError::ServerLost { .. } => lost,
            TrainingError::Internal { reason } => self.lost(worker, reason),
            other => self.lost(worker, other.to_string()),
        }
    }

    fn lost(&self, worker: usize, reason: String) -> TrainingError {
        TrainingError::ServerLost {
            server: self.servers[worker].name.clone(),
            reason,
        }
    }

    async fn take_news(&mut self, news: WorkerNews) -> Result<(), TrainingError> {
        match news {
            WorkerNews::Progress {
                epoch,
                step,
                rows,
                rows_per_second,
                loss,
            } => self.live.update(|status| {
                status.epoch = epoch;
                status.step = step;
                status.rows = rows;
                status.rows_per_second = rows_per_second;
                status.progress = step as f64 / self.total_steps.max(1) as f64;
                if let Some(loss) = loss {
                    status.metrics.insert("loss".into(), loss);
                }
            }),
            WorkerNews::Epoch {
                epoch,
                step,
                rows,
                row,
            } => {
                self.live.update(|status| {
                    status.epoch = epoch;
                    status.step = step;
                    status.rows = rows;
                    status.progress = step as f64 / self.total_steps.max(1) as f64;
                    status.metrics.extend(known(&row));
                    if let Some(Some(rate)) = row.get("rows_per_second") {
                        status.rows_per_second = *rate;
                    }
                });
                self.live.record(row);
                self.live.save().await?;
            }
            WorkerNews::Saved {
                epoch,
                standing,
                problem,
            } => self.keeping.part_written(0, epoch, standing, problem).await,
            WorkerNews::Accepted
            | WorkerNews::Loaded
            | WorkerNews::Finished
            | WorkerNews::Failed(_) => {}
        }
        Ok(())
    }
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

fn known(row: &HistoryRow) -> impl Iterator<Item = (String, f64)> {
    row.iter()
        .filter_map(|(name, value)| value.map(|value| (name.clone(), value)))
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
