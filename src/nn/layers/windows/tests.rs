use serde_json::{Map, Value, json};

use super::super::super::initialize::Initializer;
use super::super::super::layer::{Collected, Context, Place};
use super::super::read;
use super::*;
use crate::autograd::{Bindings, Data, Destination, Op, Plan, gradients};
use crate::support::random::{Purpose, RandomKey, RandomStream};

#[test]
fn windows_that_do_not_fit_are_refused_with_layer_shapes_and_remedy() {
    let conv = |more: Value| with(json!({"filters": 6, "kernel_size": 3}), more);
    refused(
        "Conv2D",
        conv(json!({})),
        &[28, 28],
        "layer \"layer\": its input has shape (28, 28) per row; give it 3 extents, (rows, columns, channels); a Reshape",
    );
    let first = conv(json!({"data_format": "channels_first"}));
    refused("Conv1D", first, &[4], "(channels, steps)");
    refused("MaxPooling1D", json!({}), &[5, 0], "at least 1");
    refused(
        "Conv1D",
        conv(json!({"dilation_rate": 4})),
        &[8, 2],
        "its kernel_size reaches over 9 numbers along an axis of 8 (its input has shape (8, 2) per row); make the kernel_size smaller",
    );
    refused(
        "AveragePooling2D",
        json!({"pool_size": [1, 4]}),
        &[5, 3, 2],
        "its pool_size reaches over 4 numbers along an axis of 3",
    );
    refused(
        "Conv2D",
        conv(json!({"strides": [1, 2], "dilation_rate": 2})),
        &[8, 8, 2],
        "with strides [1, 2] the dilation must be 1",
    );
    let groups = conv(json!({"groups": 4}));
    refused("Conv2D", groups, &[8, 8, 4], "must divide the 6 filters");
    refused(
        "Conv2D",
        conv(json!({"groups": 3})),
        &[8, 8, 4],
        "its input has 4 channels and it has 3 groups; the groups must divide the channels",
    );
    let causal = conv(json!({"padding": "causal"}));
    refused("Conv2D", causal, &[8, 8, 4], "known are valid, same");
    let short = conv(json!({"kernel_size": [3]}));
    refused("Conv2D", short, &[8, 8, 4], "or a list of 2");
    let zero = conv(json!({"kernel_size": [3, 0]}));
    refused("Conv2D", zero, &[8, 8, 4], "from 1 to");
    let (standing, dilated) = (json!({"strides": 0}), json!({"dilation_rate": 2}));
    refused("MaxPooling2D", standing, &[8, 8, 4], "from 1 to");
    refused("MaxPooling2D", dilated, &[8, 8, 4], "\"dilation_rate\"");
    refused("AveragePooling1D", json!({}), &[8, 4], "\"pool_size\"");
    refused(
        "Conv1DTranspose",
        conv(json!({"strides": 2, "output_padding": 2})),
        &[8, 4],
        "it must be less than the strides, [2]",
    );
    refused(
        "Conv1DTranspose",
        conv(json!({"kernel_size": 2, "output_padding": 0, "padding": "same"})),
        &[1, 4],
        "nothing is left of its input of shape (1, 4) per row",
    );
    let same = conv(json!({"padding": "same"}));
    refused("LocallyConnected1D", same, &[8, 4], "known are valid");
    refused("GlobalMaxPooling3D", json!({}), &[8, 4], "(depth, rows, ");
    let many = json!({"output_size": 100_000});
    refused("AdaptiveMaxPooling1D", many, &[8, 4], "\"output_size\"");
}

#[test]
fn sizes_beyond_all_memory_are_refused_before_anything_is_allocated() {
    let padded = "numbers per row with its padding";
    let huge = 1 << 30;
    let config = json!({"filters": 1, "kernel_size": 2, "dilation_rate": huge, "padding": "same"});
    refused("Conv1D", config, &[8, 2], padded);
    let config = json!({"filters": 9, "kernel_size": huge, "strides": huge});
    refused("Conv2DTranspose", config, &[4, 4, 1], padded);
    let config = json!({"pool_size": huge, "strides": 1, "padding": "same"});
    refused("AveragePooling3D", config, &[3, 3, 3, 2], padded);
    let config = json!({"filters": 1, "kernel_size": 1, "depth_multiplier": huge});
    refused("SeparableConv1D", config, &[8, 2], "between its two");
    let config = json!({"filters": 1, "kernel_size": 40_000});
    refused("LocallyConnected1D", config, &[80_000, 1], "windows hold");
}

#[test]
fn every_array_takes_its_initializer_and_regularizer_by_keras_names() {
    for (kind, prefixes, arrays) in [
        ("Conv2D", &["kernel", "bias"][..], &["kernel", "bias"][..]),
        ("Conv2DTranspose", &["kernel", "bias"], &["kernel", "bias"]),
        (
            "LocallyConnected2D",
            &["kernel", "bias"],
            &["kernel", "bias"],
        ),
        (
            "DepthwiseConv2D",
            &["depthwise", "bias"],
            &["kernel", "bias"],
        ),
        (
            "SeparableConv2D",
            &["depthwise", "pointwise", "bias"],
            &["depthwise_kernel", "pointwise_kernel", "bias"],
        ),
    ] {
        let mut config = Map::new();
        config.insert("kernel_size".into(), json!(2));
        if kind != "DepthwiseConv2D" {
            config.insert("filters".into(), json!(3));
        }
        for prefix in prefixes {
            config.insert(format!("{prefix}_initializer"), json!("ones"));
            config.insert(format!("{prefix}_regularizer"), json!("l2"));
        }
        let described = read("layer", kind, &config).unwrap();
        let specs = described.layer.parameters(&[Signal::float(&[4, 4, 2])]);
        let names: Vec<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
        assert_eq!(names, arrays, "{kind}");
        for spec in specs {
            assert_eq!(spec.initializer, Initializer::ONES, "{kind}");
            assert!(spec.regularizer.is_some(), "{kind}");
        }
    }
}

#[test]
fn whatever_is_accepted_runs_with_its_gradient_and_has_the_shape_that_was_said() {
    let mut draw = Draw(RandomKey::of(7, 0).stream(Purpose::Test));
    let mut accepted = 0;
    for _ in 0..3000 {
        let (kind, config, extents) = draw.layer();
        accepted += usize::from(record(&kind, &config, &extents));
    }
    assert!(accepted > 1000, "only {accepted} were accepted");
}

fn refused(kind: &str, config: Value, extents: &[usize], expected: &str) {
    let config: Map<String, Value> = serde_json::from_value(config).unwrap();
    let output = read("layer", kind, &config)
        .and_then(|described| described.layer.output("layer", &[Signal::float(extents)]));
    let found = output.expect_err(expected).to_string();
    assert!(found.contains(expected), "{kind}: {found}");
}

fn with(mut config: Value, more: Value) -> Value {
    let more: Map<String, Value> = serde_json::from_value(more).unwrap();
    config.as_object_mut().unwrap().extend(more);
    config
}

/// Whether a small layer takes two rows of these extents; if it does, it is recorded, and run unless it is large.
fn record(kind: &str, config: &Value, extents: &[usize]) -> bool {
    let options: Map<String, Value> = serde_json::from_value(config.clone()).unwrap();
    let signals = [Signal::float(extents)];
    let Ok(described) = read("layer", kind, &options) else {
        return false;
    };
    let Ok(signal) = described.layer.output("layer", &signals) else {
        return false;
    };
    // The model refuses rows and arrays of more numbers than it can hold.
    let mut offset = 0;
    let mut places = Vec::new();
    for spec in described.layer.parameters(&signals) {
        let shape = Shape::new(&spec.shape);
        places.push(Place {
            offset,
            shape: shape.clone(),
            trainable: true,
            regularizer: None,
            sparse: false,
        });
        offset = shape.len().saturating_add(offset);
    }
    if offset as u64 > NUMBERS_MAX || signal.width() as u64 > NUMBERS_MAX {
        return false;
    }
    let what = format!("{kind} {config} over {extents:?}");
    let mut graph = Graph::new();
    let shape = Shape::new(&[&[2], extents].concat());
    let len = offset + shape.len();
    let input = graph.add(Op::Parameter(offset, shape), &[]).unwrap();
    let mut collected = Collected::default();
    let mut context = Context::new(
        &mut graph,
        2,
        true,
        0,
        &places,
        &[],
        &[None],
        &mut collected,
    );
    let output = described.layer.forward(&mut context, &[input]);
    let output = output.unwrap_or_else(|error| panic!("{what}: {error}"));
    let said = Shape::new(&[&[2], &signal.extents[..]].concat());
    assert_eq!(graph.shape(output), &said, "{what}");
    let small = len.max(said.len()) < 100_000;
    if small {
        run(&what, &mut graph, output, (input, offset), len);
    }
    small
}

/// Runs a layer and its gradient by its input: all numbers are finite.
fn run(what: &str, graph: &mut Graph, output: NodeId, input: (NodeId, usize), len: usize) {
    let said = graph.shape(output).clone();
    let seed = graph.add(Op::Input(0, said.clone()), &[]).unwrap();
    let slopes = gradients(graph, &[(output, seed)], &[input.0]).unwrap();
    let mut kept = vec![(output, Destination::Keep)];
    kept.extend(slopes[0].map(|slope| (slope, Destination::Gradient(input.1))));
    let mut plan = Plan::new(graph, &kept).unwrap_or_else(|error| panic!("{what}: {error}"));
    let numbers: Vec<f32> = (0..len.max(said.len()))
        .map(|index| (index as f32 * 0.7).sin())
        .collect();
    let mut gradient = vec![0.0; len];
    let ran = plan.run(&mut Bindings {
        inputs: &[Data::Float32(&numbers[..said.len()])],
        more_inputs: &[],
        parameters: &numbers[..len],
        statistics: &[],
        gradient: &mut gradient,
        statistics_out: &mut [],
        key: RandomKey::of(0, 0),
    });
    ran.unwrap_or_else(|error| panic!("{what}: {error}"));
    let mut answers = plan.kept(0).iter().chain(&gradient);
    assert!(answers.all(|number| number.is_finite()), "{what}");
}

/// Layers of all kinds with small options, odd ones and huge ones.
struct Draw(RandomStream);

impl Draw {
    fn below(&mut self, bound: u64) -> usize {
        self.0.below(bound) as usize
    }

    fn counts(&mut self, rank: usize) -> Value {
        let mut count = || match self.below(40) {
            0 => 1 << 30,
            1 => 1000 + self.below(1000),
            _ => 1 + self.below(4),
        };
        (0..rank).map(|_| count()).collect()
    }

    fn layer(&mut self) -> (String, Value, Vec<usize>) {
        const KINDS: &[&str] = &[
            "Conv?D",
            "DepthwiseConv?D",
            "SeparableConv?D",
            "Conv?DTranspose",
            "LocallyConnected?D",
            "MaxPooling?D",
            "AveragePooling?D",
            "GlobalMaxPooling?D",
            "GlobalAveragePooling?D",
            "AdaptiveMaxPooling?D",
            "AdaptiveAveragePooling?D",
        ];
        const OPTIONS: &[&str] = &[
            "kernel_size",
            "pool_size",
            "output_size",
            "strides",
            "dilation_rate",
            "filters",
            "depth_multiplier",
            "output_padding",
            "padding",
            "data_format",
        ];
        let kind = KINDS[self.below(KINDS.len() as u64)];
        let rank = 1 + self.below(3);
        let mut config = json!({});
        for &option in OPTIONS {
            let required = match option {
                "kernel_size" => kind.contains("Conv") || kind.contains("Connected"),
                "filters" => !kind.contains("Pooling") && !kind.starts_with("Depthwise"),
                "pool_size" => kind.starts_with("Max") || kind.starts_with("Average"),
                "output_size" => kind.starts_with("Adaptive"),
                _ => false,
            };
            let known = match option {
                "strides" => !kind.starts_with("Global") && !kind.starts_with("Adaptive"),
                "padding" => !kind.starts_with("Global") && !kind.starts_with("Adaptive"),
                "dilation_rate" => kind.contains("Conv"),
                "depth_multiplier" => kind.starts_with("Depthwise") || kind.starts_with("Sep"),
                "output_padding" => kind.ends_with("Transpose"),
                "data_format" => true,
                _ => required,
            };
            if required || known && self.below(3) == 0 {
                config[option] = match option {
                    "padding" => json!("same"),
                    "data_format" => json!("channels_first"),
                    "output_padding" => json!(self.below(3)),
                    "filters" | "depth_multiplier" => json!(1 + self.below(4)),
                    _ => self.counts(rank),
                };
            }
        }
        let extents = (0..rank + 1).map(|_| self.below(9)).collect();
        (kind.replace('?', &rank.to_string()), config, extents)
    }
}
