//! Models: versions numbered from 1, committed by creating a manifest that was absent.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::DataType;
use bytes::Bytes;
use quick_cache::sync::Cache;
use serde::{Deserialize, Serialize};

use super::CatalogError;
use super::name::{check_name, hint};
use crate::storage::{Objects, Path};

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
        self.data_type
            .parse()
            .map_err(|error: arrow::error::ArrowError| CatalogError::Corrupt {
                what: format!("the type of label {:?}", self.name),
                reason: error.to_string(),
            })
    }
}

/// One of a model's outputs: what it predicts and how it was trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelOutput {
    /// What the request called it; answers and histories have its columns under that name where there are several.
    pub name: String,
    pub label: LabelColumn,
    pub loss: String,
    /// What its loss was multiplied by in the loss of the whole.
    pub loss_weight: f64,
    pub metric_names: Vec<String>,
}

/// How a model was trained: what enters the weights besides the rows, the seed, the network, the pipeline and the loss.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainingRecord {
    pub epochs: u32,
    pub batch_size: u32,
    pub lanes: u32,
    pub shuffle: bool,
    /// As the request describes it, every option filled in.
    pub optimizer: serde_json::Value,
    pub class_weight: BTreeMap<String, f64>,
    pub sample_weight: Option<String>,
    /// The share of the rows that was held out.
    pub validation_split: Option<f64>,
    /// The rows that were validated on, where they came from elsewhere.
    pub validation: Option<String>,
    /// What ended the job early or chose its epoch, as the request describes it, every option filled in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub early_stopping: Option<serde_json::Value>,
    /// What lowered the learning rate when a measure no longer got better, in the same form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reduce_on_plateau: Option<serde_json::Value>,
    /// The coordinating server's `--training-cache`: it decides whether rows are kept in memory or read in windows.
    pub training_cache_bytes: u64,
    /// Rows of a window; none: all rows were kept in memory and shuffled together.
    pub window_rows: Option<u64>,
    pub validation_window_rows: Option<u64>,
    /// The job and epoch whose checkpoint the training went on from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resumed_from: Option<String>,
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
    /// Every output where there are several, in the order of the network's; then label, loss and metrics above are the
    /// first one's. Empty where there is one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<ModelOutput>,
    /// Final value of each history column.
    #[serde(with = "super::number::by_name")]
    pub metrics: BTreeMap<String, f64>,
    pub parameters: u64,
    /// Lineage.
    pub job: String,
    pub source: String,
    pub dataset_version: Option<i64>,
    pub seed: u64,
    /// None in manifests that were written before it was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training: Option<TrainingRecord>,
    pub code_version: String,
    /// Milliseconds since 1970, UTC.
    pub committed_ms: u64,
}

impl ModelManifest {
    /// What the model predicts: every output, in the order of the network's. One alone has no name.
    pub fn every_output(&self) -> Vec<ModelOutput> {
        if !self.outputs.is_empty() {
            return self.outputs.clone();
        }
        vec![ModelOutput {
            name: String::new(),
            label: self.label.clone(),
            loss: self.loss.clone(),
            loss_weight: 1.0,
            metric_names: self.metric_names.clone(),
        }]
    }
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
pub struct Models {
    objects: Objects,
    /// Manifests as last read: valid while the object is the same one.
    known: Cache<(String, u64), (Option<String>, Arc<ModelManifest>)>,
}

/// Manifests that are remembered; one is some kilobytes.
const KNOWN_MAX: usize = 256;

const WEIGHTS: &str = "weights.safetensors";
const MANIFEST: &str = "manifest.json";

impl Models {
    pub(crate) fn new(objects: Objects) -> Self {
        Self {
            objects,
            known: Cache::new(KNOWN_MAX),
        }
    }

    /// Newest manifest of every model, by name. One that cannot be read hides no other: it is logged and left out.
    pub async fn list(&self) -> Result<Vec<Arc<ModelManifest>>, CatalogError> {
        let mut newest = Vec::new();
        for name in self.objects.folders(&Path::from("models")).await? {
            match self.manifest(&name, None).await {
                Ok(manifest) => newest.push(manifest),
                // A folder without a committed version, or removed meanwhile.
                Err(CatalogError::UnknownModel { .. } | CatalogError::BadName { .. }) => {}
                Err(error) => {
                    tracing::warn!(model = name, %error, "a model's manifest cannot be read; it is not listed");
                }
            }
        }
        Ok(newest)
    }

    /// Numbers of the committed versions, ascending; some may be missing where a commit broke off.
    pub async fn versions(&self, name: &str) -> Result<Vec<u64>, CatalogError> {
        check_name("model", name)?;
        let versions = self.committed(name).await?;
        if versions.is_empty() {
            return Err(self.unknown(name).await);
        }
        Ok(versions)
    }

    /// The manifest alone; `None` is the newest version.
    pub async fn manifest(
        &self,
        name: &str,
        version: Option<u64>,
    ) -> Result<Arc<ModelManifest>, CatalogError> {
        check_name("model", name)?;
        let version = match version {
            Some(version) => version,
            None => match self.newest(name).await? {
                Some(newest) => newest,
                None => return Err(self.unknown(name).await),
            },
        };
        let path = place(name, version).join(MANIFEST);
        let Some(seen) = self.objects.look(&path).await? else {
            return Err(self.unknown_version(name, version).await);
        };
        let key = (name.to_owned(), version);
        if let Some((tag, manifest)) = self.known.get(&key)
            && tag.is_some()
            && tag == seen.e_tag
        {
            return Ok(manifest);
        }
        let Some(bytes) = self.objects.read(&path).await? else {
            return Err(self.unknown_version(name, version).await);
        };
        let manifest = serde_json::from_slice(&bytes).map_err(|error| CatalogError::Corrupt {
            what: path.to_string(),
            reason: error.to_string(),
        })?;
        let manifest: Arc<ModelManifest> = Arc::new(manifest);
        // Under the tag of before it was read: one that was replaced in between is read again.
        self.known.insert(key, (seen.e_tag, Arc::clone(&manifest)));
        Ok(manifest)
    }

    pub async fn load(
        &self,
        name: &str,
        version: Option<u64>,
    ) -> Result<ModelVersion, CatalogError> {
        let manifest = self.manifest(name, version).await?;
        let path = place(name, manifest.version).join(WEIGHTS);
        let weights = self
            .objects
            .read(&path)
            .await?
            .ok_or_else(|| CatalogError::Corrupt {
                what: path.to_string(),
                reason: "the manifest names it and it is gone".into(),
            })?;
        Ok(ModelVersion {
            manifest: Arc::unwrap_or_clone(manifest),
            weights,
        })
    }

    /// Commits the next version (`manifest.version` is set here); weights first, manifest last, created if absent.
    ///
    /// A number belongs to whoever creates its weights, so that two commits at once never share one.
    pub async fn commit(
        &self,
        mut manifest: ModelManifest,
        weights: Bytes,
    ) -> Result<ModelManifest, CatalogError> {
        check_name("model", &manifest.name)?;
        let folder = Path::from_iter(["models", manifest.name.as_str()]);
        let taken = self.objects.folders(&folder).await?;
        let newest = taken
            .iter()
            .filter_map(|version| version.parse().ok())
            .max();
        let mut version: u64 = newest.unwrap_or(0) + 1;
        while !self
            .objects
            .create(
                &place(&manifest.name, version).join(WEIGHTS),
                weights.clone(),
            )
            .await?
        {
            version += 1;
        }
        manifest.version = version;
        let here = place(&manifest.name, version);
        let committed = match serde_json::to_vec_pretty(&manifest) {
            Ok(text) => self
                .objects
                .create(&here.clone().join(MANIFEST), Bytes::from(text))
                .await
                .map_err(CatalogError::from),
            Err(source) => Err(CatalogError::Store {
                doing: format!("writing the manifest of {:?}", manifest.name),
                source: Box::new(source),
            }),
        };
        match committed {
            Ok(true) => Ok(manifest),
            Ok(false) => Err(CatalogError::Corrupt {
                what: here.to_string(),
                reason: "it has a manifest and had no weights".into(),
            }),
            Err(error) => {
                // Best effort: weights without a manifest are no version.
                let _ = self.objects.remove(&here.join(WEIGHTS)).await;
                Err(error)
            }
        }
    }

    /// Removes every version: manifests first, so that what is half removed is no version any more.
    pub async fn remove(&self, name: &str) -> Result<(), CatalogError> {
        for version in self.versions(name).await? {
            self.objects
                .remove(&place(name, version).join(MANIFEST))
                .await?;
            self.objects
                .remove(&place(name, version).join(WEIGHTS))
                .await?;
        }
        Ok(())
    }

    async fn committed(&self, name: &str) -> Result<Vec<u64>, CatalogError> {
        let folder = Path::from_iter(["models", name]);
        let mut versions: Vec<u64> = self
            .objects
            .tree(&folder)
            .await?
            .iter()
            .filter(|path| path.filename() == Some(MANIFEST))
            .filter_map(|path| path.parts().rev().nth(1)?.as_ref().parse().ok())
            .collect();
        versions.sort_unstable();
        Ok(versions)
    }

    /// The highest of the committed versions.
    async fn newest(&self, name: &str) -> Result<Option<u64>, CatalogError> {
        let folder = Path::from_iter(["models", name]);
        let folders = self.objects.folders(&folder).await?;
        let mut numbers: Vec<u64> = folders
            .iter()
            .filter_map(|version| version.parse().ok())
            .collect();
        numbers.sort_unstable();
        // A commit that is under way or broke off has a folder and no manifest.
        for version in numbers.into_iter().rev() {
            let manifest = place(name, version).join(MANIFEST);
            if self.objects.look(&manifest).await?.is_some() {
                return Ok(Some(version));
            }
        }
        Ok(None)
    }

    async fn unknown_version(&self, name: &str, version: u64) -> CatalogError {
        match self.versions(name).await {
            Ok(versions) => CatalogError::UnknownModelVersion {
                name: name.to_string(),
                version,
                newest: versions.last().copied().unwrap_or(0),
            },
            Err(error) => error,
        }
    }

    async fn unknown(&self, name: &str) -> CatalogError {
        let names = self
            .objects
            .folders(&Path::from("models"))
            .await
            .unwrap_or_default();
        let others: Vec<String> = names.into_iter().filter(|other| other != name).collect();
        CatalogError::UnknownModel {
            name: name.to_string(),
            hint: hint("model", name, &others),
        }
    }
}

fn place(name: &str, version: u64) -> Path {
    Path::from_iter(["models", name, version.to_string().as_str()])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(name: &str) -> ModelManifest {
        ModelManifest {
            format_version: 1,
            name: name.into(),
            version: 0,
            spec: serde_json::json!({"layers": []}),
            pipeline: serde_json::json!({"steps": []}),
            label: LabelColumn {
                name: "income".into(),
                data_type: "Dictionary(Int32, Utf8)".into(),
                classes: vec!["<=50K".into(), ">50K".into()],
            },
            loss: "binary_crossentropy".into(),
            metric_names: vec!["loss".into()],
            outputs: Vec::new(),
            metrics: BTreeMap::from([("loss".into(), f64::NAN), ("auc".into(), 0.9)]),
            parameters: 3,
            job: "job".into(),
            source: "census".into(),
            dataset_version: Some(0),
            seed: 7,
            training: None,
            code_version: "0.1.0".into(),
            committed_ms: 1,
        }
    }

    fn models_in(directory: &tempfile::TempDir) -> Models {
        Models::new(Objects::open(directory.path().to_str().unwrap()).unwrap())
    }

    #[tokio::test]
    async fn commits_at_once_get_versions_of_their_own_and_keep_their_weights() {
        let directory = tempfile::tempdir().unwrap();
        let models = models_in(&directory);
        let commits = (0..16_u8).map(|writer| {
            let models = &models;
            async move {
                let weights = Bytes::from(vec![writer; 1_000]);
                let done = models.commit(manifest("census"), weights).await.unwrap();
                (done.version, writer)
            }
        });
        let mut committed = futures::future::join_all(commits).await;
        committed.sort_unstable();
        let versions: Vec<u64> = committed.iter().map(|(version, _)| *version).collect();
        assert_eq!(versions, (1..=16).collect::<Vec<_>>());
        for (version, writer) in committed {
            let model = models.load("census", Some(version)).await.unwrap();
            assert_eq!(model.weights, vec![writer; 1_000]);
            assert_eq!(model.manifest.version, version);
            assert!(model.manifest.metrics["loss"].is_nan());
            let label = model.manifest.label.arrow_type().unwrap();
            assert!(matches!(label, DataType::Dictionary(..)));
        }
        assert_eq!(models.list().await.unwrap().len(), 1);
        assert_eq!(models.manifest("census", None).await.unwrap().version, 16);
    }

    #[tokio::test]
    async fn a_damaged_manifest_hides_no_other_model() {
        let directory = tempfile::tempdir().unwrap();
        let models = models_in(&directory);
        for name in ["census", "damaged", "pay"] {
            models.commit(manifest(name), Bytes::new()).await.unwrap();
        }
        let path = directory.path().join("models/damaged/1/manifest.json");
        std::fs::write(path, "{\"format_version\": 1, ").unwrap();
        let listed = models.list().await.unwrap();
        let names: Vec<&str> = listed.iter().map(|model| model.name.as_str()).collect();
        assert_eq!(names, ["census", "pay"]);
        // Asked for by name, it says what it is.
        let error = models.manifest("damaged", None).await.unwrap_err();
        assert!(error.to_string().contains("damaged/1"), "{error}");
    }

    #[tokio::test]
    async fn what_is_not_there_is_said_with_what_is() {
        let directory = tempfile::tempdir().unwrap();
        let models = models_in(&directory);
        let text = |error: CatalogError| error.to_string();
        assert_eq!(
            text(models.manifest("cencus", None).await.unwrap_err()),
            "there is no model \"cencus\"; the store has no models yet"
        );
        models
            .commit(manifest("census"), Bytes::new())
            .await
            .unwrap();
        assert_eq!(
            text(models.load("cencus", None).await.unwrap_err()),
            "there is no model \"cencus\"; did you mean \"census\""
        );
        assert_eq!(
            text(models.load("census", Some(9)).await.unwrap_err()),
            "model \"census\" has no version 9; versions 1 to 1 exist"
        );
        assert!(models.load("../census", None).await.is_err());
        models.remove("census").await.unwrap();
        assert!(models.list().await.unwrap().is_empty());
        assert!(models.versions("census").await.is_err());
        let again = models
            .commit(manifest("census"), Bytes::new())
            .await
            .unwrap();
        assert_eq!(again.version, 1);
    }

    #[tokio::test]
    async fn the_newest_version_is_the_last_one_committed_whatever_lies_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let models = models_in(&directory);
        for _ in 0..11 {
            let weights = Bytes::from_static(b"w");
            models.commit(manifest("census"), weights).await.unwrap();
        }
        let newest = async || models.manifest("census", None).await.unwrap().version;
        assert_eq!(newest().await, 11);
        // A commit that broke off.
        let folder = directory.path().join("models/census/12");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join(WEIGHTS), b"w").unwrap();
        assert_eq!(newest().await, 11);
    }

    #[tokio::test]
    async fn a_manifest_is_read_again_when_another_model_has_taken_its_name() {
        let directory = tempfile::tempdir().unwrap();
        let models = models_in(&directory);
        let train = async |seed| {
            let manifest = ModelManifest {
                seed,
                ..manifest("census")
            };
            models
                .commit(manifest, Bytes::from_static(b"w"))
                .await
                .unwrap();
            models.manifest("census", Some(1)).await.unwrap()
        };
        let first = train(7).await;
        let again = models.manifest("census", None).await.unwrap();
        assert!(Arc::ptr_eq(&first, &again), "it was read once");
        models.remove("census").await.unwrap();
        assert!(models.manifest("census", Some(1)).await.is_err());
        assert_eq!(train(8).await.seed, 8);
    }
}
