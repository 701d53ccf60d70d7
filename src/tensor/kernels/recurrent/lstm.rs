//! Long short-term memory: tanh and sigmoid, gates in Keras' order i, f, c, o.

use super::super::{math, multiversion};
use super::{Recurrence, carry_masked_rows, transpose};
use crate::tensor::blas::{self, Product};

/// Gates of a unit.
const GATES: usize = 4;

/// Numbers of `lstm`'s result: h (T+1, B, U) | c (T+1, B, U) | gates (T, B, 4U).
pub fn lstm_len(r: &Recurrence) -> usize {
    (2 * (r.time + 1) + GATES * r.time) * r.state()
}

/// Numbers of the workspace of `lstm`, for one step's product, and of `lstm_backward`, which turns the recurrent
/// kernel in it.
pub fn lstm_workspace_len(r: &Recurrence) -> usize {
    GATES * r.units * r.rows.max(r.units)
}

/// Numbers of `lstm_backward`'s result: dxw (T, B, 4U) | dh0 (B, U) | dc0 (B, U).
pub fn lstm_backward_len(r: &Recurrence) -> usize {
    (GATES * r.time + 2) * r.state()
}

/// All steps of a long short-term memory:
///
/// `i, f, o = sigmoid(xw + h R)`, `g = tanh(xw + h R)`, `c' = f c + i g`, `h' = o tanh(c')`.
///
/// `xw` (T, B, 4U) is `x W + b`; `recurrent` R (U, 4U); `h0`, `c0` (B, U); `mask` (T, B) of 0 and 1: where 0 the
/// state is carried over unchanged. `out` as `lstm_len` says, h and c with the first state in front.
/// Panics when a slice is not as long as that.
pub fn lstm(
    r: &Recurrence,
    xw: &[f32],
    recurrent: &[f32],
    h0: &[f32],
    c0: &[f32],
    mask: Option<&[f32]>,
    out: &mut [f32],
    workspace: &mut [f32],
) {
    let (units, state, width) = (r.units, r.state(), GATES * r.units);
    r.check(&[
        ("xw", xw.len(), GATES * r.time * state),
        ("recurrent", recurrent.len(), units * width),
        ("h0", h0.len(), state),
        ("c0", c0.len(), state),
        ("mask", r.mask_len(mask).0, r.mask_len(mask).1),
        ("out", out.len(), lstm_len(r)),
        ("workspace", workspace.len(), lstm_workspace_len(r)),
    ]);
    let (h, rest) = out.split_at_mut((r.time + 1) * state);
    let (c, gates) = rest.split_at_mut((r.time + 1) * state);
    h[..state].copy_from_slice(h0);
    c[..state].copy_from_slice(c0);
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
        let (c_before, c_after) = c[t * state..(t + 2) * state].split_at_mut(state);
        let step = t * GATES * state..(t + 1) * GATES * state;
        blas::multiply_into(
            &product, h_before, units, recurrent, width, 0.0, workspace, width,
        );
        forward_step(
            units,
            &xw[step.clone()],
            workspace,
            &mut gates[step],
            c_before,
            c_after,
            h_after,
        );
        let mask = r.mask_of(mask, t);
        carry_masked_rows(mask, h_before, h_after, units);
        carry_masked_rows(mask, c_before, c_after, units);
    }
}

/// The gradients of `lstm`, whose result is `out`.
///
/// `dh` (T+1, B, U) is the cotangent of the h part, its first step that of `h0`; `dc` likewise; either may be a
/// single 0 when none flows. `result` as `lstm_backward_len` says. The recurrent kernel's gradient is left to the
/// caller: `H' dxw` with H the first T steps of h as (T B, U).
/// Panics when a slice is not as long as that.
pub fn lstm_backward(
    r: &Recurrence,
    out: &[f32],
    recurrent: &[f32],
    mask: Option<&[f32]>,
    dh: &[f32],
    dc: &[f32],
    result: &mut [f32],
    workspace: &mut [f32],
) {
    let (units, state, width) = (r.units, r.state(), GATES * r.units);
    let sequence = (r.time + 1) * state;
    r.check(&[
        ("out", out.len(), lstm_len(r)),
        ("recurrent", recurrent.len(), units * width),
        ("mask", r.mask_len(mask).0, r.mask_len(mask).1),
        ("dh", dh.len(), r.cotangent_len(dh)),
        ("dc", dc.len(), r.cotangent_len(dc)),
        ("result", result.len(), lstm_backward_len(r)),
        ("workspace", workspace.len(), lstm_workspace_len(r)),
    ]);
    let (_, rest) = out.split_at(sequence);
    let (c, gates) = rest.split_at(sequence);
    // What the steps so far owe the state in front of them grows in the very places of dh0 and dc0.
    let (dxw, carried) = result.split_at_mut(GATES * r.time * state);
    let (dh_carried, dc_carried) = carried.split_at_mut(state);
    dh_carried.fill(0.0);
    dc_carried.fill(0.0);
    if state == 0 {
        return;
    }
    let recurrent_transposed = &mut workspace[..];
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
        let dxw = &mut dxw[step.clone()];
        r.add_cotangent(dh_carried, dh, t + 1);
        r.add_cotangent(dc_carried, dc, t + 1);
        let mask = r.mask_of(mask, t);
        backward_step(
            units,
            &gates[step],
            &c[t * state..(t + 1) * state],
            &c[(t + 1) * state..(t + 2) * state],
            mask,
            dh_carried,
            dc_carried,
            dxw,
        );
        // A masked row's cotangent of h passes by and its part of the product is 0.
        let beta = if mask.is_some() { 1.0 } else { 0.0 };
        blas::multiply_into(
            &product,
            dxw,
            width,
            recurrent_transposed,
            units,
            beta,
            dh_carried,
            units,
        );
    }
    r.add_cotangent(dh_carried, dh, 0);
    r.add_cotangent(dc_carried, dc, 0);
}

multiversion! {
    /// The functions of all gates and the new state, row by row; `product` (B, 4U) is h R.
    fn forward_step(units: usize, xw: &[f32], product: &[f32], gates: &mut [f32], c_before: &[f32], c_after: &mut [f32], h_after: &mut [f32]) {
        let rows = xw.chunks_exact(4 * units).zip(product.chunks_exact(4 * units)).zip(gates.chunks_exact_mut(4 * units)).zip(c_before.chunks_exact(units)).zip(c_after.chunks_exact_mut(units)).zip(h_after.chunks_exact_mut(units));
        for (((((xw, product), gates), c_before), c_after), h_after) in rows {
            forward_row(units, xw, product, gates, c_before, c_after, h_after);
        }
    }

    /// From the cotangents of one step's state to those of its gates before the functions (`dxw`), and in place to
    /// that of the c before; a masked row passes both on and its `dxw` is 0.
    fn backward_step(units: usize, gates: &[f32], c_before: &[f32], c_after: &[f32], mask: Option<&[f32]>, dh: &mut [f32], dc: &mut [f32], dxw: &mut [f32]) {
        let rows = gates.chunks_exact(4 * units).zip(c_before.chunks_exact(units)).zip(c_after.chunks_exact(units)).zip(dh.chunks_exact_mut(units)).zip(dc.chunks_exact_mut(units)).zip(dxw.chunks_exact_mut(4 * units));
        for (row, (((((gates, c_before), c_after), dh), dc), dxw)) in rows.enumerate() {
            if mask.is_some_and(|mask| mask[row] == 0.0) {
                dxw.fill(0.0);
                continue;
            }
            backward_row(units, gates, c_before, c_after, dh, dc, dxw);
            if mask.is_some() {
                dh.fill(0.0);
            }
        }
    }
}

#[inline(always)]
fn forward_row(
    units: usize,
    xw: &[f32],
    product: &[f32],
    gates: &mut [f32],
    c_before: &[f32],
    c_after: &mut [f32],
    h_after: &mut [f32],
) {
    // Several loops over a row in the cache: one over all of it has more streams than the compiler vectorises.
    let sums = xw.iter().zip(product);
    let (candidate, output) = (2 * units, 3 * units);
    for (gate, (x, q)) in gates[..candidate].iter_mut().zip(sums.clone()) {
        *gate = math::sigmoid(x + q);
    }
    let part = sums.clone().skip(candidate);
    for (gate, (x, q)) in gates[candidate..output].iter_mut().zip(part) {
        *gate = math::tanh(x + q);
    }
    for (gate, (x, q)) in gates[output..].iter_mut().zip(sums.skip(output)) {
        *gate = math::sigmoid(x + q);
    }
    let [input, forget, candidate, output] = quarters(gates, units);
    let (c_before, c_after, h_after) = (
        &c_before[..units],
        &mut c_after[..units],
        &mut h_after[..units],
    );
    for unit in 0..units {
        c_after[unit] = forget[unit] * c_before[unit] + input[unit] * candidate[unit];
    }
    for unit in 0..units {
        h_after[unit] = output[unit] * math::tanh(c_after[unit]);
    }
}

#[inline(always)]
fn backward_row(
    units: usize,
    gates: &[f32],
    c_before: &[f32],
    c_after: &[f32],
    dh: &[f32],
    dc: &mut [f32],
    dxw: &mut [f32],
) {
    let [input, forget, candidate, output] = quarters(gates, units);
    let [d_input, d_forget, d_candidate, d_output] = quarters_mut(dxw, units);
    let (c_before, c_after) = (&c_before[..units], &c_after[..units]);
    let (dh, dc) = (&dh[..units], &mut dc[..units]);
    for unit in 0..units {
        let (i, f, g, o) = (input[unit], forget[unit], candidate[unit], output[unit]);
        let bent = math::tanh(c_after[unit]);
        d_output[unit] = dh[unit] * bent * (o * (1.0 - o));
        let dc_here = dc[unit] + dh[unit] * o * (1.0 - bent * bent);
        d_input[unit] = dc_here * g * (i * (1.0 - i));
        d_forget[unit] = dc_here * c_before[unit] * (f * (1.0 - f));
        d_candidate[unit] = dc_here * i * (1.0 - g * g);
        dc[unit] = dc_here * f;
    }
}

#[inline(always)]
fn quarters(row: &[f32], units: usize) -> [&[f32]; 4] {
    [
        &row[..units],
        &row[units..2 * units],
        &row[2 * units..3 * units],
        &row[3 * units..4 * units],
    ]
}

#[inline(always)]
fn quarters_mut(row: &mut [f32], units: usize) -> [&mut [f32]; 4] {
    let (first, rest) = row.split_at_mut(units);
    let (second, rest) = rest.split_at_mut(units);
    let (third, fourth) = rest.split_at_mut(units);
    [first, second, third, &mut fourth[..units]]
}
