//! `predict('model', ...)` as SQL sees it. Fulfilled by `serving`, which this folder does not know.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;

/// One model version as a function of rows.
pub trait ModelFunction: std::fmt::Debug + Send + Sync {
    /// `churn` version 3.
    fn name(&self) -> &str;
    fn version(&self) -> u64;
    /// Raw columns it reads, in the model's input order.
    fn input_schema(&self) -> SchemaRef;
    /// Columns it answers.
    fn answer_schema(&self) -> SchemaRef;
    /// Same rows, same order. Runs on a CPU thread.
    fn call(&self, rows: &RecordBatch) -> Result<RecordBatch, String>;
}

/// Finds models by name before a statement is planned.
#[async_trait]
pub trait ModelFunctions: std::fmt::Debug + Send + Sync {
    /// `version` `None` is the newest. The error is the text for the caller, with its class.
    async fn find(
        &self,
        name: &str,
        version: Option<u64>,
    ) -> Result<Arc<dyn ModelFunction>, (crate::support::fault::Fault, String)>;
}
