//! A table's log from outside: its entries by name, and the way to them through our own store.

use std::time::SystemTime;

use deltalake::logstore::LogStoreRef;
use deltalake::{DeltaTable, DeltaTableBuilder};
use object_store::path::Path;
use url::Url;

use crate::storage::{Objects, StorageError};

pub(super) const LOG_FOLDER: &str = "_delta_log";

#[derive(Debug)]
pub(super) struct LogEntry {
    pub(super) version: i64,
    pub(super) path: Path,
    pub(super) committed: SystemTime,
    pub(super) tag: Option<String>,
}

/// The log's entries in order; none when version 0 is not among them.
pub(super) async fn log_entries(
    objects: &Objects,
    folder: &Path,
) -> Result<Vec<LogEntry>, StorageError> {
    let mut entries: Vec<LogEntry> = objects
        .files(&folder.clone().join(LOG_FOLDER))
        .await?
        .into_iter()
        .filter_map(|meta| {
            Some(LogEntry {
                version: version_of(&meta.location)?,
                committed: meta.last_modified.into(),
                tag: meta.e_tag,
                path: meta.location,
            })
        })
        .collect();
    entries.sort_by_key(|entry| entry.version);
    if entries.first().is_some_and(|entry| entry.version != 0) {
        entries.clear();
    }
    Ok(entries)
}

/// The version of `00000000000000000007.json`; `None` for anything else.
pub(super) fn version_of(path: &Path) -> Option<i64> {
    let digits = path.filename()?.strip_suffix(".json")?;
    (digits.len() == 20).then(|| digits.parse().ok())?
}

pub(super) fn entry_path(folder: &Path, version: i64) -> Path {
    folder
        .clone()
        .join(LOG_FOLDER)
        .join(format!("{version:020}.json"))
}

pub(super) fn table_at(objects: &Objects, folder: &Path) -> Result<DeltaTable, StorageError> {
    Ok(DeltaTable::new(log_store(objects, folder)?))
}

pub(super) fn log_store(objects: &Objects, folder: &Path) -> Result<LogStoreRef, StorageError> {
    let failed = |error: deltalake::DeltaTableError| {
        StorageError::failed(format!("opening table {folder}"), error)
    };
    // The URL's path is the place below our store's root: delta-rs sees no other store than ours. The scheme only has
    // to be one that it knows and does not look up on this machine's disk, as it does for `file`.
    let root =
        Url::parse("memory:///").map_err(|source| StorageError::failed("opening", source))?;
    let url = root
        .join(&format!("/{folder}/"))
        .map_err(|source| StorageError::failed("opening", source))?;
    DeltaTableBuilder::from_url(url)
        .map_err(failed)?
        .with_storage_backend(objects.store(), root)
        .build_storage()
        .map_err(failed)
}

/// Paths of the data files that a log entry adds.
pub(super) fn files_named_in(entry: &[u8]) -> Vec<String> {
    entry
        .split(|byte| *byte == b'\n')
        .filter_map(|line| serde_json::from_slice::<serde_json::Value>(line).ok())
        .filter_map(|action| Some(action.get("add")?.get("path")?.as_str()?.to_string()))
        .collect()
}
