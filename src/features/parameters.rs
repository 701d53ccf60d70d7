//! The parameters of a statement: their types by the plan, and those in which drivers are told to bind values.
//!
//! Does not know values: `bound` takes those of any type.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::common::DFSchema;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::expr::{Between, Case, InList};
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, LogicalPlan, Operator};

use super::FeatureError;
use super::error::from_datafusion;
use super::tables::plain_schema;

/// Types of `$1`, `$2`, ... in order; Null where nothing says of which type one is.
pub(super) fn inferred(plan: &LogicalPlan) -> Result<SchemaRef, FeatureError> {
    let types = plan.get_parameter_types().map_err(from_datafusion)?;
    let highest = types
        .keys()
        .filter_map(|name| name.trim_start_matches('$').parse::<usize>().ok())
        .max()
        .unwrap_or(0);
    let fields: Vec<Field> = (1..=highest)
        .map(|number| {
            let name = format!("${number}");
            let inferred = types.get(&name).cloned().flatten();
            Field::new(name, inferred.unwrap_or(DataType::Null), true)
        })
        .collect();
    Ok(Arc::new(Schema::new(fields)))
}

/// The types in which drivers are told to bind values: each has one that every driver can write.
pub(super) fn advertised(plan: &LogicalPlan, inferred: &Schema) -> SchemaRef {
    let is_unknown = |field: &Arc<Field>| field.data_type() == &DataType::Null;
    let hints = match inferred.fields().iter().any(is_unknown) {
        true => Hints::of(plan),
        false => Hints::default(),
    };
    let fields: Vec<Field> = inferred
        .fields()
        .iter()
        .map(|field| {
            let hint = hints.0.get(field.name()).filter(|_| is_unknown(field));
            let data_type = as_drivers_write(hint.unwrap_or(field.data_type()));
            Field::new(field.name(), data_type, true)
        })
        .collect();
    plain_schema(&Schema::new(fields))
}

/// Arrow's JDBC driver writes milliseconds into times and timestamps, whatever the unit that it was told, and cannot write
/// a Null.
fn as_drivers_write(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Timestamp(_, zone) => DataType::Timestamp(TimeUnit::Millisecond, zone.clone()),
        DataType::Time32(_) | DataType::Time64(_) => DataType::Time32(TimeUnit::Millisecond),
        DataType::Null => DataType::Utf8,
        other => other.clone(),
    }
}

/// What the places of parameters say of their types, beyond what the planner infers.
#[derive(Default)]
struct Hints(HashMap<String, DataType>);

impl Hints {
    fn of(plan: &LogicalPlan) -> Self {
        let mut hints = Self::default();
        let _ = plan.apply_with_subqueries(|node| {
            let schema = merge_schema(&node.inputs());
            let whole = match node {
                LogicalPlan::Limit(_) => Some(DataType::Int64),
                LogicalPlan::Filter(_) => Some(DataType::Boolean),
                _ => None,
            };
            node.apply_expressions(|expression| {
                if let Some(whole) = &whole {
                    hints.give(expression, whole);
                }
                expression.apply(|part| {
                    hints.read(part, &schema);
                    Ok(TreeNodeRecursion::Continue)
                })
            })
        });
        hints
    }

    fn read(&mut self, part: &Expr, schema: &DFSchema) {
        match part {
            Expr::Not(value)
            | Expr::IsTrue(value)
            | Expr::IsFalse(value)
            | Expr::IsUnknown(value)
            | Expr::IsNotTrue(value)
            | Expr::IsNotFalse(value)
            | Expr::IsNotUnknown(value) => self.give(value, &DataType::Boolean),
            Expr::Negative(value) => self.give(value, &DataType::Int64),
            Expr::Cast(cast) => self.give(&cast.expr, cast.field.data_type()),
            Expr::TryCast(cast) => self.give(&cast.expr, cast.field.data_type()),
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
                let data_type = match op {
                    Operator::And | Operator::Or => DataType::Boolean,
                    Operator::Plus
                    | Operator::Minus
                    | Operator::Multiply
                    | Operator::Divide
                    | Operator::Modulo => DataType::Int64,
                    _ => return,
                };
                self.give(left, &data_type);
                self.give(right, &data_type);
            }
            Expr::Between(Between {
                expr, low, high, ..
            }) => self.alike(&[expr, low, high], schema),
            Expr::InList(InList { expr, list, .. }) => {
                let all: Vec<&Expr> = std::iter::once(expr.as_ref()).chain(list).collect();
                self.alike(&all, schema);
            }
            Expr::Case(case) => self.read_case(case, schema),
            Expr::ScalarFunction(call) => match (call.func.name(), call.args.as_slice()) {
                ("arrow_cast" | "arrow_try_cast", [value, Expr::Literal(name, _)]) => {
                    let data_type = name.try_as_str().flatten().map(str::parse);
                    if let Some(Ok(data_type)) = data_type {
                        self.give(value, &data_type);
                    }
                }
                ("coalesce" | "greatest" | "least" | "nullif" | "nvl", values) => {
                    self.alike(&values.iter().collect::<Vec<_>>(), schema);
                }
                _ => {}
            },
            _ => {}
        }
    }

    fn read_case(&mut self, case: &Case, schema: &DFSchema) {
        let conditions = case.when_then_expr.iter().map(|(when, _)| when.as_ref());
        match &case.expr {
            Some(value) => {
                let all: Vec<&Expr> = conditions.chain([value.as_ref()]).collect();
                self.alike(&all, schema);
            }
            None => conditions.for_each(|when| self.give(when, &DataType::Boolean)),
        }
        let answers = case.when_then_expr.iter().map(|(_, then)| then.as_ref());
        let all: Vec<&Expr> = answers.chain(case.else_expr.as_deref()).collect();
        self.alike(&all, schema);
    }

    /// Values that are compared or chosen from are of one type: the first that is known.
    fn alike(&mut self, values: &[&Expr], schema: &DFSchema) {
        let known = values
            .iter()
            .filter_map(|value| value.get_type(schema).ok())
            .find(|data_type| data_type != &DataType::Null);
        if let Some(known) = known {
            for value in values {
                self.give(value, &known);
            }
        }
    }

    fn give(&mut self, value: &Expr, data_type: &DataType) {
        if let Expr::Placeholder(parameter) = value {
            self.0
                .entry(parameter.id.clone())
                .or_insert_with(|| data_type.clone());
        }
    }
}
