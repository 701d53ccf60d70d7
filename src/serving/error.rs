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
        "model {model:?} version {version} answers {value} for {}; its weights or its inputs are too large, train it anew",
        row_or_some(*.row)
    )]
    NotANumber {
        model: String,
        version: u64,
        value: f32,
        /// Of what the caller sent; `None` in the midst of a query.
        row: Option<u64>,
    },
    #[error(
        "{layer}: index {index} in {} is outside 0 to {last}; raise input_dim or fix the indices",
        row_or_some(*.row)
    )]
    IndexOutOfRange {
        layer: String,
        row: Option<u64>,
        index: i64,
        last: i64,
    },
    /// The network refused its inputs.
    #[error(transparent)]
    Network(ProgramError),
    #[error("scoring failed: {reason}")]
    Execution { reason: String },
    #[error("the label: {reason}")]
    BadLabel { reason: String },
    #[error(
        "the sample weight: column {column:?} {problem}; give a column of numbers that are not negative"
    )]
    BadSampleWeight { column: String, problem: String },
    #[error("metric {metric:?}: {reason}")]
    BadMetric { metric: String, reason: String },
    #[error("{waiting} scoring jobs wait on this server already; submit again when one has ended")]
    TooManyJobs { waiting: usize },
    #[error("the server is stopping; ask another one")]
    Stopping,
}

impl ServingError {
    /// What the network says of rows that begin at row `first_row` of what the caller sent.
    pub(super) fn of_network(error: ProgramError, first_row: u64) -> Self {
        match error {
            ProgramError::IndexOutOfRange {
                layer,
                row,
                index,
                last,
            } => Self::IndexOutOfRange {
                layer,
                row: Some(first_row + row as u64),
                index,
                last,
            },
            other => Self::Network(other),
        }
    }

    /// The same error where rows have no number that the caller knows: in the midst of a query.
    pub(super) fn without_row(self) -> Self {
        match self {
            Self::Feature(error) => Self::Feature(error.without_row()),
            mut other => {
                if let Self::NotANumber { row, .. } | Self::IndexOutOfRange { row, .. } = &mut other
                {
                    *row = None;
                }
                other
            }
        }
    }
}

fn row_or_some(row: Option<u64>) -> String {
    row.map_or_else(
        || "a row of the query".to_owned(),
        |row| format!("row {row}"),
    )
}

impl Faulty for ServingError {
    fn fault(&self) -> Fault {
        match self {
            Self::Catalog(error) => error.fault(),
            Self::Feature(error) => error.fault(),
            Self::BadModel { .. } | Self::NotANumber { .. } => Fault::FailedPrecondition,
            Self::UnknownKeepColumn { .. }
            | Self::KeepColumnClash { .. }
            | Self::RepeatedKeepColumn { .. }
            | Self::SchemaChanged { .. }
            | Self::BadMetric { .. }
            | Self::BadSampleWeight { .. }
            | Self::IndexOutOfRange { .. }
            | Self::BadLabel { .. } => Fault::InvalidArgument,
            Self::TooManyJobs { .. } => Fault::ResourceExhausted,
            Self::Network(_) | Self::Execution { .. } => Fault::Internal,
            Self::Stopping => Fault::Unavailable,
        }
    }
}
