//! A loss's graph run in float64, one operation after the other: what validation and evaluation add up.
//!
//! The same graph as in training, so that a loss is written once. Slow and plain; knows the operations that losses record.

use std::collections::HashMap;

use crate::autograd::{Graph, NodeId, Op, Reduction};
use crate::tensor::Shape;
use crate::tensor::kernels::ctc::loss_in_float64;
use crate::tensor::kernels::elementwise::{Binary, Unary};
use crate::tensor::shape::Spread;

/// The numbers of `root`, with the float32 inputs bound in order.
pub(super) fn run(graph: &Graph, root: NodeId, inputs: &[&[f32]]) -> Vec<f64> {
    let mut known = HashMap::new();
    visit(graph, root, inputs, &mut known);
    known.remove(&root).unwrap_or_default()
}

fn visit(graph: &Graph, node: NodeId, inputs: &[&[f32]], known: &mut HashMap<NodeId, Vec<f64>>) {
    if known.contains_key(&node) {
        return;
    }
    let operands = graph.inputs(node).to_vec();
    for &operand in &operands {
        visit(graph, operand, inputs, known);
    }
    let of = |place: usize| {
        (
            known[&operands[place]].as_slice(),
            graph.shape(operands[place]),
        )
    };
    let shape = graph.shape(node);
    let numbers: Vec<f64> = match graph.op(node) {
        Op::Input(number, _) => inputs[*number].iter().map(|&x| f64::from(x)).collect(),
        Op::Constant(number) => vec![f64::from(number.0)],
        Op::Unary(function) => of(0).0.iter().map(|&x| unary(*function, x)).collect(),
        Op::Binary(function) => {
            let (left, right) = (Operand::of(of(0), shape), Operand::of(of(1), shape));
            match (left.spread, right.spread) {
                (Spread::Full, Spread::Full) => left
                    .numbers
                    .iter()
                    .zip(right.numbers)
                    .map(|(&a, &b)| binary(*function, a, b))
                    .collect(),
                _ => (0..shape.len())
                    .map(|at| binary(*function, left.at(at), right.at(at)))
                    .collect(),
            }
        }
        Op::BroadcastTo(_) => {
            let operand = Operand::of(of(0), shape);
            (0..shape.len()).map(|at| operand.at(at)).collect()
        }
        Op::SumTo(_) => {
            let (numbers, whole) = of(0);
            let mut sums = vec![0.0; shape.len()];
            let to = Operand::of((&[], shape), whole);
            for (at, number) in numbers.iter().enumerate() {
                sums[to.place(at, shape.len())] += number;
            }
            sums
        }
        Op::Softmax => by_row(of(0), |row, out| {
            let highest = row.iter().fold(f64::NEG_INFINITY, |high, &x| high.max(x));
            let sum: f64 = row.iter().map(|x| (x - highest).exp()).sum();
            out.extend(row.iter().map(|x| (x - highest).exp() / sum));
        }),
        Op::LogSoftmax => by_row(of(0), |row, out| {
            let highest = row.iter().fold(f64::NEG_INFINITY, |high, &x| high.max(x));
            let sum: f64 = row.iter().map(|x| (x - highest).exp()).sum();
            out.extend(row.iter().map(|x| x - highest - sum.ln()));
        }),
        Op::OneHot { classes } => {
            let (indices, _) = of(0);
            let mut numbers = Vec::with_capacity(indices.len() * classes);
            for &index in indices {
                let is_class = index.fract() == 0.0 && (0.0..*classes as f64).contains(&index);
                // A label that is no class makes its loss NaN; training has refused it with its row before.
                let wrong = if is_class { 0.0 } else { f64::NAN };
                numbers.extend(
                    (0..*classes).map(|class| if class as f64 == index { 1.0 } else { wrong }),
                );
            }
            numbers
        }
        Op::Concatenate { axis } => {
            let parts: Vec<_> = (0..operands.len()).map(of).collect();
            let run = |part: &Shape| part.extents()[*axis..].iter().product::<usize>();
            let outer: usize = shape.extents()[..*axis].iter().product();
            let mut numbers = Vec::with_capacity(shape.len());
            for row in 0..outer {
                for (part, part_shape) in &parts {
                    let width = run(part_shape);
                    numbers.extend_from_slice(&part[row * width..(row + 1) * width]);
                }
            }
            numbers
        }
        Op::View(view) => {
            let (numbers, _) = of(0);
            view.positions().map(|position| numbers[position]).collect()
        }
        Op::Reduce {
            reduction,
            axis,
            count,
        } => {
            let (numbers, whole) = of(0);
            let extent: usize = whole.extents()[*axis..axis + count].iter().product();
            let inner: usize = whole.extents()[axis + count..].iter().product();
            let each = (0..shape.len()).map(|at| {
                let along = (0..extent)
                    .map(|step| numbers[(at / inner * extent + step) * inner + at % inner]);
                match reduction {
                    Reduction::Sum => along.sum(),
                    Reduction::Max => along.fold(f64::NEG_INFINITY, |high, x| {
                        if x <= high || high.is_nan() { high } else { x }
                    }),
                }
            });
            each.collect()
        }
        Op::Ctc => {
            let ((log_p, whole), (labels, places)) = (of(0), of(1));
            let each = whole.len() / shape.len().max(1);
            let rows = log_p
                .chunks_exact(each)
                .zip(labels.chunks_exact(places.last()));
            rows.map(|(log_p, label)| loss_in_float64(whole.last(), log_p, label))
                .collect()
        }
        Op::Reshape(_) => of(0).0.to_vec(),
        other => {
            debug_assert!(false, "no loss records {other:?}");
            vec![f64::NAN; shape.len()]
        }
    };
    known.insert(node, numbers);
}

/// Numbers spread over a larger shape.
struct Operand<'a> {
    numbers: &'a [f64],
    spread: Spread,
    inner: usize,
}

impl<'a> Operand<'a> {
    fn of((numbers, shape): (&'a [f64], &Shape), whole: &Shape) -> Self {
        Operand {
            numbers,
            // A graph is recorded only where its shapes go together.
            spread: shape.spread_over(whole).unwrap_or(Spread::Scalar),
            inner: whole.last(),
        }
    }

    /// Which of `len` numbers stands at a place of the whole.
    fn place(&self, at: usize, len: usize) -> usize {
        match self.spread {
            Spread::Full => at,
            Spread::Row => at % len,
            Spread::Column => at / self.inner,
            Spread::Scalar => 0,
        }
    }

    fn at(&self, at: usize) -> f64 {
        self.numbers[self.place(at, self.numbers.len())]
    }
}

fn by_row((numbers, shape): (&[f64], &Shape), row: impl Fn(&[f64], &mut Vec<f64>)) -> Vec<f64> {
    let mut out = Vec::with_capacity(numbers.len());
    for each in numbers.chunks_exact(shape.last().max(1)) {
        row(each, &mut out);
    }
    out
}

fn unary(function: Unary, x: f64) -> f64 {
    match function {
        Unary::Copy => x,
        Unary::Negate => -x,
        Unary::Relu => {
            if x < 0.0 {
                0.0
            } else {
                x
            }
        }
        Unary::Step => f64::from(u8::from(x > 0.0)),
        Unary::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        Unary::Tanh => x.tanh(),
        Unary::Exp => x.exp(),
        Unary::Log => x.ln(),
        Unary::Sqrt => x.sqrt(),
        Unary::Reciprocal => 1.0 / x,
        Unary::Square => x * x,
        Unary::Absolute => x.abs(),
        Unary::Sign => {
            if x > 0.0 {
                1.0
            } else if x < 0.0 {
                -1.0
            } else {
                0.0
            }
        }
        other => {
            debug_assert!(false, "no loss records {other:?}");
            f64::NAN
        }
    }
}

fn binary(function: Binary, a: f64, b: f64) -> f64 {
    match function {
        Binary::Add => a + b,
        Binary::Subtract => a - b,
        Binary::Multiply => a * b,
        Binary::Divide => a / b,
        Binary::Maximum => {
            if b > a {
                b
            } else {
                a
            }
        }
        Binary::Minimum => {
            if b < a {
                b
            } else {
                a
            }
        }
        Binary::Greater => f64::from(u8::from(a > b)),
        // max(x, 0) - x t + log(1 + exp(-|x|))
        Binary::SigmoidCrossEntropy => a.max(0.0) - a * b + (-a.abs()).exp().ln_1p(),
        #[allow(unreachable_patterns)]
        other => {
            debug_assert!(false, "no loss records {other:?}");
            f64::NAN
        }
    }
}
