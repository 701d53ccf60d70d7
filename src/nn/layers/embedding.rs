//! Embedding: y = table[index].
//!
//! Shapes: indices (..., ) int32 to (..., output_dim). An index outside 0 to input_dim - 1 stops the step with an error.
//! With `mask_zero`, index 0 is padding: the layers behind leave such steps out.
//! With `sparse`, the table's gradient is a list of the rows that were looked up, and no other row is updated.

use crate::autograd::{GraphError, NodeId, Op};
use crate::tensor::kernels::elementwise::Unary;

use super::super::error::SpecError;
use super::super::initialize::Initializer;
use super::super::layer::{ArrayOptions, ArraySpec, Context, Layer, Signal, bad_input};
use super::super::model::InputType;
use super::super::options::Options;

#[derive(Debug)]
pub(super) struct Embedding {
    input_dim: usize,
    output_dim: usize,
    table: ArrayOptions,
    mask_zero: bool,
    sparse: bool,
}

impl Embedding {
    pub(super) fn read(options: &mut Options<'_>) -> Result<Self, SpecError> {
        let sparse = options.flag("sparse", false)?;
        if let Some(regularizer) = options.value("embeddings_regularizer").filter(|_| sparse) {
            let hint = "a penalty on the table changes every row of it at every step: leave it out, or leave out \"sparse\"";
            return Err(options.bad("embeddings_regularizer", regularizer, hint.to_string()));
        }
        Ok(Embedding {
            input_dim: options.required_count("input_dim", 1, i32::MAX as usize)?,
            output_dim: options.required_count("output_dim", 1, 1 << 30)?,
            table: ArrayOptions::read(
                options,
                [
                    "embeddings",
                    "embeddings_initializer",
                    "embeddings_regularizer",
                ],
                Initializer::SMALL_UNIFORM,
            )?,
            mask_zero: options.flag("mask_zero", false)?,
            sparse,
        })
    }
}

impl Layer for Embedding {
    fn output(&self, name: &str, inputs: &[Signal]) -> Result<Signal, SpecError> {
        let [input] = inputs else {
            return Err(bad_input(
                name,
                format!("it has {} inputs", inputs.len()),
                "connect exactly one int32 Input",
            ));
        };
        if input.dtype != InputType::Int32 {
            return Err(bad_input(
                name,
                "its input is float32".to_string(),
                "give the Input dtype int32",
            ));
        }
        let mut extents = input.extents.clone();
        extents.push(self.output_dim);
        Ok(Signal::float(&extents))
    }

    fn parameters(&self, _inputs: &[Signal]) -> Vec<ArraySpec> {
        let table = self.table.array(&[self.input_dim, self.output_dim]);
        vec![ArraySpec {
            sparse: self.sparse,
            ..table
        }]
    }

    fn forward(&self, context: &mut Context<'_>, inputs: &[NodeId]) -> Result<NodeId, GraphError> {
        let table = context.parameter(0)?;
        if self.mask_zero {
            let numbers = context.graph.add(Op::ToFloat, &[inputs[0]])?;
            let sizes = context.graph.unary(Unary::Absolute, numbers)?;
            context.mask = Some(context.graph.unary(Unary::Step, sizes)?);
        }
        context.graph.add(Op::Gather, &[table, inputs[0]])
    }
}
