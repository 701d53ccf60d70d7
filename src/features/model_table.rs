//! `predict(model => 'churn', input => TABLE t)` where a table stands: the rows of `t`, each with the model's answer.
//!
//! It is written anew as a subquery over the scalar `predict`, so that the planner, the allow-list and the models know
//! one way to ask a model. The parser reads no `TABLE t` among arguments: the word is blanked out beforehand, and what
//! is left is a name where a subquery may stand as well.

use std::borrow::Cow;
use std::ops::ControlFlow;
use std::sync::Arc;

use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, ObjectName, ObjectNamePart, Query, SetExpr,
    Statement as SqlStatement, TableAlias, TableFactor, Value, VisitMut, VisitorMut,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, Tokenizer};

use super::{FeatureError, ModelFunction};

const HINT: &str = "write FROM predict(model => 'churn', input => TABLE customers), with a subquery in parentheses instead of TABLE if you like, and version => 3 for a version";

/// What the planner says of names that two columns have, where a model is asked over a table: its answer's names may be
/// taken.
pub(super) fn explained(
    error: FeatureError,
    models: &[(String, Arc<dyn ModelFunction>)],
) -> FeatureError {
    let FeatureError::BadSql { reason } = &error else {
        return error;
    };
    let answers = models.iter().flat_map(|(_, model)| {
        let fields = model.answer_schema();
        let names: Vec<String> = fields.fields().iter().map(|f| f.name().clone()).collect();
        names
    });
    let taken = answers
        .filter(|_| reason.contains("would be ambiguous"))
        .find(|name| reason.contains(&format!("unqualified field name {name} ")));
    match taken {
        None => error,
        Some(name) => FeatureError::ModelFunction {
            reason: format!(
                "the input has a column {name:?}, as the answer has; leave it out, as in input => (SELECT * EXCLUDE ({name}) FROM t)"
            ),
        },
    }
}

/// What `predict(...)` in FROM asks for.
#[derive(Debug)]
pub(super) struct PredictTable {
    /// `churn` or `churn@3`.
    pub model: String,
    input: Input,
}

#[derive(Debug)]
enum Input {
    Table(ObjectName),
    Query(Box<Query>),
}

/// Reads the arguments of `predict` in FROM.
pub(super) fn read(
    arguments: &[FunctionArg],
    modified: bool,
) -> Result<PredictTable, FeatureError> {
    let refuse = |what: String| FeatureError::ModelFunction {
        reason: format!("{what}; {HINT}"),
    };
    if modified {
        return Err(refuse(
            "what stands behind predict(...) is not understood".into(),
        ));
    }
    let (mut model, mut version, mut input) = (None, None, None);
    for argument in arguments {
        let FunctionArg::Named {
            name,
            arg: FunctionArgExpr::Expr(value),
            ..
        } = argument
        else {
            return Err(refuse(format!(
                "argument {argument} of predict has no name"
            )));
        };
        let name = name.value.to_lowercase();
        let twice =
            match name.as_str() {
                "model" => model
                    .replace(text_of(value).ok_or_else(|| {
                        refuse(format!("model is {value}, and not a name in single quotes"))
                    })?)
                    .is_some(),
                "version" => version
                    .replace(number_of(value).ok_or_else(|| {
                        refuse(format!("version is {value}, and not a whole number"))
                    })?)
                    .is_some(),
                "input" => input
                    .replace(rows_of(value).ok_or_else(|| {
                        refuse(format!("input is {value}, and neither a table nor a query"))
                    })?)
                    .is_some(),
                other => return Err(refuse(format!("predict has no argument {other:?}"))),
            };
        if twice {
            return Err(refuse(format!("argument {name:?} is given twice")));
        }
    }
    let model = model.ok_or_else(|| refuse("predict in FROM has no model".into()))?;
    let input = input.ok_or_else(|| refuse("predict in FROM has no input".into()))?;
    let model = match version {
        Some(_) if model.contains('@') => {
            return Err(refuse(format!(
                "the version is given twice, in {model:?} and by itself"
            )));
        }
        Some(version) => format!("{model}@{version}"),
        None => model,
    };
    Ok(PredictTable { model, input })
}

fn text_of(value: &Expr) -> Option<String> {
    match value {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) => Some(text.clone()),
            _ => None,
        },
        _ => None,
    }
}

fn number_of(value: &Expr) -> Option<u64> {
    match value {
        Expr::Value(value) => match &value.value {
            Value::Number(digits, _) => digits.parse().ok(),
            _ => None,
        },
        _ => None,
    }
}

fn rows_of(value: &Expr) -> Option<Input> {
    match value {
        Expr::Identifier(name) => Some(Input::Table(ObjectName::from(vec![name.clone()]))),
        Expr::CompoundIdentifier(names) => Some(Input::Table(ObjectName::from(names.clone()))),
        Expr::Nested(inner) => rows_of(inner),
        Expr::Subquery(query) => Some(Input::Query(query.clone())),
        _ => None,
    }
}

/// Puts the subquery in the place of every `predict(...)` in FROM; the models were found before.
pub(super) fn rewrite(
    statement: &mut Statement,
    models: &[(String, Arc<dyn ModelFunction>)],
) -> Result<(), FeatureError> {
    let body = match statement {
        Statement::Statement(body) => body.as_mut(),
        Statement::Explain(explain) => return rewrite(&mut explain.statement, models),
        // The allow-list has none of these.
        Statement::CreateExternalTable(_) | Statement::CopyTo(_) | Statement::Reset(_) => {
            return Ok(());
        }
    };
    match VisitMut::visit(body, &mut Rewriting { models }) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

struct Rewriting<'a> {
    models: &'a [(String, Arc<dyn ModelFunction>)],
}

impl VisitorMut for Rewriting<'_> {
    type Break = FeatureError;

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<FeatureError> {
        let TableFactor::Function {
            name, args, alias, ..
        } = factor
        else {
            return ControlFlow::Continue(());
        };
        if !name.to_string().eq_ignore_ascii_case("predict") {
            return ControlFlow::Continue(());
        }
        match read(args, false).and_then(|call| self.subquery(call)) {
            Ok(subquery) => {
                *factor = TableFactor::Derived {
                    lateral: false,
                    subquery,
                    alias: alias.take(),
                    sample: None,
                };
                ControlFlow::Continue(())
            }
            Err(error) => ControlFlow::Break(error),
        }
    }
}

impl Rewriting<'_> {
    /// The input's columns, then the model's answer columns.
    fn subquery(&self, call: PredictTable) -> Result<Box<Query>, FeatureError> {
        let internal = |reason: String| FeatureError::Internal { reason };
        let model = self
            .models
            .iter()
            .find(|(written, _)| *written == call.model)
            .map(|(_, model)| model)
            .ok_or_else(|| internal(format!("model {:?} was not looked up", call.model)))?;
        // A name that no column of a dataset is likely to have: it is left out again one level up.
        let answer = quoted(&format!("predict({})", call.model));
        let inputs: Vec<String> = model
            .input_schema()
            .fields()
            .iter()
            .map(|field| format!("{}, {}", text(field.name()), quoted(field.name())))
            .collect();
        let answers: Vec<String> = model
            .answer_schema()
            .fields()
            .iter()
            .map(|field| {
                let name = field.name();
                format!("get_field({answer}, {}) AS {}", text(name), quoted(name))
            })
            .collect();
        let sql = format!(
            "SELECT * EXCLUDE ({answer}), {} FROM (SELECT *, predict({}, named_struct({})) AS {answer} FROM rows_of_input)",
            answers.join(", "),
            text(&call.model),
            inputs.join(", "),
        );
        let parsed = DFParserBuilder::new(sql.as_str())
            .build()
            .and_then(|mut parser| parser.parse_statement())
            .map_err(|error| internal(format!("{sql}: {error}")))?;
        let Statement::Statement(parsed) = parsed else {
            return Err(internal(format!("{sql} is no query")));
        };
        let SqlStatement::Query(mut query) = *parsed else {
            return Err(internal(format!("{sql} is no query")));
        };
        let place =
            innermost(&mut query).ok_or_else(|| internal(format!("{sql} reads nothing")))?;
        match (call.input, &mut *place) {
            (Input::Table(name), TableFactor::Table { name: named, .. }) => *named = name,
            (Input::Query(subquery), place) => {
                *place = TableFactor::Derived {
                    lateral: false,
                    subquery,
                    alias: Some(TableAlias {
                        explicit: true,
                        name: "rows_of_input".into(),
                        columns: Vec::new(),
                        at: None,
                    }),
                    sample: None,
                };
            }
            (Input::Table(_), _) => return Err(internal(format!("{sql} reads no table"))),
        }
        Ok(query)
    }
}

/// What the innermost query reads.
fn innermost(query: &mut Query) -> Option<&mut TableFactor> {
    let SetExpr::Select(select) = query.body.as_mut() else {
        return None;
    };
    match &mut select.from.first_mut()?.relation {
        TableFactor::Derived { subquery, .. } => innermost(subquery),
        table => Some(table),
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn text(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}

/// The statement with `TABLE` blanked out where it stands as a named argument, `input => TABLE t`. Every other character
/// keeps its place, and so errors theirs.
pub(super) fn without_table_words(sql: &str) -> Cow<'_, str> {
    if !sql.contains("=>") {
        return Cow::Borrowed(sql);
    }
    let Ok(tokens) = Tokenizer::new(&GenericDialect {}, sql).tokenize_with_location() else {
        return Cow::Borrowed(sql);
    };
    let mut words = Vec::new();
    let mut named = false;
    for (at, token) in tokens.iter().enumerate() {
        match &token.token {
            Token::Whitespace(_) => continue,
            Token::Word(word)
                if named && word.keyword == Keyword::TABLE && word.quote_style.is_none() =>
            {
                let next = tokens[at + 1..]
                    .iter()
                    .find(|next| !matches!(next.token, Token::Whitespace(_)));
                if matches!(
                    next.map(|next| &next.token),
                    Some(Token::Word(_) | Token::LParen)
                ) {
                    words.push(token.span.start);
                }
            }
            _ => {}
        }
        named = token.token == Token::RArrow;
    }
    if words.is_empty() {
        return Cow::Borrowed(sql);
    }
    let mut blanked = sql.to_owned();
    for offset in offsets(sql, &words) {
        blanked.replace_range(offset..offset + "TABLE".len(), "     ");
    }
    Cow::Owned(blanked)
}

/// Where in the text the tokenizer's places are, in bytes; `places` ascend.
pub(super) fn offsets(sql: &str, places: &[Location]) -> Vec<usize> {
    let mut found = Vec::with_capacity(places.len());
    let (mut line, mut column) = (1, 1);
    let mut wanted = places.iter().peekable();
    for (offset, character) in sql.char_indices() {
        while wanted
            .next_if(|place| place.line == line && place.column == column)
            .is_some()
        {
            found.push(offset);
        }
        if character == '\n' {
            line += 1;
            column = 1;
        } else {
            column += 1;
        }
    }
    found
}

/// The last part of a name that may say catalog and schema before it; `None` when these are not the server's own.
pub(super) fn own_name(name: &ObjectName, catalog: &str, schema: &str) -> Option<String> {
    let parts: Option<Vec<String>> = name
        .0
        .iter()
        .map(|part| match part {
            ObjectNamePart::Identifier(word) => Some(match word.quote_style {
                Some(_) => word.value.clone(),
                None => word.value.to_lowercase(),
            }),
            ObjectNamePart::Function(_) => None,
        })
        .collect();
    match parts?.as_slice() {
        [name] => Some(name.clone()),
        [of, name] if of == schema => Some(name.clone()),
        [within, of, name] if within == catalog && of == schema => Some(name.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_table_is_blanked_out_among_named_arguments_alone() {
        for (sql, blanked) in [
            (
                "SELECT * FROM predict(model => 'é', input =>\n TABLE t)",
                "SELECT * FROM predict(model => 'é', input =>\n       t)",
            ),
            ("f(a => table (SELECT 1))", "f(a =>       (SELECT 1))"),
            ("f(a => 'TABLE t', TABLE t)", "f(a => 'TABLE t', TABLE t)"),
            ("f(a => \"TABLE\")", "f(a => \"TABLE\")"),
            ("f(a => table)", "f(a => table)"),
        ] {
            assert_eq!(without_table_words(sql), blanked);
        }
    }
}
