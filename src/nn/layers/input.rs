//! Input: columns of the features side by side as one matrix.

use crate::autograd::{GraphError, NodeId};

use super::super::error::SpecError;
use super::super::layer::{Context, Layer, Signal, bad_input};
use super::super::model::InputType;
use super::super::options::Options;

/// Stands for a (rows, width) matrix; the model binds it to feature columns and records its leaf.
#[derive(Debug)]
pub(in super::super) struct Input {
    /// `None` is every feature column.
    pub(in super::super) columns: Option<Vec<String>>,
    pub(in super::super) dtype: InputType,
}

impl Input {
    pub(in super::super) fn read(options: &mut Options<'_>) -> Result<Self, SpecError> {
        let columns = options.names("columns")?;
        if columns.as_ref().is_some_and(Vec::is_empty) {
            return Err(options.bad(
                "columns",
                &serde_json::json!([]),
                "name at least one column, or null for all".to_string(),
            ));
        }
        let dtype = match options.word("dtype")? {
            None | Some("float32") => InputType::Float32,
            Some("int32") => InputType::Int32,
            Some(other) => {
                return Err(options.bad(
                    "dtype",
                    &serde_json::json!(other),
                    "known are \"float32\", \"int32\"".to_string(),
                ));
            }
        };
        Ok(Input { columns, dtype })
    }
}

impl Layer for Input {
    fn output(&self, name: &str, inputs: &[Signal]) -> Result<Signal, SpecError> {
        // The model hands an Input the signal of its columns as its only input.
        match inputs {
            [signal] => Ok(signal.clone()),
            _ => Err(bad_input(
                name,
                "it takes from other layers".to_string(),
                "an Input has no inputs of its own",
            )),
        }
    }

    fn forward(&self, _context: &mut Context<'_>, inputs: &[NodeId]) -> Result<NodeId, GraphError> {
        Ok(inputs[0])
    }
}
