//! An LSTM or a GRU as one operation over all steps, which has a kernel of its own.
//!
//! It does what `unrolled.rs` says step by step, for the cells that the kernels know: tanh and sigmoid, no dropout between
//! steps, a GRU's reset after the product. States and sequences are stretches of the operation's result.

use crate::autograd::{Graph, GraphError, NodeId, Op};
use crate::tensor::Shape;
use crate::tensor::kernels::elementwise::Binary;
use crate::tensor::kernels::recurrent::Recurrence;

use super::super::super::layer::Context;
use super::super::activation::Activation;
use super::Recurrent;
use super::cell::Cell;

impl Recurrent {
    /// Whether the kernels know this cell.
    pub(super) fn is_fused(&self, training: bool) -> bool {
        matches!(self.cell, Cell::Long | Cell::Gated { reset_after: true })
            && self.activation == Activation::Tanh
            && self.recurrent_activation == Activation::Sigmoid
            && !(training && self.recurrent_dropout > 0.0)
    }

    pub(super) fn fused(
        &self,
        context: &mut Context<'_>,
        inputs: &[NodeId],
    ) -> Result<NodeId, GraphError> {
        let mut mask = context.input_mask();
        let mut by_time = context.graph.permute(inputs[0], &[1, 0, 2])?;
        if let Some(mask) = &mut mask {
            *mask = context.graph.permute(*mask, &[1, 0])?;
        }
        if self.go_backwards {
            by_time = context.graph.reverse(by_time, 0)?;
            if let Some(mask) = &mut mask {
                *mask = context.graph.reverse(*mask, 0)?;
            }
        }
        let &[time, rows, _] = context.graph.shape(by_time).extents() else {
            // `output` refused what is no sequence.
            return Ok(inputs[0]);
        };
        let r = Recurrence {
            time,
            rows,
            units: self.units,
        };
        let mut operands = vec![
            self.gates_of_input(context, by_time)?,
            context.parameter(1)?,
        ];
        if self.cell != Cell::Long {
            operands.push(if self.use_bias {
                let bias = context.parameter(2)?;
                context.graph.index(bias, 0, 1)?
            } else {
                zeros(context.graph, &[3 * self.units])?
            });
        }
        match &inputs[1..] {
            [] => {
                let first = zeros(context.graph, &[rows, self.units])?;
                operands.resize(operands.len() + self.states(), first);
            }
            states => operands.extend(states),
        }
        operands.extend(mask);
        let op = match self.cell {
            Cell::Long => Op::Lstm(r),
            _ => Op::Gru(r),
        };
        let result = context.graph.add(op, &operands)?;
        self.answers(context, &r, result, mask, inputs.len() > 1)
    }

    /// x W + b of all steps: (steps, rows, gates * units).
    ///
    /// The bias is one more row of the kernel, for a column of ones: adding it would be a pass of its own over the widest
    /// numbers that the layer has, and so would be its gradient.
    fn gates_of_input(
        &self,
        context: &mut Context<'_>,
        mut by_time: NodeId,
    ) -> Result<NodeId, GraphError> {
        let mut kernel = context.parameter(0)?;
        let features = context.graph.shape(by_time).last();
        let masks = self.masks(context, self.dropout, &[context.rows, features])?;
        // One mask for all gates: the kernel is not used with several.
        if let Some(&mask) = masks.first() {
            by_time = context.graph.times(by_time, mask)?;
        }
        if self.use_bias {
            let mut bias = context.parameter(2)?;
            let graph = &mut *context.graph;
            if self.cell != Cell::Long {
                bias = graph.index(bias, 0, 0)?;
            }
            let bias = graph.with_ones(bias, 0, 1)?;
            kernel = graph.concatenate(&[kernel, bias], 0)?;
            let mut extents = graph.shape(by_time).extents().to_vec();
            extents[2] = 1;
            let one = graph.constant(1.0)?;
            let ones = graph.broadcast_to(one, &Shape::new(&extents))?;
            by_time = graph.concatenate(&[by_time, ones], 2)?;
        }
        context.graph.dense(by_time, kernel)
    }

    /// The layer's output and its states, out of the kernel's result.
    fn answers(
        &self,
        context: &mut Context<'_>,
        r: &Recurrence,
        result: NodeId,
        mask: Option<NodeId>,
        from_states: bool,
    ) -> Result<NodeId, GraphError> {
        let state = r.rows * r.units;
        let graph = &mut *context.graph;
        if self.return_state {
            // h and then c, each with the first state in front.
            for sequence in 0..self.states() {
                let start = (sequence * (r.time + 1) + r.time) * state;
                let last = graph.stretch(result, start, state)?;
                context
                    .further
                    .push(graph.reshape(last, &[r.rows, r.units])?);
            }
        }
        let counted = match mask {
            Some(mask) if self.zero_output_for_mask => Some(mask),
            // Before a row's first step that counts its state is the first one, but its output is zero.
            Some(mask) if from_states => {
                let sums = Op::CumulativeSum {
                    axis: 0,
                    reverse: false,
                };
                let seen = graph.add(sums, &[mask])?;
                let one = graph.constant(1.0)?;
                Some(graph.binary(Binary::Minimum, seen, one)?)
            }
            _ => None,
        };
        if self.return_sequences {
            let h = graph.stretch(result, state, r.time * state)?;
            let mut h = graph.reshape(h, &[r.time, r.rows, r.units])?;
            if let Some(counted) = counted {
                let counted = graph.with_ones(counted, 2, 1)?;
                h = graph.binary(Binary::Keep, counted, h)?;
            }
            return graph.permute(h, &[1, 0, 2]);
        }
        let last = graph.stretch(result, r.time * state, state)?;
        let last = graph.reshape(last, &[r.rows, r.units])?;
        let Some(counted) = counted else {
            return Ok(last);
        };
        let counted = graph.index(counted, 0, r.time - 1)?;
        let counted = graph.with_ones(counted, 1, 1)?;
        graph.binary(Binary::Keep, counted, last)
    }
}

fn zeros(graph: &mut Graph, extents: &[usize]) -> Result<NodeId, GraphError> {
    let zero = graph.constant(0.0)?;
    graph.broadcast_to(zero, &Shape::new(extents))
}
