//! The walk from an output back to what it depends on, and the sums where ways meet.

use super::error::GraphError;
use super::graph::{Graph, NodeId};
use super::rules::pull_back;

/// Adds to the graph the gradient of the sum over `outputs` of sum(seed * output) with respect to each of `sources`;
/// `None` where no output depends on one. Each output's seed has its shape.
pub fn gradients(
    graph: &mut Graph,
    outputs: &[(NodeId, NodeId)],
    sources: &[NodeId],
) -> Result<Vec<Option<NodeId>>, GraphError> {
    walk(graph, outputs, sources, false)
}

/// The same for a part of a program: sources are the part's own inputs, and the walk ends at each of them even where one
/// depends on another.
pub(super) fn gradients_of_part(
    graph: &mut Graph,
    outputs: &[(NodeId, NodeId)],
    sources: &[NodeId],
) -> Result<Vec<Option<NodeId>>, GraphError> {
    walk(graph, outputs, sources, true)
}

fn walk(
    graph: &mut Graph,
    outputs: &[(NodeId, NodeId)],
    sources: &[NodeId],
    ends_at_sources: bool,
) -> Result<Vec<Option<NodeId>>, GraphError> {
    let forward_len = outputs
        .iter()
        .map(|(output, _)| output.0 + 1)
        .max()
        .unwrap_or(0);
    let mut depends = vec![false; forward_len];
    for id in 0..forward_len {
        depends[id] = sources.contains(&NodeId(id))
            || graph.nodes()[id]
                .inputs
                .iter()
                .any(|input| depends[input.0]);
    }
    let mut cotangents: Vec<Option<NodeId>> = vec![None; forward_len];
    for &(output, seed) in outputs {
        cotangents[output.0] = Some(match cotangents[output.0] {
            Some(before) => graph.plus(before, seed)?,
            None => seed,
        });
    }
    for id in (0..forward_len).rev() {
        let Some(dy) = cotangents[id] else { continue };
        if ends_at_sources && sources.contains(&NodeId(id)) {
            continue;
        }
        let inputs = graph.inputs(NodeId(id)).to_vec();
        let wanted: Vec<bool> = inputs.iter().map(|input| depends[input.0]).collect();
        if !wanted.contains(&true) {
            continue;
        }
        for ((input, &wanted), pulled) in
            inputs
                .iter()
                .zip(&wanted)
                .zip(pull_back(graph, NodeId(id), dy, &wanted)?)
        {
            let (true, Some(pulled)) = (wanted, pulled) else {
                continue;
            };
            cotangents[input.0] = Some(match cotangents[input.0] {
                Some(before) => graph.plus(before, pulled)?,
                None => pulled,
            });
        }
    }
    Ok(sources
        .iter()
        .map(|source| cotangents.get(source.0).copied().flatten())
        .collect())
}
