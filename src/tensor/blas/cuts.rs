//! How a product is cut before OpenBLAS sees it.
//!
//! Up to 100^3 multiplications, OpenBLAS for processors with AVX-512 has kernels that read the matrices where they lie
//! instead of packing copies of them first: 112 to 116 GFLOP/s on a core whose peak is 117, against 95 to 103 with
//! packing. So longer products are cut to blocks of that size, as long as the matrix that every block reads again stays
//! in the second-level cache. The cut follows from the product's extents and the processor. Knows no numbers.

use super::{Product, has_small_kernels};

/// Most multiplications of a block.
const SMALL: usize = 1_000_000;
/// Numbers of the part of B that every strip of rows reads: 330 KB, and strips of at least 12 rows.
const B_MAX: usize = SMALL / 12;
/// Fewest columns of such a part, and fewest rows that pay for parts.
const COLUMNS_MIN: usize = 64;
const ROWS_MIN: usize = 4;
/// Numbers of A, which is read once for every part of B.
const A_MAX: usize = 1 << 17;
/// Numbers of a C that stays in one block, which every strip of terms reads and writes: 32 KB, the first-level cache.
const C_MAX: usize = 1 << 13;
/// The blocks of a longer C, which stay there too, and the fewest and most terms of each.
const C_ROWS: usize = 24;
const C_COLUMNS: usize = 128;
const TERMS_MIN: usize = 32;
const TERMS_MAX: usize = 256;
/// Numbers of A and B that all blocks of C read before the next terms come: 400 KB, beside C in the second-level cache.
const STRIP_MAX: usize = 100_000;
/// Numbers of the longest C that is cut.
const C_CUT_MAX: usize = 1 << 19;

/// A block of a product: so many rows and columns of C, and so many terms of each of their sums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Block {
    pub rows: usize,
    pub columns: usize,
    pub terms: usize,
}

/// The blocks of a product without an empty extent; those at the ends may be smaller. Blocks of the same terms follow
/// each other, and among them those of the same columns: A' B reads A and B from afar once.
pub(super) fn block(product: &Product) -> Block {
    if has_small_kernels() {
        small_block(product)
    } else {
        whole(product)
    }
}

fn whole(product: &Product) -> Block {
    Block {
        rows: product.m,
        columns: product.n,
        terms: product.k,
    }
}

/// For kernels that do not pack.
fn small_block(product: &Product) -> Block {
    let Product { m, n, k, .. } = *product;
    let whole = whole(product);
    if m.saturating_mul(n).saturating_mul(k) <= SMALL {
        return whole;
    }
    match (product.transpose_a, product.transpose_b) {
        (false, false) => {
            let columns = if n.saturating_mul(k) <= B_MAX {
                n
            } else if m >= ROWS_MIN && B_MAX / k >= COLUMNS_MIN && m.saturating_mul(k) <= A_MAX {
                even(n, B_MAX / k, 16)
            } else {
                return whole;
            };
            Block {
                rows: even(m, SMALL / (columns * k), 4),
                columns,
                terms: k,
            }
        }
        (true, false) => {
            let most = (STRIP_MAX / m.saturating_add(n)).clamp(TERMS_MIN, TERMS_MAX);
            let (rows, columns, most) = if m.saturating_mul(n) <= C_MAX {
                (m, n, SMALL / (m * n))
            } else if m.saturating_mul(n) <= C_CUT_MAX {
                (even(m, C_ROWS, 12), even(n, C_COLUMNS, 16), most)
            } else {
                return whole;
            };
            Block {
                rows,
                columns,
                terms: even(k, most, 4),
            }
        }
        _ => whole,
    }
}

/// Parts of an extent, as even as multiples of `step` allow and none longer than `most`, which is at least `step`.
fn even(extent: usize, most: usize, step: usize) -> usize {
    let parts = extent.div_ceil(most / step * step);
    extent.div_ceil(parts).next_multiple_of(step).min(extent)
}

/// A matrix (rows, columns) with `leading` numbers from row to row, written as (columns, rows) without gaps.
///
/// Panics when `from` ends before its last row does or `to` has another length.
pub(super) fn transpose(from: &[f32], leading: usize, rows: usize, columns: usize, to: &mut [f32]) {
    /// Rows and columns of a square whose lines of the cache are read and written whole.
    const SQUARE: usize = 16;
    if rows == 0 || columns == 0 {
        return;
    }
    assert!(
        leading >= columns && from.len() >= (rows - 1) * leading + columns,
        "a matrix ({rows}, {columns}) at {leading} must be whole"
    );
    assert_eq!(to.len(), rows * columns, "the transposed matrix must fit");
    for row in (0..rows).step_by(SQUARE) {
        for column in (0..columns).step_by(SQUARE) {
            let (row_end, column_end) = (rows.min(row + SQUARE), columns.min(column + SQUARE));
            for row in (row..row_end).step_by(TILE) {
                for column in (column..column_end).step_by(TILE) {
                    if row_end - row >= TILE && column_end - column >= TILE {
                        // SAFETY: the tile lies inside (rows, columns), which both slices were found to hold.
                        unsafe {
                            let from = from.as_ptr().add(row * leading + column);
                            let to = to.as_mut_ptr().add(column * rows + row);
                            transpose_tile(from, leading, to, rows);
                        }
                        continue;
                    }
                    for column in column..column_end.min(column + TILE) {
                        for row in row..row_end.min(row + TILE) {
                            to[column * rows + row] = from[row * leading + column];
                        }
                    }
                }
            }
        }
    }
}

/// Rows and columns of a tile that is transposed in registers.
const TILE: usize = 4;

/// # Safety
/// `TILE` numbers must be readable at `from` and `TILE - 1` times `leading` further, and writable likewise at `to`.
#[inline(always)]
unsafe fn transpose_tile(from: *const f32, leading: usize, to: *mut f32, to_leading: usize) {
    // SAFETY: the caller's promise; every x86-64 processor has SSE.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        use std::arch::x86_64::{_MM_TRANSPOSE4_PS, _mm_loadu_ps, _mm_storeu_ps};
        let mut lines = [0, 1, 2, 3].map(|line| _mm_loadu_ps(from.add(line * leading)));
        let [first, second, third, fourth] = &mut lines;
        _MM_TRANSPOSE4_PS(first, second, third, fourth);
        for (at, column) in lines.into_iter().enumerate() {
            _mm_storeu_ps(to.add(at * to_leading), column);
        }
    }
    // SAFETY: the caller's promise.
    #[cfg(not(target_arch = "x86_64"))]
    unsafe {
        for column in 0..TILE {
            for row in 0..TILE {
                *to.add(column * to_leading + row) = *from.add(row * leading + column);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_small_and_never_longer_than_the_product() {
        let extents = [1, 3, 10, 64, 100, 128, 512, 784, 2048, 5000, 1 << 40];
        for (m, n, k) in extents
            .iter()
            .flat_map(|&m| extents.iter().map(move |&n| (m, n)))
            .flat_map(|(m, n)| extents.iter().map(move |&k| (m, n, k)))
        {
            for (transpose_a, transpose_b) in
                [(false, false), (true, false), (false, true), (true, true)]
            {
                let product = Product {
                    m,
                    n,
                    k,
                    transpose_a,
                    transpose_b,
                };
                let Block {
                    rows,
                    columns,
                    terms,
                } = small_block(&product);
                assert!(
                    (1..=m).contains(&rows)
                        && (1..=n).contains(&columns)
                        && (1..=k).contains(&terms),
                    "{product:?}"
                );
                let whole = (rows, columns, terms) == (m, n, k);
                assert!(whole || rows * columns * terms <= SMALL, "{product:?}");
            }
        }
    }

    #[test]
    fn a_transposed_matrix_has_every_number_in_its_place() {
        for (rows, columns, leading) in [(1, 1, 1), (16, 32, 32), (17, 35, 40), (5, 100, 100)] {
            let from: Vec<f32> = (0..rows * leading).map(|at| at as f32).collect();
            let mut to = vec![f32::NAN; rows * columns];
            transpose(&from, leading, rows, columns, &mut to);
            for row in 0..rows {
                for column in 0..columns {
                    assert_eq!(to[column * rows + row], from[row * leading + column]);
                }
            }
        }
    }
}
