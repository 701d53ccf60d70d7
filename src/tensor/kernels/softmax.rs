//! Softmax and its logarithm over the innermost extent, and their gradients from the answers.

use super::reduce::{sum_contiguous, sum_terms};
use super::{math, multiversion};

/// Rows' maxima are taken in this many lanes at once.
const WAYS: usize = 16;

multiversion! {
    /// Softmax in the shifted form that does not overflow: (R, C) to (R, C), each row sums to 1. A NaN makes its own row NaN.
    pub fn softmax(x: &[f32], inner: usize, out: &mut [f32]) {
        for (row, out) in x.chunks_exact(inner).zip(out.chunks_exact_mut(inner)) {
            let highest = maximum(row);
            for (out, &value) in out.iter_mut().zip(row) {
                *out = math::exp_of_negative(value - highest);
            }
            let scale = 1.0 / sum_contiguous(out);
            for out in out.iter_mut() {
                *out *= scale;
            }
        }
    }

    /// log(softmax(x)) as `x - max - log(sum(exp(x - max)))`: (R, C) to (R, C).
    pub fn log_softmax(x: &[f32], inner: usize, out: &mut [f32]) {
        for (row, out) in x.chunks_exact(inner).zip(out.chunks_exact_mut(inner)) {
            let highest = maximum(row);
            for (out, &value) in out.iter_mut().zip(row) {
                *out = math::exp_of_negative(value - highest);
            }
            let log_sum = math::log(sum_contiguous(out));
            for (out, &value) in out.iter_mut().zip(row) {
                *out = (value - highest) - log_sum;
            }
        }
    }

    /// The gradient of `softmax` from its answer `y`: `dx = y (dy - sum(dy y))`, all (R, C).
    pub fn softmax_backward(y: &[f32], dy: &[f32], inner: usize, dx: &mut [f32]) {
        for ((y, dy), dx) in y.chunks_exact(inner).zip(dy.chunks_exact(inner)).zip(dx.chunks_exact_mut(inner)) {
            let along = sum_terms(dy, y, |dy, y| dy * y);
            for ((dx, &dy), &y) in dx.iter_mut().zip(dy).zip(y) {
                *dx = y * (dy - along);
            }
        }
    }

    /// The gradient of `log_softmax` from its answer `y`: `dx = dy - exp(y) sum(dy)`, all (R, C).
    pub fn log_softmax_backward(y: &[f32], dy: &[f32], inner: usize, dx: &mut [f32]) {
        for ((y, dy), dx) in y.chunks_exact(inner).zip(dy.chunks_exact(inner)).zip(dx.chunks_exact_mut(inner)) {
            let sum = sum_contiguous(dy);
            for ((dx, &dy), &y) in dx.iter_mut().zip(dy).zip(y) {
                *dx = dy - math::exp_of_negative(y) * sum;
            }
        }
    }
}

/// The highest number of a row; NaN never is, and spoils the row through its exponential.
#[inline(always)]
fn maximum(row: &[f32]) -> f32 {
    let higher = |highest: f32, value: f32| if value > highest { value } else { highest };
    let mut lanes = [f32::NEG_INFINITY; WAYS];
    let mut blocks = row.chunks_exact(WAYS);
    for block in blocks.by_ref() {
        for (lane, &value) in lanes.iter_mut().zip(block) {
            *lane = higher(*lane, value);
        }
    }
    for (lane, &value) in lanes.iter_mut().zip(blocks.remainder()) {
        *lane = higher(*lane, value);
    }
    let mut width = WAYS / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] = higher(lanes[lane], lanes[lane + width]);
        }
        width /= 2;
    }
    lanes[0]
}

#[cfg(test)]
mod tests {
    use super::super::with_portable_kernels;
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
    fn gradients_agree_with_differences_in_float64_and_with_the_portable_kernels() {
        for (rows, inner) in [(1, 1), (3, 2), (4, 7), (5, 16), (2, 100)] {
            check_gradient(rows, inner, softmax, softmax_backward, &|x| {
                let sum: f64 = x.iter().map(|x| x.exp()).sum();
                x.iter().map(|x| x.exp() / sum).collect()
            });
            check_gradient(rows, inner, log_softmax, log_softmax_backward, &|x| {
                let sum: f64 = x.iter().map(|x| x.exp()).sum();
                x.iter().map(|x| x - sum.ln()).collect()
            });
        }
    }

    fn check_gradient(
        rows: usize,
        inner: usize,
        forward: fn(&[f32], usize, &mut [f32]),
        backward: fn(&[f32], &[f32], usize, &mut [f32]),
        slow: &dyn Fn(&[f64]) -> Vec<f64>,
    ) {
        let mut stream = RandomKey::of(6, 0).stream(Purpose::Test);
        let mut normal =
            || -> Vec<f32> { (0..rows * inner).map(|_| stream.normal() as f32).collect() };
        let (x, dy) = (normal(), normal());
        let run = || {
            let (mut y, mut dx) = (vec![f32::NAN; x.len()], vec![f32::NAN; x.len()]);
            forward(&x, inner, &mut y);
            backward(&y, &dy, inner, &mut dx);
            (y, dx)
        };
        let (y, dx) = run();
        assert_eq!((y, dx.clone()), with_portable_kernels(run));
        for (at, &found) in dx.iter().enumerate() {
            let range = at / inner * inner..(at / inner + 1) * inner;
            let loss = |step: f64| -> f64 {
                let mut moved: Vec<f64> = x[range.clone()].iter().map(|&x| f64::from(x)).collect();
                moved[at % inner] += step;
                let answer = slow(&moved);
                answer
                    .iter()
                    .zip(&dy[range.clone()])
                    .map(|(y, &dy)| y * f64::from(dy))
                    .sum()
            };
            let slope = (loss(1e-5) - loss(-1e-5)) / 2e-5;
            assert!(
                (f64::from(found) - slope).abs() < 1e-5,
                "seed 6, ({rows}, {inner}) at {at}: {found} {slope}"
            );
        }
    }

    #[test]
    fn a_nan_spoils_its_own_row_only() {
        let mut y = [0.0; 4];
        softmax(&[f32::NAN, 1.0, 0.0, 0.0], 2, &mut y);
        assert!(y[0].is_nan() && y[1].is_nan() && y[2] == 0.5 && y[3] == 0.5);
    }
}
