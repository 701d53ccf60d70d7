//! Dense float32 arrays and the kernels that work on them.
//!
//! Knows no Arrow, no graph, no layer, no thread and no clock. Every kernel gives the same bits for the
//! same numbers, whatever the length, alignment or cut of its slices.

pub mod archive;
pub mod blas;
mod error;
pub mod kernels;
pub mod row_sums;
pub mod shape;

pub use error::{ArchiveError, ShapeError};
pub use shape::Shape;
