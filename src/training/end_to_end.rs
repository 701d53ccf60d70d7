//! Tests of whole jobs: several servers in one process that share one store.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, FixedSizeListArray, Float64Array, Int64Array, RecordBatch, StringArray,
};
use arrow::datatypes::Float64Type;
use async_trait::async_trait;
use serde_json::json;

use super::job::{EarlyStopping, TrainRequest, Validation};
use super::memory_network::MemoryCluster;
use super::network::{GradientStream, StartWorker};
use super::{Training, TrainingConfig, TrainingError};
use crate::catalog::{Catalog, DatasetReference, JobId, JobState, JobStatus, WriteMode};
use crate::features::{ModelFunction, ModelFunctions, QueryEngine, QueryLimits, Source};
use crate::support::fault::{Fault, Faulty};
use crate::support::random::{Purpose, RandomKey};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_two_and_three_servers_commit_the_same_bytes() {
    for validation in [Validation::None, Validation::Split(0.15)] {
        let mut committed = Vec::new();
        for servers in [1, 2, 3] {
            let cluster = TestCluster::of(servers, true).await;
            let request = TrainRequest {
                validation: validation.clone(),
                ..request()
            };
            let status = cluster.train(request).await;
            assert_eq!(status.state, JobState::Succeeded, "{:?}", status.error);
            assert_eq!(status.version, Some(1));
            assert_eq!(status.servers.len(), servers);
            let model = cluster.catalog.models.load("churn", None).await.unwrap();
            assert_eq!(model.manifest.label.classes, ["no", "yes"]);
            assert_eq!(model.manifest.dataset_version, Some(0));
            committed.push(model.weights);
        }
        assert!(committed[0] == committed[1] && committed[0] == committed[2]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_beyond_the_cache_train_the_same_bytes_on_two_servers() {
    let mut committed = Vec::new();
    for servers in [1, 2] {
        let cluster = TestCluster::with_cache(servers, true, 4_000).await;
        let status = cluster.train(request()).await;
        assert_eq!(status.state, JobState::Succeeded, "{:?}", status.error);
        assert!(status.notes.iter().any(|note| note.contains("cache")));
        let model = cluster.catalog.models.load("churn", None).await.unwrap();
        committed.push(model.weights);
    }
    assert!(committed[0] == committed[1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn history_has_a_row_per_epoch_and_the_loss_falls() {
    let cluster = TestCluster::of(1, true).await;
    let request = TrainRequest {
        validation: Validation::Split(0.2),
        epochs: 8,
        metrics: vec!["auc".into(), "accuracy".into()],
        ..request()
    };
    let status = cluster.train(request).await;
    assert_eq!(status.state, JobState::Succeeded, "{:?}", status.error);
    let history = cluster.catalog.jobs.history(status.id).await.unwrap();
    assert_eq!(history.num_rows(), 8);
    for column in [
        "epoch",
        "loss",
        "val_loss",
        "auc",
        "val_auc",
        "accuracy",
        "val_accuracy",
        "seconds",
        "rows_per_second",
        "learning_rate",
    ] {
        assert!(history.column_by_name(column).is_some(), "{column}");
    }
    assert!(status.metrics["val_auc"] > 0.8, "{:?}", status.metrics);
    let manifest = cluster.catalog.models.load("churn", None).await;
    let kept: Vec<String> = manifest.unwrap().manifest.metrics.into_keys().collect();
    let measures = [
        "accuracy",
        "auc",
        "loss",
        "val_accuracy",
        "val_auc",
        "val_loss",
    ];
    assert_eq!(kept, measures);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queries_and_numbers_can_be_trained_on_too() {
    let cluster = TestCluster::of(2, true).await;
    let request = TrainRequest {
        source: Source::Query("SELECT age, spend, 2 * age AS twice FROM customers".into()),
        label: "twice".into(),
        features: vec![],
        pipeline: vec![json!({"transform": "standardize", "columns": ["age", "spend"]})],
        loss: "mse".into(),
        model: model_of(1, "linear"),
        metrics: vec!["mae".into()],
        ..request()
    };
    let status = cluster.train(request).await;
    assert_eq!(status.state, JobState::Succeeded, "{:?}", status.error);
    let model = cluster.catalog.models.load("churn", None).await.unwrap();
    assert!(model.manifest.label.classes.is_empty());
    assert!(model.manifest.source.starts_with("SELECT"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn weights_of_two_for_every_class_double_the_loss() {
    let cluster = TestCluster::of(1, true).await;
    let still = |class_weight: BTreeMap<String, f64>, sample_weight: Option<&str>| TrainRequest {
        epochs: 1,
        features: vec!["age".into(), "spend".into()],
        pipeline: vec![json!({"transform": "standardize", "columns": ["age", "spend"]})],
        optimizer: json!({"name": "sgd", "learning_rate": 0.0}),
        class_weight,
        sample_weight: sample_weight.map(str::to_owned),
        model: model_of(1, "sigmoid"),
        ..request()
    };
    let plain = cluster.train(still(BTreeMap::new(), None)).await;
    let both = BTreeMap::from([("yes".to_string(), 2.0), ("no".to_string(), 2.0)]);
    let doubled = cluster.train(still(both, None)).await;
    let halved = cluster.train(still(BTreeMap::new(), Some("half"))).await;
    assert_eq!(doubled.metrics["loss"], 2.0 * plain.metrics["loss"]);
    assert_eq!(halved.metrics["loss"], 0.5 * plain.metrics["loss"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_server_ends_the_job_with_its_name() {
    for gossip in [true, false] {
        let cluster = TestCluster::of(3, gossip).await;
        let id = cluster.submit(endless()).await.unwrap();
        cluster.wait_until(id, |status| status.step > 3).await;
        cluster.memory.cut("server-2");
        let status = cluster
            .wait_until(id, |status| status.state.is_final())
            .await;
        assert_eq!(status.state, JobState::Failed);
        let error = status.error.unwrap();
        assert_eq!(error.code, "UNAVAILABLE");
        assert!(error.message.contains("\"server-2\""), "{}", error.message);
        assert!(cluster.catalog.models.load("churn", None).await.is_err());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_job_ends_and_the_next_one_runs() {
    let cluster = TestCluster::of(2, true).await;
    let id = cluster.submit(endless()).await.unwrap();
    cluster.wait_until(id, |status| status.step > 3).await;
    assert!(cluster.catalog.jobs.cancel(id));
    let status = cluster
        .wait_until(id, |status| status.state.is_final())
        .await;
    assert_eq!(status.state, JobState::Cancelled);
    let status = cluster.train(request()).await;
    assert_eq!(status.state, JobState::Succeeded, "{:?}", status.error);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_jobs_at_once_both_succeed() {
    let cluster = TestCluster::of(2, true).await;
    let (first, second) = tokio::join!(cluster.train(request()), cluster.train(request()));
    assert_eq!(first.state, JobState::Succeeded, "{:?}", first.error);
    assert_eq!(second.state, JobState::Succeeded, "{:?}", second.error);
    assert_eq!(
        cluster.catalog.models.versions("churn").await.unwrap(),
        [1, 2]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_third_job_waits_its_turn_and_can_be_cancelled_meanwhile() {
    let cluster = TestCluster::of(1, true).await;
    let mut running = Vec::new();
    for _ in 0..2 {
        let id = cluster.submit(endless()).await.unwrap();
        cluster.wait_until(id, |status| status.step > 0).await;
        running.push(id);
    }
    let cancelled = cluster.submit(request()).await.unwrap();
    let waiting = cluster.submit(request()).await.unwrap();
    let state = async |id| cluster.catalog.jobs.status(id).await.unwrap().state;
    assert_eq!(state(cancelled).await, JobState::Queued);
    let ended = |status: &JobStatus| status.state.is_final();
    let (status, found) = tokio::join!(cluster.wait_until(cancelled, ended), async {
        cluster.catalog.jobs.cancel(cancelled)
    });
    assert!(found);
    assert_eq!(status.state, JobState::Cancelled);
    assert_eq!(status.started_ms, None);
    assert_eq!(state(waiting).await, JobState::Queued);
    assert!(cluster.catalog.jobs.cancel(running[0]));
    let status = cluster.wait_until(waiting, ended).await;
    assert_eq!(status.state, JobState::Succeeded, "{:?}", status.error);
    assert!(cluster.catalog.jobs.cancel(running[1]));
    cluster.wait_until(running[1], ended).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_of_numbers_are_learnt_by_one_unit_each() {
    let cluster = TestCluster::of(2, true).await;
    let age: Vec<f64> = (0..300).map(|row| f64::from(row % 40) / 40.0).collect();
    let pairs = age
        .iter()
        .map(|age| Some([Some(2.0 * age), Some(1.0 - age)]));
    let pairs = FixedSizeListArray::from_iter_primitive::<Float64Type, _, _>(pairs, 2);
    let rows = RecordBatch::try_from_iter([
        ("age", Arc::new(Float64Array::from(age)) as ArrayRef),
        ("pair", Arc::new(pairs)),
    ]);
    cluster.put("pairs", rows.unwrap()).await;
    let asked = |units| TrainRequest {
        source: Source::Table(DatasetReference::parse("pairs").unwrap()),
        label: "pair".into(),
        features: vec![],
        pipeline: vec![],
        loss: "mse".into(),
        optimizer: json!({"name": "adam", "learning_rate": 0.05}),
        model: model_of(units, "linear"),
        metrics: vec!["mae".into()],
        epochs: 200,
        ..request()
    };
    let status = cluster.train(asked(2)).await;
    assert_eq!(status.state, JobState::Succeeded, "{:?}", status.error);
    assert!(status.metrics["loss"] < 0.02, "{:?}", status.metrics);
    let manifest = cluster.catalog.models.load("churn", None).await;
    let manifest = manifest.unwrap().manifest;
    assert!(manifest.label.arrow_type().is_ok(), "{:?}", manifest.label);
    cluster.fails(asked(3), "2 numbers").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_cannot_work_is_refused_at_once() {
    let cluster = TestCluster::of(1, true).await;
    let refused = async |change: fn(&mut TrainRequest), expected: &str| {
        let mut asked = request();
        change(&mut asked);
        let error = cluster.submit(asked).await.unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains(expected),
            "{text:?} does not contain {expected:?}"
        );
        assert!(
            matches!(error.fault(), Fault::InvalidArgument | Fault::NotFound),
            "{text}"
        );
    };
    refused(|asked| asked.name = "../x".into(), "../x").await;
    refused(|asked| asked.epochs = 0, "epochs is 0").await;
    refused(|asked| asked.batch_size = 0, "batch_size is 0").await;
    refused(|asked| asked.lanes = 3, "lanes is 3").await;
    refused(
        |asked| asked.label = "chrun".into(),
        "\"chrun\" is no column",
    )
    .await;
    refused(
        |asked| asked.label = "age".into(),
        "a model that reads its label",
    )
    .await;
    refused(
        |asked| {
            asked.label = "age".into();
            asked.features.clear();
        },
        "has type Float64",
    )
    .await;
    refused(
        |asked| {
            asked.loss = "mse".into();
            asked.metrics.clear();
        },
        "has type Utf8",
    )
    .await;
    refused(|asked| asked.features = vec!["agee".into()], "\"agee\"").await;
    refused(|asked| asked.loss = "hinge2".into(), "hinge2").await;
    refused(|asked| asked.metrics = vec!["f9".into()], "f9").await;
    refused(
        |asked| asked.loss = "mse".into(),
        "needs a label of classes",
    )
    .await;
    refused(
        |asked| asked.class_weight = BTreeMap::from([("yes".to_string(), 1e308)]),
        "class_weight is",
    )
    .await;
    refused(|asked| asked.optimizer = json!({"name": "adamm"}), "adamm").await;
    refused(
        |asked| asked.pipeline = vec![json!({"transform": "standardise"})],
        "standardise",
    )
    .await;
    refused(|asked| asked.model = json!({}), "format_version").await;
    refused(
        |asked| asked.validation = Validation::Split(1.5),
        "validation_split is 1.5",
    )
    .await;
    refused(
        |asked| asked.sample_weight = Some("wait".into()),
        "\"wait\"",
    )
    .await;
    refused(
        |asked| asked.source = Source::Table(DatasetReference::parse("customers@9").unwrap()),
        "no version 9",
    )
    .await;
    refused(
        |asked| {
            asked.early_stopping = Some(EarlyStopping {
                monitor: String::new(),
                patience: 1,
                min_delta: 0.0,
                restore_best_weights: true,
                maximize: None,
            });
        },
        "or give validation rows",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_whose_rows_are_wrong_fails_with_the_reason() {
    let cluster = TestCluster::of(2, true).await;
    let labels = async |name: &str, label: ArrayRef| {
        let rows = label.len();
        let age: ArrayRef = Arc::new(Float64Array::from_iter_values(
            (0..rows).map(|row| row as f64),
        ));
        let batch = RecordBatch::try_from_iter([("age", age), ("label", label)]).unwrap();
        cluster.put(name, batch).await;
        TrainRequest {
            source: Source::Table(DatasetReference::parse(name).unwrap()),
            label: "label".into(),
            features: vec![],
            pipeline: vec![],
            model: model_of(1, "sigmoid"),
            metrics: vec![],
            ..request()
        }
    };
    let nulls = labels(
        "nulls",
        Arc::new(BooleanArray::from(vec![Some(true), Some(false), None])),
    )
    .await;
    cluster.fails(nulls, "is null in row 2").await;
    let single = labels("single", Arc::new(StringArray::from(vec!["yes", "yes"]))).await;
    cluster.fails(single, "has one class only, \"yes\"").await;
    let three = labels("three", Arc::new(Int64Array::from(vec![0, 1, 2]))).await;
    cluster.fails(three, "has 3 classes").await;
    let mut not_a_number = labels("nan", Arc::new(Float64Array::from(vec![1.0, f64::NAN]))).await;
    not_a_number.loss = "mse".into();
    cluster.fails(not_a_number, "in row 1").await;
    let mut weighted = request();
    weighted.class_weight = BTreeMap::from([("maybe".to_string(), 1.0)]);
    cluster.fails(weighted, "\"maybe\"").await;
    let mut weightless = request();
    weightless.class_weight = BTreeMap::from([("no".to_string(), 0.0), ("yes".to_string(), 0.0)]);
    cluster.fails(weightless, "0 for every class").await;
    let mut weightless = request();
    weightless.source = Source::Query("SELECT *, 0.0 AS zero FROM customers".into());
    weightless.sample_weight = Some("zero".into());
    cluster.fails(weightless, "sum over all rows is 0").await;
    let mut linear = request();
    linear.model = model_of(1, "linear");
    cluster.fails(linear, "activation=\"sigmoid\"").await;
    let mut wide = request();
    wide.model = model_of(3, "softmax");
    cluster.fails(wide, "loss").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_of_unknown_jobs_and_old_generations_are_refused() {
    let cluster = TestCluster::of(2, true).await;
    let id = cluster.submit(endless()).await.unwrap();
    cluster.wait_until(id, |status| status.step > 1).await;
    let stream = || {
        let (outgoing, _) = tokio::sync::mpsc::channel(1);
        let (_, incoming) = tokio::sync::mpsc::channel(1);
        GradientStream { outgoing, incoming }
    };
    let old = cluster.servers[1]
        .accept_gradients(id, 0, 0, 1, stream())
        .await;
    assert!(matches!(old, Err(TrainingError::UnknownWorker { .. })));
    let start = StartWorker {
        job: id,
        generation: 1,
        worker: 1,
        servers: cluster.servers[0].network.peers(),
        plan: Default::default(),
    };
    let again = cluster.servers[1].accept_worker(start).await;
    assert!(matches!(again, Err(TrainingError::UnknownWorker { .. })));
    let unknown = JobId::now_v7();
    let refused = cluster.servers[1]
        .accept_gradients(unknown, 1, 0, 1, stream())
        .await;
    assert!(matches!(refused, Err(TrainingError::UnknownWorker { .. })));
    assert!(cluster.catalog.jobs.cancel(id));
    cluster
        .wait_until(id, |status| status.state.is_final())
        .await;
}

/// Servers `server-1`, `server-2`, ... of one process over one store, with 1,237 customers in it.
struct TestCluster {
    memory: Arc<MemoryCluster>,
    servers: Vec<Arc<Training>>,
    catalog: Catalog,
    _store: tempfile::TempDir,
}

impl TestCluster {
    async fn of(servers: usize, gossip: bool) -> Self {
        Self::with_cache(servers, gossip, 1 << 30).await
    }

    async fn with_cache(servers: usize, gossip: bool, cache_bytes: u64) -> Self {
        let store = tempfile::tempdir().unwrap();
        let memory = MemoryCluster::new(gossip);
        let mut trainings = Vec::new();
        let mut catalogs = Vec::new();
        for number in 1..=servers {
            let name = format!("server-{number}");
            let catalog = Catalog::open(store.path().to_str().unwrap(), &name)
                .await
                .unwrap();
            let limits = QueryLimits {
                memory_bytes: 1 << 28,
                partitions: 2,
                allow_read: Vec::new(),
                spill_directory: store.path().join("spill"),
            };
            let queries = QueryEngine::new(catalog.clone(), Arc::new(NoModels), limits);
            let config = TrainingConfig {
                threads: 2,
                cache_bytes,
            };
            let network = memory.network_of(&name);
            let training = Training::new(catalog.clone(), Arc::new(queries), network, config);
            memory.join(&name, &training);
            trainings.push(training);
            catalogs.push(catalog);
        }
        let cluster = Self {
            memory,
            servers: trainings,
            catalog: catalogs.swap_remove(0),
            _store: store,
        };
        cluster.put("customers", customers(1_237)).await;
        cluster
    }

    async fn put(&self, name: &str, rows: RecordBatch) {
        let datasets = &self.catalog.datasets;
        let mut writer = datasets
            .write(name, rows.schema(), WriteMode::Error)
            .await
            .unwrap();
        writer.write(rows).await.unwrap();
        writer.commit().await.unwrap();
    }

    async fn submit(&self, request: TrainRequest) -> Result<JobId, TrainingError> {
        self.servers[0].submit(request).await
    }

    async fn train(&self, request: TrainRequest) -> JobStatus {
        let id = self.submit(request).await.unwrap();
        self.wait_until(id, |status| status.state.is_final()).await
    }

    async fn fails(&self, request: TrainRequest, expected: &str) {
        let status = self.train(request).await;
        assert_eq!(status.state, JobState::Failed);
        let error = status.error.unwrap();
        assert!(
            error.message.contains(expected),
            "{:?} does not contain {expected:?}",
            error.message
        );
        assert_eq!(error.code, "INVALID_ARGUMENT", "{}", error.message);
    }

    async fn wait_until(&self, id: JobId, reached: impl Fn(&JobStatus) -> bool) -> JobStatus {
        let mut watch = self.catalog.jobs.watch(id).expect("the job is driven here");
        let limit = std::time::Duration::from_secs(60);
        let waited = tokio::time::timeout(limit, watch.wait_for(|status| reached(status))).await;
        let status = waited
            .expect("the job does not hang")
            .expect("the job is driven here");
        JobStatus::clone(&status)
    }
}

#[derive(Debug)]
struct NoModels;

#[async_trait]
impl ModelFunctions for NoModels {
    async fn find(
        &self,
        name: &str,
        _version: Option<u64>,
    ) -> Result<Arc<dyn ModelFunction>, (Fault, String)> {
        Err((Fault::NotFound, format!("there is no model {name:?}")))
    }
}

fn customers(count: usize) -> RecordBatch {
    let mut stream = RandomKey::of(51, 0).stream(Purpose::Test);
    let (mut age, mut spend, mut plan, mut churned) = (vec![], vec![], vec![], vec![]);
    for _ in 0..count {
        let (years, money, kind) = (
            20.0 + 50.0 * stream.uniform(),
            stream.normal(),
            stream.below(3),
        );
        age.push(years);
        spend.push(money);
        plan.push(["basic", "gold", "silver"][kind as usize]);
        let score = (years - 45.0) / 15.0 - money + [0.0, 1.0, -1.0][kind as usize];
        churned.push(if score + 0.3 * stream.normal() > 0.0 {
            "yes"
        } else {
            "no"
        });
    }
    RecordBatch::try_from_iter([
        ("age", Arc::new(Float64Array::from(age)) as ArrayRef),
        ("spend", Arc::new(Float64Array::from(spend))),
        ("plan", Arc::new(StringArray::from(plan))),
        ("half", Arc::new(Float64Array::from(vec![0.5; count]))),
        ("churned", Arc::new(StringArray::from(churned))),
    ])
    .unwrap()
}

fn request() -> TrainRequest {
    TrainRequest {
        name: "churn".into(),
        source: Source::Table(DatasetReference::parse("customers").unwrap()),
        label: "churned".into(),
        features: vec!["age".into(), "spend".into(), "plan".into()],
        pipeline: vec![
            json!({"transform": "standardize", "columns": ["age", "spend"]}),
            json!({"transform": "one_hot", "columns": ["plan"]}),
        ],
        model: json!({"format_version": 1, "name": "churn", "layers": [
            {"name": "features", "layer": "Input"},
            {"name": "hidden", "layer": "Dense", "config": {"units": 16, "activation": "relu"}, "inputs": ["features"]},
            {"name": "norm", "layer": "BatchNormalization", "inputs": ["hidden"]},
            {"name": "drop", "layer": "Dropout", "config": {"rate": 0.2}, "inputs": ["norm"]},
            {"name": "answer", "layer": "Dense", "config": {"units": 1, "activation": "sigmoid"}, "inputs": ["drop"]},
        ], "outputs": ["answer"]}),
        loss: "binary_crossentropy".into(),
        optimizer: json!({"name": "adam", "learning_rate": 0.01}),
        metrics: vec!["auc".into()],
        epochs: 3,
        batch_size: 100,
        seed: 7,
        lanes: 8,
        shuffle: true,
        validation: Validation::None,
        early_stopping: None,
        class_weight: BTreeMap::new(),
        sample_weight: None,
    }
}

fn endless() -> TrainRequest {
    TrainRequest {
        epochs: 1_000_000,
        ..request()
    }
}

fn model_of(units: usize, activation: &str) -> serde_json::Value {
    json!({"format_version": 1, "name": "small", "layers": [
        {"name": "features", "layer": "Input"},
        {"name": "answer", "layer": "Dense", "config": {"units": units, "activation": activation}, "inputs": ["features"]},
    ], "outputs": ["answer"]})
}
