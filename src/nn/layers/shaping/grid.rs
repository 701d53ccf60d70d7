//! Cropping and ZeroPadding over one, two or three spatial extents.
//!
//! A spatial extent E becomes E - before - after, or before + E + after with zeros. The channels are the innermost extent,
//! or the first after the rows with `data_format: "channels_first"`.

use serde_json::Value;

use crate::autograd::{GraphError, NodeId};

use super::super::super::error::SpecError;
use super::super::super::layer::{Context, Layer, Signal, bad_input};
use super::super::super::options::Options;
use super::super::axes::float_input_of;

/// Most that is cut off or put on at one end.
const MARGIN_MAX: u64 = 1 << 30;

/// How many spatial extents a row has, and where its channels are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Grid {
    extents: usize,
    channels_first: bool,
}

impl Grid {
    /// Channels innermost; `data_format` is no option.
    pub(in super::super) fn channels_last(extents: usize) -> Self {
        Grid {
            extents,
            channels_first: false,
        }
    }

    /// Reads `data_format`.
    pub(in super::super) fn read(
        options: &mut Options<'_>,
        extents: usize,
    ) -> Result<Self, SpecError> {
        let choices = [("channels_last", false), ("channels_first", true)];
        Ok(Grid {
            extents,
            channels_first: options.choice("data_format", &choices)?,
        })
    }

    /// The axis of the first spatial extent, rows included.
    pub(in super::super) fn first_axis(self) -> usize {
        if self.channels_first { 2 } else { 1 }
    }

    pub(in super::super) fn dimensions(self) -> usize {
        self.extents
    }

    /// The one input, with as many extents as the grid and its channels.
    pub(in super::super) fn input<'a>(
        self,
        name: &str,
        inputs: &'a [Signal],
    ) -> Result<&'a Signal, SpecError> {
        let what = match (self.extents, self.channels_first) {
            (1, false) => "steps and channels",
            (1, true) => "channels and steps",
            (2, false) => "height, width and channels",
            (2, true) => "channels, height and width",
            (_, false) => "three spatial extents and channels",
            (_, true) => "channels and three spatial extents",
        };
        float_input_of(name, inputs, self.extents + 1, what)
    }
}

/// What is cut off or put on before and after each spatial extent.
type Margins = Vec<(usize, usize)>;

/// Reads margins as Keras takes them: one number for all; for a line, a pair; else one entry per extent, each a number or a pair.
fn margins(
    options: &mut Options<'_>,
    option: &'static str,
    extents: usize,
    default: usize,
) -> Result<Margins, SpecError> {
    let Some(value) = options.value(option) else {
        return Ok(vec![(default, default); extents]);
    };
    let whole = |value: &Value| {
        let number = value.as_u64().filter(|number| *number <= MARGIN_MAX);
        number.and_then(|number| usize::try_from(number).ok())
    };
    let pair = |value: &Value| match value.as_array() {
        Some(list) if list.len() == 2 => whole(&list[0]).zip(whole(&list[1])),
        Some(_) => None,
        None => whole(value).map(|margin| (margin, margin)),
    };
    let found = match value {
        Value::Array(list) if extents > 1 && list.len() == extents => {
            list.iter().map(pair).collect()
        }
        Value::Array(_) if extents > 1 => None,
        other => pair(other).map(|margin| vec![margin; extents]),
    };
    found.ok_or_else(|| {
        let hint = if extents == 1 {
            "give a whole number, or a list of two: before and after".to_string()
        } else {
            format!("give a whole number, or a list of {extents}: whole numbers or pairs of before and after")
        };
        options.bad(option, value, hint)
    })
}

/// Cropping1D, Cropping2D, Cropping3D.
#[derive(Debug)]
pub(in super::super) struct Cropping {
    grid: Grid,
    margins: Margins,
}

impl Cropping {
    pub(in super::super) fn read(options: &mut Options<'_>, grid: Grid) -> Result<Self, SpecError> {
        // Keras' defaults differ: nothing in two dimensions, one at each end in one and three.
        let default = usize::from(grid.extents != 2);
        Ok(Cropping {
            grid,
            margins: margins(options, "cropping", grid.extents, default)?,
        })
    }
}

impl Layer for Cropping {
    fn output(&self, name: &str, inputs: &[Signal]) -> Result<Signal, SpecError> {
        let input = self.grid.input(name, inputs)?;
        let mut extents = input.extents.clone();
        let first = self.grid.first_axis() - 1;
        for (extent, &(before, after)) in extents[first..].iter_mut().zip(&self.margins) {
            let left = extent.saturating_sub(before.saturating_add(after));
            if left == 0 {
                return Err(bad_input(
                    name,
                    format!(
                        "its input has shape {:?} per row and it cuts {before} and {after} off an extent of {extent}",
                        input.extents
                    ),
                    "cut off less than there is",
                ));
            }
            *extent = left;
        }
        Ok(Signal::float(&extents))
    }

    fn forward(&self, context: &mut Context<'_>, inputs: &[NodeId]) -> Result<NodeId, GraphError> {
        let mut y = inputs[0];
        for (number, &(before, after)) in self.margins.iter().enumerate() {
            let axis = self.grid.first_axis() + number;
            let left = context.graph.shape(y).extents()[axis] - before - after;
            y = context.graph.slice(y, axis, before, left, 1)?;
        }
        Ok(y)
    }
}

/// ZeroPadding1D, ZeroPadding2D, ZeroPadding3D.
#[derive(Debug)]
pub(in super::super) struct ZeroPadding {
    grid: Grid,
    margins: Margins,
}

impl ZeroPadding {
    pub(in super::super) fn read(options: &mut Options<'_>, grid: Grid) -> Result<Self, SpecError> {
        Ok(ZeroPadding {
            grid,
            margins: margins(options, "padding", grid.extents, 1)?,
        })
    }
}

impl Layer for ZeroPadding {
    fn output(&self, name: &str, inputs: &[Signal]) -> Result<Signal, SpecError> {
        let mut extents = self.grid.input(name, inputs)?.extents.clone();
        let first = self.grid.first_axis() - 1;
        for (extent, &(before, after)) in extents[first..].iter_mut().zip(&self.margins) {
            *extent = extent.saturating_add(before).saturating_add(after);
        }
        Ok(Signal::float(&extents))
    }

    fn forward(&self, context: &mut Context<'_>, inputs: &[NodeId]) -> Result<NodeId, GraphError> {
        let mut y = inputs[0];
        for (number, &(before, after)) in self.margins.iter().enumerate() {
            let axis = self.grid.first_axis() + number;
            y = context.graph.pad(y, axis, before, after)?;
        }
        Ok(y)
    }
}
