//! Losses and metrics with options, from request to history and manifest.

use arrow::array::{AsArray, BooleanArray, Float64Array, Int64Array};
use arrow::datatypes::Int64Type;

use super::super::job::EarlyStopping;
use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loss_from_logits_trains_the_same_weights_and_leaves_a_model_that_answers_probabilities()
{
    let cluster = TestCluster::of(1, true).await;
    let weights = async |activation: &str, loss: &str| {
        let request = TrainRequest {
            features: vec!["age".into(), "spend".into()],
            pipeline: vec![json!({"transform": "standardize", "columns": ["age", "spend"]})],
            model: model_of(1, activation),
            loss: loss.into(),
            ..request()
        };
        let status = cluster.train(request).await;
        assert_eq!(status.state, JobState::Succeeded, "{:?}", status.error);
        cluster.catalog.models.load("churn", None).await.unwrap()
    };
    let plain = weights("sigmoid", "binary_crossentropy").await;
    let from_logits = r#"{"name": "binary_crossentropy", "from_logits": true}"#;
    let logits = weights("linear", from_logits).await;
    assert!(logits.weights == plain.weights);
    assert_eq!(logits.manifest.metrics, plain.manifest.metrics);
    assert_eq!(logits.manifest.loss, "binary_crossentropy");
    assert_eq!(logits.manifest.spec["outputs"], json!(["probabilities"]));
    let twice = TrainRequest {
        loss: from_logits.into(),
        ..request()
    };
    let error = cluster.submit(twice).await.unwrap_err().to_string();
    assert!(error.contains("leave out one of the two"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_with_options_stand_in_history_and_choose_the_weights() {
    let cluster = TestCluster::of(1, true).await;
    let request = TrainRequest {
        loss: r#"{"name": "binary_focal_crossentropy", "gamma": 1.5}"#.into(),
        metrics: vec![
            r#"{"name": "precision", "thresholds": 0.3}"#.into(),
            r#"{"name": "precision", "thresholds": 0.7}"#.into(),
            r#"{"name": "auc", "curve": "PR"}"#.into(),
            "f1_score".into(),
        ],
        epochs: 6,
        validation: Validation::Split(0.2),
        early_stopping: Some(EarlyStopping {
            monitor: "val_precision_1".into(),
            patience: 6,
            min_delta: 0.0,
            restore_best_weights: true,
            maximize: None,
        }),
        ..request()
    };
    let status = cluster.train(request).await;
    assert_eq!(status.state, JobState::Succeeded, "{:?}", status.error);
    let history = cluster.catalog.jobs.history(status.id).await.unwrap();
    let column = |name: &str| {
        let column = history.column_by_name(name).unwrap();
        column.as_primitive::<Float64Type>().values().to_vec()
    };
    for name in ["precision", "val_precision", "auc", "val_f1_score"] {
        assert!(column(name).iter().all(|value| (0.0..=1.0).contains(value)));
    }
    assert_ne!(column("precision"), column("precision_1"));
    let best = column("val_precision_1").into_iter().fold(0.0, f64::max);
    let model = cluster.catalog.models.load("churn", None).await.unwrap();
    assert_eq!(model.manifest.metrics["val_precision_1"], best);
    assert_eq!(
        model.manifest.loss,
        r#"{"gamma":1.5,"name":"binary_focal_crossentropy"}"#
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_hot_classes_train_the_same_weights_as_their_indices() {
    let cluster = TestCluster::of(1, true).await;
    let mut weights = Vec::new();
    for loss in [
        "sparse_categorical_crossentropy",
        "categorical_crossentropy",
    ] {
        let request = TrainRequest {
            label: "plan".into(),
            features: vec!["age".into(), "spend".into()],
            pipeline: vec![json!({"transform": "standardize", "columns": ["age", "spend"]})],
            model: model_of(3, "softmax"),
            loss: loss.into(),
            metrics: vec!["accuracy".into(), "top_k_categorical_accuracy".into()],
            class_weight: BTreeMap::from([("gold".to_string(), 3.0)]),
            ..request()
        };
        let status = cluster.train(request).await;
        assert_eq!(status.state, JobState::Succeeded, "{:?}", status.error);
        assert_eq!(status.metrics["top_k_categorical_accuracy"], 1.0);
        let model = cluster.catalog.models.load("churn", None).await.unwrap();
        weights.push(model.weights);
    }
    assert!(weights[0] == weights[1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sequence_of_classes_is_trained_on_with_its_void_left_out() {
    let cluster = TestCluster::of(2, true).await;
    let rows = 600_i64;
    let token = |row: i64, place: i64| (row * 7 + place * 3).rem_euclid(6);
    let column = |place| Int64Array::from_iter_values((0..rows).map(|row| token(row, place)));
    // The class of a place is its token's remainder by three; one place in five is void.
    let labels = (0..rows).map(|row| {
        let class = |place| match (row + place) % 5 {
            0 => -1,
            _ => token(row, place) % 3,
        };
        Some((0..2).map(|place| Some(class(place))).collect::<Vec<_>>())
    });
    let labels = FixedSizeListArray::from_iter_primitive::<Int64Type, _, _>(labels, 2);
    let batch = RecordBatch::try_from_iter([
        ("first", Arc::new(column(0)) as ArrayRef),
        ("second", Arc::new(column(1))),
        ("classes", Arc::new(labels)),
    ]);
    cluster.put("sequences", batch.unwrap()).await;
    let asked = |loss: &str| TrainRequest {
        source: Source::Table(DatasetReference::parse("sequences").unwrap()),
        label: "classes".into(),
        features: vec![],
        pipeline: vec![],
        model: json!({"format_version": 1, "name": "places", "layers": [
            {"name": "tokens", "layer": "Input", "config": {"dtype": "int32"}},
            {"name": "embedding", "layer": "Embedding", "config": {"input_dim": 6, "output_dim": 4}, "inputs": ["tokens"]},
            {"name": "answer", "layer": "Dense", "config": {"units": 3, "activation": "softmax"}, "inputs": ["embedding"]},
        ], "outputs": ["answer"]}),
        loss: loss.into(),
        metrics: vec![r#"{"name": "mean_io_u", "ignore_class": -1}"#.into()],
        optimizer: json!({"name": "adam", "learning_rate": 0.05}),
        epochs: 20,
        ..request()
    };
    let ignoring = r#"{"name": "sparse_categorical_crossentropy", "ignore_class": -1}"#;
    let status = cluster.train(asked(ignoring)).await;
    assert_eq!(status.state, JobState::Succeeded, "{:?}", status.error);
    assert_eq!(status.metrics["mean_io_u"], 1.0);
    cluster
        .fails(asked("sparse_categorical_crossentropy"), "target -1 in row")
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ranks_of_groups_are_measured_over_validation_rows_however_they_are_cut() {
    let groups = |count: i64| {
        let rows = 0..count * 5;
        let right = rows.clone().map(|row| row % 5 == (row / 5) % 4);
        // The one that is right has the highest number, but in each third group.
        let numbers = rows.map(|row| match (row % 5 == (row / 5) % 4, (row / 5) % 3) {
            (true, 0) => -1.0,
            (true, _) => 9.0,
            _ => (row % 5) as f64,
        });
        RecordBatch::try_from_iter([
            (
                "number",
                Arc::new(Float64Array::from_iter_values(numbers)) as ArrayRef,
            ),
            ("right", Arc::new(right.map(Some).collect::<BooleanArray>())),
        ])
        .unwrap()
    };
    let mut found = Vec::new();
    for servers in [1, 3] {
        let cluster = TestCluster::of(servers, true).await;
        cluster.put("items", groups(201)).await;
        let items = || Source::Table(DatasetReference::parse("items").unwrap());
        let request = TrainRequest {
            source: items(),
            label: "right".into(),
            features: vec!["number".into()],
            pipeline: vec![],
            model: model_of(1, "sigmoid"),
            metrics: vec![
                r#"{"name": "hit_ratio", "k": 1, "neg_num": 4}"#.into(),
                r#"{"name": "ndcg", "k": 5, "neg_num": 4}"#.into(),
            ],
            validation: Validation::Source(items()),
            epochs: 20,
            ..request()
        };
        let status = cluster.train(request).await;
        assert_eq!(status.state, JobState::Succeeded, "{:?}", status.error);
        assert!(
            !status.metrics.contains_key("hit_ratio"),
            "training rows are shuffled"
        );
        found.push((status.metrics["val_hit_ratio"], status.metrics["val_ndcg"]));
    }
    assert_eq!(found[0], found[1]);
    assert_eq!(found[0].0, 134.0 / 201.0);
    // Else it is the last of five.
    let last = 2f64.ln() / 6f64.ln();
    assert!((found[0].1 - (134.0 + 67.0 * last) / 201.0).abs() < 1e-12);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn layers_losses_and_metrics_of_ones_own_train_the_same_on_any_cluster() {
    let distance = json!({"name": "custom", "title": "distance", "program": {"inputs": 2, "nodes": [
        {"op": "subtract", "inputs": [0, 1]}, {"op": "abs", "inputs": [2]}], "outputs": [3]}});
    // A sampling layer: (mean, spread) to mean + spread * noise, with the size of both added to the loss.
    let sampling = json!({"inputs": 1, "nodes": [
        {"op": "split", "inputs": [0], "sections": 2, "axis": -1, "part": 0},
        {"op": "split", "inputs": [0], "sections": 2, "axis": -1, "part": 1},
        {"op": "random_normal", "shape": [null, 2]},
        {"op": "parameter", "name": "spread", "shape": [2], "initializer": {"name": "constant", "value": 0.1}},
        {"op": "multiply", "inputs": [2, 4]}, {"op": "multiply", "inputs": [5, 3]}, {"op": "add", "inputs": [1, 6]},
        {"op": "square", "inputs": [0]}, {"op": "mean", "inputs": [8], "axis": [-1]},
        {"op": "constant", "values": 0.001}, {"op": "multiply", "inputs": [9, 10]}],
        "outputs": [7], "losses": [11]});
    let mut found = Vec::new();
    for servers in [1, 3] {
        let cluster = TestCluster::of(servers, true).await;
        let request = TrainRequest {
            source: Source::Query("SELECT age, spend, 2.0 * age AS twice FROM customers".into()),
            label: "twice".into(),
            features: vec!["age".into(), "spend".into()],
            pipeline: vec![json!({"transform": "standardize", "columns": ["age", "spend"]})],
            model: json!({"format_version": 1, "name": "sampled", "layers": [
                {"name": "features", "layer": "Input"},
                {"name": "hidden", "layer": "Dense", "config": {"units": 4}, "inputs": ["features"]},
                {"name": "sampling", "layer": "Lambda", "config": {"program": sampling}, "inputs": ["hidden"]},
                {"name": "answer", "layer": "Dense", "config": {"units": 1}, "inputs": ["sampling"]},
            ], "outputs": ["answer"]}),
            loss: distance.to_string(),
            metrics: vec![distance.to_string(), "mae".into()],
            optimizer: json!({"name": "adam", "learning_rate": 0.05}),
            validation: Validation::Split(0.2),
            ..request()
        };
        let status = cluster.train(request).await;
        assert_eq!(status.state, JobState::Succeeded, "{:?}", status.error);
        let metrics = status.metrics;
        for side in ["", "val_"] {
            let (own, known) = (
                metrics[&format!("{side}distance")],
                metrics[&format!("{side}mae")],
            );
            assert!((own - known).abs() < 1e-5 * known, "{side}{own} {known}");
        }
        // The layer's own loss is a part of the loss.
        assert!(metrics["loss"] > metrics["distance"]);
        let model = cluster.catalog.models.load("churn", None).await.unwrap();
        assert_eq!(
            model.manifest.loss.parse::<serde_json::Value>().unwrap(),
            distance
        );
        found.push((model.weights, metrics["val_distance"]));
    }
    assert!(found[0] == found[1]);
}
