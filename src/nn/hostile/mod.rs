//! Descriptions that mean harm or were written by mistake: whatever arrives is built or refused in bounded memory, with the
//! layer's name and a remedy.

mod limits;
mod mutate;

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::layers;
use super::{
    FeatureColumn, FeatureKind, InputData, InputType, LaneBatch, LaneTrainer, Loss, Model,
    ModelSpec, Objectives, OutputObjective, Predictor, ProgramError, SpecError, StepKey,
};
use crate::autograd::Graph;
use crate::support::allocations::allocated;
use crate::support::random::{Purpose, RandomKey, RandomStream};
use mutate::mutate;

/// Most bytes that reading and building, or refusing, a description of a few layers may hold at once.
const BYTES_MAX: usize = 64 << 20;
/// Most allocations, as a measure of work.
const ALLOCATIONS_MAX: usize = 500_000;
/// Most numbers between operations for which what was built is run as well.
const NUMBERS_RUN: usize = 1 << 14;

const SEED: u64 = 29;
const ROUNDS: u32 = 4000;

/// Golden cases joined to models, then mutated: nothing panics, holds much memory or is refused without name and remedy; what
/// is taken and small runs a step and a prediction.
#[test]
fn any_description_is_built_and_run_or_refused_with_name_and_remedy() {
    let cases = golden_cases();
    let (mut taken, mut run, mut refused) = (0, 0, BTreeSet::new());
    let losses: Vec<&str> = Loss::names().collect();
    let mut failures = Vec::new();
    for round in 0..ROUNDS {
        let mut stream = RandomKey::of(SEED, round).stream(Purpose::Initializer);
        let (mut spec, mut features) = model_of(&cases, &mut stream);
        if round % 8 != 0 {
            for _ in 0..1 + stream.below(3) {
                mutate(&mut spec, &mut features, &cases, &mut stream);
            }
        }
        let loss = match round % 4 {
            0 => "mse",
            _ => losses[stream.below(losses.len() as u64) as usize],
        };
        let tried = catch_unwind(AssertUnwindSafe(|| try_description(&spec, &features, loss)));
        match tried {
            Ok(Tried::Run) if round % 8 == 0 => run += 1,
            Ok(Tried::Run) => (taken, run) = (taken + 1, run + 1),
            Ok(Tried::Built) => taken += 1,
            Ok(Tried::Refused(message)) if round % 8 == 0 => {
                panic!("seed {SEED}, round {round}: {message} of a model of golden cases: {spec}")
            }
            Ok(Tried::Refused(message)) => {
                refused.insert(kind_of(&message));
            }
            Err(panic) => {
                let found = panic.downcast_ref::<String>().cloned().unwrap_or_default();
                let spec = spec.to_string().replace(&"x".repeat(10_000), "xx");
                let text =
                    format!("round {round}, {loss}: {found:.300}: {features:?} {spec:.2000}");
                failures.push(text);
            }
        }
    }
    assert!(
        failures.is_empty(),
        "seed {SEED}: {} failures, such as {:#?}",
        failures.len(),
        &failures[..failures.len().min(5)]
    );
    println!(
        "seed {SEED}: {taken} of {ROUNDS} taken, {run} run; refused for {} reasons",
        refused.len()
    );
    assert!(
        taken > ROUNDS / 20 && run > ROUNDS / 10 && refused.len() > 100,
        "{taken} {run} {}",
        refused.len()
    );
}

enum Tried {
    Run,
    /// Too large to be run in a test.
    Built,
    Refused(String),
}

/// Builds a model and runs it where it is small; panics where a refusal says too little or too much memory was held.
fn try_description(json: &Value, features: &[FeatureColumn], loss: &str) -> Tried {
    let (built, held) = allocated(|| Model::build(&ModelSpec::from_json(json)?, features));
    assert!(
        held.peak_bytes < BYTES_MAX && held.count < ALLOCATIONS_MAX,
        "{held:?}"
    );
    let model = match built {
        Ok(model) => Arc::new(model),
        Err(error) => {
            check_refusal(json, &error);
            return Tried::Refused(error.to_string());
        }
    };
    let mut graph = Graph::new();
    model.record(&mut graph, 2, true).unwrap();
    let numbers = graph.ids().map(|node| graph.shape(node).len());
    let numbers = numbers.fold(
        model.parameter_len() + model.statistics_len(),
        usize::saturating_add,
    );
    if numbers > NUMBERS_RUN {
        return Tried::Built;
    }
    match step_and_prediction(model, loss) {
        Ok(()) | Err(ProgramError::NonFiniteLoss { .. }) => Tried::Run,
        Err(ProgramError::Spec(error @ SpecError::LossMismatch { .. })) if loss != "mse" => {
            assert!(error.to_string().contains("; "), "no remedy: {error}");
            Tried::Built
        }
        Err(error) => panic!("built and not run: {error}"),
    }
}

/// The refusal names a layer of the description, or the place in it, and says what to do.
fn check_refusal(json: &Value, error: &SpecError) {
    let message = error.to_string();
    assert!(message.contains("; "), "no remedy: {message}");
    assert!(message.len() < 4000, "{} bytes: {message}", message.len());
    assert!(!message.contains("internal"), "{message}");
    if message.starts_with("the model description is malformed: ") {
        return;
    }
    let layers = json["layers"].as_array().unwrap().iter();
    let mut names = layers
        .filter_map(|layer| layer["name"].as_str())
        .chain(["outputs"]);
    // A layer inside a layer is named behind the outer one's name.
    let named = |name: &str| {
        let quoted = format!("{name:?}");
        message.contains(&quoted[..quoted.len() - 1])
    };
    assert!(names.any(named), "names no layer: {message}");
}

/// A message without what differs from case to case, to count the kinds of refusals.
fn kind_of(message: &str) -> String {
    let words = message
        .split(['"', ' '])
        .filter(|word| word.bytes().all(|byte| byte.is_ascii_alphabetic()));
    words.take(12).collect::<Vec<_>>().join(" ")
}

/// One step and one prediction of two rows of the first parameters.
fn step_and_prediction(model: Arc<Model>, loss: &str) -> Result<(), ProgramError> {
    let rows = 2;
    let floats: Vec<f32> = vec![
        0.5;
        model
            .inputs()
            .iter()
            .map(|input| input.width * rows)
            .max()
            .unwrap_or(0)
    ];
    let indices = vec![0i32; floats.len()];
    let inputs: Vec<InputData<'_>> = model
        .inputs()
        .iter()
        .map(|input| match input.dtype {
            InputType::Float32 => InputData::Float32(&floats[..input.width * rows]),
            InputType::Int32 => InputData::Int32(&indices[..input.width * rows]),
        })
        .collect();
    let outputs = (0..model.output_count()).map(|output| OutputObjective {
        name: model.output_name(output).to_string(),
        loss: Loss::parse(loss).unwrap(),
        weight: 1.0,
        metrics: Vec::new(),
    });
    let objectives = Objectives::new(outputs.collect());
    let target = vec![0.0; rows * objectives.target_width(&model)];
    let (parameters, statistics) = (model.initial_parameters(1), model.initial_statistics());
    let mut sums: Vec<_> = model
        .sparse_tables()
        .iter()
        .map(|table| crate::tensor::row_sums::RowSums::new(table.width))
        .collect();
    let mut gradient = vec![0.0; parameters.len() - model.sparse_len()];
    let mut after = vec![0.0; statistics.len()];
    let mut trainer = LaneTrainer::new(Arc::clone(&model), objectives)?;
    let batch = LaneBatch {
        rows,
        inputs: inputs.clone(),
        target: &target,
        weights: None,
    };
    let key = StepKey {
        seed: 1,
        epoch: 0,
        step: 1,
        lane: 0,
    };
    let step = trainer.step_with_tables(
        &parameters,
        &statistics,
        &batch,
        &key,
        2.0,
        &mut gradient,
        &mut after,
        &mut sums,
    );
    step.map(drop)?;
    Predictor::with_penalties(model)
        .predict(&parameters, &statistics, rows, &inputs)
        .map(drop)
}

/// One layer with the shapes of its inputs, as the golden files have it.
struct Case {
    layer: String,
    config: Map<String, Value>,
    inputs: Vec<(Vec<usize>, bool)>,
}

fn golden_cases() -> Vec<Case> {
    let groups = "layers/activation layers/attention layers/conv_recurrent layers/convolution layers/core layers/gated \
        layers/merging layers/noise layers/normalization layers/pooling layers/recurrent layers/separable layers/shaping \
        layers/wrappers operations/operations";
    let mut cases = Vec::new();
    for group in groups.split_whitespace() {
        let path = format!("{}/tests/golden/{group}.json", env!("CARGO_MANIFEST_DIR"));
        let read: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        cases.extend(read.as_array().unwrap().iter().map(|case| {
            Case {
                layer: case["layer"].as_str().unwrap().to_string(),
                config: case["config"].as_object().unwrap().clone(),
                inputs: case["inputs"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|input| {
                        let shape = input["shape"].as_array().unwrap().iter().skip(1);
                        let extents = shape
                            .map(|extent| extent.as_u64().unwrap() as usize)
                            .collect();
                        (extents, input["integer"].as_bool().unwrap())
                    })
                    .collect(),
            }
        }));
    }
    let kinds: BTreeSet<&str> = cases.iter().map(|case| case.layer.as_str()).collect();
    let missing: Vec<&str> = layers::names()
        .filter(|name| *name != "Input" && !kinds.contains(name))
        .collect();
    assert_eq!(missing, Vec::<&str>::new(), "layers without a golden case");
    cases
}

/// One to three cases, each over inputs of its own, flattened and joined: a model and the features it takes.
fn model_of(cases: &[Case], stream: &mut RandomStream) -> (Value, Vec<FeatureColumn>) {
    let (mut layers, mut features, mut joined) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..1 + stream.below(3) {
        let case = &cases[stream.below(cases.len() as u64) as usize];
        let mut inputs = Vec::new();
        for (place, (extents, integer)) in case.inputs.iter().enumerate() {
            let name = format!("input_{number}_{place}");
            let (dtype, kind) = match integer {
                true => ("int32", FeatureKind::Integer),
                false => ("float32", FeatureKind::Float),
            };
            layers.push(json!({"name": name, "layer": "Input",
                "config": {"columns": [name], "dtype": dtype, "shape": extents}}));
            let width = extents.iter().product();
            features.push(FeatureColumn {
                name: name.clone(),
                width,
                kind,
            });
            inputs.push(name);
        }
        let (name, flat) = (format!("layer_{number}"), format!("flat_{number}"));
        layers.push(
            json!({"name": name, "layer": case.layer, "config": case.config, "inputs": inputs}),
        );
        layers.push(json!({"name": flat, "layer": "Flatten", "inputs": [name]}));
        joined.push(flat);
    }
    if joined.len() > 1 {
        layers.push(json!({"name": "joined", "layer": "Concatenate", "inputs": joined}));
        joined = vec!["joined".to_string()];
    }
    layers.push(
        json!({"name": "answer", "layer": "Dense", "config": {"units": 2}, "inputs": joined}),
    );
    (
        json!({"format_version": 1, "name": "hostile", "layers": layers, "outputs": ["answer"]}),
        features,
    )
}
