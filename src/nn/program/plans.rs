//! What a step and a prediction are planned as, and the plans that are kept.

use crate::autograd::{Destination, Graph, GraphError, NodeId, Op, Plan, gradients};
use crate::tensor::Shape;

use super::super::error::ProgramError;
use super::super::model::{Model, ParameterInfo, Recorded};
use super::super::objective::Objectives;

/// Plans kept by a trainer or predictor, the most recently used ones: full lanes, ragged lanes and a few more.
pub(super) const PLANS_MAX: usize = 8;

#[derive(Debug)]
pub(super) struct TrainingPlan {
    pub(super) plan: Plan,
    /// Parts of the gradient that no operation writes: parameters without effect on the loss.
    pub(super) zeros: Vec<(usize, usize)>,
    /// Statistics that no operation moves: those of frozen layers.
    pub(super) still: Vec<(usize, usize)>,
    /// Which of the kept outputs is the penalty on weights.
    pub(super) penalty: Option<usize>,
    pub(super) lookups: Vec<Lookup>,
}

#[derive(Debug)]
pub(super) struct PredictionPlan {
    pub(super) plan: Plan,
    /// Which of the kept outputs is the penalties of rows.
    pub(super) penalty: Option<usize>,
}

/// One use of a sparse table: the gradient of the rows that it looked up is kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lookup {
    /// Which of `Model::sparse_tables`.
    pub(super) table: usize,
    /// The model's input that the indices are.
    pub(super) input: usize,
    /// Which of the kept outputs.
    pub(super) kept: usize,
}

/// Plans by row count, most recently used first.
#[derive(Debug)]
pub(super) struct Plans<P> {
    pub(super) plans: Vec<(usize, P)>,
}

impl<P> Default for Plans<P> {
    fn default() -> Self {
        Plans {
            plans: Vec::with_capacity(PLANS_MAX),
        }
    }
}

impl<P> Plans<P> {
    pub(super) fn find_or_make(
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
pub(super) fn plan_training(
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

/// What regularisers and layers add to the loss of so many rows, as one number; `None` where they add nothing.
fn penalty(
    graph: &mut Graph,
    recorded: &Recorded,
    rows: usize,
) -> Result<Option<NodeId>, GraphError> {
    let weights = match recorded.weight_penalty {
        Some(weights) => Some(graph.scaled(weights, rows as f32)?),
        None => None,
    };
    let of_rows = match sum(graph, recorded.collected.row_penalties.iter().copied())? {
        Some(of_rows) => Some(graph.sum_to(of_rows, &Shape::scalar())?),
        None => None,
    };
    sum(graph, of_rows.into_iter().chain(weights))
}

/// The same for each row, (rows, 1).
fn penalty_of_rows(
    graph: &mut Graph,
    recorded: &Recorded,
    rows: usize,
) -> Result<Option<NodeId>, GraphError> {
    let weights = match recorded.weight_penalty {
        Some(weights) => Some(graph.broadcast_to(weights, &Shape::new(&[rows, 1]))?),
        None => None,
    };
    let of_rows = recorded.collected.row_penalties.iter().copied();
    sum(graph, of_rows.chain(weights))
}

fn sum(
    graph: &mut Graph,
    terms: impl Iterator<Item = NodeId>,
) -> Result<Option<NodeId>, GraphError> {
    let mut sum: Option<NodeId> = None;
    for term in terms {
        sum = Some(match sum {
            Some(before) => graph.plus(before, term)?,
            None => term,
        });
    }
    Ok(sum)
}

/// Keeps the predictions of each output, then the masks of those that have one, and, where they are asked for and there are
/// any, the penalties of each row.
pub(super) fn plan_prediction(
    model: &Model,
    rows: usize,
    penalties: bool,
) -> Result<PredictionPlan, ProgramError> {
    let planned = |error| graph_error(error, rows);
    let mut graph = Graph::new();
    let recorded = model.record(&mut graph, rows, false).map_err(planned)?;
    let masks = recorded.masks.iter().flatten();
    let mut kept: Vec<(NodeId, Destination)> = recorded
        .outputs
        .iter()
        .chain(masks)
        .map(|&node| (node, Destination::Keep))
        .collect();
    let penalty = match penalties {
        true => penalty_of_rows(&mut graph, &recorded, rows).map_err(planned)?,
        false => None,
    };
    let penalty = penalty.map(|penalty| {
        kept.push((penalty, Destination::Keep));
        kept.len() - 1
    });
    let plan = Plan::new(&graph, &kept).map_err(planned)?;
    Ok(PredictionPlan { plan, penalty })
}

pub(super) fn graph_error(error: GraphError, rows: usize) -> ProgramError {
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
