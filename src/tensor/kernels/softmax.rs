//! Softmax and its logarithm over the innermost extent, and their gradients from the answers.

use super::reduce::{sum_contiguous, sum_terms};
use super::{math, multiversion};

/// Rows' maxima are taken in this many lanes at once.
const WAYS: usize = 16;

/// Rows up to this long are worked on in blocks of `ROWS`: a loop over ten classes leaves most of a vector empty.
const NARROW: usize = 32;

/// Rows of a block, one in each lane of a vector.
const ROWS: usize = 16;

/// A block of narrow rows, turned: one array per column.
type Columns = [[f32; ROWS]; NARROW];
const EMPTY: Columns = [[0.0; ROWS]; NARROW];

multiversion! {
    /// Softmax in the shifted form that does not overflow: (R, C) to (R, C), each row sums to 1. A NaN makes its own row NaN.
    pub fn softmax(x: &[f32], inner: usize, out: &mut [f32]) {
        if inner <= NARROW {
            let mut columns = EMPTY;
            for (x, out) in x.chunks(ROWS * inner).zip(out.chunks_mut(ROWS * inner)) {
                turn(x, inner, &mut columns);
                narrow_softmax(&mut columns[..inner]);
                turn_back(&columns, inner, out);
            }
            return;
        }
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
        if inner <= NARROW {
            let mut columns = EMPTY;
            for (x, out) in x.chunks(ROWS * inner).zip(out.chunks_mut(ROWS * inner)) {
                turn(x, inner, &mut columns);
                narrow_log_softmax(&mut columns[..inner]);
                turn_back(&columns, inner, out);
            }
            return;
        }
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

// Parts of the functions above, always inlined into them: closures and function values are not, and would be compiled
// without the caller's instruction set.

/// Turns up to `ROWS` rows; a lane without a row keeps what it held, and no lane's answer knows of the others.
#[inline(always)]
fn turn(rows: &[f32], inner: usize, columns: &mut Columns) {
    for (lane, row) in rows.chunks_exact(inner).enumerate().take(ROWS) {
        for (column, &value) in columns.iter_mut().zip(row) {
            column[lane] = value;
        }
    }
}

#[inline(always)]
fn turn_back(columns: &Columns, inner: usize, rows: &mut [f32]) {
    for (lane, row) in rows.chunks_exact_mut(inner).enumerate().take(ROWS) {
        for (value, column) in row.iter_mut().zip(columns) {
            *value = column[lane];
        }
    }
}

/// `softmax` of a block.
#[inline(always)]
fn narrow_softmax(columns: &mut [[f32; ROWS]]) {
    let mut scale = exponentials(columns);
    for scale in &mut scale {
        *scale = 1.0 / *scale;
    }
    for column in columns {
        for (out, scale) in column.iter_mut().zip(scale) {
            *out *= scale;
        }
    }
}

/// `log_softmax` of a block.
#[inline(always)]
fn narrow_log_softmax(columns: &mut [[f32; ROWS]]) {
    let highest = maxima(columns);
    let mut log_sum = [0.0; ROWS];
    for column in columns.iter_mut() {
        for ((value, highest), sum) in column.iter_mut().zip(highest).zip(&mut log_sum) {
            *value -= highest;
            *sum += math::exp_of_negative(*value);
        }
    }
    for log_sum in &mut log_sum {
        *log_sum = math::log(*log_sum);
    }
    for column in columns {
        for (value, log_sum) in column.iter_mut().zip(log_sum) {
            *value -= log_sum;
        }
    }
}

/// `maximum` of each lane's row.
#[inline(always)]
fn maxima(columns: &[[f32; ROWS]]) -> [f32; ROWS] {
    let mut highest = [f32::NEG_INFINITY; ROWS];
    for column in columns {
        for (highest, &value) in highest.iter_mut().zip(column) {
            *highest = if value > *highest { value } else { *highest };
        }
    }
    highest
}

/// In place `exp(x - max)`; returns each row's sum.
#[inline(always)]
fn exponentials(columns: &mut [[f32; ROWS]]) -> [f32; ROWS] {
    let highest = maxima(columns);
    let mut sum = [0.0; ROWS];
    for column in columns {
        for ((value, highest), sum) in column.iter_mut().zip(highest).zip(&mut sum) {
            *value = math::exp_of_negative(*value - highest);
            *sum += *value;
        }
    }
    sum
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
        for (rows, inner, scale) in [
            (1, 1, 1.0),
            (4, 7, 1.0),
            (37, 10, 300.0),
            (16, 32, 10.0),
            (3, 33, 10.0),
            (3, 100, 20.0),
        ] {
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
        for (rows, inner) in [(1, 1), (3, 2), (35, 7), (5, 32), (5, 33), (2, 100)] {
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
    fn where_a_narrow_row_stands_does_not_change_its_bits() {
        let (rows, inner) = (21, 10);
        let mut stream = RandomKey::of(8, 0).stream(Purpose::Test);
        let x: Vec<f32> = (0..rows * inner).map(|_| stream.normal() as f32).collect();
        let run = |x: &[f32]| {
            let [mut y, mut log_y] = [(); 2].map(|()| vec![f32::NAN; x.len()]);
            let [mut dx, mut log_dx] = [(); 2].map(|()| vec![f32::NAN; x.len()]);
            softmax(x, inner, &mut y);
            log_softmax(x, inner, &mut log_y);
            softmax_backward(&y, x, inner, &mut dx);
            log_softmax_backward(&log_y, x, inner, &mut log_dx);
            [y, log_y, dx, log_dx]
        };
        let whole = run(&x);
        for row in 0..rows {
            let range = row * inner..(row + 1) * inner;
            let alone = run(&x[range.clone()]);
            for (whole, alone) in whole.iter().zip(alone) {
                assert_eq!(whole[range.clone()], alone, "row {row}");
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
