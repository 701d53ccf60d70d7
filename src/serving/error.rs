//! What can go wrong while answering.

use crate::catalog::CatalogError;
use crate::features::FeatureError;

#[derive(Debug, thiserror::Error)]
pub enum ServingError {
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    #[error(transparent)]
    Feature(#[from] FeatureError),
    #[error("model {model:?} version {version} cannot be loaded: {reason}")]
    BadModel {
        model: String,
        version: u64,
        reason: String,
    },
    #[error("keep column {column:?} is not among the incoming columns; they are {available}")]
    UnknownKeepColumn { column: String, available: String },
    #[error("keep column {column:?} has the name of an answer column; rename it")]
    KeepColumnClash { column: String },
    #[error("scoring failed: {reason}")]
    Execution { reason: String },
    #[error("the label: {reason}")]
    BadLabel { reason: String },
    #[error("the server is stopping; ask another one")]
    Stopping,
}
