//! LocallyConnected1D, LocallyConnected2D: a convolution whose kernel is another one at every place.
//!
//! `y[o, f] = sum over the window's numbers j of x[window o, j] kernel[o, j, f] + bias[o, f]`. Shapes per row: x (spatial..,
//! channels), kernel (places, kernel_size x channels, filters), bias (out.., filters) to y (out.., filters). With
//! `channels_first` the channels of x and y come first, and so do those among a window's numbers. Keras 3 has no such layer: this is Keras
//! 2's, with the padding and the implementation that it has by default. A mask ends here.
//! Source: Taigman et al., DeepFace (2014).

use crate::autograd::{GraphError, NodeId, Op};
use crate::tensor::kernels::view::View;

use super::super::super::error::SpecError;
use super::super::super::layer::{ArrayOptions, ArraySpec, Context, Layer, Signal, bad_input};
use super::super::super::model::NUMBERS_MAX;
use super::super::super::options::Options;
use super::super::activation::Activation;
use super::super::windows::{ChannelOrder, VALID, Windows};
use super::{Ending, FILTERS_MAX, row_extents, signal};

#[derive(Debug)]
pub(in super::super) struct LocallyConnected {
    windows: Windows,
    filters: usize,
    kernel: ArrayOptions,
    ending: Ending,
}

impl LocallyConnected {
    /// `rank` is the count of spatial axes, 1 or 2.
    pub(in super::super) fn read(
        options: &mut Options<'_>,
        rank: usize,
    ) -> Result<Self, SpecError> {
        Ok(LocallyConnected {
            windows: Windows::of_undilated_kernel(options, rank, &[VALID])?,
            filters: options.required_count("filters", 1, FILTERS_MAX)?,
            kernel: ArrayOptions::kernel(options)?,
            ending: Ending::read(options)?,
        })
    }

    /// Numbers of a window; saturates.
    fn window_len(&self, channels: usize) -> usize {
        let sizes = self.windows.sizes.iter();
        sizes.fold(channels, |numbers, &size| numbers.saturating_mul(size))
    }
}

impl Layer for LocallyConnected {
    fn output(&self, name: &str, inputs: &[Signal]) -> Result<Signal, SpecError> {
        let slide = self.windows.over(name, inputs)?;
        let numbers = slide
            .outputs()
            .iter()
            .fold(self.window_len(slide.channels), |numbers, &places| {
                numbers.saturating_mul(places)
            });
        if numbers as u64 > NUMBERS_MAX {
            return Err(bad_input(
                name,
                format!("its windows hold {numbers} numbers per row"),
                &format!("make kernel_size smaller or strides larger: {NUMBERS_MAX} is the most"),
            ));
        }
        Ok(signal(self.windows.order, &slide, self.filters))
    }

    fn parameters(&self, inputs: &[Signal]) -> Vec<ArraySpec> {
        let slide = self.windows.slide(&inputs[0].extents);
        let places = slide
            .outputs()
            .iter()
            .fold(1usize, |places, &output| places.saturating_mul(output));
        let kernel = [places, self.window_len(slide.channels), self.filters];
        let bias = ChannelOrder::Last.join(&slide.outputs(), self.filters);
        self.ending.arrays(vec![self.kernel.array(&kernel)], &bias)
    }

    fn activation(&self) -> Option<Activation> {
        Some(self.ending.activation)
    }

    fn forward(&self, context: &mut Context<'_>, inputs: &[NodeId]) -> Result<NodeId, GraphError> {
        let graph = &mut *context.graph;
        let order = self.windows.order;
        let slide = self.windows.slide(&row_extents(graph, inputs[0]));
        let rows = graph.shape(inputs[0]).extents()[0];
        let whole = View::whole(graph.shape(inputs[0]));
        let spatial = order.first_axis()..order.first_axis() + self.windows.rank();
        // (out.., rows, a window's axes in the order of the input's): all windows of a place are the rows of a matrix.
        let mut extents = slide.outputs();
        let mut strides: Vec<isize> = spatial
            .clone()
            .zip(&slide.axes)
            .map(|(axis, window)| whole.strides[axis] * window.stride.cast_signed())
            .collect();
        for (axis, (&extent, &stride)) in whole.extents.iter().zip(&whole.strides).enumerate() {
            let inside = spatial.contains(&axis);
            extents.push(if inside {
                self.windows.sizes[axis - spatial.start]
            } else {
                extent
            });
            strides.push(stride);
        }
        let view = View {
            extents,
            strides,
            offset: 0,
        };
        let windows = graph.add(Op::View(view), &[inputs[0]])?;
        let places = slide.outputs().iter().product();
        let len = self.window_len(slide.channels);
        let windows = graph.reshape(windows, &[places, rows, len])?;
        let kernel = context.parameter(0)?;
        let graph = &mut *context.graph;
        let products = graph.matmul(windows, kernel, false, false)?;
        let y = graph.permute(products, &[1, 0, 2])?;
        let y = graph.reshape(
            y,
            &[&[rows][..], &slide.outputs(), &[self.filters]].concat(),
        )?;
        self.ending.record(context, order, 1, y)
    }
}
