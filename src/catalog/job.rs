//! Jobs: the live ones that this server drives, and the journals that every server reads.
//!
//! Knows what a job looks like from outside (state, progress, error, history); the engines know what it does.

mod history;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arrow::array::{Array as _, AsArray as _, RecordBatch};
use arrow::datatypes::{DataType, Float64Type, Int32Type};
use bytes::Bytes;
use futures::StreamExt as _;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use uuid::Uuid;

use history::{decode_history, encode_history, history_batch};

use super::{CatalogError, Datasets, TrainingRecord};
use crate::storage::{Objects, Path};
use crate::support::fault::Fault;

/// UUID version 7: sorts by time.
pub type JobId = Uuid;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobKind {
    Train,
    Score,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    Queued,
    Running,
    Succeeded,
    Failed,
    Cancelled,
}

impl JobState {
    /// Whether the job has ended.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

/// Why a job failed: the gRPC code by name (`FAILED_PRECONDITION`) and the text for the caller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobError {
    pub code: String,
    pub message: String,
}

/// What anybody may know of a job. Written to the journal at every change of state and with epochs, at most once a second.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobStatus {
    pub id: JobId,
    pub kind: JobKind,
    pub state: JobState,
    pub name: String,
    #[serde(with = "super::number::one")]
    pub progress: f64,
    /// Name of the coordinating server.
    pub coordinator: String,
    pub created_ms: u64,
    pub started_ms: Option<u64>,
    pub finished_ms: Option<u64>,
    pub epoch: u32,
    pub epochs: u32,
    pub step: u64,
    pub rows: u64,
    #[serde(with = "super::number::one")]
    pub rows_per_second: f64,
    #[serde(with = "super::number::by_name")]
    pub metrics: BTreeMap<String, f64>,
    pub version: Option<u64>,
    pub error: Option<JobError>,
    pub servers: Vec<String>,
    pub notes: Vec<String>,
    /// Of a training job under way, and of jobs that ended after it was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training: Option<TrainingRecord>,
    /// Epochs of which checkpoints are kept, ascending.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checkpoints: Vec<u32>,
    #[serde(default, skip_serializing_if = "JobTerms::is_default")]
    pub terms: JobTerms,
}

/// What is agreed of a job's end with whoever asked for it. In the journal, so that whoever ends the job keeps to it: the
/// server that drives it, or another one when that is gone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobTerms {
    /// The job ends when nobody has watched it or asked about it for so long; 0: it runs to its end.
    #[serde(default)]
    pub lease_seconds: u32,
    /// Datasets that were made for the job alone: they are gone when it has ended.
    #[serde(default)]
    pub drop_datasets: Vec<String>,
}

impl JobTerms {
    /// Whether nothing is agreed.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl JobStatus {
    /// What can be done about the job when the server that drove it is gone.
    pub fn way_on(&self) -> String {
        match self.checkpoints.last() {
            None => "start the job again".to_owned(),
            Some(epoch) => {
                format!(
                    "the checkpoint of epoch {epoch} is kept: resume job {} from it",
                    self.id
                )
            }
        }
    }
}

/// A job that this server drives. Dropped without `finish`, the job is written down as failed.
#[derive(Debug)]
pub struct LiveJob {
    pub id: JobId,
    /// Cancelled when a client asks for it or the server shuts down.
    pub cancelled: CancellationToken,
    driven: Arc<Driven>,
    board: Arc<Board>,
    /// Counts as a driven job until its end is written.
    _counted: TaskTrackerToken,
}

impl LiveJob {
    /// Changes the status that watchers see (in memory). The first RUNNING sets the time of the start.
    pub fn update(&self, change: impl FnOnce(&mut JobStatus)) {
        self.driven.update(change);
    }

    /// The status as watchers see it.
    pub fn status(&self) -> Arc<JobStatus> {
        Arc::clone(&self.driven.status.borrow())
    }

    /// Writes the present status and history to the store's journal.
    pub async fn save(&self) -> Result<(), CatalogError> {
        self.driven.save(&self.board.objects).await
    }

    /// The same for what comes often: at most once in [`SAVE_EVERY`]. What comes in between is written then, together; until
    /// then this server alone tells of it.
    pub async fn save_soon(&self) -> Result<(), CatalogError> {
        let due = {
            let mut pace = self.driven.pace.lock();
            let due = pace.written.map(|written| written + SAVE_EVERY);
            let due = due.filter(|due| *due > Instant::now());
            if due.is_some() && std::mem::replace(&mut pace.is_behind, true) {
                // Somebody waits to write it.
                return Ok(());
            }
            due
        };
        let Some(due) = due else {
            return self.save().await;
        };
        let (board, driven, id) = (Arc::clone(&self.board), Arc::clone(&self.driven), self.id);
        tokio::spawn(async move {
            tokio::time::sleep_until(due).await;
            if let Err(error) = driven.save_if_behind(&board.objects).await {
                tracing::warn!(job = %id, %error, "a job's journal is behind");
            }
        });
        Ok(())
    }

    /// Writes what [`Self::save_soon`] has put off.
    pub async fn save_if_behind(&self) -> Result<(), CatalogError> {
        self.driven.save_if_behind(&self.board.objects).await
    }

    /// One more row of history (one per epoch); columns are the same at every call. Nulls where a value is not known.
    /// `epoch` becomes the Int32 column; without it rows count from 1.
    pub fn record(&self, row: BTreeMap<String, Option<f64>>) {
        self.driven.history.lock().push(row);
    }

    /// Takes over the first rows of another job's history, as [`JobBoard::history`] gives it.
    pub fn record_earlier(&self, history: &RecordBatch, rows: usize) {
        let schema = history.schema();
        for row in 0..rows.min(history.num_rows()) {
            let columns = schema.fields().iter().zip(history.columns());
            let values = columns.map(|(field, column)| {
                let value = match column.data_type() {
                    DataType::Int32 => f64::from(column.as_primitive::<Int32Type>().value(row)),
                    _ => column.as_primitive::<Float64Type>().value(row),
                };
                (field.name().clone(), column.is_valid(row).then_some(value))
            });
            self.record(values.collect());
        }
    }

    /// Sets the final state, writes it, tells the watchers. A job cancelled because the server stops has failed.
    pub async fn finish(self, outcome: Result<Option<u64>, JobOutcome>) {
        let outcome = outcome.map_err(|outcome| match outcome {
            JobOutcome::Cancelled if self.driven.server_stops.load(Ordering::Acquire) => {
                JobOutcome::Failed(self.board.stopping(&self.status()))
            }
            other => other,
        });
        // First the rows: who is told of the end finds them gone.
        self.board.keep_terms(&self.status()).await;
        self.driven.conclude(outcome);
        self.board.save_last(&self.driven).await;
    }
}

impl Drop for LiveJob {
    fn drop(&mut self) {
        if self.driven.status.borrow().state.is_final() {
            return;
        }
        self.driven.conclude(Err(JobOutcome::Failed(JobError {
            code: "INTERNAL".into(),
            message: "the job ended without saying how".into(),
        })));
        if tokio::runtime::Handle::try_current().is_ok() {
            let (board, driven) = (Arc::clone(&self.board), Arc::clone(&self.driven));
            let save = async move {
                let status = Arc::clone(&driven.status.borrow());
                board.keep_terms(&status).await;
                board.save_last(&driven).await;
            };
            self.board.tracker.spawn(save);
        }
    }
}

/// How a job ended other than well.
#[derive(Debug)]
pub enum JobOutcome {
    Cancelled,
    Failed(JobError),
}

/// The part of a live job that its driver and the board share.
#[derive(Debug)]
struct Driven {
    cancelled: CancellationToken,
    /// Whether it is the server's stop that cancelled it.
    server_stops: AtomicBool,
    status: watch::Sender<Arc<JobStatus>>,
    history: Mutex<Vec<BTreeMap<String, Option<f64>>>>,
    /// One writer of the journal at a time, so that an older status never covers a newer one.
    journal: tokio::sync::Mutex<()>,
    pace: Mutex<Pace>,
}

/// How the journal keeps up with the job.
#[derive(Debug, Default)]
struct Pace {
    /// When it was begun to be written last; its creation does not count.
    written: Option<Instant>,
    /// Whether something was put off.
    is_behind: bool,
}

impl Driven {
    /// Cancels the job because the server stops; one that a client has cancelled stays the client's.
    fn stop(&self) {
        if !self.cancelled.is_cancelled() {
            self.server_stops.store(true, Ordering::Release);
            self.cancelled.cancel();
        }
    }

    fn update(&self, change: impl FnOnce(&mut JobStatus)) {
        self.status.send_modify(|status| {
            let status = Arc::make_mut(status);
            change(status);
            if status.state == JobState::Running && status.started_ms.is_none() {
                status.started_ms = Some(now_ms());
            }
        });
    }

    fn conclude(&self, outcome: Result<Option<u64>, JobOutcome>) {
        self.update(|status| {
            status.finished_ms = Some(now_ms());
            match outcome {
                Ok(version) => {
                    status.state = JobState::Succeeded;
                    status.progress = 1.0;
                    status.version = version;
                }
                Err(JobOutcome::Cancelled) => status.state = JobState::Cancelled,
                Err(JobOutcome::Failed(error)) => {
                    status.state = JobState::Failed;
                    status.error = Some(error);
                }
            }
        });
    }

    /// History first: a status that tells of an epoch finds it written.
    async fn save(&self, objects: &Objects) -> Result<(), CatalogError> {
        let _one_at_a_time = self.journal.lock().await;
        self.write(objects).await
    }

    async fn save_if_behind(&self, objects: &Objects) -> Result<(), CatalogError> {
        let _one_at_a_time = self.journal.lock().await;
        // Looked at with the lock held: what is written after a job's end is not written over.
        if !self.pace.lock().is_behind {
            return Ok(());
        }
        self.write(objects).await
    }

    /// With the lock of the journal held.
    async fn write(&self, objects: &Objects) -> Result<(), CatalogError> {
        *self.pace.lock() = Pace {
            written: Some(Instant::now()),
            is_behind: false,
        };
        let written = self.write_all(objects).await;
        if written.is_err() {
            self.pace.lock().is_behind = true;
        }
        written
    }

    async fn write_all(&self, objects: &Objects) -> Result<(), CatalogError> {
        let status = Arc::clone(&self.status.borrow());
        let history = history_batch(&self.history.lock())?;
        if history.num_rows() > 0 {
            let bytes = encode_history(&history)?;
            objects.put(&place(status.id, HISTORY), bytes).await?;
        }
        objects
            .put(&place(status.id, STATUS), encode_status(&status)?)
            .await?;
        Ok(())
    }
}

/// The jobs as one server sees them.
#[derive(Debug)]
pub struct JobBoard {
    board: Arc<Board>,
}

#[derive(Debug)]
struct Board {
    objects: Objects,
    datasets: Arc<Datasets>,
    server: String,
    /// Driven here and not yet in the journal with their end: as many as the engines run.
    driven: Mutex<HashMap<JobId, Arc<Driven>>>,
    /// Set once the server stops: a job registered later is stopped at once.
    stops: AtomicBool,
    tracker: TaskTracker,
}

impl Board {
    fn stopping(&self, status: &JobStatus) -> JobError {
        JobError {
            code: Fault::Unavailable.name().into(),
            message: format!(
                "server {:?} is stopping; {} on another one",
                self.server,
                status.way_on()
            ),
        }
    }

    /// Drops the datasets that were made for a job which ends.
    async fn keep_terms(&self, status: &JobStatus) {
        for name in &status.terms.drop_datasets {
            match self.datasets.remove(name).await {
                Ok(()) | Err(CatalogError::UnknownDataset { .. }) => {}
                Err(error) => {
                    tracing::warn!(job = %status.id, dataset = name, %error, "a dataset that was made for a job is left");
                }
            }
        }
    }

    /// Writes a final state. When the store refuses, this server goes on telling of it from memory.
    async fn save_last(&self, driven: &Driven) {
        let id = driven.status.borrow().id;
        match driven.save(&self.objects).await {
            Ok(()) => {
                self.driven.lock().remove(&id);
            }
            Err(error) => {
                tracing::error!(job = %id, %error, "a job's end could not be written to its journal");
            }
        }
    }
}

/// A journal of an epoch after the other is written this often: each time is flushed to the disk twice.
const SAVE_EVERY: Duration = Duration::from_secs(1);

const STATUS: &str = "status.json";
const HISTORY: &str = "history.arrow";
/// Journals read at once when jobs are listed.
const READS_MAX: usize = 16;

impl JobBoard {
    pub(crate) fn new(objects: Objects, datasets: Arc<Datasets>, server: &str) -> Self {
        Self {
            board: Arc::new(Board {
                objects,
                datasets,
                server: server.to_string(),
                driven: Mutex::new(HashMap::new()),
                stops: AtomicBool::new(false),
                tracker: TaskTracker::new(),
            }),
        }
    }

    /// Registers a job driven here, QUEUED, journalled before this returns.
    pub async fn create(
        &self,
        kind: JobKind,
        name: &str,
        epochs: u32,
        terms: JobTerms,
    ) -> Result<LiveJob, CatalogError> {
        let id = Uuid::now_v7();
        let status = JobStatus {
            id,
            kind,
            state: JobState::Queued,
            name: name.to_string(),
            progress: 0.0,
            coordinator: self.board.server.clone(),
            created_ms: now_ms(),
            started_ms: None,
            finished_ms: None,
            epoch: 0,
            epochs,
            step: 0,
            rows: 0,
            rows_per_second: 0.0,
            metrics: BTreeMap::new(),
            version: None,
            error: None,
            servers: Vec::new(),
            notes: Vec::new(),
            training: None,
            checkpoints: Vec::new(),
            terms,
        };
        let path = place(id, STATUS);
        if !self
            .board
            .objects
            .create(&path, encode_status(&status)?)
            .await?
        {
            return Err(CatalogError::Corrupt {
                what: path.to_string(),
                reason: "a new job's journal is there already".into(),
            });
        }
        let driven = Arc::new(Driven {
            cancelled: CancellationToken::new(),
            server_stops: AtomicBool::new(false),
            status: watch::Sender::new(Arc::new(status)),
            history: Mutex::new(Vec::new()),
            journal: tokio::sync::Mutex::new(()),
            pace: Mutex::default(),
        });
        // Counted before it is entered, so that a stop never sees it entered and not counted.
        let counted = self.board.tracker.token();
        self.board.driven.lock().insert(id, Arc::clone(&driven));
        // After the entry: either this look or the one of `stop_all` finds the other.
        if self.board.stops.load(Ordering::SeqCst) {
            driven.stop();
        }
        Ok(LiveJob {
            id,
            cancelled: driven.cancelled.clone(),
            driven,
            board: Arc::clone(&self.board),
            _counted: counted,
        })
    }

    /// Newest status: live when driven here, else the journal.
    ///
    /// A job whose server died shows as it was last written; who knows the members may say more.
    pub async fn status(&self, id: JobId) -> Result<JobStatus, CatalogError> {
        if let Some(driven) = self.driven(id) {
            return Ok(JobStatus::clone(&driven.status.borrow()));
        }
        let path = place(id, STATUS);
        let Some(bytes) = self.board.objects.read(&path).await? else {
            return Err(CatalogError::UnknownJob { id: id.to_string() });
        };
        serde_json::from_slice(&bytes).map_err(|error| CatalogError::Corrupt {
            what: path.to_string(),
            reason: error.to_string(),
        })
    }

    /// A channel of live status; `None` when this server does not drive the job (then poll `status`, or ask `coordinator`).
    pub fn watch(&self, id: JobId) -> Option<watch::Receiver<Arc<JobStatus>>> {
        Some(self.driven(id)?.status.subscribe())
    }

    /// Asks a job driven here to stop; false when it is not driven here or has ended.
    pub fn cancel(&self, id: JobId) -> bool {
        match self.driven(id) {
            Some(driven) if !driven.status.borrow().state.is_final() => {
                driven.cancelled.cancel();
                true
            }
            _ => false,
        }
    }

    /// Cancels every job driven here, now and later, because the server stops: they end FAILED with UNAVAILABLE.
    /// [`Self::settled`] waits for their end.
    pub fn stop_all(&self) {
        self.board.stops.store(true, Ordering::SeqCst);
        for driven in self.board.driven.lock().values() {
            driven.stop();
        }
    }

    /// Whether the journal names this server as the one that drives the job, and it does not: an earlier process of
    /// the same name was stopped while it did.
    pub fn is_left_over(&self, status: &JobStatus) -> bool {
        !status.state.is_final()
            && status.coordinator == self.board.server
            && self.driven(status.id).is_none()
    }

    /// Ends a job whose server is gone: an earlier process of this server's name, or another server that was lost. What
    /// was agreed of its end is kept to first.
    pub async fn end_left_over(&self, mut status: JobStatus) -> Result<(), CatalogError> {
        self.board.keep_terms(&status).await;
        // That may have taken a while: an end that was written meanwhile stands.
        if self.status(status.id).await?.state.is_final() {
            return Ok(());
        }
        let what = if status.coordinator == self.board.server {
            " was stopped while it drove the job"
        } else {
            ", which drove the job, was lost"
        };
        status.state = JobState::Failed;
        status.finished_ms = Some(now_ms());
        status.error = Some(JobError {
            code: Fault::Unavailable.name().into(),
            message: format!("server {:?}{what}; {}", status.coordinator, status.way_on()),
        });
        let journal = encode_status(&status)?;
        let path = place(status.id, STATUS);
        Ok(self.board.objects.put(&path, journal).await?)
    }

    /// Writes down that nothing is kept any more of a job that has ended.
    pub async fn forget_checkpoints(&self, id: JobId) -> Result<(), CatalogError> {
        if let Some(driven) = self.driven(id) {
            // Its end is being written.
            driven.update(|status| status.checkpoints.clear());
            return driven.save(&self.board.objects).await;
        }
        let mut status = self.status(id).await?;
        status.checkpoints.clear();
        let journal = encode_status(&status)?;
        Ok(self.board.objects.put(&place(id, STATUS), journal).await?)
    }

    /// Every job of the store, newest first. One whose journal cannot be read is logged and left out.
    pub async fn list(&self) -> Result<Vec<JobStatus>, CatalogError> {
        let folders = self.board.objects.folders(&Path::from("jobs")).await?;
        let ids: Vec<JobId> = folders
            .iter()
            .rev()
            .filter_map(|name| name.parse().ok())
            .collect();
        let found: Vec<Option<JobStatus>> = futures::stream::iter(ids)
            .map(|id| async move {
                match self.status(id).await {
                    Ok(status) => Some(status),
                    // A folder that holds staged rows and no journal.
                    Err(CatalogError::UnknownJob { .. }) => None,
                    Err(error) => {
                        tracing::warn!(job = %id, %error, "a job's journal cannot be read; it is not listed");
                        None
                    }
                }
            })
            .buffered(READS_MAX)
            .collect()
            .await;
        Ok(found.into_iter().flatten().collect())
    }

    /// History so far: one row per epoch, `epoch` Int32 and Float64 columns sorted by name.
    pub async fn history(&self, id: JobId) -> Result<RecordBatch, CatalogError> {
        if let Some(driven) = self.driven(id) {
            return history_batch(&driven.history.lock());
        }
        let path = place(id, HISTORY);
        match self.board.objects.read(&path).await? {
            Some(bytes) => decode_history(&bytes).map_err(|error| CatalogError::Corrupt {
                what: path.to_string(),
                reason: error.to_string(),
            }),
            None => {
                self.status(id).await?;
                history_batch(&[])
            }
        }
    }

    /// Waits until no job is driven here and the last words of all are written. Does not end the jobs: see
    /// [`Self::stop_all`].
    pub async fn settled(&self) {
        self.board.tracker.close();
        self.board.tracker.wait().await;
    }

    fn driven(&self, id: JobId) -> Option<Arc<Driven>> {
        self.board.driven.lock().get(&id).cloned()
    }
}

fn place(id: JobId, name: &str) -> Path {
    Path::from_iter(["jobs", id.to_string().as_str(), name])
}

fn now_ms() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::SystemTime::UNIX_EPOCH)
        .map_or(0, |since| {
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        })
}

fn encode_status(status: &JobStatus) -> Result<Bytes, CatalogError> {
    serde_json::to_vec_pretty(status)
        .map(Bytes::from)
        .map_err(|source| CatalogError::Store {
            doing: format!("writing the journal of job {}", status.id),
            source: Box::new(source),
        })
}

#[cfg(test)]
mod tests;
