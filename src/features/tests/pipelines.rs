//! Fitting and applying, against scikit-learn, pandas and numpy on the census (tests/golden/pipelines/make.py).

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, ListArray, NullArray,
    RecordBatch, StringArray,
};
use arrow::datatypes::{DataType, Float32Type, Int32Type, Int64Type};
use serde_json::{Value, json};

use super::{Bench, bench, bench_with, census, run};
use crate::catalog::{DatasetReference, WriteMode};
use crate::features::{CARDINALITY, FeatureError, FittedPipeline, PipelineSpec, Source};
use crate::support::fault::{Fault, Faulty};

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

/// Rows of four kinds; the last columns are nothing but nulls.
fn with_nothing(rows: usize) -> RecordBatch {
    let text = StringArray::from_iter_values((0..rows).map(|row| format!("t{}", row % 3)));
    RecordBatch::try_from_iter_with_nullable([
        ("text", Arc::new(text) as ArrayRef, true),
        (
            "number",
            Arc::new(Float64Array::from_iter_values(
                (0..rows).map(|row| row as f64),
            )) as ArrayRef,
            true,
        ),
        (
            "flag",
            Arc::new(BooleanArray::from_iter(
                (0..rows).map(|row| Some(row % 2 == 0)),
            )) as ArrayRef,
            true,
        ),
        (
            "count",
            Arc::new(arrow::array::Int32Array::from_iter_values(0..rows as i32)) as ArrayRef,
            true,
        ),
        (
            "no_count",
            Arc::new(arrow::array::Int16Array::from(vec![None; rows])) as ArrayRef,
            true,
        ),
        (
            "no_flag",
            Arc::new(BooleanArray::from(vec![None; rows])) as ArrayRef,
            true,
        ),
        (
            "no_text",
            Arc::new(StringArray::from(vec![None::<&str>; rows])) as ArrayRef,
            true,
        ),
    ])
    .unwrap()
}

async fn with_rows(rows: &[RecordBatch]) -> (Bench, Source) {
    let bench = bench().await;
    bench.put("rows", WriteMode::Error, rows).await;
    let reference = DatasetReference {
        name: "rows".into(),
        version: None,
    };
    (bench, Source::Table(reference))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_of_nothing_but_nulls_is_of_the_models_type_whatever_its_kind() {
    let (bench, source) = with_rows(&[with_nothing(12)]).await;
    let fills = [
        ("text", json!("missing")),
        ("number", json!(2.5)),
        ("flag", json!(true)),
        ("count", json!(7)),
    ];
    let untyped = |name: &str, others: &RecordBatch| {
        let columns = others.schema_ref().fields().iter().zip(others.columns());
        RecordBatch::try_from_iter_with_nullable(columns.map(|(field, column)| {
            let column = if field.name() == name {
                Arc::new(NullArray::new(others.num_rows())) as ArrayRef
            } else {
                Arc::clone(column)
            };
            (field.name().clone(), column, true)
        }))
        .unwrap()
    };
    let one = with_nothing(1);
    for (name, fill) in fills {
        // Imputed and, where it is text, encoded.
        let mut steps = vec![
            json!({"transform": "impute", "columns": [name], "strategy": "constant", "fill_value": fill}),
        ];
        if name == "text" {
            steps.push(json!({"transform": "string_index", "columns": [name]}));
        }
        let fitted = fit(&bench, &source, &[name], json!(steps), None)
            .await
            .unwrap();
        let rows = untyped(name, &one);
        let made = fitted.bind(&rows.schema()).unwrap().apply(&rows).unwrap();
        let made = arrow::compute::cast(made.column(0), &DataType::Float64).unwrap();
        let expected = match name {
            "text" => 0.0,
            "number" => 2.5,
            "flag" => 1.0,
            _ => 7.0,
        };
        let made = made.as_primitive::<arrow::datatypes::Float64Type>();
        assert_eq!(made.values(), &[expected], "{name}");

        // Encoded as the category it is, where nulls may be one.
        if name != "number" {
            let steps = json!([{"transform": "one_hot", "columns": [name]}]);
            let fitted = fit(&bench, &source, &[name], steps, None).await.unwrap();
            let made = fitted.bind(&rows.schema()).unwrap().apply(&rows).unwrap();
            let numbers = made.column(0).as_fixed_size_list().value(0);
            let numbers = numbers.as_primitive::<Float32Type>().values();
            assert_eq!(numbers.last(), Some(&1.0), "{name}: {numbers:?}");
        }
        // Left as it is, it is refused as any null is.
        if name != "text" {
            let fitted = fit(&bench, &source, &[name], json!([]), None)
                .await
                .unwrap();
            let error = fitted
                .bind(&rows.schema())
                .and_then(|applied| applied.apply(&rows))
                .unwrap_err();
            assert_eq!(error.fault(), Fault::InvalidArgument, "{error}");
            assert!(error.to_string().contains("has a null at row 0"), "{error}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn categories_are_learnt_of_columns_of_nothing_but_nulls() {
    let (bench, source) = with_rows(&[with_nothing(12)]).await;
    for name in ["no_count", "no_flag", "no_text"] {
        for (transform, nothing, unseen) in [
            // Null is a category of its own, then the bucket.
            ("one_hot", vec![1.0, 0.0], vec![0.0, 1.0]),
            ("string_index", vec![0.0], vec![0.0]),
        ] {
            let steps = json!([{"transform": transform, "columns": [name]}]);
            let fitted = fit(&bench, &source, &[name], steps, None)
                .await
                .unwrap_or_else(|error| panic!("{transform} of {name}: {error}"));
            let fitted = FittedPipeline::from_json(&fitted.to_json()).unwrap();
            let typed = with_nothing(1);
            let seen = match name {
                "no_count" => Arc::clone(&typed["count"]),
                "no_flag" => Arc::clone(&typed["flag"]),
                _ => Arc::clone(&typed["text"]),
            };
            let later = RecordBatch::try_from_iter([(name, seen)]).unwrap();
            for (rows, expected) in [(&typed, nothing), (&later, unseen)] {
                let made = fitted.bind(&rows.schema()).unwrap().apply(rows).unwrap();
                let made = match made.column(0).as_fixed_size_list_opt() {
                    Some(list) => list.value(0),
                    None => Arc::clone(made.column(0)),
                };
                let made = arrow::compute::cast(&made, &DataType::Float64).unwrap();
                let made = made.as_primitive::<arrow::datatypes::Float64Type>();
                assert_eq!(made.values(), &expected[..], "{transform} of {name}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_learnt_from_is_named_with_its_row_in_large_data_too() {
    const ROWS: usize = 200_000;
    const BAD: usize = 150_000;
    for (value, word) in [(f64::NAN, "is NaN"), (f64::NEG_INFINITY, "is -inf")] {
        let mut numbers: Vec<Option<f64>> = (0..ROWS).map(|row| Some(row as f64)).collect();
        numbers[10] = None;
        numbers[BAD] = Some(value);
        numbers[BAD + 5] = Some(value);
        let numbers: ArrayRef = Arc::new(Float64Array::from(numbers));
        let rows = RecordBatch::try_from_iter([("x", numbers)]).unwrap();
        let parts = [rows.slice(0, 90_000), rows.slice(90_000, ROWS - 90_000)];
        let (bench, source) = with_rows(&parts).await;
        for transform in ["standardize", "min_max"] {
            let steps = json!([{"transform": transform, "columns": ["x"]}]);
            let error = fit(&bench, &source, &["x"], steps, None).await.unwrap_err();
            let said = error.to_string();
            assert!(
                said.contains(&format!("\"x\" {word} at row {BAD};"))
                    && said.contains(&format!("step 1 ({transform})")),
                "{said}"
            );
        }
    }
    let nothing: ArrayRef = Arc::new(Float64Array::from(vec![None, None]));
    let huge: ArrayRef = Arc::new(Float64Array::from(vec![1.7e308, 1.6e308]));
    let rows = RecordBatch::try_from_iter_with_nullable([
        ("nothing", nothing, true),
        ("huge", huge, true),
    ]);
    let (bench, source) = with_rows(&[rows.unwrap()]).await;
    for (name, words) in [("nothing", "has no numbers"), ("huge", "numbers too large")] {
        let steps = json!([{"transform": "standardize", "columns": [name]}]);
        let error = fit(&bench, &source, &[name], steps, None)
            .await
            .unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expression_that_fails_is_told_with_the_row_it_fails_at() {
    let texts = StringArray::from_iter_values((0..1_000).map(|row| {
        if row == 777 || row == 900 {
            "many".to_owned()
        } else {
            row.to_string()
        }
    }));
    let rows = RecordBatch::try_from_iter([("text", Arc::new(texts) as ArrayRef)]).unwrap();
    let (bench, source) = with_rows(&[rows.slice(0, 10)]).await;
    let steps = json!([
        {"transform": "expression", "name": "number", "sql": "CAST(text AS BIGINT)"},
        {"transform": "drop", "columns": ["text"]},
    ]);
    let fitted = fit(&bench, &source, &["text"], steps, None).await.unwrap();
    let applied = fitted.bind(&rows.schema()).unwrap();
    let error = applied.apply(&rows).unwrap_err().from_row(5_000);
    let said = error.to_string();
    assert!(
        said.contains("\"number\" cannot be computed") && said.contains("at row 5777;"),
        "{said}"
    );
}

/// `v` as pairs of float64, and the same as lists of any length.
fn vectors(pairs: &[[f64; 2]]) -> (ArrayRef, ArrayRef) {
    let flat = Float64Array::from_iter_values(pairs.iter().flatten().copied());
    let item = Arc::new(arrow::datatypes::Field::new(
        "element",
        DataType::Float64,
        false,
    ));
    let fixed = arrow::array::FixedSizeListArray::new(item, 2, Arc::new(flat), None);
    let lists = ListArray::from_iter_primitive::<arrow::datatypes::Float64Type, _, _>(
        pairs
            .iter()
            .map(|pair| Some(pair.iter().copied().map(Some).collect::<Vec<_>>())),
    );
    (Arc::new(fixed), Arc::new(lists))
}

#[tokio::test(flavor = "multi_thread")]
async fn vectors_are_features_as_they_are() {
    let pairs = [[1.0, -2.5], [3.0, 0.1], [5.0, 6.0]];
    let (fixed, lists) = vectors(&pairs);
    let ids: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
    let rows = RecordBatch::try_from_iter([("id", ids), ("v", Arc::clone(&fixed))]).unwrap();
    let (bench, source) = with_rows(std::slice::from_ref(&rows)).await;
    let steps = json!([{"transform": "standardize", "columns": ["id"]}]);
    let fitted = fit(&bench, &source, &["id", "v"], steps, None)
        .await
        .unwrap();
    let fitted = FittedPipeline::from_json(&fitted.to_json()).unwrap();
    assert_eq!(fitted.input_schema().field(1).name(), "v");

    let numbers = |rows: &RecordBatch| -> Vec<f32> {
        let made = fitted.bind(&rows.schema()).unwrap().apply(rows).unwrap();
        assert_eq!(made.schema(), fitted.output_schema());
        let list = made["v"].as_fixed_size_list();
        assert_eq!((list.value_length(), list.value_offset(0)), (2, 0));
        list.values()
            .as_primitive::<Float32Type>()
            .values()
            .to_vec()
    };
    assert_eq!(numbers(&rows), [1.0, -2.5, 3.0, 0.1, 5.0, 6.0]);
    assert_eq!(numbers(&rows.slice(1, 2)), [3.0, 0.1, 5.0, 6.0]);
    // As pandas sends them, and narrower numbers.
    let with = |v: ArrayRef| {
        let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..v.len() as i64));
        RecordBatch::try_from_iter_with_nullable([("id", ids, true), ("v", v, true)]).unwrap()
    };
    let lists = with(lists);
    assert_eq!(numbers(&lists), [1.0, -2.5, 3.0, 0.1, 5.0, 6.0]);
    assert_eq!(numbers(&lists.slice(2, 1)), [5.0, 6.0]);
    let whole = arrow::array::FixedSizeListArray::from_iter_primitive::<Int32Type, _, _>(
        [Some(vec![Some(1), Some(2)]), Some(vec![Some(3), Some(4)])],
        2,
    );
    assert_eq!(numbers(&with(Arc::new(whole))), [1.0, 2.0, 3.0, 4.0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn vectors_of_whole_numbers_stay_whole_whatever_type_they_come_as() {
    use arrow::datatypes::{Float64Type, UInt8Type};
    fn fixed<T: arrow::datatypes::ArrowPrimitiveType>(rows: [[T::Native; 2]; 2]) -> RecordBatch {
        let rows = rows.map(|row| Some(row.map(Some)));
        let list = arrow::array::FixedSizeListArray::from_iter_primitive::<T, _, _>(rows, 2);
        let list: ArrayRef = Arc::new(list);
        RecordBatch::try_from_iter_with_nullable([("v", list, true)]).unwrap()
    }
    let fitted = async |rows: RecordBatch| {
        let (bench, source) = with_rows(&[rows]).await;
        let fitted = fit(&bench, &source, &["v"], json!([]), None).await.unwrap();
        FittedPipeline::from_json(&fitted.to_json()).unwrap()
    };
    let apply = |fitted: &FittedPipeline, rows: &RecordBatch| {
        let made = fitted.bind(&rows.schema()).unwrap().apply(rows)?;
        assert_eq!(made.schema(), fitted.output_schema());
        Ok::<_, FeatureError>(Arc::clone(made["v"].as_fixed_size_list().values()))
    };
    // Beyond 2^24, where a float32 would round.
    let large = [[16_777_217, -2], [3, 4]];
    let narrow = fitted(fixed::<Int32Type>(large)).await;
    let wide = fitted(fixed::<Int64Type>(large.map(|row| row.map(i64::from)))).await;
    for rows in [
        fixed::<Int32Type>(large),
        fixed::<Int64Type>(large.map(|row| row.map(i64::from))),
        fixed::<Float64Type>(large.map(|row| row.map(f64::from))),
    ] {
        let made = apply(&narrow, &rows).unwrap();
        assert_eq!(
            made.as_primitive::<Int32Type>().values()[..],
            [16_777_217, -2, 3, 4]
        );
        let made = apply(&wide, &rows.slice(1, 1)).unwrap();
        assert_eq!(made.as_primitive::<Int64Type>().values()[..], [3, 4]);
    }
    let bytes = fitted(fixed::<UInt8Type>([[0, 255], [7, 8]])).await;
    let made = apply(&bytes, &fixed::<UInt8Type>([[0, 255], [7, 8]])).unwrap();
    assert_eq!(
        made.as_primitive::<Int32Type>().values()[..],
        [0, 255, 7, 8]
    );
    let refused = |rows: RecordBatch| {
        let error = apply(&narrow, &rows).unwrap_err();
        assert_eq!(error.fault(), Fault::InvalidArgument, "{error}");
        error.to_string()
    };
    let said = refused(fixed::<Float64Type>([[1.0, 2.0], [1.5, f64::NAN]]));
    assert!(
        said.contains("\"v\" has 1.5 at row 1 where the model was trained on integers;"),
        "{said}"
    );
    let said = refused(fixed::<Int64Type>([[1, 2], [3, 1 << 40]]));
    assert!(
        said.contains("\"v\" has 1099511627776 at row 1 where the model was trained on integers of fewer bits;"),
        "{said}"
    );
    assert!(
        refused(fixed::<Float64Type>([[f64::INFINITY, 0.0], [0.5, 0.0]]))
            .contains("has inf at row 0")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vector_that_cannot_be_read_is_refused_by_name_and_row() {
    type Row = Option<Vec<Option<f64>>>;
    let fixed = |rows: Vec<Row>| -> ArrayRef {
        Arc::new(arrow::array::FixedSizeListArray::from_iter_primitive::<
            arrow::datatypes::Float64Type,
            _,
            _,
        >(rows, 2))
    };
    let lists = |rows: Vec<Row>| -> ArrayRef {
        Arc::new(ListArray::from_iter_primitive::<
            arrow::datatypes::Float64Type,
            _,
            _,
        >(rows))
    };
    let good = || Some(vec![Some(1.0), Some(2.0)]);
    let table = RecordBatch::try_from_iter_with_nullable([
        ("v", fixed(vec![good(), good()]), true),
        ("loose", lists(vec![good(), good()]), true),
    ]);
    let (bench, source) = with_rows(&[table.unwrap()]).await;
    let fitted = fit(&bench, &source, &["v"], json!([]), None).await.unwrap();
    let refuse = |v: ArrayRef| {
        // A slice, whose values do not begin at 0.
        let rows = RecordBatch::try_from_iter_with_nullable([("v", v, true)]).unwrap();
        let rows = rows.slice(1, rows.num_rows() - 1);
        let error = fitted
            .bind(&rows.schema())
            .and_then(|applied| applied.apply(&rows))
            .unwrap_err();
        assert_eq!(error.fault(), Fault::InvalidArgument, "{error}");
        error.to_string()
    };
    let each = |bad: Row| vec![good(), good(), bad];
    assert!(refuse(fixed(each(None))).contains("\"v\" has a null at row 1; leave"));
    assert!(refuse(lists(each(None))).contains("\"v\" has a null at row 1;"));
    let inside = each(Some(vec![Some(1.0), None]));
    assert!(refuse(fixed(inside)).contains("\"v\" has a null in the vector at row 1;"));
    let infinite = each(Some(vec![Some(1.0), Some(f64::INFINITY)]));
    assert!(refuse(fixed(infinite)).contains("\"v\" is inf at row 1;"));
    let beyond = each(Some(vec![Some(1e300), Some(0.0)]));
    assert!(refuse(fixed(beyond)).contains("is 1e300 at row 1, which is beyond float32"));
    let long = each(Some(vec![Some(1.0); 3]));
    let said = refuse(lists(long));
    assert!(said.contains("\"v\" has 3 numbers at row 1"), "{said}");
    let wide: ArrayRef = Arc::new(arrow::array::FixedSizeListArray::from_iter_primitive::<
        Int32Type,
        _,
        _,
    >([Some(vec![Some(1); 3]), Some(vec![Some(1); 3])], 3));
    assert!(refuse(wide).contains("the model was trained on FixedSizeList(2"));

    // Transforms take numbers one by one; lists of any length become vectors by an expression.
    let steps = json!([{"transform": "standardize", "columns": ["v"]}]);
    let error = fit(&bench, &source, &["v"], steps, None).await.unwrap_err();
    assert!(
        error.to_string().contains("is vectors of 2 numbers"),
        "{error}"
    );
    let error = fit(&bench, &source, &["loose"], json!([]), None)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("arrow_cast(v, "), "{error}");
    let steps = json!([
        {"transform": "expression", "name": "loose", "sql": "arrow_cast(loose, 'FixedSizeList(2 x Float64)')"},
    ]);
    let fitted = fit(&bench, &source, &["loose"], steps, None).await.unwrap();
    let counted = (0..4).map(|row| Some(vec![Some(f64::from(row)), Some(0.5)]));
    let rows = RecordBatch::try_from_iter([("loose", lists(counted.collect()))]).unwrap();
    let rows = rows.slice(2, 2);
    let made = fitted.bind(&rows.schema()).unwrap().apply(&rows).unwrap();
    let made = made.column(0).as_fixed_size_list().values();
    let made = made.as_primitive::<Float32Type>().values();
    assert_eq!(made, &[2.0, 0.5, 3.0, 0.5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn whole_numbers_of_any_width_are_floats_where_a_model_learnt_floats() {
    let floats: ArrayRef = Arc::new(Float64Array::from(vec![3.0, 0.0, 7.0]));
    let rows = RecordBatch::try_from_iter([("x", Arc::clone(&floats))]).unwrap();
    let (bench, source) = with_rows(std::slice::from_ref(&rows)).await;
    for steps in [
        json!([]),
        json!([{"transform": "standardize", "columns": ["x"]}]),
    ] {
        let fitted = fit(&bench, &source, &["x"], steps.clone(), None)
            .await
            .unwrap();
        let reference = fitted.bind(&rows.schema()).unwrap().apply(&rows).unwrap();
        for whole in [
            DataType::Int8,
            DataType::UInt16,
            DataType::Int32,
            DataType::UInt64,
            DataType::Float32,
            DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Int64)),
        ] {
            let column = arrow::compute::cast(&floats, &whole).unwrap();
            let rows = RecordBatch::try_from_iter([("x", column)]).unwrap();
            let bound = fitted.bind(&rows.schema()).unwrap();
            assert_eq!(bound.apply(&rows).unwrap(), reference, "{whole} {steps}");
        }
    }
}
