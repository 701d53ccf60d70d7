//! Conv1DTranspose, Conv2DTranspose, Conv3DTranspose: the adjoint of a convolution, from its output's shape to its input's.
//!
//! `y[i stride + k dilation - cropped, f]` is the sum of `x[i, c] kernel[k, f, c]` over places i, taps k and channels c that come to stand there.
//! Shapes per row: x (spatial.., channels), kernel (kernel_size.., filters, channels), bias (filters) to y (out..,
//! filters); with `channels_first` the channels of x and y come first. A mask ends here, as in Keras.
//!
//! Where a kernel reaches over r numbers (dilation included), an axis of n numbers becomes, with padding "valid",
//! `(n - 1) stride + r + p`, where p is `output_padding` or else what brings it to `max(r, stride)` beyond the last step;
//! with "same", `n stride`, or, with an `output_padding` p, `(n - 1) stride + r mod 2 + p`. What "same" crops before the first number
//! is what is left of `r - 1` after half of the padding of the equivalent convolution (rounded up). As Keras does it.
//! Source: Dumoulin and Visin, A guide to convolution arithmetic (2016), chapter 4.

use crate::autograd::{Face, GraphError, NodeId, Op};
use crate::tensor::Shape;
use crate::tensor::kernels::convolution::Convolution;
use crate::tensor::kernels::window::Window;

use super::super::super::error::SpecError;
use super::super::super::layer::{ArrayOptions, ArraySpec, Context, Layer, Signal, bad_input};
use super::super::super::model::NUMBERS_MAX;
use super::super::super::options::Options;
use super::super::activation::Activation;
use super::super::windows::{Padding, SAME, SIZE_MAX, Slide, VALID, Windows};
use super::{Ending, FILTERS_MAX, row_extents};

#[derive(Debug)]
pub(in super::super) struct ConvTranspose {
    /// Those of the convolution that it is the adjoint of.
    windows: Windows,
    output_padding: Option<Vec<usize>>,
    filters: usize,
    kernel: ArrayOptions,
    ending: Ending,
}

impl ConvTranspose {
    /// `rank` is the count of spatial axes.
    pub(in super::super) fn read(
        options: &mut Options<'_>,
        rank: usize,
    ) -> Result<Self, SpecError> {
        let windows = Windows::of_kernel(options, rank, &[VALID, SAME])?;
        windows.refuse_dilated_strides(options)?;
        let output_padding = match options.value("output_padding") {
            None => None,
            Some(found) => {
                let padding = options.counts("output_padding", rank, None, 0, SIZE_MAX)?;
                if padding.iter().zip(&windows.strides).any(|(p, s)| p >= s) {
                    let hint = format!("it must be less than the strides, {:?}", windows.strides);
                    return Err(options.bad("output_padding", found, hint));
                }
                Some(padding)
            }
        };
        Ok(ConvTranspose {
            windows,
            output_padding,
            filters: options.required_count("filters", 1, FILTERS_MAX)?,
            kernel: ArrayOptions::kernel(options)?,
            ending: Ending::read(options)?,
        })
    }

    /// The convolution from what comes out (its input) to what goes in (its output).
    fn slide(&self, extents: &[usize]) -> Slide {
        let (spatial, channels) = self.windows.order.split(extents);
        let axes = spatial.iter().enumerate();
        Slide {
            channels,
            axes: axes
                .map(|(axis, &extent)| self.along(axis, extent))
                .collect(),
            padded: Vec::new(),
        }
    }

    fn along(&self, axis: usize, extent: usize) -> Window {
        let (stride, reach) = (self.windows.strides[axis], self.windows.reach(axis));
        let given = self.output_padding.as_ref().map(|padding| padding[axis]);
        let steps = extent.saturating_sub(1).saturating_mul(stride);
        let (behind, before) = match self.windows.padding {
            Padding::Same => {
                // What the equivalent convolution, with stride 1 over spread numbers, would pad with.
                let padding = match given {
                    None => stride.saturating_add(reach) - 2,
                    Some(given) => reach.saturating_add(reach % 2 + given) - 2,
                };
                let left = padding.div_ceil(2).min(reach - 1);
                let behind = match given {
                    None => stride,
                    Some(given) => reach % 2 + given,
                };
                (behind, reach - 1 - left)
            }
            _ => match given {
                None => (reach.max(stride), 0),
                Some(given) => (reach.saturating_add(given), 0),
            },
        };
        Window {
            input: steps.saturating_add(behind),
            output: extent,
            size: self.windows.sizes[axis],
            stride,
            dilation: self.windows.dilation[axis],
            before,
        }
    }
}

impl Layer for ConvTranspose {
    fn output(&self, name: &str, inputs: &[Signal]) -> Result<Signal, SpecError> {
        let order = self.windows.order;
        let input = order.input(name, self.windows.rank(), inputs)?;
        let slide = self.slide(&input.extents);
        let made: Vec<usize> = slide.axes.iter().map(|window| window.input).collect();
        if made.contains(&0) {
            return Err(bad_input(
                name,
                format!(
                    "nothing is left of its input of shape {:?} per row",
                    Shape::new(&input.extents)
                ),
                "leave output_padding out, or pad with \"valid\"",
            ));
        }
        // The convolution that it is the adjoint of reads padding too.
        let margins = (0..made.len()).fold(self.filters, |numbers, axis| {
            let extent = made[axis].saturating_add(self.windows.reach(axis));
            numbers.saturating_mul(extent)
        });
        if margins as u64 > NUMBERS_MAX {
            return Err(bad_input(
                name,
                format!("it makes {margins} numbers per row with its padding"),
                &format!(
                    "make kernel_size, strides or dilation_rate smaller: {NUMBERS_MAX} is the most"
                ),
            ));
        }
        Ok(Signal::float(&order.join(&made, self.filters)))
    }

    fn parameters(&self, inputs: &[Signal]) -> Vec<ArraySpec> {
        let (_, channels) = self.windows.order.split(&inputs[0].extents);
        let columns = [self.filters, channels];
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
        let slide = self.slide(&row_extents(context.graph, inputs[0]));
        let x = order.channels_last(context.graph, inputs[0])?;
        let kernel = context.parameter(0)?;
        let rows = context.graph.shape(x).extents()[0];
        let convolution = Convolution {
            rows,
            windows: slide.windows(),
            input_channels: self.filters,
            output_channels: slide.channels,
            groups: 1,
        };
        let y = context
            .graph
            .add(Op::Convolve(convolution, Face::Input), &[x, kernel])?;
        let made: Vec<usize> = slide.axes.iter().map(|window| window.input).collect();
        let extents = [&[rows][..], &made, &[self.filters]].concat();
        let y = context.graph.reshape(y, &extents)?;
        self.ending.record(context, order, 1, y)
    }
}
