//! How deep a text of SQL nests, counted on its tokens before anything is parsed.
//!
//! Parser, planner, optimizer and even the drop of a syntax tree recurse once per level, and `1 + 1 + ...` is a level per
//! operator. A stack that overflows ends the process, so depth is bounded here, by one loop over the tokens, to what
//! the threads' stack ([`crate::support::machine::THREAD_STACK_BYTES`]) carries. The parser's own limit of 50 holds for
//! what it enters recursively (parentheses, functions, subqueries, CASE); chains and lists of relations it does not see.

use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

/// Operators on the longest path of one expression: chained, or inside each other's parentheses.
pub(super) const OPERATORS_MAX: usize = 500;
/// SELECTs, set operations, joins and EXPLAINs of one statement. Each is about one level of the plan: even those that
/// stand beside each other may read each other (WITH).
pub(super) const RELATIONS_MAX: usize = 400;
/// Brackets and CASEs open at once.
const BRACKETS_MAX: usize = 100;

/// Levels of a type that is written in a text: as many as an Arrow schema may have on its way to a client.
const TYPE_LEVELS_MAX: usize = 50;

/// One bracket, or one CASE, that is open.
#[derive(Default)]
struct Level {
    is_case: bool,
    /// AND and OR since the last comma. They bind least: what stands between two of them is one operand.
    links: usize,
    /// BETWEENs whose AND has not come.
    betweens: usize,
    /// Other operators of this operand.
    operators: usize,
    /// The deepest bracket of this operand.
    inside: usize,
    /// The deepest operand of this expression.
    operand: usize,
    /// The deepest expression so far.
    deepest: usize,
}

impl Level {
    fn end_operand(&mut self) {
        self.operand = self.operand.max(self.operators + self.inside);
        self.operators = 0;
        self.inside = 0;
    }

    fn end_expression(&mut self) {
        self.end_operand();
        self.deepest = self.deepest.max(self.links + self.operand);
        self.links = 0;
        self.betweens = 0;
        self.operand = 0;
    }

    fn depth(&self) -> usize {
        let operand = self.operand.max(self.operators + self.inside);
        self.deepest.max(self.links + operand)
    }
}

/// Types in a text, which `arrow_cast` and its kin read by recursion.
fn check_types(tokens: &[Token]) -> Result<(), String> {
    let reads_types = |token: &Token| matches!(token, Token::Word(word) if word.value.to_ascii_lowercase().starts_with("arrow_"));
    if !tokens.iter().any(reads_types) {
        return Ok(());
    }
    for token in tokens {
        let (mut open, mut deepest) = (0_usize, 0);
        for letter in token.to_string().chars() {
            match letter {
                '(' | '<' => open += 1,
                ')' | '>' => open = open.saturating_sub(1),
                _ => {}
            }
            deepest = deepest.max(open);
        }
        if deepest > TYPE_LEVELS_MAX {
            return Err(format!(
                "it has a type of {deepest} levels in a text; at most {TYPE_LEVELS_MAX} are taken"
            ));
        }
    }
    Ok(())
}

/// Refuses text that nests deeper than the stack carries, with the limit in the reason. Text that is no SQL passes:
/// the parser says what is wrong with it.
pub(super) fn check_nesting(sql: &str) -> Result<(), String> {
    let Ok(tokens) = Tokenizer::new(&GenericDialect {}, sql).tokenize() else {
        return Ok(());
    };
    check_types(&tokens)?;
    let mut levels = vec![Level::default()];
    let mut relations = 0_usize;
    // Whether the last token ended an operand: a keyword after an operator can only be a column's name.
    let mut after_operand = false;
    let mut after_period = false;
    let mut after_bracket = false;
    // `OPERATOR(+)` ends in a parenthesis and is no operand.
    let mut spelled_operators = false;
    for token in &tokens {
        if matches!(token, Token::Whitespace(_)) {
            continue;
        }
        let follows_period = std::mem::replace(&mut after_period, *token == Token::Period);
        let follows_bracket = std::mem::replace(
            &mut after_bracket,
            matches!(token, Token::RParen | Token::RBracket | Token::RBrace),
        );
        let follows_operand = std::mem::replace(&mut after_operand, true);
        let last = levels.len() - 1;
        let level = &mut levels[last];
        match token {
            Token::LParen | Token::LBracket | Token::LBrace => {
                // `a[1][2]` and `f(1)(2)` are chains too.
                level.operators += usize::from(*token != Token::LParen || follows_bracket);
                after_operand = false;
                levels.push(Level::default());
            }
            Token::RParen | Token::RBracket | Token::RBrace => {
                while levels.len() > 1 && close(&mut levels) {}
            }
            Token::Comma | Token::SemiColon => {
                level.end_expression();
                after_operand = false;
            }
            Token::Period => {
                level.operators += usize::from(follows_bracket);
            }
            Token::Word(word) if !follows_period => match word.keyword {
                Keyword::CASE => {
                    levels.push(Level {
                        is_case: true,
                        ..Level::default()
                    });
                    after_operand = false;
                }
                Keyword::END if level.is_case && follows_operand => {
                    close(&mut levels);
                }
                Keyword::AND | Keyword::OR => {
                    if word.keyword == Keyword::AND && level.betweens > 0 {
                        level.betweens -= 1;
                        level.operators += 1;
                    } else {
                        level.end_operand();
                        level.links += 1;
                    }
                    after_operand = false;
                }
                Keyword::BETWEEN => {
                    level.betweens += 1;
                    level.operators += 1;
                    after_operand = false;
                }
                Keyword::OPERATOR => {
                    level.operators += 1;
                    spelled_operators = true;
                    after_operand = false;
                }
                keyword if is_operator(keyword) => {
                    level.operators += 1;
                    after_operand = false;
                }
                keyword => {
                    // `ORDER BY a DESC` describes nothing.
                    let is_relation =
                        is_relation(keyword) || (keyword == Keyword::DESC && !follows_operand);
                    relations += usize::from(is_relation);
                    if (is_relation || begins_clause(keyword))
                        && follows_operand
                        && !spelled_operators
                    {
                        level.end_expression();
                    }
                    after_operand = !(is_relation || begins_clause(keyword));
                }
            },
            Token::Word(_)
            | Token::Number(..)
            | Token::Placeholder(_)
            | Token::SingleQuotedString(_)
            | Token::DoubleQuotedString(_)
            | Token::DollarQuotedString(_)
            | Token::EscapedStringLiteral(_)
            | Token::HexStringLiteral(_)
            | Token::EOF => {}
            // Every other token is an operator, or so rare that it may count as one.
            _ => {
                level.operators += 1;
                after_operand = false;
            }
        }
        if levels.len() > BRACKETS_MAX {
            return Err(format!(
                "more than {BRACKETS_MAX} brackets are open at once; compute the inner parts in a subquery or step of their own"
            ));
        }
        if levels
            .last()
            .is_some_and(|level| level.depth() > OPERATORS_MAX)
        {
            return Err(format!(
                "an expression has more than {OPERATORS_MAX} operators inside each other (each of a + b + c is inside the next); use IN for a list of values, or compute parts of it in a subquery or step of their own"
            ));
        }
        if relations > RELATIONS_MAX {
            return Err(format!(
                "there are more than {RELATIONS_MAX} SELECTs, set operations and joins; ask in several statements"
            ));
        }
    }
    Ok(())
}

/// Ends the innermost level; whether the bracket that is being closed is still open.
fn close(levels: &mut Vec<Level>) -> bool {
    let Some(mut ended) = levels.pop() else {
        return false;
    };
    ended.end_expression();
    if let Some(outer) = levels.last_mut() {
        outer.inside = outer.inside.max(ended.deepest + 1);
    }
    ended.is_case
}

/// Words that stand between or before operands.
fn is_operator(keyword: Keyword) -> bool {
    matches!(
        keyword,
        Keyword::NOT
            | Keyword::XOR
            | Keyword::IS
            | Keyword::IN
            | Keyword::LIKE
            | Keyword::ILIKE
            | Keyword::SIMILAR
            | Keyword::TO
            | Keyword::ESCAPE
            | Keyword::RLIKE
            | Keyword::REGEXP
            | Keyword::MATCH
            | Keyword::DIV
            | Keyword::OVERLAPS
            | Keyword::COLLATE
            | Keyword::AT
            | Keyword::ZONE
            | Keyword::INTERVAL
            | Keyword::BINARY
            | Keyword::PRIOR
            | Keyword::MEMBER
            | Keyword::NOTNULL
            // `IS DISTINCT FROM` is an operator up to its last word.
            | Keyword::DISTINCT
    )
}

fn is_relation(keyword: Keyword) -> bool {
    matches!(
        keyword,
        Keyword::SELECT
            | Keyword::UNION
            | Keyword::INTERSECT
            | Keyword::EXCEPT
            | Keyword::MINUS
            | Keyword::JOIN
            | Keyword::APPLY
            | Keyword::PIVOT
            | Keyword::UNPIVOT
            | Keyword::EXPLAIN
            | Keyword::DESCRIBE
    )
}

/// Words that end the expression before them, unless they are a column's name.
fn begins_clause(keyword: Keyword) -> bool {
    matches!(
        keyword,
        Keyword::FROM
            | Keyword::WHERE
            | Keyword::GROUP
            | Keyword::HAVING
            | Keyword::ORDER
            | Keyword::LIMIT
            | Keyword::ON
            | Keyword::WHEN
            | Keyword::THEN
            | Keyword::ELSE
    )
}

#[cfg(test)]
mod tests {
    use super::check_nesting;

    fn chain(first: &str, more: &str, times: usize) -> String {
        format!("SELECT {first}{} FROM t", more.repeat(times))
    }

    #[test]
    fn every_shape_of_depth_is_refused_by_its_limit() {
        for more in [
            "+1",
            " OR a",
            " AND a",
            "||'x'",
            "*a",
            "-a",
            "::int",
            " IS NULL",
            "[1]",
            "=a",
            " AT TIME ZONE 'UTC'",
            " IS DISTINCT FROM a",
            " LIKE a",
            " IN (1)",
            " BETWEEN 1 AND 2",
            "+limit",
            "+from",
            " OPERATOR(+) limit",
            ".a(1)",
            " NOT IN (a, 2)",
            " BETWEEN 1 AND 2 IS NULL IS NULL",
        ] {
            let sql = chain("(a)", more, 3_000);
            let said = check_nesting(&sql).expect_err(more);
            assert!(said.contains("500 operators"), "{more}: {said}");
        }
        for (sql, limit) in [
            (format!("SELECT {}1", "-(1+".repeat(3_000)), "100 brackets"),
            (format!("SELECT {}1", "NOT ".repeat(3_000)), "500 operators"),
            (format!("SELECT {}a", "abs(".repeat(3_000)), "100 brackets"),
            (
                format!("SELECT {}1", "CASE WHEN a THEN ".repeat(3_000)),
                "100 brackets",
            ),
            (
                format!("SELECT 1{}", " UNION ALL SELECT 1".repeat(3_000)),
                "400 SELECTs",
            ),
            (
                format!("SELECT 1{}", " EXCEPT VALUES (1)".repeat(3_000)),
                "400 SELECTs",
            ),
            (
                format!("SELECT * FROM t{}", " JOIN t USING (a)".repeat(3_000)),
                "400 SELECTs",
            ),
            (
                format!("{}SELECT 1", "EXPLAIN ".repeat(3_000)),
                "400 SELECTs",
            ),
            ("SELECT * FROM (".repeat(3_000), "100 brackets"),
            (
                format!(
                    "WITH a0 AS (SELECT 1){} SELECT 1",
                    ", b AS (SELECT * FROM a)".repeat(3_000)
                ),
                "400 SELECTs",
            ),
            // Chains inside chains add up.
            (
                format!("SELECT ({}1){}", "1+".repeat(300), "+1".repeat(300)),
                "500 operators",
            ),
            (
                format!("SELECT f(1, {}1){}", "1+".repeat(300), "+1".repeat(300)),
                "500 operators",
            ),
        ] {
            let said = check_nesting(&sql).expect_err(&sql[..60]);
            assert!(said.contains(limit), "{}: {said}", &sql[..60]);
        }
    }

    #[test]
    fn long_and_flat_statements_pass() {
        let literals: Vec<String> = (0..10_000).map(|at| format!("-{at}.5")).collect();
        let columns: Vec<String> = (0..2_000)
            .map(|at| format!("(t.c{at} - 1.5) / 2.0 AS \"c {at}\""))
            .collect();
        let sum: Vec<String> = (0..300).map(|at| format!("t.c{at}")).collect();
        let conditions: Vec<String> = (0..300)
            .map(|at| format!("t.c{at} BETWEEN -1 AND {at} * 2"))
            .collect();
        let case: Vec<String> = (0..1_000)
            .map(|at| format!("WHEN a = {at} AND b > 0 THEN {at} + 1"))
            .collect();
        for sql in [
            format!("SELECT * FROM t WHERE a IN ({})", literals.join(", ")),
            format!("SELECT {} FROM t", columns.join(", ")),
            format!(
                "SELECT {0} FROM t WHERE {0} > 1 ORDER BY {0}",
                sum.join(" + ")
            ),
            format!("SELECT 1 FROM t WHERE {}", conditions.join(" AND ")),
            format!("SELECT CASE {} ELSE 0 END FROM t", case.join(" ")),
            format!("SELECT 1{}", " UNION ALL SELECT 1".repeat(150)),
            format!("SELECT '{}'", "+(".repeat(3_000)),
            "SELECT 'never closed".to_owned(),
        ] {
            check_nesting(&sql).unwrap_or_else(|said| panic!("{}: {said}", &sql[..13]));
        }
    }

    #[test]
    fn a_type_in_a_text_is_no_deeper_than_a_schema_may_be() {
        let cast = |levels: usize| {
            let (open, close) = ("List(".repeat(levels), ")".repeat(levels));
            format!("SELECT arrow_cast(NULL, '{open}Int64{close}'), '((((' FROM t")
        };
        assert_eq!(check_nesting(&cast(50)), Ok(()));
        for sql in [
            cast(51),
            cast(3_000).replace("arrow_cast", "Arrow_Try_Cast"),
        ] {
            let said = check_nesting(&sql).unwrap_err();
            assert!(said.contains("at most 50"), "{said}");
        }
        // Brackets in a text that is no type are its author's own.
        let text = format!("SELECT '{}' FROM t", "(".repeat(3_000));
        assert_eq!(check_nesting(&text), Ok(()));
    }
}
