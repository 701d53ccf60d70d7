//! The closed set of operations. To add one, add a variant; the compiler then asks for its three lines.

use std::hash::{Hash, Hasher};

use std::sync::Arc;

use crate::tensor::Shape;
use crate::tensor::kernels::convolution::Convolution;
use crate::tensor::kernels::elementwise::{Binary, Unary};
use crate::tensor::kernels::pool::Pool;
use crate::tensor::kernels::recurrent::Recurrence;
use crate::tensor::kernels::view::View;

/// A float32 constant inside an operation, equal when its bits are.
#[derive(Debug, Clone, Copy)]
pub struct Number(pub f32);

impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}

impl Eq for Number {}

impl Hash for Number {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.to_bits().hash(state);
    }
}

/// What an axis is reduced to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reduction {
    Sum,
    Max,
}

/// What a convolution computes, from what: each of output, input and kernel is bilinear in the other two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Face {
    /// From input and kernel.
    Output,
    /// From output and kernel: the gradient by the input, and the transposed convolution.
    Input,
    /// From input and output: the gradient by the kernel.
    Kernel,
}

/// What is done with the windows of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pooling {
    /// The second operand where the first is greatest.
    Pick,
    /// The adjoint of `Pick` in its second operand.
    Place,
    Average,
    /// The adjoint of `Average`.
    Spread,
}

/// A primitive operation. Leaves name what they stand for; the rest take nodes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Op {
    // -- leaves: bound when the plan runs ------------------------------------------------
    /// A float32 input by number.
    Input(usize, Shape),
    /// An int32 input by number; only `Gather`, `ScatterAdd` and `ToFloat` read it.
    Indices(usize, Shape),
    /// Part of the flat parameter vector, from this position.
    Parameter(usize, Shape),
    /// Part of the flat statistics vector, from this position.
    Statistic(usize, Shape),
    /// One number for all.
    Constant(Number),
    /// Numbers that are part of the program, in row-major order.
    Literal(Arc<[Number]>, Shape),
    /// A fresh dropout mask from the stream of this number: 0 or 1 / (1 - rate).
    DropoutMask {
        stream: u32,
        rate: Number,
        shape: Shape,
    },

    /// Fresh standard normal numbers from the stream of this number.
    NormalNoise {
        stream: u32,
        shape: Shape,
    },

    // -- elementwise: fused into chains --------------------------------------------------
    Unary(Unary),
    /// Operands are spread as `Shape::spread_over` says.
    Binary(Binary),
    BroadcastTo(Shape),

    // -- sums and greatest numbers -------------------------------------------------------
    /// Sum to a shape that spreads over the input's: over rows, over the innermost extent, or over all.
    SumTo(Shape),
    /// Over `count` neighbouring axes from `axis`, which go away.
    Reduce {
        reduction: Reduction,
        axis: usize,
        count: usize,
    },
    /// Running sums along an axis, from its end where `reverse`.
    CumulativeSum {
        axis: usize,
        reverse: bool,
    },
    /// Over the innermost extent.
    Softmax,
    LogSoftmax,

    // -- products ------------------------------------------------------------------------
    /// (..., M, K) times (..., K, N), each possibly stored transposed; leading extents are equal.
    MatMul {
        transpose_a: bool,
        transpose_b: bool,
    },

    /// One of the three faces of a convolution.
    Convolve(Convolution, Face),

    // -- windows, normalisation and recurrence: kernels of their own ----------------------
    Pool(Pool, Pooling),
    /// The gradient of `Softmax` from its result and the cotangent.
    SoftmaxGradient,
    LogSoftmaxGradient,
    /// To mean 0 and variance 1 over the innermost extent.
    Normalize {
        epsilon: Number,
    },
    /// From the input and the cotangent.
    NormalizeGradient {
        epsilon: Number,
    },
    /// To a mean square of 1 over the innermost extent.
    RmsNormalize {
        epsilon: Number,
    },
    RmsNormalizeGradient {
        epsilon: Number,
    },
    /// All steps at once: x W + b, recurrent kernel, first h and c, mask if any; h, c and gates as one stretch.
    Lstm(Recurrence),
    /// From the result of `Lstm`, the recurrent kernel and the cotangents of h and c; then what `Lstm` was given. Gives the
    /// cotangents of x W + b and of the first h and c as one stretch.
    LstmGradient(Recurrence),
    /// All steps at once: x W + b, recurrent kernel and bias, first h, mask if any; h, gates and inner products as one
    /// stretch.
    Gru(Recurrence),
    /// As `LstmGradient`; gives the cotangents of x W + b, of h R + b and of the first h.
    GruGradient(Recurrence),

    /// Losses (rows, 1) of log probabilities (rows, steps, classes) against labels (rows, places), see `tensor/kernels/ctc.rs`.
    Ctc,
    /// From the operands of `Ctc` and the cotangent; has no derivative itself.
    CtcGradient,

    // -- by index ------------------------------------------------------------------------
    /// Class indices (R, 1) to rows (R, classes).
    OneHot {
        classes: usize,
    },
    /// Table (V, D) and indices of any shape S to S + (D).
    Gather,
    /// Indices of shape S and rows S + (D) to a table (V, D).
    ScatterAdd {
        rows: usize,
    },
    /// Indices as float32 numbers.
    ToFloat,

    // -- rearrangements ------------------------------------------------------------------
    Concatenate {
        axis: usize,
    },
    /// Any affine reading of the input: slices, permutations, repetitions, windows.
    View(View),
    /// The adjoint of a view, into zeros of this shape: padding, and the sum of overlapping windows.
    ViewAdd(View, Shape),
    Reshape(Shape),
}

impl Op {
    /// Whether the operation works number by number and so can join a fused chain.
    pub fn is_elementwise(&self) -> bool {
        matches!(self, Op::Unary(_) | Op::Binary(_) | Op::BroadcastTo(_))
    }
}
