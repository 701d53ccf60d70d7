//! Layers that apply another layer, which is described in their options: {"layer": "LSTM", "config": {...}}.
//!
//! Knows how such a description is read and what it may not say; what is done with the layer is each wrapper's business.

mod bidirectional;
mod time_distributed;

pub(super) use bidirectional::Bidirectional;
pub(super) use time_distributed::TimeDistributed;

use serde_json::{Map, Value};

use super::super::error::SpecError;
use super::super::options::Options;

/// A description inside a description.
#[derive(Debug, Clone)]
struct Described {
    kind: String,
    config: Map<String, Value>,
}

impl Described {
    /// Reads an option that describes a layer; `None` where it is missing.
    fn read(options: &mut Options<'_>, option: &'static str) -> Result<Option<Self>, SpecError> {
        let Some(value) = options.value(option) else {
            return Ok(None);
        };
        let hint = "give an object {\"layer\": the class, \"config\": its options}";
        let bad = |options: &Options<'_>| options.bad(option, value, hint.to_string());
        let map = value.as_object().ok_or_else(|| bad(options))?;
        if map.keys().any(|key| key != "layer" && key != "config") {
            return Err(bad(options));
        }
        let kind = map.get("layer").and_then(Value::as_str);
        let kind = kind.ok_or_else(|| bad(options))?.to_string();
        let config = match map.get("config") {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(config)) => config.clone(),
            Some(_) => return Err(bad(options)),
        };
        let described = Described { kind, config };
        if described.config.get("trainable") == Some(&Value::Bool(false)) {
            let hint = "the arrays are the outer layer's; give it trainable instead";
            return Err(options.bad(option, value, hint.to_string()));
        }
        Ok(Some(described))
    }

    fn required(options: &mut Options<'_>, option: &'static str) -> Result<Self, SpecError> {
        Self::read(options, option)?.ok_or_else(|| {
            let hint = "describe the layer as {\"layer\": the class, \"config\": its options}";
            options.bad(option, &Value::Null, hint.to_string())
        })
    }

    /// What messages call the layer: the outer one's name and its class.
    fn name(&self, outer: &str) -> String {
        let kind: String = self.kind.chars().take(80).collect();
        format!("{outer}: {kind}")
    }
}

#[cfg(test)]
mod tests;
