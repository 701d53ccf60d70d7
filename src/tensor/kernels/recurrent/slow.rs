//! LSTM and GRU as plain loops in float64, one number at a time, and the kernels' comparison with them: every answer,
//! and every gradient by central differences of the slow loop.

use super::super::with_portable_kernels;
use super::*;
use crate::support::random::{Purpose, RandomKey};
use crate::tensor::blas::{self, Product};

/// What a case needs, in float64: made from float32 numbers, so the kernels see the same.
#[derive(Clone)]
struct Numbers {
    xw: Vec<f64>,
    recurrent: Vec<f64>,
    bias: Vec<f64>,
    h0: Vec<f64>,
    c0: Vec<f64>,
    mask: Option<Vec<f64>>,
}

#[test]
fn lstm_and_its_gradients_agree_with_a_slow_loop_in_float64() {
    for (time, rows, units) in [(1, 1, 1), (1, 3, 5), (4, 1, 3), (3, 2, 9), (5, 3, 1)] {
        for masked in [false, true] {
            check_lstm(&Recurrence { time, rows, units }, masked, true);
        }
    }
    check_lstm(
        &Recurrence {
            time: 7,
            rows: 9,
            units: 33,
        },
        true,
        false,
    );
    check_lstm(
        &Recurrence {
            time: 50,
            rows: 64,
            units: 64,
        },
        false,
        false,
    );
}

#[test]
fn gru_and_its_gradients_agree_with_a_slow_loop_in_float64() {
    for (time, rows, units) in [(1, 1, 1), (1, 3, 5), (4, 1, 3), (3, 2, 9), (5, 3, 1)] {
        for masked in [false, true] {
            for bias in [false, true] {
                check_gru(&Recurrence { time, rows, units }, masked, bias, true);
            }
        }
    }
    check_gru(
        &Recurrence {
            time: 7,
            rows: 9,
            units: 33,
        },
        true,
        true,
        false,
    );
    check_gru(
        &Recurrence {
            time: 50,
            rows: 64,
            units: 64,
        },
        false,
        true,
        false,
    );
}

#[test]
fn a_cotangent_of_a_single_zero_is_one_of_zeros() {
    let r = Recurrence {
        time: 3,
        rows: 2,
        units: 5,
    };
    let numbers = numbers(&r, 4, true, false);
    let out = run_lstm(&r, &numbers);
    let dh = normal(4 * 10, 12);
    let zeros = vec![0.0; dh.len()];
    let backward = |dh: &[f32], dc: &[f32]| run_lstm_backward(&r, &numbers, &out, dh, dc);
    assert_eq!(backward(&dh, &[0.0]), backward(&dh, &zeros));
    assert_eq!(backward(&[0.0], &dh), backward(&zeros, &dh));
    assert!(backward(&[0.0], &[0.0]).iter().all(|&value| value == 0.0));
}

#[test]
fn no_steps_no_rows_and_no_units_leave_the_state_as_it_was() {
    for (time, rows, units) in [(0, 2, 3), (2, 0, 3), (2, 3, 0)] {
        let r = Recurrence { time, rows, units };
        let lstm_numbers = numbers(&r, 4, false, false);
        let out = run_lstm(&r, &lstm_numbers);
        let dh = normal((time + 1) * rows * units, 13);
        assert_eq!(out[..rows * units], single(&lstm_numbers.h0)[..]);
        let result = run_lstm_backward(&r, &lstm_numbers, &out, &dh, &[0.0]);
        assert_eq!(result[..result.len() - rows * units], dh[..]);
        let gru_numbers = numbers(&r, 3, false, true);
        let out = run_gru(&r, &gru_numbers);
        assert_eq!(out[..rows * units], single(&gru_numbers.h0)[..]);
        assert_eq!(run_gru_backward(&r, &gru_numbers, &out, &dh), dh);
    }
}

#[test]
#[should_panic(expected = "xw must hold 40 numbers")]
fn a_slice_of_the_wrong_length_is_named() {
    let r = Recurrence {
        time: 1,
        rows: 2,
        units: 5,
    };
    let mut numbers = numbers(&r, 4, false, false);
    numbers.xw.pop();
    run_lstm(&r, &numbers);
}

fn check_lstm(r: &Recurrence, masked: bool, gradients: bool) {
    let numbers = numbers(r, 4, masked, false);
    let state = r.rows * r.units;
    let sequence = (r.time + 1) * state;
    let out = run_lstm(r, &numbers);
    let portable = with_portable_kernels(|| run_lstm(r, &numbers));
    assert_eq!(out, portable, "the portable kernels give the same bits");
    let expected = slow_lstm(r, &numbers);
    close("h and c", r, &out[..2 * sequence], &expected);

    let (dh, dc) = (normal(sequence, 14), normal(sequence, 15));
    let result = run_lstm_backward(r, &numbers, &out, &dh, &dc);
    let portable = with_portable_kernels(|| run_lstm_backward(r, &numbers, &out, &dh, &dc));
    assert_eq!(result, portable, "the portable kernels give the same bits");
    if !gradients {
        return;
    }
    let loss = |numbers: &Numbers| -> f64 {
        let cotangent = dh.iter().chain(&dc);
        let answer = slow_lstm(r, numbers);
        answer
            .iter()
            .zip(cotangent)
            .map(|(y, &dy)| y * f64::from(dy))
            .sum()
    };
    let slope = |field: fn(&mut Numbers) -> &mut Vec<f64>| slopes(&numbers, field, &loss);
    let dxw = r.time * 4 * state;
    close("dxw", r, &result[..dxw], &slope(|numbers| &mut numbers.xw));
    close(
        "dh0",
        r,
        &result[dxw..dxw + state],
        &slope(|numbers| &mut numbers.h0),
    );
    close(
        "dc0",
        r,
        &result[dxw + state..],
        &slope(|numbers| &mut numbers.c0),
    );
    let kernel = kernel_gradient(r, 4, &out, &result[..dxw]);
    close("dR", r, &kernel, &slope(|numbers| &mut numbers.recurrent));
}

fn check_gru(r: &Recurrence, masked: bool, bias: bool, gradients: bool) {
    let numbers = numbers(r, 3, masked, bias);
    let state = r.rows * r.units;
    let sequence = (r.time + 1) * state;
    let out = run_gru(r, &numbers);
    let portable = with_portable_kernels(|| run_gru(r, &numbers));
    assert_eq!(out, portable, "the portable kernels give the same bits");
    close("h", r, &out[..sequence], &slow_gru(r, &numbers));

    let dh = normal(sequence, 16);
    let result = run_gru_backward(r, &numbers, &out, &dh);
    let portable = with_portable_kernels(|| run_gru_backward(r, &numbers, &out, &dh));
    assert_eq!(result, portable, "the portable kernels give the same bits");
    if !gradients {
        return;
    }
    let loss = |numbers: &Numbers| -> f64 {
        let answer = slow_gru(r, numbers);
        answer
            .iter()
            .zip(&dh)
            .map(|(y, &dy)| y * f64::from(dy))
            .sum()
    };
    let slope = |field: fn(&mut Numbers) -> &mut Vec<f64>| slopes(&numbers, field, &loss);
    let dxw = r.time * 3 * state;
    let dinner = &result[dxw..2 * dxw];
    close("dxw", r, &result[..dxw], &slope(|numbers| &mut numbers.xw));
    close(
        "dh0",
        r,
        &result[2 * dxw..],
        &slope(|numbers| &mut numbers.h0),
    );
    let kernel = kernel_gradient(r, 3, &out, dinner);
    close("dR", r, &kernel, &slope(|numbers| &mut numbers.recurrent));
    if bias {
        let mut sum = vec![0.0; 3 * r.units];
        super::super::reduce::sum_rows(dinner, &mut sum);
        close("db", r, &sum, &slope(|numbers| &mut numbers.bias));
    }
}

/// Central differences of a loss along every number of one field.
fn slopes(
    numbers: &Numbers,
    field: fn(&mut Numbers) -> &mut Vec<f64>,
    loss: &dyn Fn(&Numbers) -> f64,
) -> Vec<f64> {
    let mut moved = numbers.clone();
    (0..field(&mut moved).len())
        .map(|at| {
            let before = field(&mut moved)[at];
            field(&mut moved)[at] = before + 1e-5;
            let high = loss(&moved);
            field(&mut moved)[at] = before - 1e-5;
            let low = loss(&moved);
            field(&mut moved)[at] = before;
            (high - low) / 2e-5
        })
        .collect()
}

fn close(what: &str, r: &Recurrence, found: &[f32], expected: &[f64]) {
    assert_eq!(found.len(), expected.len(), "{what}, {r:?}");
    for (at, (&found, &expected)) in found.iter().zip(expected).enumerate() {
        assert!(
            (f64::from(found) - expected).abs() < 1e-5 * (1.0 + expected.abs()),
            "{what} at {at}, {r:?}: {found} {expected}"
        );
    }
}

fn slow_lstm(r: &Recurrence, n: &Numbers) -> Vec<f64> {
    let (units, state) = (r.units, r.rows * r.units);
    let (mut h, mut c) = (n.h0.clone(), n.c0.clone());
    for t in 0..r.time {
        for row in 0..r.rows {
            for unit in 0..units {
                let before = t * state + row * units;
                let gate = |gate: usize| {
                    let column = gate * units + unit;
                    let product: f64 = (0..units)
                        .map(|k| h[before + k] * n.recurrent[k * 4 * units + column])
                        .sum();
                    n.xw[(t * r.rows + row) * 4 * units + column] + product
                };
                let new_c = sigmoid(gate(1)) * c[before + unit] + sigmoid(gate(0)) * gate(2).tanh();
                let new_h = sigmoid(gate(3)) * new_c.tanh();
                let kept = n
                    .mask
                    .as_ref()
                    .is_none_or(|mask| mask[t * r.rows + row] == 1.0);
                h.push(if kept { new_h } else { h[before + unit] });
                c.push(if kept { new_c } else { c[before + unit] });
            }
        }
    }
    h.extend(c);
    h
}

fn slow_gru(r: &Recurrence, n: &Numbers) -> Vec<f64> {
    let (units, state) = (r.units, r.rows * r.units);
    let mut h = n.h0.clone();
    for t in 0..r.time {
        for row in 0..r.rows {
            for unit in 0..units {
                let before = t * state + row * units;
                let x = |gate: usize| n.xw[(t * r.rows + row) * 3 * units + gate * units + unit];
                let inner = |gate: usize| {
                    let column = gate * units + unit;
                    let product: f64 = (0..units)
                        .map(|k| h[before + k] * n.recurrent[k * 3 * units + column])
                        .sum();
                    product + n.bias.get(column).unwrap_or(&0.0)
                };
                let update = sigmoid(x(0) + inner(0));
                let reset = sigmoid(x(1) + inner(1));
                let candidate = (x(2) + reset * inner(2)).tanh();
                let new = update * h[before + unit] + (1.0 - update) * candidate;
                let kept = n
                    .mask
                    .as_ref()
                    .is_none_or(|mask| mask[t * r.rows + row] == 1.0);
                h.push(if kept { new } else { h[before + unit] });
            }
        }
    }
    h
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

fn numbers(r: &Recurrence, gates: usize, masked: bool, bias: bool) -> Numbers {
    let double = |len: usize, seed: u64, scale: f32| -> Vec<f64> {
        normal(len, seed)
            .iter()
            .map(|&value| f64::from(value * scale))
            .collect()
    };
    let state = r.rows * r.units;
    let mask = normal(r.time * r.rows, 17);
    Numbers {
        xw: double(r.time * gates * state, 7, 1.0),
        recurrent: double(r.units * gates * r.units, 8, 0.8 / (r.units as f32).sqrt()),
        bias: double(if bias { gates * r.units } else { 0 }, 9, 1.0),
        h0: double(state, 10, 0.5),
        c0: double(state, 11, 1.0),
        mask: masked.then(|| {
            mask.iter()
                .map(|&value| f64::from(u8::from(value > -0.5)))
                .collect()
        }),
    }
}

fn normal(len: usize, seed: u64) -> Vec<f32> {
    let mut stream = RandomKey::of(seed, 0).stream(Purpose::Test);
    (0..len).map(|_| stream.normal() as f32).collect()
}

fn single(numbers: &[f64]) -> Vec<f32> {
    numbers.iter().map(|&value| value as f32).collect()
}

fn run_lstm(r: &Recurrence, n: &Numbers) -> Vec<f32> {
    blas::use_one_thread();
    let mut out = vec![f32::NAN; lstm_len(r)];
    let mut workspace = vec![f32::NAN; lstm_workspace_len(r)];
    let mask = n.mask.as_deref().map(single);
    lstm(
        r,
        &single(&n.xw),
        &single(&n.recurrent),
        &single(&n.h0),
        &single(&n.c0),
        mask.as_deref(),
        &mut out,
        &mut workspace,
    );
    out
}

fn run_lstm_backward(r: &Recurrence, n: &Numbers, out: &[f32], dh: &[f32], dc: &[f32]) -> Vec<f32> {
    let mut result = vec![f32::NAN; lstm_backward_len(r)];
    let mut workspace = vec![f32::NAN; lstm_workspace_len(r)];
    let mask = n.mask.as_deref().map(single);
    let recurrent = single(&n.recurrent);
    lstm_backward(
        r,
        out,
        &recurrent,
        mask.as_deref(),
        dh,
        dc,
        &mut result,
        &mut workspace,
    );
    result
}

fn run_gru(r: &Recurrence, n: &Numbers) -> Vec<f32> {
    blas::use_one_thread();
    let mut out = vec![f32::NAN; gru_len(r)];
    let mut workspace = vec![f32::NAN; gru_workspace_len(r)];
    let mask = n.mask.as_deref().map(single);
    gru(
        r,
        &single(&n.xw),
        &single(&n.recurrent),
        &single(&n.bias),
        &single(&n.h0),
        mask.as_deref(),
        &mut out,
        &mut workspace,
    );
    out
}

fn run_gru_backward(r: &Recurrence, n: &Numbers, out: &[f32], dh: &[f32]) -> Vec<f32> {
    let mut result = vec![f32::NAN; gru_backward_len(r)];
    let mut workspace = vec![f32::NAN; gru_workspace_len(r)];
    let mask = n.mask.as_deref().map(single);
    let recurrent = single(&n.recurrent);
    gru_backward(
        r,
        out,
        &recurrent,
        mask.as_deref(),
        dh,
        &mut result,
        &mut workspace,
    );
    result
}

/// `H' d` with H the first T steps of h as (T B, U): the recurrent kernel's gradient (U, G U).
fn kernel_gradient(r: &Recurrence, gates: usize, out: &[f32], d: &[f32]) -> Vec<f32> {
    let mut kernel = vec![f32::NAN; r.units * gates * r.units];
    let product = Product {
        m: r.units,
        n: gates * r.units,
        k: r.time * r.rows,
        transpose_a: true,
        transpose_b: false,
    };
    blas::multiply(&product, &out[..r.time * r.rows * r.units], d, &mut kernel);
    kernel
}
