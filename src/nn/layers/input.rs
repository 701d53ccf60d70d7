//! Input: columns of the features side by side, as one matrix or as rows of a shape.

use serde_json::Value;

use crate::autograd::{GraphError, NodeId};

use super::super::error::SpecError;
use super::super::layer::{Context, Layer, Signal, bad_input};
use super::super::model::InputType;
use super::super::options::Options;

/// Most extents of one row.
const RANK_MAX: usize = 6;

/// Stands for a (rows, width) matrix; the model binds it to feature columns and records its leaf.
#[derive(Debug)]
pub(in super::super) struct Input {
    /// `None` is every feature column.
    pub(in super::super) columns: Option<Vec<String>>,
    pub(in super::super) dtype: InputType,
    /// The extents of one row; `None` is all numbers side by side.
    pub(in super::super) shape: Option<Vec<usize>>,
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
        let shape = match options.value("shape") {
            None => None,
            Some(value) => {
                let extents = value
                    .as_array()
                    .filter(|list| (1..=RANK_MAX).contains(&list.len()));
                let whole = |extent: &Value| {
                    let extent = extent
                        .as_u64()
                        .filter(|extent| (1..=1 << 30).contains(extent));
                    extent.and_then(|extent| usize::try_from(extent).ok())
                };
                let shape = extents.and_then(|list| list.iter().map(whole).collect());
                if shape.is_none() {
                    let hint = format!(
                        "give a list of 1 to {RANK_MAX} whole numbers: the extents of one row"
                    );
                    return Err(options.bad("shape", value, hint));
                }
                shape
            }
        };
        Ok(Input {
            columns,
            dtype,
            shape,
        })
    }

    /// The extents of a row of so many numbers.
    fn extents(&self, name: &str, width: usize) -> Result<Vec<usize>, SpecError> {
        let Some(shape) = &self.shape else {
            return Ok(vec![width]);
        };
        let count = shape
            .iter()
            .fold(1usize, |count, &extent| count.saturating_mul(extent));
        if count != width {
            return Err(bad_input(
                name,
                format!("its shape {shape:?} has {count} numbers and its columns have {width}"),
                "choose columns and shape that agree",
            ));
        }
        Ok(shape.clone())
    }
}

impl Layer for Input {
    fn output(&self, name: &str, inputs: &[Signal]) -> Result<Signal, SpecError> {
        // The model hands an Input the signal of its columns as its only input.
        match inputs {
            [signal] => Ok(Signal {
                extents: self.extents(name, signal.width())?,
                dtype: signal.dtype,
            }),
            _ => Err(bad_input(
                name,
                "it takes from other layers".to_string(),
                "an Input has no inputs of its own",
            )),
        }
    }

    fn forward(&self, context: &mut Context<'_>, inputs: &[NodeId]) -> Result<NodeId, GraphError> {
        match &self.shape {
            // An int32 input is read by its consumers as it stands; `Op::Indices` has the shape from the start.
            Some(shape) if self.dtype == InputType::Float32 => {
                let extents = [&[context.rows], shape.as_slice()].concat();
                context.graph.reshape(inputs[0], &extents)
            }
            _ => Ok(inputs[0]),
        }
    }
}
