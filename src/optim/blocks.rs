//! Norms of a model's arrays from sums over fixed blocks of the flat vector. Knows no shard and no server.
//!
//! A block is what a multiple-of-1,024 grid and the borders of the arrays cut out. Whoever owns a block sums its squares in
//! float64 in one fixed order; the sums of all blocks are added up in the order of blocks. So a norm's bits depend on the
//! numbers and the arrays alone, and not on who owns what.

use std::ops::Range;

use crate::tensor::kernels::multiversion;

/// Grid of the blocks, in numbers: small enough that the sums of a shard can be shared out evenly, large enough that they
/// are a 512th of its bytes. It enters the bits of every norm: changing it changes trained weights.
pub const NORM_BLOCK: usize = 1024;

/// A model's arrays, one after the other in the flat vector, and the blocks that they are cut into.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ArrayBlocks {
    /// First number of every array, then the end of the last one.
    arrays: Vec<usize>,
    /// First block of every array, then the number of blocks.
    first_blocks: Vec<usize>,
    /// First number of every block, then the end of the last one.
    blocks: Vec<usize>,
}

/// What an update is told of one array.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ArrayNorms {
    /// Of the array's part of the update so far.
    pub update: f64,
    /// Of the array itself; 0 where no transform asked.
    pub parameters: f64,
    /// Of the update so far, all arrays together.
    pub all_updates: f64,
}

impl ArrayBlocks {
    /// From the lengths of the arrays in their order.
    pub fn new(lengths: impl IntoIterator<Item = usize>) -> Self {
        let (mut arrays, mut first_blocks, mut blocks) = (vec![0], vec![0], Vec::new());
        let mut start = 0;
        for length in lengths {
            let end = start + length;
            while start < end {
                blocks.push(start);
                start = end.min((start + 1).next_multiple_of(NORM_BLOCK));
            }
            arrays.push(end);
            first_blocks.push(blocks.len());
        }
        blocks.push(start);
        ArrayBlocks {
            arrays,
            first_blocks,
            blocks,
        }
    }

    /// How many blocks there are.
    pub fn count(&self) -> usize {
        self.blocks.len().saturating_sub(1)
    }

    /// The blocks of a cut of the flat vector. Panics unless it begins and ends where blocks do.
    pub fn within(&self, cut: Range<usize>) -> Range<usize> {
        if cut.is_empty() {
            return 0..0;
        }
        let border = |at: usize| {
            let found = self.blocks.binary_search(&at);
            found.unwrap_or_else(|_| panic!("{at} is inside a block"))
        };
        border(cut.start)..border(cut.end)
    }

    /// The squares of every block of a cut, summed, pushed one after the other, `stride` apart from `offset` on.
    pub(super) fn sum_squares(
        &self,
        cut: Range<usize>,
        values: &[f32],
        sums: &mut [f64],
        stride: usize,
        offset: usize,
    ) {
        for (index, block) in self.within(cut.clone()).enumerate() {
            let numbers = self.blocks[block] - cut.start..self.blocks[block + 1] - cut.start;
            sums[index * stride + offset] = sum_of_squares(&values[numbers]);
        }
    }

    /// The arrays that meet a cut, each with the part of the cut that is its own, counted from the cut's start.
    pub(super) fn arrays_of(
        &self,
        cut: Range<usize>,
    ) -> impl Iterator<Item = (usize, Range<usize>)> {
        let first = self
            .arrays
            .partition_point(|&end| end <= cut.start)
            .saturating_sub(1);
        let borders = self.arrays[first..].windows(2).enumerate();
        borders
            .map(move |(index, border)| {
                let start = border[0].clamp(cut.start, cut.end) - cut.start;
                let end = border[1].clamp(cut.start, cut.end) - cut.start;
                (first + index, start..end)
            })
            .take_while(move |(_, part)| part.start < cut.len())
            .filter(|(_, part)| !part.is_empty())
    }

    /// Every array's norms from the sums of all blocks in their order; each block has `width` of them: of the update,
    /// and of the parameters where there are two. Panics when they are not as many as the blocks.
    pub fn norms(&self, sums: &[f64], width: usize) -> Vec<ArrayNorms> {
        assert_eq!(
            sums.len(),
            self.count() * width,
            "every block has its sums, and no other"
        );
        let of_array = |blocks: Range<usize>, which: usize| -> f64 {
            if which >= width {
                return 0.0;
            }
            let sums = &sums[blocks.start * width..blocks.end * width];
            sums.iter().skip(which).step_by(width).sum()
        };
        let arrays = self.first_blocks.windows(2);
        let squares: Vec<(f64, f64)> = arrays
            .map(|border| {
                let blocks = border[0]..border[1];
                (of_array(blocks.clone(), 0), of_array(blocks, 1))
            })
            .collect();
        let all: f64 = squares.iter().map(|(update, _)| update).sum();
        let norms = squares.iter().map(|(update, parameters)| ArrayNorms {
            update: update.sqrt(),
            parameters: parameters.sqrt(),
            all_updates: all.sqrt(),
        });
        norms.collect()
    }
}

multiversion! {
    /// In float64, where the square of a float32 is exact; eight partial sums in one fixed order, so that vectors of any
    /// width give the same bits.
    fn sum_of_squares(values: &[f32]) -> f64 {
        let mut sums = [0.0f64; 8];
        let (eights, rest) = values.as_chunks::<8>();
        for eight in eights {
            for (sum, &value) in sums.iter_mut().zip(eight) {
                *sum += f64::from(value) * f64::from(value);
            }
        }
        for (sum, &value) in sums.iter_mut().zip(rest) {
            *sum += f64::from(value) * f64::from(value);
        }
        ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::kernels::with_portable_kernels;

    #[test]
    fn blocks_are_cut_by_the_grid_and_by_the_borders_of_arrays() {
        let blocks = ArrayBlocks::new([1000, 0, 24, 2000, 7]);
        assert_eq!(blocks.blocks, [0, 1000, 1024, 2048, 3024, 3031]);
        assert_eq!(blocks.first_blocks, [0, 1, 1, 2, 4, 5]);
        assert_eq!(blocks.within(1024..3031), 2..5);
        assert_eq!(blocks.within(2048..2048), 0..0);
        let found: Vec<_> = blocks.arrays_of(1024..3031).collect();
        assert_eq!(found, [(3, 0..2000), (4, 2000..2007)]);
        let found: Vec<_> = blocks.arrays_of(0..1024).collect();
        assert_eq!(found, [(0, 0..1000), (2, 1000..1024)]);
        assert_eq!(ArrayBlocks::new([]).count(), 0);
    }

    #[test]
    fn norms_are_those_of_a_plain_loop_and_the_same_bits_whoever_sums_which_blocks() {
        let lengths = [3000, 17, 0, 5000, 1];
        let blocks = ArrayBlocks::new(lengths);
        let length = lengths.iter().sum();
        let values: Vec<f32> = (0..length).map(|i| (i as f32 * 12.9898).sin()).collect();
        let twice: Vec<f32> = values.iter().map(|value| 2.0 * value).collect();
        let by_cuts = |cuts: &[usize]| -> Vec<ArrayNorms> {
            let mut sums = Vec::new();
            for border in cuts.windows(2) {
                let cut = border[0]..border[1];
                let mut own = vec![0.0; 2 * blocks.within(cut.clone()).len()];
                blocks.sum_squares(cut.clone(), &values[cut.clone()], &mut own, 2, 0);
                blocks.sum_squares(cut.clone(), &twice[cut], &mut own, 2, 1);
                sums.extend(own);
            }
            blocks.norms(&sums, 2)
        };
        let whole = by_cuts(&[0, length]);
        for cuts in [
            vec![0, 1024, length],
            vec![0, 2048, 2048, 4096, 7168, length],
        ] {
            assert_eq!(by_cuts(&cuts), whole);
        }
        assert_eq!(with_portable_kernels(|| by_cuts(&[0, length])), whole);
        let mut start = 0;
        let plain = |values: &[f32]| -> f64 {
            let squares = values.iter().map(|&value| f64::from(value).powi(2));
            squares.sum::<f64>().sqrt()
        };
        for (norms, length) in whole.iter().zip(lengths) {
            let expected = plain(&values[start..start + length]);
            start += length;
            for (found, expected) in [
                (norms.update, expected),
                (norms.parameters, 2.0 * expected),
                (norms.all_updates, plain(&values)),
            ] {
                assert!((found - expected).abs() <= 1e-12 * expected, "{norms:?}");
            }
        }
    }
}
