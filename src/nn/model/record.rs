//! A model as part of a graph: its layers recorded one after the other.

use crate::autograd::{Graph, GraphError, NodeId, Op};
use crate::tensor::Shape;

use super::super::error::SpecError;
use super::super::layer::{Collected, Context, bad_input};
use super::{BuiltLayer, InputType, Model, Source};

/// Most operations of a model's answer: two LSTM of 4,096 steps that are recorded step after step are fewer (26 a step). The
/// plan of a step of training takes about four kilobytes for each of these.
const OPERATIONS_MAX: usize = 1 << 18;

/// What a model recorded.
#[derive(Debug)]
pub(in super::super) struct Recorded {
    pub(in super::super) outputs: Vec<NodeId>,
    /// For each output which of its steps count, where it is a sequence that was masked: (rows, steps).
    pub(in super::super) masks: Vec<Option<NodeId>>,
    pub(in super::super) collected: Collected,
    /// The sum of the penalties on weights, where there are any.
    pub(in super::super) weight_penalty: Option<NodeId>,
    /// Every layer's output, in the order of `Model::layer_names`.
    pub(in super::super) layers: Vec<NodeId>,
}

/// Values of the layers recorded so far.
struct Recording<'a> {
    graph: &'a mut Graph,
    rows: usize,
    training: bool,
    collected: Collected,
    weight_penalty: Option<NodeId>,
    values: Vec<Vec<NodeId>>,
    masks: Vec<Vec<Option<NodeId>>>,
}

impl Model {
    /// Records the model for so many rows.
    pub(in super::super) fn record(
        &self,
        graph: &mut Graph,
        rows: usize,
        training: bool,
    ) -> Result<Recorded, GraphError> {
        let mut recording = Recording::new(graph, rows, training);
        for layer in &self.layers {
            recording.layer(self, layer)?;
        }
        Ok(recording.finish(self))
    }

    /// Finds which outputs are masked, which follows from the layers alone. Refuses a model that is too long a program, with
    /// the layer that makes it so: as a step of training has it, where dropout may take a layer's steps apart.
    pub(super) fn find_masks(&mut self) -> Result<(), SpecError> {
        let mut graph = Graph::new();
        let mut recording = Recording::new(&mut graph, 1, true);
        for layer in &self.layers {
            recording
                .layer(self, layer)
                .map_err(|error| refused(layer, error))?;
            if recording.graph.len() > OPERATIONS_MAX {
                let limit = OPERATIONS_MAX;
                return Err(refused(layer, GraphError::TooManyOperations { limit }));
            }
        }
        let masks = recording.finish(self).masks;
        for (output, mask) in self.outputs.iter_mut().zip(masks) {
            output.mask_width = mask.map_or(0, |mask| graph.shape(mask).len());
        }
        Ok(())
    }
}

fn refused(layer: &BuiltLayer, error: GraphError) -> SpecError {
    match error {
        GraphError::TooManyOperations { limit } => bad_input(
            &layer.name,
            format!("with it the model has more than {limit} operations"),
            "give recurrent layers fewer steps, or options with which they run all steps at once (no recurrent_dropout, \
             activations as they are by default); or leave out layers",
        ),
        other => bad_input(
            &layer.name,
            format!("its operations do not go together: {other}"),
            "change its options or its inputs",
        ),
    }
}

impl<'a> Recording<'a> {
    fn new(graph: &'a mut Graph, rows: usize, training: bool) -> Self {
        Recording {
            graph,
            rows,
            training,
            collected: Collected {
                rows,
                ..Collected::default()
            },
            weight_penalty: None,
            values: Vec::new(),
            masks: Vec::new(),
        }
    }

    /// A layer's inputs and their masks.
    fn inputs_of(
        &mut self,
        model: &Model,
        layer: &BuiltLayer,
    ) -> Result<(Vec<NodeId>, Vec<Option<NodeId>>), GraphError> {
        Ok(match &layer.source {
            Source::Features(input) => {
                let flat = Shape::new(&[self.rows, model.inputs[*input].width]);
                let op = match model.inputs[*input].dtype {
                    InputType::Float32 => Op::Input(*input, flat),
                    InputType::Int32 => {
                        let extents = [&[self.rows], layer.outputs[0].extents.as_slice()].concat();
                        Op::Indices(*input, Shape::new(&extents))
                    }
                };
                (vec![self.graph.add(op, &[])?], vec![None])
            }
            Source::Layers(sources) => (
                sources
                    .iter()
                    .map(|source| self.values[source.layer][source.number])
                    .collect(),
                sources
                    .iter()
                    .map(|source| {
                        let of_layer = &self.masks[source.layer];
                        of_layer.get(source.number).copied().flatten()
                    })
                    .collect(),
            ),
        })
    }

    fn layer(&mut self, model: &Model, layer: &BuiltLayer) -> Result<(), GraphError> {
        let (inputs, input_masks) = self.inputs_of(model, layer)?;
        let described = &layer.described;
        // A frozen layer behaves as in prediction where it follows the data, as Keras' batch normalization does.
        let training = self.training && described.trainable;
        let mut context = Context::new(
            self.graph,
            self.rows,
            training,
            layer.position,
            &layer.parameter_places,
            &layer.statistic_places,
            &input_masks,
            &mut self.collected,
        );
        if described.layer.passes_mask() {
            context.mask = context.input_mask();
        }
        let output = described.layer.forward(&mut context, &inputs)?;
        let (mask, further) = (context.mask, std::mem::take(&mut context.further));
        context.penalize(described.activity_regularizer, output, &further)?;
        let further_masks = std::mem::take(&mut context.further_masks);
        if described.trainable && !layer.shares {
            for place in &layer.parameter_places {
                let Some(regularizer) = place.regularizer else {
                    continue;
                };
                let leaf = place.leaf(self.graph)?;
                let penalty = regularizer.record(self.graph, leaf)?;
                self.weight_penalty = Some(match self.weight_penalty {
                    Some(before) => self.graph.plus(before, penalty)?,
                    None => penalty,
                });
            }
        }
        self.values.push([vec![output], further].concat());
        self.masks.push([vec![mask], further_masks].concat());
        Ok(())
    }

    fn finish(self, model: &Model) -> Recorded {
        let places = || model.outputs.iter().map(|output| output.place);
        Recorded {
            outputs: places()
                .map(|place| self.values[place.layer][place.number])
                .collect(),
            masks: places()
                .map(|place| {
                    let of_layer = &self.masks[place.layer];
                    of_layer.get(place.number).copied().flatten()
                })
                .collect(),
            collected: self.collected,
            weight_penalty: self.weight_penalty,
            layers: self.values.iter().map(|outputs| outputs[0]).collect(),
        }
    }
}
