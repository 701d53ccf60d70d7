//! Reshape, Permute and RepeatVector: the same numbers of a row under other extents.

use serde_json::Value;

use crate::autograd::{GraphError, NodeId};

use super::super::super::error::SpecError;
use super::super::super::layer::{Context, Layer, Signal, bad_input, one_float_input};
use super::super::super::options::Options;
use super::super::axes::{RANK_MAX, float_input_of};

/// Most of an extent.
const EXTENT_MAX: u64 = 1 << 30;

/// Numbers in the order they have, under `target_shape`; one of its extents may be -1: what is left.
#[derive(Debug)]
pub(in super::super) struct Reshape {
    /// `None` stands for -1.
    target: Vec<Option<usize>>,
}

impl Reshape {
    pub(in super::super) fn read(options: &mut Options<'_>) -> Result<Self, SpecError> {
        let value = options.value("target_shape").unwrap_or(&Value::Null);
        let extent = |value: &Value| match value.as_i64() {
            Some(-1) => Some(None),
            Some(extent) if (1..=EXTENT_MAX as i64).contains(&extent) => {
                usize::try_from(extent).ok().map(Some)
            }
            _ => None,
        };
        let list = value
            .as_array()
            .filter(|list| (1..RANK_MAX).contains(&list.len()));
        let target: Option<Vec<_>> = list.and_then(|list| list.iter().map(extent).collect());
        let target =
            target.filter(|target| target.iter().filter(|extent| extent.is_none()).count() <= 1);
        let target = target.ok_or_else(|| {
            let most = RANK_MAX - 1;
            let hint = format!(
                "give a list of 1 to {most} extents of one row, without the rows; one may be -1"
            );
            options.bad("target_shape", value, hint)
        })?;
        Ok(Reshape { target })
    }

    /// The target with -1 resolved, or `None` where the counts differ.
    fn extents(&self, width: usize) -> Option<Vec<usize>> {
        let given = self
            .target
            .iter()
            .flatten()
            .fold(1usize, |count, &extent| count.saturating_mul(extent));
        let open = self.target.contains(&None);
        let fits = if open {
            width > 0 && width.is_multiple_of(given)
        } else {
            given == width
        };
        let resolve = |extent: &Option<usize>| extent.unwrap_or(width / given);
        fits.then(|| self.target.iter().map(resolve).collect())
    }
}

impl Layer for Reshape {
    fn output(&self, name: &str, inputs: &[Signal]) -> Result<Signal, SpecError> {
        let input = one_float_input(name, inputs)?;
        let extents = self.extents(input.width()).ok_or_else(|| {
            let target: Vec<i64> = self
                .target
                .iter()
                .map(|extent| extent.map_or(-1, |extent| extent as i64))
                .collect();
            bad_input(
                name,
                format!(
                    "its input has shape {:?} per row, {} numbers, and target_shape is {target:?}",
                    input.extents,
                    input.width()
                ),
                "the count of numbers must stay the same; one extent may be -1",
            )
        })?;
        Ok(Signal::float(&extents))
    }

    fn forward(&self, context: &mut Context<'_>, inputs: &[NodeId]) -> Result<NodeId, GraphError> {
        let shape = context.graph.shape(inputs[0]).clone();
        let width = shape.extents()[1..].iter().product();
        let extents = self.extents(width).unwrap_or_else(|| vec![width]);
        let extents = [&[context.rows], extents.as_slice()].concat();
        context.graph.reshape(inputs[0], &extents)
    }
}

/// Extents of a row in another order: extent `dims[i]` of the input, counted from 1, becomes the i-th.
#[derive(Debug)]
pub(in super::super) struct Permute {
    dims: Vec<usize>,
}

impl Permute {
    pub(in super::super) fn read(options: &mut Options<'_>) -> Result<Self, SpecError> {
        let value = options.value("dims").unwrap_or(&Value::Null);
        let whole = |value: &Value| value.as_u64().and_then(|dim| usize::try_from(dim).ok());
        let dims: Option<Vec<usize>> = value
            .as_array()
            .filter(|list| (1..RANK_MAX).contains(&list.len()))
            .and_then(|list| list.iter().map(whole).collect());
        let dims = dims.filter(|dims| {
            let mut sorted = dims.clone();
            sorted.sort_unstable();
            sorted.iter().copied().eq(1..=dims.len())
        });
        let dims = dims.ok_or_else(|| {
            let hint = "give each of 1, 2, ... once, in the order wanted; the rows are not counted";
            options.bad("dims", value, hint.to_string())
        })?;
        Ok(Permute { dims })
    }
}

impl Layer for Permute {
    fn output(&self, name: &str, inputs: &[Signal]) -> Result<Signal, SpecError> {
        let what = "as many as dims has";
        let input = float_input_of(name, inputs, self.dims.len(), what)?;
        let extents: Vec<usize> = self
            .dims
            .iter()
            .map(|&dim| input.extents[dim - 1])
            .collect();
        Ok(Signal::float(&extents))
    }

    fn forward(&self, context: &mut Context<'_>, inputs: &[NodeId]) -> Result<NodeId, GraphError> {
        let axes = [&[0], self.dims.as_slice()].concat();
        context.graph.permute(inputs[0], &axes)
    }
}

/// A row (width) `n` times: (n, width).
#[derive(Debug)]
pub(in super::super) struct RepeatVector {
    n: usize,
}

impl RepeatVector {
    pub(in super::super) fn read(options: &mut Options<'_>) -> Result<Self, SpecError> {
        Ok(RepeatVector {
            n: options.required_count("n", 1, EXTENT_MAX as usize)?,
        })
    }
}

impl Layer for RepeatVector {
    fn output(&self, name: &str, inputs: &[Signal]) -> Result<Signal, SpecError> {
        let input = float_input_of(name, inputs, 1, "one vector")?;
        Ok(Signal::float(&[self.n, input.extents[0]]))
    }

    fn forward(&self, context: &mut Context<'_>, inputs: &[NodeId]) -> Result<NodeId, GraphError> {
        context.graph.repeat(inputs[0], 1, self.n)
    }
}
