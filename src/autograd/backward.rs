//! The walk from an output back to what it depends on, and the sums where ways meet.

use super::error::GraphError;
use super::graph::{Graph, NodeId};
use super::op::Op;
use super::rules::pull_back;
use crate::tensor::Shape;
use crate::tensor::kernels::view::View;

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
    // Cotangents of slices, kept apart until all are there: side by side they may be the whole.
    let mut slices: Vec<Vec<NodeId>> = vec![Vec::new(); forward_len];
    for id in (0..forward_len).rev() {
        for part in joined(graph, std::mem::take(&mut slices[id]))? {
            cotangents[id] = Some(match cotangents[id] {
                Some(before) => graph.plus(before, part)?,
                None => part,
            });
        }
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
            if matches!(graph.op(pulled), Op::ViewAdd(..)) {
                slices[input.0].push(pulled);
                continue;
            }
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

/// Numbers put into zeros, to be summed: one concatenation where they are neighbouring slices that make up the whole, which spares
/// a sum over the whole for each; else as they are.
fn joined(graph: &mut Graph, placed: Vec<NodeId>) -> Result<Vec<NodeId>, GraphError> {
    let mut views = Vec::with_capacity(placed.len());
    for &node in &placed {
        if let Op::ViewAdd(view, shape) = graph.op(node) {
            views.push((view.clone(), shape.clone(), graph.inputs(node)[0]));
        }
    }
    let Some(axis) = tiled_axis(&views) else {
        return Ok(placed);
    };
    views.sort_by_key(|(view, ..)| view.offset);
    let parts: Vec<NodeId> = views.into_iter().map(|(.., part)| part).collect();
    Ok(vec![graph.concatenate(&parts, axis)?])
}

/// The axis along which slices lie side by side, each number of the whole in exactly one.
fn tiled_axis(slices: &[(View, Shape, NodeId)]) -> Option<usize> {
    let [(first, shape, _), _, ..] = slices else {
        return None;
    };
    let whole = View::whole(shape);
    let axis =
        (0..shape.rank()).find(|&axis| first.extents.get(axis) != Some(&whole.extents[axis]))?;
    let stride = whole.strides[axis].cast_unsigned();
    let mut covered: Vec<(usize, usize)> = Vec::with_capacity(slices.len());
    for (view, ..) in slices {
        let mut expected = whole.clone();
        expected.extents[axis] = *view.extents.get(axis)?;
        expected.offset = view.offset;
        for (expected, (&stride, &extent)) in expected
            .strides
            .iter_mut()
            .zip(view.strides.iter().zip(&view.extents))
        {
            // Along an extent of 1 no stride is ever taken.
            if extent <= 1 {
                *expected = stride;
            }
        }
        if *view != expected || view.offset % stride != 0 {
            return None;
        }
        covered.push((view.offset / stride, view.extents[axis]));
    }
    covered.sort_unstable();
    let mut end = 0;
    for (start, count) in covered {
        if start != end {
            return None;
        }
        end += count;
    }
    (end == whole.extents[axis]).then_some(axis)
}
