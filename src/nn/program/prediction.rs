//! A model run forward.

use std::sync::Arc;

use crate::autograd::{Bindings, Plan};
use crate::support::random::RandomKey;
use crate::tensor::blas;

use super::super::error::ProgramError;
use super::super::model::Model;
use super::super::objective::SideBySide;
use super::InputData;
use super::checks::{check_inputs, check_vectors, explain_index};
use super::plans::{Plans, PredictionPlan, plan_prediction};

/// Rows predicted at a time, so that a layer's values stay in the second-level cache.
const PREDICTION_ROWS: usize = 512;

/// Runs a model forward: dropout off, moving statistics.
#[derive(Debug)]
pub struct Predictor {
    model: Arc<Model>,
    pub(super) plans: Plans<PredictionPlan>,
    predictions: Vec<f32>,
    masks: Vec<f32>,
    /// Of each row, where they are asked for.
    penalties: Option<Vec<f32>>,
}

impl Predictor {
    pub fn new(model: Arc<Model>) -> Self {
        blas::use_one_thread();
        Predictor {
            model,
            plans: Plans::default(),
            predictions: Vec::new(),
            masks: Vec::new(),
            penalties: None,
        }
    }

    /// One that also tells what is added to the loss of each row, for a loss that is measured.
    pub fn with_penalties(model: Arc<Model>) -> Self {
        Predictor {
            penalties: Some(Vec::new()),
            ..Predictor::new(model)
        }
    }

    /// rows * `Model::output_width()` numbers, those of all outputs side by side. Rows go through the model 512 at a time.
    pub fn predict(
        &mut self,
        parameters: &[f32],
        statistics: &[f32],
        rows: usize,
        inputs: &[InputData<'_>],
    ) -> Result<&[f32], ProgramError> {
        let model = &*self.model;
        check_vectors(model, parameters, statistics)?;
        check_inputs(model, rows, inputs)?;
        let width = model.output_width();
        self.predictions.clear();
        self.predictions.resize(rows.saturating_mul(width), 0.0);
        let mask_width = mask_width(model);
        self.masks.clear();
        self.masks.resize(rows.saturating_mul(mask_width), 0.0);
        if let Some(penalties) = &mut self.penalties {
            penalties.clear();
            penalties.resize(rows, 0.0);
        }
        let with_penalties = self.penalties.is_some();
        let mut part: Vec<InputData<'_>> = Vec::with_capacity(inputs.len());
        let mut start = 0;
        while start < rows {
            let count = PREDICTION_ROWS.min(rows - start);
            part.clear();
            part.extend(inputs.iter().zip(model.inputs()).map(|(input, described)| {
                let range = start * described.width..(start + count) * described.width;
                match input {
                    InputData::Float32(values) => InputData::Float32(&values[range]),
                    InputData::Int32(values) => InputData::Int32(&values[range]),
                }
            }));
            let PredictionPlan { plan, penalty } = self
                .plans
                .find_or_make(count, || plan_prediction(model, count, with_penalties))?;
            let mut bindings = Bindings {
                inputs: &part,
                more_inputs: &[],
                parameters,
                statistics,
                gradient: &mut [],
                statistics_out: &mut [],
                key: RandomKey::of(0, 0),
            };
            plan.run(&mut bindings)
                .map_err(|error| explain_index(error, model, start))?;
            let predictions = &mut self.predictions[start * width..(start + count) * width];
            let outputs = 0..model.output_count();
            let widths = outputs.clone().map(|output| model.width_of_output(output));
            put_side_by_side(plan, 0, widths, predictions, width);
            let masks = &mut self.masks[start * mask_width..(start + count) * mask_width];
            let widths = outputs.map(|output| model.mask_width(output));
            let widths = widths.filter(|&width| width > 0);
            put_side_by_side(plan, model.output_count(), widths, masks, mask_width);
            if let (Some(penalties), Some(kept)) = (&mut self.penalties, *penalty) {
                penalties[start..start + count].copy_from_slice(plan.kept(kept));
            }
            start += count;
        }
        Ok(&self.predictions)
    }

    /// What `predict` answered last.
    pub fn predictions(&self) -> &[f32] {
        &self.predictions
    }

    /// What the model adds to the loss of each of the rows predicted last (regularisers, `add_loss`), and would add as much in
    /// a step of training without dropout; empty where that is not asked for.
    pub fn penalties(&self) -> &[f32] {
        self.penalties.as_deref().unwrap_or(&[])
    }

    /// Which steps of the rows predicted last count: 1 and 0, of all outputs side by side, `Model::mask_width` of each.
    pub fn masks(&self) -> SideBySide<'_> {
        SideBySide {
            values: &self.masks,
            width: mask_width(&self.model),
        }
    }
}

fn mask_width(model: &Model) -> usize {
    let outputs = 0..model.output_count();
    outputs.map(|output| model.mask_width(output)).sum()
}

/// Copies what a plan keeps from `first` on, a matrix for each width, into the columns of one matrix.
fn put_side_by_side(
    plan: &Plan,
    first: usize,
    widths: impl Iterator<Item = usize>,
    out: &mut [f32],
    out_width: usize,
) {
    let mut start = 0;
    for (position, width) in widths.enumerate() {
        let kept = plan.kept(first + position);
        if width == out_width {
            out.copy_from_slice(kept);
            return;
        }
        for (row, numbers) in out
            .chunks_exact_mut(out_width)
            .zip(kept.chunks_exact(width))
        {
            row[start..start + width].copy_from_slice(numbers);
        }
        start += width;
    }
}

/// The plan of a prediction of so many rows as text.
pub(in super::super) fn describe_prediction(
    model: &Model,
    rows: usize,
) -> Result<String, ProgramError> {
    Ok(plan_prediction(model, rows, false)?.plan.describe())
}
