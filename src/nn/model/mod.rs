//! A built model: a description joined to features, with every shape, name and place settled.
//!
//! Knows nothing of rows, plans or numbers beyond the first ones.

mod arrays;
mod input;
mod record;
mod summary;

use std::collections::HashMap;

use super::error::SpecError;
use super::layer::{ArraySpec, Place, Signal, bad_input};
use super::layers::{self, Described, activation::Activation};
use super::spec::{LayerSpec, ModelSpec, split_output};
use arrays::{Arrays, check_size};
use input::{by_name, join_input};

pub(super) use record::Recorded;

/// Most parameters (and most numbers of one row between layers): 4 GiB of float32.
pub const NUMBERS_MAX: u64 = 1 << 30;

/// What a feature column holds once the feature pipeline has run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeatureKind {
    Float,
    Integer,
}

/// One feature column after the feature pipeline; `width` numbers per row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeatureColumn {
    pub name: String,
    pub width: usize,
    pub kind: FeatureKind,
}

/// The type of an input's matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputType {
    Float32,
    Int32,
}

/// One input of the model: a (rows, width) row-major matrix of its columns side by side.
///
/// An `Integer` feature in a `Float32` input is to be converted by whoever makes the matrix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelInput {
    pub name: String,
    pub columns: Vec<String>,
    pub dtype: InputType,
    pub width: usize,
}

/// One named array inside the flat vector of parameters (or of statistics).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterInfo {
    /// Layer and array, as "dense/kernel".
    pub name: String,
    pub shape: Vec<usize>,
    /// Position of its first number in the flat vector.
    pub offset: usize,
}

impl ParameterInfo {
    /// How many numbers it holds.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A table whose gradient is a list of rows (`Embedding` with `sparse`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SparseTable {
    /// Which of `Model::parameters` it is.
    pub array: usize,
    /// Position of its first number in the flat vector.
    pub offset: usize,
    pub rows: usize,
    /// Numbers of a row.
    pub width: usize,
}

/// A model joined to its features.
#[derive(Debug)]
pub struct Model {
    name: String,
    /// In an order in which each layer comes after those it takes from.
    layers: Vec<BuiltLayer>,
    inputs: Vec<ModelInput>,
    parameters: Arrays,
    /// Arrays without a gradient: those that follow the data, and those of frozen layers.
    statistics: Arrays,
    outputs: Vec<ModelOutput>,
}

/// One of the model's answers.
#[derive(Debug)]
struct ModelOutput {
    name: String,
    place: Output,
    /// Steps of a row that its mask tells of; 0 where it is not masked.
    mask_width: usize,
}

/// One of a layer's outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Output {
    layer: usize,
    number: usize,
}

#[derive(Debug)]
struct BuiltLayer {
    name: String,
    kind: String,
    described: Described,
    source: Source,
    outputs: Vec<Signal>,
    /// Position in the description: what random numbers are keyed by.
    position: u32,
    /// How many numbers its own arrays hold; none for a layer that shares another's.
    held: usize,
    parameter_places: Vec<Place>,
    statistic_places: Vec<Place>,
    shares: bool,
}

#[derive(Debug)]
enum Source {
    /// The model's input of this number.
    Features(usize),
    /// Outputs of layers before.
    Layers(Vec<Output>),
}

impl Model {
    /// Joins a description to the features it will be given.
    pub fn build(spec: &ModelSpec, features: &[FeatureColumn]) -> Result<Model, SpecError> {
        let order = spec.layers_in_order()?;
        let mut model = Model {
            name: spec.name.clone(),
            layers: Vec::with_capacity(order.len()),
            inputs: Vec::new(),
            parameters: Arrays::default(),
            statistics: Arrays::default(),
            outputs: Vec::with_capacity(spec.outputs.len()),
        };
        let features_by_name = by_name(features);
        let mut built_as = HashMap::new();
        for position in order {
            let layer_spec = &spec.layers[position];
            let mut described =
                layers::read(&layer_spec.name, &layer_spec.layer, &layer_spec.config)?;
            let (source, signals) = if layer_spec.layer == "Input" {
                let (layer, input) =
                    join_input(layer_spec, features, &features_by_name, &model.inputs)?;
                let signal = Signal {
                    extents: vec![input.width],
                    dtype: input.dtype,
                };
                model.inputs.push(input);
                described.layer = Box::new(layer);
                (Source::Features(model.inputs.len() - 1), vec![signal])
            } else {
                let sources = layer_spec
                    .inputs
                    .iter()
                    .map(|input| model.find(&built_as, &layer_spec.name, input))
                    .collect::<Result<Vec<_>, _>>()?;
                let signals = sources
                    .iter()
                    .map(|source| model.signal(*source).clone())
                    .collect();
                (Source::Layers(sources), signals)
            };
            let shared = match &layer_spec.shares {
                Some(other) => Some(model.find(&built_as, &layer_spec.name, other)?.layer),
                None => None,
            };
            model.add_layer(layer_spec, position, described, source, &signals, shared)?;
            built_as.insert(layer_spec.name.as_str(), model.layers.len() - 1);
        }
        for output in &spec.outputs {
            let place = model.find(&built_as, "outputs", output)?;
            if model.signal(place).dtype != InputType::Float32 {
                return Err(bad_input(
                    output,
                    "it is an output and makes int32".to_string(),
                    "end the model with a float layer",
                ));
            }
            if model.outputs.iter().any(|other| other.place == place) {
                return Err(bad_input(
                    output,
                    "it is named twice in outputs".to_string(),
                    "name each output once",
                ));
            }
            model.outputs.push(ModelOutput {
                name: output.clone(),
                place,
                mask_width: 0,
            });
        }
        refuse_loose_ends(spec)?;
        model.find_masks()?;
        model.settle_tables();
        Ok(model)
    }

    /// Puts the tables with sparse gradients before all other parameters.
    fn settle_tables(&mut self) {
        self.parameters.settle();
        let places = self
            .layers
            .iter_mut()
            .flat_map(|layer| &mut layer.parameter_places);
        for place in places.filter(|place| place.trainable && !place.sparse) {
            place.offset += self.parameters.tables_len;
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn inputs(&self) -> &[ModelInput] {
        &self.inputs
    }

    pub fn parameters(&self) -> &[ParameterInfo] {
        &self.parameters.infos
    }

    pub fn parameter_len(&self) -> usize {
        self.parameters.len
    }

    /// Tables whose gradients are lists of rows. They stand first in the flat vector of parameters, in this order.
    pub fn sparse_tables(&self) -> &[SparseTable] {
        &self.parameters.tables
    }

    /// Where the sparse tables end in the flat vector: all behind has a dense gradient.
    pub fn sparse_len(&self) -> usize {
        self.parameters.tables_len
    }

    /// Arrays without a gradient, in a flat vector of their own: those that follow the data (batch normalization's
    /// moving averages) and those of frozen layers.
    pub fn statistics(&self) -> &[ParameterInfo] {
        &self.statistics.infos
    }

    pub fn statistics_len(&self) -> usize {
        self.statistics.len
    }

    /// First parameters: a function of the seed and of each parameter's position, nothing else.
    pub fn initial_parameters(&self, seed: u64) -> Vec<f32> {
        self.parameters.initial(seed)
    }

    pub fn initial_statistics(&self) -> Vec<f32> {
        self.statistics.initial(0)
    }

    pub fn output_count(&self) -> usize {
        self.outputs.len()
    }

    /// What the description calls an output.
    pub fn output_name(&self, output: usize) -> &str {
        &self.outputs[output].name
    }

    /// Numbers per row of the model's answer: those of all outputs side by side.
    pub fn output_width(&self) -> usize {
        let outputs = 0..self.outputs.len();
        outputs.map(|output| self.width_of_output(output)).sum()
    }

    /// Numbers per row of one output.
    pub fn width_of_output(&self, output: usize) -> usize {
        self.signal(self.outputs[output].place).width()
    }

    /// The extents of one row of an output.
    pub fn output_extents(&self, output: usize) -> &[usize] {
        &self.signal(self.outputs[output].place).extents
    }

    /// Steps of a row of an output that its mask tells of; 0 where it is not masked.
    pub fn mask_width(&self, output: usize) -> usize {
        self.outputs[output].mask_width
    }

    /// Names of the layers, each after those it takes from.
    pub(super) fn layer_names(&self) -> impl Iterator<Item = &str> {
        self.layers.iter().map(|layer| layer.name.as_str())
    }

    /// The layer that answers an output and the function its answer comes out of, if any.
    pub(super) fn last_activation(&self, output: usize) -> (&str, Option<Activation>) {
        let last = &self.layers[self.outputs[output].place.layer];
        (&last.name, last.described.layer.activation())
    }

    fn signal(&self, output: Output) -> &Signal {
        &self.layers[output.layer].outputs[output.number]
    }

    /// The output that a layer names as its input.
    fn find(
        &self,
        built_as: &HashMap<&str, usize>,
        layer: &str,
        input: &str,
    ) -> Result<Output, SpecError> {
        let (name, number) = match built_as.get(input) {
            Some(_) => (input, 0),
            None => split_output(input),
        };
        let found = built_as.get(name).copied();
        let outputs = found.map_or(0, |source| self.layers[source].outputs.len());
        match found {
            Some(source) if number < outputs => Ok(Output {
                layer: source,
                number,
            }),
            _ => Err(bad_input(
                layer,
                format!("it takes output {number} of layer {name:?}, which has {outputs}"),
                "outputs are numbered from 0",
            )),
        }
    }

    fn add_layer(
        &mut self,
        spec: &LayerSpec,
        position: usize,
        described: Described,
        source: Source,
        signals: &[Signal],
        shared: Option<usize>,
    ) -> Result<(), SpecError> {
        let mut outputs = vec![described.layer.output(&spec.name, signals)?];
        outputs.extend(described.layer.further_outputs(signals));
        for output in &outputs {
            check_size(&spec.name, "one row of its output", &output.extents, 0)?;
        }
        let trainable = described.trainable;
        let (parameters, statistics) = (
            described.layer.parameters(signals),
            described.layer.statistics(signals),
        );
        let before = self.parameters.len + self.statistics.len;
        let (parameter_places, statistic_places) = match shared {
            Some(other) => {
                let other = &self.layers[other];
                let alike = |specs: &[ArraySpec], places: &[Place]| {
                    specs.len() == places.len()
                        && specs.iter().zip(places).all(|(spec, place)| {
                            spec.shape == place.shape.extents()
                                && (spec.sparse == place.sparse || !place.trainable)
                        })
                };
                if other.kind != spec.layer
                    || !alike(&parameters, &other.parameter_places)
                    || !alike(&statistics, &other.statistic_places)
                {
                    let problem = format!(
                        "it shares the arrays of {:?}, whose kind or shapes differ",
                        other.name
                    );
                    return Err(bad_input(
                        &spec.name,
                        problem,
                        "share between layers of one kind with equal options over inputs of equal shape",
                    ));
                }
                (
                    other.parameter_places.clone(),
                    other.statistic_places.clone(),
                )
            }
            None => {
                let arrays = if trainable {
                    &mut self.parameters
                } else {
                    &mut self.statistics
                };
                (
                    arrays.place(&spec.name, parameters, trainable)?,
                    self.statistics.place(&spec.name, statistics, false)?,
                )
            }
        };
        self.layers.push(BuiltLayer {
            name: spec.name.clone(),
            kind: spec.layer.clone(),
            described,
            source,
            outputs,
            position: u32::try_from(position).unwrap_or(u32::MAX),
            held: self.parameters.len + self.statistics.len - before,
            parameter_places,
            statistic_places,
            shares: shared.is_some(),
        });
        Ok(())
    }
}

/// A layer that leads to no output would hold parameters that never learn.
fn refuse_loose_ends(spec: &ModelSpec) -> Result<(), SpecError> {
    let by_name: HashMap<&str, &LayerSpec> = spec
        .layers
        .iter()
        .map(|layer| (layer.name.as_str(), layer))
        .collect();
    let mut reached = std::collections::HashSet::new();
    let mut waiting: Vec<&str> = spec
        .outputs
        .iter()
        .map(|output| {
            if by_name.contains_key(output.as_str()) {
                output
            } else {
                split_output(output).0
            }
        })
        .collect();
    while let Some(name) = waiting.pop() {
        if reached.insert(name)
            && let Some(layer) = by_name.get(name)
        {
            waiting.extend(layer.inputs.iter().chain(&layer.shares).map(|input| {
                if by_name.contains_key(input.as_str()) {
                    input
                } else {
                    split_output(input).0
                }
            }));
        }
    }
    match spec
        .layers
        .iter()
        .find(|layer| !reached.contains(layer.name.as_str()))
    {
        Some(loose) => Err(bad_input(
            &loose.name,
            "no output depends on it".to_string(),
            "remove it or connect it",
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
