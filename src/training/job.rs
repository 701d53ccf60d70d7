//! A training job as asked for.

use std::collections::BTreeMap;

use crate::features::Source;

#[derive(Debug, Clone, PartialEq)]
pub struct TrainRequest {
    pub name: String,
    pub source: Source,
    pub label: String,
    /// Empty: every column but label and sample weight.
    pub features: Vec<String>,
    pub pipeline: Vec<serde_json::Value>,
    pub model: serde_json::Value,
    pub loss: String,
    pub optimizer: serde_json::Value,
    pub metrics: Vec<String>,
    pub epochs: u32,
    pub batch_size: u32,
    pub seed: u64,
    /// 0: chosen from the batch size.
    pub lanes: u32,
    pub shuffle: bool,
    pub validation: Validation,
    pub early_stopping: Option<EarlyStopping>,
    pub class_weight: BTreeMap<String, f64>,
    pub sample_weight: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Validation {
    None,
    Split(f64),
    Source(Source),
}

#[derive(Debug, Clone, PartialEq)]
pub struct EarlyStopping {
    /// Empty: `val_loss`.
    pub monitor: String,
    pub patience: u32,
    pub min_delta: f64,
    pub restore_best_weights: bool,
    /// None: decided by the metric.
    pub maximize: Option<bool>,
}
