//! Axes as Keras counts them: the rows are axis 0, and -1 is the innermost.
//!
//! Layers keep what they were given and find the axis when they see a shape; nothing here knows any layer.

use serde_json::Value;

use crate::autograd::{Graph, GraphError, NodeId};
use crate::tensor::Shape;
use crate::tensor::kernels::elementwise::{Binary, Unary};

use super::super::error::SpecError;
use super::super::layer::{Signal, bad_input, one_float_input};
use super::super::options::Options;

/// Most extents of a signal, rows included: what a view can hold.
pub(super) const RANK_MAX: usize = crate::tensor::kernels::view::RANK_MAX;

/// One axis as it was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Axis(i64);

impl Axis {
    pub(super) const INNERMOST: Self = Axis(-1);

    /// A whole number other than 0, which are the rows.
    pub(super) fn of(value: &Value) -> Option<Self> {
        let limit = RANK_MAX as i64;
        let axis = value.as_i64().or_else(|| {
            value
                .as_f64()
                .filter(|x| x.fract() == 0.0)
                .map(|x| x as i64)
        });
        axis.filter(|axis| *axis != 0 && (-limit..limit).contains(axis))
            .map(Axis)
    }

    /// Reads an option that is one axis.
    pub(super) fn read(
        options: &mut Options<'_>,
        option: &'static str,
        default: Self,
    ) -> Result<Self, SpecError> {
        match options.value(option) {
            None => Ok(default),
            Some(value) => Axis::of(value).ok_or_else(|| options.bad(option, value, HINT.into())),
        }
    }

    /// Reads an option that is one axis or a list of different ones.
    pub(super) fn read_several(
        options: &mut Options<'_>,
        option: &'static str,
        default: &[Self],
    ) -> Result<Vec<Self>, SpecError> {
        let Some(value) = options.value(option) else {
            return Ok(default.to_vec());
        };
        let axes = match value {
            Value::Array(list) if (1..RANK_MAX).contains(&list.len()) => {
                list.iter().map(Axis::of).collect()
            }
            other => Axis::of(other).map(|axis| vec![axis]),
        };
        axes.ok_or_else(|| {
            let hint = format!("{HINT}, or a list of such");
            options.bad(option, value, hint)
        })
    }

    /// The axis of an array of this rank, rows included.
    pub(super) fn find(self, name: &str, rank: usize) -> Result<usize, SpecError> {
        self.within(rank).ok_or_else(|| {
            bad_input(
                name,
                format!("axis {} of an input of {} axes, rows included", self.0, rank),
                "axis 0 are the rows and -1 is the innermost; give an axis that the input has beside its rows",
            )
        })
    }

    fn within(self, rank: usize) -> Option<usize> {
        let axis = if self.0 < 0 {
            self.0 + rank as i64
        } else {
            self.0
        };
        usize::try_from(axis)
            .ok()
            .filter(|axis| (1..rank).contains(axis))
    }

    /// `find` once `Layer::output` has taken the input.
    pub(super) fn at(self, rank: usize) -> usize {
        self.within(rank).unwrap_or(rank.saturating_sub(1))
    }
}

const HINT: &str =
    "give an axis: a whole number, 1 for the first after the rows, -1 for the innermost";

/// Several axes of an array of this rank in rising order; refused when two of them are one.
pub(super) fn find_several(
    name: &str,
    axes: &[Axis],
    rank: usize,
) -> Result<Vec<usize>, SpecError> {
    let mut found = axes
        .iter()
        .map(|axis| axis.find(name, rank))
        .collect::<Result<Vec<_>, _>>()?;
    found.sort_unstable();
    if found.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(bad_input(
            name,
            format!(
                "its axes name axis {found:?} twice for an input of {rank} axes, rows included"
            ),
            "name each axis once",
        ));
    }
    Ok(found)
}

/// `find_several` once `Layer::output` has taken the input.
pub(super) fn at_several(axes: &[Axis], rank: usize) -> Vec<usize> {
    let mut found: Vec<usize> = axes.iter().map(|axis| axis.at(rank)).collect();
    found.sort_unstable();
    found
}

/// The single float input of a layer that wants so many extents per row; `what` says which, in words.
pub(super) fn float_input_of<'a>(
    name: &str,
    inputs: &'a [Signal],
    extents: usize,
    what: &str,
) -> Result<&'a Signal, SpecError> {
    let input = one_float_input(name, inputs)?;
    if input.extents.len() != extents {
        return Err(bad_input(
            name,
            format!("its input has shape {:?} per row", input.extents),
            &format!("it takes {extents} extents per row: {what}; put a Reshape between"),
        ));
    }
    Ok(input)
}

/// The shape with extent 1 at these axes.
pub(super) fn with_ones_at(shape: &Shape, axes: &[usize]) -> Shape {
    let mut extents = shape.extents().to_vec();
    for &axis in axes {
        extents[axis] = 1;
    }
    Shape::new(&extents)
}

/// Mean over these axes, kept as extents of 1.
pub(super) fn mean_over(
    graph: &mut Graph,
    x: NodeId,
    axes: &[usize],
) -> Result<NodeId, GraphError> {
    let shape = graph.shape(x).clone();
    let count: usize = axes.iter().map(|&axis| shape.extents()[axis]).product();
    let sum = graph.sum_to(x, &with_ones_at(&shape, axes))?;
    graph.scaled(sum, 1.0 / count as f32)
}

/// x / max(length, epsilon), the length taken over these axes.
pub(super) fn unit(
    graph: &mut Graph,
    x: NodeId,
    axes: &[usize],
    epsilon: f32,
) -> Result<NodeId, GraphError> {
    let kept = with_ones_at(graph.shape(x), axes);
    let squares = graph.unary(Unary::Square, x)?;
    let sum = graph.sum_to(squares, &kept)?;
    // The floor goes under the root: the slope of a root at 0 is no number.
    let floor = graph.constant(epsilon * epsilon)?;
    let sum = graph.binary(Binary::Maximum, sum, floor)?;
    let length = graph.unary(Unary::Sqrt, sum)?;
    graph.over(x, length)
}
