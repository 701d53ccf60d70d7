//! Concatenate: inputs side by side along the innermost extent; all other extents must be equal.

use crate::autograd::{GraphError, NodeId};

use super::super::error::SpecError;
use super::super::layer::{Context, Layer, Signal, bad_input, require_float};
use super::super::options::Options;

#[derive(Debug)]
pub(super) struct Concatenate;

impl Concatenate {
    pub(super) fn read(options: &mut Options<'_>) -> Result<Self, SpecError> {
        options.innermost_axis()?;
        Ok(Concatenate)
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
        let leading =
            |signal: &Signal| signal.extents[..signal.extents.len().saturating_sub(1)].to_vec();
        let mut total = first.last();
        for other in rest {
            require_float(name, other)?;
            if leading(other) != leading(first) || other.extents.is_empty() {
                return Err(bad_input(
                    name,
                    format!(
                        "its inputs have shapes {:?} and {:?} per row",
                        first.extents, other.extents
                    ),
                    "all extents but the innermost must be equal; put a Flatten between",
                ));
            }
            total = total.saturating_add(other.last());
        }
        let mut extents = leading(first);
        extents.push(total);
        Ok(Signal::float(&extents))
    }

    fn forward(&self, context: &mut Context<'_>, inputs: &[NodeId]) -> Result<NodeId, GraphError> {
        let axis = context.graph.shape(inputs[0]).rank() - 1;
        context.graph.concatenate(inputs, axis)
    }
}
