//! Where a NaN or an infinity comes from.

use crate::autograd::{Bindings, Destination, Graph, NodeId, Op, Plan};
use crate::support::random::RandomKey;

use super::super::error::ProgramError;
use super::super::model::{Model, ParameterInfo};
use super::LaneBatch;
use super::checks::explain_index;
use super::plans::graph_error;

/// Where numbers stop being finite: the first parameter, or the first layer whose output is not. Runs the model once
/// more with every layer's output kept; only done when a step has failed. `None`: they are finite up to the losses.
pub(super) fn first_not_finite(
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

/// Which of several losses is not finite, where the model's answers are.
pub(super) fn of_losses(model: &Model, losses: &[f64]) -> String {
    match losses.iter().position(|loss| !loss.is_finite()) {
        None => "what regularisers and add_loss add to the loss".to_string(),
        Some(_) if losses.len() == 1 => "the loss of the model's answer".to_string(),
        Some(output) => format!("the loss of output {:?}", model.output_name(output)),
    }
}
