//! SQL and feature transforms over the catalog. The only folder that names DataFusion.
//!
//! Does not know models: `predict` reaches it as a [`ModelFunctions`] that somebody else fulfils,
//! and a fitted pipeline is data that a model version refers to.

mod bound;
pub mod changes;
mod computing;
pub mod error;
mod functions;
mod insert_columns;
pub mod model_function;
mod model_statement;
mod model_table;
mod nesting;
mod parameters;
pub mod pipeline;
mod planner_forms;
pub mod repeats;
mod same_names;
mod session;
pub mod source;
mod statements;
mod stored_types;
mod tables;
mod tables_of_columns;
mod transforms;
mod vectors;
pub mod writing;

pub use changes::{Change, CreateModel, CreateTable, Existing, Insert, SqlStatementPlan};
pub use error::FeatureError;
pub use model_function::{ModelFunction, ModelFunctions};
pub use pipeline::{AppliedPipeline, CARDINALITY, FittedPipeline, PipelineSpec};
pub use session::{Query, QueryEngine, QueryLimits};
pub use source::Source;
pub use writing::Insertion;

#[cfg(test)]
mod tests;
