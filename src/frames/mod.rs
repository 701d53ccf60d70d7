//! Between Arrow and arrays: columns to row-major matrices, labels to classes, and answers back to columns.
//!
//! Knows Arrow and plain slices. Does not know models, pipelines or where rows come from.

pub mod columns;
pub mod data_plan;
pub mod error;
pub mod labels;
pub mod minibatch;

pub use columns::{gather_float, gather_int, matrix_column, matrix_type, width_of};
pub use error::FrameError;
pub use labels::{ClassCollector, Classes};
