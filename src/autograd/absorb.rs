//! Products that read their operands through views, and write their result through a permutation.
//!
//! A matrix product takes matrices that lie in wider ones, so the heads of an attention layer need not be copied
//! apart and together again. This pass says which views no kernel has to run for.

use std::collections::BTreeSet;

use crate::tensor::blas::Product;
use crate::tensor::kernels::view::View;

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
        };
        for (id, node) in nodes.iter().enumerate() {
            if let Op::MatMul { .. } = node.op {
                absorbed.take_product(nodes, id);
            } else if let Op::View(view) = &node.op {
                let source = node.inputs[0].0;
                if readers[source] == 1 && !outputs.contains(&source) {
                    absorbed.take_permutation(id, source, view);
                }
            }
        }
        absorbed
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
