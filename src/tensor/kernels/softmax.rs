//! Softmax and its logarithm over the innermost extent.

use super::{math, multiversion};

multiversion! {
    /// Softmax in the shifted form that does not overflow: (R, C) to (R, C), each row sums to 1. A NaN makes its own row NaN.
    pub fn softmax(x: &[f32], inner: usize, out: &mut [f32]) {
        for (row, out) in x.chunks_exact(inner).zip(out.chunks_exact_mut(inner)) {
            let highest = maximum(row);
            for (out, &value) in out.iter_mut().zip(row) {
                *out = math::exp(value - highest);
            }
            let sum: f32 = sum(out);
            for out in out.iter_mut() {
                *out /= sum;
            }
        }
    }

    /// log(softmax(x)) as `x - max - log(sum(exp(x - max)))`: (R, C) to (R, C).
    pub fn log_softmax(x: &[f32], inner: usize, out: &mut [f32]) {
        for (row, out) in x.chunks_exact(inner).zip(out.chunks_exact_mut(inner)) {
            let highest = maximum(row);
            for (out, &value) in out.iter_mut().zip(row) {
                *out = math::exp(value - highest);
            }
            let log_sum = math::log(sum(out));
            for (out, &value) in out.iter_mut().zip(row) {
                *out = (value - highest) - log_sum;
            }
        }
    }
}

#[inline(always)]
fn maximum(row: &[f32]) -> f32 {
    row.iter().fold(f32::NEG_INFINITY, |highest, &value| {
        if value > highest { value } else { highest }
    })
}

/// In order: rows are short, and the order must not follow the vector width.
#[inline(always)]
fn sum(row: &[f32]) -> f32 {
    row.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::random::{Purpose, RandomKey};

    #[test]
    fn softmax_and_its_logarithm_agree_with_float64_even_for_large_logits() {
        for (rows, inner, scale) in [(1, 1, 1.0), (4, 7, 1.0), (5, 10, 300.0), (3, 100, 20.0)] {
            let mut stream = RandomKey::of(4, 0).stream(Purpose::Test);
            let x: Vec<f32> = (0..rows * inner)
                .map(|_| (stream.normal() * scale) as f32)
                .collect();
            let (mut y, mut log_y) = (vec![f32::NAN; x.len()], vec![f32::NAN; x.len()]);
            softmax(&x, inner, &mut y);
            log_softmax(&x, inner, &mut log_y);
            for row in 0..rows {
                let logits: Vec<f64> = x[row * inner..(row + 1) * inner]
                    .iter()
                    .map(|&value| f64::from(value))
                    .collect();
                let highest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let log_sum = logits
                    .iter()
                    .map(|value| (value - highest).exp())
                    .sum::<f64>()
                    .ln()
                    + highest;
                for column in 0..inner {
                    let exact = logits[column] - log_sum;
                    assert!(
                        (f64::from(y[row * inner + column]) - exact.exp()).abs() < 1e-6,
                        "seed 4"
                    );
                    assert!(
                        (f64::from(log_y[row * inner + column]) - exact).abs()
                            < 1e-6 * (1.0 + exact.abs()),
                        "seed 4"
                    );
                }
            }
        }
    }

    #[test]
    fn a_nan_spoils_its_own_row_only() {
        let mut y = [0.0; 4];
        softmax(&[f32::NAN, 1.0, 0.0, 0.0], 2, &mut y);
        assert!(y[0].is_nan() && y[1].is_nan() && y[2] == 0.5 && y[3] == 0.5);
    }
}
