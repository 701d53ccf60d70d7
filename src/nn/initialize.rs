//! First values of parameters, with Keras' names, arguments and meaning.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::support::random::{Purpose, RandomKey};

use super::error::SpecError;
use super::layer::bad_input;
use super::options::Options;

/// Standard deviation of a standard normal cut at two deviations; Keras divides by it.
const TRUNCATED_DEVIATION: f64 = 0.879_625_661_034_239_8;

/// How a parameter starts.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Initializer {
    Constant(f64),
    /// These numbers in row-major order, such as a pretrained table.
    Values(Arc<[f32]>),
    /// Rows or columns at right angles (Saxe et al., 2013), times a gain.
    Orthogonal(f64),
    /// Ones on the diagonal of a matrix, times a gain.
    Identity(f64),
    /// Four equal parts, of which the second is ones: an LSTM's bias, whose forget gate starts open.
    UnitForget(Box<Initializer>),
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
    Out,
    Average,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Distribution {
    Uniform,
    TruncatedNormal,
    Normal,
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
    "variance_scaling",
    "orthogonal",
    "identity",
    "values",
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
            "variance_scaling" => {
                let scale = inner.number("scale", 1.0, 0.0, LIMIT)?;
                let fan = match inner.word("mode")? {
                    None | Some("fan_in") => Fan::In,
                    Some("fan_out") => Fan::Out,
                    Some("fan_avg") => Fan::Average,
                    Some(other) => {
                        let hint = "known are fan_in, fan_out, fan_avg".to_string();
                        return Err(inner.bad("mode", &other.into(), hint));
                    }
                };
                let shape = match inner.word("distribution")? {
                    None | Some("truncated_normal") => Distribution::TruncatedNormal,
                    Some("untruncated_normal") => Distribution::Normal,
                    Some("uniform") => Distribution::Uniform,
                    Some(other) => {
                        let hint =
                            "known are truncated_normal, untruncated_normal, uniform".to_string();
                        return Err(inner.bad("distribution", &other.into(), hint));
                    }
                };
                scaling(scale, fan, shape)
            }
            "orthogonal" => Self::Orthogonal(inner.number("gain", 1.0, -LIMIT, LIMIT)?),
            "identity" => Self::Identity(inner.number("gain", 1.0, -LIMIT, LIMIT)?),
            "values" => Self::Values(inner.numbers("values")?.into()),
            _ => return Err(options.bad(option, value, hint())),
        };
        inner.finish()?;
        Ok(initializer)
    }

    /// Refuses an array that cannot start so.
    pub(super) fn check(&self, layer: &str, array: &str, shape: &[usize]) -> Result<(), SpecError> {
        let problem = match self {
            // The parts are what start so, and a whole array's worth of values is no part's.
            Self::UnitForget(inner) if matches!(**inner, Self::Values(_)) => {
                format!("{array} {shape:?} is given values and unit_forget_bias too")
            }
            Self::UnitForget(inner) => return inner.check(layer, array, shape),
            Self::Values(values) if values.len() != shape.iter().product::<usize>() => {
                format!("{array} {shape:?} is given {} values", values.len())
            }
            Self::Orthogonal(_) if shape.len() < 2 => {
                format!("{array} {shape:?} is no matrix and is to be orthogonal")
            }
            Self::Identity(_) if shape.len() != 2 => {
                format!("{array} {shape:?} is no matrix and is to be an identity")
            }
            _ => return Ok(()),
        };
        Err(bad_input(layer, problem, "give it another initializer"))
    }

    /// Fills a parameter of this shape from the stream of (seed, the parameter's position in the model).
    pub(super) fn fill(&self, shape: &[usize], seed: u64, position: u32, out: &mut [f32]) {
        if let Self::UnitForget(inner) = self {
            let units = out.len() / 4;
            let (first, rest) = out.split_at_mut(units);
            let (forget, last) = rest.split_at_mut(units);
            inner.fill(&[units], seed, position, first);
            forget.fill(1.0);
            // Numbers of their own, far from any other array's.
            return inner.fill(&[last.len()], seed, position ^ (1 << 31), last);
        }
        let mut stream = RandomKey::of(seed, position).stream(Purpose::Initializer);
        let mut fill =
            |mut draw: Box<dyn FnMut() -> f64>| out.iter_mut().for_each(|out| *out = draw() as f32);
        let (fan_in, fan_out) = fans(shape);
        match *self {
            Self::Constant(value) => fill(Box::new(|| value)),
            Self::Values(ref values) => out.copy_from_slice(values),
            Self::UnitForget(_) => {}
            Self::Identity(gain) => {
                out.fill(0.0);
                let columns = shape.last().copied().unwrap_or(1);
                out.iter_mut()
                    .step_by(columns + 1)
                    .take(columns)
                    .for_each(|out| *out = gain as f32);
            }
            Self::Orthogonal(gain) => {
                let columns = shape.last().copied().unwrap_or(1);
                orthogonal(out, columns, gain, || stream.normal());
            }
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
                    Fan::Out => fan_out,
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
                    Distribution::Normal => {
                        let deviation = variance.sqrt();
                        fill(Box::new(|| deviation * stream.normal()));
                    }
                }
            }
        }
    }
}

/// Fills a matrix with normal numbers and makes its shorter side's vectors orthonormal by modified Gram-Schmidt in
/// float64, which gives the same law as the sign-corrected QR decomposition (Mezzadri, 2007), then scales them.
fn orthogonal(out: &mut [f32], columns: usize, gain: f64, mut normal: impl FnMut() -> f64) {
    let columns = columns.max(1);
    let rows = out.len() / columns;
    let (count, len) = (rows.min(columns), rows.max(columns));
    let mut vectors: Vec<Vec<f64>> = Vec::with_capacity(count);
    while vectors.len() < count {
        let mut vector: Vec<f64> = (0..len).map(|_| normal()).collect();
        // Twice is enough (Giraud et al., 2005).
        for _ in 0..2 {
            for other in &vectors {
                let along: f64 = vector.iter().zip(other).map(|(a, b)| a * b).sum();
                vector
                    .iter_mut()
                    .zip(other)
                    .for_each(|(a, b)| *a -= along * b);
            }
        }
        let length = vector.iter().map(|x| x * x).sum::<f64>().sqrt();
        if length > 1e-9 {
            vector.iter_mut().for_each(|x| *x /= length);
            vectors.push(vector);
        }
    }
    for (position, out) in out.iter_mut().enumerate() {
        let (row, column) = (position / columns, position % columns);
        let value = if rows <= columns {
            vectors[row][column]
        } else {
            vectors[column][row]
        };
        *out = (gain * value) as f32;
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
    fn orthogonal_arrays_have_orthonormal_rows_or_columns() {
        for shape in [[5usize, 3], [3, 5], [4, 4], [1, 1]] {
            let mut out = vec![0.0; shape[0] * shape[1]];
            let gained = json!({"name": "orthogonal", "gain": 2.0});
            read(&gained).unwrap().fill(&shape, 3, 0, &mut out);
            let at = |row: usize, column: usize| f64::from(out[row * shape[1] + column]);
            let by_rows = shape[0] <= shape[1];
            let (count, len) = (shape[0].min(shape[1]), shape[0].max(shape[1]));
            for a in 0..count {
                for b in 0..count {
                    let product: f64 = (0..len)
                        .map(|i| {
                            if by_rows {
                                at(a, i) * at(b, i)
                            } else {
                                at(i, a) * at(i, b)
                            }
                        })
                        .sum();
                    let expected = if a == b { 4.0 } else { 0.0 };
                    assert!(
                        (product - expected).abs() < 1e-5,
                        "seed 3, {shape:?}: {product}"
                    );
                }
            }
        }
    }

    #[test]
    fn given_values_and_the_identity_are_written_as_they_are() {
        let mut out = vec![f32::NAN; 6];
        let values = read(&json!({"name": "values", "values": [[1, 2, 3], [4, 5, 6.5]]})).unwrap();
        values.fill(&[2, 3], 3, 0, &mut out);
        assert_eq!(out, [1.0, 2.0, 3.0, 4.0, 5.0, 6.5]);
        assert!(values.check("table", "embeddings", &[2, 3]).is_ok());
        let message = values
            .check("table", "embeddings", &[2, 4])
            .unwrap_err()
            .to_string();
        assert!(
            message.starts_with("layer \"table\": embeddings [2, 4] is given 6 values"),
            "{message}"
        );
        read(&json!("identity"))
            .unwrap()
            .fill(&[2, 3], 3, 0, &mut out);
        assert_eq!(out, [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]);
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
