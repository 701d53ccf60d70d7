//! The only file that calls OpenBLAS.
//!
//! Matrices are row-major. A call's result depends on its numbers alone once BLAS runs on one
//! thread, so `use_one_thread` is called before the first product.

mod cuts;

use std::os::raw::c_int;
use std::sync::Once;

use cblas_sys::{CBLAS_LAYOUT, CBLAS_TRANSPOSE, cblas_sgemm};
// Linked for its symbols alone.
extern crate openblas_src as _;

unsafe extern "C" {
    fn openblas_set_num_threads(threads: c_int);
    fn openblas_get_num_threads() -> c_int;
}

/// Sets OpenBLAS to one thread for the whole process; a lane's arithmetic is single-threaded. Cheap to repeat.
pub fn use_one_thread() {
    static ONCE: Once = Once::new();
    // SAFETY: a plain setter of OpenBLAS without preconditions.
    ONCE.call_once(|| unsafe { openblas_set_num_threads(1) });
}

/// How many threads OpenBLAS uses now.
pub fn threads() -> usize {
    // SAFETY: a plain getter of OpenBLAS without preconditions.
    usize::try_from(unsafe { openblas_get_num_threads() }).unwrap_or(1)
}

/// What a product looks like: `C (m, n) = op(A) (m, k) op(B) (k, n)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Product {
    pub m: usize,
    pub n: usize,
    pub k: usize,
    /// A is stored as (k, m).
    pub transpose_a: bool,
    /// B is stored as (n, k).
    pub transpose_b: bool,
}

impl Product {
    /// Multiplications and additions of the product.
    pub fn flops(&self) -> u64 {
        2 * self.m as u64 * self.n as u64 * self.k as u64
    }
}

/// `c = op(a) op(b)`, overwriting `c`.
///
/// Panics when a slice is not as long as the product says or an extent does not fit a C int.
pub fn multiply(product: &Product, a: &[f32], b: &[f32], c: &mut [f32]) {
    let Product {
        m,
        n,
        k,
        transpose_a,
        transpose_b,
    } = *product;
    assert!(
        a.len() == m * k && b.len() == k * n && c.len() == m * n,
        "slices must match {product:?}"
    );
    let lda = if transpose_a { m } else { k };
    let ldb = if transpose_b { k } else { n };
    multiply_into(product, a, lda, b, ldb, 0.0, c, n);
}

/// `c = op(a) op(b) + beta c` on matrices that lie in wider ones: `lda`, `ldb` and `ldc` are the numbers from one
/// stored row to the next. With beta 0 what `c` held does not matter.
///
/// Panics when a leading dimension is shorter than its row, a slice ends before its last row does or an extent does
/// not fit a C int.
pub fn multiply_into(
    product: &Product,
    a: &[f32],
    lda: usize,
    b: &[f32],
    ldb: usize,
    beta: f32,
    c: &mut [f32],
    ldc: usize,
) {
    let Product {
        m,
        n,
        k,
        transpose_a,
        transpose_b,
    } = *product;
    let holds = |len: usize, rows: usize, columns: usize, leading: usize| {
        rows == 0 || columns == 0 || (leading >= columns && len >= (rows - 1) * leading + columns)
    };
    let (a_rows, a_columns) = if transpose_a { (k, m) } else { (m, k) };
    let (b_rows, b_columns) = if transpose_b { (n, k) } else { (k, n) };
    assert!(
        holds(a.len(), a_rows, a_columns, lda)
            && holds(b.len(), b_rows, b_columns, ldb)
            && holds(c.len(), m, n, ldc),
        "slices must match {product:?} with leading dimensions {lda}, {ldb} and {ldc}"
    );
    if m == 0 || n == 0 {
        return;
    }
    if k == 0 {
        for row in c.chunks_mut(ldc).take(m) {
            for value in &mut row[..n] {
                *value = if beta == 0.0 { 0.0 } else { *value * beta };
            }
        }
        return;
    }
    let block = cuts::block(product);
    for term in (0..k).step_by(block.terms) {
        for column in (0..n).step_by(block.columns) {
            for row in (0..m).step_by(block.rows) {
                let part = Product {
                    m: block.rows.min(m - row),
                    n: block.columns.min(n - column),
                    k: block.terms.min(k - term),
                    ..*product
                };
                let start = |transposed, leading, row, column| {
                    if transposed {
                        column * leading + row
                    } else {
                        row * leading + column
                    }
                };
                call(
                    &part,
                    &a[start(transpose_a, lda, row, term)..],
                    lda,
                    &b[start(transpose_b, ldb, term, column)..],
                    ldb,
                    if term == 0 { beta } else { 1.0 },
                    &mut c[row * ldc + column..],
                    ldc,
                );
            }
        }
    }
}

/// The rows of C that `multiply_into` finishes at a time, when it finishes one strip of whole rows after the other.
pub fn strip_rows(product: &Product) -> Option<usize> {
    let Product { m, n, k, .. } = *product;
    if m == 0 || n == 0 || k == 0 {
        return None;
    }
    let block = cuts::block(product);
    (block.rows < m && block.columns == n && block.terms == k && !product.transpose_a)
        .then_some(block.rows)
}

/// Numbers of scratch with which `multiply_turning` is faster than `multiply_into`; 0 where it is not.
pub fn turning_len(product: &Product) -> usize {
    /// So many rows and columns of C pay for turning B.
    const ROWS_MIN: usize = 32;
    const COLUMNS_MIN: usize = 16;
    let Product { m, n, k, .. } = *product;
    let turns = product.transpose_b && !product.transpose_a;
    if turns && m >= ROWS_MIN && n >= COLUMNS_MIN && has_small_kernels() {
        n.saturating_mul(k)
    } else {
        0
    }
}

/// `c = op(a) op(b)` as `multiply_into` does it, with scratch of `turning_len` numbers: OpenBLAS is up to two fifths
/// faster with B as it comes than with a transposed one, so that is turned first.
///
/// Panics as `multiply_into` does, and when the scratch has another length.
pub fn multiply_turning(
    product: &Product,
    a: &[f32],
    lda: usize,
    b: &[f32],
    ldb: usize,
    c: &mut [f32],
    ldc: usize,
    scratch: &mut [f32],
) {
    let Product { n, k, .. } = *product;
    assert_eq!(
        scratch.len(),
        turning_len(product),
        "the scratch must be as long as {product:?} needs"
    );
    if scratch.is_empty() {
        return multiply_into(product, a, lda, b, ldb, 0.0, c, ldc);
    }
    assert!(
        ldb >= k && b.len() >= (n - 1) * ldb + k,
        "slices must match {product:?} with leading dimension {ldb} of the second"
    );
    cuts::transpose(b, ldb, n, k, scratch);
    let turned = Product {
        transpose_b: false,
        ..*product
    };
    multiply_into(&turned, a, lda, scratch, n, 0.0, c, ldc);
}

fn has_small_kernels() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("avx512vl");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// The call itself. `multiply_into` has checked every length.
fn call(
    product: &Product,
    a: &[f32],
    lda: usize,
    b: &[f32],
    ldb: usize,
    beta: f32,
    c: &mut [f32],
    ldc: usize,
) {
    let int = |extent: usize| c_int::try_from(extent).expect("an extent of a product fits a C int");
    let flag = |transpose| {
        if transpose {
            CBLAS_TRANSPOSE::CblasTrans
        } else {
            CBLAS_TRANSPOSE::CblasNoTrans
        }
    };
    // SAFETY: every slice was found by `multiply_into` to hold all rows at its leading dimension.
    unsafe {
        cblas_sgemm(
            CBLAS_LAYOUT::CblasRowMajor,
            flag(product.transpose_a),
            flag(product.transpose_b),
            int(product.m),
            int(product.n),
            int(product.k),
            1.0,
            a.as_ptr(),
            int(lda),
            b.as_ptr(),
            int(ldb),
            beta,
            c.as_mut_ptr(),
            int(ldc),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::random::{Purpose, RandomKey};

    #[test]
    fn products_agree_with_a_triple_loop_in_float64() {
        use_one_thread();
        assert_eq!(threads(), 1);
        for (m, n, k) in [
            (1, 1, 1),
            (3, 5, 7),
            (32, 128, 108),
            (128, 64, 32),
            (64, 1, 33),
            (33, 64, 1),
            (2, 3, 0),
            (203, 100, 64),
            (40, 70, 1001),
            (70, 530, 300),
            (300, 401, 70),
            (530, 130, 301),
        ] {
            for (transpose_a, transpose_b) in
                [(false, false), (true, false), (false, true), (true, true)]
            {
                check(Product {
                    m,
                    n,
                    k,
                    transpose_a,
                    transpose_b,
                });
            }
        }
    }

    fn check(product: Product) {
        let Product {
            m,
            n,
            k,
            transpose_a,
            transpose_b,
        } = product;
        let mut stream = RandomKey::of(1, 0).stream(Purpose::Test);
        let a: Vec<f32> = (0..m * k).map(|_| stream.normal() as f32).collect();
        let b: Vec<f32> = (0..k * n).map(|_| stream.normal() as f32).collect();
        let (lda, ldb) = (
            if transpose_a { m } else { k },
            if transpose_b { k } else { n },
        );
        let (mut c, mut turning) = (vec![f32::NAN; m * n], vec![f32::NAN; m * n]);
        let mut scratch = vec![f32::NAN; turning_len(&product)];
        multiply(&product, &a, &b, &mut c);
        multiply_turning(&product, &a, lda, &b, ldb, &mut turning, n, &mut scratch);
        for row in 0..m {
            for column in 0..n {
                let expected: f64 = (0..k)
                    .map(|inner| {
                        let left = if transpose_a {
                            a[inner * m + row]
                        } else {
                            a[row * k + inner]
                        };
                        let right = if transpose_b {
                            b[column * k + inner]
                        } else {
                            b[inner * n + column]
                        };
                        f64::from(left) * f64::from(right)
                    })
                    .sum();
                for found in [c[row * n + column], turning[row * n + column]] {
                    assert!(
                        (f64::from(found) - expected).abs() < 3e-4,
                        "seed 1, {product:?} at ({row}, {column}): {found} {expected}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_product_inside_wider_matrices_adds_to_its_part_alone() {
        use_one_thread();
        for (m, n, k) in [
            (1, 1, 1),
            (3, 5, 7),
            (203, 100, 64),
            (40, 70, 501),
            (2, 3, 0),
        ] {
            for (transpose_a, transpose_b) in
                [(false, false), (true, false), (false, true), (true, true)]
            {
                for beta in [0.0, 1.0, -0.5] {
                    let product = Product {
                        m,
                        n,
                        k,
                        transpose_a,
                        transpose_b,
                    };
                    check_part(product, beta);
                }
            }
        }
    }

    /// Against the contiguous product of the same numbers; what lies between the rows stays as it was.
    fn check_part(product: Product, beta: f32) {
        const GAP: usize = 3;
        let Product {
            m,
            n,
            k,
            transpose_a,
            transpose_b,
        } = product;
        let mut stream = RandomKey::of(2, 0).stream(Purpose::Test);
        let mut normal =
            |len: usize| -> Vec<f32> { (0..len).map(|_| stream.normal() as f32).collect() };
        let (a, b, before) = (normal(m * k), normal(k * n), normal(m * n));
        let mut alone = vec![f32::NAN; m * n];
        multiply(&product, &a, &b, &mut alone);
        let widen = |matrix: &[f32], columns: usize| -> Vec<f32> {
            let mut wide = Vec::new();
            for row in matrix.chunks(columns.max(1)) {
                wide.extend_from_slice(row);
                wide.extend_from_slice(&[7.0; GAP]);
            }
            wide
        };
        let (a_columns, b_columns) = (
            if transpose_a { m } else { k },
            if transpose_b { k } else { n },
        );
        let mut c = widen(&before, n);
        multiply_into(
            &product,
            &widen(&a, a_columns),
            a_columns + GAP,
            &widen(&b, b_columns),
            b_columns + GAP,
            beta,
            &mut c,
            n + GAP,
        );
        for row in 0..m {
            for column in 0..n {
                let expected = alone[row * n + column] + beta * before[row * n + column];
                assert!(
                    (c[row * (n + GAP) + column] - expected).abs() < 1e-4,
                    "seed 2, {product:?}, beta {beta} at ({row}, {column})"
                );
            }
            assert_eq!(c[row * (n + GAP) + n..(row + 1) * (n + GAP)], [7.0; GAP]);
        }
    }

    #[test]
    #[should_panic(expected = "leading dimensions 2, 2 and 2")]
    fn a_slice_that_ends_before_its_last_row_is_refused() {
        let product = Product {
            m: 2,
            n: 2,
            k: 2,
            transpose_a: false,
            transpose_b: false,
        };
        multiply_into(&product, &[0.0; 4], 2, &[0.0; 3], 2, 0.0, &mut [0.0; 4], 2);
    }
}
