//! What a hostile or careless writer does to a description, one change at a time.

use serde_json::{Map, Value, json};

use super::super::{FeatureColumn, FeatureKind};
use super::Case;
use crate::support::random::RandomStream;

fn draw(stream: &mut RandomStream, bound: usize) -> usize {
    stream.below(bound.max(1) as u64) as usize
}

/// Changes one thing in the description or in the features it is joined to.
pub(super) fn mutate(
    spec: &mut Value,
    features: &mut [FeatureColumn],
    cases: &[Case],
    stream: &mut RandomStream,
) {
    match draw(stream, 10) {
        0 => anywhere(spec, stream),
        1 => features_of(features, stream),
        2 | 3 => connections(spec, stream),
        4 => nested(spec, stream),
        _ => option(spec, cases, stream),
    }
}

/// A value that no option expects, or one far out of range.
fn hostile(stream: &mut RandomStream) -> Value {
    match draw(stream, 26) {
        0 => Value::Null,
        1 => json!(true),
        2 => json!("NaN"),
        3 => json!(""),
        4 => json!("x".repeat(10_000)),
        5 => json!([]),
        6 => json!({}),
        7 => json!({"name": "constant", "value": 1e300}),
        8 => json!(vec![1; 10_000]),
        9 => (0..100).fold(json!(1), |inner, _| json!([inner])),
        10 => json!(-1),
        11 => json!(0),
        12 => json!(0.5),
        13 => json!(-1e300),
        14 => json!(1e12),
        15 => json!(u64::MAX),
        16 => json!(i64::MIN),
        17 => json!(1u64 << 30),
        18 => json!(1u64 << 20),
        19 => json!(4096),
        20 => json!([1 << 20, 1 << 20]),
        21 => json!([-1, 1]),
        22 => json!([1e9, 1, 1]),
        23 => json!([[1, 2], [3]]),
        24 => json!(draw(stream, 9)),
        _ => json!([draw(stream, 4), draw(stream, 4)]),
    }
}

/// A number, or a few, that an option could have.
fn plausible(stream: &mut RandomStream) -> Value {
    let mut one = || match draw(stream, 4) {
        0 => 1u64 << draw(stream, 22),
        _ => draw(stream, 9) as u64,
    };
    let (first, second, third) = (one(), one(), one());
    match draw(stream, 5) {
        0 | 1 => json!(first),
        2 => json!([first, second]),
        3 => json!([first, second, third]),
        _ => json!([[first, second], [third, first]]),
    }
}

/// Another value, an entry more or an entry less in any place.
fn anywhere(json: &mut Value, stream: &mut RandomStream) {
    let inside = match json {
        Value::Array(list) if !list.is_empty() && draw(stream, 6) > 0 => {
            let at = draw(stream, list.len());
            list.get_mut(at)
        }
        Value::Object(map) if !map.is_empty() && draw(stream, 10) > 0 => {
            let at = draw(stream, map.len());
            map.values_mut().nth(at)
        }
        _ => None,
    };
    if let Some(inside) = inside {
        return anywhere(inside, stream);
    }
    match json {
        Value::Object(map) if draw(stream, 2) == 0 => {
            let at = draw(stream, map.len());
            if let Some(key) = map.keys().nth(at).cloned() {
                map.remove(&key);
            }
        }
        Value::Object(map) if draw(stream, 2) == 0 => {
            map.insert("extra".to_string(), hostile(stream));
        }
        Value::Array(list) if draw(stream, 2) == 0 => list.push(hostile(stream)),
        other => *other = hostile(stream),
    }
}

/// Features of other widths and kinds than the inputs were written for.
fn features_of(features: &mut [FeatureColumn], stream: &mut RandomStream) {
    let at = draw(stream, features.len());
    let feature = &mut features[at];
    match draw(stream, 6) {
        0 => feature.width = 0,
        1 => feature.width = 1 << 20,
        2 => feature.width = usize::MAX,
        3 => feature.width = feature.width.saturating_add(1),
        4 => feature.kind = FeatureKind::Float,
        _ => feature.name = "other".to_string(),
    }
}

/// The layers of a description, where there are some that are objects.
fn layers_of(spec: &mut Value) -> Option<&mut Vec<Value>> {
    let layers = spec.get_mut("layers")?.as_array_mut()?;
    let sound = !layers.is_empty() && layers.iter().all(Value::is_object);
    sound.then_some(layers)
}

/// Circles, swaps, names given twice, layers missing, outputs of layers by number, shared arrays.
fn connections(spec: &mut Value, stream: &mut RandomStream) {
    let kind = 1 + draw(stream, 11);
    let Some(layers) = layers_of(spec) else {
        return;
    };
    let names: Vec<Value> = layers.iter().map(|layer| layer["name"].clone()).collect();
    let (one, other) = (draw(stream, layers.len()), draw(stream, layers.len()));
    let numbered =
        |name: &Value, number: &str| json!(format!("{}:{number}", name.as_str().unwrap_or("")));
    match kind {
        1 => layers[one]["inputs"] = json!([names[other]]),
        2 => {
            let taken = layers[one]["inputs"].clone();
            layers[one]["inputs"] = std::mem::replace(&mut layers[other]["inputs"], taken);
        }
        3 => layers[one]["name"] = names[other].clone(),
        4 => drop(layers.remove(one)),
        5 => layers[one]["inputs"] = json!(vec![names[other].clone(); 3000]),
        6 => {
            let number = ["0", "1", "999999999999999999999", "-1"][draw(stream, 4)];
            layers[one]["inputs"] = json!([numbered(&names[other], number)]);
        }
        7 => layers[one]["shares"] = names[other].clone(),
        8 => {
            let mut copy = layers[one].clone();
            copy["name"] = json!("copy");
            copy["shares"] = names[one].clone();
            layers.push(copy);
            layers[other]["inputs"] = json!(["copy", names[one]]);
        }
        9 => {
            if let Some(inputs) = layers[one]["inputs"].as_array_mut() {
                inputs.reverse();
            }
        }
        10 => spec["format_version"] = hostile(stream),
        _ => spec["outputs"] = json!([names[one], names[other]]),
    }
}

/// A layer inside layers inside layers.
fn nested(spec: &mut Value, stream: &mut RandomStream) {
    let Some(layers) = layers_of(spec) else {
        return;
    };
    let at = draw(stream, layers.len());
    let depth = [1, 2, 5, 100][draw(stream, 4)];
    let wrapper = ["TimeDistributed", "Bidirectional"][draw(stream, 2)];
    for _ in 0..depth {
        let inner = json!({"layer": layers[at]["layer"], "config": layers[at]["config"]});
        layers[at]["layer"] = json!(wrapper);
        layers[at]["config"] = json!({"layer": inner});
    }
}

/// An option with another value: one of another case's, or a hostile one.
fn option(spec: &mut Value, cases: &[Case], stream: &mut RandomStream) {
    let Some(layers) = layers_of(spec) else {
        return;
    };
    let at = draw(stream, layers.len());
    let Some(kind) = layers[at]["layer"].as_str() else {
        return;
    };
    let alike: Vec<&Case> = cases.iter().filter(|case| case.layer == kind).collect();
    let from: &Map<String, Value> = match alike.is_empty() || draw(stream, 8) == 0 {
        true => &cases[draw(stream, cases.len())].config,
        false => &alike[draw(stream, alike.len())].config,
    };
    let Some((key, value)) = from.iter().nth(draw(stream, from.len())) else {
        return;
    };
    let value = match draw(stream, 4) {
        0 => value.clone(),
        1 => plausible(stream),
        _ => hostile(stream),
    };
    if let Some(config) = layers[at].as_object_mut() {
        let config = config.entry("config").or_insert_with(|| json!({}));
        if let Some(config) = config.as_object_mut() {
            config.insert(key.clone(), value);
        }
    }
}
