//! Jobs that end before their time and go on from a checkpoint, from request to committed model.

use super::super::checkpoint::CheckpointRule;
use super::super::job::ResumeRequest;
use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_lost_a_server_goes_on_with_those_that_are_left_to_the_same_bytes() {
    let whole = TestCluster::of(1, true).await;
    let asked = TrainRequest {
        epochs: 40,
        ..request()
    };
    let status = whole.train(asked.clone()).await;
    assert_eq!(status.state, JobState::Succeeded, "{:?}", status.error);
    let expected = whole.catalog.models.load("churn", None).await.unwrap();

    let cluster = TestCluster::of(3, true).await;
    // So many that it cannot end before the cut.
    let long = TrainRequest {
        epochs: 1_000_000,
        checkpoints: kept(1, 3),
        ..asked
    };
    let id = cluster.submit(long).await.unwrap();
    let enough = |status: &JobStatus| status.checkpoints.last().is_some_and(|&epoch| epoch >= 2);
    cluster.wait_until(id, enough).await;
    cluster.memory.cut("server-2");
    let status = cluster
        .wait_until(id, |status| status.state.is_final())
        .await;
    let error = status.error.clone().unwrap();
    assert_eq!(error.code, "UNAVAILABLE");
    assert!(
        (1..=3).contains(&status.checkpoints.len()),
        "{:?}",
        status.checkpoints
    );
    let newest = status.checkpoints[status.checkpoints.len() - 1];
    let told = format!("the checkpoint of epoch {newest} is kept: resume job {id} from it");
    assert!(error.message.ends_with(&told), "{}", error.message);
    assert!(
        newest < 40,
        "the cut came after {newest} epochs; train for more"
    );

    let status = cluster
        .resume(ResumeRequest {
            epochs: Some(40),
            ..from(id)
        })
        .await;
    assert_eq!(status.state, JobState::Succeeded, "{:?}", status.error);
    assert_eq!(status.servers, ["server-1", "server-3"]);
    assert_eq!(
        status.notes[0],
        format!("goes on from epoch {newest} of job {id}")
    );
    let model = cluster.catalog.models.load("churn", None).await.unwrap();
    assert!(model.weights == expected.weights);
    let record = model.manifest.training.unwrap();
    assert_eq!(record.resumed_from, Some(format!("{id}@{newest}")));
    assert_eq!(record.epochs, 40);
    // The history is that of one job.
    let history = cluster.catalog.jobs.history(status.id).await.unwrap();
    let epochs = history.column_by_name("epoch").unwrap();
    let all = arrow::array::Int32Array::from_iter_values(1..=40);
    assert_eq!(epochs.as_ref(), &all as &dyn arrow::array::Array);
    let loss = |history: &RecordBatch| history.column_by_name("loss").unwrap().to_data();
    let unbroken = whole.catalog.jobs.list().await.unwrap()[0].id;
    let unbroken = whole.catalog.jobs.history(unbroken).await.unwrap();
    assert_eq!(&loss(&history), &loss(&unbroken));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loss_that_runs_away_is_told_with_the_last_good_checkpoint_from_which_a_lower_rate_goes_on()
 {
    let cluster = TestCluster::of(2, true).await;
    let mut model = request().model;
    model["layers"][1]["config"]["activation"] = json!("exponential");
    let steps_per_epoch = 1_237_u64.div_ceil(100);
    let asked = TrainRequest {
        optimizer: json!({"name": "sgd", "learning_rate": {"name": "piecewise_constant_decay",
            "boundaries": [3 * steps_per_epoch], "values": [0.01, 1e3]}}),
        // What grows without bound once the rate is high.
        model,
        epochs: 6,
        checkpoints: kept(2, 1),
        ..request()
    };
    let unkept = TrainRequest {
        checkpoints: None,
        ..asked.clone()
    };
    let status = cluster.train(unkept).await;
    let message = status.error.unwrap().message;
    assert!(
        message.ends_with("; no checkpoint was asked for"),
        "{message}"
    );

    let failed = cluster.train(asked).await;
    let error = failed.error.clone().unwrap();
    assert_eq!(error.code, "OUT_OF_RANGE");
    assert!(error.message.contains("epoch 4, step"), "{}", error.message);
    assert!(
        error
            .message
            .contains("the checkpoint of epoch 2 is kept: resume"),
        "{}",
        error.message
    );
    // As it was, it runs away again.
    let again = cluster.resume(from(failed.id)).await;
    assert_eq!(again.state, JobState::Failed);
    let message = again.error.unwrap().message;
    assert!(message.contains("epoch 4, step"), "{message}");
    let told = format!(
        "the checkpoint of epoch 2 is kept: resume job {} from it",
        failed.id
    );
    assert!(message.ends_with(&told), "{message}");
    let lower = ResumeRequest {
        learning_rate: Some(0.01),
        ..from(failed.id)
    };
    let status = cluster.resume(lower).await;
    assert_eq!(status.state, JobState::Succeeded, "{:?}", status.error);
    assert_eq!((status.epoch, status.version), (6, Some(1)));
    assert_eq!(status.checkpoints, [6]);
    // The checkpoint itself is a model too.
    let as_it_was = ResumeRequest {
        epochs: Some(2),
        ..from(failed.id)
    };
    let status = cluster.resume(as_it_was).await;
    assert_eq!(
        (status.state, status.version),
        (JobState::Succeeded, Some(2))
    );
    let model = cluster.catalog.models.load("churn", None).await.unwrap();
    let history = cluster.catalog.jobs.history(failed.id).await.unwrap();
    let losses = history.column_by_name("loss").unwrap();
    let second = arrow::array::AsArray::as_primitive::<Float64Type>(losses).value(1);
    assert_eq!(model.manifest.metrics["loss"], second);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_a_query_are_kept_for_a_checkpoint_until_it_is_dropped() {
    let cluster = TestCluster::of(1, true).await;
    let asked = TrainRequest {
        source: Source::Query("SELECT * FROM customers WHERE age > 30".into()),
        validation: Validation::Split(0.2),
        checkpoints: kept(1, 1),
        ..request()
    };
    let done = cluster.train(asked).await;
    assert_eq!(done.state, JobState::Succeeded, "{:?}", done.error);
    assert_eq!(done.checkpoints, [3]);
    let staged = || {
        let jobs = std::fs::read_dir(cluster._store.path().join("jobs")).unwrap();
        jobs.filter(|job| job.as_ref().unwrap().path().join("rows").exists())
            .count()
    };
    // A server that starts leaves them alone.
    cluster.servers[0].end_left_overs().await;
    assert!(staged() > 0);
    let more = ResumeRequest {
        epochs: Some(5),
        ..from(done.id)
    };
    let status = cluster.resume(more).await;
    assert_eq!(status.state, JobState::Succeeded, "{:?}", status.error);
    // The later job may go on from its own checkpoint, and reads the rows of the first.
    let needed = cluster.servers[0].drop_checkpoints(done.id).await;
    let needed = needed.unwrap_err();
    assert_eq!(needed.fault(), Fault::FailedPrecondition);
    assert!(
        needed.to_string().contains(&status.id.to_string()),
        "{needed}"
    );
    for id in [status.id, done.id] {
        cluster.servers[0].drop_checkpoints(id).await.unwrap();
        let status = cluster.catalog.jobs.status(id).await.unwrap();
        assert!(status.checkpoints.is_empty());
    }
    assert_eq!(staged(), 0);
    let gone = cluster.refused(from(done.id)).await;
    assert_eq!(gone.fault(), Fault::NotFound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_gone_on_with_is_refused_with_what_can() {
    let cluster = TestCluster::of(1, true).await;
    let asked = TrainRequest {
        checkpoints: kept(1, 2),
        ..request()
    };
    let done = cluster.train(asked.clone()).await;
    assert_eq!(done.checkpoints, [2, 3]);
    let plain = cluster.train(request()).await;
    let running = cluster.submit(endless()).await.unwrap();
    cluster.wait_until(running, |status| status.step > 1).await;
    let whole = from(done.id);
    let cases = [
        (
            whole.clone(),
            Fault::InvalidArgument,
            "all 3 epochs of the job are over: give more",
        ),
        (
            ResumeRequest {
                epochs: Some(2),
                ..whole.clone()
            },
            Fault::InvalidArgument,
            "epochs is 2; the checkpoint is of epoch 3",
        ),
        (
            ResumeRequest {
                epoch: Some(1),
                ..whole.clone()
            },
            Fault::NotFound,
            "no checkpoint of epoch 1; there are those of epochs 2, 3",
        ),
        (
            ResumeRequest {
                epochs: Some(9),
                learning_rate: Some(-1.0),
                ..whole.clone()
            },
            Fault::InvalidArgument,
            "learning_rate",
        ),
        (
            from(plain.id),
            Fault::NotFound,
            "no checkpoint; checkpoints are kept of jobs that ask for them",
        ),
        (
            from(running),
            Fault::FailedPrecondition,
            "\"server-1\" drives it; wait for its end, or cancel it",
        ),
        (from(JobId::nil()), Fault::NotFound, "there is no job"),
    ];
    for (request, fault, expected) in cases {
        let error = cluster.refused(request).await;
        assert_eq!(error.fault(), fault, "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    }
    let running_still = cluster.servers[0].drop_checkpoints(running).await;
    assert!(matches!(
        running_still,
        Err(TrainingError::StillRunning { .. })
    ));
    assert!(cluster.catalog.jobs.cancel(running));
    let never = TrainRequest {
        checkpoints: kept(0, 1),
        ..request()
    };
    let error = cluster.submit(never).await.unwrap_err().to_string();
    assert!(
        error.contains("checkpoints.every is 0; give 1 to"),
        "{error}"
    );
    // Parts that are damaged are said to be.
    let part = format!("jobs/{}/checkpoints/0000003/part-000.safetensors", done.id);
    std::fs::write(cluster._store.path().join(part), "junk").unwrap();
    let status = cluster
        .resume(ResumeRequest {
            epochs: Some(9),
            ..whole
        })
        .await;
    let error = status.error.unwrap();
    assert_eq!(error.code, "FAILED_PRECONDITION");
    assert!(
        error
            .message
            .contains("the checkpoint cannot be gone on from"),
        "{}",
        error.message
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_was_made_anew_is_not_trained_on_in_place_of_the_old_one() {
    let cluster = TestCluster::of(2, true).await;
    let asked = TrainRequest {
        checkpoints: kept(1, 1),
        ..request()
    };
    let done = cluster.train(asked).await;
    assert_eq!(done.state, JobState::Succeeded, "{:?}", done.error);
    cluster.catalog.datasets.remove("customers").await.unwrap();
    // As many rows, and the same version.
    cluster.put("customers", customers(1_237)).await;
    let more = ResumeRequest {
        epochs: Some(5),
        ..from(done.id)
    };
    let error = cluster.resume(more).await.error.unwrap();
    assert_eq!(error.code, "FAILED_PRECONDITION");
    assert_eq!(
        error.message,
        "table \"customers\" no longer has the rows of the training, version 0: it was dropped and made anew; train a new job"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_learning_rate_that_is_given_is_the_one_that_is_trained_with() {
    let cluster = TestCluster::of(1, true).await;
    let asked = TrainRequest {
        epochs: 4,
        // Nothing is ever better by so much, so every epoch is followed by a reduction.
        reduce_on_plateau: Some(ReduceOnPlateau {
            factor: Some(0.1),
            patience: Some(1),
            min_delta: Some(1e9),
            ..plateau()
        }),
        checkpoints: kept(1, 1),
        ..request()
    };
    let done = cluster.train(asked).await;
    assert_eq!(done.state, JobState::Succeeded, "{:?}", done.error);
    assert!(done.metrics["learning_rate"] < 0.002, "{:?}", done.metrics);
    let other = ResumeRequest {
        epochs: Some(6),
        learning_rate: Some(0.25),
        ..from(done.id)
    };
    let status = cluster.resume(other).await;
    assert_eq!(status.metrics["learning_rate"], 0.25);
    // Going on from there, what the plateau has seen meanwhile counts: epoch 6 was no better than epoch 5.
    let further = ResumeRequest {
        epochs: Some(7),
        ..from(status.id)
    };
    let status = cluster.resume(further).await;
    let rate = status.metrics["learning_rate"];
    assert!((rate - 0.025).abs() < 1e-6, "{rate}");
}

fn kept(every: u32, keep: u32) -> Option<CheckpointRule> {
    Some(CheckpointRule { every, keep })
}

fn from(job: JobId) -> ResumeRequest {
    ResumeRequest {
        job,
        epoch: None,
        epochs: None,
        learning_rate: None,
        terms: JobTerms::default(),
    }
}

impl TestCluster {
    /// Goes on with a job, to the end.
    async fn resume(&self, request: ResumeRequest) -> JobStatus {
        let id = self.servers[0].resume(request).await.unwrap();
        self.wait_until(id, |status| status.state.is_final()).await
    }

    async fn refused(&self, request: ResumeRequest) -> TrainingError {
        let refused = self.servers[0].resume(request).await;
        refused.expect_err("it is refused")
    }
}
