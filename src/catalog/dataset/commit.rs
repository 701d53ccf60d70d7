//! Files that are written become a version of a dataset, or the reason why they cannot.
//!
//! Shared by uploads of one stream and by uploads in parts. Knows modes and schemas; whose the files are, its callers know.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use uuid::Uuid;

use super::{Dataset, DatasetWriter, Datasets, WriteMode, dataset_of, place};
use crate::catalog::CatalogError;
use crate::storage::delta;
use crate::storage::parquet::{RowsWriter, WrittenFile};
use crate::storage::physical::{StoredSchema, same_values};
use crate::storage::{Objects, Path, StorageError, TableChange, TableVersion};

/// Versions that others may commit between our decision and our commit before we give up.
const COMMIT_TRIES_MAX: usize = 1_000;

/// Why files did not become a version.
#[derive(Debug)]
pub(in crate::catalog) struct NotCommitted {
    pub(in crate::catalog) error: CatalogError,
    /// The store may have failed after it took the log entry: the files must stay.
    pub(in crate::catalog) may_stand: bool,
}

/// Makes files one version of the dataset in `folder`. An `upload` that is in already is found and not added again.
pub(in crate::catalog) async fn commit_files(
    objects: &Objects,
    name: &str,
    folder: &Path,
    mode: WriteMode,
    stored: &StoredSchema,
    files: &[WrittenFile],
    upload: Option<Uuid>,
) -> Result<i64, NotCommitted> {
    let refused = |error| NotCommitted {
        error,
        may_stand: false,
    };
    let about = |error| CatalogError::about(name, error);
    for _ in 0..COMMIT_TRIES_MAX {
        let base = delta::open(objects, folder, None)
            .await
            .map_err(|error| refused(about(error)))?;
        if let (Some(base), Some(upload)) = (&base, upload)
            && let Some(version) = delta::version_with(base, upload)
                .await
                .map_err(|error| refused(about(error)))?
        {
            return Ok(version);
        }
        let change = change_for(name, mode, base.as_ref(), stored).map_err(refused)?;
        match delta::commit(
            objects,
            folder,
            base.as_ref(),
            change,
            stored,
            files,
            upload,
        )
        .await
        {
            Ok(version) => return Ok(version),
            Err(StorageError::VersionTaken { .. }) => {}
            Err(error) => {
                return Err(NotCommitted {
                    may_stand: matches!(error, StorageError::Failed { .. }),
                    error: about(error),
                });
            }
        }
    }
    Err(refused(CatalogError::Store {
        doing: format!("committing to {name:?}"),
        source: format!("others committed {COMMIT_TRIES_MAX} versions meanwhile").into(),
    }))
}

/// The schema of the files that rows of `schema` are written to, and where each of its columns stands in the rows
/// (`None`: at its own place).
pub(super) async fn fit(
    objects: &Objects,
    name: &str,
    folder: &Path,
    schema: &SchemaRef,
    mode: WriteMode,
) -> Result<(StoredSchema, Option<Vec<usize>>), CatalogError> {
    let about = |error| CatalogError::about(name, error);
    let uploaded = StoredSchema::of(schema).map_err(about)?;
    match mode {
        WriteMode::Overwrite | WriteMode::OverwriteExisting => Ok((uploaded, None)),
        WriteMode::Error => {
            refuse_existing(objects, name, folder).await?;
            Ok((uploaded, None))
        }
        WriteMode::Append | WriteMode::AppendExisting => {
            let Some(table) = delta::open(objects, folder, None).await.map_err(about)? else {
                return Ok((uploaded, None));
            };
            let order = match_columns(name, Whole::Dataset, &table.schema, schema)?;
            let stored = StoredSchema::of(&table.schema).map_err(about)?;
            Ok((stored, Some(order)))
        }
    }
}

async fn refuse_existing(objects: &Objects, name: &str, folder: &Path) -> Result<(), CatalogError> {
    match delta::newest(objects, folder).await? {
        None => Ok(()),
        Some(_) => Err(CatalogError::DatasetExists {
            name: name.to_string(),
        }),
    }
}

/// What uploads in parts ask of datasets.
impl Datasets {
    /// The schema that parts with rows of `schema` are written with.
    pub(in crate::catalog) async fn schema_for(
        &self,
        name: &str,
        schema: &SchemaRef,
        mode: WriteMode,
    ) -> Result<SchemaRef, CatalogError> {
        let (stored, _) = fit(&self.objects, name, &place(name), schema, mode).await?;
        Ok(stored.exact)
    }

    /// Refuses what a commit would refuse now: a dataset that exists, columns that do not fit.
    pub(in crate::catalog) async fn check_commit(
        &self,
        name: &str,
        mode: WriteMode,
        schema: Option<&SchemaRef>,
    ) -> Result<(), CatalogError> {
        match (mode, schema) {
            (WriteMode::Error, _) => refuse_existing(&self.objects, name, &place(name)).await,
            (WriteMode::Append | WriteMode::AppendExisting, Some(schema)) => {
                self.schema_for(name, schema, mode).await.map(drop)
            }
            _ => Ok(()),
        }
    }

    /// Begins writing files that nothing names yet, of rows that are rearranged by `order`; see [`DatasetWriter::finish`].
    pub(in crate::catalog) fn write_files(
        &self,
        name: &str,
        stem: &str,
        uploaded: SchemaRef,
        order: Vec<usize>,
        stored: StoredSchema,
    ) -> DatasetWriter {
        let (folder, stored) = (place(name), Arc::new(stored));
        let (objects, tracker) = (&self.objects, &self.tracker);
        let rows = RowsWriter::named(objects, &folder, stem, Arc::clone(&stored), tracker);
        // Looked at by a commit alone, and these files are committed by others.
        let mode = WriteMode::Append;
        self.writer(name, folder, mode, uploaded, Some(order), stored, rows)
    }

    /// Where the files of a dataset lie.
    pub(in crate::catalog) fn folder(name: &str) -> Path {
        place(name)
    }

    /// The version that an upload is in, if it is.
    pub(in crate::catalog) async fn version_with(
        &self,
        name: &str,
        upload: Uuid,
    ) -> Result<Option<i64>, CatalogError> {
        let table = delta::open(&self.objects, &place(name), None)
            .await
            .map_err(|error| CatalogError::about(name, error))?;
        match table {
            None => Ok(None),
            Some(table) => Ok(delta::version_with(&table, upload).await?),
        }
    }

    /// A version that was just committed.
    pub(in crate::catalog) async fn committed(
        &self,
        name: &str,
        version: i64,
    ) -> Result<Dataset, CatalogError> {
        just_committed(&self.objects, name, &place(name), version)
            .await
            .map(|table| dataset_of(name, &table, &self.objects, &self.kept))
    }

    pub(in crate::catalog) fn tracker(&self) -> &tokio_util::task::TaskTracker {
        &self.tracker
    }
}

impl DatasetWriter {
    /// Writes the rest and names the files, which are durable and in no version.
    pub(in crate::catalog) async fn finish(self) -> Result<Vec<WrittenFile>, CatalogError> {
        let Self { name, rows, .. } = self;
        rows.finish()
            .await
            .map_err(|error| CatalogError::about(&name, error))
    }
}

/// Opens a version that was there a moment ago.
pub(super) async fn just_committed(
    objects: &Objects,
    name: &str,
    folder: &Path,
    version: i64,
) -> Result<TableVersion, CatalogError> {
    delta::open(objects, folder, Some(version))
        .await
        .map_err(|error| CatalogError::about(name, error))?
        .ok_or_else(|| CatalogError::UnknownDataset {
            name: name.to_string(),
            hint: "it was removed right after these rows were committed".into(),
        })
}

/// What the commit does, decided on the version that it will stand on.
fn change_for(
    name: &str,
    mode: WriteMode,
    base: Option<&TableVersion>,
    stored: &StoredSchema,
) -> Result<TableChange, CatalogError> {
    match (mode, base) {
        (mode, None) if mode.needs_dataset() => Err(CatalogError::UnknownDataset {
            name: name.to_string(),
            hint: "it was removed while rows were written to it, and they are in no version".into(),
        }),
        (_, None) => Ok(TableChange::Create),
        (WriteMode::Error, Some(_)) => Err(CatalogError::DatasetExists {
            name: name.to_string(),
        }),
        (WriteMode::Overwrite | WriteMode::OverwriteExisting, Some(_)) => {
            Ok(TableChange::Overwrite)
        }
        (WriteMode::Append | WriteMode::AppendExisting, Some(base)) => {
            // The columns were matched when the upload began; an overwrite may have come in between.
            match_columns(name, Whole::Dataset, &base.schema, &stored.exact)?;
            Ok(TableChange::Append)
        }
    }
}

/// What rows are added to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::catalog) enum Whole {
    Dataset,
    Upload,
}

/// Finds each of the columns there are among the uploaded ones, or says why the rows do not fit.
pub(in crate::catalog) fn match_columns(
    name: &str,
    whole: Whole,
    dataset: &SchemaRef,
    uploaded: &SchemaRef,
) -> Result<Vec<usize>, CatalogError> {
    let mismatch = |reason: String| CatalogError::SchemaMismatch {
        name: name.to_string(),
        reason,
    };
    let (called, way_out) = match whole {
        Whole::Dataset => ("dataset", "drop it, or upload with mode overwrite"),
        Whole::Upload => (
            "upload",
            "drop it, or begin the upload with the schema of all its parts",
        ),
    };
    let mut order = Vec::with_capacity(dataset.fields().len());
    for field in dataset.fields() {
        let (place, found) = uploaded
            .fields()
            .find(field.name())
            .ok_or_else(|| mismatch(format!("column {:?} is missing", field.name())))?;
        if !same_values(field.data_type(), found.data_type()) {
            return Err(mismatch(format!(
                "column {:?} is {} in the {called} and {} in these rows",
                field.name(),
                field.data_type(),
                found.data_type()
            )));
        }
        order.push(place);
    }
    if let Some(extra) = uploaded
        .fields()
        .iter()
        .find(|field| dataset.fields().find(field.name()).is_none())
    {
        return Err(mismatch(format!(
            "the {called} has no column {:?}; {way_out}",
            extra.name()
        )));
    }
    Ok(order)
}
