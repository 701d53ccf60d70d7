//! The second table: the gradient of an operation as more graph.
//!
//! A rule gets the cotangent `dy` of the node's output and returns the cotangent of each input, `None` where none flows.
//! Rules are written in operations that have rules themselves, so gradients of gradients work.

use std::f32::consts::FRAC_2_SQRT_PI;

use crate::tensor::kernels::elementwise::{Binary, Unary};

use super::error::GraphError;
use super::graph::{Graph, NodeId};
use super::op::{Op, Reduction};

type Cotangents = Result<Vec<Option<NodeId>>, GraphError>;

/// Cotangents of the inputs of `node`. `wanted[i]` says whether input i's is of use; the others may be left out.
pub(super) fn pull_back(
    graph: &mut Graph,
    node: NodeId,
    dy: NodeId,
    wanted: &[bool],
) -> Cotangents {
    let inputs = graph.inputs(node).to_vec();
    let op = graph.op(node).clone();
    match (&op, inputs.as_slice()) {
        (Op::Unary(function), &[x]) => Ok(vec![unary(graph, *function, x, node, dy)?]),
        (Op::Binary(function), &[a, b]) => binary(graph, *function, a, b, node, dy, wanted),
        (
            Op::Reduce {
                reduction,
                axis,
                count,
            },
            &[x],
        ) => {
            let kept = graph.with_ones(node, *axis, *count)?;
            let slope = graph.with_ones(dy, *axis, *count)?;
            let shape = graph.shape(x).clone();
            Ok(vec![Some(match reduction {
                Reduction::Sum => graph.broadcast_to(slope, &shape)?,
                Reduction::Max => {
                    // Equal shares to all that reach the greatest number.
                    let below = graph.binary(Binary::Greater, kept, x)?;
                    let one = graph.constant(1.0)?;
                    let reaches = graph.minus(one, below)?;
                    let holders = graph.reduce(Reduction::Sum, reaches, *axis, *count)?;
                    let holders = graph.with_ones(holders, *axis, *count)?;
                    let share = graph.over(slope, holders)?;
                    graph.times(reaches, share)?
                }
            })])
        }
        (Op::CumulativeSum { axis, reverse }, &[_]) => {
            let op = Op::CumulativeSum {
                axis: *axis,
                reverse: !reverse,
            };
            Ok(vec![Some(graph.add(op, &[dy])?)])
        }
        (Op::View(view), &[x]) => {
            let shape = graph.shape(x).clone();
            Ok(vec![Some(
                graph.add(Op::ViewAdd(view.clone(), shape), &[dy])?,
            )])
        }
        (Op::ViewAdd(view, _), &[_]) => Ok(vec![Some(graph.add(Op::View(view.clone()), &[dy])?)]),
        (Op::BroadcastTo(_), &[x]) => {
            let shape = graph.shape(x).clone();
            Ok(vec![Some(graph.sum_to(dy, &shape)?)])
        }
        (Op::SumTo(_), &[x]) => {
            let shape = graph.shape(x).clone();
            Ok(vec![Some(graph.broadcast_to(dy, &shape)?)])
        }
        (
            Op::MatMul {
                transpose_a,
                transpose_b,
            },
            &[a, b],
        ) => {
            let (ta, tb) = (*transpose_a, *transpose_b);
            let mut da = None;
            if wanted[0] {
                da = Some(if ta {
                    graph.matmul(b, dy, tb, true)?
                } else {
                    graph.matmul(dy, b, false, !tb)?
                });
            }
            let mut db = None;
            if wanted[1] {
                db = Some(if tb {
                    graph.matmul(dy, a, true, ta)?
                } else {
                    graph.matmul(a, dy, !ta, false)?
                });
            }
            Ok(vec![da, db])
        }
        (Op::Softmax, &[_]) => {
            // y (dy - rowsum(dy y))
            let weighted = graph.times(dy, node)?;
            let sum = graph.sum_columns(weighted)?;
            let centered = graph.minus(dy, sum)?;
            Ok(vec![Some(graph.times(centered, node)?)])
        }
        (Op::LogSoftmax, &[x]) => {
            // dy - softmax(x) rowsum(dy)
            let probability = graph.add(Op::Softmax, &[x])?;
            let sum = graph.sum_columns(dy)?;
            let taken = graph.times(probability, sum)?;
            Ok(vec![Some(graph.minus(dy, taken)?)])
        }
        (Op::Gather, &[table, indices]) => {
            let rows = graph.shape(table).extents()[0];
            Ok(vec![
                Some(graph.add(Op::ScatterAdd { rows }, &[indices, dy])?),
                None,
            ])
        }
        (Op::ScatterAdd { .. }, &[indices, _]) => {
            Ok(vec![None, Some(graph.add(Op::Gather, &[dy, indices])?)])
        }
        (Op::Concatenate { axis }, parts) => {
            let mut start = 0;
            let mut cotangents = Vec::with_capacity(parts.len());
            for (&part, &wanted) in parts.iter().zip(wanted) {
                let width = graph.shape(part).extents()[*axis];
                cotangents.push(if wanted {
                    Some(graph.slice(dy, *axis, start, width, 1)?)
                } else {
                    None
                });
                start += width;
            }
            Ok(cotangents)
        }
        (Op::Reshape(_), &[x]) => {
            let extents = graph.shape(x).extents().to_vec();
            Ok(vec![Some(graph.reshape(dy, &extents)?)])
        }
        // No gradient flows: leaves have no inputs, and a class index is no quantity.
        (Op::OneHot { .. }, _) => Ok(vec![None]),
        (
            Op::Input(..)
            | Op::Indices(..)
            | Op::Parameter(..)
            | Op::Statistic(..)
            | Op::Constant(_)
            | Op::Literal(..)
            | Op::DropoutMask { .. }
            | Op::NormalNoise { .. }
            | Op::ToFloat
            | Op::Reduce { .. }
            | Op::CumulativeSum { .. }
            | Op::View(_)
            | Op::ViewAdd(..)
            | Op::Unary(_)
            | Op::Binary(_)
            | Op::BroadcastTo(_)
            | Op::SumTo(_)
            | Op::MatMul { .. }
            | Op::Softmax
            | Op::LogSoftmax
            | Op::Gather
            | Op::ScatterAdd { .. }
            | Op::Reshape(_),
            _,
        ) => Ok(vec![None; inputs.len()]),
    }
}

/// One line per function: `y` is the node's own output.
fn unary(
    graph: &mut Graph,
    function: Unary,
    x: NodeId,
    y: NodeId,
    dy: NodeId,
) -> Result<Option<NodeId>, GraphError> {
    let slope = match function {
        Unary::Copy => return Ok(Some(dy)),
        Unary::Negate => return Ok(Some(graph.unary(Unary::Negate, dy)?)),
        // By the output, which is kept anyway: y > 0 exactly where x > 0.
        Unary::Relu => graph.unary(Unary::Step, y)?,
        Unary::Step | Unary::Sign | Unary::Floor | Unary::Round | Unary::Detach => return Ok(None),
        Unary::Sigmoid => {
            let one = graph.constant(1.0)?;
            let other = graph.minus(one, y)?;
            graph.times(y, other)?
        }
        Unary::Tanh => {
            let one = graph.constant(1.0)?;
            let square = graph.unary(Unary::Square, y)?;
            graph.minus(one, square)?
        }
        Unary::Exp => y,
        Unary::Log1p => {
            let sum = graph.shifted(x, 1.0)?;
            return Ok(Some(graph.over(dy, sum)?));
        }
        Unary::Expm1 => graph.shifted(y, 1.0)?,
        Unary::Sin => graph.unary(Unary::Cos, x)?,
        Unary::Cos => {
            let sine = graph.unary(Unary::Sin, x)?;
            graph.unary(Unary::Negate, sine)?
        }
        Unary::Log => return Ok(Some(graph.over(dy, x)?)),
        Unary::Sqrt => {
            let half = graph.scaled(dy, 0.5)?;
            return Ok(Some(graph.over(half, y)?));
        }
        Unary::Reciprocal => {
            let square = graph.unary(Unary::Square, y)?;
            graph.unary(Unary::Negate, square)?
        }
        Unary::Square => graph.scaled(x, 2.0)?,
        Unary::Absolute => graph.unary(Unary::Sign, x)?,
        Unary::Erf => {
            let square = graph.unary(Unary::Square, x)?;
            let negative = graph.unary(Unary::Negate, square)?;
            let bell = graph.unary(Unary::Exp, negative)?;
            graph.scaled(bell, FRAC_2_SQRT_PI)?
        }
    };
    Ok(Some(graph.times(dy, slope)?))
}

/// One line per function; a spread operand gets the sum over where it was spread.
fn binary(
    graph: &mut Graph,
    function: Binary,
    a: NodeId,
    b: NodeId,
    y: NodeId,
    dy: NodeId,
    wanted: &[bool],
) -> Cotangents {
    let (mut da, mut db) = (None, None);
    if wanted[0] {
        da = match function {
            Binary::Add | Binary::Subtract => Some(dy),
            Binary::Multiply => Some(graph.times(dy, b)?),
            Binary::Divide => Some(graph.over(dy, b)?),
            Binary::Maximum => Some(masked(graph, a, b, dy, true)?),
            Binary::Minimum => Some(masked(graph, b, a, dy, true)?),
            Binary::Greater | Binary::Equal | Binary::Keep => None,
            Binary::SigmoidCrossEntropy => {
                let probability = graph.unary(Unary::Sigmoid, a)?;
                let difference = graph.minus(probability, b)?;
                Some(graph.times(difference, dy)?)
            }
        };
    }
    if wanted[1] {
        db = match function {
            Binary::Add => Some(dy),
            Binary::Subtract => Some(graph.unary(Unary::Negate, dy)?),
            Binary::Multiply => Some(graph.times(dy, a)?),
            Binary::Divide => {
                let ratio = graph.over(y, b)?;
                let product = graph.times(dy, ratio)?;
                Some(graph.unary(Unary::Negate, product)?)
            }
            Binary::Maximum => Some(masked(graph, a, b, dy, false)?),
            Binary::Minimum => Some(masked(graph, b, a, dy, false)?),
            Binary::Greater | Binary::Equal => None,
            Binary::Keep => Some(graph.binary(Binary::Keep, a, dy)?),
            Binary::SigmoidCrossEntropy => {
                let product = graph.times(a, dy)?;
                Some(graph.unary(Unary::Negate, product)?)
            }
        };
    }
    let mut reduced = Vec::with_capacity(2);
    for (cotangent, input) in [(da, a), (db, b)] {
        let shape = graph.shape(input).clone();
        reduced.push(match cotangent {
            Some(cotangent) => Some(graph.sum_to(cotangent, &shape)?),
            None => None,
        });
    }
    Ok(reduced)
}

/// The part of `dy` where `high > low` holds (`of_greater`) or where it does not: a tie goes to one side only.
fn masked(
    graph: &mut Graph,
    high: NodeId,
    low: NodeId,
    dy: NodeId,
    of_greater: bool,
) -> Result<NodeId, GraphError> {
    let greater = graph.binary(Binary::Greater, high, low)?;
    if of_greater {
        return graph.times(dy, greater);
    }
    let one = graph.constant(1.0)?;
    let rest = graph.minus(one, greater)?;
    graph.times(dy, rest)
}
