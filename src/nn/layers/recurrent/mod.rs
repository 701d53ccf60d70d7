//! SimpleRNN, LSTM and GRU: a cell that goes along the steps of a sequence and hands its states on.
//!
//! Shapes: a sequence (T, D), and perhaps first states (units) each, to (units), or to (T, units) with `return_sequences`; with
//! `return_state` the last states follow as further outputs. Arrays: kernel (D, gates * units), recurrent_kernel
//! (units, gates * units), bias (gates * units), for a GRU with `reset_after` (2, gates * units).
//! Masks: over a masked step the states stay as they are and the output is that of the step before (zero with
//! `zero_output_for_mask`); the mask goes with the output where that is a sequence. With `go_backwards` the sequence is
//! read from its end, and its outputs stand in that order. (Keras leaves the mask out where first states are given, unless the
//! call names it; here it always counts.)
//!
//! ConvLSTM1D, ConvLSTM2D and ConvLSTM3D (`convolutional.rs`) go the same way over sequences of images.
//!
//! The cells' equations are in `cell.rs`, the general form, step after step, in `unrolled.rs`. It is also the reference for
//! `fused.rs`, which has a kernel do all steps at once where it knows the cell.

mod cell;
mod convolutional;
mod fused;
mod unrolled;

pub(super) use cell::Cell;
pub(super) use convolutional::ConvLstm;

use crate::autograd::{GraphError, NodeId};

use super::super::error::SpecError;
use super::super::initialize::Initializer;
use super::super::layer::{
    ArrayOptions, ArraySpec, Context, Layer, Signal, bad_input, require_float,
};
use super::super::options::Options;
use super::activation::Activation;
use crate::tensor::Shape;

/// Most units of a cell.
const UNITS_MAX: usize = 1 << 20;
/// Most steps: each is a piece of program.
const STEPS_MAX: usize = 4096;

#[derive(Debug)]
pub(super) struct Recurrent {
    cell: Cell,
    units: usize,
    activation: Activation,
    recurrent_activation: Activation,
    use_bias: bool,
    unit_forget_bias: bool,
    kernel: ArrayOptions,
    recurrent_kernel: ArrayOptions,
    bias: ArrayOptions,
    dropout: f32,
    recurrent_dropout: f32,
    pub(super) return_sequences: bool,
    pub(super) return_state: bool,
    pub(super) go_backwards: bool,
    zero_output_for_mask: bool,
}

/// The layers by Keras name.
pub(super) const KINDS: [(&str, Cell); 3] = [
    ("SimpleRNN", Cell::Simple),
    ("LSTM", Cell::Long),
    ("GRU", Cell::Gated { reset_after: true }),
];

impl Recurrent {
    pub(super) fn read(options: &mut Options<'_>, cell: Cell) -> Result<Self, SpecError> {
        let cell = match cell {
            Cell::Gated { .. } => Cell::Gated {
                reset_after: options.flag("reset_after", true)?,
            },
            other => other,
        };
        let recurrent_activation = match cell {
            Cell::Simple => Activation::Linear,
            _ => Activation::read_option(options, "recurrent_activation", Activation::Sigmoid)?,
        };
        refuse_stateful(options)?;
        Ok(Recurrent {
            cell,
            units: options.required_count("units", 1, UNITS_MAX)?,
            activation: Activation::read_option(options, "activation", Activation::Tanh)?,
            recurrent_activation,
            use_bias: options.flag("use_bias", true)?,
            unit_forget_bias: cell == Cell::Long && options.flag("unit_forget_bias", true)?,
            kernel: ArrayOptions::kernel(options)?,
            recurrent_kernel: recurrent_kernel(options)?,
            bias: ArrayOptions::bias(options)?,
            dropout: rate(options, "dropout")?,
            recurrent_dropout: rate(options, "recurrent_dropout")?,
            return_sequences: options.flag("return_sequences", false)?,
            return_state: options.flag("return_state", false)?,
            go_backwards: options.flag("go_backwards", false)?,
            zero_output_for_mask: options.flag("zero_output_for_mask", false)?,
        })
    }

    /// How many states it hands on.
    pub(super) fn states(&self) -> usize {
        self.cell.states()
    }

    /// How many arrays it has.
    pub(super) fn arrays(&self) -> usize {
        if self.use_bias { 3 } else { 2 }
    }
}

fn recurrent_kernel(options: &mut Options<'_>) -> Result<ArrayOptions, SpecError> {
    let names = [
        "recurrent_kernel",
        "recurrent_initializer",
        "recurrent_regularizer",
    ];
    ArrayOptions::read(options, names, Initializer::Orthogonal(1.0))
}

/// What part of its numbers a dropout takes.
fn rate(options: &mut Options<'_>, option: &'static str) -> Result<f32, SpecError> {
    Ok(options.number(option, 0.0, 0.0, 0.999)? as f32)
}

/// Batches of a training job follow each other in no order, so states of one mean nothing to the next.
fn refuse_stateful(options: &mut Options<'_>) -> Result<(), SpecError> {
    if options.flag("stateful", false)? {
        let hint = "rows of one batch do not go on in the next; hand states on with return_state and further inputs";
        return Err(options.bad("stateful", &true.into(), hint.to_string()));
    }
    Ok(())
}

/// First states: none, or `count` of these extents.
fn check_states(
    name: &str,
    states: &[Signal],
    count: usize,
    extents: &[usize],
) -> Result<(), SpecError> {
    if !states.is_empty() && states.len() != count {
        return Err(bad_input(
            name,
            format!("it has {} inputs", states.len() + 1),
            &format!("connect the sequence alone, or with {count} first states"),
        ));
    }
    for state in states {
        require_float(name, state)?;
        if state.extents != extents {
            return Err(bad_input(
                name,
                format!("a first state has shape {:?} per row", state.extents),
                &format!("it must be {:?}, as the states are", Shape::new(extents)),
            ));
        }
    }
    Ok(())
}

impl Layer for Recurrent {
    fn output(&self, name: &str, inputs: &[Signal]) -> Result<Signal, SpecError> {
        let [sequence, states @ ..] = inputs else {
            return Err(bad_input(
                name,
                "it has no inputs".to_string(),
                "connect a sequence",
            ));
        };
        require_float(name, sequence)?;
        let &[steps, features] = sequence.extents.as_slice() else {
            return Err(bad_input(
                name,
                format!("its input has shape {:?} per row", sequence.extents),
                "give a sequence (steps, features) per row: an Input with a shape, an Embedding, or a Reshape makes one",
            ));
        };
        if steps == 0 || features == 0 || steps > STEPS_MAX {
            return Err(bad_input(
                name,
                format!("its input has {steps} steps of {features} columns"),
                &format!("give 1 to {STEPS_MAX} steps of at least one column"),
            ));
        }
        check_states(name, states, self.states(), &[self.units])?;
        let whole = [steps, self.units];
        Ok(Signal::float(if self.return_sequences {
            &whole
        } else {
            &whole[1..]
        }))
    }

    fn further_outputs(&self, _inputs: &[Signal]) -> Vec<Signal> {
        let count = if self.return_state { self.states() } else { 0 };
        vec![Signal::float(&[self.units]); count]
    }

    fn parameters(&self, inputs: &[Signal]) -> Vec<ArraySpec> {
        let width = self.cell.gates() * self.units;
        let features = inputs.first().map_or(1, Signal::last);
        let mut arrays = vec![
            self.kernel.array(&[features, width]),
            self.recurrent_kernel.array(&[self.units, width]),
        ];
        if self.use_bias {
            let mut bias = match self.cell {
                Cell::Gated { reset_after: true } => self.bias.array(&[2, width]),
                _ => self.bias.array(&[width]),
            };
            if self.unit_forget_bias {
                bias.initializer = Initializer::UnitForget(Box::new(bias.initializer));
            }
            arrays.push(bias);
        }
        arrays
    }

    fn forward(&self, context: &mut Context<'_>, inputs: &[NodeId]) -> Result<NodeId, GraphError> {
        context.mask = context.input_mask().filter(|_| self.return_sequences);
        if self.is_fused(context.training) {
            self.fused(context, inputs)
        } else {
            self.unrolled(context, inputs)
        }
    }
}

#[cfg(test)]
mod tests;
