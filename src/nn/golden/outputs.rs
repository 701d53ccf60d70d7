//! Models of several outputs against Keras (`tests/golden/outputs/`): losses and gradients of masked sequences. A whole
//! training run of two outputs is compared in `training/golden.rs`.

use std::sync::Arc;

use serde_json::json;

use super::super::{
    FeatureColumn, FeatureKind, InputData, LaneBatch, LaneTrainer, Loss, Model, ModelSpec,
    Objectives, OutputObjective, Predictor, SideBySide,
};
use super::{Arrays, KEY, all_close, flat, read_from};

#[test]
fn masked_steps_of_two_outputs_are_left_out_of_losses_and_gradients_as_in_keras() {
    let golden = read_from("outputs/outputs.safetensors");
    for case in ["ragged", "even"] {
        check(&golden, case);
    }
}

fn check(golden: &Arrays, case: &str) {
    let of = |name: &str| golden[&format!("{case}/{name}")].as_slice();
    let model = Arc::new(masked_model());
    let objectives = objectives();
    let parameters = flat(&model, golden, "masked");
    let rows = of("weights").len();
    let inputs = [InputData::Float32(of("x"))];
    let batch = LaneBatch {
        rows,
        inputs: inputs.to_vec(),
        target: of("target"),
        weights: Some(of("weights")),
    };
    let mut gradient = vec![f32::NAN; parameters.len()];
    let mut trainer = LaneTrainer::new(Arc::clone(&model), objectives.clone()).unwrap();
    let step = trainer
        .step(
            &parameters,
            &[],
            &batch,
            &KEY,
            rows as f32,
            &mut gradient,
            &mut [],
        )
        .unwrap();
    let [level, kind] = step.output_losses else {
        panic!("two outputs have two losses");
    };
    let losses = [step.loss_sum, *level, *kind].map(|sum| (sum / rows as f64) as f32);
    all_close(&format!("{case}: losses"), &losses, of("losses"));
    for info in model.parameters() {
        let found = &gradient[info.offset..info.offset + info.len()];
        let expected = of(&format!("{}/gradient", info.name));
        all_close(
            &format!("{case}: gradient of {}", info.name),
            found,
            expected,
        );
    }
    // Validation has the same losses from predictions and their masks.
    let mut predictor = Predictor::new(Arc::clone(&model));
    predictor.predict(&parameters, &[], rows, &inputs).unwrap();
    let (places, mut states) = (
        objectives.places(&model),
        objectives.states(&model, true).unwrap(),
    );
    let side = |values, width| SideBySide { values, width };
    let answers = side(predictor.predictions(), model.output_width());
    objectives.update(
        &mut states,
        true,
        &places,
        |output| answers.columns(&places[output].answers),
        side(of("target"), objectives.target_width(&model)),
        predictor.masks(),
        Some(of("weights")),
        &[],
    );
    let values = objectives.values(&states, true);
    let names: Vec<&str> = values.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["loss", "level_loss", "kind_loss"]);
    let values: Vec<f32> = values.iter().map(|(_, value)| *value as f32).collect();
    all_close(&format!("{case}: validation"), &values, of("losses"));
}

fn objectives() -> Objectives {
    let output = |name: &str, loss: &str, weight| OutputObjective {
        name: name.to_string(),
        loss: Loss::parse(loss).unwrap(),
        weight,
        metrics: Vec::new(),
    };
    Objectives::new(vec![
        output("level", "mse", 1.0),
        output("kind", "sparse_categorical_crossentropy", 0.3),
    ])
}

fn masked_model() -> Model {
    let spec = json!({"format_version": 1, "name": "masked", "outputs": ["level", "kind"], "layers": [
        {"name": "steps", "layer": "Input", "config": {"columns": ["x"], "shape": [4, 2]}},
        {"name": "masking", "layer": "Masking", "inputs": ["steps"]},
        {"name": "along", "layer": "GRU", "config": {"units": 3, "return_sequences": true}, "inputs": ["masking"]},
        {"name": "level", "layer": "Dense", "config": {"units": 2}, "inputs": ["along"]},
        {"name": "kind", "layer": "Dense", "config": {"units": 3, "activation": "softmax"}, "inputs": ["along"]},
    ]});
    let feature = FeatureColumn {
        name: "x".to_string(),
        width: 8,
        kind: FeatureKind::Float,
    };
    Model::build(&ModelSpec::from_json(&spec).unwrap(), &[feature]).unwrap()
}
