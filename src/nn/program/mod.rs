//! Running a model: a lane's training step, and prediction.
//!
//! A step is a pure function of its arguments: the same lane, numbers and key give the same bits. It is single-threaded
//! and allocates nothing once the plan for its row count is made (`plans.rs`). `training.rs` runs a step, `prediction.rs` the
//! model alone; `not_finite.rs` looks for the layer that a NaN comes from.

mod checks;
mod not_finite;
mod plans;
mod prediction;
mod training;

pub use crate::autograd::Data as InputData;

pub use prediction::Predictor;
pub(super) use prediction::describe_prediction;
pub use training::{LaneBatch, LaneTrainer, StepKey, StepOutput};

#[cfg(test)]
mod sparse_tests;
#[cfg(test)]
mod tests;
