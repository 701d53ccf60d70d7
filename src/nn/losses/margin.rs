//! Losses that ask for a margin between right and wrong.

use crate::autograd::{GraphError, NodeId};
use crate::tensor::kernels::elementwise::Unary;

use super::words::{Given, Recorded, largest_of_columns, mean_of_columns, other};

/// max(0, 1 - t y) of labels -1 and 1; a label 0 counts as -1.
pub(super) fn hinge(given: &mut Given<'_>) -> Recorded {
    let each = hinge_each(given)?;
    mean_of_columns(given.graph, each)
}

/// The square of that.
pub(super) fn squared_hinge(given: &mut Given<'_>) -> Recorded {
    let each = hinge_each(given)?;
    let each = given.graph.unary(Unary::Square, each)?;
    mean_of_columns(given.graph, each)
}

/// max(0, 1 + the largest answer of a wrong class - the right class's), of one-hot labels.
pub(super) fn categorical_hinge(given: &mut Given<'_>) -> Recorded {
    let graph = &mut *given.graph;
    let taken = graph.times(given.label, given.answer)?;
    let right = graph.sum_columns(taken)?;
    let unlabelled = other(graph, given.label)?;
    let left = graph.times(unlabelled, given.answer)?;
    let wrong = largest_of_columns(graph, left)?;
    let one = graph.constant(1.0)?;
    let difference = graph.minus(wrong, right)?;
    let margin = graph.plus(difference, one)?;
    graph.unary(Unary::Relu, margin)
}

/// max(0, margin - (t_a - t_b)(y_a - y_b)) of each two neighbours a and b of a row: with labels 1 and 0 the first is to
/// lie `margin` above the second, as Analytics Zoo's RankHinge has it (which does not read labels). Options: margin.
pub(super) fn rank_hinge(given: &mut Given<'_>) -> Recorded {
    let margin = given.values.number(0) as f32;
    let pairs = given.width() / 2;
    let (answered, wanted) = (
        differences(given, given.answer, pairs)?,
        differences(given, given.label, pairs)?,
    );
    let graph = &mut *given.graph;
    let rows = graph.shape(answered).outer() / pairs;
    let ahead = graph.times(answered, wanted)?;
    let margin = graph.constant(margin)?;
    let missing = graph.minus(margin, ahead)?;
    let each = graph.unary(Unary::Relu, missing)?;
    let each = graph.reshape(each, &[rows, pairs])?;
    mean_of_columns(graph, each)
}

/// First less second of each pair: (N, 2P) to (N P, 1).
fn differences(given: &mut Given<'_>, x: NodeId, pairs: usize) -> Result<NodeId, GraphError> {
    let graph = &mut *given.graph;
    let rows = graph.shape(x).outer();
    let pair = graph.reshape(x, &[rows * pairs, 2])?;
    let mut column = |start| graph.slice(pair, 1, start, 1, 1);
    let (first, second) = (column(0)?, column(1)?);
    graph.minus(first, second)
}

fn hinge_each(given: &mut Given<'_>) -> Recorded {
    let graph = &mut *given.graph;
    // t + |t| - 1 is -1 for 0 and for -1, and 1 for 1.
    let one = graph.constant(1.0)?;
    let size = graph.unary(Unary::Absolute, given.label)?;
    let sum = graph.plus(given.label, size)?;
    let sign = graph.minus(sum, one)?;
    let product = graph.times(sign, given.answer)?;
    let margin = graph.minus(one, product)?;
    graph.unary(Unary::Relu, margin)
}
