//! Our catalogue seen as tables: names resolved when a statement names them, rows through DataFusion's own Parquet
//! source over the file list of one dataset version.
//!
//! Types outside the wire's common ground (views, dictionaries) are expanded here, at the scan, so that every plan
//! above sees plain columns. The Parquet source casts what the file stores to these types as it reads.

use std::collections::BTreeMap;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{SchemaProvider, Session, TableProvider};
use datafusion::common::stats::Precision;
use datafusion::common::{Statistics, project_schema};
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::{ListingTableUrl, PartitionedFile};
use datafusion::datasource::object_store::ObjectStoreUrl;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use futures::FutureExt;

use super::FeatureError;
use super::error::plain_text;
use super::stored_types::StoredTypes;
use crate::catalog::{Catalog, CatalogError, Dataset, DatasetReference};

/// Parquet files read as one table, in their order.
#[derive(Debug)]
pub(super) struct ParquetTable {
    schema: SchemaRef,
    store: ObjectStoreUrl,
    files: Vec<PartitionedFile>,
    read: ReadFiles,
    rows: u64,
    /// One partition, files and row groups in order.
    in_order: bool,
}

impl ParquetTable {
    /// One dataset version; its store is made known to `runtime`.
    pub(super) fn of_dataset(
        dataset: &Dataset,
        runtime: &RuntimeEnv,
        in_order: bool,
    ) -> DataFusionResult<Self> {
        let store = ObjectStoreUrl::parse("volary://store")?;
        runtime.register_object_store(store.as_ref(), dataset.object_store());
        let files = dataset
            .files
            .iter()
            .map(|file| {
                // The path is set after construction: the constructor would encode it a second time.
                let mut partitioned = PartitionedFile::new(String::new(), file.bytes);
                partitioned.object_meta.location = file.path.clone();
                partitioned
            })
            .collect();
        Ok(Self {
            schema: plain_schema(&dataset.schema),
            store,
            files,
            read: ReadFiles {
                by_path: false,
                files: dataset
                    .files
                    .iter()
                    .map(|file| (file.path.to_string(), file.rows))
                    .collect(),
            },
            rows: dataset.rows,
            in_order,
        })
    }

    /// A Parquet file, or the Parquet files of a directory sorted by name. `path` was checked by [`allowed_path`].
    pub(super) async fn of_path(path: &Path, state: &dyn Session) -> Result<Self, FeatureError> {
        let refuse = |reason: String| FeatureError::BadPath {
            path: path.display().to_string(),
            reason,
        };
        let mut paths = vec![path.to_owned()];
        if path.is_dir() {
            paths = std::fs::read_dir(path)
                .and_then(|entries| {
                    entries
                        .map(|entry| entry.map(|entry| entry.path()))
                        .collect::<Result<Vec<_>, _>>()
                })
                .map_err(|error| refuse(error.to_string()))?;
            paths.retain(|file| {
                file.extension().is_some_and(|end| end == "parquet")
                    && std::fs::symlink_metadata(file).is_ok_and(|found| found.is_file())
            });
            paths.sort();
        }
        if paths.is_empty() {
            return Err(refuse(
                "the directory has no files ending in .parquet".into(),
            ));
        }
        let format = ParquetFormat::default().with_force_view_types(false);
        let store_url = ObjectStoreUrl::local_filesystem();
        let store = state
            .runtime_env()
            .object_store(&store_url)
            .map_err(super::error::from_datafusion)?;
        let mut files = Vec::with_capacity(paths.len());
        let mut named = Vec::with_capacity(paths.len());
        let mut schema: Option<SchemaRef> = None;
        let mut rows = 0;
        for file in paths {
            let describe = |problem: String| {
                refuse(format!(
                    "{:?}: {problem}",
                    file.file_name().unwrap_or_default()
                ))
            };
            check_footer(&file).map_err(&describe)?;
            let text = file
                .to_str()
                .ok_or_else(|| describe("the name is not UTF-8".into()))?;
            let found = std::fs::metadata(&file).map_err(|error| describe(error.to_string()))?;
            let url = ListingTableUrl::parse(escape_glob(text))
                .map_err(|error| describe(plain_text(&error)))?;
            let mut partitioned = PartitionedFile::new(String::new(), found.len());
            partitioned.object_meta.location = url.prefix().clone();
            if let Ok(modified) = found.modified() {
                partitioned.object_meta.last_modified = modified.into();
            }
            let object = partitioned.object_meta.clone();
            let inferred = format.infer_schema(state, &store, std::slice::from_ref(&object));
            let physical = unless_it_panics(inferred).await.map_err(describe)?;
            let plain = plain_schema(&physical);
            match &schema {
                None => schema = Some(plain),
                Some(first) if first.fields() == plain.fields() => {}
                Some(_) => {
                    return Err(describe(
                        "its columns are not those of the first file; keep one schema in a directory"
                            .into(),
                    ));
                }
            }
            let inferred = format.infer_stats(state, &store, Arc::clone(&physical), &object);
            let statistics = unless_it_panics(inferred).await.map_err(describe)?;
            let count = statistics.num_rows.get_value().copied().unwrap_or(0) as u64;
            rows += count;
            named.push((text.to_owned(), count));
            files.push(partitioned);
        }
        Ok(Self {
            schema: schema.unwrap_or_else(|| Arc::new(Schema::empty())),
            store: store_url,
            files,
            read: ReadFiles {
                by_path: true,
                files: named,
            },
            rows,
            in_order: true,
        })
    }

    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    /// The files that a scan of the whole table reads, one after the other.
    pub(super) fn read_files(&self) -> ReadFiles {
        self.read.clone()
    }
}

/// Files in the order they are read in, with their rows: which one a scan is in follows from the rows it has given.
#[derive(Debug, Clone)]
pub(super) struct ReadFiles {
    /// Named by the caller, or files of the store.
    by_path: bool,
    files: Vec<(String, u64)>,
}

impl ReadFiles {
    /// `error`, met after so many rows were read, with the name of the file.
    pub(super) fn name_file(&self, error: FeatureError, rows: u64) -> FeatureError {
        let mut end = 0;
        let file = self.files.iter().find(|(_, count)| {
            end += count;
            rows < end
        });
        let Some((path, _)) = file.or(self.files.last()) else {
            return error;
        };
        let path = path.clone();
        let reason = match error {
            FeatureError::Execution { reason } | FeatureError::Internal { reason } => reason,
            FeatureError::Catalog(CatalogError::Store { source, .. }) => source.to_string(),
            other => return other,
        };
        if self.by_path {
            FeatureError::BadPath { path, reason }
        } else {
            FeatureError::Catalog(CatalogError::Corrupt { what: path, reason })
        }
    }
}

/// The last bytes of a Parquet file: the length of its metadata and the format's mark.
const TAIL_BYTES: u64 = 8;

/// Refuses a file whose end is not that of a Parquet file, or claims more metadata than the file can hold: the reader
/// below trusts the claim and panics.
fn check_footer(file: &Path) -> Result<(), String> {
    let read = || -> std::io::Result<(u64, [u8; TAIL_BYTES as usize])> {
        let mut opened = std::fs::File::open(file)?;
        let size = opened.metadata()?.len();
        let mut tail = [0; TAIL_BYTES as usize];
        if size >= TAIL_BYTES {
            opened.seek(SeekFrom::End(-(TAIL_BYTES as i64)))?;
            opened.read_exact(&mut tail)?;
        }
        Ok((size, tail))
    };
    let (size, [a, b, c, d, mark @ ..]) = read().map_err(|error| error.to_string())?;
    if mark == *b"PARE" {
        return Err("it is encrypted, which is not read".into());
    }
    if mark != *b"PAR1" {
        return Err(
            "it does not end as a Parquet file does; it is another kind of file, or was cut".into(),
        );
    }
    let length = u64::from(u32::from_le_bytes([a, b, c, d]));
    // The mark stands at the beginning too.
    if length + TAIL_BYTES + 4 > size {
        return Err(format!(
            "its metadata claims {length} bytes and the file has {size}; it is damaged"
        ));
    }
    Ok(())
}

/// Damaged metadata can be such that DataFusion's reader panics: that is the file's fault and ends one request alone.
async fn unless_it_panics<T>(
    reading: impl Future<Output = DataFusionResult<T>>,
) -> Result<T, String> {
    match AssertUnwindSafe(reading).catch_unwind().await {
        Ok(read) => read.map_err(|error| plain_text(&error)),
        Err(_) => Err("its metadata cannot be read; it is damaged".into()),
    }
}

/// A table URL with `*`, `?` and `[` taken literally.
fn escape_glob(path: &str) -> String {
    match url::Url::from_file_path(path) {
        Ok(url) => url.to_string(),
        Err(()) => path.to_owned(),
    }
}

#[async_trait]
impl TableProvider for ParquetTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        if self.files.is_empty() {
            // Of no files, a scan would make no partition, which no operator above it expects.
            let schema = project_schema(&self.schema, projection)?;
            return Ok(Arc::new(EmptyExec::new(schema)));
        }
        let options = state.config_options().execution.parquet.clone();
        let source = ParquetSource::new(Arc::clone(&self.schema)).with_table_parquet_options(
            datafusion::common::config::TableParquetOptions {
                global: options,
                ..Default::default()
            },
        );
        let files = FileGroup::new(self.files.clone());
        let groups = if self.in_order {
            vec![files]
        } else {
            // Sorts them by their paths.
            files.split_files(state.config().target_partitions().max(1))
        };
        let statistics = Statistics {
            num_rows: Precision::Exact(self.rows as usize),
            ..Statistics::new_unknown(&self.schema)
        };
        let config = FileScanConfigBuilder::new(self.store.clone(), Arc::new(source))
            .with_file_groups(groups)
            .with_statistics(statistics)
            .with_projection_indices(projection.cloned())?
            // A filter above the scan decides which rows count towards the limit.
            .with_limit(if filters.is_empty() { limit } else { None })
            .with_preserve_order(self.in_order)
            .with_expr_adapter(Some(Arc::new(StoredTypes)))
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> DataFusionResult<Vec<TableProviderFilterPushDown>> {
        // Row groups and pages are pruned by their statistics; the filter above the scan has the last word.
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }
}

/// Datasets as the tables of one schema, opened when a statement names them.
#[derive(Debug)]
pub(super) struct DatasetSchema {
    catalog: Catalog,
    runtime: Arc<RuntimeEnv>,
    in_order: bool,
    /// Every dataset, when the statement asked for the list.
    listed: BTreeMap<String, Dataset>,
    /// The table that the statement creates, which need not be there.
    created: Option<String>,
}

impl DatasetSchema {
    pub(super) async fn new(
        catalog: Catalog,
        runtime: Arc<RuntimeEnv>,
        in_order: bool,
        list: bool,
        created: Option<&str>,
    ) -> Result<Self, FeatureError> {
        let mut listed = BTreeMap::new();
        if list {
            for dataset in catalog.datasets.list().await? {
                listed.insert(dataset.name.clone(), dataset);
            }
        }
        Ok(Self {
            catalog,
            runtime,
            in_order,
            listed,
            created: created.map(str::to_owned),
        })
    }
}

#[async_trait]
impl SchemaProvider for DatasetSchema {
    fn table_names(&self) -> Vec<String> {
        self.listed.keys().cloned().collect()
    }

    async fn table(&self, name: &str) -> DataFusionResult<Option<Arc<dyn TableProvider>>> {
        let opened;
        let dataset = match self.listed.get(name) {
            Some(dataset) => dataset,
            None => {
                let external = |error| DataFusionError::External(Box::new(error));
                let reference = DatasetReference::parse(name).map_err(external)?;
                opened = match self.catalog.datasets.open(&reference).await {
                    Ok(dataset) => dataset,
                    Err(CatalogError::UnknownDataset { .. })
                        if self.created.as_deref() == Some(name) =>
                    {
                        return Ok(None);
                    }
                    Err(error) => return Err(external(error)),
                };
                &opened
            }
        };
        let table = ParquetTable::of_dataset(dataset, &self.runtime, self.in_order)?;
        Ok(Some(Arc::new(table)))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.listed.contains_key(name)
    }
}

/// `path` resolved, if it lies under one of `allowed`.
///
/// Symbolic links are followed before the comparison, and `..` is refused outright, so that what is compared is what is opened.
pub(super) fn allowed_path(path: &str, allowed: &[PathBuf]) -> Result<PathBuf, FeatureError> {
    let refuse = |reason: &str| FeatureError::BadPath {
        path: path.chars().take(1_000).collect(),
        reason: reason.to_owned(),
    };
    let plain = path.strip_prefix("file://").unwrap_or(path);
    if plain.contains("://") {
        return Err(refuse(
            "only paths of the server's own disk are read; upload the rows as a dataset",
        ));
    }
    let given = Path::new(plain);
    if given
        .components()
        .any(|part| part == std::path::Component::ParentDir)
    {
        return Err(refuse("it contains \"..\"; give the path without it"));
    }
    if !given.is_absolute() {
        return Err(refuse("it is not absolute; begin it with /"));
    }
    const OUTSIDE: &str = "it is not under a directory that this server reads from; start the server with `allow-read`, or upload the rows as a dataset";
    // A path outside is refused before the disk is asked, so that the answer does not tell what exists.
    let roots: Vec<PathBuf> = allowed
        .iter()
        .filter_map(|root| root.canonicalize().ok())
        .collect();
    let within = |candidate: &Path| {
        roots
            .iter()
            .chain(allowed)
            .any(|root| candidate.starts_with(root))
    };
    if !within(given) {
        return Err(refuse(OUTSIDE));
    }
    let real = given
        .canonicalize()
        .map_err(|error| refuse(&error.to_string()))?;
    if roots.iter().any(|root| real.starts_with(root)) {
        Ok(real)
    } else {
        Err(refuse(OUTSIDE))
    }
}

/// The schema without views, dictionaries and run-ends: what every Arrow client reads.
pub(super) fn plain_schema(schema: &Schema) -> SchemaRef {
    let fields: Fields = schema.fields().iter().map(plain_field).collect();
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

fn plain_field(field: &FieldRef) -> FieldRef {
    let plain = plain_type(field.data_type());
    if plain == *field.data_type() {
        Arc::clone(field)
    } else {
        Arc::new(
            Field::new(field.name(), plain, field.is_nullable())
                .with_metadata(field.metadata().clone()),
        )
    }
}

fn plain_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        DataType::Dictionary(_, values) => plain_type(values),
        DataType::RunEndEncoded(_, values) => plain_type(values.data_type()),
        DataType::List(item) | DataType::ListView(item) => DataType::List(plain_field(item)),
        DataType::LargeList(item) | DataType::LargeListView(item) => {
            DataType::LargeList(plain_field(item))
        }
        DataType::FixedSizeList(item, size) => DataType::FixedSizeList(plain_field(item), *size),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(plain_field).collect()),
        DataType::Map(entries, sorted) => DataType::Map(plain_field(entries), *sorted),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_read_only_under_an_allowed_directory() {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path().canonicalize().unwrap();
        let open = root.join("open");
        std::fs::create_dir(&open).unwrap();
        std::fs::write(open.join("a.parquet"), b"").unwrap();
        std::fs::write(root.join("secret.parquet"), b"").unwrap();
        std::os::unix::fs::symlink(root.join("secret.parquet"), open.join("link.parquet")).unwrap();
        let allowed = [open.clone()];
        let text = |path: PathBuf| path.to_str().unwrap().to_owned();

        assert_eq!(
            allowed_path(&text(open.join("a.parquet")), &allowed).unwrap(),
            open.join("a.parquet")
        );
        for refused in [
            text(root.join("secret.parquet")),
            text(open.join("link.parquet")),
            text(open.join("../secret.parquet")),
            text(open.join("absent.parquet")),
            "open/a.parquet".to_owned(),
            "s3://bucket/a.parquet".to_owned(),
            "/etc/passwd".to_owned(),
            "\0".to_owned(),
        ] {
            let error = allowed_path(&refused, &allowed).unwrap_err();
            assert!(matches!(error, FeatureError::BadPath { .. }), "{refused}");
        }
        assert!(allowed_path(&text(open.join("a.parquet")), &[]).is_err());
    }

    #[test]
    fn views_and_dictionaries_are_expanded_at_any_depth() {
        let dictionary =
            DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8View));
        let nested = DataType::List(Arc::new(Field::new("item", dictionary, false)));
        let schema = Schema::new(vec![Field::new("a", nested, true)]);
        assert_eq!(
            plain_schema(&schema).field(0).data_type(),
            &DataType::List(Arc::new(Field::new("item", DataType::Utf8, false)))
        );
    }
}
