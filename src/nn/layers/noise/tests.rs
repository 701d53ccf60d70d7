//! What layers draw in training: moments, what is drawn together, repetition by key; and nothing in prediction.

use serde_json::{Value, json};

use crate::autograd::{Bindings, Destination, Graph, Op, Plan};
use crate::nn::layer::{Collected, Context};
use crate::nn::layers;
use crate::support::random::RandomKey;
use crate::tensor::Shape;

const SEED: u64 = 77;

#[test]
fn dropout_drops_its_share_and_keeps_the_mean() {
    let y = drawn("Dropout", json!({"rate": 0.25}), &[500, 40], 1);
    let dropped = share(&y, |y| y == 0.0);
    assert!((dropped - 0.25).abs() < 0.01, "seed {SEED}: {dropped}");
    assert!(y.iter().all(|&y| y == 0.0 || (y - 4.0 / 3.0).abs() < 1e-6));
}

#[test]
fn what_a_noise_shape_joins_is_drawn_once() {
    for kind in ["Dropout", "AlphaDropout"] {
        let y = drawn(
            kind,
            json!({"rate": 0.5, "noise_shape": [null, 1, 7]}),
            &[100, 5, 7],
            1,
        );
        check_together(&y, [100, 5, 7], kind);
    }
}

#[test]
fn spatial_dropout_drops_whole_channels() {
    let y = drawn("SpatialDropout1D", json!({"rate": 0.5}), &[100, 5, 7], 1);
    check_together(&y, [100, 5, 7], "1D");
    let y = drawn("SpatialDropout2D", json!({"rate": 0.5}), &[100, 2, 3, 7], 1);
    check_together(&y, [100, 6, 7], "2D");
    let y = drawn(
        "SpatialDropout3D",
        json!({"rate": 0.5}),
        &[100, 2, 3, 2, 7],
        1,
    );
    check_together(&y, [100, 12, 7], "3D");
    let first = json!({"rate": 0.5, "data_format": "channels_first"});
    let y = drawn("SpatialDropout2D", first, &[100, 7, 2, 3], 1);
    check_together(&y, [700, 6, 1], "2D, channels first");
}

#[test]
fn gaussian_noise_has_its_deviation_and_gaussian_dropout_that_of_its_rate() {
    let (mean, deviation) = moments(&drawn(
        "GaussianNoise",
        json!({"stddev": 0.3}),
        &[500, 40],
        1,
    ));
    assert!(
        (mean - 1.0).abs() < 0.01 && (deviation - 0.3).abs() < 0.01,
        "seed {SEED}: {mean} {deviation}"
    );
    let (mean, deviation) = moments(&drawn(
        "GaussianDropout",
        json!({"rate": 0.2}),
        &[500, 40],
        1,
    ));
    assert!(
        (mean - 1.0).abs() < 0.01 && (deviation - 0.5).abs() < 0.01,
        "seed {SEED}: {mean} {deviation}"
    );
}

#[test]
fn alpha_dropout_keeps_mean_and_variance_of_normal_numbers() {
    // For x = 1 a kept number becomes a + b and a dropped one a p + b: from both follow a and b.
    let rate = 0.3f64;
    let config = json!({"rate": rate});
    let y = drawn("AlphaDropout", config, &[500, 40], 1);
    let (low, high) = y.iter().fold((f32::MAX, f32::MIN), |(low, high), &y| {
        (low.min(y), high.max(y))
    });
    let dropped = share(&y, |y| y == low);
    assert!((dropped - rate).abs() < 0.01, "seed {SEED}: {dropped}");
    assert!(y.iter().all(|&y| y == low || y == high));
    // Of x with mean 0 and variance 1: mean (1 - r) b + r (a p + b) = 0 and variance 1, with p from the paper.
    let p = -1.758_099_340_847_376_6f64;
    let a = (f64::from(high) - f64::from(low)) / (1.0 - p);
    let b = f64::from(high) - a;
    let mean = b + rate * a * p;
    let variance = (1.0 - rate) * (a * a + b * b) + rate * (a * p + b).powi(2) - mean * mean;
    assert!(
        mean.abs() < 1e-5 && (variance - 1.0).abs() < 1e-5,
        "{mean} {variance}"
    );
}

#[test]
fn the_same_key_draws_the_same_numbers_and_another_step_others() {
    for (kind, config) in [
        ("Dropout", json!({"rate": 0.5})),
        ("SpatialDropout1D", json!({"rate": 0.5})),
        ("GaussianNoise", json!({"stddev": 0.5})),
        ("GaussianDropout", json!({"rate": 0.5})),
        ("AlphaDropout", json!({"rate": 0.5})),
    ] {
        let y = |step| drawn(kind, config.clone(), &[20, 5, 7], step);
        assert_eq!(y(1), y(1), "{kind}");
        assert_ne!(y(1), y(2), "{kind}");
    }
}

/// What the layer makes of ones in training.
fn drawn(kind: &str, config: Value, extents: &[usize], step: u64) -> Vec<f32> {
    let described = layers::read("layer", kind, config.as_object().unwrap()).unwrap();
    let (mut graph, mut collected) = (Graph::new(), Collected::default());
    let shape = Shape::new(extents);
    let ones = vec![1.0; shape.len()];
    let x = graph.add(Op::Parameter(0, shape), &[]).unwrap();
    let rows = extents[0];
    let masks = [None];
    let mut context = Context::new(&mut graph, rows, true, 3, &[], &[], &masks, &mut collected);
    let y = described.layer.forward(&mut context, &[x]).unwrap();
    let mut plan = Plan::new(&graph, &[(y, Destination::Keep)]).unwrap();
    plan.run(&mut Bindings {
        inputs: &[],
        more_inputs: &[],
        parameters: &ones,
        statistics: &[],
        gradient: &mut [],
        statistics_out: &mut [],
        key: RandomKey {
            step,
            ..RandomKey::of(SEED, 0)
        },
    })
    .unwrap();
    plan.kept(0).to_vec()
}

/// Along the middle extent all numbers are equal; along the others they differ.
fn check_together(y: &[f32], [rows, steps, width]: [usize; 3], what: &str) {
    let at = |row: usize, step: usize, column: usize| y[(row * steps + step) * width + column];
    for row in 0..rows {
        for column in 0..width {
            assert!(
                (1..steps).all(|step| at(row, step, column) == at(row, 0, column)),
                "{what}: row {row}, column {column}"
            );
        }
    }
    let most = y.iter().copied().fold(f32::MIN, f32::max);
    let kept = share(y, |y| y == most);
    assert!((kept - 0.5).abs() < 0.06, "seed {SEED}, {what}: {kept}");
}

fn share(y: &[f32], of: impl Fn(f32) -> bool) -> f64 {
    y.iter().filter(|&&y| of(y)).count() as f64 / y.len() as f64
}

fn moments(y: &[f32]) -> (f64, f64) {
    let count = y.len() as f64;
    let mean = y.iter().map(|&y| f64::from(y)).sum::<f64>() / count;
    let squares = y
        .iter()
        .map(|&y| (f64::from(y) - mean).powi(2))
        .sum::<f64>();
    (mean, (squares / count).sqrt())
}
