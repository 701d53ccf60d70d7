//! What layers refuse: options out of range and inputs that do not fit, by name and with the remedy.

use serde_json::{Value, json};

use crate::autograd::{Bindings, Destination, Graph, Op, Plan};
use crate::support::random::RandomKey;
use crate::tensor::Shape;

use super::super::layer::{Collected, Context, Signal};

#[test]
fn merging_layers_refuse_inputs_that_do_not_go_together() {
    refuse("Add", json!({}), &[&[3]], "at least two layers");
    refuse("Subtract", json!({}), &[&[3], &[3], &[3]], "exactly two");
    refuse(
        "Maximum",
        json!({}),
        &[&[2, 3], &[2, 4]],
        "[2, 3] and [2, 4]",
    );
    refuse("Add", json!({"axis": 1}), &[&[3], &[3]], "\"axis\"");
    refuse("Dot", json!({}), &[&[3], &[3]], "\"axes\" cannot be null");
    refuse(
        "Dot",
        json!({"axes": 0}),
        &[&[3], &[3]],
        "\"axes\" cannot be 0",
    );
    refuse(
        "Dot",
        json!({"axes": 2}),
        &[&[3], &[3]],
        "axis 2 of an input of 2",
    );
    refuse("Dot", json!({"axes": 1}), &[&[3], &[4]], "extents 3 and 4");
    refuse("Concatenate", json!({"axis": 2}), &[&[3], &[3]], "axis 2");
    refuse(
        "Concatenate",
        json!({"axis": 1}),
        &[&[2, 3], &[2, 4]],
        "must be equal",
    );
    refuse("Concatenate", json!({}), &[&[2, 3], &[3]], "[2, 3] and [3]");
}

#[test]
fn shaping_layers_refuse_what_does_not_fit() {
    refuse(
        "Reshape",
        json!({"target_shape": [5]}),
        &[&[2, 3]],
        "6 numbers",
    );
    refuse(
        "Reshape",
        json!({"target_shape": [4, -1]}),
        &[&[2, 3]],
        "[4, -1]",
    );
    refuse(
        "Reshape",
        json!({"target_shape": [-1, -1]}),
        &[&[6]],
        "one may be -1",
    );
    refuse(
        "Reshape",
        json!({"target_shape": [0]}),
        &[&[6]],
        "\"target_shape\"",
    );
    refuse("Permute", json!({"dims": [1, 1]}), &[&[2, 3]], "\"dims\"");
    refuse(
        "Permute",
        json!({"dims": [2, 1]}),
        &[&[2, 3, 4]],
        "2 extents",
    );
    refuse(
        "RepeatVector",
        json!({"n": 0}),
        &[&[3]],
        "\"n\" cannot be 0",
    );
    refuse("RepeatVector", json!({"n": 2}), &[&[2, 3]], "one vector");
    refuse("Masking", json!({}), &[&[3]], "steps of numbers");
    refuse(
        "Cropping1D",
        json!({"cropping": [1, 2]}),
        &[&[3, 4]],
        "cut off less",
    );
    refuse(
        "Cropping1D",
        json!({"data_format": "channels_first"}),
        &[&[3, 4]],
        "\"data_format\"",
    );
    refuse(
        "Cropping2D",
        json!({"cropping": [1, 2, 3]}),
        &[&[9, 9, 1]],
        "\"cropping\"",
    );
    refuse(
        "Cropping3D",
        json!({"cropping": -1}),
        &[&[9, 9, 9, 1]],
        "\"cropping\"",
    );
    refuse(
        "ZeroPadding2D",
        json!({"data_format": "first"}),
        &[&[9, 9, 1]],
        "channels_first",
    );
    refuse(
        "ZeroPadding2D",
        json!({}),
        &[&[9, 9]],
        "height, width and channels",
    );
    refuse(
        "UpSampling1D",
        json!({"size": [2, 2]}),
        &[&[9, 1]],
        "\"size\"",
    );
    refuse(
        "UpSampling2D",
        json!({"interpolation": "bicubic"}),
        &[&[9, 9, 1]],
        "bilinear",
    );
    refuse(
        "UpSampling3D",
        json!({"interpolation": "nearest"}),
        &[&[9, 9, 9, 1]],
        "\"interpolation\"",
    );
}

#[test]
fn activations_refuse_arguments_they_do_not_have() {
    let function = |value: Value| json!({"activation": value});
    let dense = |value: Value| json!({"units": 2, "activation": value});
    refuse(
        "Activation",
        json!({}),
        &[&[4]],
        "\"activation\" cannot be null",
    );
    refuse(
        "Activation",
        function(json!("swoosh")),
        &[&[4]],
        "known are linear",
    );
    refuse(
        "Activation",
        function(json!({"alpha": 1})),
        &[&[4]],
        "known are linear",
    );
    refuse(
        "Activation",
        function(json!({"name": "elu", "slope": 1})),
        &[&[4]],
        "\"slope\"",
    );
    refuse(
        "Activation",
        function(json!("threshold")),
        &[&[4]],
        "no default",
    );
    refuse(
        "Activation",
        function(json!({"name": "softmax", "axis": 2})),
        &[&[4]],
        "axis 2",
    );
    refuse(
        "Activation",
        function(json!("glu")),
        &[&[5]],
        "an extent of 5",
    );
    refuse("Dense", dense(json!("glu")), &[&[4]], "a layer of its own");
    refuse(
        "Dense",
        dense(json!({"name": "softmax", "axis": 1})),
        &[&[4]],
        "\"axis\"",
    );
    refuse("ReLU", json!({"threshold": -1}), &[&[4]], "\"threshold\"");
    refuse("PReLU", json!({"shared_axes": [1, 1]}), &[&[4]], "twice");
    refuse(
        "PReLU",
        json!({"shared_axes": [0]}),
        &[&[4]],
        "\"shared_axes\"",
    );
    refuse("Softmax", json!({"axis": [1, -1]}), &[&[4]], "twice");
}

#[test]
fn noise_layers_refuse_rates_and_shapes_that_do_not_fit() {
    refuse(
        "Dropout",
        json!({"rate": 1}),
        &[&[4]],
        "\"rate\" cannot be 1",
    );
    refuse(
        "Dropout",
        json!({"rate": 0.5, "seed": 3}),
        &[&[4]],
        "\"seed\"",
    );
    let noise = |shape: Value| json!({"rate": 0.5, "noise_shape": shape});
    refuse(
        "Dropout",
        noise(json!([1, 4])),
        &[&[4]],
        "null for the rows",
    );
    refuse("Dropout", noise(json!([null, 3])), &[&[4]], "[null, 3]");
    refuse(
        "AlphaDropout",
        noise(json!([null, 1])),
        &[&[2, 4]],
        "[2, 4]",
    );
    refuse(
        "GaussianNoise",
        json!({}),
        &[&[4]],
        "\"stddev\" cannot be null",
    );
    refuse(
        "GaussianDropout",
        json!({}),
        &[&[4]],
        "\"rate\" cannot be null",
    );
    refuse(
        "SpatialDropout1D",
        json!({"rate": 0.5}),
        &[&[4]],
        "steps and channels",
    );
}

#[test]
fn normalizing_layers_refuse_axes_and_groups_that_do_not_fit() {
    refuse("BatchNormalization", json!({"axis": 2}), &[&[4]], "axis 2");
    refuse(
        "BatchNormalization",
        json!({"renorm": true}),
        &[&[4]],
        "\"renorm\"",
    );
    refuse(
        "LayerNormalization",
        json!({"axis": [1, 1]}),
        &[&[4]],
        "twice",
    );
    refuse(
        "LayerNormalization",
        json!({"axis": 0}),
        &[&[4]],
        "\"axis\" cannot be 0",
    );
    refuse(
        "LayerNormalization",
        json!({"rms_scaling": true, "scale": false}),
        &[&[4]],
        "scale",
    );
    refuse("RMSNormalization", json!({"axis": []}), &[&[4]], "\"axis\"");
    refuse(
        "GroupNormalization",
        json!({}),
        &[&[4]],
        "4 channels, and it makes 32 groups",
    );
    refuse(
        "GroupNormalization",
        json!({"groups": 0}),
        &[&[4]],
        "\"groups\" cannot be 0",
    );
    refuse(
        "UnitNormalization",
        json!({"axis": -3}),
        &[&[2, 4]],
        "axis -3",
    );
}

#[test]
fn highway_and_maxout_refuse_what_they_cannot_take() {
    refuse("Highway", json!({"units": 3}), &[&[4]], "\"units\"");
    refuse("Highway", json!({}), &[&[4], &[4]], "2 inputs");
    refuse(
        "MaxoutDense",
        json!({}),
        &[&[4]],
        "\"output_dim\" cannot be null",
    );
    refuse(
        "MaxoutDense",
        json!({"output_dim": 2, "nb_feature": 0}),
        &[&[4]],
        "\"nb_feature\"",
    );
    refuse(
        "MaxoutDense",
        json!({"output_dim": 2}),
        &[&[1, 1, 1, 1, 1, 1, 4]],
        "1 to 6 extents",
    );
}

#[test]
fn a_row_of_zeros_has_no_direction_and_stays_as_it_is() {
    let y = answer(
        "UnitNormalization",
        json!({}),
        &[2, 3],
        &[1.0, 2.0, -2.0, 0.0, 0.0, 0.0],
    );
    assert_eq!(y[3..], [0.0; 3]);
    assert!((y[0] - 1.0 / 3.0).abs() < 1e-6);
}

#[test]
fn masking_hides_no_nan() {
    let y = answer("Masking", json!({}), &[1, 2, 2], &[f32::NAN, 0.0, 0.0, 0.0]);
    assert!(y[0].is_nan() && y[1..] == [0.0; 3], "{y:?}");
}

#[test]
fn sparsemax_of_ties_and_of_far_apart_numbers_adds_up_to_one() {
    let sparsemax = json!({"activation": "sparsemax"});
    let y = answer(
        "Activation",
        sparsemax,
        &[3, 3],
        &[0.0, 0.0, 0.0, 1e6, 0.0, -1e6, 0.5, 0.5, -3.0],
    );
    let expected = [
        1.0 / 3.0,
        1.0 / 3.0,
        1.0 / 3.0,
        1.0,
        0.0,
        0.0,
        0.5,
        0.5,
        0.0,
    ];
    for (found, expected) in y.iter().zip(expected) {
        assert!((found - expected).abs() < 1e-6, "{y:?}");
    }
}

/// What a layer without arrays answers in prediction.
fn answer(kind: &str, config: Value, extents: &[usize], numbers: &[f32]) -> Vec<f32> {
    let described = super::read("layer", kind, config.as_object().unwrap()).unwrap();
    let (mut graph, mut collected) = (Graph::new(), Collected::default());
    let x = graph
        .add(Op::Parameter(0, Shape::new(extents)), &[])
        .unwrap();
    let masks = [None];
    let mut context = Context::new(
        &mut graph,
        extents[0],
        false,
        0,
        &[],
        &[],
        &masks,
        &mut collected,
    );
    let y = described.layer.forward(&mut context, &[x]).unwrap();
    let mut plan = Plan::new(&graph, &[(y, Destination::Keep)]).unwrap();
    plan.run(&mut Bindings {
        inputs: &[],
        more_inputs: &[],
        parameters: numbers,
        statistics: &[],
        gradient: &mut [],
        statistics_out: &mut [],
        key: RandomKey::of(0, 0),
    })
    .unwrap();
    plan.kept(0).to_vec()
}

/// The layer is refused when it is read or when it sees its inputs, in words that hold `words`.
fn refuse(kind: &str, config: Value, inputs: &[&[usize]], words: &str) {
    let signals: Vec<Signal> = inputs
        .iter()
        .map(|extents| Signal::float(extents))
        .collect();
    let found = super::read("layer", kind, config.as_object().unwrap())
        .and_then(|described| described.layer.output("layer", &signals));
    let error = found
        .expect_err(&format!("{kind} {config} of {inputs:?}"))
        .to_string();
    assert!(
        error.contains("\"layer\"") && error.contains(words) && error.contains("; "),
        "{kind} {config} of {inputs:?}: {error}"
    );
}
