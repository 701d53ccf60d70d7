//! Values for a query's parameters: one row of them, or many, for each of which the query runs once.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Column, ParamValues, ScalarValue};
use datafusion::datasource::{MemTable, provider_as_source};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::expr::{Between, InList};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{
    BinaryExpr, Expr, LogicalPlan, LogicalPlanBuilder, Values, cast, lit,
};
use futures::StreamExt;
use futures::stream::BoxStream;

use super::error::from_datafusion;
use super::session::{conform, strict_cast};
use super::{FeatureError, Query};

/// The table of values that takes the place of parameters.
const PARAMETERS: &str = "parameters";

impl Query {
    /// The query with its parameters replaced by `values`: a column for each parameter. With several rows it answers what it
    /// answers for each of them, one after the other.
    pub fn bind(mut self, values: &RecordBatch) -> Result<Query, FeatureError> {
        let expected = self.parameters.fields().len();
        let (rows, columns) = (values.num_rows(), values.num_columns());
        if columns != expected || (expected > 0 && rows == 0) {
            return Err(FeatureError::BadSql {
                reason: format!(
                    "the number of parameters is {expected}, and {rows} rows of {columns} values were bound; bind rows of {expected}"
                ),
            });
        }
        if expected == 0 {
            return Ok(self);
        }
        let values = self.typed(values)?;
        if rows == 1 {
            return self.bind_row(&values, 0);
        }
        if let Some(plan) = all_at_once(&self.plan, &values)? {
            // The rows go in in their order.
            self.state
                .config_mut()
                .options_mut()
                .execution
                .target_partitions = 1;
            self.state.mark_start_execution();
            return Query::new(self.state, plan, self.memory_bytes);
        }
        let first = self.clone().bind_row(&values, 0)?;
        let fields: Vec<Field> = first
            .schema
            .fields()
            .iter()
            // A value may be null in one row and not in another.
            .map(|field| field.as_ref().clone().with_nullable(true))
            .collect();
        self.schema = Arc::new(Schema::new(fields));
        self.parameters = Arc::new(Schema::empty());
        self.each = Some(values);
        Ok(self)
    }

    /// The values in the types of the parameters, under their names; as they came where that would lose something: the
    /// plan then compares and computes in a type that holds both.
    fn typed(&self, values: &RecordBatch) -> Result<RecordBatch, FeatureError> {
        let mut fields = Vec::with_capacity(values.num_columns());
        let mut columns = Vec::with_capacity(values.num_columns());
        for (column, parameter) in values.columns().iter().zip(self.parameters.fields()) {
            let wanted = parameter.data_type();
            let is_kept = wanted == &DataType::Null || wanted == column.data_type();
            let column = if is_kept || loses(column, wanted) {
                Arc::clone(column)
            } else {
                strict_cast(column, wanted).map_err(|reason| FeatureError::BadSql {
                    reason: format!("parameter {}: {reason}", parameter.name()),
                })?
            };
            fields.push(Field::new(
                parameter.name(),
                column.data_type().clone(),
                true,
            ));
            columns.push(column);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(values.num_rows()));
        RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options).map_err(
            |error| FeatureError::Internal {
                reason: error.to_string(),
            },
        )
    }

    fn bind_row(self, values: &RecordBatch, row: usize) -> Result<Query, FeatureError> {
        let scalars = values
            .columns()
            .iter()
            .map(|column| ScalarValue::try_from_array(column, row).map_err(from_datafusion))
            .collect::<Result<Vec<_>, _>>()?;
        let plan = compare_times_whole(self.plan, values)
            .map_err(from_datafusion)?
            .with_param_values(ParamValues::from(scalars))
            .map_err(from_datafusion)?;
        let mut state = self.state;
        state.mark_start_execution();
        Query::new(state, plan, self.memory_bytes)
    }

    /// Runs once for each row of values, one after the other.
    pub(super) fn execute_each(
        self,
        values: RecordBatch,
    ) -> BoxStream<'static, Result<RecordBatch, FeatureError>> {
        let schema = Arc::clone(&self.schema);
        async_stream::try_stream! {
            for row in 0..values.num_rows() {
                let bound = self.clone().bind_row(&values, row)?;
                // Boxed: an `execute` inside of an `execute` has no size else.
                let mut rows = Box::pin(bound.execute()).await?;
                while let Some(batch) = rows.next().await {
                    yield conform(batch?, &schema)?;
                }
            }
        }
        .boxed()
    }
}

/// Whether values would be cut off: parts of a second, the time of a day, decimal places.
fn loses(column: &ArrayRef, wanted: &DataType) -> bool {
    use DataType::{Date32, Date64, Time32, Time64, Timestamp};
    let given = column.data_type();
    let cut = match (given, wanted) {
        // The unit alone; what a zone means is left to the cast.
        (Timestamp(_, zone), Timestamp(unit, _)) => Timestamp(*unit, zone.clone()),
        (Timestamp(..) | Date64, Date32 | Date64)
        | (Time32(_) | Time64(_), Time32(_) | Time64(_)) => wanted.clone(),
        _ if (given.is_floating() || given.is_decimal())
            && (wanted.is_integer() || wanted.is_decimal()) =>
        {
            wanted.clone()
        }
        _ => return false,
    };
    // What does not fit at all is refused where it is cast.
    strict_cast(column, &cut)
        .and_then(|cut| strict_cast(&cut, given))
        .is_ok_and(|back| &back != column)
}

/// Where a value came in a finer unit than it is compared with, both sides are taken to that: the planner brings times to no
/// common unit, and its optimizer cuts an instant to the unit of the column.
fn compare_times_whole(
    plan: LogicalPlan,
    values: &RecordBatch,
) -> Result<LogicalPlan, DataFusionError> {
    let types = values.schema();
    if !types.fields().iter().any(|field| {
        let data_type = field.data_type();
        is_time(data_type) || matches!(data_type, DataType::Timestamp(..))
    }) {
        return Ok(plan);
    }
    plan.transform_up_with_subqueries(|node| {
        let names = NamePreserver::new(&node);
        node.map_expressions(|expression| {
            let name = names.save(&expression);
            let whole = expression.transform_up(|part| Ok(in_finer_unit(part, &types)))?;
            Ok(whole.update_data(|expression| name.restore(expression)))
        })
    })
    .data()
}

fn in_finer_unit(mut part: Expr, types: &Schema) -> Transformed<Expr> {
    let operands: Vec<&mut Expr> = match &mut part {
        Expr::BinaryExpr(BinaryExpr { left, right, .. }) => vec![left.as_mut(), right.as_mut()],
        Expr::Between(Between {
            expr, low, high, ..
        }) => vec![expr.as_mut(), low.as_mut(), high.as_mut()],
        Expr::InList(InList { expr, list, .. }) => {
            std::iter::once(expr.as_mut()).chain(list).collect()
        }
        _ => return Transformed::no(part),
    };
    let finer = operands
        .iter()
        .filter_map(|operand| finer_than_wanted(operand, types))
        .max();
    let Some(finer) = finer else {
        return Transformed::no(part);
    };
    for operand in operands {
        let whole = cast(std::mem::take(operand), finer.clone());
        *operand = match finer {
            // The optimizer would take the cast from the column to the value.
            DataType::Timestamp(..) => whole + lit(ScalarValue::new_interval_mdn(0, 0, 0)),
            _ => whole,
        };
    }
    Transformed::yes(part)
}

/// The type in which a parameter is compared, where its value came in a finer unit than the plan's.
fn finer_than_wanted(operand: &Expr, types: &Schema) -> Option<DataType> {
    let Expr::Placeholder(parameter) = operand else {
        return None;
    };
    let wanted = parameter.field.as_ref()?.data_type();
    let given = types.field_with_name(&parameter.id).ok()?.data_type();
    match (wanted, given) {
        (DataType::Timestamp(coarse, zone), DataType::Timestamp(fine, _)) if fine > coarse => {
            Some(DataType::Timestamp(*fine, zone.clone()))
        }
        _ if wanted != given && is_time(wanted) && is_time(given) => {
            Some(DataType::Time64(TimeUnit::Nanosecond))
        }
        _ => None,
    }
}

fn is_time(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Time32(_) | DataType::Time64(_))
}

/// The plan over all rows of values together, where it is one row of expressions over parameters and what is made of it row by
/// row: an `INSERT INTO t VALUES (?, ?)` of many rows is planned once.
fn all_at_once(
    plan: &LogicalPlan,
    values: &RecordBatch,
) -> Result<Option<LogicalPlan>, FeatureError> {
    let mut node = plan;
    let written = loop {
        node = match node {
            LogicalPlan::Projection(projection) if !has_parameters(&projection.expr) => {
                &projection.input
            }
            LogicalPlan::SubqueryAlias(alias) => &alias.input,
            LogicalPlan::Values(written) if written.values.len() == 1 => break written,
            _ => return Ok(None),
        };
    };
    let replaced = over_table(written, values).map_err(from_datafusion)?;
    let plan = plan
        .clone()
        .transform_up(|node| match node {
            LogicalPlan::Values(_) => Ok(Transformed::yes(replaced.clone())),
            other => other.recompute_schema().map(Transformed::yes),
        })
        .data()
        .map_err(from_datafusion)?;
    Ok(Some(plan))
}

fn has_parameters(expressions: &[Expr]) -> bool {
    expressions.iter().any(|expression| {
        expression
            .exists(|part| Ok(matches!(part, Expr::Placeholder(_))))
            .unwrap_or(true)
    })
}

fn over_table(written: &Values, values: &RecordBatch) -> Result<LogicalPlan, DataFusionError> {
    let table = MemTable::try_new(values.schema(), vec![vec![values.clone()]])?;
    let row = written.values.first().into_iter().flatten();
    let expressions = row
        .zip(written.schema.fields())
        .map(|(expression, field)| {
            let expression = expression
                .clone()
                .transform(|part| {
                    Ok(match part {
                        Expr::Placeholder(placeholder) => Transformed::yes(Expr::Column(
                            Column::new(Some(PARAMETERS), placeholder.id),
                        )),
                        other => Transformed::no(other),
                    })
                })
                .data()?;
            Ok(expression.alias(field.name()))
        })
        .collect::<Result<Vec<_>, DataFusionError>>()?;
    LogicalPlanBuilder::scan(PARAMETERS, provider_as_source(Arc::new(table)), None)?
        .project(expressions)?
        .build()
}
