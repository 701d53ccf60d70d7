//! Reading a node's arguments: each is taken by name, and what is left over is refused by name.

use serde_json::{Map, Value as Json, json};

use super::super::error::SpecError;
use super::super::options::Options;

/// Most numbers in one list of axes, extents or indices.
const LIST_MAX: usize = 4096;
/// Bound of whole numbers: beyond any extent, far from overflow.
const WHOLE_MAX: i64 = 1 << 40;

/// The arguments of one node while they are read.
#[derive(Debug)]
pub(super) struct Arguments<'a, 'b> {
    pub(super) options: &'b mut Options<'a>,
    /// How many inputs the node has.
    pub(super) inputs: usize,
    /// How many numbers the constants of the rest of the program may still hold.
    pub(super) constants: &'b mut usize,
}

/// A constant as the program gives it.
#[derive(Debug)]
pub(super) struct Numbers {
    pub(super) values: Vec<f32>,
    pub(super) extents: Vec<usize>,
}

impl<'a> Arguments<'a, '_> {
    pub(super) fn value(&mut self, name: &'static str) -> Option<&'a Json> {
        self.options.value(name)
    }

    pub(super) fn bad(&self, name: &str, found: &Json, hint: &str) -> SpecError {
        self.options.bad(name, found, hint.to_string())
    }

    /// A whole number; `None` when absent.
    pub(super) fn whole(&mut self, name: &'static str) -> Result<Option<i64>, SpecError> {
        let Some(value) = self.value(name) else {
            return Ok(None);
        };
        whole(value)
            .map(Some)
            .ok_or_else(|| self.bad(name, value, "give a whole number"))
    }

    pub(super) fn required_whole(&mut self, name: &'static str) -> Result<i64, SpecError> {
        self.whole(name)?
            .ok_or_else(|| self.bad(name, &Json::Null, "give a whole number"))
    }

    /// A count from 1.
    pub(super) fn count(&mut self, name: &'static str) -> Result<usize, SpecError> {
        self.options.required_count(name, 1, 1 << 30)
    }

    pub(super) fn axis(&mut self, default: i64) -> Result<i64, SpecError> {
        Ok(self.whole("axis")?.unwrap_or(default))
    }

    /// A whole number or a list of them; `None` when absent.
    pub(super) fn wholes(&mut self, name: &'static str) -> Result<Option<Vec<i64>>, SpecError> {
        let Some(value) = self.value(name) else {
            return Ok(None);
        };
        let list = match value {
            Json::Array(list) if list.len() <= LIST_MAX => list.iter().map(whole).collect(),
            single => whole(single).map(|number| vec![number]),
        };
        list.map(Some)
            .ok_or_else(|| self.bad(name, value, "give a whole number or a list of them"))
    }

    /// Extents: `None` in the list is the rows.
    pub(super) fn extents(&mut self, name: &'static str) -> Result<Vec<Option<i64>>, SpecError> {
        let value = self.value(name).unwrap_or(&Json::Null);
        let list: Option<Vec<Option<i64>>> = value.as_array().and_then(|list| {
            list.iter()
                .take(LIST_MAX)
                .map(|each| match each {
                    Json::Null => Some(None),
                    each => whole(each).map(Some),
                })
                .collect()
        });
        list.ok_or_else(|| {
            self.bad(
                name,
                value,
                "give a list of extents, null for the rows: [null, 3, 4]",
            )
        })
    }

    pub(super) fn flag(&mut self, name: &'static str) -> Result<bool, SpecError> {
        self.options.flag(name, false)
    }

    /// A finite number; `None` when absent.
    pub(super) fn number(&mut self, name: &'static str) -> Result<Option<f32>, SpecError> {
        let Some(value) = self.value(name) else {
            return Ok(None);
        };
        let number = value.as_f64().map(|number| number as f32);
        number
            .filter(|number| number.is_finite())
            .map(Some)
            .ok_or_else(|| self.bad(name, value, "give a finite float32 number"))
    }

    /// Takes so many numbers from what constants may hold.
    pub(super) fn spend(&mut self, name: &'static str, count: usize) -> Result<(), SpecError> {
        match self.constants.checked_sub(count) {
            Some(rest) => {
                *self.constants = rest;
                Ok(())
            }
            None => Err(self.bad(
                name,
                &json!(count),
                "all constants of a program together hold at most 2^24 numbers",
            )),
        }
    }

    /// Nested lists of equal lengths.
    pub(super) fn numbers(&mut self, name: &'static str) -> Result<Numbers, SpecError> {
        let limit = *self.constants;
        let value = self.value(name).unwrap_or(&Json::Null);
        let mut extents = Vec::new();
        let mut level = value;
        while let (Json::Array(list), true) = (level, extents.len() < super::value::RANK_MAX) {
            extents.push(list.len());
            level = list.first().unwrap_or(&Json::Null);
        }
        let mut values = Vec::new();
        if gather(value, &extents, limit, &mut values) && !values.is_empty() {
            self.spend(name, values.len())?;
            return Ok(Numbers { values, extents });
        }
        Err(self.bad(
            name,
            value,
            &format!("give a number, or nested lists of equal lengths of at most {limit} numbers"),
        ))
    }
}

fn gather(value: &Json, extents: &[usize], limit: usize, out: &mut Vec<f32>) -> bool {
    match (value, extents) {
        (Json::Array(list), [extent, rest @ ..]) => {
            list.len() == *extent && list.iter().all(|each| gather(each, rest, limit, out))
        }
        (Json::Number(number), []) if out.len() < limit => {
            let number = number.as_f64().map(|number| number as f32);
            number
                .filter(|number| number.is_finite())
                .map(|number| out.push(number))
                .is_some()
        }
        _ => false,
    }
}

/// A whole number within bounds, however it is written.
pub(super) fn whole(value: &Json) -> Option<i64> {
    let number = value.as_i64().or_else(|| {
        let number = value.as_f64()?;
        (number.fract() == 0.0 && number.abs() < 1e15).then_some(number as i64)
    });
    number.filter(|number| (-WHOLE_MAX..=WHOLE_MAX).contains(number))
}

/// The arguments of a node: all its fields but those that every node has.
pub(super) fn of_node(node: &Map<String, Json>) -> Map<String, Json> {
    let own = node
        .iter()
        .filter(|(key, _)| !["op", "inputs"].contains(&key.as_str()));
    own.map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

/// A short text of a found value, for messages.
pub(super) fn shorten(value: &Json) -> String {
    let text = value.to_string();
    if text.chars().count() <= 80 {
        return text;
    }
    json!(text.chars().take(77).collect::<String>()).to_string()
}
