//! Areas under curves over all thresholds, from the weights of negatives and positives at each score, highest first.

use crate::nn::settings::Values;

/// Area under the receiver operating characteristic, or under precision over recall. Options: curve.
pub(super) fn area(values: &Values, scores: &[(u64, u64)]) -> f64 {
    match values.number(0) as usize {
        0 => under_roc(scores),
        _ => under_precision_recall(scores),
    }
}

/// By the trapezoid rule: a pair in order counts 1, a tie one half. In whole numbers up to the last division.
fn under_roc(scores: &[(u64, u64)]) -> f64 {
    let total = |of: fn(&(u64, u64)) -> u64| scores.iter().map(|each| u128::from(of(each))).sum();
    let (negative, positive): (u128, u128) = (total(|each| each.0), total(|each| each.1));
    let (mut above, mut area) = (0u128, 0u128);
    for &(negatives, positives) in scores {
        above += u128::from(negatives);
        let below = negative - above;
        area += u128::from(positives) * (2 * below + u128::from(negatives));
    }
    area as f64 / 2.0 / positive as f64 / negative as f64
}

/// Between two thresholds, true positives rise in proportion to all positives answered (Davis and Goadrich, 2006): what
/// Keras' AUC(curve="PR") computes at its thresholds, here at every score.
fn under_precision_recall(scores: &[(u64, u64)]) -> f64 {
    let positive: f64 = scores.iter().map(|each| each.1 as f64).sum();
    let (mut right, mut answered, mut area) = (0.0, 0.0, 0.0);
    for &(negatives, positives) in scores {
        let more = negatives as f64 + positives as f64;
        if more == 0.0 {
            continue;
        }
        let slope = positives as f64 / more;
        let intercept = right - slope * answered;
        let ratio = if answered > 0.0 {
            (answered + more) / answered
        } else {
            1.0
        };
        area += slope * (positives as f64 + intercept * ratio.ln());
        right += positives as f64;
        answered += more;
    }
    area / positive
}

/// The mean of the precision at each threshold, weighted by how much recall it adds; scikit-learn's.
pub(super) fn average_precision(_: &Values, scores: &[(u64, u64)]) -> f64 {
    let positive: f64 = scores.iter().map(|each| each.1 as f64).sum();
    let (mut right, mut answered, mut sum) = (0.0, 0.0, 0.0);
    for &(negatives, positives) in scores {
        right += positives as f64;
        answered += negatives as f64 + positives as f64;
        if answered > 0.0 {
            sum += positives as f64 * (right / answered);
        }
    }
    sum / positive
}
