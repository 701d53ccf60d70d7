//! A version is committed: the actions of its entry, the entry created where there is none, and what follows.

use std::collections::HashMap;
use std::time::SystemTime;

use bytes::Bytes;
use deltalake::kernel::engine::arrow_conversion::TryIntoKernel as _;
use deltalake::kernel::transaction::{CommitData, PROTOCOL, TransactionError};
use deltalake::kernel::{
    Action, Add, Metadata, Protocol, Remove, StructType, Transaction, contains_timestampntz,
};
use deltalake::logstore::{CommitOrBytes, LogStoreRef};
use deltalake::protocol::{DeltaOperation, SaveMode, checkpoints};
use futures::TryStreamExt as _;
use object_store::path::Path;
use uuid::Uuid;

use super::log::{entry_path, log_store, table_at};
use super::version::encode_schema;
use super::{ARROW_SCHEMA_KEY, PLACE_TAG, ROW_GROUPS_TAG, TableChange, TableVersion};
use crate::storage::parquet::WrittenFile;
use crate::storage::physical::StoredSchema;
use crate::storage::{Objects, StorageError};

/// Versions between checkpoints: opening a table replays at most so many log entries. Delta's own custom.
const CHECKPOINT_VERSIONS: i64 = 100;

/// Commits files as one version. `base` is the version that the change was decided on (`None`: there is no table).
///
/// `VersionTaken` says that somebody else's commit came first and nothing was changed. An `upload` is found again by
/// [`version_with`].
pub async fn commit(
    objects: &Objects,
    folder: &Path,
    base: Option<&TableVersion>,
    change: TableChange,
    schema: &StoredSchema,
    files: &[WrittenFile],
    upload: Option<Uuid>,
) -> Result<i64, StorageError> {
    let version = base.map_or(0, |base| base.version + 1);
    let failed = |error: deltalake::DeltaTableError| {
        StorageError::failed(format!("committing to table {folder}"), error)
    };
    let now = now_ms();
    let mut actions = Vec::with_capacity(files.len() + 3);
    let sets_schema = base.is_none() || change != TableChange::Append;
    if sets_schema {
        let delta_schema: StructType = schema
            .stored
            .as_ref()
            .try_into_kernel()
            .map_err(|source| StorageError::failed("writing the table's schema", source))?;
        let current = match base {
            Some(base) => Some(base.state.snapshot().map_err(failed)?.snapshot().protocol()),
            None => None,
        };
        if let Some(protocol) = protocol_for(&delta_schema, current)? {
            actions.push(Action::Protocol(protocol));
        }
        actions.push(Action::Metadata(metadata_for(
            base,
            schema,
            &delta_schema,
            now,
        )?));
    }
    if let Some(base) = base
        && change == TableChange::Overwrite
    {
        actions.extend(removals(base).await?.into_iter().map(Action::Remove));
    }
    for (place, file) in files.iter().enumerate() {
        actions.push(Action::Add(addition(folder, file, place, now)?));
    }
    let mode = match change {
        TableChange::Create => SaveMode::ErrorIfExists,
        TableChange::Append => SaveMode::Append,
        TableChange::Overwrite => SaveMode::Overwrite,
    };
    let operation = DeltaOperation::Write {
        mode,
        partition_by: None,
        predicate: None,
    };
    if let Some(base) = base {
        let state = base.state.snapshot().map_err(failed)?;
        PROTOCOL
            .can_commit(state, &actions, &operation)
            .map_err(|source| {
                StorageError::failed(format!("committing to table {folder}"), source)
            })?;
    }
    // Who wrote the entry, in the place that delta-rs leaves for it.
    let writer = HashMap::from([(
        "clientVersion".to_string(),
        serde_json::Value::from(concat!("volary.", env!("CARGO_PKG_VERSION"))),
    )]);
    // Its number is the version of the table, so that finding it tells the version.
    let transactions = upload
        .map(|upload| Transaction::new_with_last_update(upload, version, Some(now)))
        .into_iter()
        .collect();
    let entry = CommitData::new(actions, operation, writer, transactions)
        .get_bytes()
        .map_err(|source| StorageError::failed(format!("committing to table {folder}"), source))?;

    let log = log_store(objects, folder)?;
    write_entry(&log, folder, version, entry).await?;
    if let Some(base) = base {
        stand_by(objects, folder, base, version).await?;
        checkpoint(objects, folder, version).await;
    }
    Ok(version)
}

/// The protocol to be written, or `None` when the table's present one will do.
fn protocol_for(
    schema: &StructType,
    current: Option<&Protocol>,
) -> Result<Option<Protocol>, StorageError> {
    let needs_ntz = contains_timestampntz(schema.fields());
    let mut value = match current {
        None => serde_json::json!({"minReaderVersion": 1, "minWriterVersion": 2}),
        Some(current) => serde_json::to_value(current)
            .map_err(|source| StorageError::failed("reading the table's protocol", source))?,
    };
    let has_ntz = value["readerFeatures"]
        .as_array()
        .is_some_and(|features| features.iter().any(|feature| feature == "timestampNtz"));
    if needs_ntz && !has_ntz {
        value["minReaderVersion"] = 3.into();
        value["minWriterVersion"] = 7.into();
        for key in ["readerFeatures", "writerFeatures"] {
            let mut features = value[key].as_array().cloned().unwrap_or_default();
            features.push("timestampNtz".into());
            value[key] = features.into();
        }
    } else if current.is_some() {
        return Ok(None);
    }
    serde_json::from_value(value)
        .map(Some)
        .map_err(|source| StorageError::failed("writing the table's protocol", source))
}

/// A table keeps its identity and its other settings when it is overwritten.
fn metadata_for(
    base: Option<&TableVersion>,
    schema: &StoredSchema,
    delta_schema: &StructType,
    now: i64,
) -> Result<Metadata, StorageError> {
    let failed = |source| StorageError::failed("writing the table's metadata", source);
    let mut value = match base {
        None => serde_json::json!({
            "id": Uuid::new_v4().to_string(),
            "name": null,
            "description": null,
            "format": {"provider": "parquet", "options": {}},
            "configuration": {},
            "createdTime": now,
        }),
        Some(base) => serde_json::to_value(metadata_of(base)?).map_err(failed)?,
    };
    value["schemaString"] = serde_json::to_string(delta_schema).map_err(failed)?.into();
    value["partitionColumns"] = serde_json::json!([]);
    value["configuration"][ARROW_SCHEMA_KEY] = encode_schema(&schema.exact)?.into();
    // Every entry is kept: see the module's page.
    value["configuration"]["delta.enableExpiredLogCleanup"] = "false".into();
    serde_json::from_value(value).map_err(failed)
}

fn metadata_of(base: &TableVersion) -> Result<&Metadata, StorageError> {
    let state = base
        .state
        .snapshot()
        .map_err(|error| StorageError::failed(format!("opening table {}", base.folder), error))?;
    Ok(state.snapshot().metadata())
}

async fn removals(base: &TableVersion) -> Result<Vec<Remove>, StorageError> {
    let failed = |error: deltalake::DeltaTableError| {
        StorageError::failed(format!("opening table {}", base.folder), error)
    };
    let log = base.state.log_store();
    base.state
        .snapshot()
        .map_err(failed)?
        .snapshot()
        .file_views(&log, None)
        .map_ok(|view| view.remove_action(true))
        .try_collect()
        .await
        .map_err(failed)
}

fn addition(
    folder: &Path,
    file: &WrittenFile,
    place: usize,
    now: i64,
) -> Result<Add, StorageError> {
    let name = file
        .path
        .prefix_match(folder)
        .map(|parts| Path::from_iter(parts).to_string())
        .ok_or_else(|| StorageError::Corrupt {
            what: format!("table {folder}"),
            reason: format!("file {} lies outside", file.path),
        })?;
    let row_groups: Vec<String> = file.row_groups.iter().map(u64::to_string).collect();
    Ok(Add {
        path: name,
        partition_values: HashMap::new(),
        size: i64::try_from(file.bytes).unwrap_or(i64::MAX),
        modification_time: now,
        data_change: true,
        stats: Some(file.statistics.clone()),
        tags: Some(HashMap::from([
            (ROW_GROUPS_TAG.to_string(), Some(row_groups.join(","))),
            (PLACE_TAG.to_string(), Some(place.to_string())),
        ])),
        deletion_vector: None,
        base_row_id: None,
        default_row_commit_version: None,
        clustering_provider: None,
    })
}

async fn write_entry(
    log: &LogStoreRef,
    folder: &Path,
    version: i64,
    entry: Bytes,
) -> Result<(), StorageError> {
    let number = u64::try_from(version).unwrap_or(0);
    let entry = CommitOrBytes::LogBytes(entry);
    match log.write_commit_entry(number, entry, Uuid::new_v4()).await {
        Ok(()) => Ok(()),
        Err(TransactionError::VersionAlreadyExists(_)) => Err(StorageError::VersionTaken {
            table: folder.to_string(),
            version,
        }),
        Err(source) => Err(StorageError::failed(
            format!("committing to table {folder}"),
            source,
        )),
    }
}

/// After a commit on top of `base`: the table must still be the one that `base` was read from.
///
/// Removal takes version 0 last, so an entry created on top of a removed table is found here and taken back.
async fn stand_by(
    objects: &Objects,
    folder: &Path,
    base: &TableVersion,
    version: i64,
) -> Result<(), StorageError> {
    let first = entry_path(folder, 0);
    let id = metadata_of(base)?.id().to_string();
    let stands = objects
        .read(&first)
        .await?
        .is_some_and(|bytes| String::from_utf8_lossy(&bytes).contains(&id));
    if stands {
        return Ok(());
    }
    objects.remove(&entry_path(folder, version)).await?;
    Err(StorageError::TableRemoved {
        table: folder.to_string(),
    })
}

/// Shortens the replay of the next opening. A failure costs time later and nothing else.
async fn checkpoint(objects: &Objects, folder: &Path, version: i64) {
    if version % CHECKPOINT_VERSIONS != 0 {
        return;
    }
    let made = async {
        let mut table = table_at(objects, folder).ok()?;
        let number = u64::try_from(version).ok()?;
        table.load_version(number).await.ok()?;
        checkpoints::create_checkpoint(&table, None).await.ok()
    };
    if made.await.is_none() {
        tracing::warn!(table = %folder, version, "a checkpoint could not be written");
    }
}

fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| {
            i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
        })
}
