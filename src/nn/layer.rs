//! What a layer must answer.
//!
//! Division of labour: a layer reads its own options, says the shape it makes and the parameters it needs for the shapes
//! it is given, and records its operations. The model gives names, offsets and rows; plans, gradients and memory are
//! autograd's business. To add a layer: one file in `layers/` and one line in `layers/mod.rs`.

use std::fmt::Debug;

use crate::autograd::{Graph, GraphError, NodeId, Op};
use crate::tensor::Shape;

use super::error::SpecError;
use super::initialize::Initializer;
use super::layers::activation::Activation;
use super::model::InputType;

/// What flows between layers: the extents of one row and the kind of its numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Signal {
    pub(super) extents: Vec<usize>,
    pub(super) dtype: InputType,
}

impl Signal {
    pub(super) fn float(extents: &[usize]) -> Self {
        Signal {
            extents: extents.to_vec(),
            dtype: InputType::Float32,
        }
    }

    /// Numbers per row; saturates.
    pub(super) fn width(&self) -> usize {
        self.extents
            .iter()
            .fold(1usize, |product, &extent| product.saturating_mul(extent))
    }

    pub(super) fn last(&self) -> usize {
        self.extents.last().copied().unwrap_or(1)
    }
}

/// One array a layer needs: its name inside the layer, its shape and how it starts.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ArraySpec {
    pub(super) name: &'static str,
    pub(super) shape: Vec<usize>,
    pub(super) initializer: Initializer,
}

impl ArraySpec {
    pub(super) fn new(name: &'static str, shape: &[usize], initializer: Initializer) -> Self {
        ArraySpec {
            name,
            shape: shape.to_vec(),
            initializer,
        }
    }
}

/// A layer with its options read.
pub(super) trait Layer: Debug + Send + Sync {
    /// What it makes of its inputs, or why it cannot take them. `name` is for the message.
    fn output(&self, name: &str, inputs: &[Signal]) -> Result<Signal, SpecError>;

    /// Trainable arrays, in the order of the flat vector.
    fn parameters(&self, _inputs: &[Signal]) -> Vec<ArraySpec> {
        Vec::new()
    }

    /// Arrays that follow the data and have no gradient, such as moving averages.
    fn statistics(&self, _inputs: &[Signal]) -> Vec<ArraySpec> {
        Vec::new()
    }

    /// The function that its answer comes out of, where it ends in one.
    fn activation(&self) -> Option<Activation> {
        None
    }

    /// Records the layer's operations.
    fn forward(&self, context: &mut Context<'_>, inputs: &[NodeId]) -> Result<NodeId, GraphError>;
}

/// One array's place in the flat vector.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) offset: usize,
    pub(super) shape: Shape,
}

/// What a layer records into.
#[derive(Debug)]
pub(super) struct Context<'a> {
    pub(super) graph: &'a mut Graph,
    pub(super) rows: usize,
    pub(super) training: bool,
    /// The layer's position in the model: what its random numbers are keyed by.
    pub(super) position: u32,
    pub(super) parameters: &'a [Place],
    pub(super) statistics: &'a [Place],
    /// New values of statistics, by offset in the flat vector.
    pub(super) new_statistics: &'a mut Vec<(NodeId, usize)>,
}

impl Context<'_> {
    /// The `index`-th array of `Layer::parameters`.
    pub(super) fn parameter(&mut self, index: usize) -> Result<NodeId, GraphError> {
        let place = &self.parameters[index];
        self.graph
            .add(Op::Parameter(place.offset, place.shape.clone()), &[])
    }

    /// The `index`-th array of `Layer::statistics`.
    pub(super) fn statistic(&mut self, index: usize) -> Result<NodeId, GraphError> {
        let place = &self.statistics[index];
        self.graph
            .add(Op::Statistic(place.offset, place.shape.clone()), &[])
    }

    /// Says what the `index`-th statistic becomes after this step.
    pub(super) fn update_statistic(&mut self, index: usize, value: NodeId) {
        self.new_statistics
            .push((value, self.statistics[index].offset));
    }
}

/// The single float input of a layer.
pub(super) fn one_float_input<'a>(
    name: &str,
    inputs: &'a [Signal],
) -> Result<&'a Signal, SpecError> {
    let [input] = inputs else {
        return Err(bad_input(
            name,
            format!("it has {} inputs", inputs.len()),
            "connect exactly one layer",
        ));
    };
    require_float(name, input)?;
    Ok(input)
}

pub(super) fn require_float(name: &str, input: &Signal) -> Result<(), SpecError> {
    if input.dtype != InputType::Float32 {
        return Err(bad_input(
            name,
            "its input is int32".to_string(),
            "put an Embedding between, or give the Input dtype float32",
        ));
    }
    Ok(())
}

pub(super) fn bad_input(name: &str, problem: String, hint: &str) -> SpecError {
    SpecError::BadInput {
        layer: name.to_string(),
        problem,
        hint: hint.to_string(),
    }
}
