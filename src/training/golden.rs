//! The engine against others, with the same first weights and the same minibatches, through the crew, its lanes, the tree of
//! sums and our own Adam: the census model's first 50 steps and 20 of a sparse embedding in PyTorch
//! (`tests/golden/training/`), and 20 steps of a model of two outputs in Keras (`tests/golden/outputs/`).

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::feed::LaneFeed;
use super::report;
use super::step::{Command, Crew, Share, StepOfJob};
use crate::frames::data_plan::{DataPlan, PlanSettings};
use crate::frames::minibatch::{DecodedRows, Matrix, MatrixKind, RowShape};
use crate::nn::{FeatureColumn, FeatureKind, Loss, Model, ModelSpec, Objectives, OutputObjective};
use crate::optim::{ArrayBlocks, Optimizer, OptimizerSpec};
use crate::tensor::archive;

const LANES: u32 = 8;
const WIDTH: usize = 108;

/// Both sides round to float32 at every step, each in its own order. Measured: no parameter is more than 5.3e-8 apart
/// after 50 steps, two units in the last place of a weight of 0.3, and all together 2e-7 of the way they went. Twenty
/// times that leaves room for the kernels of other processors, and is a thousandth of one step of Adam (the learning
/// rate, 1e-3): a moment, a correction or an epsilon in the wrong place is far outside.
const PARAMETER_TOLERANCE: f32 = 1e-6;

type Arrays = BTreeMap<String, Vec<f32>>;

#[test]
fn the_census_model_trains_its_first_50_steps_as_pytorch_does() {
    let golden = read("training/census_mlp");
    let model = census_model();
    let job = Job {
        objectives: binary_crossentropy(),
        rows: Arc::new(census_rows(&golden)),
        // Epsilon is where Keras has it; the script moves PyTorch's own there, step by step.
        optimizer: json!({"name": "adam", "learning_rate": 1e-3, "epsilon": 1e-7}),
        batch_size: 256,
        steps: 50,
    };
    let first = flat(&model, &golden, "first");
    let last = flat(&model, &golden, "last");
    for threads in [1, 3] {
        let (losses, parameters) = train(&model, &job, &first, threads);
        compare_losses(&losses, &golden["losses"], "PyTorch");
        for (index, (found, expected)) in parameters.iter().zip(&last).enumerate() {
            assert!(
                (found - expected).abs() <= PARAMETER_TOLERANCE,
                "parameter {index}: {found}, PyTorch has {expected}"
            );
        }
        let apart = distance(&parameters, &last);
        let moved = distance(&first, &last);
        assert!(apart <= 1e-5 * moved, "{apart} apart after moving {moved}");
    }
}

/// PyTorch's SparseAdam keeps the moments of rows that a step does not meet as they are, and so do we; with SGD nothing else
/// is possible. Tolerances: both sides round to float32, each in its own order.
#[test]
fn a_sparse_embedding_trains_its_first_20_steps_as_pytorch_does() {
    let golden = read("training/sparse_embedding");
    let model = embedding_model();
    let first = flat(&model, &golden, "first");
    let (indices, label) = (&golden["indices"], &golden["label"]);
    let indices = indices.iter().map(|&index| index as i32).collect();
    let rows = Arc::new(DecodedRows {
        rows: label.len(),
        inputs: vec![Matrix::Int32 {
            width: 6,
            values: indices,
        }],
        target: label.clone(),
        target_width: 1,
        weights: None,
    });
    for (name, optimizer) in [
        (
            "adam",
            json!({"name": "adam", "learning_rate": 0.02, "epsilon": 1e-7}),
        ),
        ("sgd", json!({"name": "sgd", "learning_rate": 0.5})),
    ] {
        let last = flat(&model, &golden, name);
        for threads in [1, 3] {
            let job = Job {
                objectives: binary_crossentropy(),
                rows: Arc::clone(&rows),
                optimizer: optimizer.clone(),
                batch_size: 64,
                steps: 20,
            };
            let (losses, parameters) = train(&model, &job, &first, threads);
            compare_losses(&losses, &golden[&format!("{name}/losses")], "PyTorch");
            let all = first.iter().zip(&last).zip(&parameters).enumerate();
            for (index, ((first, expected), found)) in all {
                assert!(
                    (found - expected).abs() <= 2e-5,
                    "{name}: parameter {index}: {found}, PyTorch has {expected}"
                );
                // Rows that no step met are as they were to the bit, and those that one met are not.
                assert_eq!(found == first, expected == first, "{name}: {index}");
            }
        }
    }
}

/// Losses of each step agree to 1e-4 of them, as do the ways that the weights went.
#[test]
fn two_outputs_with_loss_weights_train_their_first_20_steps_as_in_keras() {
    let golden = read("outputs/outputs");
    let model = two_heads();
    let first = flat(&model, &golden, "heads/first");
    let last = flat(&model, &golden, "heads/last");
    let output = |name: &str, loss: &str, weight| OutputObjective {
        name: name.into(),
        loss: Loss::parse(loss).unwrap(),
        weight,
        metrics: Vec::new(),
    };
    let job = Job {
        objectives: Objectives::new(vec![
            output("level", "mse", 1.0),
            output("kind", "sparse_categorical_crossentropy", 0.3),
        ]),
        rows: Arc::new(DecodedRows {
            rows: golden["heads/weights"].len(),
            inputs: vec![Matrix::Float32 {
                width: 6,
                values: golden["heads/x"].clone(),
            }],
            target: golden["heads/target"].clone(),
            target_width: 2,
            weights: Some(golden["heads/weights"].clone()),
        }),
        optimizer: json!({"name": "adam", "learning_rate": 1e-2, "epsilon": 1e-7}),
        batch_size: 32,
        steps: 20,
    };
    for threads in [1, 2] {
        let (losses, parameters) = train(&model, &job, &first, threads);
        compare_losses(&losses, &golden["heads/losses"], "Keras");
        let apart = distance(&parameters, &last);
        let moved = distance(&first, &last);
        assert!(apart <= 1e-4 * moved, "{apart} apart after moving {moved}");
    }
}

/// Losses of each step (of the whole, then of each of several outputs) to 1e-4 of them.
fn compare_losses(found: &[Vec<f64>], expected: &[f32], reference: &str) {
    let width = found[0].len();
    assert_eq!(found.len() * width, expected.len());
    for (step, (found, expected)) in found.iter().zip(expected.chunks_exact(width)).enumerate() {
        for (found, expected) in found.iter().zip(expected) {
            let expected = f64::from(*expected);
            assert!(
                (found - expected).abs() <= 1e-4 * expected,
                "loss of step {step}: {found}, {reference} has {expected}"
            );
        }
    }
}

fn binary_crossentropy() -> Objectives {
    Loss::parse("binary_crossentropy").unwrap().into()
}

/// Rows and what is done with them.
struct Job {
    objectives: Objectives,
    rows: Arc<DecodedRows>,
    optimizer: serde_json::Value,
    batch_size: usize,
    steps: u64,
}

/// Trains from `first` on the minibatches in their order. Returns the losses of each step (of the whole, then of each of
/// several outputs), and the last weights.
fn train(
    model: &Arc<Model>,
    job: &Job,
    first: &[f32],
    threads: usize,
) -> (Vec<Vec<f64>>, Vec<f32>) {
    let rows = &job.rows;
    let optimizer = OptimizerSpec::from_json(&job.optimizer).unwrap();
    let plan = DataPlan::new(PlanSettings {
        row_groups: vec![rows.rows as u64],
        seed: 0,
        batch_size: job.batch_size as u32,
        lanes: LANES,
        shuffle: false,
        window_rows: 0,
    });
    assert_eq!(plan.steps(), job.steps);
    let order = Arc::new(plan.permutation(0).unwrap());
    let shape = RowShape {
        inputs: rows
            .inputs
            .iter()
            .map(|matrix| match matrix {
                Matrix::Float32 { width, .. } => (MatrixKind::Float32, *width),
                Matrix::Int32 { width, .. } => (MatrixKind::Int32, *width),
            })
            .collect(),
        target_width: rows.target_width,
        weighted: rows.weights.is_some(),
    };
    let share = Share {
        model: Arc::clone(model),
        objectives: job.objectives.clone(),
        optimizer: Optimizer::build(&optimizer).unwrap(),
        seed: 0,
        lanes: LANES,
        plan,
        validation: None,
        validation_shape: shape.clone(),
        shape,
        own_lanes: 0..LANES,
        worker: 0,
        workers: 1,
        arrays: ArrayBlocks::default(),
    };
    let crew = Crew::new(share, threads, CancellationToken::new()).unwrap();
    crew.replace_values(first);
    let mut losses = Vec::new();
    std::thread::scope(|scope| {
        for thread in 1..threads {
            let crew = &crew;
            scope.spawn(move || crew.follow(thread));
        }
        for step in 0..job.steps {
            // The sums of an epoch are those of one step, when it begins at every step.
            let feed = |_| {
                Ok(LaneFeed::Memory {
                    rows: Arc::clone(rows),
                    order: Arc::clone(&order),
                })
            };
            crew.begin_epoch(feed, |_| Ok(LaneFeed::None)).unwrap();
            let now = StepOfJob {
                epoch: 0,
                step,
                total_step: step + 1,
                learning_rate: crew.share.optimizer.learning_rate(step + 1, 0),
            };
            *crew.command.lock() = Command::Train(now);
            assert!(crew.barrier.wait());
            crew.train(0, &now);
            assert!(crew.barrier.wait());
            crew.update(0, 0, &now);
            // At rest, so that sums can be read: every thread has updated its range when it is here.
            *crew.command.lock() = Command::Evaluate;
            assert!(crew.barrier.wait());
            assert!(crew.barrier.wait());
            crew.failure().unwrap();
            let merged = report::merge(&crew.end_epoch()).unwrap();
            let sums = std::iter::once(merged.loss_sum).chain(merged.output_losses);
            losses.push(sums.map(|sum| sum / job.batch_size as f64).collect());
        }
        crew.barrier.abandon();
    });
    (losses, crew.values())
}

fn census_model() -> Arc<Model> {
    let spec = json!({"format_version": 1, "name": "golden", "layers": [
        {"name": "features", "layer": "Input", "config": {"columns": ["features"]}},
        {"name": "dense_0", "layer": "Dense", "config": {"units": 128, "activation": "relu"}, "inputs": ["features"]},
        {"name": "dense_1", "layer": "Dense", "config": {"units": 64, "activation": "relu"}, "inputs": ["dense_0"]},
        {"name": "dense_2", "layer": "Dense", "config": {"units": 1, "activation": "sigmoid"}, "inputs": ["dense_1"]},
    ], "outputs": ["dense_2"]});
    let features = [FeatureColumn {
        name: "features".into(),
        width: WIDTH,
        kind: FeatureKind::Float,
    }];
    Arc::new(Model::build(&ModelSpec::from_json(&spec).unwrap(), &features).unwrap())
}

fn embedding_model() -> Arc<Model> {
    let spec = json!({"format_version": 1, "name": "golden", "layers": [
        {"name": "indices", "layer": "Input", "config": {"dtype": "int32"}},
        {"name": "words", "layer": "Embedding", "config": {"input_dim": 2000, "output_dim": 4, "sparse": true}, "inputs": ["indices"]},
        {"name": "flat", "layer": "Flatten", "inputs": ["words"]},
        {"name": "answer", "layer": "Dense", "config": {"units": 1, "activation": "sigmoid"}, "inputs": ["flat"]},
    ], "outputs": ["answer"]});
    let features = [FeatureColumn {
        name: "words".into(),
        width: 6,
        kind: FeatureKind::Integer,
    }];
    Arc::new(Model::build(&ModelSpec::from_json(&spec).unwrap(), &features).unwrap())
}

/// A trunk of 16 units, a regression and three classes.
fn two_heads() -> Arc<Model> {
    let spec = json!({"format_version": 1, "name": "heads", "layers": [
        {"name": "numbers", "layer": "Input", "config": {"columns": ["x"]}},
        {"name": "trunk", "layer": "Dense", "config": {"units": 16, "activation": "tanh"}, "inputs": ["numbers"]},
        {"name": "level", "layer": "Dense", "config": {"units": 1}, "inputs": ["trunk"]},
        {"name": "kind", "layer": "Dense", "config": {"units": 3, "activation": "softmax"}, "inputs": ["trunk"]},
    ], "outputs": ["level", "kind"]});
    let features = [FeatureColumn {
        name: "x".into(),
        width: 6,
        kind: FeatureKind::Float,
    }];
    Arc::new(Model::build(&ModelSpec::from_json(&spec).unwrap(), &features).unwrap())
}

fn read(name: &str) -> Arrays {
    let path = format!(
        "{}/tests/golden/{name}.safetensors",
        env!("CARGO_MANIFEST_DIR")
    );
    let arrays = archive::from_bytes(&std::fs::read(path).unwrap()).unwrap();
    arrays
        .into_iter()
        .map(|array| (array.name, array.values))
        .collect()
}

fn distance(from: &[f32], to: &[f32]) -> f64 {
    let squares = from.iter().zip(to).map(|(a, b)| f64::from(a - b).powi(2));
    squares.sum::<f64>().sqrt()
}

/// The flat vector from named arrays under a prefix.
fn flat(model: &Model, golden: &Arrays, prefix: &str) -> Vec<f32> {
    let parameters = model.parameters().iter();
    parameters
        .flat_map(|info| golden[&format!("{prefix}/{}", info.name)].iter().copied())
        .collect()
}

/// 6 numbers and 8 column indices per row to the 108 one-hot columns.
fn census_rows(golden: &Arrays) -> DecodedRows {
    let mut values = Vec::new();
    let rows = golden["numbers"].chunks_exact(6);
    for (numbers, codes) in rows.zip(golden["codes"].chunks_exact(8)) {
        let start = values.len();
        values.extend_from_slice(numbers);
        values.resize(start + WIDTH, 0.0);
        for &code in codes {
            values[start + code as usize] = 1.0;
        }
    }
    DecodedRows {
        rows: golden["label"].len(),
        inputs: vec![Matrix::Float32 {
            width: WIDTH,
            values,
        }],
        target: golden["label"].clone(),
        target_width: 1,
        weights: None,
    }
}
