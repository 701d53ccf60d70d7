//! Losses, with Keras' names and meaning: probabilities come out of sigmoid or softmax.
//!
//! Where the model ends in sigmoid or softmax, cross-entropies are recorded from the logits before it, which neither
//! overflow nor cancel. Where it does not, probabilities are clipped to [1e-7, 1 - 1e-7] as Keras does.

use crate::autograd::{Graph, GraphError, NodeId, Op};
use crate::tensor::kernels::elementwise::{Binary, Unary};

use super::error::SpecError;
use super::layers::activation::Activation;
use super::model::Model;

/// Keras' epsilon: how near to 0 or 1 a probability is let when its logarithm is taken.
pub const PROBABILITY_EPSILON: f32 = 1e-7;

/// Keras' smallest squared length of a vector that is made one long.
const LENGTH_SQUARED_MIN: f32 = 1e-12;

/// What the label column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetKind {
    /// Numbers, `width` per row.
    Numeric { width: usize },
    /// One class index per row, 0 to `classes` - 1 (two classes are 0 and 1).
    Classes { classes: usize },
}

/// What training lowers. Losses over several outputs are averaged over them; cross-entropies over classes, divergence
/// and cosine are of the whole row. Every one is held to Keras' by golden values (`tests/golden/losses/`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    MeanSquaredError,
    MeanAbsoluteError,
    /// 100 |t - y| / |t|.
    MeanAbsolutePercentageError,
    /// The squared difference of log(1 + t) and log(1 + y); negative numbers count as 0.
    MeanSquaredLogarithmicError,
    /// Half the square of differences up to 1, beyond that the difference less a half.
    Huber,
    /// The logarithm of the difference's hyperbolic cosine.
    LogCosh,
    /// y - t log y: counts t and rates y.
    Poisson,
    /// sum of t log(t / y): distributions t and y.
    KlDivergence,
    /// The negated cosine of the angle between the label and the answer.
    CosineSimilarity,
    /// max(0, 1 - t y) of labels -1 and 1; a label 0 counts as -1.
    Hinge,
    SquaredHinge,
    BinaryCrossentropy,
    /// Targets are one probability per class (one-hot).
    CategoricalCrossentropy,
    /// Targets are class indices.
    SparseCategoricalCrossentropy,
}

const NAMES: &[(&str, Loss)] = &[
    ("mean_squared_error", Loss::MeanSquaredError),
    ("mse", Loss::MeanSquaredError),
    ("mean_absolute_error", Loss::MeanAbsoluteError),
    ("mae", Loss::MeanAbsoluteError),
    (
        "mean_absolute_percentage_error",
        Loss::MeanAbsolutePercentageError,
    ),
    ("mape", Loss::MeanAbsolutePercentageError),
    (
        "mean_squared_logarithmic_error",
        Loss::MeanSquaredLogarithmicError,
    ),
    ("msle", Loss::MeanSquaredLogarithmicError),
    ("huber", Loss::Huber),
    ("log_cosh", Loss::LogCosh),
    ("poisson", Loss::Poisson),
    ("kl_divergence", Loss::KlDivergence),
    ("cosine_similarity", Loss::CosineSimilarity),
    ("hinge", Loss::Hinge),
    ("squared_hinge", Loss::SquaredHinge),
    ("binary_crossentropy", Loss::BinaryCrossentropy),
    ("categorical_crossentropy", Loss::CategoricalCrossentropy),
    (
        "sparse_categorical_crossentropy",
        Loss::SparseCategoricalCrossentropy,
    ),
];

impl Loss {
    /// By Keras name: "mse" and "mean_squared_error" are one.
    pub fn parse(name: &str) -> Result<Loss, SpecError> {
        NAMES
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, loss)| *loss)
            .ok_or_else(|| SpecError::UnknownName {
                what: "loss",
                found: name.chars().take(80).collect(),
                known: NAMES
                    .iter()
                    .map(|(name, _)| *name)
                    .collect::<Vec<_>>()
                    .join(", "),
            })
    }

    /// Whether its label is a class; otherwise it is numbers.
    pub fn has_classes(self) -> bool {
        matches!(
            self,
            Loss::BinaryCrossentropy
                | Loss::CategoricalCrossentropy
                | Loss::SparseCategoricalCrossentropy
        )
    }

    /// The long Keras name.
    pub fn name(self) -> &'static str {
        NAMES
            .iter()
            .find(|(_, loss)| *loss == self)
            .map_or("", |(name, _)| name)
    }

    /// Numbers per row of `LaneBatch::target`: 1 for sparse classes, else the model's output width.
    pub fn target_width(self, model: &Model) -> usize {
        self.target_width_for(model.output_width())
    }

    pub(super) fn target_width_for(self, output_width: usize) -> usize {
        if self == Loss::SparseCategoricalCrossentropy {
            1
        } else {
            output_width
        }
    }

    /// Whether the model's answer fits this loss and this kind of label. Of classes, the answer must be probabilities.
    pub fn check(self, model: &Model, target: &TargetKind) -> Result<(), SpecError> {
        self.check_model(model)?;
        let width = model.output_width();
        let (fits, hint) = match (self, target) {
            (Loss::SparseCategoricalCrossentropy, TargetKind::Classes { classes }) => {
                (*classes == width, "end the model with one unit per class")
            }
            (Loss::SparseCategoricalCrossentropy, TargetKind::Numeric { .. }) => {
                (false, "make the label a class, or use \"mse\"")
            }
            (Loss::CategoricalCrossentropy, TargetKind::Classes { .. }) => {
                (false, "use \"sparse_categorical_crossentropy\"")
            }
            (
                Loss::BinaryCrossentropy | Loss::MeanSquaredError | Loss::MeanAbsoluteError,
                TargetKind::Classes { classes },
            ) => (
                *classes <= 2 && width == 1,
                "use \"sparse_categorical_crossentropy\", or one unit and two classes",
            ),
            (_, TargetKind::Classes { .. }) => {
                (false, "make the label numbers, or use a cross-entropy")
            }
            (_, TargetKind::Numeric { width: numbers }) => (
                *numbers == width,
                "end the model with one unit per number of the label",
            ),
        };
        if fits {
            return match target {
                TargetKind::Classes { .. } => self.check_probabilities(model),
                TargetKind::Numeric { .. } => Ok(()),
            };
        }
        let label = match target {
            TargetKind::Numeric { width } => format!("{width} numbers"),
            TargetKind::Classes { classes } => format!("one of {classes} classes"),
        };
        Err(self.mismatch(
            format!("its output has {width} units and the label is {label}"),
            hint,
        ))
    }

    /// What is served as a probability must be one: sigmoid for one unit, softmax for one unit per class.
    fn check_probabilities(self, model: &Model) -> Result<(), SpecError> {
        let (wanted, activation) = match self {
            Loss::BinaryCrossentropy => (Activation::Sigmoid, "sigmoid"),
            Loss::CategoricalCrossentropy | Loss::SparseCategoricalCrossentropy => {
                (Activation::Softmax, "softmax")
            }
            _ => return Ok(()),
        };
        let (layer, found) = model.last_activation();
        if found == Some(wanted) {
            return Ok(());
        }
        Err(self.mismatch(
            format!("its last layer {layer:?} does not answer probabilities"),
            &format!("give that layer activation=\"{activation}\""),
        ))
    }

    /// What can be said without knowing the label.
    pub(super) fn check_model(self, model: &Model) -> Result<(), SpecError> {
        if model.output_extents().len() != 1 {
            return Err(self.mismatch(
                format!(
                    "its output has extents {:?} per row",
                    model.output_extents()
                ),
                "end the model with a Flatten or Dense",
            ));
        }
        if matches!(
            self,
            Loss::CategoricalCrossentropy | Loss::SparseCategoricalCrossentropy
        ) && model.output_width() < 2
        {
            return Err(self.mismatch(
                "its output has 1 unit".to_string(),
                "use one unit per class, or \"binary_crossentropy\"",
            ));
        }
        Ok(())
    }

    fn mismatch(self, problem: String, hint: &str) -> SpecError {
        SpecError::LossMismatch {
            loss: self.name().to_string(),
            problem,
            hint: hint.to_string(),
        }
    }

    /// Records the loss of each row: output (R, C) and target (R, C) or (R, 1) to (R, 1).
    pub(super) fn record(
        self,
        graph: &mut Graph,
        output: NodeId,
        target: NodeId,
    ) -> Result<NodeId, GraphError> {
        let width = graph.shape(output).last();
        let logits_of =
            |graph: &Graph, last: Op| (*graph.op(output) == last).then(|| graph.inputs(output)[0]);
        match self {
            Loss::MeanSquaredError => {
                let difference = graph.minus(output, target)?;
                let each = graph.unary(Unary::Square, difference)?;
                mean_of_columns(graph, each)
            }
            Loss::MeanAbsoluteError => {
                let difference = graph.minus(output, target)?;
                let each = graph.unary(Unary::Absolute, difference)?;
                mean_of_columns(graph, each)
            }
            Loss::MeanAbsolutePercentageError => {
                let difference = graph.minus(target, output)?;
                let size = graph.unary(Unary::Absolute, target)?;
                let size = at_least(graph, size, PROBABILITY_EPSILON)?;
                let share = graph.over(difference, size)?;
                let each = graph.unary(Unary::Absolute, share)?;
                let mean = mean_of_columns(graph, each)?;
                graph.scaled(mean, 100.0)
            }
            Loss::MeanSquaredLogarithmicError => {
                let one = graph.constant(1.0)?;
                let mut logarithm = |x: NodeId| -> Result<NodeId, GraphError> {
                    let raised = at_least(graph, x, PROBABILITY_EPSILON)?;
                    let shifted = graph.plus(raised, one)?;
                    graph.unary(Unary::Log, shifted)
                };
                let (answered, wanted) = (logarithm(output)?, logarithm(target)?);
                let difference = graph.minus(answered, wanted)?;
                let each = graph.unary(Unary::Square, difference)?;
                mean_of_columns(graph, each)
            }
            Loss::Huber => {
                // q (|e| - q / 2) with q = min(|e|, 1): both branches in one.
                let one = graph.constant(1.0)?;
                let difference = graph.minus(output, target)?;
                let size = graph.unary(Unary::Absolute, difference)?;
                let within = graph.binary(Binary::Minimum, size, one)?;
                let half = graph.scaled(within, 0.5)?;
                let rest = graph.minus(size, half)?;
                let each = graph.times(within, rest)?;
                mean_of_columns(graph, each)
            }
            Loss::LogCosh => {
                // |e| + log(1 + exp(-2 |e|)) - log 2, which does not overflow.
                let one = graph.constant(1.0)?;
                let difference = graph.minus(output, target)?;
                let size = graph.unary(Unary::Absolute, difference)?;
                let twice = graph.scaled(size, -2.0)?;
                let small = graph.unary(Unary::Exp, twice)?;
                let sum = graph.plus(one, small)?;
                let logarithm = graph.unary(Unary::Log, sum)?;
                let log_2 = graph.constant(std::f32::consts::LN_2)?;
                let shifted = graph.minus(logarithm, log_2)?;
                let each = graph.plus(size, shifted)?;
                mean_of_columns(graph, each)
            }
            Loss::Poisson => {
                let epsilon = graph.constant(PROBABILITY_EPSILON)?;
                let shifted = graph.plus(output, epsilon)?;
                let logarithm = graph.unary(Unary::Log, shifted)?;
                let counted = graph.times(target, logarithm)?;
                let each = graph.minus(output, counted)?;
                mean_of_columns(graph, each)
            }
            Loss::KlDivergence => {
                let one = graph.constant(1.0)?;
                let mut share = |x: NodeId| -> Result<NodeId, GraphError> {
                    let raised = at_least(graph, x, PROBABILITY_EPSILON)?;
                    graph.binary(Binary::Minimum, raised, one)
                };
                let (y, t) = (share(output)?, share(target)?);
                let ratio = graph.over(t, y)?;
                let logarithm = graph.unary(Unary::Log, ratio)?;
                let each = graph.times(t, logarithm)?;
                graph.sum_columns(each)
            }
            Loss::CosineSimilarity => {
                let (y, t) = (of_length_one(graph, output)?, of_length_one(graph, target)?);
                let product = graph.times(y, t)?;
                let cosine = graph.sum_columns(product)?;
                graph.unary(Unary::Negate, cosine)
            }
            Loss::Hinge | Loss::SquaredHinge => {
                // t + |t| - 1 is -1 for 0 and for -1, and 1 for 1.
                let one = graph.constant(1.0)?;
                let size = graph.unary(Unary::Absolute, target)?;
                let sum = graph.plus(target, size)?;
                let sign = graph.minus(sum, one)?;
                let product = graph.times(sign, output)?;
                let margin = graph.minus(one, product)?;
                let mut each = graph.unary(Unary::Relu, margin)?;
                if self == Loss::SquaredHinge {
                    each = graph.unary(Unary::Square, each)?;
                }
                mean_of_columns(graph, each)
            }
            Loss::BinaryCrossentropy => {
                let each = match logits_of(graph, Op::Unary(Unary::Sigmoid)) {
                    Some(logits) => graph.binary(Binary::SigmoidCrossEntropy, logits, target)?,
                    None => {
                        // -(t log p + (1 - t) log(1 - p))
                        let p = clipped(graph, output)?;
                        let one = graph.constant(1.0)?;
                        let (other_p, other_t) = (graph.minus(one, p)?, graph.minus(one, target)?);
                        let (log_p, log_other) = (
                            graph.unary(Unary::Log, p)?,
                            graph.unary(Unary::Log, other_p)?,
                        );
                        let (left, right) = (
                            graph.times(target, log_p)?,
                            graph.times(other_t, log_other)?,
                        );
                        let sum = graph.plus(left, right)?;
                        graph.unary(Unary::Negate, sum)?
                    }
                };
                mean_of_columns(graph, each)
            }
            Loss::CategoricalCrossentropy | Loss::SparseCategoricalCrossentropy => {
                let log_p = match logits_of(graph, Op::Softmax) {
                    Some(logits) => graph.add(Op::LogSoftmax, &[logits])?,
                    None => {
                        let sum = graph.sum_columns(output)?;
                        let share = graph.over(output, sum)?;
                        let p = clipped(graph, share)?;
                        graph.unary(Unary::Log, p)?
                    }
                };
                let sparse = self == Loss::SparseCategoricalCrossentropy;
                let target = if sparse {
                    graph.add(Op::OneHot { classes: width }, &[target])?
                } else {
                    target
                };
                let taken = graph.times(target, log_p)?;
                let sum = graph.sum_columns(taken)?;
                graph.unary(Unary::Negate, sum)
            }
        }
    }

    /// The loss of one row from the model's answer, in float64: what validation adds up.
    pub fn of_row(self, prediction: &[f32], target: &[f32]) -> f64 {
        let epsilon = f64::from(PROBABILITY_EPSILON);
        let clip = |p: f64| p.clamp(epsilon, 1.0 - epsilon);
        let pairs = || {
            prediction
                .iter()
                .zip(target)
                .map(|(&y, &t)| (f64::from(y), f64::from(t)))
        };
        let width = prediction.len() as f64;
        match self {
            Loss::MeanSquaredError => pairs().map(|(y, t)| (y - t).powi(2)).sum::<f64>() / width,
            Loss::MeanAbsoluteError => pairs().map(|(y, t)| (y - t).abs()).sum::<f64>() / width,
            Loss::MeanAbsolutePercentageError => {
                let each = pairs().map(|(y, t)| ((t - y) / t.abs().max(epsilon)).abs());
                100.0 * each.sum::<f64>() / width
            }
            Loss::MeanSquaredLogarithmicError => {
                let log = |x: f64| (x.max(epsilon) + 1.0).ln();
                let each = pairs().map(|(y, t)| (log(y) - log(t)).powi(2));
                each.sum::<f64>() / width
            }
            Loss::Huber => {
                let each = pairs().map(|(y, t)| {
                    let size = (y - t).abs();
                    let within = size.min(1.0);
                    within * (size - 0.5 * within)
                });
                each.sum::<f64>() / width
            }
            Loss::LogCosh => {
                let each = pairs().map(|(y, t)| {
                    let size = (y - t).abs();
                    size + (-2.0 * size).exp().ln_1p() - std::f64::consts::LN_2
                });
                each.sum::<f64>() / width
            }
            Loss::Poisson => {
                let each = pairs().map(|(y, t)| y - t * (y + epsilon).ln());
                each.sum::<f64>() / width
            }
            Loss::KlDivergence => pairs()
                .map(|(y, t)| (y.clamp(epsilon, 1.0), t.clamp(epsilon, 1.0)))
                .map(|(y, t)| t * (t / y).ln())
                .sum(),
            Loss::CosineSimilarity => {
                let length = |of: &[f32]| {
                    let squares = of.iter().map(|&x| f64::from(x) * f64::from(x));
                    squares.sum::<f64>().max(LENGTH_SQUARED_MIN.into()).sqrt()
                };
                let product: f64 = pairs().map(|(y, t)| y * t).sum();
                -product / (length(prediction) * length(target))
            }
            Loss::Hinge | Loss::SquaredHinge => {
                let each = pairs().map(|(y, t)| {
                    let margin = (1.0 - (t + t.abs() - 1.0) * y).max(0.0);
                    if self == Loss::Hinge {
                        margin
                    } else {
                        margin * margin
                    }
                });
                each.sum::<f64>() / width
            }
            Loss::BinaryCrossentropy => {
                let each =
                    pairs().map(|(y, t)| -(t * clip(y).ln() + (1.0 - t) * (1.0 - clip(y)).ln()));
                each.sum::<f64>() / width
            }
            Loss::CategoricalCrossentropy | Loss::SparseCategoricalCrossentropy => {
                let sum: f64 = prediction.iter().map(|&y| f64::from(y)).sum();
                let log_of = |y: f32| clip(f64::from(y) / sum).ln();
                if self == Loss::CategoricalCrossentropy {
                    return -prediction
                        .iter()
                        .zip(target)
                        .map(|(&y, &t)| f64::from(t) * log_of(y))
                        .sum::<f64>();
                }
                // A target that is no class makes the loss NaN; training has refused it with its row before.
                let class = target
                    .first()
                    .filter(|class| **class >= 0.0 && class.fract() == 0.0);
                class
                    .and_then(|&class| prediction.get(class as usize))
                    .map_or(f64::NAN, |&y| -log_of(y))
            }
        }
    }
}

fn mean_of_columns(graph: &mut Graph, each: NodeId) -> Result<NodeId, GraphError> {
    let width = graph.shape(each).last();
    let sum = graph.sum_columns(each)?;
    graph.scaled(sum, 1.0 / width as f32)
}

fn at_least(graph: &mut Graph, x: NodeId, low: f32) -> Result<NodeId, GraphError> {
    let low = graph.constant(low)?;
    graph.binary(Binary::Maximum, x, low)
}

/// Each row divided by its Euclidean length.
fn of_length_one(graph: &mut Graph, x: NodeId) -> Result<NodeId, GraphError> {
    let squares = graph.unary(Unary::Square, x)?;
    let sum = graph.sum_columns(squares)?;
    let sum = at_least(graph, sum, LENGTH_SQUARED_MIN)?;
    let length = graph.unary(Unary::Sqrt, sum)?;
    graph.over(x, length)
}

fn clipped(graph: &mut Graph, p: NodeId) -> Result<NodeId, GraphError> {
    let (low, high) = (
        graph.constant(PROBABILITY_EPSILON)?,
        graph.constant(1.0 - PROBABILITY_EPSILON)?,
    );
    let raised = graph.binary(Binary::Maximum, p, low)?;
    graph.binary(Binary::Minimum, raised, high)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::nn::{FeatureColumn, FeatureKind, ModelSpec};

    #[test]
    fn an_answer_over_classes_must_be_probabilities() {
        let two = TargetKind::Classes { classes: 2 };
        let three = TargetKind::Classes { classes: 3 };
        let binary = Loss::BinaryCrossentropy;
        let sparse = Loss::SparseCategoricalCrossentropy;
        for activation in ["linear", "tanh", "relu", "softmax"] {
            let message = binary.check(&model(1, activation), &two).unwrap_err();
            assert_eq!(
                message.to_string(),
                "loss \"binary_crossentropy\" does not fit the model: its last layer \"answer\" does not answer \
                 probabilities; give that layer activation=\"sigmoid\""
            );
        }
        for activation in ["linear", "sigmoid"] {
            let message = sparse.check(&model(3, activation), &three).unwrap_err();
            assert!(message.to_string().contains("activation=\"softmax\""));
        }
        binary.check(&model(1, "sigmoid"), &two).unwrap();
        sparse.check(&model(2, "softmax"), &two).unwrap();
        sparse.check(&model(3, "softmax"), &three).unwrap();
        let numbers = TargetKind::Numeric { width: 3 };
        Loss::MeanSquaredError
            .check(&model(3, "linear"), &numbers)
            .unwrap();
    }

    fn model(units: usize, activation: &str) -> Model {
        let spec = json!({"format_version": 1, "name": "small", "outputs": ["answer"], "layers": [
            {"name": "features", "layer": "Input"},
            {"name": "answer", "layer": "Dense", "config": {"units": units, "activation": activation}, "inputs": ["features"]},
        ]});
        let feature = FeatureColumn {
            name: "age".to_string(),
            width: 1,
            kind: FeatureKind::Float,
        };
        Model::build(&ModelSpec::from_json(&spec).unwrap(), &[feature]).unwrap()
    }
}
