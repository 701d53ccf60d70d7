//! Datasets and their versions: a Delta table each.
//!
//! A finished upload is one version, a broken one is none. What a version holds never changes.
//! Knows names, modes and schemas; `storage` knows Delta and Parquet.

use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Field, Schema, SchemaRef};
use futures::StreamExt as _;
use serde::{Deserialize, Serialize};
use tokio_util::task::TaskTracker;

pub(super) use commit::{NotCommitted, Whole, commit_files, match_columns};
use kept::Kept;
use opened::Opened;

use super::name::{check_name, hint, shortened};
use super::{CatalogError, JobId};
use crate::storage::delta::{self, LoggedVersion};
use crate::storage::parquet::RowsWriter;
use crate::storage::physical::StoredSchema;
use crate::storage::{ObjectStore, Objects, Path, TableVersion};

/// `census` or `census@3`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatasetReference {
    pub name: String,
    pub version: Option<i64>,
}

impl DatasetReference {
    /// Reads `name` or `name@version`.
    pub fn parse(text: &str) -> Result<Self, CatalogError> {
        let (name, version) = match text.split_once('@') {
            None => (text, None),
            Some((name, digits)) => {
                let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
                let version = digits.parse().ok().filter(|_| plain);
                let version = version.ok_or_else(|| CatalogError::BadName {
                    kind: "dataset",
                    name: shortened(text),
                    reason: "what follows @ is no version number".into(),
                })?;
                (name, Some(version))
            }
        };
        check_name("dataset", name)?;
        Ok(Self {
            name: name.to_string(),
            version,
        })
    }
}

/// One column of a dataset's file as the type the dataset shows. For readers of the files besides [`Dataset::scan`].
pub fn restore_column(
    column: &arrow::array::ArrayRef,
    exact: &arrow::datatypes::DataType,
) -> Result<arrow::array::ArrayRef, CatalogError> {
    Ok(crate::storage::physical::restore_column(column, exact)?)
}

/// What happens to the rows that a dataset already has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WriteMode {
    /// Refuse when the dataset exists.
    Error,
    /// Keep them; the dataset is created when it does not exist.
    Append,
    /// Leave them to older versions; the dataset is created when it does not exist.
    Overwrite,
    /// Keep them; refuse when the dataset does not exist, be it that it was removed while the rows were written.
    AppendExisting,
    /// Leave them to older versions; refuse when the dataset does not exist, as above.
    OverwriteExisting,
}

impl WriteMode {
    fn needs_dataset(self) -> bool {
        matches!(self, Self::AppendExisting | Self::OverwriteExisting)
    }
}

/// One Parquet file of a dataset version.
#[derive(Debug, Clone)]
pub struct DataFile {
    /// Path below the store's root, as the object store takes it.
    pub path: Path,
    pub bytes: u64,
    pub rows: u64,
    /// Rows of each row group, in file order.
    pub row_groups: Vec<u64>,
}

/// One committed version of a dataset; files in commit order.
#[derive(Debug, Clone)]
pub struct Dataset {
    pub name: String,
    /// Another dataset that takes this one's name has another.
    pub id: String,
    pub version: i64,
    /// The Arrow schema as uploaded (kept beside the Delta schema, so that types Delta has no word for come back).
    pub schema: SchemaRef,
    pub files: Vec<DataFile>,
    pub rows: u64,
    pub bytes: u64,
    pub committed: std::time::SystemTime,
    pub(crate) store: Arc<dyn ObjectStore>,
    objects: Objects,
    kept: Arc<Kept>,
}

impl Dataset {
    /// The object store that holds the files.
    pub fn object_store(&self) -> Arc<dyn ObjectStore> {
        Arc::clone(&self.store)
    }

    /// The schema of the named columns in the order given (`None`: of all).
    pub fn project(&self, columns: Option<&[String]>) -> Result<SchemaRef, CatalogError> {
        let Some(columns) = columns else {
            return Ok(Arc::clone(&self.schema));
        };
        let fields = columns
            .iter()
            .map(|name| {
                let found = self
                    .schema
                    .fields()
                    .iter()
                    .find(|field| field.name() == name);
                found.cloned().ok_or_else(|| {
                    let names: Vec<String> = field_names(&self.schema);
                    CatalogError::SchemaMismatch {
                        name: self.name.clone(),
                        reason: format!(
                            "there is no column {:?}; {}",
                            shortened(name),
                            hint("column", name, &names)
                        ),
                    }
                })
            })
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Arc::new(Schema::new_with_metadata(
            fields,
            self.schema.metadata().clone(),
        )))
    }

    /// Cuts the dataset into at most `parts` runs of whole row groups, of about as many rows each (`None`: one for every
    /// file that has rows), in order. Each is a range of row groups counted over all files. Never none: a dataset without
    /// rows is one run of nothing.
    pub fn runs(&self, parts: Option<NonZeroUsize>) -> Vec<(Range<usize>, u64)> {
        let mut runs = Vec::new();
        let mut next = 0;
        let Some(parts) = parts else {
            for file in &self.files {
                let run = next..next + file.row_groups.len();
                next = run.end;
                if file.rows > 0 {
                    runs.push((run, file.rows));
                }
            }
            return if runs.is_empty() {
                vec![(0..next, 0)]
            } else {
                runs
            };
        };
        let parts = parts.get() as u128;
        // A row group belongs to the part in which its middle row lies.
        let (mut before, mut part) = (0_u128, None);
        for rows in self.files.iter().flat_map(|file| &file.row_groups) {
            let middle = before * 2 + u128::from(*rows);
            let of_part = middle * parts / (u128::from(self.rows.max(1)) * 2);
            before += u128::from(*rows);
            match runs.last_mut() {
                Some((run, total)) if part == Some(of_part) => {
                    let run: &mut Range<usize> = run;
                    run.end += 1;
                    *total += rows;
                }
                _ => runs.push((next..next + 1, *rows)),
            }
            part = Some(of_part);
            next += 1;
        }
        if runs.is_empty() {
            vec![(0..0, 0)]
        } else {
            runs
        }
    }
}

/// All datasets of the store.
#[derive(Debug)]
pub struct Datasets {
    objects: Objects,
    kept: Arc<Kept>,
    opened: Opened,
    tracker: TaskTracker,
}

/// Datasets opened at once when all are listed.
const OPENS_MAX: usize = 8;

impl Datasets {
    /// Rows that are read again and again are kept decoded, at most `kept_bytes_max` of them; 0: none are.
    pub(crate) fn new(objects: Objects, kept_bytes_max: u64) -> Self {
        Self {
            objects,
            kept: Arc::new(Kept::new(kept_bytes_max)),
            opened: Opened::default(),
            tracker: TaskTracker::new(),
        }
    }

    /// The newest version of every dataset, by name. One that cannot be opened is logged and left out: it must not hide
    /// the others.
    pub async fn list(&self) -> Result<Vec<Dataset>, CatalogError> {
        let names = self.objects.folders(&Path::from("datasets")).await?;
        let opened: Vec<Option<Dataset>> = futures::stream::iter(names)
            .map(|name| async move {
                check_name("dataset", &name).ok()?;
                self.open_newest(&name).await.unwrap_or_else(|error| {
                    tracing::warn!(dataset = name, %error, "a dataset cannot be opened and is not listed");
                    None
                })
            })
            .buffered(OPENS_MAX)
            .collect()
            .await;
        Ok(opened.into_iter().flatten().collect())
    }

    /// Opens the newest version, or the one named.
    pub async fn open(&self, reference: &DatasetReference) -> Result<Dataset, CatalogError> {
        let name = &reference.name;
        check_name("dataset", name)?;
        let folder = place(name);
        let logged = match reference.version {
            None => delta::newest(&self.objects, &folder).await?,
            Some(version) => delta::logged(&self.objects, &folder, version).await?,
        };
        if let Some(logged) = logged
            && let Some(dataset) = self.open_logged(name, logged).await?
        {
            return Ok(dataset);
        }
        match (
            reference.version,
            delta::newest(&self.objects, &folder).await?,
        ) {
            (Some(version), Some(newest)) => Err(CatalogError::UnknownDatasetVersion {
                name: name.clone(),
                version,
                newest: newest.version,
            }),
            _ => Err(self.unknown(name).await),
        }
    }

    /// Begins an upload: checks name, mode and schema before the first row is taken.
    ///
    /// Rows appended are matched to the dataset's columns by name, as pandas and polars do: another order is
    /// rearranged, a column more or less is refused. Types must be the same up to encoding (`Utf8` and `LargeUtf8`
    /// or a dictionary of strings hold the same values); field metadata and nullability stay the dataset's.
    pub async fn write(
        &self,
        name: &str,
        schema: SchemaRef,
        mode: WriteMode,
    ) -> Result<DatasetWriter, CatalogError> {
        check_name("dataset", name)?;
        self.begin(name, place(name), schema, mode).await
    }

    /// Begins writing the rows that `job` works on; they are no dataset and are not listed.
    pub async fn stage(
        &self,
        job: JobId,
        schema: SchemaRef,
    ) -> Result<DatasetWriter, CatalogError> {
        let name = staged_name(job);
        self.begin(&name, staged_place(job), schema, WriteMode::Error)
            .await
    }

    /// Opens the rows that were staged for `job`.
    pub async fn open_staged(&self, job: JobId) -> Result<Dataset, CatalogError> {
        let name = staged_name(job);
        let table = delta::open(&self.objects, &staged_place(job), None)
            .await
            .map_err(|error| CatalogError::about(&name, error))?;
        match table {
            Some(table) => Ok(self.dataset(&name, &table)),
            None => Err(CatalogError::UnknownDataset {
                name,
                hint: "no rows were staged for this job".into(),
            }),
        }
    }

    /// Removes the rows that were staged for `job`, if any.
    pub async fn remove_staged(&self, job: JobId) -> Result<(), CatalogError> {
        Ok(self.objects.remove_tree(&staged_place(job)).await?)
    }

    /// Removes a dataset with all its versions.
    pub async fn remove(&self, name: &str) -> Result<(), CatalogError> {
        check_name("dataset", name)?;
        let folder = place(name);
        if delta::newest(&self.objects, &folder).await?.is_none() {
            return Err(self.unknown(name).await);
        }
        self.opened.forget(name);
        Ok(delta::remove(&self.objects, &folder).await?)
    }

    /// Waits until the files of broken uploads are deleted.
    pub async fn settled(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }

    async fn begin(
        &self,
        name: &str,
        folder: Path,
        schema: SchemaRef,
        mode: WriteMode,
    ) -> Result<DatasetWriter, CatalogError> {
        if mode.needs_dataset() && delta::newest(&self.objects, &folder).await?.is_none() {
            return Err(self.unknown(name).await);
        }
        let (stored, order) = commit::fit(&self.objects, name, &folder, &schema, mode).await?;
        let stored = Arc::new(stored);
        let rows = RowsWriter::new(&self.objects, &folder, Arc::clone(&stored), &self.tracker);
        Ok(self.writer(name, folder, mode, schema, order, stored, rows))
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "it puts together what its two callers have decided"
    )]
    fn writer(
        &self,
        name: &str,
        folder: Path,
        mode: WriteMode,
        uploaded: SchemaRef,
        order: Option<Vec<usize>>,
        stored: Arc<StoredSchema>,
        rows: RowsWriter,
    ) -> DatasetWriter {
        DatasetWriter {
            rows,
            name: name.to_string(),
            folder,
            mode,
            uploaded,
            order,
            stored,
            taken: 0,
            objects: self.objects.clone(),
            kept: Arc::clone(&self.kept),
            tracker: self.tracker.clone(),
        }
    }

    async fn open_newest(&self, name: &str) -> Result<Option<Dataset>, CatalogError> {
        match delta::newest(&self.objects, &place(name)).await? {
            Some(newest) => self.open_logged(name, newest).await,
            None => Ok(None),
        }
    }

    /// A version that the log shows, as it was last opened where the entry is still the same one.
    async fn open_logged(
        &self,
        name: &str,
        logged: LoggedVersion,
    ) -> Result<Option<Dataset>, CatalogError> {
        if let Some(dataset) = self.opened.get(name, &logged) {
            return Ok(Some(dataset));
        }
        let table = delta::open(&self.objects, &place(name), Some(logged.version))
            .await
            .map_err(|error| CatalogError::about(name, error))?;
        let Some(table) = table else {
            return Ok(None);
        };
        let dataset = self.dataset(name, &table);
        self.opened.remember(logged, &dataset);
        Ok(Some(dataset))
    }

    fn dataset(&self, name: &str, table: &TableVersion) -> Dataset {
        dataset_of(name, table, &self.objects, &self.kept)
    }

    async fn unknown(&self, name: &str) -> CatalogError {
        let mut names = Vec::new();
        for other in self
            .objects
            .folders(&Path::from("datasets"))
            .await
            .unwrap_or_default()
        {
            if matches!(
                delta::newest(&self.objects, &place(&other)).await,
                Ok(Some(_))
            ) {
                names.push(other);
            }
        }
        CatalogError::UnknownDataset {
            name: name.to_string(),
            hint: hint("dataset", name, &names),
        }
    }
}

/// An upload under way. Dropped without `commit`, it leaves nothing.
#[derive(Debug)]
pub struct DatasetWriter {
    name: String,
    folder: Path,
    mode: WriteMode,
    /// The schema that every batch must have.
    uploaded: SchemaRef,
    /// Where each of the dataset's columns stands in a batch; `None`: at its own place.
    order: Option<Vec<usize>>,
    stored: Arc<StoredSchema>,
    rows: RowsWriter,
    taken: u64,
    objects: Objects,
    kept: Arc<Kept>,
    tracker: TaskTracker,
}

impl DatasetWriter {
    /// Adds rows; the batch must have the schema that the upload began with. Returns the rows taken so far.
    ///
    /// Waits while two row groups are being written. After an error nothing can be committed any more.
    pub async fn write(&mut self, batch: RecordBatch) -> Result<u64, CatalogError> {
        check_batch(&self.name, &self.uploaded, &batch.schema())?;
        let batch = match &self.order {
            None => batch,
            Some(order) => batch
                .project(order)
                .map_err(|error| CatalogError::SchemaMismatch {
                    name: self.name.clone(),
                    reason: error.to_string(),
                })?,
        };
        self.rows
            .write(&batch)
            .await
            .map_err(|error| CatalogError::about(&self.name, error))?;
        self.taken += batch.num_rows() as u64;
        Ok(self.taken)
    }

    /// Closes the row group under way, if it has rows: the next rows begin another. Otherwise a row group closes when it
    /// is full.
    pub async fn end_row_group(&mut self) -> Result<(), CatalogError> {
        let ended = self.rows.end_row_group().await;
        ended.map_err(|error| CatalogError::about(&self.name, error))
    }

    /// Rows taken so far.
    pub fn rows(&self) -> u64 {
        self.taken
    }

    /// Makes all rows visible at once as one version.
    ///
    /// Runs to its end even when the caller goes away in the middle.
    pub async fn commit(self) -> Result<Dataset, CatalogError> {
        let tracker = self.tracker.clone();
        tracker
            .spawn(self.commit_to_the_end())
            .await
            .map_err(|source| CatalogError::Store {
                doing: "committing rows".into(),
                source: Box::new(source),
            })?
    }

    /// Deletes what was written.
    pub async fn abort(self) {
        self.rows.abort().await;
    }

    async fn commit_to_the_end(self) -> Result<Dataset, CatalogError> {
        let Self {
            name,
            folder,
            mode,
            stored,
            rows,
            objects,
            kept,
            ..
        } = self;
        let files = rows
            .finish()
            .await
            .map_err(|error| CatalogError::about(&name, error))?;
        let committed = commit_files(&objects, &name, &folder, mode, &stored, &files, None).await;
        let version = match committed {
            Ok(version) => version,
            Err(NotCommitted { error, may_stand }) => {
                // Files of a version that may stand are kept; files that no version names are invisible, so that
                // removing the others is tidiness and may fail.
                if !may_stand {
                    for file in &files {
                        let _ = objects.remove(&file.path).await;
                    }
                }
                return Err(error);
            }
        };
        let table = commit::just_committed(&objects, &name, &folder, version).await?;
        Ok(dataset_of(&name, &table, &objects, &kept))
    }
}

fn dataset_of(name: &str, table: &TableVersion, objects: &Objects, kept: &Arc<Kept>) -> Dataset {
    let files: Vec<DataFile> = table
        .files
        .iter()
        .map(|file| DataFile {
            path: file.path.clone(),
            bytes: file.bytes,
            rows: file.row_groups.iter().sum(),
            row_groups: file.row_groups.clone(),
        })
        .collect();
    Dataset {
        name: name.to_string(),
        id: table.id.clone(),
        version: table.version,
        schema: Arc::clone(&table.schema),
        rows: files.iter().map(|file| file.rows).sum(),
        bytes: files.iter().map(|file| file.bytes).sum(),
        files,
        committed: table.committed,
        store: objects.store(),
        objects: objects.clone(),
        kept: Arc::clone(kept),
    }
}

fn place(name: &str) -> Path {
    Path::from_iter(["datasets", name])
}

fn staged_place(job: JobId) -> Path {
    Path::from_iter(["jobs", job.to_string().as_str(), "rows"])
}

fn staged_name(job: JobId) -> String {
    format!("rows of job {job}")
}

fn field_names(schema: &Schema) -> Vec<String> {
    schema
        .fields()
        .iter()
        .map(|field| field.name().clone())
        .collect()
}

/// Refuses a batch of another shape than the upload began with; nullability is looked at row by row.
fn check_batch(name: &str, expected: &Schema, found: &Schema) -> Result<(), CatalogError> {
    let mismatch = |reason: String| {
        Err(CatalogError::SchemaMismatch {
            name: name.to_string(),
            reason,
        })
    };
    if expected.fields().len() != found.fields().len() {
        return mismatch(format!(
            "a batch has {} columns and the upload began with {}",
            found.fields().len(),
            expected.fields().len()
        ));
    }
    let differs = |(a, b): &(&Arc<Field>, &Arc<Field>)| {
        a.name() != b.name() || !a.data_type().equals_datatype(b.data_type())
    };
    match expected.fields().iter().zip(found.fields()).find(differs) {
        None => Ok(()),
        Some((a, b)) => mismatch(format!(
            "a batch has column {:?} of type {} where the upload began with {:?} of type {}",
            b.name(),
            b.data_type(),
            a.name(),
            a.data_type()
        )),
    }
}

mod commit;
mod dictionaries;
mod kept;
mod opened;
mod scan;
#[cfg(test)]
mod tests;
