//! One model version in memory, and the sessions that score with it.

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};

use super::ServingError;
use crate::catalog::ModelManifest;

/// Weights, network and fitted pipeline of one version. Immutable.
#[derive(Debug)]
pub struct LoadedModel {}

impl LoadedModel {
    pub fn manifest(&self) -> &ModelManifest {
        todo!("serving")
    }
    /// Raw columns needed, in the model's input order.
    pub fn input_schema(&self) -> SchemaRef {
        todo!("serving")
    }
    /// `prediction` and `probability` or `probabilities`.
    pub fn answer_schema(&self) -> SchemaRef {
        todo!("serving")
    }
    /// Binds to incoming columns; the answer is the answer columns, then `keep`.
    pub fn session(
        self: &std::sync::Arc<Self>,
        incoming: &Schema,
        keep: &[String],
    ) -> Result<ScoringSession, ServingError> {
        let _ = (incoming, keep);
        todo!("serving")
    }
}

/// A model bound to one incoming schema.
#[derive(Debug, Clone)]
pub struct ScoringSession {}

impl ScoringSession {
    pub fn schema(&self) -> SchemaRef {
        todo!("serving")
    }
    /// Same rows, same order. CPU work: call it off the I/O runtime.
    pub fn score(&self, rows: &RecordBatch) -> Result<RecordBatch, ServingError> {
        let _ = rows;
        todo!("serving")
    }
}
