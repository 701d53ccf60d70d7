//! Metrics that add up exactly over batches, lanes and servers.

use super::error::SpecError;
use super::loss::Loss;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    Loss,
    Accuracy,
    Auc,
    MeanAbsoluteError,
    MeanSquaredError,
}

impl Metric {
    pub fn parse(_name: &str) -> Result<Metric, SpecError> {
        unimplemented!()
    }
    pub fn name(self) -> &'static str {
        unimplemented!()
    }
}

/// Sums of one metric; merging is exact for AUC and in fixed order for the rest.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricState {}

impl MetricState {
    /// `width` is the model's output width; `loss` says how targets are laid out.
    pub fn new(_metric: Metric, _loss: Loss, _width: usize) -> Result<Self, SpecError> {
        unimplemented!()
    }
    pub fn update(&mut self, _predictions: &[f32], _targets: &[f32], _weights: Option<&[f32]>) {
        unimplemented!()
    }
    pub fn merge(&mut self, _other: &MetricState) -> Result<(), SpecError> {
        unimplemented!()
    }
    /// NaN when nothing was counted (or, for AUC, when one class is missing).
    pub fn result(&self) -> f64 {
        unimplemented!()
    }
    pub fn to_bytes(&self) -> Vec<u8> {
        unimplemented!()
    }
    pub fn from_bytes(_bytes: &[u8]) -> Result<Self, SpecError> {
        unimplemented!()
    }
}
