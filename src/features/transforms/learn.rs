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
use futures::{StreamExt, TryStreamExt};
use tokio_util::task::AbortOnDropHandle;

use super::columns::{ColumnKind, ColumnSet, PipelineColumn};
use super::fitted::{FillValue, FittedStep};
use super::spec::{CategoryLimits, Edges, ImputeStrategy, TransformSpec};
use super::{INDEX_CATEGORIES_MAX, ONE_HOT_CATEGORIES_MAX, Place};
use crate::features::FeatureError;
use crate::features::computing::execute;
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
    Counts(ColumnKind),
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
#[derive(Debug)]
struct Counts {
    values: Counted,
    nulls: u64,
}

/// By what the column holds: one of nothing but nulls has no value to tell it by.
#[derive(Debug)]
enum Counted {
    Texts(Vec<(String, u64)>),
    Integers(Vec<(i64, u64)>),
}

impl Counted {
    fn len(&self) -> usize {
        match self {
            Self::Texts(texts) => texts.len(),
            Self::Integers(integers) => integers.len(),
        }
    }
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
            if !learnable(&specs[question.step], &answer) {
                return Err(not_learnable(question, place, rows).await);
            }
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
        TransformSpec::OneHot { .. } | TransformSpec::StringIndex { .. } => (
            What::Counts(column.kind.clone()),
            ColumnSet::category(column),
        ),
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

/// Whether the numbers of an answer are numbers to go on with.
fn learnable(spec: &TransformSpec, answer: &Answer) -> bool {
    match answer {
        Answer::Moments { mean, deviation } => {
            let needs_deviation = !matches!(spec, TransformSpec::Impute { .. });
            mean.is_finite() && (deviation.is_finite() || !needs_deviation)
        }
        Answer::Range { min, max } => min.is_finite() && max.is_finite(),
        Answer::Quantiles(edges) => edges.iter().all(|edge| edge.is_finite()),
        Answer::MostFrequent(_) | Answer::Counts(_) => true,
    }
}

/// Looks through the rows for what made an answer unusable: the first NaN or infinity, or that there is no number.
async fn not_learnable(question: &Question, place: Place<'_>, rows: &TrainingRows) -> FeatureError {
    match first_not_finite(question, rows).await {
        Err(error) => error,
        Ok(Looked::Found { row, value }) => FeatureError::BadValue {
            column: question.column.clone(),
            problem: format!("is {value}"),
            row,
            remark: "",
            hint: format!(
                "impute or clip it before step {} ({}), which learns from it, or leave such rows out",
                place.step, place.transform
            ),
        },
        Ok(Looked::Empty) => FeatureError::BadColumn {
            column: question.column.clone(),
            problem: format!(
                "has no numbers to learn from (step {}, {})",
                place.step, place.transform
            ),
            hint: "impute it before with strategy constant, or drop it".into(),
        },
        Ok(Looked::Finite) => too_large(&question.column, place),
    }
}

fn too_large(column: &str, place: Place<'_>) -> FeatureError {
    FeatureError::BadColumn {
        column: column.to_owned(),
        problem: format!(
            "has numbers too large to learn from (step {}, {})",
            place.step, place.transform
        ),
        hint: "clip it or divide it before".into(),
    }
}

enum Looked {
    /// The first number that is none.
    Found {
        row: usize,
        value: f64,
    },
    /// Nulls alone.
    Empty,
    Finite,
}

async fn first_not_finite(
    question: &Question,
    rows: &TrainingRows,
) -> Result<Looked, FeatureError> {
    let plan = LogicalPlanBuilder::from(rows.plan.clone())
        .project(vec![question.expression.clone().alias("value")])
        .and_then(LogicalPlanBuilder::build)
        .map_err(from_datafusion)?;
    let mut batches = stream(rows, plan).await?;
    let mut first = 0;
    let mut has_numbers = false;
    while let Some(batch) = batches.try_next().await? {
        let values = batch
            .column(0)
            .as_primitive_opt::<Float64Type>()
            .ok_or_else(|| unexpected(&batch))?;
        for (row, value) in values.iter().enumerate() {
            let Some(value) = value else { continue };
            if !value.is_finite() {
                let row = first + row;
                return Ok(Looked::Found { row, value });
            }
            has_numbers = true;
        }
        first += batch.num_rows();
    }
    Ok(if has_numbers {
        Looked::Finite
    } else {
        Looked::Empty
    })
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
            Err(too_large(&question.column, place))
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
            let found = counts.values.len();
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
        let values = match self.values {
            Counted::Texts(texts) => CategoryValues::Text(keep(texts, limits)),
            Counted::Integers(integers) => CategoryValues::Integer(keep(integers, limits)),
        };
        Categories::new(values, false)
    }

    /// Null is kept when it was met (so often as `min_frequency` asks) and is not counted by `max_categories`.
    fn by_value(self, limits: CategoryLimits) -> Categories {
        let null = self.nulls > 0 && limits.min_frequency.is_none_or(|least| self.nulls >= least);
        let values = match self.values {
            Counted::Texts(texts) => {
                let mut texts = keep(texts, limits);
                texts.sort_unstable();
                CategoryValues::Text(texts)
            }
            Counted::Integers(integers) => {
                let mut integers = keep(integers, limits);
                integers.sort_unstable();
                CategoryValues::Integer(integers)
            }
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
                What::Counts(kind) => {
                    let kind = kind.clone();
                    beside(async move {
                        counts(rows, expression, &column, &kind)
                            .await
                            .map(Answer::Counts)
                    })
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
            What::MostFrequent(_) | What::Counts(_) => continue,
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
    let mut ranks = Ranks::new(total, fractions);
    let mut batches = stream(&rows, plan).await?;
    while let Some(batch) = batches.try_next().await? {
        let (Some(values), Some(met)) = (
            batch.column(0).as_primitive_opt::<Float64Type>(),
            batch.column(1).as_primitive_opt::<Int64Type>(),
        ) else {
            return Err(unexpected(&batch));
        };
        for (value, met) in values.values().iter().zip(met.values()) {
            ranks.pass(*value, (*met).max(0) as u64);
        }
    }
    Ok(ranks.quantiles())
}

/// The ranks that ascending fractions lie between, and the values met there, as one walk over the values finds them:
/// each value looks at the fractions that it answers and at no other.
struct Ranks {
    /// For each fraction: the rank below it, the rank above it (from 0), and how far it is from the one to the other.
    wanted: Vec<(u64, u64, f64)>,
    ends: Vec<(f64, f64)>,
    /// Values passed.
    passed: u64,
    /// Fractions before these have their lower, and their upper, value.
    below: usize,
    above: usize,
}

impl Ranks {
    fn new(total: u64, fractions: &[f64]) -> Self {
        let wanted: Vec<(u64, u64, f64)> = fractions
            .iter()
            .map(|fraction| {
                let at = (total - 1) as f64 * fraction;
                let below = at.floor() as u64;
                (below, (below + 1).min(total - 1), at - at.floor())
            })
            .collect();
        debug_assert!(wanted.is_sorted_by_key(|(below, _, _)| *below));
        Self {
            ends: vec![(f64::NAN, f64::NAN); wanted.len()],
            wanted,
            passed: 0,
            below: 0,
            above: 0,
        }
    }

    /// The next value in ascending order, met so often.
    fn pass(&mut self, value: f64, met: u64) {
        self.passed += met;
        while let Some((below, _, _)) = self.wanted.get(self.below)
            && *below < self.passed
        {
            self.ends[self.below].0 = value;
            self.below += 1;
        }
        while let Some((_, above, _)) = self.wanted.get(self.above)
            && *above < self.passed
        {
            self.ends[self.above].1 = value;
            self.above += 1;
        }
    }

    /// numpy's interpolation, from the nearer end.
    fn quantiles(self) -> Vec<f64> {
        let each = self.wanted.into_iter().zip(self.ends);
        each.map(|((_, _, part), (below, above))| {
            if part >= 0.5 {
                above - (above - below) * (1.0 - part)
            } else {
                below + (above - below) * part
            }
        })
        .collect()
    }
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
    kind: &ColumnKind,
) -> Result<Counts, FeatureError> {
    let plan = grouped(&rows, expression, true)
        .and_then(LogicalPlanBuilder::build)
        .map_err(from_datafusion)?;
    let mut counts = Counts {
        values: match kind {
            ColumnKind::Text(_) => Counted::Texts(Vec::new()),
            _ => Counted::Integers(Vec::new()),
        },
        nulls: 0,
    };
    let mut batches = stream(&rows, plan).await?;
    while let Some(batch) = batches.try_next().await? {
        let Some(met) = batch.column(1).as_primitive_opt::<Int64Type>() else {
            return Err(unexpected(&batch));
        };
        let met = met.values().iter().map(|met| (*met).max(0) as u64);
        let values = batch.column(0);
        match &mut counts.values {
            Counted::Integers(found) => {
                let Some(integers) = values.as_primitive_opt::<Int64Type>() else {
                    return Err(unexpected(&batch));
                };
                for (value, met) in integers.iter().zip(met) {
                    match value {
                        Some(value) => found.push((value, met)),
                        None => counts.nulls += met,
                    }
                }
            }
            Counted::Texts(found) => {
                for (value, met) in texts(values.as_ref())?.into_iter().zip(met) {
                    match value {
                        Some(value) => found.push((value, met)),
                        None => counts.nulls += met,
                    }
                }
            }
        }
        if counts.values.len() > INDEX_CATEGORIES_MAX {
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
    let batches = execute(physical, rows.state.task_ctx()).map_err(from_datafusion)?;
    Ok(batches.map_err(from_datafusion).boxed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_by_one_walk_are_those_of_each_fraction_alone() {
        // Values 0 to 99 of different frequencies, fewer and more fractions than values.
        let met = |value: u64| 1 + value * 7 % 5;
        let total = (0..100).map(met).sum();
        for buckets in [2, 3, 10, 1_000] {
            let fractions: Vec<f64> = (1..buckets)
                .map(|edge| f64::from(edge) / f64::from(buckets))
                .collect();
            let walk = |fractions: &[f64]| {
                let mut ranks = Ranks::new(total, fractions);
                for value in 0..100 {
                    ranks.pass(value as f64, met(value));
                }
                ranks.quantiles()
            };
            let alone: Vec<f64> = fractions
                .iter()
                .flat_map(|fraction| walk(&[*fraction]))
                .collect();
            assert_eq!(walk(&fractions), alone);
            assert!(alone.iter().all(|edge| edge.is_finite()) && alone.is_sorted());
        }
    }

    #[test]
    fn ten_thousand_quantiles_cost_about_as_much_as_ten() {
        let values = 2_000_000;
        let walk = |buckets: u32| {
            let fractions: Vec<f64> = (1..buckets)
                .map(|edge| f64::from(edge) / f64::from(buckets))
                .collect();
            let began = std::time::Instant::now();
            let mut ranks = Ranks::new(values, &fractions);
            for value in 0..values {
                ranks.pass(value as f64, 1);
            }
            assert!(ranks.quantiles().iter().all(|edge| edge.is_finite()));
            began.elapsed()
        };
        let (few, many) = (walk(10), walk(10_000));
        // It was a thousand times as much when each value looked at each fraction.
        assert!(many < 20 * few, "{many:?} and {few:?}");
    }
}
