//! Random numbers in training, nothing in prediction: Dropout, SpatialDropout, GaussianDropout, GaussianNoise, AlphaDropout.
//!
//! Every random number is a pure function of (seed, epoch, step, lane, the layer's position). The mask goes with the output.

mod alpha_dropout;
mod dropout;
mod gaussian;

use serde_json::Value;

use crate::autograd::{GraphError, NodeId, Number, Op};
use crate::tensor::Shape;

use super::super::error::SpecError;
use super::super::layer::Context;
use super::super::options::Options;
use super::axes::RANK_MAX;

pub(super) use alpha_dropout::AlphaDropout;
pub(super) use dropout::{Dropout, SpatialDropout};
pub(super) use gaussian::{GaussianDropout, GaussianNoise};

/// Reads `rate`. A rate of 1 would divide by zero and teach nothing.
fn rate(options: &mut Options<'_>) -> Result<f32, SpecError> {
    let rate = options.number("rate", -1.0, 0.0, 0.999)?;
    if rate < 0.0 {
        return Err(options.bad(
            "rate",
            &Value::Null,
            "give a number from 0 to 0.999".to_string(),
        ));
    }
    Ok(rate as f32)
}

/// Reads `noise_shape`: extents of what is drawn, the rows first (null); null is the input's own extent and 1 is one draw
/// for the whole extent. `None` where it is not given.
fn noise_shape(options: &mut Options<'_>) -> Result<Option<Vec<Option<usize>>>, SpecError> {
    let Some(value) = options.value("noise_shape") else {
        return Ok(None);
    };
    let extent = |value: &Value| match value {
        Value::Null => Some(None),
        other => other
            .as_u64()
            .filter(|extent| (1..=1 << 30).contains(extent))
            .and_then(|extent| usize::try_from(extent).ok())
            .map(Some),
    };
    let list = value
        .as_array()
        .filter(|list| (2..=RANK_MAX).contains(&list.len()));
    let shape: Option<Vec<_>> = list.and_then(|list| list.iter().map(extent).collect());
    // One draw for all rows would be one per lane: a minibatch is cut into lanes that know nothing of each other.
    let shape = shape.filter(|shape| shape[0].is_none());
    shape.map(Some).ok_or_else(|| {
        let hint = "give a list of extents: null for the rows, then null for an extent as it is or 1 for one draw along it";
        options.bad("noise_shape", value, hint.to_string())
    })
}

/// The shape to draw for an input of these extents per row, rows aside; `None` where it does not spread over them.
fn drawn_extents(noise_shape: Option<&[Option<usize>]>, extents: &[usize]) -> Option<Vec<usize>> {
    let Some([_, drawn @ ..]) = noise_shape else {
        return Some(extents.to_vec());
    };
    if drawn.len() != extents.len() {
        return None;
    }
    let drawn: Vec<usize> = drawn
        .iter()
        .zip(extents)
        .map(|(drawn, &extent)| drawn.unwrap_or(extent))
        .collect();
    let spreads = drawn
        .iter()
        .zip(extents)
        .all(|(&drawn, &extent)| drawn == extent || drawn == 1);
    spreads.then_some(drawn)
}

/// A fresh mask of 0 and 1 / (1 - rate), of these extents per row.
fn fresh_mask(
    context: &mut Context<'_>,
    rate: f32,
    extents: &[usize],
) -> Result<NodeId, GraphError> {
    let shape = Shape::new(&[&[context.rows], extents].concat());
    let stream = context.stream();
    let rate = Number(rate);
    let op = Op::DropoutMask {
        stream,
        rate,
        shape,
    };
    context.graph.add(op, &[])
}

#[cfg(test)]
mod tests;
