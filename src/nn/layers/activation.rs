//! Activation functions, as a layer of their own and as the `activation` option of others.

use std::f32::consts::FRAC_1_SQRT_2;

use crate::autograd::{Graph, GraphError, NodeId, Op};
use crate::tensor::kernels::elementwise::{Binary, Unary};

use super::super::error::SpecError;
use super::super::layer::{Context, Layer, Signal, one_float_input};
use super::super::options::Options;

/// A function of one signal, by Keras name, with Keras' default arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Activation {
    Linear,
    Relu,
    /// min(max(x, 0), 6).
    Relu6,
    /// x, or 0.2 x below 0.
    LeakyRelu,
    /// x, or exp(x) - 1 below 0 (Clevert et al., 2016).
    Elu,
    /// `Elu` scaled so that layers normalize themselves (Klambauer et al., 2017).
    Selu,
    Sigmoid,
    /// x / 6 + 1 / 2 cut to 0 and 1.
    HardSigmoid,
    /// (x + 1) / 2 cut to 0 and 1.
    SparseSigmoid,
    /// log sigmoid(x).
    LogSigmoid,
    /// x sigmoid(x) (Ramachandran et al., 2017).
    Silu,
    /// x `HardSigmoid`(x).
    HardSilu,
    Tanh,
    /// x cut to -1 and 1.
    HardTanh,
    /// x - tanh(x).
    TanhShrink,
    /// x where |x| > 0.5, else 0.
    HardShrink,
    /// x moved by 0.5 towards 0, at most to 0.
    SoftShrink,
    Exponential,
    /// log(1 + exp(x)).
    Softplus,
    /// x / (1 + |x|).
    Softsign,
    /// (x + sqrt(x^2 + 4)) / 2.
    Squareplus,
    /// 0 up to -1, x from 1 on, a parabola between.
    SparsePlus,
    /// x tanh(softplus(x)) (Misra, 2019).
    Mish,
    /// Over the innermost extent.
    Softmax,
    /// Over the innermost extent.
    LogSoftmax,
    /// x Phi(x) by the error function; with `approximate`, by the hyperbolic tangent (Hendrycks and Gimpel, 2016).
    Gelu {
        approximate: bool,
    },
}

pub(in super::super) const NAMES: &[(&str, Activation)] = &[
    ("linear", Activation::Linear),
    ("relu", Activation::Relu),
    ("sigmoid", Activation::Sigmoid),
    ("tanh", Activation::Tanh),
    ("softmax", Activation::Softmax),
    ("gelu", Activation::Gelu { approximate: false }),
    ("elu", Activation::Elu),
    ("celu", Activation::Elu), // with the default alpha of 1 they are one function
    ("selu", Activation::Selu),
    ("relu6", Activation::Relu6),
    ("leaky_relu", Activation::LeakyRelu),
    ("silu", Activation::Silu),
    ("swish", Activation::Silu),
    ("mish", Activation::Mish),
    ("softplus", Activation::Softplus),
    ("softsign", Activation::Softsign),
    ("exponential", Activation::Exponential),
    ("hard_sigmoid", Activation::HardSigmoid),
    ("hard_silu", Activation::HardSilu),
    ("hard_swish", Activation::HardSilu),
    ("hard_tanh", Activation::HardTanh),
    ("hard_shrink", Activation::HardShrink),
    ("soft_shrink", Activation::SoftShrink),
    ("tanh_shrink", Activation::TanhShrink),
    ("log_sigmoid", Activation::LogSigmoid),
    ("log_softmax", Activation::LogSoftmax),
    ("squareplus", Activation::Squareplus),
    ("sparse_plus", Activation::SparsePlus),
    ("sparse_sigmoid", Activation::SparseSigmoid),
];

/// Klambauer et al. (2017), equations 14: the fixed point of mean 0 and variance 1.
const SELU_ALPHA: f32 = 1.673_263_2;
const SELU_SCALE: f32 = 1.050_701;

impl Activation {
    /// Reads the options `activation` and, for gelu, `approximate`.
    pub(in super::super) fn read(options: &mut Options<'_>) -> Result<Self, SpecError> {
        Self::read_option(options, "activation", Activation::Linear)
    }

    /// Reads an option of this name; null is linear, as in Keras, and a missing one the default.
    pub(in super::super) fn read_option(
        options: &mut Options<'_>,
        option: &'static str,
        default: Self,
    ) -> Result<Self, SpecError> {
        let Some(name) = options.word(option)? else {
            return Ok(if options.is_null(option) {
                Activation::Linear
            } else {
                default
            });
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
                    option,
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
            Activation::Relu6 => cut(graph, x, 0.0, 6.0),
            Activation::LeakyRelu => {
                let (above, below) = halves(graph, x)?;
                let below = graph.scaled(below, 0.2)?;
                graph.plus(above, below)
            }
            Activation::Elu => {
                let (above, below) = halves(graph, x)?;
                let below = less_one(graph, below)?;
                graph.plus(above, below)
            }
            Activation::Selu => {
                let (above, below) = halves(graph, x)?;
                let below = less_one(graph, below)?;
                let below = graph.scaled(below, SELU_ALPHA)?;
                let sum = graph.plus(above, below)?;
                graph.scaled(sum, SELU_SCALE)
            }
            Activation::Sigmoid => graph.unary(Unary::Sigmoid, x),
            Activation::HardSigmoid => {
                let three = graph.constant(3.0)?;
                let shifted = graph.plus(x, three)?;
                let between = cut(graph, shifted, 0.0, 6.0)?;
                graph.scaled(between, 1.0 / 6.0)
            }
            Activation::SparseSigmoid => {
                let between = cut(graph, x, -1.0, 1.0)?;
                let one = graph.constant(1.0)?;
                let shifted = graph.plus(between, one)?;
                graph.scaled(shifted, 0.5)
            }
            Activation::LogSigmoid => {
                let negative = graph.unary(Unary::Negate, x)?;
                let softplus = Activation::Softplus.record(graph, negative)?;
                graph.unary(Unary::Negate, softplus)
            }
            Activation::Silu => {
                let sigmoid = graph.unary(Unary::Sigmoid, x)?;
                graph.times(x, sigmoid)
            }
            Activation::HardSilu => {
                let sigmoid = Activation::HardSigmoid.record(graph, x)?;
                graph.times(x, sigmoid)
            }
            Activation::Tanh => graph.unary(Unary::Tanh, x),
            Activation::HardTanh => cut(graph, x, -1.0, 1.0),
            Activation::TanhShrink => {
                let tanh = graph.unary(Unary::Tanh, x)?;
                graph.minus(x, tanh)
            }
            Activation::HardShrink => {
                let size = graph.unary(Unary::Absolute, x)?;
                let half = graph.constant(0.5)?;
                let kept = graph.binary(Binary::Greater, size, half)?;
                graph.times(x, kept)
            }
            Activation::SoftShrink => {
                let size = graph.unary(Unary::Absolute, x)?;
                let half = graph.constant(0.5)?;
                let beyond = graph.minus(size, half)?;
                let beyond = graph.unary(Unary::Relu, beyond)?;
                let sign = graph.unary(Unary::Sign, x)?;
                graph.times(sign, beyond)
            }
            Activation::Exponential => graph.unary(Unary::Exp, x),
            Activation::Softplus => {
                // max(x, 0) + log(1 + exp(-|x|)), which does not overflow.
                let above = graph.unary(Unary::Relu, x)?;
                let size = graph.unary(Unary::Absolute, x)?;
                let negative = graph.unary(Unary::Negate, size)?;
                let small = graph.unary(Unary::Exp, negative)?;
                let one = graph.constant(1.0)?;
                let sum = graph.plus(one, small)?;
                let logarithm = graph.unary(Unary::Log, sum)?;
                graph.plus(above, logarithm)
            }
            Activation::Softsign => {
                let size = graph.unary(Unary::Absolute, x)?;
                let one = graph.constant(1.0)?;
                let sum = graph.plus(size, one)?;
                graph.over(x, sum)
            }
            Activation::Squareplus => {
                let square = graph.unary(Unary::Square, x)?;
                let four = graph.constant(4.0)?;
                let sum = graph.plus(square, four)?;
                let root = graph.unary(Unary::Sqrt, sum)?;
                let both = graph.plus(x, root)?;
                graph.scaled(both, 0.5)
            }
            Activation::SparsePlus => {
                let between = cut(graph, x, -1.0, 1.0)?;
                let one = graph.constant(1.0)?;
                let shifted = graph.plus(between, one)?;
                let square = graph.unary(Unary::Square, shifted)?;
                let parabola = graph.scaled(square, 0.25)?;
                let beyond = graph.minus(x, one)?;
                let beyond = graph.unary(Unary::Relu, beyond)?;
                graph.plus(parabola, beyond)
            }
            Activation::Mish => {
                let softplus = Activation::Softplus.record(graph, x)?;
                let tanh = graph.unary(Unary::Tanh, softplus)?;
                graph.times(x, tanh)
            }
            Activation::Softmax => graph.add(Op::Softmax, &[x]),
            Activation::LogSoftmax => graph.add(Op::LogSoftmax, &[x]),
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

/// min(max(x, low), high).
fn cut(graph: &mut Graph, x: NodeId, low: f32, high: f32) -> Result<NodeId, GraphError> {
    let (low, high) = (graph.constant(low)?, graph.constant(high)?);
    let raised = graph.binary(Binary::Maximum, x, low)?;
    graph.binary(Binary::Minimum, raised, high)
}

/// max(x, 0) and min(x, 0).
fn halves(graph: &mut Graph, x: NodeId) -> Result<(NodeId, NodeId), GraphError> {
    let zero = graph.constant(0.0)?;
    Ok((
        graph.unary(Unary::Relu, x)?,
        graph.binary(Binary::Minimum, x, zero)?,
    ))
}

/// exp(x) - 1.
fn less_one(graph: &mut Graph, x: NodeId) -> Result<NodeId, GraphError> {
    let exponential = graph.unary(Unary::Exp, x)?;
    let one = graph.constant(1.0)?;
    graph.minus(exponential, one)
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

    fn passes_mask(&self) -> bool {
        true
    }

    fn forward(&self, context: &mut Context<'_>, inputs: &[NodeId]) -> Result<NodeId, GraphError> {
        self.activation.record(context.graph, inputs[0])
    }
}
