//! A training step allocates nothing once its plan is made.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use serde_json::json;
use volary::nn::{
    FeatureColumn, FeatureKind, InputData, LaneBatch, LaneTrainer, Loss, Model, ModelSpec, StepKey,
};
use volary::optim::{Optimizer, OptimizerSpec, TableRows};
use volary::tensor::row_sums::{KnownRows, RowSums};

/// Counts this thread's allocations; the test harness has threads of its own.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: hands everything on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promise, handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise, handed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_training_step_and_an_update_allocate_nothing() {
    let json = json!({"format_version": 1, "name": "m", "layers": [
        {"name": "numbers", "layer": "Input", "config": {"columns": ["x"]}},
        {"name": "indices", "layer": "Input", "config": {"columns": ["i"], "dtype": "int32"}},
        {"name": "embedding", "layer": "Embedding", "config": {"input_dim": 5, "output_dim": 3}, "inputs": ["indices"]},
        {"name": "flat", "layer": "Flatten", "inputs": ["embedding"]},
        {"name": "joined", "layer": "Concatenate", "inputs": ["numbers", "flat"]},
        {"name": "dense", "layer": "Dense", "config": {"units": 64, "activation": "gelu"}, "inputs": ["joined"]},
        {"name": "drop", "layer": "Dropout", "config": {"rate": 0.3}, "inputs": ["dense"]},
        {"name": "norm", "layer": "BatchNormalization", "inputs": ["drop"]},
        {"name": "out", "layer": "Dense", "config": {"units": 3, "activation": "softmax"}, "inputs": ["norm"]},
    ], "outputs": ["out"]});
    let features = [
        FeatureColumn {
            name: "x".to_string(),
            width: 10,
            kind: FeatureKind::Float,
        },
        FeatureColumn {
            name: "i".to_string(),
            width: 1,
            kind: FeatureKind::Integer,
        },
    ];
    let model = Arc::new(Model::build(&ModelSpec::from_json(&json).unwrap(), &features).unwrap());
    let optimizer = Optimizer::build(&OptimizerSpec::from_json(&json!("adamw")).unwrap()).unwrap();
    let mut trainer = LaneTrainer::new(
        Arc::clone(&model),
        Loss::parse("sparse_categorical_crossentropy").unwrap(),
    )
    .unwrap();
    let mut parameters = model.initial_parameters(1);
    let statistics = model.initial_statistics();
    let (mut gradient, mut new_statistics) =
        (vec![0.0; parameters.len()], vec![0.0; statistics.len()]);
    let mut slots = optimizer.first_slots(parameters.len());
    let (numbers, indices, target) = (vec![0.5f32; 320], vec![3i32; 32], vec![2.0f32; 32]);
    let batches = [32, 20].map(|rows| LaneBatch {
        rows,
        inputs: vec![
            InputData::Float32(&numbers[..rows * 10]),
            InputData::Int32(&indices[..rows]),
        ],
        target: &target[..rows],
        weights: None,
    });
    let mut before = 0;
    for step in 1..=20 {
        // Full and ragged lanes in turn: both plans are made in the first two rounds.
        if step == 3 {
            before = ALLOCATIONS.get();
        }
        let key = StepKey {
            seed: 1,
            epoch: 0,
            step,
            lane: 0,
        };
        let batch = &batches[(step % 2) as usize];
        trainer
            .step(
                &parameters,
                &statistics,
                batch,
                &key,
                32.0,
                &mut gradient,
                &mut new_statistics,
            )
            .unwrap();
        optimizer.update(
            step,
            optimizer.learning_rate(step, 0),
            &mut parameters,
            &gradient,
            &mut slots,
        );
    }
    assert_eq!(ALLOCATIONS.get() - before, 0);
}

/// Two lanes over a table of 50,000 rows, their lists joined, and the rows met updated.
#[test]
fn a_step_with_a_sparse_table_and_its_update_allocate_nothing() {
    let json = json!({"format_version": 1, "name": "m", "layers": [
        {"name": "indices", "layer": "Input", "config": {"dtype": "int32"}},
        {"name": "embedding", "layer": "Embedding", "config": {"input_dim": 50_000, "output_dim": 4, "sparse": true}, "inputs": ["indices"]},
        {"name": "flat", "layer": "Flatten", "inputs": ["embedding"]},
        {"name": "out", "layer": "Dense", "config": {"units": 1}, "inputs": ["flat"]},
    ], "outputs": ["out"]});
    let features = [FeatureColumn {
        name: "i".to_string(),
        width: 3,
        kind: FeatureKind::Integer,
    }];
    let model = Arc::new(Model::build(&ModelSpec::from_json(&json).unwrap(), &features).unwrap());
    let optimizer = Optimizer::build(&OptimizerSpec::from_json(&json!("adam")).unwrap()).unwrap();
    let mut trainer = LaneTrainer::new(Arc::clone(&model), Loss::parse("mse").unwrap()).unwrap();
    let mut parameters = model.initial_parameters(1);
    let table_len = model.sparse_len();
    let mut gradient = vec![0.0; parameters.len() - table_len];
    let mut slots = optimizer.first_slots(table_len);
    let mut sums = [RowSums::new(4)];
    let mut scratch = Vec::new();
    let indices: Vec<i32> = (0..192).map(|i| i * i * 97 % 50_000).collect();
    let target = vec![2.0f32; 32];
    let lanes = [0, 96].map(|start| LaneBatch {
        rows: 32,
        inputs: vec![InputData::Int32(&indices[start..start + 96])],
        target: &target,
        weights: None,
    });
    let mut before = 0;
    for step in 1..=10 {
        if step == 3 {
            before = ALLOCATIONS.get();
        }
        sums[0].clear();
        for (lane, batch) in lanes.iter().enumerate() {
            let key = StepKey {
                seed: 1,
                epoch: 0,
                step,
                lane: lane as u32,
            };
            trainer
                .step_with_tables(
                    &parameters,
                    &[],
                    batch,
                    &key,
                    64.0,
                    &mut gradient,
                    &mut [],
                    &mut sums,
                )
                .unwrap();
        }
        sums[0].join();
        let mut known = [KnownRows {
            node: 1,
            entries: &sums[0].lists()[0],
            values: sums[0].values(),
        }];
        let rows = TableRows {
            first: 0,
            width: 4,
            values: &mut parameters[..table_len],
            slots: &mut slots,
        };
        optimizer
            .row_update(step, 0.1)
            .update_rows(rows, 2, &mut known, &mut scratch, |_| {});
    }
    assert_eq!(ALLOCATIONS.get() - before, 0);
}
