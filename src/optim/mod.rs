//! Updates as values: chains of gradient transforms. Knows no model or network.
//!
//! Most transforms work number by number, so any cut of the flat parameter vector into shards gives the same bits. Those
//! that need norms declare it (`Scope::WholeModel`): the owners of cuts then exchange sums over fixed blocks (`blocks`),
//! and the bits are again the same whatever the cuts.

mod average;
mod blocks;
mod chain;
mod error;
#[cfg(test)]
mod golden;
mod optimizer;
mod options;
mod plateau;
mod recipes;
mod rows;
mod schedule;
mod spec;
mod transforms;

pub use blocks::{ArrayBlocks, ArrayNorms, NORM_BLOCK};
pub use chain::{Chain, Cut};
pub use error::OptimizerError;
pub use optimizer::{Optimizer, Stage};
pub use plateau::{PlateauRule, PlateauState, ReduceOnPlateau};
pub use rows::{RowUpdate, TableRows};
pub use schedule::Schedule;
pub use spec::OptimizerSpec;
pub use transforms::{GradientTransform, Moment, Scope};
