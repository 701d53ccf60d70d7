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

/// What the label column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetKind {
    /// Numbers, `width` per row.
    Numeric { width: usize },
    /// One class index per row, 0 to `classes` - 1 (two classes are 0 and 1).
    Classes { classes: usize },
}

/// What training lowers. Losses over several outputs are averaged over them (cross-entropies over classes are not).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    MeanSquaredError,
    MeanAbsoluteError,
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
        !matches!(self, Loss::MeanSquaredError | Loss::MeanAbsoluteError)
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
            Loss::MeanSquaredError | Loss::MeanAbsoluteError => return Ok(()),
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
            Loss::MeanSquaredError | Loss::MeanAbsoluteError => {
                let function = if self == Loss::MeanSquaredError {
                    Unary::Square
                } else {
                    Unary::Absolute
                };
                let difference = graph.minus(output, target)?;
                let each = graph.unary(function, difference)?;
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
