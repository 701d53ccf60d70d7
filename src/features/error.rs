//! What can go wrong in SQL and in pipelines.

use crate::catalog::CatalogError;

#[derive(Debug, thiserror::Error)]
pub enum FeatureError {
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    #[error("SQL cannot be run: {reason}")]
    BadSql { reason: String },
    #[error(
        "statement {statement} is not allowed; only queries are (SELECT, WITH, VALUES, SHOW, DESCRIBE, EXPLAIN)"
    )]
    StatementNotAllowed { statement: String },
    #[error("there is no column {column:?}{context}; columns are {available}")]
    UnknownColumn {
        column: String,
        context: String,
        available: String,
    },
    #[error("pipeline step {step} ({transform}): {reason}")]
    BadPipeline {
        step: usize,
        transform: String,
        reason: String,
    },
    #[error("column {column:?} {problem}; {hint}")]
    BadColumn {
        column: String,
        problem: String,
        hint: String,
    },
    #[error("path {path:?} cannot be read: {reason}")]
    BadPath { path: String, reason: String },
    #[error("{what} has no rows; give at least one")]
    NoRows { what: String },
    #[error(
        "the query needs more memory than it may have ({limit}); narrow it, or raise `{option}`"
    )]
    OutOfMemory { limit: String, option: &'static str },
    #[error("the query failed: {reason}")]
    Execution { reason: String },
    #[error("model function: {reason}")]
    ModelFunction { reason: String },
}
