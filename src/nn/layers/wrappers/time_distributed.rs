//! TimeDistributed: the same layer over every step of a sequence.
//!
//! Shapes: (T, ...) to (T, what the layer makes of ...). The steps are folded into the rows, so the layer runs once over T times as many.
//! Arrays: the layer's own. Masks: one over the steps goes with the output; one over the steps' own steps, (T, S), is handed to the
//! layer inside, and what that answers goes on.

use crate::autograd::{GraphError, NodeId};

use super::super::super::error::SpecError;
use super::super::super::layer::{ArraySpec, Context, Layer, Signal, bad_input, one_float_input};
use super::super::super::options::Options;
use super::super::read;
use super::Described;

#[derive(Debug)]
pub(in super::super) struct TimeDistributed {
    inner: Box<dyn Layer>,
    kind: String,
}

impl TimeDistributed {
    pub(in super::super) fn read(options: &mut Options<'_>) -> Result<Self, SpecError> {
        let described = Described::required(options, "layer")?;
        let refused = |hint: &str| {
            let found = described.kind.as_str().into();
            Err(options.bad("layer", &found, hint.to_string()))
        };
        if described.kind == "Input" {
            return refused("an Input stands alone; put the layer itself there");
        }
        if described.config.contains_key("activity_regularizer") {
            return refused("give activity_regularizer to the TimeDistributed, whose output it is");
        }
        let name = described.name(options.layer());
        let inner = read(&name, &described.kind, &described.config)?;
        Ok(TimeDistributed {
            inner: inner.layer,
            kind: described.kind,
        })
    }
}

/// What the layer inside is given of one step.
fn step_of(input: &Signal) -> Signal {
    Signal {
        extents: input.extents.get(1..).unwrap_or_default().to_vec(),
        dtype: input.dtype,
    }
}

impl Layer for TimeDistributed {
    fn output(&self, name: &str, inputs: &[Signal]) -> Result<Signal, SpecError> {
        let input = one_float_input(name, inputs)?;
        let [steps, _, ..] = *input.extents.as_slice() else {
            return Err(bad_input(
                name,
                format!("its input has shape {:?} per row", input.extents),
                "give a sequence (steps, ...) per row; a Reshape makes one",
            ));
        };
        if steps == 0 {
            return Err(bad_input(
                name,
                "its input has no steps".to_string(),
                "give at least one",
            ));
        }
        let step = [step_of(input)];
        let inner = self
            .inner
            .output(&format!("{name}: {}", self.kind), &step)?;
        if !self.inner.statistics(&step).is_empty() {
            return Err(bad_input(
                name,
                format!("{} follows the data of one step after the other", self.kind),
                "put it behind by itself: it goes over all steps too",
            ));
        }
        if !self.inner.further_outputs(&step).is_empty() {
            return Err(bad_input(
                name,
                format!("{} has several outputs", self.kind),
                "give it one, without return_state",
            ));
        }
        Ok(Signal {
            extents: [&[steps], inner.extents.as_slice()].concat(),
            dtype: inner.dtype,
        })
    }

    fn parameters(&self, inputs: &[Signal]) -> Vec<ArraySpec> {
        match inputs.first() {
            Some(input) => self.inner.parameters(&[step_of(input)]),
            None => Vec::new(),
        }
    }

    fn forward(&self, context: &mut Context<'_>, inputs: &[NodeId]) -> Result<NodeId, GraphError> {
        let extents = context.graph.shape(inputs[0]).extents().to_vec();
        let (rows, steps) = (extents[0], extents[1]);
        let folded_rows = rows.saturating_mul(steps);
        let folded = [&[folded_rows], &extents[2..]].concat();
        let folded = context.graph.reshape(inputs[0], &folded)?;
        let mask = context.input_mask();
        let inner_mask = match mask {
            Some(mask) if context.graph.shape(mask).rank() > 2 => {
                let extents = context.graph.shape(mask).extents().to_vec();
                let folded = [&[folded_rows], &extents[2..]].concat();
                Some(context.graph.reshape(mask, &folded)?)
            }
            _ => None,
        };
        let arrays = 0..context.parameters.len();
        context.rows = folded_rows;
        let inner = context.inner(&*self.inner, arrays, 0..0, &[inner_mask], &[folded]);
        context.rows = rows;
        let inner = inner?;
        context.mask = match (inner_mask, inner.mask) {
            (None, _) => mask,
            (Some(_), None) => None,
            (Some(_), Some(inner)) => Some(unfolded(context, inner, rows, steps)?),
        };
        unfolded(context, inner.output, rows, steps)
    }
}

/// (rows * steps, ...) as (rows, steps, ...).
fn unfolded(
    context: &mut Context<'_>,
    x: NodeId,
    rows: usize,
    steps: usize,
) -> Result<NodeId, GraphError> {
    let extents = context.graph.shape(x).extents().to_vec();
    let extents = [&[rows, steps], &extents[1..]].concat();
    context.graph.reshape(x, &extents)
}
