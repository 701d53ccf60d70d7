//! Where rows come from: a dataset, a query, or Parquet under an allowed prefix.

use crate::catalog::DatasetReference;

#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    Table(DatasetReference),
    Query(String),
    /// A Parquet file or directory; must lie under one of the server's `allow_read` prefixes.
    Path(String),
}
