//! Dense: y = activation(x W + b).
//!
//! Shapes: x (..., in), W (in, units), b (units) to y (..., units). Keras' names, defaults and initial values.

use crate::autograd::{GraphError, NodeId};

use super::super::error::SpecError;
use super::super::layer::{
    ArrayOptions, ArraySpec, Context, Layer, Signal, bad_input, one_float_input,
};
use super::super::options::Options;
use super::activation::Activation;

/// Most units of a layer: the flat vector's own bound is met long before.
const UNITS_MAX: usize = 1 << 30;

#[derive(Debug)]
pub(super) struct Dense {
    units: usize,
    activation: Activation,
    use_bias: bool,
    kernel: ArrayOptions,
    bias: ArrayOptions,
}

impl Dense {
    pub(super) fn read(options: &mut Options<'_>) -> Result<Self, SpecError> {
        Ok(Dense {
            units: options.required_count("units", 1, UNITS_MAX)?,
            activation: Activation::read(options)?,
            use_bias: options.flag("use_bias", true)?,
            kernel: ArrayOptions::kernel(options)?,
            bias: ArrayOptions::bias(options)?,
        })
    }
}

impl Layer for Dense {
    fn output(&self, name: &str, inputs: &[Signal]) -> Result<Signal, SpecError> {
        let input = one_float_input(name, inputs)?;
        let mut extents = input.extents.clone();
        match extents.last_mut() {
            Some(last) => *last = self.units,
            None => {
                return Err(bad_input(
                    name,
                    "its input has no columns".to_string(),
                    "give at least one",
                ));
            }
        }
        Ok(Signal::float(&extents))
    }

    fn parameters(&self, inputs: &[Signal]) -> Vec<ArraySpec> {
        let kernel = self.kernel.array(&[inputs[0].last(), self.units]);
        let bias = self.bias.array(&[self.units]);
        if self.use_bias {
            vec![kernel, bias]
        } else {
            vec![kernel]
        }
    }

    fn passes_mask(&self) -> bool {
        true
    }

    fn activation(&self) -> Option<Activation> {
        Some(self.activation)
    }

    fn forward(&self, context: &mut Context<'_>, inputs: &[NodeId]) -> Result<NodeId, GraphError> {
        let kernel = context.parameter(0)?;
        let mut y = context.graph.dense(inputs[0], kernel)?;
        if self.use_bias {
            let bias = context.parameter(1)?;
            y = context.graph.plus(y, bias)?;
        }
        self.activation.record(context.graph, y)
    }
}
