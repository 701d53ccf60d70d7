//! What can be wrong with rows that are to become numbers. Rows are counted from 0 within the batch.

use crate::support::fault::{Fault, Faulty};

/// Failures between columns and arrays.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum FrameError {
    #[error("there is no column {column:?}; columns are {columns}")]
    MissingColumn { column: String, columns: String },
    #[error("column {column:?} has type {data_type}; {wanted}")]
    WrongType {
        column: String,
        data_type: String,
        wanted: &'static str,
    },
    #[error("column {column:?} is null in row {row}; impute it or drop the row")]
    Null { column: String, row: usize },
    #[error("column {column:?} is {value} in row {row}; impute it, clip it or drop the row")]
    NotFinite {
        column: String,
        row: usize,
        value: String,
    },
    #[error("column {column:?} is {value} in row {row}; {wanted}")]
    OutOfRange {
        column: String,
        row: usize,
        value: String,
        wanted: &'static str,
    },
    #[error(
        "the columns are {found} values wide and {expected} were expected; check the column list"
    )]
    Width { found: usize, expected: usize },
    #[error("label {column:?} is {value:?} in row {row}; classes are {classes}")]
    UnknownClass {
        column: String,
        row: usize,
        value: String,
        classes: String,
    },
    #[error(
        "label {column:?} has more than {limit} different values; use a regression loss, or bucket it"
    )]
    TooManyClasses { column: String, limit: usize },
    #[error("{rows} rows are more than can be numbered here, {limit}; train on fewer")]
    TooManyRows { rows: u64, limit: u32 },
    #[error("class {index} of label {column:?} does not exist; there are {classes}")]
    NoSuchClass {
        column: String,
        index: i64,
        classes: usize,
    },
}

impl Faulty for FrameError {
    fn fault(&self) -> Fault {
        match self {
            Self::NoSuchClass { .. } => Fault::Internal,
            _ => Fault::InvalidArgument,
        }
    }
}

impl FrameError {
    /// The same error for a batch that begins at row `first` of what the user sent.
    pub fn from_row(self, first: usize) -> Self {
        self.map_row(|row| first + row)
    }

    /// The same error with its row as `source` knows it.
    pub fn map_row(mut self, source: impl FnOnce(usize) -> usize) -> Self {
        match &mut self {
            Self::Null { row, .. }
            | Self::NotFinite { row, .. }
            | Self::OutOfRange { row, .. }
            | Self::UnknownClass { row, .. } => *row = source(*row),
            _ => {}
        }
        self
    }
}
