//! Delta tables: open a version, create, append, overwrite. The only folder that names `deltalake`.
//!
//! The invariant: version N of a table is the object `_delta_log/N.json`, created if absent. Whoever creates it has
//! committed; whoever finds it taken rereads the table and decides again. Data files are written and flushed before.
//!
//! Our tables keep every log entry from version 0 on, so a table exists exactly when its version 0 does, and removal
//! takes the log away from the newest entry down: a reader meets an older version or none, never half of one.
//! The exact Arrow schema travels in the table's configuration under `volary.arrow_schema`, changed by overwrite like
//! the Delta schema is; the row groups of a file travel in its `volary.row_groups` tag, so opening reads no footer, and
//! its place among the files of its commit in `volary.place`, which is the order of the rows.
//!
//! A commit may carry the name of an upload as Delta's application transaction: whoever finds it in the table knows that
//! the upload is in, and in which version.

mod commit;
mod log;
mod version;

use std::sync::Arc;
use std::time::SystemTime;

use arrow::datatypes::SchemaRef;
use deltalake::DeltaTable;
use object_store::path::Path;
use uuid::Uuid;

pub use commit::commit;
use log::{LOG_FOLDER, LogEntry, entry_path, files_named_in, log_entries, table_at, version_of};
use version::describe;

use super::{Objects, StorageError};

const ARROW_SCHEMA_KEY: &str = "volary.arrow_schema";
const ROW_GROUPS_TAG: &str = "volary.row_groups";
const PLACE_TAG: &str = "volary.place";

/// One data file of a version.
#[derive(Debug, Clone)]
pub struct TableFile {
    pub path: Path,
    pub bytes: u64,
    pub row_groups: Vec<u64>,
}

/// One version of a table.
#[derive(Debug, Clone)]
pub struct TableVersion {
    pub folder: Path,
    /// Of the table, given when its version 0 was made: another table in the same folder has another.
    pub id: String,
    pub version: i64,
    pub schema: SchemaRef,
    pub files: Vec<TableFile>,
    pub committed: SystemTime,
    state: Arc<DeltaTable>,
}

/// What a commit does to the rows that are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableChange {
    Create,
    Append,
    Overwrite,
}

/// A version of a table as its log shows it from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedVersion {
    pub version: i64,
    /// Changes when the entry is another one, as after removal and a new upload.
    pub tag: Option<String>,
}

/// The newest version, without reading the log; `None` when there is no table.
pub async fn newest(
    objects: &Objects,
    folder: &Path,
) -> Result<Option<LoggedVersion>, StorageError> {
    let entries = log_entries(objects, folder).await?;
    Ok(entries.into_iter().next_back().map(|entry| LoggedVersion {
        version: entry.version,
        tag: entry.tag,
    }))
}

/// A version by its number, without reading or listing the log; `None` when there is no such entry.
pub async fn logged(
    objects: &Objects,
    folder: &Path,
    version: i64,
) -> Result<Option<LoggedVersion>, StorageError> {
    let entry = objects.look(&entry_path(folder, version)).await?;
    Ok(entry.map(|entry| LoggedVersion {
        version,
        tag: entry.e_tag,
    }))
}

/// Opens the newest version, or the one asked for; `None` when there is no table or no such version.
pub async fn open(
    objects: &Objects,
    folder: &Path,
    version: Option<i64>,
) -> Result<Option<TableVersion>, StorageError> {
    let entries = log_entries(objects, folder).await?;
    let entry = match version {
        None => entries.last(),
        Some(version) => entries.iter().find(|entry| entry.version == version),
    };
    let Some(entry) = entry else {
        return Ok(None);
    };
    let number = u64::try_from(entry.version).unwrap_or(0);
    let failed = |error: deltalake::DeltaTableError| {
        StorageError::failed(format!("opening table {folder}"), error)
    };
    let mut table = table_at(objects, folder)?;
    let opened = async {
        table.load_version(number).await.map_err(failed)?;
        describe(objects, folder, table, entry.committed).await
    };
    match opened.await {
        Ok(table) => Ok(Some(table)),
        // A table that was removed while it was read fails in many ways, and all of them mean that it is not there.
        Err(error) => match same_entry(objects, folder, entry).await? {
            true => Err(error),
            false => Ok(None),
        },
    }
}

/// Whether a log entry is still the one that was listed.
async fn same_entry(
    objects: &Objects,
    folder: &Path,
    listed: &LogEntry,
) -> Result<bool, StorageError> {
    let entries = log_entries(objects, folder).await?;
    Ok(entries
        .iter()
        .any(|entry| entry.version == listed.version && entry.tag == listed.tag))
}

/// The version that an upload was committed as; `None` when it is not among this version and those before.
pub async fn version_with(table: &TableVersion, upload: Uuid) -> Result<Option<i64>, StorageError> {
    let failed = |error: deltalake::DeltaTableError| {
        StorageError::failed(format!("opening table {}", table.folder), error)
    };
    let state = table.state.snapshot().map_err(failed)?;
    let log = table.state.log_store();
    state
        .transaction_version(log.as_ref(), upload)
        .await
        .map_err(failed)
}

/// Removes a table: first its log, newest entry first, then the files that the log named.
///
/// Files of uploads under way are left alone; such an upload finds its table gone when it commits.
pub async fn remove(objects: &Objects, folder: &Path) -> Result<(), StorageError> {
    let log = folder.clone().join(LOG_FOLDER);
    let mut named = Vec::new();
    for entry in log_entries(objects, folder).await? {
        let bytes = objects.read(&entry.path).await?.unwrap_or_default();
        named.extend(files_named_in(&bytes));
    }
    // Listed again until nothing is left: a commit may have come in between.
    loop {
        let entries = objects.files(&log).await?;
        if entries.is_empty() {
            break;
        }
        let is_commit = |path: &Path| version_of(path).is_some();
        let (commits, others): (Vec<_>, Vec<_>) = entries
            .into_iter()
            .map(|meta| meta.location)
            .partition(is_commit);
        // A checkpoint, or the note that points at one, would outlive the entries it stands for.
        for path in others.iter().chain(commits.iter().rev()) {
            objects.remove(path).await?;
        }
    }
    for name in named {
        objects.remove(&below(folder, &name)).await?;
    }
    Ok(())
}

fn below(folder: &Path, name: &str) -> Path {
    Path::from_iter(folder.parts().chain(Path::from(name).parts()))
}
