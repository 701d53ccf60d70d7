//! GaussianNoise: y = x + n, n normal with mean 0 and deviation `stddev`. GaussianDropout: y = x m, m normal with mean 1
//! and deviation sqrt(rate / (1 - rate)), that of dropout's mask (Srivastava et al., 2014, section 10).

use crate::autograd::{GraphError, NodeId, Op};

use super::super::super::error::SpecError;
use super::super::super::layer::{Context, Layer, Signal, one_float_input};
use super::super::super::options::Options;
use super::rate;

#[derive(Debug)]
pub(in super::super) struct GaussianNoise {
    stddev: f32,
}

impl GaussianNoise {
    pub(in super::super) fn read(options: &mut Options<'_>) -> Result<Self, SpecError> {
        let stddev = options.number("stddev", -1.0, 0.0, 1.0)?;
        if stddev < 0.0 {
            return Err(options.bad(
                "stddev",
                &serde_json::Value::Null,
                "give a number from 0 to 1".to_string(),
            ));
        }
        Ok(GaussianNoise {
            stddev: stddev as f32,
        })
    }
}

impl Layer for GaussianNoise {
    fn output(&self, name: &str, inputs: &[Signal]) -> Result<Signal, SpecError> {
        one_float_input(name, inputs).cloned()
    }

    fn passes_mask(&self) -> bool {
        true
    }

    fn forward(&self, context: &mut Context<'_>, inputs: &[NodeId]) -> Result<NodeId, GraphError> {
        if !context.training || self.stddev == 0.0 {
            return Ok(inputs[0]);
        }
        let noise = normal(context, inputs[0], self.stddev)?;
        context.graph.plus(inputs[0], noise)
    }
}

#[derive(Debug)]
pub(in super::super) struct GaussianDropout {
    deviation: f32,
}

impl GaussianDropout {
    pub(in super::super) fn read(options: &mut Options<'_>) -> Result<Self, SpecError> {
        let rate = rate(options)?;
        Ok(GaussianDropout {
            deviation: (rate / (1.0 - rate)).sqrt(),
        })
    }
}

impl Layer for GaussianDropout {
    fn output(&self, name: &str, inputs: &[Signal]) -> Result<Signal, SpecError> {
        one_float_input(name, inputs).cloned()
    }

    fn passes_mask(&self) -> bool {
        true
    }

    fn forward(&self, context: &mut Context<'_>, inputs: &[NodeId]) -> Result<NodeId, GraphError> {
        if !context.training || self.deviation == 0.0 {
            return Ok(inputs[0]);
        }
        let noise = normal(context, inputs[0], self.deviation)?;
        let factor = context.graph.shifted(noise, 1.0)?;
        context.graph.times(inputs[0], factor)
    }
}

/// Fresh normal numbers of this deviation, one for each of `x`.
fn normal(context: &mut Context<'_>, x: NodeId, deviation: f32) -> Result<NodeId, GraphError> {
    let shape = context.graph.shape(x).clone();
    let stream = context.stream();
    let noise = context.graph.add(Op::NormalNoise { stream, shape }, &[])?;
    context.graph.scaled(noise, deviation)
}
