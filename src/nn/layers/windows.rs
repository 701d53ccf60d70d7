//! Windows that slide over an input's spatial axes: what convolution and pooling share.
//!
//! Along an axis of `n` numbers, a window of `size` taps, `dilation` apart, reaches over `r = (size - 1) dilation + 1`. With
//! padding "valid" there are `(n - r) / stride + 1` windows (rounded down), none of which leaves the input; with "same" and
//! "causal" there are `n / stride` (rounded up). "same" pads by what the windows need, half of it (rounded down)
//! before the input; "causal" pads by `r - 1` before it. As Keras does it.
//!
//! Knows neither kernels nor what is done with a window's numbers. Sizes saturate, and are refused before anything is
//! allocated.

use crate::autograd::{Graph, GraphError, NodeId};
use crate::tensor::Shape;
use crate::tensor::kernels::window::Window;

use super::super::error::SpecError;
use super::super::layer::{Signal, bad_input, one_float_input};
use super::super::model::NUMBERS_MAX;
use super::super::options::Options;

/// Most taps, stride and dilation along an axis.
pub(super) const SIZE_MAX: usize = 1 << 30;

/// Where channels stand among the extents of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChannelOrder {
    Last,
    First,
}

impl ChannelOrder {
    /// The option `data_format`.
    pub(super) fn read(options: &mut Options<'_>) -> Result<Self, SpecError> {
        options.choice(
            "data_format",
            &[
                ("channels_last", ChannelOrder::Last),
                ("channels_first", ChannelOrder::First),
            ],
        )
    }

    /// The spatial extents and the channels of one row.
    pub(super) fn split(self, extents: &[usize]) -> (&[usize], usize) {
        let parts = match self {
            ChannelOrder::Last => extents
                .split_last()
                .map(|(channels, spatial)| (spatial, channels)),
            ChannelOrder::First => extents
                .split_first()
                .map(|(channels, spatial)| (spatial, channels)),
        };
        parts.map_or((&[], 1), |(spatial, &channels)| (spatial, channels))
    }

    /// The extents of one row of so many channels.
    pub(super) fn join(self, spatial: &[usize], channels: usize) -> Vec<usize> {
        match self {
            ChannelOrder::Last => [spatial, &[channels]].concat(),
            ChannelOrder::First => [&[channels], spatial].concat(),
        }
    }

    /// The first of the spatial axes, counted with the rows.
    pub(super) fn first_axis(self) -> usize {
        match self {
            ChannelOrder::Last => 1,
            ChannelOrder::First => 2,
        }
    }

    /// `x` in this order, with its channels put last.
    pub(super) fn channels_last(self, graph: &mut Graph, x: NodeId) -> Result<NodeId, GraphError> {
        let rank = graph.shape(x).rank();
        match self {
            ChannelOrder::Last => Ok(x),
            ChannelOrder::First => {
                let axes: Vec<usize> = [0].into_iter().chain(2..rank).chain([1]).collect();
                graph.permute(x, &axes)
            }
        }
    }

    /// `y`, whose channels are last, put in this order.
    pub(super) fn channels_in_place(
        self,
        graph: &mut Graph,
        y: NodeId,
    ) -> Result<NodeId, GraphError> {
        let rank = graph.shape(y).rank();
        match self {
            ChannelOrder::Last => Ok(y),
            ChannelOrder::First => {
                let axes: Vec<usize> = [0, rank - 1].into_iter().chain(1..rank - 1).collect();
                graph.permute(y, &axes)
            }
        }
    }

    /// The single float input of a layer over `rank` spatial axes, none of whose extents is 0.
    pub(super) fn input<'a>(
        self,
        name: &str,
        rank: usize,
        inputs: &'a [Signal],
    ) -> Result<&'a Signal, SpecError> {
        let input = one_float_input(name, inputs)?;
        if input.extents.len() != rank + 1 {
            let axes = ["steps", "rows, columns", "depth, rows, columns"][rank.clamp(1, 3) - 1];
            let order = match self {
                ChannelOrder::Last => format!("({axes}, channels)"),
                ChannelOrder::First => format!("(channels, {axes})"),
            };
            return Err(bad_input(
                name,
                format!(
                    "its input has shape {:?} per row",
                    Shape::new(&input.extents)
                ),
                &format!(
                    "give it {} extents, {order}; a Reshape, or the shape of an Input, makes them",
                    rank + 1
                ),
            ));
        }
        if input.extents.contains(&0) {
            return Err(bad_input(
                name,
                format!(
                    "its input has shape {:?} per row",
                    Shape::new(&input.extents)
                ),
                "every extent must be at least 1",
            ));
        }
        Ok(input)
    }
}

/// How the ends of an axis are padded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Padding {
    Valid,
    Same,
    Causal,
}

pub(super) const VALID: (&str, Padding) = ("valid", Padding::Valid);
pub(super) const SAME: (&str, Padding) = ("same", Padding::Same);
pub(super) const CAUSAL: (&str, Padding) = ("causal", Padding::Causal);

/// A layer's windows before it has an input.
#[derive(Debug, Clone)]
pub(super) struct Windows {
    pub(super) sizes: Vec<usize>,
    pub(super) strides: Vec<usize>,
    pub(super) dilation: Vec<usize>,
    pub(super) padding: Padding,
    pub(super) order: ChannelOrder,
    /// The name of the option that gave `sizes`.
    size_option: &'static str,
}

impl Windows {
    /// The options `kernel_size`, `strides`, `padding`, `data_format` and `dilation_rate`.
    pub(super) fn of_kernel(
        options: &mut Options<'_>,
        rank: usize,
        paddings: &[(&str, Padding)],
    ) -> Result<Self, SpecError> {
        let windows = Self::of_undilated_kernel(options, rank, paddings)?;
        Ok(Windows {
            dilation: options.counts("dilation_rate", rank, Some(1), 1, SIZE_MAX)?,
            ..windows
        })
    }

    /// The options `kernel_size`, `strides`, `padding` and `data_format`.
    pub(super) fn of_undilated_kernel(
        options: &mut Options<'_>,
        rank: usize,
        paddings: &[(&str, Padding)],
    ) -> Result<Self, SpecError> {
        Ok(Windows {
            sizes: options.counts("kernel_size", rank, None, 1, SIZE_MAX)?,
            strides: options.counts("strides", rank, Some(1), 1, SIZE_MAX)?,
            dilation: vec![1; rank],
            padding: options.choice("padding", paddings)?,
            order: ChannelOrder::read(options)?,
            size_option: "kernel_size",
        })
    }

    /// The options `pool_size`, `strides` (as large as the windows when absent), `padding` and `data_format`.
    pub(super) fn of_pool(
        options: &mut Options<'_>,
        rank: usize,
        default: Option<usize>,
    ) -> Result<Self, SpecError> {
        let sizes = options.counts("pool_size", rank, default, 1, SIZE_MAX)?;
        let strides = match options.value("strides") {
            Some(_) => options.counts("strides", rank, None, 1, SIZE_MAX)?,
            None => sizes.clone(),
        };
        Ok(Windows {
            sizes,
            strides,
            dilation: vec![1; rank],
            padding: options.choice("padding", &[VALID, SAME])?,
            order: ChannelOrder::read(options)?,
            size_option: "pool_size",
        })
    }

    pub(super) fn rank(&self) -> usize {
        self.sizes.len()
    }

    /// Refuses strides and dilation above 1 together, as Keras does.
    pub(super) fn refuse_dilated_strides(
        &self,
        options: &mut Options<'_>,
    ) -> Result<(), SpecError> {
        let above_one = |counts: &[usize]| counts.iter().any(|&count| count > 1);
        match options.value("dilation_rate") {
            Some(found) if above_one(&self.strides) && above_one(&self.dilation) => {
                let hint = format!("with strides {:?} the dilation must be 1", self.strides);
                Err(options.bad("dilation_rate", found, hint))
            }
            _ => Ok(()),
        }
    }

    /// The same taps side by side over a signal that keeps its extents: what a convolutional cell has over its state.
    pub(super) fn over_state(&self) -> Windows {
        Windows {
            strides: vec![1; self.rank()],
            dilation: vec![1; self.rank()],
            padding: Padding::Same,
            ..self.clone()
        }
    }

    /// From the first tap of a window along an axis to its last, both counted.
    pub(super) fn reach(&self, axis: usize) -> usize {
        (self.sizes[axis] - 1)
            .saturating_mul(self.dilation[axis])
            .saturating_add(1)
    }

    /// The windows over an input, or why there are none. `inputs` are the layer's.
    pub(super) fn over(&self, name: &str, inputs: &[Signal]) -> Result<Slide, SpecError> {
        let input = self.order.input(name, self.rank(), inputs)?;
        let slide = self.slide(&input.extents);
        if let Some(axis) = (0..self.rank()).find(|&axis| slide.axes[axis].output == 0) {
            let shape = Shape::new(&input.extents);
            let extent = slide.axes[axis].input;
            return Err(bad_input(
                name,
                format!(
                    "its {} reaches over {} numbers along an axis of {extent} (its input has shape {shape:?} per row)",
                    self.size_option,
                    self.reach(axis),
                ),
                &format!(
                    "make the {} smaller, pad with \"same\", or give a larger input",
                    self.size_option
                ),
            ));
        }
        let padded = slide.padded.iter().fold(slide.channels, |numbers, extent| {
            numbers.saturating_mul(*extent)
        });
        if padded as u64 > NUMBERS_MAX {
            return Err(bad_input(
                name,
                format!("its input has {padded} numbers per row with its padding"),
                &format!(
                    "make the {} or the dilation smaller: {NUMBERS_MAX} is the most",
                    self.size_option
                ),
            ));
        }
        Ok(slide)
    }

    /// The windows over rows of these extents, which `over` took before.
    pub(super) fn slide(&self, extents: &[usize]) -> Slide {
        let (spatial, channels) = self.order.split(extents);
        let (axes, padded) = spatial
            .iter()
            .enumerate()
            .map(|(axis, &input)| self.along(axis, input))
            .unzip();
        Slide {
            channels,
            axes,
            padded,
        }
    }

    /// The windows along one axis, and its extent with all padding that they read.
    fn along(&self, axis: usize, input: usize) -> (Window, usize) {
        let (stride, reach) = (self.strides[axis], self.reach(axis));
        let (output, before, padding) = match self.padding {
            Padding::Valid if input < reach => (0, 0, 0),
            Padding::Valid => ((input - reach) / stride + 1, 0, 0),
            Padding::Same => {
                let output = input.div_ceil(stride);
                let last = output.saturating_sub(1).saturating_mul(stride);
                let padding = last.saturating_add(reach).saturating_sub(input);
                (output, padding / 2, padding)
            }
            Padding::Causal => (input.div_ceil(stride), reach - 1, reach - 1),
        };
        let window = Window {
            input,
            output,
            size: self.sizes[axis],
            stride,
            dilation: self.dilation[axis],
            before,
        };
        (window, input.saturating_add(padding))
    }
}

/// Windows over an input.
#[derive(Debug, Clone)]
pub(super) struct Slide {
    pub(super) channels: usize,
    /// One per spatial axis.
    pub(super) axes: Vec<Window>,
    /// The spatial extents with padding.
    pub(super) padded: Vec<usize>,
}

impl Slide {
    /// The windows as the kernels want them: those that are not there come first.
    pub(super) fn windows(&self) -> [Window; 3] {
        let mut windows = [Window::UNUSED; 3];
        windows[3 - self.axes.len()..].copy_from_slice(&self.axes);
        windows
    }

    /// The spatial extents of what comes out.
    pub(super) fn outputs(&self) -> Vec<usize> {
        self.axes.iter().map(|window| window.output).collect()
    }
}

#[cfg(test)]
mod tests;
