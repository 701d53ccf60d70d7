//! One step of models against PyTorch (`tests/golden/training/`), and losses alone against Keras (`tests/golden/losses/`);
//! the scripts that made the files lie beside them. A whole training run is compared in `training/golden.rs`.

mod layers;
mod networks;
mod outputs;
mod penalties;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::autograd::{Bindings, Destination, Graph, GraphError, NodeId, Op, Plan, gradients};
use crate::support::random::RandomKey;
use crate::tensor::kernels::elementwise::Unary;
use crate::tensor::{Shape, archive};

use super::{
    FeatureColumn, FeatureKind, InputData, LaneBatch, LaneTrainer, Loss, Model, ModelSpec,
    Predictor, StepKey,
};
use crate::nn::layers::activation::NAMES;

type Arrays = BTreeMap<String, Vec<f32>>;

const KEY: StepKey = StepKey {
    seed: 0,
    epoch: 0,
    step: 1,
    lane: 0,
};

#[test]
fn losses_activations_embeddings_and_batch_normalization_agree_with_pytorch() {
    let golden = read("operations");
    check(&golden, "a", "mse", json!("gelu"), "linear", 2);
    check(&golden, "b", "mae", json!("tanh"), "linear", 2);
    check(
        &golden,
        "c",
        "binary_crossentropy",
        json!("relu"),
        "sigmoid",
        1,
    );
    check(
        &golden,
        "d",
        "binary_crossentropy",
        json!("gelu approximate"),
        "sigmoid",
        3,
    );
    check(
        &golden,
        "e",
        "binary_crossentropy",
        json!("sigmoid"),
        "linear",
        1,
    );
    check(
        &golden,
        "f",
        "categorical_crossentropy",
        json!("relu"),
        "softmax",
        4,
    );
    check(
        &golden,
        "g",
        "sparse_categorical_crossentropy",
        json!("softmax"),
        "softmax",
        4,
    );
    check(
        &golden,
        "h",
        "sparse_categorical_crossentropy",
        json!("tanh"),
        "sigmoid",
        4,
    );
    check(
        &golden,
        "i",
        "mean_squared_error",
        json!("relu"),
        "softmax",
        3,
    );
}

/// One step and one prediction of a small model: loss, predictions, every gradient, new moving statistics.
fn check(golden: &Arrays, case: &str, loss: &str, hidden: Value, last: &str, width: usize) {
    let hidden = match hidden.as_str().unwrap() {
        "gelu approximate" => json!({"units": 8, "activation": "gelu", "approximate": true}),
        activation => json!({"units": 8, "activation": activation}),
    };
    let model = Arc::new(model(
        json!([
            {"name": "numbers", "layer": "Input", "config": {"columns": ["numbers"]}},
            {"name": "indices", "layer": "Input", "config": {"columns": ["indices"], "dtype": "int32"}},
            {"name": "embedding", "layer": "Embedding", "config": {"input_dim": 7, "output_dim": 3}, "inputs": ["indices"]},
            {"name": "flat", "layer": "Flatten", "inputs": ["embedding"]},
            {"name": "joined", "layer": "Concatenate", "inputs": ["numbers", "flat"]},
            {"name": "hidden", "layer": "Dense", "config": hidden, "inputs": ["joined"]},
            {"name": "norm", "layer": "BatchNormalization", "inputs": ["hidden"]},
            {"name": "last", "layer": "Dense", "config": {"units": width}, "inputs": ["norm"]},
            {"name": "answer", "layer": "Activation", "config": {"activation": last}, "inputs": ["last"]},
        ]),
        &[
            ("numbers", 5, FeatureKind::Float),
            ("indices", 2, FeatureKind::Integer),
        ],
    ));
    let of = |name: &str| golden[&format!("case_{case}/{name}")].as_slice();
    let indices: Vec<i32> = of("indices").iter().map(|&index| index as i32).collect();
    let inputs = vec![InputData::Float32(of("x")), InputData::Int32(&indices)];
    let batch = LaneBatch {
        rows: 13,
        inputs: inputs.clone(),
        target: of("target"),
        weights: Some(of("weights")),
    };
    let parameters = flat(&model, golden, &format!("case_{case}/parameter"));
    let statistics = [of("moving_mean"), of("moving_variance")].concat();
    let (mut gradient, mut new_statistics) = (vec![f32::NAN; parameters.len()], vec![f32::NAN; 16]);
    let mut trainer = LaneTrainer::new(Arc::clone(&model), Loss::parse(loss).unwrap()).unwrap();
    let output = trainer
        .step(
            &parameters,
            &statistics,
            &batch,
            &KEY,
            40.0,
            &mut gradient,
            &mut new_statistics,
        )
        .unwrap();
    close(
        &format!("{case}: loss"),
        output.loss_sum as f32,
        of("loss_sum")[0],
        1e-5,
    );
    all_close(
        &format!("{case}: predictions"),
        output.predictions(0),
        of("predictions"),
    );
    all_close(
        &format!("{case}: gradient"),
        &gradient,
        &flat(&model, golden, &format!("case_{case}/gradient")),
    );
    all_close(
        &format!("{case}: statistics"),
        &new_statistics,
        &[of("new_moving_mean"), of("new_moving_variance")].concat(),
    );
    let mut predictor = Predictor::new(model);
    all_close(
        &format!("{case}: inference"),
        predictor
            .predict(&parameters, &statistics, 13, &inputs)
            .unwrap(),
        of("inference"),
    );
}

fn read(name: &str) -> Arrays {
    read_from(&format!("training/{name}.safetensors"))
}

fn read_from(path: &str) -> Arrays {
    archive::from_bytes(&bytes_of(path))
        .unwrap()
        .into_iter()
        .map(|array| (array.name, array.values))
        .collect()
}

fn bytes_of(path: &str) -> Vec<u8> {
    std::fs::read(format!(
        "{}/tests/golden/{path}",
        env!("CARGO_MANIFEST_DIR")
    ))
    .unwrap()
}

fn model(layers: Value, features: &[(&str, usize, FeatureKind)]) -> Model {
    let last = layers.as_array().unwrap().last().unwrap()["name"].clone();
    let json = json!({"format_version": 1, "name": "golden", "layers": layers, "outputs": [last]});
    let features: Vec<FeatureColumn> = features
        .iter()
        .map(|&(name, width, kind)| FeatureColumn {
            name: name.to_string(),
            width,
            kind,
        })
        .collect();
    Model::build(&ModelSpec::from_json(&json).unwrap(), &features).unwrap()
}

/// A flat vector from named arrays under a prefix.
fn flat(model: &Model, golden: &Arrays, prefix: &str) -> Vec<f32> {
    model
        .parameters()
        .iter()
        .flat_map(|info| golden[&format!("{prefix}/{}", info.name)].iter().copied())
        .collect()
}

/// Every loss alone, row by row: as training records it, with its gradient, and as validation adds it up.
#[test]
fn losses_and_their_gradients_agree_with_keras() {
    let arrays = read_from("losses/losses.safetensors");
    let cases: Value = serde_json::from_slice(&bytes_of("losses/losses.json")).unwrap();
    for (number, case) in cases.as_array().unwrap().iter().enumerate() {
        let loss = Loss::read(&case["loss"]).unwrap();
        let extents: Vec<usize> = serde_json::from_value(case["extents"].clone()).unwrap();
        let what = format!("case {number}, {}", case["loss"]);
        let of = |what: &str| arrays[&format!("{number}/{what}")].as_slice();
        let ones = vec![1.0; of("loss").len()];
        let through = |graph: &mut Graph, x: NodeId| match case["through"].as_str() {
            Some("sigmoid") => graph.unary(Unary::Sigmoid, x),
            Some("softmax") => graph.add(Op::Softmax, &[x]),
            _ => Ok(x),
        };
        let (each, gradient) = run_with_gradient(
            of("given"),
            &extents,
            of("label"),
            &ones,
            |graph, x, label| {
                let answer = through(graph, x)?;
                loss.record(graph, answer, label, None)
            },
        );
        all_close(&what, &each, of("loss"));
        all_close(&format!("{what}, gradient"), &gradient, of("gradient"));
        let rows = loss.of_rows(of("answer"), of("label"), &extents, None);
        let rows: Vec<f32> = rows.iter().map(|loss| *loss as f32).collect();
        all_close(&format!("{what}, of rows"), &rows, of("loss"));
    }
}

#[test]
fn every_loss_has_golden_values() {
    let cases: Value = serde_json::from_slice(&bytes_of("losses/losses.json")).unwrap();
    let named = |name: &str| {
        let mut cases = cases.as_array().unwrap().iter();
        cases.any(|case| Loss::read(&case["loss"]).unwrap().name() == name)
    };
    let missing: Vec<&str> = Loss::names().filter(|name| !named(name)).collect();
    assert_eq!(missing, Vec::<&str>::new());
}

#[test]
fn activations_and_their_gradients_agree_with_keras() {
    let arrays = read_from("activations/activations.safetensors");
    let names: Vec<String> =
        serde_json::from_slice(&bytes_of("activations/activations.json")).unwrap();
    assert_eq!(
        names,
        NAMES.iter().map(|(name, _)| *name).collect::<Vec<_>>(),
        "every activation has golden values"
    );
    for (name, activation) in NAMES {
        let weights = &arrays["weights"];
        let (answer, gradient) =
            run_with_gradient(&arrays["x"], &[6], &[], weights, |graph, x, _| {
                activation.record(graph, x)
            });
        all_close(name, &answer, &arrays[&format!("{name}/answer")]);
        all_close(
            &format!("{name}, gradient"),
            &gradient,
            &arrays[&format!("{name}/gradient")],
        );
    }
}

/// Runs what `record` makes of rows of these extents and a second input of as many rows; answers its value and the
/// gradient by the first of the value's sum weighted by `weights`.
fn run_with_gradient(
    given: &[f32],
    extents: &[usize],
    beside: &[f32],
    weights: &[f32],
    record: impl Fn(&mut Graph, NodeId, NodeId) -> Result<NodeId, GraphError>,
) -> (Vec<f32>, Vec<f32>) {
    let mut graph = Graph::new();
    let rows = given.len() / extents.iter().product::<usize>();
    let shape = Shape::new(&[&[rows], extents].concat());
    let x = graph.add(Op::Parameter(0, shape), &[]).unwrap();
    let shape = Shape::new(&[rows, beside.len() / rows]);
    let second = graph.add(Op::Input(0, shape), &[]).unwrap();
    let value = record(&mut graph, x, second).unwrap();
    let seed = graph
        .add(Op::Input(1, graph.shape(value).clone()), &[])
        .unwrap();
    let slope = gradients(&mut graph, &[(value, seed)], &[x]).unwrap()[0].unwrap();
    let outputs = [
        (value, Destination::Keep),
        (slope, Destination::Gradient(0)),
    ];
    let mut plan = Plan::new(&graph, &outputs).unwrap();
    let mut gradient = vec![0.0; given.len()];
    plan.run(&mut Bindings {
        inputs: &[InputData::Float32(beside), InputData::Float32(weights)],
        more_inputs: &[],
        parameters: given,
        statistics: &[],
        gradient: &mut gradient,
        statistics_out: &mut [],
        key: RandomKey::of(0, 0),
    })
    .unwrap();
    (plan.kept(0).to_vec(), gradient)
}

fn close(what: &str, found: f32, expected: f32, relative: f32) {
    assert!(
        (found - expected).abs() <= relative * expected.abs(),
        "{what}: {found}, the reference has {expected}"
    );
}

/// Relative to the largest number of the array: 1e-5.
fn all_close(what: &str, found: &[f32], expected: &[f32]) {
    all_close_beside(what, found, expected, 1e-3);
}

/// The same where numbers of size `beside` cancelled, so that 1e-5 of these may be left of a zero.
fn all_close_beside(what: &str, found: &[f32], expected: &[f32], beside: f32) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let scale = expected
        .iter()
        .fold(beside, |largest, value| largest.max(value.abs()));
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!(
            (found - expected).abs() <= 1e-5 * scale,
            "{what} at {index}: {found}, the reference has {expected}"
        );
    }
}
