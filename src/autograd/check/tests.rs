use super::*;
use crate::autograd::{Face, Number, Pooling, Reduction};
use crate::tensor::kernels::convolution::Convolution;
use crate::tensor::kernels::elementwise::{Binary, Unary};
use crate::tensor::kernels::pool::Pool;
use crate::tensor::kernels::recurrent::Recurrence;
use crate::tensor::kernels::view::View;
use crate::tensor::kernels::window::Window;

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
    for (name, positive, program) in operations().into_iter().filter(|(name, ..)| {
        ![
            "relu", "absolute", "maximum", "minimum", "greatest", "max pool", "ctc",
        ]
        .contains(name)
    }) {
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
fn a_second_derivative_of_ctc_is_refused_in_words() {
    let mut graph = Graph::new();
    let logits = graph.add(Op::Parameter(0, shape(&[1, 2, 2])), &[]).unwrap();
    let label = graph.literal(&[1.0, 0.0], &[1, 2]).unwrap();
    let loss = graph.add(Op::Ctc, &[logits, label]).unwrap();
    let one = graph.constant(1.0).unwrap();
    let slope = gradients(&mut graph, &[(loss, one)], &[logits]).unwrap()[0].unwrap();
    let squared = graph.unary(Unary::Square, slope).unwrap();
    assert_eq!(
        gradients(&mut graph, &[(squared, one)], &[logits])
            .unwrap_err()
            .to_string(),
        "the gradient of ctc has no derivative; take first derivatives of it only"
    );
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
            "ctc",
            false,
            Box::new(|graph, a, _| {
                let log_p = graph.reshape(a, &[2, 2, 3])?;
                let labels = graph.literal(&[1.0, 0.0, 2.0, 1.0], &[2, 2])?;
                graph.add(Op::Ctc, &[log_p, labels])
            }),
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
            "products of heads, read and written where they lie",
            false,
            Box::new(|graph, a, b| {
                // (1 row, 3 steps, 2 heads, 2 numbers) each.
                let (a, b) = (
                    graph.reshape(a, &[1, 3, 2, 2])?,
                    graph.reshape(b, &[1, 3, 2, 2])?,
                );
                let (query, key) = (
                    graph.permute(a, &[0, 2, 1, 3])?,
                    graph.permute(b, &[0, 2, 1, 3])?,
                );
                let scores = graph.matmul(query, key, false, true)?;
                let values = graph.matmul(scores, query, false, false)?;
                let together = graph.permute(values, &[0, 2, 1, 3])?;
                let flat = graph.reshape(together, &[3, 4])?;
                graph.unary(Unary::Tanh, flat)
            }),
        ),
        (
            "product of columns of a wider matrix",
            false,
            Box::new(|graph, a, b| {
                let b = graph.reshape(b, &[4, 3])?;
                let (a, b) = (graph.slice(a, 1, 1, 2, 1)?, graph.slice(b, 1, 0, 2, 1)?);
                let tanh = graph.unary(Unary::Tanh, a)?;
                let product = graph.matmul(tanh, b, false, true)?;
                let square = graph.matmul(a, b, true, false)?;
                let (product, square) =
                    (graph.reshape(product, &[16])?, graph.reshape(square, &[4])?);
                graph.concatenate(&[product, square], 0)
            }),
        ),
        (
            "softmax over the first axis",
            false,
            Box::new(|graph, a, _| graph.softmax(a, 0)),
        ),
        (
            "normalize",
            false,
            Box::new(|graph, a, _| {
                graph.add(
                    Op::Normalize {
                        epsilon: Number(1e-2),
                    },
                    &[a],
                )
            }),
        ),
        (
            "rms normalize",
            false,
            Box::new(|graph, a, _| {
                graph.add(
                    Op::RmsNormalize {
                        epsilon: Number(1e-2),
                    },
                    &[a],
                )
            }),
        ),
        (
            "convolution",
            false,
            Box::new(|graph, a, b| {
                let kernel = part(graph, b, &[4])?;
                graph.add(Op::Convolve(convolution(), Face::Output), &[a, kernel])
            }),
        ),
        (
            "transposed convolution",
            false,
            Box::new(|graph, a, b| {
                let (small, kernel) = (graph.slice(a, 0, 0, 3, 1)?, part(graph, b, &[4])?);
                let small = graph.slice(small, 1, 0, 2, 1)?;
                graph.add(Op::Convolve(convolution(), Face::Input), &[small, kernel])
            }),
        ),
        (
            "gradient of a convolution by its kernel",
            false,
            Box::new(|graph, a, b| {
                let output = part(graph, b, &[6])?;
                graph.add(Op::Convolve(convolution(), Face::Kernel), &[a, output])
            }),
        ),
        (
            "max pool",
            false,
            Box::new(|graph, a, _| {
                let square = graph.unary(Unary::Square, a)?;
                graph.add(Op::Pool(pool(), Pooling::Pick), &[square, square])
            }),
        ),
        (
            "average pool",
            false,
            Box::new(|graph, a, _| {
                let square = graph.unary(Unary::Square, a)?;
                graph.add(Op::Pool(pool(), Pooling::Average), &[square])
            }),
        ),
        (
            "lstm",
            false,
            Box::new(|graph, a, b| {
                let r = Recurrence {
                    time: 2,
                    rows: 1,
                    units: 1,
                };
                let a = graph.reshape(a, &[12])?;
                let (xw, recurrent) = (graph.slice(a, 0, 0, 8, 1)?, graph.slice(a, 0, 8, 4, 1)?);
                let (h0, c0) = (graph.slice(b, 0, 0, 1, 1)?, graph.slice(b, 0, 1, 1, 1)?);
                let all = graph.add(Op::Lstm(r), &[xw, recurrent, h0, c0])?;
                let (last_h, cs) = (graph.stretch(all, 2, 1)?, graph.stretch(all, 3, 3)?);
                graph.plus(cs, last_h)
            }),
        ),
        (
            "gru",
            false,
            Box::new(|graph, a, b| {
                let r = Recurrence {
                    time: 3,
                    rows: 1,
                    units: 1,
                };
                let a = graph.reshape(a, &[12])?;
                let (xw, recurrent) = (graph.slice(a, 0, 0, 9, 1)?, graph.slice(a, 0, 9, 3, 1)?);
                let (bias, h0) = (graph.slice(b, 0, 0, 3, 1)?, graph.slice(b, 0, 3, 1, 1)?);
                let all = graph.add(Op::Gru(r), &[xw, recurrent, bias, h0])?;
                graph.stretch(all, 0, 4)
            }),
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

/// Three rows of four numbers, two taps, two channels of output, a stride of 2 and a zero before.
fn convolution() -> Convolution {
    let window = Window {
        input: 4,
        output: 1,
        size: 2,
        stride: 2,
        dilation: 1,
        before: 0,
    };
    Convolution {
        rows: 3,
        windows: [Window::UNUSED, Window::UNUSED, window],
        input_channels: 1,
        output_channels: 2,
        groups: 1,
    }
}

/// Windows of two over four rows of three numbers, as one row of four places with three channels.
fn pool() -> Pool {
    let window = Window {
        input: 4,
        output: 3,
        size: 2,
        stride: 1,
        dilation: 1,
        before: 0,
    };
    Pool {
        rows: 1,
        channels: 3,
        windows: [Window::UNUSED, Window::UNUSED, window],
    }
}

#[test]
fn slices_that_make_up_the_whole_give_their_gradients_side_by_side() {
    // Each of three parts (of 1, 2 and 1 columns, out of order) meets another factor; the last program leaves a column out.
    for (parts, tiled) in [
        (vec![(1usize, 2usize), (0, 1), (3, 1)], true),
        (vec![(1, 2), (0, 1)], false),
        (vec![(1, 2), (0, 2), (3, 1)], false),
    ] {
        let record = |graph: &mut Graph| {
            let x = graph.add(Op::Parameter(0, Shape::new(&[3, 4])), &[])?;
            let mut sum = graph.constant(0.0)?;
            for (number, &(start, count)) in parts.iter().enumerate() {
                let part = graph.slice(x, 1, start, count, 1)?;
                let bent = graph.unary(Unary::Square, part)?;
                let scaled = graph.scaled(bent, number as f32 + 1.0)?;
                let column = graph.sum_columns(scaled)?;
                sum = graph.plus(sum, column)?;
            }
            Ok(sum)
        };
        let numbers: Vec<f32> = (0..12u8)
            .map(|number| f32::from(number) * 0.3 - 1.5)
            .collect();
        check_gradient(&numbers, &[], record).unwrap();
        let mut graph = Graph::new();
        let y = record(&mut graph).unwrap();
        let x = graph
            .add(Op::Parameter(0, Shape::new(&[3, 4])), &[])
            .unwrap();
        let seed = graph.literal(&[1.0; 3], &[3, 1]).unwrap();
        let slope = gradients(&mut graph, &[(y, seed)], &[x]).unwrap()[0].unwrap();
        let side_by_side = matches!(graph.op(slope), Op::Concatenate { axis: 1 });
        assert_eq!(side_by_side, tiled, "{parts:?}");
    }
}

#[test]
fn the_gradient_of_axes_in_another_order_is_in_the_first_order_again() {
    for (extents, axes) in [
        (vec![2usize, 3, 4], vec![2usize, 0, 1]),
        (vec![2, 1, 3, 1], vec![3, 2, 0, 1]),
        (vec![3, 3], vec![1, 0]),
    ] {
        let shape = Shape::new(&extents);
        let record = |graph: &mut Graph| {
            let x = graph.add(Op::Parameter(0, shape.clone()), &[])?;
            let y = graph.permute(x, &axes)?;
            let square = graph.unary(Unary::Square, y)?;
            // Weights tell the places apart.
            let weights: Vec<f32> = (0..shape.len()).map(|place| place as f32 * 0.1).collect();
            let permuted = graph.shape(y).extents().to_vec();
            let weights = graph.literal(&weights, &permuted)?;
            graph.times(square, weights)
        };
        let numbers: Vec<f32> = (0..shape.len())
            .map(|place| place as f32 * 0.2 - 1.0)
            .collect();
        check_gradient(&numbers, &[], record).unwrap();
        let mut graph = Graph::new();
        let y = record(&mut graph).unwrap();
        let x = graph.add(Op::Parameter(0, shape.clone()), &[]).unwrap();
        let slope = gradients(&mut graph, &[(y, y)], &[x]).unwrap()[0].unwrap();
        assert!(
            !matches!(graph.op(slope), Op::ViewAdd(..)),
            "{extents:?}, {axes:?}"
        );
    }
}
