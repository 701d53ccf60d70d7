//! A product and the chain that follows it, run strip by strip.
//!
//! `blas::multiply_into` works through a long product in strips of rows. A chain over the result (bias, activation,
//! residual) that ran afterwards would fetch every strip from memory again; here it runs on each strip while that is
//! in the cache. Each number goes through the same operations as in two separate steps.

use crate::tensor::blas::{self, Product};
use crate::tensor::kernels::elementwise::{OPERANDS_MAX, OperandPointer, Scratch, run_raw};
use crate::tensor::shape::Spread;

use super::execute::Places;
use super::lower::Kernel;
use super::plan::{Location, Step};

/// For each product that may run together with the step after it: the rows of a strip.
pub(super) fn mark(steps: &mut [Step]) {
    for position in 1..steps.len() {
        let (before, after) = steps.split_at_mut(position);
        if let Some(product) = before.last_mut() {
            product.strip = strip_of(product, &after[0]);
        }
    }
}

fn strip_of(product_step: &Step, chain_step: &Step) -> Option<usize> {
    let (Kernel::Multiply(stacked), Kernel::Chain(chain)) =
        (&product_step.kernel, &chain_step.kernel)
    else {
        return None;
    };
    let Product { m, n, k, .. } = stacked.product;
    let one_matrix = stacked.counts == [1; 3]
        && (stacked.a.offset, stacked.b.offset, stacked.c.offset) == (0, 0, 0)
        && (stacked.a.leading, stacked.b.leading, stacked.c.leading) == (k, n, n);
    let rows = blas::strip_rows(&stacked.product)?;
    let made = product_step.output;
    let reads = chain_step.inputs.iter().zip(chain.operands());
    let strips_well = reads.clone().all(|(&read, spread)| match spread {
        Spread::Full => read == made || !overlap(read, made),
        Spread::Row => n.is_multiple_of(read.len()) && !overlap(read, made),
        Spread::Scalar => !overlap(read, made),
        Spread::Column => false,
    });
    let reads_it = chain_step.inputs.contains(&made);
    let spares_factors = product_step
        .inputs
        .iter()
        .all(|&factor| !overlap(factor, chain_step.output));
    let fits = made.len() == m * n && chain_step.output.len() == m * n;
    (one_matrix && strips_well && reads_it && spares_factors && fits).then_some(rows)
}

/// Whether two places share numbers.
fn overlap(a: Location, b: Location) -> bool {
    match (a, b) {
        (Location::Arena(a), Location::Arena(b))
        | (Location::Gradient(a), Location::Gradient(b))
        | (Location::StatisticsOut(a), Location::StatisticsOut(b)) => {
            a.offset < b.offset + b.len && b.offset < a.offset + a.len
        }
        _ => false,
    }
}

/// Runs both steps, which `mark` found to go together in strips of so many rows.
pub(super) fn run(
    product_step: &Step,
    chain_step: &Step,
    rows: usize,
    places: &Places<'_>,
    scratch: &mut Scratch,
) {
    let (Kernel::Multiply(stacked), Kernel::Chain(chain)) =
        (&product_step.kernel, &chain_step.kernel)
    else {
        return;
    };
    let Product { m, n, k, .. } = stacked.product;
    let made = places.operand(product_step.output);
    let target = places.operand(chain_step.output);
    // SAFETY: no exclusive slice is alive; `mark` saw that neither result takes the place of a factor.
    let (a, b) = unsafe {
        (
            places.read(product_step.inputs[0]),
            places.read(product_step.inputs[1]),
        )
    };
    for start in (0..m).step_by(rows) {
        let strip = Product {
            m: rows.min(m - start),
            ..stacked.product
        };
        let (offset, len) = (start * n, strip.m * n);
        {
            // SAFETY: the product's place holds (m, n) numbers and is apart from the factors.
            let c =
                unsafe { std::slice::from_raw_parts_mut(made.start.cast_mut().add(offset), len) };
            blas::multiply_into(&strip, &a[start * k..], k, b, n, 0.0, c, n);
        }
        let mut operands = [OperandPointer {
            start: std::ptr::null(),
            len: 0,
        }; OPERANDS_MAX];
        let reads = chain_step.inputs.iter().zip(chain.operands());
        for (operand, (&read, spread)) in operands.iter_mut().zip(reads) {
            *operand = places.operand(read);
            if *spread == Spread::Full {
                // SAFETY: a full operand holds (m, n) numbers too.
                operand.start = unsafe { operand.start.add(offset) };
                operand.len = len;
            }
        }
        // SAFETY: as for the whole chain: its result is apart from its operands or exactly on a `Full` one, and so is
        // the same stretch of each. Only full operands were moved, and rows begin where strips do.
        unsafe {
            run_raw(
                chain,
                &operands[..chain_step.inputs.len()],
                target.start.cast_mut().add(offset),
                len,
                scratch,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Bindings, Data, Destination, Graph, NodeId, Op, Plan};
    use super::*;
    use crate::support::random::{Purpose, RandomKey};
    use crate::tensor::Shape;
    use crate::tensor::kernels::elementwise::Unary;
    use crate::tensor::kernels::random_mask;

    const ROWS: usize = 203;
    const INPUTS: usize = 96;
    const UNITS: usize = 112;

    /// x (ROWS, INPUTS), its kernel, a bias, and a residual (ROWS, UNITS).
    struct Nodes {
        product: NodeId,
        bias: NodeId,
        residual: NodeId,
    }

    fn nodes(graph: &mut Graph) -> Nodes {
        let mut leaf = |op| graph.add(op, &[]).unwrap();
        let x = leaf(Op::Input(0, Shape::new(&[ROWS, INPUTS])));
        let residual = leaf(Op::Input(1, Shape::new(&[ROWS, UNITS])));
        let kernel = leaf(Op::Parameter(0, Shape::new(&[INPUTS, UNITS])));
        let bias = leaf(Op::Parameter(INPUTS * UNITS, Shape::new(&[UNITS])));
        Nodes {
            product: graph.matmul(x, kernel, false, false).unwrap(),
            bias,
            residual,
        }
    }

    fn numbers(len: usize, seed: u64) -> Vec<f32> {
        let mut stream = RandomKey::of(seed, 0).stream(Purpose::Test);
        (0..len).map(|_| stream.normal() as f32).collect()
    }

    /// The plan's answer for the last node, and how many of its products run with the step after them.
    fn run_plan(graph: &Graph, kept: &[NodeId]) -> (Vec<Vec<f32>>, usize) {
        blas::use_one_thread();
        let outputs: Vec<_> = kept.iter().map(|&id| (id, Destination::Keep)).collect();
        let mut plan = Plan::new(graph, &outputs).unwrap();
        let joined = plan
            .steps
            .iter()
            .filter(|step| step.strip.is_some())
            .count();
        let inputs = [numbers(ROWS * INPUTS, 1), numbers(ROWS * UNITS, 2)];
        plan.run(&mut Bindings {
            inputs: &inputs.each_ref().map(|input| Data::Float32(input)),
            more_inputs: &[],
            parameters: &numbers((INPUTS + 1) * UNITS, 3),
            statistics: &[],
            gradient: &mut [],
            statistics_out: &mut [],
            key: random_mask::RandomKey::of(1, 0),
        })
        .unwrap();
        let answers = (0..kept.len()).map(|at| plan.kept(at).to_vec()).collect();
        (answers, joined)
    }

    /// The product as a plain loop in float64, number by number with what comes after it.
    fn close(found: &[f32], after: impl Fn(f64, f64, f64) -> f64) {
        let (x, residual) = (numbers(ROWS * INPUTS, 1), numbers(ROWS * UNITS, 2));
        let parameters = numbers((INPUTS + 1) * UNITS, 3);
        for row in 0..ROWS {
            for column in 0..UNITS {
                let product: f64 = (0..INPUTS)
                    .map(|term| {
                        f64::from(x[row * INPUTS + term])
                            * f64::from(parameters[term * UNITS + column])
                    })
                    .sum();
                let at = row * UNITS + column;
                let bias = f64::from(parameters[INPUTS * UNITS + column]);
                let expected = after(product, bias, f64::from(residual[at]));
                assert!(
                    (f64::from(found[at]) - expected).abs() < 1e-4,
                    "({row}, {column}): {} {expected}",
                    found[at]
                );
            }
        }
    }

    fn joins_here() -> usize {
        let product = Product {
            m: ROWS,
            n: UNITS,
            k: INPUTS,
            transpose_a: false,
            transpose_b: false,
        };
        usize::from(blas::strip_rows(&product).is_some())
    }

    #[test]
    fn bias_activation_and_residual_follow_each_strip_of_a_product() {
        let mut graph = Graph::new();
        let Nodes {
            product,
            bias,
            residual,
        } = nodes(&mut graph);
        let shifted = graph.plus(product, bias).unwrap();
        let bent = graph.unary(Unary::Tanh, shifted).unwrap();
        let sum = graph.plus(bent, residual).unwrap();
        let (answers, joined) = run_plan(&graph, &[sum]);
        assert_eq!(joined, joins_here());
        close(&answers[0], |product, bias, residual| {
            (product + bias).tanh() + residual
        });
    }

    #[test]
    fn a_product_that_is_wanted_itself_stays_beside_its_chain() {
        let mut graph = Graph::new();
        let Nodes { product, bias, .. } = nodes(&mut graph);
        let shifted = graph.plus(product, bias).unwrap();
        let (answers, joined) = run_plan(&graph, &[product, shifted]);
        assert_eq!(joined, joins_here());
        close(&answers[0], |product, _, _| product);
        close(&answers[1], |product, bias, _| product + bias);
    }

    #[test]
    fn a_chain_that_takes_the_place_of_a_factor_waits_for_the_whole_product() {
        let mut graph = Graph::new();
        let x = graph
            .add(Op::Input(0, Shape::new(&[ROWS, INPUTS])), &[])
            .unwrap();
        let bent = graph.unary(Unary::Tanh, x).unwrap();
        let kernel = graph
            .add(Op::Parameter(0, Shape::new(&[INPUTS, INPUTS])), &[])
            .unwrap();
        let product = graph.matmul(bent, kernel, false, false).unwrap();
        let sum = graph.plus(bent, product).unwrap();
        let (answers, _) = run_plan(&graph, &[sum]);
        let (x, kernel) = (numbers(ROWS * INPUTS, 1), numbers((INPUTS + 1) * UNITS, 3));
        for (at, &found) in answers[0].iter().enumerate() {
            let bent = |term| f64::from(x[at / INPUTS * INPUTS + term]).tanh();
            let product: f64 = (0..INPUTS)
                .map(|term| bent(term) * f64::from(kernel[term * INPUTS + at % INPUTS]))
                .sum();
            let expected = bent(at % INPUTS) + product;
            assert!(
                (f64::from(found) - expected).abs() < 1e-4,
                "at {at}: {found} {expected}"
            );
        }
    }
}
