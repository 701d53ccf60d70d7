//! What columns hold, from a table to a model's inputs.

use arrow::array::Int32Array;
use arrow::datatypes::Int32Type;

use super::*;

const WORDS: i32 = 9;

/// The word at a place of a row.
fn word(row: i32, place: i32) -> i32 {
    (row * 5 + row / WORDS * place) % WORDS
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_column_of_integers_feeds_an_embedding_as_a_column_for_each_of_them_does() {
    let rows = 0..400;
    let texts = rows
        .clone()
        .map(|row| Some([0, 1, 2].map(|place| Some(word(row, place)))));
    let numbers = texts
        .clone()
        .map(|text| text.map(|text| text.map(|word| word.map(f64::from))));
    let column = |place| Int32Array::from_iter_values(rows.clone().map(|row| word(row, place)));
    let found = rows
        .clone()
        .map(|row| (0..3).any(|place| word(row, place) == 4));
    let batch = RecordBatch::try_from_iter([
        (
            "text",
            Arc::new(FixedSizeListArray::from_iter_primitive::<Int32Type, _, _>(
                texts, 3,
            )) as ArrayRef,
        ),
        (
            "numbers",
            Arc::new(FixedSizeListArray::from_iter_primitive::<Float64Type, _, _>(numbers, 3)),
        ),
        ("first", Arc::new(column(0))),
        ("second", Arc::new(column(1))),
        ("third", Arc::new(column(2))),
        ("found", Arc::new(found.map(Some).collect::<BooleanArray>())),
    ]);
    let cluster = TestCluster::of(2, true).await;
    cluster.put("texts", batch.unwrap()).await;
    let asked = |columns: &[&str]| TrainRequest {
        source: Source::Table(DatasetReference::parse("texts").unwrap()),
        label: "found".into(),
        features: columns.iter().map(|&column| column.into()).collect(),
        pipeline: vec![],
        model: json!({"format_version": 1, "name": "search", "layers": [
            {"name": "words", "layer": "Input", "config": {"columns": columns, "dtype": "int32"}},
            {"name": "embedding", "layer": "Embedding", "config": {"input_dim": WORDS, "output_dim": 4}, "inputs": ["words"]},
            {"name": "most", "layer": "GlobalMaxPooling1D", "inputs": ["embedding"]},
            {"name": "answer", "layer": "Dense", "config": {"units": 1, "activation": "sigmoid"}, "inputs": ["most"]},
        ], "outputs": ["answer"]}),
        metrics: vec!["accuracy".into()],
        optimizer: json!({"name": "adam", "learning_rate": 0.05}),
        epochs: 30,
        ..request()
    };
    let mut weights = Vec::new();
    for columns in [&["text"] as &[&str], &["first", "second", "third"]] {
        let status = cluster.train(asked(columns)).await;
        assert_eq!(status.state, JobState::Succeeded, "{:?}", status.error);
        assert_eq!(status.metrics["accuracy"], 1.0, "{:?}", status.metrics);
        let model = cluster.catalog.models.load("churn", None).await.unwrap();
        weights.push(model.weights);
    }
    assert!(weights[0] == weights[1]);
    let expected = "its dtype is int32 and column \"numbers\" holds floats";
    cluster.fails(asked(&["numbers"]), expected).await;
}
