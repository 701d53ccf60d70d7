//! Updates as values: chains of gradient transforms. Knows no model or network.

mod error;
mod optimizer;

pub use error::OptimizerError;
pub use optimizer::{Optimizer, OptimizerSpec};
