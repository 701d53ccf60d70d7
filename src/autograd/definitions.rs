//! What the operations with kernels of their own mean, in simpler operations.
//!
//! A kernel is an optimisation of its definition: the tests compare the two, and the derivatives of gradient kernels
//! (second derivatives) are those of their definitions.

use crate::tensor::Shape;
use crate::tensor::kernels::elementwise::Unary;
use crate::tensor::kernels::recurrent::Recurrence;

use super::backward::gradients_of_part;
use super::error::GraphError;
use super::graph::{Graph, NodeId};
use super::op::{Number, Op};

type Result<T = NodeId> = std::result::Result<T, GraphError>;

/// The cotangents of the operands of an operation that has a definition.
pub(super) fn pull_back_definition(
    graph: &mut Graph,
    op: &Op,
    inputs: &[NodeId],
    dy: NodeId,
) -> Result<Vec<Option<NodeId>>> {
    match definition(graph, op, inputs)? {
        Some(defined) => gradients_of_part(graph, &[(defined, dy)], inputs),
        None => Ok(vec![None; inputs.len()]),
    }
}

/// The operation in simpler ones; `None` for those that have no simpler ones.
pub(super) fn definition(graph: &mut Graph, op: &Op, inputs: &[NodeId]) -> Result<Option<NodeId>> {
    let defined = match (op, inputs) {
        (Op::SoftmaxGradient, &[y, dy]) => {
            // y (dy - rowsum(dy y))
            let weighted = graph.times(dy, y)?;
            let sum = graph.sum_columns(weighted)?;
            let centered = graph.minus(dy, sum)?;
            graph.times(centered, y)?
        }
        (Op::LogSoftmaxGradient, &[y, dy]) => {
            // dy - exp(y) rowsum(dy)
            let probability = graph.unary(Unary::Exp, y)?;
            let sum = graph.sum_columns(dy)?;
            let taken = graph.times(probability, sum)?;
            graph.minus(dy, taken)?
        }
        (Op::Normalize { epsilon }, &[x]) => {
            let mean = mean_of_columns(graph, x)?;
            let centered = graph.minus(x, mean)?;
            over_root_of_mean_square(graph, centered, *epsilon)?
        }
        (Op::RmsNormalize { epsilon }, &[x]) => over_root_of_mean_square(graph, x, *epsilon)?,
        (Op::NormalizeGradient { epsilon }, &[x, dy]) => {
            gradient_of(graph, &Op::Normalize { epsilon: *epsilon }, &[x], dy)?
        }
        (Op::RmsNormalizeGradient { epsilon }, &[x, dy]) => {
            gradient_of(graph, &Op::RmsNormalize { epsilon: *epsilon }, &[x], dy)?
        }
        (Op::Lstm(r), [xw, recurrent, h0, c0, mask @ ..]) => {
            lstm(graph, r, [*xw, *recurrent, *h0, *c0], mask.first().copied())?
        }
        (Op::LstmGradient(r), [_, recurrent, dh, dc, xw, h0, c0, mask @ ..]) => {
            let state = (r.time + 1) * r.rows * r.units;
            let given = [&[*xw, *recurrent, *h0, *c0], mask].concat();
            let rest = zeros(4 * r.time * r.rows * r.units, graph)?;
            let dy = side_by_side(graph, &[(*dh, state), (*dc, state), rest])?;
            let defined = lstm(graph, r, [*xw, *recurrent, *h0, *c0], mask.first().copied())?;
            let slopes = gradients_of_part(graph, &[(defined, dy)], &given)?;
            let lens = [
                4 * r.time * r.rows * r.units,
                r.rows * r.units,
                r.rows * r.units,
            ];
            parts(graph, &[slopes[0], slopes[2], slopes[3]], &lens)?
        }
        (Op::Gru(r), [xw, recurrent, bias, h0, mask @ ..]) => {
            gru(
                graph,
                r,
                [*xw, *recurrent, *bias, *h0],
                mask.first().copied(),
            )?
            .0
        }
        (Op::GruGradient(r), [_, recurrent, dh, xw, bias, h0, mask @ ..]) => {
            let state = (r.time + 1) * r.rows * r.units;
            let rest = zeros(4 * r.time * r.rows * r.units, graph)?;
            let dy = side_by_side(graph, &[(*dh, state), rest])?;
            let (defined, inner) = gru(
                graph,
                r,
                [*xw, *recurrent, *bias, *h0],
                mask.first().copied(),
            )?;
            let slopes = gradients_of_part(graph, &[(defined, dy)], &[*xw, *h0])?;
            // The products h R + b are sums inside the definition: their cotangents are met on the way, step by step.
            let mut inner_slopes = Vec::with_capacity(inner.len());
            for products in inner {
                inner_slopes.push(gradients_of_part(graph, &[(defined, dy)], &[products])?[0]);
            }
            let step = 3 * r.rows * r.units;
            let inner = parts(graph, &inner_slopes, &vec![step; r.time])?;
            parts(
                graph,
                &[slopes[0], Some(inner), slopes[1]],
                &[r.time * step, r.time * step, r.rows * r.units],
            )?
        }
        _ => return Ok(None),
    };
    Ok(Some(defined))
}

/// The gradient of an operation's definition by its only operand.
fn gradient_of(graph: &mut Graph, op: &Op, inputs: &[NodeId], dy: NodeId) -> Result {
    let slopes = pull_back_definition(graph, op, inputs, dy)?;
    match slopes.first().copied().flatten() {
        Some(slope) => Ok(slope),
        None => graph.constant(0.0),
    }
}

fn mean_of_columns(graph: &mut Graph, x: NodeId) -> Result {
    let inner = graph.shape(x).last();
    let sum = graph.sum_columns(x)?;
    graph.scaled(sum, 1.0 / inner as f32)
}

fn over_root_of_mean_square(graph: &mut Graph, x: NodeId, epsilon: Number) -> Result {
    let squares = graph.unary(Unary::Square, x)?;
    let mean = mean_of_columns(graph, squares)?;
    let shifted = graph.shifted(mean, epsilon.0)?;
    let root = graph.unary(Unary::Sqrt, shifted)?;
    graph.over(x, root)
}

/// All steps, unrolled: h, c and gates as the kernel lays them out.
fn lstm(graph: &mut Graph, r: &Recurrence, given: [NodeId; 4], mask: Option<NodeId>) -> Result {
    let [xw, recurrent, h0, c0] = given;
    let xw = graph.reshape(xw, &[r.time, r.rows, 4 * r.units])?;
    let recurrent = graph.reshape(recurrent, &[r.units, 4 * r.units])?;
    let (mut h, mut c) = (
        graph.reshape(h0, &[r.rows, r.units])?,
        graph.reshape(c0, &[r.rows, r.units])?,
    );
    let (mut hs, mut cs, mut all_gates) = (vec![h], vec![c], Vec::new());
    for time in 0..r.time {
        let product = graph.matmul(h, recurrent, false, false)?;
        let given = graph.index(xw, 0, time)?;
        let sums = graph.plus(given, product)?;
        let mut gates = Vec::with_capacity(4);
        for (gate, function) in [Unary::Sigmoid, Unary::Sigmoid, Unary::Tanh, Unary::Sigmoid]
            .into_iter()
            .enumerate()
        {
            let sum = graph.slice(sums, 1, gate * r.units, r.units, 1)?;
            gates.push(graph.unary(function, sum)?);
        }
        let kept = graph.times(gates[1], c)?;
        let added = graph.times(gates[0], gates[2])?;
        let next_c = graph.plus(kept, added)?;
        let squashed = graph.unary(Unary::Tanh, next_c)?;
        let next_h = graph.times(gates[3], squashed)?;
        (h, c) = (
            carried(graph, r, mask, time, next_h, h)?,
            carried(graph, r, mask, time, next_c, c)?,
        );
        hs.push(h);
        cs.push(c);
        all_gates.push(graph.concatenate(&gates, 1)?);
    }
    flattened(graph, &[hs, cs, all_gates])
}

/// All steps, unrolled, as the kernel lays them out; and each step's h R + b.
fn gru(
    graph: &mut Graph,
    r: &Recurrence,
    given: [NodeId; 4],
    mask: Option<NodeId>,
) -> Result<(NodeId, Vec<NodeId>)> {
    let [xw, recurrent, bias, h0] = given;
    let xw = graph.reshape(xw, &[r.time, r.rows, 3 * r.units])?;
    let recurrent = graph.reshape(recurrent, &[r.units, 3 * r.units])?;
    let bias = graph.reshape(bias, &[3 * r.units])?;
    let mut h = graph.reshape(h0, &[r.rows, r.units])?;
    let (mut hs, mut all_gates, mut inner, mut all_products) =
        (vec![h], Vec::new(), Vec::new(), Vec::new());
    for time in 0..r.time {
        let product = graph.matmul(h, recurrent, false, false)?;
        let products = graph.plus(product, bias)?;
        let given = graph.index(xw, 0, time)?;
        let part = |graph: &mut Graph, x: NodeId, gate: usize| {
            graph.slice(x, 1, gate * r.units, r.units, 1)
        };
        let mut gates = Vec::with_capacity(3);
        for gate in 0..2 {
            let (from_input, from_state) =
                (part(graph, given, gate)?, part(graph, products, gate)?);
            let sum = graph.plus(from_input, from_state)?;
            gates.push(graph.unary(Unary::Sigmoid, sum)?);
        }
        let candidate_product = part(graph, products, 2)?;
        let reset = graph.times(gates[1], candidate_product)?;
        let from_input = part(graph, given, 2)?;
        let sum = graph.plus(from_input, reset)?;
        gates.push(graph.unary(Unary::Tanh, sum)?);
        let kept = graph.times(gates[0], h)?;
        let other = graph.complement(gates[0])?;
        let added = graph.times(other, gates[2])?;
        let next = graph.plus(kept, added)?;
        h = carried(graph, r, mask, time, next, h)?;
        hs.push(h);
        all_gates.push(graph.concatenate(&gates, 1)?);
        inner.push(candidate_product);
        all_products.push(products);
    }
    Ok((flattened(graph, &[hs, all_gates, inner])?, all_products))
}

/// The state after a step: the old one in rows that are masked.
fn carried(
    graph: &mut Graph,
    r: &Recurrence,
    mask: Option<NodeId>,
    time: usize,
    next: NodeId,
    before: NodeId,
) -> Result {
    let Some(mask) = mask else {
        return Ok(next);
    };
    let mask = graph.reshape(mask, &[r.time, r.rows, 1])?;
    let step = graph.index(mask, 0, time)?;
    let wide = graph.broadcast_to(step, &Shape::new(&[r.rows, r.units]))?;
    graph.select(wide, next, before)
}

/// Lists of matrices, one after another as one stretch of numbers.
fn flattened(graph: &mut Graph, lists: &[Vec<NodeId>]) -> Result {
    let mut flat = Vec::new();
    for &each in lists.iter().flatten() {
        flat.push(graph.reshape(each, &[graph.shape(each).len()])?);
    }
    graph.concatenate(&flat, 0)
}

fn zeros(len: usize, graph: &mut Graph) -> Result<(NodeId, usize)> {
    Ok((graph.constant(0.0)?, len))
}

/// Stretches one after another; one number stands for as many as it is said to.
fn side_by_side(graph: &mut Graph, stretches: &[(NodeId, usize)]) -> Result {
    let mut flat = Vec::with_capacity(stretches.len());
    for &(x, len) in stretches.iter().filter(|(_, len)| *len > 0) {
        let x = graph.reshape(x, &[graph.shape(x).len()])?;
        flat.push(graph.broadcast_to(x, &Shape::new(&[len]))?);
    }
    graph.concatenate(&flat, 0)
}

/// Slopes one after another; zeros where there is none.
fn parts(graph: &mut Graph, slopes: &[Option<NodeId>], lens: &[usize]) -> Result {
    let mut stretches = Vec::with_capacity(slopes.len());
    for (&slope, &len) in slopes.iter().zip(lens) {
        stretches.push(match slope {
            Some(slope) => (slope, len),
            None => zeros(len, graph)?,
        });
    }
    side_by_side(graph, &stretches)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autograd::gradients;
    use crate::autograd::{Bindings, Destination, Plan};
    use crate::support::random::{Purpose, RandomKey};

    /// Steps, rows and units of the recurrent cases.
    const STEPS: Recurrence = Recurrence {
        time: 4,
        rows: 3,
        units: 5,
    };

    #[test]
    fn kernels_agree_with_their_definitions_and_so_do_their_gradients() {
        let matrix: &[&[usize]] = &[&[6, 7]];
        let (steps, state) = (STEPS.time * STEPS.rows, STEPS.rows * STEPS.units);
        let lstm: &[&[usize]] = &[&[4 * STEPS.units * steps], &[5, 20], &[state], &[state]];
        let gru: &[&[usize]] = &[&[3 * STEPS.units * steps], &[5, 15], &[15], &[state]];
        let epsilon = Number(1e-3);
        check("normalize", Op::Normalize { epsilon }, matrix, false);
        check("rms normalize", Op::RmsNormalize { epsilon }, matrix, false);
        for masked in [false, true] {
            check("lstm", Op::Lstm(STEPS), lstm, masked);
            check("gru", Op::Gru(STEPS), gru, masked);
        }
    }

    /// Value and every gradient of an operation, by its kernel and by its definition.
    fn check(name: &str, op: Op, shapes: &[&[usize]], masked: bool) {
        let mut stream = RandomKey::of(8, 0).stream(Purpose::Test);
        let len: usize = shapes
            .iter()
            .map(|extents| extents.iter().product::<usize>())
            .sum();
        let numbers: Vec<f32> = (0..len).map(|_| stream.normal() as f32 * 0.5).collect();
        let mut graph = Graph::new();
        let mut inputs = Vec::new();
        let mut offset = 0;
        for extents in shapes {
            let shape = Shape::new(extents);
            let next = offset + shape.len();
            inputs.push(graph.add(Op::Parameter(offset, shape), &[]).unwrap());
            offset = next;
        }
        let sources = inputs.clone();
        if masked {
            let mask: Vec<f32> = (0..STEPS.time * STEPS.rows)
                .map(|at| f32::from(at % 3 != 1))
                .collect();
            inputs.push(graph.literal(&mask, &[STEPS.time, STEPS.rows]).unwrap());
        }
        let by_kernel = graph.add(op.clone(), &inputs).unwrap();
        let defined = definition(&mut graph, &op, &inputs).unwrap().unwrap();
        // Only states are compared: what else a recurrent kernel keeps of a masked step is its own affair.
        let compared = match &op {
            Op::Lstm(r) => 2 * (r.time + 1) * r.rows * r.units,
            Op::Gru(r) => (r.time + 1) * r.rows * r.units,
            _ => graph.shape(by_kernel).len(),
        };
        let weights: Vec<f32> = (0..compared).map(|_| stream.normal() as f32).collect();
        let seed = graph.literal(&weights, &[compared]).unwrap();
        let mut kept = Vec::new();
        for whole in [by_kernel, defined] {
            let value = graph.stretch(whole, 0, compared).unwrap();
            kept.push((value, Destination::Keep));
            for slope in gradients(&mut graph, &[(value, seed)], &sources).unwrap() {
                kept.push((slope.unwrap(), Destination::Keep));
            }
        }
        let mut plan = Plan::new(&graph, &kept).unwrap();
        plan.run(&mut Bindings {
            inputs: &[],
            more_inputs: &[],
            parameters: &numbers,
            statistics: &[],
            gradient: &mut [],
            statistics_out: &mut [],
            key: RandomKey::of(1, 0),
        })
        .unwrap();
        let each = kept.len() / 2;
        for position in 0..each {
            let (found, expected) = (plan.kept(position), plan.kept(each + position));
            assert_eq!(found.len(), expected.len(), "{name}");
            for (at, (&found, &expected)) in found.iter().zip(expected).enumerate() {
                assert!(
                    (found - expected).abs() <= 2e-5 * expected.abs().max(1.0),
                    "seed 8, {name}, masked {masked}, result {position} at {at}: {found}, by definition {expected}"
                );
            }
        }
    }
}
