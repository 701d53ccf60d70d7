//! Activation functions: the `activation` option of layers. They are named as in Keras, with Keras' arguments and defaults.
//!
//! `sparsemax` is the projection of Martins and Astudillo (2016), whose answers add up to 1; those of Keras 3.15 do not,
//! because it adds running sums where the paper adds the numbers themselves.

use std::f32::consts::FRAC_1_SQRT_2;

use serde_json::{Map, Value};

use crate::autograd::{Graph, GraphError, NodeId, Op, Reduction};
use crate::tensor::kernels::elementwise::{Binary, Unary};

use super::super::error::SpecError;
use super::super::options::Options;
use super::axes::Axis;

/// A function of one signal.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in super::super) enum Activation {
    Linear,
    Relu,
    /// x above `threshold`, at most `max_value`; below it `negative_slope` (x - `threshold`).
    Rectifier {
        negative_slope: f32,
        max_value: Option<f32>,
        threshold: f32,
    },
    /// min(max(x, 0), 6).
    Relu6,
    /// x, or `negative_slope` x below 0.
    LeakyRelu {
        negative_slope: f32,
    },
    /// x, or `alpha` (exp(x) - 1) below 0 (Clevert et al., 2016).
    Elu {
        alpha: f32,
    },
    /// x, or `alpha` (exp(x / `alpha`) - 1) below 0 (Barron, 2017).
    Celu {
        alpha: f32,
    },
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
    /// x where |x| > `threshold`, else 0.
    HardShrink {
        threshold: f32,
    },
    /// x moved by `threshold` towards 0, at most to 0.
    SoftShrink {
        threshold: f32,
    },
    /// x above `threshold`, else `default_value`.
    Threshold {
        threshold: f32,
        default_value: f32,
    },
    Exponential,
    /// log(1 + exp(x)).
    Softplus,
    /// x / (1 + |x|).
    Softsign,
    /// (x + sqrt(x^2 + `b`)) / 2 (Barron, 2021).
    Squareplus {
        b: f32,
    },
    /// 0 up to -1, x from 1 on, a parabola between.
    SparsePlus,
    /// x tanh(softplus(x)) (Misra, 2019).
    Mish,
    /// Over the innermost extent.
    Softmax,
    /// Over the innermost extent.
    LogSoftmax,
    /// The point of the simplex nearest to x, over the innermost extent (Martins and Astudillo, 2016).
    Sparsemax,
    /// The first half of the innermost extent times the sigmoid of the second (Dauphin et al., 2017): half as wide.
    Glu,
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
    ("elu", Activation::Elu { alpha: 1.0 }),
    ("celu", Activation::Celu { alpha: 1.0 }),
    ("selu", Activation::Selu),
    ("relu6", Activation::Relu6),
    (
        "leaky_relu",
        Activation::LeakyRelu {
            negative_slope: 0.2,
        },
    ),
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
    ("hard_shrink", Activation::HardShrink { threshold: 0.5 }),
    ("soft_shrink", Activation::SoftShrink { threshold: 0.5 }),
    ("tanh_shrink", Activation::TanhShrink),
    ("log_sigmoid", Activation::LogSigmoid),
    ("log_softmax", Activation::LogSoftmax),
    ("squareplus", Activation::Squareplus { b: 4.0 }),
    ("sparse_plus", Activation::SparsePlus),
    ("sparse_sigmoid", Activation::SparseSigmoid),
    ("sparsemax", Activation::Sparsemax),
];

/// Klambauer et al. (2017), equations 14: the fixed point of mean 0 and variance 1.
pub(super) const SELU_ALPHA: f32 = 1.673_263_2;
pub(super) const SELU_SCALE: f32 = 1.050_701;

impl Activation {
    /// Reads the option `activation`: a name, or an object of the name and its arguments. A gelu by name alone takes
    /// `approximate` beside it.
    pub(in super::super) fn read(options: &mut Options<'_>) -> Result<Self, SpecError> {
        Ok(Self::read_as(options, "activation", false)?.map_or(Activation::Linear, |read| read.0))
    }

    /// Reads an option of this name; null is linear, as in Keras, and a missing one the default.
    pub(in super::super) fn read_option(
        options: &mut Options<'_>,
        option: &'static str,
        default: Self,
    ) -> Result<Self, SpecError> {
        Ok(match Self::read_as(options, option, false)? {
            Some((activation, _)) => activation,
            None if options.is_null(option) => Activation::Linear,
            None => default,
        })
    }

    /// Reads an option that names a function; with `alone`, also those that only a layer of their own can have: another
    /// axis than the innermost, and `glu`, which changes the shape.
    pub(super) fn read_as(
        options: &mut Options<'_>,
        option: &'static str,
        alone: bool,
    ) -> Result<Option<(Self, Axis)>, SpecError> {
        let Some(value) = options.value(option) else {
            return Ok(None);
        };
        let hint = || {
            let names: Vec<&str> = NAMES.iter().map(|(name, _)| *name).collect();
            format!(
                "known are {}, threshold (an object with its arguments){}",
                names.join(", "),
                if alone {
                    ", glu"
                } else {
                    "; glu has a layer of its own, Activation"
                }
            )
        };
        let bad = || options.bad(option, value, hint());
        let (name, arguments) = match value {
            Value::String(name) => (name.as_str(), Map::new()),
            Value::Object(map) => {
                let name = map.get("name").and_then(Value::as_str).ok_or_else(bad)?;
                let mut arguments = map.clone();
                arguments.remove("name");
                (name, arguments)
            }
            _ => return Err(bad()),
        };
        let known = NAMES.iter().find(|(known, _)| *known == name);
        let function = match (known, name) {
            (Some((_, function)), _) => *function,
            (None, "threshold") => Activation::Threshold {
                threshold: f32::NAN,
                default_value: f32::NAN,
            },
            (None, "glu") if alone => Activation::Glu,
            _ => return Err(bad()),
        };
        if value.is_string() && matches!(function, Activation::Gelu { .. }) {
            let approximate = options.flag("approximate", false)?;
            return Ok(Some((Activation::Gelu { approximate }, Axis::INNERMOST)));
        }
        let mut inner = Options::new(options.layer(), name, &arguments);
        let function = function.with_arguments(&mut inner)?;
        let axis = if alone && function.has_axis() {
            Axis::read(&mut inner, "axis", Axis::INNERMOST)?
        } else {
            Axis::INNERMOST
        };
        inner.finish()?;
        Ok(Some((function, axis)))
    }

    /// The function with arguments in place of its defaults.
    fn with_arguments(self, options: &mut Options<'_>) -> Result<Self, SpecError> {
        const LIMIT: f64 = 1e6;
        let mut number = |option, default: f32, low: f64| {
            Ok::<f32, SpecError>(options.number(option, f64::from(default), low, LIMIT)? as f32)
        };
        Ok(match self {
            Activation::Relu => Self::rectifier(options, -LIMIT)?,
            Activation::LeakyRelu { negative_slope } => Activation::LeakyRelu {
                negative_slope: number("negative_slope", negative_slope, 0.0)?,
            },
            Activation::Elu { alpha } => Activation::Elu {
                alpha: number("alpha", alpha, 0.0)?,
            },
            Activation::Celu { alpha } => Activation::Celu {
                alpha: number("alpha", alpha, 1e-6)?,
            },
            Activation::HardShrink { threshold } => Activation::HardShrink {
                threshold: number("threshold", threshold, 0.0)?,
            },
            Activation::SoftShrink { threshold } => Activation::SoftShrink {
                threshold: number("threshold", threshold, 0.0)?,
            },
            Activation::Squareplus { b } => Activation::Squareplus {
                b: number("b", b, 1e-6)?,
            },
            Activation::Gelu { approximate } => Activation::Gelu {
                approximate: options.flag("approximate", approximate)?,
            },
            Activation::Threshold { .. } => {
                for option in ["threshold", "default_value"] {
                    if options.value(option).is_none() {
                        let hint = "the function threshold has no default for it; give a number";
                        return Err(options.bad(option, &Value::Null, hint.to_string()));
                    }
                }
                Activation::Threshold {
                    threshold: options.number("threshold", 0.0, -LIMIT, LIMIT)? as f32,
                    default_value: options.number("default_value", 0.0, -LIMIT, LIMIT)? as f32,
                }
            }
            other => other,
        })
    }

    /// Reads the arguments of `relu`; `lowest` is the least threshold.
    pub(super) fn rectifier(options: &mut Options<'_>, lowest: f64) -> Result<Self, SpecError> {
        const LIMIT: f64 = 1e6;
        let negative_slope = options.number("negative_slope", 0.0, 0.0, LIMIT)? as f32;
        let threshold = options.number("threshold", 0.0, lowest, LIMIT)? as f32;
        let max_value = match options.value("max_value") {
            None => None,
            Some(_) => Some(options.number("max_value", 0.0, 0.0, LIMIT)? as f32),
        };
        Ok(match (negative_slope, threshold, max_value) {
            (0.0, 0.0, None) => Activation::Relu,
            _ => Activation::Rectifier {
                negative_slope,
                max_value,
                threshold,
            },
        })
    }

    /// Whether it works along an axis and not number by number.
    pub(super) fn has_axis(self) -> bool {
        matches!(
            self,
            Activation::Softmax | Activation::LogSoftmax | Activation::Sparsemax | Activation::Glu
        )
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
            Activation::Rectifier {
                negative_slope,
                max_value,
                threshold,
            } => {
                let mut y = if threshold == 0.0 {
                    graph.unary(Unary::Relu, x)?
                } else {
                    let threshold = graph.constant(threshold)?;
                    let kept = graph.binary(Binary::Greater, x, threshold)?;
                    graph.times(x, kept)?
                };
                if let Some(most) = max_value {
                    y = cut(graph, y, 0.0, most)?;
                }
                if negative_slope == 0.0 {
                    return Ok(y);
                }
                let threshold = graph.constant(threshold)?;
                let short = graph.minus(threshold, x)?;
                let short = graph.unary(Unary::Relu, short)?;
                let below = graph.scaled(short, negative_slope)?;
                graph.minus(y, below)
            }
            Activation::LeakyRelu { negative_slope } => {
                let (above, below) = halves(graph, x)?;
                let below = graph.scaled(below, negative_slope)?;
                graph.plus(above, below)
            }
            Activation::Elu { alpha } => {
                let (above, below) = halves(graph, x)?;
                let below = less_one(graph, below)?;
                let below = graph.scaled(below, alpha)?;
                graph.plus(above, below)
            }
            Activation::Celu { alpha } => {
                let (above, below) = halves(graph, x)?;
                let below = graph.scaled(below, 1.0 / alpha)?;
                let below = less_one(graph, below)?;
                let below = graph.scaled(below, alpha)?;
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
            Activation::Threshold {
                threshold,
                default_value,
            } => {
                let (threshold, other) =
                    (graph.constant(threshold)?, graph.constant(default_value)?);
                let kept = graph.binary(Binary::Greater, x, threshold)?;
                let rest = graph.complement(kept)?;
                let (above, below) = (graph.times(x, kept)?, graph.times(other, rest)?);
                graph.plus(above, below)
            }
            Activation::HardShrink { threshold } => {
                let size = graph.unary(Unary::Absolute, x)?;
                let threshold = graph.constant(threshold)?;
                let kept = graph.binary(Binary::Greater, size, threshold)?;
                graph.times(x, kept)
            }
            Activation::SoftShrink { threshold } => {
                let size = graph.unary(Unary::Absolute, x)?;
                let threshold = graph.constant(threshold)?;
                let beyond = graph.minus(size, threshold)?;
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
            Activation::Squareplus { b } => {
                let square = graph.unary(Unary::Square, x)?;
                let sum = graph.shifted(square, b)?;
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
            Activation::Sparsemax => sparsemax(graph, x),
            Activation::Glu => {
                let axis = graph.shape(x).rank() - 1;
                let half = graph.shape(x).last() / 2;
                let value = graph.slice(x, axis, 0, half, 1)?;
                let gate = graph.slice(x, axis, half, half, 1)?;
                let gate = graph.unary(Unary::Sigmoid, gate)?;
                graph.times(value, gate)
            }
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

/// Halvings of the interval that holds the threshold: beyond these float32 has no more bits.
const HALVINGS: usize = 24;

/// relu(x - t) with the t that makes the sum 1, over the innermost extent.
///
/// t lies between max(x) - 1 and max(x). Halving that interval finds which numbers lie above t; then t is their sum less 1,
/// divided by how many they are, which also carries the gradient.
fn sparsemax(graph: &mut Graph, x: NodeId) -> Result<NodeId, GraphError> {
    let last = graph.shape(x).rank() - 1;
    let most = graph.reduce(Reduction::Max, x, last, 1)?;
    let most = graph.with_ones(most, last, 1)?;
    let one = graph.constant(1.0)?;
    let mut low = graph.minus(most, one)?;
    let mut step = 1.0;
    for _ in 0..HALVINGS {
        step *= 0.5;
        let middle = graph.shifted(low, step)?;
        let beyond = graph.minus(x, middle)?;
        let beyond = graph.unary(Unary::Relu, beyond)?;
        let sum = graph.sum_columns(beyond)?;
        // The threshold is not below the middle where the sum there is still 1 or more.
        let short = graph.binary(Binary::Greater, one, sum)?;
        let raised = graph.complement(short)?;
        let raised = graph.scaled(raised, step)?;
        low = graph.plus(low, raised)?;
    }
    let support = graph.binary(Binary::Greater, x, low)?;
    let count = graph.sum_columns(support)?;
    let supported = graph.times(x, support)?;
    let sum = graph.sum_columns(supported)?;
    let excess = graph.minus(sum, one)?;
    let threshold = graph.over(excess, count)?;
    let beyond = graph.minus(x, threshold)?;
    graph.unary(Unary::Relu, beyond)
}
