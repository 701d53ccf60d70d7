//! What SQL changes of tables, and models asked over tables.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::DataType;

use super::{Bench, bench, run, schema_of};
use crate::catalog::{DatasetReference, WriteMode};
use crate::features::writing::Insertion;
use crate::features::{Change, FeatureError, Query, SqlStatementPlan};
use crate::support::fault::{Fault, Faulty};

impl Bench {
    async fn change(&self, sql: &str) -> Result<u64, FeatureError> {
        self.change_with(sql, &[]).await
    }

    /// Carries a change out as Flight does, with batches of values; answers the rows written.
    async fn change_with(&self, sql: &str, values: &[RecordBatch]) -> Result<u64, FeatureError> {
        let SqlStatementPlan::Change(change) = self.engine.understand(sql).await? else {
            panic!("{sql} is a query")
        };
        match *change {
            Change::CreateTable(create) => self.engine.create_table(create).await,
            Change::DropTable { name, if_exists } => {
                self.engine.drop_table(&name, if_exists).await.map(|()| 0)
            }
            Change::Insert(insert) => {
                let mut insertion = self.engine.begin_insert(insert).await?;
                for batch in values {
                    insertion.add_bound(batch).await?;
                }
                if values.is_empty() {
                    insertion.add().await?;
                }
                Ok(insertion.commit().await?.0)
            }
            other => panic!("{sql} is {other:?}"),
        }
    }

    /// An INSERT that has written its rows and not committed them.
    async fn insertion(&self, sql: &str) -> Insertion {
        let SqlStatementPlan::Change(change) = self.engine.understand(sql).await.unwrap() else {
            panic!("{sql} is a query")
        };
        let Change::Insert(insert) = *change else {
            panic!("{sql} is {change:?}")
        };
        let mut insertion = self.engine.begin_insert(insert).await.unwrap();
        insertion.add().await.unwrap();
        insertion
    }

    async fn change_refusal(&self, sql: &str) -> FeatureError {
        match self.change(sql).await {
            Ok(rows) => panic!("{sql} wrote {rows} rows"),
            Err(error) => error,
        }
    }

    async fn version(&self, name: &str) -> i64 {
        let reference = DatasetReference::parse(name).unwrap();
        self.catalog
            .datasets
            .open(&reference)
            .await
            .unwrap()
            .version
    }

    async fn query(&self, sql: &str) -> Query {
        self.engine.prepare(sql).await.unwrap()
    }
}

fn pairs(numbers: &[i64], texts: &[Option<&str>]) -> RecordBatch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(numbers.to_vec())),
        Arc::new(StringArray::from(texts.to_vec())),
    ];
    let schema = schema_of(&[("0", DataType::Int64, true), ("1", DataType::Utf8, true)]);
    RecordBatch::try_new(schema, columns).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_made_filled_replaced_and_dropped() {
    let bench = bench().await;
    let create = "CREATE TABLE people (id INT NOT NULL, name TEXT, height DOUBLE)";
    assert_eq!(bench.change(create).await.unwrap(), 0);
    assert_eq!(
        bench.texts("DESCRIBE people").await,
        ["id", "name", "height"]
    );
    let error = bench.change_refusal(create).await;
    assert_eq!(error.fault(), Fault::AlreadyExists);
    assert!(error.to_string().contains("CREATE OR REPLACE"), "{error}");
    let kept = "CREATE TABLE IF NOT EXISTS people AS SELECT 1 AS a";
    assert_eq!(bench.change(kept).await.unwrap(), 0);
    assert_eq!(bench.version("people").await, 0);

    // Values are cast to the table's types, a column that is not named is null.
    let insert = "INSERT INTO people VALUES (1, 'Ada', 1), ('2', 'Bob', 1.75)";
    assert_eq!(bench.change(insert).await.unwrap(), 2);
    let insert =
        "INSERT INTO volary.public.people (name, id) SELECT name || '!', id + 10 FROM people";
    assert_eq!(bench.change(insert).await.unwrap(), 2);
    assert_eq!(
        bench
            .texts("SELECT id || name || coalesce(height, 0) FROM people ORDER BY id")
            .await,
        ["1Ada1.0", "2Bob1.75", "11Ada!0.0", "12Bob!0.0"]
    );
    // A table may be made anew from itself.
    let replace = "CREATE OR REPLACE TABLE people AS SELECT id, name FROM people WHERE id < 10";
    assert_eq!(bench.change(replace).await.unwrap(), 2);
    assert_eq!(
        bench.texts("SELECT name FROM people ORDER BY id").await,
        ["Ada", "Bob"]
    );
    assert_eq!(bench.version("people").await, 3);

    assert_eq!(bench.change("DROP TABLE people").await.unwrap(), 0);
    let error = bench.change_refusal("DROP TABLE people").await;
    assert_eq!(error.fault(), Fault::NotFound);
    assert_eq!(
        bench.change("DROP TABLE IF EXISTS people").await.unwrap(),
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_fails_leaves_nothing() {
    let bench = bench().await;
    bench
        .change("CREATE TABLE t (a INT NOT NULL, b TEXT)")
        .await
        .unwrap();
    for (sql, words) in [
        ("INSERT INTO t VALUES (1, 'x'), (NULL, 'y')", "a"),
        ("INSERT INTO t (b) VALUES ('x')", "takes no nulls"),
        ("INSERT INTO t VALUES ('one', 'x')", "one"),
        ("INSERT INTO t VALUES (1)", "got 1 values"),
        ("INSERT INTO t (a, c) VALUES (1, 2)", "c"),
        ("INSERT INTO t SELECT 1", "answers 1 columns for the 2"),
        ("INSERT INTO t (a, c) SELECT 1, 2", "\"c\""),
        ("INSERT INTO t (a, a) SELECT 1, 2", "twice"),
        ("INSERT INTO t (b) SELECT 'x'", "takes no nulls"),
        (
            "INSERT INTO t SELECT 1/x, 'y' FROM (VALUES (1), (0)) AS v(x)",
            "zero",
        ),
        (
            "CREATE OR REPLACE TABLE t AS SELECT 1/x AS a FROM (VALUES (1), (0)) AS v(x)",
            "zero",
        ),
    ] {
        let error = bench.change_refusal(sql).await;
        assert_eq!(error.fault(), Fault::InvalidArgument, "{sql}: {error:?}");
        assert!(error.to_string().contains(words), "{sql}: {error}");
    }
    assert_eq!(bench.version("t").await, 0);
    let error = bench.change_refusal("INSERT INTO nobody VALUES (1)").await;
    assert_eq!(error.fault(), Fault::NotFound);
    let error = bench
        .change_refusal("INSERT INTO \"t@0\" VALUES (1, 'x')")
        .await;
    assert_eq!(error.fault(), Fault::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_insert_whose_table_is_dropped_meanwhile_is_refused_and_makes_no_table() {
    let bench = bench().await;
    let create = "CREATE TABLE t AS SELECT 1 AS n";
    bench.change(create).await.unwrap();
    let late = bench.insertion("INSERT INTO t VALUES (2)").await;
    bench.change("DROP TABLE t").await.unwrap();
    let refused = late.commit().await.unwrap_err();
    assert_eq!(refused.fault(), Fault::NotFound);
    let text = refused.to_string();
    assert!(text.contains("removed while rows were written"), "{text}");
    let gone = bench.change_refusal("INSERT INTO t VALUES (2)").await;
    assert_eq!(gone.fault(), Fault::NotFound);

    // One that is there again by then has them.
    bench.change(create).await.unwrap();
    let late = bench.insertion("INSERT INTO t VALUES (2)").await;
    bench.change("DROP TABLE t").await.unwrap();
    bench.change(create).await.unwrap();
    late.commit().await.unwrap();
    let sum = run(bench.query("SELECT sum(n) FROM t").await)
        .await
        .unwrap();
    assert_eq!(sum.column(0).as_ref(), &Int64Array::from(vec![3]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_be_passed_over_or_is_no_change_is_refused_by_name() {
    let bench = bench().await;
    bench.change("CREATE TABLE t (a INT)").await.unwrap();
    for (sql, words) in [
        ("UPDATE t SET a = 1", "CREATE OR REPLACE TABLE"),
        ("DELETE FROM t", "CREATE OR REPLACE TABLE"),
        ("ALTER TABLE t ADD COLUMN b INT", "ALTER"),
        ("COPY t TO '/tmp/x.parquet'", "COPY"),
        (
            "CREATE EXTERNAL TABLE x STORED AS PARQUET LOCATION '/etc'",
            "files",
        ),
        ("CREATE TEMPORARY TABLE x AS SELECT 1", "TEMPORARY"),
        ("CREATE VIEW v AS SELECT 1", "CREATE VIEW"),
        ("SET a = 1", "settings"),
        ("BEGIN", "transactions"),
        ("COMMIT", "transactions"),
        ("TRUNCATE TABLE t", "CREATE OR REPLACE TABLE"),
        ("CREATE TABLE x (a INT PRIMARY KEY)", "PRIMARY KEY"),
        ("CREATE TABLE x (a INT DEFAULT 1)", "DEFAULT"),
        ("CREATE TABLE x (a INT, UNIQUE (a))", "UNIQUE"),
        ("CREATE TABLE x", "no columns"),
        ("CREATE TABLE other.x (a INT)", "one catalog"),
        (
            "CREATE OR REPLACE TABLE IF NOT EXISTS x (a INT)",
            "contradict",
        ),
        ("INSERT INTO t VALUES (1) ON CONFLICT DO NOTHING", "keys"),
        ("INSERT INTO t VALUES (1) RETURNING a", "RETURNING"),
        ("INSERT OVERWRITE t VALUES (1)", "OVERWRITE"),
        ("DROP TABLE t, u", "each"),
        ("DROP VIEW t", "DROP VIEW"),
        (
            "CREATE TABLE x AS SELECT * FROM read_parquet('/etc/passwd')",
            "read_parquet",
        ),
        ("INSERT INTO t SELECT 1; DROP TABLE t", "2 statements"),
        ("EXPLAIN INSERT INTO t VALUES (1)", "INSERT"),
    ] {
        let error = bench.change_refusal(sql).await;
        assert_eq!(error.fault(), Fault::InvalidArgument, "{sql}: {error:?}");
        assert!(error.to_string().contains(words), "{sql}: {error}");
    }
    // Where rows are asked for, nothing is changed.
    let error = bench.refusal("DROP TABLE t").await;
    assert!(error.to_string().contains("as an update"), "{error}");
    assert_eq!(bench.version("t").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_insert_with_parameters_takes_many_rows_and_is_one_version() {
    let bench = bench().await;
    bench
        .change("CREATE TABLE t (a INT, b TEXT, c INT)")
        .await
        .unwrap();
    let insert = "INSERT INTO t (b, a, c) VALUES (?, ? * 2, 7)";
    let SqlStatementPlan::Change(planned) = bench.engine.understand(insert).await.unwrap() else {
        panic!("it is a change")
    };
    let types: Vec<DataType> = planned
        .parameters()
        .fields()
        .iter()
        .map(|field| field.data_type().clone())
        .collect();
    assert_eq!(types[0], DataType::Utf8);
    let flipped = |batch: RecordBatch| batch.project(&[1, 0]).unwrap();
    let batches = [
        flipped(pairs(&[1, 2], &[Some("x"), None])),
        flipped(pairs(&[3], &[Some("z")])),
    ];
    assert_eq!(bench.change_with(insert, &batches).await.unwrap(), 3);
    assert_eq!(bench.version("t").await, 1);
    assert_eq!(
        bench
            .texts("SELECT a || coalesce(b, '-') || c FROM t")
            .await,
        ["2x7", "4-7", "6z7"]
    );
    // Rows that are looked up are written too, for each row of values in turn.
    let insert = "INSERT INTO t SELECT a + 100, b, c FROM t WHERE a = $1 OR b = $2";
    let batches = [pairs(&[2, 6], &[None, None])];
    assert_eq!(bench.change_with(insert, &batches).await.unwrap(), 2);
    let too_large = [pairs(&[1 << 40], &[Some("x")]).project(&[1, 0]).unwrap()];
    let insert = "INSERT INTO t (b, a) VALUES (?, ?)";
    let error = bench.change_with(insert, &too_large).await.unwrap_err();
    assert_eq!(error.fault(), Fault::InvalidArgument, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_with_several_rows_of_values_answers_them_one_after_the_other() {
    let bench = bench().await;
    bench
        .put(
            "t",
            WriteMode::Error,
            &[pairs(&[1, 2, 3], &[Some("x"), None, Some("z")])],
        )
        .await;
    let query = bench
        .query("SELECT \"1\" AS b, $1 AS wanted FROM t WHERE \"0\" = $1")
        .await;
    let wanted: ArrayRef = Arc::new(Int32Array::from(vec![3, 9, 1]));
    let values = RecordBatch::try_from_iter([("a", wanted)]).unwrap();
    let answer = run(query.bind(&values).unwrap()).await.unwrap();
    assert_eq!(answer.num_rows(), 2);
    let shown = arrow::util::pretty::pretty_format_batches(&[answer])
        .unwrap()
        .to_string();
    assert!(
        shown.find("z").unwrap() < shown.find("x").unwrap(),
        "{shown}"
    );

    let values = bench.query("VALUES ($1 + 1, $2)").await;
    let bound = values.bind(&pairs(&[1, 2], &[Some("x"), None])).unwrap();
    assert_eq!(run(bound).await.unwrap().num_rows(), 2);
}

fn workers() -> RecordBatch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(vec!["Ada", "Bob", "Eve"])),
        Arc::new(Float64Array::from(vec![40.0, 20.0, 50.0])),
        Arc::new(Int64Array::from(vec![30, 60, 45])),
    ];
    let schema = schema_of(&[
        ("name", DataType::Utf8, false),
        ("hours", DataType::Float64, true),
        ("age", DataType::Int64, true),
    ]);
    RecordBatch::try_new(schema, columns).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_is_asked_over_a_table_or_a_query() {
    let bench = bench().await;
    bench.put("workers", WriteMode::Error, &[workers()]).await;
    let answer = bench
        .sql("SELECT * FROM predict(model => 'pension', input => TABLE workers)")
        .await
        .unwrap();
    let names: Vec<String> = answer
        .schema()
        .fields()
        .iter()
        .map(|f| f.name().clone())
        .collect();
    assert_eq!(names, ["name", "hours", "age", "prediction", "probability"]);
    let scalar = "SELECT predict('pension', age, hours).prediction FROM workers ORDER BY name";
    let expected = bench.texts(scalar).await;
    assert_eq!(expected, ["works", "rests", "works"]);
    for sql in [
        "SELECT p.prediction FROM predict(model => 'pension', version => 2, input => TABLE workers) AS p ORDER BY p.name",
        "SELECT prediction FROM PREDICT(input => table public.\"workers@0\", model => 'pension@2') ORDER BY name",
        "SELECT prediction FROM predict(model => 'pension', input => (SELECT * FROM workers WHERE age > 0)) ORDER BY name",
        "SELECT q.prediction FROM workers JOIN predict(model => 'pension', input => TABLE(workers)) q ON workers.name = q.name ORDER BY q.name",
        "WITH p AS (SELECT * FROM predict(model => 'pension', input => TABLE workers)) SELECT prediction FROM p ORDER BY name",
    ] {
        assert_eq!(bench.texts(sql).await, expected, "{sql}");
    }
    let few = "SELECT name FROM predict(model => 'pension', input => TABLE workers) WHERE prediction = 'rests'";
    assert_eq!(bench.texts(few).await, ["Bob"]);
    let plan = "EXPLAIN SELECT * FROM predict(model => 'pension', input => TABLE workers)";
    assert!(bench.sql(plan).await.unwrap().num_rows() > 0);
    // A table of answers.
    let scored = "CREATE TABLE scored AS SELECT name, prediction FROM predict(model => 'pension', input => TABLE workers)";
    assert_eq!(bench.change(scored).await.unwrap(), 3);

    for (sql, words) in [
        ("predict('pension', workers)", "has no name"),
        ("predict(model => 'pension')", "no input"),
        ("predict(input => TABLE workers)", "no model"),
        (
            "predict(model => pension, input => TABLE workers)",
            "single quotes",
        ),
        (
            "predict(model => 'pension', input => 'workers')",
            "neither a table nor a query",
        ),
        (
            "predict(model => 'pension', input => TABLE workers, keep => 'x')",
            "keep",
        ),
        (
            "predict(model => 'pension', version => 'x', input => TABLE workers)",
            "whole number",
        ),
        (
            "predict(model => 'pension', input => (SELECT name FROM workers))",
            "age",
        ),
        (
            "predict(model => 'nobody', input => TABLE workers)",
            "nobody",
        ),
        (
            "predict(model => 'pension', input => TABLE nothing)",
            "nothing",
        ),
    ] {
        let error = bench.refusal(&format!("SELECT * FROM {sql}")).await;
        assert!(error.to_string().contains(words), "{sql}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_statement_is_planned_with_its_options_and_its_rows() {
    let bench = bench().await;
    bench.put("workers", WriteMode::Error, &[workers()]).await;
    let understood = async |sql: &str| match bench.engine.understand(sql).await {
        Ok(SqlStatementPlan::Change(change)) => Ok(*change),
        Ok(SqlStatementPlan::Query(_)) => panic!("{sql} is a query"),
        Err(error) => Err(error),
    };
    let sql = "CREATE MODEL m OPTIONS (label = 'name') AS SELECT * FROM workers";
    let Change::CreateModel(create) = understood(sql).await.unwrap() else {
        panic!("it is a CREATE MODEL")
    };
    assert_eq!(create.options["label"], "name");
    assert!(matches!(create.source, crate::features::Source::Table(_)));
    let sql = "CREATE MODEL m AS SELECT name, age FROM workers";
    let Change::CreateModel(create) = understood(sql).await.unwrap() else {
        panic!("it is a CREATE MODEL")
    };
    assert!(
        matches!(create.source, crate::features::Source::Query(sql) if sql == "SELECT name, age FROM workers")
    );
    for (sql, words) in [
        ("CREATE MODEL m AS\nSELECT x FROM workers", "x"),
        (
            "CREATE MODEL m AS\nSELECT * FROM workers WHERE )",
            "Line: 2",
        ),
        ("CREATE MODEL m AS DROP TABLE workers", "only queries"),
        (
            "CREATE MODEL m AS SELECT * FROM workers WHERE age > ?",
            "parameters",
        ),
    ] {
        let error = understood(sql).await.unwrap_err();
        assert!(error.to_string().contains(words), "{sql}: {error}");
    }
}
