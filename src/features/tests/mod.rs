//! SQL and pipelines against a real store, told as stories; the mechanics are here.

mod changes;
mod parameters;
mod pipelines;
mod speed;
mod sql;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float32Array, RecordBatch, StringArray};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema, SchemaRef};
use async_trait::async_trait;
use futures::TryStreamExt;

use super::{FeatureError, ModelFunction, ModelFunctions, Query, QueryEngine, QueryLimits, Source};
use crate::catalog::{Catalog, WriteMode};
use crate::support::fault::Fault;

/// An engine over an empty store, and the directory that holds it.
pub(super) struct Bench {
    pub engine: QueryEngine,
    pub catalog: Catalog,
    pub scratch: tempfile::TempDir,
}

pub(super) fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data")
}

pub(super) fn census() -> Source {
    Source::Path(
        examples()
            .join("census_train.parquet")
            .to_str()
            .unwrap()
            .to_owned(),
    )
}

pub(super) async fn bench() -> Bench {
    bench_with(1 << 30, 2).await
}

pub(super) async fn bench_with(memory_bytes: usize, partitions: usize) -> Bench {
    let scratch = tempfile::tempdir().unwrap();
    let store = scratch.path().join("store");
    let catalog = Catalog::open(store.to_str().unwrap(), "test", 0)
        .await
        .unwrap();
    let limits = QueryLimits {
        memory_bytes,
        partitions,
        allow_read: vec![examples(), scratch.path().join("open")],
        spill_directory: scratch.path().join("spill"),
    };
    std::fs::create_dir(scratch.path().join("spill")).unwrap();
    let engine = QueryEngine::new(catalog.clone(), Arc::new(TestModels), limits);
    Bench {
        engine,
        catalog,
        scratch,
    }
}

impl Bench {
    /// Each batch is written by itself; the dataset is one commit.
    pub(super) async fn put(&self, name: &str, mode: WriteMode, batches: &[RecordBatch]) {
        let mut writer = self
            .catalog
            .datasets
            .write(name, batches[0].schema(), mode)
            .await
            .unwrap();
        for batch in batches {
            writer.write(batch.clone()).await.unwrap();
        }
        writer.commit().await.unwrap();
    }

    pub(super) async fn sql(&self, sql: &str) -> Result<RecordBatch, FeatureError> {
        run(self.engine.prepare(sql).await?).await
    }

    /// The first column of the answer as text.
    pub(super) async fn texts(&self, sql: &str) -> Vec<String> {
        let answer = self.sql(sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
        let text = arrow::compute::cast(answer.column(0), &DataType::Utf8).unwrap();
        text.as_string::<i32>()
            .iter()
            .map(|text| text.unwrap_or("null").to_owned())
            .collect()
    }

    pub(super) async fn refusal(&self, sql: &str) -> FeatureError {
        match self.sql(sql).await {
            Ok(answer) => panic!("{sql} answered {} rows", answer.num_rows()),
            Err(error) => error,
        }
    }
}

/// All rows of a query as one batch; every batch has the advertised schema.
pub(super) async fn run(query: Query) -> Result<RecordBatch, FeatureError> {
    let schema = query.schema();
    let batches: Vec<RecordBatch> = query.execute().await?.try_collect().await?;
    for batch in &batches {
        assert_eq!(batch.schema(), schema);
    }
    Ok(concat_batches(&schema, &batches).unwrap())
}

pub(super) fn schema_of(fields: &[(&str, DataType, bool)]) -> SchemaRef {
    Arc::new(Schema::new(
        fields
            .iter()
            .map(|(name, data_type, nullable)| Field::new(*name, data_type.clone(), *nullable))
            .collect::<Vec<_>>(),
    ))
}

/// One model, `pension` version 2: reads `age` Int64 and `hours` Float64, answers whether hours > age and by how much.
#[derive(Debug)]
struct TestModels;

#[derive(Debug)]
struct Pension;

/// `span`: reads `pair`, a struct of `low` and `high`, and answers the difference.
#[derive(Debug)]
struct Span;

impl ModelFunction for Span {
    fn name(&self) -> &str {
        "span"
    }
    fn version(&self) -> u64 {
        1
    }
    fn input_schema(&self) -> SchemaRef {
        let ends = ["low", "high"].map(|name| Field::new(name, DataType::Float64, true));
        schema_of(&[("pair", DataType::Struct(ends.to_vec().into()), true)])
    }
    fn answer_schema(&self) -> SchemaRef {
        schema_of(&[("prediction", DataType::Float32, false)])
    }
    fn call(&self, rows: &RecordBatch) -> Result<RecordBatch, String> {
        let pair = rows.column(0).as_struct();
        let ends = [0, 1].map(|end| pair.column(end).as_primitive::<Float64Type>().values());
        let spans = ends[0]
            .iter()
            .zip(ends[1])
            .map(|(low, high)| (high - low) as f32);
        let spans: ArrayRef = Arc::new(Float32Array::from_iter_values(spans));
        RecordBatch::try_new(self.answer_schema(), vec![spans]).map_err(|error| error.to_string())
    }
}

#[async_trait]
impl ModelFunctions for TestModels {
    async fn find(
        &self,
        name: &str,
        version: Option<u64>,
    ) -> Result<Arc<dyn ModelFunction>, (Fault, String)> {
        if name == "pension" && version.is_none_or(|version| version == 2) {
            Ok(Arc::new(Pension))
        } else if name == "span" {
            Ok(Arc::new(Span))
        } else {
            Err((Fault::NotFound, format!("there is no model {name:?}")))
        }
    }
}

impl ModelFunction for Pension {
    fn name(&self) -> &str {
        "pension"
    }
    fn version(&self) -> u64 {
        2
    }
    fn input_schema(&self) -> SchemaRef {
        schema_of(&[
            ("age", DataType::Int64, true),
            ("hours", DataType::Float64, true),
        ])
    }
    fn answer_schema(&self) -> SchemaRef {
        schema_of(&[
            ("prediction", DataType::Utf8, false),
            ("probability", DataType::Float32, false),
        ])
    }
    fn call(&self, rows: &RecordBatch) -> Result<RecordBatch, String> {
        let ages = rows.column(0).as_primitive::<Int64Type>();
        let hours = rows.column(1).as_primitive::<Float64Type>();
        if ages.null_count() > 0 {
            return Err("column \"age\" has a null; impute it".into());
        }
        let by: Vec<f32> = ages
            .values()
            .iter()
            .zip(hours.values())
            .map(|(age, hours)| (*hours - *age as f64) as f32)
            .collect();
        let prediction: StringArray = by
            .iter()
            .map(|by| Some(if *by > 0.0 { "works" } else { "rests" }))
            .collect();
        let columns: Vec<ArrayRef> = vec![Arc::new(prediction), Arc::new(Float32Array::from(by))];
        RecordBatch::try_new(self.answer_schema(), columns).map_err(|error| error.to_string())
    }
}
