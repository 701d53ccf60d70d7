//! Descriptions of a few lines that ask for very much: refused with little work and little memory, by the layer's name.

use std::sync::Arc;

use serde_json::{Value, json};

use super::super::{FeatureColumn, FeatureKind, LaneTrainer, Loss, Model, ModelSpec, SpecError};
use crate::support::allocations::{Allocated, allocated};

#[test]
fn a_million_layers_are_refused_before_one_is_read() {
    let layer = json!({"name": "a", "layer": "Dense", "config": {"units": 1}, "inputs": ["a"]});
    let (message, work) = refused(&model(vec![layer; 1_000_000]), 4);
    assert!(
        message.contains("1000000 layers; at most 10000"),
        "{message}"
    );
    assert!(work.count < 20 && work.peak_bytes < 4096, "{work:?}");
}

#[test]
fn a_circle_of_ten_thousand_layers_is_refused_with_the_first_of_them() {
    let layers = (0..10_000).map(|number| {
        let input = format!("layer {}", (number + 1) % 10_000);
        json!({"name": format!("layer {number}"), "layer": "Dense", "config": {"units": 1}, "inputs": [input]})
    });
    let (message, work) = refused(&model(layers.collect()), 4);
    assert!(
        message.starts_with("the layers \"layer 0\", \"layer 1\""),
        "{message}"
    );
    assert!(message.contains("in a circle; remove one"), "{message}");
    assert!(
        work.count < 200_000 && work.peak_bytes < 16 << 20,
        "{work:?}"
    );
}

#[test]
fn a_weight_of_a_trillion_numbers_is_refused_with_its_layer_and_shape() {
    for (layer, config, shape) in [
        ("Dense", json!({"units": 1u64 << 20}), "[1048576, 1048576]"),
        (
            "Embedding",
            json!({"input_dim": 1_000_000, "output_dim": 1_000_000}),
            "[1000000, 1000000]",
        ),
        ("LSTM", json!({"units": 1u64 << 20}), "[1, 4194304]"),
    ] {
        let input = match layer {
            "Dense" => json!({"columns": ["x"]}),
            "Embedding" => json!({"columns": ["i"], "dtype": "int32"}),
            _ => json!({"columns": ["x"], "shape": [1 << 20, 1]}),
        };
        let layers = vec![
            json!({"name": "input", "layer": "Input", "config": input}),
            json!({"name": "large", "layer": layer, "config": config, "inputs": ["input"]}),
        ];
        let (message, work) = refused(&model(layers), 1 << 20);
        assert!(message.starts_with("layer \"large\": "), "{message}");
        assert!(layer == "LSTM" || message.contains(shape), "{message}");
        assert!(work.count < 300 && work.peak_bytes < 64 << 10, "{work:?}");
    }
}

#[test]
fn an_unknown_version_is_refused_whatever_else_is_said() {
    for version in [
        json!(0),
        json!(2),
        json!("1"),
        json!(1.5),
        json!(-1),
        json!(1e300),
        Value::Null,
        json!([]),
    ] {
        let mut spec = model(vec![json!({"anything": []}); 10_000]);
        spec["format_version"] = version;
        let (message, work) = refused(&spec, 4);
        assert!(
            message.ends_with("this server reads version 1"),
            "{message}"
        );
        assert!(work.count < 20 && work.peak_bytes < 4096, "{work:?}");
    }
}

#[test]
fn thousands_of_layers_recorded_step_after_step_are_refused_with_the_one_that_is_too_many() {
    // Each of these takes the steps apart, recurrent dropout in training alone.
    let dropout = json!({"units": 1, "return_sequences": true, "recurrent_dropout": 0.5});
    let activation = json!({"units": 1, "return_sequences": true, "activation": "relu"});
    let both = json!({"layer": {"layer": "LSTM", "config": dropout}, "merge_mode": "sum"});
    for described in [
        json!({"layer": "LSTM", "config": dropout}),
        json!({"layer": "GRU", "config": activation}),
        json!({"layer": "Bidirectional", "config": both}),
    ] {
        let mut layers = vec![
            json!({"name": "layer 0", "layer": "Input", "config": {"columns": ["x"], "shape": [4096, 1]}}),
        ];
        layers.extend((1..10_000).map(|number| {
            let mut layer = described.clone();
            layer["name"] = json!(format!("layer {number}"));
            layer["inputs"] = json!([format!("layer {}", number - 1)]);
            layer
        }));
        let (message, work) = refused(&model(layers), 4096);
        assert!(
            message.contains("has more than 262144 operations; give recurrent layers fewer steps"),
            "{message}"
        );
        assert!(message.starts_with("layer \"layer "), "{message}");
        assert!(
            work.count < 10_000_000 && work.peak_bytes < 400 << 20,
            "{work:?}"
        );
    }
}

/// Every layer has twice the numbers of the one before.
#[test]
fn layers_that_double_are_refused_before_they_are_too_large() {
    let mut layers =
        vec![json!({"name": "layer 0", "layer": "Input", "config": {"columns": ["x"]}})];
    layers.extend((1..100).map(|number| {
        let before = format!("layer {}", number - 1);
        json!({"name": format!("layer {number}"), "layer": "Concatenate", "inputs": [before, before]})
    }));
    let (message, work) = refused(&model(layers), 4);
    assert!(
        message.starts_with("layer \"layer 29\": one row of its output [2147483648]"),
        "{message}"
    );
    assert!(work.count < 5000 && work.peak_bytes < 1 << 20, "{work:?}");
}

#[test]
fn a_row_of_a_billion_numbers_is_described_and_its_plan_refused_without_memory_for_it() {
    let layers = vec![
        json!({"name": "input", "layer": "Input", "config": {"columns": ["x"]}}),
        json!({"name": "long", "layer": "RepeatVector", "config": {"n": 1_000_000_000}, "inputs": ["input"]}),
        json!({"name": "each", "layer": "TimeDistributed", "config": {"layer": {"layer": "Dense", "config": {"units": 1}}}, "inputs": ["long"]}),
        json!({"name": "mean", "layer": "GlobalAveragePooling1D", "inputs": ["each"]}),
    ];
    let (planned, work) = allocated(|| {
        let model = build(&model(layers), 1).unwrap();
        let trainer = LaneTrainer::new(Arc::new(model), Loss::parse("mse").unwrap()).unwrap();
        trainer.describe(4).unwrap_err().to_string()
    });
    assert!(planned.contains("a plan for 4 rows needs"), "{planned}");
    assert!(work.count < 20_000 && work.peak_bytes < 1 << 20, "{work:?}");
}

/// As many inputs as there may be layers, each of all columns of a wide table.
#[test]
fn inputs_of_more_columns_than_any_table_are_refused() {
    let features: Vec<FeatureColumn> = (0..10_000)
        .map(|number| feature(&number.to_string(), 1))
        .collect();
    let names: Vec<String> = (0..9_999).map(|number| format!("input {number}")).collect();
    let mut layers: Vec<Value> = names
        .iter()
        .map(|name| json!({"name": name, "layer": "Input"}))
        .collect();
    layers.push(json!({"name": "last", "layer": "Concatenate", "inputs": names}));
    let spec = ModelSpec::from_json(&model(layers)).unwrap();
    let (built, work) = allocated(|| Model::build(&spec, &features));
    let message = built.unwrap_err().to_string();
    assert!(
        message.starts_with(
            "layer \"input 104\": with it the inputs take more than 1048576 columns; "
        ),
        "{message}"
    );
    assert!(work.peak_bytes < 128 << 20, "{work:?}");
}

fn model(layers: Vec<Value>) -> Value {
    let last = layers.last().map(|layer| layer["name"].clone());
    json!({"format_version": 1, "name": "m", "layers": layers, "outputs": [last]})
}

fn feature(name: &str, width: usize) -> FeatureColumn {
    let kind = match name {
        "i" => FeatureKind::Integer,
        _ => FeatureKind::Float,
    };
    FeatureColumn {
        name: name.to_string(),
        width,
        kind,
    }
}

/// Joined to a float column "x" of this width and an integer column "i".
fn build(json: &Value, width: usize) -> Result<Model, SpecError> {
    Model::build(
        &ModelSpec::from_json(json)?,
        &[feature("x", width), feature("i", 1)],
    )
}

/// Why it is refused, and what that took.
fn refused(json: &Value, width: usize) -> (String, Allocated) {
    let (built, work) = allocated(|| build(json, width));
    (built.unwrap_err().to_string(), work)
}
