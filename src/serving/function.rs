//! `predict('model', ...)`: a loaded model as SQL takes it.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;

use super::{LoadedModel, ScoringSession, Serving, ServingError};
use crate::features::{ModelFunction, ModelFunctions};
use crate::support::fault::{Fault, Faulty};

/// A model bound to exactly its own input columns.
#[derive(Debug)]
struct BoundModel {
    model: Arc<LoadedModel>,
    session: ScoringSession,
}

impl BoundModel {
    fn new(model: Arc<LoadedModel>) -> Result<Self, ServingError> {
        let session = model.session(&model.input_schema(), &[])?;
        Ok(Self { model, session })
    }
}

impl ModelFunction for BoundModel {
    fn name(&self) -> &str {
        &self.model.manifest().name
    }

    fn version(&self) -> u64 {
        self.model.manifest().version
    }

    fn input_schema(&self) -> SchemaRef {
        self.model.input_schema()
    }

    fn answer_schema(&self) -> SchemaRef {
        self.model.answer_schema()
    }

    fn call(&self, rows: &RecordBatch) -> Result<RecordBatch, String> {
        let answers = self.session.score(rows);
        answers.map_err(|error| error.without_row().to_string())
    }
}

#[async_trait]
impl ModelFunctions for Serving {
    async fn find(
        &self,
        name: &str,
        version: Option<u64>,
    ) -> Result<Arc<dyn ModelFunction>, (Fault, String)> {
        let bound = self.model(name, version).await.and_then(BoundModel::new);
        match bound {
            Ok(bound) => Ok(Arc::new(bound)),
            Err(error) => Err((error.fault(), error.to_string())),
        }
    }
}
