//! Queries over a store.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, DictionaryArray, FixedSizeListArray, Float32Array, Int64Array, ListArray,
    RecordBatch, StringArray, StringViewArray, UInt8Array, UInt64Array,
};
use arrow::datatypes::{DataType, Field, Float32Type, Float64Type, Int32Type, Int64Type, Schema};
use futures::StreamExt;

use super::{Bench, bench, bench_with, census, run, schema_of};
use crate::catalog::{CatalogError, DatasetReference, WriteMode};
use crate::features::{FeatureError, Source};
use crate::support::fault::{Fault, Faulty};

fn people(from: i64, to: i64) -> RecordBatch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(from..to)),
        Arc::new(StringArray::from_iter_values(
            (from..to).map(|id| format!("person {id}")),
        )),
        Arc::new(Int64Array::from_iter((from..to).map(|id| {
            if id % 10 == 0 {
                None
            } else {
                Some(20 + id % 50)
            }
        }))),
    ];
    RecordBatch::try_new(
        schema_of(&[
            ("id", DataType::Int64, false),
            ("name", DataType::Utf8, false),
            ("Age", DataType::Int64, true),
        ]),
        columns,
    )
    .unwrap()
}

async fn with_people() -> Bench {
    let bench = bench().await;
    bench
        .put("people", WriteMode::Error, &[people(0, 1_000)])
        .await;
    bench
        .put("people", WriteMode::Append, &[people(1_000, 1_500)])
        .await;
    bench
}

#[tokio::test(flavor = "multi_thread")]
async fn datasets_and_their_versions_are_tables() {
    let bench = with_people().await;
    assert_eq!(bench.texts("SELECT count(*) FROM people").await, ["1500"]);
    assert_eq!(
        bench.texts("SELECT count(*) FROM \"people@0\"").await,
        ["1000"]
    );
    assert_eq!(
        bench
            .texts("SELECT name FROM volary.public.people WHERE id = 1200")
            .await,
        ["person 1200"]
    );
    assert_eq!(
        bench
            .texts("SELECT count(*) FROM people p JOIN \"people@0\" q ON p.id = q.id WHERE p.id < 10 OR p.id > 990")
            .await,
        ["19"]
    );
    assert_eq!(
        bench.texts("SELECT name FROM people LIMIT 3").await.len(),
        3
    );
    assert_eq!(
        bench
            .texts("WITH t AS (SELECT * FROM people) SELECT sum(id) FROM t WHERE \"Age\" IS NULL")
            .await,
        [(0..150).map(|ten| ten * 10).sum::<i64>().to_string()]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_catalogue_describes_itself() {
    let bench = with_people().await;
    bench.put("zoo", WriteMode::Error, &[people(0, 1)]).await;
    let tables =
        "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public' ORDER BY 1";
    assert_eq!(bench.texts(tables).await, ["people", "zoo"]);
    let shown = bench.sql("SHOW TABLES").await.unwrap();
    assert!(shown.num_rows() >= 2);
    let columns = bench.sql("SHOW COLUMNS FROM people").await.unwrap();
    assert_eq!(columns.num_rows(), 3);
    assert_eq!(bench.texts("DESCRIBE people").await, ["id", "name", "Age"]);
    let plan = bench.sql("EXPLAIN SELECT * FROM people").await.unwrap();
    assert!(plan.num_rows() > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_exist_is_named() {
    let bench = with_people().await;
    let error = bench.refusal("SELECT * FROM nobody").await;
    assert!(
        matches!(
            error,
            FeatureError::Catalog(CatalogError::UnknownDataset { .. })
        ),
        "{error:?}"
    );
    let error = bench.refusal("SELECT * FROM \"people@7\"").await;
    assert!(
        matches!(
            error,
            FeatureError::Catalog(CatalogError::UnknownDatasetVersion { .. })
        ),
        "{error:?}"
    );
    let error = bench.refusal("SELECT height FROM people").await;
    assert!(
        matches!(error, FeatureError::UnknownColumn { .. }),
        "{error:?}"
    );
    assert!(error.to_string().contains("\"name\""), "{error}");
    let error = bench.refusal("SELECT age FROM people").await;
    assert!(
        error.to_string().contains("but \"Age\"; SQL lower-cases"),
        "{error}"
    );
    let error = bench.refusal("SELECT nofunction(id) FROM people").await;
    assert_eq!(error.fault(), Fault::InvalidArgument, "{error}");
    let error = bench.refusal("SELECT 1 / (id - id) FROM people").await;
    assert_eq!(error.fault(), Fault::InvalidArgument, "{error}");
    let error = bench.refusal("SELECT CAST(name AS INT) FROM people").await;
    assert_eq!(error.fault(), Fault::InvalidArgument, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_file_is_reached_from_sql() {
    let bench = with_people().await;
    let file = super::examples().join("census_train.parquet");
    let file = file.to_str().unwrap();
    for sql in [
        format!("SELECT * FROM '{file}'"),
        format!("SELECT * FROM \"{file}\""),
        "SELECT * FROM '/etc/passwd.parquet'".to_owned(),
        "SELECT * FROM \"file:///etc/passwd\"".to_owned(),
        format!("SELECT * FROM read_parquet('{file}')"),
        format!("COPY people TO '{file}.copy'"),
        format!("CREATE EXTERNAL TABLE t STORED AS PARQUET LOCATION '{file}'"),
    ] {
        let error = bench.refusal(&sql).await;
        assert_eq!(error.fault(), Fault::InvalidArgument, "{sql}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_are_typed_and_bound() {
    let bench = with_people().await;
    let query = bench
        .engine
        .prepare("SELECT name FROM people WHERE id > ? AND name <> ? ORDER BY id LIMIT 2")
        .await
        .unwrap();
    let types: Vec<DataType> = query
        .parameters()
        .fields()
        .iter()
        .map(|field| field.data_type().clone())
        .collect();
    assert_eq!(types, [DataType::Int64, DataType::Utf8]);
    assert_eq!(query.schema().field(0).name(), "name");
    let values = RecordBatch::try_from_iter([
        (
            "a",
            Arc::new(arrow::array::Int32Array::from(vec![41])) as ArrayRef,
        ),
        (
            "b",
            Arc::new(StringArray::from(vec!["person 42"])) as ArrayRef,
        ),
    ])
    .unwrap();
    let unbound = bench
        .engine
        .prepare("SELECT name FROM people WHERE id > $1")
        .await
        .unwrap();
    assert!(run(unbound).await.unwrap_err().to_string().contains("bind"));
    let answer = run(query.bind(&values).unwrap()).await.unwrap();
    let names: Vec<_> = answer
        .column(0)
        .as_string::<i32>()
        .iter()
        .flatten()
        .collect();
    assert_eq!(names, ["person 43", "person 44"]);
    let wrong = bench
        .engine
        .prepare("SELECT name FROM people WHERE id > $1")
        .await
        .unwrap()
        .bind(&values)
        .unwrap_err();
    assert!(wrong.to_string().contains("parameters is 1"), "{wrong}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_comes_out_plain_and_as_it_went_in() {
    let bench = bench().await;
    let dictionary: DictionaryArray<Int32Type> =
        vec![Some("a"), None, Some("b")].into_iter().collect();
    let lists = FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(
        vec![
            Some(vec![Some(1.0), Some(2.0)]),
            Some(vec![Some(3.0), None]),
            None,
        ],
        2,
    );
    let ragged = ListArray::from_iter_primitive::<Int64Type, _, _>(vec![
        Some(vec![Some(1), None]),
        None,
        Some(vec![]),
    ]);
    let columns: Vec<(&str, ArrayRef)> = vec![
        (
            "u8",
            Arc::new(UInt8Array::from(vec![Some(255), None, Some(0)])),
        ),
        (
            "u64",
            Arc::new(UInt64Array::from(vec![Some(u64::MAX), None, Some(0)])),
        ),
        ("dictionary", Arc::new(dictionary)),
        (
            "view",
            Arc::new(StringViewArray::from(vec![
                Some("x"),
                None,
                Some("a longer text than twelve bytes"),
            ])),
        ),
        ("fixed", Arc::new(lists.clone())),
        ("ragged", Arc::new(ragged.clone())),
        (
            "interval",
            Arc::new(arrow::array::IntervalMonthDayNanoArray::from(vec![
                Some(arrow::datatypes::IntervalMonthDayNano::new(1, 2, 3)),
                None,
                None,
            ])),
        ),
        (
            "duration",
            Arc::new(arrow::array::DurationNanosecondArray::from(vec![
                Some(5),
                None,
                None,
            ])),
        ),
        (
            "half",
            Arc::new(arrow::array::Float16Array::from(vec![
                Some(half_of(1.5)),
                None,
                None,
            ])),
        ),
        (
            "time",
            Arc::new(
                arrow::array::TimestampNanosecondArray::from(vec![Some(1_001), None, None])
                    .with_timezone("Europe/Berlin"),
            ),
        ),
        ("nothing", Arc::new(arrow::array::NullArray::new(3))),
        (
            "wide",
            Arc::new(
                arrow::array::Decimal256Array::from(vec![
                    Some(arrow::datatypes::i256::from_i128(7)),
                    None,
                    None,
                ])
                .with_precision_and_scale(60, 2)
                .unwrap(),
            ),
        ),
    ];
    let fields: Vec<Field> = columns
        .iter()
        .map(|(name, column)| Field::new(*name, column.data_type().clone(), true))
        .collect();
    let rows = RecordBatch::try_new(
        Arc::new(Schema::new(fields)),
        columns
            .iter()
            .map(|(_, column)| Arc::clone(column))
            .collect(),
    )
    .unwrap();
    bench
        .put("types", WriteMode::Error, std::slice::from_ref(&rows))
        .await;

    let source = Source::Table(DatasetReference {
        name: "types".into(),
        version: None,
    });
    for answer in [
        bench.sql("SELECT * FROM types").await.unwrap(),
        run(bench.engine.open(&source).await.unwrap())
            .await
            .unwrap(),
    ] {
        for (name, column) in &columns {
            let plain = match *name {
                "dictionary" | "view" => arrow::compute::cast(column, &DataType::Utf8).unwrap(),
                _ => Arc::clone(column),
            };
            assert_eq!(answer.column_by_name(name).unwrap(), &plain, "{name}");
        }
    }
    let filtered = bench
        .sql("SELECT fixed, u8 FROM types WHERE u8 = 255 AND fixed IS NOT NULL")
        .await
        .unwrap();
    assert_eq!(filtered.num_rows(), 1);
    assert_eq!(
        bench
            .texts("SELECT dictionary FROM types WHERE dictionary = 'b'")
            .await,
        ["b"]
    );
}

fn half_of(
    number: f32,
) -> <arrow::datatypes::Float16Type as arrow::datatypes::ArrowPrimitiveType>::Native {
    let half = arrow::compute::cast(&Float32Array::from(vec![number]), &DataType::Float16).unwrap();
    half.as_primitive::<arrow::datatypes::Float16Type>()
        .value(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_without_nulls_is_advertised_so() {
    let bench = with_people().await;
    let query = bench
        .engine
        .prepare("SELECT id, \"Age\", id + 1 AS next FROM people")
        .await
        .unwrap();
    let nullable: Vec<bool> = query
        .schema()
        .fields()
        .iter()
        .map(|field| field.is_nullable())
        .collect();
    assert_eq!(nullable, [false, true, false]);
    run(query).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_opened_in_the_order_of_its_rows() {
    let bench = with_people().await;
    let source = Source::Table(DatasetReference {
        name: "people".into(),
        version: None,
    });
    let query = bench.engine.open(&source).await.unwrap();
    assert_eq!(query.rows_expected(), Some(1_500));
    let rows = run(query).await.unwrap();
    let ids = rows.column(0).as_primitive::<Int64Type>();
    assert_eq!(ids.values().to_vec(), (0..1_500).collect::<Vec<i64>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_parts_is_opened_in_their_order_and_not_in_that_of_their_arrival() {
    let bench = bench().await;
    let numbers = |values: std::ops::Range<i64>| {
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(values));
        RecordBatch::try_from_iter([("n", column)]).unwrap()
    };
    let uploads = &bench.catalog.uploads;
    let begun = uploads.begin("parts", WriteMode::Error, None, None).await;
    let id = begun.unwrap().id;
    for (part, rows) in [("2", 20..30), ("1", 10..20), ("0", 0..10)] {
        let rows = numbers(rows);
        let mut writer = uploads.put_part(id, part, 0, rows.schema()).await.unwrap();
        writer.write(rows).await.unwrap();
        writer.finish().await.unwrap();
    }
    uploads.commit(id, vec![]).await.unwrap();
    let source = Source::Table(DatasetReference {
        name: "parts".into(),
        version: None,
    });
    let rows = run(bench.engine.open(&source).await.unwrap())
        .await
        .unwrap();
    let numbers = rows.column(0).as_primitive::<Int64Type>();
    assert_eq!(numbers.values().to_vec(), (0..30).collect::<Vec<i64>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_is_opened_in_the_order_of_its_file_names() {
    let bench = bench().await;
    let query = bench.engine.open(&census()).await.unwrap();
    assert_eq!(query.rows_expected(), Some(32_561));
    let census = run(query).await.unwrap();
    assert_eq!(census.num_rows(), 32_561);
    assert_eq!(census.column(0).as_primitive::<Int64Type>().value(0), 39);

    let open = bench.scratch.path().join("open");
    std::fs::create_dir(&open).unwrap();
    for name in ["b.parquet", "a.parquet"] {
        std::fs::copy(
            super::examples().join("census_test.parquet"),
            open.join(name),
        )
        .unwrap();
    }
    std::fs::write(open.join("notes.txt"), "not a table").unwrap();
    let directory = Source::Path(open.to_str().unwrap().to_owned());
    let query = bench.engine.open(&directory).await.unwrap();
    assert_eq!(query.rows_expected(), Some(2 * 16_281));

    std::fs::write(open.join("c.parquet"), "not parquet").unwrap();
    let error = bench.engine.open(&directory).await.unwrap_err();
    assert!(error.to_string().contains("c.parquet"), "{error}");
    let error = bench
        .engine
        .open(&Source::Path("/etc/passwd".into()))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("allow-read"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn predict_is_a_function_of_columns_or_of_a_struct() {
    let bench = with_people().await;
    let by = |call: &str| {
        format!("SELECT {call} FROM (SELECT id, 30 AS hours FROM people ORDER BY id LIMIT 2)")
    };
    for call in [
        "predict('pension', id, hours).probability",
        "predict('pension@2', id, hours)['probability']",
        "predict('pension', named_struct('hours', hours, 'age', id, 'more', 1)).probability",
        "predict('pension', struct(id, hours)).probability",
    ] {
        let answer = bench
            .sql(&by(call))
            .await
            .unwrap_or_else(|error| panic!("{call}: {error}"));
        let by = answer.column(0).as_primitive::<Float32Type>();
        assert_eq!(by.values().to_vec(), [30.0, 29.0], "{call}");
    }
    let whole = bench
        .sql(&by("predict('pension', id, hours) AS p"))
        .await
        .unwrap();
    assert!(
        matches!(whole.schema().field(0).data_type(), DataType::Struct(fields) if fields.len() == 2)
    );
    assert_eq!(
        bench
            .texts("SELECT count(*) FROM people WHERE predict('pension', id, 500.5).prediction = 'works'")
            .await,
        ["501"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_call_of_predict_says_what_the_model_reads() {
    let bench = with_people().await;
    for (call, said) in [
        (
            "predict('pension', id)",
            "reads 2 columns and 1 were given; in order: age Int64, hours Float64",
        ),
        ("predict('pension', id, name)", "input \"hours\""),
        (
            "predict('pension', named_struct('age', id))",
            "no field \"hours\"",
        ),
        ("predict('pension@x', id, id)", "not a version"),
        (
            "predict('pension', \"Age\", id)",
            "column \"age\" has a null",
        ),
        (
            "predict('pension', id + 0.5, id)",
            ".5 is no whole number; round it in the query",
        ),
    ] {
        let error = bench.refusal(&format!("SELECT {call} FROM people")).await;
        assert!(error.to_string().contains(said), "{call}: {error}");
        assert_eq!(error.fault(), Fault::InvalidArgument);
    }
    let error = bench
        .refusal("SELECT predict('absent', id) FROM people")
        .await;
    assert_eq!(error.fault(), Fault::NotFound, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_series_is_a_table_beside_the_datasets() {
    let bench = bench().await;
    for (sql, values) in [
        ("SELECT * FROM generate_series(1, 3)", vec!["1", "2", "3"]),
        ("SELECT value FROM RANGE(4, 0, -2)", vec!["4", "2"]),
        (
            "SELECT a.i * 10 + b.value FROM range(2) AS a(i), range(2) AS b ORDER BY 1",
            vec!["0", "1", "10", "11"],
        ),
        (
            "WITH range AS (SELECT 7 AS seven) SELECT seven + value FROM range, range(1, 3) AS r ORDER BY 1",
            vec!["8", "9"],
        ),
        (
            "SELECT count(*) FROM generate_series(1, 1000000)",
            vec!["1000000"],
        ),
    ] {
        assert_eq!(bench.texts(sql).await, values, "{sql}");
    }
    for sql in [
        "SELECT * FROM range(1, 3, 0)",
        "SELECT * FROM range()",
        "SELECT * FROM range('a', 'b')",
        "SELECT * FROM generate_series(1, 3) AS s, range(1, s.value) AS r",
    ] {
        let error = bench.refusal(sql).await;
        assert!(
            matches!(error, FeatureError::BadSql { .. }),
            "{sql}: {error:?}"
        );
    }
    // Without arguments it is a dataset like any other.
    let error = bench.refusal("SELECT * FROM range(1, 3) AS r, range").await;
    assert_eq!(error.fault(), Fault::NotFound, "{error}");

    bench.put("range", WriteMode::Error, &[people(0, 5)]).await;
    assert_eq!(
        bench
            .texts("SELECT count(*) FROM range, range(1, 3) AS r")
            .await,
        ["10"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_outgrows_its_memory_is_refused() {
    let bench = bench_with(4 << 20, 2).await;
    let error = bench
        .refusal("SELECT array_length(array_agg(value)) FROM generate_series(1, 5000000)")
        .await;
    assert!(
        matches!(error, FeatureError::OutOfMemory { .. }),
        "{error:?}"
    );
    assert!(error.to_string().contains("memory-limit"), "{error}");
    assert_eq!(bench.texts("SELECT 1").await, ["1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sort_larger_than_memory_spills() {
    let bench = bench_with(24 << 20, 1).await;
    let sums = bench
        .sql("SELECT sum(r), max(value) FROM (SELECT value, row_number() OVER (ORDER BY value * 7919 % 1000003) AS r FROM generate_series(1, 2000000))")
        .await
        .unwrap();
    assert_eq!(sums.num_rows(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_that_make_much_of_little_are_bounded() {
    let bench = bench_with(64 << 20, 1).await;
    for sql in [
        "SELECT generate_series(1, 100000000000)",
        "SELECT range(0, 100000000000)",
        "SELECT repeat('x', 10000000000)",
        "SELECT lpad('x', 2000000000)",
        "SELECT rpad('x', 2000000000, 'ab')",
        "SELECT array_repeat(1, 10000000000)",
        "SELECT array_resize([1], 10000000000, 0)",
        "SELECT repeat('x', value * 100000000) FROM generate_series(1, 3)",
    ] {
        let error = bench.refusal(sql).await;
        assert!(
            matches!(error, FeatureError::CallTooLarge { .. }),
            "{sql}: {error:?}"
        );
    }
    // However much memory there is, one call makes 64 MiB.
    let roomy = bench_with(4 << 30, 1).await;
    let error = roomy.refusal("SELECT repeat('x', 1000000000)").await;
    assert!(error.to_string().contains("67108864"), "{error}");
    assert_eq!(error.fault(), Fault::ResourceExhausted);
    assert_eq!(bench.texts("SELECT repeat('ab', 3)").await, ["ababab"]);
    assert_eq!(
        bench.texts("SELECT array_length(range(0, 1000, 2))").await,
        ["500"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_dropped_stops() {
    let bench = bench().await;
    let query = bench
        .engine
        .prepare("SELECT value FROM generate_series(1, 1000000000000)")
        .await
        .unwrap();
    let mut rows = query.execute().await.unwrap();
    assert!(rows.next().await.unwrap().unwrap().num_rows() > 0);
    drop(rows);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_as_source_is_deterministic_to_the_bit() {
    let bench = bench().await;
    let first = bench.engine.open(&census()).await.unwrap();
    let rows = run(first).await.unwrap();
    bench.put("census", WriteMode::Error, &[rows]).await;
    let source = Source::Query(
        "SELECT education, avg(sqrt(fnlwgt)) AS a FROM census GROUP BY education".into(),
    );
    let mut answers = Vec::new();
    for _ in 0..3 {
        let answer = run(bench.engine.open(&source).await.unwrap())
            .await
            .unwrap();
        let bits: Vec<u64> = answer
            .column(1)
            .as_primitive::<Float64Type>()
            .values()
            .iter()
            .map(|number| number.to_bits())
            .collect();
        answers.push(bits);
    }
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0], answers[2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_has_one_time() {
    let bench = with_people().await;
    for function in ["now()", "current_timestamp", "current_date", "current_time"] {
        let answer = bench.sql(&format!("SELECT {function} AS t")).await;
        let answer = answer.unwrap_or_else(|error| panic!("{function}: {error}"));
        assert_eq!(answer.num_rows(), 1, "{function}");
        assert_eq!(answer.column(0).null_count(), 0, "{function}");
    }
    assert_eq!(
        bench
            .texts("SELECT count(*) FROM people WHERE now() = current_timestamp AND now() > to_timestamp('2020-01-01')")
            .await,
        ["1500"]
    );
}

/// The deepest statements that are taken are planned and run on the stack that the server gives its threads.
#[test]
fn the_deepest_statements_taken_fit_the_stack() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_stack_size(crate::support::machine::THREAD_STACK_BYTES)
        .enable_all()
        .build()
        .unwrap();
    let work = async {
        let bench = with_people().await;
        for (sql, rows) in [
            (
                format!("SELECT id{} FROM people", " + id".repeat(499)),
                1_500,
            ),
            (
                format!(
                    "SELECT 1 FROM people WHERE id < 0{}",
                    " OR id % 7 = 9".repeat(450)
                ),
                0,
            ),
            (
                format!("SELECT name{} FROM people LIMIT 2", " || 'x'".repeat(499)),
                2,
            ),
            (
                format!("SELECT 1{}", " UNION ALL SELECT 1".repeat(199)),
                200,
            ),
            (
                format!(
                    "SELECT count(*) FROM range(1) AS r{}",
                    (0..100)
                        .map(|at| format!(", range(1) AS r{at}"))
                        .collect::<String>()
                ),
                1,
            ),
        ] {
            let answer = bench.sql(&sql).await;
            let answer = answer.unwrap_or_else(|error| panic!("{}: {error}", &sql[..30]));
            assert_eq!(answer.num_rows(), rows, "{}", &sql[..30]);
        }
    };
    // On a worker: the thread that enters the runtime has the stack of whoever started it.
    runtime
        .block_on(async { tokio::spawn(work).await })
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_struct_is_the_value_where_the_models_one_input_is_one() {
    let bench = bench().await;
    let pair = "named_struct('low', id::DOUBLE, 'high', 2.0 * id)";
    let rows = "(SELECT value AS id FROM range(1, 4))";
    for call in [
        format!("predict('span', {pair})"),
        // Named as any struct of inputs may be.
        format!("predict('span', named_struct('pair', {pair}))"),
    ] {
        let answer = bench
            .sql(&format!("SELECT {call}.prediction FROM {rows} ORDER BY id"))
            .await
            .unwrap_or_else(|error| panic!("{call}: {error}"));
        let spans = answer.column(0).as_primitive::<Float32Type>();
        assert_eq!(spans.values(), &[1.0, 2.0, 3.0], "{call}");
    }
    let error = bench
        .refusal(&format!(
            "SELECT predict('span', named_struct('low', id)) FROM {rows}"
        ))
        .await;
    assert!(error.to_string().contains("no field \"pair\""), "{error}");
}

fn path_of(file: &std::path::Path) -> Source {
    Source::Path(file.to_str().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_parquet_file_is_refused_by_its_name_and_panics_nobody() {
    let bench = bench().await;
    let open = bench.scratch.path().join("open");
    std::fs::create_dir(&open).unwrap();
    let good = std::fs::read(super::examples().join("census_test.parquet")).unwrap();
    let framed =
        |middle: &[u8], length: u32| [b"PAR1", middle, &length.to_le_bytes(), b"PAR1"].concat();
    let mut cases = vec![
        b"PAR1xxxxPAR1".to_vec(),
        Vec::new(),
        b"PAR1".to_vec(),
        b"hello world, not parquet at all".to_vec(),
        framed(&[0; 64], 0),
        framed(&[0; 64], u32::MAX),
        framed(&(0..64).collect::<Vec<u8>>(), 60),
        good[..good.len() / 2].to_vec(),
    ];
    // Changed metadata: whatever it says, it is refused or read, and nobody panics.
    let length =
        u32::from_le_bytes(good[good.len() - 8..good.len() - 4].try_into().unwrap()) as usize;
    let begin = good.len() - 8 - length;
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    for _ in 0..200 {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let mut bytes = good.clone();
        bytes[begin + (random >> 8) as usize % length] = random as u8;
        cases.push(bytes);
    }
    for (number, bytes) in cases.iter().enumerate() {
        let file = open.join("damaged.parquet");
        std::fs::write(&file, bytes).unwrap();
        match bench.engine.open(&path_of(&file)).await {
            Ok(_) => assert!(number >= 8, "case {number} was opened"),
            Err(error) => {
                assert_eq!(error.fault(), Fault::InvalidArgument, "{number}: {error}");
                assert!(
                    error.to_string().contains("damaged.parquet"),
                    "{number}: {error}"
                );
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_pages_are_told_with_the_file_that_has_them() {
    let bench = bench().await;
    let open = bench.scratch.path().join("open");
    std::fs::create_dir(&open).unwrap();
    let good = std::fs::read(super::examples().join("census_test.parquet")).unwrap();
    let mut bad = good.clone();
    // Past the magic and the first page's header: within compressed data.
    for byte in &mut bad[200..3_000] {
        *byte ^= 0x5a;
    }
    for (name, bytes) in [("a", &good), ("b", &bad), ("c", &good)] {
        std::fs::write(open.join(format!("{name}.parquet")), bytes).unwrap();
    }
    let query = bench.engine.open(&path_of(&open)).await.unwrap();
    let error = run(query).await.unwrap_err();
    assert_eq!(error.fault(), Fault::InvalidArgument, "{error}");
    assert!(error.to_string().contains("open/b.parquet\""), "{error}");

    // A dataset's own file, damaged behind our back.
    let text = StringArray::from_iter_values((0..50_000).map(|row| format!("text {row}")));
    let rows = RecordBatch::try_from_iter([("text", Arc::new(text) as ArrayRef)]).unwrap();
    bench.put("texts", WriteMode::Error, &[rows]).await;
    let table = DatasetReference::parse("texts").unwrap();
    let dataset = bench.catalog.datasets.open(&table).await.unwrap();
    let place = dataset.files[0].path.to_string();
    let file = bench.scratch.path().join("store").join(&place);
    let mut bytes = std::fs::read(&file).unwrap();
    let end = bytes.len() / 2;
    for byte in &mut bytes[100..end] {
        *byte ^= 0x5a;
    }
    std::fs::write(&file, bytes).unwrap();
    let query = bench.engine.open(&Source::Table(table)).await.unwrap();
    let error = run(query).await.unwrap_err();
    assert_eq!(error.fault(), Fault::Internal, "{error}");
    assert!(error.to_string().contains(&place), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_of_a_result_says_from_which_table_it_is_if_from_one() {
    let bench = bench().await;
    for sql in [
        "CREATE TABLE a AS SELECT 1 AS x",
        "CREATE TABLE b AS SELECT 1 AS x, 2 AS y",
    ] {
        let Some(crate::features::Change::CreateTable(create)) =
            (match bench.engine.understand(sql).await.unwrap() {
                crate::features::SqlStatementPlan::Change(change) => Some(*change),
                crate::features::SqlStatementPlan::Query(_) => None,
            })
        else {
            panic!("{sql} makes a table")
        };
        bench.engine.create_table(create).await.unwrap();
    }
    for (sql, expected) in [
        (
            "SELECT * FROM a JOIN b ON a.x = b.x",
            vec![Some("a"), Some("b"), Some("b")],
        ),
        (
            "SELECT x, x + 1, y AS z FROM b",
            vec![Some("b"), None, None],
        ),
        (
            "SELECT x, count(*) FROM b GROUP BY x ORDER BY x LIMIT 1",
            vec![Some("b"), None],
        ),
        ("SELECT other.x FROM b AS other", vec![None]),
        (
            "SELECT b.x FROM a AS b WHERE x IN (SELECT x FROM b)",
            vec![None],
        ),
        (
            "WITH b AS (SELECT x FROM a) SELECT b.x, a.x FROM a JOIN b ON a.x = b.x",
            vec![None, Some("a")],
        ),
        ("SELECT x FROM volary.public.a WHERE x > 0", vec![Some("a")]),
        ("SELECT 1", vec![None]),
    ] {
        let tables = bench.engine.prepare(sql).await.unwrap().tables();
        let tables: Vec<Option<&str>> = tables.iter().map(Option::as_deref).collect();
        assert_eq!(tables, expected, "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_without_rows_is_one_like_any_other() {
    let bench = with_people().await;
    bench.put("nobody", WriteMode::Error, &[people(0, 0)]).await;
    for (sql, expected) in [
        ("SELECT count(*) FROM nobody", vec!["0"]),
        ("SELECT name FROM nobody ORDER BY id", vec![]),
        ("SELECT DISTINCT name FROM nobody", vec![]),
        ("SELECT max(id) FROM nobody GROUP BY name", vec![]),
        ("SELECT count(DISTINCT name) FROM nobody", vec!["0"]),
        (
            "SELECT count(*) FROM people WHERE id NOT IN (SELECT id FROM nobody)",
            vec!["1500"],
        ),
        (
            "SELECT count(*) FROM people WHERE id IN (SELECT id FROM nobody)",
            vec!["0"],
        ),
        (
            "SELECT count(*) FROM people p WHERE NOT EXISTS (SELECT 1 FROM nobody n WHERE n.id = p.id)",
            vec!["1500"],
        ),
        (
            "SELECT count(*) FROM people p LEFT JOIN nobody n ON p.id = n.id",
            vec!["1500"],
        ),
        (
            "SELECT count(*) FROM people p FULL JOIN nobody n ON p.id = n.id",
            vec!["1500"],
        ),
        (
            "SELECT count(*) FROM nobody n RIGHT JOIN people p ON p.id = n.id",
            vec!["1500"],
        ),
        (
            "SELECT count(*) FROM people p JOIN nobody n ON p.id = n.id",
            vec!["0"],
        ),
        (
            "SELECT count(*) FROM (SELECT id FROM people EXCEPT SELECT id FROM nobody)",
            vec!["1500"],
        ),
        (
            "SELECT count(*) FROM (SELECT id FROM people INTERSECT SELECT id FROM nobody)",
            vec!["0"],
        ),
        (
            "SELECT count(*) FROM (SELECT id FROM people UNION ALL SELECT id FROM nobody)",
            vec!["1500"],
        ),
        ("SELECT row_number() OVER (ORDER BY id) FROM nobody", vec![]),
    ] {
        assert_eq!(bench.texts(sql).await, expected, "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_of_a_result_may_have_one_name() {
    let bench = with_people().await;
    for (sql, names, first) in [
        (
            "SELECT id, CAST(id AS TEXT) FROM people WHERE id = 7",
            vec!["id", "id"],
            ["7", "7"],
        ),
        (
            "SELECT *, id FROM people WHERE id = 7",
            vec!["id", "name", "Age", "id"],
            ["7", "person 7"],
        ),
        (
            "SELECT id, id FROM people ORDER BY id DESC LIMIT 1",
            vec!["id", "id"],
            ["1499", "1499"],
        ),
        (
            "SELECT id AS x, name AS x FROM people WHERE id = 7",
            vec!["x", "x"],
            ["7", "person 7"],
        ),
        (
            "SELECT count(*), count(*) FROM people",
            vec!["count(*)", "count(*)"],
            ["1500", "1500"],
        ),
        (
            "SELECT p.id, q.id FROM people p JOIN people q ON p.id + 1 = q.id WHERE p.id = 7",
            vec!["id", "id"],
            ["7", "8"],
        ),
        (
            "SELECT id, id FROM people WHERE id < 2 UNION ALL SELECT id, id FROM people WHERE id = 9 ORDER BY 1 DESC LIMIT 1",
            vec!["id", "id"],
            ["9", "9"],
        ),
    ] {
        let answer = bench
            .sql(sql)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
        let schema = answer.schema();
        let found: Vec<&str> = schema
            .fields()
            .iter()
            .map(|field| field.name().as_str())
            .collect();
        assert_eq!(found, names, "{sql}");
        let values = [0, 1].map(|column| {
            let text = arrow::compute::cast(answer.column(column), &DataType::Utf8).unwrap();
            text.as_string::<i32>().value(0).to_owned()
        });
        assert_eq!(values, first, "{sql}");
    }
    // What a model is to learn is refused before a job begins, as the job would.
    let create = "CREATE MODEL m OPTIONS (label = 'id') AS SELECT *, id FROM people";
    let refusal = bench.engine.understand(create).await.unwrap_err();
    assert_eq!(refusal.fault(), Fault::InvalidArgument, "{refusal}");
    // Where a name is one column's, it stays so.
    for sql in [
        "SELECT count(*) FROM (SELECT id, id FROM people)",
        "WITH t AS (SELECT id AS x, name AS x FROM people) SELECT * FROM t",
    ] {
        let refusal = bench.refusal(sql).await;
        assert_eq!(refusal.fault(), Fault::InvalidArgument, "{sql}: {refusal}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_doubles_itself_is_refused_before_it_is_planned() {
    let bench = with_people().await;
    let doubled = |times: usize| {
        let mut sql = "WITH t0 AS (SELECT id FROM people)".to_owned();
        for number in 1..=times {
            let before = number - 1;
            sql += &format!(
                ", t{number} AS (SELECT a.id FROM t{before} a JOIN t{before} b ON a.id = b.id)"
            );
        }
        format!("{sql} SELECT count(*) FROM t{times}")
    };
    assert_eq!(bench.texts(&doubled(3)).await, ["1500"]);
    // As one text, and a WITH within a WITH.
    let inner = doubled(7);
    let nested = format!("WITH t AS ({inner}) SELECT * FROM t a, t b, t c, t d");
    for sql in [doubled(17), nested] {
        let refusal = bench.refusal(&sql).await;
        assert_eq!(refusal.fault(), Fault::InvalidArgument);
        assert!(refusal.to_string().contains("400 tables"), "{refusal}");
    }
}
