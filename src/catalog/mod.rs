//! Names, versions and lineage: datasets, models and jobs as they stand in the store.
//!
//! The store is the only truth; this folder reads and commits it. A version is immutable once committed.
//! Knows no Flight, no SQL and no training: it is where those meet.

pub mod dataset;
pub mod error;
pub mod job;
pub mod model;
pub mod name;

pub use dataset::{DataFile, Dataset, DatasetReference, DatasetWriter, Datasets, WriteMode};
pub use error::CatalogError;
pub use job::{JobBoard, JobError, JobId, JobKind, JobState, JobStatus};
pub use model::{LabelColumn, ModelManifest, ModelVersion, Models};

use std::sync::Arc;

/// Everything one server knows of the store. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Catalog {
    /// Datasets: a Delta table each.
    pub datasets: Arc<Datasets>,
    /// Models and their versions.
    pub models: Arc<Models>,
    /// Jobs: this server's live ones and every server's journals.
    pub jobs: Arc<JobBoard>,
}

impl Catalog {
    /// Opens (and where needed creates) the store at `url`: a directory path or `file://` URL.
    /// `server` is this server's name, written into the jobs it coordinates.
    pub async fn open(url: &str, server: &str) -> Result<Self, CatalogError> {
        let _ = (url, server);
        todo!("data")
    }
}
