//! What can go wrong between a column and the disk.

type Source = Box<dyn std::error::Error + Send + Sync>;

/// Failures of the store.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    #[error("store URL {url:?} cannot be used: {reason}")]
    BadLocation { url: String, reason: String },
    #[error("the store has no room for {what}")]
    Full {
        what: String,
        #[source]
        source: Source,
    },
    #[error("the store failed while {doing}: {source}")]
    Failed {
        doing: String,
        #[source]
        source: Source,
    },
    #[error("column {column:?} of type {data_type} cannot be stored: {reason}")]
    Unstorable {
        column: String,
        data_type: String,
        reason: String,
    },
    #[error("the rows do not fit: {reason}")]
    Misfit { reason: String },
    #[error("{what} in the store cannot be read: {reason}")]
    Corrupt { what: String, reason: String },
    /// Another writer took the version that this one wanted; the caller rereads and decides.
    #[error("version {version} of {table:?} was committed by another writer")]
    VersionTaken { table: String, version: i64 },
    #[error("table {table:?} was removed while rows were being added")]
    TableRemoved { table: String },
}

impl StorageError {
    /// Sorts a failure into "no room" and the rest.
    pub(crate) fn failed(doing: impl Into<String>, source: impl Into<Source>) -> Self {
        let doing = doing.into();
        let source = source.into();
        if tells_of_no_room(source.as_ref()) {
            Self::Full {
                what: doing,
                source,
            }
        } else {
            Self::Failed { doing, source }
        }
    }
}

/// Whether a full disk or an exhausted quota lies somewhere below an error.
fn tells_of_no_room(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            if matches!(io.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT))
                || matches!(
                    io.kind(),
                    std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded
                )
            {
                return true;
            }
            // An `io::Error` may wrap another error without naming it as its source.
            if let Some(inner) = io.get_ref()
                && tells_of_no_room(inner)
            {
                return true;
            }
        }
        next = error.source();
    }
    false
}
