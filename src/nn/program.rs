//! Running a model: a lane's training step, and prediction.
//!
//! A step is a pure function of its arguments: the same lane, numbers and key give the same bits. It is single-threaded
//! and allocates nothing once the plan for its row count is made.

mod checks;

use std::sync::Arc;

use crate::autograd::{Bindings, Destination, Graph, GraphError, NodeId, Op, Plan, gradients};
use crate::support::random::RandomKey;
use crate::tensor::row_sums::RowSums;
use crate::tensor::{Shape, blas};

pub use crate::autograd::Data as InputData;

use super::error::ProgramError;
use super::model::{Model, ParameterInfo, Recorded};
use super::objective::{Objectives, OutputPlace, SideBySide};
use checks::{check_inputs, check_len, check_vectors, explain, explain_index};

/// Plans kept by a trainer or predictor, the most recently used ones: full lanes, ragged lanes and a few more.
const PLANS_MAX: usize = 8;
/// Rows predicted at a time, so that a layer's values stay in the second-level cache.
const PREDICTION_ROWS: usize = 512;

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
    /// Sum over the lane's rows of weight * loss, penalties of regularisers included; not yet divided by the denominator.
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

#[derive(Debug)]
struct TrainingPlan {
    plan: Plan,
    /// Parts of the gradient that no operation writes: parameters without effect on the loss.
    zeros: Vec<(usize, usize)>,
    /// Statistics that no operation moves: those of frozen layers.
    still: Vec<(usize, usize)>,
    /// Which of the kept outputs is the penalty on weights.
    penalty: Option<usize>,
    lookups: Vec<Lookup>,
}

/// One use of a sparse table: the gradient of the rows that it looked up is kept.
#[derive(Debug, Clone, Copy)]
struct Lookup {
    /// Which of `Model::sparse_tables`.
    table: usize,
    /// The model's input that the indices are.
    input: usize,
    /// Which of the kept outputs.
    kept: usize,
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

/// Runs a model forward: dropout off, moving statistics.
#[derive(Debug)]
pub struct Predictor {
    model: Arc<Model>,
    plans: Plans<Plan>,
    predictions: Vec<f32>,
    masks: Vec<f32>,
}

impl Predictor {
    pub fn new(model: Arc<Model>) -> Self {
        blas::use_one_thread();
        Predictor {
            model,
            plans: Plans::default(),
            predictions: Vec::new(),
            masks: Vec::new(),
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
            let plan = self
                .plans
                .find_or_make(count, || plan_prediction(model, count))?;
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
            start += count;
        }
        Ok(&self.predictions)
    }

    /// What `predict` answered last.
    pub fn predictions(&self) -> &[f32] {
        &self.predictions
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

/// Plans by row count, most recently used first.
#[derive(Debug)]
struct Plans<P> {
    plans: Vec<(usize, P)>,
}

impl<P> Default for Plans<P> {
    fn default() -> Self {
        Plans {
            plans: Vec::with_capacity(PLANS_MAX),
        }
    }
}

impl<P> Plans<P> {
    fn find_or_make(
        &mut self,
        rows: usize,
        make: impl FnOnce() -> Result<P, ProgramError>,
    ) -> Result<&mut P, ProgramError> {
        match self.plans.iter().position(|(planned, _)| *planned == rows) {
            Some(position) => self.plans[..=position].rotate_right(1),
            None => {
                let plan = make()?;
                self.plans.truncate(PLANS_MAX - 1);
                self.plans.insert(0, (rows, plan));
            }
        }
        Ok(&mut self.plans[0].1)
    }
}

/// Model, loss and gradient as one plan. Inputs are the model's, then target, row weights and 1 / denominator.
/// Keeps the predictions of each output, then the losses of each row of each output.
fn plan_training(
    model: &Model,
    objectives: &Objectives,
    rows: usize,
) -> Result<TrainingPlan, ProgramError> {
    let planned = |error| graph_error(error, rows);
    let mut graph = Graph::new();
    let recorded = model.record(&mut graph, rows, true).map_err(planned)?;
    let next = model.inputs().len();
    let mut leaf = |number: usize, extents: &[usize]| {
        graph
            .add(Op::Input(next + number, Shape::new(extents)), &[])
            .map_err(planned)
    };
    let target_width = objectives.target_width(model);
    let target = leaf(0, &[rows, target_width])?;
    let weights = leaf(1, &[rows, 1])?;
    let scale = leaf(2, &[])?;
    let seed = graph.times(weights, scale).map_err(planned)?;
    let mut lowered = Vec::with_capacity(objectives.outputs().len() + 1);
    let places = objectives.places(model);
    for (number, (objective, place)) in objectives.outputs().iter().zip(&places).enumerate() {
        let (start, width) = (place.targets.start, place.targets.len());
        let target = match width == target_width {
            true => target,
            false => graph.slice(target, 1, start, width, 1).map_err(planned)?,
        };
        let (output, mask) = (recorded.outputs[number], recorded.masks[number]);
        let row_loss = objective.loss.record(&mut graph, output, target, mask);
        let seed = match objective.weight {
            1.0 => seed,
            weight => graph.scaled(seed, weight as f32).map_err(planned)?,
        };
        lowered.push((row_loss.map_err(planned)?, seed));
    }
    let mut outputs: Vec<(NodeId, Destination)> = recorded
        .outputs
        .iter()
        .chain(lowered.iter().map(|(row_loss, _)| row_loss))
        .map(|&node| (node, Destination::Keep))
        .collect();
    // Penalties on weights count once for the minibatch: each lane adds the share that its rows are of it.
    let penalty = penalty(&mut graph, &recorded, rows).map_err(planned)?;
    lowered.extend(penalty.map(|penalty| (penalty, scale)));
    let first_dense = model.sparse_len();
    let dense: Vec<&ParameterInfo> = model
        .parameters()
        .iter()
        .filter(|info| info.offset >= first_dense)
        .collect();
    let mut sources = dense
        .iter()
        .map(|info| graph.add(Op::Parameter(info.offset, Shape::new(&info.shape)), &[]))
        .collect::<Result<Vec<_>, _>>()
        .map_err(planned)?;
    let uses = lookups(&graph, model);
    sources.extend(uses.iter().map(|(.., looked_up)| *looked_up));
    let slopes = gradients(&mut graph, &lowered, &sources).map_err(planned)?;
    let (of_dense, of_lookups) = slopes.split_at(dense.len());
    let penalty = penalty.map(|penalty| {
        outputs.push((penalty, Destination::Keep));
        outputs.len() - 1
    });
    let mut lookups = Vec::new();
    for (&(table, input, _), slope) in uses.iter().zip(of_lookups) {
        // A use without effect on the loss has no rows.
        if let Some(slope) = *slope {
            lookups.push(Lookup {
                table,
                input,
                kept: outputs.len(),
            });
            outputs.push((slope, Destination::Keep));
        }
    }
    let mut zeros = Vec::new();
    for (slope, info) in of_dense.iter().zip(dense) {
        let offset = info.offset - first_dense;
        match *slope {
            Some(slope) => outputs.push((slope, Destination::Gradient(offset))),
            None => zeros.push((offset, info.len())),
        }
    }
    let moving = recorded.collected.statistics;
    let still = model
        .statistics()
        .iter()
        .filter(|info| moving.iter().all(|(_, offset)| *offset != info.offset))
        .map(|info| (info.offset, info.len()))
        .collect();
    outputs.extend(
        moving
            .into_iter()
            .map(|(value, offset)| (value, Destination::Statistics(offset))),
    );
    Ok(TrainingPlan {
        plan: Plan::new(&graph, &outputs).map_err(planned)?,
        zeros,
        still,
        penalty,
        lookups,
    })
}

/// Every use of a sparse table: the table, the input that the indices are, and the rows looked up. The gradient by those is
/// what the table's list is made of, so that no gradient is ever as large as the table.
fn lookups(graph: &Graph, model: &Model) -> Vec<(usize, usize, NodeId)> {
    let mut found = Vec::new();
    for node in graph.ids().filter(|node| *graph.op(*node) == Op::Gather) {
        let [table, mut indices] = *graph.inputs(node) else {
            continue;
        };
        while let (Op::Reshape(_), [from]) = (graph.op(indices), graph.inputs(indices)) {
            indices = *from;
        }
        if let (Op::Parameter(offset, _), Op::Indices(input, _)) =
            (graph.op(table), graph.op(indices))
        {
            let tables = model.sparse_tables().iter();
            if let Some(table) = tables.clone().position(|table| table.offset == *offset) {
                found.push((table, *input, node));
            }
        }
    }
    found
}

/// Where numbers stop being finite: the first parameter, or the first layer whose output is not. Runs the model once
/// more with every layer's output kept; only done when a step has failed. `None`: they are finite up to the losses.
fn first_not_finite(
    model: &Model,
    parameters: &[f32],
    statistics: &[f32],
    batch: &LaneBatch<'_>,
    key: &RandomKey,
) -> Result<Option<String>, ProgramError> {
    let planned = |error| graph_error(error, batch.rows);
    let finite = |values: &[f32]| values.iter().all(|value| value.is_finite());
    let broken =
        |info: &&ParameterInfo| !finite(&parameters[info.offset..info.offset + info.len()]);
    if let Some(info) = model.parameters().iter().find(broken) {
        return Ok(Some(format!("the parameter {:?}", info.name)));
    }
    let mut graph = Graph::new();
    let recorded = model
        .record(&mut graph, batch.rows, true)
        .map_err(planned)?;
    let float = |node: &NodeId| !matches!(graph.op(*node), Op::Indices(..));
    let named: Vec<(&str, NodeId)> = model
        .layer_names()
        .zip(recorded.layers)
        .filter(|(_, node)| float(node))
        .collect();
    let kept: Vec<(NodeId, Destination)> = named
        .iter()
        .map(|(_, node)| (*node, Destination::Keep))
        .collect();
    let mut plan = Plan::new(&graph, &kept).map_err(planned)?;
    plan.run(&mut Bindings {
        inputs: &batch.inputs,
        more_inputs: &[],
        parameters,
        statistics,
        gradient: &mut [],
        statistics_out: &mut [],
        key: *key,
    })
    .map_err(|error| explain_index(error, model, 0))?;
    let found = (0..named.len()).find(|&position| !finite(plan.kept(position)));
    Ok(found.map(|position| format!("the output of layer {:?}", named[position].0)))
}

/// Which of several losses is not finite.
fn of_losses(model: &Model, losses: &[f64]) -> String {
    let found = losses.iter().position(|loss| !loss.is_finite());
    match found.filter(|_| losses.len() > 1) {
        Some(output) => format!("the loss of output {:?}", model.output_name(output)),
        None => "the loss of the model's answer".to_string(),
    }
}

/// What regularisers add to the loss of so many rows, as one number; `None` where there are none.
fn penalty(
    graph: &mut Graph,
    recorded: &Recorded,
    rows: usize,
) -> Result<Option<NodeId>, GraphError> {
    let mut terms = recorded.collected.row_penalties.clone();
    if let Some(weights) = recorded.weight_penalty {
        terms.push(graph.scaled(weights, rows as f32)?);
    }
    let mut sum: Option<NodeId> = None;
    for term in terms {
        sum = Some(match sum {
            Some(before) => graph.plus(before, term)?,
            None => term,
        });
    }
    Ok(sum)
}

/// The plan of a prediction of so many rows as text.
pub(super) fn describe_prediction(model: &Model, rows: usize) -> Result<String, ProgramError> {
    Ok(plan_prediction(model, rows)?.describe())
}

fn plan_prediction(model: &Model, rows: usize) -> Result<Plan, ProgramError> {
    let planned = |error| graph_error(error, rows);
    let mut graph = Graph::new();
    let recorded = model.record(&mut graph, rows, false).map_err(planned)?;
    let masks = recorded.masks.iter().flatten();
    let kept: Vec<(NodeId, Destination)> = recorded
        .outputs
        .iter()
        .chain(masks)
        .map(|&node| (node, Destination::Keep))
        .collect();
    Plan::new(&graph, &kept).map_err(planned)
}

fn graph_error(error: GraphError, rows: usize) -> ProgramError {
    match error {
        GraphError::TooLarge { floats, limit } => ProgramError::TooManyRows {
            rows,
            floats,
            limit,
        },
        GraphError::TooManyOperations { limit } => ProgramError::TooManyOperations { limit },
        other => ProgramError::Graph(other.to_string()),
    }
}

#[cfg(test)]
mod sparse_tests;
#[cfg(test)]
mod tests;
