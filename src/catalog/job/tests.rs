//! Jobs told as stories: what their driver tells, what the journal says, and who writes their end.

use super::*;

fn boards_on(directory: &tempfile::TempDir) -> (JobBoard, JobBoard) {
    let objects = Objects::open(directory.path().to_str().unwrap()).unwrap();
    let datasets = Arc::new(Datasets::new(objects.clone(), 0));
    (
        JobBoard::new(objects.clone(), Arc::clone(&datasets), "server-1"),
        JobBoard::new(objects, datasets, "server-2"),
    )
}

#[tokio::test]
async fn every_server_reads_the_journal_and_the_driver_tells_more() {
    let directory = tempfile::tempdir().unwrap();
    let (driver, other) = boards_on(&directory);
    let job = driver
        .create(JobKind::Train, "census", 2, JobTerms::default())
        .await
        .unwrap();
    let id = job.id;
    assert_eq!(other.status(id).await.unwrap().state, JobState::Queued);
    assert_eq!(other.status(id).await.unwrap().coordinator, "server-1");
    assert!(other.watch(id).is_none());
    assert!(!other.cancel(id));

    let mut watcher = driver.watch(id).unwrap();
    job.update(|status| {
        status.state = JobState::Running;
        status.epoch = 1;
        status.metrics.insert("loss".into(), f64::NAN);
    });
    watcher.changed().await.unwrap();
    assert_eq!(watcher.borrow().epoch, 1);
    assert!(watcher.borrow().started_ms.is_some());
    job.record(BTreeMap::from([
        ("val_loss".into(), None),
        ("loss".into(), Some(0.5)),
    ]));
    assert_eq!(other.status(id).await.unwrap().epoch, 0);
    job.save().await.unwrap();
    let read = other.status(id).await.unwrap();
    assert_eq!(read.epoch, 1);
    assert!(read.metrics["loss"].is_nan());

    let history = other.history(id).await.unwrap();
    let names: Vec<&str> = history
        .schema_ref()
        .fields()
        .iter()
        .map(|f| f.name().as_str())
        .collect();
    assert_eq!(names, ["epoch", "loss", "val_loss"]);
    assert_eq!(history, driver.history(id).await.unwrap());

    job.finish(Ok(Some(4))).await;
    assert!(watcher.borrow_and_update().state.is_final());
    for board in [&driver, &other] {
        let status = board.status(id).await.unwrap();
        assert_eq!(status.state, JobState::Succeeded);
        assert_eq!(status.version, Some(4));
        assert!(board.watch(id).is_none());
        assert_eq!(board.list().await.unwrap().len(), 1);
        assert_eq!(board.history(id).await.unwrap().num_rows(), 1);
    }
}

#[tokio::test]
async fn epochs_that_follow_each_other_quickly_are_written_together() {
    let directory = tempfile::tempdir().unwrap();
    let (driver, other) = boards_on(&directory);
    let job = driver
        .create(JobKind::Train, "census", 9, JobTerms::default())
        .await
        .unwrap();
    let id = job.id;
    let epoch = async |epoch: u32| {
        job.update(|status| status.epoch = epoch);
        job.record(BTreeMap::from([("loss".into(), Some(0.5))]));
        job.save_soon().await.unwrap();
    };
    let written = async || {
        let rows = other.history(id).await.unwrap().num_rows();
        (other.status(id).await.unwrap().epoch, rows)
    };
    let began = Instant::now();
    epoch(1).await;
    assert_eq!(written().await, (1, 1), "the first is written at once");
    for number in 2..=5 {
        epoch(number).await;
    }
    let behind = written().await;
    // Unless the machine is so slow that the second is over.
    assert!(behind == (1, 1) || began.elapsed() > SAVE_EVERY);
    assert_eq!(driver.history(id).await.unwrap().num_rows(), 5);
    assert_eq!(driver.status(id).await.unwrap().epoch, 5);
    while written().await != (5, 5) {
        assert!(began.elapsed() < SAVE_EVERY * 60);
    }

    // A checkpoint does not wait, and neither does the end.
    epoch(6).await;
    job.save_if_behind().await.unwrap();
    assert_eq!(written().await, (6, 6));
    epoch(7).await;
    job.finish(Ok(None)).await;
    assert_eq!(written().await, (7, 7));
}

#[tokio::test]
async fn a_job_that_is_dropped_is_written_down_as_failed() {
    let directory = tempfile::tempdir().unwrap();
    let (driver, other) = boards_on(&directory);
    let job = driver
        .create(JobKind::Score, "census", 0, JobTerms::default())
        .await
        .unwrap();
    let id = job.id;
    assert!(driver.cancel(id));
    assert!(job.cancelled.is_cancelled());
    drop(job);
    driver.settled().await;
    let status = other.status(id).await.unwrap();
    assert_eq!(status.state, JobState::Failed);
    assert_eq!(status.error.unwrap().code, "INTERNAL");
    assert!(!driver.cancel(id));
    let unknown = other.status(Uuid::now_v7()).await.unwrap_err();
    assert!(matches!(unknown, CatalogError::UnknownJob { .. }));
}
#[tokio::test]
async fn a_stopping_server_ends_its_jobs_and_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let (driver, other) = boards_on(&directory);
    let asked = driver
        .create(JobKind::Score, "asked", 0, JobTerms::default())
        .await
        .unwrap();
    let early = driver
        .create(JobKind::Train, "early", 2, JobTerms::default())
        .await
        .unwrap();
    assert!(driver.cancel(asked.id));
    driver.stop_all();
    let late = driver
        .create(JobKind::Train, "late", 2, JobTerms::default())
        .await
        .unwrap();
    for job in [&asked, &early, &late] {
        assert!(job.cancelled.is_cancelled());
    }
    let ids = [asked.id, early.id, late.id];
    let settled = driver.settled();
    tokio::pin!(settled);
    assert!(futures::poll!(settled.as_mut()).is_pending());
    for job in [asked, early, late] {
        job.finish(Err(JobOutcome::Cancelled)).await;
    }
    settled.await;
    let by_client = other.status(ids[0]).await.unwrap();
    assert_eq!(by_client.state, JobState::Cancelled);
    for id in &ids[1..] {
        let status = other.status(*id).await.unwrap();
        assert_eq!(status.state, JobState::Failed);
        let error = status.error.unwrap();
        assert_eq!(error.code, "UNAVAILABLE");
        assert_eq!(
            error.message,
            "server \"server-1\" is stopping; start the job again on another one"
        );
    }
}

#[tokio::test]
async fn a_restarted_server_ends_the_jobs_it_was_killed_with() {
    let directory = tempfile::tempdir().unwrap();
    let (killed, other) = boards_on(&directory);
    let (restarted, _) = boards_on(&directory);
    let job = killed
        .create(JobKind::Train, "census", 2, JobTerms::default())
        .await
        .unwrap();
    let status = other.status(job.id).await.unwrap();
    assert!(restarted.is_left_over(&status));
    assert!(!other.is_left_over(&status));
    assert!(!killed.is_left_over(&status));
    restarted.end_left_over(status).await.unwrap();
    let ended = other.status(job.id).await.unwrap();
    assert_eq!(ended.state, JobState::Failed);
    assert_eq!(ended.error.clone().unwrap().code, "UNAVAILABLE");
    assert!(!restarted.is_left_over(&ended));
}

#[tokio::test]
async fn a_journal_that_cannot_be_read_hides_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let (driver, other) = boards_on(&directory);
    let broken = driver
        .create(JobKind::Score, "a", 0, JobTerms::default())
        .await
        .unwrap();
    let whole = driver
        .create(JobKind::Score, "b", 0, JobTerms::default())
        .await
        .unwrap();
    let path = place(broken.id, STATUS);
    let junk = Bytes::from_static(b"{");
    driver.board.objects.put(&path, junk).await.unwrap();
    let listed = other.list().await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].id, whole.id);
}
