//! Losses over numbers: functions of the difference of answer and label, averaged over the innermost extent.

use crate::autograd::{Graph, GraphError, NodeId};
use crate::tensor::kernels::elementwise::{Binary, Unary};

use super::words::{EPSILON, Given, Recorded, at_least, mean_of_columns};

/// (t - y)^2.
pub(super) fn mean_squared_error(given: &mut Given<'_>) -> Recorded {
    let difference = given.difference()?;
    let each = given.graph.unary(Unary::Square, difference)?;
    mean_of_columns(given.graph, each)
}

/// |t - y|.
pub(super) fn mean_absolute_error(given: &mut Given<'_>) -> Recorded {
    let difference = given.difference()?;
    let each = given.graph.unary(Unary::Absolute, difference)?;
    mean_of_columns(given.graph, each)
}

/// 100 |t - y| / |t|.
pub(super) fn mean_absolute_percentage_error(given: &mut Given<'_>) -> Recorded {
    let difference = given.difference()?;
    let graph = &mut *given.graph;
    let size = graph.unary(Unary::Absolute, given.label)?;
    let size = at_least(graph, size, EPSILON)?;
    let share = graph.over(difference, size)?;
    let each = graph.unary(Unary::Absolute, share)?;
    let mean = mean_of_columns(graph, each)?;
    graph.scaled(mean, 100.0)
}

/// The squared difference of log(1 + t) and log(1 + y); negative numbers count as 0.
pub(super) fn mean_squared_logarithmic_error(given: &mut Given<'_>) -> Recorded {
    let graph = &mut *given.graph;
    let one = graph.constant(1.0)?;
    let mut logarithm = |x: NodeId| -> Recorded {
        let raised = at_least(graph, x, EPSILON)?;
        let shifted = graph.plus(raised, one)?;
        graph.unary(Unary::Log, shifted)
    };
    let (answered, wanted) = (logarithm(given.answer)?, logarithm(given.label)?);
    let difference = graph.minus(answered, wanted)?;
    let each = graph.unary(Unary::Square, difference)?;
    mean_of_columns(graph, each)
}

/// Half the square of differences up to `delta`, beyond that `delta` times the difference less half of `delta`
/// (Huber, 1964). Options: delta.
pub(super) fn huber(given: &mut Given<'_>) -> Recorded {
    let delta = given.values.number(0) as f32;
    let difference = given.difference()?;
    let graph = &mut *given.graph;
    // q (|e| - q / 2) with q = min(|e|, delta): both branches in one.
    let delta = graph.constant(delta)?;
    let size = graph.unary(Unary::Absolute, difference)?;
    let within = graph.binary(Binary::Minimum, size, delta)?;
    let half = graph.scaled(within, 0.5)?;
    let rest = graph.minus(size, half)?;
    let each = graph.times(within, rest)?;
    mean_of_columns(graph, each)
}

/// log cosh(y - t).
pub(super) fn log_cosh(given: &mut Given<'_>) -> Recorded {
    let difference = given.difference()?;
    let graph = &mut *given.graph;
    // |e| + log(1 + exp(-2 |e|)) - log 2, which does not overflow.
    let one = graph.constant(1.0)?;
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

/// q e where e = t - y is positive, else (q - 1) e: its minimum is the quantile q of the label (Koenker and Bassett,
/// 1978; the pinball loss). Options: quantile.
pub(super) fn quantile(given: &mut Given<'_>) -> Recorded {
    let quantile = given.values.number(0) as f32;
    let graph = &mut *given.graph;
    let difference = graph.minus(given.label, given.answer)?;
    let above = graph.scaled(difference, quantile)?;
    let below = graph.scaled(difference, quantile - 1.0)?;
    let each = graph.binary(Binary::Maximum, above, below)?;
    mean_of_columns(graph, each)
}

/// y - t log y: counts t and rates y.
pub(super) fn poisson(given: &mut Given<'_>) -> Recorded {
    let graph = &mut *given.graph;
    let epsilon = graph.constant(EPSILON)?;
    let shifted = graph.plus(given.answer, epsilon)?;
    let logarithm = graph.unary(Unary::Log, shifted)?;
    let counted = graph.times(given.label, logarithm)?;
    let each = graph.minus(given.answer, counted)?;
    mean_of_columns(graph, each)
}

/// The negated cosine of the angle between the label and the answer.
pub(super) fn cosine_similarity(given: &mut Given<'_>) -> Recorded {
    let graph = &mut *given.graph;
    let (y, t) = (
        of_length_one(graph, given.answer)?,
        of_length_one(graph, given.label)?,
    );
    let product = graph.times(y, t)?;
    let cosine = graph.sum_columns(product)?;
    graph.unary(Unary::Negate, cosine)
}

/// Each row divided by its Euclidean length.
fn of_length_one(graph: &mut Graph, x: NodeId) -> Result<NodeId, GraphError> {
    /// Keras' smallest squared length of a vector that is made one long.
    const LENGTH_SQUARED_MIN: f32 = 1e-12;
    let squares = graph.unary(Unary::Square, x)?;
    let sum = graph.sum_columns(squares)?;
    let sum = at_least(graph, sum, LENGTH_SQUARED_MIN)?;
    let length = graph.unary(Unary::Sqrt, sum)?;
    graph.over(x, length)
}
