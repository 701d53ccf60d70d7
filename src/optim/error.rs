//! What can be wrong with an optimiser's description.

use thiserror::Error;

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum OptimizerError {
    #[error(
        "the optimizer description is malformed: {problem}; write {{\"name\": \"adam\", \"learning_rate\": 0.001}}"
    )]
    Malformed { problem: String },
    #[error("unknown {what} {found:?}; known are {known}")]
    UnknownName {
        what: &'static str,
        found: String,
        known: String,
    },
    #[error("{name}: unknown option {option:?}; known are {known}")]
    UnknownOption {
        name: String,
        option: String,
        known: String,
    },
    #[error("{name}: option {option:?} cannot be {found}; {hint}")]
    BadOption {
        name: String,
        option: String,
        found: String,
        hint: String,
    },
}
