//! The two inner loops: tiles of outputs held in registers, for a few rows and sixteen or 32 columns.
//!
//! Patches are never written out. With channels last, the numbers that neighbouring taps of a row read lie side by
//! side, so a row of the patch matrix is a pointer and a few jumps (compare Dukhan, The Indirect Convolution
//! Algorithm, 2019, arXiv:1907.02129, with one table of jumps for all positions thanks to written-out margins).
//!
//! A product's columns are the target's channels, or (`across`) both factors' channels one by one, which is a
//! depthwise convolution.

use super::sweep::{Rows, Taps, Walk};
use super::vector::{ROWS_MAX, Vector, WIDTH, vectorised};

/// What both loops run over.
#[derive(Debug, Clone, Copy)]
pub(super) struct Loop {
    pub taps: Taps,
    pub walk: Walk,
    /// Channels of the target (of the output gradient, in `accumulate`).
    pub columns: usize,
    /// Column i reads the source's channel i, instead of each column all `taps.run` channels.
    pub across: bool,
}

/// Calls a tile with the number of rows as a constant.
macro_rules! with_rows {
    ($rows:expr, $tile:ident :: <$vector:ident, $vectors:literal, $across:literal, $masked:literal> $arguments:tt) => {
        match $rows {
            1 => $tile::<$vector, 1, $vectors, $across, $masked> $arguments,
            2 => $tile::<$vector, 2, $vectors, $across, $masked> $arguments,
            3 => $tile::<$vector, 3, $vectors, $across, $masked> $arguments,
            4 => $tile::<$vector, 4, $vectors, $across, $masked> $arguments,
            5 => $tile::<$vector, 5, $vectors, $across, $masked> $arguments,
            6 => $tile::<$vector, 6, $vectors, $across, $masked> $arguments,
            7 => $tile::<$vector, 7, $vectors, $across, $masked> $arguments,
            _ => $tile::<$vector, 8, $vectors, $across, $masked> $arguments,
        }
    };
}

/// Calls a tile for as many columns as fit, beginning with panel `$panel`, and gives how many panels that was.
macro_rules! with_columns {
    ($vector:ident, $panel:expr, $shape:expr, $rows:expr, $tile:ident $arguments:tt) => {{
        let whole = $shape.columns / WIDTH - ($shape.columns / WIDTH).min($panel);
        match ($shape.across, whole) {
            (false, 0) => with_rows!($rows, $tile::<$vector, 1, false, true> $arguments),
            (false, 2..) if $vector::VECTORS == 2 => with_rows!($rows, $tile::<$vector, 2, false, false> $arguments),
            (false, _) => with_rows!($rows, $tile::<$vector, 1, false, false> $arguments),
            (true, 0) => with_rows!($rows, $tile::<$vector, 1, true, true> $arguments),
            (true, _) => with_rows!($rows, $tile::<$vector, 1, true, false> $arguments),
        }
    }};
}

impl Loop {
    /// Panels of sixteen columns, the last one perhaps partly empty.
    pub(super) fn panels(&self) -> usize {
        self.columns.div_ceil(WIDTH)
    }

    /// How many panels a tile beginning at this one takes; must agree with `with_columns`.
    #[inline(always)]
    fn together<V: Vector>(&self, panel: usize) -> usize {
        let two = V::VECTORS == 2 && !self.across && self.columns >= (panel + 2) * WIDTH;
        1 + usize::from(two)
    }

    /// How far the reads at an offset of the source go.
    fn reach(&self) -> usize {
        self.taps.reach() - 1 + if self.across { self.columns } else { 1 }
    }
}

vectorised! {
    /// `target[position, column] = sum over taps of source[position + tap] * kernel[tap, column]`.
    ///
    /// `kernel` is packed in panels (panel, `taps.len()`, 16). Each sum is in the order of the taps, from zero.
    pub(super) fn multiply<V>(shape: &Loop, source: &[f32], kernel: &[f32], target: &mut [f32]) {
        let positions = shape.walk.len();
        if positions == 0 { return; }
        assert!(shape.walk.last()[0] + shape.reach() <= source.len(), "the source is too short");
        assert!(kernel.len() >= shape.panels() * shape.taps.len() * WIDTH, "the kernel is too short");
        let mut panel = 0;
        while panel < shape.panels() {
            let mut cursor = Cursor::new(&shape.walk);
            let mut left = positions;
            while left > 0 {
                let rows = left.min(V::ROWS);
                let mut sources = [0; ROWS_MAX];
                let mut targets = [0; ROWS_MAX];
                for row in 0..rows {
                    [sources[row], targets[row]] = cursor.next();
                }
                let numbers = source.as_ptr();
                // SAFETY: V's instruction set is there; all offsets of the walk were checked against the source and
                // the kernel above, and `target` is indexed with checks.
                unsafe {
                    with_columns!(V, panel, shape, rows, multiply_tile(
                        shape, numbers, &sources, kernel.as_ptr(), panel, &targets, target));
                }
                left -= rows;
            }
            panel += shape.together::<V>(panel);
        }
    }
}

#[inline(always)]
unsafe fn multiply_tile<
    V: Vector,
    const ROWS: usize,
    const VECTORS: usize,
    const ACROSS: bool,
    const MASKED: bool,
>(
    shape: &Loop,
    source: *const f32,
    sources: &[usize; ROWS_MAX],
    kernel: *const f32,
    panel: usize,
    targets: &[usize; ROWS_MAX],
    target: &mut [f32],
) {
    let taps = &shape.taps;
    let panel_len = taps.len() * WIDTH;
    let column = panel * WIDTH;
    let width = if MASKED {
        shape.columns - column
    } else {
        WIDTH
    };
    // SAFETY: the caller vouches for the instruction set and for every offset.
    unsafe {
        let mask = V::first(width);
        let mut kernel = kernel.add(panel * panel_len);
        let mut sums = [[V::zero(); VECTORS]; ROWS];
        let mut starts = [source; ROWS];
        for row in 0..ROWS {
            starts[row] = source.add(sources[row] + if ACROSS { column } else { 0 });
        }
        for first in 0..taps.counts[0] {
            for second in 0..taps.counts[1] {
                let mut shift = first * taps.steps[0] + second * taps.steps[1];
                for _ in 0..taps.counts[2] {
                    for inner in 0..taps.run {
                        let mut factors = [V::zero(); VECTORS];
                        for (vector, factor) in factors.iter_mut().enumerate() {
                            *factor = V::load(kernel.add(vector * panel_len));
                        }
                        for row in 0..ROWS {
                            let from = starts[row].add(shift + inner);
                            let x = if !ACROSS {
                                V::splat(from)
                            } else if MASKED {
                                V::load_masked(from, mask)
                            } else {
                                V::load(from)
                            };
                            for vector in 0..VECTORS {
                                sums[row][vector] =
                                    x.multiply_add(factors[vector], sums[row][vector]);
                            }
                        }
                        kernel = kernel.add(WIDTH);
                    }
                    shift += taps.steps[2];
                }
            }
        }
        for row in 0..ROWS {
            for vector in 0..VECTORS {
                let out = &mut target[targets[row] + column + vector * WIDTH..][..width];
                if MASKED {
                    let mut numbers = [0.0; WIDTH];
                    sums[row][vector].store(&mut numbers);
                    out.copy_from_slice(&numbers[..width]);
                } else {
                    sums[row][vector].store(out.try_into().expect("sixteen numbers"));
                }
            }
        }
    }
}

vectorised! {
    /// `kernel[tap, column] += sum over positions of source[position + tap] * target[position, column]`.
    ///
    /// Rows of `kernel` are `stride` apart. Each sum is in the order of the positions, and added at the end.
    pub(super) fn accumulate<V>(shape: &Loop, source: &[f32], target: &[f32], kernel: &mut [f32], stride: usize) {
        if shape.walk.len() == 0 { return; }
        let [last_source, last_target] = shape.walk.last();
        assert!(last_source + shape.reach() <= source.len(), "the source is too short");
        assert!(last_target + shape.columns <= target.len(), "the target is too short");
        let count = shape.taps.len();
        // Tiles of nearly equal heights: a tile of one row would wait for its own sums.
        let tiles = count.div_ceil(V::ROWS);
        let mut panel = 0;
        while panel < shape.panels() {
            let mut rows = Rows::new(&shape.taps);
            for tile in 0..tiles {
                let (first, end) = (tile * count / tiles, (tile + 1) * count / tiles);
                let mut offsets = [0; ROWS_MAX];
                for offset in &mut offsets[..end - first] {
                    *offset = rows.next();
                }
                let out = &mut kernel[first * stride..];
                // SAFETY: V's instruction set is there; all offsets of the walk were checked against the source and
                // the target above, and `kernel` is indexed with checks.
                unsafe {
                    with_columns!(V, panel, shape, end - first, accumulate_tile(
                        shape, source.as_ptr(), &offsets, target.as_ptr(), panel, out, stride));
                }
            }
            panel += shape.together::<V>(panel);
        }
    }
}

#[inline(always)]
unsafe fn accumulate_tile<
    V: Vector,
    const ROWS: usize,
    const VECTORS: usize,
    const ACROSS: bool,
    const MASKED: bool,
>(
    shape: &Loop,
    source: *const f32,
    offsets: &[usize; ROWS_MAX],
    target: *const f32,
    panel: usize,
    kernel: &mut [f32],
    stride: usize,
) {
    let Walk {
        counts,
        start,
        steps,
    } = &shape.walk;
    let column = panel * WIDTH;
    let width = if MASKED {
        shape.columns - column
    } else {
        WIDTH
    };
    // SAFETY: the caller vouches for the instruction set and for every offset.
    unsafe {
        let mask = V::first(width);
        let mut sums = [[V::zero(); VECTORS]; ROWS];
        let mut jumps = [0; ROWS];
        jumps.copy_from_slice(&offsets[..ROWS]);
        let source = source.add(start[0] + if ACROSS { column } else { 0 });
        let target = target.add(start[1] + column);
        for image in 0..counts[0] {
            for first in 0..counts[1] {
                for second in 0..counts[2] {
                    let along = |side: usize| {
                        image * steps[0][side] + first * steps[1][side] + second * steps[2][side]
                    };
                    let (mut source, mut target) = (source.add(along(0)), target.add(along(1)));
                    for _ in 0..counts[3] {
                        let mut factors = [V::zero(); VECTORS];
                        for (vector, factor) in factors.iter_mut().enumerate() {
                            *factor = if MASKED {
                                V::load_masked(target, mask)
                            } else {
                                V::load(target.add(vector * WIDTH))
                            };
                        }
                        for row in 0..ROWS {
                            let from = source.add(jumps[row]);
                            let x = if !ACROSS {
                                V::splat(from)
                            } else if MASKED {
                                V::load_masked(from, mask)
                            } else {
                                V::load(from)
                            };
                            for vector in 0..VECTORS {
                                sums[row][vector] =
                                    x.multiply_add(factors[vector], sums[row][vector]);
                            }
                        }
                        source = source.wrapping_add(steps[3][0]);
                        target = target.wrapping_add(steps[3][1]);
                    }
                }
            }
        }
        for row in 0..ROWS {
            for vector in 0..VECTORS {
                let mut numbers = [0.0; WIDTH];
                sums[row][vector].store(&mut numbers);
                let out = &mut kernel[row * stride + column + vector * WIDTH..][..width];
                for (out, number) in out.iter_mut().zip(numbers) {
                    *out += number;
                }
            }
        }
    }
}

/// Goes through a walk position by position.
struct Cursor<'a> {
    walk: &'a Walk,
    place: [usize; 4],
    offsets: [usize; 2],
}

impl<'a> Cursor<'a> {
    #[inline(always)]
    fn new(walk: &'a Walk) -> Self {
        Cursor {
            walk,
            place: [0; 4],
            offsets: walk.start,
        }
    }

    /// The offsets of this position; moves to the next one.
    #[inline(always)]
    fn next(&mut self) -> [usize; 2] {
        let here = self.offsets;
        for axis in (0..4).rev() {
            self.place[axis] += 1;
            for side in 0..2 {
                self.offsets[side] += self.walk.steps[axis][side];
            }
            if self.place[axis] < self.walk.counts[axis] {
                break;
            }
            self.place[axis] = 0;
            for side in 0..2 {
                self.offsets[side] -= self.walk.counts[axis] * self.walk.steps[axis][side];
            }
        }
        here
    }
}
