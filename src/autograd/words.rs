//! The words in which layers, losses and gradient rules are written: common phrases over primitive operations.

use crate::tensor::Shape;
use crate::tensor::kernels::elementwise::{Binary, Unary};
use crate::tensor::kernels::view::View;
use crate::tensor::shape::Spread;

use super::error::GraphError;
use super::graph::{Graph, NodeId};
use super::op::{Number, Op, Reduction};

type Result<T = NodeId> = std::result::Result<T, GraphError>;

impl Graph {
    // -- number by number ------------------------------------------------------------------

    pub fn constant(&mut self, value: f32) -> Result {
        self.add(Op::Constant(Number(value)), &[])
    }

    /// Numbers that belong to the program, in row-major order.
    pub fn literal(&mut self, values: &[f32], extents: &[usize]) -> Result {
        let numbers = values.iter().map(|&value| Number(value)).collect();
        self.add(Op::Literal(numbers, Shape::new(extents)), &[])
    }

    pub fn unary(&mut self, function: Unary, x: NodeId) -> Result {
        self.add(Op::Unary(function), &[x])
    }

    /// A function of two operands that go together by NumPy's rule.
    pub fn binary(&mut self, function: Binary, a: NodeId, b: NodeId) -> Result {
        let (a, b) = (self.unspread(a, b), self.unspread(b, a));
        let Some(whole) = self.shape(a).broadcast(self.shape(b)) else {
            // The shape rule words the refusal.
            return self.add(Op::Binary(function), &[a, b]);
        };
        let (a, b) = (self.spreadable(a, &whole)?, self.spreadable(b, &whole)?);
        self.add(Op::Binary(function), &[a, b])
    }

    /// `x`, repeated in memory where a chain could not spread it over `whole` by itself.
    fn spreadable(&mut self, x: NodeId, whole: &Shape) -> Result {
        if self.shape(x).spread_over(whole).is_some() {
            Ok(x)
        } else {
            self.broadcast_to(x, whole)
        }
    }

    /// `x` before it was broadcast, where spreading it over `other` comes to the same.
    fn unspread(&self, x: NodeId, other: NodeId) -> NodeId {
        match self.op(x) {
            Op::BroadcastTo(shape)
                if shape == self.shape(other) && !matches!(self.op(other), Op::BroadcastTo(_)) =>
            {
                self.inputs(x)[0]
            }
            _ => x,
        }
    }

    pub fn plus(&mut self, a: NodeId, b: NodeId) -> Result {
        self.binary(Binary::Add, a, b)
    }

    pub fn minus(&mut self, a: NodeId, b: NodeId) -> Result {
        self.binary(Binary::Subtract, a, b)
    }

    pub fn times(&mut self, a: NodeId, b: NodeId) -> Result {
        self.binary(Binary::Multiply, a, b)
    }

    pub fn over(&mut self, a: NodeId, b: NodeId) -> Result {
        self.binary(Binary::Divide, a, b)
    }

    pub fn scaled(&mut self, x: NodeId, factor: f32) -> Result {
        let factor = self.constant(factor)?;
        self.times(x, factor)
    }

    pub fn shifted(&mut self, x: NodeId, addend: f32) -> Result {
        let addend = self.constant(addend)?;
        self.plus(x, addend)
    }

    /// 1 - x.
    pub fn complement(&mut self, x: NodeId) -> Result {
        let one = self.constant(1.0)?;
        self.minus(one, x)
    }

    /// `a` where the mask is 1 and `b` where it is 0; a NaN on the side not taken does no harm.
    pub fn select(&mut self, mask: NodeId, a: NodeId, b: NodeId) -> Result {
        let other = self.complement(mask)?;
        let (a, b) = (
            self.binary(Binary::Keep, mask, a)?,
            self.binary(Binary::Keep, other, b)?,
        );
        self.plus(a, b)
    }

    // -- sums and greatest numbers ---------------------------------------------------------

    /// Sum to a shape that broadcasts to that of `x`: the adjoint of broadcasting.
    pub fn sum_to(&mut self, x: NodeId, shape: &Shape) -> Result {
        if self.shape(x) == shape {
            return Ok(x);
        }
        if let Some(sum) = self.sum_of_rows(x, shape)? {
            return Ok(sum);
        }
        if shape.spread_over(self.shape(x)).is_some() {
            return self.add(Op::SumTo(shape.clone()), &[x]);
        }
        // Runs of neighbouring axes that were spread, from the innermost, so that axis numbers stay true.
        let whole = self.shape(x).clone();
        let missing = whole.rank().saturating_sub(shape.rank());
        let spread = |axis: usize| {
            axis < missing || shape.extents()[axis - missing] != whole.extents()[axis]
        };
        let mut sum = x;
        let mut end = whole.rank();
        while end > 0 {
            let mut start = end;
            while start > 0 && spread(start - 1) {
                start -= 1;
            }
            if start < end {
                sum = self.reduce(Reduction::Sum, sum, start, end - start)?;
            }
            end = start.max(1) - 1;
        }
        self.reshape(sum, shape.extents())
    }

    /// A sum over rows by way of sums that are there already or that cost nothing over all rows: a sign or a factor of each
    /// column goes outside, and numbers less their mean sum to nothing. The gradients of a normalized batch are full of such.
    fn sum_of_rows(&mut self, x: NodeId, shape: &Shape) -> Result<Option<NodeId>> {
        if shape.spread_over(self.shape(x)) != Some(Spread::Row) {
            return Ok(None);
        }
        let operand = |position: usize| self.inputs(x)[position];
        match self.op(x) {
            Op::Unary(Unary::Negate) => {
                let sum = self.sum_to(operand(0), shape)?;
                self.unary(Unary::Negate, sum).map(Some)
            }
            Op::Binary(Binary::Multiply) => {
                let (a, b) = (operand(0), operand(1));
                let whole = self.shape(x);
                let (numbers, factor) = if self.shape(a) == whole {
                    (a, b)
                } else {
                    (b, a)
                };
                if self.shape(numbers) != whole {
                    return Ok(None);
                }
                if self.shape(factor) == shape {
                    let sum = self.sum_to(numbers, shape)?;
                    return self.times(sum, factor).map(Some);
                }
                if self.shape(factor).len() == 1
                    && let Some(sum) = self.sum_of_rows(numbers, shape)?
                {
                    return self.times(sum, factor).map(Some);
                }
                Ok(None)
            }
            Op::Binary(Binary::Add) => {
                let (a, b) = (operand(0), operand(1));
                if self.is_scaled_by_column(a, shape) && self.is_scaled_by_column(b, shape) {
                    let (a, b) = (self.sum_to(a, shape)?, self.sum_to(b, shape)?);
                    return self.plus(a, b).map(Some);
                }
                Ok(None)
            }
            Op::Binary(Binary::Subtract) if self.is_mean(operand(1), operand(0), shape) => {
                let zero = self.constant(0.0)?;
                self.broadcast_to(zero, shape).map(Some)
            }
            _ => Ok(None),
        }
    }

    fn is_scaled_by_column(&self, x: NodeId, shape: &Shape) -> bool {
        *self.op(x) == Op::Binary(Binary::Multiply)
            && self
                .inputs(x)
                .iter()
                .any(|&input| self.shape(input) == shape)
    }

    /// Whether `mean` was recorded as the mean of the rows of `x`.
    fn is_mean(&self, mean: NodeId, x: NodeId, shape: &Shape) -> bool {
        let Op::Binary(Binary::Multiply) = self.op(mean) else {
            return false;
        };
        let (sum, share) = (self.inputs(mean)[0], self.inputs(mean)[1]);
        let count = self.shape(x).len() / shape.len().max(1);
        *self.op(sum) == Op::SumTo(shape.clone())
            && self.inputs(sum)[0] == x
            && *self.op(share) == Op::Constant(Number(1.0 / count as f32))
    }

    /// Sum over the innermost extent, kept as extent 1.
    pub fn sum_columns(&mut self, x: NodeId) -> Result {
        let shape = self.shape(x).column();
        self.sum_to(x, &shape)
    }

    /// Sum or greatest over `count` neighbouring axes from `axis`, which go away.
    pub fn reduce(&mut self, reduction: Reduction, x: NodeId, axis: usize, count: usize) -> Result {
        if count == 0 {
            return Ok(x);
        }
        self.add(
            Op::Reduce {
                reduction,
                axis,
                count,
            },
            &[x],
        )
    }

    /// Mean over `count` neighbouring axes from `axis`, which go away.
    pub fn mean(&mut self, x: NodeId, axis: usize, count: usize) -> Result {
        let numbers: usize = self.shape(x).extents()[axis..axis + count].iter().product();
        let sum = self.reduce(Reduction::Sum, x, axis, count)?;
        self.scaled(sum, 1.0 / numbers as f32)
    }

    /// `x` with `count` extents of 1 put in before `axis`: what a reduction took away.
    pub fn with_ones(&mut self, x: NodeId, axis: usize, count: usize) -> Result {
        let mut extents = self.shape(x).extents().to_vec();
        extents.splice(axis..axis, std::iter::repeat_n(1, count));
        self.reshape(x, &extents)
    }

    // -- rearrangements --------------------------------------------------------------------

    pub fn broadcast_to(&mut self, x: NodeId, shape: &Shape) -> Result {
        if self.shape(x) == shape {
            return Ok(x);
        }
        if self.shape(x).spread_over(shape).is_some() {
            return self.add(Op::BroadcastTo(shape.clone()), &[x]);
        }
        match View::whole(self.shape(x)).broadcast(shape) {
            Some(view) => self.add(Op::View(view), &[x]),
            // The shape rule words the refusal.
            None => self.add(Op::BroadcastTo(shape.clone()), &[x]),
        }
    }

    pub fn reshape(&mut self, x: NodeId, extents: &[usize]) -> Result {
        self.add(Op::Reshape(Shape::new(extents)), &[x])
    }

    /// `x` in the shape of another node of as many numbers.
    pub fn reshape_as(&mut self, x: NodeId, other: NodeId) -> Result {
        let shape = self.shape(other).clone();
        self.add(Op::Reshape(shape), &[x])
    }

    /// `len` numbers of `x` from `start`, in the order they are stored. Sums are gone through, so that a stretch of zeros
    /// is found to be one zero.
    pub fn stretch(&mut self, x: NodeId, start: usize, len: usize) -> Result {
        if *self.op(x) == Op::Binary(Binary::Add) {
            let [a, b] = [self.inputs(x)[0], self.inputs(x)[1]];
            if self.shape(a) == self.shape(b) {
                let (a, b) = (self.stretch(a, start, len)?, self.stretch(b, start, len)?);
                return self.plus(a, b);
            }
        }
        if let Op::ViewAdd(placed, _) = self.op(x)
            && placed.is_contiguous()
            && (placed.offset >= start + len || placed.offset + placed.len() <= start)
        {
            return self.constant(0.0);
        }
        let flat = self.reshape(x, &[self.shape(x).len()])?;
        let view = View {
            extents: vec![len],
            strides: vec![1],
            offset: start,
        };
        self.add(Op::View(view), &[flat])
    }

    /// Axes in another order: axis `axes[i]` of `x` becomes axis i.
    pub fn permute(&mut self, x: NodeId, axes: &[usize]) -> Result {
        let view = View::whole(self.shape(x)).permuted(axes);
        self.add(Op::View(view), &[x])
    }

    /// `count` indices of an axis from `start`, `step` apart; a negative step goes backwards.
    pub fn slice(
        &mut self,
        x: NodeId,
        axis: usize,
        start: usize,
        count: usize,
        step: isize,
    ) -> Result {
        let view = View::whole(self.shape(x)).sliced(axis, start, count, step);
        self.add(Op::View(view), &[x])
    }

    /// One index of an axis, which goes away.
    pub fn index(&mut self, x: NodeId, axis: usize, index: usize) -> Result {
        let slice = self.slice(x, axis, index, 1, 1)?;
        let mut extents = self.shape(slice).extents().to_vec();
        extents.remove(axis);
        self.reshape(slice, &extents)
    }

    /// An axis from its end.
    pub fn reverse(&mut self, x: NodeId, axis: usize) -> Result {
        let extent = self.shape(x).extents()[axis];
        self.slice(x, axis, extent.saturating_sub(1), extent, -1)
    }

    /// Zeros before and after the numbers of an axis.
    pub fn pad(&mut self, x: NodeId, axis: usize, before: usize, after: usize) -> Result {
        if before == 0 && after == 0 {
            return Ok(x);
        }
        let mut extents = self.shape(x).extents().to_vec();
        let count = extents[axis];
        extents[axis] = count.saturating_add(before).saturating_add(after);
        let shape = Shape::new(&extents);
        let view = View::whole(&shape).sliced(axis, before, count, 1);
        self.add(Op::ViewAdd(view, shape), &[x])
    }

    /// A new axis before `axis` that repeats everything behind it.
    pub fn repeat(&mut self, x: NodeId, axis: usize, count: usize) -> Result {
        let view = View::whole(self.shape(x)).repeated(axis, count);
        self.add(Op::View(view), &[x])
    }

    /// Operands side by side along an axis that they have.
    pub fn concatenate(&mut self, parts: &[NodeId], axis: usize) -> Result {
        match parts {
            &[part] => Ok(part),
            _ => self.add(Op::Concatenate { axis }, parts),
        }
    }

    /// Operands of equal shape along a new axis.
    pub fn stack(&mut self, parts: &[NodeId], axis: usize) -> Result {
        let parts = parts
            .iter()
            .map(|&part| self.with_ones(part, axis, 1))
            .collect::<Result<Vec<_>>>()?;
        self.concatenate(&parts, axis)
    }

    // -- products --------------------------------------------------------------------------

    pub fn matmul(&mut self, a: NodeId, b: NodeId, transpose_a: bool, transpose_b: bool) -> Result {
        self.add(
            Op::MatMul {
                transpose_a,
                transpose_b,
            },
            &[a, b],
        )
    }

    /// x (..., K) times a matrix (K, N): leading extents are rows to the product.
    pub fn dense(&mut self, x: NodeId, kernel: NodeId) -> Result {
        let mut extents = self.shape(x).extents().to_vec();
        let flat = [self.shape(x).outer(), self.shape(x).last()];
        let rows = self.reshape(x, &flat)?;
        let y = self.matmul(rows, kernel, false, false)?;
        if let Some(last) = extents.last_mut() {
            *last = self.shape(y).last();
        }
        self.reshape(y, &extents)
    }

    /// Softmax along any axis.
    pub fn softmax(&mut self, x: NodeId, axis: usize) -> Result {
        self.along_innermost(x, axis, |graph, x| graph.add(Op::Softmax, &[x]))
    }

    /// A function of the innermost extent, along another axis.
    pub fn along_innermost(
        &mut self,
        x: NodeId,
        axis: usize,
        function: impl FnOnce(&mut Graph, NodeId) -> Result,
    ) -> Result {
        let last = self.shape(x).rank().saturating_sub(1);
        if axis >= last {
            return function(self, x);
        }
        let mut axes: Vec<usize> = (0..=last).collect();
        axes.swap(axis, last);
        let swapped = self.permute(x, &axes)?;
        let y = function(self, swapped)?;
        self.permute(y, &axes)
    }
}
