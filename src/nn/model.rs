//! A built model: a description joined to features, with every shape, name and place settled.
//!
//! Knows nothing of rows, plans or numbers beyond the first ones.

use std::fmt::Write;
use std::ops::Range;

use crate::autograd::{Graph, GraphError, NodeId, Op};
use crate::tensor::Shape;

use super::error::SpecError;
use super::initialize::Initializer;
use super::layer::{ArraySpec, Context, Layer, Place, Signal, bad_input};
use super::layers::{self, activation::Activation, input::Input};
use super::options::Options;
use super::spec::{LayerSpec, ModelSpec, shortened};

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

/// A model joined to its features.
#[derive(Debug)]
pub struct Model {
    name: String,
    /// In an order in which each layer comes after those it takes from.
    layers: Vec<BuiltLayer>,
    inputs: Vec<ModelInput>,
    parameters: Vec<ParameterInfo>,
    statistics: Vec<ParameterInfo>,
    initializers: Vec<Initializer>,
    statistic_initializers: Vec<Initializer>,
    parameter_len: usize,
    statistics_len: usize,
    output: usize,
}

#[derive(Debug)]
struct BuiltLayer {
    name: String,
    kind: String,
    layer: Box<dyn Layer>,
    source: Source,
    output: Signal,
    /// Position in the description: what random numbers are keyed by.
    position: u32,
    parameters: Range<usize>,
    statistics: Range<usize>,
    parameter_places: Vec<Place>,
    statistic_places: Vec<Place>,
}

#[derive(Debug)]
enum Source {
    /// The model's input of this number.
    Features(usize),
    /// Layers by position in `Model::layers`.
    Layers(Vec<usize>),
}

impl Model {
    /// Joins a description to the features it will be given.
    pub fn build(spec: &ModelSpec, features: &[FeatureColumn]) -> Result<Model, SpecError> {
        let order = spec.layers_in_order()?;
        let mut model = Model {
            name: spec.name.clone(),
            layers: Vec::with_capacity(order.len()),
            inputs: Vec::new(),
            parameters: Vec::new(),
            statistics: Vec::new(),
            initializers: Vec::new(),
            statistic_initializers: Vec::new(),
            parameter_len: 0,
            statistics_len: 0,
            output: 0,
        };
        let mut built_as = std::collections::HashMap::new();
        for position in order {
            let layer_spec = &spec.layers[position];
            let (layer, source, signals): (Box<dyn Layer>, _, Vec<Signal>) =
                if layer_spec.layer == "Input" {
                    let (layer, input) = join_input(layer_spec, features)?;
                    let signal = Signal {
                        extents: vec![input.width],
                        dtype: input.dtype,
                    };
                    model.inputs.push(input);
                    (
                        Box::new(layer),
                        Source::Features(model.inputs.len() - 1),
                        vec![signal],
                    )
                } else {
                    let sources: Vec<usize> = layer_spec
                        .inputs
                        .iter()
                        .filter_map(|input| built_as.get(input.as_str()).copied())
                        .collect();
                    let signals = sources
                        .iter()
                        .map(|&source: &usize| model.layers[source].output.clone())
                        .collect();
                    (layers::read(layer_spec)?, Source::Layers(sources), signals)
                };
            model.add_layer(layer_spec, position, layer, source, &signals)?;
            built_as.insert(layer_spec.name.as_str(), model.layers.len() - 1);
        }
        let [output] = spec.outputs.as_slice() else {
            return Err(SpecError::Malformed {
                problem: format!("it has {} outputs", spec.outputs.len()),
                hint: "name exactly one; join several with a Concatenate".to_string(),
            });
        };
        model.output = built_as.get(output.as_str()).copied().unwrap_or(0);
        let last = &model.layers[model.output];
        if last.output.dtype != InputType::Float32 {
            return Err(bad_input(
                &last.name,
                "it is an output and makes int32".to_string(),
                "end the model with a float layer",
            ));
        }
        refuse_loose_ends(spec)?;
        Ok(model)
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn inputs(&self) -> &[ModelInput] {
        &self.inputs
    }

    pub fn parameters(&self) -> &[ParameterInfo] {
        &self.parameters
    }

    pub fn parameter_len(&self) -> usize {
        self.parameter_len
    }

    /// Arrays that follow the data (batch normalization's moving averages), in a flat vector of their own.
    pub fn statistics(&self) -> &[ParameterInfo] {
        &self.statistics
    }

    pub fn statistics_len(&self) -> usize {
        self.statistics_len
    }

    /// First parameters: a function of the seed and of each parameter's position, nothing else.
    pub fn initial_parameters(&self, seed: u64) -> Vec<f32> {
        filled(
            &self.parameters,
            &self.initializers,
            self.parameter_len,
            seed,
        )
    }

    pub fn initial_statistics(&self) -> Vec<f32> {
        filled(
            &self.statistics,
            &self.statistic_initializers,
            self.statistics_len,
            0,
        )
    }

    /// Numbers per row of the model's answer.
    pub fn output_width(&self) -> usize {
        self.layers[self.output].output.width()
    }

    /// The extents of one row of the answer.
    pub fn output_extents(&self) -> &[usize] {
        &self.layers[self.output].output.extents
    }

    /// The layer that answers and the function its answer comes out of, if any.
    pub(super) fn last_activation(&self) -> (&str, Option<Activation>) {
        let last = &self.layers[self.output];
        (&last.name, last.layer.activation())
    }

    /// A table of layers, shapes and parameter counts, as Keras prints it.
    pub fn summary(&self) -> String {
        let mut rows = vec![[
            "Layer (type)".to_string(),
            "Output shape".to_string(),
            "Parameters".to_string(),
            "Connected to".to_string(),
        ]];
        let count = |infos: &[ParameterInfo]| infos.iter().map(ParameterInfo::len).sum::<usize>();
        for layer in &self.layers {
            let extents: Vec<String> = layer.output.extents.iter().map(usize::to_string).collect();
            let sources = match &layer.source {
                Source::Features(input) => {
                    shortened(self.inputs[*input].columns.iter().map(String::as_str))
                }
                Source::Layers(sources) => shortened(
                    sources
                        .iter()
                        .map(|&source| self.layers[source].name.as_str()),
                ),
            };
            let held = count(&self.parameters[layer.parameters.clone()])
                + count(&self.statistics[layer.statistics.clone()]);
            rows.push([
                format!("{} ({})", layer.name, layer.kind),
                format!("(rows, {})", extents.join(", ")),
                held.to_string(),
                sources,
            ]);
        }
        let widths: Vec<usize> = (0..4)
            .map(|column| {
                rows.iter()
                    .map(|row| row[column].chars().count())
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        let mut text = format!("Model \"{}\"\n", self.name);
        for (position, [layer, shape, held, sources]) in rows.iter().enumerate() {
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "{layer:<0$}  {shape:<1$}  {held:>2$}  {sources}",
                widths[0], widths[1], widths[2]
            );
            if position == 0 {
                let _ = writeln!(text, "{}", "-".repeat(widths.iter().sum::<usize>() + 6));
            }
        }
        let _ = writeln!(
            text,
            "Parameters: {} trainable ({} bytes), {} that follow the data",
            self.parameter_len,
            self.parameter_len * size_of::<f32>(),
            self.statistics_len
        );
        text
    }

    /// Records the model for so many rows; returns the output and the new statistics by offset.
    pub(super) fn record(
        &self,
        graph: &mut Graph,
        rows: usize,
        training: bool,
    ) -> Result<(NodeId, Vec<(NodeId, usize)>), GraphError> {
        let mut new_statistics = Vec::new();
        let mut values: Vec<NodeId> = Vec::with_capacity(self.layers.len());
        for layer in &self.layers {
            let inputs = match &layer.source {
                Source::Features(input) => {
                    let shape = Shape::new(&[rows, self.inputs[*input].width]);
                    let op = match self.inputs[*input].dtype {
                        InputType::Float32 => Op::Input(*input, shape),
                        InputType::Int32 => Op::Indices(*input, shape),
                    };
                    vec![graph.add(op, &[])?]
                }
                Source::Layers(sources) => sources.iter().map(|&source| values[source]).collect(),
            };
            let mut context = Context {
                graph,
                rows,
                training,
                position: layer.position,
                parameters: &layer.parameter_places,
                statistics: &layer.statistic_places,
                new_statistics: &mut new_statistics,
            };
            values.push(layer.layer.forward(&mut context, &inputs)?);
        }
        Ok((values[self.output], new_statistics))
    }

    fn add_layer(
        &mut self,
        spec: &LayerSpec,
        position: usize,
        layer: Box<dyn Layer>,
        source: Source,
        signals: &[Signal],
    ) -> Result<(), SpecError> {
        let output = layer.output(&spec.name, signals)?;
        check_size(&spec.name, "one row of its output", &output.extents, 0)?;
        let (parameters, statistics) = (self.parameters.len(), self.statistics.len());
        let parameter_places = place(
            &spec.name,
            layer.parameters(signals),
            &mut self.parameters,
            &mut self.initializers,
            &mut self.parameter_len,
        )?;
        let statistic_places = place(
            &spec.name,
            layer.statistics(signals),
            &mut self.statistics,
            &mut self.statistic_initializers,
            &mut self.statistics_len,
        )?;
        self.layers.push(BuiltLayer {
            name: spec.name.clone(),
            kind: spec.layer.clone(),
            layer,
            source,
            output,
            position: u32::try_from(position).unwrap_or(u32::MAX),
            parameters: parameters..self.parameters.len(),
            statistics: statistics..self.statistics.len(),
            parameter_places,
            statistic_places,
        });
        Ok(())
    }
}

/// A layer that leads to no output would hold parameters that never learn.
fn refuse_loose_ends(spec: &ModelSpec) -> Result<(), SpecError> {
    let by_name: std::collections::HashMap<&str, &LayerSpec> = spec
        .layers
        .iter()
        .map(|layer| (layer.name.as_str(), layer))
        .collect();
    let mut reached = std::collections::HashSet::new();
    let mut waiting: Vec<&str> = spec.outputs.iter().map(String::as_str).collect();
    while let Some(name) = waiting.pop() {
        if reached.insert(name)
            && let Some(layer) = by_name.get(name)
        {
            waiting.extend(layer.inputs.iter().map(String::as_str));
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

fn join_input(
    spec: &LayerSpec,
    features: &[FeatureColumn],
) -> Result<(Input, ModelInput), SpecError> {
    let mut options = Options::new(&spec.name, &spec.layer, &spec.config);
    let layer = Input::read(&mut options)?;
    options.finish()?;
    if !spec.inputs.is_empty() {
        return Err(bad_input(
            &spec.name,
            "it takes from other layers".to_string(),
            "an Input has no inputs of its own",
        ));
    }
    let chosen: Vec<&FeatureColumn> = match &layer.columns {
        None => features.iter().collect(),
        Some(columns) => {
            let find = |column: &String| {
                features
                    .iter()
                    .find(|feature| feature.name == *column)
                    .ok_or_else(|| SpecError::UnknownColumn {
                        layer: spec.name.clone(),
                        column: column.chars().take(80).collect(),
                        known: shortened(features.iter().map(|feature| feature.name.as_str())),
                    })
            };
            columns.iter().map(find).collect::<Result<_, _>>()?
        }
    };
    if let (InputType::Int32, Some(float)) = (
        layer.dtype,
        chosen
            .iter()
            .find(|feature| feature.kind == FeatureKind::Float),
    ) {
        let problem = format!(
            "its dtype is int32 and column {:?} holds floats",
            float.name
        );
        return Err(bad_input(
            &spec.name,
            problem,
            "index the column in the pipeline or choose other columns",
        ));
    }
    let width = chosen
        .iter()
        .fold(0usize, |sum, feature| sum.saturating_add(feature.width));
    if width == 0 {
        return Err(bad_input(
            &spec.name,
            "its columns hold no numbers".to_string(),
            "give at least one feature column",
        ));
    }
    let columns = chosen.iter().map(|feature| feature.name.clone()).collect();
    let input = ModelInput {
        name: spec.name.clone(),
        columns,
        dtype: layer.dtype,
        width,
    };
    Ok((layer, input))
}

/// Gives arrays their names and places; refuses a vector beyond the bound before anything is allocated.
fn place(
    layer: &str,
    arrays: Vec<ArraySpec>,
    infos: &mut Vec<ParameterInfo>,
    initializers: &mut Vec<Initializer>,
    len: &mut usize,
) -> Result<Vec<Place>, SpecError> {
    let mut places = Vec::with_capacity(arrays.len());
    for array in arrays {
        let size = check_size(layer, array.name, &array.shape, *len)?;
        places.push(Place {
            offset: *len,
            shape: Shape::new(&array.shape),
        });
        infos.push(ParameterInfo {
            name: format!("{layer}/{}", array.name),
            shape: array.shape,
            offset: *len,
        });
        initializers.push(array.initializer);
        *len += size;
    }
    Ok(places)
}

/// The count of numbers, if `before` and they stay within the bound.
fn check_size(layer: &str, what: &str, shape: &[usize], before: usize) -> Result<usize, SpecError> {
    let size = shape
        .iter()
        .try_fold(1u64, |product, &extent| product.checked_mul(extent as u64));
    match size {
        Some(size) if size.saturating_add(before as u64) <= NUMBERS_MAX => Ok(size as usize),
        _ => Err(SpecError::TooLarge {
            layer: layer.to_string(),
            what: format!("{what} {shape:?}"),
            size: size.map_or_else(|| "more than 2^64".to_string(), |size| size.to_string()),
            limit: NUMBERS_MAX,
        }),
    }
}

fn filled(
    infos: &[ParameterInfo],
    initializers: &[Initializer],
    len: usize,
    seed: u64,
) -> Vec<f32> {
    let mut values = vec![0.0; len];
    for (position, (info, initializer)) in infos.iter().zip(initializers).enumerate() {
        let out = &mut values[info.offset..info.offset + info.len()];
        initializer.fill(
            &info.shape,
            seed,
            u32::try_from(position).unwrap_or(u32::MAX),
            out,
        );
    }
    values
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn parameters_lie_in_the_order_of_layers_with_keras_names_and_shapes() {
        let model = build(census()).unwrap();
        let found: Vec<(&str, &[usize], usize)> = model
            .parameters()
            .iter()
            .map(|info| (info.name.as_str(), info.shape.as_slice(), info.offset))
            .collect();
        assert_eq!(
            found,
            [
                ("embedding/embeddings", &[9, 4][..], 0),
                ("dense/kernel", &[7, 16], 36),
                ("dense/bias", &[16], 148),
                ("norm/gamma", &[16], 164),
                ("norm/beta", &[16], 180),
                ("out/kernel", &[16, 1], 196),
                ("out/bias", &[1], 212),
            ]
        );
        assert_eq!(
            (
                model.parameter_len(),
                model.statistics_len(),
                model.output_width()
            ),
            (213, 32, 1)
        );
        assert_eq!(model.inputs()[0].columns, ["age", "hours"]);
        assert_eq!(model.inputs()[0].width, 3);
        assert_eq!(model.inputs()[1].dtype, InputType::Int32);
        let summary = model.summary();
        assert!(
            summary.contains("dense (Dense)") && summary.contains("213 trainable"),
            "{summary}"
        );
        assert_eq!(model.initial_statistics()[..16], [0.0; 16]);
        assert_eq!(model.initial_statistics()[16..], [1.0; 16]);
        assert_eq!(model.initial_parameters(5), model.initial_parameters(5));
        assert_ne!(model.initial_parameters(5), model.initial_parameters(6));
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused_with_layer_and_remedy() {
        check(
            "/layers/0/config/columns",
            json!(["agee"]),
            "input \"numbers\": column \"agee\" is not a feature; features are \"age\"",
        );
        check(
            "/layers/1/config/columns",
            json!(["age"]),
            "layer \"indices\": its dtype is int32 and column \"age\" holds floats",
        );
        check(
            "/layers/1/config/dtype",
            json!("float32"),
            "layer \"embedding\": its input is float32; give the Input dtype int32",
        );
        check(
            "/layers/4/inputs/1",
            json!("embedding"),
            "layer \"joined\": its inputs have shapes [3] and [1, 4] per row",
        );
        check(
            "/layers/5/config/units",
            json!(1_000_000_000),
            "layer \"dense\": kernel [7, 1000000000] would hold 7000000000 numbers",
        );
        check(
            "/layers/2/config/input_dim",
            json!(2_000_000_000),
            "layer \"embedding\": embeddings [2000000000, 4] would hold 8000000000",
        );
        check(
            "/outputs",
            json!(["out", "dense"]),
            "the model description is malformed: it has 2 outputs",
        );
        check(
            "/outputs",
            json!(["dense"]),
            "layer \"norm\": no output depends on it; remove it or connect it",
        );
    }

    fn census() -> Value {
        json!({"format_version": 1, "name": "census", "layers": [
            {"name": "numbers", "layer": "Input", "config": {"columns": ["age", "hours"]}, "inputs": []},
            {"name": "indices", "layer": "Input", "config": {"columns": ["workclass"], "dtype": "int32"}, "inputs": []},
            {"name": "embedding", "layer": "Embedding", "config": {"input_dim": 9, "output_dim": 4}, "inputs": ["indices"]},
            {"name": "flat", "layer": "Flatten", "config": {}, "inputs": ["embedding"]},
            {"name": "joined", "layer": "Concatenate", "config": {}, "inputs": ["numbers", "flat"]},
            {"name": "dense", "layer": "Dense", "config": {"units": 16, "activation": "relu"}, "inputs": ["joined"]},
            {"name": "norm", "layer": "BatchNormalization", "config": {}, "inputs": ["dense"]},
            {"name": "out", "layer": "Dense", "config": {"units": 1, "activation": "sigmoid"}, "inputs": ["norm"]},
        ], "outputs": ["out"]})
    }

    fn build(json: Value) -> Result<Model, SpecError> {
        let feature = |name: &str, width, kind| FeatureColumn {
            name: name.to_string(),
            width,
            kind,
        };
        let features = [
            feature("age", 1, FeatureKind::Float),
            feature("hours", 2, FeatureKind::Float),
            feature("workclass", 1, FeatureKind::Integer),
        ];
        Model::build(&ModelSpec::from_json(&json)?, &features)
    }

    fn check(pointer: &str, value: Value, expected: &str) {
        let mut json = census();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        match json.pointer_mut(parent).unwrap() {
            Value::Object(map) => drop(map.insert(key.to_string(), value)),
            Value::Array(list) => list[key.parse::<usize>().unwrap()] = value,
            _ => unreachable!(),
        }
        let message = build(json).unwrap_err().to_string();
        assert!(message.starts_with(expected), "{pointer}: {message}");
    }
}
