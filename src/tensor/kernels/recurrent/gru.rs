//! Gated recurrent unit with the reset gate after the product (Keras' `reset_after=True`), gates in Keras' order z, r, h.

use super::super::{math, multiversion};
use super::{Recurrence, carry_masked_rows, transpose};
use crate::tensor::blas::{self, Product};

/// Gates of a unit.
const GATES: usize = 3;

/// Numbers of `gru`'s result: h (T+1, B, U) | gates (T, B, 3U) | inner (T, B, U).
pub fn gru_len(r: &Recurrence) -> usize {
    (r.time + 1 + (GATES + 1) * r.time) * r.state()
}

/// Numbers of the workspace of `gru`, for one step's product, and of `gru_backward`, which turns the recurrent kernel in it.
pub fn gru_workspace_len(r: &Recurrence) -> usize {
    GATES * r.units * r.rows.max(r.units)
}

/// Numbers of `gru_backward`'s result: dxw (T, B, 3U) | dinner (T, B, 3U) | dh0 (B, U).
pub fn gru_backward_len(r: &Recurrence) -> usize {
    (2 * GATES * r.time + 1) * r.state()
}

/// All steps of a gated recurrent unit, with `q = h R + b`:
///
/// `z, r = sigmoid(xw + q)`, `g = tanh(xw + r q)`, `h' = z h + (1 - z) g`.
///
/// `xw` (T, B, 3U) is `x W` and the input's bias; `recurrent` R (U, 3U); `recurrent_bias` b (3U) or empty; `h0`
/// (B, U); `mask` (T, B) of 0 and 1: where 0 the state is carried over unchanged. `out` as `gru_len` says: h with
/// the first state in front, gates after their functions, and the third part of q.
/// Panics when a slice is not as long as that.
pub fn gru(
    r: &Recurrence,
    xw: &[f32],
    recurrent: &[f32],
    recurrent_bias: &[f32],
    h0: &[f32],
    mask: Option<&[f32]>,
    out: &mut [f32],
    workspace: &mut [f32],
) {
    let (units, state, width) = (r.units, r.state(), GATES * r.units);
    r.check(&[
        ("xw", xw.len(), GATES * r.time * state),
        ("recurrent", recurrent.len(), units * width),
        (
            "recurrent_bias",
            recurrent_bias.len(),
            if recurrent_bias.is_empty() { 0 } else { width },
        ),
        ("h0", h0.len(), state),
        ("mask", r.mask_len(mask).0, r.mask_len(mask).1),
        ("out", out.len(), gru_len(r)),
        ("workspace", workspace.len(), gru_workspace_len(r)),
    ]);
    let (h, rest) = out.split_at_mut((r.time + 1) * state);
    let (gates, inner) = rest.split_at_mut(GATES * r.time * state);
    h[..state].copy_from_slice(h0);
    if state == 0 {
        return;
    }
    let product = Product {
        m: r.rows,
        n: width,
        k: units,
        transpose_a: false,
        transpose_b: false,
    };
    let workspace = &mut workspace[..r.rows * width];
    for t in 0..r.time {
        let (h_before, h_after) = h[t * state..(t + 2) * state].split_at_mut(state);
        let step = t * GATES * state..(t + 1) * GATES * state;
        let beta = if recurrent_bias.is_empty() {
            0.0
        } else {
            for row in workspace.chunks_exact_mut(width) {
                row.copy_from_slice(recurrent_bias);
            }
            1.0
        };
        blas::multiply_into(
            &product, h_before, units, recurrent, width, beta, workspace, width,
        );
        forward_step(
            units,
            &xw[step.clone()],
            workspace,
            h_before,
            &mut gates[step],
            &mut inner[t * state..(t + 1) * state],
            h_after,
        );
        let mask = r.mask_of(mask, t);
        carry_masked_rows(mask, h_before, h_after, units);
    }
}

/// The gradients of `gru`, whose result is `out`.
///
/// `dh` (T+1, B, U) is the cotangent of the h part, its first step that of `h0`, or a single 0 when none flows.
/// `result` as `gru_backward_len` says; `dinner` is the cotangent of `q = h R + b`, from which the caller makes the
/// gradients of R, `H' dinner` with H the first T steps of h as (T B, U), and of b, the sum over (T, B).
/// Panics when a slice is not as long as that.
pub fn gru_backward(
    r: &Recurrence,
    out: &[f32],
    recurrent: &[f32],
    mask: Option<&[f32]>,
    dh: &[f32],
    result: &mut [f32],
    workspace: &mut [f32],
) {
    let (units, state, width) = (r.units, r.state(), GATES * r.units);
    let sequence = (r.time + 1) * state;
    r.check(&[
        ("out", out.len(), gru_len(r)),
        ("recurrent", recurrent.len(), units * width),
        ("mask", r.mask_len(mask).0, r.mask_len(mask).1),
        ("dh", dh.len(), r.cotangent_len(dh)),
        ("result", result.len(), gru_backward_len(r)),
        ("workspace", workspace.len(), gru_workspace_len(r)),
    ]);
    let (h, rest) = out.split_at(sequence);
    let (gates, inner) = rest.split_at(GATES * r.time * state);
    let (dxw, rest) = result.split_at_mut(GATES * r.time * state);
    // What the steps so far owe the state in front of them grows in the very place of dh0.
    let (dinner, carried) = rest.split_at_mut(GATES * r.time * state);
    carried.fill(0.0);
    if state == 0 {
        return;
    }
    let recurrent_transposed = &mut workspace[..width * units];
    transpose(recurrent, width, recurrent_transposed);
    let product = Product {
        m: r.rows,
        n: units,
        k: width,
        transpose_a: false,
        transpose_b: false,
    };
    for t in (0..r.time).rev() {
        let step = t * GATES * state..(t + 1) * GATES * state;
        let dinner = &mut dinner[step.clone()];
        r.add_cotangent(carried, dh, t + 1);
        backward_step(
            units,
            &gates[step.clone()],
            &inner[t * state..(t + 1) * state],
            &h[t * state..(t + 1) * state],
            r.mask_of(mask, t),
            carried,
            &mut dxw[step],
            dinner,
        );
        blas::multiply_into(
            &product,
            dinner,
            width,
            recurrent_transposed,
            units,
            1.0,
            carried,
            units,
        );
    }
    r.add_cotangent(carried, dh, 0);
}

multiversion! {
    /// The functions of all gates and the new state, row by row; `product` (B, 3U) is h R + b.
    fn forward_step(units: usize, xw: &[f32], product: &[f32], h_before: &[f32], gates: &mut [f32], inner: &mut [f32], h_after: &mut [f32]) {
        let rows = xw.chunks_exact(3 * units).zip(product.chunks_exact(3 * units)).zip(h_before.chunks_exact(units)).zip(gates.chunks_exact_mut(3 * units)).zip(inner.chunks_exact_mut(units)).zip(h_after.chunks_exact_mut(units));
        for (((((xw, product), h_before), gates), inner), h_after) in rows {
            forward_row(units, xw, product, h_before, gates, inner, h_after);
        }
    }

    /// From the cotangent of one step's state to those of `xw` and of h R + b, and in place to what of it goes
    /// straight to the state before; a masked row passes all of it on.
    fn backward_step(units: usize, gates: &[f32], inner: &[f32], h_before: &[f32], mask: Option<&[f32]>, dh: &mut [f32], dxw: &mut [f32], dinner: &mut [f32]) {
        let rows = gates.chunks_exact(3 * units).zip(inner.chunks_exact(units)).zip(h_before.chunks_exact(units)).zip(dh.chunks_exact_mut(units)).zip(dxw.chunks_exact_mut(3 * units)).zip(dinner.chunks_exact_mut(3 * units));
        for (row, (((((gates, inner), h_before), dh), dxw), dinner)) in rows.enumerate() {
            if mask.is_some_and(|mask| mask[row] == 0.0) {
                dxw.fill(0.0);
                dinner.fill(0.0);
                continue;
            }
            backward_row(units, gates, inner, h_before, dh, dxw, dinner);
        }
    }
}

#[inline(always)]
fn forward_row(
    units: usize,
    xw: &[f32],
    product: &[f32],
    h_before: &[f32],
    gates: &mut [f32],
    inner: &mut [f32],
    h_after: &mut [f32],
) {
    let [x_update, x_reset, x_candidate] = thirds(xw, units);
    let [q_update, q_reset, q_candidate] = thirds(product, units);
    let [update, reset, candidate] = thirds_mut(gates, units);
    let (h_before, inner, h_after) = (
        &h_before[..units],
        &mut inner[..units],
        &mut h_after[..units],
    );
    for unit in 0..units {
        let z = math::sigmoid(x_update[unit] + q_update[unit]);
        let r = math::sigmoid(x_reset[unit] + q_reset[unit]);
        let q = q_candidate[unit];
        let g = math::tanh(x_candidate[unit] + r * q);
        update[unit] = z;
        reset[unit] = r;
        candidate[unit] = g;
        inner[unit] = q;
        h_after[unit] = z * h_before[unit] + (1.0 - z) * g;
    }
}

#[inline(always)]
fn backward_row(
    units: usize,
    gates: &[f32],
    inner: &[f32],
    h_before: &[f32],
    dh: &mut [f32],
    dxw: &mut [f32],
    dinner: &mut [f32],
) {
    let [update, reset, candidate] = thirds(gates, units);
    let [dx_update, dx_reset, dx_candidate] = thirds_mut(dxw, units);
    let [dq_update, dq_reset, dq_candidate] = thirds_mut(dinner, units);
    let (inner, h_before, dh) = (&inner[..units], &h_before[..units], &mut dh[..units]);
    for unit in 0..units {
        let (z, r, g) = (update[unit], reset[unit], candidate[unit]);
        let d_candidate = dh[unit] * (1.0 - z) * (1.0 - g * g);
        let d_update = dh[unit] * (h_before[unit] - g) * (z * (1.0 - z));
        let d_reset = d_candidate * inner[unit] * (r * (1.0 - r));
        dx_update[unit] = d_update;
        dq_update[unit] = d_update;
        dx_reset[unit] = d_reset;
        dq_reset[unit] = d_reset;
        dx_candidate[unit] = d_candidate;
        dq_candidate[unit] = d_candidate * r;
        dh[unit] *= z;
    }
}

#[inline(always)]
fn thirds(row: &[f32], units: usize) -> [&[f32]; 3] {
    [
        &row[..units],
        &row[units..2 * units],
        &row[2 * units..3 * units],
    ]
}

#[inline(always)]
fn thirds_mut(row: &mut [f32], units: usize) -> [&mut [f32]; 3] {
    let (first, rest) = row.split_at_mut(units);
    let (second, third) = rest.split_at_mut(units);
    [first, second, &mut third[..units]]
}
