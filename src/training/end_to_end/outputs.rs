//! Networks of several outputs, from request to history and manifest.

use super::super::job::{EarlyStopping, OutputRequest};
use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_outputs_are_trained_on_their_own_labels_to_the_same_bytes_on_two_servers() {
    let mut committed = Vec::new();
    for servers in [1, 2] {
        let cluster = TestCluster::of(servers, true).await;
        let mut asked = two_outputs();
        // Outputs are known by name: their order in the request is nothing.
        asked.outputs.rotate_left(servers - 1);
        let status = cluster.train(asked).await;
        assert_eq!(status.state, JobState::Succeeded, "{:?}", status.error);
        let history = cluster.catalog.jobs.history(status.id).await.unwrap();
        for column in [
            "loss",
            "answer_loss",
            "answer_auc",
            "kind_loss",
            "kind_accuracy",
        ] {
            for side in ["", "val_"] {
                let column = format!("{side}{column}");
                assert!(history.column_by_name(&column).is_some(), "{column}");
            }
        }
        let metrics = &status.metrics;
        let sum = metrics["val_answer_loss"] + 0.3 * metrics["val_kind_loss"];
        assert!((metrics["val_loss"] - sum).abs() < 1e-9, "{metrics:?}");
        let model = cluster.catalog.models.load("churn", None).await.unwrap();
        // A loss told `from_logits` puts the activation behind its own output, which keeps its name.
        assert_eq!(
            model.manifest.spec["outputs"],
            json!(["answer", "probabilities"])
        );
        let [answer, kind] = model.manifest.outputs.as_slice() else {
            panic!("{:?}", model.manifest.outputs);
        };
        assert_eq!(
            (answer.name.as_str(), kind.name.as_str()),
            ("answer", "kind")
        );
        assert_eq!(answer.label.classes, ["no", "yes"]);
        assert_eq!(kind.label.name, "plan");
        assert!(kind.label.classes.len() > 2, "{:?}", kind.label);
        assert_eq!(
            (kind.loss_weight, kind.loss.as_str()),
            (0.3, "sparse_categorical_crossentropy")
        );
        assert_eq!(model.manifest.label, answer.label);
        assert!(model.manifest.metrics.contains_key("val_kind_accuracy"));
        committed.push(model.weights);
    }
    assert!(committed[0] == committed[1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_fit_the_outputs_is_refused_by_name() {
    let cluster = TestCluster::of(1, true).await;
    let refused = async |change: &dyn Fn(&mut TrainRequest), expected: &str| {
        let mut asked = two_outputs();
        change(&mut asked);
        let error = cluster.submit(asked).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    refused(
        &|asked| asked.outputs.clear(),
        "empty for a network with the outputs \"answer\", \"kind\"",
    )
    .await;
    refused(&|asked| drop(asked.outputs.pop()), "nothing for \"kind\"").await;
    refused(
        &|asked| asked.outputs[1].name = "sort".into(),
        "the network's outputs are \"answer\", \"kind\"",
    )
    .await;
    refused(
        &|asked| asked.outputs[1].name = "answer".into(),
        "\"answer\" twice",
    )
    .await;
    refused(&|asked| asked.label = "churned".into(), "beside `outputs`").await;
    refused(
        &|asked| asked.outputs[0].label.clear(),
        "\"answer\" without a label",
    )
    .await;
    refused(
        &|asked| asked.outputs[0].label = "churn".into(),
        "is no column of the source",
    )
    .await;
    refused(
        &|asked| asked.outputs[1].loss_weight = Some(-1.0),
        "-1.0 for output \"kind\"",
    )
    .await;
    refused(
        &|asked| asked.outputs[1].loss = "hing".into(),
        "output \"kind\": unknown loss \"hing\"",
    )
    .await;
    refused(
        &|asked| asked.class_weight.extend([("yes".into(), 2.0)]),
        "given for a network with 2 outputs",
    )
    .await;
    refused(
        &|asked| {
            if let Some(stopping) = &mut asked.early_stopping {
                stopping.monitor = "val_auc".into();
            }
        },
        "val_answer_auc",
    )
    .await;
}

fn two_outputs() -> TrainRequest {
    let output = |name: &str, label: &str, loss: &str, weight, metric: &str| OutputRequest {
        name: name.into(),
        label: label.into(),
        loss: loss.into(),
        loss_weight: weight,
        metrics: vec![metric.into()],
    };
    let mut request = TrainRequest {
        label: String::new(),
        metrics: Vec::new(),
        features: vec!["age".into(), "spend".into()],
        pipeline: vec![json!({"transform": "standardize", "columns": ["age", "spend"]})],
        // The first takes the request's loss.
        outputs: vec![
            output("answer", "churned", "", None, "auc"),
            output(
                "kind",
                "plan",
                r#"{"name": "sparse_categorical_crossentropy", "from_logits": true}"#,
                Some(0.3),
                "accuracy",
            ),
        ],
        validation: Validation::Split(0.2),
        early_stopping: Some(EarlyStopping {
            monitor: "val_kind_accuracy".into(),
            patience: 3,
            min_delta: 0.0,
            restore_best_weights: false,
            maximize: None,
        }),
        ..request()
    };
    let layers = request.model["layers"].as_array_mut().unwrap();
    layers.push(
        json!({"name": "kind", "layer": "Dense", "config": {"units": 3}, "inputs": ["drop"]}),
    );
    request.model["outputs"] = json!(["answer", "kind"]);
    request
}
