//! Sparse tables: their lists are the rows of the gradient that the same model has without `sparse`.

use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::nn::Loss;
use crate::nn::{FeatureColumn, FeatureKind, Model, ModelSpec};
use crate::tensor::row_sums::RowSums;

/// A table read twice, over different indices, one read once and masked, and one without effect on the loss.
fn model(sparse: bool) -> Arc<Model> {
    let table = |rows: usize, width: usize| json!({"input_dim": rows, "output_dim": width, "sparse": sparse});
    let layers = json!([
        {"name": "first", "layer": "Input", "config": {"columns": ["a"], "dtype": "int32"}},
        {"name": "second", "layer": "Input", "config": {"columns": ["b", "c"], "dtype": "int32"}},
        {"name": "numbers", "layer": "Input", "config": {"columns": ["x"]}},
        {"name": "dense", "layer": "Dense", "config": {"units": 3, "activation": "tanh"}, "inputs": ["numbers"]},
        {"name": "words", "layer": "Embedding", "config": table(11, 4), "inputs": ["first"]},
        {"name": "again", "layer": "Embedding", "config": table(11, 4), "inputs": ["second"], "shares": "words"},
        {"name": "places", "layer": "Embedding", "config": table(7, 2), "inputs": ["second"]},
        {"name": "flat", "layer": "Flatten", "inputs": ["words"]},
        {"name": "flat_again", "layer": "Flatten", "inputs": ["again"]},
        {"name": "flat_places", "layer": "Flatten", "inputs": ["places"]},
        {"name": "joined", "layer": "Concatenate", "inputs": ["flat", "dense", "flat_again", "flat_places"]},
        {"name": "out", "layer": "Dense", "config": {"units": 1, "kernel_regularizer": {"name": "l2", "l2": 0.1}},
            "inputs": ["joined"]},
    ]);
    build(&layers).unwrap()
}

fn build(layers: &Value) -> Result<Arc<Model>, crate::nn::SpecError> {
    let column = |name: &str, kind| FeatureColumn {
        name: name.into(),
        width: 1,
        kind,
    };
    let features = [
        column("a", FeatureKind::Integer),
        column("b", FeatureKind::Integer),
        column("c", FeatureKind::Integer),
        column("x", FeatureKind::Float),
    ];
    let spec = json!({"format_version": 1, "name": "m", "layers": layers, "outputs": ["out"]});
    Model::build(&ModelSpec::from_json(&spec)?, &features).map(Arc::new)
}

/// Values by the name of their array.
fn by_name<'a>(model: &'a Model, values: &'a [f32]) -> Vec<(&'a str, &'a [f32])> {
    let infos = model.parameters().iter();
    infos
        .map(|info| {
            let range = info.offset..info.offset + info.len();
            (info.name.as_str(), &values[range])
        })
        .collect()
}

#[test]
fn lists_are_the_rows_of_the_dense_gradient_and_nothing_is_as_large_as_a_table() {
    let (sparse, dense) = (model(true), model(false));
    let (parameters, dense_parameters) =
        (sparse.initial_parameters(3), dense.initial_parameters(3));
    assert_eq!(
        by_name(&sparse, &parameters),
        by_name(&dense, &dense_parameters)
    );
    assert_eq!(sparse.sparse_len(), 11 * 4 + 7 * 2);
    let rows = 6;
    let first = [1, 10, 1, 4, 4, 4];
    let second = [1, 0, 6, 6, 2, 3, 1, 1, 0, 0, 5, 6];
    let numbers = [0.1f32, -0.3, 0.7, 0.2, 0.0, -1.0];
    let target = [1.0f32, 0.0, 2.0, -1.0, 0.5, 0.3];
    let batch = LaneBatch {
        rows,
        inputs: vec![
            InputData::Int32(&first),
            InputData::Int32(&second),
            InputData::Float32(&numbers),
        ],
        target: &target,
        weights: None,
    };
    let key = StepKey {
        seed: 1,
        epoch: 0,
        step: 1,
        lane: 0,
    };
    let loss = Loss::parse("mse").unwrap();
    let mut expected = vec![0.0; dense.parameter_len()];
    let loss_sum = LaneTrainer::new(Arc::clone(&dense), loss.clone())
        .unwrap()
        .step(
            &dense_parameters,
            &[],
            &batch,
            &key,
            6.0,
            &mut expected,
            &mut [],
        )
        .unwrap()
        .loss_sum;
    let mut trainer = LaneTrainer::new(Arc::clone(&sparse), loss).unwrap();
    assert!(!trainer.describe(rows).unwrap().contains("sum into rows"));
    let mut gradient = vec![0.0; sparse.parameter_len()];
    let (tables_part, dense_part) = gradient.split_at_mut(sparse.sparse_len());
    let mut sums: Vec<RowSums> = sparse
        .sparse_tables()
        .iter()
        .map(|table| RowSums::new(table.width))
        .collect();
    let output = trainer
        .step_with_tables(
            &parameters,
            &[],
            &batch,
            &key,
            6.0,
            dense_part,
            &mut [],
            &mut sums,
        )
        .unwrap();
    assert_eq!(output.loss_sum, loss_sum);
    let met: [&[u32]; 2] = [&[0, 1, 2, 3, 4, 5, 6, 10], &[0, 1, 2, 3, 5, 6]];
    for ((table, sums), met) in sparse.sparse_tables().iter().zip(&sums).zip(met) {
        let [list] = sums.lists() else {
            panic!("one list of a step");
        };
        let rows: Vec<u32> = list.iter().map(|entry| entry.row).collect();
        assert_eq!(rows, met);
        for entry in list {
            let start = table.offset + entry.row as usize * table.width;
            let at = entry.at as usize * table.width;
            tables_part[start..start + table.width]
                .copy_from_slice(&sums.values()[at..at + table.width]);
        }
    }
    for ((name, found), (_, expected)) in by_name(&sparse, &gradient)
        .iter()
        .zip(by_name(&dense, &expected))
    {
        for (found, expected) in found.iter().zip(expected) {
            assert!(
                (found - expected).abs() < 1e-6,
                "{name}: {found} {expected}"
            );
        }
    }
}

#[test]
fn what_a_sparse_table_cannot_have_is_refused_by_name() {
    let layers = |config: Value, shares: Value| {
        json!([
            {"name": "first", "layer": "Input", "config": {"columns": ["a"], "dtype": "int32"}},
            {"name": "words", "layer": "Embedding", "config": {"input_dim": 3, "output_dim": 2, "sparse": true}, "inputs": ["first"]},
            {"name": "again", "layer": "Embedding", "config": config, "inputs": ["first"], "shares": shares},
            {"name": "joined", "layer": "Concatenate", "inputs": ["words", "again"]},
            {"name": "flat", "layer": "Flatten", "inputs": ["joined"]},
            {"name": "out", "layer": "Dense", "config": {"units": 1}, "inputs": ["flat"]},
        ])
    };
    let penalty = json!({"input_dim": 3, "output_dim": 2, "sparse": true, "embeddings_regularizer": {"name": "l2", "l2": 0.1}});
    let message = build(&layers(penalty, Value::Null))
        .unwrap_err()
        .to_string();
    assert!(
        message.starts_with("layer \"again\": option \"embeddings_regularizer\" cannot be")
            && message.contains("\"sparse\""),
        "{message}"
    );
    let other = json!({"input_dim": 3, "output_dim": 2});
    let message = build(&layers(other, json!("words")))
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("it shares the arrays of \"words\""),
        "{message}"
    );
}
