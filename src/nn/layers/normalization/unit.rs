//! UnitNormalization: y = x / |x|, the length taken of each row over one axis or several; a row of zeros stays as it is.
//! The mask goes with the output.

use crate::autograd::{GraphError, NodeId};

use super::super::super::error::SpecError;
use super::super::super::layer::{Context, Layer, Signal, one_float_input};
use super::super::super::options::Options;
use super::super::axes::{Axis, at_several, find_several, unit};

/// The least length that is divided by.
const SHORTEST: f32 = 1e-12;

#[derive(Debug)]
pub(in super::super) struct UnitNormalization {
    axes: Vec<Axis>,
}

impl UnitNormalization {
    pub(in super::super) fn read(options: &mut Options<'_>) -> Result<Self, SpecError> {
        Ok(UnitNormalization {
            axes: Axis::read_several(options, "axis", &[Axis::INNERMOST])?,
        })
    }
}

impl Layer for UnitNormalization {
    fn output(&self, name: &str, inputs: &[Signal]) -> Result<Signal, SpecError> {
        let input = one_float_input(name, inputs)?;
        find_several(name, &self.axes, input.extents.len() + 1)?;
        Ok(input.clone())
    }

    fn passes_mask(&self) -> bool {
        true
    }

    fn forward(&self, context: &mut Context<'_>, inputs: &[NodeId]) -> Result<NodeId, GraphError> {
        let axes = at_several(&self.axes, context.graph.shape(inputs[0]).rank());
        unit(context.graph, inputs[0], &axes, SHORTEST)
    }
}
