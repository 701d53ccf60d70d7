//! MaxoutDense: y = max over k of (x W_k + b_k), the greatest of `nb_feature` dense layers (Goodfellow et al., 2013).
//!
//! Shapes: x (..., in), W (nb_feature, in, output_dim), b (nb_feature, output_dim) to (..., output_dim). Where several reach
//! the greatest number they share its gradient. W starts as a kernel of its three extents. The mask goes with the output. Keras 1 and Analytics Zoo have this layer;
//! Keras 3 has not.

use crate::autograd::{GraphError, NodeId, Reduction};

use super::super::error::SpecError;
use super::super::layer::{
    ArrayOptions, ArraySpec, Context, Layer, Signal, bad_input, one_float_input,
};
use super::super::options::Options;
use super::axes::RANK_MAX;

#[derive(Debug)]
pub(super) struct MaxoutDense {
    output_dim: usize,
    nb_feature: usize,
    use_bias: bool,
    kernel: ArrayOptions,
    bias: ArrayOptions,
}

impl MaxoutDense {
    pub(super) fn read(options: &mut Options<'_>) -> Result<Self, SpecError> {
        Ok(MaxoutDense {
            output_dim: options.required_count("output_dim", 1, 1 << 30)?,
            nb_feature: options.count("nb_feature", 1, 1 << 20)?.unwrap_or(4),
            use_bias: options.flag("use_bias", true)?,
            kernel: ArrayOptions::kernel(options)?,
            bias: ArrayOptions::bias(options)?,
        })
    }
}

impl Layer for MaxoutDense {
    fn output(&self, name: &str, inputs: &[Signal]) -> Result<Signal, SpecError> {
        let mut extents = one_float_input(name, inputs)?.extents.clone();
        // Inside, the features are one axis more.
        if extents.is_empty() || extents.len() + 2 > RANK_MAX {
            return Err(bad_input(
                name,
                format!("its input has shape {extents:?} per row"),
                &format!("give it 1 to {} extents per row", RANK_MAX - 2),
            ));
        }
        let last = extents.len() - 1;
        extents[last] = self.output_dim;
        Ok(Signal::float(&extents))
    }

    fn parameters(&self, inputs: &[Signal]) -> Vec<ArraySpec> {
        let (features, columns) = (self.nb_feature, self.output_dim);
        let mut arrays = vec![self.kernel.array(&[features, inputs[0].last(), columns])];
        if self.use_bias {
            arrays.push(self.bias.array(&[features, columns]));
        }
        arrays
    }

    fn passes_mask(&self) -> bool {
        true
    }

    fn forward(&self, context: &mut Context<'_>, inputs: &[NodeId]) -> Result<NodeId, GraphError> {
        let kernel = context.parameter(0)?;
        let mut extents = context.graph.shape(inputs[0]).extents().to_vec();
        let width = extents.pop().unwrap_or(1);
        let features = extents.len();
        extents.extend([self.nb_feature, self.output_dim]);
        // All features side by side are one product of matrices.
        let kernel = context.graph.permute(kernel, &[1, 0, 2])?;
        let columns = self.nb_feature * self.output_dim;
        let kernel = context.graph.reshape(kernel, &[width, columns])?;
        let y = context.graph.dense(inputs[0], kernel)?;
        let mut y = context.graph.reshape(y, &extents)?;
        if self.use_bias {
            let bias = context.parameter(1)?;
            y = context.graph.plus(y, bias)?;
        }
        context.graph.reduce(Reduction::Max, y, features, 1)
    }
}
