//! Parameters of statements: in which types they are asked for, and what becomes of values of others.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, Date32Array, Decimal128Array, Float64Array, Int32Array, Int64Array,
    RecordBatch, StringArray, Time32MillisecondArray, Time32SecondArray, Time64MicrosecondArray,
    TimestampMicrosecondArray, TimestampMillisecondArray, TimestampNanosecondArray,
    TimestampSecondArray,
};
use arrow::datatypes::{DataType, Int64Type, TimeUnit};

use super::{Bench, bench, run};
use crate::catalog::{DatasetReference, WriteMode};
use crate::features::{Change, SqlStatementPlan};

/// 2025-11-26T01:02:03.123Z in milliseconds.
const INSTANT: i64 = 1_764_118_923_123;
/// 12:34:56.789 in milliseconds.
const TIME: i32 = 45_296_789;

/// One row of the same instant and the same time in every unit, cut off where the unit is a second.
fn clocks() -> RecordBatch {
    let columns: [(&str, ArrayRef); 11] = [
        (
            "s",
            Arc::new(TimestampSecondArray::from(vec![INSTANT / 1_000])),
        ),
        (
            "ms",
            Arc::new(TimestampMillisecondArray::from(vec![INSTANT])),
        ),
        (
            "us",
            Arc::new(TimestampMicrosecondArray::from(vec![INSTANT * 1_000])),
        ),
        (
            "ns",
            Arc::new(TimestampNanosecondArray::from(vec![INSTANT * 1_000_000])),
        ),
        (
            "berlin",
            Arc::new(
                TimestampMicrosecondArray::from(vec![INSTANT * 1_000])
                    .with_timezone("Europe/Berlin"),
            ),
        ),
        (
            "time_s",
            Arc::new(Time32SecondArray::from(vec![TIME / 1_000])),
        ),
        (
            "time_us",
            Arc::new(Time64MicrosecondArray::from(vec![i64::from(TIME) * 1_000])),
        ),
        ("day", Arc::new(Date32Array::from(vec![20_418]))),
        ("whole", Arc::new(Int64Array::from(vec![1]))),
        (
            "price",
            Arc::new(
                Decimal128Array::from(vec![150])
                    .with_precision_and_scale(10, 2)
                    .unwrap(),
            ),
        ),
        ("text", Arc::new(StringArray::from(vec!["x"]))),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

async fn with_clocks() -> Bench {
    let bench = bench().await;
    bench.put("clocks", WriteMode::Error, &[clocks()]).await;
    bench
}

impl Bench {
    async fn parameter_types(&self, sql: &str) -> Vec<DataType> {
        let parameters = self.engine.prepare(sql).await.unwrap().parameters();
        let fields = parameters.fields().iter();
        fields.map(|field| field.data_type().clone()).collect()
    }

    /// Rows of `clocks` for which `condition` holds of the value.
    async fn found(&self, condition: &str, value: ArrayRef) -> i64 {
        let sql = format!("SELECT count(*) FROM clocks WHERE {condition}");
        let query = self.engine.prepare(&sql).await.unwrap();
        let values = RecordBatch::try_from_iter([("a", value)]).unwrap();
        let bound = query
            .bind(&values)
            .unwrap_or_else(|e| panic!("{condition}: {e}"));
        let answer = run(bound)
            .await
            .unwrap_or_else(|e| panic!("{condition}: {e}"));
        answer.column(0).as_primitive::<Int64Type>().value(0)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn times_are_asked_for_in_milliseconds_which_is_what_jdbc_writes() {
    let bench = with_clocks().await;
    let plain = DataType::Timestamp(TimeUnit::Millisecond, None);
    for column in ["s", "ms", "us", "ns"] {
        let sql = format!("SELECT 1 FROM clocks WHERE {column} = ?");
        assert_eq!(
            bench.parameter_types(&sql).await,
            std::slice::from_ref(&plain),
            "{column}"
        );
    }
    let zoned = DataType::Timestamp(TimeUnit::Millisecond, Some("Europe/Berlin".into()));
    assert_eq!(
        bench
            .parameter_types("SELECT 1 FROM clocks WHERE berlin < ? AND time_s > ? AND time_us > ?")
            .await,
        [
            zoned,
            DataType::Time32(TimeUnit::Millisecond),
            DataType::Time32(TimeUnit::Millisecond)
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parameter_of_which_the_planner_knows_nothing_has_the_type_of_its_place() {
    let bench = with_clocks().await;
    for (sql, types) in [
        (
            "SELECT 1 FROM clocks LIMIT ? OFFSET ?",
            vec![DataType::Int64, DataType::Int64],
        ),
        ("SELECT NOT ?", vec![DataType::Boolean]),
        ("SELECT 1 FROM clocks WHERE ?", vec![DataType::Boolean]),
        ("SELECT ? AND ?", vec![DataType::Boolean, DataType::Boolean]),
        ("SELECT CAST(? AS INT)", vec![DataType::Int32]),
        ("SELECT ?::double", vec![DataType::Float64]),
        ("SELECT TRY_CAST(? AS SMALLINT)", vec![DataType::Int16]),
        ("SELECT arrow_cast(?, 'UInt8')", vec![DataType::UInt8]),
        (
            "SELECT arrow_cast(?, 'Timestamp(Nanosecond, None)')",
            vec![DataType::Timestamp(TimeUnit::Millisecond, None)],
        ),
        ("SELECT arrow_cast(?, 'Utf8View')", vec![DataType::Utf8]),
        ("SELECT arrow_cast(?, 'BinaryView')", vec![DataType::Binary]),
        ("SELECT coalesce(?, 1)", vec![DataType::Int64]),
        ("SELECT coalesce(?, text) FROM clocks", vec![DataType::Utf8]),
        (
            "SELECT 1 FROM clocks WHERE ? IN (whole, 2)",
            vec![DataType::Int64],
        ),
        ("SELECT ? BETWEEN 1 AND 2", vec![DataType::Int64]),
        (
            "SELECT CASE WHEN ? THEN ? ELSE 1.5 END",
            vec![DataType::Boolean, DataType::Float64],
        ),
        ("SELECT (SELECT 1 LIMIT ?)", vec![DataType::Int64]),
        ("SELECT ?", vec![DataType::Utf8]),
        ("SELECT upper(?)", vec![DataType::Utf8]),
        ("SELECT ? || 'x'", vec![DataType::Utf8]),
        ("SELECT ? + 1", vec![DataType::Int64]),
    ] {
        assert_eq!(bench.parameter_types(sql).await, types, "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn milliseconds_are_found_in_columns_of_every_unit() {
    let bench = with_clocks().await;
    let at = |value: i64| -> ArrayRef { Arc::new(TimestampMillisecondArray::from(vec![value])) };
    for column in ["ms", "us", "ns"] {
        for (condition, value, rows) in [
            ("= ?", INSTANT, 1),
            ("= ?", INSTANT + 1, 0),
            ("< ?", INSTANT + 1, 1),
            ("> ?", INSTANT - 1, 1),
            ("IN (?, NULL)", INSTANT, 1),
        ] {
            let condition = format!("{column} {condition}");
            assert_eq!(
                bench.found(&condition, at(value)).await,
                rows,
                "{condition}"
            );
        }
    }
    let zoned = TimestampMillisecondArray::from(vec![INSTANT]).with_timezone("Europe/Berlin");
    assert_eq!(bench.found("berlin = ?", Arc::new(zoned)).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_is_compared_whole_with_a_coarser_column() {
    let bench = with_clocks().await;
    let at = |value: i64| -> ArrayRef { Arc::new(TimestampMillisecondArray::from(vec![value])) };
    let whole = INSTANT / 1_000 * 1_000;
    assert_eq!(bench.found("s = ?", at(whole)).await, 1);
    assert_eq!(bench.found("s = ?", at(INSTANT)).await, 0);
    assert_eq!(bench.found("s < ?", at(INSTANT)).await, 1);
    assert_eq!(bench.found("s BETWEEN ? AND s", at(INSTANT)).await, 0);
    let time = |value: i32| -> ArrayRef { Arc::new(Time32MillisecondArray::from(vec![value])) };
    assert_eq!(bench.found("time_us = ?", time(TIME)).await, 1);
    assert_eq!(
        bench.found("time_s = ?", time(TIME / 1_000 * 1_000)).await,
        1
    );
    assert_eq!(bench.found("time_s = ?", time(TIME)).await, 0);
    assert_eq!(bench.found("time_s < ?", time(TIME)).await, 1);
    assert_eq!(
        bench.found("time_s BETWEEN ? AND time_s", time(TIME)).await,
        0
    );
    assert_eq!(bench.found("time_s IN (time_s, ?)", time(TIME)).await, 1);
    assert_eq!(bench.found("day = ?", at(INSTANT)).await, 0);
    assert_eq!(bench.found("day < ?", at(INSTANT)).await, 1);
    let number = |value: f64| -> ArrayRef { Arc::new(Float64Array::from(vec![value])) };
    assert_eq!(bench.found("whole = ?", number(1.0)).await, 1);
    assert_eq!(bench.found("whole = ?", number(1.5)).await, 0);
    assert_eq!(bench.found("whole < ?", number(1.5)).await, 1);
    assert_eq!(bench.found("price = ?", number(1.5)).await, 1);
    assert_eq!(bench.found("price < ?", number(1.501)).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_number_of_rows_is_bound() {
    let bench = bench().await;
    let query = bench
        .engine
        .prepare("SELECT value FROM generate_series(1, 10) LIMIT ? OFFSET ?")
        .await
        .unwrap();
    let of = |value: i32| -> ArrayRef { Arc::new(Int32Array::from(vec![value])) };
    let values = RecordBatch::try_from_iter([("a", of(2)), ("b", of(3))]).unwrap();
    let answer = run(query.bind(&values).unwrap()).await.unwrap();
    assert_eq!(
        answer.column(0).as_primitive::<Int64Type>().values(),
        &[4, 5]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn values_finer_than_the_columns_of_a_table_are_written_in_its_types() {
    let bench = bench().await;
    let table = clocks().project(&[0, 8]).unwrap();
    bench.put("clocks", WriteMode::Error, &[table]).await;
    for rows in [1, 3] {
        let sql = "INSERT INTO clocks VALUES (?, ?)";
        let SqlStatementPlan::Change(change) = bench.engine.understand(sql).await.unwrap() else {
            panic!("it is a change")
        };
        let Change::Insert(insert) = *change else {
            panic!("it is an INSERT")
        };
        let instants: ArrayRef = Arc::new(TimestampMillisecondArray::from(vec![INSTANT; rows]));
        let numbers: ArrayRef = Arc::new(Float64Array::from(vec![2.0; rows]));
        let values = RecordBatch::try_from_iter([("a", instants), ("b", numbers)]).unwrap();
        let mut insertion = bench.engine.begin_insert(insert).await.unwrap();
        insertion.add_bound(&values).await.unwrap();
        insertion.commit().await.unwrap();
    }
    let table = DatasetReference::parse("clocks").unwrap();
    assert_eq!(bench.catalog.datasets.open(&table).await.unwrap().rows, 5);
    assert_eq!(
        bench
            .texts("SELECT count(*) FROM clocks WHERE s = arrow_cast(1764118923, 'Timestamp(Second, None)')")
            .await,
        ["5"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn predict_is_among_the_functions() {
    let bench = bench().await;
    let functions = bench.engine.functions();
    assert!(functions.values().flatten().any(|name| name == "predict"));
}
