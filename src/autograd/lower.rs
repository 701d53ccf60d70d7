//! The third table: the kernel that runs an operation on given shapes.

use crate::tensor::Shape;
use crate::tensor::blas::{Product, turning_len};
use crate::tensor::kernels::convolution::Convolution;
use crate::tensor::kernels::ctc::Alignment;
use crate::tensor::kernels::elementwise::Chain;
use crate::tensor::kernels::pool::Pool;
use crate::tensor::kernels::recurrent::{Recurrence, gru_workspace_len, lstm_workspace_len};
use crate::tensor::kernels::view::View;
use crate::tensor::kernels::window::Window;
use crate::tensor::shape::Spread;

use super::absorb::Stacked;
use super::graph::{Node, NodeId};
use super::op::{Face, Op, Pooling, Reduction};

/// A kernel with everything fixed but the numbers.
#[derive(Debug)]
pub(super) enum Kernel {
    Chain(Chain),
    Multiply(Box<Stacked>),
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
    Convolve(Convolution, Face),
    Pool(Pool, Pooling),
    SoftmaxGradient {
        inner: usize,
    },
    LogSoftmaxGradient {
        inner: usize,
    },
    Normalize {
        inner: usize,
        epsilon: f32,
    },
    NormalizeGradient {
        inner: usize,
        epsilon: f32,
    },
    RmsNormalize {
        inner: usize,
        epsilon: f32,
    },
    RmsNormalizeGradient {
        inner: usize,
        epsilon: f32,
    },
    Lstm(Recurrence),
    LstmGradient(Recurrence),
    Gru(Recurrence),
    GruGradient(Recurrence),
    Ctc(Alignment),
    CtcGradient(Alignment),
    View(View),
    ViewAdd(View),
    ToFloat,
    NormalNoise {
        stream: u32,
    },
    SumRows,
    /// Of products, number by number: `absorb.rs`.
    SumProductRows,
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
        Op::MatMul { .. } => None, // `absorb.rs`
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
        Op::Convolve(c, face) => Some(Kernel::Convolve(*c, *face)),
        Op::Pool(pool, pooling) => Some(Kernel::Pool(*pool, *pooling)),
        Op::SoftmaxGradient => Some(Kernel::SoftmaxGradient {
            inner: node.shape.last(),
        }),
        Op::LogSoftmaxGradient => Some(Kernel::LogSoftmaxGradient {
            inner: node.shape.last(),
        }),
        Op::Normalize { epsilon } => Some(Kernel::Normalize {
            inner: node.shape.last(),
            epsilon: epsilon.0,
        }),
        Op::NormalizeGradient { epsilon } => Some(Kernel::NormalizeGradient {
            inner: node.shape.last(),
            epsilon: epsilon.0,
        }),
        Op::RmsNormalize { epsilon } => Some(Kernel::RmsNormalize {
            inner: node.shape.last(),
            epsilon: epsilon.0,
        }),
        Op::RmsNormalizeGradient { epsilon } => Some(Kernel::RmsNormalizeGradient {
            inner: node.shape.last(),
            epsilon: epsilon.0,
        }),
        Op::Lstm(r) => Some(Kernel::Lstm(*r)),
        Op::LstmGradient(r) => Some(Kernel::LstmGradient(*r)),
        Op::Gru(r) => Some(Kernel::Gru(*r)),
        Op::GruGradient(r) => Some(Kernel::GruGradient(*r)),
        Op::Ctc => Some(Kernel::Ctc(alignment(shape(0), shape(1)))),
        Op::CtcGradient => Some(Kernel::CtcGradient(alignment(shape(0), shape(1)))),
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
            Kernel::Multiply(stacked) => {
                stacked.counts.iter().product::<usize>() as u64 * stacked.product.flops()
            }
            Kernel::Convolve(c, _) => c.flops(),
            Kernel::Lstm(r) | Kernel::LstmGradient(r) => steps(r, 4),
            Kernel::Gru(r) | Kernel::GruGradient(r) => steps(r, 3),
            _ => 0,
        }
    }

    /// Numbers of scratch that a run of the kernel needs beside its operands.
    pub(super) fn workspace_len(&self) -> usize {
        match self {
            Kernel::Multiply(stacked) => turning_len(&stacked.product),
            Kernel::Convolve(c, _) => c.workspace_len(),
            Kernel::Lstm(r) | Kernel::LstmGradient(r) => lstm_workspace_len(r),
            Kernel::Gru(r) | Kernel::GruGradient(r) => gru_workspace_len(r),
            Kernel::Ctc(alignment) => alignment.loss_workspace_len(),
            Kernel::CtcGradient(alignment) => alignment.gradient_workspace_len(),
            _ => 0,
        }
    }

    /// The operands that the kernel reads, of those that its operation names: a recurrent gradient names what the
    /// forward pass was given only for the sake of its own derivative.
    pub(super) fn reads<'a>(&self, inputs: &'a [NodeId]) -> Vec<&'a NodeId> {
        match self {
            // Result, recurrent kernel, cotangents of h and c; x W + b and first states are skipped; the mask.
            Kernel::LstmGradient(_) => inputs[..4].iter().chain(&inputs[7..]).collect(),
            Kernel::GruGradient(_) => inputs[..3].iter().chain(&inputs[6..]).collect(),
            _ => inputs.iter().collect(),
        }
    }

    pub(super) fn describe(&self) -> String {
        match self {
            Kernel::Chain(chain) => format!("chain {}", super::fuse::describe(chain)),
            Kernel::Multiply(stacked) => {
                let Product {
                    m,
                    n,
                    k,
                    transpose_a,
                    transpose_b,
                } = &stacked.product;
                let count: usize = stacked.counts.iter().product();
                let mark = |transposed: bool| if transposed { "'" } else { "" };
                let times = if count == 1 {
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
            Kernel::SumProductRows => "sum of products over rows".into(),
            Kernel::SumColumns { inner } => format!("sum over {inner} columns"),
            Kernel::SumAll => "sum".into(),
            Kernel::Softmax { inner } => format!("softmax over {inner}"),
            Kernel::LogSoftmax { inner } => format!("log softmax over {inner}"),
            Kernel::OneHot { classes } => format!("one-hot of {classes}"),
            Kernel::Gather { width, rows } => format!("gather rows of ({rows}, {width})"),
            Kernel::ScatterAdd { width, rows } => format!("sum into rows of ({rows}, {width})"),
            Kernel::Concatenate { widths } => format!("concatenate {widths:?}"),
            Kernel::Convolve(c, face) => {
                let sizes: Vec<String> = c
                    .windows
                    .iter()
                    .filter(|window| **window != Window::UNUSED)
                    .map(|window| window.size.to_string())
                    .collect();
                let what = match face {
                    Face::Output => "convolution",
                    Face::Input => "convolution's gradient by input",
                    Face::Kernel => "convolution's gradient by kernel",
                };
                format!(
                    "{what} {} of {} to {} channels",
                    sizes.join("x"),
                    c.input_channels,
                    c.output_channels
                )
            }
            Kernel::Pool(_, pooling) => match pooling {
                Pooling::Pick => "max pool".into(),
                Pooling::Place => "max pool's gradient".into(),
                Pooling::Average => "average pool".into(),
                Pooling::Spread => "average pool's gradient".into(),
            },
            Kernel::SoftmaxGradient { inner } => format!("softmax's gradient over {inner}"),
            Kernel::LogSoftmaxGradient { inner } => format!("log softmax's gradient over {inner}"),
            Kernel::Normalize { inner, .. } => format!("normalize {inner}"),
            Kernel::NormalizeGradient { inner, .. } => format!("normalize's gradient over {inner}"),
            Kernel::RmsNormalize { inner, .. } => format!("RMS-normalize {inner}"),
            Kernel::RmsNormalizeGradient { inner, .. } => {
                format!("RMS-normalize's gradient over {inner}")
            }
            Kernel::Lstm(r) => format!("lstm of {} units, {} steps", r.units, r.time),
            Kernel::LstmGradient(r) => {
                format!("lstm's gradient of {} units, {} steps", r.units, r.time)
            }
            Kernel::Gru(r) => format!("gru of {} units, {} steps", r.units, r.time),
            Kernel::GruGradient(r) => {
                format!("gru's gradient of {} units, {} steps", r.units, r.time)
            }
            Kernel::Ctc(Alignment { steps, classes, .. }) => {
                format!("ctc of {steps} steps, {classes} classes")
            }
            Kernel::CtcGradient(Alignment { steps, classes, .. }) => {
                format!("ctc's gradient of {steps} steps, {classes} classes")
            }
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

/// Log probabilities (rows, steps, classes) and labels (rows, places).
fn alignment(log_p: &Shape, labels: &Shape) -> Alignment {
    Alignment {
        steps: log_p.extents()[1],
        classes: log_p.last(),
        labels: labels.last(),
    }
}

/// Operations of a recurrent product over all steps.
fn steps(r: &Recurrence, gates: u64) -> u64 {
    2 * gates * (r.time * r.rows * r.units * r.units) as u64
}
