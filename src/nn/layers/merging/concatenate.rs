//! Concatenate: inputs side by side along one axis; all other extents must be equal.
//!
//! Where any input has a mask the output has one. Along the steps, masks lie side by side too, and an input without a mask
//! counts whole; along the innermost axis a step counts if it counts in any input.

use crate::autograd::{GraphError, NodeId};
use crate::tensor::Shape;

use super::super::super::error::SpecError;
use super::super::super::layer::{Context, Layer, Signal, bad_input, require_float};
use super::super::super::options::Options;
use super::super::axes::Axis;
use super::super::masks;

#[derive(Debug)]
pub(in super::super) struct Concatenate {
    axis: Axis,
}

impl Concatenate {
    pub(in super::super) fn read(options: &mut Options<'_>) -> Result<Self, SpecError> {
        Ok(Concatenate {
            axis: Axis::read(options, "axis", Axis::INNERMOST)?,
        })
    }
}

impl Layer for Concatenate {
    fn output(&self, name: &str, inputs: &[Signal]) -> Result<Signal, SpecError> {
        let [first, rest @ ..] = inputs else {
            return Err(bad_input(
                name,
                "it has no inputs".to_string(),
                "connect at least two layers",
            ));
        };
        require_float(name, first)?;
        let axis = self.axis.find(name, first.extents.len() + 1)? - 1;
        let others = |signal: &Signal| {
            let mut extents = signal.extents.clone();
            (axis < extents.len()).then(|| {
                extents.remove(axis);
                extents
            })
        };
        let mut extents = first.extents.clone();
        for other in rest {
            require_float(name, other)?;
            if others(other) != others(first) {
                return Err(bad_input(
                    name,
                    format!(
                        "its inputs have shapes {:?} and {:?} per row",
                        first.extents, other.extents
                    ),
                    "all extents but the one joined along (axis) must be equal; put a Flatten or a Reshape between",
                ));
            }
            extents[axis] = extents[axis].saturating_add(other.extents[axis]);
        }
        Ok(Signal::float(&extents))
    }

    fn forward(&self, context: &mut Context<'_>, inputs: &[NodeId]) -> Result<NodeId, GraphError> {
        let given = context.masks;
        let graph = &mut *context.graph;
        let rank = graph.shape(inputs[0]).rank();
        let axis = self.axis.at(rank);
        if given.iter().any(Option::is_some) {
            let mut parts = Vec::with_capacity(inputs.len());
            for (&x, mask) in inputs.iter().zip(given) {
                let steps = Shape::new(&graph.shape(x).extents()[..rank - 1]);
                let mask = match *mask {
                    Some(mask) => {
                        let spread = masks::over(graph, mask, x)?;
                        let extents = graph.shape(spread).extents()[..rank - 1].to_vec();
                        graph.reshape(spread, &extents)?
                    }
                    None => graph.constant(1.0)?,
                };
                parts.push(graph.broadcast_to(mask, &steps)?);
            }
            context.mask = Some(if axis + 1 < rank {
                graph.concatenate(&parts, axis)?
            } else {
                masks::either(graph, &parts)?
            });
        }
        graph.concatenate(inputs, axis)
    }
}
