//! Fitting: what must be learnt of the training rows, by as few aggregate queries as the order of the steps allows.
//!
//! Steps are taken in stages. A stage holds every step whose columns wait for nothing unlearnt; one query answers all
//! its sums, and one query per column counts values or walks them in order (medians and quantiles are exact).
//! Each query runs in one partition over the rows in their order, so that a sum of floats has the same bits every time;
//! the queries of a stage run beside each other.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Field, Float64Type, Int64Type};
use datafusion::execution::SessionState;
use datafusion::functions_aggregate::expr_fn::{avg, count, max, min, stddev_pop};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, ident, lit};
use datafusion::physical_plan::execute_stream;
use futures::{StreamExt, TryStreamExt};
use tokio_util::task::AbortOnDropHandle;

use super::columns::{ColumnKind, ColumnSet, PipelineColumn};
use super::fitted::{FillValue, FittedStep};
use super::spec::{CategoryLimits, Edges, ImputeStrategy, TransformSpec};
use super::{INDEX_CATEGORIES_MAX, ONE_HOT_CATEGORIES_MAX, Place};
use crate::features::FeatureError;
use crate::features::error::from_datafusion;
use crate::features::functions::{Categories, CategoryValues, ColumnFunction, NumericFunction};

/// The training rows: raw feature columns by their own names.
#[derive(Clone)]
pub(in crate::features) struct TrainingRows {
    pub state: SessionState,
    pub plan: LogicalPlan,
    /// Queries run at a time.
    pub beside: usize,
}

/// What a step must learn of one column.
struct Question {
    step: usize,
    column: String,
    expression: Expr,
    what: What,
}

enum What {
    /// Mean, and with it the standard deviation of the population.
    Moments,
    Range,
    /// Values at these fractions of the order, by linear interpolation.
    Quantiles(Vec<f64>),
    MostFrequent(ColumnKind),
    Counts,
}

#[derive(Debug)]
enum Answer {
    Moments { mean: f64, deviation: f64 },
    Range { min: f64, max: f64 },
    Quantiles(Vec<f64>),
    MostFrequent(Option<FillValue>),
    Counts(Counts),
}

/// How often each value was met.
#[derive(Debug, Default)]
struct Counts {
    texts: Vec<(String, u64)>,
    integers: Vec<(i64, u64)>,
    nulls: u64,
}

/// Fits all of `specs`; the fitted steps are in their order.
pub(in crate::features) async fn learn(
    specs: &[TransformSpec],
    fields: &[Field],
    rows: &TrainingRows,
) -> Result<Vec<FittedStep>, FeatureError> {
    let mut columns = ColumnSet::raw(fields);
    let mut fitted: Vec<Option<Vec<FittedStep>>> = specs.iter().map(|_| None).collect();
    let mut counted = false;
    loop {
        let questions = next_stage(specs, &mut fitted, &mut columns, &rows.state)?;
        if questions.is_empty() && counted {
            break;
        }
        counted = true;
        let answers = answer(&questions, rows).await?;
        for (question, answer) in questions.iter().zip(answers) {
            let place = Place {
                step: question.step + 1,
                transform: specs[question.step].name(),
            };
            let step = conclude(&specs[question.step], question, answer, place)?;
            columns.apply(&step, place.step, &rows.state)?;
            fitted[question.step].get_or_insert_default().push(step);
        }
    }
    Ok(fitted.into_iter().flatten().flatten().collect())
}

/// Applies the steps that need no learning, and asks what the next ones need, until a step waits for an answer.
fn next_stage(
    specs: &[TransformSpec],
    fitted: &mut [Option<Vec<FittedStep>>],
    columns: &mut ColumnSet,
    state: &SessionState,
) -> Result<Vec<Question>, FeatureError> {
    let mut questions = Vec::new();
    let mut waiting: HashSet<&str> = HashSet::new();
    for (step, spec) in specs.iter().enumerate() {
        if fitted[step].is_some() {
            continue;
        }
        let place = Place {
            step: step + 1,
            transform: spec.name(),
        };
        let touched = match spec {
            // An expression may read any column: it waits for all answers.
            TransformSpec::Expression { .. } if !waiting.is_empty() => break,
            TransformSpec::Expression { .. } => &[],
            TransformSpec::Cross { columns, name, .. } => {
                if waiting.contains(name.as_str()) {
                    waiting.extend(columns.iter().map(String::as_str));
                    continue;
                }
                if columns
                    .iter()
                    .any(|column| waiting.contains(column.as_str()))
                {
                    waiting.insert(name);
                }
                columns.as_slice()
            }
            TransformSpec::Impute { columns, .. }
            | TransformSpec::Standardize { columns }
            | TransformSpec::MinMax { columns }
            | TransformSpec::OneHot { columns, .. }
            | TransformSpec::StringIndex { columns, .. }
            | TransformSpec::Hash { columns, .. }
            | TransformSpec::Bucketize { columns, .. }
            | TransformSpec::Log1p { columns }
            | TransformSpec::Clip { columns, .. }
            | TransformSpec::Drop { columns } => columns.as_slice(),
        };
        if touched
            .iter()
            .any(|column| waiting.contains(column.as_str()))
        {
            waiting.extend(touched.iter().map(String::as_str));
            continue;
        }
        for column in touched {
            columns.check(spec, column, place)?;
        }
        let known = known_steps(spec, columns, place)?;
        if let Some(known) = known {
            for step in &known {
                columns.apply(step, place.step, state)?;
            }
            fitted[step] = Some(known);
        } else {
            for column in touched {
                let (what, expression) = question(spec, columns.get(column, place)?);
                questions.push(Question {
                    step,
                    column: column.clone(),
                    expression,
                    what,
                });
            }
            waiting.extend(touched.iter().map(String::as_str));
        }
    }
    Ok(questions)
}

/// The fitted steps of a transform that learns nothing; `None` when it has to learn.
fn known_steps(
    spec: &TransformSpec,
    columns: &ColumnSet,
    place: Place<'_>,
) -> Result<Option<Vec<FittedStep>>, FeatureError> {
    let each = |names: &[String], make: &dyn Fn(String) -> FittedStep| {
        Some(names.iter().cloned().map(make).collect())
    };
    Ok(match spec {
        TransformSpec::Impute {
            columns: names,
            strategy: ImputeStrategy::Constant(value),
        } => Some(
            names
                .iter()
                .map(|column| {
                    Ok(FittedStep::Fill {
                        column: column.clone(),
                        value: constant(value, columns.get(column, place)?, place)?,
                    })
                })
                .collect::<Result<_, FeatureError>>()?,
        ),
        TransformSpec::Hash {
            columns: names,
            buckets,
        } => each(names, &|column| FittedStep::Hash {
            column,
            buckets: *buckets,
        }),
        TransformSpec::Bucketize {
            columns: names,
            edges: Edges::Boundaries(boundaries),
        } => each(names, &|column| FittedStep::Bucketize {
            column,
            boundaries: boundaries.clone().into(),
        }),
        TransformSpec::Log1p { columns: names } => {
            each(names, &|column| FittedStep::Log1p { column })
        }
        TransformSpec::Clip {
            columns: names,
            min,
            max,
        } => each(names, &|column| FittedStep::Clip {
            column,
            min: *min,
            max: *max,
        }),
        TransformSpec::Drop { columns: names } => {
            each(names, &|column| FittedStep::Drop { column })
        }
        TransformSpec::Cross {
            columns: names,
            name,
            buckets,
        } => Some(vec![FittedStep::Cross {
            columns: names.clone(),
            name: name.clone(),
            buckets: *buckets,
        }]),
        TransformSpec::Expression { name, sql } => Some(vec![FittedStep::Expression {
            name: name.clone(),
            sql: sql.clone(),
        }]),
        TransformSpec::Impute { .. }
        | TransformSpec::Standardize { .. }
        | TransformSpec::MinMax { .. }
        | TransformSpec::OneHot { .. }
        | TransformSpec::StringIndex { .. }
        | TransformSpec::Bucketize {
            edges: Edges::Quantiles(_),
            ..
        } => None,
    })
}

/// The constant of `impute` in the column's own type.
fn constant(
    value: &serde_json::Value,
    column: &PipelineColumn,
    place: Place<'_>,
) -> Result<FillValue, FeatureError> {
    use serde_json::Value;
    let whole = |number: f64| number.fract() == 0.0 && number.abs() < 9e15;
    match (&column.kind, value) {
        (ColumnKind::Integer, Value::Number(number)) => match (number.as_i64(), number.as_f64()) {
            (Some(number), _) => Ok(FillValue::Integer(number)),
            (None, Some(number)) if whole(number) => Ok(FillValue::Integer(number as i64)),
            (_, number) => Ok(FillValue::Number(number.unwrap_or(0.0))),
        },
        (ColumnKind::Float, Value::Number(number)) => {
            Ok(FillValue::Number(number.as_f64().unwrap_or(0.0)))
        }
        (ColumnKind::Boolean, Value::Bool(value)) => Ok(FillValue::Boolean(*value)),
        (ColumnKind::Text(_), Value::String(text)) => Ok(FillValue::Text(text.clone())),
        (kind, value) => Err(place.refuse(format!(
            "`fill_value` is {value} and column {:?} is {}; give a value of the column's type",
            column.name,
            kind.describe()
        ))),
    }
}

fn question(spec: &TransformSpec, column: &PipelineColumn) -> (What, Expr) {
    let present = |column: &PipelineColumn| {
        ColumnFunction::Numeric(NumericFunction::Present).over(vec![ColumnSet::float(column)])
    };
    match spec {
        TransformSpec::Impute { strategy, .. } => match strategy {
            ImputeStrategy::Median => (What::Quantiles(vec![0.5]), present(column)),
            ImputeStrategy::MostFrequent => (
                What::MostFrequent(column.kind.clone()),
                match column.kind {
                    ColumnKind::Float => present(column),
                    _ => ColumnSet::category(column),
                },
            ),
            ImputeStrategy::Mean | ImputeStrategy::Constant(_) => (What::Moments, present(column)),
        },
        TransformSpec::MinMax { .. } => (What::Range, ColumnSet::float(column)),
        TransformSpec::OneHot { .. } | TransformSpec::StringIndex { .. } => {
            (What::Counts, ColumnSet::category(column))
        }
        TransformSpec::Bucketize {
            edges: Edges::Quantiles(buckets),
            ..
        } => {
            let fractions = (1..*buckets)
                .map(|edge| f64::from(edge) / f64::from(*buckets))
                .collect();
            (What::Quantiles(fractions), present(column))
        }
        _ => (What::Moments, ColumnSet::float(column)),
    }
}

/// Turns an answer into the fitted step.
fn conclude(
    spec: &TransformSpec,
    question: &Question,
    answer: Answer,
    place: Place<'_>,
) -> Result<FittedStep, FeatureError> {
    let column = question.column.clone();
    let finite = |number: f64| {
        if number.is_finite() {
            Ok(number)
        } else {
            Err(FeatureError::BadColumn {
                column: question.column.clone(),
                problem: format!(
                    "has no finite numbers to learn from, or NaN or infinity among them (step {}, {})",
                    place.step, place.transform
                ),
                hint: "impute it before, or clip it".into(),
            })
        }
    };
    Ok(match (spec, answer) {
        (TransformSpec::Impute { .. }, Answer::Moments { mean, .. }) => FittedStep::Fill {
            column,
            value: FillValue::Number(finite(mean)?),
        },
        (TransformSpec::Impute { .. }, Answer::Quantiles(values)) => FittedStep::Fill {
            column,
            value: FillValue::Number(finite(values.first().copied().unwrap_or(f64::NAN))?),
        },
        (TransformSpec::Impute { .. }, Answer::MostFrequent(value)) => FittedStep::Fill {
            value: value.ok_or_else(|| FeatureError::BadColumn {
                column: column.clone(),
                problem: format!("has no values to learn from (step {}, impute)", place.step),
                hint: "use strategy constant, or drop it".into(),
            })?,
            column,
        },
        (_, Answer::Moments { mean, deviation }) => {
            let (mean, deviation) = (finite(mean)?, finite(deviation)?);
            // As in scikit-learn: a constant column is only moved. Rounding leaves some ulps of the mean.
            let constant = deviation <= 10.0 * f64::EPSILON * mean.abs();
            FittedStep::Scale {
                column,
                min_max: false,
                shift: mean,
                scale: if constant { 1.0 } else { deviation },
            }
        }
        (_, Answer::Range { min, max }) => {
            let (min, max) = (finite(min)?, finite(max)?);
            FittedStep::Scale {
                column,
                min_max: true,
                shift: min,
                scale: if max > min { finite(max - min)? } else { 1.0 },
            }
        }
        (_, Answer::Quantiles(mut edges)) => {
            for edge in &edges {
                finite(*edge)?;
            }
            edges.dedup();
            FittedStep::Bucketize {
                column,
                boundaries: edges.into(),
            }
        }
        (TransformSpec::OneHot { bucket, limits, .. }, Answer::Counts(counts)) => {
            let found = counts.texts.len() + counts.integers.len();
            let categories = counts.by_value(*limits);
            if categories.len() > ONE_HOT_CATEGORIES_MAX {
                return Err(place.refuse(format!(
                    "column {column:?} has {found} categories and one_hot makes at most {ONE_HOT_CATEGORIES_MAX} numbers; set `max_categories`, or use string_index or hash with an embedding"
                )));
            }
            FittedStep::OneHot {
                column,
                categories: Arc::new(categories),
                bucket: *bucket,
            }
        }
        (TransformSpec::StringIndex { limits, .. }, Answer::Counts(counts)) => FittedStep::Index {
            column,
            categories: Arc::new(counts.by_frequency(*limits)),
        },
        (_, answer) => {
            return Err(FeatureError::Internal {
                reason: format!("{} cannot use {answer:?}", place.transform),
            });
        }
    })
}

/// Keeps what the limits allow, the most frequent first, then by value.
fn keep<T: Ord>(mut values: Vec<(T, u64)>, limits: CategoryLimits) -> Vec<T> {
    values.retain(|(_, met)| limits.min_frequency.is_none_or(|least| *met >= least));
    values.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    if let Some(most) = limits.max_categories {
        values.truncate(usize::try_from(most).unwrap_or(usize::MAX));
    }
    values.into_iter().map(|(value, _)| value).collect()
}

impl Counts {
    fn by_frequency(self, limits: CategoryLimits) -> Categories {
        let values = if self.integers.is_empty() {
            CategoryValues::Text(keep(self.texts, limits))
        } else {
            CategoryValues::Integer(keep(self.integers, limits))
        };
        Categories::new(values, false)
    }

    /// Null is kept when it was met (so often as `min_frequency` asks) and is not counted by `max_categories`.
    fn by_value(self, limits: CategoryLimits) -> Categories {
        let null = self.nulls > 0 && limits.min_frequency.is_none_or(|least| self.nulls >= least);
        let values = if self.integers.is_empty() {
            let mut texts = keep(self.texts, limits);
            texts.sort_unstable();
            CategoryValues::Text(texts)
        } else {
            let mut integers = keep(self.integers, limits);
            integers.sort_unstable();
            CategoryValues::Integer(integers)
        };
        Categories::new(values, null)
    }
}

/// Answers all questions of a stage.
async fn answer(questions: &[Question], rows: &TrainingRows) -> Result<Vec<Answer>, FeatureError> {
    let sums = sums(questions, rows).await?;
    futures::stream::iter(questions.iter().zip(sums))
        .map(|(question, sums)| {
            let rows = rows.clone();
            let expression = question.expression.clone();
            let column = question.column.clone();
            match &question.what {
                What::Moments => ready(Answer::Moments {
                    mean: sums.first,
                    deviation: sums.second,
                }),
                What::Range => ready(Answer::Range {
                    min: sums.first,
                    max: sums.second,
                }),
                What::Quantiles(fractions) => {
                    let fractions = fractions.clone();
                    beside(async move {
                        quantiles(rows, expression, sums.count, &fractions)
                            .await
                            .map(Answer::Quantiles)
                    })
                }
                What::MostFrequent(kind) => {
                    let kind = kind.clone();
                    beside(async move {
                        most_frequent(rows, expression, &kind)
                            .await
                            .map(Answer::MostFrequent)
                    })
                }
                What::Counts => {
                    beside(
                        async move { counts(rows, expression, &column).await.map(Answer::Counts) },
                    )
                }
            }
        })
        .buffered(rows.beside.max(1))
        // Boxed: the compiler cannot otherwise see that the future may move between threads.
        .boxed()
        .try_collect()
        .await
}

type Pending = futures::future::BoxFuture<'static, Result<Answer, FeatureError>>;

fn ready(answer: Answer) -> Pending {
    Box::pin(futures::future::ready(Ok(answer)))
}

/// Runs a query on a thread of its own; dropping the future stops it.
fn beside(work: impl Future<Output = Result<Answer, FeatureError>> + Send + 'static) -> Pending {
    let task = AbortOnDropHandle::new(tokio::spawn(work));
    Box::pin(async move {
        task.await.map_err(|error| FeatureError::Internal {
            reason: error.to_string(),
        })?
    })
}

/// Values of the one query of a stage, for one column. NaN where there was no value.
#[derive(Clone, Copy)]
struct Sums {
    count: u64,
    first: f64,
    second: f64,
}

/// One query for the sums of all questions; refuses empty training rows.
async fn sums(questions: &[Question], rows: &TrainingRows) -> Result<Vec<Sums>, FeatureError> {
    let mut aggregates = vec![count(lit(1_i64)).alias("rows")];
    for (at, question) in questions.iter().enumerate() {
        let value = || question.expression.clone();
        let (first, second) = match question.what {
            What::Moments => (avg(value()), stddev_pop(value())),
            What::Range => (min(value()), max(value())),
            What::Quantiles(_) => (lit(f64::NAN), lit(f64::NAN)),
            What::MostFrequent(_) | What::Counts => continue,
        };
        aggregates.push(count(value()).alias(format!("count_{at}")));
        if !matches!(question.what, What::Quantiles(_)) {
            aggregates.push(first.alias(format!("first_{at}")));
            aggregates.push(second.alias(format!("second_{at}")));
        }
    }
    let plan = LogicalPlanBuilder::from(rows.plan.clone())
        .aggregate(Vec::<Expr>::new(), aggregates)
        .and_then(LogicalPlanBuilder::build)
        .map_err(from_datafusion)?;
    let mut stream = stream(rows, plan).await?;
    let answer = match stream.try_next().await? {
        Some(batch) if batch.num_rows() == 1 => batch,
        _ => {
            return Err(FeatureError::Internal {
                reason: "an aggregate query answered no row".into(),
            });
        }
    };
    let whole = |name: &str| {
        answer
            .column_by_name(name)
            .and_then(|column| column.as_primitive_opt::<Int64Type>())
            .map_or(0, |column| column.value(0).max(0) as u64)
    };
    let float = |name: &str| {
        answer
            .column_by_name(name)
            .and_then(|column| column.as_primitive_opt::<Float64Type>())
            .filter(|column| column.is_valid(0))
            .map_or(f64::NAN, |column| column.value(0))
    };
    if whole("rows") == 0 {
        return Err(FeatureError::NoRows {
            what: "the training table".into(),
        });
    }
    Ok((0..questions.len())
        .map(|at| Sums {
            count: whole(&format!("count_{at}")),
            first: float(&format!("first_{at}")),
            second: float(&format!("second_{at}")),
        })
        .collect())
}

/// `value` and `met` (how often), grouped by value.
fn grouped(
    rows: &TrainingRows,
    expression: Expr,
    nulls: bool,
) -> datafusion::error::Result<LogicalPlanBuilder> {
    let plan =
        LogicalPlanBuilder::from(rows.plan.clone()).project(vec![expression.alias("value")])?;
    let plan = if nulls {
        plan
    } else {
        plan.filter(ident("value").is_not_null())?
    };
    plan.aggregate(vec![ident("value")], vec![count(lit(1_i64)).alias("met")])
}

/// Exact quantiles of `total` values by numpy's "linear" rule: one walk over the distinct values in order.
async fn quantiles(
    rows: TrainingRows,
    expression: Expr,
    total: u64,
    fractions: &[f64],
) -> Result<Vec<f64>, FeatureError> {
    if total == 0 {
        return Ok(vec![f64::NAN; fractions.len()]);
    }
    let plan = grouped(&rows, expression, false)
        .and_then(|plan| plan.sort(vec![ident("value").sort(true, false)]))
        .and_then(LogicalPlanBuilder::build)
        .map_err(from_datafusion)?;
    // Each fraction lies between two ranks (from 0) of the sorted values.
    let mut wanted: Vec<(u64, u64, f64)> = fractions
        .iter()
        .map(|fraction| {
            let at = (total - 1) as f64 * fraction;
            let below = at.floor() as u64;
            (below, (below + 1).min(total - 1), at - at.floor())
        })
        .collect();
    let mut ends: Vec<(f64, f64)> = vec![(f64::NAN, f64::NAN); wanted.len()];
    let mut passed = 0_u64;
    let mut batches = stream(&rows, plan).await?;
    while let Some(batch) = batches.try_next().await? {
        let (Some(values), Some(met)) = (
            batch.column(0).as_primitive_opt::<Float64Type>(),
            batch.column(1).as_primitive_opt::<Int64Type>(),
        ) else {
            return Err(unexpected(&batch));
        };
        for (value, met) in values.values().iter().zip(met.values()) {
            let next = passed + (*met).max(0) as u64;
            let here = passed..next;
            for ((below, above, _), end) in wanted.iter().zip(&mut ends) {
                if here.contains(below) {
                    end.0 = *value;
                }
                if here.contains(above) {
                    end.1 = *value;
                }
            }
            passed = next;
        }
    }
    Ok(wanted
        .drain(..)
        .zip(ends)
        .map(|((_, _, part), (below, above))| {
            // numpy's interpolation, from the nearer end.
            if part >= 0.5 {
                above - (above - below) * (1.0 - part)
            } else {
                below + (above - below) * part
            }
        })
        .collect())
}

async fn most_frequent(
    rows: TrainingRows,
    expression: Expr,
    kind: &ColumnKind,
) -> Result<Option<FillValue>, FeatureError> {
    let plan = grouped(&rows, expression, false)
        .and_then(|plan| {
            plan.sort(vec![
                ident("met").sort(false, false),
                ident("value").sort(true, false),
            ])
        })
        .and_then(|plan| plan.limit(0, Some(1)))
        .and_then(LogicalPlanBuilder::build)
        .map_err(from_datafusion)?;
    let mut batches = stream(&rows, plan).await?;
    while let Some(batch) = batches.try_next().await? {
        if batch.num_rows() == 0 {
            continue;
        }
        let value = batch.column(0);
        let found = match kind {
            ColumnKind::Float => value
                .as_primitive_opt::<Float64Type>()
                .map(|values| FillValue::Number(values.value(0))),
            ColumnKind::Integer => value
                .as_primitive_opt::<Int64Type>()
                .map(|values| FillValue::Integer(values.value(0))),
            ColumnKind::Boolean => value
                .as_primitive_opt::<Int64Type>()
                .map(|values| FillValue::Boolean(values.value(0) != 0)),
            _ => texts(value.as_ref())?
                .into_iter()
                .next()
                .flatten()
                .map(FillValue::Text),
        };
        return Ok(found);
    }
    Ok(None)
}

async fn counts(
    rows: TrainingRows,
    expression: Expr,
    column: &str,
) -> Result<Counts, FeatureError> {
    let plan = grouped(&rows, expression, true)
        .and_then(LogicalPlanBuilder::build)
        .map_err(from_datafusion)?;
    let mut counts = Counts::default();
    let mut batches = stream(&rows, plan).await?;
    while let Some(batch) = batches.try_next().await? {
        let Some(met) = batch.column(1).as_primitive_opt::<Int64Type>() else {
            return Err(unexpected(&batch));
        };
        let met = met.values().iter().map(|met| (*met).max(0) as u64);
        let values = batch.column(0);
        if let Some(integers) = values.as_primitive_opt::<Int64Type>() {
            for (value, met) in integers.iter().zip(met) {
                match value {
                    Some(value) => counts.integers.push((value, met)),
                    None => counts.nulls += met,
                }
            }
        } else {
            for (value, met) in texts(values.as_ref())?.into_iter().zip(met) {
                match value {
                    Some(value) => counts.texts.push((value, met)),
                    None => counts.nulls += met,
                }
            }
        }
        if counts.texts.len() + counts.integers.len() > INDEX_CATEGORIES_MAX {
            return Err(FeatureError::BadColumn {
                column: column.to_owned(),
                problem: format!("has more than {INDEX_CATEGORIES_MAX} categories"),
                hint: "use hash, which keeps none of them".into(),
            });
        }
    }
    Ok(counts)
}

fn texts(column: &dyn Array) -> Result<Vec<Option<String>>, FeatureError> {
    let own = |text: Option<&str>| text.map(str::to_owned);
    if let Some(texts) = column.as_string_opt::<i32>() {
        Ok(texts.iter().map(own).collect())
    } else if let Some(texts) = column.as_string_opt::<i64>() {
        Ok(texts.iter().map(own).collect())
    } else if let Some(texts) = column.as_string_view_opt() {
        Ok(texts.iter().map(own).collect())
    } else {
        Err(FeatureError::Internal {
            reason: format!("categories came as {}", column.data_type()),
        })
    }
}

fn unexpected(batch: &RecordBatch) -> FeatureError {
    FeatureError::Internal {
        reason: format!("an aggregate query answered {}", batch.schema()),
    }
}

async fn stream(
    rows: &TrainingRows,
    plan: LogicalPlan,
) -> Result<futures::stream::BoxStream<'static, Result<RecordBatch, FeatureError>>, FeatureError> {
    let physical = rows
        .state
        .create_physical_plan(&plan)
        .await
        .map_err(from_datafusion)?;
    let batches = execute_stream(physical, rows.state.task_ctx()).map_err(from_datafusion)?;
    Ok(batches.map_err(from_datafusion).boxed())
}
