//! Losses over probabilities.
//!
//! Where the answer comes out of a sigmoid or softmax, or is logits by option, logarithms are taken of the logits, which
//! neither overflow nor cancel. Else probabilities are cut to [1e-7, 1 - 1e-7], as Keras does.

use crate::autograd::{Graph, GraphError, NodeId, Op};
use crate::tensor::kernels::elementwise::{Binary, Unary};

use super::words::{EPSILON, Given, Recorded, at_least, clipped, mean_of_columns, other, power};

const SIGMOID: Op = Op::Unary(Unary::Sigmoid);

/// -(t log p + (1 - t) log(1 - p)). Options: from_logits, label_smoothing.
pub(super) fn binary_crossentropy(given: &mut Given<'_>) -> Recorded {
    let (p, logits) = given.probabilities(&SIGMOID, given.values.flag(0))?;
    let label = given.smoothed(given.values.number(1), 0.5)?;
    let each = binary_each(given, p, logits, label)?;
    mean_of_columns(given.graph, each)
}

/// Cross-entropy times (1 - p_t)^gamma, where p_t is the probability of what the label says (Lin et al., 2018); with
/// `apply_class_balancing` times alpha for class 1 and 1 - alpha for class 0 as well.
/// Options: from_logits, label_smoothing, apply_class_balancing, alpha, gamma.
pub(super) fn binary_focal_crossentropy(given: &mut Given<'_>) -> Recorded {
    let values = given.values;
    let (p, logits) = given.probabilities(&SIGMOID, values.flag(0))?;
    let label = given.smoothed(values.number(1), 0.5)?;
    let entropy = binary_each(given, p, logits, label)?;
    let graph = &mut *given.graph;
    let (other_p, other_t) = (other(graph, p)?, other(graph, label)?);
    let (left, right) = (graph.times(label, p)?, graph.times(other_t, other_p)?);
    let said = graph.plus(left, right)?;
    let unsaid = other(graph, said)?;
    let factor = power(graph, unsaid, values.number(4))?;
    let mut each = graph.times(entropy, factor)?;
    if values.flag(2) {
        let alpha = values.number(3);
        let one = graph.scaled(label, alpha as f32)?;
        let zero = graph.scaled(other_t, (1.0 - alpha) as f32)?;
        let weight = graph.plus(one, zero)?;
        each = graph.times(each, weight)?;
    }
    mean_of_columns(graph, each)
}

/// -sum of t log p, one probability per class. Options: from_logits, label_smoothing.
pub(super) fn categorical_crossentropy(given: &mut Given<'_>) -> Recorded {
    let (_, log_p) = log_shares(given, given.values.flag(0))?;
    let label = given.smoothed(given.values.number(1), 1.0 / given.width() as f64)?;
    negated_sum(given, label, log_p)
}

/// -sum of alpha (1 - p)^gamma t log p. Options: from_logits, label_smoothing, alpha, gamma.
pub(super) fn categorical_focal_crossentropy(given: &mut Given<'_>) -> Recorded {
    let values = given.values;
    let (p, log_p) = log_shares(given, values.flag(0))?;
    let label = given.smoothed(values.number(1), 1.0 / given.width() as f64)?;
    let graph = &mut *given.graph;
    let missing = other(graph, p)?;
    let factor = power(graph, missing, values.number(3))?;
    let factor = graph.scaled(factor, values.number(2) as f32)?;
    let weighted = graph.times(factor, log_p)?;
    negated_sum(given, label, weighted)
}

/// -log p of the class whose index is the label; 0, without gradient, where that is `ignore_class`.
/// Options: from_logits, ignore_class.
pub(super) fn sparse_categorical_crossentropy(given: &mut Given<'_>) -> Recorded {
    let counted = match given.values.given(1) {
        Some(ignored) => Some(counted(given, ignored as f32)?),
        None => None,
    };
    let (p, logits) = given.probabilities(&Op::Softmax, given.values.flag(0))?;
    let label = one_hot(given)?;
    let loss = match logits {
        Some(logits) => {
            let log_p = given.graph.add(Op::LogSoftmax, &[logits])?;
            negated_sum(given, label, log_p)?
        }
        // The class first: one logarithm for a row.
        None => {
            let share = share_of_sum(given.graph, p)?;
            let taken = given.graph.times(label, share)?;
            let p = given.graph.sum_columns(taken)?;
            let p = clipped(given.graph, p)?;
            let log_p = given.graph.unary(Unary::Log, p)?;
            given.graph.unary(Unary::Negate, log_p)?
        }
    };
    match counted {
        Some(counted) => given.graph.times(loss, counted),
        None => Ok(loss),
    }
}

/// (1 - p^q) / q of the class whose index is the label (Zhang and Sabuncu, 2018). Options: q.
pub(super) fn categorical_generalized_cross_entropy(given: &mut Given<'_>) -> Recorded {
    let q = given.values.number(0);
    let label = one_hot(given)?;
    let graph = &mut *given.graph;
    let taken = graph.times(label, given.answer)?;
    let p = graph.sum_columns(taken)?;
    let raised = power(graph, p, q)?;
    let rest = other(graph, raised)?;
    graph.scaled(rest, (1.0 / q) as f32)
}

/// sum of t log(t / y): distributions t and y.
pub(super) fn kl_divergence(given: &mut Given<'_>) -> Recorded {
    let graph = &mut *given.graph;
    let one = graph.constant(1.0)?;
    let mut share = |x: NodeId| -> Recorded {
        let raised = at_least(graph, x, EPSILON)?;
        graph.binary(Binary::Minimum, raised, one)
    };
    let (y, t) = (share(given.answer)?, share(given.label)?);
    let ratio = graph.over(t, y)?;
    let logarithm = graph.unary(Unary::Log, ratio)?;
    let each = graph.times(t, logarithm)?;
    graph.sum_columns(each)
}

fn binary_each(
    given: &mut Given<'_>,
    p: NodeId,
    logits: Option<NodeId>,
    label: NodeId,
) -> Recorded {
    let graph = &mut *given.graph;
    if let Some(logits) = logits {
        return graph.binary(Binary::SigmoidCrossEntropy, logits, label);
    }
    let p = clipped(graph, p)?;
    let (other_p, other_t) = (other(graph, p)?, other(graph, label)?);
    let (log_p, log_other) = (
        graph.unary(Unary::Log, p)?,
        graph.unary(Unary::Log, other_p)?,
    );
    let (left, right) = (graph.times(label, log_p)?, graph.times(other_t, log_other)?);
    let sum = graph.plus(left, right)?;
    graph.unary(Unary::Negate, sum)
}

/// The probability of each class and its logarithm.
fn log_shares(given: &mut Given<'_>, from_logits: bool) -> Result<(NodeId, NodeId), GraphError> {
    let (p, logits) = given.probabilities(&Op::Softmax, from_logits)?;
    let graph = &mut *given.graph;
    if let Some(logits) = logits {
        return Ok((p, graph.add(Op::LogSoftmax, &[logits])?));
    }
    let share = share_of_sum(graph, p)?;
    let p = clipped(graph, share)?;
    Ok((p, graph.unary(Unary::Log, p)?))
}

/// Each number over the sum of its row.
fn share_of_sum(graph: &mut Graph, p: NodeId) -> Recorded {
    let sum = graph.sum_columns(p)?;
    graph.over(p, sum)
}

fn one_hot(given: &mut Given<'_>) -> Recorded {
    let classes = given.width();
    given.graph.add(Op::OneHot { classes }, &[given.label])
}

/// 1 where the label counts, 0 where it is the class to ignore; such labels become class 0.
fn counted(given: &mut Given<'_>, ignored: f32) -> Recorded {
    let graph = &mut *given.graph;
    let (ignored, half) = (graph.constant(ignored)?, graph.constant(0.5)?);
    let apart = graph.minus(given.label, ignored)?;
    let apart = graph.unary(Unary::Absolute, apart)?;
    let counted = graph.binary(Binary::Greater, apart, half)?;
    given.label = graph.times(given.label, counted)?;
    Ok(counted)
}

fn negated_sum(given: &mut Given<'_>, label: NodeId, log_p: NodeId) -> Recorded {
    let taken = given.graph.times(label, log_p)?;
    let sum = given.graph.sum_columns(taken)?;
    given.graph.unary(Unary::Negate, sum)
}
