//! Running a model: a lane's training step, and prediction.
//!
//! A step is a pure function of its arguments: the same lane, numbers and key give the same bits. It is single-threaded
//! and allocates nothing once the plan for its row count is made.

use std::sync::Arc;

use crate::autograd::{
    Bindings, Destination, Graph, GraphError, NodeId, Op, Plan, RunError, gradients,
};
use crate::support::random::RandomKey;
use crate::tensor::row_sums::RowSums;
use crate::tensor::{Shape, blas};

pub use crate::autograd::Data as InputData;

use super::error::ProgramError;
use super::losses::Loss;
use super::model::{InputType, Model, ParameterInfo, Recorded};

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
    /// Sum over the lane's rows of weight * loss, penalties of regularisers included; not yet divided by the denominator.
    pub loss_sum: f64,
    /// rows * `Model::output_width()`, after the last activation, dropout on.
    pub predictions: &'a [f32],
}

/// Runs training steps of one lane at a time; one per thread. Keeps a plan per row count, at most 8 of them.
#[derive(Debug)]
pub struct LaneTrainer {
    model: Arc<Model>,
    loss: Loss,
    plans: Plans<TrainingPlan>,
    ones: Vec<f32>,
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
    pub fn new(model: Arc<Model>, loss: Loss) -> Result<Self, ProgramError> {
        loss.check_model(&model)?;
        blas::use_one_thread();
        Ok(LaneTrainer {
            model,
            loss,
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

    /// Overwrites `gradient` with the gradient of sum(weight * loss) / denominator by all parameters but the sparse tables
    /// (from `Model::sparse_len` on) and `statistics_out` with this lane's new moving statistics (copied unchanged when the
    /// lane has no rows). Pushes the gradient by each sparse table to its sums, a list of the rows that were looked up.
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
        let (model, loss) = (&*self.model, &self.loss);
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
        let target_width = loss.target_width(model);
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
            for sums in tables {
                sums.push(std::iter::empty());
            }
            return Ok(StepOutput {
                loss_sum: 0.0,
                predictions: &[],
            });
        }
        if self.ones.len() < batch.rows {
            self.ones.resize(batch.rows, 1.0);
        }
        let weights = batch.weights.unwrap_or(&self.ones[..batch.rows]);
        let planned = self
            .plans
            .find_or_make(batch.rows, || plan_training(model, loss, batch.rows))?;
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
            .map_err(|error| explain(error, model, target_width, batch))?;
        for &(offset, len) in &planned.zeros {
            bindings.gradient[offset..offset + len].fill(0.0);
        }
        for &(offset, len) in &planned.still {
            bindings.statistics_out[offset..offset + len]
                .copy_from_slice(&statistics[offset..offset + len]);
        }
        let losses = planned.plan.kept(1);
        let penalty = planned
            .penalty
            .map_or(&[][..], |kept| planned.plan.kept(kept));
        let penalty: f64 = penalty.iter().copied().map(f64::from).sum();
        let loss_sum: f64 = losses
            .iter()
            .zip(weights)
            .map(|(&loss, &weight)| f64::from(loss) * f64::from(weight))
            .sum::<f64>()
            + penalty;
        if !loss_sum.is_finite() {
            return Err(ProgramError::NonFiniteLoss {
                value: loss_sum.to_string(),
                origin: first_not_finite(model, parameters, statistics, batch, &random)
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
            predictions: planned.plan.kept(0),
        })
    }

    /// The plan for so many rows as text: operations, fused groups, FLOPs, arena bytes.
    pub fn describe(&self, rows: usize) -> Result<String, ProgramError> {
        Ok(plan_training(&self.model, &self.loss, rows)?
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
}

impl Predictor {
    pub fn new(model: Arc<Model>) -> Self {
        blas::use_one_thread();
        Predictor {
            model,
            plans: Plans::default(),
            predictions: Vec::new(),
        }
    }

    /// rows * `Model::output_width()` numbers. Rows go through the model 512 at a time.
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
            self.predictions[start * width..(start + count) * width].copy_from_slice(plan.kept(0));
            start += count;
        }
        Ok(&self.predictions)
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
/// Keeps the predictions and the loss of each row.
fn plan_training(model: &Model, loss: &Loss, rows: usize) -> Result<TrainingPlan, ProgramError> {
    let planned = |error| graph_error(error, rows);
    let mut graph = Graph::new();
    let recorded = model.record(&mut graph, rows, true).map_err(planned)?;
    let output = recorded.output;
    let next = model.inputs().len();
    let mut leaf = |number: usize, extents: &[usize]| {
        graph
            .add(Op::Input(next + number, Shape::new(extents)), &[])
            .map_err(planned)
    };
    let target = leaf(0, &[rows, loss.target_width(model)])?;
    let weights = leaf(1, &[rows, 1])?;
    let scale = leaf(2, &[])?;
    let row_loss = loss.record(&mut graph, output, target).map_err(planned)?;
    let seed = graph.times(weights, scale).map_err(planned)?;
    let mut objectives = vec![(row_loss, seed)];
    // Penalties on weights count once for the minibatch: each lane adds the share that its rows are of it.
    let penalty = penalty(&mut graph, &recorded, rows).map_err(planned)?;
    objectives.extend(penalty.map(|penalty| (penalty, scale)));
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
    let slopes = gradients(&mut graph, &objectives, &sources).map_err(planned)?;
    let (of_dense, of_lookups) = slopes.split_at(dense.len());
    let mut outputs = vec![(output, Destination::Keep), (row_loss, Destination::Keep)];
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
/// more with every layer's output kept; only done when a step has failed.
fn first_not_finite(
    model: &Model,
    parameters: &[f32],
    statistics: &[f32],
    batch: &LaneBatch<'_>,
    key: &RandomKey,
) -> Result<String, ProgramError> {
    let planned = |error| graph_error(error, batch.rows);
    let finite = |values: &[f32]| values.iter().all(|value| value.is_finite());
    let broken =
        |info: &&ParameterInfo| !finite(&parameters[info.offset..info.offset + info.len()]);
    if let Some(info) = model.parameters().iter().find(broken) {
        return Ok(format!("the parameter {:?}", info.name));
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
    Ok(match found {
        Some(position) => format!("the output of layer {:?}", named[position].0),
        None => "the loss of the model's answer".to_string(),
    })
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
    Plan::new(&graph, &[(recorded.output, Destination::Keep)]).map_err(planned)
}

fn graph_error(error: GraphError, rows: usize) -> ProgramError {
    match error {
        GraphError::TooLarge { floats, limit } => ProgramError::TooManyRows {
            rows,
            floats,
            limit,
        },
        other => ProgramError::Graph(other.to_string()),
    }
}

/// A run's error in the words of the caller: rows, inputs and targets instead of positions.
fn explain(
    error: RunError,
    model: &Model,
    target_width: usize,
    batch: &LaneBatch<'_>,
) -> ProgramError {
    match error {
        RunError::ClassOutOfRange {
            position, classes, ..
        } => {
            let value = batch
                .target
                .get(position)
                .map_or_else(|| "missing".to_string(), f32::to_string);
            ProgramError::BadTarget {
                row: position / target_width.max(1),
                value,
                last: classes - 1,
            }
        }
        RunError::LabelTooLong { .. } | RunError::BlankInLabel { .. } => {
            ProgramError::BadSequence(error.to_string())
        }
        other => explain_index(other, model, 0),
    }
}

fn explain_index(error: RunError, model: &Model, first_row: usize) -> ProgramError {
    match error {
        RunError::IndexOutOfRange {
            input: Some(input),
            position,
            index,
            rows,
        } if input < model.inputs().len() => {
            let described = &model.inputs()[input];
            let column = position % described.width;
            let name = described.columns.get(column).unwrap_or(&described.name);
            ProgramError::IndexOutOfRange {
                layer: format!("input {:?}, column {name:?}", described.name),
                row: first_row + position / described.width,
                index,
                last: rows as i64 - 1,
            }
        }
        other => ProgramError::Graph(other.to_string()),
    }
}

fn check_vectors(
    model: &Model,
    parameters: &[f32],
    statistics: &[f32],
) -> Result<(), ProgramError> {
    check_len(
        "the parameter vector",
        model.parameter_len(),
        parameters.len(),
    )?;
    check_len(
        "the statistics vector",
        model.statistics_len(),
        statistics.len(),
    )
}

fn check_inputs(model: &Model, rows: usize, inputs: &[InputData<'_>]) -> Result<(), ProgramError> {
    if inputs.len() != model.inputs().len() {
        return Err(ProgramError::WrongInputCount {
            expected: model.inputs().len(),
            found: inputs.len(),
        });
    }
    for (input, described) in inputs.iter().zip(model.inputs()) {
        let len = match (input, described.dtype) {
            (InputData::Float32(values), InputType::Float32) => values.len(),
            (InputData::Int32(values), InputType::Int32) => values.len(),
            (InputData::Int32(_), InputType::Float32) => {
                return Err(wrong_type(&described.name, "float32", "int32"));
            }
            (InputData::Float32(_), InputType::Int32) => {
                return Err(wrong_type(&described.name, "int32", "float32"));
            }
        };
        if rows.checked_mul(described.width) != Some(len) {
            check_len(
                &format!("input {:?}", described.name),
                rows.saturating_mul(described.width),
                len,
            )?;
        }
    }
    Ok(())
}

fn wrong_type(input: &str, expected: &'static str, found: &'static str) -> ProgramError {
    ProgramError::WrongType {
        input: input.to_string(),
        expected,
        found,
    }
}

fn check_len(what: &str, expected: usize, found: usize) -> Result<(), ProgramError> {
    if expected == found {
        return Ok(());
    }
    Err(ProgramError::WrongLength {
        what: what.to_string(),
        expected,
        found,
        hint: "it must match the model and the rows",
    })
}

#[cfg(test)]
mod sparse_tests;
#[cfg(test)]
mod tests;
