//! The rows of a query as the columns of the table that they are inserted into: by place, or by the names that are given.
//!
//! The planner does this for `INSERT INTO t VALUES ...`. For a query it would take the table's types for those of any
//! VALUES inside of it too, so that is done here.

use arrow::datatypes::Schema;
use datafusion::common::{Column, ScalarValue};
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlanBuilder};

use super::error::{from_datafusion, unknown_column};
use super::{FeatureError, Query};

impl Query {
    /// The query's columns, cast to those of `table`. `named` says which they are; empty: all, in their order.
    pub(super) fn inserted_into(
        self,
        name: &str,
        table: &Schema,
        named: &[String],
    ) -> Result<Query, FeatureError> {
        let bad = |reason: String| Err(FeatureError::BadSql { reason });
        let names: Vec<String> = table
            .fields()
            .iter()
            .map(|field| field.name().clone())
            .collect();
        let wanted: &[String] = if named.is_empty() { &names } else { named };
        for (place, column) in wanted.iter().enumerate() {
            if !names.contains(column) {
                return Err(unknown_column(column, &format!(" in {name:?}"), &names));
            }
            if wanted[..place].contains(column) {
                return bad(format!("column {column:?} is named twice"));
            }
        }
        let answered = self.plan.schema().fields().len();
        if answered != wanted.len() {
            return bad(format!(
                "the query answers {answered} columns for the {} of INSERT INTO {name:?}; give as many, or name those that you give",
                wanted.len()
            ));
        }
        let mut values = Vec::with_capacity(names.len());
        for field in table.fields() {
            let value = match wanted.iter().position(|column| column == field.name()) {
                Some(place) => {
                    let schema = self.plan.schema();
                    Expr::Column(Column::from(schema.qualified_field(place)))
                        .cast_to(field.data_type(), schema)
                        .map_err(from_datafusion)?
                }
                None if !field.is_nullable() => {
                    return bad(format!(
                        "column {:?} of {name:?} takes no nulls; give it a value",
                        field.name()
                    ));
                }
                None => {
                    let null = ScalarValue::try_new_null(field.data_type());
                    Expr::Literal(null.map_err(from_datafusion)?, None)
                }
            };
            values.push(value.alias(field.name()));
        }
        let plan = LogicalPlanBuilder::from(self.plan)
            .project(values)
            .and_then(LogicalPlanBuilder::build)
            .map_err(from_datafusion)?;
        Query::new(self.state, plan, self.memory_bytes)
    }
}
