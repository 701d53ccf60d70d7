//! What can go wrong when a graph is recorded, planned or run.

use thiserror::Error;

use crate::tensor::ShapeError;

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum GraphError {
    #[error(transparent)]
    Shape(#[from] ShapeError),
    #[error(
        "a plan needs {floats} numbers of scratch; at most {limit} are allowed, use fewer rows"
    )]
    TooLarge { floats: u64, limit: u64 },
}

/// A run that could not be finished.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RunError {
    #[error("{what} has {found} numbers where {expected} belong; bind what the plan declares")]
    WrongLength {
        what: String,
        expected: usize,
        found: usize,
    },
    #[error(
        "index {index} at position {position} of index input {input:?} is outside a table of {rows} rows; fix the indices"
    )]
    IndexOutOfRange {
        input: Option<usize>,
        position: usize,
        index: i64,
        rows: usize,
    },
    #[error(
        "target {index} at position {position} is no class below {classes}; classes are whole numbers from 0"
    )]
    ClassOutOfRange {
        position: usize,
        index: i64,
        classes: usize,
    },
}
