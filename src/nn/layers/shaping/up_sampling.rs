//! UpSampling1D, UpSampling2D, UpSampling3D: every spatial extent E becomes `size` times E.
//!
//! `nearest` repeats each number. `bilinear` (two dimensions) lies between the two nearest: the number at i of the longer
//! line stands at (i + 1/2) / size - 1/2 of the shorter one, and beyond the ends the last number goes on.

use crate::autograd::{Graph, GraphError, NodeId, Op};
use crate::tensor::kernels::view::View;

use super::super::super::error::SpecError;
use super::super::super::layer::{Context, Layer, Signal};
use super::super::super::options::Options;
use super::Grid;

#[derive(Debug)]
pub(in super::super) struct UpSampling {
    grid: Grid,
    size: Vec<usize>,
    bilinear: bool,
}

impl UpSampling {
    pub(in super::super) fn read(options: &mut Options<'_>, grid: Grid) -> Result<Self, SpecError> {
        let bilinear = if grid.dimensions() == 2 {
            options.choice("interpolation", &[("nearest", false), ("bilinear", true)])?
        } else {
            false
        };
        Ok(UpSampling {
            grid,
            // Between two numbers lie at most so many others: each is an operation of the graph when they are blended.
            size: options.counts("size", grid.dimensions(), Some(2), 1, 1 << 10)?,
            bilinear,
        })
    }
}

impl Layer for UpSampling {
    fn output(&self, name: &str, inputs: &[Signal]) -> Result<Signal, SpecError> {
        let mut extents = self.grid.input(name, inputs)?.extents.clone();
        let first = self.grid.first_axis() - 1;
        for (extent, &size) in extents[first..].iter_mut().zip(&self.size) {
            *extent = extent.saturating_mul(size);
        }
        Ok(Signal::float(&extents))
    }

    fn forward(&self, context: &mut Context<'_>, inputs: &[NodeId]) -> Result<NodeId, GraphError> {
        let graph = &mut *context.graph;
        let first = self.grid.first_axis();
        if self.bilinear {
            let mut y = inputs[0];
            for (number, &size) in self.size.iter().enumerate() {
                y = blended(graph, y, first + number, size)?;
            }
            return Ok(y);
        }
        let shape = graph.shape(inputs[0]).clone();
        let (mut view, mut extents) = (View::whole(&shape), shape.extents().to_vec());
        // From the innermost, so that axis numbers stay true.
        for (number, &size) in self.size.iter().enumerate().rev() {
            view = view.repeated(first + number + 1, size);
            extents[first + number] *= size;
        }
        let repeated = graph.add(Op::View(view), &[inputs[0]])?;
        graph.reshape(repeated, &extents)
    }
}

/// `size` numbers for each along an axis, between it and its neighbour on the nearer side.
fn blended(graph: &mut Graph, x: NodeId, axis: usize, size: usize) -> Result<NodeId, GraphError> {
    if size == 1 {
        return Ok(x);
    }
    let mut extents = graph.shape(x).extents().to_vec();
    let count = extents[axis];
    let first = graph.slice(x, axis, 0, 1, 1)?;
    let last = graph.slice(x, axis, count - 1, 1, 1)?;
    let (mut before, mut after) = (vec![first], vec![last]);
    if count > 1 {
        before.push(graph.slice(x, axis, 0, count - 1, 1)?);
        after.insert(0, graph.slice(x, axis, 1, count - 1, 1)?);
    }
    let before = graph.concatenate(&before, axis)?;
    let after = graph.concatenate(&after, axis)?;
    let mut parts = Vec::with_capacity(size);
    for part in 0..size {
        let place = (part as f32 + 0.5) / size as f32 - 0.5;
        let neighbour = if place < 0.0 { before } else { after };
        let near = graph.scaled(x, 1.0 - place.abs())?;
        let far = graph.scaled(neighbour, place.abs())?;
        parts.push(graph.plus(near, far)?);
    }
    let stacked = graph.stack(&parts, axis + 1)?;
    extents[axis] *= size;
    graph.reshape(stacked, &extents)
}
