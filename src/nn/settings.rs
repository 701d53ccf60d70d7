//! The options of losses and metrics: declared in a table, read from JSON once, kept as a few numbers.
//!
//! A loss or metric is described by its name, or by an object of `name` and options. What is not declared is refused by
//! name. Knows nothing of what an option means.

use serde_json::{Map, Value, json};

use super::error::SpecError;

/// Most options of one loss or metric.
pub(super) const SETTINGS_MAX: usize = 6;

/// One declared option.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Setting {
    /// Name, default, smallest and largest value.
    Number(&'static str, f64, f64, f64),
    /// Name, smallest and largest value; none by default, kept as NaN.
    Maybe(&'static str, f64, f64),
    /// A whole number: name, default, smallest and largest value.
    Whole(&'static str, f64, f64, f64),
    /// A whole number: name, smallest and largest value; none by default, kept as NaN.
    MaybeWhole(&'static str, f64, f64),
    /// Name; false by default.
    Flag(&'static str),
    /// Name and words, the default first; kept as the word's position.
    Word(&'static str, &'static [&'static str]),
    /// Keras' `axis`, of which only the innermost, -1, is supported.
    InnermostAxis,
}

/// A value per setting, in the table's order. Equal when all bits are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Values([f64; SETTINGS_MAX]);

impl PartialEq for Values {
    fn eq(&self, other: &Self) -> bool {
        self.0.map(f64::to_bits) == other.0.map(f64::to_bits)
    }
}

impl Setting {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Setting::Number(name, ..)
            | Setting::Maybe(name, ..)
            | Setting::Whole(name, ..)
            | Setting::MaybeWhole(name, ..)
            | Setting::Flag(name)
            | Setting::Word(name, _) => name,
            Setting::InnermostAxis => "axis",
        }
    }

    fn default(&self) -> f64 {
        match self {
            Setting::Number(_, default, ..) | Setting::Whole(_, default, ..) => *default,
            Setting::Maybe(..) | Setting::MaybeWhole(..) => f64::NAN,
            Setting::Flag(_) | Setting::Word(..) => 0.0,
            Setting::InnermostAxis => -1.0,
        }
    }

    /// The number that stands for a JSON value, or what would be accepted instead.
    fn read(&self, value: &Value) -> Result<f64, String> {
        let within = |low: f64, high: f64, whole: bool| {
            let found = value.as_f64();
            found
                .filter(|x| (low..=high).contains(x) && (!whole || x.fract() == 0.0))
                .ok_or_else(|| {
                    let kind = if whole { "whole number" } else { "number" };
                    format!("give a {kind} from {low} to {high}")
                })
        };
        match self {
            Setting::Number(_, _, low, high) | Setting::Maybe(_, low, high) => {
                within(*low, *high, false)
            }
            Setting::Whole(_, _, low, high) | Setting::MaybeWhole(_, low, high) => {
                within(*low, *high, true)
            }
            Setting::Flag(_) => match value.as_bool() {
                Some(flag) => Ok(f64::from(u8::from(flag))),
                None => Err("give true or false".to_string()),
            },
            Setting::Word(_, words) => {
                let place = value
                    .as_str()
                    .and_then(|given| words.iter().position(|word| *word == given));
                match place {
                    Some(place) => Ok(place as f64),
                    None => Err(format!("give one of {}", words.join(", "))),
                }
            }
            Setting::InnermostAxis => match value.as_f64() {
                Some(-1.0) => Ok(-1.0),
                _ => Err("only the innermost axis, -1, is supported".to_string()),
            },
        }
    }

    fn written(&self, value: f64) -> Value {
        match self {
            Setting::Number(..) | Setting::Maybe(..) => json!(value),
            Setting::Whole(..) | Setting::MaybeWhole(..) | Setting::InnermostAxis => {
                json!(value as i64)
            }
            Setting::Flag(_) => json!(value != 0.0),
            Setting::Word(_, words) => json!(words.get(value as usize)),
        }
    }
}

impl Values {
    pub(super) fn defaults(settings: &[Setting]) -> Values {
        let mut values = [0.0; SETTINGS_MAX];
        for (value, setting) in values.iter_mut().zip(settings) {
            *value = setting.default();
        }
        Values(values)
    }

    pub(super) fn number(&self, position: usize) -> f64 {
        self.0[position]
    }

    pub(super) fn flag(&self, position: usize) -> bool {
        self.0[position] != 0.0
    }

    /// The value of a `Maybe` or `MaybeWhole`.
    pub(super) fn given(&self, position: usize) -> Option<f64> {
        Some(self.0[position]).filter(|value| !value.is_nan())
    }

    /// These with one replaced.
    pub(super) fn with(mut self, position: usize, value: f64) -> Values {
        self.0[position] = value;
        self
    }

    /// Reads the options of an object, its `name` aside. Null counts as left out.
    pub(super) fn read(
        what: &'static str,
        name: &str,
        settings: &[Setting],
        options: &Map<String, Value>,
    ) -> Result<Values, SpecError> {
        let known = || {
            let names: Vec<&str> = settings.iter().map(Setting::name).collect();
            match names.is_empty() {
                true => "none".to_string(),
                false => names.join(", "),
            }
        };
        let mut values = Values::defaults(settings);
        for (option, value) in options.iter().filter(|(option, _)| *option != "name") {
            let place = settings
                .iter()
                .position(|setting| setting.name() == option)
                .ok_or_else(|| SpecError::UnknownSetting {
                    what,
                    name: name.to_string(),
                    option: shortened(option),
                    known: known(),
                })?;
            if value.is_null() {
                continue;
            }
            values.0[place] =
                settings[place]
                    .read(value)
                    .map_err(|hint| SpecError::BadSetting {
                        what,
                        name: name.to_string(),
                        option: option.clone(),
                        found: shortened(&value.to_string()),
                        hint,
                    })?;
        }
        Ok(values)
    }

    /// The name alone where every option has its default, else an object of the name and the others.
    pub(super) fn describe(&self, name: &str, settings: &[Setting]) -> Value {
        let mut described = Map::new();
        let defaults = Values::defaults(settings);
        for (place, setting) in settings.iter().enumerate() {
            if self.0[place].to_bits() != defaults.0[place].to_bits() {
                described.insert(setting.name().to_string(), setting.written(self.0[place]));
            }
        }
        if described.is_empty() {
            return json!(name);
        }
        described.insert("name".to_string(), json!(name));
        Value::Object(described)
    }
}

/// The name and the options of a description: `"huber"` or `{"name": "huber", "delta": 2}`.
pub(super) fn name_and_options(
    what: &'static str,
    description: &Value,
) -> Result<(String, Map<String, Value>), SpecError> {
    let named = match description {
        Value::String(name) => Some((name.clone(), Map::new())),
        Value::Object(options) => options
            .get("name")
            .and_then(Value::as_str)
            .map(|name| (name.to_string(), options.clone())),
        _ => None,
    };
    named.ok_or_else(|| SpecError::Unnamed {
        what,
        found: shortened(&description.to_string()),
    })
}

/// A description from its text: a name as it stands, or a JSON object.
pub(super) fn description_of(what: &'static str, text: &str) -> Result<Value, SpecError> {
    if !text.trim_start().starts_with('{') {
        return Ok(Value::from(text));
    }
    serde_json::from_str(text).map_err(|_| SpecError::Unnamed {
        what,
        found: shortened(text),
    })
}

/// The text that `description_of` reads.
pub(super) fn text_of(description: &Value) -> String {
    match description {
        Value::String(name) => name.clone(),
        object => object.to_string(),
    }
}

pub(super) fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: &[Setting] = &[
        Setting::Number("delta", 1.0, 0.5, 10.0),
        Setting::MaybeWhole("ignore_class", -5.0, 5.0),
        Setting::Word("curve", &["ROC", "PR"]),
        Setting::Flag("from_logits"),
        Setting::InnermostAxis,
    ];

    #[test]
    fn options_come_back_as_they_were_given_and_defaults_are_not_written() {
        for (given, written) in [
            (json!({"name": "x", "delta": 1, "axis": -1}), json!("x")),
            (
                json!({"name": "x", "delta": 2.5}),
                json!({"name": "x", "delta": 2.5}),
            ),
            (
                json!({"name": "x", "ignore_class": -1, "curve": "PR", "from_logits": true}),
                json!({"name": "x", "ignore_class": -1, "curve": "PR", "from_logits": true}),
            ),
            (json!({"name": "x", "ignore_class": null}), json!("x")),
        ] {
            let values = read(&given).unwrap();
            assert_eq!(values.describe("x", SETTINGS), written);
        }
    }

    #[test]
    fn a_wrong_option_is_refused_with_its_name_and_what_would_do() {
        for (given, message) in [
            (
                json!({"delta": 0}),
                "loss \"x\": option \"delta\" cannot be 0; give a number from 0.5 to 10",
            ),
            (
                json!({"ignore_class": 1.5}),
                "loss \"x\": option \"ignore_class\" cannot be 1.5; give a whole number from -5 to 5",
            ),
            (
                json!({"curve": "roc"}),
                "loss \"x\": option \"curve\" cannot be \"roc\"; give one of ROC, PR",
            ),
            (
                json!({"axis": 1}),
                "loss \"x\": option \"axis\" cannot be 1; only the innermost axis, -1, is supported",
            ),
            (
                json!({"detla": 1}),
                "loss \"x\": unknown option \"detla\"; known are delta, ignore_class, curve, from_logits, axis",
            ),
        ] {
            assert_eq!(read(&given).unwrap_err().to_string(), message);
        }
        let message = name_and_options("loss", &json!([1])).unwrap_err();
        assert_eq!(
            message.to_string(),
            "loss cannot be [1]; give a name, or an object of a name and options"
        );
    }

    fn read(given: &Value) -> Result<Values, SpecError> {
        Values::read("loss", "x", SETTINGS, given.as_object().unwrap())
    }
}
