//! Losses.

use super::error::SpecError;
use super::model::Model;

/// What the label column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetKind {
    /// Numbers, `width` per row.
    Numeric { width: usize },
    /// One class index per row, 0 to `classes` - 1 (two classes are 0 and 1).
    Classes { classes: usize },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    MeanSquaredError,
    MeanAbsoluteError,
    BinaryCrossentropy,
    CategoricalCrossentropy,
    SparseCategoricalCrossentropy,
}

impl Loss {
    /// By Keras name: "mse", "mean_squared_error", "mae", "binary_crossentropy", ...
    pub fn parse(_name: &str) -> Result<Loss, SpecError> {
        unimplemented!()
    }
    pub fn name(self) -> &'static str {
        unimplemented!()
    }
    /// Numbers per row of `LaneBatch::target`: 1 for sparse classes, else the model's output width.
    pub fn target_width(self, _model: &Model) -> usize {
        unimplemented!()
    }
    pub fn check(self, _model: &Model, _target: &TargetKind) -> Result<(), SpecError> {
        unimplemented!()
    }
}
