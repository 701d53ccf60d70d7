//! Metrics from counts of what was answered and what was true.

use super::super::losses::Label;
use super::recipes::{Form, Position};
use crate::nn::settings::Values;

/// Counts of one class, or of all together.
struct Counts {
    both: f64,
    answered: f64,
    labelled: f64,
}

impl Counts {
    fn of(cells: &[u64]) -> Counts {
        Counts {
            both: cells[0] as f64,
            answered: cells[1] as f64,
            labelled: cells[2] as f64,
        }
    }

    /// Twice what both say over the sum of what each says.
    fn f1(&self) -> f64 {
        over(2.0 * self.both, self.answered + self.labelled)
    }
}

/// Both, answered and labelled, of all classes or the one asked for.
pub(super) fn three_cells(_: &Form) -> usize {
    3
}

/// Counts numbers above the threshold. Options: thresholds, class_id.
pub(super) fn threshold_add(position: &Position<'_>, units: u64, cells: &mut [u64]) {
    let threshold = position.values.number(0) as f32;
    let asked = position.values.given(1);
    for (class, answer) in position.answer.iter().enumerate() {
        if asked.is_none_or(|asked| asked == class as f64) {
            count(cells, *answer > threshold, position.says(class), units);
        }
    }
}

/// The share of what was answered that is so; 0 when nothing was, as in Keras.
pub(super) fn precision(_: &Values, cells: &[u64]) -> f64 {
    let counts = Counts::of(cells);
    over(counts.both, counts.answered)
}

/// The share of what is so that was answered; 0 when nothing is.
pub(super) fn recall(_: &Values, cells: &[u64]) -> f64 {
    let counts = Counts::of(cells);
    over(counts.both, counts.labelled)
}

/// Three for each class.
pub(super) fn class_cells(form: &Form) -> usize {
    3 * form.width
}

/// Counts, for each class, numbers above the threshold; without one, the largest of several, and 0.5 of one alone.
/// Options: average, threshold.
pub(super) fn f1_add(position: &Position<'_>, units: u64, cells: &mut [u64]) {
    let largest = || position.answer.iter().copied().fold(f32::MIN, f32::max);
    let threshold = position.values.given(1).map(|given| given as f32);
    let (threshold, highest) = match (threshold, position.answer.len()) {
        (Some(threshold), _) => (threshold, None),
        (None, 1) => (0.5, None),
        (None, _) => (0.0, Some(largest())),
    };
    let cells = cells.chunks_exact_mut(3).enumerate();
    for ((class, cells), answer) in cells.zip(position.answer) {
        let answered = match highest {
            Some(highest) => *answer >= highest && answer.abs() > 1e-9,
            None => *answer > threshold,
        };
        count(cells, answered, position.says(class), units);
    }
}

pub(super) fn f1(values: &Values, cells: &[u64]) -> f64 {
    let classes: Vec<Counts> = cells.chunks_exact(3).map(Counts::of).collect();
    match values.number(0) as usize {
        0 => classes.iter().map(Counts::f1).sum::<f64>() / classes.len() as f64,
        1 => {
            let total = |of: fn(&Counts) -> f64| classes.iter().map(of).sum();
            let all = Counts {
                both: total(|counts| counts.both),
                answered: total(|counts| counts.answered),
                labelled: total(|counts| counts.labelled),
            };
            all.f1()
        }
        _ => {
            let labelled: f64 = classes.iter().map(|counts| counts.labelled).sum();
            let weighted = classes.iter().map(|counts| counts.f1() * counts.labelled);
            over(weighted.sum(), labelled)
        }
    }
}

/// Three for each class; two classes where the label is 0 or 1.
pub(super) fn intersection_cells(form: &Form) -> usize {
    3 * classes(form)
}

/// How many classes an answer is one of.
pub(super) fn classes(form: &Form) -> usize {
    match form.label {
        Label::Binary => 2,
        _ => form.width,
    }
}

/// Options: num_classes, ignore_class.
pub(super) fn intersection_add(position: &Position<'_>, units: u64, cells: &mut [u64]) {
    let ignored = position.values.given(1);
    let mut pair = |answered: usize, labelled: f32| {
        if ignored != Some(f64::from(labelled)) {
            for (class, cells) in cells.chunks_exact_mut(3).enumerate() {
                count(cells, answered == class, labelled == class as f32, units);
            }
        }
    };
    if position.form.label != Label::Binary {
        return pair(position.answered_class(), position.true_class());
    }
    for (class, answer) in position.answer.iter().enumerate() {
        let labelled = f32::from(u8::from(position.says(class)));
        pair(usize::from(*answer > 0.5), labelled);
    }
}

/// The mean over the classes that were met of: both over either.
pub(super) fn mean_intersection(_: &Values, cells: &[u64]) -> f64 {
    let (mut sum, mut met) = (0.0, 0.0);
    for counts in cells.chunks_exact(3).map(Counts::of) {
        let either = counts.answered + counts.labelled - counts.both;
        if either > 0.0 {
            sum += counts.both / either;
            met += 1.0;
        }
    }
    match met > 0.0 {
        true => sum / met,
        false => f64::NAN,
    }
}

fn count(cells: &mut [u64], answered: bool, labelled: bool, units: u64) {
    for (cell, counts) in cells
        .iter_mut()
        .zip([answered && labelled, answered, labelled])
    {
        if counts {
            *cell = cell.saturating_add(units);
        }
    }
}

/// 0 over 0 is 0.
fn over(part: f64, whole: f64) -> f64 {
    if whole == 0.0 { 0.0 } else { part / whole }
}
