//! MaxPooling1D to 3D and AveragePooling1D to 3D: each window to its greatest number, or its mean.
//!
//! Shapes per row: (spatial.., channels) to (out.., channels); with `channels_first` the channels come first. Of equal
//! greatest numbers the first takes the gradient. A mask ends here, as in Keras.
//!
//! Padding is never the greatest number. A mean counts what lies inside the input, unless "same" has an axis with an
//! odd number of places to pad with: then padding repeats the input's edges, on every axis, and is counted. That is how Keras'
//! PyTorch backend answers; its other backends never count padding.

use crate::autograd::{Graph, GraphError, NodeId, Op, Pooling};
use crate::tensor::Shape;
use crate::tensor::kernels::pool::Pool;

use super::super::super::error::SpecError;
use super::super::super::layer::{Context, Layer, Signal};
use super::super::super::options::Options;
use super::super::windows::{Slide, Windows};
use super::Summary;

#[derive(Debug)]
pub(in super::super) struct SlidingPooling {
    summary: Summary,
    windows: Windows,
}

impl SlidingPooling {
    /// `rank` is the count of spatial axes.
    pub(in super::super) fn read(
        options: &mut Options<'_>,
        rank: usize,
        summary: Summary,
    ) -> Result<Self, SpecError> {
        // Keras gives a default to one of the two.
        let default = (summary == Summary::Max).then_some(2);
        Ok(SlidingPooling {
            summary,
            windows: Windows::of_pool(options, rank, default)?,
        })
    }
}

impl Layer for SlidingPooling {
    fn output(&self, name: &str, inputs: &[Signal]) -> Result<Signal, SpecError> {
        let slide = self.windows.over(name, inputs)?;
        let extents = self.windows.order.join(&slide.outputs(), slide.channels);
        Ok(Signal::float(&extents))
    }

    fn forward(&self, context: &mut Context<'_>, inputs: &[NodeId]) -> Result<NodeId, GraphError> {
        let graph = &mut *context.graph;
        let order = self.windows.order;
        let x = order.channels_last(graph, inputs[0])?;
        let extents = graph.shape(inputs[0]).extents();
        let slide = self.windows.slide(&extents[1..]);
        let y = match self.summary {
            Summary::Max => pool(graph, &slide, Pooling::Pick, &[x, x])?,
            Summary::Mean => {
                let (x, slide) = with_counted_edges(graph, x, slide)?;
                pool(graph, &slide, Pooling::Average, &[x])?
            }
        };
        order.channels_in_place(graph, y)
    }
}

/// (rows, spatial.., channels) to (rows, out.., channels).
pub(super) fn pool(
    graph: &mut Graph,
    slide: &Slide,
    pooling: Pooling,
    operands: &[NodeId],
) -> Result<NodeId, GraphError> {
    let rows = graph.shape(operands[0]).extents()[0];
    let pool = Pool {
        rows,
        channels: slide.channels,
        windows: slide.windows(),
    };
    let y = graph.add(Op::Pool(pool, pooling), operands)?;
    graph.reshape(
        y,
        &[&[rows][..], &slide.outputs(), &[slide.channels]].concat(),
    )
}

/// The input with its edges repeated and the windows over that, where padding counts; otherwise both as they are.
fn with_counted_edges(
    graph: &mut Graph,
    mut x: NodeId,
    mut slide: Slide,
) -> Result<(NodeId, Slide), GraphError> {
    let paddings: Vec<usize> = slide
        .axes
        .iter()
        .zip(&slide.padded)
        .map(|(window, &padded)| padded - window.input)
        .collect();
    if paddings.iter().all(|padding| padding.is_multiple_of(2)) {
        return Ok((x, slide));
    }
    for (number, window) in slide.axes.iter_mut().enumerate() {
        let before = window.before;
        x = repeat_edges(graph, x, number + 1, before, paddings[number] - before)?;
        window.input += paddings[number];
        window.before = 0;
    }
    Ok((x, slide))
}

/// The first number of an axis again before it, the last again behind it.
fn repeat_edges(
    graph: &mut Graph,
    x: NodeId,
    axis: usize,
    before: usize,
    behind: usize,
) -> Result<NodeId, GraphError> {
    let extents = graph.shape(x).extents().to_vec();
    let last = extents[axis] - 1;
    let mut edge = |at: usize, count: usize| {
        let mut extents = extents.clone();
        extents[axis] = count;
        let edge = graph.slice(x, axis, at, 1, 1)?;
        graph.broadcast_to(edge, &Shape::new(&extents))
    };
    let mut parts = Vec::with_capacity(3);
    if before > 0 {
        parts.push(edge(0, before)?);
    }
    parts.push(x);
    if behind > 0 {
        parts.push(edge(last, behind)?);
    }
    graph.concatenate(&parts, axis)
}
