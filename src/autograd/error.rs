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
    #[error("a program has more than {limit} operations; use fewer steps or layers")]
    TooManyOperations { limit: usize },
    #[error("the gradient of {operation} has no derivative; take first derivatives of it only")]
    NoSecondDerivative { operation: &'static str },
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
        "the label of row {row} needs {needed} steps, a blank between equal neighbours included, and there are {steps}; shorten it or answer more steps"
    )]
    LabelTooLong {
        row: usize,
        needed: usize,
        steps: usize,
    },
    #[error("the label of row {row} has a class behind a 0; 0 is blank and only fills up its end")]
    BlankInLabel { row: usize },
    #[error(
        "target {index} at position {position} is no class below {classes}; classes are whole numbers from 0"
    )]
    ClassOutOfRange {
        position: usize,
        index: i64,
        classes: usize,
    },
}
