//! A recurrent layer as a program of its steps.
//!
//! Time goes outermost, so that the input's part of all steps is one product and a step of it is a stretch of memory.

use crate::autograd::{Graph, GraphError, NodeId, Number, Op};
use crate::tensor::Shape;
use crate::tensor::kernels::elementwise::Binary;

use super::super::super::layer::Context;
use super::Recurrent;
use super::cell::{Cell, Step};

/// The way along the steps, whatever is done at each.
#[derive(Debug, Clone, Copy)]
pub(super) struct Walk {
    pub(super) return_sequences: bool,
    pub(super) return_state: bool,
    pub(super) go_backwards: bool,
    pub(super) zero_output_for_mask: bool,
}

impl Walk {
    /// `parts` (steps, rows, ...) is what each step takes; `step` makes the next states, of which the first is the answer, of
    /// its part and of the states before, `None` where these are zero. States are of the rank of a part. Gives the answer, or
    /// all of them, (rows, steps, ...); masked as the first input of the layer is.
    pub(super) fn record(
        self,
        context: &mut Context<'_>,
        parts: NodeId,
        first_states: &[NodeId],
        mut step: impl FnMut(&mut Graph, NodeId, Option<&[NodeId]>) -> Result<Vec<NodeId>, GraphError>,
    ) -> Result<NodeId, GraphError> {
        let mask = context.input_mask();
        let graph = &mut *context.graph;
        let (steps, rank) = (graph.shape(parts).extents()[0], graph.shape(parts).rank());
        let seen = mask
            .map(|mask| {
                let by_time = graph.permute(mask, &[1, 0])?;
                graph.with_ones(by_time, 2, rank - 2)
            })
            .transpose()?;
        let mut states = (!first_states.is_empty()).then(|| first_states.to_vec());
        let mut output: Option<NodeId> = None;
        let mut outputs = Vec::with_capacity(steps);
        for position in 0..steps {
            let time = if self.go_backwards {
                steps - 1 - position
            } else {
                position
            };
            let x = graph.index(parts, 0, time)?;
            let mut next = step(graph, x, states.as_deref())?;
            let mut answer = next[0];
            if let Some(seen) = seen {
                let seen = graph.index(seen, 0, time)?;
                let before = output.filter(|_| !self.zero_output_for_mask);
                answer = held(graph, seen, answer, before)?;
                for (number, state) in next.iter_mut().enumerate() {
                    let before = states.as_ref().map(|states| states[number]);
                    *state = held(graph, seen, *state, before)?;
                }
            }
            output = Some(answer);
            states = Some(next);
            outputs.push(answer);
        }
        if self.return_state {
            context.further = states.unwrap_or_default();
        }
        if self.return_sequences {
            let by_time = context.graph.stack(&outputs, 0)?;
            return swap_first_axes(context.graph, by_time);
        }
        // Layers refuse a sequence without steps.
        Ok(output.unwrap_or(parts))
    }
}

/// (steps, rows, ...) from (rows, steps, ...), or the other way.
pub(super) fn swap_first_axes(graph: &mut Graph, x: NodeId) -> Result<NodeId, GraphError> {
    let mut axes: Vec<usize> = (0..graph.shape(x).rank()).collect();
    axes.swap(0, 1);
    graph.permute(x, &axes)
}

/// Dropout masks of these extents, each of a stream of its own; none outside training.
pub(super) fn dropout_masks(
    context: &mut Context<'_>,
    rate: f32,
    extents: &[usize],
    count: usize,
) -> Result<Vec<NodeId>, GraphError> {
    if !context.training || rate == 0.0 {
        return Ok(Vec::new());
    }
    (0..count)
        .map(|_| {
            let mask = Op::DropoutMask {
                stream: context.stream(),
                rate: Number(rate),
                shape: Shape::new(extents),
            };
            context.graph.add(mask, &[])
        })
        .collect()
}

impl Recurrent {
    pub(super) fn unrolled(
        &self,
        context: &mut Context<'_>,
        inputs: &[NodeId],
    ) -> Result<NodeId, GraphError> {
        let by_time = swap_first_axes(context.graph, inputs[0])?;
        let (parts, recurrent_bias) = self.input_parts(context, by_time)?;
        let step = Step {
            cell: self.cell,
            units: self.units,
            activation: self.activation,
            recurrent_activation: self.recurrent_activation,
            recurrent_kernel: context.parameter(1)?,
            recurrent_bias,
            dropout: self.recurrent_masks(context)?,
        };
        let walk = Walk {
            return_sequences: self.return_sequences,
            return_state: self.return_state,
            go_backwards: self.go_backwards,
            zero_output_for_mask: self.zero_output_for_mask,
        };
        walk.record(context, parts, &inputs[1..], |graph, x, states| {
            step.record(graph, x, states)
        })
    }

    /// x W + b of all steps, (steps, rows, gates * units), and the bias of the recurrent product.
    fn input_parts(
        &self,
        context: &mut Context<'_>,
        by_time: NodeId,
    ) -> Result<(NodeId, Option<NodeId>), GraphError> {
        let kernel = context.parameter(0)?;
        let rows = context.rows;
        let features = context.graph.shape(by_time).last();
        let masks = self.masks(context, self.dropout, &[rows, features])?;
        let mut parts = if let [mask] = *masks {
            let thinned = context.graph.times(by_time, mask)?;
            context.graph.dense(thinned, kernel)?
        } else if masks.is_empty() {
            context.graph.dense(by_time, kernel)?
        } else {
            let mut parts = Vec::with_capacity(masks.len());
            for (gate, &mask) in masks.iter().enumerate() {
                let thinned = context.graph.times(by_time, mask)?;
                let kernel = context
                    .graph
                    .slice(kernel, 1, gate * self.units, self.units, 1)?;
                parts.push(context.graph.dense(thinned, kernel)?);
            }
            context.graph.concatenate(&parts, 2)?
        };
        if !self.use_bias {
            return Ok((parts, None));
        }
        let bias = context.parameter(2)?;
        let graph = &mut *context.graph;
        let (bias, recurrent) = match self.cell {
            Cell::Gated { reset_after: true } => {
                (graph.index(bias, 0, 0)?, Some(graph.index(bias, 0, 1)?))
            }
            _ => (bias, None),
        };
        parts = graph.plus(parts, bias)?;
        Ok((parts, recurrent))
    }

    fn recurrent_masks(&self, context: &mut Context<'_>) -> Result<Vec<NodeId>, GraphError> {
        let extents = [context.rows, self.units];
        self.masks(context, self.recurrent_dropout, &extents)
    }

    /// One dropout mask for all steps; one per gate where Keras takes them apart, which is with recurrent dropout.
    pub(super) fn masks(
        &self,
        context: &mut Context<'_>,
        rate: f32,
        extents: &[usize; 2],
    ) -> Result<Vec<NodeId>, GraphError> {
        let count = if self.recurrent_dropout > 0.0 {
            self.cell.gates()
        } else {
            1
        };
        dropout_masks(context, rate, extents, count)
    }
}

/// `next` where a step counts, else what was before, or zero.
fn held(
    graph: &mut Graph,
    seen: NodeId,
    next: NodeId,
    before: Option<NodeId>,
) -> Result<NodeId, GraphError> {
    match before {
        Some(before) => graph.select(seen, next, before),
        None => graph.binary(Binary::Keep, seen, next),
    }
}
