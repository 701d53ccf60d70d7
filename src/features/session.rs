//! A query to a schema and a stream; limits per query.
//!
//! One [`QueryEngine`] per server: every query draws on its one memory pool and spills into its one directory.
//! Each statement gets a session of its own, so nothing a client says outlives it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::catalog::{
    CatalogProvider, CatalogProviderList, MemoryCatalogProvider, MemoryCatalogProviderList,
    TableProvider,
};
use datafusion::datasource::provider_as_source;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::{FunctionRegistry, SessionState, SessionStateBuilder};
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder, ScalarUDF};
use datafusion::prelude::SessionConfig;
use futures::StreamExt;
use futures::stream::BoxStream;

use super::changes::rows_of_plan;
use super::computing::{self, QueryThreads};
use super::error::{from_datafusion, plain_text};
use super::functions::bounded;
use super::model_function::{FUNCTION, PredictFunction, split_version};
use super::parameters;
use super::same_names;
use super::statements::CheckedStatement;
use super::tables::{DatasetSchema, ParquetTable, ReadFiles, allowed_path, plain_schema};
use super::{FeatureError, ModelFunctions, Source};
use crate::catalog::Catalog;

/// The server's option behind [`QueryLimits::memory_bytes`], named in errors.
pub(super) const MEMORY_OPTION: &str = "memory-limit";

/// Name of the one catalog and of its one schema in SQL.
pub(super) const CATALOG: &str = "volary";
pub(super) const SCHEMA: &str = "public";

/// The group of functions whose documentation names none.
const OTHER_FUNCTIONS: &str = "Other Functions";

/// Bounds of one server's SQL.
#[derive(Debug, Clone)]
pub struct QueryLimits {
    /// Bytes all queries of this server may hold together.
    pub memory_bytes: usize,
    /// Partitions a query runs in; the server's cores.
    pub partitions: usize,
    /// Directories whose Parquet may be scored or trained from by path.
    pub allow_read: Vec<PathBuf>,
    /// Where operators spill.
    pub spill_directory: PathBuf,
}

/// SQL over the catalog. Cheap to clone.
#[derive(Debug, Clone)]
pub struct QueryEngine {
    catalog: Catalog,
    models: Arc<dyn ModelFunctions>,
    limits: QueryLimits,
    /// The session every statement starts from; `Err` when the spill directory or the threads cannot be had.
    base: Arc<Result<SessionState, String>>,
}

impl QueryEngine {
    pub fn new(catalog: Catalog, models: Arc<dyn ModelFunctions>, limits: QueryLimits) -> Self {
        let base = Arc::new(base_session(&limits));
        Self {
            catalog,
            models,
            limits,
            base,
        }
    }

    /// Parses, checks against the allow-list, finds models, plans. No rows are read.
    pub async fn prepare(&self, sql: &str) -> Result<Query, FeatureError> {
        let mut checked = super::statements::check(sql)?;
        same_names::set_apart(&mut checked.statement);
        self.plan_checked(checked, self.limits.partitions, None)
            .await
    }

    /// A source's schema and row stream in a fixed order: files and row groups in order, a query in one partition.
    pub async fn open(&self, source: &Source) -> Result<Query, FeatureError> {
        let query = match source {
            Source::Query(sql) => self.plan(sql, 1).await?,
            Source::Table(reference) => {
                let dataset = self.catalog.datasets.open(reference).await?;
                let state = self.session(1, false, None).await?;
                let table = ParquetTable::of_dataset(&dataset, state.runtime_env(), true)
                    .map_err(from_datafusion)?;
                self.scan(state, &dataset.name, table)?
            }
            Source::Staged(job) => {
                let dataset = self.catalog.datasets.open_staged(*job).await?;
                let state = self.session(1, false, None).await?;
                let table = ParquetTable::of_dataset(&dataset, state.runtime_env(), true)
                    .map_err(from_datafusion)?;
                self.scan(state, "rows", table)?
            }
            Source::Path(path) => {
                let real = allowed_path(path, &self.limits.allow_read)?;
                let state = self.session(1, false, None).await?;
                let table = ParquetTable::of_path(&real, &state).await?;
                self.scan(state, "rows", table)?
            }
        };
        if query.parameters.fields().is_empty() {
            Ok(query)
        } else {
            Err(FeatureError::BadSql {
                reason: "the query has parameters; write their values into it".into(),
            })
        }
    }

    /// Queries that may run beside each other.
    pub(super) fn partitions(&self) -> usize {
        self.limits.partitions
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.limits.memory_bytes
    }

    fn scan(
        &self,
        state: SessionState,
        name: &str,
        table: ParquetTable,
    ) -> Result<Query, FeatureError> {
        let rows = table.rows();
        let files = table.read_files();
        let metadata = table.schema().metadata().clone();
        let plan = LogicalPlanBuilder::scan(
            datafusion::common::TableReference::bare(name),
            provider_as_source(Arc::new(table)),
            None,
        )
        .and_then(LogicalPlanBuilder::build)
        .map_err(from_datafusion)?;
        let mut query = Query::new(state, plan, self.limits.memory_bytes)?;
        query.rows = Some(rows);
        query.files = Some(files);
        let fields = query.schema.fields().clone();
        query.schema = Arc::new(Schema::new_with_metadata(fields, metadata));
        Ok(query)
    }

    /// Plans a query whose rows something else is made of: a name is one column's.
    pub(super) async fn plan(&self, sql: &str, partitions: usize) -> Result<Query, FeatureError> {
        let checked = super::statements::check(sql)?;
        self.plan_checked(checked, partitions, None).await
    }

    /// Plans a statement that passed an allow-list to the rows that it answers or writes. The table `created` need not
    /// be there.
    pub(super) async fn plan_checked(
        &self,
        checked: CheckedStatement,
        partitions: usize,
        created: Option<&str>,
    ) -> Result<Query, FeatureError> {
        let (engine, created) = (self.clone(), created.map(str::to_owned));
        let threads = self.base()?.config().get_extension::<QueryThreads>();
        let planned = async move {
            engine
                .planned(checked, partitions, created.as_deref())
                .await
        };
        computing::plan(threads.as_deref(), planned).await
    }

    async fn planned(
        &self,
        mut checked: CheckedStatement,
        partitions: usize,
        created: Option<&str>,
    ) -> Result<Query, FeatureError> {
        let lists = checked.lists_datasets;
        let mut state = self.session(partitions, lists, created).await?;
        let mut found = Vec::with_capacity(checked.models.len());
        if !checked.models.is_empty() {
            for written in checked.models {
                let (name, version) = split_version(&written)?;
                let model = self
                    .models
                    .find(name, version)
                    .await
                    .map_err(|(fault, reason)| FeatureError::ModelUnavailable { fault, reason })?;
                found.push((written, model));
            }
            super::model_table::rewrite(&mut checked.statement, &found)?;
            state
                .register_udf(Arc::new(ScalarUDF::new_from_impl(PredictFunction::new(
                    found.clone(),
                ))))
                .map_err(from_datafusion)?;
        }
        let plan = state.statement_to_plan(checked.statement).await;
        let plan =
            plan.map_err(|error| super::model_table::explained(from_datafusion(error), &found))?;
        Query::new(state, rows_of_plan(plan)?, self.limits.memory_bytes)
    }

    pub(super) fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// The scalar functions of SQL by the group that their documentation puts them in.
    pub fn functions(&self) -> BTreeMap<&'static str, BTreeSet<String>> {
        let mut groups: BTreeMap<&'static str, BTreeSet<String>> = BTreeMap::new();
        let Ok(base) = self.base.as_ref() else {
            return groups;
        };
        // Each statement has one of its own, over its models.
        groups
            .entry(OTHER_FUNCTIONS)
            .or_default()
            .insert(FUNCTION.to_owned());
        for (name, function) in base.scalar_functions() {
            let group = function
                .documentation()
                .map_or(OTHER_FUNCTIONS, |documentation| {
                    documentation.doc_section.label
                });
            groups.entry(group).or_default().insert(name.clone());
        }
        groups
    }

    fn base(&self) -> Result<&SessionState, FeatureError> {
        self.base
            .as_ref()
            .as_ref()
            .map_err(|reason| FeatureError::Internal {
                reason: reason.clone(),
            })
    }

    async fn session(
        &self,
        partitions: usize,
        list: bool,
        created: Option<&str>,
    ) -> Result<SessionState, FeatureError> {
        let base = self.base()?;
        let runtime = Arc::clone(base.runtime_env());
        let datasets = DatasetSchema::new(
            self.catalog.clone(),
            runtime,
            partitions == 1,
            list,
            created,
        )
        .await?;
        let catalog = MemoryCatalogProvider::new();
        catalog
            .register_schema(SCHEMA, Arc::new(datasets))
            .map_err(from_datafusion)?;
        let catalogs = MemoryCatalogProviderList::new();
        catalogs.register_catalog(CATALOG.into(), Arc::new(catalog));
        let config = base
            .config()
            .clone()
            .with_target_partitions(partitions.max(1));
        let mut state = SessionStateBuilder::new_from_existing(base.clone())
            .with_config(config)
            .with_catalog_list(Arc::new(catalogs))
            .build();
        // What now() and current_date answer throughout the statement.
        state.mark_start_execution();
        Ok(state)
    }
}

/// The session that every statement's session is a copy of: functions, limits, no tables.
fn base_session(limits: &QueryLimits) -> Result<SessionState, String> {
    let runtime: Arc<RuntimeEnv> = RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(FairSpillPool::new(limits.memory_bytes)))
        .with_disk_manager_builder(DiskManagerBuilder::default().with_mode(
            DiskManagerMode::Directories(vec![limits.spill_directory.clone()]),
        ))
        .build_arc()
        .map_err(|error| {
            format!(
                "spill directory {:?} cannot be used: {}",
                limits.spill_directory,
                plain_text(&error)
            )
        })?;
    let threads = QueryThreads::start(limits.partitions)
        .map_err(|error| format!("the threads of queries cannot be started: {error}"))?;
    let mut state = SessionStateBuilder::new()
        .with_config(session_config(limits.partitions).with_extension(Arc::new(threads)))
        .with_runtime_env(runtime)
        .with_default_features()
        .build();
    let functions = bounded(state.scalar_functions().values(), limits.memory_bytes);
    for function in functions {
        state
            .register_udf(function)
            .map_err(|error| plain_text(&error))?;
    }
    Ok(state)
}

/// Settings that differ from DataFusion's own, with the reason beside each.
pub(super) fn session_config(partitions: usize) -> SessionConfig {
    let mut config = SessionConfig::new()
        .with_target_partitions(partitions.max(1))
        .with_information_schema(true)
        .with_create_default_catalog_and_schema(false)
        .with_default_catalog_and_schema(CATALOG, SCHEMA);
    let options = config.options_mut();
    // Clients older than the view types read our streams.
    options.execution.parquet.schema_force_view_types = false;
    options.sql_parser.map_string_types_to_utf8view = false;
    options.optimizer.expand_views_at_output = true;
    config
}

/// A planned query; its schema is the one that will be streamed, nullability included
/// (no view types, no dictionaries: expanded for outside clients).
#[derive(Clone)]
pub struct Query {
    pub(super) state: SessionState,
    /// As written; values and aggregates are put into this one.
    pub(super) plan: LogicalPlan,
    /// What runs; `None` while parameters have no values.
    optimized: Option<LogicalPlan>,
    pub(super) schema: SchemaRef,
    /// Types of the parameters by the plan, Null where nothing says them.
    pub(super) parameters: SchemaRef,
    /// Values of the parameters, for every row of which it runs once; `None`: it runs once as it is.
    pub(super) each: Option<RecordBatch>,
    rows: Option<u64>,
    /// What is read, where that is all that is done: a failure is one of these files.
    files: Option<ReadFiles>,
    pub(super) memory_bytes: usize,
}

impl std::fmt::Debug for Query {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Query")
            .field("schema", &self.schema)
            .field("parameters", &self.parameters)
            .field("rows", &self.rows)
            .finish_non_exhaustive()
    }
}

impl Query {
    pub(super) fn new(
        state: SessionState,
        plan: LogicalPlan,
        memory_bytes: usize,
    ) -> Result<Self, FeatureError> {
        let parameters = parameters::inferred(&plan)?;
        let has_parameters = !parameters.fields().is_empty();
        let (schema, optimized) = match state.optimize(&plan) {
            Ok(optimized) => (
                plain_schema(optimized.schema().as_arrow()),
                // Values may still change what the optimizer may do: it runs again after `bind`.
                (!has_parameters).then_some(optimized),
            ),
            Err(_) if has_parameters => (plain_schema(plan.schema().as_arrow()), None),
            Err(error) => return Err(from_datafusion(error).with_memory_limit(memory_bytes)),
        };
        Ok(Self {
            schema: same_names::as_written(without_metadata(&schema)),
            state,
            plan,
            optimized,
            parameters,
            each: None,
            rows: None,
            files: None,
            memory_bytes,
        })
    }

    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// Types of `$1`, `$2`, ... in order, in which drivers are told to bind values; [`Query::bind`] takes others too.
    pub fn parameters(&self) -> SchemaRef {
        parameters::advertised(&self.plan, &self.parameters)
    }

    /// Rows the source is known to have, for progress.
    pub fn rows_expected(&self) -> Option<u64> {
        self.rows
    }

    /// Runs it. Every batch has exactly `schema()`. Dropping the stream stops the work.
    pub async fn execute(
        mut self,
    ) -> Result<BoxStream<'static, Result<RecordBatch, FeatureError>>, FeatureError> {
        if let Some(values) = self.each.take() {
            return Ok(self.execute_each(values));
        }
        let Some(optimized) = self.optimized else {
            return Err(FeatureError::BadSql {
                reason: format!(
                    "{} parameters have no value; bind them first",
                    self.parameters.fields().len()
                ),
            });
        };
        let memory = self.memory_bytes;
        let failed = move |error| from_datafusion(error).with_memory_limit(memory);
        let threads = self.state.config().get_extension::<QueryThreads>();
        let state = self.state.clone();
        let physical = computing::plan(threads.as_deref(), async move {
            let planner = Arc::clone(state.query_planner());
            planner.create_physical_plan(&optimized, &state).await
        });
        let physical = physical.await.map_err(failed)?;
        let rows = computing::execute(physical, self.state.task_ctx()).map_err(failed)?;
        let schema = self.schema;
        let files = self.files;
        let mut read = 0;
        Ok(rows
            .map(move |batch| match batch {
                Ok(batch) => {
                    read += batch.num_rows() as u64;
                    conform(batch, &schema)
                }
                Err(error) => {
                    let error = failed(error);
                    Err(match &files {
                        Some(files) => files.name_file(error, read),
                        None => error,
                    })
                }
            })
            .boxed())
    }

    /// The plan and its session, for the pipeline's aggregates over the same rows.
    pub(super) fn into_parts(self) -> (SessionState, LogicalPlan) {
        (self.state, self.plan)
    }
}

fn without_metadata(schema: &Schema) -> SchemaRef {
    Arc::new(Schema::new(schema.fields().clone()))
}

/// Casts and relabels a batch to exactly the advertised schema; a null where none was advertised fails.
pub(super) fn conform(batch: RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, FeatureError> {
    let rows = batch.num_rows();
    let columns = batch
        .columns()
        .iter()
        .zip(schema.fields())
        .map(|(column, field)| {
            if column.data_type() == field.data_type() {
                Ok(Arc::clone(column))
            } else {
                strict_cast(column, field.data_type()).map_err(|reason| FeatureError::Internal {
                    reason: format!("column {:?}: {reason}", field.name()),
                })
            }
        })
        .collect::<Result<Vec<_>, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options).map_err(|error| {
        FeatureError::Internal {
            reason: error.to_string(),
        }
    })
}

/// A cast that fails where a value does not fit, instead of making it null.
pub(super) fn strict_cast(column: &ArrayRef, wanted: &DataType) -> Result<ArrayRef, String> {
    let options = CastOptions {
        safe: false,
        ..Default::default()
    };
    cast_with_options(column, wanted, &options).map_err(|error| error.to_string())
}
