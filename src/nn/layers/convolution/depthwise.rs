//! DepthwiseConv1D, DepthwiseConv2D: each channel with `depth_multiplier` kernels of its own.
//!
//! `y[o, c m + j] = sum over taps k of x[o stride + k dilation - padding, c] kernel[k, c, j]`, m the multiplier. Shapes per row:
//! x (spatial.., channels), kernel (kernel_size.., channels, m), bias (channels m) to y (out.., channels m); with `channels_first` the channels of
//! x and y come first. A mask ends here, as in Keras. Source: Sifre (2014); Howard et al., MobileNets (2017).

use crate::autograd::{GraphError, NodeId};

use super::super::super::error::SpecError;
use super::super::super::initialize::Initializer;
use super::super::super::layer::{ArrayOptions, ArraySpec, Context, Layer, Signal};
use super::super::super::options::Options;
use super::super::activation::Activation;
use super::super::windows::{SAME, VALID, Windows};
use super::{Ending, FILTERS_MAX, convolve, row_extents, signal};

#[derive(Debug)]
pub(in super::super) struct DepthwiseConv {
    windows: Windows,
    multiplier: usize,
    kernel: ArrayOptions,
    ending: Ending,
}

impl DepthwiseConv {
    /// `rank` is the count of spatial axes.
    pub(in super::super) fn read(
        options: &mut Options<'_>,
        rank: usize,
    ) -> Result<Self, SpecError> {
        let names = ["kernel", "depthwise_initializer", "depthwise_regularizer"];
        let multiplier = options.count("depth_multiplier", 1, FILTERS_MAX)?;
        Ok(DepthwiseConv {
            windows: Windows::of_kernel(options, rank, &[VALID, SAME])?,
            multiplier: multiplier.unwrap_or(1),
            kernel: ArrayOptions::read(options, names, Initializer::GLOROT_UNIFORM)?,
            ending: Ending::read(options)?,
        })
    }
}

impl Layer for DepthwiseConv {
    fn output(&self, name: &str, inputs: &[Signal]) -> Result<Signal, SpecError> {
        let slide = self.windows.over(name, inputs)?;
        let filters = slide.channels.saturating_mul(self.multiplier);
        Ok(signal(self.windows.order, &slide, filters))
    }

    fn parameters(&self, inputs: &[Signal]) -> Vec<ArraySpec> {
        let (_, channels) = self.windows.order.split(&inputs[0].extents);
        let columns = [channels, self.multiplier];
        let kernel = self
            .kernel
            .array(&[&self.windows.sizes[..], &columns].concat());
        let filters = channels.saturating_mul(self.multiplier);
        self.ending.arrays(vec![kernel], &[filters])
    }

    fn activation(&self) -> Option<Activation> {
        Some(self.ending.activation)
    }

    fn forward(&self, context: &mut Context<'_>, inputs: &[NodeId]) -> Result<NodeId, GraphError> {
        let order = self.windows.order;
        let slide = self.windows.slide(&row_extents(context.graph, inputs[0]));
        let x = order.channels_last(context.graph, inputs[0])?;
        let kernel = context.parameter(0)?;
        // A convolution of as many groups as channels: its kernel (taps.., 1, channels m) has its numbers in the same order.
        let filters = slide.channels * self.multiplier;
        let y = convolve(context.graph, &slide, filters, slide.channels, x, kernel)?;
        self.ending.record(context, order, 1, y)
    }
}
