//! The words in which losses are written: what a loss is given, and short graphs that several losses share.

use crate::autograd::{Graph, GraphError, NodeId, Op};
use crate::tensor::kernels::elementwise::{Binary, Unary};

use super::super::settings::Values;

/// Keras' epsilon: how near to 0 or 1 a probability is let when its logarithm is taken.
pub(super) const EPSILON: f32 = 1e-7;

/// What is recorded from or to.
pub(super) type Recorded = Result<NodeId, GraphError>;

/// Answers and labels of N places: of rows, or of the inner positions of rows.
#[derive(Debug)]
pub(super) struct Given<'a> {
    pub(super) graph: &'a mut Graph,
    /// (N, K).
    pub(super) answer: NodeId,
    /// (N, K), or (N, 1) where the label is an index.
    pub(super) label: NodeId,
    /// The operation that the answer comes out of, where it is a sigmoid or softmax, and what that reads, as (N, K).
    pub(super) last: Option<(Op, NodeId)>,
    pub(super) values: Values,
}

impl Given<'_> {
    /// K.
    pub(super) fn width(&self) -> usize {
        self.graph.shape(self.answer).last()
    }

    pub(super) fn difference(&mut self) -> Recorded {
        self.graph.minus(self.answer, self.label)
    }

    /// Probabilities, and the logits they are `of` where these are known: then logarithms neither overflow nor cancel.
    /// `from_logits` says that the answer itself is the logits.
    pub(super) fn probabilities(
        &mut self,
        of: &Op,
        from_logits: bool,
    ) -> Result<(NodeId, Option<NodeId>), GraphError> {
        if from_logits {
            let probability = self.graph.add(of.clone(), &[self.answer])?;
            return Ok((probability, Some(self.answer)));
        }
        let logits = match &self.last {
            Some((last, logits)) if last == of => Some(*logits),
            _ => None,
        };
        Ok((self.answer, logits))
    }

    /// The label moved towards `share` by the factor `smoothing`; itself at 0.
    pub(super) fn smoothed(&mut self, smoothing: f64, share: f64) -> Recorded {
        if smoothing == 0.0 {
            return Ok(self.label);
        }
        let kept = self.graph.scaled(self.label, (1.0 - smoothing) as f32)?;
        let added = self.graph.constant((smoothing * share) as f32)?;
        self.graph.plus(kept, added)
    }
}

/// Mean over the innermost extent, kept as extent 1.
pub(super) fn mean_of_columns(graph: &mut Graph, each: NodeId) -> Recorded {
    let width = graph.shape(each).last();
    let sum = graph.sum_columns(each)?;
    graph.scaled(sum, 1.0 / width as f32)
}

/// Mean over the numbers of each of the rows, (R, 1), however many a row has; with a mask (R, steps) over those of the steps
/// that it keeps, where the row's numbers are cut into steps.
pub(in crate::nn) fn mean_by_row(
    graph: &mut Graph,
    each: NodeId,
    rows: usize,
    mask: Option<NodeId>,
) -> Recorded {
    let rows = rows.max(1);
    let width = graph.shape(each).len() / rows;
    let steps = mask.map_or(0, |mask| graph.shape(mask).len() / rows);
    match mask {
        Some(mask) if steps > 0 && width.is_multiple_of(steps) => {
            let each = graph.reshape(each, &[rows, steps, width / steps])?;
            let each = mean_of_columns(graph, each)?;
            let each = graph.reshape(each, &[rows, steps])?;
            mean_of_kept(graph, each, mask)
        }
        _ => {
            let by_row = graph.reshape(each, &[rows, width])?;
            mean_of_columns(graph, by_row)
        }
    }
}

/// Mean over the numbers of each row that the mask keeps, (R, 1); 0 where it keeps none.
fn mean_of_kept(graph: &mut Graph, each: NodeId, mask: NodeId) -> Recorded {
    let mask = graph.reshape_as(mask, each)?;
    let kept = graph.times(each, mask)?;
    let sum = graph.sum_columns(kept)?;
    let count = graph.sum_columns(mask)?;
    let count = at_least(graph, count, 1.0)?;
    graph.over(sum, count)
}

/// The largest number of the innermost extent, kept as extent 1, by halving it. Of equals one gets the gradient.
pub(super) fn largest_of_columns(graph: &mut Graph, x: NodeId) -> Recorded {
    let mut x = x;
    loop {
        let width = graph.shape(x).last();
        if width <= 1 {
            return Ok(x);
        }
        let half = width / 2;
        let axis = graph.shape(x).rank() - 1;
        let mut part = |start: usize, width: usize| graph.slice(x, axis, start, width, 1);
        let (left, right) = (part(0, half)?, part(half, half)?);
        let rest = match width % 2 {
            0 => None,
            _ => Some(part(2 * half, 1)?),
        };
        let larger = graph.binary(Binary::Maximum, left, right)?;
        x = match rest {
            Some(rest) => graph.concatenate(&[larger, rest], axis)?,
            None => larger,
        };
    }
}

pub(super) fn at_least(graph: &mut Graph, x: NodeId, low: f32) -> Recorded {
    let low = graph.constant(low)?;
    graph.binary(Binary::Maximum, x, low)
}

/// A probability cut to [1e-7, 1 - 1e-7], as Keras does before it takes a logarithm.
pub(super) fn clipped(graph: &mut Graph, p: NodeId) -> Recorded {
    let raised = at_least(graph, p, EPSILON)?;
    let high = graph.constant(1.0 - EPSILON)?;
    graph.binary(Binary::Minimum, raised, high)
}

/// 1 - x.
pub(super) fn other(graph: &mut Graph, x: NodeId) -> Recorded {
    let one = graph.constant(1.0)?;
    graph.minus(one, x)
}

/// x to the power of `exponent`, for x from 0 on and an exponent from 0 on.
pub(super) fn power(graph: &mut Graph, x: NodeId, exponent: f64) -> Recorded {
    if exponent == 0.0 {
        return graph.constant(1.0);
    }
    if exponent == 1.0 {
        return Ok(x);
    }
    if exponent == 2.0 {
        return graph.unary(Unary::Square, x);
    }
    // exp(e log x); below 1e-30, where the power is 0 for all that matters, no gradient flows.
    let above = at_least(graph, x, 1e-30)?;
    let logarithm = graph.unary(Unary::Log, above)?;
    let scaled = graph.scaled(logarithm, exponent as f32)?;
    graph.unary(Unary::Exp, scaled)
}
