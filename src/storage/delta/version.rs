//! What an opened version is made of: its files in order, and the Arrow schema as it was uploaded.

use std::sync::Arc;
use std::time::SystemTime;

use arrow::datatypes::{Schema, SchemaRef};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use deltalake::DeltaTable;
use deltalake::kernel::engine::arrow_conversion::{TryIntoArrow as _, TryIntoKernel as _};
use deltalake::kernel::{Metadata, StructType};
use futures::TryStreamExt as _;
use object_store::path::Path;

use super::{ARROW_SCHEMA_KEY, PLACE_TAG, ROW_GROUPS_TAG, TableFile, TableVersion, below};
use crate::storage::parquet::{read_footer, row_groups_of};
use crate::storage::physical::StoredSchema;
use crate::storage::{Objects, StorageError};

pub(super) async fn describe(
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
        id: snapshot.metadata().id().to_owned(),
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

pub(super) fn encode_schema(schema: &Schema) -> Result<String, StorageError> {
    let failed = |source| StorageError::failed("writing the table's schema", source);
    let mut writer = StreamWriter::try_new(Vec::new(), schema).map_err(failed)?;
    writer.finish().map_err(failed)?;
    Ok(BASE64.encode(writer.into_inner().map_err(failed)?))
}

fn row_groups_from(tag: &str) -> Option<Vec<u64>> {
    if tag.is_empty() {
        return Some(Vec::new());
    }
    tag.split(',').map(|rows| rows.parse().ok()).collect()
}
