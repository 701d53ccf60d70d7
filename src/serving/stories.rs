//! Serving from end to end over a real store: every door answers from the same committed version.
//!
//! The networks are one Dense layer over raw columns, so that each expected number is written out by hand.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, DictionaryArray, FixedSizeListArray, Float64Array, Int64Array,
    ListArray, RecordBatch, StringArray,
};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Float32Type, Float64Type, Int8Type, Int64Type, Schema};
use futures::TryStreamExt;
use serde_json::{Value, json};

use super::score::{QUEUED_MAX, RUNNING_MAX};
use super::{ScoreRequest, Serving, ServingError};
use crate::catalog::{
    Catalog, DatasetReference, JobId, JobState, JobStatus, JobTerms, LabelColumn, ModelManifest,
    WriteMode,
};
use crate::features::{ModelFunctions, PipelineSpec, QueryEngine, QueryLimits, Source};
use crate::support::fault::{Fault, Faulty};
use crate::tensor::archive::{self, NamedArray};

/// prediction = 2 age - hours + 0.5
const REGRESSOR: (&[f32], &str) = (&[2.0, -1.0, 0.5], "linear");
/// probability = sigmoid(age - hours)
const CLASSIFIER: (&[f32], &str) = (&[1.0, -1.0, 0.0], "sigmoid");

#[tokio::test]
async fn every_door_answers_the_number_written_out_by_hand() {
    let world = World::new().await;
    world.put("people", people(5)).await;
    world.regressor("pay", &[]).await;
    let expected: Vec<f32> = (0..5).map(|row| 2.0 * row as f32 - 1.0 + 0.5).collect();

    let model = world.serving.model("pay", None).await.unwrap();
    let session = model.session(people(5).schema_ref(), &[]).unwrap();
    assert_eq!(numbers(&session.score(&people(5)).unwrap()), expected);

    let function = world.serving.find("pay", Some(1)).await.unwrap();
    assert_eq!((function.name(), function.version()), ("pay", 1));
    let input = people(5).project(&[0, 1]).unwrap();
    assert_eq!(function.input_schema().field(0).name(), "age");
    assert_eq!(numbers(&function.call(&input).unwrap()), expected);

    let status = world.score("pay", table("people"), "paid", &["job"]).await;
    assert_eq!(status.state, JobState::Succeeded, "{:?}", status.error);
    assert_eq!(
        (status.rows, status.progress, status.version),
        (5, 1.0, Some(0))
    );
    let paid = world.read("paid").await;
    assert_eq!(numbers(&paid), expected);
    assert_eq!(paid["job"].as_ref(), people(5)["job"].as_ref());
}

#[tokio::test]
async fn classes_are_answered_in_the_labels_own_type() {
    let world = World::new().await;
    let label = label("rich", DataType::Int64, &["-1", "1"]);
    world.model("rich", CLASSIFIER, label, &[]).await;
    let model = world.serving.model("rich", None).await.unwrap();
    let session = model.session(people(3).schema_ref(), &[]).unwrap();
    let answers = session.score(&people(3)).unwrap();
    assert_eq!(
        answers["prediction"].as_primitive::<Int64Type>().values(),
        &[-1, -1, 1]
    );
    let sigmoid = |value: f32| 1.0 / (1.0 + (-value).exp());
    let probability = answers["probability"].as_primitive::<Float32Type>();
    for (row, found) in probability.values().iter().enumerate() {
        assert!(
            (found - sigmoid(row as f32 - 1.0)).abs() < 1e-6,
            "row {row}: {found}"
        );
    }
}

#[tokio::test]
async fn columns_come_in_any_order_with_others_between_and_kept_ones_return_as_they_came() {
    let world = World::new().await;
    world.regressor("pay", &[]).await;
    let model = world.serving.model("pay", None).await.unwrap();
    let rows = people(4);
    let codes: DictionaryArray<Int8Type> = ["a", "b", "a", "c"].into_iter().collect();
    let lists = ListArray::from_iter_primitive::<Int64Type, _, _>(
        (0..4).map(|row| Some(vec![Some(row), None])),
    );
    let mixed = RecordBatch::try_from_iter([
        ("lists", Arc::new(lists) as ArrayRef),
        ("hours", Arc::clone(&rows["hours"])),
        ("codes", Arc::new(codes)),
        ("age", Arc::clone(&rows["age"])),
    ])
    .unwrap();
    let keep = ["codes".to_owned(), "lists".to_owned(), "age".to_owned()];
    let session = model.session(mixed.schema_ref(), &keep).unwrap();
    let answers = session.score(&mixed).unwrap();
    assert_eq!(numbers(&answers), [-0.5, 1.5, 3.5, 5.5]);
    assert_eq!(answers.schema(), session.schema());
    for column in &keep {
        assert_eq!(
            answers[column.as_str()].as_ref(),
            mixed[column.as_str()].as_ref()
        );
    }
    let none = session.score(&mixed.slice(2, 0)).unwrap();
    assert_eq!((none.num_rows(), none.schema()), (0, session.schema()));
}

#[tokio::test]
async fn columns_that_do_not_fit_are_refused_by_name() {
    let world = World::new().await;
    world.regressor("pay", &[]).await;
    let model = world.serving.model("pay", None).await.unwrap();
    let rows = people(2);
    let refuse = |schema: &Schema, keep: &[&str]| {
        let keep: Vec<String> = keep.iter().map(|name| (*name).to_owned()).collect();
        let error = model.session(schema, &keep).unwrap_err();
        assert_eq!(error.fault(), Fault::InvalidArgument, "{error}");
        error.to_string()
    };
    let without = refuse(&rows.schema().project(&[0, 2]).unwrap(), &[]);
    assert!(without.contains("\"hours\""), "{without}");
    let texts = Schema::new(vec![
        rows.schema().field(0).clone(),
        rows.schema().field(2).clone().with_name("hours"),
    ]);
    let wrong = refuse(&texts, &[]);
    assert!(wrong.contains("\"hours\""), "{wrong}");
    let unknown = refuse(&rows.schema(), &["town"]);
    assert!(
        unknown.contains("\"town\"") && unknown.contains("\"job\""),
        "{unknown}"
    );
    assert!(refuse(&rows.schema(), &["job", "job"]).contains("twice"));
    let clash = Schema::new(vec![
        rows.schema().field(0).clone(),
        rows.schema().field(1).clone(),
        rows.schema().field(2).clone().with_name("prediction"),
    ]);
    assert!(refuse(&clash, &["prediction"]).contains("rename"));

    let session = model.session(rows.schema_ref(), &[]).unwrap();
    let changed = session
        .score(&rows.project(&[1, 0, 2]).unwrap())
        .unwrap_err();
    assert!(
        matches!(changed, ServingError::SchemaChanged { .. }),
        "{changed}"
    );
}

#[tokio::test]
async fn however_rows_are_cut_their_answers_have_the_same_bits() {
    let world = World::new().await;
    world.put("people", people(20_000)).await;
    let pipeline = [json!({"transform": "standardize", "columns": ["age", "hours"]})];
    world.regressor("pay", &pipeline).await;
    let model = world.serving.model("pay", None).await.unwrap();
    let rows = people(20_000);
    let session = model.session(rows.schema_ref(), &[]).unwrap();
    let whole = numbers(&session.score(&rows).unwrap());
    for length in [1_000, 8_191, 8_192, 8_193, 19_999] {
        let mut parts = Vec::new();
        for first in (0..rows.num_rows()).step_by(length) {
            let part = rows.slice(first, length.min(rows.num_rows() - first));
            parts.extend(numbers(&session.score(&part).unwrap()));
        }
        assert!(
            whole
                .iter()
                .zip(&parts)
                .all(|(left, right)| left.to_bits() == right.to_bits()),
            "parts of {length}"
        );
    }
    let status = world.score("pay", table("people"), "paid", &[]).await;
    assert_eq!(status.state, JobState::Succeeded, "{:?}", status.error);
    assert_eq!(numbers(&world.read("paid").await), whole);
}

#[tokio::test]
async fn the_pipeline_that_was_fitted_is_the_one_that_answers() {
    let world = World::new().await;
    world.put("people", people(5)).await; // ages 0 to 4: mean 2, deviation the root of 2; hours all 1
    let pipeline = [json!({"transform": "standardize", "columns": ["age"]})];
    world.regressor("pay", &pipeline).await;
    let model = world.serving.model("pay", None).await.unwrap();
    let session = model.session(people(9).schema_ref(), &[]).unwrap();
    let answers = numbers(&session.score(&people(9)).unwrap());
    for (row, found) in answers.iter().enumerate() {
        let expected = 2.0 * (row as f32 - 2.0) / 2.0_f32.sqrt() - 1.0 + 0.5;
        assert!(
            (found - expected).abs() < 1e-5,
            "row {row}: {found} instead of {expected}"
        );
    }
}

#[tokio::test]
async fn a_refused_scoring_leaves_neither_job_nor_dataset() {
    let world = World::new().await;
    world.put("people", people(5)).await;
    world.put("taken", people(1)).await;
    world.regressor("pay", &[]).await;
    let refuse = async |model: &str, source: Source, into: &str| {
        let error = world.start(model, source, into, &[]).await.unwrap_err();
        error.fault()
    };
    assert_eq!(
        refuse("nobody", table("people"), "new").await,
        Fault::NotFound
    );
    assert_eq!(
        refuse("pay", table("nothing"), "new").await,
        Fault::NotFound
    );
    assert_eq!(
        refuse("pay", table("people"), "taken").await,
        Fault::AlreadyExists
    );
    assert_eq!(
        refuse("pay", table("people"), "../new").await,
        Fault::InvalidArgument
    );
    let query = Source::Query("SELECT age FROM people".to_owned());
    assert_eq!(refuse("pay", query, "new").await, Fault::InvalidArgument);
    assert!(world.catalog.jobs.list().await.unwrap().is_empty());
    let names: Vec<String> = world.dataset_names().await;
    assert_eq!(names, ["people", "taken"]);
}

#[tokio::test]
async fn a_row_that_cannot_be_scored_fails_the_job_with_its_place_and_commits_nothing() {
    let world = World::new().await;
    let mut ages: Vec<f64> = (0..10_000).map(f64::from).collect();
    ages[9_000] = f64::NAN;
    let hours = Int64Array::from(vec![1; ages.len()]);
    let rows = RecordBatch::try_from_iter([
        ("age", Arc::new(Float64Array::from(ages)) as ArrayRef),
        ("hours", Arc::new(hours)),
    ]);
    world.put("people", rows.unwrap()).await;
    world.regressor("pay", &[]).await;
    let status = world.score("pay", table("people"), "paid", &[]).await;
    assert_eq!(status.state, JobState::Failed);
    let error = status.error.unwrap();
    assert_eq!(error.code, "INVALID_ARGUMENT", "{}", error.message);
    assert!(error.message.contains("\"age\""), "{}", error.message);
    assert_eq!(world.dataset_names().await, ["people"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_row_of_large_data_is_named_by_every_door_as_the_caller_would_count_it() {
    const ROWS: usize = 200_000;
    const BAD: usize = 150_000;
    let world = World::new().await;
    let mut ages: Vec<f64> = (0..ROWS).map(|row| row as f64).collect();
    ages[BAD] = f64::NAN;
    let ages: ArrayRef = Arc::new(Float64Array::from(ages));
    let rows = RecordBatch::try_from_iter([
        ("age", Arc::clone(&ages)),
        (
            "hours",
            Arc::new(Int64Array::from(vec![1; ROWS])) as ArrayRef,
        ),
        ("pay", Arc::clone(&ages)),
    ])
    .unwrap();
    world.regressor("pay", &[]).await;
    world.put("people", rows.clone()).await;
    let expected = format!(
        "column \"age\" is NaN at row {BAD}; impute or clip it in the pipeline, or leave such rows out"
    );

    let status = world.score("pay", table("people"), "paid", &[]).await;
    assert_eq!(status.error.unwrap().message, expected);
    let error = world.evaluate("pay", &table("people"), &[]).await;
    assert_eq!(error.unwrap_err().to_string(), expected);
    // As DoExchange does: a piece of what was sent, and where it begins.
    let model = world.serving.model("pay", None).await.unwrap();
    let session = model.session(rows.schema_ref(), &[]).unwrap();
    let piece = rows.slice(100_000, ROWS - 100_000);
    let error = session.score_from(&piece, 100_000).unwrap_err();
    assert_eq!(error.to_string(), expected);

    // In the midst of a query rows have no number.
    let query = "SELECT predict('pay', age, hours) FROM people";
    let query = world.queries.prepare(query).await.unwrap();
    let answered = query.execute().await.unwrap();
    let error = answered.try_collect::<Vec<_>>().await.unwrap_err();
    assert_eq!(error.fault(), Fault::InvalidArgument);
    assert!(
        error
            .to_string()
            .contains("column \"age\" is NaN in a row of the query;"),
        "{error}"
    );
}

#[tokio::test]
async fn scoring_jobs_beyond_the_queue_are_refused_until_one_ends() {
    let world = World::new().await;
    world.put("people", people(100)).await;
    world.regressor("pay", &[]).await;
    let mut running = Vec::new();
    for _ in 0..RUNNING_MAX {
        let place = world.serving.admission().admit().unwrap();
        running.push((place.turn().await, place));
    }
    let mut ids = Vec::new();
    for number in 0..QUEUED_MAX {
        let into = format!("paid{number}");
        let id = world.start("pay", table("people"), &into, &[]).await;
        ids.push(id.unwrap());
    }
    let refused = world.start("pay", table("people"), "late", &[]).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.fault(), Fault::ResourceExhausted);
    assert_eq!(
        refused.to_string(),
        "64 scoring jobs wait on this server already; submit again when one has ended"
    );
    let jobs = world.catalog.jobs.list().await.unwrap();
    assert_eq!(jobs.len(), ids.len());
    assert!(jobs.iter().all(|job| job.state == JobState::Queued));
    drop(running);
    for id in ids {
        assert_eq!(world.end_of(id).await.state, JobState::Succeeded);
    }
    let status = world.score("pay", table("people"), "late", &[]).await;
    assert_eq!(status.state, JobState::Succeeded);
}

#[tokio::test]
async fn a_summary_is_made_of_the_manifest_and_has_shapes_and_parameters() {
    let world = World::new().await;
    world.regressor("pay", &[]).await;
    let manifest = world.catalog.models.manifest("pay", None).await.unwrap();
    let mut manifest = Arc::unwrap_or_clone(manifest);
    let summary = super::summary(&manifest).unwrap();
    let words = |line: usize| -> Vec<&str> {
        summary
            .lines()
            .nth(line)
            .unwrap()
            .split_whitespace()
            .collect()
    };
    assert_eq!(words(0), ["Model", "\"pay\""], "{summary}");
    assert_eq!(
        words(3),
        [
            "columns",
            "(Input)",
            "(rows,",
            "2)",
            "0",
            "\"age\",",
            "\"hours\""
        ],
        "{summary}"
    );
    assert_eq!(
        words(4),
        ["answer", "(Dense)", "(rows,", "1)", "3", "\"columns\""],
        "{summary}"
    );
    assert!(summary.contains("Parameters: 3 trainable"), "{summary}");
    manifest.spec = json!({"format_version": 1, "layers": []});
    assert_eq!(
        super::summary(&manifest).unwrap_err().fault(),
        Fault::FailedPrecondition
    );
}

#[tokio::test]
async fn vectors_are_scored_by_every_door() {
    let world = World::new().await;
    let pair = FixedSizeListArray::from_iter_primitive::<Float64Type, _, _>(
        (0..5).map(|row| Some(vec![Some(f64::from(row)), Some(1.0)])),
        2,
    );
    let rows = RecordBatch::try_from_iter([("v", Arc::new(pair) as ArrayRef)]).unwrap();
    world.put("people", rows.clone()).await;
    let label = label("pay", DataType::Float64, &[]);
    world.model_over(&["v"], "pay", REGRESSOR, label, &[]).await;
    let expected: Vec<f32> = (0..5).map(|row| 2.0 * row as f32 - 1.0 + 0.5).collect();
    let model = world.serving.model("pay", None).await.unwrap();
    let session = model.session(rows.schema_ref(), &[]).unwrap();
    assert_eq!(numbers(&session.score(&rows).unwrap()), expected);
    let status = world.score("pay", table("people"), "paid", &["v"]).await;
    assert_eq!(status.state, JobState::Succeeded, "{:?}", status.error);
    assert_eq!(numbers(&world.read("paid").await), expected);
    for v in ["v", "[v[1], v[2]]"] {
        let sql = format!("SELECT predict('pay', {v}).prediction AS prediction FROM people");
        let query = world.queries.prepare(&sql).await.unwrap();
        let schema = query.schema();
        let answered = query.execute().await.unwrap();
        let answered: Vec<_> = answered.try_collect().await.unwrap();
        let answered = concat_batches(&schema, &answered).unwrap();
        assert_eq!(numbers(&answered), expected, "{v}");
    }
    let sql = "SELECT predict('pay', [1.0, 2.0, 3.0]) FROM people";
    let query = world.queries.prepare(sql).await.unwrap();
    let error = match query.execute().await {
        Ok(rows) => rows.try_collect::<Vec<_>>().await.unwrap_err(),
        Err(error) => error,
    };
    assert!(
        error
            .to_string()
            .contains("\"v\": a row of the query has 3 numbers"),
        "{error}"
    );
}

#[tokio::test]
async fn a_cancelled_scoring_commits_nothing() {
    let world = World::new().await;
    world.put("people", people(100)).await;
    world.regressor("pay", &[]).await;
    // One thread runs this test and the job, so that the job has not begun when it is cancelled.
    let id = world
        .start("pay", table("people"), "paid", &[])
        .await
        .unwrap();
    assert!(world.catalog.jobs.cancel(id));
    assert_eq!(world.end_of(id).await.state, JobState::Cancelled);
    assert_eq!(world.dataset_names().await, ["people"]);
}

#[tokio::test]
async fn loss_and_metrics_are_those_of_the_labelled_rows() {
    let world = World::new().await;
    world.put("people", people(4)).await;
    world.regressor("pay", &[]).await;
    // Predictions are -0.5, 1.5, 3.5, 5.5; the label is the age: 0, 1, 2, 3.
    let errors = [-0.5, 0.5, 1.5, 2.5_f64];
    let source = Source::Query("SELECT *, age AS pay FROM people".to_owned());
    let metrics = ["mae".to_owned()];
    let (found, rows) = world.evaluate("pay", &source, &metrics).await.unwrap();
    let mse = errors.iter().map(|error| error * error).sum::<f64>() / 4.0;
    let mae = errors.iter().map(|error| error.abs()).sum::<f64>() / 4.0;
    assert_eq!(rows, 4);
    let close = |name: &str, expected: f64| {
        let value = found.iter().find(|(key, _)| key.as_str() == name);
        let value = *value.unwrap_or_else(|| panic!("{name} in {found:?}")).1;
        assert!(
            (value - expected).abs() < 1e-5,
            "{name}: {value}, not {expected}"
        );
    };
    close("loss", mse);
    close("mae", mae);

    // Weights 0, 1, 2, 3 by a column: of the loss alone.
    let weighted = async |column: &str, source: &Source| {
        let evaluated =
            world
                .serving
                .evaluate(&world.queries, "pay", None, source, &metrics, Some(column));
        evaluated.await.map_err(|error| error.to_string())
    };
    let (found, _) = weighted("age", &source).await.unwrap();
    let sum: f64 = (0..4)
        .map(|row| f64::from(row) * errors[row as usize].powi(2))
        .sum();
    assert!((found["loss"] - sum / 4.0).abs() < 1e-5, "{found:?}");
    assert!((found["mae"] - mae).abs() < 1e-5, "{found:?}");
    let negative = Source::Query("SELECT *, age AS pay, 2 - age AS less FROM people".to_owned());
    assert_eq!(
        weighted("less", &negative).await.unwrap_err(),
        "the sample weight: column \"less\" holds -1 in row 3; give a column of numbers that are not negative"
    );
    let text = weighted("job", &source).await.unwrap_err();
    assert!(text.contains("column \"job\" has type"), "{text}");
    let missing = weighted("fnlwgt", &source).await.unwrap_err();
    assert!(missing.contains("\"fnlwgt\""), "{missing}");

    let label = label("rich", DataType::Utf8, &["no", "yes"]);
    world.model("rich", CLASSIFIER, label, &[]).await;
    let labelled = |yes: &str| {
        Source::Query(format!(
            "SELECT *, CASE WHEN age >= 1 THEN {yes} ELSE 'no' END AS rich FROM people"
        ))
    };
    // Rows 0 and 1 are told "no" (a probability of exactly one half is the first class), rows 2 and 3 "yes".
    let metrics = ["accuracy".to_owned()];
    let (found, _) = world
        .evaluate("rich", &labelled("'yes'"), &metrics)
        .await
        .unwrap();
    assert_eq!(found["accuracy"], 0.75);
    let unknown = world
        .evaluate("rich", &labelled("'maybe'"), &[])
        .await
        .unwrap_err();
    assert!(
        unknown.to_string().contains("\"maybe\" in row 1"),
        "{unknown}"
    );
    let null = world
        .evaluate("rich", &labelled("NULL"), &[])
        .await
        .unwrap_err();
    assert!(null.to_string().contains("null in row 1"), "{null}");
    let missing = world
        .evaluate("rich", &table("people"), &[])
        .await
        .unwrap_err();
    assert!(missing.to_string().contains("\"rich\""), "{missing}");
    let empty = Source::Query("SELECT *, 'no' AS rich FROM people WHERE age > 99".to_owned());
    let empty = world.evaluate("rich", &empty, &[]).await.unwrap_err();
    assert!(empty.to_string().contains("no rows"), "{empty}");
}

#[tokio::test]
async fn the_newest_version_answers_and_a_removed_one_does_not() {
    let world = World::new().await;
    world.regressor("pay", &[]).await;
    let first = world.serving.model("pay", None).await.unwrap();
    assert!(Arc::ptr_eq(
        &first,
        &world.serving.model("pay", Some(1)).await.unwrap()
    ));
    world.regressor("pay", &[]).await;
    let second = world.serving.model("pay", None).await.unwrap();
    assert_eq!(second.manifest().version, 2);
    world.catalog.models.remove("pay").await.unwrap();
    let removed = world.serving.model("pay", Some(1)).await.unwrap_err();
    assert_eq!(removed.fault(), Fault::NotFound);
    let label = label("pay", DataType::Float64, &[]);
    world.model("pay", CLASSIFIER, label, &[]).await;
    let anew = world.serving.model("pay", Some(1)).await.unwrap();
    assert!(!Arc::ptr_eq(&first, &anew));
}

/// A store, the models of one server and its SQL.
struct World {
    catalog: Catalog,
    serving: Arc<Serving>,
    queries: Arc<QueryEngine>,
    _directory: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = directory.path().join("store");
        let catalog = Catalog::open(store.to_str().unwrap(), "server-1", 0)
            .await
            .unwrap();
        let serving = Serving::new(catalog.clone());
        let limits = QueryLimits {
            memory_bytes: 256 << 20,
            partitions: 2,
            allow_read: Vec::new(),
            spill_directory: directory.path().join("spill"),
        };
        let models: Arc<dyn ModelFunctions> = Arc::<Serving>::clone(&serving);
        let queries = Arc::new(QueryEngine::new(catalog.clone(), models, limits));
        Self {
            catalog,
            serving,
            queries,
            _directory: directory,
        }
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

    async fn read(&self, name: &str) -> RecordBatch {
        let reference = DatasetReference::parse(name).unwrap();
        let dataset = self.catalog.datasets.open(&reference).await.unwrap();
        let batches: Vec<_> = dataset.scan(None).try_collect().await.unwrap();
        concat_batches(&dataset.schema, &batches).unwrap()
    }

    async fn dataset_names(&self) -> Vec<String> {
        let datasets = self.catalog.datasets.list().await.unwrap();
        datasets.into_iter().map(|dataset| dataset.name).collect()
    }

    async fn regressor(&self, name: &str, pipeline: &[Value]) {
        let label = label(name, DataType::Float64, &[]);
        self.model(name, REGRESSOR, label, pipeline).await;
    }

    async fn model(
        &self,
        name: &str,
        layer: (&[f32], &str),
        label: LabelColumn,
        pipeline: &[Value],
    ) {
        let columns = ["age", "hours"];
        self.model_over(&columns, name, layer, label, pipeline)
            .await;
    }

    /// Commits the next version of a Dense layer over `columns`, which are two numbers wide; its pipeline is fitted on
    /// dataset "people".
    async fn model_over(
        &self,
        columns: &[&str],
        name: &str,
        (weights, activation): (&[f32], &str),
        label: LabelColumn,
        pipeline: &[Value],
    ) {
        let source = Source::Query(
            if self.dataset_names().await.contains(&"people".to_owned()) {
                format!("SELECT {} FROM people", columns.join(", "))
            } else {
                "SELECT 1.5::DOUBLE AS age, 1::BIGINT AS hours".to_owned()
            },
        );
        let raw: Vec<String> = columns.iter().map(|name| (*name).to_owned()).collect();
        let spec = PipelineSpec::from_json(pipeline).unwrap();
        let fitted = spec.fit(&self.queries, &source, &raw, None).await.unwrap();
        let network = json!({"format_version": 1, "name": name, "outputs": ["answer"], "layers": [
            {"name": "columns", "layer": "Input", "config": {"columns": columns}},
            {"name": "answer", "layer": "Dense", "config": {"units": 1, "activation": activation}, "inputs": ["columns"]},
        ]});
        let loss = if label.classes.is_empty() {
            "mse"
        } else {
            "binary_crossentropy"
        };
        let array = |name: &str, shape: &[usize], values: &[f32]| NamedArray {
            name: name.to_owned(),
            shape: shape.to_vec(),
            values: values.to_vec(),
        };
        let arrays = [
            array("answer/kernel", &[2, 1], &weights[..2]),
            array("answer/bias", &[1], &weights[2..]),
        ];
        let manifest = ModelManifest {
            format_version: 1,
            name: name.to_owned(),
            version: 0,
            spec: network,
            pipeline: fitted.to_json(),
            label,
            loss: loss.to_owned(),
            metric_names: Vec::new(),
            outputs: Vec::new(),
            metrics: BTreeMap::new(),
            parameters: 3,
            job: JobId::now_v7().to_string(),
            source: "people".to_owned(),
            dataset_version: None,
            seed: 0,
            training: None,
            code_version: "test".to_owned(),
            committed_ms: 0,
        };
        let weights = archive::to_bytes(&arrays).unwrap();
        self.catalog
            .models
            .commit(manifest, weights.into())
            .await
            .unwrap();
    }

    async fn start(
        &self,
        model: &str,
        source: Source,
        into: &str,
        keep: &[&str],
    ) -> Result<JobId, ServingError> {
        let request = ScoreRequest {
            model: model.to_owned(),
            version: None,
            source,
            into: into.to_owned(),
            mode: WriteMode::Error,
            keep: keep.iter().map(|name| (*name).to_owned()).collect(),
            terms: JobTerms::default(),
        };
        self.serving.score(&self.queries, request).await
    }

    async fn end_of(&self, id: JobId) -> JobStatus {
        if let Some(mut watch) = self.catalog.jobs.watch(id) {
            watch
                .wait_for(|status| status.state.is_final())
                .await
                .unwrap();
        }
        self.catalog.jobs.status(id).await.unwrap()
    }

    async fn score(&self, model: &str, source: Source, into: &str, keep: &[&str]) -> JobStatus {
        self.end_of(self.start(model, source, into, keep).await.unwrap())
            .await
    }

    async fn evaluate(
        &self,
        model: &str,
        source: &Source,
        metrics: &[String],
    ) -> Result<(BTreeMap<String, f64>, u64), ServingError> {
        self.serving
            .evaluate(&self.queries, model, None, source, metrics, None)
            .await
    }
}

fn table(name: &str) -> Source {
    Source::Table(DatasetReference::parse(name).unwrap())
}

fn label(name: &str, data_type: DataType, classes: &[&str]) -> LabelColumn {
    LabelColumn {
        name: name.to_owned(),
        data_type: data_type.to_string(),
        classes: classes.iter().map(|class| (*class).to_owned()).collect(),
    }
}

/// `age` 0, 1, 2, ..., `hours` always 1, and `job`, which no model reads.
fn people(rows: usize) -> RecordBatch {
    let ages = Float64Array::from_iter_values((0..rows).map(|row| row as f64));
    let jobs = StringArray::from_iter_values((0..rows).map(|row| format!("job {}", row % 7)));
    RecordBatch::try_from_iter([
        ("age", Arc::new(ages) as ArrayRef),
        ("hours", Arc::new(Int64Array::from(vec![1; rows]))),
        ("job", Arc::new(jobs)),
    ])
    .unwrap()
}

/// The column `prediction` of a regressor.
fn numbers(answers: &RecordBatch) -> Vec<f32> {
    let predictions = answers["prediction"].as_primitive::<Float32Type>();
    assert_eq!(predictions.null_count(), 0);
    predictions.values().to_vec()
}
