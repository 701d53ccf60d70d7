//! What a client may change by SQL: tables and models, one statement at a time.
//!
//! The list is closed. UPDATE, DELETE, ALTER, COPY, SET and transactions are refused by their names, with what to do
//! instead. Nothing is changed here: a [`Change`] is planned, and carried out by `writing` and by whoever trains.

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::logical_expr::{DdlStatement, Expr as PlanExpr, LogicalPlan};
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    ColumnOption, CreateTable as SqlCreateTable, Insert as SqlInsert, ObjectName, ObjectNamePart,
    ObjectType, SetExpr, Statement as SqlStatement, TableFactor, TableObject,
};
use serde_json::{Map, Value};

use super::model_statement::{self, ModelStatement};
use super::model_table::own_name;
use super::session::{CATALOG, SCHEMA};
use super::statements::{CheckedStatement, check_body_of, check_query, parse, refuse};
use super::tables::plain_schema;
use super::{FeatureError, Query, QueryEngine, Source};
use crate::catalog::DatasetReference;

/// One statement of SQL, planned.
#[derive(Debug)]
pub enum SqlStatementPlan {
    Query(Box<Query>),
    Change(Box<Change>),
}

/// A statement that changes something.
#[derive(Debug)]
pub enum Change {
    CreateTable(CreateTable),
    DropTable { name: String, if_exists: bool },
    Insert(Insert),
    CreateModel(CreateModel),
    DropModel { name: String, if_exists: bool },
}

/// What becomes of a table that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// The statement fails.
    Refuse,
    /// It gets a version with the new rows alone: `OR REPLACE`.
    Replace,
    /// It stays as it is: `IF NOT EXISTS`.
    Keep,
}

/// `CREATE TABLE`: from a query, or empty.
#[derive(Debug)]
pub struct CreateTable {
    pub name: String,
    pub existing: Existing,
    /// The rows; none where columns alone were given.
    pub rows: Query,
    /// Whether the rows are those of a query.
    pub from_query: bool,
    /// Columns declared NOT NULL.
    pub required: Vec<String>,
}

impl CreateTable {
    /// The schema of the table. One that is made from a query takes nulls in every column that is not declared otherwise:
    /// that a literal or a count is never null says nothing of the rows to come.
    pub fn schema(&self) -> SchemaRef {
        let rows = self.rows.schema();
        if !self.from_query {
            return rows;
        }
        let fields: Vec<_> = rows
            .fields()
            .iter()
            .map(|field| {
                let required = self.required.contains(field.name());
                field.as_ref().clone().with_nullable(!required)
            })
            .collect();
        Arc::new(Schema::new(fields))
    }
}

/// `INSERT INTO`: rows with exactly the table's columns, cast to their types.
#[derive(Debug)]
pub struct Insert {
    pub name: String,
    pub rows: Query,
}

/// `CREATE MODEL`: what is trained, on which rows, how.
#[derive(Debug)]
pub struct CreateModel {
    pub name: String,
    pub if_not_exists: bool,
    /// As written, by name.
    pub options: Map<String, Value>,
    /// The rows: the query, or the dataset where it is all of one.
    pub source: Source,
}

impl Change {
    /// Types of `$1`, `$2`, ... in order.
    pub fn parameters(&self) -> SchemaRef {
        match self {
            Self::CreateTable(create) => create.rows.parameters(),
            Self::Insert(insert) => insert.rows.parameters(),
            Self::DropTable { .. } | Self::CreateModel(_) | Self::DropModel { .. } => {
                Arc::new(Schema::empty())
            }
        }
    }
}

/// A statement that passed the allow-list, before it is planned.
enum Checked {
    Query(CheckedStatement),
    CreateTable {
        name: String,
        existing: Existing,
        /// Columns declared NOT NULL.
        required: Vec<String>,
        from_query: bool,
        statement: CheckedStatement,
    },
    Insert {
        name: String,
        /// The columns that are named, where the rows are a query's and not written into the statement.
        from_query: Option<Vec<String>>,
        statement: CheckedStatement,
    },
    DropTable {
        name: String,
        if_exists: bool,
    },
    Model(ModelStatement),
}

impl QueryEngine {
    /// Parses one statement, checks it against the allow-lists and plans it. Nothing is read or changed.
    pub async fn understand(&self, sql: &str) -> Result<SqlStatementPlan, FeatureError> {
        let change = match check(sql)? {
            Checked::Query(statement) => {
                let query = self
                    .plan_checked(statement, self.partitions(), None)
                    .await?;
                return Ok(SqlStatementPlan::Query(Box::new(query)));
            }
            Checked::CreateTable {
                name,
                existing,
                required,
                from_query,
                statement,
            } => {
                let rows = self
                    .plan_checked(statement, self.partitions(), Some(&name))
                    .await?;
                Change::CreateTable(CreateTable {
                    name,
                    existing,
                    rows,
                    from_query,
                    required,
                })
            }
            Checked::Insert {
                name,
                from_query,
                statement,
            } => {
                let rows = self
                    .plan_checked(statement, self.partitions(), None)
                    .await?;
                let rows = match from_query {
                    None => rows,
                    Some(named) => {
                        let reference = DatasetReference::parse(&name)?;
                        let dataset = self.catalog().datasets.open(&reference).await?;
                        rows.inserted_into(&name, &plain_schema(&dataset.schema), &named)?
                    }
                };
                Change::Insert(Insert { name, rows })
            }
            Checked::DropTable { name, if_exists } => Change::DropTable { name, if_exists },
            Checked::Model(ModelStatement::Drop { name, if_exists }) => {
                Change::DropModel { name, if_exists }
            }
            Checked::Model(ModelStatement::Create {
                name,
                if_not_exists,
                options,
                query,
                placed_query,
            }) => {
                // As the job will plan it: a name is one column's there.
                let planned = self.plan(&placed_query, self.partitions()).await?;
                if !planned.parameters().fields().is_empty() {
                    return Err(FeatureError::BadSql {
                        reason:
                            "the query of CREATE MODEL has parameters; write their values into it"
                                .into(),
                    });
                }
                let source = match whole_table(&placed_query) {
                    Some(reference) => Source::Table(DatasetReference::parse(&reference)?),
                    None => Source::Query(query),
                };
                Change::CreateModel(CreateModel {
                    name,
                    if_not_exists,
                    options,
                    source,
                })
            }
        };
        Ok(SqlStatementPlan::Change(Box::new(change)))
    }
}

/// The dataset of which a query is all: `SELECT * FROM t`. A model then knows which version it was trained on.
fn whole_table(sql: &str) -> Option<String> {
    let Ok(Statement::Statement(body)) = parse(sql) else {
        return None;
    };
    let SqlStatement::Query(query) = body.as_ref() else {
        return None;
    };
    let SetExpr::Select(select) = query.body.as_ref() else {
        return None;
    };
    let [from] = select.from.as_slice() else {
        return None;
    };
    let TableFactor::Table { name, .. } = &from.relation else {
        return None;
    };
    (query.to_string() == format!("SELECT * FROM {name}"))
        .then(|| own_name(name, CATALOG, SCHEMA))
        .flatten()
}

fn check(sql: &str) -> Result<Checked, FeatureError> {
    if sql.len() <= super::statements::STATEMENT_BYTES_MAX
        && let Some(statement) = model_statement::read(sql)?
    {
        return Ok(Checked::Model(statement));
    }
    let mut parsed = parse(sql)?;
    let Statement::Statement(body) = &mut parsed else {
        return check_query(parsed).map(Checked::Query);
    };
    match body.as_mut() {
        SqlStatement::CreateTable(create) => {
            let name = own(&create.name)?;
            let existing = check_create(create)?;
            let from_query = create.query.is_some();
            let required = create
                .columns
                .iter()
                .filter(|column| {
                    column
                        .options
                        .iter()
                        .any(|o| o.option == ColumnOption::NotNull)
                })
                .map(|column| normal(&column.name))
                .collect();
            let surveyed = check_body_of(body)?;
            Ok(Checked::CreateTable {
                name,
                existing,
                required,
                from_query,
                statement: CheckedStatement {
                    statement: parsed,
                    models: surveyed.models,
                    lists_datasets: surveyed.lists_datasets,
                },
            })
        }
        SqlStatement::Insert(insert) => {
            let name = check_insert(insert)?;
            let is_query =
                matches!(&insert.source, Some(query) if !matches!(*query.body, SetExpr::Values(_)));
            if is_query && let Some(query) = insert.source.take() {
                let named = insert
                    .columns
                    .iter()
                    .map(column_name)
                    .collect::<Result<_, _>>()?;
                let query = Statement::Statement(Box::new(SqlStatement::Query(query)));
                return Ok(Checked::Insert {
                    name,
                    from_query: Some(named),
                    statement: check_query(query)?,
                });
            }
            let surveyed = check_body_of(body)?;
            Ok(Checked::Insert {
                name,
                from_query: None,
                statement: CheckedStatement {
                    statement: parsed,
                    models: surveyed.models,
                    lists_datasets: surveyed.lists_datasets,
                },
            })
        }
        SqlStatement::Drop {
            object_type: ObjectType::Table,
            if_exists,
            names,
            purge,
            temporary,
            table,
            ..
        } => {
            if *purge || *temporary || table.is_some() {
                return bad("DROP TABLE takes a name alone; leave PURGE and TEMPORARY out");
            }
            match names.as_slice() {
                [name] => Ok(Checked::DropTable {
                    name: own(name)?,
                    if_exists: *if_exists,
                }),
                _ => bad("DROP TABLE drops one table; write a statement for each"),
            }
        }
        _ => check_query(parsed).map(Checked::Query),
    }
}

fn bad<T>(reason: impl Into<String>) -> Result<T, FeatureError> {
    Err(FeatureError::BadSql {
        reason: reason.into(),
    })
}

/// The dataset that a name means.
fn own(name: &ObjectName) -> Result<String, FeatureError> {
    own_name(name, CATALOG, SCHEMA).map_or_else(
        || {
            bad(format!(
                "{name} is no table here; there is one catalog, {CATALOG}, with one schema, {SCHEMA}"
            ))
        },
        Ok,
    )
}

fn normal(name: &datafusion::sql::sqlparser::ast::Ident) -> String {
    match name.quote_style {
        Some(_) => name.value.clone(),
        None => name.value.to_lowercase(),
    }
}

/// The column that INSERT names.
fn column_name(name: &ObjectName) -> Result<String, FeatureError> {
    match name.0.as_slice() {
        [ObjectNamePart::Identifier(word)] => Ok(normal(word)),
        _ => bad(format!(
            "{name} is no column's name; give it without its table"
        )),
    }
}

/// Refuses what the planner would pass over in silence.
fn check_create(create: &SqlCreateTable) -> Result<Existing, FeatureError> {
    if create.temporary || create.external {
        return refuse(if create.temporary {
            "CREATE TEMPORARY TABLE"
        } else {
            "CREATE EXTERNAL TABLE"
        });
    }
    if create.query.is_none() && create.columns.is_empty() {
        return bad(
            "the table has no columns; write CREATE TABLE t (a INT, ...), or AS SELECT ...",
        );
    }
    let odd = create
        .columns
        .iter()
        .flat_map(|column| &column.options)
        .find(|o| !matches!(o.option, ColumnOption::Null | ColumnOption::NotNull));
    if let Some(odd) = odd {
        return bad(format!(
            "{odd} is not kept of a table; leave it out: a column has a type, and NOT NULL or not"
        ));
    }
    if let Some(constraint) = create.constraints.first() {
        return bad(format!(
            "{constraint} is not kept of a table: there are no keys and checks; leave it out"
        ));
    }
    match (create.or_replace, create.if_not_exists) {
        (true, true) => bad("OR REPLACE and IF NOT EXISTS contradict each other; write one"),
        (true, false) => Ok(Existing::Replace),
        (false, true) => Ok(Existing::Keep),
        (false, false) => Ok(Existing::Refuse),
    }
}

fn check_insert(insert: &SqlInsert) -> Result<String, FeatureError> {
    if insert.overwrite {
        return bad(
            "INSERT OVERWRITE is not understood; write CREATE OR REPLACE TABLE t AS SELECT ...",
        );
    }
    if insert.or.is_some() || insert.replace_into || insert.ignore || insert.on.is_some() {
        return bad(
            "INSERT adds rows and knows no keys; leave REPLACE, IGNORE and ON CONFLICT out",
        );
    }
    if insert.returning.is_some() || insert.output.is_some() {
        return bad("INSERT answers the number of rows; leave RETURNING out");
    }
    if insert.partitioned.is_some()
        || !insert.after_columns.is_empty()
        || !insert.assignments.is_empty()
        || insert.table_alias.is_some()
        || insert.insert_alias.is_some()
        || insert.settings.is_some()
        || insert.format_clause.is_some()
        || insert.priority.is_some()
        || insert.multi_table_insert_type.is_some()
    {
        return bad(
            "INSERT is not understood; write INSERT INTO t (columns) SELECT ... or VALUES ...",
        );
    }
    match &insert.table {
        TableObject::TableName(name) => own(name),
        _ => bad("INSERT INTO takes the name of a table"),
    }
}

/// The rows of a planned statement: a query's own, those that a table is made of, or those that are inserted.
pub(super) fn rows_of_plan(plan: LogicalPlan) -> Result<LogicalPlan, FeatureError> {
    match plan {
        LogicalPlan::Ddl(DdlStatement::CreateMemoryTable(create)) => {
            Ok(Arc::unwrap_or_clone(create.input))
        }
        LogicalPlan::Dml(insert) => {
            if let LogicalPlan::Projection(projection) = insert.input.as_ref() {
                let columns = insert.target.schema();
                let left_out = columns
                    .fields()
                    .iter()
                    .zip(&projection.expr)
                    .find(|(column, value)| !column.is_nullable() && is_null(value));
                if let Some((column, _)) = left_out {
                    return bad(format!(
                        "column {:?} of {:?} takes no nulls; give it a value",
                        column.name(),
                        insert.table_name.table()
                    ));
                }
            }
            Ok(Arc::unwrap_or_clone(insert.input))
        }
        plan => Ok(plan),
    }
}

/// Whether a planned value is NULL for every row, as that of a column that INSERT does not name.
fn is_null(value: &PlanExpr) -> bool {
    match value {
        PlanExpr::Alias(alias) => is_null(&alias.expr),
        PlanExpr::Cast(cast) => is_null(&cast.expr),
        PlanExpr::Literal(value, _) => value.is_null(),
        _ => false,
    }
}
