//! Connectionist temporal classification: how likely a sequence of classes reads as a label, and its gradient.
//!
//! Class 0 is blank. A path, one class per step, reads as a label when the label is left after equal neighbours are joined and
//! blanks dropped. A label of U classes has S = 2 U + 1 states, a blank before, between and behind its classes; with l_s the class of
//! a state and p_t(k) the probability of class k at step t,
//! `a_t(s) = log p_t(l_s) + log(e^a_{t-1}(s) + e^a_{t-1}(s - 1) + e^a_{t-1}(s - 2))`,
//! the last only where l_s is no blank and not l_{s-2}. The loss is `-log(e^a_T(S - 1) + e^a_T(S - 2))`. With b_t(s) the like
//! from the end, its gradient by `log p_t(k)` is minus the probability, among the paths that read as the label, of class k at step t:
//! the sum over states of class k of `e^(a_t(s) + b_t(s))`, over that of all states.
//!
//! Logarithms are kept relative to the greatest of their step, so that float32 holds what counts of them to its last places; the greatest
//! are summed in float64. Order is fixed, so every version gives the same bits.
//! Source: Graves et al., Connectionist Temporal Classification (2006).

use super::{math, multiversion};

/// The logarithm of no path at all. Sums of two are no infinity, whose differences would be NaN.
const NONE: f32 = -1e30;
/// A loss beyond this is that of a path of probability 0.
const IMPOSSIBLE: f64 = 1e29;

/// Log probabilities (rows, steps, classes) against labels (rows, labels) of classes from 1, with 0 behind them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Alignment {
    pub steps: usize,
    pub classes: usize,
    /// Places of a label.
    pub labels: usize,
}

/// A row's label that no path can read as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadLabel {
    /// Not a class: where it stands among all labels, and what it is.
    OutOfRange { position: usize, index: i64 },
    /// A class behind a 0.
    BlankInside { row: usize },
    /// Its classes, and a blank between equal neighbours, are more than the steps.
    TooLong { row: usize, needed: usize },
}

impl Alignment {
    fn states_max(&self) -> usize {
        2 * self.labels + 1
    }

    /// Scratch of `loss`: the states of two steps, a step's log probabilities, and where two states may be skipped.
    pub fn loss_workspace_len(&self) -> usize {
        4 * (self.states_max() + 2)
    }

    /// Scratch of `gradient`: that, and the states of every step.
    pub fn gradient_workspace_len(&self) -> usize {
        self.loss_workspace_len()
            .saturating_add(self.steps.saturating_mul(self.states_max()))
    }

    /// How many classes the label of a row has.
    fn length(&self, row: usize, label: &[f32]) -> Result<usize, BadLabel> {
        let mut length = 0;
        let mut repeated = 0;
        for (place, &class) in label.iter().enumerate() {
            // A NaN or a fraction has no class; `as` saturates, so huge numbers fall outside too.
            let index = class as i64;
            if index as f32 != class || index < 0 || index as u64 >= self.classes as u64 {
                let position = row * self.labels + place;
                return Err(BadLabel::OutOfRange { position, index });
            }
            if index == 0 {
                continue;
            }
            if length != place {
                return Err(BadLabel::BlankInside { row });
            }
            if place > 0 && label[place - 1] == class {
                repeated += 1;
            }
            length += 1;
        }
        let needed = length + repeated;
        if needed > self.steps {
            return Err(BadLabel::TooLong { row, needed });
        }
        Ok(length)
    }
}

/// The loss of each row.
///
/// Shapes: `log_p` (R, T, K), `labels` (R, L) to (R). Infinity where every path has probability 0; NaN stays NaN.
/// Errors: a label that no path of T steps reads as.
pub fn loss(
    alignment: &Alignment,
    log_p: &[f32],
    labels: &[f32],
    out: &mut [f32],
    workspace: &mut [f32],
) -> Result<(), BadLabel> {
    let rows = rows_of(alignment, log_p, labels);
    for ((row, (log_p, label)), out) in rows.enumerate().zip(out) {
        let length = alignment.length(row, label)?;
        *out = row_loss(
            &label[..length],
            log_p,
            alignment.classes,
            workspace,
            &mut [],
        );
    }
    Ok(())
}

/// The gradient of the sum of `dy` times `loss`, by the log probabilities.
///
/// Shapes: `log_p` (R, T, K), `labels` (R, L), `dy` (R), or one number for all rows, to (R, T, K). Errors: as `loss`.
pub fn gradient(
    alignment: &Alignment,
    log_p: &[f32],
    labels: &[f32],
    dy: &[f32],
    out: &mut [f32],
    workspace: &mut [f32],
) -> Result<(), BadLabel> {
    let (scratch, steps) = workspace.split_at_mut(alignment.loss_workspace_len());
    let each = alignment.steps * alignment.classes;
    let rows = rows_of(alignment, log_p, labels);
    for ((row, (log_p, label)), out) in rows.enumerate().zip(out.chunks_exact_mut(each.max(1))) {
        let length = alignment.length(row, label)?;
        let label = &label[..length];
        row_loss(label, log_p, alignment.classes, scratch, steps);
        let dy = dy[row % dy.len()];
        row_gradient(label, log_p, alignment.classes, dy, scratch, steps, out);
    }
    Ok(())
}

fn rows_of<'a>(
    alignment: &Alignment,
    log_p: &'a [f32],
    labels: &'a [f32],
) -> impl Iterator<Item = (&'a [f32], &'a [f32])> {
    let each = alignment.steps * alignment.classes;
    log_p
        .chunks_exact(each.max(1))
        .zip(labels.chunks_exact(alignment.labels.max(1)))
}

/// The class of a state.
#[inline(always)]
fn class_of(label: &[f32], state: usize) -> usize {
    if state.is_multiple_of(2) {
        0
    } else {
        label[state / 2] as usize
    }
}

/// 0 where a state may be reached from the state before the last, else `NONE`; and two more of these.
#[inline(always)]
fn write_skips(label: &[f32], skips: &mut [f32]) {
    skips.fill(NONE);
    for place in 1..label.len() {
        if label[place] != label[place - 1] {
            skips[2 * place + 1] = 0.0;
        }
    }
}

/// A step's log probability of each state's class.
#[inline(always)]
fn write_emissions(label: &[f32], log_p: &[f32], emissions: &mut [f32]) {
    for (state, emission) in emissions.iter_mut().enumerate() {
        let value = log_p[class_of(label, state)];
        // NaN passes.
        *emission = if value < NONE { NONE } else { value };
    }
}

/// log(e^a + e^b + e^c).
#[inline(always)]
fn log_sum(a: f32, b: f32, c: f32) -> f32 {
    let highest = if b > a { b } else { a };
    let highest = if c > highest { c } else { highest };
    let sum = math::exp_of_negative(a - highest)
        + math::exp_of_negative(b - highest)
        + math::exp_of_negative(c - highest);
    highest + math::log(sum)
}

#[inline(always)]
fn greatest(states: &[f32]) -> f32 {
    let mut highest = f32::NEG_INFINITY;
    for &state in states {
        highest = if state > highest { state } else { highest };
    }
    highest
}

multiversion! {
    /// The loss of a row; where `steps` is not empty, the states of each step are written there, one after another.
    fn row_loss(label: &[f32], log_p: &[f32], classes: usize, scratch: &mut [f32], steps: &mut [f32]) -> f32 {
        let states = 2 * label.len() + 1;
        let (mut before, rest) = scratch.split_at_mut(states + 2);
        let (mut after, rest) = rest.split_at_mut(states + 2);
        let (skips, rest) = rest.split_at_mut(states + 2);
        let emissions = &mut rest[..states];
        write_skips(label, skips);
        // Two states that no path reaches stand before the first.
        before.fill(NONE);
        after.fill(NONE);
        let mut total = 0.0f64;
        for (time, log_p) in log_p.chunks_exact(classes).enumerate() {
            write_emissions(label, log_p, emissions);
            if time == 0 {
                // A path begins with a blank or with the first class.
                for (state, after) in after[2..].iter_mut().enumerate() {
                    *after = if state < 2 { emissions[state] } else { NONE };
                }
            } else {
                let (two, one, same) = (&before[..states], &before[1..=states], &before[2..]);
                for state in 0..states {
                    after[state + 2] = log_sum(same[state], one[state], two[state] + skips[state]) + emissions[state];
                }
            }
            let highest = greatest(&after[2..]);
            for state in &mut after[2..] {
                *state -= highest;
            }
            total += f64::from(highest);
            if !steps.is_empty() {
                steps[time * states..(time + 1) * states].copy_from_slice(&after[2..]);
            }
            std::mem::swap(&mut before, &mut after);
        }
        // The last two states; an empty label has one, and no path stands before it.
        let last = if states > 1 { before[states] } else { NONE };
        let found = -(total + f64::from(log_sum(before[states + 1], last, NONE)));
        if found > IMPOSSIBLE { f32::INFINITY } else { found as f32 }
    }

    /// Writes a row's gradient, with the states of each step that `row_loss` wrote.
    fn row_gradient(
        label: &[f32], log_p: &[f32], classes: usize, dy: f32, scratch: &mut [f32], steps: &mut [f32], out: &mut [f32],
    ) {
        let states = 2 * label.len() + 1;
        let (onward, rest) = scratch.split_at_mut(states + 2);
        let (emissions, rest) = rest.split_at_mut(states + 2);
        let (skips, rest) = rest.split_at_mut(states + 2);
        let behind = &mut rest[..states];
        write_skips(label, skips);
        onward.fill(NONE);
        behind.fill(NONE);
        behind[states - 1] = 0.0;
        if states > 1 {
            behind[states - 2] = 0.0;
        }
        let each = log_p.chunks_exact(classes).zip(out.chunks_exact_mut(classes)).enumerate();
        for (time, (log_p, out)) in each.rev() {
            let step = &mut steps[time * states..(time + 1) * states];
            for (state, &behind) in step.iter_mut().zip(behind.iter()) {
                *state += behind;
            }
            let highest = greatest(step);
            let mut sum = 0.0f64;
            for state in step.iter_mut() {
                *state = math::exp_of_negative(*state - highest);
            }
            for &state in step.iter() {
                sum += f64::from(state);
            }
            let scale = -dy / sum as f32;
            out.fill(0.0);
            for (state, &share) in step.iter().enumerate() {
                out[class_of(label, state)] += share * scale;
            }
            // What follows from each state of the step before.
            write_emissions(label, log_p, &mut emissions[..states]);
            for state in 0..states {
                onward[state] = behind[state] + emissions[state];
            }
            for state in 0..states {
                behind[state] = log_sum(onward[state], onward[state + 1], onward[state + 2] + skips[state + 2]);
            }
            let highest = greatest(behind);
            for state in behind.iter_mut() {
                *state -= highest;
            }
        }
    }
}

/// The loss of one row in float64, plainly: infinity where no path reads as the label, NaN where it is none.
pub fn loss_in_float64(classes: usize, log_p: &[f64], label: &[f64]) -> f64 {
    let length = label.iter().filter(|&&class| class != 0.0).count();
    let is_class = |class: &f64| class.fract() == 0.0 && (0.0..classes as f64).contains(class);
    if !label.iter().all(is_class) || label[..length].contains(&0.0) {
        return f64::NAN;
    }
    let label = &label[..length];
    let class = |state: usize| {
        if state.is_multiple_of(2) {
            0
        } else {
            label[state / 2] as usize
        }
    };
    let log_sum = |values: &[f64]| {
        let highest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if highest == f64::NEG_INFINITY {
            return highest;
        }
        highest + values.iter().map(|x| (x - highest).exp()).sum::<f64>().ln()
    };
    let states = 2 * length + 1;
    let mut reached = vec![f64::NEG_INFINITY; states];
    for (time, log_p) in log_p.chunks_exact(classes).enumerate() {
        let next = (0..states).map(|state| {
            let mut from = Vec::with_capacity(3);
            if time == 0 {
                from.extend((state < 2).then_some(0.0));
            } else {
                from.push(reached[state]);
                from.extend(state.checked_sub(1).map(|state| reached[state]));
                let skips = state >= 2 && class(state) != 0 && class(state) != class(state - 2);
                from.extend(skips.then(|| reached[state - 2]));
            }
            log_sum(&from) + log_p[class(state)]
        });
        reached = next.collect();
    }
    -log_sum(&reached[states.saturating_sub(2)..])
}

#[cfg(test)]
mod tests;
