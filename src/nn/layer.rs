//! What a layer must answer.
//!
//! Division of labour: a layer reads its own options, says the shape it makes and the parameters it needs for the shapes
//! it is given, and records its operations. The model gives names, offsets and rows; plans, gradients and memory are
//! autograd's business. To add a layer: one file in `layers/` and one line in `layers/mod.rs`.

use std::fmt::Debug;
use std::ops::Range;

use crate::autograd::{Graph, GraphError, NodeId, Op};
use crate::tensor::Shape;

use super::error::SpecError;
use super::initialize::Initializer;
use super::layers::activation::Activation;
use super::model::InputType;
use super::options::Options;
use super::regularize::Regularizer;

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
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    pub(super) initializer: Initializer,
    pub(super) regularizer: Option<Regularizer>,
    /// Whether its gradient is a list of the rows that were looked up; then it is a table that only lookups read.
    pub(super) sparse: bool,
}

impl ArraySpec {
    pub(super) fn new(name: &str, shape: &[usize], initializer: &Initializer) -> Self {
        ArraySpec {
            name: name.to_string(),
            shape: shape.to_vec(),
            initializer: initializer.clone(),
            regularizer: None,
            sparse: false,
        }
    }

    /// The same array as part of a layer inside the layer: "forward/kernel".
    pub(super) fn inside(mut self, layer: &str) -> Self {
        self.name = format!("{layer}/{}", self.name);
        self
    }
}

/// What a layer's options say of one of its arrays: "kernel_initializer" and "kernel_regularizer".
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ArrayOptions {
    name: &'static str,
    initializer: Initializer,
    regularizer: Option<Regularizer>,
}

impl ArrayOptions {
    /// `names` are those of the array and of its two options.
    pub(super) fn read(
        options: &mut Options<'_>,
        names: [&'static str; 3],
        default: Initializer,
    ) -> Result<Self, SpecError> {
        let [name, initializer, regularizer] = names;
        Ok(ArrayOptions {
            name,
            initializer: Initializer::read(options, initializer, default)?,
            regularizer: Regularizer::read(options, regularizer)?,
        })
    }

    /// Most layers' kernel.
    pub(super) fn kernel(options: &mut Options<'_>) -> Result<Self, SpecError> {
        let names = ["kernel", "kernel_initializer", "kernel_regularizer"];
        Self::read(options, names, Initializer::GLOROT_UNIFORM)
    }

    /// Most layers' bias.
    pub(super) fn bias(options: &mut Options<'_>) -> Result<Self, SpecError> {
        let names = ["bias", "bias_initializer", "bias_regularizer"];
        Self::read(options, names, Initializer::ZEROS)
    }

    /// The array with its shape.
    pub(super) fn array(&self, shape: &[usize]) -> ArraySpec {
        ArraySpec {
            regularizer: self.regularizer,
            ..ArraySpec::new(self.name, shape, &self.initializer)
        }
    }
}

/// A layer with its options read.
pub(super) trait Layer: Debug + Send + Sync {
    /// What it makes of its inputs, or why it cannot take them. `name` is for the message.
    fn output(&self, name: &str, inputs: &[Signal]) -> Result<Signal, SpecError>;

    /// What it answers beside its output: others take these as "name:1", "name:2". `output` took the inputs before.
    fn further_outputs(&self, _inputs: &[Signal]) -> Vec<Signal> {
        Vec::new()
    }

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

    /// Whether the mask of its first input goes with its output (Keras' `supports_masking`). A layer that makes or
    /// changes masks does so in `forward`.
    fn passes_mask(&self) -> bool {
        false
    }

    /// Records the layer's operations.
    fn forward(&self, context: &mut Context<'_>, inputs: &[NodeId]) -> Result<NodeId, GraphError>;
}

/// One array's place in the flat vector of parameters, or in that of statistics when it is not trained.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) offset: usize,
    pub(super) shape: Shape,
    pub(super) trainable: bool,
    pub(super) regularizer: Option<Regularizer>,
    pub(super) sparse: bool,
}

impl Place {
    /// The leaf that stands for the array.
    pub(super) fn leaf(&self, graph: &mut Graph) -> Result<NodeId, GraphError> {
        let op = if self.trainable {
            Op::Parameter(self.offset, self.shape.clone())
        } else {
            Op::Statistic(self.offset, self.shape.clone())
        };
        graph.add(op, &[])
    }
}

/// What a whole model collects while its layers record.
#[derive(Debug, Default)]
pub(super) struct Collected {
    /// New values of statistics, by offset in the flat vector.
    pub(super) statistics: Vec<(NodeId, usize)>,
    /// Penalties on rows, (rows, 1) each: part of the loss of every row.
    pub(super) row_penalties: Vec<NodeId>,
    /// Rows of the model, of which a wrapper may give the layer inside several at once.
    pub(super) rows: usize,
}

/// What a layer records into.
#[derive(Debug)]
pub(super) struct Context<'a> {
    pub(super) graph: &'a mut Graph,
    pub(super) rows: usize,
    pub(super) training: bool,
    pub(super) parameters: &'a [Place],
    pub(super) statistics: &'a [Place],
    pub(super) collected: &'a mut Collected,
    /// Masks of the inputs: (rows, steps) of 0 and 1, where an input has one.
    pub(super) masks: &'a [Option<NodeId>],
    /// The mask of the output.
    pub(super) mask: Option<NodeId>,
    /// The values of `Layer::further_outputs`.
    pub(super) further: Vec<NodeId>,
    /// Their masks, as far as there are any.
    pub(super) further_masks: Vec<Option<NodeId>>,
    streams: u32,
}

impl<'a> Context<'a> {
    /// `position` is the layer's position in the model: what its random numbers are keyed by.
    pub(super) fn new(
        graph: &'a mut Graph,
        rows: usize,
        training: bool,
        position: u32,
        parameters: &'a [Place],
        statistics: &'a [Place],
        masks: &'a [Option<NodeId>],
        collected: &'a mut Collected,
    ) -> Self {
        Context {
            graph,
            rows,
            training,
            parameters,
            statistics,
            collected,
            masks,
            mask: None,
            further: Vec::new(),
            further_masks: Vec::new(),
            streams: position,
        }
    }

    /// The `index`-th array of `Layer::parameters`.
    pub(super) fn parameter(&mut self, index: usize) -> Result<NodeId, GraphError> {
        self.parameters[index].leaf(self.graph)
    }

    /// The `index`-th array of `Layer::statistics`.
    pub(super) fn statistic(&mut self, index: usize) -> Result<NodeId, GraphError> {
        self.statistics[index].leaf(self.graph)
    }

    /// Says what the `index`-th statistic becomes after this step.
    pub(super) fn update_statistic(&mut self, index: usize, value: NodeId) {
        self.collected
            .statistics
            .push((value, self.statistics[index].offset));
    }

    /// Adds a penalty on each of the model's rows, (rows, ...) summed over all but rows, to the loss. That of a frozen layer
    /// counts too, as in Keras: it pushes on the layers before.
    pub(super) fn add_row_penalty(&mut self, penalty: NodeId) -> Result<(), GraphError> {
        let rows = self.collected.rows;
        let width = self.graph.shape(penalty).len() / rows.max(1);
        let by_row = self.graph.reshape(penalty, &[rows, width])?;
        let sum = self.graph.sum_columns(by_row)?;
        self.collected.row_penalties.push(sum);
        Ok(())
    }

    /// The same of what a regulariser says of an output, and of the further ones.
    pub(super) fn penalize(
        &mut self,
        regularizer: Option<Regularizer>,
        output: NodeId,
        further: &[NodeId],
    ) -> Result<(), GraphError> {
        let Some(regularizer) = regularizer else {
            return Ok(());
        };
        for output in std::iter::once(output).chain(further.iter().copied()) {
            let sizes = regularizer.record_each(self.graph, output)?;
            self.add_row_penalty(sizes)?;
        }
        Ok(())
    }

    /// A stream of random numbers that no other layer and no other call has.
    pub(super) fn stream(&mut self) -> u32 {
        let stream = self.streams;
        self.streams = self.streams.wrapping_add(1 << STREAM_BITS);
        stream
    }

    /// The mask of the first input.
    pub(super) fn input_mask(&self) -> Option<NodeId> {
        self.masks.first().copied().flatten()
    }

    /// Records a layer inside this one, over ranges of this one's arrays; returns its output, its mask and its further
    /// outputs.
    pub(super) fn inner(
        &mut self,
        layer: &dyn Layer,
        parameters: Range<usize>,
        statistics: Range<usize>,
        masks: &[Option<NodeId>],
        inputs: &[NodeId],
    ) -> Result<Inner, GraphError> {
        let mut context = Context {
            graph: &mut *self.graph,
            rows: self.rows,
            training: self.training,
            parameters: &self.parameters[parameters],
            statistics: &self.statistics[statistics],
            collected: &mut *self.collected,
            masks,
            mask: None,
            further: Vec::new(),
            further_masks: Vec::new(),
            streams: self.streams,
        };
        if layer.passes_mask() {
            context.mask = context.input_mask();
        }
        let output = layer.forward(&mut context, inputs)?;
        let (mask, further, streams) = (context.mask, context.further, context.streams);
        self.streams = streams;
        Ok(Inner {
            output,
            mask,
            further,
        })
    }
}

/// What a layer inside a layer recorded.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) output: NodeId,
    pub(super) mask: Option<NodeId>,
    pub(super) further: Vec<NodeId>,
}

/// Layer positions stay below 2^20; the bits above count a layer's own streams.
const STREAM_BITS: u32 = 20;

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
