//! Dot: the sum of products along one axis of each of two inputs.
//!
//! Per row, x (A..., K, B...) and y (C..., K, D...) to (A..., B..., C..., D...); (1) where nothing is left. With
//! `normalize` both are divided by their lengths along the axis first, which makes the answer a cosine. The output has no
//! mask, as in Keras.

use serde_json::Value;

use crate::autograd::{GraphError, NodeId};

use super::super::super::error::SpecError;
use super::super::super::layer::{Context, Layer, Signal, bad_input, require_float};
use super::super::super::options::Options;
use super::super::axes::{Axis, RANK_MAX, unit};

/// The least length that is divided by: Keras' `epsilon()`.
const SHORTEST: f32 = 1e-7;

#[derive(Debug)]
pub(in super::super) struct Dot {
    axes: [Axis; 2],
    normalize: bool,
}

impl Dot {
    pub(in super::super) fn read(options: &mut Options<'_>) -> Result<Self, SpecError> {
        let value = options.value("axes").unwrap_or(&Value::Null);
        let axes = match value {
            Value::Array(list) if list.len() == 2 => Axis::of(&list[0])
                .zip(Axis::of(&list[1]))
                .map(|(a, b)| [a, b]),
            other => Axis::of(other).map(|axis| [axis; 2]),
        };
        let axes = axes.ok_or_else(|| {
            let hint = "give one axis or a list of two: 1 for the first after the rows, -1 for the innermost";
            options.bad("axes", value, hint.to_string())
        })?;
        Ok(Dot {
            axes,
            normalize: options.flag("normalize", false)?,
        })
    }
}

impl Layer for Dot {
    fn output(&self, name: &str, inputs: &[Signal]) -> Result<Signal, SpecError> {
        let [x, y] = inputs else {
            return Err(bad_input(
                name,
                format!("it has {} inputs", inputs.len()),
                "connect exactly two layers",
            ));
        };
        let mut rest = Vec::new();
        let mut summed = Vec::new();
        for (input, axis) in [x, y].into_iter().zip(self.axes) {
            require_float(name, input)?;
            let mut extents = input.extents.clone();
            summed.push(extents.remove(axis.find(name, extents.len() + 1)? - 1));
            rest.extend(extents);
        }
        if summed[0] != summed[1] {
            return Err(bad_input(
                name,
                format!(
                    "its inputs have shapes {:?} and {:?} per row, and extents {} and {} along its axes",
                    x.extents, y.extents, summed[0], summed[1]
                ),
                "choose axes of equal extent",
            ));
        }
        if rest.is_empty() {
            rest.push(1);
        }
        if rest.len() >= RANK_MAX {
            return Err(bad_input(
                name,
                format!("its answer would have shape {rest:?} per row"),
                "put a Reshape before it, so that fewer extents are left",
            ));
        }
        Ok(Signal::float(&rest))
    }

    fn forward(&self, context: &mut Context<'_>, inputs: &[NodeId]) -> Result<NodeId, GraphError> {
        let (rows, graph) = (context.rows, &mut *context.graph);
        let mut rest = vec![rows];
        let mut factors = Vec::new();
        for (number, (&input, axis)) in inputs.iter().zip(self.axes).enumerate() {
            let extents = graph.shape(input).extents().to_vec();
            let axis = axis.at(extents.len());
            let x = if self.normalize {
                unit(graph, input, &[axis], SHORTEST)?
            } else {
                input
            };
            // The axis goes innermost in the first factor and first in the second: a plain product of matrices.
            let mut axes: Vec<usize> = (0..extents.len()).filter(|&each| each != axis).collect();
            let others: Vec<usize> = axes[1..].iter().map(|&axis| extents[axis]).collect();
            let count: usize = others.iter().product();
            let matrix = if number == 0 {
                axes.push(axis);
                [rows, count, extents[axis]]
            } else {
                axes.insert(1, axis);
                [rows, extents[axis], count]
            };
            rest.extend(others);
            let x = graph.permute(x, &axes)?;
            factors.push(graph.reshape(x, &matrix)?);
        }
        if rest.len() == 1 {
            rest.push(1);
        }
        let product = graph.matmul(factors[0], factors[1], false, false)?;
        graph.reshape(product, &rest)
    }
}
