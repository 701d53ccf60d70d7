//! LayerNormalization: y = gamma (x - mean) / sqrt(variance + epsilon) + beta, mean and variance of each row over one axis
//! or several (Ba et al., 2016). RMSNormalization: y = scale x / sqrt(mean(x^2) + epsilon) (Zhang and Sennrich, 2019).
//!
//! Shapes: gamma, beta and scale have the extents of the axes. LayerNormalization passes the mask on, RMSNormalization does
//! not, as in Keras 3.15.

use crate::autograd::{Graph, GraphError, NodeId, Number, Op};
use crate::tensor::kernels::elementwise::Unary;

use super::super::super::error::SpecError;
use super::super::super::initialize::Initializer;
use super::super::super::layer::{ArraySpec, Context, Layer, Signal, one_float_input};
use super::super::super::options::Options;
use super::super::axes::{Axis, at_several, find_several, mean_over};
use super::{Affine, are_innermost, epsilon, inverse_root, over_innermost, spread_extents};

#[derive(Debug)]
pub(in super::super) struct LayerNormalization {
    axes: Vec<Axis>,
    epsilon: f32,
    affine: Affine,
    /// Keras' old `rms_scaling`: the mean is not taken off, though the variance is about it, and there is no beta.
    rms_scaling: bool,
}

impl LayerNormalization {
    pub(in super::super) fn read(options: &mut Options<'_>) -> Result<Self, SpecError> {
        let rms_scaling = options.flag("rms_scaling", false)?;
        let mut affine = Affine::read(options)?;
        if rms_scaling {
            affine.beta = None;
            if affine.gamma.is_none() {
                return Err(options.bad(
                    "scale",
                    &serde_json::json!(false),
                    "rms_scaling always scales; leave scale out".to_string(),
                ));
            }
        }
        Ok(LayerNormalization {
            axes: Axis::read_several(options, "axis", &[Axis::INNERMOST])?,
            epsilon: epsilon(options, 1e-3)?,
            affine,
            rms_scaling,
        })
    }
}

/// x less its mean over these axes, and the variance, which keeps them as extents of 1.
fn moments(graph: &mut Graph, x: NodeId, axes: &[usize]) -> Result<(NodeId, NodeId), GraphError> {
    let mean = mean_over(graph, x, axes)?;
    let centered = graph.minus(x, mean)?;
    let squares = graph.unary(Unary::Square, centered)?;
    Ok((centered, mean_over(graph, squares, axes)?))
}

/// The extents of a row at these axes.
fn extents_at(input: &Signal, axes: &[Axis]) -> Vec<usize> {
    at_several(axes, input.extents.len() + 1)
        .into_iter()
        .map(|axis| input.extents[axis - 1])
        .collect()
}

impl Layer for LayerNormalization {
    fn output(&self, name: &str, inputs: &[Signal]) -> Result<Signal, SpecError> {
        let input = one_float_input(name, inputs)?;
        find_several(name, &self.axes, input.extents.len() + 1)?;
        Ok(input.clone())
    }

    fn parameters(&self, inputs: &[Signal]) -> Vec<ArraySpec> {
        self.affine.arrays(&extents_at(&inputs[0], &self.axes))
    }

    fn passes_mask(&self) -> bool {
        true
    }

    fn forward(&self, context: &mut Context<'_>, inputs: &[NodeId]) -> Result<NodeId, GraphError> {
        let x = inputs[0];
        let shape = context.graph.shape(x).clone();
        let axes = at_several(&self.axes, shape.rank());
        let extents = spread_extents(shape.extents(), &axes);
        // The factor is one number per row and gamma one per column: they meet in the product, not before.
        let normalized = if !self.rms_scaling && are_innermost(&axes, shape.rank()) {
            let op = Op::Normalize {
                epsilon: Number(self.epsilon),
            };
            over_innermost(context.graph, op, x, axes.len())?
        } else {
            let (centered, variance) = moments(context.graph, x, &axes)?;
            let factor = inverse_root(context, variance, self.epsilon)?;
            let numbers = if self.rms_scaling { x } else { centered };
            context.graph.times(numbers, factor)?
        };
        self.affine.apply(context, normalized, None, &extents)
    }
}

#[derive(Debug)]
pub(in super::super) struct RMSNormalization {
    axes: Vec<Axis>,
    epsilon: f32,
}

impl RMSNormalization {
    pub(in super::super) fn read(options: &mut Options<'_>) -> Result<Self, SpecError> {
        Ok(RMSNormalization {
            axes: Axis::read_several(options, "axis", &[Axis::INNERMOST])?,
            epsilon: epsilon(options, 1e-6)?,
        })
    }
}

impl Layer for RMSNormalization {
    fn output(&self, name: &str, inputs: &[Signal]) -> Result<Signal, SpecError> {
        let input = one_float_input(name, inputs)?;
        find_several(name, &self.axes, input.extents.len() + 1)?;
        Ok(input.clone())
    }

    fn parameters(&self, inputs: &[Signal]) -> Vec<ArraySpec> {
        let shape = extents_at(&inputs[0], &self.axes);
        vec![ArraySpec::new("scale", &shape, &Initializer::ONES)]
    }

    fn forward(&self, context: &mut Context<'_>, inputs: &[NodeId]) -> Result<NodeId, GraphError> {
        let x = inputs[0];
        let shape = context.graph.shape(x).clone();
        let axes = at_several(&self.axes, shape.rank());
        let normalized = if are_innermost(&axes, shape.rank()) {
            let op = Op::RmsNormalize {
                epsilon: Number(self.epsilon),
            };
            over_innermost(context.graph, op, x, axes.len())?
        } else {
            let squares = context.graph.unary(Unary::Square, x)?;
            let mean = mean_over(context.graph, squares, &axes)?;
            let factor = inverse_root(context, mean, self.epsilon)?;
            context.graph.times(x, factor)?
        };
        let scale = context.parameter(0)?;
        let extents = spread_extents(shape.extents(), &axes);
        let scale = context.graph.reshape(scale, &extents)?;
        context.graph.times(normalized, scale)
    }
}
