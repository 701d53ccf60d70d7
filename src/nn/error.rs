//! What can be wrong with a model's description, and what can go wrong when it runs.

use thiserror::Error;

/// A description that cannot become a model. Every message names the layer and the remedy.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SpecError {
    #[error("the model description is malformed: {problem}; {hint}")]
    Malformed { problem: String, hint: String },
    #[error("layer {layer:?}: unknown layer type {found:?}; known are {known}")]
    UnknownLayer {
        layer: String,
        found: String,
        known: String,
    },
    #[error("layer {layer:?} ({kind}): unknown option {option:?}; known are {known}")]
    UnknownOption {
        layer: String,
        kind: String,
        option: String,
        known: String,
    },
    #[error("layer {layer:?}: option {option:?} cannot be {found}; {hint}")]
    BadOption {
        layer: String,
        option: String,
        found: String,
        hint: String,
    },
    #[error("layer {layer:?} takes input from {input:?}, which is no layer; known are {known}")]
    UnknownInput {
        layer: String,
        input: String,
        known: String,
    },
    #[error("layer {layer:?}: {problem}; {hint}")]
    BadInput {
        layer: String,
        problem: String,
        hint: String,
    },
    #[error("two layers are named {layer:?}; layer names must differ")]
    DuplicateName { layer: String },
    #[error(
        "the layers {layers} take input from each other in a circle; remove one of these connections"
    )]
    Cycle { layers: String },
    #[error("input {layer:?}: column {column:?} is not a feature; features are {known}")]
    UnknownColumn {
        layer: String,
        column: String,
        known: String,
    },
    #[error(
        "layer {layer:?}: {what} would hold {size} numbers; at most {limit} are allowed, make the layer smaller"
    )]
    TooLarge {
        layer: String,
        what: String,
        size: String,
        limit: u64,
    },
    #[error("unknown {what} {found:?}; known are {known}")]
    UnknownName {
        what: &'static str,
        found: String,
        known: String,
    },
    #[error("{what} cannot be {found}; give a name, or an object of a name and options")]
    Unnamed { what: &'static str, found: String },
    #[error("{what} {name:?}: unknown option {option:?}; known are {known}")]
    UnknownSetting {
        what: &'static str,
        name: String,
        option: String,
        known: String,
    },
    #[error("{what} {name:?}: option {option:?} cannot be {found}; {hint}")]
    BadSetting {
        what: &'static str,
        name: String,
        option: String,
        found: String,
        hint: String,
    },
    #[error("metric {metric:?} does not fit: {problem}; {hint}")]
    MetricMismatch {
        metric: String,
        problem: String,
        hint: String,
    },
    #[error("loss {loss:?} does not fit the model: {problem}; {hint}")]
    LossMismatch {
        loss: String,
        problem: String,
        hint: String,
    },
}

/// A step or prediction that could not be made.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ProgramError {
    #[error("{what} has {found} numbers where {expected} belong; {hint}")]
    WrongLength {
        what: String,
        expected: usize,
        found: usize,
        hint: &'static str,
    },
    #[error("input {input:?} is given as {found}, its type is {expected}; send the declared type")]
    WrongType {
        input: String,
        expected: &'static str,
        found: &'static str,
    },
    #[error("the model has {expected} inputs and {found} were given; give one matrix per input")]
    WrongInputCount { expected: usize, found: usize },
    #[error(
        "{layer}: index {index} in row {row} is outside 0 to {last}; raise input_dim or fix the indices"
    )]
    IndexOutOfRange {
        layer: String,
        row: usize,
        index: i64,
        last: i64,
    },
    #[error(
        "target {value} in row {row} is no class index from 0 to {last}; classes are whole numbers from 0"
    )]
    BadTarget {
        row: usize,
        value: String,
        last: usize,
    },
    /// A label that is a sequence of classes and cannot be one.
    #[error("{0}")]
    BadSequence(String),
    #[error(
        "the loss is {value} at epoch {epoch}, step {step}, lane {lane}: {origin} is the first that is not finite; lower the learning rate or check the data for NaN"
    )]
    NonFiniteLoss {
        value: String,
        /// Where numbers stopped being finite: a parameter, a layer's output, or the loss itself.
        origin: String,
        epoch: u64,
        step: u64,
        lane: u32,
    },
    #[error(
        "a plan for {rows} rows needs {floats} numbers of scratch; at most {limit} are allowed, use smaller batches"
    )]
    TooManyRows {
        rows: usize,
        floats: u64,
        limit: u64,
    },
    #[error(
        "a step of the model is a program of more than {limit} operations; use fewer steps or layers"
    )]
    TooManyOperations { limit: usize },
    #[error("the denominator of the loss is {0}; it must be a positive number of rows")]
    BadDenominator(String),
    #[error(transparent)]
    Spec(#[from] SpecError),
    #[error("internal: the graph could not be planned: {0}")]
    Graph(String),
}
