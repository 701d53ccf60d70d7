//! `CREATE MODEL name OPTIONS (...) AS SELECT ...` and `DROP MODEL name`, which the parser does not know.
//!
//! Their heads are read from the tokenizer's tokens; the query behind AS is the parser's. Options are values alone: what
//! each means is the business of whoever trains.

use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};
use serde_json::{Map, Value};

use super::FeatureError;
use super::model_table::offsets;

/// A statement about a model.
#[derive(Debug, PartialEq)]
pub(super) enum ModelStatement {
    Create {
        name: String,
        if_not_exists: bool,
        options: Map<String, Value>,
        query: String,
        /// The query at its own place in the statement, with white space before it: for errors that say where.
        placed_query: String,
    },
    Drop {
        name: String,
        if_exists: bool,
    },
}

/// Lists in lists in an option.
const DEPTH_MAX: usize = 16;

/// Reads a statement about a model; `None` when it is another one.
pub(super) fn read(sql: &str) -> Result<Option<ModelStatement>, FeatureError> {
    let Ok(tokens) = Tokenizer::new(&GenericDialect {}, sql).tokenize_with_location() else {
        // The parser says what is wrong with it.
        return Ok(None);
    };
    let mut words = Words {
        tokens: tokens
            .into_iter()
            .filter(|token| !matches!(token.token, Token::Whitespace(_)))
            .collect(),
        at: 0,
    };
    if words.take("DROP") {
        if !words.take("MODEL") {
            return Ok(None);
        }
        let if_exists = words.take("IF");
        if if_exists {
            words.expect("EXISTS")?;
        }
        let name = words.name()?;
        words.end()?;
        return Ok(Some(ModelStatement::Drop { name, if_exists }));
    }
    if !words.take("CREATE") {
        return Ok(None);
    }
    let or_replace = words.take("OR");
    if or_replace && !words.take("REPLACE") {
        return Ok(None);
    }
    if !words.take("MODEL") {
        return Ok(None);
    }
    let if_not_exists = words.take("IF");
    if if_not_exists {
        words.expect("NOT")?;
        words.expect("EXISTS")?;
        if or_replace {
            return Err(bad(
                "OR REPLACE and IF NOT EXISTS contradict each other; write one".into(),
            ));
        }
    }
    let name = words.name()?;
    let options = if words.take("OPTIONS") {
        words.options()?
    } else {
        Map::new()
    };
    words.expect("AS")?;
    let Some(first) = words.tokens.get(words.at) else {
        return Err(words.unexpected("the query that gives the rows, AS SELECT ..."));
    };
    let offset = offsets(sql, &[first.span.start])
        .first()
        .copied()
        .unwrap_or(sql.len());
    let (head, query) = sql.split_at(offset);
    let blank: String = head
        .chars()
        .map(|c| if c == '\n' { '\n' } else { ' ' })
        .collect();
    Ok(Some(ModelStatement::Create {
        name,
        if_not_exists,
        options,
        query: query.trim().trim_end_matches(';').trim_end().to_owned(),
        placed_query: format!("{blank}{query}"),
    }))
}

fn bad(reason: String) -> FeatureError {
    FeatureError::BadSql { reason }
}

struct Words {
    tokens: Vec<TokenWithSpan>,
    at: usize,
}

impl Words {
    fn peek(&self) -> &Token {
        self.tokens
            .get(self.at)
            .map_or(&Token::EOF, |token| &token.token)
    }

    /// Goes past a token that is this one.
    fn take_token(&mut self, wanted: &Token) -> bool {
        let found = self.peek() == wanted;
        self.at += usize::from(found);
        found
    }

    /// Goes past a keyword that is this one.
    fn take(&mut self, keyword: &str) -> bool {
        let found = matches!(self.peek(), Token::Word(word) if word.quote_style.is_none() && word.value.eq_ignore_ascii_case(keyword));
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, keyword: &str) -> Result<(), FeatureError> {
        if self.take(keyword) {
            Ok(())
        } else {
            Err(self.unexpected(keyword))
        }
    }

    fn unexpected(&self, wanted: &str) -> FeatureError {
        bad(match self.tokens.get(self.at) {
            Some(found) => format!(
                "Expected: {wanted}, found: {} at Line: {}, Column: {}",
                found.token, found.span.start.line, found.span.start.column
            ),
            None => format!("Expected: {wanted}, found: the end of the statement"),
        })
    }

    /// A model's name: a word, lower-cased as SQL does, or one in quotes as it stands.
    fn name(&mut self) -> Result<String, FeatureError> {
        let name = match self.peek() {
            Token::Word(word) if word.quote_style.is_some() => word.value.clone(),
            Token::Word(word) => word.value.to_lowercase(),
            Token::SingleQuotedString(text) => text.clone(),
            _ => return Err(self.unexpected("the model's name")),
        };
        self.at += 1;
        if matches!(self.peek(), Token::Minus | Token::Period | Token::AtSign) {
            return Err(bad(format!(
                "the model's name goes on behind {name:?}; write it in double quotes"
            )));
        }
        Ok(name)
    }

    fn end(&mut self) -> Result<(), FeatureError> {
        while self.take_token(&Token::SemiColon) {}
        match self.peek() {
            Token::EOF => Ok(()),
            _ => Err(self.unexpected("the end of the statement")),
        }
    }

    /// `(name = value, ...)`.
    fn options(&mut self) -> Result<Map<String, Value>, FeatureError> {
        let mut options = Map::new();
        if !self.take_token(&Token::LParen) {
            return Err(self.unexpected("( behind OPTIONS"));
        }
        if self.take_token(&Token::RParen) {
            return Ok(options);
        }
        loop {
            let name = match self.peek() {
                Token::Word(word) if word.quote_style.is_some() => word.value.clone(),
                Token::Word(word) => word.value.to_lowercase(),
                _ => return Err(self.unexpected("the name of an option")),
            };
            self.at += 1;
            if !self.take_token(&Token::Eq) {
                return Err(self.unexpected(&format!("= behind option {name:?}")));
            }
            let value = self.value(0)?;
            if options.insert(name.clone(), value).is_some() {
                return Err(bad(format!("option {name:?} is given twice")));
            }
            if self.take_token(&Token::RParen) {
                return Ok(options);
            }
            if !self.take_token(&Token::Comma) {
                return Err(self.unexpected(", or ) behind an option"));
            }
        }
    }

    fn value(&mut self, depth: usize) -> Result<Value, FeatureError> {
        const WANTED: &str =
            "a value: a number, text in single quotes, TRUE, FALSE, NULL or a list [..]";
        if depth > DEPTH_MAX {
            return Err(bad("an option has too many lists in lists".into()));
        }
        let negative = self.take_token(&Token::Minus);
        if let Token::Number(digits, _) = self.peek() {
            let text = format!("{}{digits}", if negative { "-" } else { "" });
            let value = number(&text).ok_or_else(|| self.unexpected(WANTED))?;
            self.at += 1;
            return Ok(value);
        }
        if negative {
            return Err(self.unexpected("a number"));
        }
        if let Token::SingleQuotedString(text) = self.peek() {
            let value = Value::String(text.clone());
            self.at += 1;
            return Ok(value);
        }
        for (keyword, value) in [
            ("TRUE", Value::Bool(true)),
            ("FALSE", Value::Bool(false)),
            ("NULL", Value::Null),
        ] {
            if self.take(keyword) {
                return Ok(value);
            }
        }
        self.take("ARRAY");
        let end = if self.take_token(&Token::LBracket) {
            Token::RBracket
        } else if self.take_token(&Token::LParen) {
            Token::RParen
        } else {
            return Err(self.unexpected(WANTED));
        };
        let mut values = Vec::new();
        while !self.take_token(&end) {
            if !values.is_empty() && !self.take_token(&Token::Comma) {
                return Err(self.unexpected(&format!(", or {end} in a list")));
            }
            values.push(self.value(depth + 1)?);
        }
        Ok(Value::Array(values))
    }
}

/// A number of SQL as JSON has it: `1`, `-0.5`, `1e-3`, `.5`.
fn number(text: &str) -> Option<Value> {
    if let Ok(whole) = text.parse::<u64>() {
        return Some(whole.into());
    }
    if let Ok(whole) = text.parse::<i64>() {
        return Some(whole.into());
    }
    serde_json::Number::from_f64(text.parse().ok()?).map(Value::Number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_model_statement_is_read_by_its_tokens() {
        let sql = "-- CREATE MODEL x\nCREATE or replace MODEL \"Churn-2\" OPTIONS (label = 'it''s', epochs = 5,\n \
                   rate = -1e-3, metrics = ['auc', 'mae'], shuffle = false, features = ARRAY['a']) AS\n SELECT 'AS' FROM t;";
        let Some(ModelStatement::Create {
            name,
            if_not_exists,
            options,
            query,
            placed_query,
        }) = read(sql).unwrap()
        else {
            panic!("it is a CREATE MODEL")
        };
        assert_eq!((name.as_str(), if_not_exists), ("Churn-2", false));
        assert_eq!(query, "SELECT 'AS' FROM t");
        assert_eq!(placed_query.lines().count(), sql.lines().count());
        assert_eq!(
            Value::Object(options),
            json!({"label": "it's", "epochs": 5, "rate": -0.001, "metrics": ["auc", "mae"], "shuffle": false,
                   "features": ["a"]})
        );
        let dropped = read("drop model if exists CHURN ;").unwrap();
        let expected = ModelStatement::Drop {
            name: "churn".into(),
            if_exists: true,
        };
        assert_eq!(dropped, Some(expected));
        for other in [
            "SELECT 'CREATE MODEL'",
            "CREATE TABLE model AS SELECT 1",
            "DROP TABLE model",
            "",
        ] {
            assert_eq!(read(other).unwrap(), None, "{other}");
        }
    }

    #[test]
    fn what_is_wrong_with_the_head_is_said_with_its_place() {
        for (sql, words) in [
            ("CREATE MODEL", "the model's name"),
            ("CREATE MODEL m", "Expected: AS"),
            ("CREATE MODEL m AS", "the query that gives the rows"),
            ("CREATE MODEL m-2 AS SELECT 1", "double quotes"),
            (
                "CREATE MODEL m OPTIONS (epochs) AS SELECT 1",
                "= behind option \"epochs\"",
            ),
            (
                "CREATE MODEL m OPTIONS (epochs = x) AS SELECT 1",
                "Line: 1, Column: 34",
            ),
            ("CREATE MODEL m OPTIONS (a = 1, a = 2) AS SELECT 1", "twice"),
            (
                "CREATE OR REPLACE MODEL IF NOT EXISTS m AS SELECT 1",
                "contradict",
            ),
            ("DROP MODEL m n", "the end of the statement"),
        ] {
            let said = read(sql).unwrap_err().to_string();
            assert!(said.contains(words), "{sql}: {said}");
        }
    }
}
