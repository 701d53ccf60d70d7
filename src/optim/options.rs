//! Reading a description's options: every one is taken by name, and what is left over is refused by name.

use serde_json::{Map, Value};

use super::error::OptimizerError;

/// The options of one optimiser or schedule while they are read.
pub(super) struct Options<'a> {
    name: &'a str,
    values: &'a Map<String, Value>,
    known: Vec<&'static str>,
}

impl<'a> Options<'a> {
    /// `values` has the key "name", which is `name`.
    pub(super) fn new(name: &'a str, values: &'a Map<String, Value>) -> Self {
        Options {
            name,
            values,
            known: vec!["name"],
        }
    }

    /// The value of an option; `None` when absent or null.
    pub(super) fn value(&mut self, option: &'static str) -> Option<&'a Value> {
        self.known.push(option);
        self.values.get(option).filter(|value| !value.is_null())
    }

    pub(super) fn number(
        &mut self,
        option: &'static str,
        default: f64,
        low: f64,
        high: f64,
    ) -> Result<f64, OptimizerError> {
        let found = self.optional_number(option, low, high)?;
        Ok(found.unwrap_or(default))
    }

    pub(super) fn optional_number(
        &mut self,
        option: &'static str,
        low: f64,
        high: f64,
    ) -> Result<Option<f64>, OptimizerError> {
        let Some(value) = self.value(option) else {
            return Ok(None);
        };
        match value.as_f64() {
            Some(number) if (low..=high).contains(&number) => Ok(Some(number)),
            _ => Err(self.bad(
                option,
                value,
                format!("give a number from {} to {}", short(low), short(high)),
            )),
        }
    }

    /// A whole number from 1, of what `of` says.
    pub(super) fn count(&mut self, option: &'static str, of: &str) -> Result<u64, OptimizerError> {
        let found = self.value(option).cloned().unwrap_or(Value::Null);
        whole(&found).filter(|count| *count > 0).ok_or_else(|| {
            self.bad(
                option,
                &found,
                format!("give a whole number of {of} from 1"),
            )
        })
    }

    /// A whole number from `least`, or none.
    pub(super) fn optional_count(
        &mut self,
        option: &'static str,
        least: u64,
        hint: &str,
    ) -> Result<Option<u64>, OptimizerError> {
        let Some(value) = self.value(option) else {
            return Ok(None);
        };
        match whole(value).filter(|count| *count >= least) {
            Some(count) => Ok(Some(count)),
            None => Err(self.bad(option, value, hint.to_string())),
        }
    }

    pub(super) fn flag(&mut self, option: &'static str) -> Result<bool, OptimizerError> {
        let Some(value) = self.value(option) else {
            return Ok(false);
        };
        value
            .as_bool()
            .ok_or_else(|| self.bad(option, value, "give true or false".to_string()))
    }

    /// A list that is not empty.
    pub(super) fn list<T>(
        &mut self,
        option: &'static str,
        hint: &str,
        item: impl Fn(&Value) -> Option<T>,
    ) -> Result<Vec<T>, OptimizerError> {
        let found = self.value(option).unwrap_or(&Value::Null);
        let items: Option<Vec<T>> = found
            .as_array()
            .and_then(|items| items.iter().map(item).collect());
        items
            .filter(|items| !items.is_empty())
            .ok_or_else(|| self.bad(option, found, hint.to_string()))
    }

    pub(super) fn bad(&self, option: &str, found: &Value, hint: String) -> OptimizerError {
        let found = found.to_string().chars().take(80).collect();
        OptimizerError::BadOption {
            name: self.name.to_string(),
            option: option.to_string(),
            found,
            hint,
        }
    }

    pub(super) fn finish(self) -> Result<(), OptimizerError> {
        match self
            .values
            .keys()
            .find(|key| !self.known.contains(&key.as_str()))
        {
            Some(option) => Err(OptimizerError::UnknownOption {
                name: self.name.to_string(),
                option: option.chars().take(80).collect(),
                known: self.known.join(", "),
            }),
            None => Ok(()),
        }
    }
}

/// Without thirty zeros.
fn short(number: f64) -> String {
    if number != 0.0 && !(1e-6..1e9).contains(&number.abs()) {
        format!("{number:e}")
    } else {
        number.to_string()
    }
}

/// 64.0 is a whole number too: some writers know no integers.
pub(super) fn whole(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| {
        value
            .as_f64()
            .filter(|x| x.fract() == 0.0 && (0.0..9e15).contains(x))
            .map(|x| x as u64)
    })
}

/// The name that every description has.
pub(super) fn name_of(values: &Map<String, Value>) -> Result<&str, OptimizerError> {
    values
        .get("name")
        .and_then(Value::as_str)
        .ok_or_else(|| OptimizerError::Malformed {
            problem: "it has no name".to_string(),
        })
}

pub(super) fn unknown(what: &'static str, found: &str, known: &str) -> OptimizerError {
    OptimizerError::UnknownName {
        what,
        found: found.chars().take(80).collect(),
        known: known.to_string(),
    }
}
