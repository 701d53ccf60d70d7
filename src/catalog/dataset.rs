//! Datasets and their versions: a Delta table each.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use futures::stream::BoxStream;

use super::CatalogError;

/// `census` or `census@3`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatasetReference {
    pub name: String,
    pub version: Option<i64>,
}

impl DatasetReference {
    /// Reads `name` or `name@version`.
    pub fn parse(text: &str) -> Result<Self, CatalogError> {
        let _ = text;
        todo!("data")
    }
}

/// What happens to the rows that a dataset already has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteMode {
    /// Refuse when the dataset exists.
    Error,
    Append,
    Overwrite,
}

/// One Parquet file of a dataset version.
#[derive(Debug, Clone)]
pub struct DataFile {
    /// Path below the store's root, as the object store takes it.
    pub path: object_store::path::Path,
    pub bytes: u64,
    pub rows: u64,
    /// Rows of each row group, in file order.
    pub row_groups: Vec<u64>,
}

/// One committed version of a dataset; files in commit order.
#[derive(Debug, Clone)]
pub struct Dataset {
    pub name: String,
    pub version: i64,
    /// The Arrow schema as uploaded (kept beside the Delta schema, so that types Delta has no word for come back).
    pub schema: SchemaRef,
    pub files: Vec<DataFile>,
    pub rows: u64,
    pub bytes: u64,
    pub committed: std::time::SystemTime,
    pub(crate) store: Arc<dyn object_store::ObjectStore>,
}

impl Dataset {
    /// The object store that holds the files.
    pub fn object_store(&self) -> Arc<dyn object_store::ObjectStore> {
        Arc::clone(&self.store)
    }

    /// Reads one row group (all columns, or the named ones in the order given) as record batches of the dataset's schema.
    pub async fn read_row_group(
        &self,
        file: usize,
        row_group: usize,
        columns: Option<&[String]>,
    ) -> Result<Vec<RecordBatch>, CatalogError> {
        let _ = (file, row_group, columns);
        todo!("data")
    }

    /// Streams every row in file and row-group order; memory is bounded by one row group.
    pub fn scan(
        &self,
        columns: Option<&[String]>,
    ) -> BoxStream<'static, Result<RecordBatch, CatalogError>> {
        let _ = columns;
        todo!("data")
    }
}

/// All datasets of the store.
#[derive(Debug)]
pub struct Datasets {}

impl Datasets {
    pub async fn list(&self) -> Result<Vec<Dataset>, CatalogError> {
        todo!("data")
    }
    /// Opens the newest version, or the one named.
    pub async fn open(&self, reference: &DatasetReference) -> Result<Dataset, CatalogError> {
        let _ = reference;
        todo!("data")
    }
    /// Begins an upload: checks name, mode and schema before the first row is taken.
    pub async fn write(
        &self,
        name: &str,
        schema: SchemaRef,
        mode: WriteMode,
    ) -> Result<DatasetWriter, CatalogError> {
        let _ = (name, schema, mode);
        todo!("data")
    }
    pub async fn remove(&self, name: &str) -> Result<(), CatalogError> {
        let _ = name;
        todo!("data")
    }
}

/// An upload under way. Dropped without `commit`, it leaves nothing.
#[derive(Debug)]
pub struct DatasetWriter {}

impl DatasetWriter {
    /// Adds rows; the batch must have the schema that the upload began with. Returns the rows taken so far.
    pub async fn write(&mut self, batch: RecordBatch) -> Result<u64, CatalogError> {
        let _ = batch;
        todo!("data")
    }
    /// Makes all rows visible at once as one version.
    pub async fn commit(self) -> Result<Dataset, CatalogError> {
        todo!("data")
    }
    /// Deletes what was written.
    pub async fn abort(self) {
        todo!("data")
    }
}
