//! Jobs: the live ones that this server drives, and the journals that every server reads.
//!
//! Knows what a job looks like from outside (state, progress, error, history); the engines know what it does.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::CatalogError;

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

/// What anybody may know of a job. Written to the journal at every change of state and every epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobStatus {
    pub id: JobId,
    pub kind: JobKind,
    pub state: JobState,
    pub name: String,
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
    pub rows_per_second: f64,
    pub metrics: BTreeMap<String, f64>,
    pub version: Option<u64>,
    pub error: Option<JobError>,
    pub servers: Vec<String>,
    pub notes: Vec<String>,
}

/// A job that this server drives. Dropped without `finish`, the job is written down as failed.
#[derive(Debug)]
pub struct LiveJob {
    pub id: JobId,
    /// Cancelled when a client asks for it or the server shuts down.
    pub cancelled: CancellationToken,
}

impl LiveJob {
    /// Changes the status that watchers see (in memory).
    pub fn update(&self, change: impl FnOnce(&mut JobStatus)) {
        let _ = change;
        todo!("data")
    }
    /// Writes the present status and history to the store's journal.
    pub async fn save(&self) -> Result<(), CatalogError> {
        todo!("data")
    }
    /// One more row of history (one per epoch); columns are the same at every call. Nulls where a value is not known.
    pub fn record(&self, row: BTreeMap<String, Option<f64>>) {
        let _ = row;
        todo!("data")
    }
    /// Sets the final state, writes it, tells the watchers.
    pub async fn finish(self, outcome: Result<Option<u64>, JobOutcome>) {
        let _ = outcome;
        todo!("data")
    }
}

/// How a job ended other than well.
#[derive(Debug)]
pub enum JobOutcome {
    Cancelled,
    Failed(JobError),
}

/// The jobs as one server sees them.
#[derive(Debug)]
pub struct JobBoard {}

impl JobBoard {
    /// Registers a job driven here, QUEUED, journalled before this returns.
    pub async fn create(
        &self,
        kind: JobKind,
        name: &str,
        epochs: u32,
    ) -> Result<LiveJob, CatalogError> {
        let _ = (kind, name, epochs);
        todo!("data")
    }
    /// Newest status: live when driven here, else the journal.
    pub async fn status(&self, id: JobId) -> Result<JobStatus, CatalogError> {
        let _ = id;
        todo!("data")
    }
    /// A channel of live status; `None` when this server does not drive the job (then poll `status`, or ask `coordinator`).
    pub fn watch(&self, id: JobId) -> Option<watch::Receiver<Arc<JobStatus>>> {
        let _ = id;
        todo!("data")
    }
    /// Asks a job driven here to stop; false when it is not driven here or has ended.
    pub fn cancel(&self, id: JobId) -> bool {
        let _ = id;
        todo!("data")
    }
    pub async fn list(&self) -> Result<Vec<JobStatus>, CatalogError> {
        todo!("data")
    }
    /// History so far: one row per epoch, `epoch` Int32 and Float64 columns sorted by name.
    pub async fn history(&self, id: JobId) -> Result<RecordBatch, CatalogError> {
        let _ = id;
        todo!("data")
    }
}
