//! What a model adds to the loss of its answers, against Keras (`tests/golden/penalties/`): in training and in evaluation.

use std::sync::Arc;

use serde_json::{Value, json};

use super::super::{
    FeatureColumn, FeatureKind, InputData, LaneBatch, LaneTrainer, Loss, Metric, Model, ModelSpec,
    Objectives, OutputObjective, Predictor, SideBySide,
};
use super::{KEY, all_close, flat, read_from};

#[test]
fn regularisers_and_losses_of_layers_are_part_of_the_loss_in_training_and_in_evaluation_as_in_keras()
 {
    let golden = read_from("penalties/penalties.safetensors");
    for (case, layers) in [("layers", of_layers()), ("states", of_states())] {
        let model = Arc::new(model(layers));
        let of = |name: &str| golden[&format!("{case}/{name}")].as_slice();
        let parameters = flat(&model, &golden, &format!("{case}/weights"));
        let frozen = model.statistics().iter();
        let statistics: Vec<f32> = frozen
            .flat_map(|info| of(&format!("weights/{}", info.name)).iter().copied())
            .collect();
        let found = losses(&model, &parameters, &statistics, of("x"), of("y"));
        all_close(case, &found, of("losses"));
    }
}

/// A layer inside another that is given several steps of a row at once: its penalties are those of the row.
#[test]
fn what_is_added_at_every_step_of_a_row_is_added_to_the_row() {
    let lambda = json!({"layer": "Lambda", "config": {"program": {"inputs": 1, "nodes": [
        {"op": "square", "inputs": [0]}, {"op": "sum", "inputs": [1], "axis": [-1], "keepdims": false}],
        "outputs": [0], "losses": [2]}}});
    let model = Arc::new(model(json!([
        {"name": "numbers", "layer": "Input", "config": {"columns": ["x"], "shape": [2, 2]}},
        {"name": "each", "layer": "TimeDistributed", "config": {"layer": lambda}, "inputs": ["numbers"]},
        {"name": "flat", "layer": "Flatten", "inputs": ["each"]},
        {"name": "answer", "layer": "Dense", "config": {"units": 1}, "inputs": ["flat"]},
    ])));
    let x: Vec<f32> = (0..20).map(|at| 0.1 * at as f32 - 1.0).collect();
    let parameters = vec![0.0; model.parameter_len()];
    let found = losses(&model, &parameters, &[], &x, &[0.0; 5]);
    let added = x.iter().map(|x| x * x).sum::<f32>() / 5.0;
    all_close("steps", &found, &[added, added, 0.0]);
}

/// The loss in training, in evaluation, and the mean squared error alone.
fn losses(
    model: &Arc<Model>,
    parameters: &[f32],
    statistics: &[f32],
    x: &[f32],
    y: &[f32],
) -> [f32; 3] {
    let objectives = Objectives::new(vec![OutputObjective {
        name: "answer".to_string(),
        loss: Loss::parse("mse").unwrap(),
        weight: 1.0,
        metrics: Metric::parse_all(&["mse".to_string()]).unwrap(),
    }]);
    let batch = LaneBatch {
        rows: y.len(),
        inputs: vec![InputData::Float32(x)],
        target: y,
        weights: None,
    };
    let mut trainer = LaneTrainer::new(Arc::clone(model), objectives.clone()).unwrap();
    let step = trainer.step(
        parameters,
        statistics,
        &batch,
        &KEY,
        y.len() as f32,
        &mut vec![0.0; parameters.len()],
        &mut vec![0.0; statistics.len()],
    );
    let trained = (step.unwrap().loss_sum / y.len() as f64) as f32;

    let mut states = objectives.states(model, true).unwrap();
    let mut predictor = Predictor::with_penalties(Arc::clone(model));
    // In two parts: it does not matter how rows are cut.
    for rows in [0..3, 3..y.len()] {
        let inputs = [InputData::Float32(&x[rows.start * 4..rows.end * 4])];
        let answers = predictor
            .predict(parameters, statistics, rows.len(), &inputs)
            .unwrap()
            .to_vec();
        let targets = SideBySide {
            values: &y[rows],
            width: 1,
        };
        objectives.update(
            &mut states,
            true,
            &objectives.places(model),
            |_| answers.as_slice().into(),
            targets,
            predictor.masks(),
            None,
            predictor.penalties(),
        );
    }
    let values = objectives.values(&states, true);
    let [(_, evaluated), (_, squared)] = values.as_slice() else {
        panic!("{values:?}");
    };
    [trained, *evaluated as f32, *squared as f32]
}

fn of_layers() -> Value {
    json!([
        {"name": "numbers", "layer": "Input", "config": {"columns": ["x"]}},
        {"name": "hidden", "layer": "Dense", "config": {"units": 5, "activation": "tanh",
            "kernel_regularizer": {"name": "l2", "l2": 0.02}, "bias_regularizer": {"name": "l1", "l1": 0.03},
            "activity_regularizer": {"name": "l1_l2", "l1": 0.01, "l2": 0.02}}, "inputs": ["numbers"]},
        {"name": "squares", "layer": "Lambda", "config": {"program": {"inputs": 1, "nodes": [
            {"op": "square", "inputs": [0]}, {"op": "sum", "inputs": [1], "axis": [-1], "keepdims": false}],
            "outputs": [1], "losses": [2]}}, "inputs": ["hidden"]},
        {"name": "frozen", "layer": "Dense", "config": {"units": 3, "trainable": false,
            "kernel_regularizer": {"name": "l2", "l2": 0.5}, "activity_regularizer": {"name": "l2", "l2": 0.05}},
            "inputs": ["squares"]},
        {"name": "answer", "layer": "Dense", "config": {"units": 1,
            "kernel_regularizer": {"name": "l1", "l1": 0.04}}, "inputs": ["frozen"]},
    ])
}

fn of_states() -> Value {
    json!([
        {"name": "numbers", "layer": "Input", "config": {"columns": ["x"], "shape": [2, 2]}},
        {"name": "along", "layer": "LSTM", "config": {"units": 3, "return_state": true,
            "activity_regularizer": {"name": "l2", "l2": 0.1}}, "inputs": ["numbers"]},
        {"name": "joined", "layer": "Concatenate", "inputs": ["along", "along:1", "along:2"]},
        {"name": "last", "layer": "Dense", "config": {"units": 1}, "inputs": ["joined"]},
    ])
}

/// Of layers over one column of four numbers; the last one is the answer.
fn model(layers: Value) -> Model {
    let answer = layers.as_array().and_then(|layers| layers.last());
    let answer = answer.map(|layer| layer["name"].clone());
    let spec =
        json!({"format_version": 1, "name": "penalties", "outputs": [answer], "layers": layers});
    let feature = FeatureColumn {
        name: "x".to_string(),
        width: 4,
        kind: FeatureKind::Float,
    };
    Model::build(&ModelSpec::from_json(&spec).unwrap(), &[feature]).unwrap()
}
