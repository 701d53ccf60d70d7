//! Uploads in parts told as stories: many servers over one store, a clock that is advanced by hand.

use std::ops::Range;

use arrow::array::{ArrayRef, AsArray as _, Int64Array, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Int64Type, Schema};

use super::*;
use crate::catalog::{CatalogError, DatasetReference};
use crate::support::clock::ManualClock;

mod endings;

/// A store and the clock of all its servers.
struct Cluster {
    directory: tempfile::TempDir,
    clock: Arc<ManualClock>,
}

/// One server: what it has in memory is its own.
struct Server {
    datasets: Arc<Datasets>,
    uploads: Arc<Uploads>,
}

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

fn cluster() -> Cluster {
    Cluster {
        directory: tempfile::tempdir().unwrap(),
        clock: Arc::new(ManualClock::at(1_700_000_000_000)),
    }
}

impl Cluster {
    fn server(&self) -> Server {
        let objects = Objects::open(self.directory.path().to_str().unwrap()).unwrap();
        let datasets = Arc::new(Datasets::new(objects.clone(), 0));
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        Server {
            uploads: Arc::new(Uploads::new(objects, Arc::clone(&datasets), clock)),
            datasets,
        }
    }

    /// How many Parquet files lie in the store, named by a version or not.
    fn parquet_files(&self) -> usize {
        self.files(".parquet")
    }

    fn files(&self, ending: &str) -> usize {
        let mut count = 0;
        let mut folders = vec![self.directory.path().to_path_buf()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.to_str().unwrap().ends_with(ending) {
                    count += 1;
                }
            }
        }
        count
    }
}

impl Server {
    async fn begin(&self, dataset: &str, mode: WriteMode) -> UploadId {
        let begun = self.uploads.begin(dataset, mode, None, None).await;
        begun.unwrap().id
    }

    async fn writer(
        &self,
        id: UploadId,
        part: &str,
        attempt: u32,
        rows: &RecordBatch,
    ) -> Result<PartWriter, UploadError> {
        let begun = self.uploads.put_part(id, part, attempt, rows.schema());
        let mut writer = begun.await?;
        writer.write(rows.clone()).await?;
        Ok(writer)
    }

    async fn put(
        &self,
        id: UploadId,
        part: &str,
        attempt: u32,
        rows: &RecordBatch,
    ) -> Result<FinishedPart, UploadError> {
        self.writer(id, part, attempt, rows).await?.finish().await
    }

    async fn commit(
        &self,
        id: UploadId,
        parts: &[(&str, u32)],
    ) -> Result<CommittedUpload, UploadError> {
        let parts = parts.iter().map(|(part, attempt)| PartAttempt {
            part: (*part).to_owned(),
            attempt: *attempt,
        });
        self.uploads.commit(id, parts.collect()).await
    }

    /// The numbers of a dataset, in its order.
    async fn rows(&self, reference: &str) -> Vec<i64> {
        let reference = DatasetReference::parse(reference).unwrap();
        let dataset = self.datasets.open(&reference).await.unwrap();
        let batches: Vec<RecordBatch> = dataset.scan(None).map(Result::unwrap).collect().await;
        batches
            .iter()
            .flat_map(|batch| batch["n"].as_primitive::<Int64Type>().values().to_vec())
            .collect()
    }

    async fn exists(&self, name: &str) -> bool {
        let reference = DatasetReference::parse(name).unwrap();
        self.datasets.open(&reference).await.is_ok()
    }

    /// Waits for what runs behind an answer.
    async fn settled(&self) {
        self.uploads.settled().await;
    }
}

fn numbers(values: Range<i64>) -> RecordBatch {
    let column: ArrayRef = Arc::new(Int64Array::from_iter_values(values));
    RecordBatch::try_from_iter([("n", column)]).unwrap()
}

#[tokio::test]
async fn parts_sent_to_any_servers_in_any_order_are_one_version_in_the_order_of_their_names() {
    let cluster = cluster();
    let servers = [cluster.server(), cluster.server(), cluster.server()];
    let id = servers[0].begin("t", WriteMode::Error).await;
    for part in [10, 2, 0, 1, 9] {
        let rows = numbers(part * 100..part * 100 + 3);
        let server = &servers[usize::try_from(part).unwrap() % 3];
        let finished = server.put(id, &part.to_string(), 0, &rows).await.unwrap();
        assert_eq!(finished.rows, 3);
        assert!(
            !servers[1].exists("t").await,
            "nothing is seen before the commit"
        );
    }
    let described = servers[2].uploads.describe(id).await.unwrap();
    let parts: Vec<&str> = described
        .parts
        .iter()
        .map(|part| part.part.as_str())
        .collect();
    assert_eq!(parts, ["0", "1", "2", "9", "10"]);
    assert_eq!(servers[0].uploads.list().await.unwrap().len(), 1);

    let committed = servers[1].commit(id, &[]).await.unwrap();
    assert_eq!((committed.version, committed.rows), (0, 15));
    let expected: Vec<i64> = [0, 1, 2, 9, 10]
        .iter()
        .flat_map(|part| part * 100..part * 100 + 3)
        .collect();
    assert_eq!(servers[0].rows("t").await, expected);
    let described = servers[2].uploads.describe(id).await.unwrap();
    assert_eq!(described.state, UploadState::Committed);
    assert_eq!(described.version, Some(0));
    assert!(servers[0].uploads.list().await.unwrap().is_empty());
}

#[tokio::test]
async fn rows_stand_in_the_order_that_the_commit_names_also_after_the_log_was_shortened() {
    let cluster = cluster();
    let server = cluster.server();
    let id = server.begin("t", WriteMode::Append).await;
    for part in ["a", "b", "c"] {
        let from = i64::from(part.as_bytes()[0]);
        server
            .put(id, part, 0, &numbers(from..from + 1))
            .await
            .unwrap();
    }
    server
        .commit(id, &[("c", 0), ("a", 0), ("b", 0)])
        .await
        .unwrap();
    assert_eq!(server.rows("t").await, [99, 97, 98]);
    // Version 100 is a checkpoint: what the log said of files before is then read from there.
    let nothing = numbers(0..0).schema();
    for _ in 0..100 {
        let writer = server
            .datasets
            .write("t", Arc::clone(&nothing), WriteMode::Append);
        writer.await.unwrap().commit().await.unwrap();
    }
    assert!(cluster.files(".checkpoint.parquet") > 0);
    assert_eq!(cluster.server().rows("t").await, [99, 97, 98]);
    let again = server.commit(id, &[]).await.unwrap();
    assert_eq!(again.version, 0);
}

#[tokio::test]
async fn a_part_sent_again_changes_nothing_and_is_answered_the_same() {
    let cluster = cluster();
    let (one, two) = (cluster.server(), cluster.server());
    let id = one.begin("t", WriteMode::Error).await;
    let first = one.put(id, "0", 0, &numbers(0..5)).await.unwrap();
    // Also when the source was changed in between: the attempt is the name of what was taken.
    let again = two.put(id, "0", 0, &numbers(7..8)).await.unwrap();
    assert_eq!(again, first);
    assert_eq!(cluster.parquet_files(), 1);
    one.commit(id, &[]).await.unwrap();
    assert_eq!(two.rows("t").await, [0, 1, 2, 3, 4]);
    // The answer to the commit may have been lost, and the task be run again.
    let late = two.put(id, "0", 0, &numbers(0..5)).await.unwrap();
    assert_eq!(late, first);
    assert_eq!(two.rows("t").await.len(), 5);
}

#[tokio::test]
async fn an_attempt_streamed_to_two_servers_at_once_counts_once() {
    let cluster = cluster();
    let (one, two) = (cluster.server(), cluster.server());
    let id = one.begin("t", WriteMode::Error).await;
    let rows = numbers(0..4);
    let a = one.writer(id, "0", 0, &rows).await.unwrap();
    let b = two.writer(id, "0", 0, &rows).await.unwrap();
    let (a, b) = tokio::join!(a.finish(), b.finish());
    assert_eq!(a.unwrap(), b.unwrap());
    assert_eq!(cluster.parquet_files(), 1, "the other's files are deleted");
    one.commit(id, &[]).await.unwrap();
    assert_eq!(two.rows("t").await, [0, 1, 2, 3]);
}

#[tokio::test]
async fn a_task_run_twice_to_be_faster_gives_its_rows_once() {
    let cluster = cluster();
    let (one, two) = (cluster.server(), cluster.server());
    let id = one.begin("t", WriteMode::Error).await;
    one.put(id, "0", 3, &numbers(0..2)).await.unwrap();
    two.put(id, "0", 1, &numbers(0..2)).await.unwrap();
    two.put(id, "1", 0, &numbers(2..4)).await.unwrap();
    let slow = two.writer(id, "1", 1, &numbers(2..4)).await.unwrap();
    one.commit(id, &[("0", 3), ("1", 0)]).await.unwrap();
    assert_eq!(one.rows("t").await, [0, 1, 2, 3]);
    let late = slow.finish().await.unwrap_err();
    assert!(matches!(late, UploadError::Committed { .. }), "{late}");
    assert_eq!(
        cluster.parquet_files(),
        2,
        "what was not committed is deleted"
    );
    let described = one.uploads.describe(id).await.unwrap();
    assert_eq!(described.parts.len(), 3, "{described:?}");
}

#[tokio::test]
async fn a_commit_asked_for_twice_at_once_on_two_servers_is_one_version() {
    let cluster = cluster();
    let (one, two) = (cluster.server(), cluster.server());
    for mode in [WriteMode::Append, WriteMode::Append, WriteMode::Overwrite] {
        let id = one.begin("t", mode).await;
        one.put(id, "0", 0, &numbers(0..3)).await.unwrap();
        let (a, b) = tokio::join!(one.commit(id, &[]), two.commit(id, &[("0", 0)]));
        let (a, b) = (a.unwrap(), b.unwrap());
        assert_eq!(a, b);
        assert_eq!(one.commit(id, &[("0", 0)]).await.unwrap(), a);
        let others = one.commit(id, &[("0", 1)]).await.unwrap_err();
        assert!(matches!(others, UploadError::OtherParts { .. }), "{others}");
    }
    assert_eq!(two.rows("t@0").await.len(), 3);
    assert_eq!(two.rows("t@1").await.len(), 6);
    assert_eq!(two.rows("t").await.len(), 3);
}

#[tokio::test]
async fn an_upload_without_parts_is_an_empty_dataset_if_it_has_a_schema_and_nothing_else() {
    let cluster = cluster();
    let server = cluster.server();
    let id = server.begin("t", WriteMode::Error).await;
    let nothing = server.commit(id, &[]).await.unwrap_err();
    assert!(matches!(nothing, UploadError::Nothing { .. }), "{nothing}");
    server.put(id, "0", 0, &numbers(0..0)).await.unwrap();
    assert_eq!(server.commit(id, &[]).await.unwrap().rows, 0);

    let schema = Some(numbers(0..0).schema());
    let begun = server
        .uploads
        .begin("u", WriteMode::Error, schema, None)
        .await;
    let committed = server.commit(begun.unwrap().id, &[]).await.unwrap();
    assert_eq!((committed.version, committed.rows), (0, 0));
    assert!(server.rows("u").await.is_empty());
}

#[tokio::test]
async fn parts_missing_from_a_commit_are_named_and_the_upload_stays_open() {
    let cluster = cluster();
    let server = cluster.server();
    let id = server.begin("t", WriteMode::Error).await;
    server.put(id, "0", 1, &numbers(0..3)).await.unwrap();
    let missing = server
        .commit(id, &[("0", 0), ("0/1", 0)])
        .await
        .unwrap_err();
    let text = missing.to_string();
    assert!(
        text.contains("attempt 0 of part \"0\", attempt 0 of part \"0/1\";"),
        "{text}"
    );
    let twice = server.commit(id, &[("0", 1), ("0", 1)]).await.unwrap_err();
    assert!(twice.to_string().contains("named twice"), "{twice}");
    let many: Vec<String> = (1..100).map(|part| part.to_string()).collect();
    let many: Vec<(&str, u32)> = many.iter().map(|part| (part.as_str(), 0)).collect();
    let text = server.commit(id, &many).await.unwrap_err().to_string();
    assert!(text.contains("part \"5\" and 94 more"), "{text}");
    server.put(id, "0/1", 0, &numbers(3..4)).await.unwrap();
    server.commit(id, &[("0", 1), ("0/1", 0)]).await.unwrap();
    assert_eq!(server.rows("t").await, [0, 1, 2, 3]);
}

#[tokio::test]
async fn a_part_of_another_shape_is_refused_before_a_row_is_taken() {
    let cluster = cluster();
    let (one, two) = (cluster.server(), cluster.server());
    let id = one.begin("t", WriteMode::Error).await;
    let text: ArrayRef = Arc::new(StringArray::from(vec!["a", "b"]));
    let number: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
    let both = [("n", Arc::clone(&number)), ("text", Arc::clone(&text))];
    let first = RecordBatch::try_from_iter(both).unwrap();
    one.put(id, "0", 0, &first).await.unwrap();
    let strange = [("n", Arc::clone(&text)), ("text", Arc::clone(&text))];
    let more = [("n", &number), ("text", &text), ("x", &text)];
    for (rows, expected) in [
        (
            RecordBatch::try_from_iter(strange).unwrap(),
            "column \"n\" is Int64 in the upload",
        ),
        (numbers(0..1), "column \"text\" is missing"),
        (
            RecordBatch::try_from_iter(more.map(|(name, column)| (name, Arc::clone(column))))
                .unwrap(),
            "the upload has no column \"x\"",
        ),
    ] {
        let refused = two.uploads.put_part(id, "1", 0, rows.schema()).await;
        let text = refused.unwrap_err().to_string();
        assert!(
            text.contains("part \"1\" does not fit") && text.contains(expected),
            "{text}"
        );
    }
    // The same values in another order and encoding do fit, as they do for an appended dataset.
    let large = cast(&text, &DataType::LargeUtf8).unwrap();
    let turned = RecordBatch::try_from_iter([("text", large), ("n", number)]).unwrap();
    two.put(id, "1", 0, &turned).await.unwrap();
    one.commit(id, &[]).await.unwrap();
    assert_eq!(one.rows("t").await, [1, 2, 1, 2]);
}

#[tokio::test]
async fn rows_that_do_not_fit_the_dataset_are_refused_at_the_beginning_and_by_the_commit() {
    let cluster = cluster();
    let server = cluster.server();
    let first = server.begin("t", WriteMode::Error).await;
    server.put(first, "0", 0, &numbers(0..3)).await.unwrap();
    let second = server.begin("t", WriteMode::Error).await;
    server.put(second, "0", 0, &numbers(3..6)).await.unwrap();
    server.commit(first, &[]).await.unwrap();
    let exists = |error: &UploadError| {
        matches!(
            error,
            UploadError::Catalog(CatalogError::DatasetExists { .. })
        )
    };
    let late = server.commit(second, &[]).await.unwrap_err();
    assert!(exists(&late), "{late}");
    let refused = server
        .uploads
        .begin("t", WriteMode::Error, None, None)
        .await;
    assert!(exists(&refused.unwrap_err()));
    // Nothing was decided: with the other one gone, it can be.
    server.datasets.remove("t").await.unwrap();
    server.commit(second, &[]).await.unwrap();
    assert_eq!(server.rows("t").await, [3, 4, 5]);

    let other = Arc::new(Schema::new(vec![Field::new("m", DataType::Int64, true)]));
    let begun = server
        .uploads
        .begin("t", WriteMode::Append, Some(Arc::clone(&other)), None)
        .await;
    let text = begun.unwrap_err().to_string();
    assert!(text.contains("column \"n\" is missing"), "{text}");
    let appending = server.begin("t", WriteMode::Append).await;
    let part = server.uploads.put_part(appending, "0", 0, other).await;
    assert!(
        part.unwrap_err()
            .to_string()
            .contains("column \"n\" is missing")
    );
    server.put(appending, "0", 0, &numbers(6..7)).await.unwrap();

    let column: ArrayRef = Arc::new(StringArray::from(vec!["a"]));
    let texts = RecordBatch::try_from_iter([("m", column)]).unwrap();
    let replacing = server.begin("t", WriteMode::Overwrite).await;
    server.put(replacing, "0", 0, &texts).await.unwrap();
    server.commit(replacing, &[]).await.unwrap();
    let misfit = server.commit(appending, &[]).await.unwrap_err();
    assert!(
        misfit.to_string().contains("column \"m\" is missing"),
        "{misfit}"
    );
    let state = server.uploads.describe(appending).await.unwrap().state;
    assert_eq!(state, UploadState::Open);
}

#[tokio::test]
async fn types_that_cannot_be_stored_are_named_at_the_beginning() {
    let server = cluster().server();
    let fields = vec![Field::new_struct("empty", Vec::<Field>::new(), true)];
    let schema = Some(Arc::new(Schema::new(fields)));
    let refused = server
        .uploads
        .begin("t", WriteMode::Error, schema, None)
        .await;
    let text = refused.unwrap_err().to_string();
    assert!(text.contains("column \"empty\""), "{text}");
    let name = server
        .uploads
        .begin("../t", WriteMode::Error, None, None)
        .await;
    assert!(name.unwrap_err().to_string().contains("cannot be used"));
}

#[tokio::test]
async fn a_part_is_named_by_what_can_be_printed() {
    let cluster = cluster();
    let server = cluster.server();
    let id = server.begin("t", WriteMode::Error).await;
    for bad in ["", "a\nb", "größe", &"x".repeat(129)] {
        let refused = server.put(id, bad, 0, &numbers(0..1)).await.unwrap_err();
        assert!(matches!(refused, UploadError::BadPart { .. }), "{refused}");
    }
    for good in ["../../x", " ", "~", &"/".repeat(128)] {
        server
            .put(id, good, u32::MAX, &numbers(0..1))
            .await
            .unwrap();
    }
    let described = server.uploads.describe(id).await.unwrap();
    assert_eq!(described.parts.len(), 4);
    server.commit(id, &[]).await.unwrap();
    assert_eq!(server.rows("t").await.len(), 4);
}
