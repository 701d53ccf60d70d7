//! What can go wrong between a name and the store.

use crate::storage::StorageError;
use crate::support::fault::{Fault, Faulty};

/// Failures of the catalog. Texts are for the caller; `source` is for the log.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    #[error("there is no dataset {name:?}; {hint}")]
    UnknownDataset { name: String, hint: String },
    #[error("dataset {name:?} has no version {version}; versions 0 to {newest} exist")]
    UnknownDatasetVersion {
        name: String,
        version: i64,
        newest: i64,
    },
    #[error(
        "dataset {name:?} exists; use mode append or overwrite (replace in ADBC), or another name"
    )]
    DatasetExists { name: String },
    #[error("there is no model {name:?}; {hint}")]
    UnknownModel { name: String, hint: String },
    #[error("model {name:?} has no version {version}; versions 1 to {newest} exist")]
    UnknownModelVersion {
        name: String,
        version: u64,
        newest: u64,
    },
    #[error("there is no job {id:?}; list the jobs to see which exist")]
    UnknownJob { id: String },
    /// `epoch` begins with a space, or is empty.
    #[error("job {job} has no checkpoint{epoch}; {hint}")]
    UnknownCheckpoint {
        job: String,
        epoch: String,
        hint: String,
    },
    #[error(
        "{kind} name {name:?} cannot be used: {reason}; use 1 to 128 of A-Z a-z 0-9 _ - . and begin with a letter or digit"
    )]
    BadName {
        kind: &'static str,
        name: String,
        reason: String,
    },
    #[error("the rows do not fit dataset {name:?}: {reason}")]
    SchemaMismatch { name: String, reason: String },
    #[error("column {column:?} of type {data_type} cannot be stored: {reason}")]
    UnsupportedColumn {
        column: String,
        data_type: String,
        reason: String,
    },
    #[error("store URL {url:?} cannot be used: {reason}")]
    BadStore { url: String, reason: String },
    #[error("the store has no room for {what}; nothing was committed, free space and send again")]
    StoreFull {
        what: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("the store failed while {doing}: {source}")]
    Store {
        doing: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("{what} in the store cannot be read: {reason}")]
    Corrupt { what: String, reason: String },
}

impl Faulty for CatalogError {
    fn fault(&self) -> Fault {
        match self {
            Self::UnknownDataset { .. }
            | Self::UnknownDatasetVersion { .. }
            | Self::UnknownModel { .. }
            | Self::UnknownModelVersion { .. }
            | Self::UnknownJob { .. }
            | Self::UnknownCheckpoint { .. } => Fault::NotFound,
            Self::DatasetExists { .. } => Fault::AlreadyExists,
            Self::BadName { .. }
            | Self::SchemaMismatch { .. }
            | Self::UnsupportedColumn { .. }
            | Self::BadStore { .. } => Fault::InvalidArgument,
            Self::StoreFull { .. } => Fault::ResourceExhausted,
            Self::Store { .. } | Self::Corrupt { .. } => Fault::Internal,
        }
    }
}

impl From<StorageError> for CatalogError {
    fn from(error: StorageError) -> Self {
        Self::about("", error)
    }
}

impl CatalogError {
    /// A failure of the store, told about dataset `name`.
    pub(crate) fn about(name: &str, error: StorageError) -> Self {
        match error {
            StorageError::BadLocation { url, reason } => Self::BadStore { url, reason },
            StorageError::Full { what, source } => Self::StoreFull { what, source },
            StorageError::Failed { doing, source } => Self::Store { doing, source },
            StorageError::Unstorable {
                column,
                data_type,
                reason,
            } => Self::UnsupportedColumn {
                column,
                data_type,
                reason,
            },
            StorageError::Misfit { reason } => Self::SchemaMismatch {
                name: name.to_string(),
                reason,
            },
            StorageError::Corrupt { what, reason } => Self::Corrupt { what, reason },
            StorageError::TableRemoved { .. } => Self::UnknownDataset {
                name: name.to_string(),
                hint: "it was removed while rows were being added, send them again".into(),
            },
            taken @ StorageError::VersionTaken { .. } => Self::Store {
                doing: format!("committing to {name:?}"),
                source: Box::new(taken),
            },
        }
    }
}
