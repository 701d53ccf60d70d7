//! How uploads end: by servers that die in the middle of a commit, by an abort, or because nobody comes any more.

use super::*;

/// What a server leaves that dies after it decided: an outcome, and perhaps a version.
async fn decide_and_die(server: &Server, id: UploadId, with_version: bool) {
    let record = server.uploads.records.upload(id).await.unwrap().unwrap();
    let outcome = OutcomeRecord {
        ending: Ending::Committed,
        at_ms: server.uploads.clock.now_ms(),
        parts: server.uploads.records.attempts(id).await.unwrap(),
    };
    server
        .uploads
        .records
        .decide(id, outcome.clone())
        .await
        .unwrap();
    if with_version {
        let completed = server.uploads.complete(id, &record, &outcome, false).await;
        completed.unwrap();
        let result = Objects::open(server.uploads.records.objects.url()).unwrap();
        let path = crate::storage::Path::from(format!("uploads/{id}/result.json"));
        result.remove(&path).await.unwrap();
    }
}

#[tokio::test]
async fn a_server_that_dies_in_the_middle_of_a_commit_neither_loses_nor_doubles_it() {
    for with_version in [false, true] {
        for by_the_sweep in [false, true] {
            let cluster = cluster();
            let (dying, other) = (cluster.server(), cluster.server());
            let id = dying.begin("t", WriteMode::Error).await;
            dying.put(id, "0", 0, &numbers(0..3)).await.unwrap();
            decide_and_die(&dying, id, with_version).await;
            assert_eq!(other.exists("t").await, with_version);
            if by_the_sweep {
                other.uploads.sweep().await.unwrap();
            }
            let committed = other.commit(id, &[]).await.unwrap();
            assert_eq!((committed.version, committed.rows), (0, 3));
            assert_eq!(other.rows("t").await, [0, 1, 2]);
            let version = other.uploads.describe(id).await.unwrap().version;
            assert_eq!(version, Some(0));
        }
    }
}

#[tokio::test]
async fn a_dataset_dropped_between_a_commit_and_its_repetition_is_not_filled_with_rows_that_are_gone()
 {
    let cluster = cluster();
    let server = cluster.server();
    let id = server.begin("t", WriteMode::Append).await;
    server.put(id, "0", 0, &numbers(0..3)).await.unwrap();
    decide_and_die(&server, id, true).await;
    server.datasets.remove("t").await.unwrap();
    let gone = server.commit(id, &[]).await.unwrap_err();
    assert!(matches!(gone, UploadError::Gone { .. }), "{gone}");
    assert!(!server.exists("t").await);
    cluster.clock.advance(DAY);
    server.uploads.sweep().await.unwrap();
    let forgotten = server.commit(id, &[]).await.unwrap_err();
    assert!(
        matches!(forgotten, UploadError::Unknown { .. }),
        "{forgotten}"
    );
}

#[tokio::test]
async fn a_folder_without_a_record_is_left_alone_while_its_upload_may_just_begin() {
    let cluster = cluster();
    let server = cluster.server();
    let begun_ms = server.uploads.clock.now_ms();
    let time = uuid::Timestamp::from_unix(uuid::NoContext, begun_ms / 1000, 0);
    let id = UploadId::new_v7(time);
    let objects = Objects::open(server.uploads.records.objects.url()).unwrap();
    let note = crate::storage::Path::from(format!("uploads/{id}/parts/late.json"));
    objects.put(&note, "{}".into()).await.unwrap();
    let minute = Duration::from_secs(60);

    let due_ms = server.uploads.sweep().await.unwrap();
    assert_eq!(due_ms, begun_ms + 60_000);
    assert!(objects.read(&note).await.unwrap().is_some());
    cluster.clock.advance(minute - Duration::from_millis(1));
    server.uploads.sweep().await.unwrap();
    assert!(objects.read(&note).await.unwrap().is_some());
    cluster.clock.advance(Duration::from_millis(1));
    assert_eq!(server.uploads.sweep().await.unwrap(), u64::MAX);
    assert!(objects.read(&note).await.unwrap().is_none());
    assert!(server.uploads.records.ids().await.unwrap().is_empty());
}

#[tokio::test]
async fn what_a_killed_server_left_half_written_goes_when_it_is_old_whatever_wrote_it() {
    let cluster = cluster();
    let (killed, other) = (cluster.server(), cluster.server());
    let schema = numbers(0..1).schema();
    let mut writer = killed
        .datasets
        .write("t", schema, WriteMode::Error)
        .await
        .unwrap();
    writer.write(numbers(0..3)).await.unwrap();
    writer.end_row_group().await.unwrap();
    while cluster.files(".parquet#1") == 0 {
        tokio::task::yield_now().await;
    }
    let folder = cluster.directory.path().join("datasets/t");
    let [half] = std::fs::read_dir(folder)
        .unwrap()
        .collect::<Vec<_>>()
        .try_into()
        .unwrap();
    let half = std::fs::File::options()
        .write(true)
        .open(half.unwrap().path());
    let half = half.unwrap();
    let now = time_of(cluster.clock.now_ms());
    half.set_modified(now).unwrap();

    other.uploads.sweep().await.unwrap();
    cluster.clock.advance(HOUR);
    other.uploads.sweep().await.unwrap();
    assert_eq!(
        cluster.files(".parquet#1"),
        1,
        "it is not older than an hour"
    );
    cluster.clock.advance(HOUR / 2);
    other.uploads.sweep().await.unwrap();
    assert_eq!(cluster.files(".parquet#1"), 1, "it is sought every hour");
    cluster.clock.advance(HOUR / 2);
    other.uploads.sweep().await.unwrap();
    assert_eq!(cluster.files(".parquet#1"), 0);
    drop(writer);
}

#[tokio::test]
async fn a_dataset_dropped_before_the_commit_is_created_anew() {
    let cluster = cluster();
    let server = cluster.server();
    for mode in [WriteMode::Append, WriteMode::Overwrite] {
        let before = server.begin("t", WriteMode::Overwrite).await;
        server.put(before, "0", 0, &numbers(0..3)).await.unwrap();
        server.commit(before, &[]).await.unwrap();
        let id = server.begin("t", mode).await;
        server.put(id, "0", 0, &numbers(5..7)).await.unwrap();
        server.datasets.remove("t").await.unwrap();
        server.put(id, "1", 0, &numbers(7..8)).await.unwrap();
        assert_eq!(server.commit(id, &[]).await.unwrap().version, 0);
        assert_eq!(server.rows("t").await, [5, 6, 7]);
    }
}

#[tokio::test]
async fn an_aborted_upload_leaves_nothing_and_says_so_to_who_comes_late() {
    let cluster = cluster();
    let (one, two) = (cluster.server(), cluster.server());
    let id = one.begin("t", WriteMode::Error).await;
    one.put(id, "0", 0, &numbers(0..3)).await.unwrap();
    let writing = two.writer(id, "1", 0, &numbers(3..6)).await.unwrap();
    two.uploads.abort(id).await.unwrap();
    one.uploads.abort(id).await.unwrap();
    for late in [
        writing.finish().await.unwrap_err(),
        one.put(id, "0", 0, &numbers(0..3)).await.unwrap_err(),
        one.commit(id, &[]).await.unwrap_err(),
    ] {
        let text = late.to_string();
        assert!(
            text.contains("was aborted at 2023-11-14T22:13:20Z; begin another"),
            "{text}"
        );
    }
    assert_eq!(cluster.parquet_files(), 0);
    assert_eq!(
        one.uploads.describe(id).await.unwrap().state,
        UploadState::Aborted
    );

    let committed = one.begin("t", WriteMode::Error).await;
    one.put(committed, "0", 0, &numbers(0..3)).await.unwrap();
    one.commit(committed, &[]).await.unwrap();
    let too_late = two.uploads.abort(committed).await.unwrap_err();
    assert!(
        matches!(too_late, UploadError::Committed { .. }),
        "{too_late}"
    );
    assert_eq!(two.rows("t").await, [0, 1, 2]);
}

#[tokio::test]
async fn a_part_that_breaks_off_leaves_nothing() {
    let cluster = cluster();
    let server = cluster.server();
    let id = server.begin("t", WriteMode::Error).await;
    drop(server.writer(id, "0", 0, &numbers(0..3)).await.unwrap());
    server
        .writer(id, "1", 0, &numbers(0..3))
        .await
        .unwrap()
        .abort()
        .await;
    server.settled().await;
    assert_eq!(cluster.parquet_files(), 0);
    assert!(server.uploads.describe(id).await.unwrap().parts.is_empty());
}

#[tokio::test]
async fn an_upload_left_alone_expires_and_every_part_is_a_sign_of_its_writer() {
    let cluster = cluster();
    let (one, two) = (cluster.server(), cluster.server());
    let id = one.begin("t", WriteMode::Error).await;
    for part in ["0", "1", "2"] {
        cluster.clock.advance(HOUR);
        two.uploads.sweep().await.unwrap();
        one.put(id, part, 0, &numbers(0..3)).await.unwrap();
    }
    let mut long = one.writer(id, "3", 0, &numbers(0..3)).await.unwrap();
    for _ in 0..3 {
        cluster.clock.advance(HOUR);
        long.write(numbers(0..1)).await.unwrap();
        two.uploads.sweep().await.unwrap();
    }
    assert_eq!(long.finish().await.unwrap().rows, 6);
    let upload = two.uploads.describe(id).await.unwrap();
    assert_eq!((upload.state, upload.parts.len()), (UploadState::Open, 4));

    cluster.clock.advance(2 * HOUR);
    two.uploads.sweep().await.unwrap();
    assert_eq!(cluster.parquet_files(), 0, "its files are deleted");
    for late in [
        one.put(id, "4", 0, &numbers(0..3)).await.unwrap_err(),
        one.commit(id, &[]).await.unwrap_err(),
    ] {
        let text = late.to_string();
        assert!(
            text.contains("nothing had come for it for 3600 s"),
            "{text}"
        );
    }
    assert_eq!(
        one.uploads.describe(id).await.unwrap().state,
        UploadState::Expired
    );
    cluster.clock.advance(DAY);
    for server in [&one, &two] {
        server.uploads.sweep().await.unwrap();
    }
    let forgotten = one.commit(id, &[]).await.unwrap_err();
    assert!(
        matches!(forgotten, UploadError::Unknown { .. }),
        "{forgotten}"
    );
    assert_eq!(cluster.files(".json"), 0, "its records are deleted");
}

#[tokio::test]
async fn an_upload_expires_when_it_is_asked_for_and_no_sweep_has_come_by() {
    let cluster = cluster();
    let server = cluster.server();
    let lifetime = Some(Duration::from_secs(1));
    let begun = server
        .uploads
        .begin("t", WriteMode::Error, None, lifetime)
        .await;
    let id = begun.unwrap().id;
    server.put(id, "0", 0, &numbers(0..3)).await.unwrap();
    cluster.clock.advance(Duration::from_secs(2));
    let late = server.commit(id, &[]).await.unwrap_err();
    assert!(matches!(late, UploadError::Expired { .. }), "{late}");
    assert!(server.uploads.list().await.unwrap().is_empty());
    let tooth = server
        .uploads
        .begin("t", WriteMode::Error, None, Some(8 * DAY))
        .await;
    assert!(tooth.unwrap_err().to_string().contains("1 to 604800 s"));
}

#[tokio::test]
async fn a_committed_upload_is_forgotten_after_a_day_and_its_rows_stay() {
    let cluster = cluster();
    let server = cluster.server();
    let id = server.begin("t", WriteMode::Error).await;
    server.put(id, "0", 0, &numbers(0..3)).await.unwrap();
    server.commit(id, &[]).await.unwrap();
    for _ in 0..3 {
        cluster.clock.advance(DAY);
        server.uploads.sweep().await.unwrap();
    }
    assert!(matches!(
        server.uploads.describe(id).await,
        Err(UploadError::Unknown { .. })
    ));
    assert_eq!(server.rows("t").await, [0, 1, 2]);
}
