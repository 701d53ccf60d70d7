//! AdaptiveMaxPooling1D to 3D and AdaptiveAveragePooling1D to 3D: as many windows as `output_size` says.
//!
//! Of an axis of n numbers and m windows, window o is from `o n / m` (rounded down) to `(o + 1) n / m` (rounded up), so that
//! windows may share a number. Shapes per row: (spatial.., channels) to (output_size.., channels); with `channels_first` the
//! channels come first. A mask ends here, as in Keras. Source: PyTorch's adaptive pooling, which Keras follows.

use crate::autograd::{Graph, GraphError, NodeId, Pooling, Reduction};
use crate::tensor::kernels::window::Window;

use super::super::super::error::SpecError;
use super::super::super::layer::{Context, Layer, Signal};
use super::super::super::options::Options;
use super::super::windows::{ChannelOrder, Slide};
use super::Summary;
use super::sliding::pool;

/// Most windows along an axis: uneven ones are operations of their own.
const WINDOWS_MAX: usize = 1 << 10;

#[derive(Debug)]
pub(in super::super) struct AdaptivePooling {
    summary: Summary,
    order: ChannelOrder,
    sizes: Vec<usize>,
}

impl AdaptivePooling {
    /// `rank` is the count of spatial axes.
    pub(in super::super) fn read(
        options: &mut Options<'_>,
        rank: usize,
        summary: Summary,
    ) -> Result<Self, SpecError> {
        Ok(AdaptivePooling {
            summary,
            order: ChannelOrder::read(options)?,
            sizes: options.counts("output_size", rank, None, 1, WINDOWS_MAX)?,
        })
    }

    /// One axis after the other: a window is the product of its axes' windows.
    fn uneven(
        &self,
        graph: &mut Graph,
        mut x: NodeId,
        spatial: &[usize],
    ) -> Result<NodeId, GraphError> {
        for (number, (&size, &extent)) in self.sizes.iter().zip(spatial).enumerate() {
            let axis = number + 1;
            let mut parts = Vec::with_capacity(size);
            for window in 0..size {
                let start = window * extent / size;
                let end = ((window + 1) * extent).div_ceil(size);
                let part = graph.slice(x, axis, start, end - start, 1)?;
                parts.push(match self.summary {
                    Summary::Max => graph.reduce(Reduction::Max, part, axis, 1)?,
                    Summary::Mean => graph.mean(part, axis, 1)?,
                });
            }
            x = graph.stack(&parts, axis)?;
        }
        Ok(x)
    }
}

impl Layer for AdaptivePooling {
    fn output(&self, name: &str, inputs: &[Signal]) -> Result<Signal, SpecError> {
        let input = self.order.input(name, self.sizes.len(), inputs)?;
        let (_, channels) = self.order.split(&input.extents);
        Ok(Signal::float(&self.order.join(&self.sizes, channels)))
    }

    fn forward(&self, context: &mut Context<'_>, inputs: &[NodeId]) -> Result<NodeId, GraphError> {
        let graph = &mut *context.graph;
        let x = self.order.channels_last(graph, inputs[0])?;
        let extents = graph.shape(x).extents().to_vec();
        let (spatial, channels) = ChannelOrder::Last.split(&extents[1..]);
        let even = self
            .sizes
            .iter()
            .zip(spatial)
            .all(|(&size, extent)| extent.is_multiple_of(size));
        let y = if even {
            let axes = self
                .sizes
                .iter()
                .zip(spatial)
                .map(|(&size, &input)| Window {
                    input,
                    output: size,
                    size: input / size,
                    stride: input / size,
                    dilation: 1,
                    before: 0,
                });
            let slide = Slide {
                channels,
                axes: axes.collect(),
                padded: spatial.to_vec(),
            };
            match self.summary {
                Summary::Max => pool(graph, &slide, Pooling::Pick, &[x, x])?,
                Summary::Mean => pool(graph, &slide, Pooling::Average, &[x])?,
            }
        } else {
            self.uneven(graph, x, spatial)?
        };
        self.order.channels_in_place(graph, y)
    }
}
