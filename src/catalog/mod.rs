//! Names, versions and lineage: datasets, uploads to them, models and jobs as they stand in the store.
//!
//! The store is the only truth; this folder reads and commits it. A version is immutable once committed.
//! Knows no Flight, no SQL and no training: it is where those meet.

pub mod checkpoint;
pub mod dataset;
pub mod error;
pub mod job;
pub mod model;
pub mod name;
mod number;
mod secret;
pub mod upload;

pub use checkpoint::Checkpoints;
pub use dataset::{
    DataFile, Dataset, DatasetReference, DatasetWriter, Datasets, WriteMode, restore_column,
};
pub use error::CatalogError;
pub use job::{
    JobBoard, JobError, JobId, JobKind, JobOutcome, JobState, JobStatus, JobTerms, LiveJob,
};
pub use model::{LabelColumn, ModelManifest, ModelOutput, ModelVersion, Models, TrainingRecord};
pub use upload::{UploadError, UploadId, Uploads};

use std::sync::Arc;

use crate::storage::Objects;
use crate::support::clock::SystemClock;

/// Everything one server knows of the store. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Catalog {
    /// Datasets: a Delta table each.
    pub datasets: Arc<Datasets>,
    /// Uploads in parts.
    pub uploads: Arc<Uploads>,
    /// Models and their versions.
    pub models: Arc<Models>,
    /// Jobs: this server's live ones and every server's journals.
    pub jobs: Arc<JobBoard>,
    /// What is kept of jobs while they train.
    pub checkpoints: Arc<Checkpoints>,
    objects: Objects,
}

impl Catalog {
    /// Opens (and where needed creates) the store at `url`: a directory path or `file://` URL.
    /// `server` is this server's name, written into the jobs it coordinates. Of rows that are read again and again at most
    /// `kept_bytes_max` are kept decoded.
    pub async fn open(url: &str, server: &str, kept_bytes_max: u64) -> Result<Self, CatalogError> {
        let url_given = url.to_string();
        // Making and resolving the directory touches the disk.
        let objects = tokio::task::spawn_blocking(move || Objects::open(&url_given))
            .await
            .map_err(|source| CatalogError::Store {
                doing: format!("opening {url:?}"),
                source: Box::new(source),
            })??;
        let datasets = Arc::new(Datasets::new(objects.clone(), kept_bytes_max));
        let clock = Arc::new(SystemClock);
        Ok(Self {
            uploads: Arc::new(Uploads::new(objects.clone(), Arc::clone(&datasets), clock)),
            models: Arc::new(Models::new(objects.clone())),
            jobs: Arc::new(JobBoard::new(
                objects.clone(),
                Arc::clone(&datasets),
                server,
            )),
            checkpoints: Arc::new(Checkpoints::new(objects.clone())),
            datasets,
            objects,
        })
    }

    /// A secret that all servers of this store share, created if it is absent.
    pub async fn secret(&self, name: &str) -> Result<[u8; secret::SECRET_BYTES], CatalogError> {
        secret::secret(&self.objects, name).await
    }

    /// Waits until no job is driven here any more and what runs in the background (deleting the files of broken uploads,
    /// last words of lost jobs) is done. Jobs first: one that is stopped leaves a broken upload.
    pub async fn settled(&self) {
        self.jobs.settled().await;
        self.datasets.settled().await;
    }
}
