//! Models: versions numbered from 1, committed by creating a manifest that was absent.

use std::collections::BTreeMap;

use arrow::datatypes::DataType;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::CatalogError;

/// What the model predicts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LabelColumn {
    pub name: String,
    /// Arrow type of the label column as Arrow's own text (`Utf8`, `Int64`, `Boolean`, ...).
    pub data_type: String,
    /// Classes sorted in the label's own order, as text (`"true"`, `"3"`, `">50K"`); empty for a regressor.
    pub classes: Vec<String>,
}

impl LabelColumn {
    /// The label's Arrow type.
    pub fn arrow_type(&self) -> Result<DataType, CatalogError> {
        todo!("data")
    }
}

/// Everything about a version but its weights. Serialised as `manifest.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelManifest {
    pub format_version: u32,
    pub name: String,
    pub version: u64,
    /// JSON of `nn::spec::ModelSpec`.
    pub spec: serde_json::Value,
    /// JSON of `features::pipeline::FittedPipeline`.
    pub pipeline: serde_json::Value,
    pub label: LabelColumn,
    pub loss: String,
    pub metric_names: Vec<String>,
    /// Final value of each history column.
    pub metrics: BTreeMap<String, f64>,
    pub parameters: u64,
    /// Lineage.
    pub job: String,
    pub source: String,
    pub dataset_version: Option<i64>,
    pub seed: u64,
    pub code_version: String,
    /// Milliseconds since 1970, UTC.
    pub committed_ms: u64,
}

/// A committed version.
#[derive(Debug, Clone)]
pub struct ModelVersion {
    pub manifest: ModelManifest,
    /// safetensors: parameters and statistics by name (see `tensor::archive`).
    pub weights: Bytes,
}

/// All models of the store.
#[derive(Debug)]
pub struct Models {}

impl Models {
    /// Newest manifest of every model, by name.
    pub async fn list(&self) -> Result<Vec<ModelManifest>, CatalogError> {
        todo!("data")
    }
    pub async fn versions(&self, name: &str) -> Result<Vec<u64>, CatalogError> {
        let _ = name;
        todo!("data")
    }
    /// The manifest alone; `None` is the newest version.
    pub async fn manifest(
        &self,
        name: &str,
        version: Option<u64>,
    ) -> Result<ModelManifest, CatalogError> {
        let _ = (name, version);
        todo!("data")
    }
    pub async fn load(
        &self,
        name: &str,
        version: Option<u64>,
    ) -> Result<ModelVersion, CatalogError> {
        let _ = (name, version);
        todo!("data")
    }
    /// Commits the next version (`manifest.version` is set here); weights first, manifest last, created if absent.
    pub async fn commit(
        &self,
        manifest: ModelManifest,
        weights: Bytes,
    ) -> Result<ModelManifest, CatalogError> {
        let _ = (manifest, weights);
        todo!("data")
    }
    pub async fn remove(&self, name: &str) -> Result<(), CatalogError> {
        let _ = name;
        todo!("data")
    }
}
