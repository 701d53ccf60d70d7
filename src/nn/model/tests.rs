use serde_json::{Value, json};

use super::*;

#[test]
fn parameters_lie_in_the_order_of_layers_with_keras_names_and_shapes() {
    let model = build(census()).unwrap();
    let found: Vec<(&str, &[usize], usize)> = model
        .parameters()
        .iter()
        .map(|info| (info.name.as_str(), info.shape.as_slice(), info.offset))
        .collect();
    assert_eq!(
        found,
        [
            ("embedding/embeddings", &[9, 4][..], 0),
            ("dense/kernel", &[7, 16], 36),
            ("dense/bias", &[16], 148),
            ("norm/gamma", &[16], 164),
            ("norm/beta", &[16], 180),
            ("out/kernel", &[16, 1], 196),
            ("out/bias", &[1], 212),
        ]
    );
    assert_eq!(
        (
            model.parameter_len(),
            model.statistics_len(),
            model.output_width()
        ),
        (213, 32, 1)
    );
    assert_eq!(model.inputs()[0].columns, ["age", "hours"]);
    assert_eq!(model.inputs()[0].width, 3);
    assert_eq!(model.inputs()[1].dtype, InputType::Int32);
    let summary = model.summary();
    assert!(
        summary.contains("dense (Dense)") && summary.contains("213 trainable"),
        "{summary}"
    );
    assert_eq!(model.initial_statistics()[..16], [0.0; 16]);
    assert_eq!(model.initial_statistics()[16..], [1.0; 16]);
    assert_eq!(model.initial_parameters(5), model.initial_parameters(5));
    assert_ne!(model.initial_parameters(5), model.initial_parameters(6));
}

#[test]
fn shapes_that_do_not_fit_are_refused_with_layer_and_remedy() {
    check(
        "/layers/0/config/columns",
        json!(["agee"]),
        "input \"numbers\": column \"agee\" is not a feature; features are \"age\"",
    );
    check(
        "/layers/1/config/columns",
        json!(["age"]),
        "layer \"indices\": its dtype is int32 and column \"age\" holds floats",
    );
    check(
        "/layers/1/config/dtype",
        json!("float32"),
        "layer \"embedding\": its input is float32; give the Input dtype int32",
    );
    check(
        "/layers/4/inputs/1",
        json!("embedding"),
        "layer \"joined\": its inputs have shapes [3] and [1, 4] per row",
    );
    check(
        "/layers/5/config/units",
        json!(1_000_000_000),
        "layer \"dense\": kernel [7, 1000000000] would hold 7000000000 numbers",
    );
    check(
        "/layers/2/config/input_dim",
        json!(2_000_000_000),
        "layer \"embedding\": embeddings [2000000000, 4] would hold 8000000000",
    );
    check(
        "/outputs",
        json!(["out", "dense", "out"]),
        "layer \"out\": it is named twice in outputs; name each output once",
    );
    check(
        "/outputs",
        json!(["dense"]),
        "layer \"norm\": no output depends on it; remove it or connect it",
    );
}

#[test]
fn a_layer_that_shares_holds_no_arrays_of_its_own_however_the_other_is_named() {
    for other in ["dense", "dense:0"] {
        let mut json = twins();
        json["layers"][2]["shares"] = json!(other);
        assert_eq!(build(json).unwrap().parameter_len(), 3 * 4 + 4, "{other}");
    }
    assert_eq!(build(twins()).unwrap().parameter_len(), 2 * (3 * 4 + 4));
    let mut json = twins();
    json["layers"][2]["shares"] = json!("dense");
    json["layers"][2]["config"]["units"] = json!(5);
    let message = build(json).unwrap_err().to_string();
    assert!(
        message.contains("it shares the arrays of \"dense\", whose kind or shapes differ"),
        "{message}"
    );
    let mut json = twins();
    json["layers"][2]["shares"] = json!("dense:1");
    assert!(build(json).is_err());
}

/// Two dense layers over the same three numbers, side by side.
fn twins() -> Value {
    json!({"format_version": 1, "name": "twins", "layers": [
        {"name": "numbers", "layer": "Input", "config": {"columns": ["age", "hours"]}},
        {"name": "dense", "layer": "Dense", "config": {"units": 4}, "inputs": ["numbers"]},
        {"name": "again", "layer": "Dense", "config": {"units": 4}, "inputs": ["numbers"]},
        {"name": "both", "layer": "Concatenate", "inputs": ["dense", "again"]},
    ], "outputs": ["both"]})
}

fn census() -> Value {
    json!({"format_version": 1, "name": "census", "layers": [
        {"name": "numbers", "layer": "Input", "config": {"columns": ["age", "hours"]}, "inputs": []},
        {"name": "indices", "layer": "Input", "config": {"columns": ["workclass"], "dtype": "int32"}, "inputs": []},
        {"name": "embedding", "layer": "Embedding", "config": {"input_dim": 9, "output_dim": 4}, "inputs": ["indices"]},
        {"name": "flat", "layer": "Flatten", "config": {}, "inputs": ["embedding"]},
        {"name": "joined", "layer": "Concatenate", "config": {}, "inputs": ["numbers", "flat"]},
        {"name": "dense", "layer": "Dense", "config": {"units": 16, "activation": "relu"}, "inputs": ["joined"]},
        {"name": "norm", "layer": "BatchNormalization", "config": {}, "inputs": ["dense"]},
        {"name": "out", "layer": "Dense", "config": {"units": 1, "activation": "sigmoid"}, "inputs": ["norm"]},
    ], "outputs": ["out"]})
}

fn build(json: Value) -> Result<Model, SpecError> {
    let feature = |name: &str, width, kind| FeatureColumn {
        name: name.to_string(),
        width,
        kind,
    };
    let features = [
        feature("age", 1, FeatureKind::Float),
        feature("hours", 2, FeatureKind::Float),
        feature("workclass", 1, FeatureKind::Integer),
    ];
    Model::build(&ModelSpec::from_json(&json)?, &features)
}

fn check(pointer: &str, value: Value, expected: &str) {
    let mut json = census();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    match json.pointer_mut(parent).unwrap() {
        Value::Object(map) => drop(map.insert(key.to_string(), value)),
        Value::Array(list) => list[key.parse::<usize>().unwrap()] = value,
        _ => unreachable!(),
    }
    let message = build(json).unwrap_err().to_string();
    assert!(message.starts_with(expected), "{pointer}: {message}");
}
