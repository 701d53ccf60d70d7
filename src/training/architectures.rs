//! Whole published networks against Keras (`tests/golden/architectures/`): the same first weights and the same rows give the
//! same loss for 20 steps, and the same moving statistics after them. One lane, and the optimiser over all of its numbers.
//! The descriptions are those of the Python client.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use crate::nn::{
    FeatureColumn, FeatureKind, InputData, InputType, LaneBatch, LaneTrainer, Loss, Model,
    ModelSpec, ParameterInfo, StepKey,
};
use crate::optim::{ArrayBlocks, Cut, Optimizer, OptimizerSpec, Stage};
use crate::tensor::archive;

const STEPS: usize = 20;
const BATCH_SIZE: usize = 8;
/// The scripts keep to learning rates at which Keras' own losses in float32 are within 3e-5 of those in float64 from weights that
/// are ten roundings away. Measured: at most 2e-5 (recurrent networks), 1e-7 to 5e-6 for the others.
const LOSS_TOLERANCE: f64 = 1e-4;
/// Of moving statistics, beside the largest of their array.
const STATISTICS_TOLERANCE: f32 = 1e-4;

type Arrays = BTreeMap<String, Vec<f32>>;

macro_rules! architectures {
    ($($group:literal: $($name:ident),+;)+) => {
        $($(
            #[test]
            fn $name() {
                trains_as_in_keras($group, stringify!($name));
            }
        )+)+

        const ARCHITECTURES: &[(&str, &[&str])] = &[$(($group, &[$(stringify!($name)),+])),+];
    };
}

architectures! {
    "images": lenet_5, vgg, resnet_20, resnet_20_swish, mobile_net, u_net, autoencoder, variational_autoencoder,
        squeeze_and_excitation;
    "sequences": lstm_classifier, bidirectional_gru_classifier, text_cnn, temporal_convolutions, transformer_encoder,
        transformer_decoder, sequence_to_sequence;
    "tables": highway_network, wide_and_deep, residual_perceptron;
}

#[test]
fn every_architecture_of_the_files_is_trained() {
    for (group, names) in ARCHITECTURES {
        let networks = networks(group);
        let recorded: Vec<&str> = networks
            .iter()
            .map(|network| network["name"].as_str().unwrap())
            .collect();
        assert_eq!(&recorded, names, "{group}");
    }
}

fn trains_as_in_keras(group: &str, name: &str) {
    let network = networks(group)
        .into_iter()
        .find(|network| network["name"] == name)
        .unwrap();
    let loss = Loss::read(&network["loss"]).unwrap();
    let optimizer = OptimizerSpec::from_json(&network["optimizer"]).unwrap();
    let optimizer = Optimizer::build(&optimizer).unwrap();
    let spec = ModelSpec::from_json(&network["description"]).unwrap();
    let arrays = arrays_of(group, name);
    let model = Arc::new(Model::build(&spec, &features_of(&spec)).unwrap());
    let mut parameters = flat(model.parameters(), &arrays, "");
    let mut statistics = flat(model.statistics(), &arrays, "");
    let mut gradient = vec![f32::NAN; parameters.len()];
    let mut slots = optimizer.first_slots(parameters.len());
    let blocks = ArrayBlocks::new(model.parameters().iter().map(ParameterInfo::len));
    let mut trainer = LaneTrainer::new(Arc::clone(&model), loss.clone()).unwrap();
    let rows = Rows::new(&model, loss, &arrays);
    assert_eq!(arrays["losses"].len(), STEPS);
    for (step, &expected) in arrays["losses"].iter().enumerate() {
        let key = StepKey {
            seed: 0,
            epoch: 0,
            step: step as u64 + 1,
            lane: 0,
        };
        let mut moved = vec![f32::NAN; statistics.len()];
        let found = trainer
            .step(
                &parameters,
                &statistics,
                &rows.batch(step),
                &key,
                BATCH_SIZE as f32,
                &mut gradient,
                &mut moved,
            )
            .unwrap()
            .loss_sum
            / BATCH_SIZE as f64;
        let expected = f64::from(expected);
        assert!(
            (found - expected).abs() <= LOSS_TOLERANCE * expected,
            "{name}: the loss of step {step} is {found}, Keras has {expected}"
        );
        statistics = moved;
        let step = step as u64 + 1;
        let update = gradient.clone();
        improve(
            &optimizer,
            step,
            &blocks,
            &mut parameters,
            update,
            &mut slots,
        );
    }
    let last = flat(model.statistics(), &arrays, "/last");
    for info in model.statistics() {
        let of = |all: &[f32]| all[info.offset..info.offset + info.len()].to_vec();
        let (found, expected) = (of(&statistics), of(&last));
        let largest = expected
            .iter()
            .fold(0f32, |most, each| most.max(each.abs()));
        for (found, expected) in found.iter().zip(expected) {
            assert!(
                (found - expected).abs() <= STATISTICS_TOLERANCE * largest,
                "{name}: {} ends at {found}, Keras has {expected}",
                info.name
            );
        }
    }
}

/// One update of all parameters, norms measured as often as the optimiser asks.
fn improve(
    optimizer: &Optimizer,
    step: u64,
    blocks: &ArrayBlocks,
    parameters: &mut [f32],
    mut update: Vec<f32>,
    slots: &mut [Vec<f32>],
) {
    let rate = optimizer.learning_rate(step, 0);
    if optimizer.rounds(step) == 0 {
        return optimizer.update(step, rate, parameters, &update, slots);
    }
    let mut norms = Vec::new();
    for stage in 0.. {
        let cut = Cut {
            start: 0,
            parameters: &mut *parameters,
            update: &mut update,
            slots: &mut *slots,
        };
        match optimizer.stage(stage, step, rate, blocks, &norms, cut) {
            Stage::Measured(sums) => norms = optimizer.norms(stage, blocks, &sums),
            Stage::Done => return,
        }
    }
}

/// The rows of all minibatches, which are met in turn.
struct Rows<'a> {
    inputs: Vec<(usize, Column<'a>)>,
    target: (usize, &'a [f32]),
}

enum Column<'a> {
    Float(&'a [f32]),
    Integer(Vec<i32>),
}

impl<'a> Rows<'a> {
    fn new(model: &Model, loss: Loss, arrays: &'a Arrays) -> Self {
        let inputs = model.inputs().iter().map(|input| {
            let values = &arrays[&input.columns[0]];
            let column = match input.dtype {
                InputType::Float32 => Column::Float(values),
                InputType::Int32 => {
                    Column::Integer(values.iter().map(|&value| value as i32).collect())
                }
            };
            (input.width, column)
        });
        Rows {
            inputs: inputs.collect(),
            target: (loss.target_width(model, 0), &arrays["target"]),
        }
    }

    fn batch(&self, step: usize) -> LaneBatch<'_> {
        let (width, target) = self.target;
        let start = step * BATCH_SIZE % (target.len() / width);
        let part = |width: usize| start * width..(start + BATCH_SIZE) * width;
        let inputs = self.inputs.iter().map(|(width, column)| match column {
            Column::Float(values) => InputData::Float32(&values[part(*width)]),
            Column::Integer(values) => InputData::Int32(&values[part(*width)]),
        });
        LaneBatch {
            rows: BATCH_SIZE,
            inputs: inputs.collect(),
            target: &target[part(width)],
            weights: None,
        }
    }
}

/// A column for each input, of the width of its shape.
fn features_of(spec: &ModelSpec) -> Vec<FeatureColumn> {
    let inputs = spec.layers.iter().filter(|layer| layer.layer == "Input");
    let column = |config: &serde_json::Map<String, Value>| FeatureColumn {
        name: config["columns"][0].as_str().unwrap().to_string(),
        width: config["shape"]
            .as_array()
            .unwrap()
            .iter()
            .map(|extent| extent.as_u64().unwrap() as usize)
            .product(),
        kind: match config["dtype"].as_str() {
            Some("int32") => FeatureKind::Integer,
            _ => FeatureKind::Float,
        },
    };
    inputs.map(|layer| column(&layer.config)).collect()
}

/// The flat vector from named arrays with an ending. Panics where one is not of the model's length.
fn flat(infos: &[ParameterInfo], arrays: &Arrays, ending: &str) -> Vec<f32> {
    let mut numbers = Vec::new();
    for info in infos {
        let name = format!("{}{ending}", info.name);
        let array = arrays.get(&name).unwrap_or_else(|| panic!("no {name}"));
        assert_eq!(array.len(), info.len(), "{name}");
        numbers.extend_from_slice(array);
    }
    numbers
}

fn networks(group: &str) -> Vec<Value> {
    serde_json::from_slice(&bytes_of(&format!("{group}.json"))).unwrap()
}

/// Those of one network, by their names within it.
fn arrays_of(group: &str, network: &str) -> Arrays {
    let all = archive::from_bytes(&bytes_of(&format!("{group}.safetensors"))).unwrap();
    let mut found = Arrays::new();
    for array in all {
        if let Some((of, name)) = array.name.split_once('/')
            && of == network
        {
            found.insert(name.to_string(), array.values);
        }
    }
    found
}

fn bytes_of(file: &str) -> Vec<u8> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/architectures");
    std::fs::read(format!("{folder}/{file}")).unwrap()
}
