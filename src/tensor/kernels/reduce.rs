//! Sums and greatest numbers, in a fixed order.

use super::multiversion;

/// Accumulators of a sum along contiguous numbers: fixed, so that the order does not follow the vector width.
const WAYS: usize = 16;

multiversion! {
    /// Sum over leading rows: `x` (R, P) to `out` (P), rows added in order, two at a time.
    pub fn sum_rows(x: &[f32], out: &mut [f32]) {
        let period = out.len();
        if period == 1 {
            out[0] = sum_contiguous(x);
            return;
        }
        out.fill(0.0);
        if period == 0 { return; }
        let mut groups = x.chunks_exact(4 * period);
        for group in groups.by_ref() {
            let (first, rest) = group.split_at(period);
            let (second, rest) = rest.split_at(period);
            let (third, fourth) = rest.split_at(period);
            for ((((out, &a), &b), &c), &d) in out.iter_mut().zip(first).zip(second).zip(third).zip(fourth) {
                *out += (a + b) + (c + d);
            }
        }
        for row in groups.remainder().chunks_exact(period) {
            for (out, &value) in out.iter_mut().zip(row) {
                *out += value;
            }
        }
    }

    /// Sum over leading rows of products: `x` and `y` (R, P) to `out` (P), in the order of `sum_rows`.
    pub fn sum_product_rows(x: &[f32], y: &[f32], out: &mut [f32]) {
        let period = out.len();
        if period == 1 {
            out[0] = sum_terms(x, y, |x, y| x * y);
            return;
        }
        out.fill(0.0);
        if period == 0 { return; }
        let (mut lefts, mut rights) = (x.chunks_exact(4 * period), y.chunks_exact(4 * period));
        for (left, right) in lefts.by_ref().zip(rights.by_ref()) {
            let (a, b) = (quarters(left, period), quarters(right, period));
            for (column, out) in out.iter_mut().enumerate() {
                *out += (a[0][column] * b[0][column] + a[1][column] * b[1][column]) + (a[2][column] * b[2][column] + a[3][column] * b[3][column]);
            }
        }
        let rows = lefts.remainder().chunks_exact(period).zip(rights.remainder().chunks_exact(period));
        for (left, right) in rows {
            for ((out, &a), &b) in out.iter_mut().zip(left).zip(right) {
                *out += a * b;
            }
        }
    }

    /// Sum over the innermost extent: `x` (R, C) to `out` (R).
    pub fn sum_columns(x: &[f32], inner: usize, out: &mut [f32]) {
        for (out, row) in out.iter_mut().zip(x.chunks_exact(inner)) {
            *out = sum_contiguous(row);
        }
    }

    /// Sum over a middle extent: `x` (O, E, I) to `out` (O, I), in order.
    pub fn sum_middle(x: &[f32], extent: usize, inner: usize, out: &mut [f32]) {
        if inner == 1 {
            for (out, row) in out.iter_mut().zip(x.chunks_exact(extent.max(1))) {
                *out = sum_contiguous(row);
            }
            return;
        }
        out.fill(0.0);
        for (out, block) in out.chunks_exact_mut(inner.max(1)).zip(x.chunks_exact((extent * inner).max(1))) {
            for row in block.chunks_exact(inner) {
                for (out, &value) in out.iter_mut().zip(row) {
                    *out += value;
                }
            }
        }
    }

    /// Greatest over a middle extent: `x` (O, E, I) to `out` (O, I). A NaN wins; nothing gives negative infinity.
    pub fn max_middle(x: &[f32], extent: usize, inner: usize, out: &mut [f32]) {
        out.fill(f32::NEG_INFINITY);
        for (out, block) in out.chunks_exact_mut(inner.max(1)).zip(x.chunks_exact((extent * inner).max(1))) {
            for row in block.chunks_exact(inner) {
                for (out, &value) in out.iter_mut().zip(row) {
                    // Written so that a NaN on either side stays.
                    *out = if value <= *out || out.is_nan() { *out } else { value };
                }
            }
        }
    }

    /// Running sums along a middle extent of `x` (O, E, I), from its end where `reverse`.
    pub fn cumulative_sum(x: &[f32], extent: usize, inner: usize, reverse: bool, out: &mut [f32]) {
        out.copy_from_slice(x);
        for block in out.chunks_exact_mut((extent * inner).max(1)) {
            for step in 1..extent {
                let (from, to) = if reverse { (extent - step, extent - step - 1) } else { (step - 1, step) };
                for column in 0..inner {
                    block[to * inner + column] += block[from * inner + column];
                }
            }
        }
    }

    /// `sum[i] += addend[i]`: one edge of a tree of sums.
    pub fn accumulate(sum: &mut [f32], addend: &[f32]) {
        for (sum, &addend) in sum.iter_mut().zip(addend) {
            *sum += addend;
        }
    }

    /// Sum of all numbers.
    pub fn sum_all(x: &[f32]) -> f32 {
        sum_contiguous(x)
    }
}

#[inline(always)]
pub(super) fn sum_contiguous(x: &[f32]) -> f32 {
    sum_terms(x, x, |x, _| x)
}

/// Four rows of one length, side by side.
#[inline(always)]
fn quarters(rows: &[f32], period: usize) -> [&[f32]; 4] {
    let (first, rest) = rows.split_at(period);
    let (second, rest) = rest.split_at(period);
    let (third, fourth) = rest.split_at(period);
    [first, second, third, &fourth[..period]]
}

/// Sum of a term made of two numbers, over two rows of one length.
#[inline(always)]
pub(super) fn sum_terms(left: &[f32], right: &[f32], term: impl Fn(f32, f32) -> f32) -> f32 {
    let [sum] = sums_of_terms(left, right, |left, right| [term(left, right)]);
    sum
}

/// Several sums in one pass over two rows of one length.
#[inline(always)]
pub(super) fn sums_of_terms<const N: usize>(
    left: &[f32],
    right: &[f32],
    terms: impl Fn(f32, f32) -> [f32; N],
) -> [f32; N] {
    let mut sums = [[0.0f32; WAYS]; N];
    let (lefts, left_rest) = left.as_chunks::<WAYS>();
    let (rights, right_rest) = right.as_chunks::<WAYS>();
    for (left, right) in lefts.iter().zip(rights) {
        for way in 0..WAYS {
            let terms = terms(left[way], right[way]);
            for (sums, term) in sums.iter_mut().zip(terms) {
                sums[way] += term;
            }
        }
    }
    for (way, (&left, &right)) in left_rest.iter().zip(right_rest).enumerate() {
        let terms = terms(left, right);
        for (sums, term) in sums.iter_mut().zip(terms) {
            sums[way] += term;
        }
    }
    sums.map(|mut sums| {
        let mut width = WAYS / 2;
        while width > 0 {
            for way in 0..width {
                sums[way] += sums[way + width];
            }
            width /= 2;
        }
        sums[0]
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::random::{Purpose, RandomKey};

    #[test]
    fn a_middle_extent_is_summed_searched_and_run_along() {
        for (outer, extent, inner) in [
            (1, 1, 1),
            (2, 3, 4),
            (5, 7, 1),
            (3, 1, 5),
            (0, 3, 2),
            (2, 33, 19),
        ] {
            let mut stream = RandomKey::of(4, 0).stream(Purpose::Test);
            let x: Vec<f32> = (0..outer * extent * inner)
                .map(|_| stream.normal() as f32)
                .collect();
            let mut sums = vec![f32::NAN; outer * inner];
            let mut greatest = sums.clone();
            let (mut running, mut reversed) = (vec![f32::NAN; x.len()], vec![f32::NAN; x.len()]);
            sum_middle(&x, extent, inner, &mut sums);
            max_middle(&x, extent, inner, &mut greatest);
            cumulative_sum(&x, extent, inner, false, &mut running);
            cumulative_sum(&x, extent, inner, true, &mut reversed);
            for at in 0..outer * inner {
                let line: Vec<f64> = (0..extent)
                    .map(|step| f64::from(x[(at / inner * extent + step) * inner + at % inner]))
                    .collect();
                let place = |step: usize| (at / inner * extent + step) * inner + at % inner;
                assert!(
                    (f64::from(sums[at]) - line.iter().sum::<f64>()).abs() < 1e-4,
                    "seed 4"
                );
                assert_eq!(
                    f64::from(greatest[at]),
                    line.iter().copied().fold(f64::NEG_INFINITY, f64::max)
                );
                for step in 0..extent {
                    let before: f64 = line[..=step].iter().sum();
                    let after: f64 = line[step..].iter().sum();
                    assert!(
                        (f64::from(running[place(step)]) - before).abs() < 1e-4,
                        "seed 4"
                    );
                    assert!(
                        (f64::from(reversed[place(step)]) - after).abs() < 1e-4,
                        "seed 4"
                    );
                }
            }
        }
        let mut greatest = [0.0];
        max_middle(&[1.0, f32::NAN, 2.0], 3, 1, &mut greatest);
        assert!(greatest[0].is_nan());
    }

    #[test]
    fn sums_agree_with_float64() {
        for (rows, inner) in [(1, 1), (5, 3), (33, 64), (7, 129), (100, 1), (0, 4)] {
            let mut stream = RandomKey::of(3, 0).stream(Purpose::Test);
            let x: Vec<f32> = (0..rows * inner).map(|_| stream.normal() as f32).collect();
            let (mut by_row, mut by_column) = (vec![f32::NAN; inner], vec![f32::NAN; rows]);
            sum_rows(&x, &mut by_row);
            sum_columns(&x, inner, &mut by_column);
            let at = |row: usize, column: usize| f64::from(x[row * inner + column]);
            for (column, &found) in by_row.iter().enumerate() {
                let expected: f64 = (0..rows).map(|row| at(row, column)).sum();
                assert!(
                    (f64::from(found) - expected).abs() < 1e-4,
                    "seed 3, ({rows}, {inner})"
                );
            }
            for (row, &found) in by_column.iter().enumerate() {
                let expected: f64 = (0..inner).map(|column| at(row, column)).sum();
                assert!(
                    (f64::from(found) - expected).abs() < 1e-4,
                    "seed 3, ({rows}, {inner})"
                );
            }
            let (y, mut by_product) = (
                x.iter().map(|x| 1.0 - x).collect::<Vec<_>>(),
                by_row.clone(),
            );
            sum_product_rows(&x, &y, &mut by_product);
            for (column, &found) in by_product.iter().enumerate() {
                let terms =
                    (0..rows).map(|row| at(row, column) * f64::from(y[row * inner + column]));
                let expected: f64 = terms.sum();
                assert!(
                    (f64::from(found) - expected).abs() < 2e-4,
                    "seed 3, ({rows}, {inner})"
                );
            }
            let mut again = by_product.clone();
            super::super::with_portable_kernels(|| sum_product_rows(&x, &y, &mut again));
            assert_eq!(again, by_product);
            let expected: f64 = x.iter().map(|&value| f64::from(value)).sum();
            assert!((f64::from(sum_all(&x)) - expected).abs() < 1e-4);
        }
    }
}
