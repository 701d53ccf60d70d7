//! First values of parameters, with Keras' names, arguments and meaning.

use serde_json::{Map, Value};

use crate::support::random::{Purpose, RandomKey};

use super::error::SpecError;
use super::options::Options;

/// Standard deviation of a standard normal cut at two deviations; Keras divides by it.
const TRUNCATED_DEVIATION: f64 = 0.879_625_661_034_239_8;

/// How a parameter starts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Initializer {
    Constant(f64),
    Uniform {
        low: f64,
        high: f64,
    },
    Normal {
        mean: f64,
        deviation: f64,
    },
    TruncatedNormal {
        mean: f64,
        deviation: f64,
    },
    /// Variance `scale / fan`.
    Scaling {
        scale: f64,
        fan: Fan,
        shape: Distribution,
    },
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Fan {
    In,
    Average,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Distribution {
    Uniform,
    TruncatedNormal,
}

/// The table of names; those with options take them from `{"name": ..., ...}`.
const NAMES: &[&str] = &[
    "glorot_uniform",
    "glorot_normal",
    "he_uniform",
    "he_normal",
    "lecun_uniform",
    "lecun_normal",
    "zeros",
    "ones",
    "constant",
    "random_uniform",
    "uniform",
    "random_normal",
    "truncated_normal",
];

impl Initializer {
    pub(super) const GLOROT_UNIFORM: Self = Self::Scaling {
        scale: 1.0,
        fan: Fan::Average,
        shape: Distribution::Uniform,
    };
    pub(super) const ZEROS: Self = Self::Constant(0.0);
    pub(super) const ONES: Self = Self::Constant(1.0);
    /// Keras' default for embeddings.
    pub(super) const SMALL_UNIFORM: Self = Self::Uniform {
        low: -0.05,
        high: 0.05,
    };

    /// Reads an option that is a name or an object with a name and options.
    pub(super) fn read(
        options: &mut Options<'_>,
        option: &'static str,
        default: Self,
    ) -> Result<Self, SpecError> {
        let Some(value) = options.value(option) else {
            return Ok(default);
        };
        let hint = || format!("known are {}", NAMES.join(", "));
        let (name, arguments) = match value {
            Value::String(name) => (name.as_str(), Map::new()),
            Value::Object(map) => match map.get("name").and_then(Value::as_str) {
                Some(name) => (
                    name,
                    map.iter()
                        .filter(|(key, _)| *key != "name")
                        .map(|(key, value)| (key.clone(), value.clone()))
                        .collect(),
                ),
                None => return Err(options.bad(option, value, hint())),
            },
            _ => return Err(options.bad(option, value, hint())),
        };
        let mut inner = Options::new(options.layer(), name, &arguments);
        const LIMIT: f64 = 1e6;
        let scaling = |scale, fan, shape| Initializer::Scaling { scale, fan, shape };
        let initializer = match name {
            "glorot_uniform" => scaling(1.0, Fan::Average, Distribution::Uniform),
            "glorot_normal" => scaling(1.0, Fan::Average, Distribution::TruncatedNormal),
            "he_uniform" => scaling(2.0, Fan::In, Distribution::Uniform),
            "he_normal" => scaling(2.0, Fan::In, Distribution::TruncatedNormal),
            "lecun_uniform" => scaling(1.0, Fan::In, Distribution::Uniform),
            "lecun_normal" => scaling(1.0, Fan::In, Distribution::TruncatedNormal),
            "zeros" => Self::ZEROS,
            "ones" => Self::ONES,
            "constant" => Self::Constant(inner.number("value", 0.0, -LIMIT, LIMIT)?),
            "random_uniform" | "uniform" => Self::Uniform {
                low: inner.number("minval", -0.05, -LIMIT, LIMIT)?,
                high: inner.number("maxval", 0.05, -LIMIT, LIMIT)?,
            },
            "random_normal" | "truncated_normal" => {
                let (mean, deviation) = (
                    inner.number("mean", 0.0, -LIMIT, LIMIT)?,
                    inner.number("stddev", 0.05, 0.0, LIMIT)?,
                );
                if name == "random_normal" {
                    Self::Normal { mean, deviation }
                } else {
                    Self::TruncatedNormal { mean, deviation }
                }
            }
            _ => return Err(options.bad(option, value, hint())),
        };
        inner.finish()?;
        Ok(initializer)
    }

    /// Fills a parameter of this shape from the stream of (seed, the parameter's position in the model).
    pub(super) fn fill(&self, shape: &[usize], seed: u64, position: u32, out: &mut [f32]) {
        let mut stream = RandomKey::of(seed, position).stream(Purpose::Initializer);
        let mut fill =
            |mut draw: Box<dyn FnMut() -> f64>| out.iter_mut().for_each(|out| *out = draw() as f32);
        let (fan_in, fan_out) = fans(shape);
        match *self {
            Self::Constant(value) => fill(Box::new(|| value)),
            Self::Uniform { low, high } => fill(Box::new(|| low + (high - low) * stream.uniform())),
            Self::Normal { mean, deviation } => {
                fill(Box::new(|| mean + deviation * stream.normal()))
            }
            Self::TruncatedNormal { mean, deviation } => {
                fill(Box::new(|| mean + deviation * stream.truncated_normal()))
            }
            Self::Scaling { scale, fan, shape } => {
                let fan = match fan {
                    Fan::In => fan_in,
                    Fan::Average => (fan_in + fan_out) / 2.0,
                };
                let variance = scale / fan.max(1.0);
                match shape {
                    Distribution::Uniform => {
                        let limit = (3.0 * variance).sqrt();
                        fill(Box::new(|| limit * (2.0 * stream.uniform() - 1.0)));
                    }
                    Distribution::TruncatedNormal => {
                        let deviation = variance.sqrt() / TRUNCATED_DEVIATION;
                        fill(Box::new(|| deviation * stream.truncated_normal()));
                    }
                }
            }
        }
    }
}

/// Fan in and fan out as Keras computes them: the innermost two extents times the receptive field.
fn fans(shape: &[usize]) -> (f64, f64) {
    match shape {
        [] => (1.0, 1.0),
        [only] => (*only as f64, *only as f64),
        [field @ .., inward, outward] => {
            let field: f64 = field.iter().map(|&extent| extent as f64).product();
            (*inward as f64 * field, *outward as f64 * field)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn initial_values_have_the_moments_keras_documents() {
        // (name, deviation, largest magnitude) for a kernel of 200 by 300.
        let glorot = (6.0f64 / 500.0).sqrt();
        let he = (2.0f64 / 200.0).sqrt();
        check(json!("glorot_uniform"), glorot / 3f64.sqrt(), glorot);
        check(json!("he_normal"), he, 2.0 * he / TRUNCATED_DEVIATION);
        check(
            json!("lecun_uniform"),
            (1.0f64 / 200.0).sqrt(),
            (3.0f64 / 200.0).sqrt(),
        );
        check(json!("random_uniform"), 0.05 / 3f64.sqrt(), 0.05);
        check(json!({"name": "random_normal", "stddev": 0.1}), 0.1, 0.6);
        check(json!("zeros"), 0.0, 0.0);
    }

    #[test]
    fn unknown_names_and_arguments_are_refused() {
        assert!(
            read(&json!("glorot"))
                .unwrap_err()
                .to_string()
                .contains("known are glorot_uniform")
        );
        assert!(
            read(&json!({"name": "zeros", "value": 3}))
                .unwrap_err()
                .to_string()
                .contains("unknown option \"value\"")
        );
        assert!(read(&json!(3)).is_err());
    }

    fn read(value: &Value) -> Result<Initializer, SpecError> {
        let values = Map::from_iter([("kernel_initializer".to_string(), value.clone())]);
        Initializer::read(
            &mut Options::new("dense", "Dense", &values),
            "kernel_initializer",
            Initializer::ZEROS,
        )
    }

    fn check(value: Value, deviation: f64, largest: f64) {
        let mut out = vec![0.0; 200 * 300];
        read(&value).unwrap().fill(&[200, 300], 3, 0, &mut out);
        let found =
            (out.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / out.len() as f64).sqrt();
        assert!(
            (found - deviation).abs() <= 0.02 * deviation,
            "seed 3, {value}: deviation {found}, not {deviation}"
        );
        assert!(
            out.iter()
                .all(|&x| f64::from(x.abs()) <= largest * 1.000_001),
            "seed 3, {value}"
        );
    }
}
