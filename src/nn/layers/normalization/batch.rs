//! BatchNormalization: y = gamma (x - mean) / sqrt(variance + epsilon) + beta, for each index of one axis (Ioffe and
//! Szegedy, 2015). Keras' defaults.
//!
//! In training mean and (biased) variance are those of the lane's rows over all other axes, and the moving averages become
//! `moving * momentum + batch * (1 - momentum)`; in prediction the moving averages are used. Steps that a mask leaves out do
//! not count in mean and variance. The mask goes with the output.

use crate::autograd::{GraphError, NodeId};
use crate::tensor::Shape;
use crate::tensor::kernels::elementwise::{Binary, Unary};

use super::super::super::error::SpecError;
use super::super::super::initialize::Initializer;
use super::super::super::layer::{ArraySpec, Context, Layer, Signal, one_float_input};
use super::super::super::options::Options;
use super::super::axes::Axis;
use super::super::masks;
use super::{Affine, epsilon, inverse_root, spread_extents};

/// What Keras adds to the count of steps under a mask: its `epsilon()`.
const COUNT_EPSILON: f32 = 1e-7;

#[derive(Debug)]
pub(in super::super) struct BatchNormalization {
    axis: Axis,
    momentum: f32,
    epsilon: f32,
    affine: Affine,
    moving_mean: Initializer,
    moving_variance: Initializer,
}

impl BatchNormalization {
    pub(in super::super) fn read(options: &mut Options<'_>) -> Result<Self, SpecError> {
        let mut initializer = |option, default| Initializer::read(options, option, default);
        let moving_mean = initializer("moving_mean_initializer", Initializer::ZEROS)?;
        let moving_variance = initializer("moving_variance_initializer", Initializer::ONES)?;
        Ok(BatchNormalization {
            axis: Axis::read(options, "axis", Axis::INNERMOST)?,
            momentum: options.number("momentum", 0.99, 0.0, 1.0)? as f32,
            epsilon: epsilon(options, 1e-3)?,
            affine: Affine::read(options)?,
            moving_mean,
            moving_variance,
        })
    }

    fn width(&self, input: &Signal) -> usize {
        let axis = self.axis.at(input.extents.len() + 1);
        input.extents.get(axis - 1).copied().unwrap_or(1)
    }

    /// x - mean and the variance, of this lane's rows; the moving averages follow.
    fn of_rows(
        &self,
        context: &mut Context<'_>,
        x: NodeId,
        kept: &Shape,
    ) -> Result<(NodeId, NodeId), GraphError> {
        let mask = context.input_mask();
        let graph = &mut *context.graph;
        let (mean, centered, variance) = match mask {
            None => {
                let count = graph.shape(x).len() / kept.len();
                let share = 1.0 / count as f32;
                let sum = graph.sum_to(x, kept)?;
                let mean = graph.scaled(sum, share)?;
                let centered = graph.minus(x, mean)?;
                let squares = graph.unary(Unary::Square, centered)?;
                let sum = graph.sum_to(squares, kept)?;
                (mean, centered, graph.scaled(sum, share)?)
            }
            Some(mask) => {
                let mask = masks::over(graph, mask, x)?;
                let whole = graph.shape(x).clone();
                let mask = graph.broadcast_to(mask, &whole)?;
                let count = graph.sum_to(mask, kept)?;
                let count = graph.shifted(count, COUNT_EPSILON)?;
                let counted = graph.binary(Binary::Keep, mask, x)?;
                let sum = graph.sum_to(counted, kept)?;
                let mean = graph.over(sum, count)?;
                let centered = graph.minus(x, mean)?;
                let counted = graph.binary(Binary::Keep, mask, centered)?;
                let squares = graph.unary(Unary::Square, counted)?;
                let sum = graph.sum_to(squares, kept)?;
                (mean, centered, graph.over(sum, count)?)
            }
        };
        for (index, batch) in [mean, variance].into_iter().enumerate() {
            let moving = context.statistic(index)?;
            let batch = context.graph.reshape(batch, &[kept.len()])?;
            let old = context.graph.scaled(moving, self.momentum)?;
            let new = context.graph.scaled(batch, 1.0 - self.momentum)?;
            let next = context.graph.plus(old, new)?;
            context.update_statistic(index, next);
        }
        Ok((centered, variance))
    }
}

impl Layer for BatchNormalization {
    fn output(&self, name: &str, inputs: &[Signal]) -> Result<Signal, SpecError> {
        let input = one_float_input(name, inputs)?;
        self.axis.find(name, input.extents.len() + 1)?;
        Ok(input.clone())
    }

    fn parameters(&self, inputs: &[Signal]) -> Vec<ArraySpec> {
        self.affine.arrays(&[self.width(&inputs[0])])
    }

    fn statistics(&self, inputs: &[Signal]) -> Vec<ArraySpec> {
        let width = [self.width(&inputs[0])];
        vec![
            ArraySpec::new("moving_mean", &width, &self.moving_mean),
            ArraySpec::new("moving_variance", &width, &self.moving_variance),
        ]
    }

    fn passes_mask(&self) -> bool {
        true
    }

    fn forward(&self, context: &mut Context<'_>, inputs: &[NodeId]) -> Result<NodeId, GraphError> {
        let x = inputs[0];
        let shape = context.graph.shape(x).clone();
        let axis = self.axis.at(shape.rank());
        // Over the innermost axis everything spreads as a bias does.
        let extents = if axis + 1 == shape.rank() {
            vec![shape.last()]
        } else {
            spread_extents(shape.extents(), &[axis])
        };
        let (centered, variance) = if context.training {
            let kept = match extents.len() {
                1 => extents.clone(),
                _ => [&[1], extents.as_slice()].concat(),
            };
            self.of_rows(context, x, &Shape::new(&kept))?
        } else {
            let (mean, variance) = (context.statistic(0)?, context.statistic(1)?);
            let mean = context.graph.reshape(mean, &extents)?;
            let variance = context.graph.reshape(variance, &extents)?;
            (context.graph.minus(x, mean)?, variance)
        };
        let factor = inverse_root(context, variance, self.epsilon)?;
        self.affine.apply(context, centered, Some(factor), &extents)
    }
}
