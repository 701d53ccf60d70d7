//! SQL and feature transforms over the catalog. The only folder that names DataFusion.
//!
//! Does not know models: `predict` reaches it as a [`ModelFunctions`] that somebody else fulfils,
//! and a fitted pipeline is data that a model version refers to.

mod computing;
pub mod error;
mod functions;
pub mod model_function;
mod nesting;
pub mod pipeline;
pub mod session;
pub mod source;
mod statements;
mod stored_types;
mod tables;
mod transforms;
mod vectors;

pub use error::FeatureError;
pub use model_function::{ModelFunction, ModelFunctions};
pub use pipeline::{AppliedPipeline, CARDINALITY, FittedPipeline, PipelineSpec};
pub use session::{Query, QueryEngine, QueryLimits};
pub use source::Source;

#[cfg(test)]
mod tests;
