//! Products that read their operands through views, and write their result through a permutation.
//!
//! A matrix product takes matrices that lie in wider ones, so the heads of an attention layer need not be copied
//! apart and together again. This pass says which views no kernel has to run for; and which sums over rows are sums of
//! products, whose terms are made on the way and never stored.

use std::collections::BTreeSet;

use crate::tensor::blas::Product;
use crate::tensor::kernels::elementwise::{Binary, Unary};
use crate::tensor::kernels::view::View;
use crate::tensor::shape::Spread;

use super::graph::{Node, NodeId};
use super::op::Op;

/// Most leading axes of a product's operands.
pub(super) const STACK_MAX: usize = 3;

/// One operand of a stacked product: where its matrices begin, and how far their stored rows are apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Matrices {
    pub(super) offset: usize,
    pub(super) strides: [usize; STACK_MAX],
    pub(super) leading: usize,
    /// Stored the other way round.
    pub(super) transposed: bool,
}

/// Products of matrices side by side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stacked {
    pub(super) product: Product,
    pub(super) counts: [usize; STACK_MAX],
    pub(super) a: Matrices,
    pub(super) b: Matrices,
    pub(super) c: Matrices,
}

/// What each node is computed from, and which products go with it.
#[derive(Debug)]
pub(super) struct Absorbed {
    /// The nodes whose values a node's kernel reads.
    pub(super) inputs: Vec<Vec<NodeId>>,
    /// The product that makes a node's value, for products and for permutations of products.
    pub(super) products: Vec<Option<Stacked>>,
    /// Whether a node's value is the sum over rows of the number by number product of its two inputs.
    pub(super) sums_of_products: Vec<bool>,
}

impl Absorbed {
    pub(super) fn new(nodes: &[Node], outputs: &BTreeSet<usize>) -> Self {
        let mut readers = vec![0usize; nodes.len()];
        for input in nodes.iter().flat_map(|node| &node.inputs) {
            readers[input.0] += 1;
        }
        let mut absorbed = Absorbed {
            inputs: nodes.iter().map(|node| node.inputs.clone()).collect(),
            products: vec![None; nodes.len()],
            sums_of_products: vec![false; nodes.len()],
        };
        for (id, node) in nodes.iter().enumerate() {
            if let Op::MatMul { .. } = node.op {
                absorbed.take_product(nodes, id);
            } else if let Op::View(view) = &node.op {
                let source = node.inputs[0].0;
                if readers[source] == 1 && !outputs.contains(&source) {
                    absorbed.take_permutation(id, source, view);
                }
            } else if let Op::SumTo(shape) = &node.op {
                let terms = node.inputs[0].0;
                if shape.spread_over(&nodes[terms].shape) == Some(Spread::Row)
                    && readers[terms] == 1
                    && !outputs.contains(&terms)
                {
                    absorbed.take_sum(nodes, &readers, id, terms);
                }
            }
        }
        absorbed
    }

    fn take_sum(&mut self, nodes: &[Node], readers: &[usize], id: usize, terms: usize) {
        let (left, right) = match (&nodes[terms].op, nodes[terms].inputs.as_slice()) {
            (Op::Binary(Binary::Multiply), &[left, right]) => (left, right),
            (Op::Unary(Unary::Square), &[x]) => (x, x),
            _ => return,
        };
        // What only the terms' chain would have computed on its way would have to be stored for the sum.
        let is_stored = |x: NodeId| {
            nodes[x.0].shape == nodes[terms].shape
                && (!nodes[x.0].op.is_elementwise() || readers[x.0] > 1)
        };
        if is_stored(left) && is_stored(right) {
            self.inputs[id] = vec![left, right];
            self.sums_of_products[id] = true;
        }
    }

    fn take_product(&mut self, nodes: &[Node], id: usize) {
        let Op::MatMul {
            transpose_a,
            transpose_b,
        } = nodes[id].op
        else {
            return;
        };
        let operand = |position: usize, transposed: bool| {
            let input = nodes[id].inputs[position];
            let node = &nodes[input.0];
            let through = match &node.op {
                Op::View(view) if !view.is_contiguous() => {
                    matrices(view, transposed).map(|matrices| (node.inputs[0], matrices))
                }
                _ => None,
            };
            through.or_else(|| Some((input, matrices(&View::whole(&node.shape), transposed)?)))
        };
        let result = matrices(&View::whole(&nodes[id].shape), false);
        let (Some((a, a_matrices)), Some((b, b_matrices)), Some(c)) =
            (operand(0, transpose_a), operand(1, transpose_b), result)
        else {
            return;
        };
        let extents = nodes[id].shape.extents();
        let rank = extents.len();
        let a_extents = nodes[nodes[id].inputs[0].0].shape.extents();
        let mut counts = [1; STACK_MAX];
        counts[STACK_MAX - (rank - 2)..].copy_from_slice(&extents[..rank - 2]);
        self.products[id] = Some(Stacked {
            product: Product {
                m: extents[rank - 2],
                n: extents[rank - 1],
                k: a_extents[rank - 2 + usize::from(!transpose_a)],
                transpose_a: a_matrices.transposed,
                transpose_b: b_matrices.transposed,
            },
            counts,
            a: a_matrices,
            b: b_matrices,
            c,
        });
        self.inputs[id] = vec![a, b];
    }

    /// A permutation of a product's result that leaves rows in one piece is written by the product itself.
    fn take_permutation(&mut self, id: usize, source: usize, view: &View) {
        let Some(product) = &self.products[source] else {
            return;
        };
        let count =
            product.counts.iter().product::<usize>() * product.product.m * product.product.n;
        let Some(inverse) = view.inverse(count) else {
            return;
        };
        // The inverse says where each of the product's numbers goes; its extents are those of the product but for ones.
        let rank = product.counts.iter().filter(|&&count| count != 1).count();
        let matrix = [product.product.m, product.product.n];
        let expected: Vec<usize> = product
            .counts
            .iter()
            .chain(&matrix)
            .copied()
            .filter(|&extent| extent != 1)
            .collect();
        if matrix.contains(&1) || inverse.extents != expected || inverse.strides[rank + 1] != 1 {
            return;
        }
        let (mut strides, mut next) = ([0; STACK_MAX], 0);
        for (stride, &count) in strides.iter_mut().zip(&product.counts) {
            if count != 1 {
                *stride = inverse.strides[next].unsigned_abs();
                next += 1;
            }
        }
        if inverse.strides.iter().any(|&stride| stride < 0) {
            return;
        }
        let leading = inverse.strides[rank].unsigned_abs();
        if leading < product.product.n {
            return;
        }
        self.products[id] = Some(Stacked {
            c: Matrices {
                offset: inverse.offset,
                strides,
                leading,
                transposed: false,
            },
            ..product.clone()
        });
        self.inputs[id] = self.inputs[source].clone();
    }
}

/// A view as matrices that a product can read: one of its last two axes has stride 1, the other is the leading dimension.
/// `transposed` says whether the product wants them turned.
fn matrices(view: &View, transposed: bool) -> Option<Matrices> {
    let rank = view.extents.len();
    if rank < 2 || rank - 2 > STACK_MAX || view.strides.iter().any(|&stride| stride < 0) {
        return None;
    }
    let (rows, columns) = (view.extents[rank - 2], view.extents[rank - 1]);
    let stride = |axis: usize| view.strides[axis].unsigned_abs();
    let (row_stride, column_stride) = (stride(rank - 2), stride(rank - 1));
    let (leading, turned) =
        if (column_stride == 1 || columns == 1) && (row_stride >= columns || rows == 1) {
            (row_stride.max(columns), false)
        } else if (row_stride == 1 || rows == 1) && (column_stride >= rows || columns == 1) {
            (column_stride.max(rows), true)
        } else {
            return None;
        };
    let mut strides = [0; STACK_MAX];
    for axis in 0..rank - 2 {
        strides[STACK_MAX - (rank - 2) + axis] = if view.extents[axis] == 1 {
            0
        } else {
            stride(axis)
        };
    }
    Some(Matrices {
        offset: view.offset,
        strides,
        leading: leading.max(1),
        transposed: transposed ^ turned,
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Bindings, Destination, Graph, Op, Plan, gradients};
    use crate::support::random::RandomKey;
    use crate::tensor::Shape;

    /// Rows of three numbers.
    const ROWS: usize = 7;

    #[test]
    fn sums_over_rows_of_products_and_squares_store_no_terms() {
        let mut graph = Graph::new();
        let whole = Shape::new(&[ROWS, 3]);
        let x = graph.add(Op::Parameter(0, whole.clone()), &[]).unwrap();
        let y = graph.add(Op::Parameter(ROWS * 3, whole), &[]).unwrap();
        let row = Shape::new(&[3]);
        let product = graph.times(x, y).unwrap();
        let square = graph.times(x, x).unwrap();
        let sums = [product, square].map(|terms| graph.sum_to(terms, &row).unwrap());
        let numbers: Vec<f32> = (0..ROWS * 6).map(|at| (at % 11) as f32 - 4.0).collect();
        let plan = run(&graph, &sums, &numbers);
        let text = plan.describe();
        assert!(text.contains("\n2 kernels, 0 fused groups"), "{text}");
        for column in 0..3 {
            let of = |at: usize, row: usize| numbers[at * ROWS * 3 + row * 3 + column];
            let products: f32 = (0..ROWS).map(|row| of(0, row) * of(1, row)).sum();
            let squares: f32 = (0..ROWS).map(|row| of(0, row) * of(0, row)).sum();
            assert_eq!(
                (plan.kept(0)[column], plan.kept(1)[column]),
                (products, squares)
            );
        }
    }

    #[test]
    fn the_gradient_of_a_centred_and_scaled_batch_sums_its_cotangent_once() {
        let mut graph = Graph::new();
        let (whole, row) = (Shape::new(&[ROWS, 3]), Shape::new(&[3]));
        let x = graph.add(Op::Parameter(0, whole.clone()), &[]).unwrap();
        let seed = graph.add(Op::Parameter(ROWS * 3, whole), &[]).unwrap();
        let scale = graph.add(Op::Statistic(0, row.clone()), &[]).unwrap();
        let sum = graph.sum_to(x, &row).unwrap();
        let mean = graph.scaled(sum, 1.0 / ROWS as f32).unwrap();
        let centered = graph.minus(x, mean).unwrap();
        let y = graph.times(centered, scale).unwrap();
        let dx = gradients(&mut graph, &[(y, seed)], &[x]).unwrap()[0].unwrap();
        let nothing = graph.sum_to(centered, &row).unwrap();
        let numbers: Vec<f32> = (0..ROWS * 6).map(|at| (at % 11) as f32 - 4.0).collect();
        let plan = run(&graph, &[dx, nothing], &numbers);
        assert_eq!(plan.describe().matches("sum over rows").count(), 1);
        assert_eq!(plan.kept(1), [0.0; 3]);
        // dx = scale (seed - mean of the seed)
        for at in 0..ROWS * 3 {
            let seeds = &numbers[ROWS * 3..];
            let mean: f32 = (0..ROWS).map(|row| seeds[row * 3 + at % 3]).sum::<f32>() / ROWS as f32;
            let expected = [0.5, 2.0, -1.0][at % 3] * (seeds[at] - mean);
            assert!((plan.kept(0)[at] - expected).abs() < 1e-5);
        }
    }

    fn run(graph: &Graph, kept: &[super::NodeId], numbers: &[f32]) -> Plan {
        let outputs: Vec<_> = kept.iter().map(|&node| (node, Destination::Keep)).collect();
        let mut plan = Plan::new(graph, &outputs).unwrap();
        plan.run(&mut Bindings {
            inputs: &[],
            more_inputs: &[],
            parameters: numbers,
            statistics: &[0.5, 2.0, -1.0],
            gradient: &mut [],
            statistics_out: &mut [],
            key: RandomKey::of(1, 0),
        })
        .unwrap();
        plan
    }
}
