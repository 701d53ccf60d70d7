//! Dropout: in training each number is 0 with probability `rate`, else divided by 1 - rate; unchanged in prediction.
//!
//! The mask is a pure function of (seed, epoch, step, lane, the layer's position).

use crate::autograd::{GraphError, NodeId, Number, Op};

use super::super::error::SpecError;
use super::super::layer::{Context, Layer, Signal, one_float_input};
use super::super::options::Options;

#[derive(Debug)]
pub(super) struct Dropout {
    rate: f32,
}

impl Dropout {
    pub(super) fn read(options: &mut Options<'_>) -> Result<Self, SpecError> {
        // A rate of 1 would divide by zero and teach nothing.
        let rate = options.number("rate", -1.0, 0.0, 0.999)?;
        if rate < 0.0 {
            return Err(options.bad(
                "rate",
                &serde_json::Value::Null,
                "give a number from 0 to 0.999".to_string(),
            ));
        }
        Ok(Dropout { rate: rate as f32 })
    }
}

impl Layer for Dropout {
    fn output(&self, name: &str, inputs: &[Signal]) -> Result<Signal, SpecError> {
        one_float_input(name, inputs).cloned()
    }

    fn passes_mask(&self) -> bool {
        true
    }

    fn forward(&self, context: &mut Context<'_>, inputs: &[NodeId]) -> Result<NodeId, GraphError> {
        if !context.training || self.rate == 0.0 {
            return Ok(inputs[0]);
        }
        let shape = context.graph.shape(inputs[0]).clone();
        let stream = context.stream();
        let mask = context.graph.add(
            Op::DropoutMask {
                stream,
                rate: Number(self.rate),
                shape,
            },
            &[],
        )?;
        context.graph.times(inputs[0], mask)
    }
}
