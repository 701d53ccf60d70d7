//! Answers from models: loaded versions, scoring sessions, scoring jobs, evaluation. Does not know training or Flight.
//!
//! Every door (DoExchange, SQL, scoring jobs, evaluation) answers through [`ScoringSession`], which runs the version's
//! own fitted pipeline and network. Invariants: same rows, same order; the same row gets the same bits in whatever
//! company; what is committed in the store is what answers.

mod answer;
mod answers;
mod cache;
pub mod error;
mod evaluate;
mod function;
mod labels;
pub mod loaded;
mod network;
mod ordered;
pub mod score;
#[cfg(test)]
mod stories;

use std::sync::Arc;

pub use error::ServingError;
pub use loaded::{LoadedModel, ScoringSession, summary};
pub use score::ScoreRequest;

use crate::catalog::Catalog;
use crate::support::admission::Admission;
use cache::{Identity, VersionCache};

/// Bounds of one server's answering.
#[derive(Debug, Clone)]
pub struct ServingConfig {
    /// Bytes of loaded models kept between calls; the least recently used makes room.
    pub cache_bytes: usize,
    /// Threads a scoring job or an evaluation works on; the server's cores.
    pub threads: usize,
}

impl Default for ServingConfig {
    fn default() -> Self {
        Self {
            cache_bytes: 1 << 30,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }
}

/// The models of one server. Fulfils `features::ModelFunctions`.
#[derive(Debug)]
pub struct Serving {
    catalog: Catalog,
    config: ServingConfig,
    cache: VersionCache<LoadedModel>,
    /// Places of scoring jobs.
    scoring: Admission,
}

impl Serving {
    /// With the default bounds.
    pub fn new(catalog: Catalog) -> Arc<Self> {
        Self::with_config(catalog, ServingConfig::default())
    }

    pub fn with_config(catalog: Catalog, config: ServingConfig) -> Arc<Self> {
        Arc::new(Self {
            cache: VersionCache::new(config.cache_bytes),
            scoring: Admission::new(score::RUNNING_MAX, score::QUEUED_MAX),
            catalog,
            config,
        })
    }

    /// Loads (or finds loaded) a version; `None` is the newest committed one at the time of the call.
    ///
    /// Every call reads the version's manifest, so that a removed model is not answered for and one trained anew under
    /// its name is not mistaken for it; weights are read once.
    pub async fn model(
        &self,
        name: &str,
        version: Option<u64>,
    ) -> Result<Arc<LoadedModel>, ServingError> {
        let manifest = self.catalog.models.manifest(name, version).await?;
        let identity = Identity {
            name: manifest.name.clone(),
            version: manifest.version,
            job: manifest.job.clone(),
            committed_ms: manifest.committed_ms,
        };
        let (name, version) = (identity.name.clone(), identity.version);
        let load = async || {
            let version = self.catalog.models.load(&name, Some(version)).await?;
            let threads = self.config.threads;
            let built = tokio::task::spawn_blocking(move || LoadedModel::new(version, threads));
            let model = built.await.map_err(|error| {
                if error.is_cancelled() {
                    ServingError::Stopping
                } else {
                    ServingError::Execution {
                        reason: format!("loading model {name:?} panicked"),
                    }
                }
            })??;
            let bytes = model.bytes();
            Ok((model, bytes))
        };
        self.cache.get_or_load(identity, load).await
    }

    fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    fn admission(&self) -> &Admission {
        &self.scoring
    }

    fn config(&self) -> &ServingConfig {
        &self.config
    }
}
