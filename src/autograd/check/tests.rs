use super::*;
use crate::autograd::{Number, Reduction};
use crate::tensor::kernels::elementwise::{Binary, Unary};
use crate::tensor::kernels::view::View;

type Program = Box<dyn Fn(&mut Graph, NodeId, NodeId) -> Result<NodeId, GraphError>>;

#[test]
fn every_operation_has_the_gradient_that_differences_show() {
    for (name, positive, program) in operations() {
        if let Err(error) = check(positive, &program) {
            panic!("{name}: {error}");
        }
    }
}

#[test]
fn gradients_of_gradients_are_right_for_smooth_operations() {
    for (name, positive, program) in operations()
        .into_iter()
        .filter(|(name, ..)| !["relu", "absolute", "maximum", "minimum", "greatest"].contains(name))
    {
        let slope_of = move |graph: &mut Graph, a: NodeId, b: NodeId| {
            let y = program(graph, a, b)?;
            let one = graph.constant(1.0)?;
            let shape = graph.shape(y).clone();
            let seed = graph.broadcast_to(one, &shape)?;
            let squared = graph.unary(Unary::Square, y)?;
            let slope = gradients(graph, &[(squared, seed)], &[a])?[0];
            // Where the slope does not depend on the operands there is nothing to check.
            slope.map_or(Ok(y), Ok)
        };
        if let Err(error) = check(positive, &(Box::new(slope_of) as Program)) {
            panic!("second derivative of {name}: {error}");
        }
    }
}

#[test]
fn rows_taken_by_index_and_dropped_by_mask_have_right_gradients() {
    let table = numbers(5 * 3, false);
    let gathered = |graph: &mut Graph| {
        let table = graph.add(Op::Parameter(0, shape(&[5, 3])), &[])?;
        let indices = graph.add(Op::Indices(0, shape(&[4, 1])), &[])?;
        let rows = graph.add(Op::Gather, &[table, indices])?;
        let mask = graph.add(
            Op::DropoutMask {
                stream: 3,
                rate: Number(0.5),
                shape: shape(&[4, 1, 3]),
            },
            &[],
        )?;
        let kept = graph.times(rows, mask)?;
        graph.unary(Unary::Square, kept)
    };
    check_gradient(&table, &[Data::Int32(&[4, 0, 4, 2])], gathered).unwrap();
}

/// Each operation over a (4, 3) and b, which each program reshapes or slices as it needs: (3), (4, 1) or (3, 4).
fn operations() -> Vec<(&'static str, bool, Program)> {
    fn unary(function: Unary) -> Program {
        Box::new(move |graph, a, _| graph.unary(function, a))
    }
    fn binary(function: Binary) -> Program {
        Box::new(move |graph, a, b| {
            let b = graph.reshape(b, &[4, 3])?;
            graph.binary(function, a, b)
        })
    }
    fn part(graph: &mut Graph, b: NodeId, extents: &[usize]) -> Result<NodeId, GraphError> {
        let cut = graph.slice(b, 0, 2, extents.iter().product(), 1)?;
        graph.reshape(cut, extents)
    }
    vec![
        ("negate", false, unary(Unary::Negate)),
        ("relu", false, unary(Unary::Relu)),
        ("sigmoid", false, unary(Unary::Sigmoid)),
        ("tanh", false, unary(Unary::Tanh)),
        ("exp", false, unary(Unary::Exp)),
        ("log", true, unary(Unary::Log)),
        ("sqrt", true, unary(Unary::Sqrt)),
        ("reciprocal", true, unary(Unary::Reciprocal)),
        ("square", false, unary(Unary::Square)),
        ("absolute", false, unary(Unary::Absolute)),
        ("erf", false, unary(Unary::Erf)),
        ("log of one more", true, unary(Unary::Log1p)),
        ("exp less one", false, unary(Unary::Expm1)),
        ("sine", false, unary(Unary::Sin)),
        ("cosine", false, unary(Unary::Cos)),
        ("add", false, binary(Binary::Add)),
        ("subtract", false, binary(Binary::Subtract)),
        ("multiply", false, binary(Binary::Multiply)),
        ("divide", true, binary(Binary::Divide)),
        ("maximum", false, binary(Binary::Maximum)),
        ("minimum", false, binary(Binary::Minimum)),
        (
            "sigmoid cross-entropy",
            false,
            binary(Binary::SigmoidCrossEntropy),
        ),
        (
            "add a row",
            false,
            Box::new(|graph, a, b| {
                let row = part(graph, b, &[3])?;
                graph.plus(a, row)
            }),
        ),
        (
            "multiply by a row",
            false,
            Box::new(|graph, a, b| {
                let row = part(graph, b, &[3])?;
                graph.times(row, a)
            }),
        ),
        (
            "multiply by a column",
            false,
            Box::new(|graph, a, b| {
                let column = part(graph, b, &[4, 1])?;
                graph.times(a, column)
            }),
        ),
        (
            "multiply by a number",
            false,
            Box::new(|graph, a, b| {
                let number = part(graph, b, &[1])?;
                graph.times(a, number)
            }),
        ),
        (
            "sum rows",
            false,
            Box::new(|graph, a, _| {
                let square = graph.unary(Unary::Square, a)?;
                graph.sum_to(square, &shape(&[3]))
            }),
        ),
        (
            "sum columns",
            false,
            Box::new(|graph, a, _| {
                let square = graph.unary(Unary::Square, a)?;
                graph.sum_columns(square)
            }),
        ),
        (
            "sum all",
            false,
            Box::new(|graph, a, _| {
                let square = graph.unary(Unary::Square, a)?;
                graph.sum_to(square, &shape(&[]))
            }),
        ),
        (
            "broadcast",
            false,
            Box::new(|graph, _, b| {
                let row = part(graph, b, &[3])?;
                let wide = graph.broadcast_to(row, &shape(&[4, 3]))?;
                graph.unary(Unary::Square, wide)
            }),
        ),
        (
            "matmul",
            false,
            Box::new(|graph, a, b| {
                let b = graph.reshape(b, &[3, 4])?;
                graph.matmul(a, b, false, false)
            }),
        ),
        (
            "matmul with a'",
            false,
            Box::new(|graph, a, b| {
                let b = graph.reshape(b, &[4, 3])?;
                graph.matmul(a, b, true, false)
            }),
        ),
        (
            "matmul with b'",
            false,
            Box::new(|graph, a, b| {
                let b = graph.reshape(b, &[4, 3])?;
                graph.matmul(a, b, false, true)
            }),
        ),
        (
            "matmul with a' and b'",
            false,
            Box::new(|graph, a, b| {
                let b = graph.reshape(b, &[3, 4])?;
                graph.matmul(a, b, true, true)
            }),
        ),
        (
            "softmax",
            false,
            Box::new(|graph, a, _| graph.add(Op::Softmax, &[a])),
        ),
        (
            "log softmax",
            false,
            Box::new(|graph, a, _| graph.add(Op::LogSoftmax, &[a])),
        ),
        (
            "concatenate",
            false,
            Box::new(|graph, a, b| {
                let column = part(graph, b, &[4, 1])?;
                let joined = graph.concatenate(&[a, column, a], 1)?;
                graph.unary(Unary::Square, joined)
            }),
        ),
        (
            "slice",
            false,
            Box::new(|graph, a, _| {
                let square = graph.unary(Unary::Square, a)?;
                graph.slice(square, 1, 1, 2, 1)
            }),
        ),
        (
            "subtract the middle of a cube",
            false,
            Box::new(|graph, a, b| {
                let (cube, middle) = (graph.reshape(a, &[2, 3, 2])?, part(graph, b, &[3, 1])?);
                graph.minus(middle, cube)
            }),
        ),
        (
            "divide a column by a row",
            true,
            Box::new(|graph, a, b| {
                let (column, row) = (graph.slice(a, 1, 1, 1, 1)?, part(graph, b, &[3])?);
                graph.over(column, row)
            }),
        ),
        (
            "keep",
            false,
            Box::new(|graph, a, b| {
                let (b, zero) = (graph.reshape(b, &[4, 3])?, graph.constant(0.0)?);
                let mask = graph.binary(Binary::Greater, b, zero)?;
                let square = graph.unary(Unary::Square, a)?;
                graph.select(mask, square, a)
            }),
        ),
        (
            "sum over the middle",
            false,
            Box::new(|graph, a, _| {
                let square = graph.unary(Unary::Square, a)?;
                let cube = graph.reshape(square, &[2, 3, 2])?;
                graph.reduce(Reduction::Sum, cube, 1, 1)
            }),
        ),
        (
            "mean over two axes",
            false,
            Box::new(|graph, a, _| {
                let square = graph.unary(Unary::Square, a)?;
                let cube = graph.reshape(square, &[2, 3, 2])?;
                graph.mean(cube, 0, 2)
            }),
        ),
        (
            "greatest",
            false,
            Box::new(|graph, a, _| {
                let cube = graph.reshape(a, &[2, 3, 2])?;
                graph.reduce(Reduction::Max, cube, 1, 1)
            }),
        ),
        (
            "running sum",
            false,
            Box::new(|graph, a, _| {
                let square = graph.unary(Unary::Square, a)?;
                graph.add(
                    Op::CumulativeSum {
                        axis: 0,
                        reverse: false,
                    },
                    &[square],
                )
            }),
        ),
        (
            "permute",
            false,
            Box::new(|graph, a, b| {
                let (cube, weights) =
                    (graph.reshape(a, &[2, 3, 2])?, graph.reshape(b, &[2, 2, 3])?);
                let turned = graph.permute(cube, &[2, 0, 1])?;
                let square = graph.unary(Unary::Square, turned)?;
                graph.times(square, weights)
            }),
        ),
        (
            "every second, backwards",
            false,
            Box::new(|graph, a, _| {
                let square = graph.unary(Unary::Square, a)?;
                graph.slice(square, 0, 3, 2, -2)
            }),
        ),
        (
            "pad",
            false,
            Box::new(|graph, a, _| {
                let square = graph.unary(Unary::Square, a)?;
                graph.pad(square, 1, 1, 2)
            }),
        ),
        (
            "repeat",
            false,
            Box::new(|graph, a, b| {
                let (wide, weights) = (graph.repeat(a, 1, 2)?, graph.reshape(b, &[4, 1, 3])?);
                let square = graph.unary(Unary::Square, wide)?;
                graph.times(square, weights)
            }),
        ),
        (
            "overlapping windows",
            false,
            Box::new(|graph, a, b| {
                let windows = View {
                    extents: vec![10, 3],
                    strides: vec![1, 1],
                    offset: 0,
                };
                let (flat, weights) = (graph.reshape(a, &[12])?, part(graph, b, &[3])?);
                let read = graph.add(Op::View(windows), &[flat])?;
                graph.times(read, weights)
            }),
        ),
        (
            "stack",
            false,
            Box::new(|graph, a, b| {
                let b = graph.reshape(b, &[4, 3])?;
                let both = graph.stack(&[a, b], 1)?;
                graph.unary(Unary::Square, both)
            }),
        ),
        (
            "products side by side",
            false,
            Box::new(|graph, a, b| {
                let (a, b) = (graph.reshape(a, &[2, 3, 2])?, graph.reshape(b, &[2, 3, 2])?);
                graph.matmul(a, b, true, false)
            }),
        ),
        (
            "softmax over the first axis",
            false,
            Box::new(|graph, a, _| graph.softmax(a, 0)),
        ),
        (
            "gelu",
            false,
            Box::new(|graph, a, _| {
                let inner = graph.scaled(a, std::f32::consts::FRAC_1_SQRT_2)?;
                let erf = graph.unary(Unary::Erf, inner)?;
                let one = graph.constant(1.0)?;
                let shifted = graph.plus(erf, one)?;
                let half = graph.scaled(a, 0.5)?;
                graph.times(half, shifted)
            }),
        ),
        (
            "a deep chain",
            false,
            Box::new(|graph, a, b| {
                let mut x = a;
                for round in 0..40 {
                    let other = graph.reshape(b, &[4, 3])?;
                    let sum = graph.plus(x, other)?;
                    x = if round % 2 == 0 {
                        graph.unary(Unary::Tanh, sum)?
                    } else {
                        graph.scaled(sum, 0.9)?
                    };
                }
                Ok(x)
            }),
        ),
    ]
}

fn check(positive: bool, program: &Program) -> Result<(), String> {
    check_gradient(&numbers(24, positive), &[], |graph| {
        let a = graph.add(Op::Parameter(0, shape(&[4, 3])), &[])?;
        let b = graph.add(Op::Parameter(12, shape(&[12])), &[])?;
        program(graph, a, b)
    })
}

fn numbers(count: usize, positive: bool) -> Vec<f32> {
    (0..count as u64)
        .map(|index| scatter(index, 99))
        .map(|value| if positive { value.abs() + 0.5 } else { value })
        .collect()
}
