//! What a client may ask in SQL: one query. Decided on the syntax tree, before anything is resolved or planned.
//!
//! The list is of what is allowed; whatever a later parser learns is refused until it is named here. Statements that
//! change something are in `changes`.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast::{
    DuplicateTreatment, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Query,
    SetExpr, Statement as SqlStatement, TableFactor, TableFunctionArgs, Value, Visit, Visitor,
};
use datafusion::sql::sqlparser::tokenizer::Location;

use super::nesting::check_nesting;
use super::planner_forms::{number_parameters, write_for_planner};
use super::repeats::check_repeats;
use super::{FeatureError, model_table};

/// Longest statement taken, in bytes; the parser's memory is a small multiple of it.
pub(super) const STATEMENT_BYTES_MAX: usize = 1 << 20;

/// Most tables, subqueries and functions in the FROM clauses of one statement.
const TABLES_MAX: usize = 200;

/// Functions that stand where a table stands. They make rows out of their arguments and reach nothing else.
///
/// Their rows are made one batch at a time as they are asked for, so a series itself holds one batch however long it
/// is; what an operator above keeps of them is counted against the query memory.
const TABLE_FUNCTIONS: [&str; 2] = ["generate_series", "range"];

/// A statement that passed the allow-list.
#[derive(Debug)]
pub(super) struct CheckedStatement {
    pub statement: Statement,
    /// First arguments of `predict(...)`, as written.
    pub models: BTreeSet<String>,
    /// Whether the names of all datasets are asked for.
    pub lists_datasets: bool,
}

/// Parses one statement, checks that it is a query and numbers its `?` parameters.
pub(super) fn check(sql: &str) -> Result<CheckedStatement, FeatureError> {
    check_query(parse(sql)?)
}

/// Parses one statement, whatever it is.
pub(super) fn parse(sql: &str) -> Result<Statement, FeatureError> {
    if sql.len() > STATEMENT_BYTES_MAX {
        return Err(FeatureError::BadSql {
            reason: format!(
                "the statement has {} bytes; at most {STATEMENT_BYTES_MAX} are taken",
                sql.len()
            ),
        });
    }
    check_nesting(sql).map_err(|reason| FeatureError::BadSql { reason })?;
    let sql = model_table::without_table_words(sql);
    let mut statements = DFParserBuilder::new(sql.as_ref())
        .build()
        .and_then(|mut parser| parser.parse_statements())
        .map_err(super::error::from_datafusion)?;
    match (statements.pop_front(), statements.len()) {
        (None, _) => Err(FeatureError::BadSql {
            reason: "there is no statement; write one query".into(),
        }),
        (Some(_), more) if more > 0 => Err(FeatureError::BadSql {
            reason: format!("there are {} statements; send one at a time", more + 1),
        }),
        (Some(statement), _) => Ok(statement),
    }
}

/// Checks that a statement is a query and numbers its `?` parameters.
pub(super) fn check_query(mut statement: Statement) -> Result<CheckedStatement, FeatureError> {
    let body = allowed(&mut statement)?;
    let asks_for_names = matches!(
        body,
        SqlStatement::ShowTables { .. } | SqlStatement::ShowColumns { .. }
    );
    let surveyed = check_body_of(body)?;
    Ok(CheckedStatement {
        models: surveyed.models,
        lists_datasets: surveyed.lists_datasets || asks_for_names,
        statement,
    })
}

/// What the queries of a statement name.
pub(super) struct Surveyed {
    pub models: BTreeSet<String>,
    pub lists_datasets: bool,
}

/// Checks the queries inside a statement that may stand, numbers its `?` parameters and writes it as the planner takes it.
pub(super) fn check_body_of(body: &mut SqlStatement) -> Result<Surveyed, FeatureError> {
    let mut survey = Survey::default();
    if let ControlFlow::Break(refusal) = Visit::visit(&*body, &mut survey) {
        return Err(refusal);
    }
    check_repeats(body)?;
    if !survey.question_marks.is_empty() {
        if survey.has_numbered {
            return Err(FeatureError::BadSql {
                reason: "parameters are written both as ? and as $1; use one form".into(),
            });
        }
        survey.question_marks.sort();
        number_parameters(body, survey.question_marks);
    }
    write_for_planner(body);
    Ok(Surveyed {
        models: survey.models,
        lists_datasets: survey.lists_datasets,
    })
}

/// The query, SHOW or DESCRIBE inside `statement`, or the refusal.
fn allowed(statement: &mut Statement) -> Result<&mut SqlStatement, FeatureError> {
    match statement {
        Statement::Statement(body) => allowed_body(body),
        Statement::Explain(explain) => allowed(&mut explain.statement),
        Statement::CreateExternalTable(_) => refuse("CREATE EXTERNAL TABLE"),
        Statement::CopyTo(_) => refuse("COPY"),
        Statement::Reset(_) => refuse("RESET"),
    }
}

fn allowed_body(body: &mut SqlStatement) -> Result<&mut SqlStatement, FeatureError> {
    match body {
        SqlStatement::Query(_)
        | SqlStatement::ShowTables { .. }
        | SqlStatement::ShowColumns { .. }
        | SqlStatement::ExplainTable { .. } => Ok(body),
        SqlStatement::Explain { statement, .. } => allowed_body(statement),
        other => refuse(&first_words(&other.to_string())),
    }
}

pub(super) fn refuse<T>(statement: &str) -> Result<T, FeatureError> {
    Err(not_allowed(statement))
}

/// The refusal of a statement, with what to do instead.
fn not_allowed(statement: &str) -> FeatureError {
    let first = statement.split_whitespace().next().unwrap_or_default();
    let hint = match (first, statement) {
        ("UPDATE" | "DELETE" | "MERGE" | "TRUNCATE", _) => {
            "a version of a dataset never changes; write CREATE OR REPLACE TABLE t AS SELECT ... with the rows as they shall be"
        }
        ("ALTER", _) => {
            "write CREATE OR REPLACE TABLE t AS SELECT ... with the columns as they shall be"
        }
        ("SET" | "RESET", _) => "a statement has no settings; leave it out",
        ("START" | "BEGIN" | "COMMIT" | "ROLLBACK" | "SAVEPOINT" | "RELEASE", _) => {
            "there are no transactions: each statement is committed by itself, so leave it out"
        }
        ("COPY", _) | (_, "CREATE EXTERNAL TABLE") => {
            "SQL reaches no files; upload rows by DoPut or bulk ingest, and download them with a query"
        }
        ("PREPARE" | "EXECUTE" | "DEALLOCATE", _) => {
            "prepare with the driver's own call (CreatePreparedStatement)"
        }
        (_, "SELECT INTO") => "write CREATE TABLE t AS SELECT ...",
        ("INSERT", _) | (_, "CREATE TABLE" | "DROP TABLE" | "DROP MODEL" | "CREATE MODEL") => {
            "only queries are here; send what changes something by itself, as an update of Flight SQL (`client.execute` in Python)"
        }
        _ => {
            "there are queries (SELECT, WITH, VALUES, SHOW, DESCRIBE, EXPLAIN), CREATE TABLE, DROP TABLE, INSERT, CREATE MODEL and DROP MODEL"
        }
    };
    FeatureError::StatementNotAllowed {
        statement: statement.to_owned(),
        hint,
    }
}

/// The upper-case words a statement begins with: what its author calls it.
pub(super) fn first_words(statement: &str) -> String {
    let words: Vec<&str> = statement
        .split_whitespace()
        .take_while(|word| word.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
        .take(3)
        .collect();
    if words.is_empty() {
        statement.chars().take(20).collect()
    } else {
        words.join(" ")
    }
}

#[derive(Default)]
struct Survey {
    models: BTreeSet<String>,
    question_marks: Vec<Location>,
    has_numbered: bool,
    lists_datasets: bool,
    /// Tables, subqueries and functions in FROM: `FROM a, b, c` nests like a join, without a word for it.
    tables: usize,
}

impl Visitor for Survey {
    type Break = FeatureError;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<FeatureError> {
        if query.locks.is_empty() {
            check_body(&query.body)
        } else {
            ControlFlow::Break(not_allowed("SELECT ... FOR UPDATE"))
        }
    }

    fn pre_visit_relation(
        &mut self,
        relation: &datafusion::sql::sqlparser::ast::ObjectName,
    ) -> ControlFlow<FeatureError> {
        let parts = &relation.0;
        self.lists_datasets |= parts.len() >= 2
            && parts[parts.len() - 2]
                .as_ident()
                .is_some_and(|schema| schema.value.eq_ignore_ascii_case("information_schema"));
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<FeatureError> {
        self.tables += 1;
        if self.tables > TABLES_MAX {
            return ControlFlow::Break(FeatureError::BadSql {
                reason: format!(
                    "there are more than {TABLES_MAX} tables in FROM; ask in several statements"
                ),
            });
        }
        if let Some((words, hint)) = passed_over(factor) {
            return ControlFlow::Break(FeatureError::BadSql {
                reason: format!("{words} is not understood; {hint}"),
            });
        }
        let (name, arguments, modified) = match factor {
            TableFactor::Table {
                name,
                args: Some(TableFunctionArgs { args, settings }),
                with_hints,
                version,
                with_ordinality,
                sample,
                ..
            } => {
                let modified = *with_ordinality
                    || settings.is_some()
                    || !with_hints.is_empty()
                    || version.is_some()
                    || sample.is_some();
                (name, args, modified)
            }
            TableFactor::Function {
                name,
                args,
                with_ordinality,
                ..
            } => (name, args, *with_ordinality),
            TableFactor::TableFunction { expr, .. } => {
                return ControlFlow::Break(not_allowed(&format!("FROM TABLE({expr})")));
            }
            _ => return ControlFlow::Continue(()),
        };
        let function = name.to_string();
        if function.eq_ignore_ascii_case("predict") {
            return match model_table::read(arguments, modified) {
                Ok(call) => {
                    self.models.insert(call.model);
                    ControlFlow::Continue(())
                }
                Err(refusal) => ControlFlow::Break(refusal),
            };
        }
        if !TABLE_FUNCTIONS
            .iter()
            .any(|known| function.eq_ignore_ascii_case(known))
        {
            return ControlFlow::Break(not_allowed(&format!("FROM {function}(...)")));
        }
        let unnamed = arguments
            .iter()
            .all(|argument| matches!(argument, FunctionArg::Unnamed(FunctionArgExpr::Expr(_))));
        if modified || !unnamed {
            return ControlFlow::Break(FeatureError::BadSql {
                reason: format!(
                    "{factor} is not understood; write FROM {function}(start, stop, step), with the values alone"
                ),
            });
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expression: &Expr) -> ControlFlow<FeatureError> {
        match expression {
            Expr::Value(value) => {
                if let Value::Placeholder(name) = &value.value {
                    if name == "?" {
                        self.question_marks.push(value.span.start);
                    } else if name
                        .strip_prefix('$')
                        .and_then(|number| number.parse::<u16>().ok())
                        .is_none_or(|number| number == 0)
                    {
                        return ControlFlow::Break(FeatureError::BadSql {
                            reason: format!(
                                "parameter {name} is not a number; write ? or $1, $2, ..."
                            ),
                        });
                    } else {
                        self.has_numbered = true;
                    }
                }
            }
            Expr::Function(function)
                if function.name.to_string().eq_ignore_ascii_case("predict") =>
            {
                if let Some((words, hint)) = modified(function) {
                    return ControlFlow::Break(FeatureError::BadSql {
                        reason: format!("{words} is not understood of predict; {hint}"),
                    });
                }
                match model_name(&function.args) {
                    Some(name) => {
                        self.models.insert(name);
                    }
                    None => {
                        return ControlFlow::Break(FeatureError::ModelFunction {
                            reason: format!(
                                "the first argument of {expression} is not a model's name; write it in single quotes, as in predict('churn', age, income)"
                            ),
                        });
                    }
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// What stands in or after `predict(...)` and is for aggregates: the planner would pass over it in silence.
fn modified(function: &Function) -> Option<(&'static str, &'static str)> {
    let (duplicates, clauses) = match &function.args {
        FunctionArguments::List(list) => (list.duplicate_treatment, list.clauses.as_slice()),
        _ => (None, [].as_slice()),
    };
    match duplicates {
        Some(DuplicateTreatment::Distinct) => {
            return Some(("DISTINCT", "write SELECT DISTINCT, or GROUP BY, around it"));
        }
        Some(DuplicateTreatment::All) => return Some(("ALL", "leave it out")),
        None => {}
    }
    if function.filter.is_some() {
        Some((
            "FILTER (WHERE ...)",
            "choose rows with WHERE, or answer NULL with CASE WHEN ... THEN predict(...) END",
        ))
    } else if function.over.is_some() {
        Some((
            "OVER (...)",
            "it answers each row by itself, so leave it out",
        ))
    } else if function.null_treatment.is_some() {
        Some(("IGNORE NULLS or RESPECT NULLS", "leave it out"))
    } else if !function.within_group.is_empty() || !clauses.is_empty() {
        Some(("a clause for aggregates", "give the columns alone"))
    } else if !matches!(function.parameters, FunctionArguments::None) {
        Some(("a second list of arguments", "give the columns in one"))
    } else {
        None
    }
}

fn model_name(arguments: &FunctionArguments) -> Option<String> {
    let FunctionArguments::List(list) = arguments else {
        return None;
    };
    match list.args.first() {
        Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(value)))) => match &value.value
        {
            Value::SingleQuotedString(name) => Some(name.clone()),
            _ => None,
        },
        _ => None,
    }
}

/// What the planner would pass over in silence: the answer would be another than was asked for.
fn passed_over(factor: &TableFactor) -> Option<(&'static str, &'static str)> {
    match factor {
        TableFactor::Table {
            sample: Some(_), ..
        }
        | TableFactor::Derived {
            sample: Some(_), ..
        } => Some((
            "TABLESAMPLE",
            "leave it out, and keep part of the rows with WHERE",
        )),
        // A function's are refused with its arguments.
        TableFactor::Table { args: Some(_), .. } => None,
        TableFactor::Table { with_hints, .. } if !with_hints.is_empty() => {
            Some(("WITH (...) after a table", "leave the hints out"))
        }
        TableFactor::Table { index_hints, .. } if !index_hints.is_empty() => {
            Some(("an index hint", "leave it out; there are no indexes"))
        }
        TableFactor::Table { partitions, .. } if !partitions.is_empty() => Some((
            "PARTITION after a table",
            "leave it out, and choose rows with WHERE",
        )),
        TableFactor::Table {
            version: Some(_), ..
        } => Some((
            "a version clause after a table",
            "write the version into the name, as in \"census@3\"",
        )),
        TableFactor::Table {
            json_path: Some(_), ..
        } => Some(("a path after a table", "choose columns in SELECT")),
        TableFactor::Table {
            with_ordinality: true,
            ..
        } => Some((
            "WITH ORDINALITY after a table",
            "number the rows with row_number() OVER ()",
        )),
        _ => None,
    }
}

/// Refuses writes in places where a query may stand: `WITH x AS (INSERT ...)`, `SELECT ... INTO t`.
fn check_body(body: &SetExpr) -> ControlFlow<FeatureError> {
    let refused = match body {
        SetExpr::Select(select) if select.into.is_some() => "SELECT INTO",
        SetExpr::Select(_) | SetExpr::Values(_) | SetExpr::Query(_) | SetExpr::Table(_) => {
            return ControlFlow::Continue(());
        }
        SetExpr::SetOperation { left, right, .. } => {
            check_body(left)?;
            return check_body(right);
        }
        SetExpr::Insert(_) => "INSERT",
        SetExpr::Update(_) => "UPDATE",
        SetExpr::Delete(_) => "DELETE",
        SetExpr::Merge(_) => "MERGE",
    };
    ControlFlow::Break(not_allowed(refused))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(sql: &str) -> String {
        match check(sql) {
            Ok(_) => panic!("{sql} was allowed"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn queries_and_descriptions_are_allowed() {
        for sql in [
            "SELECT 1",
            "WITH t AS (SELECT 1 AS a) SELECT a FROM t UNION ALL VALUES (2)",
            "VALUES (1, 'a'), (2, 'b')",
            "SHOW TABLES",
            "SHOW COLUMNS FROM census",
            "DESCRIBE census",
            "EXPLAIN SELECT * FROM census",
            "EXPLAIN ANALYZE VERBOSE SELECT * FROM census",
            "SELECT * FROM generate_series(1, 10);",
            "SELECT * FROM Range(3) AS r(i), UNNEST([1, 2]) AS u(j)",
        ] {
            check(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
        }
    }

    #[test]
    fn every_other_statement_is_refused_by_its_name() {
        for (sql, name) in [
            ("COPY (SELECT 1) TO '/tmp/x.parquet'", "COPY"),
            (
                "CREATE EXTERNAL TABLE t STORED AS PARQUET LOCATION '/etc'",
                "CREATE EXTERNAL TABLE",
            ),
            ("CREATE TABLE t AS SELECT 1", "CREATE TABLE"),
            ("CREATE VIEW v AS SELECT 1", "CREATE VIEW"),
            ("INSERT INTO t VALUES (1)", "INSERT INTO"),
            ("UPDATE t SET a = 1", "UPDATE"),
            ("DELETE FROM t", "DELETE FROM"),
            ("DROP TABLE t", "DROP TABLE"),
            ("SET datafusion.execution.batch_size = 1", "SET"),
            ("RESET datafusion.execution.batch_size", "RESET"),
            ("PREPARE p AS SELECT 1", "PREPARE"),
            ("SELECT 1 AS a INTO t", "SELECT INTO"),
            ("EXPLAIN INSERT INTO t VALUES (1)", "INSERT INTO"),
            (
                "WITH x AS (INSERT INTO t VALUES (1) RETURNING a) SELECT * FROM x",
                "INSERT",
            ),
            ("SELECT * FROM read_parquet('/etc/passwd')", "read_parquet"),
            ("SELECT * FROM t, LATERAL read_csv('x')", "read_csv"),
            ("SELECT * FROM TABLE(range(1, 3))", "FROM TABLE"),
            ("SELECT * FROM other.range(1, 3)", "other.range"),
        ] {
            let said = refusal(sql);
            assert!(said.contains(name), "{sql}: {said}");
            assert!(said.contains("is not allowed"), "{sql}: {said}");
        }
    }

    #[test]
    fn exactly_one_statement_is_taken() {
        assert!(refusal("SELECT 1; SELECT 2").contains("2 statements"));
        assert!(refusal("  ; ").contains("no statement"));
        assert!(refusal("").contains("no statement"));
    }

    #[test]
    fn a_syntax_error_says_where() {
        let said = refusal("SELECT 1\nFROM t WHERE )");
        assert!(said.contains("Line: 2"), "{said}");
    }

    #[test]
    fn what_the_planner_would_pass_over_is_refused() {
        for (sql, words) in [
            ("SELECT * FROM t TABLESAMPLE (10 PERCENT)", "TABLESAMPLE"),
            (
                "SELECT * FROM (SELECT 1) TABLESAMPLE (10 ROWS)",
                "TABLESAMPLE",
            ),
            ("SELECT * FROM t WITH (NOLOCK)", "WITH (...)"),
        ] {
            let said = refusal(sql);
            assert!(
                said.contains(words) || said.contains("Expected"),
                "{sql}: {said}"
            );
        }
    }

    #[test]
    fn depth_is_refused_before_it_is_parsed() {
        let sum = format!("SELECT 1{}", "+1".repeat(100_000));
        assert!(refusal(&sum).contains("500 operators"));
        let unions = format!("SELECT 1{}", " UNION ALL SELECT 1".repeat(3_000));
        assert!(refusal(&unions).contains("400 SELECTs"));
        let tables = format!("SELECT 1 FROM t{}", ", t".repeat(3_000));
        assert!(refusal(&tables).contains("200 tables"));
    }

    #[test]
    fn a_series_takes_values_alone() {
        for sql in [
            "SELECT * FROM range(stop => 3, start => 1)",
            "SELECT * FROM generate_series(1, 3) WITH ORDINALITY",
            "SELECT * FROM t, LATERAL range(start => 1)",
        ] {
            let said = refusal(sql);
            assert!(said.contains("with the values alone"), "{sql}: {said}");
        }
    }

    #[test]
    fn question_marks_are_numbered_in_the_order_of_the_text() {
        let checked = check("SELECT a + ? FROM t WHERE b = ? ORDER BY c LIMIT ?").unwrap();
        let text = checked.statement.to_string();
        assert!(
            text.contains("a + $1") && text.contains("b = $2") && text.contains("LIMIT $3"),
            "{text}"
        );
        assert!(refusal("SELECT ? + $1").contains("use one form"));
    }

    #[test]
    fn models_are_found_before_planning_and_must_be_literals() {
        let checked =
            check("SELECT predict('a', x), (SELECT predict('b@2', y).probability FROM u) FROM t")
                .unwrap();
        assert_eq!(checked.models.into_iter().collect::<Vec<_>>(), ["a", "b@2"]);
        assert!(refusal("SELECT predict(name, x) FROM t").contains("single quotes"));
        assert!(refusal("SELECT predict() FROM t").contains("single quotes"));
    }

    #[test]
    fn what_is_for_aggregates_is_refused_of_predict_by_its_name() {
        for (sql, words) in [
            ("predict(DISTINCT 'a', x)", "DISTINCT"),
            ("predict(ALL 'a', x)", "ALL"),
            ("predict('a', x) OVER ()", "OVER"),
            ("predict('a', x) OVER (PARTITION BY y ORDER BY z)", "OVER"),
            ("predict('a', x) FILTER (WHERE x > 1)", "FILTER"),
            ("predict('a', x) IGNORE NULLS", "IGNORE NULLS"),
            ("predict('a', x ORDER BY x)", "a clause for aggregates"),
            ("abs(PREDICT(DISTINCT 'a', x).probability)", "DISTINCT"),
        ] {
            let said = refusal(&format!("SELECT {sql} FROM t"));
            assert!(
                said.contains(words) && said.contains("not understood of predict"),
                "{sql}: {said}"
            );
        }
    }
}
