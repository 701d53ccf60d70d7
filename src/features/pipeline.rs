//! Fit on one dataset, apply to another. A pipeline is data: the list, and what fitting learnt.
//!
//! A fitted pipeline is bound to the columns that come in ([`FittedPipeline::bind`]), which compiles each feature to one
//! expression over raw columns; then [`AppliedPipeline::apply`] runs per record batch, without plan, lock or async.
//! Training and every scoring door go through these two, so that they cannot disagree.
//!
//! What a feature column is in the end: numbers and booleans are Float32, whole numbers Int64 (a network's float32 or
//! int32 input takes them), indices Int32, one-hot columns and vectors FixedSizeList<Float32>, vectors of whole numbers
//! FixedSizeList<Int32> or, of wider ones, <Int64>. What each transform does with nulls and unseen values is in
//! [`super::transforms`].

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeListArray, Float32Array, PrimitiveArray, RecordBatch,
    RecordBatchOptions, new_null_array,
};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Field, FieldRef, Float32Type, Float64Type, Int64Type, Schema, SchemaRef,
};
use datafusion::common::{Column, DFSchema};
use datafusion::error::DataFusionError;
use datafusion::execution::{FunctionRegistry, SessionState, SessionStateBuilder};
use datafusion::logical_expr::{Expr, LogicalPlanBuilder};
use datafusion::physical_expr::PhysicalExpr;
use serde_json::{Value, json};

use super::error::{from_datafusion, list_names, unknown_column};
use super::session::strict_cast;
use super::tables::plain_schema;
use super::transforms::{ColumnKind, ColumnSet, FittedStep, TrainingRows, TransformSpec, learn};
use super::vectors::{VectorProblem, is_list_of_numbers, rebased, to_vectors, vectors_of};
use super::{FeatureError, QueryEngine, Source};

/// Raised when an old reader would misread a new pipeline.
const FORMAT_VERSION: u64 = 1;
/// Most transforms in a pipeline.
const STEPS_MAX: usize = 1_000;
const OUT_OF_RANGE_HINT: &str = "impute or clip it in the pipeline, or leave such rows out";
/// Field metadata of an Int32 feature: its values are below this number (what an embedding calls `input_dim`).
pub const CARDINALITY: &str = "volary.cardinality";

/// The list of transforms as the client gave it (JSON objects `{"transform": "impute", "columns": [...], ...}`).
#[derive(Debug, Clone, PartialEq)]
pub struct PipelineSpec {
    steps: Vec<TransformSpec>,
}

impl PipelineSpec {
    /// Reads and checks every step; columns are checked against the data by [`PipelineSpec::fit`].
    pub fn from_json(steps: &[serde_json::Value]) -> Result<Self, FeatureError> {
        if steps.len() > STEPS_MAX {
            return Err(FeatureError::BadPipeline {
                step: STEPS_MAX + 1,
                transform: "?".into(),
                reason: format!(
                    "a pipeline has at most {STEPS_MAX} steps; name several columns in one"
                ),
            });
        }
        let steps = steps
            .iter()
            .enumerate()
            .map(|(at, step)| TransformSpec::from_json(at + 1, step))
            .collect::<Result<_, _>>()?;
        Ok(Self { steps })
    }

    /// Learns from the rows of `source` by aggregate SQL. `features` are the raw columns it may read, in order;
    /// `filter` is a SQL condition that keeps the training rows (None: all).
    pub async fn fit(
        &self,
        engine: &QueryEngine,
        source: &Source,
        features: &[String],
        filter: Option<&str>,
    ) -> Result<FittedPipeline, FeatureError> {
        let (state, plan) = engine.open(source).await?.into_parts();
        let mut plan = LogicalPlanBuilder::from(plan);
        if let Some(filter) = filter {
            if filter.len() > super::statements::STATEMENT_BYTES_MAX {
                return Err(FeatureError::BadSql {
                    reason: "the filter is longer than a statement may be; shorten it".into(),
                });
            }
            super::nesting::check_nesting(filter)
                .map_err(|reason| FeatureError::BadSql { reason })?;
            let condition = state
                .create_logical_expr(filter, plan.schema())
                .map_err(from_datafusion)?;
            plan = plan.filter(condition).map_err(from_datafusion)?;
        }
        let names: Vec<String> = plan
            .schema()
            .fields()
            .iter()
            .map(|field| field.name().clone())
            .collect();
        let mut fields: Vec<Field> = Vec::with_capacity(features.len());
        let mut projection = Vec::with_capacity(features.len());
        for feature in features {
            let places: Vec<usize> = (0..names.len())
                .filter(|at| &names[*at] == feature)
                .collect();
            let at = match places.as_slice() {
                [] => return Err(unknown_column(feature, " among the training rows", &names)),
                [at] => *at,
                _ => {
                    return Err(FeatureError::BadColumn {
                        column: feature.clone(),
                        problem: "stands for several columns of the query".into(),
                        hint: "give each a name of its own with AS".into(),
                    });
                }
            };
            if fields.iter().any(|field| field.name() == feature) {
                return Err(FeatureError::BadColumn {
                    column: feature.clone(),
                    problem: "is named twice among the features".into(),
                    hint: "name it once".into(),
                });
            }
            let (qualifier, field) = plan.schema().qualified_field(at);
            fields.push(Field::new(feature, field.data_type().clone(), true));
            projection.push(
                Expr::Column(Column::new(qualifier.cloned(), feature)).alias(feature.as_str()),
            );
        }
        // The types that come out of the scan are plain; what a query computes may still be a view or dictionary.
        let fields: Vec<Field> = plain_schema(&Schema::new(fields))
            .fields()
            .iter()
            .map(|field| match ColumnKind::of(field.data_type()) {
                // Whatever the source calls the items of its lists, a saved pipeline has one name for them.
                vector @ ColumnKind::Vector { .. } => {
                    Field::new(field.name(), vector.data_type(), true)
                }
                _ => field.as_ref().clone(),
            })
            .collect();
        let plan = plan
            .project(projection)
            .and_then(LogicalPlanBuilder::build)
            .map_err(from_datafusion)?;
        let rows = TrainingRows {
            state,
            plan,
            beside: engine.partitions(),
        };
        let steps = learn(&self.steps, &fields, &rows)
            .await
            .map_err(|error| error.with_memory_limit(engine.memory_bytes()))?;
        FittedPipeline::new(fields, steps)
    }
}

/// A pipeline that has learnt. Saved with the model.
#[derive(Debug, Clone)]
pub struct FittedPipeline {
    /// Raw columns that some step or feature names, in the order of the features asked for.
    raw: Vec<Field>,
    steps: Vec<FittedStep>,
    /// Those of `raw` that the features are made of.
    input: SchemaRef,
    output: SchemaRef,
}

impl PartialEq for FittedPipeline {
    fn eq(&self, other: &Self) -> bool {
        self.raw == other.raw && self.steps == other.steps
    }
}

impl FittedPipeline {
    fn new(raw: Vec<Field>, steps: Vec<FittedStep>) -> Result<Self, FeatureError> {
        let columns = replay(&raw, &steps)?;
        columns.check_finished()?;
        let read = columns.raw_names();
        // A raw column that was only dropped is forgotten with its drop: models are not asked for it, whatever its type.
        let forgotten: Vec<String> = raw
            .iter()
            .filter(|field| {
                !read.contains(field.name())
                    && field
                        .data_type()
                        .to_string()
                        .parse::<DataType>()
                        .ok()
                        .as_ref()
                        != Some(field.data_type())
            })
            .map(|field| field.name().clone())
            .collect();
        let raw: Vec<Field> = raw
            .into_iter()
            .filter(|field| !forgotten.contains(field.name()))
            .collect();
        let steps: Vec<FittedStep> = steps
            .into_iter()
            .filter(
                |step| !matches!(step, FittedStep::Drop { column } if forgotten.contains(column)),
            )
            .collect();
        let input: Vec<Field> = raw
            .iter()
            .filter(|field| read.contains(field.name()))
            .cloned()
            .collect();
        let output: Vec<Field> = columns
            .columns()
            .iter()
            .map(|column| feature_field(&column.name, &column.kind))
            .collect();
        Ok(Self {
            raw,
            steps,
            input: Arc::new(Schema::new(input)),
            output: Arc::new(Schema::new(output)),
        })
    }

    pub fn to_json(&self) -> serde_json::Value {
        json!({
            "format_version": FORMAT_VERSION,
            "columns": self.raw.iter().map(|field| json!({
                "name": field.name(),
                "type": field.data_type().to_string(),
            })).collect::<Vec<_>>(),
            "steps": self.steps.iter().map(FittedStep::to_json).collect::<Vec<_>>(),
        })
    }

    pub fn from_json(value: &serde_json::Value) -> Result<Self, FeatureError> {
        let broken = |reason: String| FeatureError::BadPipeline {
            step: 0,
            transform: "saved".into(),
            reason,
        };
        match value.get("format_version").and_then(Value::as_u64) {
            Some(FORMAT_VERSION) => {}
            Some(newer) => {
                return Err(broken(format!(
                    "its format is version {newer} and this server reads {FORMAT_VERSION}; use a newer server"
                )));
            }
            None => {
                return Err(broken(
                    "it has no `format_version`; it is not a pipeline".into(),
                ));
            }
        }
        let members = |name: &str| {
            value
                .get(name)
                .and_then(Value::as_array)
                .ok_or_else(|| broken(format!("it has no `{name}`; it was altered")))
        };
        let raw = members("columns")?
            .iter()
            .map(|column| {
                let name = column.get("name").and_then(Value::as_str);
                let data_type = column
                    .get("type")
                    .and_then(Value::as_str)
                    .and_then(|text| text.parse::<DataType>().ok());
                match (name, data_type) {
                    (Some(name), Some(data_type)) => Ok(Field::new(name, data_type, true)),
                    _ => Err(broken(format!(
                        "column {column} cannot be read; it was altered"
                    ))),
                }
            })
            .collect::<Result<Vec<_>, _>>()?;
        let steps = members("steps")?
            .iter()
            .enumerate()
            .map(|(at, step)| FittedStep::from_json(at + 1, step))
            .collect::<Result<Vec<_>, _>>()?;
        Self::new(raw, steps)
    }

    /// Raw columns read, in the model's input order, with their types.
    pub fn input_schema(&self) -> SchemaRef {
        Arc::clone(&self.input)
    }

    /// Feature columns made: Float32, Int64 or Int32, or fixed-size lists of these (one-hot, vectors), in order.
    /// An Int32 column's field says in its metadata ([`CARDINALITY`]) below which number its values are.
    pub fn output_schema(&self) -> SchemaRef {
        Arc::clone(&self.output)
    }

    /// Binds to the columns of incoming batches, in any order, extra columns passed over; a missing or wrongly typed
    /// column is refused by name (an integer or float column takes any numeric type that casts without loss of range).
    pub fn bind(&self, incoming: &Schema) -> Result<AppliedPipeline, FeatureError> {
        let mut missing = Vec::new();
        let mut inputs = Vec::with_capacity(self.input.fields().len());
        let mut bound: Vec<Field> = self.raw.clone();
        for field in self.input.fields() {
            let mut places = incoming
                .fields()
                .iter()
                .enumerate()
                .filter(|(_, column)| column.name() == field.name());
            let Some((at, column)) = places.next() else {
                missing.push(field.name().as_str());
                continue;
            };
            if places.next().is_some() {
                return Err(FeatureError::BadColumn {
                    column: field.name().clone(),
                    problem: "comes twice".into(),
                    hint: "give each column a name of its own".into(),
                });
            }
            let adaptor =
                Adaptor::between(column.data_type(), field.data_type()).ok_or_else(|| {
                    FeatureError::BadColumn {
                        column: field.name().clone(),
                        problem: format!(
                            "is {} and the model was trained on {}",
                            column.data_type(),
                            field.data_type()
                        ),
                        hint: "cast it before sending".into(),
                    }
                })?;
            let adapted = adaptor.result(column.data_type(), field.data_type());
            if let Some(raw) = bound.iter_mut().find(|raw| raw.name() == field.name()) {
                *raw = Field::new(field.name(), adapted.clone(), true);
            }
            inputs.push(Input {
                at,
                name: field.name().clone(),
                incoming: column.data_type().clone(),
                adapted,
                adaptor,
            });
        }
        if let Some(first) = missing.first() {
            let names: Vec<String> = incoming
                .fields()
                .iter()
                .map(|column| column.name().clone())
                .collect();
            let context = if missing.len() == 1 {
                ", which the model reads".to_owned()
            } else {
                format!(
                    ", which the model reads, nor {}",
                    list_names(missing[1..].iter().copied())
                )
            };
            return Err(unknown_column(first, &context, &names));
        }
        let columns = replay(&bound, &self.steps)?;
        let schema: SchemaRef = Arc::new(Schema::new(
            inputs
                .iter()
                .map(|input| Field::new(&input.name, input.adapted.clone(), true))
                .collect::<Vec<_>>(),
        ));
        let named = DFSchema::from_unqualified_fields(schema.fields().clone(), HashMap::new())
            .map_err(from_datafusion)?;
        let outputs = columns
            .columns()
            .iter()
            .zip(self.output.fields())
            .map(|(column, field)| {
                Ok(Output {
                    field: Arc::clone(field),
                    kind: column.kind.clone(),
                    expression: expressions()
                        .create_physical_expr(column.expression.clone(), &named)
                        .map_err(from_datafusion)?,
                })
            })
            .collect::<Result<Vec<_>, FeatureError>>()?;
        Ok(AppliedPipeline {
            bound: Arc::new(Bound {
                inputs,
                schema,
                outputs,
                features: Arc::clone(&self.output),
            }),
        })
    }
}

fn replay(raw: &[Field], steps: &[FittedStep]) -> Result<ColumnSet, FeatureError> {
    let mut columns = ColumnSet::raw(raw);
    for (at, step) in steps.iter().enumerate() {
        columns.apply(step, at + 1, expressions())?;
    }
    Ok(columns)
}

/// The session that parses and compiles expressions: functions and no tables.
fn expressions() -> &'static SessionState {
    static STATE: OnceLock<SessionState> = OnceLock::new();
    STATE.get_or_init(|| {
        let mut state = SessionStateBuilder::new()
            .with_config(super::session::session_config(1))
            .with_default_features()
            .build();
        // One for all pipelines, so no server's memory limit is known: the fixed one holds.
        let functions = super::functions::bounded(state.scalar_functions().values(), usize::MAX);
        for function in functions {
            // Refused only by a registry that cannot be written to.
            let registered = state.register_udf(function);
            debug_assert!(registered.is_ok());
        }
        state
    })
}

fn feature_field(name: &str, kind: &ColumnKind) -> Field {
    match kind {
        ColumnKind::Index { cardinality } => Field::new(name, DataType::Int32, false)
            .with_metadata([(CARDINALITY.to_owned(), cardinality.to_string())].into()),
        ColumnKind::OneHot { slots } => {
            Field::new(name, super::functions::one_hot_type(*slots), false)
        }
        ColumnKind::Vector { width, item } => {
            let number = match item {
                // A float32 is made of these faster than of Int64.
                DataType::Int8
                | DataType::Int16
                | DataType::Int32
                | DataType::UInt8
                | DataType::UInt16 => DataType::Int32,
                whole if whole.is_integer() => DataType::Int64,
                _ => DataType::Float32,
            };
            let size = i32::try_from(*width).unwrap_or(i32::MAX);
            let item = Field::new_list_field(number, false);
            Field::new(name, DataType::FixedSizeList(Arc::new(item), size), false)
        }
        ColumnKind::Integer => Field::new(name, DataType::Int64, false),
        _ => Field::new(name, DataType::Float32, false),
    }
}

/// How an incoming column becomes one of the model's input type.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Adaptor {
    /// The compiled expressions take it as it is.
    AsIs,
    /// Dictionaries to their values.
    Cast,
    /// A column of nothing but nulls, which come as no type, to the model's type.
    Nulls,
    /// Whole numbers where floats were trained.
    Floats,
    /// Floats where integers were trained: whole numbers pass (NaN as null, as pandas writes missing integers).
    Whole,
    /// Lists of any length where vectors were trained: those of the vectors' length pass.
    Vector,
}

impl Adaptor {
    fn between(incoming: &DataType, wanted: &DataType) -> Option<Self> {
        if incoming == &DataType::Null {
            return Some(Self::Nulls);
        }
        let is_dictionary = matches!(incoming, DataType::Dictionary(_, _));
        let values = match incoming {
            DataType::Dictionary(_, values) => values.as_ref(),
            other => other,
        };
        match (ColumnKind::of(values), ColumnKind::of(wanted)) {
            (ColumnKind::Float, ColumnKind::Integer) => Some(Self::Whole),
            (ColumnKind::Integer, ColumnKind::Float) => Some(Self::Floats),
            (ColumnKind::Float, ColumnKind::Float)
            | (ColumnKind::Integer, ColumnKind::Integer)
            | (ColumnKind::Boolean, ColumnKind::Boolean)
            | (ColumnKind::Text(_), ColumnKind::Text(_)) => Some(if is_dictionary {
                Self::Cast
            } else {
                Self::AsIs
            }),
            (ColumnKind::Vector { width: given, .. }, ColumnKind::Vector { width, .. })
                if given == width =>
            {
                Some(if is_dictionary {
                    Self::Cast
                } else {
                    Self::AsIs
                })
            }
            (ColumnKind::Other(given), ColumnKind::Vector { .. }) if is_list_of_numbers(&given) => {
                Some(Self::Vector)
            }
            (ColumnKind::Other(given), ColumnKind::Other(wanted)) if given == wanted => {
                Some(if is_dictionary {
                    Self::Cast
                } else {
                    Self::AsIs
                })
            }
            _ => None,
        }
    }

    /// The type after adapting.
    fn result(self, incoming: &DataType, wanted: &DataType) -> DataType {
        match (self, incoming) {
            (Self::Whole, _) => DataType::Int64,
            // Holds every whole number up to 2^53; a narrower one would round before the model does.
            (Self::Floats, _) => DataType::Float64,
            (Self::Nulls, _) => wanted.clone(),
            // With its own items: casting them here could round them.
            (Self::Vector, _) => vectors_of(incoming, wanted),
            (Self::Cast, DataType::Dictionary(_, values)) => values.as_ref().clone(),
            _ => incoming.clone(),
        }
    }
}

#[derive(Debug)]
struct Input {
    /// Place among the incoming columns.
    at: usize,
    name: String,
    incoming: DataType,
    adapted: DataType,
    adaptor: Adaptor,
}

#[derive(Debug)]
struct Output {
    field: FieldRef,
    kind: ColumnKind,
    expression: Arc<dyn PhysicalExpr>,
}

#[derive(Debug)]
struct Bound {
    inputs: Vec<Input>,
    /// Adapted inputs.
    schema: SchemaRef,
    outputs: Vec<Output>,
    features: SchemaRef,
}

/// A fitted pipeline bound to one incoming schema. Cheap to clone, no async, same rows in the same order.
#[derive(Debug, Clone)]
pub struct AppliedPipeline {
    bound: Arc<Bound>,
}

impl AppliedPipeline {
    /// Feature columns of `rows`. Floats that come out NaN or infinite, and nulls, are refused with column and row
    /// (counted from 0 within the batch).
    pub fn apply(&self, rows: &RecordBatch) -> Result<RecordBatch, FeatureError> {
        let bound = &*self.bound;
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        let inputs = bound
            .inputs
            .iter()
            .map(|input| input.take(rows))
            .collect::<Result<Vec<_>, _>>()?;
        let failed = |error: arrow::error::ArrowError| FeatureError::Internal {
            reason: error.to_string(),
        };
        let inputs = RecordBatch::try_new_with_options(Arc::clone(&bound.schema), inputs, &options)
            .map_err(failed)?;
        let features = bound
            .outputs
            .iter()
            .map(|output| output.make(&inputs))
            .collect::<Result<Vec<_>, _>>()?;
        RecordBatch::try_new_with_options(Arc::clone(&bound.features), features, &options)
            .map_err(failed)
    }
}

impl Input {
    fn take(&self, rows: &RecordBatch) -> Result<ArrayRef, FeatureError> {
        let column = rows
            .columns()
            .get(self.at)
            .filter(|column| column.data_type() == &self.incoming)
            .ok_or_else(|| FeatureError::BadColumn {
                column: self.name.clone(),
                problem: "is not as the first batch had it".into(),
                hint: "send batches of one schema".into(),
            })?;
        let refuse = |problem: String| FeatureError::BadColumn {
            column: self.name.clone(),
            problem,
            hint: "cast it before sending".into(),
        };
        match self.adaptor {
            // An expression may make vectors of lists.
            Adaptor::AsIs => Ok(rebased(column)),
            Adaptor::Cast | Adaptor::Floats => strict_cast(column, &self.adapted).map_err(refuse),
            Adaptor::Nulls => Ok(new_null_array(&self.adapted, column.len())),
            Adaptor::Vector => to_vectors(column, &self.adapted).map_err(|problem| {
                let (row, problem) = match problem {
                    VectorProblem::Length { row, length } => (row, format!("has {length} numbers")),
                    VectorProblem::Cast(reason) => return refuse(reason),
                };
                FeatureError::BadValue {
                    column: self.name.clone(),
                    problem,
                    row,
                    remark: " where the model was trained on vectors of another length",
                    hint: format!("send {} each time", self.adapted),
                }
            }),
            Adaptor::Whole => {
                let floats =
                    cast(column, &DataType::Float64).map_err(|error| refuse(error.to_string()))?;
                let floats = floats.as_primitive::<Float64Type>();
                let whole = floats
                    .iter()
                    .enumerate()
                    .map(|(row, value)| match value.filter(|value| !value.is_nan()) {
                        None => Ok(None),
                        // 2^63 itself does not fit; every float below it does.
                        Some(value)
                            if value.fract() == 0.0
                                && value.abs() < 9_223_372_036_854_775_808.0 =>
                        {
                            Ok(Some(value as i64))
                        }
                        Some(value) => Err(FeatureError::BadValue {
                            column: self.name.clone(),
                            problem: format!("has {value}"),
                            row,
                            remark: " where the model was trained on integers",
                            hint: "cast it before sending".into(),
                        }),
                    })
                    .collect::<Result<PrimitiveArray<Int64Type>, _>>()?;
                Ok(Arc::new(whole))
            }
        }
    }
}

impl Output {
    fn make(&self, inputs: &RecordBatch) -> Result<ArrayRef, FeatureError> {
        let made = self
            .evaluate(inputs)
            .map_err(|error| self.cannot_be_computed(inputs, error))?;
        if let Some(nulls) = made.nulls().filter(|nulls| nulls.null_count() > 0) {
            return Err(FeatureError::BadValue {
                column: self.field.name().clone(),
                problem: "has a null".into(),
                row: nulls.iter().position(|valid| !valid).unwrap_or(0),
                remark: "",
                hint: match self.kind {
                    ColumnKind::Vector { .. } => "leave such rows out".into(),
                    _ => "impute it in the pipeline".into(),
                },
            });
        }
        let wrong = || FeatureError::Internal {
            reason: format!(
                "feature {:?} came as {}",
                self.field.name(),
                made.data_type()
            ),
        };
        let floats: Vec<f32> = match self.kind {
            ColumnKind::Index { .. } | ColumnKind::OneHot { .. } => return Ok(made),
            ColumnKind::Float => {
                let numbers = made.as_primitive_opt::<Float64Type>().ok_or_else(wrong)?;
                numbers
                    .values()
                    .iter()
                    .map(|number| *number as f32)
                    .collect()
            }
            ColumnKind::Integer => {
                let numbers = made.as_primitive_opt::<Int64Type>().ok_or_else(wrong)?;
                return Ok(Arc::new(PrimitiveArray::<Int64Type>::new(
                    numbers.values().clone(),
                    None,
                )));
            }
            ColumnKind::Boolean => {
                let flags = made.as_boolean_opt().ok_or_else(wrong)?;
                flags
                    .values()
                    .iter()
                    .map(|flag| f32::from(u8::from(flag)))
                    .collect()
            }
            ColumnKind::Vector { width, .. } => return self.vectors(&made, width),
            ColumnKind::Text(_) | ColumnKind::Other(_) => return Err(wrong()),
        };
        if !floats
            .iter()
            .fold(true, |all, number| all & number.is_finite())
        {
            let row = floats
                .iter()
                .position(|number| !number.is_finite())
                .unwrap_or(0);
            let met = made
                .as_primitive_opt::<Float64Type>()
                .map_or(f64::from(floats[row]), |numbers| numbers.value(row));
            return Err(self.not_finite(met, row));
        }
        Ok(Arc::new(Float32Array::from(floats)))
    }

    fn evaluate(&self, inputs: &RecordBatch) -> datafusion::error::Result<ArrayRef> {
        let value = self.expression.evaluate(inputs)?;
        value.into_array(inputs.num_rows())
    }

    /// Says at which row an expression fails: the end of the shortest run of rows that fails, since each row is computed
    /// from itself alone.
    fn cannot_be_computed(&self, inputs: &RecordBatch, error: DataFusionError) -> FeatureError {
        let reason = match from_datafusion(error) {
            FeatureError::Execution { reason } => reason,
            other => return other,
        };
        let (mut good, mut bad) = (0, inputs.num_rows());
        while bad > good + 1 {
            let middle = usize::midpoint(good, bad);
            if self.evaluate(&inputs.slice(0, middle)).is_ok() {
                good = middle;
            } else {
                bad = middle;
            }
        }
        FeatureError::BadValue {
            column: self.field.name().clone(),
            problem: format!("cannot be computed ({reason})"),
            row: good,
            remark: "",
            hint: "look at the values it is made of".into(),
        }
    }

    /// A column of vectors without nulls among them, as the feature's numbers.
    fn vectors(&self, made: &ArrayRef, width: usize) -> Result<ArrayRef, FeatureError> {
        let wrong = |reason: String| FeatureError::Internal {
            reason: format!("feature {:?}: {reason}", self.field.name()),
        };
        let list = made
            .as_fixed_size_list_opt()
            .filter(|list| list.value_length() as usize == width)
            .ok_or_else(|| wrong(format!("it came as {}", made.data_type())))?;
        // The values of a slice are those of the whole.
        let numbers = list
            .values()
            .slice(list.value_offset(0) as usize, list.len() * width);
        if let Some(place) = numbers
            .logical_nulls()
            .and_then(|nulls| nulls.iter().position(|valid| !valid))
        {
            return Err(FeatureError::BadValue {
                column: self.field.name().clone(),
                problem: "has a null in the vector".into(),
                row: place / width,
                remark: "",
                hint: "give every vector all of its numbers, or leave such rows out".into(),
            });
        }
        let DataType::FixedSizeList(item, size) = self.field.data_type() else {
            return Err(wrong(format!("it is to be {}", self.field.data_type())));
        };
        let numbers = match item.data_type() {
            DataType::Float32 => self.floats(&numbers, width)?,
            whole => self.whole_numbers(&numbers, whole, width)?,
        };
        FixedSizeListArray::try_new(Arc::clone(item), *size, numbers, None)
            .map(|list| Arc::new(list) as ArrayRef)
            .map_err(|error| wrong(error.to_string()))
    }

    /// The numbers of vectors as float32, all finite.
    fn floats(&self, numbers: &ArrayRef, width: usize) -> Result<ArrayRef, FeatureError> {
        let floats = if numbers.data_type() == &DataType::Float32 {
            Arc::clone(numbers)
        } else {
            // By way of float64, so that what is beyond float32 becomes an infinity that is seen below.
            let numbers = self.doubles(numbers)?;
            let numbers = numbers.as_primitive::<Float64Type>().values();
            Arc::new(Float32Array::from_iter_values(
                numbers.iter().map(|number| *number as f32),
            ))
        };
        let values = floats.as_primitive::<Float32Type>().values();
        if let Some(place) = values.iter().position(|number| !number.is_finite()) {
            let met = self.doubles(&numbers.slice(place, 1))?;
            let met = met.as_primitive::<Float64Type>().value(0);
            return Err(self.not_finite(met, place / width));
        }
        Ok(floats)
    }

    /// The numbers of vectors as those of `wanted`, Int32 or Int64, that the model was trained on: no other number is met.
    fn whole_numbers(
        &self,
        numbers: &ArrayRef,
        wanted: &DataType,
        width: usize,
    ) -> Result<ArrayRef, FeatureError> {
        if numbers.data_type() == wanted {
            return Ok(Arc::clone(numbers));
        }
        let whole = self.converted(numbers, wanted)?;
        // What does not fit has become null, and what is behind a point was cut.
        let beyond = whole
            .nulls()
            .and_then(|nulls| nulls.iter().position(|valid| !valid));
        let cut = if numbers.data_type().is_integer() {
            None
        } else {
            let doubles = self.doubles(numbers)?;
            let mut doubles = doubles.as_primitive::<Float64Type>().values().iter();
            doubles.position(|number| number.fract() != 0.0)
        };
        let (place, remark) = match (cut, beyond) {
            (None, None) => return Ok(whole),
            (Some(cut), beyond) if beyond.is_none_or(|beyond| cut <= beyond) => {
                (cut, " where the model was trained on integers")
            }
            (cut, beyond) => (
                beyond.or(cut).unwrap_or(0),
                " where the model was trained on integers of fewer bits",
            ),
        };
        let met = self.doubles(&numbers.slice(place, 1))?;
        Err(FeatureError::BadValue {
            column: self.field.name().clone(),
            problem: format!("has {}", met.as_primitive::<Float64Type>().value(0)),
            row: place / width,
            remark,
            hint: "cast it before sending".into(),
        })
    }

    fn doubles(&self, numbers: &ArrayRef) -> Result<ArrayRef, FeatureError> {
        self.converted(numbers, &DataType::Float64)
    }

    fn converted(&self, numbers: &ArrayRef, wanted: &DataType) -> Result<ArrayRef, FeatureError> {
        cast(numbers, wanted).map_err(|error| FeatureError::Internal {
            reason: format!("feature {:?}: {error}", self.field.name()),
        })
    }

    fn not_finite(&self, met: f64, row: usize) -> FeatureError {
        let (problem, remark) = if met.is_finite() {
            (format!("is {met:e}"), ", which is beyond float32")
        } else {
            (format!("is {met}"), "")
        };
        FeatureError::BadValue {
            column: self.field.name().clone(),
            problem,
            row,
            remark,
            hint: OUT_OF_RANGE_HINT.into(),
        }
    }
}
