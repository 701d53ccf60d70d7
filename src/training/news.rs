//! What a worker tells its coordinator, on the wire as JSON.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::TrainingError;
use super::checkpoint::Standing;
use crate::support::fault::Fault;

/// One row of history: columns by name.
pub(crate) type HistoryRow = BTreeMap<String, Option<f64>>;

/// One word of a worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "news", rename_all = "snake_case")]
pub(crate) enum WorkerNews {
    /// The worker is ready to take gradient streams.
    Accepted,
    /// Rows are read; the first step follows.
    Loaded,
    /// From worker 0 only.
    Progress {
        epoch: u32,
        step: u64,
        rows: u64,
        rows_per_second: f64,
        loss: Option<f64>,
    },
    /// From worker 0 only: an epoch is over. `epoch` counts from 1.
    Epoch {
        epoch: u32,
        step: u64,
        rows: u64,
        row: HistoryRow,
    },
    /// This worker's part of the checkpoint of so many epochs is written, or was not.
    Saved {
        epoch: u32,
        /// From worker 0 only.
        standing: Option<Standing>,
        /// Why it could not be written.
        problem: Option<String>,
    },
    Finished,
    Failed(Failure),
}

/// A failure as it travels between servers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "failure", rename_all = "snake_case")]
pub(crate) enum Failure {
    ServerLost {
        server: String,
        reason: String,
    },
    NotFinite {
        /// As text: JSON has no word for infinity.
        loss: String,
        epoch: u32,
        step: u64,
        origin: String,
    },
    Cancelled,
    Other {
        /// Name of a `Fault`.
        code: String,
        message: String,
    },
}

/// Every class of failure, to find one by its name.
const FAULTS: [Fault; 11] = [
    Fault::InvalidArgument,
    Fault::NotFound,
    Fault::AlreadyExists,
    Fault::FailedPrecondition,
    Fault::ResourceExhausted,
    Fault::OutOfRange,
    Fault::Unimplemented,
    Fault::Unavailable,
    Fault::Aborted,
    Fault::Cancelled,
    Fault::Internal,
];

impl From<&TrainingError> for Failure {
    fn from(error: &TrainingError) -> Self {
        use crate::support::fault::Faulty;
        match error {
            TrainingError::ServerLost { server, reason } => Self::ServerLost {
                server: server.clone(),
                reason: reason.clone(),
            },
            TrainingError::NotFinite {
                loss,
                epoch,
                step,
                origin,
            } => Self::NotFinite {
                loss: loss.to_string(),
                epoch: *epoch,
                step: *step,
                origin: origin.clone(),
            },
            TrainingError::Cancelled => Self::Cancelled,
            other => Self::Other {
                code: other.fault().name().to_owned(),
                message: other.to_string(),
            },
        }
    }
}

impl From<Failure> for TrainingError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::ServerLost { server, reason } => Self::ServerLost { server, reason },
            Failure::NotFinite {
                loss,
                epoch,
                step,
                origin,
            } => Self::NotFinite {
                loss: loss.parse().unwrap_or(f32::NAN),
                epoch,
                step,
                origin,
            },
            Failure::Cancelled => Self::Cancelled,
            Failure::Other { code, message } => {
                let fault = FAULTS.iter().find(|fault| fault.name() == code);
                let fault = fault.copied().unwrap_or(Fault::Internal);
                Self::Reported { fault, message }
            }
        }
    }
}
