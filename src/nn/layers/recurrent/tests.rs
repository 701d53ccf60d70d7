//! Refusals, and what is random and so has no golden file: dropout along the steps.

use serde_json::{Value, json};

use super::super::super::layer::{Collected, Place};
use super::super::super::model::InputType;
use super::super::read;
use super::*;
use crate::autograd::{Bindings, Destination, Graph, Plan, check, gradients};
use crate::support::random::RandomKey;
use crate::tensor::Shape;

const ROWS: usize = 50;
const STEPS: usize = 4;
const UNITS: usize = 3;

#[test]
fn what_is_no_sequence_and_states_that_do_not_fit_are_refused() {
    refused("LSTM", &[], "layer \"rnn\": it has no inputs");
    refused(
        "LSTM",
        &[&[5]],
        "layer \"rnn\": its input has shape [5] per row; give a sequence",
    );
    refused(
        "GRU",
        &[&[1 << 30, 5]],
        "layer \"rnn\": its input has 1073741824 steps of 5 columns; give 1 to 4096 steps",
    );
    refused(
        "LSTM",
        &[&[4, 5], &[3]],
        "layer \"rnn\": it has 2 inputs; connect the sequence alone, or with 2 first states",
    );
    refused(
        "SimpleRNN",
        &[&[4, 5], &[2]],
        "layer \"rnn\": a first state has shape [2] per row; it must be (3), as the states are",
    );
}

#[test]
fn what_is_no_sequence_of_images_is_refused() {
    let refused = |config: Value, inputs: &[&[usize]], expected: &str| {
        refused_of("ConvLSTM2D", &config, inputs, expected);
    };
    let config = json!({"filters": 2, "kernel_size": 3});
    refused(
        config.clone(),
        &[&[4, 5, 6]],
        "layer \"rnn\": its input has shape (4, 5, 6) per row; give it 4 extents, the steps and then an image of 2 spatial axes",
    );
    refused(
        config.clone(),
        &[&[5000, 5, 5, 1]],
        "layer \"rnn\": its input has 5000 steps (shape (5000, 5, 5, 1) per row); give 1 to 4096 steps",
    );
    refused(
        config.clone(),
        &[&[4, 2, 5, 1]],
        "layer \"rnn\": its kernel_size reaches over 3 numbers along an axis of 2",
    );
    refused(
        config.clone(),
        &[&[4, 5, 5, 1], &[3, 3, 2]],
        "layer \"rnn\": it has 2 inputs; connect the sequence alone, or with 2 first states",
    );
    refused(
        config,
        &[&[4, 5, 5, 1], &[3, 3, 2], &[5, 5, 2]],
        "layer \"rnn\": a first state has shape [5, 5, 2] per row; it must be (3, 3, 2), as the states are",
    );
    refused(
        json!({"filters": 1 << 20, "kernel_size": 1}),
        &[&[4096, 5, 5, 1]],
        "layer \"rnn\": the gates of its 4096 steps are 429496729600 numbers per row; make filters or the input smaller",
    );
    // The cell's own convolution pads its states.
    refused(
        json!({"filters": 1 << 27, "kernel_size": 3, "padding": "same"}),
        &[&[1, 1, 1, 1]],
        "layer \"rnn\": its input has 1207959552 numbers per row with its padding",
    );
}

#[test]
fn options_that_cannot_be_are_refused() {
    for (kind, option, value) in [
        ("LSTM", "stateful", json!(true)),
        ("LSTM", "reset_after", json!(true)),
        ("SimpleRNN", "recurrent_activation", json!("tanh")),
        ("GRU", "unit_forget_bias", json!(true)),
        ("GRU", "recurrent_dropout", json!(1)),
        ("LSTM", "recurrent_activation", json!("sigmoidal")),
        ("LSTM", "units", json!(0)),
        ("ConvLSTM2D", "filters", json!(0)),
        ("ConvLSTM2D", "dilation_rate", json!(2)),
        ("ConvLSTM2D", "padding", json!("causal")),
        ("ConvLSTM2D", "stateful", json!(true)),
        ("ConvLSTM2D", "groups", json!(2)),
    ] {
        let mut config = if kind == "ConvLSTM2D" {
            json!({"filters": 2, "kernel_size": 3, "strides": 2})
        } else {
            json!({"units": UNITS})
        };
        config[option] = value;
        let message = read("rnn", kind, config.as_object().unwrap())
            .unwrap_err()
            .to_string();
        assert!(message.contains(option), "{kind}, {option}: {message}");
    }
}

#[test]
fn the_forget_gate_of_an_lstm_starts_open() {
    let config = json!({"units": UNITS, "bias_initializer": {"name": "constant", "value": 0.5}});
    let described = read("rnn", "LSTM", config.as_object().unwrap()).unwrap();
    let arrays = described.layer.parameters(&[Signal::float(&[STEPS, 5])]);
    let mut bias = [0.0; 12];
    arrays[2]
        .initializer
        .fill(&arrays[2].shape, 3, 2, &mut bias);
    assert_eq!(
        bias,
        [0.5, 0.5, 0.5, 1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]
    );
}

#[test]
fn dropout_takes_the_same_columns_of_a_row_at_every_step() {
    // Linear, kernel the identity, no recurrence, ones in: the answer is the mask.
    let answer = answer_of_simple(
        json!({"dropout": 0.5}),
        &[1.0; ROWS * STEPS * UNITS],
        &[0.0; ROWS * UNITS],
        &[0.0; UNITS * UNITS],
    );
    let mut kept = 0;
    for row in answer.chunks(STEPS * UNITS) {
        for step in row.chunks(UNITS) {
            assert_eq!(step, &row[..UNITS]);
        }
        kept += row[..UNITS].iter().filter(|&&number| number == 2.0).count();
        assert!(row.iter().all(|&number| number == 0.0 || number == 2.0));
    }
    // 150 fair coins: three deviations are 18.
    assert!((57..=93).contains(&kept), "seed 5: {kept}");
}

#[test]
fn dropout_takes_the_same_places_of_an_image_at_every_step() {
    // Linear gates, input and output gate 1, forget gate 0, the candidate the image of ones: the answer is the mask.
    let config = json!({"filters": 1, "kernel_size": 1, "activation": null, "recurrent_activation": null,
        "dropout": 0.5, "return_sequences": true});
    let places = 6;
    let alone = Alone::new("ConvLSTM2D", &config, ROWS, &[&[STEPS, 2, 3, 1]]);
    let numbers = [
        &[1.0; ROWS * STEPS * 6][..],
        &[0.0, 0.0, 1.0, 0.0],
        &[0.0; 4],
        &[1.0, 0.0, 0.0, 1.0],
    ]
    .concat();
    let answer = answer_of(&alone, &numbers);
    assert_eq!(answer.len(), ROWS * STEPS * places);
    let mut kept = 0;
    for row in answer.chunks(STEPS * places) {
        for image in row.chunks(places) {
            assert_eq!(image, &row[..places]);
        }
        kept += row[..places]
            .iter()
            .filter(|&&number| number == 2.0)
            .count();
        assert!(row.iter().all(|&number| number == 0.0 || number == 2.0));
    }
    // 300 fair coins: three deviations are 26.
    assert!((124..=176).contains(&kept), "seed 5: {kept}");
}

#[test]
fn gradients_of_a_convolutional_cell_with_both_dropouts_are_those_that_differences_show() {
    let config = json!({"filters": 2, "kernel_size": [1, 2], "dropout": 0.3, "recurrent_dropout": 0.3,
        "return_sequences": true});
    let alone = Alone::new("ConvLSTM2D", &config, 2, &[&[3, 2, 3, 2]]);
    alone.check_gradient();
}

#[test]
fn recurrent_dropout_takes_the_same_units_of_a_row_at_every_step() {
    // Linear, nothing in, the recurrent kernel the identity, a state of ones: step t answers the mask to the power t.
    let answer = answer_of_simple(
        json!({"recurrent_dropout": 0.5}),
        &[0.0; ROWS * STEPS * UNITS],
        &[1.0; ROWS * UNITS],
        &identity(),
    );
    for row in answer.chunks(STEPS * UNITS) {
        for (step, numbers) in row.chunks(UNITS).enumerate() {
            for (number, first) in numbers.iter().zip(row) {
                assert_eq!(*number, first.powi(step as i32 + 1));
            }
        }
    }
    assert!(answer.contains(&0.0) && answer.contains(&2.0));
}

#[test]
fn gradients_with_both_dropouts_are_those_that_differences_show() {
    for (kind, options) in [
        ("SimpleRNN", json!({})),
        ("LSTM", json!({})),
        ("GRU", json!({})),
        ("GRU", json!({"reset_after": false})),
        ("LSTM", json!({"recurrent_dropout": 0.0})),
    ] {
        let mut config = json!({"units": UNITS, "dropout": 0.3, "recurrent_dropout": 0.3,
            "return_sequences": true});
        for (option, value) in options.as_object().unwrap() {
            config[option] = value.clone();
        }
        let alone = Alone::new(kind, &config, 2, &[&[STEPS, 5]]);
        alone.check_gradient();
    }
}

#[test]
fn the_kernel_of_all_steps_gives_what_the_steps_give_one_by_one() {
    let all = json!({"return_sequences": true, "return_state": true});
    let backwards = json!({"return_sequences": true, "go_backwards": true, "dropout": 0.3});
    let zero = json!({"zero_output_for_mask": true, "use_bias": false});
    for (kind, states) in [("LSTM", 2), ("GRU", 1)] {
        for options in [&json!({}), &all, &backwards, &zero] {
            for (states, masked) in [(0, false), (0, true), (states, false), (states, true)] {
                check_fused(kind, options, states, masked);
            }
        }
    }
}

/// Answers, states and all gradients of a layer in training, by both ways.
fn check_fused(kind: &str, options: &Value, states: usize, masked: bool) {
    let mut config = json!({"units": UNITS});
    for (option, value) in options.as_object().unwrap() {
        config[option] = value.clone();
    }
    let cell = KINDS.iter().find(|(name, _)| *name == kind).unwrap().1;
    let config = config.as_object().unwrap();
    let layer = Recurrent::read(&mut Options::new("rnn", kind, config), cell).unwrap();
    assert!(layer.is_fused(true));
    let (rows, sequence, state) = (4, [STEPS, 5], [UNITS]);
    let extents = [&[&sequence[..]][..], &vec![&state[..]; states]].concat();
    let alone = Alone::new(kind, &Value::Object(config.clone()), rows, &extents);
    let numbers: Vec<f32> = (0..alone.len)
        .map(|number| ((number * 37 % 101) as f32 / 50.0 - 1.0) * 0.8)
        .collect();
    // Rows that are whole, that end early, that begin late, and that have no step at all.
    let steps = [1, 1, 1, 1, 1, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0].map(|step: u8| f32::from(step));
    let mut graph = Graph::new();
    let leaves = |graph: &mut Graph, places: &[Place]| {
        let leaves = places.iter().map(|place| place.leaf(graph).unwrap());
        leaves.collect::<Vec<_>>()
    };
    let inputs = leaves(&mut graph, &alone.inputs);
    let sources = [inputs.clone(), leaves(&mut graph, &alone.arrays)].concat();
    let mask = masked.then(|| graph.literal(&steps, &[rows, STEPS]).unwrap());
    let mut kept = Vec::new();
    for fused in [true, false] {
        let mut collected = Collected::default();
        let masks = [vec![mask], vec![None; states]].concat();
        let mut context = Context::new(
            &mut graph,
            rows,
            true,
            0,
            &alone.arrays,
            &[],
            &masks,
            &mut collected,
        );
        let answer = if fused {
            layer.fused(&mut context, &inputs)
        } else {
            layer.unrolled(&mut context, &inputs)
        };
        let answers = [vec![answer.unwrap()], std::mem::take(&mut context.further)].concat();
        let mut seeded = Vec::new();
        for &answer in &answers {
            let shape = graph.shape(answer).clone();
            let seeds: Vec<f32> = (0..shape.len()).map(|at| (at % 7) as f32 - 2.5).collect();
            seeded.push((answer, graph.literal(&seeds, shape.extents()).unwrap()));
        }
        kept.extend(answers);
        for slope in gradients(&mut graph, &seeded, &sources).unwrap() {
            kept.push(slope.unwrap());
        }
    }
    let outputs: Vec<_> = kept.iter().map(|&node| (node, Destination::Keep)).collect();
    let mut plan = Plan::new(&graph, &outputs).unwrap();
    run(&mut plan, &numbers);
    for number in 0..kept.len() / 2 {
        let (found, expected) = (plan.kept(number), plan.kept(kept.len() / 2 + number));
        for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
            assert!(
                (found - expected).abs() <= 2e-5 * expected.abs().max(1.0),
                "{kind} {options}, {states} states, masked {masked}, result {number} at {at}: {found}, step by step {expected}"
            );
        }
    }
}

/// A layer in training over leaves: inputs, then arrays, side by side in one vector.
struct Alone {
    layer: Box<dyn Layer>,
    rows: usize,
    inputs: Vec<Place>,
    arrays: Vec<Place>,
    len: usize,
}

impl Alone {
    fn new(kind: &str, config: &Value, rows: usize, inputs: &[&[usize]]) -> Self {
        let described = read("rnn", kind, config.as_object().unwrap()).unwrap();
        let signals: Vec<Signal> = inputs
            .iter()
            .map(|extents| Signal::float(extents))
            .collect();
        described.layer.output("rnn", &signals).unwrap();
        let mut len = 0;
        let mut place = |extents: &[usize]| {
            let place = Place {
                offset: len,
                shape: Shape::new(extents),
                trainable: true,
                regularizer: None,
                sparse: false,
            };
            len += place.shape.len();
            place
        };
        let inputs = inputs
            .iter()
            .map(|extents| place(&[&[rows], *extents].concat()))
            .collect();
        let arrays = described
            .layer
            .parameters(&signals)
            .iter()
            .map(|array| place(&array.shape))
            .collect();
        Alone {
            layer: described.layer,
            rows,
            inputs,
            arrays,
            len,
        }
    }

    fn check_gradient(&self) {
        let numbers: Vec<f32> = (0..self.len)
            .map(|number| ((number * 37 % 101) as f32 / 50.0 - 1.0) * 0.8)
            .collect();
        check::check_gradient(&numbers, &[], |graph| self.record(graph))
            .unwrap_or_else(|error| panic!("{:?}: {error}", self.layer));
    }

    fn record(&self, graph: &mut Graph) -> Result<NodeId, GraphError> {
        let inputs = self
            .inputs
            .iter()
            .map(|place| place.leaf(graph))
            .collect::<Result<Vec<_>, _>>()?;
        let masks = vec![None; inputs.len()];
        let mut collected = Collected::default();
        let mut context = Context::new(
            graph,
            self.rows,
            true,
            0,
            &self.arrays,
            &[],
            &masks,
            &mut collected,
        );
        self.layer.forward(&mut context, &inputs)
    }
}

fn identity() -> [f32; UNITS * UNITS] {
    std::array::from_fn(|number| f32::from(u8::from(number % (UNITS + 1) == 0)))
}

/// All steps' answers of a linear SimpleRNN whose kernel is the identity.
fn answer_of_simple(options: Value, x: &[f32], state: &[f32], recurrent: &[f32]) -> Vec<f32> {
    let mut config =
        json!({"units": UNITS, "activation": null, "return_sequences": true, "use_bias": false});
    for (option, value) in options.as_object().unwrap() {
        config[option] = value.clone();
    }
    let alone = Alone::new("SimpleRNN", &config, ROWS, &[&[STEPS, UNITS], &[UNITS]]);
    answer_of(&alone, &[x, state, &identity(), recurrent].concat())
}

/// The answer of a layer in training, over its inputs and arrays.
fn answer_of(alone: &Alone, numbers: &[f32]) -> Vec<f32> {
    let mut graph = Graph::new();
    let answer = alone.record(&mut graph).unwrap();
    let mut plan = Plan::new(&graph, &[(answer, Destination::Keep)]).unwrap();
    run(&mut plan, numbers);
    plan.kept(0).to_vec()
}

fn run(plan: &mut Plan, numbers: &[f32]) {
    plan.run(&mut Bindings {
        inputs: &[],
        more_inputs: &[],
        parameters: numbers,
        statistics: &[],
        gradient: &mut [],
        statistics_out: &mut [],
        key: RandomKey::of(5, 0),
    })
    .unwrap();
}

/// Expects the refusal of a layer of three units over inputs of these shapes to start so.
fn refused(kind: &str, inputs: &[&[usize]], expected: &str) {
    refused_of(kind, &json!({"units": UNITS}), inputs, expected);
}

fn refused_of(kind: &str, config: &Value, inputs: &[&[usize]], expected: &str) {
    let described = read("rnn", kind, config.as_object().unwrap()).unwrap();
    let signals: Vec<Signal> = inputs
        .iter()
        .map(|extents| Signal {
            extents: extents.to_vec(),
            dtype: InputType::Float32,
        })
        .collect();
    let message = described
        .layer
        .output("rnn", &signals)
        .unwrap_err()
        .to_string();
    assert!(message.starts_with(expected), "{message}");
}
