//! A query to a schema and a stream; limits per query.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use futures::stream::BoxStream;

use super::{FeatureError, ModelFunctions, Source};
use crate::catalog::Catalog;

/// Bounds of one server's SQL.
#[derive(Debug, Clone)]
pub struct QueryLimits {
    /// Bytes all queries of this server may hold together.
    pub memory_bytes: usize,
    /// Partitions a query runs in; the server's cores.
    pub partitions: usize,
    /// Directories whose Parquet may be scored or trained from by path.
    pub allow_read: Vec<PathBuf>,
    /// Where operators spill.
    pub spill_directory: PathBuf,
}

/// SQL over the catalog. Cheap to clone behind an `Arc`.
#[derive(Debug)]
pub struct QueryEngine {}

impl QueryEngine {
    pub fn new(catalog: Catalog, models: Arc<dyn ModelFunctions>, limits: QueryLimits) -> Self {
        let _ = (catalog, models, limits);
        todo!("features")
    }

    /// Parses, checks against the allow-list, finds models, plans. No rows are read.
    pub async fn prepare(&self, sql: &str) -> Result<Query, FeatureError> {
        let _ = sql;
        todo!("features")
    }

    /// A source's schema and row stream in a fixed order: files and row groups in order, a query in one partition.
    pub async fn open(&self, source: &Source) -> Result<Query, FeatureError> {
        let _ = source;
        todo!("features")
    }
}

/// A planned query; its schema is the one that will be streamed, nullability included
/// (no view types, no dictionaries: expanded for outside clients).
pub struct Query {}

impl std::fmt::Debug for Query {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Query").finish()
    }
}

impl Query {
    pub fn schema(&self) -> SchemaRef {
        todo!("features")
    }
    /// Types of `$1`, `$2`, ... in order, for prepared statements; a field of type Null where it cannot be inferred.
    pub fn parameters(&self) -> SchemaRef {
        todo!("features")
    }
    /// The query with its parameters replaced by the one row of `values`.
    pub fn bind(self, values: &RecordBatch) -> Result<Query, FeatureError> {
        let _ = values;
        todo!("features")
    }
    /// Rows the source is known to have, for progress.
    pub fn rows_expected(&self) -> Option<u64> {
        todo!("features")
    }
    /// Runs it. Every batch has exactly `schema()`. Dropping the stream stops the work.
    pub async fn execute(
        self,
    ) -> Result<BoxStream<'static, Result<RecordBatch, FeatureError>>, FeatureError> {
        todo!("features")
    }
}
