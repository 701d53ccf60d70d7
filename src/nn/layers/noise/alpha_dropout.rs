//! AlphaDropout: dropout that keeps mean 0 and variance 1, for networks of `selu` (Klambauer et al., 2017).
//!
//! A dropped number becomes p = -alpha scale, where `selu` saturates; then y = a x + b with
//! a = ((1 - rate)(1 + rate p^2))^(-1/2) and b = -a p rate, which gives mean and variance back.

use crate::autograd::{GraphError, NodeId};
use crate::tensor::kernels::elementwise::Unary;

use super::super::super::error::SpecError;
use super::super::super::layer::{Context, Layer, Signal, one_float_input};
use super::super::super::options::Options;
use super::super::activation::{SELU_ALPHA, SELU_SCALE};
use super::dropout::check_noise_shape;
use super::{drawn_extents, fresh_mask, noise_shape, rate};

#[derive(Debug)]
pub(in super::super) struct AlphaDropout {
    rate: f32,
    noise_shape: Option<Vec<Option<usize>>>,
}

impl AlphaDropout {
    pub(in super::super) fn read(options: &mut Options<'_>) -> Result<Self, SpecError> {
        Ok(AlphaDropout {
            rate: rate(options)?,
            noise_shape: noise_shape(options)?,
        })
    }
}

impl Layer for AlphaDropout {
    fn output(&self, name: &str, inputs: &[Signal]) -> Result<Signal, SpecError> {
        let input = one_float_input(name, inputs)?;
        check_noise_shape(name, self.noise_shape.as_deref(), input)?;
        Ok(input.clone())
    }

    fn passes_mask(&self) -> bool {
        true
    }

    fn forward(&self, context: &mut Context<'_>, inputs: &[NodeId]) -> Result<NodeId, GraphError> {
        if !context.training || self.rate == 0.0 {
            return Ok(inputs[0]);
        }
        let saturated = -SELU_ALPHA * SELU_SCALE;
        let factor = ((1.0 - self.rate) * (1.0 + self.rate * saturated * saturated)).powf(-0.5);
        let extents = context.graph.shape(inputs[0]).extents()[1..].to_vec();
        let drawn = drawn_extents(self.noise_shape.as_deref(), &extents).unwrap_or(extents);
        let mask = fresh_mask(context, self.rate, &drawn)?;
        let graph = &mut *context.graph;
        let kept = graph.unary(Unary::Step, mask)?;
        let dropped = graph.complement(kept)?;
        let kept = graph.times(inputs[0], kept)?;
        let kept = graph.scaled(kept, factor)?;
        // b where a number is kept, a p + b where it is dropped.
        let shift = graph.scaled(dropped, factor * saturated)?;
        let shift = graph.shifted(shift, -factor * saturated * self.rate)?;
        graph.plus(kept, shift)
    }
}
