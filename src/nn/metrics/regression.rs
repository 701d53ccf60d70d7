//! Metrics of numbers, each of one position; what is averaged over positions.

use super::exact_sum::ExactSum;
use super::recipes::{Form, Position};
use crate::nn::settings::Values;

/// Keras' epsilon: the least size that a label counts with where it divides, and the least logarithm's argument.
const EPSILON: f64 = 1e-7;

pub(super) fn absolute(position: &Position<'_>) -> f64 {
    mean(position, |y, t| (y - t).abs())
}

pub(super) fn squared(position: &Position<'_>) -> f64 {
    mean(position, |y, t| (y - t) * (y - t))
}

/// In percent.
pub(super) fn absolute_percentage(position: &Position<'_>) -> f64 {
    100.0 * mean(position, |y, t| ((y - t) / t.abs().max(EPSILON)).abs())
}

pub(super) fn squared_logarithmic(position: &Position<'_>) -> f64 {
    let log = |x: f64| (x.max(EPSILON) + 1.0).ln();
    mean(position, |y, t| (log(y) - log(t)).powi(2))
}

pub(super) fn log_cosh(position: &Position<'_>) -> f64 {
    mean(position, |y, t| {
        let size = (y - t).abs();
        size + (-2.0 * size).exp().ln_1p() - std::f64::consts::LN_2
    })
}

/// The cosine of the angle between answer and label, from -1 to 1.
pub(super) fn cosine(position: &Position<'_>) -> f64 {
    let length = |of: &[f32]| {
        let squares = of.iter().map(|&x| f64::from(x) * f64::from(x));
        squares.sum::<f64>().max(1e-12).sqrt()
    };
    let product: f64 = pairs(position).map(|(y, t)| y * t).sum();
    product / (length(position.answer) * length(position.label))
}

/// The weight, then for each number of a position the sums of its label, its square and the squared error.
pub(super) fn r2_cells(form: &Form) -> usize {
    1 + 3 * form.width
}

pub(super) fn r2_add(position: &Position<'_>, weight: f64, sums: &mut [ExactSum]) {
    sums[0].add(weight);
    for ((y, t), sums) in pairs(position).zip(sums[1..].chunks_exact_mut(3)) {
        sums[0].add(weight * t);
        sums[1].add(weight * (t * t));
        sums[2].add(weight * ((y - t) * (y - t)));
    }
}

/// 1 - squared error / squared distance from the mean, the mean over the numbers of a position; a label that never
/// changes counts 0, as in Keras.
pub(super) fn r2(_: &Values, sums: &[f64]) -> f64 {
    let (weight, outputs) = (sums[0], &sums[1..]);
    let each = outputs.chunks_exact(3).map(|sums| {
        let total = sums[1] - sums[0] * (sums[0] / weight);
        match total > 0.0 {
            true => 1.0 - sums[2] / total,
            false => 0.0,
        }
    });
    match weight > 0.0 {
        true => each.sum::<f64>() / (outputs.len() / 3) as f64,
        false => f64::NAN,
    }
}

fn pairs<'a>(position: &Position<'a>) -> impl Iterator<Item = (f64, f64)> + use<'a> {
    let pairs = position.answer.iter().zip(position.label);
    pairs.map(|(&y, &t)| (f64::from(y), f64::from(t)))
}

fn mean(position: &Position<'_>, each: impl Fn(f64, f64) -> f64) -> f64 {
    let sum: f64 = pairs(position).map(|(y, t)| each(y, t)).sum();
    sum / position.answer.len() as f64
}
