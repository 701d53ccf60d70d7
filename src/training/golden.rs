//! The engine against PyTorch: the census model's first 50 steps with the same first weights and the same minibatches,
//! through the crew, its lanes, the tree of sums and our own Adam. The file and the script that made it are in
//! `tests/golden/training/`.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::feed::LaneFeed;
use super::report;
use super::step::{Command, Crew, Share, StepOfJob};
use crate::frames::data_plan::{DataPlan, PlanSettings};
use crate::frames::minibatch::{DecodedRows, Matrix, MatrixKind, RowShape};
use crate::nn::{FeatureColumn, FeatureKind, Loss, Model, ModelSpec};
use crate::optim::{ArrayBlocks, Optimizer, OptimizerSpec};
use crate::tensor::archive;

const BATCH_SIZE: usize = 256;
const STEPS: usize = 50;
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
    let golden = read();
    let model = census_model();
    let first = flat(&model, &golden, "first");
    let last = flat(&model, &golden, "last");
    for threads in [1, 3] {
        let (losses, parameters) = train(&model, &golden, &first, threads);
        assert_eq!(golden["losses"].len(), STEPS);
        for (step, (found, expected)) in losses.iter().zip(&golden["losses"]).enumerate() {
            let expected = f64::from(*expected);
            assert!(
                (found - expected).abs() <= 1e-4 * expected,
                "loss of step {step}: {found}, PyTorch has {expected}"
            );
        }
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

/// Trains from `first` on the golden minibatches in their order. Returns the loss of each step, and the last weights.
fn train(
    model: &Arc<Model>,
    golden: &Arrays,
    first: &[f32],
    threads: usize,
) -> (Vec<f64>, Vec<f32>) {
    let rows = Arc::new(census_rows(golden));
    let plan = DataPlan::new(PlanSettings {
        row_groups: vec![rows.rows as u64],
        seed: 0,
        batch_size: BATCH_SIZE as u32,
        lanes: LANES,
        shuffle: false,
        window_rows: 0,
    });
    assert_eq!(plan.steps(), STEPS as u64);
    let order = Arc::new(plan.permutation(0).unwrap());
    // Epsilon is where Keras has it; the script moves PyTorch's own there, step by step.
    let adam = json!({"name": "adam", "learning_rate": 1e-3, "epsilon": 1e-7});
    let shape = RowShape {
        inputs: vec![(MatrixKind::Float32, WIDTH)],
        target_width: 1,
        weighted: false,
    };
    let share = Share {
        model: Arc::clone(model),
        loss: Loss::parse("binary_crossentropy").unwrap(),
        metrics: Vec::new(),
        optimizer: Optimizer::build(&OptimizerSpec::from_json(&adam).unwrap()).unwrap(),
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
    // The other owner's values are, here, all of them.
    crew.take_values(0, first);
    let mut losses = Vec::new();
    std::thread::scope(|scope| {
        for thread in 1..threads {
            let crew = &crew;
            scope.spawn(move || crew.follow(thread));
        }
        for step in 0..STEPS as u64 {
            // The sums of an epoch are those of one step, when it begins at every step.
            let feed = |_| {
                Ok(LaneFeed::Memory {
                    rows: Arc::clone(&rows),
                    order: Arc::clone(&order),
                })
            };
            crew.begin_epoch(feed, |_| Ok(LaneFeed::None)).unwrap();
            let now = StepOfJob {
                epoch: 0,
                step,
                total_step: step + 1,
                learning_rate: 1e-3,
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
            losses.push(merged.loss_sum / BATCH_SIZE as f64);
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

fn read() -> Arrays {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/golden/training/census_mlp.safetensors"
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
