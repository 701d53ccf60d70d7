//! The only file that calls OpenBLAS.
//!
//! Matrices are row-major and contiguous. A call's result depends on its numbers alone once BLAS runs on one
//! thread, so `use_one_thread` is called before the first product.

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
    if m == 0 || n == 0 {
        return;
    }
    if k == 0 {
        c.fill(0.0);
        return;
    }
    let int = |extent: usize| c_int::try_from(extent).expect("an extent of a product fits a C int");
    let flag = |transpose| {
        if transpose {
            CBLAS_TRANSPOSE::CblasTrans
        } else {
            CBLAS_TRANSPOSE::CblasNoTrans
        }
    };
    // SAFETY: the lengths were checked above and the leading dimensions are those of contiguous row-major storage.
    unsafe {
        cblas_sgemm(
            CBLAS_LAYOUT::CblasRowMajor,
            flag(transpose_a),
            flag(transpose_b),
            int(m),
            int(n),
            int(k),
            1.0,
            a.as_ptr(),
            int(if transpose_a { m } else { k }),
            b.as_ptr(),
            int(if transpose_b { k } else { n }),
            0.0,
            c.as_mut_ptr(),
            int(n),
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
        let mut c = vec![f32::NAN; m * n];
        multiply(&product, &a, &b, &mut c);
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
                let found = f64::from(c[row * n + column]);
                assert!(
                    (found - expected).abs() < 1e-4,
                    "seed 1, {product:?} at ({row}, {column}): {found} {expected}"
                );
            }
        }
    }
}
