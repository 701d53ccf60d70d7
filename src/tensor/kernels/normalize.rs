//! Normalisation over the innermost extent: each row by its own mean and deviation, or by its root mean square.
//!
//! A row is read from memory once and stays in the cache for the passes that follow. Scale and offset are not in here.

use super::multiversion;
use super::reduce::{sum_contiguous, sum_terms, sums_of_terms};

multiversion! {
    /// `y = (x - mean) / sqrt(variance + epsilon)`, (R, C) to (R, C), with the biased variance of each row.
    ///
    /// The squares are of the centred numbers, so a large mean costs no accuracy.
    pub fn normalize(x: &[f32], inner: usize, epsilon: f32, out: &mut [f32]) {
        for (x, out) in x.chunks_exact(inner).zip(out.chunks_exact_mut(inner)) {
            let count = inner as f32;
            let mean = sum_contiguous(x) / count;
            let variance = sum_terms(x, x, |x, _| (x - mean) * (x - mean)) / count;
            let scale = 1.0 / (variance + epsilon).sqrt();
            for (out, &x) in out.iter_mut().zip(x) {
                *out = (x - mean) * scale;
            }
        }
    }

    /// The gradient of `normalize`: `dx = (dy - mean(dy) - y mean(dy y)) / sqrt(variance + epsilon)`, all (R, C).
    ///
    /// Mean and deviation are made again from `x`.
    pub fn normalize_backward(x: &[f32], dy: &[f32], inner: usize, epsilon: f32, dx: &mut [f32]) {
        let count = inner as f32;
        for ((x, dy), dx) in x.chunks_exact(inner).zip(dy.chunks_exact(inner)).zip(dx.chunks_exact_mut(inner)) {
            let mean = sum_contiguous(x) / count;
            let dy_mean = sum_contiguous(dy) / count;
            let [squares, along] = sums_of_terms(x, dy, |x, dy| [(x - mean) * (x - mean), dy * (x - mean)]);
            let scale = 1.0 / (squares / count + epsilon).sqrt();
            let slope = along / count * scale * scale;
            for ((dx, &dy), &x) in dx.iter_mut().zip(dy).zip(x) {
                *dx = ((dy - dy_mean) - (x - mean) * slope) * scale;
            }
        }
    }

    /// `y = x / sqrt(mean(x^2) + epsilon)`, (R, C) to (R, C).
    pub fn rms_normalize(x: &[f32], inner: usize, epsilon: f32, out: &mut [f32]) {
        for (x, out) in x.chunks_exact(inner).zip(out.chunks_exact_mut(inner)) {
            let scale = 1.0 / (sum_terms(x, x, |x, _| x * x) / inner as f32 + epsilon).sqrt();
            for (out, &x) in out.iter_mut().zip(x) {
                *out = x * scale;
            }
        }
    }

    /// The gradient of `rms_normalize`: `dx = (dy - y mean(dy y)) / sqrt(mean(x^2) + epsilon)`, all (R, C).
    pub fn rms_normalize_backward(x: &[f32], dy: &[f32], inner: usize, epsilon: f32, dx: &mut [f32]) {
        let count = inner as f32;
        for ((x, dy), dx) in x.chunks_exact(inner).zip(dy.chunks_exact(inner)).zip(dx.chunks_exact_mut(inner)) {
            let [squares, along] = sums_of_terms(x, dy, |x, dy| [x * x, dy * x]);
            let scale = 1.0 / (squares / count + epsilon).sqrt();
            let slope = along / count * scale * scale;
            for ((dx, &dy), &x) in dx.iter_mut().zip(dy).zip(x) {
                *dx = (dy - x * slope) * scale;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::with_portable_kernels;
    use super::*;
    use crate::support::random::{Purpose, RandomKey};

    const EPSILON: f32 = 1e-3;

    type Forward = fn(&[f32], usize, f32, &mut [f32]);
    type Backward = fn(&[f32], &[f32], usize, f32, &mut [f32]);

    #[test]
    fn normalized_rows_and_their_gradients_agree_with_float64() {
        for (rows, inner) in [(1, 1), (3, 2), (4, 7), (5, 16), (2, 128), (3, 301)] {
            check(normalize, normalize_backward, &slow_normalize, rows, inner);
            check(
                rms_normalize,
                rms_normalize_backward,
                &slow_rms,
                rows,
                inner,
            );
        }
    }

    #[test]
    fn a_large_mean_costs_no_accuracy() {
        let x = [10_000.0, 10_001.0, 10_002.0, 10_003.0];
        let mut y = [f32::NAN; 4];
        normalize(&x, 4, 0.0, &mut y);
        let expected = slow_normalize(&x.map(f64::from), 0.0);
        for (y, expected) in y.iter().zip(&expected) {
            assert!((f64::from(*y) - expected).abs() < 1e-6);
        }
    }

    fn check(
        forward: Forward,
        backward: Backward,
        slow: &dyn Fn(&[f64], f64) -> Vec<f64>,
        rows: usize,
        inner: usize,
    ) {
        let mut stream = RandomKey::of(5, 0).stream(Purpose::Test);
        let mut normal = |shift: f64| -> Vec<f32> {
            (0..rows * inner)
                .map(|_| (stream.normal() + shift) as f32)
                .collect()
        };
        let (x, dy) = (normal(1.5), normal(0.0));
        let run = || {
            let (mut y, mut dx) = (vec![f32::NAN; x.len()], vec![f32::NAN; x.len()]);
            forward(&x, inner, EPSILON, &mut y);
            backward(&x, &dy, inner, EPSILON, &mut dx);
            (y, dx)
        };
        let (y, dx) = run();
        assert_eq!((y.clone(), dx.clone()), with_portable_kernels(run));
        let epsilon = f64::from(EPSILON);
        for row in 0..rows {
            let range = row * inner..(row + 1) * inner;
            let exact: Vec<f64> = x[range.clone()].iter().map(|&x| f64::from(x)).collect();
            let answer = slow(&exact, epsilon);
            for column in 0..inner {
                let at = row * inner + column;
                assert!(
                    (f64::from(y[at]) - answer[column]).abs() < 2e-6,
                    "seed 5, ({rows}, {inner})"
                );
                // The loss is the sum of dy y; its slope along this number.
                let loss = |step: f64| -> f64 {
                    let mut moved = exact.clone();
                    moved[column] += step;
                    slow(&moved, epsilon)
                        .iter()
                        .zip(&dy[range.clone()])
                        .map(|(y, &dy)| y * f64::from(dy))
                        .sum()
                };
                let slope = (loss(1e-5) - loss(-1e-5)) / 2e-5;
                assert!(
                    (f64::from(dx[at]) - slope).abs() < 1e-5 * (1.0 + slope.abs()),
                    "seed 5, ({rows}, {inner}) at {at}: {} {slope}",
                    dx[at]
                );
            }
        }
    }

    fn slow_normalize(x: &[f64], epsilon: f64) -> Vec<f64> {
        let count = x.len() as f64;
        let mean = x.iter().sum::<f64>() / count;
        let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
        x.iter()
            .map(|x| (x - mean) / (variance + epsilon).sqrt())
            .collect()
    }

    fn slow_rms(x: &[f64], epsilon: f64) -> Vec<f64> {
        let mean = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
        x.iter().map(|x| x / (mean + epsilon).sqrt()).collect()
    }
}
