//! Conv1D, Conv2D, Conv3D: y = activation(x * kernel + bias), the kernel not turned round.
//!
//! `y[o, f] = sum over taps k and channels c of x[o stride + k dilation - padding, c] kernel[k, c, f]`, where filter f sees
//! the channels of its own group. Shapes per row: x (spatial.., channels), kernel (kernel_size..,
//! channels / groups, filters), bias (filters) to y (out.., filters); with `channels_first` the channels of x and y come first.
//! A mask ends here, as in Keras. Source: LeCun et al., Proceedings of the IEEE 86 (1998); dilation: Yu and Koltun (2016).

use crate::autograd::{GraphError, NodeId};

use super::super::super::error::SpecError;
use super::super::super::layer::{ArrayOptions, ArraySpec, Context, Layer, Signal, bad_input};
use super::super::super::options::Options;
use super::super::activation::Activation;
use super::super::windows::{CAUSAL, SAME, VALID, Windows};
use super::{Ending, FILTERS_MAX, convolve, row_extents, signal};

#[derive(Debug)]
pub(in super::super) struct Conv {
    windows: Windows,
    filters: usize,
    groups: usize,
    kernel: ArrayOptions,
    ending: Ending,
}

impl Conv {
    /// `rank` is the count of spatial axes.
    pub(in super::super) fn read(
        options: &mut Options<'_>,
        rank: usize,
    ) -> Result<Self, SpecError> {
        let paddings = [VALID, SAME, CAUSAL];
        let known = if rank == 1 { 3 } else { 2 };
        let windows = Windows::of_kernel(options, rank, &paddings[..known])?;
        windows.refuse_dilated_strides(options)?;
        let filters = options.required_count("filters", 1, FILTERS_MAX)?;
        let groups = options.count("groups", 1, FILTERS_MAX)?.unwrap_or(1);
        if !filters.is_multiple_of(groups) {
            let hint = format!("it must divide the {filters} filters");
            return Err(options.bad("groups", &groups.into(), hint));
        }
        Ok(Conv {
            windows,
            filters,
            groups,
            kernel: ArrayOptions::kernel(options)?,
            ending: Ending::read(options)?,
        })
    }
}

impl Layer for Conv {
    fn output(&self, name: &str, inputs: &[Signal]) -> Result<Signal, SpecError> {
        let slide = self.windows.over(name, inputs)?;
        if !slide.channels.is_multiple_of(self.groups) {
            return Err(bad_input(
                name,
                format!(
                    "its input has {} channels and it has {} groups",
                    slide.channels, self.groups
                ),
                "the groups must divide the channels; data_format says which extent holds them",
            ));
        }
        Ok(signal(self.windows.order, &slide, self.filters))
    }

    fn parameters(&self, inputs: &[Signal]) -> Vec<ArraySpec> {
        let (_, channels) = self.windows.order.split(&inputs[0].extents);
        let columns = [channels / self.groups, self.filters];
        let kernel = self
            .kernel
            .array(&[&self.windows.sizes[..], &columns].concat());
        self.ending.arrays(vec![kernel], &[self.filters])
    }

    fn activation(&self) -> Option<Activation> {
        Some(self.ending.activation)
    }

    fn forward(&self, context: &mut Context<'_>, inputs: &[NodeId]) -> Result<NodeId, GraphError> {
        let order = self.windows.order;
        let slide = self.windows.slide(&row_extents(context.graph, inputs[0]));
        let x = order.channels_last(context.graph, inputs[0])?;
        let kernel = context.parameter(0)?;
        let y = convolve(context.graph, &slide, self.filters, self.groups, x, kernel)?;
        self.ending.record(context, order, 1, y)
    }
}
