//! Updates as values: chains of gradient transforms. Knows no model or network.
//!
//! Every transform here works number by number, so any cut of the flat parameter vector into shards gives the same bits.

mod chain;
mod error;
#[cfg(test)]
mod golden;
mod optimizer;
mod options;
mod recipes;
mod schedule;
mod transforms;

pub use chain::Chain;
pub use error::OptimizerError;
pub use optimizer::{Optimizer, OptimizerSpec};
pub use schedule::Schedule;
pub use transforms::{GradientTransform, Moment, Scope};
