//! What a client asked for: one JSON object per transform, read strictly.

use serde_json::{Map, Value};

use super::{BUCKETS_MAX, Place};
use crate::features::FeatureError;
use crate::features::error::list_names;

/// One transform as asked for.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::features) enum TransformSpec {
    Impute {
        columns: Vec<String>,
        strategy: ImputeStrategy,
    },
    Standardize {
        columns: Vec<String>,
    },
    MinMax {
        columns: Vec<String>,
    },
    OneHot {
        columns: Vec<String>,
        /// Unseen categories have a place of their own.
        bucket: bool,
        limits: CategoryLimits,
    },
    StringIndex {
        columns: Vec<String>,
        limits: CategoryLimits,
    },
    Hash {
        columns: Vec<String>,
        buckets: u32,
    },
    Bucketize {
        columns: Vec<String>,
        edges: Edges,
    },
    Log1p {
        columns: Vec<String>,
    },
    Clip {
        columns: Vec<String>,
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
        columns: Vec<String>,
    },
}

/// What goes in the place of a missing value.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::features) enum ImputeStrategy {
    Mean,
    Median,
    MostFrequent,
    /// A JSON number, text or boolean.
    Constant(Value),
}

/// Which categories are kept.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(in crate::features) struct CategoryLimits {
    /// At most so many, the most frequent ones.
    pub max_categories: Option<u64>,
    /// Only those met so often.
    pub min_frequency: Option<u64>,
}

#[derive(Debug, Clone, PartialEq)]
pub(in crate::features) enum Edges {
    /// Ascending.
    Boundaries(Vec<f64>),
    /// Number of buckets with equally many rows.
    Quantiles(u32),
}

/// Every transform's name, for errors.
const NAMES: [&str; 12] = [
    "impute",
    "standardize",
    "min_max",
    "one_hot",
    "string_index",
    "hash",
    "bucketize",
    "log1p",
    "clip",
    "cross",
    "expression",
    "drop",
];

impl TransformSpec {
    /// Reads step number `step` (from 1).
    pub(in crate::features) fn from_json(step: usize, json: &Value) -> Result<Self, FeatureError> {
        let Value::Object(members) = json else {
            return Err(Place {
                step,
                transform: "?",
            }
            .refuse(
                "it is not a JSON object; write {\"transform\": \"impute\", \"columns\": [...]}",
            ));
        };
        let Some(Value::String(name)) = members.get("transform") else {
            return Err(Place {
                step,
                transform: "?",
            }
            .refuse(format!(
                "it has no \"transform\"; name one of {}",
                NAMES.join(", ")
            )));
        };
        let mut options = Options::new(step, name, members);
        let spec = match name.as_str() {
            "impute" => {
                let columns = options.columns()?;
                let strategy = options.text("strategy")?.unwrap_or_else(|| "median".into());
                let value = options.take("fill_value");
                let strategy = match (strategy.as_str(), value) {
                    ("mean", None) => ImputeStrategy::Mean,
                    ("median", None) => ImputeStrategy::Median,
                    ("most_frequent", None) => ImputeStrategy::MostFrequent,
                    (
                        "constant",
                        Some(value @ (Value::String(_) | Value::Number(_) | Value::Bool(_))),
                    ) => ImputeStrategy::Constant(value.clone()),
                    ("constant", _) => {
                        return Err(options.refuse(
                            "strategy \"constant\" needs a number, text or boolean; give `fill_value`",
                        ));
                    }
                    ("mean" | "median" | "most_frequent", Some(_)) => {
                        return Err(options.refuse(
                            "`fill_value` is for strategy \"constant\" alone; leave one of them out",
                        ));
                    }
                    (other, _) => {
                        return Err(options.refuse(format!(
                            "there is no strategy {other:?}; use mean, median, most_frequent or constant"
                        )));
                    }
                };
                Self::Impute { columns, strategy }
            }
            "standardize" => Self::Standardize {
                columns: options.columns()?,
            },
            "min_max" => Self::MinMax {
                columns: options.columns()?,
            },
            "one_hot" => Self::OneHot {
                columns: options.columns()?,
                bucket: match options.text("handle_unknown")?.as_deref() {
                    None | Some("bucket") => true,
                    Some("ignore") => false,
                    Some(other) => {
                        return Err(options.refuse(format!(
                            "handle_unknown is {other:?}; use \"bucket\" or \"ignore\""
                        )));
                    }
                },
                limits: options.limits()?,
            },
            "string_index" => Self::StringIndex {
                columns: options.columns()?,
                limits: options.limits()?,
            },
            "hash" => Self::Hash {
                columns: options.columns()?,
                buckets: options.buckets()?,
            },
            "bucketize" => {
                let columns = options.columns()?;
                let boundaries = options.numbers("boundaries")?;
                let quantiles = options.whole("quantiles", 2, 10_000)?;
                let edges = match (boundaries, quantiles) {
                    (Some(boundaries), None) => {
                        let ascends = boundaries.windows(2).all(|pair| pair[0] < pair[1]);
                        if boundaries.is_empty() || !ascends {
                            return Err(options.refuse(
                                "`boundaries` must ascend and have at least one number; sort them and leave doubles out",
                            ));
                        }
                        Edges::Boundaries(boundaries)
                    }
                    (None, Some(quantiles)) => Edges::Quantiles(quantiles as u32),
                    _ => {
                        return Err(options.refuse("give either `boundaries` or `quantiles`"));
                    }
                };
                Self::Bucketize { columns, edges }
            }
            "log1p" => Self::Log1p {
                columns: options.columns()?,
            },
            "clip" => {
                let columns = options.columns()?;
                let (min, max) = (options.number("min")?, options.number("max")?);
                match (min, max) {
                    (None, None) => return Err(options.refuse("give `min`, `max` or both")),
                    (Some(min), Some(max)) if min > max => {
                        return Err(options
                            .refuse(format!("`min` {min} is above `max` {max}; exchange them")));
                    }
                    _ => Self::Clip { columns, min, max },
                }
            }
            "cross" => {
                let columns = options.columns()?;
                if columns.len() < 2 {
                    return Err(options
                        .refuse("a cross is of at least two columns; name more, or use hash"));
                }
                Self::Cross {
                    columns,
                    name: options.required_text("name")?,
                    buckets: options.buckets()?,
                }
            }
            "expression" => Self::Expression {
                name: options.required_text("name")?,
                sql: options.required_text("sql")?,
            },
            "drop" => Self::Drop {
                columns: options.columns()?,
            },
            _ => {
                return Err(options.refuse(format!(
                    "there is no such transform; use one of {}",
                    NAMES.join(", ")
                )));
            }
        };
        options.finish()?;
        Ok(spec)
    }

    pub(in crate::features) fn name(&self) -> &'static str {
        match self {
            Self::Impute { .. } => "impute",
            Self::Standardize { .. } => "standardize",
            Self::MinMax { .. } => "min_max",
            Self::OneHot { .. } => "one_hot",
            Self::StringIndex { .. } => "string_index",
            Self::Hash { .. } => "hash",
            Self::Bucketize { .. } => "bucketize",
            Self::Log1p { .. } => "log1p",
            Self::Clip { .. } => "clip",
            Self::Cross { .. } => "cross",
            Self::Expression { .. } => "expression",
            Self::Drop { .. } => "drop",
        }
    }
}

/// The members of one object, each taken once; what is left over is unknown.
struct Options<'a> {
    place: Place<'a>,
    members: &'a Map<String, Value>,
    taken: Vec<&'static str>,
}

impl<'a> Options<'a> {
    fn new(step: usize, transform: &'a str, members: &'a Map<String, Value>) -> Self {
        Self {
            place: Place { step, transform },
            members,
            taken: vec!["transform"],
        }
    }

    fn refuse(&self, reason: impl Into<String>) -> FeatureError {
        self.place.refuse(reason)
    }

    /// A member that is there and not null.
    fn take(&mut self, option: &'static str) -> Option<&'a Value> {
        self.taken.push(option);
        self.members.get(option).filter(|value| !value.is_null())
    }

    fn text(&mut self, option: &'static str) -> Result<Option<String>, FeatureError> {
        match self.take(option) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(other) => Err(self.refuse(format!("`{option}` is {other}; give text"))),
        }
    }

    fn required_text(&mut self, option: &'static str) -> Result<String, FeatureError> {
        match self.text(option)? {
            Some(text) if !text.trim().is_empty() => Ok(text),
            _ => Err(self.refuse(format!("`{option}` is missing; give it as text"))),
        }
    }

    fn columns(&mut self) -> Result<Vec<String>, FeatureError> {
        let wrong = "`columns` must be a list of column names with at least one";
        let names = match self.take("columns") {
            Some(Value::Array(names)) => names
                .iter()
                .map(|name| match name {
                    Value::String(name) => Ok(name.clone()),
                    other => {
                        Err(self.refuse(format!("{other} in `columns` is not a name; give text")))
                    }
                })
                .collect::<Result<Vec<_>, _>>()?,
            _ => return Err(self.refuse(wrong)),
        };
        if names.is_empty() {
            return Err(self.refuse(wrong));
        }
        for (at, name) in names.iter().enumerate() {
            if names[..at].contains(name) {
                return Err(self.refuse(format!("column {name:?} is named twice; name it once")));
            }
        }
        Ok(names)
    }

    fn number(&mut self, option: &'static str) -> Result<Option<f64>, FeatureError> {
        match self.take(option) {
            None => Ok(None),
            Some(value) => match value.as_f64().filter(|number| number.is_finite()) {
                Some(number) => Ok(Some(number)),
                None => Err(self.refuse(format!("`{option}` is {value}; give a number"))),
            },
        }
    }

    fn numbers(&mut self, option: &'static str) -> Result<Option<Vec<f64>>, FeatureError> {
        match self.take(option) {
            None => Ok(None),
            Some(Value::Array(values)) => values
                .iter()
                .map(|value| {
                    value
                        .as_f64()
                        .filter(|number| number.is_finite())
                        .ok_or_else(|| {
                            self.refuse(format!("{value} in `{option}` is not a number"))
                        })
                })
                .collect::<Result<Vec<_>, _>>()
                .map(Some),
            Some(other) => {
                Err(self.refuse(format!("`{option}` is {other}; give a list of numbers")))
            }
        }
    }

    /// A whole number; protobuf's Struct sends it as a float.
    fn whole(
        &mut self,
        option: &'static str,
        least: u64,
        most: u64,
    ) -> Result<Option<u64>, FeatureError> {
        match self.number(option)? {
            None => Ok(None),
            Some(number)
                if number.fract() == 0.0 && number >= least as f64 && number <= most as f64 =>
            {
                Ok(Some(number as u64))
            }
            Some(number) => Err(self.refuse(format!(
                "`{option}` is {number}; give a whole number from {least} to {most}"
            ))),
        }
    }

    fn buckets(&mut self) -> Result<u32, FeatureError> {
        match self.whole("buckets", 1, u64::from(BUCKETS_MAX))? {
            Some(buckets) => Ok(buckets as u32),
            None => Err(self.refuse("`buckets` is missing; give how many there shall be")),
        }
    }

    fn limits(&mut self) -> Result<CategoryLimits, FeatureError> {
        Ok(CategoryLimits {
            max_categories: self.whole("max_categories", 1, u64::from(BUCKETS_MAX))?,
            min_frequency: self.whole("min_frequency", 1, 1 << 53)?,
        })
    }

    fn finish(self) -> Result<(), FeatureError> {
        match self
            .members
            .keys()
            .find(|key| !self.taken.contains(&key.as_str()))
        {
            None => Ok(()),
            Some(unknown) => Err(self.refuse(format!(
                "there is no option {unknown:?}; options are {}",
                list_names(self.taken[1..].iter().copied())
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_that_arrive_as_floats_are_whole_when_they_are() {
        let spec = |buckets: f64| {
            TransformSpec::from_json(
                1,
                &json!({"transform": "hash", "columns": ["a"], "buckets": buckets}),
            )
        };
        assert_eq!(
            spec(16.0).unwrap(),
            TransformSpec::Hash {
                columns: vec!["a".into()],
                buckets: 16
            }
        );
        assert!(spec(16.5).is_err());
    }

    #[test]
    fn every_mistake_is_named_with_its_step_and_a_remedy() {
        let columns = json!(["a"]);
        for (json, said) in [
            (json!(3), "not a JSON object"),
            (json!({"columns": columns}), "has no \"transform\""),
            (
                json!({"transform": "whiten", "columns": columns}),
                "no such transform; use one of",
            ),
            (
                json!({"transform": "hash", "columns": columns}),
                "`buckets` is missing",
            ),
            (
                json!({"transform": "hash", "columns": columns, "buckets": 0}),
                "from 1 to",
            ),
            (json!({"transform": "standardize"}), "`columns` must be"),
            (
                json!({"transform": "standardize", "columns": []}),
                "at least one",
            ),
            (
                json!({"transform": "standardize", "columns": ["a", "a"]}),
                "named twice",
            ),
            (
                json!({"transform": "standardize", "columns": columns, "mean": 1}),
                "no option \"mean\"; options are \"columns\"",
            ),
            (
                json!({"transform": "impute", "columns": columns, "strategy": "mode"}),
                "no strategy \"mode\"",
            ),
            (
                json!({"transform": "impute", "columns": columns, "strategy": "constant"}),
                "give `fill_value`",
            ),
            (
                json!({"transform": "one_hot", "columns": columns, "handle_unknown": "error"}),
                "use \"bucket\"",
            ),
            (
                json!({"transform": "bucketize", "columns": columns}),
                "either `boundaries` or `quantiles`",
            ),
            (
                json!({"transform": "bucketize", "columns": columns, "boundaries": [2, 1]}),
                "must ascend",
            ),
            (
                json!({"transform": "clip", "columns": columns}),
                "give `min`",
            ),
            (
                json!({"transform": "clip", "columns": columns, "min": 2, "max": 1}),
                "exchange them",
            ),
            (
                json!({"transform": "cross", "columns": columns, "name": "x", "buckets": 2}),
                "at least two columns",
            ),
            (
                json!({"transform": "expression", "name": "x"}),
                "`sql` is missing",
            ),
        ] {
            let error = TransformSpec::from_json(4, &json).unwrap_err().to_string();
            assert!(
                error.contains(said) && error.contains("step 4"),
                "{json}: {error}"
            );
        }
    }
}
