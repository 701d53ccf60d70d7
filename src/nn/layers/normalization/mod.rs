//! Numbers brought to a common size: BatchNormalization, LayerNormalization, GroupNormalization, RMSNormalization,
//! UnitNormalization. They keep the shape.

mod batch;
mod group;
mod layer;
mod unit;

use crate::autograd::{Graph, GraphError, NodeId, Op};
use crate::tensor::kernels::elementwise::Unary;

use super::super::error::SpecError;
use super::super::initialize::Initializer;
use super::super::layer::{ArrayOptions, ArraySpec, Context};
use super::super::options::Options;

pub(super) use batch::BatchNormalization;
pub(super) use group::GroupNormalization;
pub(super) use layer::{LayerNormalization, RMSNormalization};
pub(super) use unit::UnitNormalization;

/// The options `center`, `scale` and those of `beta` and `gamma`: what a normalized number is multiplied by and what is added.
#[derive(Debug)]
struct Affine {
    gamma: Option<ArrayOptions>,
    beta: Option<ArrayOptions>,
}

impl Affine {
    fn read(options: &mut Options<'_>) -> Result<Self, SpecError> {
        let (center, scale) = (options.flag("center", true)?, options.flag("scale", true)?);
        let gamma = ArrayOptions::read(
            options,
            ["gamma", "gamma_initializer", "gamma_regularizer"],
            Initializer::ONES,
        )?;
        let beta = ArrayOptions::read(
            options,
            ["beta", "beta_initializer", "beta_regularizer"],
            Initializer::ZEROS,
        )?;
        Ok(Affine {
            gamma: scale.then_some(gamma),
            beta: center.then_some(beta),
        })
    }

    fn arrays(&self, shape: &[usize]) -> Vec<ArraySpec> {
        let both = [&self.gamma, &self.beta];
        both.into_iter()
            .flatten()
            .map(|options| options.array(shape))
            .collect()
    }

    /// `x` times `factor` times gamma, plus beta; both spread from these extents.
    fn apply(
        &self,
        context: &mut Context<'_>,
        x: NodeId,
        mut factor: Option<NodeId>,
        extents: &[usize],
    ) -> Result<NodeId, GraphError> {
        let mut next = 0;
        if self.gamma.is_some() {
            let gamma = context.parameter(next)?;
            let gamma = context.graph.reshape(gamma, extents)?;
            factor = Some(match factor {
                Some(factor) => context.graph.times(factor, gamma)?,
                None => gamma,
            });
            next += 1;
        }
        let y = match factor {
            Some(factor) => context.graph.times(x, factor)?,
            None => x,
        };
        if self.beta.is_none() {
            return Ok(y);
        }
        let beta = context.parameter(next)?;
        let beta = context.graph.reshape(beta, extents)?;
        context.graph.plus(y, beta)
    }
}

/// Reads `epsilon`, what is added under the root.
fn epsilon(options: &mut Options<'_>, default: f64) -> Result<f32, SpecError> {
    Ok(options.number("epsilon", default, 1e-12, 1.0)? as f32)
}

/// 1 / sqrt(variance + epsilon).
fn inverse_root(
    context: &mut Context<'_>,
    variance: NodeId,
    epsilon: f32,
) -> Result<NodeId, GraphError> {
    let shifted = context.graph.shifted(variance, epsilon)?;
    let root = context.graph.unary(Unary::Sqrt, shifted)?;
    context.graph.unary(Unary::Reciprocal, root)
}

/// Whether these axes, in rising order, are the last of so many.
fn are_innermost(axes: &[usize], rank: usize) -> bool {
    axes.iter().copied().eq(rank - axes.len()..rank)
}

/// An operation over the innermost extent, done over so many innermost axes together.
fn over_innermost(graph: &mut Graph, op: Op, x: NodeId, axes: usize) -> Result<NodeId, GraphError> {
    let shape = graph.shape(x).clone();
    let (outer, inner) = shape.extents().split_at(shape.rank() - axes);
    let flat = [outer, &[inner.iter().product()]].concat();
    let rows = graph.reshape(x, &flat)?;
    let y = graph.add(op, &[rows])?;
    graph.reshape(y, shape.extents())
}

/// Extents of 1 but at these axes, without the rows: how an array that has these axes spreads over an array of `extents`.
fn spread_extents(extents: &[usize], axes: &[usize]) -> Vec<usize> {
    (1..extents.len())
        .map(|axis| {
            if axes.contains(&axis) {
                extents[axis]
            } else {
                1
            }
        })
        .collect()
}
