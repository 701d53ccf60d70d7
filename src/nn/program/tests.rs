//! Training steps and predictions as their callers see them.

use std::sync::Arc;

use serde_json::{Value, json};

use super::plans::PLANS_MAX;
use super::*;
use crate::nn::{FeatureColumn, FeatureKind, Loss, Model, ModelSpec, ProgramError, SpecError};
use crate::support::random::{Purpose, RandomKey};

#[test]
fn the_same_steps_twice_give_the_same_bytes() {
    assert_eq!(train(&[37]), train(&[37]));
    assert_eq!(train(&[20, 0, 17]), train(&[20, 0, 17]));
}

#[test]
fn portable_kernels_give_the_same_bytes_as_vector_kernels() {
    assert_eq!(
        crate::tensor::kernels::with_portable_kernels(|| train(&[20, 17])),
        train(&[20, 17])
    );
}

#[test]
fn every_layer_and_loss_has_the_gradient_that_differences_show() {
    let rank_3 = json!([
        {"name": "indices", "layer": "Input", "config": {"columns": ["a", "b"], "dtype": "int32"}},
        {"name": "embedding", "layer": "Embedding", "config": {"input_dim": 5, "output_dim": 3}, "inputs": ["indices"]},
        {"name": "dense", "layer": "Dense", "config": {"units": 4, "activation": "tanh", "use_bias": false}, "inputs": ["embedding"]},
        {"name": "norm", "layer": "BatchNormalization", "config": {"scale": false}, "inputs": ["dense"]},
        {"name": "twice", "layer": "Concatenate", "inputs": ["norm", "embedding", "norm"]},
        {"name": "flat", "layer": "Flatten", "inputs": ["twice"]},
        {"name": "out", "layer": "Dense", "config": {"units": 1}, "inputs": ["flat"]},
    ]);
    let with = |hidden: &str, units: usize, last: &str| {
        let mut layers = layered();
        layers[1]["config"]["activation"] = json!(hidden);
        layers[4]["config"] = json!({"units": units, "activation": last});
        layers
    };
    check_gradient(&rank_3, named("mse"));
    for hidden in ["linear", "relu", "sigmoid", "tanh", "softmax", "gelu"] {
        check_gradient(&with(hidden, 1, "sigmoid"), named("binary_crossentropy"));
    }
    check_gradient(&with("tanh", 1, "linear"), named("mse"));
    check_gradient(&with("tanh", 1, "linear"), named("mae"));
    check_gradient(
        &with("tanh", 3, "softmax"),
        named("sparse_categorical_crossentropy"),
    );
    check_gradient(
        &with("tanh", 3, "sigmoid"),
        named("sparse_categorical_crossentropy"),
    );
}

/// Slopes along six directions against central differences of the loss, dropout held by its key.
fn check_gradient(layers: &Value, loss: Loss) {
    let model = model(layers);
    let rows = Rows::new(37);
    let indices: Vec<i32> = (0..74).map(|index| index * 7 % 5).collect();
    let mut batch = rows.lane(0, 37);
    if layers[0]["name"] == "indices" {
        batch.inputs = vec![InputData::Int32(&indices)];
    }
    let mut trainer = LaneTrainer::new(Arc::clone(&model), loss.clone()).unwrap();
    let mut at = |parameters: &[f32]| {
        let (mut gradient, mut statistics) = (
            vec![f32::NAN; parameters.len()],
            vec![0.0; model.statistics_len()],
        );
        let key = StepKey {
            seed: 1,
            epoch: 0,
            step: 1,
            lane: 0,
        };
        let output = trainer.step(
            parameters,
            &model.initial_statistics(),
            &batch,
            &key,
            1.0,
            &mut gradient,
            &mut statistics,
        );
        (output.unwrap().loss_sum, gradient)
    };
    let parameters = model.initial_parameters(3);
    let (_, gradient) = at(&parameters);
    let mut stream = RandomKey::of(51, 0).stream(Purpose::Test);
    for round in 0..6 {
        let direction: Vec<f32> = parameters.iter().map(|_| stream.normal() as f32).collect();
        let analytic: f64 = gradient
            .iter()
            .zip(&direction)
            .map(|(&g, &d)| f64::from(g) * f64::from(d))
            .sum();
        let mut error_with = |step: f32| {
            let moved = |sign: f32| -> Vec<f32> {
                parameters
                    .iter()
                    .zip(&direction)
                    .map(|(&p, &d)| p + sign * step * d)
                    .collect()
            };
            let numeric = (at(&moved(1.0)).0 - at(&moved(-1.0)).0) / (2.0 * f64::from(step));
            (numeric - analytic).abs() / analytic.abs().max(numeric.abs()).max(1.0)
        };
        // The best of several steps: kinks spoil large ones, rounding small ones.
        let best = [3e-3, 1e-3, 3e-4, 1e-4]
            .map(&mut error_with)
            .into_iter()
            .fold(f64::INFINITY, f64::min);
        assert!(
            best < 2e-2,
            "seed 51, {loss:?}, direction {round}: apart by {best} for {layers}"
        );
    }
}

#[test]
fn any_cut_of_a_batch_into_lanes_gives_the_same_gradient_but_for_rounding() {
    // Without dropout and batch normalization, which belong to a lane.
    let model = model(&plain());
    let whole = summed_gradient(&model, &[37]);
    for cuts in [&[20usize, 17][..], &[1, 36], &[16, 16, 5, 0], &[37, 0]] {
        for (found, expected) in summed_gradient(&model, cuts).iter().zip(&whole) {
            assert!(
                (found - expected).abs() < 1e-5,
                "{cuts:?}: {found} {expected}"
            );
        }
    }
}

#[test]
fn dropout_follows_its_key_and_is_off_in_prediction() {
    let model = model(&layered());
    let parameters = model.initial_parameters(1);
    let rows = Rows::new(37);
    let mut trainer = LaneTrainer::new(Arc::clone(&model), named("binary_crossentropy")).unwrap();
    let mut predictions = |key: StepKey| {
        let (mut gradient, mut statistics) = (
            vec![0.0; model.parameter_len()],
            vec![0.0; model.statistics_len()],
        );
        let batch = rows.lane(0, 37);
        let output = trainer.step(
            &parameters,
            &model.initial_statistics(),
            &batch,
            &key,
            37.0,
            &mut gradient,
            &mut statistics,
        );
        output.unwrap().predictions(0).to_vec()
    };
    let key = StepKey {
        seed: 1,
        epoch: 2,
        step: 3,
        lane: 4,
    };
    assert_eq!(predictions(key), predictions(key));
    for other in [
        StepKey { seed: 2, ..key },
        StepKey { epoch: 3, ..key },
        StepKey { step: 4, ..key },
        StepKey { lane: 5, ..key },
    ] {
        assert_ne!(predictions(key), predictions(other));
    }
    let mut predictor = Predictor::new(Arc::clone(&model));
    let inputs = [InputData::Float32(&rows.features)];
    let once = predictor
        .predict(&parameters, &model.initial_statistics(), 37, &inputs)
        .unwrap()
        .to_vec();
    assert_eq!(
        predictor
            .predict(&parameters, &model.initial_statistics(), 37, &inputs)
            .unwrap(),
        once
    );
}

#[test]
fn predictions_of_many_rows_are_those_of_few() {
    let model = model(&plain());
    let (parameters, rows) = (model.initial_parameters(1), Rows::new(1300));
    let mut predictor = Predictor::new(Arc::clone(&model));
    let whole = predictor
        .predict(
            &parameters,
            &[],
            1300,
            &[InputData::Float32(&rows.features)],
        )
        .unwrap()
        .to_vec();
    for start in (0..1300).step_by(13) {
        let part = InputData::Float32(&rows.features[start * 6..(start + 13) * 6]);
        for (found, expected) in predictor
            .predict(&parameters, &[], 13, &[part])
            .unwrap()
            .iter()
            .zip(&whole[start..])
        {
            assert!((found - expected).abs() < 1e-6);
        }
    }
    assert!(predictor.plans.plans.len() <= PLANS_MAX);
    assert_eq!(
        predictor
            .predict(&parameters, &[], 0, &[InputData::Float32(&[])])
            .unwrap(),
        &[0.0f32; 0]
    );
}

#[test]
fn what_does_not_fit_is_an_error_and_never_a_panic() {
    let model = model(&plain());
    let mut trainer = LaneTrainer::new(Arc::clone(&model), named("binary_crossentropy")).unwrap();
    let parameters = model.initial_parameters(1);
    let rows = Rows::new(4);
    let mut step = |batch: &LaneBatch<'_>, denominator: f32| {
        let mut gradient = vec![0.0; model.parameter_len()];
        let key = StepKey {
            seed: 1,
            epoch: 2,
            step: 3,
            lane: 4,
        };
        trainer
            .step(
                &parameters,
                &[],
                batch,
                &key,
                denominator,
                &mut gradient,
                &mut [],
            )
            .unwrap_err()
            .to_string()
    };
    let batch = rows.lane(0, 4);
    let message = step(
        &LaneBatch {
            target: &rows.target[..3],
            ..batch.clone()
        },
        4.0,
    );
    assert_eq!(
        message,
        "the target has 3 numbers where 4 belong; it must match the model and the rows"
    );
    assert!(
        step(
            &LaneBatch {
                inputs: vec![],
                ..batch.clone()
            },
            4.0
        )
        .contains("1 inputs and 0 were given")
    );
    assert!(
        step(
            &LaneBatch {
                inputs: vec![InputData::Int32(&[0; 24])],
                ..batch.clone()
            },
            4.0
        )
        .contains("given as int32")
    );
    assert!(step(&batch, 0.0).contains("denominator of the loss is 0"));
    let message = step(
        &LaneBatch {
            inputs: vec![InputData::Float32(&[f32::NAN; 24])],
            ..batch.clone()
        },
        4.0,
    );
    assert!(
        message.starts_with("the loss is NaN at epoch 2, step 3, lane 4"),
        "{message}"
    );
    assert!(
        step(
            &LaneBatch {
                rows: usize::MAX,
                ..batch
            },
            4.0
        )
        .contains("numbers where")
    );
}

#[test]
fn indices_and_classes_outside_their_range_are_named_with_row_and_column() {
    let model = model(&json!([
        {"name": "indices", "layer": "Input", "config": {"columns": ["a", "b"], "dtype": "int32"}},
        {"name": "embedding", "layer": "Embedding", "config": {"input_dim": 5, "output_dim": 2}, "inputs": ["indices"]},
        {"name": "flat", "layer": "Flatten", "inputs": ["embedding"]},
        {"name": "out", "layer": "Dense", "config": {"units": 3, "activation": "softmax"}, "inputs": ["flat"]},
    ]));
    let mut trainer =
        LaneTrainer::new(Arc::clone(&model), named("sparse_categorical_crossentropy")).unwrap();
    let parameters = model.initial_parameters(1);
    let mut step = |indices: &[i32], target: &[f32]| {
        let mut gradient = vec![0.0; model.parameter_len()];
        let batch = LaneBatch {
            rows: 2,
            inputs: vec![InputData::Int32(indices)],
            target,
            weights: None,
        };
        let key = StepKey {
            seed: 1,
            epoch: 0,
            step: 1,
            lane: 0,
        };
        trainer
            .step(&parameters, &[], &batch, &key, 2.0, &mut gradient, &mut [])
            .map(|output| output.loss_sum)
    };
    assert!(step(&[0, 1, 2, 4], &[0.0, 2.0]).is_ok());
    let message = step(&[0, 1, 2, 5], &[0.0, 2.0]).unwrap_err().to_string();
    assert!(
        message.starts_with("input \"indices\", column \"b\": index 5 in row 1 is outside 0 to 4"),
        "{message}"
    );
    assert!(
        step(&[0, -1, 2, 4], &[0.0, 2.0])
            .unwrap_err()
            .to_string()
            .contains("index -1 in row 0")
    );
    let message = step(&[0, 1, 2, 4], &[0.0, 3.0]).unwrap_err().to_string();
    assert!(
        message.starts_with("target 3 in row 1 is no class index from 0 to 2"),
        "{message}"
    );
    assert!(
        step(&[0, 1, 2, 4], &[0.5, 1.0])
            .unwrap_err()
            .to_string()
            .contains("target 0.5 in row 0")
    );
}

#[test]
fn a_loss_that_does_not_fit_the_model_is_refused() {
    let one = model(&plain());
    let error =
        LaneTrainer::new(Arc::clone(&one), named("sparse_categorical_crossentropy")).unwrap_err();
    assert!(
        matches!(error, ProgramError::Spec(SpecError::LossMismatch { .. })),
        "{error}"
    );
    use super::super::losses::TargetKind;
    assert!(
        named("binary_crossentropy")
            .check(&one, 0, &TargetKind::Classes { classes: 2 })
            .is_ok()
    );
    let message = named("binary_crossentropy")
        .check(&one, 0, &TargetKind::Classes { classes: 3 })
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("its output has 1 units and the label is one of 3 classes"),
        "{message}"
    );
}

#[test]
fn a_plan_says_what_it_fuses_and_how_much_it_holds() {
    let trainer = LaneTrainer::new(model(&layered()), named("binary_crossentropy")).unwrap();
    let text = trainer.describe(32).unwrap();
    assert!(text.contains("chain add+relu"), "{text}");
    assert!(text.contains("fused groups"), "{text}");
    assert_eq!(text, trainer.describe(32).unwrap());
}

#[test]
fn too_many_rows_are_refused_before_they_are_allocated() {
    let trainer = LaneTrainer::new(model(&plain()), named("binary_crossentropy")).unwrap();
    assert!(matches!(
        trainer.describe(1 << 40),
        Err(ProgramError::TooManyRows { .. })
    ));
}

fn plain() -> Value {
    json!([
        {"name": "features", "layer": "Input"},
        {"name": "dense", "layer": "Dense", "config": {"units": 9, "activation": "gelu"}, "inputs": ["features"]},
        {"name": "out", "layer": "Dense", "config": {"units": 1, "activation": "sigmoid"}, "inputs": ["dense"]},
    ])
}

fn layered() -> Value {
    json!([
        {"name": "features", "layer": "Input"},
        {"name": "dense", "layer": "Dense", "config": {"units": 9, "activation": "relu"}, "inputs": ["features"]},
        {"name": "drop", "layer": "Dropout", "config": {"rate": 0.4}, "inputs": ["dense"]},
        {"name": "norm", "layer": "BatchNormalization", "inputs": ["drop"]},
        {"name": "out", "layer": "Dense", "config": {"units": 1, "activation": "sigmoid"}, "inputs": ["norm"]},
    ])
}

fn model(layers: &Value) -> Arc<Model> {
    let json = json!({"format_version": 1, "name": "m", "layers": layers, "outputs": ["out"]});
    let integer = |name: &str| FeatureColumn {
        name: name.to_string(),
        width: 1,
        kind: FeatureKind::Integer,
    };
    let features = if layers[0]["name"] == "indices" {
        vec![integer("a"), integer("b")]
    } else {
        vec![FeatureColumn {
            name: "x".to_string(),
            width: 6,
            kind: FeatureKind::Float,
        }]
    };
    Arc::new(Model::build(&ModelSpec::from_json(&json).unwrap(), &features).unwrap())
}

struct Rows {
    features: Vec<f32>,
    target: Vec<f32>,
    weights: Vec<f32>,
}

impl Rows {
    fn new(rows: usize) -> Self {
        let mut stream = RandomKey::of(41, 0).stream(Purpose::Test);
        Rows {
            features: (0..rows * 6).map(|_| stream.normal() as f32).collect(),
            target: (0..rows).map(|_| stream.below(2) as f32).collect(),
            weights: (0..rows).map(|_| stream.uniform() as f32 + 0.5).collect(),
        }
    }

    fn lane(&self, start: usize, rows: usize) -> LaneBatch<'_> {
        LaneBatch {
            rows,
            inputs: vec![InputData::Float32(
                &self.features[start * 6..(start + rows) * 6],
            )],
            target: &self.target[start..start + rows],
            weights: Some(&self.weights[start..start + rows]),
        }
    }
}

fn summed_gradient(model: &Arc<Model>, cuts: &[usize]) -> Vec<f32> {
    let (rows, parameters) = (Rows::new(37), model.initial_parameters(1));
    let mut trainer = LaneTrainer::new(Arc::clone(model), named("binary_crossentropy")).unwrap();
    let mut sum = vec![0.0; parameters.len()];
    let mut start = 0;
    for (lane, &cut) in cuts.iter().enumerate() {
        let key = StepKey {
            seed: 1,
            epoch: 0,
            step: 1,
            lane: lane as u32,
        };
        let mut gradient = vec![f32::NAN; parameters.len()];
        trainer
            .step(
                &parameters,
                &[],
                &rows.lane(start, cut),
                &key,
                37.0,
                &mut gradient,
                &mut [],
            )
            .unwrap();
        sum.iter_mut().zip(&gradient).for_each(|(sum, g)| *sum += g);
        start += cut;
    }
    sum
}

/// Ten plain descent steps with dropout and batch normalization; returns all bits of weights and statistics.
fn train(cuts: &[usize]) -> Vec<u32> {
    let model = model(&layered());
    let (rows, mut parameters, mut statistics) = (
        Rows::new(37),
        model.initial_parameters(1),
        model.initial_statistics(),
    );
    let mut trainer = LaneTrainer::new(Arc::clone(&model), named("binary_crossentropy")).unwrap();
    for step in 1..=10 {
        let mut start = 0;
        for (lane, &cut) in cuts.iter().enumerate() {
            let key = StepKey {
                seed: 1,
                epoch: 0,
                step,
                lane: lane as u32,
            };
            let (mut gradient, mut new_statistics) = (
                vec![f32::NAN; parameters.len()],
                vec![f32::NAN; statistics.len()],
            );
            let lane = rows.lane(start, cut);
            trainer
                .step(
                    &parameters,
                    &statistics,
                    &lane,
                    &key,
                    37.0,
                    &mut gradient,
                    &mut new_statistics,
                )
                .unwrap();
            parameters
                .iter_mut()
                .zip(&gradient)
                .for_each(|(p, g)| *p -= 0.1 * g);
            statistics = new_statistics;
            start += cut;
        }
    }
    parameters
        .iter()
        .chain(&statistics)
        .map(|value| value.to_bits())
        .collect()
}

#[test]
fn a_loss_that_is_not_finite_is_traced_to_the_first_layer_that_made_it_so() {
    let model = model(&json!([
        {"name": "x", "layer": "Input"},
        {"name": "large", "layer": "Dense", "config": {"units": 2}, "inputs": ["x"]},
        {"name": "overflows", "layer": "Activation", "config": {"activation": "exponential"}, "inputs": ["large"]},
        {"name": "out", "layer": "Dense", "config": {"units": 1}, "inputs": ["overflows"]},
    ]));
    let mut trainer = LaneTrainer::new(Arc::clone(&model), Loss::parse("mse").unwrap()).unwrap();
    let mut origin = |parameters: &[f32]| {
        let x = vec![1.0; model.inputs()[0].width];
        let batch = LaneBatch {
            rows: 1,
            inputs: vec![InputData::Float32(&x)],
            target: &[0.0],
            weights: None,
        };
        let mut gradient = vec![0.0; parameters.len()];
        let key = StepKey {
            seed: 0,
            epoch: 0,
            step: 1,
            lane: 0,
        };
        match trainer.step(parameters, &[], &batch, &key, 1.0, &mut gradient, &mut []) {
            Err(ProgramError::NonFiniteLoss { origin, .. }) => origin,
            other => panic!("{other:?}"),
        }
    };
    let mut parameters = vec![1000.0; model.parameter_len()];
    assert_eq!(origin(&parameters), "the output of layer \"overflows\"");
    parameters[0] = f32::NAN;
    assert_eq!(origin(&parameters), "the parameter \"large/kernel\"");
}

fn named(loss: &str) -> Loss {
    Loss::parse(loss).unwrap()
}
