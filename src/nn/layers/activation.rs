//! Activation functions, as a layer of their own and as the `activation` option of others.

use std::f32::consts::FRAC_1_SQRT_2;

use crate::autograd::{Graph, GraphError, NodeId, Op};
use crate::tensor::kernels::elementwise::Unary;

use super::super::error::SpecError;
use super::super::layer::{Context, Layer, Signal, one_float_input};
use super::super::options::Options;

/// A function of one signal, by Keras name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Activation {
    Linear,
    Relu,
    Sigmoid,
    Tanh,
    /// Over the innermost extent.
    Softmax,
    /// x Phi(x) by the error function; with `approximate`, by the hyperbolic tangent (Hendrycks and Gimpel, 2016).
    Gelu {
        approximate: bool,
    },
}

const NAMES: &[(&str, Activation)] = &[
    ("linear", Activation::Linear),
    ("relu", Activation::Relu),
    ("sigmoid", Activation::Sigmoid),
    ("tanh", Activation::Tanh),
    ("softmax", Activation::Softmax),
    ("gelu", Activation::Gelu { approximate: false }),
];

impl Activation {
    /// Reads the options `activation` and, for gelu, `approximate`.
    pub(in super::super) fn read(options: &mut Options<'_>) -> Result<Self, SpecError> {
        let Some(name) = options.word("activation")? else {
            return Ok(Activation::Linear);
        };
        let found = NAMES
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, activation)| *activation);
        match found {
            Some(Activation::Gelu { .. }) => Ok(Activation::Gelu {
                approximate: options.flag("approximate", false)?,
            }),
            Some(activation) => Ok(activation),
            None => {
                let known = NAMES
                    .iter()
                    .map(|(name, _)| *name)
                    .collect::<Vec<_>>()
                    .join(", ");
                Err(options.bad(
                    "activation",
                    &serde_json::json!(name),
                    format!("known are {known}"),
                ))
            }
        }
    }

    pub(in super::super) fn record(
        self,
        graph: &mut Graph,
        x: NodeId,
    ) -> Result<NodeId, GraphError> {
        match self {
            Activation::Linear => Ok(x),
            Activation::Relu => graph.unary(Unary::Relu, x),
            Activation::Sigmoid => graph.unary(Unary::Sigmoid, x),
            Activation::Tanh => graph.unary(Unary::Tanh, x),
            Activation::Softmax => graph.add(Op::Softmax, &[x]),
            Activation::Gelu { approximate } => {
                let inner = if approximate {
                    // sqrt(2 / pi) (x + 0.044715 x^3)
                    let square = graph.unary(Unary::Square, x)?;
                    let cube = graph.times(square, x)?;
                    let small = graph.scaled(cube, 0.044_715)?;
                    let sum = graph.plus(x, small)?;
                    let scaled = graph.scaled(sum, 0.797_884_6)?;
                    graph.unary(Unary::Tanh, scaled)?
                } else {
                    let scaled = graph.scaled(x, FRAC_1_SQRT_2)?;
                    graph.unary(Unary::Erf, scaled)?
                };
                let one = graph.constant(1.0)?;
                let shifted = graph.plus(inner, one)?;
                let half = graph.scaled(x, 0.5)?;
                graph.times(half, shifted)
            }
        }
    }
}

/// The layer: y = activation(x).
#[derive(Debug)]
pub(super) struct ActivationLayer {
    activation: Activation,
}

impl ActivationLayer {
    pub(super) fn read(options: &mut Options<'_>) -> Result<Self, SpecError> {
        if options.word("activation")?.is_none() {
            return Err(options.bad(
                "activation",
                &serde_json::Value::Null,
                "name a function, such as \"relu\"".to_string(),
            ));
        }
        Ok(ActivationLayer {
            activation: Activation::read(options)?,
        })
    }
}

impl Layer for ActivationLayer {
    fn output(&self, name: &str, inputs: &[Signal]) -> Result<Signal, SpecError> {
        one_float_input(name, inputs).cloned()
    }

    fn activation(&self) -> Option<Activation> {
        Some(self.activation)
    }

    fn forward(&self, context: &mut Context<'_>, inputs: &[NodeId]) -> Result<NodeId, GraphError> {
        self.activation.record(context.graph, inputs[0])
    }
}
