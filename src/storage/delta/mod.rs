//! Delta tables: open a version, create, append, overwrite. The only file that names `deltalake`.
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

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use arrow::datatypes::{Schema, SchemaRef};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use deltalake::kernel::engine::arrow_conversion::{TryIntoArrow as _, TryIntoKernel as _};
use deltalake::kernel::transaction::{CommitData, PROTOCOL, TransactionError};
use deltalake::kernel::{
    Action, Add, Metadata, Protocol, Remove, StructType, Transaction, contains_timestampntz,
};
use deltalake::logstore::{CommitOrBytes, LogStoreRef};
use deltalake::protocol::{DeltaOperation, SaveMode, checkpoints};
use deltalake::{DeltaTable, DeltaTableBuilder};
use futures::TryStreamExt as _;
use object_store::path::Path;
use url::Url;
use uuid::Uuid;

use super::parquet::{WrittenFile, read_footer, row_groups_of};
use super::physical::StoredSchema;
use super::{Objects, StorageError};

const ARROW_SCHEMA_KEY: &str = "volary.arrow_schema";
const ROW_GROUPS_TAG: &str = "volary.row_groups";
const PLACE_TAG: &str = "volary.place";
const LOG_FOLDER: &str = "_delta_log";
/// Versions between checkpoints: opening a table replays at most so many log entries. Delta's own custom.
const CHECKPOINT_VERSIONS: i64 = 100;

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

#[derive(Debug)]
struct LogEntry {
    version: i64,
    path: Path,
    committed: SystemTime,
    tag: Option<String>,
}

/// The log's entries in order; none when version 0 is not among them.
async fn log_entries(objects: &Objects, folder: &Path) -> Result<Vec<LogEntry>, StorageError> {
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
fn version_of(path: &Path) -> Option<i64> {
    let digits = path.filename()?.strip_suffix(".json")?;
    (digits.len() == 20).then(|| digits.parse().ok())?
}

fn table_at(objects: &Objects, folder: &Path) -> Result<DeltaTable, StorageError> {
    Ok(DeltaTable::new(log_store(objects, folder)?))
}

fn log_store(objects: &Objects, folder: &Path) -> Result<LogStoreRef, StorageError> {
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

async fn describe(
    objects: &Objects,
    folder: &Path,
    table: DeltaTable,
    committed: SystemTime,
) -> Result<TableVersion, StorageError> {
    let failed = |error: deltalake::DeltaTableError| {
        StorageError::failed(format!("opening table {folder}"), error)
    };
    let snapshot = table.snapshot().map_err(failed)?.snapshot();
    let log = table.log_store();
    let views: Vec<_> = snapshot
        .file_views(&log, None)
        .try_collect()
        .await
        .map_err(failed)?;
    let mut files = Vec::with_capacity(views.len());
    for view in views {
        if view.deletion_vector_descriptor().is_some() {
            return Err(StorageError::Corrupt {
                what: format!("table {folder}"),
                reason: "another writer left deletion vectors, which are not supported; \
                         rewrite the table without them"
                    .into(),
            });
        }
        // The log is where tags are; the columns that would replace this call are not public.
        #[allow(deprecated)]
        let add = view.add_action();
        let path = below(folder, &add.path);
        let bytes = u64::try_from(add.size).unwrap_or(0);
        let tag = |name: &str| add.tags.as_ref()?.get(name)?.as_deref();
        // Files of earlier versions of this program have none; their names count up.
        let place: usize = tag(PLACE_TAG)
            .and_then(|place| place.parse().ok())
            .unwrap_or(0);
        let row_groups = match tag(ROW_GROUPS_TAG).and_then(row_groups_from) {
            Some(row_groups) => row_groups,
            // A file of another writer: its footer tells.
            None => row_groups_of(&*read_footer(objects, &path, bytes).await?),
        };
        let file = TableFile {
            path,
            bytes,
            row_groups,
        };
        files.push(((add.modification_time, place), file));
    }
    // The log is replayed newest first. A commit stamps its files with one time.
    files.sort_by(|(a, x), (b, y)| a.cmp(b).then_with(|| x.path.cmp(&y.path)));
    let schema = exact_schema(folder, snapshot.metadata(), snapshot.arrow_schema())?;
    Ok(TableVersion {
        folder: folder.clone(),
        version: i64::try_from(snapshot.version()).unwrap_or(i64::MAX),
        schema,
        files: files.into_iter().map(|(_, file)| file).collect(),
        committed,
        state: Arc::new(table),
    })
}

/// The Arrow schema as uploaded, or Delta's own where another writer has changed the table since.
fn exact_schema(
    folder: &Path,
    metadata: &Metadata,
    delta: SchemaRef,
) -> Result<SchemaRef, StorageError> {
    let Some(text) = metadata.configuration().get(ARROW_SCHEMA_KEY) else {
        return Ok(delta);
    };
    let corrupt = |reason: String| StorageError::Corrupt {
        what: format!("the Arrow schema of table {folder}"),
        reason,
    };
    let bytes = BASE64
        .decode(text)
        .map_err(|error| corrupt(error.to_string()))?;
    let reader = StreamReader::try_new(bytes.as_slice(), None)
        .map_err(|error| corrupt(error.to_string()))?;
    let exact = reader.schema();
    let stored = StoredSchema::of(&exact)?;
    let kernel: StructType = stored
        .stored
        .as_ref()
        .try_into_kernel()
        .map_err(|error| corrupt(error.to_string()))?;
    let expected: Schema = (&kernel)
        .try_into_arrow()
        .map_err(|error| corrupt(error.to_string()))?;
    let same = expected.fields().len() == delta.fields().len()
        && expected
            .fields()
            .iter()
            .zip(delta.fields())
            .all(|(a, b)| a.name() == b.name() && a.data_type().equals_datatype(b.data_type()));
    Ok(if same { exact } else { delta })
}

fn encode_schema(schema: &Schema) -> Result<String, StorageError> {
    let failed = |source| StorageError::failed("writing the table's schema", source);
    let mut writer = StreamWriter::try_new(Vec::new(), schema).map_err(failed)?;
    writer.finish().map_err(failed)?;
    Ok(BASE64.encode(writer.into_inner().map_err(failed)?))
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

fn row_groups_from(tag: &str) -> Option<Vec<u64>> {
    if tag.is_empty() {
        return Some(Vec::new());
    }
    tag.split(',').map(|rows| rows.parse().ok()).collect()
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

fn entry_path(folder: &Path, version: i64) -> Path {
    folder
        .clone()
        .join(LOG_FOLDER)
        .join(format!("{version:020}.json"))
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

/// Paths of the data files that a log entry adds.
fn files_named_in(entry: &[u8]) -> Vec<String> {
    entry
        .split(|byte| *byte == b'\n')
        .filter_map(|line| serde_json::from_slice::<serde_json::Value>(line).ok())
        .filter_map(|action| Some(action.get("add")?.get("path")?.as_str()?.to_string()))
        .collect()
}

fn below(folder: &Path, name: &str) -> Path {
    Path::from_iter(folder.parts().chain(Path::from(name).parts()))
}

fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| {
            i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
        })
}
