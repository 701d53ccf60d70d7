//! ModelSpec: the serialised description of a model, shared with the Python client.

use super::error::SpecError;

/// A model as described by a client: layers by name, not yet joined to features.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelSpec {}

impl ModelSpec {
    pub fn from_json(_json: &serde_json::Value) -> Result<Self, SpecError> {
        unimplemented!()
    }
    pub fn to_json(&self) -> serde_json::Value {
        unimplemented!()
    }
}
