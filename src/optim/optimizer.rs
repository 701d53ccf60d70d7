//! An optimiser from its description.

use super::error::OptimizerError;

/// An optimiser as described by a client, as `{"name": "adam", "learning_rate": 0.001}`.
#[derive(Debug, Clone, PartialEq)]
pub struct OptimizerSpec {}

impl OptimizerSpec {
    pub fn from_json(_json: &serde_json::Value) -> Result<Self, OptimizerError> {
        unimplemented!()
    }
    pub fn to_json(&self) -> serde_json::Value {
        unimplemented!()
    }
}

/// An optimiser ready to update any cut of the flat parameter vector: elementwise throughout, so cuts do not matter.
#[derive(Debug)]
pub struct Optimizer {}

impl Optimizer {
    pub fn build(_spec: &OptimizerSpec) -> Result<Optimizer, OptimizerError> {
        unimplemented!()
    }
    /// State vectors per parameter vector, all starting at zero, each as long as the parameters.
    pub fn slots(&self) -> usize {
        unimplemented!()
    }
    pub fn slot_names(&self) -> Vec<&'static str> {
        unimplemented!()
    }
    /// `step` counts from 1 over the whole job, `epoch` from 0.
    pub fn learning_rate(&self, _step: u64, _epoch: u64) -> f32 {
        unimplemented!()
    }
    /// One update of a cut of the vector; `step` counts from 1.
    pub fn update(
        &self,
        _step: u64,
        _learning_rate: f32,
        _parameters: &mut [f32],
        _gradient: &[f32],
        _slots: &mut [Vec<f32>],
    ) {
        unimplemented!()
    }
}
