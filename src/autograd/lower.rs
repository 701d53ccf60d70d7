//! The third table: the kernel that runs an operation on given shapes.

use crate::tensor::blas::Product;
use crate::tensor::kernels::elementwise::Chain;
use crate::tensor::kernels::view::View;
use crate::tensor::shape::Spread;

use super::graph::Node;
use super::op::{Op, Reduction};

/// A kernel with everything fixed but the numbers.
#[derive(Debug)]
pub(super) enum Kernel {
    Chain(Chain),
    /// As many products side by side, each operand with a matrix for each.
    Multiply {
        count: usize,
        product: Product,
    },
    SumMiddle {
        extent: usize,
        inner: usize,
    },
    MaxMiddle {
        extent: usize,
        inner: usize,
    },
    CumulativeSum {
        extent: usize,
        inner: usize,
        reverse: bool,
    },
    View(View),
    ViewAdd(View),
    ToFloat,
    NormalNoise {
        stream: u32,
    },
    SumRows,
    SumColumns {
        inner: usize,
    },
    SumAll,
    Softmax {
        inner: usize,
    },
    LogSoftmax {
        inner: usize,
    },
    OneHot {
        classes: usize,
    },
    Gather {
        width: usize,
        rows: usize,
    },
    ScatterAdd {
        width: usize,
        rows: usize,
    },
    Concatenate {
        widths: Vec<usize>,
    },
    DropoutMask {
        stream: u32,
        rate: f32,
    },
    /// Copies its operand, where a value must also stand in a second place.
    Copy,
}

/// The kernel of a node that is no leaf, no view and no part of a chain; `None` for those.
pub(super) fn kernel_of(node: &Node, nodes: &[Node]) -> Option<Kernel> {
    let shape = |input: usize| &nodes[node.inputs[input].0].shape;
    match &node.op {
        Op::MatMul {
            transpose_a,
            transpose_b,
        } => {
            let rank = node.shape.rank();
            let (m, n) = (node.shape.extents()[rank - 2], node.shape.last());
            let k = shape(0).extents()[rank - 2 + usize::from(!transpose_a)];
            Some(Kernel::Multiply {
                count: node.shape.extents()[..rank - 2].iter().product(),
                product: Product {
                    m,
                    n,
                    k,
                    transpose_a: *transpose_a,
                    transpose_b: *transpose_b,
                },
            })
        }
        Op::Reduce {
            reduction,
            axis,
            count,
        } => {
            let extents = shape(0).extents();
            let extent = extents[*axis..axis + count].iter().product();
            let inner = extents[axis + count..].iter().product();
            Some(match reduction {
                Reduction::Sum => Kernel::SumMiddle { extent, inner },
                Reduction::Max => Kernel::MaxMiddle { extent, inner },
            })
        }
        Op::CumulativeSum { axis, reverse } => Some(Kernel::CumulativeSum {
            extent: node.shape.extents()[*axis],
            inner: node.shape.extents()[axis + 1..].iter().product(),
            reverse: *reverse,
        }),
        Op::View(view) if view.is_contiguous() => None, // a stretch of its input
        Op::View(view) => Some(Kernel::View(view.clone())),
        Op::ViewAdd(view, _) => Some(Kernel::ViewAdd(view.clone())),
        Op::ToFloat => Some(Kernel::ToFloat),
        Op::NormalNoise { stream, .. } => Some(Kernel::NormalNoise { stream: *stream }),
        Op::SumTo(to) => match to.spread_over(shape(0))? {
            Spread::Full => Some(Kernel::Copy),
            Spread::Row => Some(Kernel::SumRows),
            Spread::Column => Some(Kernel::SumColumns {
                inner: shape(0).last(),
            }),
            Spread::Scalar => Some(Kernel::SumAll),
        },
        Op::Softmax => Some(Kernel::Softmax {
            inner: node.shape.last(),
        }),
        Op::LogSoftmax => Some(Kernel::LogSoftmax {
            inner: node.shape.last(),
        }),
        Op::OneHot { classes } => Some(Kernel::OneHot { classes: *classes }),
        Op::Gather => Some(Kernel::Gather {
            width: shape(0).last(),
            rows: shape(0).extents()[0],
        }),
        Op::ScatterAdd { rows } => Some(Kernel::ScatterAdd {
            width: node.shape.last(),
            rows: *rows,
        }),
        Op::Concatenate { axis } => Some(Kernel::Concatenate {
            widths: node
                .inputs
                .iter()
                .map(|input| nodes[input.0].shape.extents()[*axis..].iter().product())
                .collect(),
        }),
        Op::DropoutMask { stream, rate, .. } => Some(Kernel::DropoutMask {
            stream: *stream,
            rate: rate.0,
        }),
        Op::Unary(_) | Op::Binary(_) | Op::BroadcastTo(_) => None, // chains: `fuse.rs`
        Op::Reshape(_) => None,                                    // a view of its input
        Op::Input(..)
        | Op::Indices(..)
        | Op::Parameter(..)
        | Op::Statistic(..)
        | Op::Constant(_)
        | Op::Literal(..) => None,
    }
}

impl Kernel {
    /// Additions and multiplications of matrix products; the rest is counted by memory, not arithmetic.
    pub(super) fn flops(&self) -> u64 {
        match self {
            Kernel::Multiply { count, product } => *count as u64 * product.flops(),
            _ => 0,
        }
    }

    /// Numbers of scratch that a run of the kernel needs beside its operands.
    pub(super) fn workspace_len(&self) -> usize {
        0
    }

    pub(super) fn describe(&self) -> String {
        match self {
            Kernel::Chain(chain) => format!("chain {}", super::fuse::describe(chain)),
            Kernel::Multiply {
                count,
                product:
                    Product {
                        m,
                        n,
                        k,
                        transpose_a,
                        transpose_b,
                    },
            } => {
                let mark = |transposed: bool| if transposed { "'" } else { "" };
                let times = if *count == 1 {
                    String::new()
                } else {
                    format!("{count} x ")
                };
                format!(
                    "{times}matmul ({m}, {k}){} ({k}, {n}){}",
                    mark(*transpose_a),
                    mark(*transpose_b)
                )
            }
            Kernel::SumRows => "sum over rows".into(),
            Kernel::SumColumns { inner } => format!("sum over {inner} columns"),
            Kernel::SumAll => "sum".into(),
            Kernel::Softmax { inner } => format!("softmax over {inner}"),
            Kernel::LogSoftmax { inner } => format!("log softmax over {inner}"),
            Kernel::OneHot { classes } => format!("one-hot of {classes}"),
            Kernel::Gather { width, rows } => format!("gather rows of ({rows}, {width})"),
            Kernel::ScatterAdd { width, rows } => format!("sum into rows of ({rows}, {width})"),
            Kernel::Concatenate { widths } => format!("concatenate {widths:?}"),
            Kernel::SumMiddle { extent, .. } => format!("sum over {extent}"),
            Kernel::MaxMiddle { extent, .. } => format!("greatest of {extent}"),
            Kernel::CumulativeSum { extent, .. } => format!("running sum over {extent}"),
            Kernel::View(view) => format!("view {:?} {:?}", view.extents, view.strides),
            Kernel::ViewAdd(view) => format!("add into view {:?} {:?}", view.extents, view.strides),
            Kernel::ToFloat => "indices to numbers".into(),
            Kernel::NormalNoise { stream } => format!("normal noise {stream}"),
            Kernel::DropoutMask { stream, rate } => format!("dropout mask {stream} at {rate}"),
            Kernel::Copy => "copy".into(),
        }
    }
}
