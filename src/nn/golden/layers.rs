//! Every layer alone against Keras (`tests/golden/layers/`): answer, mask, statistics and all gradients; its description
//! built, written back and read again; its gradient by central differences.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::autograd::{
    Bindings, Destination, Graph, GraphError, NodeId, Op, Plan, check, gradients,
};
use crate::support::random::RandomKey;
use crate::tensor::Shape;

use super::super::layer::{ArraySpec, Collected, Context, Place, Signal};
use super::super::layers::{self, Described};
use super::super::{FeatureColumn, FeatureKind, InputData, InputType, Model, ModelSpec};
use super::{Arrays, all_close, all_close_beside, bytes_of, read_from};

/// One case of a group's JSON file; `cases.py` writes them.
#[derive(Debug, Deserialize)]
struct Case {
    name: String,
    layer: String,
    config: Map<String, Value>,
    inputs: Vec<Input>,
    masks: Option<Vec<bool>>,
    arrays: Vec<String>,
    statistics: Vec<String>,
    outputs: usize,
    answer: Vec<usize>,
    mask: bool,
    training: bool,
    differences: bool,
}

#[derive(Debug, Deserialize)]
struct Input {
    shape: Vec<usize>,
    integer: bool,
}

#[test]
fn core_layers_agree_with_keras() {
    check_group("core");
}

#[test]
fn merging_layers_agree_with_keras() {
    check_group("merging");
}

#[test]
fn shaping_layers_agree_with_keras() {
    check_group("shaping");
}

#[test]
fn activations_as_layers_agree_with_keras() {
    check_group("activation");
}

#[test]
fn noise_layers_in_prediction_agree_with_keras() {
    check_group("noise");
}

#[test]
fn normalizing_layers_agree_with_keras() {
    check_group("normalization");
}

#[test]
fn highway_and_maxout_agree_with_slow_loops() {
    check_group("gated");
}

#[test]
fn attention_layers_agree_with_keras() {
    check_group("attention");
}

#[test]
fn recurrent_layers_agree_with_keras() {
    check_group("recurrent");
}

#[test]
fn convolutional_recurrent_layers_agree_with_keras() {
    check_group("conv_recurrent");
}

#[test]
fn layers_that_apply_another_agree_with_keras() {
    check_group("wrappers");
}

#[test]
fn convolutions_agree_with_keras() {
    check_group("convolution");
}

#[test]
fn pooling_agrees_with_keras() {
    check_group("pooling");
}

#[test]
fn depthwise_separable_transposed_and_local_convolutions_agree_with_keras() {
    check_group("separable");
}

#[test]
fn functions_of_programs_agree_with_keras() {
    check_file("operations/operations");
}

fn check_group(group: &str) {
    check_file(&format!("layers/{group}"));
}

fn check_file(path: &str) {
    let arrays = read_from(&format!("{path}.safetensors"));
    let cases: Vec<Case> = serde_json::from_slice(&bytes_of(&format!("{path}.json"))).unwrap();
    assert!(!cases.is_empty());
    for case in &cases {
        check_description(case);
        check_numbers(case, &arrays);
    }
}

/// A model of the layer alone: its description comes back as it was, and it makes the shape that Keras makes.
fn check_description(case: &Case) {
    let name = |input: usize| format!("input_{input}");
    let mut layers: Vec<Value> = Vec::new();
    let mut features = Vec::new();
    for (number, input) in case.inputs.iter().enumerate() {
        let dtype = if input.integer { "int32" } else { "float32" };
        layers.push(json!({"name": name(number), "layer": "Input", "inputs": [],
            "config": {"columns": [name(number)], "dtype": dtype, "shape": input.shape[1..]}}));
        features.push(FeatureColumn {
            name: name(number),
            width: input.shape[1..].iter().product(),
            kind: if input.integer {
                FeatureKind::Integer
            } else {
                FeatureKind::Float
            },
        });
    }
    let inputs: Vec<String> = (0..case.inputs.len()).map(name).collect();
    layers.push(
        json!({"name": "layer", "layer": case.layer, "config": case.config, "inputs": inputs}),
    );
    let json =
        json!({"format_version": 1, "name": "golden", "layers": layers, "outputs": ["layer"]});
    let spec = ModelSpec::from_json(&json).unwrap_or_else(|error| panic!("{}: {error}", case.name));
    assert_eq!(spec.to_json(), json, "{}", case.name);
    let model =
        Model::build(&spec, &features).unwrap_or_else(|error| panic!("{}: {error}", case.name));
    assert_eq!(model.output_extents(0), &case.answer[1..], "{}", case.name);
}

/// A layer over leaves: inputs and arrays side by side in the flat vector, so that all have gradients.
struct Alone<'a> {
    case: &'a Case,
    described: Described,
    inputs: Vec<(Option<usize>, Shape)>,
    parameters: Vec<Place>,
    statistics: Vec<Place>,
    /// The flat vectors.
    numbers: Vec<f32>,
    following: Vec<f32>,
    integers: Vec<Vec<i32>>,
    masks: Vec<Option<Vec<f32>>>,
}

impl<'a> Alone<'a> {
    fn new(case: &'a Case, golden: &Arrays) -> Self {
        let described = layers::read("layer", &case.layer, &case.config).unwrap();
        let of = |key: &str| golden[&format!("{}/{key}", case.name)].clone();
        let (mut numbers, mut integers, mut inputs) = (Vec::new(), Vec::new(), Vec::new());
        for (number, input) in case.inputs.iter().enumerate() {
            let values = of(&format!("input_{number}"));
            let shape = Shape::new(&input.shape);
            if input.integer {
                integers.push(values.iter().map(|&value| value as i32).collect());
                inputs.push((None, shape));
            } else {
                inputs.push((Some(numbers.len()), shape));
                numbers.extend(values);
            }
        }
        let signals: Vec<Signal> = case
            .inputs
            .iter()
            .map(|input| Signal {
                extents: input.shape[1..].to_vec(),
                dtype: if input.integer {
                    InputType::Int32
                } else {
                    InputType::Float32
                },
            })
            .collect();
        described.layer.output("layer", &signals).unwrap();
        let mut following = Vec::new();
        let place =
            |specs: Vec<ArraySpec>, expected: &[String], trainable: bool, vector: &mut Vec<f32>| {
                let mut named: Vec<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
                let mut sorted: Vec<&str> = expected.iter().map(String::as_str).collect();
                named.sort_unstable();
                sorted.sort_unstable();
                assert_eq!(named, sorted, "{}: names of arrays", case.name);
                specs
                    .into_iter()
                    .map(|spec| {
                        let offset = vector.len();
                        let values = of(&spec.name);
                        let shape = Shape::new(&spec.shape);
                        assert_eq!(values.len(), shape.len(), "{}: {}", case.name, spec.name);
                        vector.extend(values);
                        Place {
                            offset,
                            shape,
                            trainable,
                            regularizer: None,
                            sparse: false,
                        }
                    })
                    .collect::<Vec<_>>()
            };
        let parameters = place(
            described.layer.parameters(&signals),
            &case.arrays,
            true,
            &mut numbers,
        );
        let statistics = place(
            described.layer.statistics(&signals),
            &case.statistics,
            false,
            &mut following,
        );
        let masks = (0..case.inputs.len())
            .map(|number| {
                let given = case.masks.as_ref().is_some_and(|masks| masks[number]);
                given.then(|| of(&format!("mask_{number}")))
            })
            .collect();
        Alone {
            case,
            described,
            inputs,
            parameters,
            statistics,
            numbers,
            following,
            integers,
            masks,
        }
    }

    /// What is bound beside the flat vectors: integer inputs, then masks.
    fn bound(&self) -> Vec<InputData<'_>> {
        let integers = self.integers.iter().map(|values| InputData::Int32(values));
        let masks = self
            .masks
            .iter()
            .flatten()
            .map(|values| InputData::Float32(values));
        integers.chain(masks).collect()
    }

    /// All outputs, the mask, and new statistics by offset.
    fn record(
        &self,
        graph: &mut Graph,
    ) -> Result<(Vec<NodeId>, Option<NodeId>, Collected), GraphError> {
        let mut next = 0;
        let mut inputs = Vec::new();
        for (offset, shape) in &self.inputs {
            let op = match offset {
                Some(offset) => Op::Parameter(*offset, shape.clone()),
                None => {
                    next += 1;
                    Op::Indices(next - 1, shape.clone())
                }
            };
            inputs.push(graph.add(op, &[])?);
        }
        let rows = self.inputs[0].1.extents()[0];
        let mut masks = Vec::new();
        for (mask, (_, input)) in self.masks.iter().zip(&self.inputs) {
            masks.push(match mask {
                Some(values) => {
                    next += 1;
                    // As many of the input's outer extents as it covers, or its steps where channels come first.
                    let extents = input.extents();
                    let covered = (2..=extents.len()).find(|&covered| {
                        extents[..covered].iter().product::<usize>() == values.len()
                    });
                    let shape = match covered {
                        Some(covered) => Shape::new(&extents[..covered]),
                        None => Shape::new(&[rows, values.len() / rows]),
                    };
                    Some(graph.add(Op::Input(next - 1, shape), &[])?)
                }
                None => None,
            });
        }
        let mut collected = Collected::default();
        let mut context = Context::new(
            graph,
            rows,
            self.case.training,
            0,
            &self.parameters,
            &self.statistics,
            &masks,
            &mut collected,
        );
        if self.described.layer.passes_mask() {
            context.mask = context.input_mask();
        }
        let output = self.described.layer.forward(&mut context, &inputs)?;
        let (mask, further) = (context.mask, std::mem::take(&mut context.further));
        Ok(([vec![output], further].concat(), mask, collected))
    }
}

fn check_numbers(case: &Case, golden: &Arrays) {
    let name = &case.name;
    let of = |key: &str| golden[&format!("{name}/{key}")].as_slice();
    let alone = Alone::new(case, golden);
    let mut graph = Graph::new();
    let (outputs, mask, collected) = alone
        .record(&mut graph)
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(outputs.len(), case.outputs, "{name}: number of outputs");
    assert_eq!(
        graph.shape(outputs[0]).extents(),
        case.answer,
        "{name}: shape"
    );
    assert_eq!(mask.is_some(), case.mask, "{name}: whether there is a mask");
    let mut bound = alone.bound();
    let mut seeds = Vec::new();
    for (number, &output) in outputs.iter().enumerate() {
        let shape = graph.shape(output).clone();
        let seed = graph.add(Op::Input(bound.len(), shape), &[]).unwrap();
        bound.push(InputData::Float32(of(&format!("output_{number}/weights"))));
        seeds.push((output, seed));
    }
    // Every stretch that has a gradient, by the golden file's name for it.
    let mut stretches: Vec<(String, usize, Shape)> = Vec::new();
    for (number, (offset, shape)) in alone.inputs.iter().enumerate() {
        stretches.extend(offset.map(|offset| (format!("input_{number}"), offset, shape.clone())));
    }
    for (spec, place) in case_names(&alone).into_iter().zip(&alone.parameters) {
        stretches.push((spec, place.offset, place.shape.clone()));
    }
    let sources: Vec<NodeId> = stretches
        .iter()
        .map(|(_, offset, shape)| {
            graph
                .add(Op::Parameter(*offset, shape.clone()), &[])
                .unwrap()
        })
        .collect();
    let slopes = gradients(&mut graph, &seeds, &sources).unwrap();
    let mut kept: Vec<(NodeId, Destination)> = outputs
        .iter()
        .map(|&output| (output, Destination::Keep))
        .collect();
    kept.extend(mask.map(|mask| (mask, Destination::Keep)));
    for (slope, (_, offset, _)) in slopes.iter().zip(&stretches) {
        kept.extend(slope.map(|slope| (slope, Destination::Gradient(*offset))));
    }
    kept.extend(
        collected
            .statistics
            .iter()
            .map(|&(value, offset)| (value, Destination::Statistics(offset))),
    );
    let mut plan = Plan::new(&graph, &kept).unwrap();
    let (mut gradient, mut after) = (vec![0.0; alone.numbers.len()], alone.following.clone());
    plan.run(&mut Bindings {
        inputs: &bound,
        more_inputs: &[],
        parameters: &alone.numbers,
        statistics: &alone.following,
        gradient: &mut gradient,
        statistics_out: &mut after,
        key: RandomKey::of(0, 0),
    })
    .unwrap();
    for number in 0..outputs.len() {
        let what = format!("{name}: output {number}");
        all_close(&what, plan.kept(number), of(&format!("output_{number}")));
    }
    if mask.is_some() {
        assert_eq!(plan.kept(outputs.len()), of("output_mask"), "{name}: mask");
    }
    // Some gradients are 0 by cancellation, such as that of a bias in front of a softmax.
    let gradients = stretches
        .iter()
        .flat_map(|(key, ..)| of(&format!("{key}/gradient")));
    let beside = gradients.fold(0.01f32, |largest, slope| largest.max(slope.abs())) / 10.0;
    for (key, offset, shape) in &stretches {
        let found = &gradient[*offset..offset + shape.len()];
        let what = format!("{name}: gradient of {key}");
        all_close_beside(&what, found, of(&format!("{key}/gradient")), beside);
    }
    for (spec, place) in alone
        .described
        .layer
        .statistics(&signals(case))
        .iter()
        .zip(&alone.statistics)
    {
        let found = &after[place.offset..place.offset + place.shape.len()];
        all_close(
            &format!("{name}: {}", spec.name),
            found,
            of(&format!("{}/after", spec.name)),
        );
    }
    if case.differences && case.statistics.is_empty() {
        let differences = check::check_gradient(&alone.numbers, &alone.bound(), |graph| {
            Ok(alone.record(graph)?.0[0])
        });
        differences.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

fn signals(case: &Case) -> Vec<Signal> {
    case.inputs
        .iter()
        .map(|input| Signal {
            extents: input.shape[1..].to_vec(),
            dtype: if input.integer {
                InputType::Int32
            } else {
                InputType::Float32
            },
        })
        .collect()
}

fn case_names(alone: &Alone<'_>) -> Vec<String> {
    let specs = alone.described.layer.parameters(&signals(alone.case));
    specs.into_iter().map(|spec| spec.name).collect()
}
