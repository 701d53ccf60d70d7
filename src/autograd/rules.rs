//! The second table: the gradient of an operation as more graph.
//!
//! A rule gets the cotangent `dy` of the node's output and returns the cotangent of each input, `None` where none flows.
//! Rules are written in operations that have rules themselves, so gradients of gradients work.

use std::f32::consts::FRAC_2_SQRT_PI;

use crate::tensor::Shape;
use crate::tensor::kernels::elementwise::{Binary, Unary};

use super::definitions::pull_back_definition;
use super::error::GraphError;
use super::graph::{Graph, NodeId};
use super::op::{Face, Op, Pooling, Reduction};

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
            // A reordering is undone; anything else adds up where it was read.
            Ok(vec![Some(match view.inverse(shape.len()) {
                Some(inverse) => {
                    let back = graph.add(Op::View(inverse), &[dy])?;
                    graph.reshape_as(back, x)?
                }
                None => graph.add(Op::ViewAdd(view.clone(), shape), &[dy])?,
            })])
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
        (Op::Softmax, &[_]) => Ok(vec![Some(graph.add(Op::SoftmaxGradient, &[node, dy])?)]),
        (Op::LogSoftmax, &[_]) => Ok(vec![Some(graph.add(Op::LogSoftmaxGradient, &[node, dy])?)]),
        (Op::Normalize { epsilon }, &[x]) => {
            let op = Op::NormalizeGradient { epsilon: *epsilon };
            Ok(vec![Some(graph.add(op, &[x, dy])?)])
        }
        (Op::RmsNormalize { epsilon }, &[x]) => {
            let op = Op::RmsNormalizeGradient { epsilon: *epsilon };
            Ok(vec![Some(graph.add(op, &[x, dy])?)])
        }
        (Op::Convolve(c, face), &[a, b]) => {
            // Each of output, input and kernel is bilinear in the other two.
            let (to_a, to_b) = match face {
                Face::Output => ((Face::Input, [dy, b]), (Face::Kernel, [a, dy])),
                Face::Input => ((Face::Output, [dy, b]), (Face::Kernel, [dy, a])),
                Face::Kernel => ((Face::Input, [b, dy]), (Face::Output, [a, dy])),
            };
            let mut cotangents = Vec::with_capacity(2);
            for ((input, (face, operands)), &wanted) in
                [(a, to_a), (b, to_b)].into_iter().zip(wanted)
            {
                cotangents.push(if wanted {
                    let cotangent = graph.add(Op::Convolve(*c, face), &operands)?;
                    Some(graph.reshape_as(cotangent, input)?)
                } else {
                    None
                });
            }
            Ok(cotangents)
        }
        (Op::Pool(pool, pooling), inputs) => {
            // Where the greatest number stands does not change with small changes: nothing flows to the first operand.
            let (adjoint, operands, &last) = match (pooling, inputs) {
                (Pooling::Pick, [x, values]) => (Pooling::Place, vec![*x, dy], values),
                (Pooling::Place, [x, values]) => (Pooling::Pick, vec![*x, dy], values),
                (Pooling::Average, [x]) => (Pooling::Spread, vec![dy], x),
                (Pooling::Spread, [x]) => (Pooling::Average, vec![dy], x),
                _ => return Ok(vec![None; inputs.len()]),
            };
            let cotangent = graph.add(Op::Pool(*pool, adjoint), &operands)?;
            let cotangent = graph.reshape_as(cotangent, last)?;
            let mut cotangents = vec![None; inputs.len()];
            cotangents[inputs.len() - 1] = Some(cotangent);
            Ok(cotangents)
        }
        (Op::Lstm(r), [xw, recurrent, h0, c0, mask @ ..]) => {
            let states = (r.time + 1) * r.rows * r.units;
            let (dh, dc) = (
                graph.stretch(dy, 0, states)?,
                graph.stretch(dy, states, states)?,
            );
            let given = [&[node, *recurrent, dh, dc, *xw, *h0, *c0], mask].concat();
            let result = graph.add(Op::LstmGradient(*r), &given)?;
            let (steps, state) = (4 * r.time * r.rows * r.units, r.rows * r.units);
            let dxw = graph.stretch(result, 0, steps)?;
            let before = graph.stretch(node, 0, r.time * state)?;
            let before = graph.reshape(before, &[r.time * r.rows, r.units])?;
            let dgates = graph.reshape(dxw, &[r.time * r.rows, 4 * r.units])?;
            let drecurrent = graph.matmul(before, dgates, true, false)?;
            let dh0 = graph.stretch(result, steps, state)?;
            let dc0 = graph.stretch(result, steps + state, state)?;
            cotangents_as(graph, &[dxw, drecurrent, dh0, dc0], &inputs)
        }
        (Op::Gru(r), [xw, recurrent, bias, h0, mask @ ..]) => {
            let dh = graph.stretch(dy, 0, (r.time + 1) * r.rows * r.units)?;
            let given = [&[node, *recurrent, dh, *xw, *bias, *h0], mask].concat();
            let result = graph.add(Op::GruGradient(*r), &given)?;
            let (steps, state) = (3 * r.time * r.rows * r.units, r.rows * r.units);
            let dxw = graph.stretch(result, 0, steps)?;
            let dinner = graph.stretch(result, steps, steps)?;
            let dinner = graph.reshape(dinner, &[r.time * r.rows, 3 * r.units])?;
            let before = graph.stretch(node, 0, r.time * state)?;
            let before = graph.reshape(before, &[r.time * r.rows, r.units])?;
            let drecurrent = graph.matmul(before, dinner, true, false)?;
            let dbias = graph.sum_to(dinner, &Shape::new(&[3 * r.units]))?;
            let dh0 = graph.stretch(result, 2 * steps, state)?;
            cotangents_as(graph, &[dxw, drecurrent, dbias, dh0], &inputs)
        }
        // Gradients with kernels of their own: their derivatives are those of their definitions.
        (
            Op::SoftmaxGradient
            | Op::LogSoftmaxGradient
            | Op::NormalizeGradient { .. }
            | Op::RmsNormalizeGradient { .. }
            | Op::LstmGradient(_)
            | Op::GruGradient(_),
            _,
        ) => pull_back_definition(graph, &op, &inputs, dy),
        (Op::Ctc, &[log_p, labels]) => Ok(vec![
            Some(graph.add(Op::CtcGradient, &[log_p, labels, dy])?),
            None,
        ]),
        (Op::CtcGradient, _) => Err(GraphError::NoSecondDerivative { operation: "ctc" }),
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
            | Op::Ctc
            | Op::View(_)
            | Op::ViewAdd(..)
            | Op::Unary(_)
            | Op::Binary(_)
            | Op::BroadcastTo(_)
            | Op::SumTo(_)
            | Op::MatMul { .. }
            | Op::Convolve(..)
            | Op::Softmax
            | Op::LogSoftmax
            | Op::Normalize { .. }
            | Op::RmsNormalize { .. }
            | Op::Lstm(_)
            | Op::Gru(_)
            | Op::Gather
            | Op::ScatterAdd { .. }
            | Op::Reshape(_),
            _,
        ) => Ok(vec![None; inputs.len()]),
    }
}

/// Cotangents in the shapes of the operands; none for the operands beyond, masks.
fn cotangents_as(graph: &mut Graph, cotangents: &[NodeId], inputs: &[NodeId]) -> Cotangents {
    let mut shaped = vec![None; inputs.len()];
    for ((shaped, &cotangent), &input) in shaped.iter_mut().zip(cotangents).zip(inputs) {
        *shaped = Some(graph.reshape_as(cotangent, input)?);
    }
    Ok(shaped)
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
