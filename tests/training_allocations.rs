//! A training step allocates nothing once its plan is made.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use serde_json::{Value, json};
use volary::nn::{
    FeatureColumn, FeatureKind, InputData, InputType, LaneBatch, LaneTrainer, Loss, Model,
    ModelSpec, Objectives, OutputObjective, StepKey,
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
    check(
        json!([
            {"name": "numbers", "layer": "Input", "config": {"columns": ["x"]}},
            {"name": "indices", "layer": "Input", "config": {"columns": ["i"], "dtype": "int32"}},
            {"name": "embedding", "layer": "Embedding", "config": {"input_dim": 5, "output_dim": 3}, "inputs": ["indices"]},
            {"name": "flat", "layer": "Flatten", "inputs": ["embedding"]},
            {"name": "joined", "layer": "Concatenate", "inputs": ["numbers", "flat"]},
            {"name": "dense", "layer": "Dense", "config": {"units": 64, "activation": "gelu"}, "inputs": ["joined"]},
            {"name": "drop", "layer": "Dropout", "config": {"rate": 0.3}, "inputs": ["dense"]},
            {"name": "norm", "layer": "BatchNormalization", "inputs": ["drop"]},
            {"name": "out", "layer": "Dense", "config": {"units": 3, "activation": "softmax"}, "inputs": ["norm"]},
        ]),
        &["sparse_categorical_crossentropy"],
    );
}

#[test]
fn a_step_of_a_convolutional_network_allocates_nothing() {
    check(
        json!([
            {"name": "image", "layer": "Input", "config": {"columns": ["x"], "shape": [16, 16, 3]}},
            {"name": "wide", "layer": "Conv2D", "config": {"filters": 16, "kernel_size": 3, "padding": "same", "use_bias": false}, "inputs": ["image"]},
            {"name": "norm", "layer": "BatchNormalization", "inputs": ["wide"]},
            {"name": "relu", "layer": "ReLU", "inputs": ["norm"]},
            {"name": "strided", "layer": "Conv2D", "config": {"filters": 24, "kernel_size": 5, "strides": 2, "activation": "relu"}, "inputs": ["relu"]},
            {"name": "depth", "layer": "SeparableConv2D", "config": {"filters": 8, "kernel_size": 3, "padding": "same"}, "inputs": ["strided"]},
            {"name": "up", "layer": "Conv2DTranspose", "config": {"filters": 8, "kernel_size": 2, "strides": 2}, "inputs": ["depth"]},
            {"name": "pool", "layer": "MaxPooling2D", "inputs": ["up"]},
            {"name": "mean", "layer": "AveragePooling2D", "config": {"pool_size": 2}, "inputs": ["pool"]},
            {"name": "flat", "layer": "Flatten", "inputs": ["mean"]},
            {"name": "out", "layer": "Dense", "config": {"units": 3, "activation": "softmax"}, "inputs": ["flat"]},
        ]),
        &["sparse_categorical_crossentropy"],
    );
}

#[test]
fn a_step_of_recurrent_layers_allocates_nothing_run_at_once_or_step_after_step() {
    let sequence = json!({"name": "sequence", "layer": "Input", "config": {"columns": ["x"], "shape": [12, 64]}});
    for layer in ["SimpleRNN", "LSTM", "GRU"] {
        for config in [
            json!({"units": 24, "return_sequences": true}),
            json!({"units": 24, "return_sequences": true, "recurrent_dropout": 0.2}),
        ] {
            check(
                json!([
                    sequence,
                    {"name": "masked", "layer": "Masking", "inputs": ["sequence"]},
                    {"name": "both", "layer": "Bidirectional", "config": {"layer": {"layer": layer, "config": config}}, "inputs": ["sequence"]},
                    {"name": "over", "layer": layer, "config": config, "inputs": ["masked"]},
                    {"name": "joined", "layer": "Concatenate", "inputs": ["both", "over"]},
                    {"name": "last", "layer": layer, "config": {"units": 16}, "inputs": ["joined"]},
                    {"name": "out", "layer": "Dense", "config": {"units": 1}, "inputs": ["last"]},
                ]),
                &["mse"],
            );
        }
    }
}

#[test]
fn a_step_of_a_transformer_block_allocates_nothing() {
    check(
        json!([
            {"name": "sequence", "layer": "Input", "config": {"columns": ["x"], "shape": [24, 32]}},
            {"name": "before", "layer": "LayerNormalization", "inputs": ["sequence"]},
            {"name": "attention", "layer": "MultiHeadAttention", "config": {"num_heads": 4, "key_dim": 8, "dropout": 0.1, "use_causal_mask": true},
                "inputs": ["before", "before"]},
            {"name": "sum", "layer": "Add", "inputs": ["sequence", "attention"]},
            {"name": "behind", "layer": "RMSNormalization", "inputs": ["sum"]},
            {"name": "wide", "layer": "Dense", "config": {"units": 64, "activation": "gelu", "kernel_regularizer": "l2"}, "inputs": ["behind"]},
            {"name": "narrow", "layer": "Dense", "config": {"units": 32}, "inputs": ["wide"]},
            {"name": "again", "layer": "Add", "inputs": ["sum", "narrow"]},
            {"name": "mean", "layer": "GlobalAveragePooling1D", "inputs": ["again"]},
            {"name": "out", "layer": "Dense", "config": {"units": 3, "activation": "softmax"}, "inputs": ["mean"]},
        ]),
        &["sparse_categorical_crossentropy"],
    );
}

#[test]
fn a_step_of_a_model_of_two_outputs_allocates_nothing() {
    check(
        json!([
            {"name": "numbers", "layer": "Input", "config": {"columns": ["x"]}},
            {"name": "trunk", "layer": "Dense", "config": {"units": 32, "activation": "relu"}, "inputs": ["numbers"]},
            {"name": "class", "layer": "Dense", "config": {"units": 3, "activation": "softmax"}, "inputs": ["trunk"]},
            {"name": "value", "layer": "Dense", "config": {"units": 1, "activity_regularizer": "l2"}, "inputs": ["trunk"]},
        ]),
        &["sparse_categorical_crossentropy", "huber"],
    );
}

/// Steps and updates over a float column "x" of 768 numbers and an integer column "i"; a loss for each of the last layers.
fn check(layers: Value, losses: &[&str]) {
    let described = layers.as_array().unwrap();
    let outputs: Vec<&str> = described[described.len() - losses.len()..]
        .iter()
        .map(|layer| layer["name"].as_str().unwrap())
        .collect();
    let json = json!({"format_version": 1, "name": "m", "layers": layers, "outputs": outputs});
    let features = [
        ("x", 768, FeatureKind::Float),
        ("i", 1, FeatureKind::Integer),
    ];
    let features = features.map(|(name, width, kind)| FeatureColumn {
        name: name.to_string(),
        width,
        kind,
    });
    let model = Arc::new(Model::build(&ModelSpec::from_json(&json).unwrap(), &features).unwrap());
    let optimizer = Optimizer::build(&OptimizerSpec::from_json(&json!("adamw")).unwrap()).unwrap();
    let objectives = losses
        .iter()
        .zip(&outputs)
        .map(|(loss, output)| OutputObjective {
            name: output.to_string(),
            loss: Loss::parse(loss).unwrap(),
            weight: 0.5,
            metrics: Vec::new(),
        });
    let objectives = Objectives::new(objectives.collect());
    let targets = objectives.target_width(&model);
    let mut trainer = LaneTrainer::new(Arc::clone(&model), objectives).unwrap();
    let mut parameters = model.initial_parameters(1);
    let statistics = model.initial_statistics();
    let (mut gradient, mut new_statistics) =
        (vec![0.0; parameters.len()], vec![0.0; statistics.len()]);
    let mut slots = optimizer.first_slots(parameters.len());
    let numbers: Vec<f32> = (0..32 * 768)
        .map(|number| (number % 7) as f32 * 0.1)
        .collect();
    let (indices, target) = (vec![3i32; 32], vec![2.0f32; 32 * targets]);
    let batches = [32, 20].map(|rows| LaneBatch {
        rows,
        inputs: model
            .inputs()
            .iter()
            .map(|input| match input.dtype {
                InputType::Float32 => InputData::Float32(&numbers[..rows * input.width]),
                InputType::Int32 => InputData::Int32(&indices[..rows * input.width]),
            })
            .collect(),
        target: &target[..rows * targets],
        weights: None,
    });
    let mut before = 0;
    for step in 1..=8 {
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
    assert_eq!(ALLOCATIONS.get() - before, 0, "{json}");
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
