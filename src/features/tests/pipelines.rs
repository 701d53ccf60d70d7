//! Fitting and applying, against scikit-learn, pandas and numpy on the census (tests/golden/pipelines/make.py).

use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, NullArray, RecordBatch, StringArray,
};
use arrow::datatypes::{DataType, Float32Type, Int32Type, Int64Type};
use serde_json::{Value, json};

use super::{Bench, bench, bench_with, census, run};
use crate::catalog::{DatasetReference, WriteMode};
use crate::features::{CARDINALITY, FeatureError, FittedPipeline, PipelineSpec, Source};

const GOLDEN: &str = include_str!("../../../tests/golden/pipelines/census.json");

async fn fit(
    bench: &Bench,
    source: &Source,
    features: &[&str],
    steps: Value,
    filter: Option<&str>,
) -> Result<FittedPipeline, FeatureError> {
    let features: Vec<String> = features.iter().map(|name| (*name).to_owned()).collect();
    PipelineSpec::from_json(steps.as_array().unwrap())?
        .fit(&bench.engine, source, &features, filter)
        .await
}

fn texts(value: &Value) -> Vec<&str> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|text| text.as_str().unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_transform_agrees_with_its_reference_on_the_census() {
    let golden: Value = serde_json::from_str(GOLDEN).unwrap();
    let rows: Vec<usize> = golden["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row.as_u64().unwrap() as usize)
        .collect();
    let bench = bench().await;
    let census_rows = run(bench.engine.open(&census()).await.unwrap())
        .await
        .unwrap();
    for case in golden["cases"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let fitted = fit(
            &bench,
            &census(),
            &texts(&case["features"]),
            case["steps"].clone(),
            case["filter"].as_str(),
        )
        .await
        .unwrap_or_else(|error| panic!("{name}: {error}"));
        let made = fitted
            .bind(&census_rows.schema())
            .and_then(|applied| applied.apply(&census_rows))
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let expected = case["expected"].as_object().unwrap();
        assert_eq!(made.num_columns(), expected.len(), "{name}");
        for (column, expected) in expected {
            compare(
                name,
                column,
                made.column_by_name(column).unwrap(),
                expected,
                &rows,
            );
        }
    }
}

fn compare(case: &str, column: &str, made: &ArrayRef, expected: &Value, rows: &[usize]) {
    if let Some(floats) = expected.get("floats") {
        let made = arrow::compute::cast(made, &DataType::Float32).unwrap();
        let made = made.as_primitive::<Float32Type>();
        for (row, expected) in rows.iter().zip(floats.as_array().unwrap()) {
            let (got, expected) = (f64::from(made.value(*row)), expected.as_f64().unwrap());
            assert!(
                (got - expected).abs() <= 1e-6 * expected.abs().max(1.0),
                "{case}, {column}, row {row}: {got} and not {expected}"
            );
        }
    } else if let Some(indices) = expected.get("indices") {
        let made = made.as_primitive::<Int32Type>();
        for (row, expected) in rows.iter().zip(indices.as_array().unwrap()) {
            assert_eq!(
                i64::from(made.value(*row)),
                expected.as_i64().unwrap(),
                "{case}, {column}, row {row}"
            );
        }
    } else {
        let lists = made.as_fixed_size_list();
        let slots = expected["slots"].as_u64().unwrap() as usize;
        assert_eq!(lists.value_length() as usize, slots, "{case}, {column}");
        let numbers = lists.values().as_primitive::<Float32Type>().values();
        for (row, place) in rows.iter().zip(expected["places"].as_array().unwrap()) {
            let place = place.as_i64().unwrap();
            for (slot, number) in numbers[row * slots..(row + 1) * slots].iter().enumerate() {
                let expected = f32::from(u8::from(slot as i64 == place));
                assert_eq!(
                    *number, expected,
                    "{case}, {column}, row {row}, slot {slot}"
                );
            }
        }
    }
}

fn census_steps() -> Value {
    json!([
        {"transform": "impute", "columns": ["age", "hours_per_week"], "strategy": "median"},
        {"transform": "log1p", "columns": ["capital_gain"]},
        {"transform": "standardize", "columns": ["age", "capital_gain", "hours_per_week"]},
        {"transform": "one_hot", "columns": ["workclass", "sex"]},
        {"transform": "string_index", "columns": ["occupation"]},
        {"transform": "cross", "columns": ["education", "race"], "name": "who", "buckets": 100.0},
        {"transform": "drop", "columns": ["education", "race"]},
    ])
}

const CENSUS_FEATURES: [&str; 8] = [
    "age",
    "capital_gain",
    "hours_per_week",
    "workclass",
    "sex",
    "occupation",
    "education",
    "race",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_has_the_same_bits_from_any_fit_saved_and_in_any_batch() {
    let bench = bench().await;
    let rows = run(bench.engine.open(&census()).await.unwrap())
        .await
        .unwrap();
    let fitted = fit(&bench, &census(), &CENSUS_FEATURES, census_steps(), None)
        .await
        .unwrap();
    let whole = fitted.bind(&rows.schema()).unwrap().apply(&rows).unwrap();
    assert_eq!(whole.schema(), fitted.output_schema());

    let other = bench_with(1 << 30, 7).await;
    let again = fit(&other, &census(), &CENSUS_FEATURES, census_steps(), None)
        .await
        .unwrap();
    assert_eq!(again, fitted);

    let text = serde_json::to_string(&fitted.to_json()).unwrap();
    let saved = FittedPipeline::from_json(&serde_json::from_str(&text).unwrap()).unwrap();
    assert_eq!(saved, fitted);
    assert_eq!(saved.input_schema(), fitted.input_schema());
    assert_eq!(saved.output_schema(), fitted.output_schema());
    let applied = saved.bind(&rows.schema()).unwrap();
    assert_eq!(applied.apply(&rows).unwrap(), whole);
    let mut from = 0;
    for length in [1, 7, 1_000, 30_000, 1_553] {
        let part = applied.apply(&rows.slice(from, length)).unwrap();
        assert_eq!(part, whole.slice(from, length));
        from += length;
    }
    assert_eq!(applied.apply(&rows.slice(0, 0)).unwrap().num_rows(), 0);
    let who = whole.schema();
    let who = who.field_with_name("who").unwrap();
    assert_eq!(who.metadata()[CARDINALITY], "100");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dataset_a_query_and_a_path_fit_alike() {
    let bench = bench().await;
    let rows = run(bench.engine.open(&census()).await.unwrap())
        .await
        .unwrap();
    bench.put("census", WriteMode::Error, &[rows]).await;
    let table = Source::Table(DatasetReference {
        name: "census".into(),
        version: Some(0),
    });
    let query = Source::Query("SELECT c.*, 1 AS one FROM census c".into());
    let mut fits = Vec::new();
    for source in [census(), table, query] {
        fits.push(
            fit(
                &bench,
                &source,
                &CENSUS_FEATURES,
                census_steps(),
                Some("age < 80"),
            )
            .await
            .unwrap(),
        );
    }
    assert_eq!(fits[0].to_json()["steps"], fits[1].to_json()["steps"]);
    assert_eq!(fits[1], fits[2]);
}

fn small() -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable([
        (
            "number",
            Arc::new(Float64Array::from(vec![
                Some(1.5),
                None,
                Some(f64::NAN),
                Some(4.0),
            ])) as ArrayRef,
            true,
        ),
        (
            "count",
            Arc::new(Int64Array::from(vec![1, 2, 3, 4])) as ArrayRef,
            true,
        ),
        (
            "flag",
            Arc::new(BooleanArray::from(vec![true, false, true, true])) as ArrayRef,
            true,
        ),
        (
            "text",
            Arc::new(StringArray::from(vec!["a", "b", "a", "c"])) as ArrayRef,
            true,
        ),
        (
            "Mixed",
            Arc::new(Int64Array::from(vec![1, 1, 1, 1])) as ArrayRef,
            true,
        ),
        (
            "when",
            Arc::new(arrow::array::Date32Array::from(vec![0, 400, 800, 1200])) as ArrayRef,
            true,
        ),
    ])
    .unwrap()
}

async fn with_small() -> (Bench, Source) {
    let bench = bench().await;
    bench.put("small", WriteMode::Error, &[small()]).await;
    (
        bench,
        Source::Table(DatasetReference {
            name: "small".into(),
            version: None,
        }),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_pipeline_passes_numbers_and_booleans() {
    let (bench, source) = with_small().await;
    let fitted = fit(
        &bench,
        &source,
        &["flag", "count", "Mixed"],
        json!([]),
        None,
    )
    .await
    .unwrap();
    let made = fitted
        .bind(&small().schema())
        .unwrap()
        .apply(&small())
        .unwrap();
    assert_eq!(
        made.column(0).as_primitive::<Float32Type>().values(),
        &[1.0, 0.0, 1.0, 1.0]
    );
    assert_eq!(
        made.column(1).as_primitive::<Int64Type>().values(),
        &[1, 2, 3, 4]
    );
    assert!(
        made.schema()
            .fields()
            .iter()
            .all(|field| !field.is_nullable())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nulls_nans_and_text_that_are_left_are_refused_by_name() {
    let (bench, source) = with_small().await;
    let fitted = fit(&bench, &source, &["number"], json!([]), None)
        .await
        .unwrap();
    let applied = fitted.bind(&small().schema()).unwrap();
    let said = |batch: &RecordBatch| applied.apply(batch).unwrap_err().to_string();
    assert!(
        said(&small()).contains("column \"number\" has a null at row 1; impute"),
        "{}",
        said(&small())
    );
    assert!(said(&small().slice(2, 2)).contains("is NaN at row 0"));
    let imputed = json!([{"transform": "impute", "columns": ["number"], "strategy": "mean"}]);
    let fitted = fit(&bench, &source, &["number"], imputed, None)
        .await
        .unwrap();
    let made = fitted
        .bind(&small().schema())
        .unwrap()
        .apply(&small())
        .unwrap();
    assert_eq!(
        made.column(0)
            .as_primitive::<Float32Type>()
            .values()
            .to_vec(),
        [1.5, 2.75, 2.75, 4.0]
    );

    let error = fit(&bench, &source, &["count", "text"], json!([]), None)
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("column \"text\" is text")
            && error.to_string().contains("one_hot"),
        "{error}"
    );
    let error = fit(&bench, &source, &["when"], json!([]), None)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("Date32"), "{error}");
    let nan = json!([{"transform": "standardize", "columns": ["number"]}]);
    let error = fit(&bench, &source, &["number"], nan, None)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("impute"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_are_named_with_their_step() {
    let (bench, source) = with_small().await;
    for (steps, said) in [
        (
            json!([{"transform": "standardize", "columns": ["absent"]}]),
            "\"absent\" (pipeline step 1, standardize)",
        ),
        (
            json!([{"transform": "drop", "columns": ["text"]}, {"transform": "one_hot", "columns": ["text"]}]),
            "\"text\" (pipeline step 2, one_hot)",
        ),
        (
            json!([{"transform": "standardize", "columns": ["text"]}]),
            "column \"text\" is text, and standardize takes numbers",
        ),
        (
            json!([{"transform": "one_hot", "columns": ["number"]}]),
            "bucketize",
        ),
        (
            json!([{"transform": "impute", "columns": ["text"], "strategy": "mean"}]),
            "most_frequent",
        ),
        (
            json!([{"transform": "impute", "columns": ["text"], "strategy": "constant", "fill_value": 3}]),
            "of the column's type",
        ),
        (
            json!([{"transform": "expression", "name": "x", "sql": "absent + 1"}]),
            "\"absent\" (pipeline step 1, expression)",
        ),
        (
            json!([{"transform": "expression", "name": "x", "sql": "count +"}]),
            "step 1 (expression)",
        ),
        (
            json!([{"transform": "expression", "name": "x", "sql": "sum(count)"}]),
            "an aggregate",
        ),
        (
            json!([{"transform": "expression", "name": "x", "sql": "random()"}]),
            "more than its arguments",
        ),
        (
            json!([{"transform": "expression", "name": "x", "sql": "now()"}]),
            "more than its arguments",
        ),
        (
            json!([{"transform": "expression", "name": "x", "sql": "(SELECT 1)"}]),
            "step 1 (expression)",
        ),
        (
            json!([{"transform": "expression", "name": "x", "sql": "\"when\""}]),
            "CAST it",
        ),
    ] {
        let error = fit(
            &bench,
            &source,
            &["count", "number", "text", "when"],
            steps.clone(),
            None,
        )
        .await
        .unwrap_err();
        assert!(error.to_string().contains(said), "{steps}: {error}");
    }
    let error = fit(&bench, &source, &["height"], json!([]), None)
        .await
        .unwrap_err();
    assert!(
        matches!(error, FeatureError::UnknownColumn { .. }),
        "{error}"
    );
    let error = fit(&bench, &source, &["count"], json!([]), Some("count > 10"))
        .await
        .unwrap_err();
    assert!(matches!(error, FeatureError::NoRows { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_bind_by_name_in_any_order_and_any_type_that_fits() {
    let (bench, source) = with_small().await;
    let steps = json!([{"transform": "one_hot", "columns": ["text"]}, {"transform": "drop", "columns": ["when"]}]);
    let fitted = fit(
        &bench,
        &source,
        &["count", "text", "flag", "when"],
        steps,
        None,
    )
    .await
    .unwrap();
    let names: Vec<String> = fitted
        .input_schema()
        .fields()
        .iter()
        .map(|field| field.name().clone())
        .collect();
    assert_eq!(names, ["count", "text", "flag"]);
    let reference = fitted
        .bind(&small().schema())
        .unwrap()
        .apply(&small())
        .unwrap();

    let texts: arrow::array::DictionaryArray<Int32Type> =
        vec!["a", "b", "a", "c"].into_iter().collect();
    let shuffled = RecordBatch::try_from_iter([
        ("extra", Arc::new(NullArray::new(4)) as ArrayRef),
        (
            "flag",
            Arc::new(BooleanArray::from(vec![true, false, true, true])) as ArrayRef,
        ),
        ("text", Arc::new(texts) as ArrayRef),
        (
            "count",
            Arc::new(Float64Array::from(vec![1.0, 2.0, 3.0, 4.0])) as ArrayRef,
        ),
    ])
    .unwrap();
    let made = fitted
        .bind(&shuffled.schema())
        .unwrap()
        .apply(&shuffled)
        .unwrap();
    assert_eq!(made, reference);

    let fraction = RecordBatch::try_from_iter([
        ("flag", Arc::new(BooleanArray::from(vec![true])) as ArrayRef),
        ("text", Arc::new(NullArray::new(1)) as ArrayRef),
        (
            "count",
            Arc::new(Float64Array::from(vec![1.25])) as ArrayRef,
        ),
    ])
    .unwrap();
    let error = fitted
        .bind(&fraction.schema())
        .unwrap()
        .apply(&fraction)
        .unwrap_err();
    assert!(
        error.to_string().contains("\"count\" has 1.25 at row 0"),
        "{error}"
    );

    let error = fitted
        .bind(&small().project(&[0, 3]).unwrap().schema())
        .unwrap_err();
    assert!(
        error.to_string().contains("\"count\"") && error.to_string().contains("\"flag\""),
        "{error}"
    );
    let wrong = RecordBatch::try_from_iter([
        ("flag", Arc::new(BooleanArray::from(vec![true])) as ArrayRef),
        ("text", Arc::new(Int64Array::from(vec![1])) as ArrayRef),
        ("count", Arc::new(Int64Array::from(vec![1])) as ArrayRef),
    ])
    .unwrap();
    let error = fitted.bind(&wrong.schema()).unwrap_err();
    assert!(
        error.to_string().contains("column \"text\" is Int64"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn dates_are_features_through_an_expression() {
    let (bench, source) = with_small().await;
    let steps = json!([
        {"transform": "expression", "name": "year", "sql": "date_part('year', \"when\")"},
        {"transform": "drop", "columns": ["when"]},
    ]);
    let fitted = fit(&bench, &source, &["when"], steps, None).await.unwrap();
    let saved = FittedPipeline::from_json(&fitted.to_json()).unwrap();
    let made = saved
        .bind(&small().schema())
        .unwrap()
        .apply(&small())
        .unwrap();
    assert_eq!(
        made.column(0).as_primitive::<Int64Type>().values(),
        &[1970, 1971, 1972, 1973]
    );
    assert_eq!(saved.input_schema().field(0).data_type(), &DataType::Date32);
}

#[test]
fn a_saved_pipeline_that_was_altered_is_refused() {
    for altered in [
        json!({}),
        json!({"format_version": 99, "columns": [], "steps": []}),
        json!({"format_version": 1, "columns": [{"name": "a", "type": "Int99"}], "steps": []}),
        json!({"format_version": 1, "columns": [{"name": "a", "type": "Int64"}], "steps": [{"transform": "standardize", "column": "a", "shift": 1, "scale": "x"}]}),
        json!({"format_version": 1, "columns": [{"name": "a", "type": "Int64"}], "steps": [{"transform": "standardize", "column": "b", "shift": "1", "scale": "1"}]}),
    ] {
        assert!(FittedPipeline::from_json(&altered).is_err(), "{altered}");
    }
}

#[test]
fn floats_are_saved_to_the_bit() {
    for number in [
        0.1 + 0.2,
        1.0 / 3.0,
        5e-324,
        f64::MAX,
        -0.0,
        38.581_646_755_320_78,
    ] {
        let value = json!({
            "format_version": 1,
            "columns": [{"name": "a", "type": "Float64"}],
            "steps": [{"transform": "standardize", "column": "a", "shift": format!("{number:?}"), "scale": "1.0"}],
        });
        let text = FittedPipeline::from_json(&value)
            .unwrap()
            .to_json()
            .to_string();
        let back: Value = serde_json::from_str(&text).unwrap();
        let shift: f64 = back["steps"][0]["shift"].as_str().unwrap().parse().unwrap();
        assert_eq!(shift.to_bits(), number.to_bits());
    }
}
