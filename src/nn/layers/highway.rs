//! Highway: y = t h + (1 - t) x, with h = activation(x W + b) and the gate t = sigmoid(x V + c) (Srivastava et al., 2015).
//!
//! Shapes: x (..., width), W and V (width, width), b and c (width) to (..., width). The gate's bias starts at
//! `transform_bias`, so that a new layer mostly passes its input on. The mask goes with the output. Keras 1 and Analytics
//! Zoo have this layer; Keras 3 has not.

use crate::autograd::{GraphError, NodeId};
use crate::tensor::kernels::elementwise::Unary;

use super::super::error::SpecError;
use super::super::initialize::Initializer;
use super::super::layer::{
    ArrayOptions, ArraySpec, Context, Layer, Signal, bad_input, one_float_input,
};
use super::super::options::Options;
use super::activation::Activation;

#[derive(Debug)]
pub(super) struct Highway {
    activation: Activation,
    use_bias: bool,
    kernel: ArrayOptions,
    transform_kernel: Initializer,
    bias: ArrayOptions,
    transform_bias: f64,
}

impl Highway {
    pub(super) fn read(options: &mut Options<'_>) -> Result<Self, SpecError> {
        let kernel = ArrayOptions::kernel(options)?;
        let option = "kernel_initializer";
        Ok(Highway {
            activation: Activation::read(options)?,
            use_bias: options.flag("use_bias", true)?,
            kernel,
            transform_kernel: Initializer::read(options, option, Initializer::GLOROT_UNIFORM)?,
            bias: ArrayOptions::bias(options)?,
            transform_bias: options.number("transform_bias", -2.0, -1e6, 1e6)?,
        })
    }
}

impl Layer for Highway {
    fn output(&self, name: &str, inputs: &[Signal]) -> Result<Signal, SpecError> {
        let input = one_float_input(name, inputs)?;
        if input.extents.is_empty() {
            return Err(bad_input(
                name,
                "its input has no columns".to_string(),
                "give at least one",
            ));
        }
        Ok(input.clone())
    }

    fn parameters(&self, inputs: &[Signal]) -> Vec<ArraySpec> {
        let width = inputs[0].last();
        let square = [width, width];
        let mut arrays = vec![
            self.kernel.array(&square),
            ArraySpec::new("transform_kernel", &square, &self.transform_kernel),
        ];
        if self.use_bias {
            let start = Initializer::Constant(self.transform_bias);
            arrays.push(self.bias.array(&[width]));
            arrays.push(ArraySpec::new("transform_bias", &[width], &start));
        }
        arrays
    }

    fn passes_mask(&self) -> bool {
        true
    }

    fn forward(&self, context: &mut Context<'_>, inputs: &[NodeId]) -> Result<NodeId, GraphError> {
        let x = inputs[0];
        let mut products = Vec::with_capacity(2);
        for number in 0..2 {
            let kernel = context.parameter(number)?;
            let mut y = context.graph.dense(x, kernel)?;
            if self.use_bias {
                let bias = context.parameter(2 + number)?;
                y = context.graph.plus(y, bias)?;
            }
            products.push(y);
        }
        let graph = &mut *context.graph;
        let transformed = self.activation.record(graph, products[0])?;
        let gate = graph.unary(Unary::Sigmoid, products[1])?;
        // x + t (h - x): one product fewer.
        let difference = graph.minus(transformed, x)?;
        let moved = graph.times(gate, difference)?;
        graph.plus(x, moved)
    }
}
