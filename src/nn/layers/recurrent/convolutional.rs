//! ConvLSTM1D, ConvLSTM2D, ConvLSTM3D: an LSTM whose products are convolutions, over sequences of images.
//!
//! With x the image of a step, * a convolution and the gates i, f, c, o side by side among the kernels' filters:
//! `c' = s(x * W_f + h * R_f + b_f) c + s(x * W_i + h * R_i + b_i) f(x * W_c + h * R_c + b_c)`,
//! `h' = s(x * W_o + h * R_o + b_o) f(c')`. The convolution of x is that of the options; that of h has the same taps, steps of 1
//! and padding "same".
//!
//! Shapes per row: a sequence (T, spatial.., channels), and perhaps first states (out.., filters) for h and c, to (out.., filters), or
//! to (T, out.., filters) with `return_sequences`; with `channels_first` the channels come before the spatial axes. Arrays: kernel
//! (kernel_size.., channels, 4 filters), recurrent_kernel (kernel_size.., filters, 4 filters), bias (4 filters).
//! Masks, states and `go_backwards` are those of the other recurrent layers. Dropout has one mask per gate for all steps.
//! Source: Shi et al., Convolutional LSTM Network (2015), without its peepholes; as Keras has it.

use crate::autograd::{Graph, GraphError, NodeId};
use crate::tensor::Shape;

use super::super::super::error::SpecError;
use super::super::super::initialize::Initializer;
use super::super::super::layer::{
    ArrayOptions, ArraySpec, Context, Layer, Signal, bad_input, require_float,
};
use super::super::super::model::NUMBERS_MAX;
use super::super::super::options::Options;
use super::super::activation::Activation;
use super::super::convolution::{FILTERS_MAX, convolve, signal};
use super::super::windows::{SAME, Slide, VALID, Windows};
use super::unrolled::{Walk, dropout_masks, swap_first_axes};
use super::{STEPS_MAX, check_states, rate, recurrent_kernel, refuse_stateful};

const GATES: usize = 4;

#[derive(Debug)]
pub(in super::super) struct ConvLstm {
    windows: Windows,
    filters: usize,
    activation: Activation,
    recurrent_activation: Activation,
    use_bias: bool,
    unit_forget_bias: bool,
    kernel: ArrayOptions,
    recurrent_kernel: ArrayOptions,
    bias: ArrayOptions,
    dropout: f32,
    recurrent_dropout: f32,
    walk: Walk,
}

impl ConvLstm {
    /// `rank` is the count of spatial axes.
    pub(in super::super) fn read(
        options: &mut Options<'_>,
        rank: usize,
    ) -> Result<Self, SpecError> {
        let windows = Windows::of_kernel(options, rank, &[VALID, SAME])?;
        windows.refuse_dilated_strides(options)?;
        refuse_stateful(options)?;
        let recurrent_activation =
            Activation::read_option(options, "recurrent_activation", Activation::Sigmoid)?;
        Ok(ConvLstm {
            windows,
            filters: options.required_count("filters", 1, FILTERS_MAX)?,
            activation: Activation::read_option(options, "activation", Activation::Tanh)?,
            recurrent_activation,
            use_bias: options.flag("use_bias", true)?,
            unit_forget_bias: options.flag("unit_forget_bias", true)?,
            kernel: ArrayOptions::kernel(options)?,
            recurrent_kernel: recurrent_kernel(options)?,
            bias: ArrayOptions::bias(options)?,
            dropout: rate(options, "dropout")?,
            recurrent_dropout: rate(options, "recurrent_dropout")?,
            walk: Walk {
                return_sequences: options.flag("return_sequences", false)?,
                return_state: options.flag("return_state", false)?,
                go_backwards: options.flag("go_backwards", false)?,
                zero_output_for_mask: options.flag("zero_output_for_mask", false)?,
            },
        })
    }

    /// The windows over one step of a sequence that `output` took before.
    fn slide(&self, sequence: &[usize]) -> Slide {
        self.windows.slide(&sequence[1..])
    }

    /// One row of a state.
    fn state(&self, sequence: &[usize]) -> Signal {
        signal(self.windows.order, &self.slide(sequence), self.filters)
    }

    /// x * W + b of all steps, (steps, rows, out.., 4 filters).
    fn input_parts(
        &self,
        context: &mut Context<'_>,
        slide: &Slide,
        by_time: NodeId,
    ) -> Result<NodeId, GraphError> {
        let kernel = context.parameter(0)?;
        let extents = context.graph.shape(by_time).extents().to_vec();
        let masks = dropout_masks(context, self.dropout, &extents[1..], GATES)?;
        let graph = &mut *context.graph;
        // Every step is a row to the convolution.
        let images = [&[extents[0] * extents[1]], &extents[2..]].concat();
        let mut thinned = Vec::with_capacity(masks.len().max(1));
        for &mask in &masks {
            thinned.push(graph.times(by_time, mask)?);
        }
        if thinned.is_empty() {
            thinned.push(by_time);
        }
        for x in &mut thinned {
            *x = graph.reshape(*x, &images)?;
        }
        let mut parts = self.convolved(graph, slide, &thinned, kernel)?;
        if self.use_bias {
            let bias = context.parameter(2)?;
            parts = context.graph.plus(parts, bias)?;
        }
        let outputs = slide.outputs();
        let whole = [&extents[..2], &outputs, &[GATES * self.filters]].concat();
        context.graph.reshape(parts, &whole)
    }

    /// The four gates' convolutions, side by side along the channels: of one `x`, or each of its own.
    fn convolved(
        &self,
        graph: &mut Graph,
        slide: &Slide,
        x: &[NodeId],
        kernel: NodeId,
    ) -> Result<NodeId, GraphError> {
        if let [x] = *x {
            return convolve(graph, slide, GATES * self.filters, 1, x, kernel);
        }
        let mut parts = Vec::with_capacity(GATES);
        for (gate, &x) in x.iter().enumerate() {
            let kernel = self.gate(graph, kernel, gate)?;
            parts.push(convolve(graph, slide, self.filters, 1, x, kernel)?);
        }
        let channels = self.windows.rank() + 1;
        graph.concatenate(&parts, channels)
    }

    /// The filters of a gate, along the innermost extent.
    fn gate(&self, graph: &mut Graph, x: NodeId, gate: usize) -> Result<NodeId, GraphError> {
        let axis = graph.shape(x).rank() - 1;
        graph.slice(x, axis, gate * self.filters, self.filters, 1)
    }

    /// A function of numbers whose channels stand last; a softmax goes along the innermost extent of the layer's own order.
    fn bent(
        &self,
        graph: &mut Graph,
        function: Activation,
        x: NodeId,
    ) -> Result<NodeId, GraphError> {
        if !function.has_axis() {
            return function.record(graph, x);
        }
        let order = self.windows.order;
        let x = order.channels_in_place(graph, x)?;
        let y = function.record(graph, x)?;
        order.channels_last(graph, y)
    }

    /// The next h and c. `masks` are those of the recurrent dropout.
    fn step(
        &self,
        graph: &mut Graph,
        slide: &Slide,
        kernel: NodeId,
        masks: &[NodeId],
        mut sums: NodeId,
        states: Option<&[NodeId]>,
    ) -> Result<Vec<NodeId>, GraphError> {
        let (f, s) = (self.activation, self.recurrent_activation);
        if let Some(&[before, ..]) = states {
            let mut thinned = Vec::with_capacity(masks.len().max(1));
            for &mask in masks {
                thinned.push(graph.times(before, mask)?);
            }
            if thinned.is_empty() {
                thinned.push(before);
            }
            let products = self.convolved(graph, slide, &thinned, kernel)?;
            sums = graph.plus(sums, products)?;
        }
        let mut gates = Vec::with_capacity(GATES);
        for (gate, function) in [s, s, f, s].into_iter().enumerate() {
            let sum = self.gate(graph, sums, gate)?;
            gates.push(self.bent(graph, function, sum)?);
        }
        let mut carried = graph.times(gates[0], gates[2])?;
        if let Some(&[_, before]) = states {
            let kept = graph.times(gates[1], before)?;
            carried = graph.plus(kept, carried)?;
        }
        let bent = self.bent(graph, f, carried)?;
        Ok(vec![graph.times(gates[3], bent)?, carried])
    }

    /// A function of single images, of each image of (rows, steps, ...).
    fn of_images(
        graph: &mut Graph,
        x: NodeId,
        function: impl FnOnce(&mut Graph, NodeId) -> Result<NodeId, GraphError>,
    ) -> Result<NodeId, GraphError> {
        let extents = graph.shape(x).extents().to_vec();
        let images = [&[extents[0] * extents[1]], &extents[2..]].concat();
        let x = graph.reshape(x, &images)?;
        let y = function(graph, x)?;
        let whole = [&extents[..2], &graph.shape(y).extents()[1..]].concat();
        graph.reshape(y, &whole)
    }
}

impl Layer for ConvLstm {
    fn output(&self, name: &str, inputs: &[Signal]) -> Result<Signal, SpecError> {
        let [sequence, states @ ..] = inputs else {
            return Err(bad_input(
                name,
                "it has no inputs".to_string(),
                "connect a sequence of images",
            ));
        };
        require_float(name, sequence)?;
        let rank = self.windows.rank();
        let shape = Shape::new(&sequence.extents);
        if sequence.extents.len() != rank + 2 {
            return Err(bad_input(
                name,
                format!("its input has shape {shape:?} per row"),
                &format!(
                    "give it {} extents, the steps and then an image of {rank} spatial axes and channels; a Reshape, or the shape of an Input, makes them",
                    rank + 2
                ),
            ));
        }
        let steps = sequence.extents[0];
        if steps == 0 || steps > STEPS_MAX {
            return Err(bad_input(
                name,
                format!("its input has {steps} steps (shape {shape:?} per row)"),
                &format!("give 1 to {STEPS_MAX} steps"),
            ));
        }
        self.windows
            .over(name, &[Signal::float(&sequence.extents[1..])])?;
        let state = self.state(&sequence.extents);
        self.windows
            .over_state()
            .over(name, std::slice::from_ref(&state))?;
        let gates = state.width().saturating_mul(GATES).saturating_mul(steps);
        if gates as u64 > NUMBERS_MAX {
            return Err(bad_input(
                name,
                format!("the gates of its {steps} steps are {gates} numbers per row"),
                &format!("make filters or the input smaller: {NUMBERS_MAX} is the most"),
            ));
        }
        check_states(name, states, 2, &state.extents)?;
        Ok(if self.walk.return_sequences {
            Signal::float(&[&[steps], &state.extents[..]].concat())
        } else {
            state
        })
    }

    fn further_outputs(&self, inputs: &[Signal]) -> Vec<Signal> {
        let count = if self.walk.return_state { 2 } else { 0 };
        vec![self.state(&inputs[0].extents); count]
    }

    fn parameters(&self, inputs: &[Signal]) -> Vec<ArraySpec> {
        let (_, channels) = self.windows.order.split(&inputs[0].extents[1..]);
        let width = self.filters.saturating_mul(GATES);
        let shape = |channels: usize| [&self.windows.sizes[..], &[channels, width]].concat();
        let mut arrays = vec![
            self.kernel.array(&shape(channels)),
            self.recurrent_kernel.array(&shape(self.filters)),
        ];
        if self.use_bias {
            let mut bias = self.bias.array(&[width]);
            if self.unit_forget_bias {
                bias.initializer = Initializer::UnitForget(Box::new(bias.initializer));
            }
            arrays.push(bias);
        }
        arrays
    }

    fn forward(&self, context: &mut Context<'_>, inputs: &[NodeId]) -> Result<NodeId, GraphError> {
        context.mask = context.input_mask().filter(|_| self.walk.return_sequences);
        let order = self.windows.order;
        let sequence = context.graph.shape(inputs[0]).extents()[1..].to_vec();
        let slide = self.slide(&sequence);
        let over_state = self
            .windows
            .over_state()
            .slide(&self.state(&sequence).extents);
        let x = Self::of_images(context.graph, inputs[0], |graph, x| {
            order.channels_last(graph, x)
        })?;
        let by_time = swap_first_axes(context.graph, x)?;
        let parts = self.input_parts(context, &slide, by_time)?;
        let kernel = context.parameter(1)?;
        let state = [&[context.rows], &slide.outputs()[..], &[self.filters]].concat();
        let masks = dropout_masks(context, self.recurrent_dropout, &state, GATES)?;
        let mut first_states = Vec::with_capacity(2);
        for &state in &inputs[1..] {
            first_states.push(order.channels_last(context.graph, state)?);
        }
        let answer = self
            .walk
            .record(context, parts, &first_states, |graph, sums, states| {
                self.step(graph, &over_state, kernel, &masks, sums, states)
            })?;
        for state in &mut context.further {
            *state = order.channels_in_place(context.graph, *state)?;
        }
        if self.walk.return_sequences {
            return Self::of_images(context.graph, answer, |graph, y| {
                order.channels_in_place(graph, y)
            });
        }
        order.channels_in_place(context.graph, answer)
    }
}
