//! BatchNormalization: y = gamma (x - mean) / sqrt(variance + epsilon) + beta, over the innermost extent.
//!
//! In training mean and (biased) variance are those of the lane's rows, and the moving averages become
//! `moving * momentum + batch * (1 - momentum)`; in prediction the moving averages are used. Keras' defaults.

use crate::autograd::{GraphError, NodeId};
use crate::tensor::Shape;
use crate::tensor::kernels::elementwise::Unary;

use super::super::error::SpecError;
use super::super::initialize::Initializer;
use super::super::layer::{ArrayOptions, ArraySpec, Context, Layer, Signal, one_float_input};
use super::super::options::Options;

#[derive(Debug)]
pub(super) struct BatchNormalization {
    momentum: f32,
    epsilon: f32,
    center: bool,
    scale: bool,
    beta: ArrayOptions,
    gamma: ArrayOptions,
    moving_mean: Initializer,
    moving_variance: Initializer,
}

impl BatchNormalization {
    pub(super) fn read(options: &mut Options<'_>) -> Result<Self, SpecError> {
        options.innermost_axis()?;
        Ok(BatchNormalization {
            momentum: options.number("momentum", 0.99, 0.0, 1.0)? as f32,
            epsilon: options.number("epsilon", 1e-3, 1e-12, 1.0)? as f32,
            center: options.flag("center", true)?,
            scale: options.flag("scale", true)?,
            beta: ArrayOptions::read(
                options,
                ["beta", "beta_initializer", "beta_regularizer"],
                Initializer::ZEROS,
            )?,
            gamma: ArrayOptions::read(
                options,
                ["gamma", "gamma_initializer", "gamma_regularizer"],
                Initializer::ONES,
            )?,
            moving_mean: Initializer::read(options, "moving_mean_initializer", Initializer::ZEROS)?,
            moving_variance: Initializer::read(
                options,
                "moving_variance_initializer",
                Initializer::ONES,
            )?,
        })
    }
}

impl Layer for BatchNormalization {
    fn output(&self, name: &str, inputs: &[Signal]) -> Result<Signal, SpecError> {
        one_float_input(name, inputs).cloned()
    }

    fn parameters(&self, inputs: &[Signal]) -> Vec<ArraySpec> {
        let width = [inputs[0].last()];
        let mut arrays = Vec::new();
        if self.scale {
            arrays.push(self.gamma.array(&width));
        }
        if self.center {
            arrays.push(self.beta.array(&width));
        }
        arrays
    }

    fn statistics(&self, inputs: &[Signal]) -> Vec<ArraySpec> {
        let width = [inputs[0].last()];
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
        let width = context.graph.shape(x).last();
        let count = context.graph.shape(x).outer();
        let row = Shape::new(&[width]);
        let (centered, variance) = if context.training {
            let share = 1.0 / count as f32;
            let sum = context.graph.sum_to(x, &row)?;
            let mean = context.graph.scaled(sum, share)?;
            let centered = context.graph.minus(x, mean)?;
            let squares = context.graph.unary(Unary::Square, centered)?;
            let sum = context.graph.sum_to(squares, &row)?;
            let variance = context.graph.scaled(sum, share)?;
            for (index, batch) in [mean, variance].into_iter().enumerate() {
                let moving = context.statistic(index)?;
                let old = context.graph.scaled(moving, self.momentum)?;
                let new = context.graph.scaled(batch, 1.0 - self.momentum)?;
                let next = context.graph.plus(old, new)?;
                context.update_statistic(index, next);
            }
            (centered, variance)
        } else {
            let (mean, variance) = (context.statistic(0)?, context.statistic(1)?);
            (context.graph.minus(x, mean)?, variance)
        };
        let epsilon = context.graph.constant(self.epsilon)?;
        let shifted = context.graph.plus(variance, epsilon)?;
        let root = context.graph.unary(Unary::Sqrt, shifted)?;
        let mut factor = context.graph.unary(Unary::Reciprocal, root)?;
        let mut next = 0;
        if self.scale {
            let gamma = context.parameter(next)?;
            next += 1;
            factor = context.graph.times(factor, gamma)?;
        }
        let y = context.graph.times(centered, factor)?;
        if !self.center {
            return Ok(y);
        }
        let beta = context.parameter(next)?;
        context.graph.plus(y, beta)
    }
}
