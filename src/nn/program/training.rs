//! A lane's training step.

use std::sync::Arc;

use crate::autograd::{Bindings, Plan};
use crate::support::random::RandomKey;
use crate::tensor::blas;
use crate::tensor::row_sums::RowSums;

use super::super::error::ProgramError;
use super::super::model::Model;
use super::super::objective::{Objectives, OutputPlace};
use super::InputData;
use super::checks::{check_inputs, check_len, check_vectors, explain};
use super::not_finite::{first_not_finite, of_losses};
use super::plans::{Plans, TrainingPlan, plan_training};

/// One lane's rows of a minibatch.
#[derive(Debug, Clone)]
pub struct LaneBatch<'a> {
    pub rows: usize,
    /// A (rows, width) row-major matrix per `Model::inputs()`, in that order.
    pub inputs: Vec<InputData<'a>>,
    /// rows * `Objectives::target_width(model)` numbers, those of all outputs side by side. A class index is written as a whole float32 (exact up to 2^24).
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
    /// Sum over the lane's rows of weight * loss, with what regularisers and `add_loss` add; not yet divided by the denominator.
    pub loss_sum: f64,
    /// Each output's own: the sum of weight * loss, without the output's weight and without penalties.
    pub output_losses: &'a [f64],
    plan: Option<&'a Plan>,
}

impl StepOutput<'_> {
    /// An output's rows * `Model::width_of_output()` numbers, after the last activation, dropout on.
    pub fn predictions(&self, output: usize) -> &[f32] {
        self.plan.map_or(&[], |plan| plan.kept(output))
    }
}

/// Runs training steps of one lane at a time; one per thread. Keeps a plan per row count, at most 8 of them.
#[derive(Debug)]
pub struct LaneTrainer {
    model: Arc<Model>,
    objectives: Objectives,
    places: Vec<OutputPlace>,
    plans: Plans<TrainingPlan>,
    ones: Vec<f32>,
    output_losses: Vec<f64>,
}

impl LaneTrainer {
    /// With how each of the model's outputs is trained: a loss alone, where there is one.
    pub fn new(model: Arc<Model>, objectives: impl Into<Objectives>) -> Result<Self, ProgramError> {
        let objectives = objectives.into();
        objectives.check_model(&model)?;
        blas::use_one_thread();
        Ok(LaneTrainer {
            places: objectives.places(&model),
            output_losses: vec![0.0; objectives.outputs().len()],
            model,
            objectives,
            plans: Plans::default(),
            ones: Vec::new(),
        })
    }

    /// `step_with_tables` of a model without sparse tables.
    #[allow(clippy::too_many_arguments)]
    pub fn step(
        &mut self,
        parameters: &[f32],
        statistics: &[f32],
        batch: &LaneBatch<'_>,
        key: &StepKey,
        denominator: f32,
        gradient: &mut [f32],
        statistics_out: &mut [f32],
    ) -> Result<StepOutput<'_>, ProgramError> {
        self.step_with_tables(
            parameters,
            statistics,
            batch,
            key,
            denominator,
            gradient,
            statistics_out,
            &mut [],
        )
    }

    /// Overwrites `gradient` with the gradient of sum(weight * loss) / denominator (over rows and outputs) by all parameters
    /// but the sparse tables (from `Model::sparse_len` on) and `statistics_out` with this lane's new moving statistics (copied
    /// unchanged when the lane has no rows). Pushes the gradient by each sparse table to its sums, a list of the rows that were
    /// looked up.
    ///
    /// After an error `gradient`, `statistics_out` and `tables` hold nothing of use.
    #[allow(clippy::too_many_arguments)]
    pub fn step_with_tables(
        &mut self,
        parameters: &[f32],
        statistics: &[f32],
        batch: &LaneBatch<'_>,
        key: &StepKey,
        denominator: f32,
        gradient: &mut [f32],
        statistics_out: &mut [f32],
        tables: &mut [RowSums],
    ) -> Result<StepOutput<'_>, ProgramError> {
        let (model, objectives) = (&*self.model, &self.objectives);
        check_vectors(model, parameters, statistics)?;
        let dense = model.parameter_len() - model.sparse_len();
        check_len("the gradient", dense, gradient.len())?;
        let sparse = model.sparse_tables().len();
        check_len("the sums of sparse tables", sparse, tables.len())?;
        check_len(
            "the new statistics",
            model.statistics_len(),
            statistics_out.len(),
        )?;
        check_inputs(model, batch.rows, &batch.inputs)?;
        let target_width = self.places.last().map_or(0, |last| last.targets.end);
        check_len(
            "the target",
            batch.rows.saturating_mul(target_width),
            batch.target.len(),
        )?;
        if let Some(weights) = batch.weights {
            check_len("the row weights", batch.rows, weights.len())?;
        }
        if !(denominator > 0.0 && denominator.is_finite()) {
            return Err(ProgramError::BadDenominator(denominator.to_string()));
        }
        if batch.rows == 0 {
            gradient.fill(0.0);
            statistics_out.copy_from_slice(statistics);
            self.output_losses.fill(0.0);
            for sums in tables {
                sums.push(std::iter::empty());
            }
            return Ok(StepOutput {
                loss_sum: 0.0,
                output_losses: &self.output_losses,
                plan: None,
            });
        }
        if self.ones.len() < batch.rows {
            self.ones.resize(batch.rows, 1.0);
        }
        let weights = batch.weights.unwrap_or(&self.ones[..batch.rows]);
        let planned = self
            .plans
            .find_or_make(batch.rows, || plan_training(model, objectives, batch.rows))?;
        let scale = [1.0 / denominator];
        let random = RandomKey {
            seed: key.seed,
            epoch: key.epoch,
            step: key.step,
            lane: key.lane,
            operation: 0,
        };
        let mut bindings = Bindings {
            inputs: &batch.inputs,
            more_inputs: &[
                InputData::Float32(batch.target),
                InputData::Float32(weights),
                InputData::Float32(&scale),
            ],
            parameters,
            statistics,
            gradient,
            statistics_out,
            key: random,
        };
        planned
            .plan
            .run(&mut bindings)
            .map_err(|error| explain(error, model, &self.places, batch))?;
        for &(offset, len) in &planned.zeros {
            bindings.gradient[offset..offset + len].fill(0.0);
        }
        for &(offset, len) in &planned.still {
            bindings.statistics_out[offset..offset + len]
                .copy_from_slice(&statistics[offset..offset + len]);
        }
        let outputs = self.output_losses.len();
        for (number, sum) in self.output_losses.iter_mut().enumerate() {
            let losses = planned.plan.kept(outputs + number).iter();
            *sum = losses
                .zip(weights)
                .map(|(&loss, &weight)| f64::from(loss) * f64::from(weight))
                .sum();
        }
        let penalty = planned
            .penalty
            .map_or(&[][..], |kept| planned.plan.kept(kept));
        let penalty: f64 = penalty.iter().copied().map(f64::from).sum();
        let loss_sum = objectives.total(self.output_losses.iter().copied()) + penalty;
        if !loss_sum.is_finite() {
            return Err(ProgramError::NonFiniteLoss {
                value: loss_sum.to_string(),
                origin: first_not_finite(model, parameters, statistics, batch, &random)
                    .map(|found| found.unwrap_or_else(|| of_losses(model, &self.output_losses)))
                    .unwrap_or_else(|error| error.to_string()),
                epoch: key.epoch,
                step: key.step,
                lane: key.lane,
            });
        }
        for (number, sums) in tables.iter_mut().enumerate() {
            let of_table = planned.lookups.iter().filter(|l| l.table == number);
            sums.push(of_table.map(|lookup| {
                let indices: &[i32] = match batch.inputs[lookup.input] {
                    InputData::Int32(indices) => indices,
                    InputData::Float32(_) => &[],
                };
                (indices, planned.plan.kept(lookup.kept))
            }));
        }
        Ok(StepOutput {
            loss_sum,
            output_losses: &self.output_losses,
            plan: Some(&planned.plan),
        })
    }

    /// The plan for so many rows as text: operations, fused groups, FLOPs, arena bytes.
    pub fn describe(&self, rows: usize) -> Result<String, ProgramError> {
        Ok(plan_training(&self.model, &self.objectives, rows)?
            .plan
            .describe())
    }
}
