//! Reading a layer's options: every one is taken by name, and what is left over is refused by name.

use serde_json::{Map, Value};

use super::error::SpecError;

/// The options of one layer (or initializer) while they are read.
#[derive(Debug)]
pub(super) struct Options<'a> {
    layer: &'a str,
    kind: &'a str,
    values: &'a Map<String, Value>,
    known: Vec<&'static str>,
}

impl<'a> Options<'a> {
    pub(super) fn new(layer: &'a str, kind: &'a str, values: &'a Map<String, Value>) -> Self {
        Options {
            layer,
            kind,
            values,
            known: Vec::new(),
        }
    }

    /// The value of an option; `None` when absent or null.
    pub(super) fn value(&mut self, option: &'static str) -> Option<&'a Value> {
        if !self.known.contains(&option) {
            self.known.push(option);
        }
        self.values.get(option).filter(|value| !value.is_null())
    }

    /// Whether an option was given as null, where that means something else than leaving it out.
    pub(super) fn is_null(&self, option: &str) -> bool {
        self.values.get(option).is_some_and(Value::is_null)
    }

    pub(super) fn count(
        &mut self,
        option: &'static str,
        low: usize,
        high: usize,
    ) -> Result<Option<usize>, SpecError> {
        let Some(value) = self.value(option) else {
            return Ok(None);
        };
        // 64.0 is a whole number too: some writers know no integers.
        let number = value.as_u64().or_else(|| {
            value
                .as_f64()
                .filter(|x| x.fract() == 0.0 && (0.0..9e15).contains(x))
                .map(|x| x as u64)
        });
        match number.and_then(|number| usize::try_from(number).ok()) {
            Some(number) if (low..=high).contains(&number) => Ok(Some(number)),
            _ => Err(self.bad(
                option,
                value,
                format!("give a whole number from {low} to {high}"),
            )),
        }
    }

    pub(super) fn required_count(
        &mut self,
        option: &'static str,
        low: usize,
        high: usize,
    ) -> Result<usize, SpecError> {
        self.count(option, low, high)?.ok_or_else(|| {
            self.bad(
                option,
                &Value::Null,
                format!("give a whole number from {low} to {high}"),
            )
        })
    }

    pub(super) fn number(
        &mut self,
        option: &'static str,
        default: f64,
        low: f64,
        high: f64,
    ) -> Result<f64, SpecError> {
        let Some(value) = self.value(option) else {
            return Ok(default);
        };
        match value.as_f64() {
            Some(number) if (low..=high).contains(&number) => Ok(number),
            _ => Err(self.bad(option, value, format!("give a number from {low} to {high}"))),
        }
    }

    pub(super) fn flag(&mut self, option: &'static str, default: bool) -> Result<bool, SpecError> {
        let Some(value) = self.value(option) else {
            return Ok(default);
        };
        value
            .as_bool()
            .ok_or_else(|| self.bad(option, value, "give true or false".to_string()))
    }

    pub(super) fn word(&mut self, option: &'static str) -> Result<Option<&'a str>, SpecError> {
        let Some(value) = self.value(option) else {
            return Ok(None);
        };
        value
            .as_str()
            .map(Some)
            .ok_or_else(|| self.bad(option, value, "give a name as a string".to_string()))
    }

    pub(super) fn names(&mut self, option: &'static str) -> Result<Option<Vec<String>>, SpecError> {
        let Some(value) = self.value(option) else {
            return Ok(None);
        };
        let names = value.as_array().and_then(|list| {
            list.iter()
                .map(|name| name.as_str().map(str::to_string))
                .collect()
        });
        names
            .map(Some)
            .ok_or_else(|| self.bad(option, value, "give a list of names".to_string()))
    }

    /// Numbers in nested lists, in row-major order.
    pub(super) fn numbers(&mut self, option: &'static str) -> Result<Vec<f32>, SpecError> {
        fn gather(value: &Value, depth: usize, out: &mut Vec<f32>) -> bool {
            match value {
                Value::Array(list) if depth < 8 => {
                    list.iter().all(|each| gather(each, depth + 1, out))
                }
                Value::Number(number) => number
                    .as_f64()
                    .map(|number| out.push(number as f32))
                    .is_some(),
                _ => false,
            }
        }
        let value = self.value(option).unwrap_or(&Value::Null);
        let mut numbers = Vec::new();
        if gather(value, 0, &mut numbers) && numbers.iter().all(|number| number.is_finite()) {
            Ok(numbers)
        } else {
            Err(self.bad(option, value, "give nested lists of numbers".to_string()))
        }
    }

    /// One of several words, the first of which is the default.
    pub(super) fn choice<T: Copy>(
        &mut self,
        option: &'static str,
        choices: &[(&str, T)],
    ) -> Result<T, SpecError> {
        let Some(word) = self.word(option)? else {
            return Ok(choices[0].1);
        };
        choices
            .iter()
            .find(|(known, _)| *known == word)
            .map(|(_, choice)| *choice)
            .ok_or_else(|| {
                let known: Vec<&str> = choices.iter().map(|(known, _)| *known).collect();
                self.bad(
                    option,
                    &word.into(),
                    format!("known are {}", known.join(", ")),
                )
            })
    }

    /// `length` whole numbers, or one number for all of them; `default` when absent.
    pub(super) fn counts(
        &mut self,
        option: &'static str,
        length: usize,
        default: Option<usize>,
        low: usize,
        high: usize,
    ) -> Result<Vec<usize>, SpecError> {
        let whole = |value: &Value| {
            let number = value
                .as_u64()
                .and_then(|number| usize::try_from(number).ok());
            number.filter(|number| (low..=high).contains(number))
        };
        let value = self.value(option);
        let counts = match (value, default) {
            (None, Some(default)) => Some(vec![default; length]),
            (Some(Value::Array(list)), _) if list.len() == length => {
                list.iter().map(whole).collect()
            }
            (Some(number @ Value::Number(_)), _) => whole(number).map(|count| vec![count; length]),
            _ => None,
        };
        counts.ok_or_else(|| {
            let hint = format!("give a whole number from {low} to {high}, or a list of {length}");
            self.bad(option, value.unwrap_or(&Value::Null), hint)
        })
    }

    pub(super) fn bad(&self, option: &str, found: &Value, hint: String) -> SpecError {
        let mut shown = found.to_string();
        if shown.len() > 80 {
            shown = shown.chars().take(77).chain("...".chars()).collect();
        }
        SpecError::BadOption {
            layer: self.layer.to_string(),
            option: option.to_string(),
            found: shown,
            hint,
        }
    }

    pub(super) fn kind(&self) -> &'a str {
        self.kind
    }

    pub(super) fn layer(&self) -> &'a str {
        self.layer
    }

    /// Refuses what no one asked for.
    pub(super) fn finish(self) -> Result<(), SpecError> {
        match self
            .values
            .keys()
            .find(|key| !self.known.contains(&key.as_str()))
        {
            Some(option) => Err(SpecError::UnknownOption {
                layer: self.layer.to_string(),
                kind: self.kind.to_string(),
                option: option.chars().take(80).collect(),
                known: if self.known.is_empty() {
                    "none".to_string()
                } else {
                    self.known.join(", ")
                },
            }),
            None => Ok(()),
        }
    }
}
