//! Where rows come from: a dataset, a query, or Parquet under an allowed prefix.

use crate::catalog::{DatasetReference, JobId};

#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    Table(DatasetReference),
    Query(String),
    /// A Parquet file or directory; must lie under one of the server's `allow_read` prefixes.
    Path(String),
    /// Rows that a job staged for itself; no client can name them.
    Staged(JobId),
}
