//! Rearranging numbers: every way of reading an array that is affine in the position, and its adjoint.
//!
//! A `View` says for each number of the result where it stands in the source: at `offset + sum(index * stride)`. Slices,
//! permutations, reversed axes, repeated axes (stride 0) and overlapping windows are all views; padding is the
//! adjoint of a slice. Source: the strided arrays of NumPy (Harris et al., Nature 585, 2020).

use std::ops::AddAssign;

use crate::tensor::Shape;

/// Most extents of a view.
pub const RANK_MAX: usize = 8;
/// Side of the square that a transposition is cut into: 16 lines of 64 bytes read and written together.
const BLOCK: usize = 16;

/// Where each number of a result stands in its source.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct View {
    pub extents: Vec<usize>,
    /// Numbers from one index to the next, per extent; 0 repeats, negative reverses.
    pub strides: Vec<isize>,
    pub offset: usize,
}

impl View {
    /// All of an array of this shape, in order.
    pub fn whole(shape: &Shape) -> Self {
        View {
            extents: shape.extents().to_vec(),
            strides: row_major(shape.extents()),
            offset: 0,
        }
    }

    /// The extents in another order: extent `axes[i]` of the source is extent `i` of the result.
    pub fn permuted(&self, axes: &[usize]) -> Self {
        View {
            extents: axes.iter().map(|&axis| self.extents[axis]).collect(),
            strides: axes.iter().map(|&axis| self.strides[axis]).collect(),
            offset: self.offset,
        }
    }

    /// `count` indices of one axis from `start`, `step` apart; a negative step goes backwards.
    pub fn sliced(&self, axis: usize, start: usize, count: usize, step: isize) -> Self {
        let mut view = self.clone();
        view.extents[axis] = count;
        view.strides[axis] = self.strides[axis].saturating_mul(step);
        view.offset = self
            .offset
            .saturating_add_signed(self.strides[axis].saturating_mul(start.cast_signed()));
        view
    }

    /// A new axis before `axis` that repeats everything behind it.
    pub fn repeated(&self, axis: usize, count: usize) -> Self {
        let mut view = self.clone();
        view.extents.insert(axis, count);
        view.strides.insert(axis, 0);
        view
    }

    /// Spread over a larger shape by NumPy's rule, or `None` when it does not fit.
    pub fn broadcast(&self, shape: &Shape) -> Option<Self> {
        let missing = shape.rank().checked_sub(self.extents.len())?;
        let mut strides = vec![0; shape.rank()];
        for (axis, (&extent, &stride)) in self.extents.iter().zip(&self.strides).enumerate() {
            let whole = shape.extents()[missing + axis];
            strides[missing + axis] = match (extent, whole) {
                (extent, whole) if extent == whole => stride,
                (1, _) => 0,
                _ => return None,
            };
        }
        Some(View {
            extents: shape.extents().to_vec(),
            strides,
            offset: self.offset,
        })
    }

    /// The view that undoes this one, where every number of a source of so many is read once: of a permutation and of
    /// reversed axes. Its result has the source's numbers in order; the extents may be cut otherwise.
    pub fn inverse(&self, len: usize) -> Option<Self> {
        let mut axes: Vec<usize> = (0..self.extents.len())
            .filter(|&axis| self.extents[axis] != 1)
            .collect();
        axes.sort_by_key(|&axis| std::cmp::Reverse(self.strides[axis].unsigned_abs()));
        let own = row_major(&self.extents);
        let mut inverse = View {
            extents: axes.iter().map(|&axis| self.extents[axis]).collect(),
            strides: Vec::with_capacity(axes.len()),
            offset: 0,
        };
        let packed = row_major(&inverse.extents);
        let mut first = 0usize;
        for (&axis, &packed) in axes.iter().zip(&packed) {
            let stride = self.strides[axis];
            if stride.abs() != packed {
                return None;
            }
            let last = self.extents[axis].saturating_sub(1);
            if stride < 0 {
                first += last * stride.unsigned_abs();
                inverse.offset += last * own[axis].unsigned_abs();
            }
            inverse.strides.push(own[axis] * stride.signum());
        }
        (inverse.len() == len && self.offset == first).then_some(inverse)
    }

    /// The shape of the result.
    pub fn shape(&self) -> Shape {
        Shape::new(&self.extents)
    }

    /// How many numbers the result has; saturates.
    pub fn len(&self) -> usize {
        self.extents
            .iter()
            .fold(1usize, |product, &extent| product.saturating_mul(extent))
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the result is a stretch of the source as it stands.
    pub fn is_contiguous(&self) -> bool {
        let mut packed = 1isize;
        self.extents
            .iter()
            .zip(&self.strides)
            .rev()
            .all(|(&extent, &stride)| {
                let fits = extent == 1 || stride == packed;
                packed = packed.saturating_mul(extent.cast_signed());
                fits
            })
    }

    /// Whether every number read stands inside a source of so many numbers.
    pub fn fits(&self, len: usize) -> bool {
        if self.extents.len() > RANK_MAX
            || self.extents.len() != self.strides.len()
            || self.len() == usize::MAX
        {
            return false;
        }
        if self.is_empty() {
            return true;
        }
        let (mut low, mut high) = (self.offset as i128, self.offset as i128);
        for (&extent, &stride) in self.extents.iter().zip(&self.strides) {
            let reach = (extent as i128 - 1) * stride as i128;
            *(if reach < 0 { &mut low } else { &mut high }) += reach;
        }
        low >= 0 && high < len as i128
    }

    /// Where each number of the result stands, in order, one at a time: plain and slow.
    pub fn positions(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.len()).map(|flat| {
            let (mut rest, mut at) = (flat, self.offset.cast_signed());
            for (&extent, &stride) in self.extents.iter().zip(&self.strides).rev() {
                at += stride * (rest % extent).cast_signed();
                rest /= extent;
            }
            at.cast_unsigned()
        })
    }

    /// The same view with as few extents as can be: what the kernels walk.
    fn collapsed(&self) -> Walk {
        let mut walk = Walk {
            rank: 0,
            extents: [1; RANK_MAX],
            strides: [0; RANK_MAX],
        };
        for (&extent, &stride) in self.extents.iter().zip(&self.strides) {
            if extent == 1 {
                continue;
            }
            let last = walk.rank.wrapping_sub(1);
            if walk.rank > 0 && walk.strides[last] == stride.saturating_mul(extent.cast_signed()) {
                walk.extents[last] *= extent;
                walk.strides[last] = stride;
            } else {
                walk.extents[walk.rank] = extent;
                walk.strides[walk.rank] = stride;
                walk.rank += 1;
            }
        }
        walk
    }
}

fn row_major(extents: &[usize]) -> Vec<isize> {
    let mut strides = vec![1isize; extents.len()];
    for axis in (1..extents.len()).rev() {
        strides[axis - 1] = strides[axis].saturating_mul(extents[axis].cast_signed());
    }
    strides
}

/// Extents and source strides, outermost first; the result is walked in order.
struct Walk {
    rank: usize,
    extents: [usize; RANK_MAX],
    strides: [isize; RANK_MAX],
}

impl Walk {
    /// Calls `visit(result, source)` for each index of the first `rank` extents; `inner` numbers of the result each.
    fn each(&self, rank: usize, inner: usize, offset: usize, mut visit: impl FnMut(usize, usize)) {
        let count: usize = self.extents[..rank].iter().product();
        let mut index = [0usize; RANK_MAX];
        let mut source = offset.cast_signed();
        for visited in 0..count {
            visit(visited * inner, source.cast_unsigned());
            for axis in (0..rank).rev() {
                index[axis] += 1;
                source += self.strides[axis];
                if index[axis] < self.extents[axis] {
                    break;
                }
                source -= self.strides[axis] * self.extents[axis].cast_signed();
                index[axis] = 0;
            }
        }
    }
}

/// `out[i] = x[view(i)]`.
///
/// Panics when the view reaches outside `x` or `out` has another length: shape rules refuse such a view.
pub fn read(view: &View, x: &[f32], out: &mut [f32]) {
    assert!(
        view.fits(x.len()) && out.len() == view.len(),
        "a view stays inside its source"
    );
    if out.is_empty() {
        return;
    }
    let walk = view.collapsed();
    let Some(last) = walk.rank.checked_sub(1) else {
        out[0] = x[view.offset];
        return;
    };
    let (inner, stride) = (walk.extents[last], walk.strides[last]);
    match stride {
        1 => walk.each(last, inner, view.offset, |to, from| {
            out[to..to + inner].copy_from_slice(&x[from..from + inner]);
        }),
        0 => walk.each(last, inner, view.offset, |to, from| {
            out[to..to + inner].fill(x[from]);
        }),
        _ if last > 0 && walk.strides[last - 1] == 1 => {
            transpose(&walk, view.offset, x, out);
        }
        _ => walk.each(last, inner, view.offset, |to, from| {
            let mut from = from.cast_signed();
            for out in &mut out[to..to + inner] {
                *out = x[from.cast_unsigned()];
                from += stride;
            }
        }),
    }
}

/// The last two extents read with strides 1 and s: in blocks, so that lines are used whole while they are near.
fn transpose(walk: &Walk, offset: usize, x: &[f32], out: &mut [f32]) {
    let (rank, inner) = (walk.rank, walk.extents[walk.rank - 1]);
    let (outer, stride) = (walk.extents[rank - 2], walk.strides[rank - 1]);
    walk.each(rank - 2, outer * inner, offset, |to, from| {
        for row in (0..outer).step_by(BLOCK) {
            let rows = BLOCK.min(outer - row);
            for column in (0..inner).step_by(BLOCK) {
                for column in column..inner.min(column + BLOCK) {
                    let start = from
                        .wrapping_add_signed(stride * column.cast_signed())
                        .wrapping_add(row);
                    for (step, &value) in x[start..start + rows].iter().enumerate() {
                        out[to + (row + step) * inner + column] = value;
                    }
                }
            }
        }
    });
}

/// The adjoint of `read`: `dx[view(i)] += dy[i]`, over zeros, in the order of the result.
///
/// Panics as `read` does.
pub fn add(view: &View, dy: &[f32], dx: &mut [f32]) {
    assert!(
        view.fits(dx.len()) && dy.len() == view.len(),
        "a view stays inside its source"
    );
    if dx.len() == dy.len() && view.is_contiguous() {
        dx.copy_from_slice(dy);
        return;
    }
    dx.fill(0.0);
    if dy.is_empty() {
        return;
    }
    let walk = view.collapsed();
    let Some(last) = walk.rank.checked_sub(1) else {
        dx[view.offset] = dy[0];
        return;
    };
    let (inner, stride) = (walk.extents[last], walk.strides[last]);
    match stride {
        1 => walk.each(last, inner, view.offset, |to, from| {
            dx[from..from + inner]
                .iter_mut()
                .zip(&dy[to..to + inner])
                .for_each(|(dx, &dy)| dx.add_assign(dy));
        }),
        0 => walk.each(last, inner, view.offset, |to, from| {
            dx[from] += super::reduce::sum_all(&dy[to..to + inner]);
        }),
        _ => walk.each(last, inner, view.offset, |to, from| {
            let mut from = from.cast_signed();
            for &dy in &dy[to..to + inner] {
                dx[from.cast_unsigned()] += dy;
                from += stride;
            }
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn views() -> Vec<(&'static str, usize, View)> {
        let whole = |extents: &[usize]| View::whole(&Shape::new(extents));
        vec![
            ("all", 24, whole(&[2, 3, 4])),
            ("a single number", 1, whole(&[])),
            (
                "a matrix transposed",
                37 * 41,
                whole(&[37, 41]).permuted(&[1, 0]),
            ),
            (
                "heads before steps",
                2 * 5 * 3 * 4,
                whole(&[2, 5, 3, 4]).permuted(&[0, 2, 1, 3]),
            ),
            (
                "channels first",
                2 * 4 * 5 * 3,
                whole(&[2, 4, 5, 3]).permuted(&[0, 3, 1, 2]),
            ),
            ("middle columns", 24, whole(&[2, 3, 4]).sliced(2, 1, 2, 1)),
            ("every second row", 40, whole(&[10, 4]).sliced(0, 1, 5, 2)),
            ("backwards", 24, whole(&[2, 3, 4]).sliced(1, 2, 3, -1)),
            ("repeated", 6, whole(&[2, 3]).repeated(1, 5)),
            ("each number repeated", 6, whole(&[2, 3]).repeated(2, 4)),
            (
                "a row over a cube",
                3,
                whole(&[3]).broadcast(&Shape::new(&[2, 4, 3])).unwrap(),
            ),
            (
                "the middle over a cube",
                4,
                whole(&[1, 4, 1])
                    .broadcast(&Shape::new(&[2, 4, 3]))
                    .unwrap(),
            ),
            (
                "windows of three",
                10,
                View {
                    extents: vec![8, 3],
                    strides: vec![1, 1],
                    offset: 0,
                },
            ),
            ("nothing", 6, whole(&[2, 3]).sliced(0, 0, 0, 1)),
        ]
    }

    #[test]
    fn numbers_are_read_where_the_view_says_and_added_back_there() {
        for (name, len, view) in views() {
            let x: Vec<f32> = (0..len).map(|index| index as f32).collect();
            let expected: Vec<f32> = view.positions().map(|at| at as f32).collect();
            let mut out = vec![f32::NAN; view.len()];
            read(&view, &x, &mut out);
            assert_eq!(out, expected, "{name}");
            let dy: Vec<f32> = (0..view.len()).map(|index| (index % 7) as f32).collect();
            let mut sums = vec![0.0; len];
            for (at, &dy) in view.positions().zip(&dy) {
                sums[at] += dy;
            }
            let mut dx = vec![f32::NAN; len];
            add(&view, &dy, &mut dx);
            assert_eq!(dx, sums, "{name}");
        }
    }

    #[test]
    fn what_is_permuted_and_reversed_is_put_back_by_the_inverse() {
        let mut inverted = 0;
        for (name, len, view) in views() {
            let Some(inverse) = view.inverse(len) else {
                continue;
            };
            inverted += 1;
            let x: Vec<f32> = (0..len).map(|index| index as f32).collect();
            let (mut there, mut back) = (vec![f32::NAN; len], vec![f32::NAN; len]);
            read(&view, &x, &mut there);
            read(&inverse, &there, &mut back);
            assert_eq!(back, x, "{name}");
        }
        assert_eq!(inverted, 6);
    }

    #[test]
    fn a_view_that_reaches_outside_its_source_does_not_fit() {
        let view = View::whole(&Shape::new(&[2, 3]));
        assert!(view.fits(6) && !view.fits(5));
        assert!(!view.sliced(0, 1, 2, 1).fits(6));
        assert!(!view.sliced(0, 0, 2, -1).fits(6));
        assert!(view.broadcast(&Shape::new(&[3])).is_none());
        assert!(view.broadcast(&Shape::new(&[4, 3])).is_none());
        assert!(!View::whole(&Shape::new(&[usize::MAX, 4])).fits(usize::MAX));
    }
}
