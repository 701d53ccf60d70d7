//! What an operation comes to when it is found while recording: nothing new, or something simpler.
//!
//! Each line is an identity of numbers, bit for bit but for the sign of a zero.

use crate::tensor::Shape;
use crate::tensor::kernels::elementwise::{
    Binary, Chain, Function, Instruction, Scratch, Source, Unary, run,
};
use crate::tensor::kernels::view::View;
use crate::tensor::shape::Spread;

use super::graph::{Graph, NodeId};
use super::op::{Number, Op};

/// What to record instead.
pub(super) enum Simpler {
    /// This node has the value already.
    Node(NodeId),
    /// This operation gives the same value.
    Operation(Op, Vec<NodeId>),
}

/// A simpler way to the value of `op` over `inputs`, if there is one.
pub(super) fn simpler(graph: &Graph, op: &Op, inputs: &[NodeId]) -> Option<Simpler> {
    match (op, inputs) {
        (Op::Unary(Unary::Copy), &[x]) => Some(Simpler::Node(x)),
        (Op::Unary(Unary::Negate), &[x]) if *graph.op(x) == Op::Unary(Unary::Negate) => {
            Some(Simpler::Node(graph.inputs(x)[0]))
        }
        (Op::Unary(function), &[x]) => {
            let value = constant(graph, x)?;
            Some(folded(Function::Unary(*function), &[value]))
        }
        (Op::Binary(function), &[a, b]) => binary(graph, *function, a, b),
        (Op::BroadcastTo(shape) | Op::SumTo(shape) | Op::Reshape(shape), &[x])
            if shape == graph.shape(x) =>
        {
            Some(Simpler::Node(x))
        }
        (Op::Reshape(shape), &[x]) => match graph.op(x) {
            Op::Reshape(_) if shape.len() == graph.shape(x).len() => {
                Some(Simpler::Operation(op.clone(), vec![graph.inputs(x)[0]]))
            }
            _ => None,
        },
        (Op::View(view), &[x])
            if view.extents == graph.shape(x).extents() && *view == View::whole(graph.shape(x)) =>
        {
            Some(Simpler::Node(x))
        }
        (Op::View(view), &[x]) => viewed_view(graph, view, x),
        (
            Op::MatMul {
                transpose_a,
                transpose_b,
            },
            &[a, b],
        ) => {
            // A product reads transposed operands at no cost.
            let (from_a, from_b) = (
                before_transposition(graph, a),
                before_transposition(graph, b),
            );
            if from_a.is_none() && from_b.is_none() {
                return None;
            }
            let op = Op::MatMul {
                transpose_a: transpose_a ^ from_a.is_some(),
                transpose_b: transpose_b ^ from_b.is_some(),
            };
            Some(Simpler::Operation(
                op,
                vec![from_a.unwrap_or(a), from_b.unwrap_or(b)],
            ))
        }
        _ => None,
    }
}

fn constant(graph: &Graph, x: NodeId) -> Option<f32> {
    match graph.op(x) {
        Op::Constant(number) => Some(number.0),
        _ => None,
    }
}

fn binary(graph: &Graph, function: Binary, a: NodeId, b: NodeId) -> Option<Simpler> {
    let (left, right) = (constant(graph, a), constant(graph, b));
    match (function, left, right) {
        (_, Some(left), Some(right)) => Some(folded(Function::Binary(function), &[left, right])),
        (Binary::Add | Binary::Subtract, _, Some(0.0))
        | (Binary::Multiply | Binary::Divide, _, Some(1.0)) => Some(Simpler::Node(a)),
        (Binary::Add, Some(0.0), _) | (Binary::Multiply, Some(1.0), _) => Some(Simpler::Node(b)),
        _ => None,
    }
}

/// A function of constants, computed by the kernel that would have computed it later.
fn folded(function: Function, values: &[f32]) -> Simpler {
    let source = |position: usize| Source::Operand(u8::try_from(position).unwrap_or(0));
    let instruction = Instruction {
        function,
        left: source(0),
        right: source(values.len() - 1),
        target: 0,
    };
    let chain = Chain::new(vec![instruction], vec![Spread::Scalar; values.len()], 1);
    let operands: Vec<&[f32]> = values.iter().map(std::slice::from_ref).collect();
    let mut out = [0.0];
    run(&chain, &operands, &mut out, &mut Scratch::new());
    Simpler::Operation(Op::Constant(Number(out[0])), Vec::new())
}

/// The node whose innermost two extents `x` has swapped.
fn before_transposition(graph: &Graph, x: NodeId) -> Option<NodeId> {
    let Op::View(view) = graph.op(x) else {
        return None;
    };
    let source = graph.inputs(x)[0];
    let shape = graph.shape(source);
    let rank = shape.rank().checked_sub(2)?;
    let mut axes: Vec<usize> = (0..rank + 2).collect();
    axes.swap(rank, rank + 1);
    (*view == View::whole(shape).permuted(&axes)).then_some(source)
}

/// A view of a view as one view of the first source, where that is affine too.
fn viewed_view(graph: &Graph, outer: &View, x: NodeId) -> Option<Simpler> {
    match graph.op(x) {
        Op::View(inner) => {
            let source = graph.inputs(x)[0];
            let view = composed(outer, inner)?;
            if view == View::whole(graph.shape(source)) {
                return Some(Simpler::Node(source));
            }
            Some(Simpler::Operation(Op::View(view), vec![source]))
        }
        // A stretch around numbers that were just put into zeros: fewer zeros, or none.
        Op::Reshape(_) if outer.is_contiguous() => {
            let source = graph.inputs(x)[0];
            stretch_of_placed(graph, outer, source)
        }
        Op::ViewAdd(..) if outer.is_contiguous() => stretch_of_placed(graph, outer, x),
        _ => None,
    }
}

fn stretch_of_placed(graph: &Graph, outer: &View, x: NodeId) -> Option<Simpler> {
    let Op::ViewAdd(placed, _) = graph.op(x) else {
        return None;
    };
    let end = outer.offset.checked_add(outer.len())?;
    if !placed.is_contiguous() || placed.offset < outer.offset || placed.offset + placed.len() > end
    {
        return None;
    }
    let numbers = graph.inputs(x)[0];
    let shape = Shape::new(&outer.extents);
    if placed.len() == shape.len() {
        return Some(Simpler::Operation(Op::Reshape(shape), vec![numbers]));
    }
    let mut shifted = placed.clone();
    shifted.offset -= outer.offset;
    Some(Simpler::Operation(
        Op::ViewAdd(shifted, shape),
        vec![numbers],
    ))
}

/// `outer` read from what `inner` reads: affine when each stride of `outer` is one of `inner`'s own axes.
fn composed(outer: &View, inner: &View) -> Option<View> {
    let order = View::whole(&inner.shape());
    let axis_of = |stride: isize| {
        (0..order.strides.len())
            .find(|&axis| inner.extents[axis] > 1 && order.strides[axis] == stride.abs())
    };
    let mut strides = Vec::with_capacity(outer.strides.len());
    let mut used = vec![false; inner.extents.len()];
    for (&extent, &stride) in outer.extents.iter().zip(&outer.strides) {
        if extent <= 1 || stride == 0 {
            strides.push(0);
            continue;
        }
        let axis = axis_of(stride)?;
        // Past the axis' own end the next one would begin; twice along one axis (windows) could pass it together.
        if extent > inner.extents[axis] || std::mem::replace(&mut used[axis], true) {
            return None;
        }
        strides.push(inner.strides[axis] * stride.signum());
    }
    let (mut rest, mut offset) = (outer.offset, inner.offset.cast_signed());
    for axis in 0..inner.extents.len() {
        let step = order.strides[axis].cast_unsigned();
        let index = (rest / step).min(inner.extents[axis].saturating_sub(1));
        rest -= index * step;
        offset += inner.strides[axis] * index.cast_signed();
        // Where the walk along this axis starts late it must still end in time.
        let walked = outer
            .extents
            .iter()
            .zip(&outer.strides)
            .find(|(extent, stride)| **extent > 1 && stride.unsigned_abs() == step);
        if let Some((&extent, &stride)) = walked {
            let last = if stride > 0 {
                index + extent - 1
            } else {
                index.checked_sub(extent - 1)?
            };
            if last >= inner.extents[axis] {
                return None;
            }
        }
    }
    let strides = strides
        .iter()
        .zip(&outer.extents)
        .zip(row_major_strides(&outer.extents))
        // An axis of one index may have any stride: the plain one, so that equal views compare equal.
        .map(|((&stride, &extent), plain)| if extent == 1 { plain } else { stride })
        .collect();
    (rest == 0).then_some(View {
        extents: outer.extents.clone(),
        strides,
        offset: offset.cast_unsigned(),
    })
}

fn row_major_strides(extents: &[usize]) -> Vec<isize> {
    View::whole(&Shape::new(extents)).strides
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::random::{Purpose, RandomKey, RandomStream};

    fn input(graph: &mut Graph, extents: &[usize]) -> NodeId {
        graph.add(Op::Input(0, Shape::new(extents)), &[]).unwrap()
    }

    #[test]
    fn operations_without_effect_are_not_recorded() {
        let mut graph = Graph::new();
        let x = input(&mut graph, &[2, 3, 4]);
        assert_eq!(graph.scaled(x, 1.0).unwrap(), x);
        assert_eq!(graph.shifted(x, 0.0).unwrap(), x);
        let twice = graph.unary(Unary::Negate, x).unwrap();
        assert_eq!(graph.unary(Unary::Negate, twice).unwrap(), x);
        let flat = graph.reshape(x, &[24]).unwrap();
        assert_eq!(graph.reshape(flat, &[2, 3, 4]).unwrap(), x);
        let swapped = graph.permute(x, &[0, 2, 1]).unwrap();
        assert_eq!(graph.permute(swapped, &[0, 2, 1]).unwrap(), x);
        let backwards = graph.reverse(x, 1).unwrap();
        assert_eq!(graph.reverse(backwards, 1).unwrap(), x);
        let (two, three) = (graph.constant(2.0).unwrap(), graph.constant(3.0).unwrap());
        let six = graph.times(two, three).unwrap();
        assert_eq!(*graph.op(six), Op::Constant(Number(6.0)));
    }

    #[test]
    fn a_product_reads_its_operand_through_a_transposition() {
        let mut graph = Graph::new();
        let x = input(&mut graph, &[3, 4]);
        let transposed = graph.permute(x, &[1, 0]).unwrap();
        let product = graph.matmul(transposed, x, false, false).unwrap();
        assert_eq!(
            (graph.op(product), graph.inputs(product)),
            (
                &Op::MatMul {
                    transpose_a: true,
                    transpose_b: false
                },
                &[x, x][..]
            )
        );
    }

    #[test]
    fn random_views_of_random_views_read_the_same_numbers_as_one() {
        let mut stream = RandomKey::of(12, 0).stream(Purpose::Test);
        let (mut joined, mut refused) = (0, 0);
        for round in 0..4000 {
            let extents: Vec<usize> = (0..1 + stream.below(4))
                .map(|_| 1 + stream.below(4) as usize)
                .collect();
            let shape = Shape::new(&extents);
            let inner = random_view(&mut stream, View::whole(&shape));
            let outer = random_view(&mut stream, View::whole(&inner.shape()));
            let Some(one) = composed(&outer, &inner) else {
                refused += 1;
                continue;
            };
            joined += 1;
            let middle: Vec<usize> = inner.positions().collect();
            let expected: Vec<usize> = outer.positions().map(|at| middle[at]).collect();
            assert!(one.fits(shape.len()), "seed 12, round {round}: {one:?}");
            let found: Vec<usize> = one.positions().collect();
            assert_eq!(
                found, expected,
                "seed 12, round {round}: {outer:?} of {inner:?}"
            );
        }
        assert!(
            joined > 1000 && refused > 100,
            "{joined} joined, {refused} refused"
        );
    }

    /// A few slices, reversals, permutations, repetitions and regroupings of a view.
    fn random_view(stream: &mut RandomStream, mut view: View) -> View {
        for _ in 0..stream.below(4) {
            let rank = view.extents.len();
            let mut below = |bound: usize| stream.below(bound as u64) as usize;
            let axis = below(rank);
            let extent = view.extents[axis];
            view = match below(5) {
                0 => {
                    let start = below(extent);
                    let count = 1 + below(extent - start);
                    view.sliced(axis, start, count, 1)
                }
                1 => view.sliced(axis, extent - 1, extent, -1),
                2 => view.sliced(axis, 0, extent.div_ceil(2), 2),
                3 if rank < 6 => view.repeated(axis, 1 + below(3)),
                // All numbers in a row, where they lie so: runs across the axes of what is read.
                3 | 4 if view.is_contiguous() => View {
                    extents: vec![view.len()],
                    strides: vec![1],
                    offset: view.offset,
                },
                _ => {
                    let mut axes: Vec<usize> = (0..rank).collect();
                    axes.swap(axis, below(rank));
                    view.permuted(&axes)
                }
            };
        }
        view
    }

    #[test]
    fn a_view_of_a_view_reads_the_same_numbers_as_one() {
        let shape = Shape::new(&[2, 3, 4, 5]);
        let whole = View::whole(&shape);
        let x: Vec<f32> = (0..120).map(|index| index as f32).collect();
        let inner = [
            whole.permuted(&[0, 2, 1, 3]),
            whole.sliced(1, 1, 2, 1),
            whole.sliced(3, 4, 5, -1),
            whole.sliced(2, 0, 2, 2).permuted(&[3, 1, 0, 2]),
        ];
        let mut joined = 0;
        for inner in &inner {
            let plain = View::whole(&inner.shape());
            let mut middle = vec![0.0; inner.len()];
            crate::tensor::kernels::view::read(inner, &x, &mut middle);
            let first = plain.extents[0];
            for outer in [
                plain.permuted(&[1, 0, 3, 2]),
                plain.sliced(0, first - 1, first, -1),
                plain.sliced(1, 1, 1, 1),
                plain.repeated(1, 3),
                plain.sliced(2, 0, 1, 1).permuted(&[3, 2, 1, 0]),
            ] {
                let Some(one) = composed(&outer, inner) else {
                    continue;
                };
                joined += 1;
                assert!(one.fits(120));
                let (mut expected, mut found) = (vec![0.0; outer.len()], vec![0.0; outer.len()]);
                crate::tensor::kernels::view::read(&outer, &middle, &mut expected);
                crate::tensor::kernels::view::read(&one, &x, &mut found);
                assert_eq!(found, expected, "{outer:?} of {inner:?}");
            }
        }
        assert!(joined > 12, "{joined} of 20 were joined");
    }
}
