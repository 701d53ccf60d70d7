//! Recurrent layers over a whole sequence: the steps that follow each other, forward and backward.
//!
//! Everything is time-major: T steps of B rows of U units. The product of the inputs and their kernel, `x W + b`, is
//! made outside for all steps at once, and so is the gradient of the recurrent kernel; in here stays what one step
//! owes the step before: one product per step and one pass over each row. Knows no layers, directions or dropout.

mod gru;
mod lstm;

#[cfg(test)]
mod golden;
#[cfg(test)]
mod slow;

use super::reduce;

pub use gru::{gru, gru_backward, gru_backward_len, gru_len, gru_workspace_len};
pub use lstm::{lstm, lstm_backward, lstm_backward_len, lstm_len, lstm_workspace_len};

/// The extents of a recurrent layer's work: T steps, B rows, U units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Recurrence {
    pub time: usize,
    pub rows: usize,
    pub units: usize,
}

impl Recurrence {
    /// Numbers of one step's state (B, U).
    fn state(&self) -> usize {
        self.rows * self.units
    }

    /// Whether a cotangent of a sequence (T+1, B, U) flows: a single 0 in its place says that it does not.
    fn flows(&self, cotangent: &[f32]) -> bool {
        cotangent.len() != 1 || (self.time + 1) * self.state() == 1
    }

    /// The length a cotangent of a sequence must have.
    fn cotangent_len(&self, cotangent: &[f32]) -> usize {
        if self.flows(cotangent) {
            (self.time + 1) * self.state()
        } else {
            1
        }
    }

    /// The length a mask must have, which may be left out.
    fn mask_len(&self, mask: Option<&[f32]>) -> (usize, usize) {
        let whole = self.time * self.rows;
        (mask.map_or(whole, <[f32]>::len), whole)
    }

    /// The mask of step `t`, (B).
    fn mask_of<'a>(&self, mask: Option<&'a [f32]>, t: usize) -> Option<&'a [f32]> {
        mask.map(|mask| &mask[t * self.rows..(t + 1) * self.rows])
    }

    /// Adds the cotangent of step `t` to `sum` (B, U), if one flows.
    fn add_cotangent(&self, sum: &mut [f32], cotangent: &[f32], t: usize) {
        if self.flows(cotangent) {
            let state = self.state();
            reduce::accumulate(sum, &cotangent[t * state..(t + 1) * state]);
        }
    }

    /// Panics unless each named slice has as many numbers (found) as it must (expected).
    fn check(&self, slices: &[(&str, usize, usize)]) {
        for (name, found, expected) in slices {
            assert!(
                found == expected,
                "{name} must hold {expected} numbers for {self:?}, not {found}"
            );
        }
    }
}

/// The recurrent kernel (U, width) as (width, U). Every step of a backward pass multiplies by it, and OpenBLAS is
/// a fifth faster with the second matrix of a small product as it comes than transposed.
fn transpose(matrix: &[f32], width: usize, out: &mut [f32]) {
    let units = matrix.len() / width;
    for (unit, row) in matrix.chunks_exact(width).enumerate() {
        for (column, &value) in row.iter().enumerate() {
            out[column * units + unit] = value;
        }
    }
}

/// After a step: rows whose mask is 0 get the state before it back.
fn carry_masked_rows(mask: Option<&[f32]>, before: &[f32], after: &mut [f32], units: usize) {
    for (row, &kept) in mask.unwrap_or_default().iter().enumerate() {
        if kept == 0.0 {
            let row = row * units..(row + 1) * units;
            after[row.clone()].copy_from_slice(&before[row]);
        }
    }
}
