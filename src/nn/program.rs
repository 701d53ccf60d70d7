//! Running a model: a lane's training step, and prediction.

use std::sync::Arc;

use super::error::ProgramError;
use super::loss::Loss;
use super::model::Model;

/// A (rows, width) row-major matrix, one per `Model::inputs()`, in that order.
#[derive(Debug, Clone, Copy)]
pub enum InputData<'a> {
    Float32(&'a [f32]),
    Int32(&'a [i32]),
}

/// One lane's rows of a minibatch.
#[derive(Debug, Clone)]
pub struct LaneBatch<'a> {
    pub rows: usize,
    pub inputs: Vec<InputData<'a>>,
    /// rows * `Loss::target_width(model)` numbers. A class index is written as a whole float32 (exact up to 2^24).
    pub target: &'a [f32],
    /// One weight per row (class weight times sample weight); `None` is all ones.
    pub weights: Option<&'a [f32]>,
}

/// Which step this is: dropout masks are keyed by it and by nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepKey {
    pub seed: u64,
    pub epoch: u64,
    pub step: u64,
    pub lane: u32,
}

/// What a step found.
#[derive(Debug)]
pub struct StepOutput<'a> {
    /// Sum over the lane's rows of weight * loss; not yet divided by the denominator.
    pub loss_sum: f64,
    /// rows * `Model::output_width()`, after the last activation, dropout on.
    pub predictions: &'a [f32],
}

/// Runs training steps of one lane at a time; one per thread. Keeps a plan per row count, at most 8 of them.
#[derive(Debug)]
pub struct LaneTrainer {}

impl LaneTrainer {
    pub fn new(_model: Arc<Model>, _loss: Loss) -> Result<Self, ProgramError> {
        unimplemented!()
    }
    /// Overwrites `gradient` with the gradient of sum(weight * loss) / denominator and `statistics_out` with this
    /// lane's new moving statistics (copied unchanged when the lane has no rows).
    #[allow(clippy::too_many_arguments)]
    pub fn step(
        &mut self,
        _parameters: &[f32],
        _statistics: &[f32],
        _batch: &LaneBatch<'_>,
        _key: &StepKey,
        _denominator: f32,
        _gradient: &mut [f32],
        _statistics_out: &mut [f32],
    ) -> Result<StepOutput<'_>, ProgramError> {
        unimplemented!()
    }
    /// The plan for so many rows as text: operations, fused groups, FLOPs, arena bytes.
    pub fn describe(&self, _rows: usize) -> Result<String, ProgramError> {
        unimplemented!()
    }
}

/// Runs a model forward: dropout off, moving statistics.
#[derive(Debug)]
pub struct Predictor {}

impl Predictor {
    pub fn new(_model: Arc<Model>) -> Self {
        unimplemented!()
    }
    /// rows * `Model::output_width()` numbers.
    pub fn predict(
        &mut self,
        _parameters: &[f32],
        _statistics: &[f32],
        _rows: usize,
        _inputs: &[InputData<'_>],
    ) -> Result<&[f32], ProgramError> {
        unimplemented!()
    }
}
