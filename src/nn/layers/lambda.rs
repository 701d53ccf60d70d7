//! Lambda: a program of a client's own (`expression/`), recorded in Python by `Lambda(function)` or by a custom layer.
//!
//! Shapes: whatever the program makes of its inputs; several outputs become further outputs. Its "parameter" nodes are
//! the layer's arrays under their names; those with `"trainable": false` stay as they start. Values of "losses", one number
//! per row, are added to the loss. Random numbers are fresh in every step of training and 0 when predicting, so that the
//! answer to a row depends on nothing but the row. Masks end here, as in Keras.

use crate::autograd::{GraphError, NodeId, Reduction};

use super::super::error::SpecError;
use super::super::expression::Program;
use super::super::layer::{ArraySpec, Context, Layer, Signal};
use super::super::options::Options;

#[derive(Debug)]
pub(super) struct Lambda {
    program: Program,
}

impl Lambda {
    pub(super) fn read(options: &mut Options<'_>) -> Result<Self, SpecError> {
        let owner = options.layer();
        let program = options.value("program").unwrap_or(&serde_json::Value::Null);
        Ok(Lambda {
            program: Program::read(owner, program)?,
        })
    }

    fn arrays(&self, trainable: bool) -> Vec<ArraySpec> {
        let parameters = self.program.parameters().iter();
        parameters
            .filter(|parameter| parameter.trainable == trainable)
            .map(|parameter| parameter.array.clone())
            .collect()
    }
}

impl Layer for Lambda {
    fn output(&self, name: &str, inputs: &[Signal]) -> Result<Signal, SpecError> {
        let mut outputs = self.program.check(name, inputs)?;
        Ok(outputs.swap_remove(0))
    }

    fn further_outputs(&self, inputs: &[Signal]) -> Vec<Signal> {
        let outputs = self.program.check("", inputs).unwrap_or_default();
        outputs.into_iter().skip(1).collect()
    }

    fn parameters(&self, _inputs: &[Signal]) -> Vec<ArraySpec> {
        self.arrays(true)
    }

    fn statistics(&self, _inputs: &[Signal]) -> Vec<ArraySpec> {
        self.arrays(false)
    }

    fn forward(&self, context: &mut Context<'_>, inputs: &[NodeId]) -> Result<NodeId, GraphError> {
        let (mut trained, mut still) = (0, 0);
        let mut leaves = Vec::with_capacity(self.program.parameters().len());
        for parameter in self.program.parameters() {
            if parameter.trainable {
                leaves.push(context.parameter(trained)?);
                trained += 1;
            } else {
                leaves.push(context.statistic(still)?);
                still += 1;
            }
        }
        let draws = if context.training {
            self.program.streams()
        } else {
            0
        };
        let streams: Vec<u32> = (0..draws).map(|_| context.stream()).collect();
        let answers =
            self.program
                .record(context.graph, context.rows, inputs, &leaves, &streams)?;
        for loss in answers.losses {
            let rank = context.graph.shape(loss).rank();
            let sum = context.graph.reduce(Reduction::Sum, loss, 0, rank)?;
            context.add_row_penalty(sum);
        }
        let mut outputs = answers.outputs.into_iter();
        let first = outputs.next();
        context.further = outputs.collect();
        // A program has at least one output: reading it said so.
        first.map_or_else(|| context.graph.constant(0.0), Ok)
    }
}
