//! What can go wrong while answering.

use crate::catalog::CatalogError;
use crate::features::FeatureError;
use crate::nn::ProgramError;
use crate::support::fault::{Fault, Faulty};

#[derive(Debug, thiserror::Error)]
pub enum ServingError {
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    #[error(transparent)]
    Feature(#[from] FeatureError),
    /// A pipeline's complaint about rows that do not begin at row 0 of what the caller sent.
    #[error("{source} (rows counted from row {first_row} of the source)")]
    FeatureInRows {
        first_row: u64,
        #[source]
        source: FeatureError,
    },
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
    #[error("keep column {column:?} stands twice {place}; name each column once")]
    RepeatedKeepColumn { column: String, place: &'static str },
    #[error(
        "the rows have other columns than the first ones: {difference}; send every batch of a stream with one schema"
    )]
    SchemaChanged { difference: String },
    #[error(
        "model {model:?} version {version} answers {value} for row {row}; its weights or its inputs are too large, train it anew"
    )]
    NotANumber {
        model: String,
        version: u64,
        value: f32,
        row: u64,
    },
    /// The network refused its inputs: an index outside an embedding, say.
    #[error("{source} (rows counted from row {first_row} of the source)")]
    Network {
        first_row: u64,
        #[source]
        source: ProgramError,
    },
    #[error("scoring failed: {reason}")]
    Execution { reason: String },
    #[error("the label: {reason}")]
    BadLabel { reason: String },
    #[error("metric {metric:?}: {reason}")]
    BadMetric { metric: String, reason: String },
    #[error("the server is stopping; ask another one")]
    Stopping,
}

impl Faulty for ServingError {
    fn fault(&self) -> Fault {
        match self {
            Self::Catalog(error) => error.fault(),
            Self::Feature(error) | Self::FeatureInRows { source: error, .. } => error.fault(),
            Self::BadModel { .. } | Self::NotANumber { .. } => Fault::FailedPrecondition,
            Self::UnknownKeepColumn { .. }
            | Self::KeepColumnClash { .. }
            | Self::RepeatedKeepColumn { .. }
            | Self::SchemaChanged { .. }
            | Self::BadMetric { .. }
            | Self::BadLabel { .. } => Fault::InvalidArgument,
            Self::Network { source, .. } => match source {
                ProgramError::IndexOutOfRange { .. } => Fault::InvalidArgument,
                _ => Fault::Internal,
            },
            Self::Execution { .. } => Fault::Internal,
            Self::Stopping => Fault::Unavailable,
        }
    }
}
