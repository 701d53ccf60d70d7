//! ModelSpec: the serialised description of a model, shared with the Python client.
//!
//! Knows the form of the description and how layers are joined; what a layer's options mean is the layer's business.
//! The form is a promise: `format_version` 1 stays readable.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::error::SpecError;
use super::layers;

/// The form this program writes and reads.
pub const FORMAT_VERSION: u64 = 1;
/// Most layers of one model; a description beyond that is refused before anything is built.
pub const LAYERS_MAX: usize = 10_000;
/// Longest name of a model, layer or column, in bytes.
pub const NAME_BYTES_MAX: usize = 256;

/// A model as described by a client: layers by name, not yet joined to features.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSpec {
    pub format_version: u64,
    pub name: String,
    pub layers: Vec<LayerSpec>,
    /// Names of the layers whose values are the model's answer.
    pub outputs: Vec<String>,
}

/// One layer: its name, its Keras class, its options, and the layers it takes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerSpec {
    pub name: String,
    pub layer: String,
    #[serde(default)]
    pub config: Map<String, Value>,
    /// Layers it takes from; "name:1" is the second output of a layer that has several.
    #[serde(default)]
    pub inputs: Vec<String>,
    /// The layer whose arrays this one uses too: the same layer applied a second time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shares: Option<String>,
}

impl ModelSpec {
    /// Reads and checks a description: names, connections and every layer's options.
    pub fn from_json(json: &Value) -> Result<Self, SpecError> {
        let listed = json
            .get("layers")
            .and_then(Value::as_array)
            .map_or(0, Vec::len);
        if listed > LAYERS_MAX {
            return Err(malformed(
                format!("it has {listed} layers"),
                format!("at most {LAYERS_MAX} are allowed"),
            ));
        }
        match json.get("format_version").and_then(Value::as_u64) {
            Some(FORMAT_VERSION) => {}
            other => {
                let found = other.map_or_else(
                    || "no format_version".to_string(),
                    |version| format!("format_version {version}"),
                );
                return Err(malformed(
                    format!("it has {found}"),
                    format!("this server reads version {FORMAT_VERSION}"),
                ));
            }
        }
        let spec = Self::read(json)?;
        spec.layers_in_order()?;
        for layer in &spec.layers {
            layers::read(&layer.name, &layer.layer, &layer.config)?;
        }
        Ok(spec)
    }

    /// The description's form alone, each part by itself, so that a fault is named with its place.
    fn read(json: &Value) -> Result<Self, SpecError> {
        fn part<'a, T: Deserialize<'a>>(value: &'a Value, place: &str) -> Result<T, SpecError> {
            T::deserialize(value).map_err(|error| {
                let error = shown(&error.to_string());
                malformed(format!("{place}: {error}"), "correct it there".to_string())
            })
        }
        const FIELDS: [&str; 4] = ["format_version", "name", "layers", "outputs"];
        let field = |name: &str| {
            let hint = || format!("write {}", FIELDS.join(", "));
            let value = json.get(name);
            value.ok_or_else(|| malformed(format!("it has no {name:?}"), hint()))
        };
        let keys = json.as_object().into_iter().flat_map(Map::keys);
        if let Some(unknown) = keys.into_iter().find(|key| !FIELDS.contains(&key.as_str())) {
            let problem = format!("it has the unknown field {:?}", shown(unknown));
            return Err(malformed(
                problem,
                format!("known are {}", FIELDS.join(", ")),
            ));
        }
        let layers: Vec<&Value> = match field("layers")? {
            Value::Array(layers) => layers.iter().collect(),
            other => {
                let problem = format!("\"layers\" is {}", shown(&other.to_string()));
                return Err(malformed(problem, "give a list of layers".to_string()));
            }
        };
        let layer = |(position, layer): (usize, &&'_ Value)| {
            let name = layer.get("name").and_then(Value::as_str);
            let place = match name {
                Some(name) => format!("layer {:?}", shown(name)),
                None => format!("the layer at position {position} of \"layers\""),
            };
            part::<LayerSpec>(layer, &place)
        };
        Ok(ModelSpec {
            format_version: part(field("format_version")?, "\"format_version\"")?,
            name: part(field("name")?, "\"name\"")?,
            layers: layers
                .iter()
                .enumerate()
                .map(layer)
                .collect::<Result<_, _>>()?,
            outputs: part(field("outputs")?, "\"outputs\"")?,
        })
    }

    /// The same model with an activation after an output, so that a loss told `from_logits` leaves a model that answers
    /// probabilities. Refused where the output has that activation already, as its answers would be no logits.
    pub fn ending_in(
        mut self,
        output: usize,
        activation: &str,
        loss: &str,
    ) -> Result<Self, SpecError> {
        let number = output;
        let Some(output) = self.outputs.get(number) else {
            return Ok(self);
        };
        let last = self.layers.iter().find(|layer| layer.name == *output);
        let answers = last.and_then(|layer| layer.config.get("activation"));
        if answers.and_then(Value::as_str) == Some(activation) {
            return Err(SpecError::LossMismatch {
                loss: loss.to_string(),
                problem: format!(
                    "its last layer {output:?} answers probabilities and \"from_logits\" is true"
                ),
                hint: "leave out one of the two".to_string(),
            });
        }
        let mut name = "probabilities".to_string();
        while self.layers.iter().any(|layer| layer.name == name) {
            name.push('_');
        }
        self.layers.push(LayerSpec {
            name: name.clone(),
            layer: "Activation".to_string(),
            config: Map::from_iter([("activation".to_string(), Value::from(activation))]),
            inputs: vec![output.clone()],
            shares: None,
        });
        self.outputs[number] = name;
        Ok(self)
    }

    pub fn to_json(&self) -> Value {
        // Strings, numbers and maps with string keys: serialising cannot fail.
        serde_json::to_value(self).unwrap_or(Value::Null)
    }

    /// Positions of the layers such that each comes after those it takes from; otherwise in the order of the description.
    pub(super) fn layers_in_order(&self) -> Result<Vec<usize>, SpecError> {
        if self.layers.len() > LAYERS_MAX {
            return Err(malformed(
                format!("it has {} layers", self.layers.len()),
                format!("at most {LAYERS_MAX} are allowed"),
            ));
        }
        let mut position_of: BTreeMap<&str, usize> = BTreeMap::new();
        for (position, layer) in self.layers.iter().enumerate() {
            if layer.name.is_empty()
                || layer.name.len() > NAME_BYTES_MAX
                || layer.name.contains(['/', '\0'])
            {
                let shown: String = layer.name.chars().take(40).collect();
                return Err(malformed(
                    format!("{shown:?} is no layer name"),
                    format!("use 1 to {NAME_BYTES_MAX} bytes without \"/\""),
                ));
            }
            if position_of.insert(&layer.name, position).is_some() {
                return Err(SpecError::DuplicateName {
                    layer: layer.name.clone(),
                });
            }
        }
        let known = || shortened(self.layers.iter().map(|layer| layer.name.as_str()));
        let find = |layer: &str, input: &str| {
            position_of
                .get(input)
                .or_else(|| position_of.get(split_output(input).0))
                .copied()
                .ok_or_else(|| SpecError::UnknownInput {
                    layer: layer.to_string(),
                    input: shown(input),
                    known: known(),
                })
        };
        if self.outputs.is_empty() {
            return Err(malformed(
                "it has no outputs".to_string(),
                "name at least one layer in outputs".to_string(),
            ));
        }
        for output in &self.outputs {
            find("outputs", output)?;
        }
        let mut waiting = vec![0usize; self.layers.len()];
        let mut readers: Vec<Vec<usize>> = vec![Vec::new(); self.layers.len()];
        for (position, layer) in self.layers.iter().enumerate() {
            for input in layer.inputs.iter().chain(&layer.shares) {
                readers[find(&layer.name, input)?].push(position);
                waiting[position] += 1;
            }
        }
        let mut ready: BTreeSet<usize> = (0..waiting.len())
            .filter(|&position| waiting[position] == 0)
            .collect();
        let mut order = Vec::with_capacity(waiting.len());
        while let Some(position) = ready.pop_first() {
            order.push(position);
            for &reader in &readers[position] {
                waiting[reader] -= 1;
                if waiting[reader] == 0 {
                    ready.insert(reader);
                }
            }
        }
        if order.len() < waiting.len() {
            let stuck = (0..waiting.len()).filter(|&position| waiting[position] > 0);
            return Err(SpecError::Cycle {
                layers: shortened(stuck.map(|position| self.layers[position].name.as_str())),
            });
        }
        Ok(order)
    }
}

/// "lstm:1" as the layer's name and the number of its output; a name alone is output 0.
pub(super) fn split_output(input: &str) -> (&str, usize) {
    match input.rsplit_once(':') {
        Some((name, number)) => match number.parse() {
            Ok(number) => (name, number),
            Err(_) => (input, 0),
        },
        None => (input, 0),
    }
}

fn malformed(problem: String, hint: String) -> SpecError {
    SpecError::Malformed { problem, hint }
}

/// Text of a client's for a message: the beginning of it.
pub(super) fn shown(text: &str) -> String {
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_string(),
    }
}

/// Names for a message: the first ten, quoted.
pub(super) fn shortened<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut shown: Vec<String> = names.take(11).map(|name| format!("{name:?}")).collect();
    if shown.len() > 10 {
        shown[10] = "...".to_string();
    }
    if shown.is_empty() {
        "none".to_string()
    } else {
        shown.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_description_is_written_back_as_it_was_read() {
        let json = two_layers();
        let spec = ModelSpec::from_json(&json).unwrap();
        assert_eq!(spec.to_json(), json);
        assert_eq!(ModelSpec::from_json(&spec.to_json()).unwrap(), spec);
    }

    #[test]
    fn every_fault_is_named_with_its_layer_and_a_remedy() {
        check(
            "/format_version",
            json!(2),
            "the model description is malformed: it has format_version 2; this server reads version 1",
        );
        check(
            "/layers/1/layer",
            json!("Dens"),
            "layer \"dense\": unknown layer type \"Dens\"; known are Input, Dense",
        );
        check(
            "/layers/1/config/unit",
            json!(3),
            "layer \"dense\" (Dense): unknown option \"unit\"; known are units, activation",
        );
        check(
            "/layers/1/config/units",
            json!(-3),
            "layer \"dense\": option \"units\" cannot be -3; give a whole number from 1",
        );
        check(
            "/layers/1/config/units",
            json!(1e12),
            "layer \"dense\": option \"units\" cannot be",
        );
        check(
            "/layers/1/config/activation",
            json!("rely"),
            "layer \"dense\": option \"activation\" cannot be \"rely\"; known are",
        );
        check(
            "/layers/1/inputs/0",
            json!("feature"),
            "layer \"dense\" takes input from \"feature\", which is no layer; known are \"features\", \"dense\"",
        );
        check(
            "/layers/1/name",
            json!("features"),
            "two layers are named \"features\"; layer names must differ",
        );
        check(
            "/layers/1/inputs/0",
            json!("dense"),
            "the layers \"dense\" take input from each other in a circle",
        );
        check(
            "/outputs/0",
            json!("dense_9"),
            "layer \"outputs\" takes input from \"dense_9\"",
        );
        check(
            "/outputs",
            json!([]),
            "the model description is malformed: it has no outputs",
        );
        check(
            "/layers/1/extra",
            json!(1),
            "the model description is malformed: layer \"dense\": unknown field `extra`",
        );
        check(
            "/layers/1/inputs",
            json!("features"),
            "the model description is malformed: layer \"dense\": invalid type: string",
        );
        check(
            "/layers/1",
            json!(7),
            "the model description is malformed: the layer at position 1 of \"layers\": invalid type: integer `7`",
        );
        check(
            "/name",
            json!([]),
            "the model description is malformed: \"name\": invalid type: sequence",
        );
        check(
            "/layers",
            json!("none"),
            "the model description is malformed: \"layers\" is \"none\"; give a list of layers",
        );
        check(
            "/layer",
            json!([]),
            "the model description is malformed: it has the unknown field \"layer\"; known are format_version",
        );
        check(
            "/layers/0/config/dtype",
            json!("float64"),
            "layer \"features\": option \"dtype\" cannot be \"float64\"",
        );
    }

    #[test]
    fn a_million_layers_are_refused_at_once() {
        let layer = json!({"name": "a", "layer": "Input", "config": {}, "inputs": []});
        let json = json!({"format_version": 1, "name": "m", "layers": vec![layer; 1_000_000], "outputs": ["a"]});
        assert!(
            ModelSpec::from_json(&json)
                .unwrap_err()
                .to_string()
                .contains("1000000 layers")
        );
    }

    #[test]
    fn layers_are_ordered_by_their_connections() {
        let json = json!({"format_version": 1, "name": "m", "layers": [
            {"name": "top", "layer": "Concatenate", "config": {}, "inputs": ["left", "right"]},
            {"name": "right", "layer": "Input", "config": {"columns": ["b"]}, "inputs": []},
            {"name": "left", "layer": "Input", "config": {"columns": ["a"]}, "inputs": []},
        ], "outputs": ["top"]});
        assert_eq!(
            ModelSpec::from_json(&json)
                .unwrap()
                .layers_in_order()
                .unwrap(),
            [1, 2, 0]
        );
    }

    fn two_layers() -> Value {
        json!({"format_version": 1, "name": "census", "layers": [
            {"name": "features", "layer": "Input", "config": {"columns": null, "dtype": "float32"}, "inputs": []},
            {"name": "dense", "layer": "Dense", "config": {"units": 64, "activation": "relu"}, "inputs": ["features"]},
        ], "outputs": ["dense"]})
    }

    /// Sets one place of the description and expects the refusal to start so.
    fn check(pointer: &str, value: Value, expected: &str) {
        let mut json = two_layers();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        match json.pointer_mut(parent).unwrap() {
            Value::Object(map) => drop(map.insert(key.to_string(), value)),
            Value::Array(list) => list[key.parse::<usize>().unwrap()] = value,
            _ => unreachable!(),
        }
        let message = ModelSpec::from_json(&json).unwrap_err().to_string();
        assert!(message.starts_with(expected), "{pointer}: {message}");
    }
}
