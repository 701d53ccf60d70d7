//! SeparableConv1D, SeparableConv2D: a depthwise convolution, then one that mixes channels place by place.
//!
//! `y = activation(depthwise(x, depthwise_kernel) pointwise_kernel + bias)`. Shapes per row: x (spatial.., channels),
//! depthwise_kernel (kernel_size.., channels, m), pointwise_kernel (1.., channels m, filters), bias (filters) to y (out..,
//! filters), m the multiplier; with `channels_first` the channels of x and y come first. A mask ends here, as in Keras.
//! Source: Chollet, Xception (2017).

use crate::autograd::{GraphError, NodeId};

use super::super::super::error::SpecError;
use super::super::super::initialize::Initializer;
use super::super::super::layer::{ArrayOptions, ArraySpec, Context, Layer, Signal, bad_input};
use super::super::super::model::NUMBERS_MAX;
use super::super::super::options::Options;
use super::super::activation::Activation;
use super::super::windows::{SAME, VALID, Windows};
use super::{Ending, FILTERS_MAX, convolve, row_extents, signal};

#[derive(Debug)]
pub(in super::super) struct SeparableConv {
    windows: Windows,
    filters: usize,
    multiplier: usize,
    depthwise: ArrayOptions,
    pointwise: ArrayOptions,
    ending: Ending,
}

impl SeparableConv {
    /// `rank` is the count of spatial axes.
    pub(in super::super) fn read(
        options: &mut Options<'_>,
        rank: usize,
    ) -> Result<Self, SpecError> {
        let depthwise = [
            "depthwise_kernel",
            "depthwise_initializer",
            "depthwise_regularizer",
        ];
        let pointwise = [
            "pointwise_kernel",
            "pointwise_initializer",
            "pointwise_regularizer",
        ];
        let multiplier = options.count("depth_multiplier", 1, FILTERS_MAX)?;
        Ok(SeparableConv {
            windows: Windows::of_kernel(options, rank, &[VALID, SAME])?,
            filters: options.required_count("filters", 1, FILTERS_MAX)?,
            multiplier: multiplier.unwrap_or(1),
            depthwise: ArrayOptions::read(options, depthwise, Initializer::GLOROT_UNIFORM)?,
            pointwise: ArrayOptions::read(options, pointwise, Initializer::GLOROT_UNIFORM)?,
            ending: Ending::read(options)?,
        })
    }
}

impl Layer for SeparableConv {
    fn output(&self, name: &str, inputs: &[Signal]) -> Result<Signal, SpecError> {
        let slide = self.windows.over(name, inputs)?;
        let channels = slide.channels.saturating_mul(self.multiplier);
        let between = signal(self.windows.order, &slide, channels).width();
        if between as u64 > NUMBERS_MAX {
            return Err(bad_input(
                name,
                format!("it has {between} numbers per row between its two convolutions"),
                &format!("make depth_multiplier smaller: {NUMBERS_MAX} is the most"),
            ));
        }
        Ok(signal(self.windows.order, &slide, self.filters))
    }

    fn parameters(&self, inputs: &[Signal]) -> Vec<ArraySpec> {
        let (_, channels) = self.windows.order.split(&inputs[0].extents);
        let depthwise = [&self.windows.sizes[..], &[channels, self.multiplier]].concat();
        let mixed = [channels.saturating_mul(self.multiplier), self.filters];
        let pointwise = [&vec![1; self.windows.rank()][..], &mixed].concat();
        let kernels = vec![
            self.depthwise.array(&depthwise),
            self.pointwise.array(&pointwise),
        ];
        self.ending.arrays(kernels, &[self.filters])
    }

    fn activation(&self) -> Option<Activation> {
        Some(self.ending.activation)
    }

    fn forward(&self, context: &mut Context<'_>, inputs: &[NodeId]) -> Result<NodeId, GraphError> {
        let order = self.windows.order;
        let slide = self.windows.slide(&row_extents(context.graph, inputs[0]));
        let x = order.channels_last(context.graph, inputs[0])?;
        let (depthwise, pointwise) = (context.parameter(0)?, context.parameter(1)?);
        let graph = &mut *context.graph;
        let channels = slide.channels * self.multiplier;
        let between = convolve(graph, &slide, channels, slide.channels, x, depthwise)?;
        let matrix = graph.reshape(pointwise, &[channels, self.filters])?;
        let y = graph.dense(between, matrix)?;
        self.ending.record(context, order, 2, y)
    }
}
