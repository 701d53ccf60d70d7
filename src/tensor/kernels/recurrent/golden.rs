//! LSTM and GRU with their input products around them, against Keras (`tests/golden/recurrent/`).

use std::collections::BTreeMap;

use super::super::reduce::sum_rows;
use super::*;
use crate::tensor::archive::{self, NamedArray};
use crate::tensor::blas::{self, Product};

const ROWS: usize = 3;
const STEPS: usize = 6;
const INPUTS: usize = 4;
const UNITS: usize = 5;
const R: Recurrence = Recurrence {
    time: STEPS,
    rows: ROWS,
    units: UNITS,
};

#[test]
fn lstm_and_gru_with_and_without_a_mask_agree_with_keras() {
    blas::use_one_thread();
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/golden/recurrent/recurrent.safetensors"
    );
    let arrays = archive::from_bytes(&std::fs::read(path).unwrap()).unwrap();
    let arrays = arrays
        .into_iter()
        .map(|array| (array.name.clone(), array))
        .collect();
    for name in ["lstm", "lstm masked", "gru", "gru masked"] {
        check(&arrays, name);
    }
}

fn check(arrays: &BTreeMap<String, NamedArray>, name: &str) {
    let get = |part: &str| {
        arrays
            .get(&format!("{name}/{part}"))
            .map(|array| &array.values[..])
    };
    let (kernel, recurrent, bias) = (
        get("kernel").unwrap(),
        get("recurrent").unwrap(),
        get("bias").unwrap(),
    );
    let width = kernel.len() / INPUTS;
    let (input_bias, recurrent_bias) = bias.split_at(width);
    let mask = get("mask").map(|mask| swap_rows_and_steps(mask, 1));
    let x = swap_rows_and_steps(get("x").unwrap(), INPUTS);
    let mut xw = multiply(STEPS * ROWS, width, INPUTS, (&x, false), (kernel, false));
    for row in xw.chunks_mut(width) {
        for (sum, bias) in row.iter_mut().zip(input_bias) {
            *sum += bias;
        }
    }
    let zeros = [0.0; ROWS * UNITS];
    let mut dh = zeros.to_vec();
    dh.extend(swap_rows_and_steps(get("weights").unwrap(), UNITS));
    let mut workspace = vec![f32::NAN; 4 * UNITS * UNITS];
    let (out, dxw, dinner) = if name.starts_with("lstm") {
        let mut out = vec![f32::NAN; lstm_len(&R)];
        let mut result = vec![f32::NAN; lstm_backward_len(&R)];
        let mask = mask.as_deref();
        let workspace = &mut workspace[..lstm_workspace_len(&R)];
        lstm(
            &R, &xw, recurrent, &zeros, &zeros, mask, &mut out, workspace,
        );
        lstm_backward(
            &R,
            &out,
            recurrent,
            mask,
            &dh,
            &[0.0],
            &mut result,
            workspace,
        );
        let dxw = result[..xw.len()].to_vec();
        (out, dxw.clone(), dxw)
    } else {
        let mut out = vec![f32::NAN; gru_len(&R)];
        let mut result = vec![f32::NAN; gru_backward_len(&R)];
        let mask = mask.as_deref();
        let workspace = &mut workspace[..gru_workspace_len(&R)];
        gru(
            &R,
            &xw,
            recurrent,
            recurrent_bias,
            &zeros,
            mask,
            &mut out,
            workspace,
        );
        gru_backward(&R, &out, recurrent, mask, &dh, &mut result, workspace);
        (
            out,
            result[..xw.len()].to_vec(),
            result[xw.len()..2 * xw.len()].to_vec(),
        )
    };
    let close = |part: &str, found: &[f32]| {
        let expected = get(part).unwrap();
        assert_eq!(found.len(), expected.len(), "{name}/{part}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(
                (found - expected).abs() < 2e-5 * (1.0 + expected.abs()),
                "{name}/{part}: {found} {expected}"
            );
        }
    };
    let state = ROWS * UNITS;
    let h = &out[..(STEPS + 1) * state];
    close("answer", &swap_steps_and_rows(&h[state..], UNITS));
    let dx = multiply(STEPS * ROWS, INPUTS, width, (&dxw, false), (kernel, true));
    close("dx", &swap_steps_and_rows(&dx, INPUTS));
    close(
        "dkernel",
        &multiply(INPUTS, width, STEPS * ROWS, (&x, true), (&dxw, false)),
    );
    let h_before = &h[..STEPS * state];
    let drecurrent = multiply(
        UNITS,
        width,
        STEPS * ROWS,
        (h_before, true),
        (&dinner, false),
    );
    close("drecurrent", &drecurrent);
    let mut dbias = vec![0.0; bias.len()];
    for (dbias, cotangent) in dbias.chunks_mut(width).zip([&dxw, &dinner]) {
        sum_rows(cotangent, dbias);
    }
    close("dbias", &dbias);
}

fn multiply(
    m: usize,
    n: usize,
    k: usize,
    (a, transpose_a): (&[f32], bool),
    (b, transpose_b): (&[f32], bool),
) -> Vec<f32> {
    let mut c = vec![f32::NAN; m * n];
    let product = Product {
        m,
        n,
        k,
        transpose_a,
        transpose_b,
    };
    blas::multiply(&product, a, b, &mut c);
    c
}

/// (B, T, C), as Keras has it, to (T, B, C).
fn swap_rows_and_steps(x: &[f32], columns: usize) -> Vec<f32> {
    swap(x, ROWS, STEPS, columns)
}

/// (T, B, C) to (B, T, C).
fn swap_steps_and_rows(x: &[f32], columns: usize) -> Vec<f32> {
    swap(x, STEPS, ROWS, columns)
}

fn swap(x: &[f32], outer: usize, middle: usize, columns: usize) -> Vec<f32> {
    let at = |second: usize, first: usize| (first * middle + second) * columns;
    (0..middle)
        .flat_map(|second| (0..outer).map(move |first| at(second, first)))
        .flat_map(|start| x[start..start + columns].iter().copied())
        .collect()
}
