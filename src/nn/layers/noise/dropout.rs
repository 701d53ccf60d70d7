//! Dropout: in training each number is 0 with probability `rate`, else divided by 1 - rate; unchanged in prediction
//! (Srivastava et al., 2014). SpatialDropout draws once for each channel and row (Tompson et al., 2015).

use crate::autograd::{GraphError, NodeId};

use super::super::super::error::SpecError;
use super::super::super::layer::{Context, Layer, Signal, bad_input, one_float_input};
use super::super::super::options::Options;
use super::super::shaping::Grid;
use super::{drawn_extents, fresh_mask, noise_shape, rate};

#[derive(Debug)]
pub(in super::super) struct Dropout {
    rate: f32,
    noise_shape: Option<Vec<Option<usize>>>,
}

impl Dropout {
    pub(in super::super) fn read(options: &mut Options<'_>) -> Result<Self, SpecError> {
        Ok(Dropout {
            rate: rate(options)?,
            noise_shape: noise_shape(options)?,
        })
    }
}

/// Refuses a `noise_shape` that does not spread over the input.
pub(super) fn check_noise_shape(
    name: &str,
    noise_shape: Option<&[Option<usize>]>,
    input: &Signal,
) -> Result<(), SpecError> {
    if drawn_extents(noise_shape, &input.extents).is_some() {
        return Ok(());
    }
    let shown: Vec<String> = noise_shape
        .unwrap_or_default()
        .iter()
        .map(|extent| extent.map_or_else(|| "null".to_string(), |extent| extent.to_string()))
        .collect();
    Err(bad_input(
        name,
        format!(
            "its input has shape {:?} per row and noise_shape is [{}]",
            input.extents,
            shown.join(", ")
        ),
        "after the rows, give for each extent null, 1 or the extent itself",
    ))
}

impl Layer for Dropout {
    fn output(&self, name: &str, inputs: &[Signal]) -> Result<Signal, SpecError> {
        let input = one_float_input(name, inputs)?;
        check_noise_shape(name, self.noise_shape.as_deref(), input)?;
        Ok(input.clone())
    }

    fn passes_mask(&self) -> bool {
        true
    }

    fn forward(&self, context: &mut Context<'_>, inputs: &[NodeId]) -> Result<NodeId, GraphError> {
        if !context.training || self.rate == 0.0 {
            return Ok(inputs[0]);
        }
        let extents = context.graph.shape(inputs[0]).extents()[1..].to_vec();
        let drawn = drawn_extents(self.noise_shape.as_deref(), &extents).unwrap_or(extents);
        let mask = fresh_mask(context, self.rate, &drawn)?;
        context.graph.times(inputs[0], mask)
    }
}

/// SpatialDropout1D, SpatialDropout2D, SpatialDropout3D: whole channels of a row are dropped.
#[derive(Debug)]
pub(in super::super) struct SpatialDropout {
    rate: f32,
    grid: Grid,
}

impl SpatialDropout {
    pub(in super::super) fn read(options: &mut Options<'_>, grid: Grid) -> Result<Self, SpecError> {
        Ok(SpatialDropout {
            rate: rate(options)?,
            grid,
        })
    }
}

impl Layer for SpatialDropout {
    fn output(&self, name: &str, inputs: &[Signal]) -> Result<Signal, SpecError> {
        self.grid.input(name, inputs).cloned()
    }

    fn passes_mask(&self) -> bool {
        true
    }

    fn forward(&self, context: &mut Context<'_>, inputs: &[NodeId]) -> Result<NodeId, GraphError> {
        if !context.training || self.rate == 0.0 {
            return Ok(inputs[0]);
        }
        let mut extents = context.graph.shape(inputs[0]).extents()[1..].to_vec();
        let first = self.grid.first_axis() - 1;
        extents[first..first + self.grid.dimensions()].fill(1);
        let mask = fresh_mask(context, self.rate, &extents)?;
        context.graph.times(inputs[0], mask)
    }
}
