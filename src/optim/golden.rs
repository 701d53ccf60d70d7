//! Optimisers against PyTorch (`tests/golden/training/`) and Keras (`tests/golden/optimizers/`): 20 steps each;
//! schedules against Keras and PyTorch; plateaus against Keras.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::tensor::archive::{self, NamedArray};

use super::recipes::RECIPES;
use super::{ArrayBlocks, Cut, Optimizer, OptimizerSpec, PlateauRule, ReduceOnPlateau, Stage};

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
        let (found, _) = train(&description, of("start"), of("gradients"));
        agree(&description, &found, of(&format!("end/{name}")), 1e-5);
    }
}

#[test]
fn optimizers_follow_keras_for_20_updates() {
    let arrays = read("optimizers/optimizers.safetensors");
    let cases = cases("optimizers");
    let mut met = BTreeSet::new();
    for (number, description) in cases.iter().enumerate() {
        let (found, average) = train(
            description,
            values(&arrays, "start"),
            values(&arrays, "gradients"),
        );
        let expected = values(&arrays, &format!("optimizer/{number}"));
        agree(description, &found, expected, 1e-5);
        if description["use_ema"] == true {
            let expected = values(&arrays, &format!("average/{number}"));
            agree(description, &average, expected, 1e-5);
        }
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

#[test]
fn plateaus_follow_keras() {
    for case in cases("plateaus") {
        let options = &case["options"];
        let number = |name: &str, default: f64| options[name].as_f64().unwrap_or(default);
        let count = |name: &str| options[name].as_u64().unwrap_or(0) as u32;
        let mut plateau = ReduceOnPlateau::new(PlateauRule {
            monitor: "val_loss".into(),
            factor: number("factor", 0.1),
            patience: count("patience"),
            min_delta: number("min_delta", 1e-4),
            cooldown: count("cooldown"),
            min_learning_rate: number("min_lr", 0.0),
            maximize: options["mode"] == "max",
        });
        let of = |name: &str| -> Vec<f32> {
            let numbers = case[name].as_array().unwrap().iter();
            numbers
                .map(|value| value.as_f64().unwrap() as f32)
                .collect()
        };
        let rates = of("monitored").into_iter().map(|value| {
            let rate = 0.01 * plateau.scale();
            plateau.observe(f64::from(value), 0.01);
            rate
        });
        let found: Vec<f32> = rates.collect();
        agree(options, &found, &of("rates"), 1e-9);
    }
}

/// The parameters after an update with every gradient, and their averages, which are themselves where none are kept.
fn train(description: &Value, start: &[f32], gradients: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let optimizer = Optimizer::build(&OptimizerSpec::from_json(description).unwrap()).unwrap();
    let lengths = cases("arrays");
    let lengths = lengths
        .iter()
        .map(|length| length.as_u64().unwrap() as usize);
    let blocks = ArrayBlocks::new(lengths);
    let mut parameters = start.to_vec();
    let mut slots = optimizer.first_slots(parameters.len());
    for (step, gradient) in (1..).zip(gradients.chunks_exact(parameters.len())) {
        let rate = match description.get("learning_rate") {
            Some(_) => optimizer.learning_rate(step, 0),
            None => 0.01,
        };
        if optimizer.rounds(step) == 0 {
            optimizer.update(step, rate, &mut parameters, gradient, &mut slots);
            continue;
        }
        let (mut update, mut norms) = (gradient.to_vec(), Vec::new());
        for stage in 0.. {
            let cut = Cut {
                start: 0,
                parameters: &mut parameters,
                update: &mut update,
                slots: &mut slots,
            };
            match optimizer.stage(stage, step, rate, &blocks, &norms, cut) {
                Stage::Measured(sums) => norms = optimizer.norms(stage, &blocks, &sums),
                Stage::Done => break,
            }
        }
    }
    let raw = parameters.clone();
    optimizer.swap_averages(&mut parameters, &mut slots);
    (raw, parameters)
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
