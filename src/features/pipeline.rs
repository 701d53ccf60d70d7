//! Fit on one dataset, apply to another. A pipeline is data: the list, and what fitting learnt.

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};

use super::{FeatureError, QueryEngine, Source};

/// The list of transforms as the client gave it (JSON objects `{"transform": "impute", "columns": [...], ...}`).
#[derive(Debug, Clone, PartialEq)]
pub struct PipelineSpec {}

impl PipelineSpec {
    pub fn from_json(steps: &[serde_json::Value]) -> Result<Self, FeatureError> {
        let _ = steps;
        todo!("features")
    }

    /// Learns from the rows of `source` by aggregate SQL. `features` are the raw columns it may read, in order;
    /// `filter` is a SQL condition that keeps the training rows (None: all).
    pub async fn fit(
        &self,
        engine: &QueryEngine,
        source: &Source,
        features: &[String],
        filter: Option<&str>,
    ) -> Result<FittedPipeline, FeatureError> {
        let _ = (engine, source, features, filter);
        todo!("features")
    }
}

/// A pipeline that has learnt. Saved with the model.
#[derive(Debug, Clone, PartialEq)]
pub struct FittedPipeline {}

impl FittedPipeline {
    pub fn to_json(&self) -> serde_json::Value {
        todo!("features")
    }
    pub fn from_json(value: &serde_json::Value) -> Result<Self, FeatureError> {
        let _ = value;
        todo!("features")
    }
    /// Raw columns read, in the model's input order, with their types.
    pub fn input_schema(&self) -> SchemaRef {
        todo!("features")
    }
    /// Feature columns made: Float32 or Int32, or FixedSizeList<Float32> of them (one-hot), in order.
    pub fn output_schema(&self) -> SchemaRef {
        todo!("features")
    }
    /// Binds to the columns of incoming batches, in any order, extra columns passed over; a missing or wrongly typed
    /// column is refused by name (an integer or float column takes any numeric type that casts without loss of range).
    pub fn bind(&self, incoming: &Schema) -> Result<AppliedPipeline, FeatureError> {
        let _ = incoming;
        todo!("features")
    }
}

/// A fitted pipeline bound to one incoming schema. Cheap to clone, no async, same rows in the same order.
#[derive(Debug, Clone)]
pub struct AppliedPipeline {}

impl AppliedPipeline {
    /// Feature columns of `rows`. Floats that come out NaN or infinite, and nulls, are refused with column and row.
    pub fn apply(&self, rows: &RecordBatch) -> Result<RecordBatch, FeatureError> {
        let _ = rows;
        todo!("features")
    }
}
