//! Tests of the invariant: the same bits on any number of servers and threads, and an end without hanging.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::TrainingError;
use super::checkpoint::{CheckpointRule, PartSink, Saved, Standing};
use super::early_stopping::StoppingRule;
use super::exchange::{Exchange, Link};
use super::feed::{RowGroup, RowGroups};
use super::network::GradientStream;
use super::news::{HistoryRow, WorkerNews};
use super::worker::{RowsOfJob, Trained, WorkerTask, train};
use crate::frames::minibatch::{DecodedRows, Matrix, MatrixKind, RowShape};
use crate::nn::{
    FeatureColumn, FeatureKind, Loss, Metric, Model, ModelSpec, Objectives, OutputObjective,
};
use crate::optim::{Optimizer, OptimizerSpec, PlateauRule};
use crate::support::random::{Purpose, RandomKey};
use crate::tensor::archive::{self, NamedArray};

/// What a test may vary.
#[derive(Debug, Clone)]
pub(super) struct Case {
    pub(super) rows: usize,
    pub(super) batch_size: u32,
    pub(super) lanes: u32,
    pub(super) epochs: u32,
    pub(super) cached: bool,
    pub(super) threads: usize,
    /// Of the hidden layer.
    pub(super) units: usize,
    pub(super) optimizer: serde_json::Value,
    pub(super) patience: Option<u32>,
    pub(super) reduce_on_plateau: Option<PlateauRule>,
    /// Whether the model has a second output, a regression with a loss weight of 0.3.
    pub(super) two_outputs: bool,
    /// Whether the embedding's gradient is a list of rows.
    pub(super) sparse: bool,
    /// Whether one row's loss is infinite.
    pub(super) poisoned: bool,
    /// Where checkpoints go, when they are taken.
    pub(super) kept: Option<(CheckpointRule, Arc<KeptInMemory>)>,
    /// The epoch to go on from, and where its checkpoint is.
    pub(super) resume: Option<(u32, Arc<KeptInMemory>)>,
}

/// Checkpoints as a store would hold them.
#[derive(Debug, Default)]
pub(super) struct KeptInMemory {
    /// By epoch and worker.
    parts: Mutex<BTreeMap<(u32, u32), Bytes>>,
    standings: Mutex<BTreeMap<u32, Standing>>,
}

impl KeptInMemory {
    /// Epochs of which there are checkpoints.
    pub(super) fn epochs(&self) -> Vec<u32> {
        self.standings.lock().keys().copied().collect()
    }

    fn saved(&self, epoch: u32) -> Saved {
        let standing = self.standings.lock()[&epoch].clone();
        // As it comes back from a manifest.
        let text = serde_json::to_string(&standing).unwrap();
        let standing = serde_json::from_str(&text).unwrap();
        let parts = self.parts.lock();
        let of_epoch = parts.range((epoch, 0)..=(epoch, u32::MAX));
        let parts: Vec<Bytes> = of_epoch.map(|(_, part)| part.clone()).collect();
        Saved::join(epoch, standing, &parts).unwrap()
    }
}

/// One worker's way to them.
#[derive(Debug)]
struct KeptOfWorker(Arc<KeptInMemory>, u32);

#[async_trait]
impl PartSink for KeptOfWorker {
    async fn write(&self, epoch: u32, part: Bytes) -> Result<(), TrainingError> {
        self.0.parts.lock().insert((epoch, self.1), part);
        Ok(())
    }
}

/// One of each way in which metrics are kept.
const METRICS: [&str; 8] = [
    "accuracy",
    "auc",
    "average_precision",
    r#"{"name": "precision", "thresholds": 0.4}"#,
    "f1_score",
    "rmse",
    "r2_score",
    r#"{"name": "hit_ratio", "neg_num": 4}"#,
];

impl Case {
    pub(super) fn usual() -> Self {
        Self {
            rows: 1_237,
            batch_size: 100,
            lanes: 8,
            epochs: 3,
            cached: true,
            threads: 2,
            units: 24,
            optimizer: json!({"name": "adam", "learning_rate": 0.01}),
            patience: None,
            reduce_on_plateau: None,
            two_outputs: false,
            sparse: false,
            poisoned: false,
            kept: None,
            resume: None,
        }
    }
}

#[test]
fn one_two_three_and_eight_servers_train_the_same_bytes() {
    let one = trained_on(1, Case::usual());
    for servers in [2, 3, 5, 8] {
        let many = trained_on(servers, Case::usual());
        assert!(many.archive == one.archive, "{servers} servers");
        assert_eq!(many.history, one.history, "{servers} servers");
    }
}

#[test]
fn two_outputs_train_the_same_bytes_on_any_cluster_and_their_losses_add_up() {
    let case = Case {
        two_outputs: true,
        ..Case::usual()
    };
    let one = trained_on(1, case.clone());
    for servers in [2, 3, 8] {
        let many = trained_on(servers, case.clone());
        assert!(many.archive == one.archive, "{servers} servers");
        assert_eq!(many.history, one.history, "{servers} servers");
    }
    for row in &one.history {
        for side in ["", "val_"] {
            let of = |column: &str| row[&format!("{side}{column}")].unwrap();
            let sum = of("answer_loss") + 0.3 * of("level_loss");
            assert!((of("loss") - sum).abs() < 1e-9 * sum, "{row:?}");
            assert!(of("level_mae") > 0.0 && of("answer_auc") > 0.5);
        }
    }
    let (first, last) = (&one.history[0], &one.history[2]);
    for column in ["val_answer_loss", "val_level_loss"] {
        assert!(last[column] < first[column], "{first:?} {last:?}");
    }
    let alone = trained_on(1, Case::usual());
    assert!(alone.archive != one.archive);
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let one = trained_on(
        1,
        Case {
            threads: 1,
            ..Case::usual()
        },
    );
    for threads in [2, 3, 8] {
        let many = trained_on(
            1,
            Case {
                threads,
                ..Case::usual()
            },
        );
        assert!(many.archive == one.archive, "{threads} threads");
    }
}

#[test]
fn sparse_tables_train_the_same_bytes_on_any_cluster_and_any_number_of_threads() {
    for optimizer in [
        json!({"name": "adam", "learning_rate": 0.01}),
        json!({"name": "sgd", "learning_rate": 0.05, "momentum": 0.9}),
    ] {
        let case = Case {
            sparse: true,
            optimizer,
            ..Case::usual()
        };
        let one = trained_on(1, case.clone());
        for (servers, threads) in [(1, 1), (1, 8), (2, 2), (3, 1), (3, 2), (8, 2)] {
            let many = trained_on(
                servers,
                Case {
                    threads,
                    ..case.clone()
                },
            );
            assert!(
                many.archive == one.archive,
                "{servers} servers of {threads} threads"
            );
            assert_eq!(many.history, one.history, "{servers} servers");
        }
    }
    // Most lanes are empty in the last minibatch.
    let case = Case {
        rows: 105,
        batch_size: 50,
        lanes: 16,
        sparse: true,
        ..Case::usual()
    };
    assert!(trained_on(3, case.clone()).archive == trained_on(1, case).archive);
}

#[test]
fn gradient_descent_trains_a_sparse_table_as_a_dense_one() {
    let case = |sparse| Case {
        sparse,
        optimizer: json!({"name": "sgd", "learning_rate": 0.05}),
        ..Case::usual()
    };
    for servers in [1, 3] {
        let (sparse, dense) = (trained_on(servers, case(true)), trained_on(1, case(false)));
        // The table is the first array either way.
        assert_eq!(sparse.parameters, dense.parameters, "{servers} servers");
        assert_eq!(sparse.history, dense.history, "{servers} servers");
    }
}

#[test]
fn rows_read_in_windows_train_the_same_bytes_on_any_cluster() {
    let case = Case {
        cached: false,
        ..Case::usual()
    };
    let one = trained_on(1, case.clone());
    for servers in [2, 3] {
        assert!(
            trained_on(servers, case.clone()).archive == one.archive,
            "{servers} servers"
        );
    }
    assert!(
        one.archive != trained_on(1, Case::usual()).archive,
        "windows have an order of their own"
    );
}

#[test]
fn more_servers_than_lanes_and_fewer_rows_than_lanes_are_fine() {
    // The last minibatch has 5 rows for 16 lanes: most lanes are empty in it.
    let case = Case {
        rows: 105,
        batch_size: 50,
        lanes: 16,
        ..Case::usual()
    };
    assert!(trained_on(3, case.clone()).archive == trained_on(1, case).archive);
    let case = Case {
        rows: 33,
        batch_size: 8,
        lanes: 2,
        ..Case::usual()
    };
    assert!(trained_on(8, case.clone()).archive == trained_on(1, case).archive);
}

#[test]
fn training_learns_what_can_be_learnt() {
    let history = trained_on(
        1,
        Case {
            epochs: 15,
            ..Case::usual()
        },
    )
    .history;
    let (first, last) = (&history[0], &history[14]);
    assert!(
        last["val_loss"].unwrap() < 0.6 * first["val_loss"].unwrap(),
        "{first:?} {last:?}"
    );
    assert!(last["val_auc"].unwrap() > 0.95, "{last:?}");
    assert_eq!(first["epoch"], Some(1.0));
    assert_eq!(last["epoch"], Some(15.0));
}

#[test]
fn early_stopping_ends_the_job_on_every_server_and_keeps_the_best_weights() {
    // A rate this high makes the validation loss worse soon.
    let case = Case {
        epochs: 60,
        optimizer: json!({"name": "adam", "learning_rate": 0.5}),
        patience: Some(2),
        ..Case::usual()
    };
    let one = trained_on(1, case.clone());
    assert!(one.history.len() < 60, "{} epochs", one.history.len());
    let best = one
        .history
        .iter()
        .map(|row| row["val_loss"].unwrap())
        .fold(f64::INFINITY, f64::min);
    assert_eq!(one.kept["val_loss"], Some(best));
    let three = trained_on(3, case);
    assert!(three.archive == one.archive);
}

#[test]
fn a_loss_that_is_no_number_names_epoch_and_step() {
    for servers in [1, 3] {
        let failures = failures_on(
            servers,
            Case {
                poisoned: true,
                ..Case::usual()
            },
            None,
        );
        let told = |failure: &TrainingError| {
            matches!(
                failure,
                TrainingError::NotFinite {
                    epoch: 1,
                    step: 1..=13,
                    ..
                }
            )
        };
        assert!(failures.iter().any(told), "{failures:?}");
    }
}

#[test]
fn a_stopped_job_ends_on_every_server_and_none_hangs() {
    for servers in [1, 3] {
        let failures = failures_on(
            servers,
            Case {
                epochs: 1_000_000,
                ..Case::usual()
            },
            Some(Stop::All),
        );
        assert!(
            failures
                .iter()
                .all(|failure| matches!(failure, TrainingError::Cancelled)),
            "{failures:?}"
        );
    }
}

#[test]
fn a_lost_worker_is_named_by_the_others_and_none_hangs() {
    let failures = failures_on(
        3,
        Case {
            epochs: 1_000_000,
            ..Case::usual()
        },
        Some(Stop::Worker(1)),
    );
    let named: Vec<&str> = failures
        .iter()
        .filter_map(|failure| match failure {
            TrainingError::ServerLost { server, .. } => Some(server.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(failures.len(), 3);
    assert!(named.contains(&"server-1"), "{failures:?}");
}

/// What a job left behind.
pub(super) struct Outcome {
    pub(super) archive: Vec<u8>,
    pub(super) parameters: Vec<f32>,
    /// Without the columns that tell of time.
    pub(super) history: Vec<HistoryRow>,
    kept: HistoryRow,
}

#[derive(Debug, Clone, Copy)]
enum Stop {
    All,
    Worker(u32),
}

pub(super) fn trained_on(servers: u32, case: Case) -> Outcome {
    let (results, history) = run(servers, case, None);
    let mut archives = Vec::new();
    let (mut kept, mut parameters) = (None, Vec::new());
    for result in results {
        let trained = result.expect("the job succeeds");
        kept.get_or_insert(trained.row.clone());
        archives.push(archive_of(&trained));
        parameters = trained.parameters;
    }
    let archive = archives.swap_remove(0);
    Outcome {
        archive,
        parameters,
        history,
        kept: kept.unwrap(),
    }
}

fn failures_on(servers: u32, case: Case, stop: Option<Stop>) -> Vec<TrainingError> {
    let (results, _) = run(servers, case, stop);
    results
        .into_iter()
        .map(|result| result.expect_err("the job fails"))
        .collect()
}

fn run(
    servers: u32,
    case: Case,
    stop: Option<Stop>,
) -> (Vec<Result<Trained, TrainingError>>, Vec<HistoryRow>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .expect("a runtime");
    let exchanges = linked(servers, runtime.handle());
    let tokens: Vec<CancellationToken> = (0..servers).map(|_| CancellationToken::new()).collect();
    let (sender, mut receiver) = mpsc::channel(1_000);
    let handle = runtime.handle().clone();
    let threads: Vec<_> = exchanges
        .into_iter()
        .zip(0..)
        .map(|(exchange, worker)| {
            let task = task(&case, worker, servers);
            let (sender, handle) = (sender.clone(), handle.clone());
            let token = tokens[worker as usize].clone();
            std::thread::spawn(move || {
                let connect = async move { Ok((servers > 1).then_some(exchange)) };
                train(task, connect, &sender, &handle, &token)
            })
        })
        .collect();
    drop(sender);
    let mut history = Vec::new();
    while let Some(news) = receiver.blocking_recv() {
        if let (
            WorkerNews::Saved {
                epoch,
                standing: Some(standing),
                ..
            },
            Some((_, kept)),
        ) = (&news, &case.kept)
        {
            kept.standings.lock().insert(*epoch, standing.clone());
        }
        if let WorkerNews::Epoch { mut row, .. } = news {
            row.retain(|column, _| column != "seconds" && column != "rows_per_second");
            history.push(row);
            for (token, worker) in tokens.iter().zip(0..) {
                match stop {
                    Some(Stop::All) => token.cancel(),
                    Some(Stop::Worker(stopped)) if stopped == worker => token.cancel(),
                    _ => {}
                }
            }
            if stop.is_some() {
                break;
            }
        }
    }
    drop(receiver);
    let results = threads
        .into_iter()
        .map(|thread| thread.join().expect("no panic"))
        .collect();
    (results, history)
}

/// Every worker's exchange, joined to all others in memory.
fn linked(servers: u32, runtime: &tokio::runtime::Handle) -> Vec<Exchange> {
    let mut links: Vec<Vec<Link>> = (0..servers).map(|_| Vec::new()).collect();
    for first in 0..servers {
        for second in first + 1..servers {
            let (first_toward, second_from) = stream(runtime);
            let (second_toward, first_from) = stream(runtime);
            let link = |worker: u32, toward, from| Link {
                worker,
                server: format!("server-{worker}"),
                toward,
                from,
            };
            links[first as usize].push(link(second, first_toward, first_from));
            links[second as usize].push(link(first, second_toward, second_from));
        }
    }
    links.into_iter().map(Exchange::new).collect()
}

fn stream(runtime: &tokio::runtime::Handle) -> (GradientStream, GradientStream) {
    let pipe = || {
        let (sender, mut raw) = mpsc::channel(2);
        let (forward, receiver) = mpsc::channel(2);
        runtime.spawn(async move {
            while let Some(message) = raw.recv().await {
                if forward.send(Ok(message)).await.is_err() {
                    return;
                }
            }
        });
        (sender, receiver)
    };
    let (near_out, far_in) = pipe();
    let (far_out, near_in) = pipe();
    (
        GradientStream {
            outgoing: near_out,
            incoming: near_in,
        },
        GradientStream {
            outgoing: far_out,
            incoming: far_in,
        },
    )
}

fn task(case: &Case, worker: u32, workers: u32) -> WorkerTask {
    let mut spec = json!({"format_version": 1, "name": "test", "layers": [
        {"name": "numbers", "layer": "Input", "config": {"columns": ["x"]}},
        {"name": "index", "layer": "Input", "config": {"columns": ["kind"], "dtype": "int32"}},
        {"name": "embedding", "layer": "Embedding", "config": {"input_dim": 7, "output_dim": 3, "sparse": case.sparse}, "inputs": ["index"]},
        {"name": "flat", "layer": "Flatten", "inputs": ["embedding"]},
        {"name": "joined", "layer": "Concatenate", "inputs": ["numbers", "flat"]},
        {"name": "hidden", "layer": "Dense", "config": {"units": case.units, "activation": "relu"}, "inputs": ["joined"]},
        {"name": "norm", "layer": "BatchNormalization", "inputs": ["hidden"]},
        {"name": "drop", "layer": "Dropout", "config": {"rate": 0.2}, "inputs": ["norm"]},
        {"name": "answer", "layer": "Dense", "config": {"units": 1, "activation": "sigmoid"}, "inputs": ["drop"]},
    ], "outputs": ["answer"]});
    if case.two_outputs {
        let level =
            json!({"name": "level", "layer": "Dense", "config": {"units": 1}, "inputs": ["drop"]});
        spec["layers"].as_array_mut().unwrap().push(level);
        spec["outputs"] = json!(["answer", "level"]);
    }
    let output = |name: &str, loss: &str, weight: f64, metrics: &[&str]| OutputObjective {
        name: name.into(),
        loss: Loss::parse(loss).unwrap(),
        weight,
        metrics: Metric::parse_all(
            &metrics
                .iter()
                .map(|&metric| metric.into())
                .collect::<Vec<_>>(),
        )
        .unwrap(),
    };
    let mut outputs = vec![output("answer", "binary_crossentropy", 1.0, &METRICS)];
    if case.two_outputs {
        outputs.push(output("level", "mse", 0.3, &["mae"]));
    }
    let features = [
        FeatureColumn {
            name: "x".into(),
            width: 5,
            kind: FeatureKind::Float,
        },
        FeatureColumn {
            name: "kind".into(),
            width: 1,
            kind: FeatureKind::Integer,
        },
    ];
    let model = Model::build(&ModelSpec::from_json(&spec).unwrap(), &features).unwrap();
    let rows = |rows: usize, seed: u64| RowsOfJob {
        source: Arc::new(TestRows::new(rows, seed, case)),
        cached: case.cached,
        window_rows: 90,
    };
    WorkerTask {
        model: Arc::new(model),
        objectives: Objectives::new(outputs),
        optimizer: Optimizer::build(&OptimizerSpec::from_json(&case.optimizer).unwrap()).unwrap(),
        seed: 7,
        epochs: case.epochs,
        batch_size: case.batch_size,
        lanes: case.lanes,
        shuffle: true,
        early_stopping: case.patience.map(|patience| StoppingRule {
            monitor: "val_loss".into(),
            patience,
            min_delta: 0.0,
            restore_best_weights: true,
            maximize: false,
        }),
        reduce_on_plateau: case.reduce_on_plateau.clone(),
        checkpoints: case.kept.as_ref().map(|(rule, kept)| {
            let sink: Arc<dyn PartSink> = Arc::new(KeptOfWorker(Arc::clone(kept), worker));
            (*rule, sink)
        }),
        saved: case.resume.as_ref().map(|(epoch, kept)| kept.saved(*epoch)),
        train: rows(case.rows, 1),
        validation: Some(rows(311, 2)),
        worker,
        workers,
        threads: case.threads,
    }
}

fn archive_of(trained: &Trained) -> Vec<u8> {
    let array = |name: &str, values: &[f32]| NamedArray {
        name: name.into(),
        shape: vec![values.len()],
        values: values.to_vec(),
    };
    archive::to_bytes(&[
        array("parameters", &trained.parameters),
        array("statistics", &trained.statistics),
    ])
    .unwrap()
}

/// Rows drawn from a seed, in row groups of 1 to 200 rows; the label follows from the features.
#[derive(Debug)]
struct TestRows {
    shape: RowShape,
    groups: Vec<u64>,
    rows: DecodedRows,
}

impl TestRows {
    fn new(count: usize, seed: u64, case: &Case) -> Self {
        let target_width = if case.two_outputs { 2 } else { 1 };
        let mut stream = RandomKey::of(seed, 0).stream(Purpose::Test);
        let (mut x, mut kind, mut target, mut weights) = (vec![], vec![], vec![], vec![]);
        for _ in 0..count {
            let numbers: Vec<f32> = (0..5).map(|_| stream.normal() as f32).collect();
            let of_kind = stream.below(7) as i32;
            let score = numbers[0] - 2.0 * numbers[1] * numbers[2] + 0.5 * (of_kind as f32 - 3.0);
            target.push(f32::from(score > 0.0));
            if case.two_outputs {
                target.push(score);
            }
            weights.push(0.5 + stream.uniform() as f32);
            kind.push(of_kind);
            x.extend(numbers);
        }
        if case.poisoned {
            weights[count / 2] = f32::INFINITY;
        }
        let mut groups = Vec::new();
        let mut left = count as u64;
        while left > 0 {
            groups.push((1 + stream.below(200)).min(left));
            left -= groups[groups.len() - 1];
        }
        Self {
            shape: RowShape {
                inputs: vec![(MatrixKind::Float32, 5), (MatrixKind::Int32, 1)],
                target_width,
                weighted: true,
            },
            groups,
            rows: DecodedRows {
                rows: count,
                inputs: vec![
                    Matrix::Float32 {
                        width: 5,
                        values: x,
                    },
                    Matrix::Int32 {
                        width: 1,
                        values: kind,
                    },
                ],
                target,
                target_width,
                weights: Some(weights),
            },
        }
    }
}

#[async_trait]
impl RowGroups for TestRows {
    fn shape(&self) -> &RowShape {
        &self.shape
    }
    fn row_groups(&self) -> &[u64] {
        &self.groups
    }
    async fn open(&self, row_group: usize) -> Result<Arc<dyn RowGroup>, TrainingError> {
        let start: u64 = self.groups[..row_group].iter().sum();
        let mut rows = DecodedRows::with_capacity(&self.shape, 0);
        rows.append(
            &self.rows,
            start as usize..(start + self.groups[row_group]) as usize,
        );
        Ok(Arc::new(TestRowGroup(rows)))
    }
}

#[derive(Debug)]
struct TestRowGroup(DecodedRows);

#[async_trait]
impl RowGroup for TestRowGroup {
    async fn all(&self) -> Result<DecodedRows, TrainingError> {
        Ok(self.0.clone())
    }

    async fn rows(
        &self,
        rows: Vec<u32>,
        mut into: DecodedRows,
    ) -> Result<DecodedRows, TrainingError> {
        into.clear();
        into.gather(&self.0, &rows);
        Ok(into)
    }
}
