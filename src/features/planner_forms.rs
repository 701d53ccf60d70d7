//! A checked statement, written in the one form that DataFusion's planner takes.
//!
//! Says nothing else than what the client wrote, and refuses nothing.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    AccessExpr, Expr, Statement, TableFactor, Value, VisitMut, VisitorMut,
};
use datafusion::sql::sqlparser::tokenizer::Location;

/// Turns each `?` into `$n` in the order of the text; `places` ascend.
pub(super) fn number_parameters(statement: &mut Statement, places: Vec<Location>) {
    let _ = VisitMut::visit(statement, &mut Numbering { places });
}

/// Writes what the planner takes in another form.
pub(super) fn write_for_planner(statement: &mut Statement) {
    let _ = VisitMut::visit(statement, &mut PlannerForms);
}

/// Turns each `?` into `$n` in the order of the text.
struct Numbering {
    places: Vec<Location>,
}

impl VisitorMut for Numbering {
    type Break = ();

    fn pre_visit_expr(&mut self, expression: &mut Expr) -> ControlFlow<()> {
        if let Expr::Value(value) = expression
            && let Value::Placeholder(name) = &mut value.value
            && let Ok(index) = self.places.binary_search(&value.span.start)
        {
            *name = format!("${}", index + 1);
        }
        ControlFlow::Continue(())
    }
}

/// Writes two things in the one form that DataFusion's planner takes.
///
/// `predict('m', a).probability` becomes `predict('m', a).'probability'`: a field of a computed struct.
/// `FROM range(1, 3)` becomes a function by its node, not a table with arguments: the names of tables are looked up
/// in the catalog before planning, and a function's name is none.
struct PlannerForms;

impl VisitorMut for PlannerForms {
    type Break = ();

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        if let TableFactor::Table {
            name,
            alias,
            args: Some(arguments),
            ..
        } = factor
        {
            *factor = TableFactor::Function {
                lateral: false,
                name: name.clone(),
                args: std::mem::take(&mut arguments.args),
                with_ordinality: false,
                alias: alias.take(),
            };
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expression: &mut Expr) -> ControlFlow<()> {
        if let Expr::CompoundFieldAccess { root, access_chain } = expression
            && !matches!(**root, Expr::Identifier(_) | Expr::CompoundIdentifier(_))
        {
            for access in access_chain {
                if let AccessExpr::Dot(field) = access
                    && let Expr::Identifier(name) = field
                {
                    let name = match name.quote_style {
                        Some(_) => name.value.clone(),
                        None => name.value.to_lowercase(),
                    };
                    *field = Expr::value(Value::SingleQuotedString(name));
                }
            }
        }
        ControlFlow::Continue(())
    }
}
