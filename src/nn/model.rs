//! A built model.

use super::error::SpecError;
use super::spec::ModelSpec;

/// What a feature column holds once the feature pipeline has run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeatureKind {
    Float,
    Integer,
}

/// One feature column after the feature pipeline; `width` numbers per row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeatureColumn {
    pub name: String,
    pub width: usize,
    pub kind: FeatureKind,
}

/// The type of an input's matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputType {
    Float32,
    Int32,
}

/// One input of the model: a (rows, width) row-major matrix of its columns side by side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelInput {
    pub name: String,
    pub columns: Vec<String>,
    pub dtype: InputType,
    pub width: usize,
}

/// One named array inside the flat vector of parameters (or of statistics).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterInfo {
    /// Layer and array, as "dense/kernel".
    pub name: String,
    pub shape: Vec<usize>,
    /// Position of its first number in the flat vector.
    pub offset: usize,
}

/// A model joined to its features.
#[derive(Debug)]
pub struct Model {}

impl Model {
    pub fn build(_spec: &ModelSpec, _features: &[FeatureColumn]) -> Result<Model, SpecError> {
        unimplemented!()
    }
    pub fn inputs(&self) -> &[ModelInput] {
        unimplemented!()
    }
    pub fn parameters(&self) -> &[ParameterInfo] {
        unimplemented!()
    }
    pub fn parameter_len(&self) -> usize {
        unimplemented!()
    }
    pub fn statistics(&self) -> &[ParameterInfo] {
        unimplemented!()
    }
    pub fn statistics_len(&self) -> usize {
        unimplemented!()
    }
    pub fn initial_parameters(&self, _seed: u64) -> Vec<f32> {
        unimplemented!()
    }
    pub fn initial_statistics(&self) -> Vec<f32> {
        unimplemented!()
    }
    pub fn output_width(&self) -> usize {
        unimplemented!()
    }
    pub fn summary(&self) -> String {
        unimplemented!()
    }
}
