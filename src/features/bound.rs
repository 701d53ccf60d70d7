//! Values for a query's parameters: one row of them, or many, for each of which the query runs once.

use std::sync::Arc;

use arrow::array::{Array, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Column, ParamValues, ScalarValue};
use datafusion::datasource::{MemTable, provider_as_source};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, Values};
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

    /// The values in the types of the parameters, under their names.
    fn typed(&self, values: &RecordBatch) -> Result<RecordBatch, FeatureError> {
        let mut fields = Vec::with_capacity(values.num_columns());
        let mut columns = Vec::with_capacity(values.num_columns());
        for (column, parameter) in values.columns().iter().zip(self.parameters.fields()) {
            let wanted = parameter.data_type();
            let column = if wanted == &DataType::Null || wanted == column.data_type() {
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
        let plan = self
            .plan
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

fn over_table(
    written: &Values,
    values: &RecordBatch,
) -> Result<LogicalPlan, datafusion::error::DataFusionError> {
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
        .collect::<Result<Vec<_>, datafusion::error::DataFusionError>>()?;
    LogicalPlanBuilder::scan(PARAMETERS, provider_as_source(Arc::new(table)), None)?
        .project(expressions)?
        .build()
}
