//! Refusals of layers inside layers.

use serde_json::{Value, json};

use super::super::super::layer::Signal;
use super::super::read;

#[test]
fn a_description_inside_is_checked_like_any_other() {
    let lstm = json!({"layer": "LSTM", "config": {"units": 3}});
    for (kind, config, expected) in [
        (
            "Bidirectional",
            json!({}),
            "layer \"outer\": option \"layer\" cannot be null; describe the layer",
        ),
        (
            "Bidirectional",
            json!({"layer": "LSTM"}),
            "layer \"outer\": option \"layer\" cannot be \"LSTM\"; give an object",
        ),
        (
            "Bidirectional",
            json!({"layer": {"layer": "Dense", "config": {"units": 3}}}),
            "layer \"outer\": option \"layer\" cannot be \"Dense\"; the layer inside is one of SimpleRNN, LSTM, GRU",
        ),
        (
            "Bidirectional",
            json!({"layer": {"layer": "LSTM", "config": {"unit": 3}}}),
            "layer \"outer: LSTM\": option \"units\" cannot be null",
        ),
        (
            "Bidirectional",
            json!({"layer": lstm, "backward_layer": lstm}),
            "layer \"outer\": option \"backward_layer\" cannot be false; go_backwards of the two layers must be opposite",
        ),
        (
            "Bidirectional",
            json!({"layer": lstm, "merge_mode": "max"}),
            "layer \"outer\": option \"merge_mode\" cannot be \"max\"; known are concat, sum, mul, ave",
        ),
        (
            "TimeDistributed",
            json!({"layer": {"layer": "Dens"}}),
            "layer \"outer: Dens\": unknown layer type \"Dens\"",
        ),
        (
            "TimeDistributed",
            json!({"layer": {"layer": "Dense", "config": {"units": 3, "trainable": false}}}),
            "layer \"outer\": option \"layer\" cannot be",
        ),
    ] {
        let message = read("outer", kind, config.as_object().unwrap())
            .unwrap_err()
            .to_string();
        assert!(message.starts_with(expected), "{message}");
    }
}

#[test]
fn inputs_that_do_not_fit_are_refused_with_the_remedy() {
    let lstm = json!({"layer": "LSTM", "config": {"units": 3}});
    let other = json!({"layer": "LSTM", "config": {"units": 2, "go_backwards": true}});
    refused(
        "Bidirectional",
        json!({"layer": lstm}),
        &[&[4, 5], &[3]],
        "layer \"outer\": it has 2 inputs; connect the sequence alone, or with 4 first states",
    );
    refused(
        "Bidirectional",
        json!({"layer": lstm, "backward_layer": other, "merge_mode": "sum"}),
        &[&[4, 5]],
        "layer \"outer\": its layers answer [3] and [2] per row; give both as many units",
    );
    refused(
        "TimeDistributed",
        json!({"layer": {"layer": "Dense", "config": {"units": 3}}}),
        &[&[4]],
        "layer \"outer\": its input has shape [4] per row; give a sequence",
    );
    refused(
        "TimeDistributed",
        json!({"layer": {"layer": "BatchNormalization"}}),
        &[&[4, 5]],
        "layer \"outer\": BatchNormalization follows the data of one step after the other; put it behind",
    );
    refused(
        "TimeDistributed",
        json!({"layer": lstm}),
        &[&[4, 5]],
        "layer \"outer: LSTM\": its input has shape [5] per row",
    );
}

/// Expects the refusal of inputs of these shapes to start so.
fn refused(kind: &str, config: Value, inputs: &[&[usize]], expected: &str) {
    let described = read("outer", kind, config.as_object().unwrap()).unwrap();
    let signals: Vec<Signal> = inputs
        .iter()
        .map(|extents| Signal::float(extents))
        .collect();
    let message = described
        .layer
        .output("outer", &signals)
        .unwrap_err()
        .to_string();
    assert!(message.starts_with(expected), "{message}");
}
