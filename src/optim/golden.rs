//! Optimisers against PyTorch (`tests/golden/training/`) and Keras (`tests/golden/optimizers/`): 20 updates each; and
//! schedules against Keras and PyTorch.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::tensor::archive::{self, NamedArray};

use super::recipes::RECIPES;
use super::{Optimizer, OptimizerSpec};

#[test]
fn optimizers_follow_pytorch_for_20_updates() {
    let arrays = read("training/operations.safetensors");
    let of = |name: &str| values(&arrays, &format!("optimizer/{name}"));
    for (name, description) in [
        ("sgd", json!({"name": "sgd"})),
        ("momentum", json!({"name": "sgd", "momentum": 0.9})),
        (
            "nesterov",
            json!({"name": "sgd", "momentum": 0.9, "nesterov": true}),
        ),
        ("adam", json!({"name": "adam"})),
        ("adamw", json!({"name": "adamw"})),
    ] {
        let found = train(&description, of("start"), of("gradients"));
        agree(&description, &found, of(&format!("end/{name}")), 1e-5);
    }
}

#[test]
fn optimizers_follow_keras_for_20_updates() {
    let arrays = read("optimizers/optimizers.safetensors");
    let cases = cases("optimizers");
    let mut met = BTreeSet::new();
    for (number, description) in cases.iter().enumerate() {
        let found = train(
            description,
            values(&arrays, "start"),
            values(&arrays, "gradients"),
        );
        let expected = values(&arrays, &format!("optimizer/{number}"));
        agree(description, &found, expected, 1e-5);
        met.insert(description["name"].as_str().unwrap());
    }
    let known: BTreeSet<&str> = RECIPES.iter().map(|recipe| recipe.name).collect();
    assert_eq!(met, known, "every recipe has golden values");
}

#[test]
fn schedules_follow_keras_and_pytorch() {
    let arrays = read("optimizers/optimizers.safetensors");
    for (number, description) in cases("schedules").iter().enumerate() {
        let spec = json!({"name": "sgd", "learning_rate": description});
        let optimizer = Optimizer::build(&OptimizerSpec::from_json(&spec).unwrap()).unwrap();
        let expected = values(&arrays, &format!("schedule/{number}"));
        let found: Vec<f32> = (1..)
            .take(expected.len())
            .map(|step| optimizer.learning_rate(step, 0))
            .collect();
        agree(description, &found, expected, 2e-6);
    }
}

fn train(description: &Value, start: &[f32], gradients: &[f32]) -> Vec<f32> {
    let optimizer = Optimizer::build(&OptimizerSpec::from_json(description).unwrap()).unwrap();
    let mut parameters = start.to_vec();
    let mut slots = optimizer.first_slots(parameters.len());
    for (step, gradient) in (1..).zip(gradients.chunks_exact(parameters.len())) {
        optimizer.update(step, 0.01, &mut parameters, gradient, &mut slots);
    }
    parameters
}

fn agree(description: &Value, found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len(), "{description}");
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!(
            (found - expected).abs() <= tolerance * (1.0 + expected.abs()),
            "{description} at {index}: {found}, the reference has {expected}"
        );
    }
}

fn golden(name: &str) -> Vec<u8> {
    std::fs::read(format!(
        "{}/tests/golden/{name}",
        env!("CARGO_MANIFEST_DIR")
    ))
    .unwrap()
}

fn read(name: &str) -> Vec<NamedArray> {
    archive::from_bytes(&golden(name)).unwrap()
}

fn cases(kind: &str) -> Vec<Value> {
    let all: Value = serde_json::from_slice(&golden("optimizers/optimizers.json")).unwrap();
    all[kind].as_array().unwrap().clone()
}

fn values<'a>(arrays: &'a [NamedArray], name: &str) -> &'a [f32] {
    let found = arrays.iter().find(|array| array.name == name);
    &found.unwrap_or_else(|| panic!("no array {name:?}")).values
}
