//! Dense: y = activation(x W + b).
//!
//! Shapes: x (..., in), W (in, units), b (units) to y (..., units). Keras' names, defaults and initial values.

use crate::autograd::{GraphError, NodeId};

use super::super::error::SpecError;
use super::super::initialize::Initializer;
use super::super::layer::{ArraySpec, Context, Layer, Signal, bad_input, one_float_input};
use super::super::options::Options;
use super::activation::Activation;

/// Most units of a layer: the flat vector's own bound is met long before.
const UNITS_MAX: usize = 1 << 30;

#[derive(Debug)]
pub(super) struct Dense {
    units: usize,
    activation: Activation,
    use_bias: bool,
    kernel_initializer: Initializer,
    bias_initializer: Initializer,
}

impl Dense {
    pub(super) fn read(options: &mut Options<'_>) -> Result<Self, SpecError> {
        Ok(Dense {
            units: options.required_count("units", 1, UNITS_MAX)?,
            activation: Activation::read(options)?,
            use_bias: options.flag("use_bias", true)?,
            kernel_initializer: Initializer::read(
                options,
                "kernel_initializer",
                Initializer::GLOROT_UNIFORM,
            )?,
            bias_initializer: Initializer::read(options, "bias_initializer", Initializer::ZEROS)?,
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
        let kernel = ArraySpec::new(
            "kernel",
            &[inputs[0].last(), self.units],
            self.kernel_initializer,
        );
        let bias = ArraySpec::new("bias", &[self.units], self.bias_initializer);
        if self.use_bias {
            vec![kernel, bias]
        } else {
            vec![kernel]
        }
    }

    fn activation(&self) -> Option<Activation> {
        Some(self.activation)
    }

    fn forward(&self, context: &mut Context<'_>, inputs: &[NodeId]) -> Result<NodeId, GraphError> {
        let kernel = context.parameter(0)?;
        let mut extents = context.graph.shape(inputs[0]).extents().to_vec();
        // Leading extents are rows to the product.
        let flat = [
            context.graph.shape(inputs[0]).outer(),
            context.graph.shape(inputs[0]).last(),
        ];
        let x = context.graph.reshape(inputs[0], &flat)?;
        let mut y = context.graph.matmul(x, kernel, false, false)?;
        if self.use_bias {
            let bias = context.parameter(1)?;
            y = context.graph.plus(y, bias)?;
        }
        let y = self.activation.record(context.graph, y)?;
        let last = extents.len() - 1;
        extents[last] = self.units;
        context.graph.reshape(y, &extents)
    }
}
