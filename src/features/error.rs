//! What can go wrong in SQL and in pipelines.

use datafusion::common::SchemaError;
use datafusion::error::DataFusionError;

use crate::catalog::CatalogError;
use crate::support::fault::{Fault, Faulty};

#[derive(Debug, thiserror::Error)]
pub enum FeatureError {
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    #[error("SQL cannot be run: {reason}")]
    BadSql { reason: String },
    #[error("statement {statement} is not allowed; {hint}")]
    StatementNotAllowed {
        statement: String,
        hint: &'static str,
    },
    #[error(
        "table {name:?} exists; write CREATE OR REPLACE TABLE, CREATE TABLE IF NOT EXISTS, or another name"
    )]
    TableExists { name: String },
    #[error("there is no column {column:?}{context}; columns are {available}")]
    UnknownColumn {
        column: String,
        context: String,
        available: String,
    },
    #[error("pipeline step {step} ({transform}): {reason}")]
    BadPipeline {
        step: usize,
        transform: String,
        reason: String,
    },
    #[error("column {column:?} {problem}; {hint}")]
    BadColumn {
        column: String,
        problem: String,
        hint: String,
    },
    /// One value of a column that cannot be used. `row` counts from 0; [`FeatureError::from_row`] moves it to where the
    /// batch begins.
    #[error("column {column:?} {problem} at row {row}{remark}; {hint}")]
    BadValue {
        column: String,
        problem: String,
        row: usize,
        /// What stands after the row, with the comma or space before it.
        remark: &'static str,
        hint: String,
    },
    #[error("path {path:?} cannot be read: {reason}")]
    BadPath { path: String, reason: String },
    #[error("{what} has no rows; give at least one")]
    NoRows { what: String },
    #[error(
        "the query needs more memory than it may have ({limit}); narrow it, or raise `{option}`"
    )]
    OutOfMemory { limit: String, option: &'static str },
    /// One call of a function whose result is as large as its argument says.
    #[error(
        "{function} would make {bytes:.0} bytes of one batch of rows; at most {limit} are made, so ask for less"
    )]
    CallTooLarge {
        function: String,
        bytes: f64,
        limit: usize,
    },
    /// The rows do not allow what was asked of them: a division by zero, text that is no number.
    #[error("the query failed: {reason}")]
    Execution { reason: String },
    #[error("model function: {reason}")]
    ModelFunction { reason: String },
    /// The model behind `predict` was not to be had; the class is the finder's.
    #[error("{reason}")]
    ModelUnavailable { fault: Fault, reason: String },
    /// Our mistake or the machine's, never the caller's.
    #[error("the query failed inside the server: {reason}")]
    Internal { reason: String },
}

impl Faulty for FeatureError {
    fn fault(&self) -> Fault {
        match self {
            Self::Catalog(error) => error.fault(),
            Self::BadSql { .. }
            | Self::UnknownColumn { .. }
            | Self::BadPipeline { .. }
            | Self::BadColumn { .. }
            | Self::BadValue { .. }
            | Self::BadPath { .. }
            | Self::Execution { .. }
            | Self::ModelFunction { .. }
            | Self::StatementNotAllowed { .. } => Fault::InvalidArgument,
            Self::TableExists { .. } => Fault::AlreadyExists,
            Self::NoRows { .. } => Fault::FailedPrecondition,
            Self::OutOfMemory { .. } | Self::CallTooLarge { .. } => Fault::ResourceExhausted,
            Self::ModelUnavailable { fault, .. } => *fault,
            Self::Internal { .. } => Fault::Internal,
        }
    }
}

/// Names listed in an error before the rest becomes a number.
const NAMES_LISTED: usize = 40;

/// `"a", "b" and 3 more`, for the end of an error.
pub(super) fn list_names<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.into_iter().collect();
    if names.is_empty() {
        return "none".into();
    }
    let mut text = names
        .iter()
        .take(NAMES_LISTED)
        .map(|name| format!("{name:?}"))
        .collect::<Vec<_>>()
        .join(", ");
    if names.len() > NAMES_LISTED {
        text.push_str(&format!(" and {} more", names.len() - NAMES_LISTED));
    }
    text
}

/// Says which column is missing, and when only its case is wrong, how to write it.
pub(super) fn unknown_column(column: &str, context: &str, available: &[String]) -> FeatureError {
    let near = available
        .iter()
        .find(|name| name.eq_ignore_ascii_case(column) && *name != column)
        .map(|name| {
            format!(" (but \"{name}\"; SQL lower-cases names that are not in double quotes)")
        })
        .unwrap_or_default();
    FeatureError::UnknownColumn {
        column: column.to_owned(),
        context: format!("{context}{near}"),
        available: list_names(available.iter().map(String::as_str)),
    }
}

/// DataFusion's errors in our words. `OutOfMemory` gets its limit from [`FeatureError::with_memory_limit`].
pub(super) fn from_datafusion(error: DataFusionError) -> FeatureError {
    match error {
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => {
            from_datafusion(*inner)
        }
        DataFusionError::Collection(mut errors) if !errors.is_empty() => {
            from_datafusion(errors.swap_remove(0))
        }
        DataFusionError::Shared(shared) => match std::sync::Arc::try_unwrap(shared) {
            Ok(inner) => from_datafusion(inner),
            Err(shared) => match shared.find_root() {
                DataFusionError::ResourcesExhausted(_) => out_of_memory(),
                root => FeatureError::Execution {
                    reason: plain_text(root),
                },
            },
        },
        DataFusionError::External(inner) => match inner.downcast::<FeatureError>() {
            Ok(ours) => *ours,
            Err(inner) => match inner.downcast::<CatalogError>() {
                Ok(catalog) => FeatureError::Catalog(*catalog),
                Err(inner) => match inner.downcast::<DataFusionError>() {
                    Ok(nested) => from_datafusion(*nested),
                    Err(other) => FeatureError::Execution {
                        reason: our_words(&other.to_string()),
                    },
                },
            },
        },
        DataFusionError::ArrowError(inner, _) => match *inner {
            arrow::error::ArrowError::ExternalError(source) => {
                from_datafusion(DataFusionError::External(source))
            }
            other => FeatureError::Execution {
                reason: our_words(&other.to_string()),
            },
        },
        DataFusionError::SQL(error, _) => FeatureError::BadSql {
            reason: error
                .to_string()
                .trim_start_matches("sql parser error: ")
                .to_owned(),
        },
        DataFusionError::SchemaError(error, _) => match *error {
            SchemaError::FieldNotFound {
                field,
                valid_fields,
            } => {
                let names: Vec<String> = valid_fields
                    .iter()
                    .map(|valid| valid.name().to_owned())
                    .collect();
                unknown_column(field.name(), "", &names)
            }
            other => FeatureError::BadSql {
                reason: other.to_string(),
            },
        },
        DataFusionError::Plan(reason)
        | DataFusionError::NotImplemented(reason)
        | DataFusionError::Configuration(reason) => FeatureError::BadSql {
            reason: our_words(&reason),
        },
        DataFusionError::Execution(reason) => FeatureError::Execution {
            reason: our_words(&reason),
        },
        DataFusionError::Internal(reason) => FeatureError::Internal {
            reason: our_words(&reason),
        },
        DataFusionError::ResourcesExhausted(_) => out_of_memory(),
        DataFusionError::ParquetError(source) => store_failed(source),
        DataFusionError::ObjectStore(source) => store_failed(source),
        DataFusionError::IoError(source) => store_failed(Box::new(source)),
        other => FeatureError::Internal {
            reason: plain_text(&other),
        },
    }
}

/// DataFusion's error as text that a caller of ours may read.
pub(super) fn plain_text(error: &DataFusionError) -> String {
    our_words(&error.to_string())
}

fn store_failed(source: Box<dyn std::error::Error + Send + Sync>) -> FeatureError {
    FeatureError::Catalog(CatalogError::Store {
        doing: "reading rows".into(),
        source,
    })
}

/// Without a backtrace, and without DataFusion's request to report a bug to its authors, which is for us to read.
fn our_words(text: &str) -> String {
    const BEGINS: &str = "Internal error: ";
    const REQUEST: &str = "This issue was likely caused by a bug in DataFusion";
    let text = text
        .split(DataFusionError::BACK_TRACE_SEP)
        .next()
        .unwrap_or(text);
    let text = text.split(REQUEST).next().unwrap_or(text);
    text.replace(BEGINS, "")
        .trim_end()
        .trim_end_matches(".\n")
        .to_owned()
}

fn out_of_memory() -> FeatureError {
    FeatureError::OutOfMemory {
        limit: "its share of this server's query memory".into(),
        option: super::session::MEMORY_OPTION,
    }
}

impl FeatureError {
    /// The same error for a batch that begins at row `first` of what the user sent.
    pub fn from_row(mut self, first: usize) -> Self {
        if let Self::BadValue { row, .. } = &mut self {
            *row += first;
        }
        self
    }

    /// The same error where rows have no number that the user knows: in the midst of a query.
    pub fn without_row(self) -> Self {
        match self {
            Self::BadValue {
                column,
                problem,
                remark,
                hint,
                ..
            } => Self::BadColumn {
                column,
                problem: format!("{problem} in a row of the query{remark}"),
                hint,
            },
            other => other,
        }
    }

    /// Puts the number into an `OutOfMemory`.
    pub(super) fn with_memory_limit(self, bytes: usize) -> Self {
        match self {
            Self::OutOfMemory { option, .. } => Self::OutOfMemory {
                limit: format!("{} MiB for all queries together", bytes >> 20),
                option,
            },
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_caller_is_asked_to_report_a_bug_to_datafusion() {
        let bug = || DataFusionError::Internal("the column is of no kind".into());
        let shared = std::sync::Arc::new(bug());
        let errors = [
            bug(),
            bug().context("while planning"),
            DataFusionError::Shared(std::sync::Arc::clone(&shared)),
            DataFusionError::External(Box::new(bug())),
            DataFusionError::External(bug().to_string().into()),
            DataFusionError::Execution(bug().to_string()),
            DataFusionError::Substrait(bug().to_string()),
        ];
        for error in errors {
            let said = from_datafusion(error).to_string();
            assert!(said.contains("the column is of no kind"), "{said}");
            assert!(!said.contains("DataFusion"), "{said}");
            assert!(!said.contains("Internal error"), "{said}");
        }
    }

    #[test]
    fn a_row_is_counted_from_where_its_batch_begins() {
        let error = || FeatureError::BadValue {
            column: "age".into(),
            problem: "is NaN".into(),
            row: 44,
            remark: "",
            hint: "impute it".into(),
        };
        let said = error().from_row(149_956).to_string();
        assert_eq!(said, "column \"age\" is NaN at row 150000; impute it");
        let said = error().without_row().to_string();
        assert_eq!(
            said,
            "column \"age\" is NaN in a row of the query; impute it"
        );
    }
}
