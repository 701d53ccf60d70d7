//! GroupNormalization: the channels in groups, each group of a row to mean 0 and variance 1 over its channels and all other
//! extents; then times gamma and plus beta, one of each per channel (Wu and He, 2018).
//!
//! `groups` is -1 for one group per channel. The mask goes with the output and does not count in the mean, as in Keras.

use serde_json::Value;

use crate::autograd::{GraphError, NodeId, Number, Op};
use crate::tensor::kernels::elementwise::Unary;

use super::super::super::error::SpecError;
use super::super::super::layer::{ArraySpec, Context, Layer, Signal, bad_input, one_float_input};
use super::super::super::options::Options;
use super::super::axes::{Axis, RANK_MAX, mean_over};
use super::{Affine, are_innermost, epsilon, inverse_root, over_innermost, spread_extents};

#[derive(Debug)]
pub(in super::super) struct GroupNormalization {
    /// `None` is one group per channel.
    groups: Option<usize>,
    axis: Axis,
    epsilon: f32,
    affine: Affine,
}

impl GroupNormalization {
    pub(in super::super) fn read(options: &mut Options<'_>) -> Result<Self, SpecError> {
        let given = options.value("groups");
        let groups = match given.map(Value::as_i64) {
            None => Some(32),
            Some(Some(-1)) => None,
            Some(Some(groups)) if (1..=1 << 30).contains(&groups) => usize::try_from(groups).ok(),
            Some(_) => {
                let hint = "give a whole number from 1, or -1 for one group per channel";
                return Err(options.bad("groups", given.unwrap_or(&Value::Null), hint.to_string()));
            }
        };
        Ok(GroupNormalization {
            groups,
            axis: Axis::read(options, "axis", Axis::INNERMOST)?,
            epsilon: epsilon(options, 1e-3)?,
            affine: Affine::read(options)?,
        })
    }
}

impl Layer for GroupNormalization {
    fn output(&self, name: &str, inputs: &[Signal]) -> Result<Signal, SpecError> {
        let input = one_float_input(name, inputs)?;
        let rank = input.extents.len() + 1;
        let channels = input.extents[self.axis.find(name, rank)? - 1];
        let groups = self.groups.unwrap_or(channels);
        if channels == 0 || !channels.is_multiple_of(groups) || rank >= RANK_MAX {
            return Err(bad_input(
                name,
                format!(
                    "its input has shape {:?} per row, {channels} channels, and it makes {groups} groups",
                    input.extents
                ),
                &format!(
                    "give groups that divide the channels, and at most {} extents per row",
                    RANK_MAX - 2
                ),
            ));
        }
        Ok(input.clone())
    }

    fn parameters(&self, inputs: &[Signal]) -> Vec<ArraySpec> {
        let axis = self.axis.at(inputs[0].extents.len() + 1);
        self.affine.arrays(&[inputs[0].extents[axis - 1]])
    }

    fn passes_mask(&self) -> bool {
        true
    }

    fn forward(&self, context: &mut Context<'_>, inputs: &[NodeId]) -> Result<NodeId, GraphError> {
        let shape = context.graph.shape(inputs[0]).clone();
        let axis = self.axis.at(shape.rank());
        let channels = shape.extents()[axis];
        let groups = self.groups.unwrap_or(channels);
        let mut grouped = shape.extents().to_vec();
        grouped.splice(axis..=axis, [groups, channels / groups]);
        let x = context.graph.reshape(inputs[0], &grouped)?;
        // A group is one stretch of memory where the channels come first or are all there is.
        let axes: Vec<usize> = (1..grouped.len()).filter(|&each| each != axis).collect();
        let normalized = if are_innermost(&axes, grouped.len()) {
            let op = Op::Normalize {
                epsilon: Number(self.epsilon),
            };
            over_innermost(context.graph, op, x, axes.len())?
        } else {
            let mean = mean_over(context.graph, x, &axes)?;
            let centered = context.graph.minus(x, mean)?;
            let squares = context.graph.unary(Unary::Square, centered)?;
            let variance = mean_over(context.graph, squares, &axes)?;
            let factor = inverse_root(context, variance, self.epsilon)?;
            context.graph.times(centered, factor)?
        };
        let normalized = context.graph.reshape(normalized, shape.extents())?;
        let extents = spread_extents(shape.extents(), &[axis]);
        self.affine.apply(context, normalized, None, &extents)
    }
}
