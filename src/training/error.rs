//! What can go wrong while training.

use crate::catalog::CatalogError;
use crate::features::FeatureError;
use crate::frames::FrameError;
use crate::support::fault::{Fault, Faulty};

#[derive(Debug, thiserror::Error)]
pub enum TrainingError {
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    #[error(transparent)]
    Feature(#[from] FeatureError),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("{option} is {received}; {hint}")]
    BadOption {
        option: &'static str,
        received: String,
        hint: String,
    },
    #[error("model: {reason}")]
    BadModel { reason: String },
    #[error("label {column:?} {problem}; {hint}")]
    BadLabel {
        column: String,
        problem: String,
        hint: String,
    },
    #[error(
        "server {server:?} was lost during the job: {reason}; start it again with the servers that are left"
    )]
    ServerLost { server: String, reason: String },
    #[error(
        "the loss became {loss} at epoch {epoch}, step {step}: {origin} is the first that is not finite; lower the learning rate or look for extreme values"
    )]
    NotFinite {
        loss: f32,
        epoch: u32,
        step: u64,
        /// A parameter, a layer's output, or the loss itself.
        origin: String,
    },
    #[error(
        "table {table:?} no longer has the rows of the training, version {version}: it was dropped and made anew; train a new job"
    )]
    OtherRows { table: String, version: i64 },
    #[error("checkpoints of job {job} are needed: {reason}")]
    CheckpointsNeeded { job: String, reason: String },
    #[error("the checkpoint cannot be gone on from: {reason}")]
    BadCheckpoint { reason: String },
    #[error(
        "job {job} is not over: server {coordinator:?} drives it; wait for its end, or cancel it first"
    )]
    StillRunning { job: String, coordinator: String },
    #[error("no job {job} of generation {generation} runs here")]
    UnknownWorker { job: String, generation: u64 },
    #[error("{waiting} training jobs wait on this server already; submit again when one has ended")]
    TooManyJobs { waiting: usize },
    #[error("the job was cancelled")]
    Cancelled,
    /// A failure that another worker told of, in its own words.
    #[error("{message}")]
    Reported { fault: Fault, message: String },
    #[error("the server is stopping; ask another one")]
    Stopping,
    #[error("training failed: {reason}")]
    Internal { reason: String },
}

impl TrainingError {
    /// Whether a job cannot go on because of its checkpoint or its rows: then there is no use in doing it again.
    pub(crate) fn is_about_what_is_kept(&self) -> bool {
        matches!(
            self,
            Self::BadCheckpoint { .. } | Self::OtherRows { .. } | Self::Catalog(_)
        )
    }
}

impl Faulty for TrainingError {
    fn fault(&self) -> Fault {
        match self {
            Self::Catalog(error) => error.fault(),
            Self::Feature(error) => error.fault(),
            Self::Frame(error) => error.fault(),
            Self::BadOption { .. } | Self::BadModel { .. } | Self::BadLabel { .. } => {
                Fault::InvalidArgument
            }
            Self::ServerLost { .. } | Self::Stopping => Fault::Unavailable,
            Self::NotFinite { .. } => Fault::OutOfRange,
            Self::BadCheckpoint { .. }
            | Self::OtherRows { .. }
            | Self::CheckpointsNeeded { .. }
            | Self::StillRunning { .. } => Fault::FailedPrecondition,
            Self::UnknownWorker { .. } => Fault::NotFound,
            Self::TooManyJobs { .. } => Fault::ResourceExhausted,
            Self::Cancelled => Fault::Cancelled,
            Self::Reported { fault, .. } => *fault,
            Self::Internal { .. } => Fault::Internal,
        }
    }
}
