//! check_gradient: a program's gradient against central differences along random directions.
//!
//! Open to the layers above, which check themselves with it in their tests.

use crate::tensor::Shape;
use crate::tensor::kernels::random_mask::RandomKey;

use super::execute::{Bindings, Data};
use super::graph::{Graph, NodeId};
use super::op::Op;
use super::plan::{Destination, Plan};
use super::{GraphError, gradients};

/// How far analytic and numeric slopes may be apart, relative to the larger of them and 1.
pub const TOLERANCE: f64 = 2e-2;

/// Checks the gradient of a random weighting of `program`'s output with respect to a flat vector of parameters,
/// along several random directions. The error text says what disagreed.
///
/// `program` records operations over `Op::Parameter` leaves and returns its output.
pub fn check_gradient(
    parameters: &[f32],
    inputs: &[Data<'_>],
    program: impl Fn(&mut Graph) -> Result<NodeId, GraphError>,
) -> Result<(), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let mut graph = Graph::new();
    let output = program(&mut graph).map_err(|error| text(&error))?;
    // A fixed weighting stands for any loss above; its numbers differ so that no two outputs can stand for each other.
    let shape = graph.shape(output).clone();
    let weighting: Vec<f32> = (0..shape.len())
        .map(|index| scatter(index as u64, 1))
        .collect();
    let mut all_inputs = inputs.to_vec();
    all_inputs.push(Data::Float32(&weighting));
    let seed = graph
        .add(Op::Input(inputs.len(), shape.clone()), &[])
        .map_err(|error| text(&error))?;
    let sources: Vec<(NodeId, usize)> = (0..graph.len())
        .map(NodeId)
        .filter_map(|id| match graph.op(id) {
            Op::Parameter(offset, _) => Some((id, *offset)),
            _ => None,
        })
        .collect();
    let ids: Vec<NodeId> = sources.iter().map(|source| source.0).collect();
    let slopes = gradients(&mut graph, output, seed, &ids).map_err(|error| text(&error))?;
    let mut outputs = vec![(output, Destination::Keep)];
    for (slope, (_, offset)) in slopes.iter().zip(&sources) {
        if let Some(slope) = slope {
            outputs.push((*slope, Destination::Gradient(*offset)));
        }
    }
    let mut plan = Plan::new(&graph, &outputs).map_err(|error| text(&error))?;
    let mut value_at = |parameters: &[f32]| -> Result<(f64, Vec<f32>), String> {
        let mut gradient = vec![0.0; parameters.len()];
        let mut bindings = Bindings {
            inputs: &all_inputs,
            more_inputs: &[],
            parameters,
            statistics: &[],
            gradient: &mut gradient,
            statistics_out: &mut [],
            key: RandomKey::of(1, 0),
        };
        plan.run(&mut bindings).map_err(|error| text(&error))?;
        let value = plan
            .kept(0)
            .iter()
            .zip(&weighting)
            .map(|(&y, &w)| f64::from(y) * f64::from(w))
            .sum();
        Ok((value, gradient))
    };
    let (_, gradient) = value_at(parameters)?;
    for direction_seed in 2..8 {
        let direction: Vec<f32> = (0..parameters.len())
            .map(|index| scatter(index as u64, direction_seed))
            .collect();
        // Best of three step sizes: a large one suffers from curvature and kinks, a small one from float32's rounding.
        let analytic: f64 = gradient
            .iter()
            .zip(&direction)
            .map(|(&g, &d)| f64::from(g) * f64::from(d))
            .sum();
        let mut best = (f64::INFINITY, 0.0);
        for step in [1e-2f32, 3e-3, 1e-3] {
            let moved = |sign: f32| -> Vec<f32> {
                parameters
                    .iter()
                    .zip(&direction)
                    .map(|(&p, &d)| p + sign * step * d)
                    .collect()
            };
            let numeric =
                (value_at(&moved(1.0))?.0 - value_at(&moved(-1.0))?.0) / (2.0 * f64::from(step));
            let error = (numeric - analytic).abs() / analytic.abs().max(numeric.abs()).max(1.0);
            if error < best.0 {
                best = (error, numeric);
            }
        }
        if best.0 > TOLERANCE {
            return Err(format!(
                "direction {direction_seed}: analytic slope {analytic}, numeric {}, apart by {}",
                best.1, best.0
            ));
        }
    }
    Ok(())
}

/// Numbers in -1 to 1 that depend on index and seed alone (the finalizer of SplitMix64).
fn scatter(index: u64, seed: u64) -> f32 {
    let mut z = index
        .wrapping_add(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
        .wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 23) as f32 - 1.0
}

/// A shape in few letters, for tests.
pub fn shape(extents: &[usize]) -> Shape {
    Shape::new(extents)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autograd::Number;
    use crate::tensor::kernels::elementwise::{Binary, Unary};

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
            .filter(|(name, ..)| !["relu", "absolute", "maximum", "minimum"].contains(name))
        {
            let slope_of = move |graph: &mut Graph, a: NodeId, b: NodeId| {
                let y = program(graph, a, b)?;
                let one = graph.constant(1.0)?;
                let shape = graph.shape(y).clone();
                let seed = graph.broadcast_to(one, &shape)?;
                let squared = graph.unary(Unary::Square, y)?;
                let slope = gradients(graph, squared, seed, &[a])?[0];
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
            let flat = graph.reshape(b, &[1, 12])?;
            let cut = graph.add(
                Op::Slice {
                    start: 2,
                    width: extents.iter().product(),
                },
                &[flat],
            )?;
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
                    let joined = graph.add(Op::Concatenate, &[a, column, a])?;
                    graph.unary(Unary::Square, joined)
                }),
            ),
            (
                "slice",
                false,
                Box::new(|graph, a, _| {
                    let square = graph.unary(Unary::Square, a)?;
                    graph.add(Op::Slice { start: 1, width: 2 }, &[square])
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
}
