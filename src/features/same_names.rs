//! Columns of a result that have one name: `SELECT a, CAST(a AS TEXT)` and `SELECT *, a` are what people write, and an Arrow
//! schema takes them. DataFusion's projections do not, so all but the first get a mark that the result's schema drops.
//!
//! Only what a client sees is treated so: in subqueries, tables made and rows trained on, a name is one column's.

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    Expr, Ident, Select, SelectItem, SetExpr, Statement as SqlStatement,
};

/// Between a name and the number that sets it apart: a code point that stands for no character, so that no name has it.
const MARK: char = '\u{FDD0}';

/// Marks the columns whose names others have before them.
pub(super) fn set_apart(statement: &mut Statement) {
    if let Statement::Statement(body) = statement
        && let SqlStatement::Query(query) = body.as_mut()
    {
        set_apart_in(&mut query.body);
    }
}

fn set_apart_in(body: &mut SetExpr) {
    match body {
        SetExpr::Select(select) => set_apart_items(select),
        SetExpr::Query(query) => set_apart_in(&mut query.body),
        SetExpr::SetOperation { left, right, .. } => {
            set_apart_in(left);
            set_apart_in(right);
        }
        _ => {}
    }
}

fn set_apart_items(select: &mut Select) {
    let has_wildcard = select.projection.iter().any(|item| {
        matches!(
            item,
            SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..)
        )
    });
    let mut seen: Vec<Named> = Vec::new();
    for (number, item) in select.projection.iter_mut().enumerate() {
        let Some(named) = Named::of(item) else {
            continue;
        };
        let taken = (has_wildcard && named.is_column) || seen.iter().any(|other| other.is(&named));
        if taken {
            let alias = Ident::with_quote('"', format!("{}{MARK}{number}", named.name));
            match item {
                SelectItem::ExprWithAlias { alias: given, .. } => *given = alias,
                SelectItem::UnnamedExpr(expression) => {
                    let expr = expression.clone();
                    *item = SelectItem::ExprWithAlias { expr, alias };
                }
                _ => {}
            }
        } else {
            seen.push(named);
        }
    }
}

/// What a column of the result is called.
struct Named {
    name: String,
    /// The table that is said with it.
    table: Option<String>,
    /// A table's column without a name of its own.
    is_column: bool,
}

impl Named {
    fn of(item: &SelectItem) -> Option<Self> {
        match item {
            SelectItem::ExprWithAlias { alias, .. } => Some(Self {
                name: written(alias),
                table: None,
                is_column: false,
            }),
            SelectItem::UnnamedExpr(expression) => Some(Self::of_expression(expression)),
            _ => None,
        }
    }

    fn of_expression(expression: &Expr) -> Self {
        match expression {
            Expr::Identifier(column) => Self {
                name: written(column),
                table: None,
                is_column: true,
            },
            Expr::CompoundIdentifier(parts) if !parts.is_empty() => {
                let (table, column) = parts.split_at(parts.len() - 1);
                let joined =
                    |parts: &[Ident]| parts.iter().map(written).collect::<Vec<_>>().join(".");
                Self {
                    name: joined(column),
                    table: Some(joined(table)),
                    is_column: true,
                }
            }
            // DataFusion calls a cast what it calls its operand.
            Expr::Cast { expr, .. } => Self::of_expression(expr),
            Expr::Nested(inner) => Self::of_expression(inner),
            other => Self {
                name: other.to_string(),
                table: None,
                is_column: false,
            },
        }
    }

    /// Columns of two tables are told apart by their tables.
    fn is(&self, other: &Self) -> bool {
        let apart = matches!((&self.table, &other.table), (Some(a), Some(b)) if a != b);
        self.name == other.name && !apart
    }
}

/// As the planner reads it: without quotes, names have no case.
fn written(name: &Ident) -> String {
    match name.quote_style {
        Some(_) => name.value.clone(),
        None => name.value.to_lowercase(),
    }
}

/// The schema without the marks.
pub(super) fn as_written(schema: SchemaRef) -> SchemaRef {
    if !schema
        .fields()
        .iter()
        .any(|field| field.name().contains(MARK))
    {
        return schema;
    }
    let fields: Vec<_> = schema
        .fields()
        .iter()
        .map(|field| {
            let name = field.name().split(MARK).next().unwrap_or_default();
            field.as_ref().clone().with_name(name)
        })
        .collect();
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}
