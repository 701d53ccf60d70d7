//! Answers from models: loaded versions, scoring sessions, scoring jobs, evaluation. Does not know training or Flight.

pub mod error;
pub mod loaded;
pub mod score;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use error::ServingError;
pub use loaded::{LoadedModel, ScoringSession};
pub use score::ScoreRequest;

use crate::catalog::{Catalog, JobId};
use crate::features::{QueryEngine, Source};

/// The models of one server. Fulfils `features::ModelFunctions`.
#[derive(Debug)]
pub struct Serving {}

impl Serving {
    pub fn new(catalog: Catalog) -> Arc<Self> {
        let _ = catalog;
        todo!("serving")
    }
    /// Loads (or finds loaded) a version; `None` is the newest committed one at the time of the call.
    pub async fn model(
        &self,
        name: &str,
        version: Option<u64>,
    ) -> Result<Arc<LoadedModel>, ServingError> {
        let _ = (name, version);
        todo!("serving")
    }
    /// Starts a scoring job after checking everything that can be checked at once.
    pub async fn score(
        self: &Arc<Self>,
        queries: &Arc<QueryEngine>,
        request: ScoreRequest,
    ) -> Result<JobId, ServingError> {
        let _ = (queries, request);
        todo!("serving")
    }
    /// Loss and metrics over labelled rows. Returns them with the number of rows.
    pub async fn evaluate(
        &self,
        queries: &QueryEngine,
        name: &str,
        version: Option<u64>,
        source: &Source,
        metrics: &[String],
    ) -> Result<(BTreeMap<String, f64>, u64), ServingError> {
        let _ = (queries, name, version, source, metrics);
        todo!("serving")
    }
}
