//! What fitting learnt: one step per column, complete in itself, and its saved form.
//!
//! The saved form is a promise to models already in stores: members are added, never given another meaning, and
//! `format_version` of the pipeline is raised when an old reader would go wrong.
//! Float64 numbers are saved as text in Rust's shortest exact form: readers of JSON numbers may be off by one bit.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::Place;
use crate::features::FeatureError;
use crate::features::functions::{Categories, CategoryValues};

#[derive(Debug, Clone, PartialEq)]
pub(in crate::features) enum FillValue {
    Number(f64),
    Integer(i64),
    Boolean(bool),
    Text(String),
}

/// One transform of one column, ready to be applied.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::features) enum FittedStep {
    Fill {
        column: String,
        value: FillValue,
    },
    /// `(x - shift) / scale`; `min_max` or else `standardize`.
    Scale {
        column: String,
        min_max: bool,
        shift: f64,
        scale: f64,
    },
    OneHot {
        column: String,
        categories: Arc<Categories>,
        bucket: bool,
    },
    Index {
        column: String,
        categories: Arc<Categories>,
    },
    Hash {
        column: String,
        buckets: u32,
    },
    Bucketize {
        column: String,
        boundaries: Arc<[f64]>,
    },
    Log1p {
        column: String,
    },
    Clip {
        column: String,
        min: Option<f64>,
        max: Option<f64>,
    },
    Cross {
        columns: Vec<String>,
        name: String,
        buckets: u32,
    },
    Expression {
        name: String,
        sql: String,
    },
    Drop {
        column: String,
    },
}

impl FittedStep {
    pub(in crate::features) fn transform(&self) -> &'static str {
        match self {
            Self::Fill { .. } => "impute",
            Self::Scale { min_max: false, .. } => "standardize",
            Self::Scale { min_max: true, .. } => "min_max",
            Self::OneHot { .. } => "one_hot",
            Self::Index { .. } => "string_index",
            Self::Hash { .. } => "hash",
            Self::Bucketize { .. } => "bucketize",
            Self::Log1p { .. } => "log1p",
            Self::Clip { .. } => "clip",
            Self::Cross { .. } => "cross",
            Self::Expression { .. } => "expression",
            Self::Drop { .. } => "drop",
        }
    }

    pub(in crate::features) fn to_json(&self) -> Value {
        let mut members = Map::new();
        members.insert("transform".into(), self.transform().into());
        let mut put = |key: &str, value: Value| {
            members.insert(key.to_owned(), value);
        };
        match self {
            Self::Fill { column, value } => {
                put("column", json!(column));
                let (kind, text) = match value {
                    FillValue::Number(number) => ("float", exact(*number)),
                    FillValue::Integer(number) => ("integer", json!(number.to_string())),
                    FillValue::Boolean(value) => ("boolean", json!(value.to_string())),
                    FillValue::Text(text) => ("text", json!(text)),
                };
                put("type", json!(kind));
                put("value", text);
            }
            Self::Scale {
                column,
                shift,
                scale,
                ..
            } => {
                put("column", json!(column));
                put("shift", exact(*shift));
                put("scale", exact(*scale));
            }
            Self::OneHot {
                column,
                categories,
                bucket,
            } => {
                put("column", json!(column));
                put("categories", categories_json(categories));
                put("bucket", json!(bucket));
            }
            Self::Index { column, categories } => {
                put("column", json!(column));
                put("categories", categories_json(categories));
            }
            Self::Hash { column, buckets } => {
                put("column", json!(column));
                put("buckets", json!(buckets));
            }
            Self::Bucketize { column, boundaries } => {
                put("column", json!(column));
                put(
                    "boundaries",
                    boundaries.iter().map(|edge| exact(*edge)).collect(),
                );
            }
            Self::Log1p { column } | Self::Drop { column } => put("column", json!(column)),
            Self::Clip { column, min, max } => {
                put("column", json!(column));
                if let Some(min) = min {
                    put("min", exact(*min));
                }
                if let Some(max) = max {
                    put("max", exact(*max));
                }
            }
            Self::Cross {
                columns,
                name,
                buckets,
            } => {
                put("columns", json!(columns));
                put("name", json!(name));
                put("buckets", json!(buckets));
            }
            Self::Expression { name, sql } => {
                put("name", json!(name));
                put("sql", json!(sql));
            }
        }
        Value::Object(members)
    }

    /// Reads step `number` of a saved pipeline.
    pub(in crate::features) fn from_json(
        number: usize,
        json: &Value,
    ) -> Result<Self, FeatureError> {
        let saved = Saved {
            place: Place {
                step: number,
                transform: json.get("transform").and_then(Value::as_str).unwrap_or("?"),
            },
            json,
        };
        Ok(match saved.place.transform {
            "impute" => {
                let text = saved.text("value")?;
                Self::Fill {
                    column: saved.text("column")?,
                    value: match saved.text("type")?.as_str() {
                        "float" => FillValue::Number(saved.parse("value", &text)?),
                        "integer" => FillValue::Integer(saved.parse("value", &text)?),
                        "boolean" => FillValue::Boolean(saved.parse("value", &text)?),
                        "text" => FillValue::Text(text),
                        _ => return Err(saved.broken("type")),
                    },
                }
            }
            name @ ("standardize" | "min_max") => Self::Scale {
                column: saved.text("column")?,
                min_max: name == "min_max",
                shift: saved.float("shift")?,
                scale: saved.float("scale")?,
            },
            "one_hot" => Self::OneHot {
                column: saved.text("column")?,
                categories: saved.categories()?,
                bucket: saved
                    .json
                    .get("bucket")
                    .and_then(Value::as_bool)
                    .ok_or_else(|| saved.broken("bucket"))?,
            },
            "string_index" => Self::Index {
                column: saved.text("column")?,
                categories: saved.categories()?,
            },
            "hash" => Self::Hash {
                column: saved.text("column")?,
                buckets: saved.buckets()?,
            },
            "bucketize" => Self::Bucketize {
                column: saved.text("column")?,
                boundaries: saved
                    .texts("boundaries")?
                    .iter()
                    .map(|edge| saved.parse("boundaries", edge))
                    .collect::<Result<_, _>>()?,
            },
            "log1p" => Self::Log1p {
                column: saved.text("column")?,
            },
            "clip" => Self::Clip {
                column: saved.text("column")?,
                min: saved.optional_float("min")?,
                max: saved.optional_float("max")?,
            },
            "cross" => Self::Cross {
                columns: saved.texts("columns")?,
                name: saved.text("name")?,
                buckets: saved.buckets()?,
            },
            "expression" => Self::Expression {
                name: saved.text("name")?,
                sql: saved.text("sql")?,
            },
            "drop" => Self::Drop {
                column: saved.text("column")?,
            },
            _ => return Err(saved.broken("transform")),
        })
    }
}

/// A float64 as text that reads back to the same bits.
fn exact(number: f64) -> Value {
    Value::String(format!("{number:?}"))
}

fn categories_json(categories: &Categories) -> Value {
    let (kind, values): (&str, Vec<Value>) = match categories.values() {
        CategoryValues::Text(texts) => ("text", texts.iter().map(|text| json!(text)).collect()),
        CategoryValues::Integer(numbers) => (
            "integer",
            numbers
                .iter()
                .map(|number| json!(number.to_string()))
                .collect(),
        ),
    };
    json!({"type": kind, "values": values, "null": categories.has_null()})
}

/// One saved step being read.
struct Saved<'a> {
    place: Place<'a>,
    json: &'a Value,
}

impl Saved<'_> {
    fn broken(&self, member: &str) -> FeatureError {
        self.place.refuse(format!(
            "the saved pipeline has no usable `{member}`; it was written by a later version, or altered"
        ))
    }

    fn text(&self, member: &str) -> Result<String, FeatureError> {
        self.json
            .get(member)
            .and_then(Value::as_str)
            .map(str::to_owned)
            .ok_or_else(|| self.broken(member))
    }

    fn texts(&self, member: &str) -> Result<Vec<String>, FeatureError> {
        texts(self.json.get(member)).ok_or_else(|| self.broken(member))
    }

    fn parse<T: std::str::FromStr>(&self, member: &str, text: &str) -> Result<T, FeatureError> {
        text.parse().map_err(|_| self.broken(member))
    }

    fn float(&self, member: &str) -> Result<f64, FeatureError> {
        self.parse(member, &self.text(member)?)
    }

    fn optional_float(&self, member: &str) -> Result<Option<f64>, FeatureError> {
        match self.json.get(member) {
            None => Ok(None),
            Some(_) => self.float(member).map(Some),
        }
    }

    fn buckets(&self) -> Result<u32, FeatureError> {
        self.json
            .get("buckets")
            .and_then(Value::as_u64)
            .and_then(|buckets| u32::try_from(buckets).ok())
            .filter(|buckets| (1..=super::BUCKETS_MAX).contains(buckets))
            .ok_or_else(|| self.broken("buckets"))
    }

    fn categories(&self) -> Result<Arc<Categories>, FeatureError> {
        let broken = || self.broken("categories");
        let saved = self.json.get("categories").ok_or_else(broken)?;
        let values = texts(saved.get("values")).ok_or_else(broken)?;
        let values = match saved.get("type").and_then(Value::as_str) {
            Some("text") => CategoryValues::Text(values),
            Some("integer") => CategoryValues::Integer(
                values
                    .iter()
                    .map(|value| self.parse("categories", value))
                    .collect::<Result<_, _>>()?,
            ),
            _ => return Err(broken()),
        };
        let null = saved
            .get("null")
            .and_then(Value::as_bool)
            .ok_or_else(broken)?;
        Ok(Arc::new(Categories::new(values, null)))
    }
}

fn texts(value: Option<&Value>) -> Option<Vec<String>> {
    value?
        .as_array()?
        .iter()
        .map(|text| text.as_str().map(str::to_owned))
        .collect()
}
