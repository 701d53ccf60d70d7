//! Masking: steps whose numbers all equal `mask_value` do not count in the layers behind.
//!
//! Shapes: (steps..., width) to the same; the mask is (steps...), 1 where any number differs from `mask_value`. Steps that
//! do not count become 0. A mask that the input has is replaced, as in Keras.

use crate::autograd::{GraphError, NodeId};
use crate::tensor::kernels::elementwise::Binary;

use super::super::super::error::SpecError;
use super::super::super::layer::{Context, Layer, Signal, bad_input, one_float_input};
use super::super::super::options::Options;
use crate::autograd::Reduction;

#[derive(Debug)]
pub(in super::super) struct Masking {
    mask_value: f32,
}

impl Masking {
    pub(in super::super) fn read(options: &mut Options<'_>) -> Result<Self, SpecError> {
        let limit = f64::from(f32::MAX);
        Ok(Masking {
            mask_value: options.number("mask_value", 0.0, -limit, limit)? as f32,
        })
    }
}

impl Layer for Masking {
    fn output(&self, name: &str, inputs: &[Signal]) -> Result<Signal, SpecError> {
        let input = one_float_input(name, inputs)?;
        if input.extents.len() < 2 {
            return Err(bad_input(
                name,
                format!("its input has shape {:?} per row", input.extents),
                "it takes steps of numbers, at least two extents per row; give the Input a shape or put a Reshape between",
            ));
        }
        Ok(input.clone())
    }

    fn forward(&self, context: &mut Context<'_>, inputs: &[NodeId]) -> Result<NodeId, GraphError> {
        let graph = &mut *context.graph;
        let x = inputs[0];
        let last = graph.shape(x).rank() - 1;
        let difference = graph.shifted(x, -self.mask_value)?;
        // `Keep` and not `Step`: a NaN differs from every value and must be seen.
        let one = graph.constant(1.0)?;
        let differs = graph.binary(Binary::Keep, difference, one)?;
        let mask = graph.reduce(Reduction::Max, differs, last, 1)?;
        context.mask = Some(mask);
        let spread = graph.with_ones(mask, last, 1)?;
        graph.binary(Binary::Keep, spread, x)
    }
}
