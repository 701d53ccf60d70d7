//! Numbers in journals and manifests: JSON has no NaN and no infinity, a loss that ran away has both.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Number(f64),
    Text(String),
}

impl Written {
    fn of(value: f64) -> Self {
        if value.is_finite() {
            Self::Number(value)
        } else {
            Self::Text(value.to_string())
        }
    }

    fn read<E: serde::de::Error>(self) -> Result<f64, E> {
        match self {
            Self::Number(value) => Ok(value),
            Self::Text(text) => text.parse().map_err(E::custom),
        }
    }
}

/// For a field that is one number.
pub(crate) mod one {
    use super::{Deserialize, Deserializer, Serialize as _, Serializer, Written};

    pub(crate) fn serialize<S: Serializer>(value: &f64, to: S) -> Result<S::Ok, S::Error> {
        Written::of(*value).serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
        Written::deserialize(from)?.read()
    }
}

/// For a field that is numbers by name.
pub(crate) mod by_name {
    use super::{BTreeMap, Deserialize, Deserializer, Serializer, Written};

    pub(crate) fn serialize<S: Serializer>(
        values: &BTreeMap<String, f64>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_map(
            values
                .iter()
                .map(|(name, value)| (name, Written::of(*value))),
        )
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<BTreeMap<String, f64>, D::Error> {
        BTreeMap::<String, Written>::deserialize(from)?
            .into_iter()
            .map(|(name, value)| Ok((name, value.read()?)))
            .collect()
    }
}
