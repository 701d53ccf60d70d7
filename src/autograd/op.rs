//! The closed set of operations. To add one, add a variant; the compiler then asks for its three lines.

use std::hash::{Hash, Hasher};

use crate::tensor::Shape;
use crate::tensor::kernels::elementwise::{Binary, Unary};

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

/// A primitive operation. Leaves name what they stand for; the rest take nodes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Op {
    // -- leaves: bound when the plan runs ------------------------------------------------
    /// A float32 input by number.
    Input(usize, Shape),
    /// An int32 input by number; only `Gather` and `ScatterAdd` read it.
    Indices(usize, Shape),
    /// Part of the flat parameter vector, from this position.
    Parameter(usize, Shape),
    /// Part of the flat statistics vector, from this position.
    Statistic(usize, Shape),
    /// One number for all.
    Constant(Number),
    /// A fresh dropout mask from the stream of this number: 0 or 1 / (1 - rate).
    DropoutMask {
        stream: u32,
        rate: Number,
        shape: Shape,
    },

    // -- elementwise: fused into chains --------------------------------------------------
    Unary(Unary),
    /// Operands are spread as `Shape::spread_over` says.
    Binary(Binary),
    BroadcastTo(Shape),

    // -- the rest ------------------------------------------------------------------------
    /// Sum to a shape that spreads over the input's: over rows, over the innermost extent, or over all.
    SumTo(Shape),
    /// (M, K) times (K, N), each possibly stored transposed.
    MatMul {
        transpose_a: bool,
        transpose_b: bool,
    },
    /// Over the innermost extent.
    Softmax,
    LogSoftmax,
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
    /// Along the innermost extent.
    Concatenate,
    /// Columns `start..start + width` of the innermost extent.
    Slice {
        start: usize,
        width: usize,
    },
    Reshape(Shape),
}

impl Op {
    /// Whether the operation works number by number and so can join a fused chain.
    pub fn is_elementwise(&self) -> bool {
        matches!(self, Op::Unary(_) | Op::Binary(_) | Op::BroadcastTo(_))
    }
}
