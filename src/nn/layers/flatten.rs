//! Flatten: all extents of a row as one.

use crate::autograd::{GraphError, NodeId};

use super::super::error::SpecError;
use super::super::layer::{Context, Layer, Signal, bad_input};
use super::super::options::Options;

#[derive(Debug)]
pub(super) struct Flatten;

impl Flatten {
    pub(super) fn read(_options: &mut Options<'_>) -> Result<Self, SpecError> {
        Ok(Flatten)
    }
}

impl Layer for Flatten {
    fn output(&self, name: &str, inputs: &[Signal]) -> Result<Signal, SpecError> {
        let [input] = inputs else {
            return Err(bad_input(
                name,
                format!("it has {} inputs", inputs.len()),
                "connect exactly one layer",
            ));
        };
        Ok(Signal {
            extents: vec![input.width()],
            dtype: input.dtype,
        })
    }

    fn forward(&self, context: &mut Context<'_>, inputs: &[NodeId]) -> Result<NodeId, GraphError> {
        let shape = context.graph.shape(inputs[0]).clone();
        let width = shape.extents()[1..].iter().product();
        context.graph.reshape(inputs[0], &[context.rows, width])
    }
}
