//! The share of right answers.

use super::super::losses::Label;
use super::recipes::Position;

/// By the loss: of classes when it is over classes, else of each number at the threshold of one half.
pub(super) fn accuracy(position: &Position<'_>) -> f64 {
    match position.form.label {
        Label::Index | Label::Shares => categorical(position),
        _ => share_at(position, 0.5),
    }
}

/// The share of numbers that lie on the label's side. Options: threshold.
pub(super) fn binary(position: &Position<'_>) -> f64 {
    share_at(position, position.values.number(0) as f32)
}

/// 1 where the class of the largest answer is the label's; of equals the first, as NumPy's argmax.
pub(super) fn categorical(position: &Position<'_>) -> f64 {
    one_if(position.answered_class() as f32 == position.true_class())
}

/// 1 where fewer than k answers are larger than that of the label's class. Options: k.
pub(super) fn top_k(position: &Position<'_>) -> f64 {
    let class = position.true_class();
    let right = position.answer.get(class.max(0.0) as usize);
    let Some(right) = right.filter(|_| class >= 0.0) else {
        return 0.0;
    };
    let ahead = position.answer.iter().filter(|each| *each > right).count();
    one_if((ahead as f64) < position.values.number(0))
}

fn share_at(position: &Position<'_>, threshold: f32) -> f64 {
    let right = position
        .answer
        .iter()
        .zip(position.label)
        .filter(|(y, t)| (**y > threshold) == (**t > 0.5))
        .count();
    right as f64 / position.answer.len() as f64
}

fn one_if(right: bool) -> f64 {
    f64::from(u8::from(right))
}
