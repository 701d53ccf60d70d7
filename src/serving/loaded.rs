//! One model version in memory, and the sessions that score with it.
//!
//! The session is the one place where rows become answers: DoExchange, SQL, scoring jobs and evaluation all go through
//! it, so that they cannot disagree. It runs the version's own fitted pipeline, then its network.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, Schema, SchemaRef};

use super::ServingError;
use super::answers::Answers;
use super::network::{self, Measured, Network};
use crate::catalog::{ModelManifest, ModelVersion};
use crate::features::{AppliedPipeline, FittedPipeline};
use crate::nn;

/// Rows that go through pipeline and network at once: their columns stay in the cache, and memory is bounded
/// however large an incoming batch is.
const CHUNK_ROWS: usize = 8_192;

/// Weights, network and fitted pipeline of one version. Immutable.
#[derive(Debug)]
pub struct LoadedModel {
    manifest: ModelManifest,
    pipeline: FittedPipeline,
    network: Network,
    answer: Answers,
    bytes: usize,
}

impl LoadedModel {
    /// Builds the network on the pipeline's columns and gives it its weights. CPU work: call it off the I/O runtime.
    /// `threads` is how many threads are expected to score at once; more may, and then allocate for themselves.
    pub fn new(version: ModelVersion, threads: usize) -> Result<Self, ServingError> {
        let ModelVersion { manifest, weights } = version;
        let bad = |reason: String| ServingError::BadModel {
            model: manifest.name.clone(),
            version: manifest.version,
            reason,
        };
        let pipeline = FittedPipeline::from_json(&manifest.pipeline)
            .map_err(|error| bad(error.to_string()))?;
        let network = Network::new(&manifest.spec, &pipeline.output_schema(), &weights, threads)
            .map_err(&bad)?;
        let answer = Answers::new(&manifest.every_output(), network.model()).map_err(&bad)?;
        // The fitted pipeline and the manifest are mostly text and the tables made of it: the text, twice.
        let described = manifest.pipeline.to_string().len() + manifest.spec.to_string().len();
        let bytes = network.bytes() + 2 * described + size_of::<Self>();
        Ok(Self {
            manifest,
            pipeline,
            network,
            answer,
            bytes,
        })
    }

    pub fn manifest(&self) -> &ModelManifest {
        &self.manifest
    }

    /// Raw columns needed, in the model's input order.
    pub fn input_schema(&self) -> SchemaRef {
        self.pipeline.input_schema()
    }

    /// `prediction`, then for a classifier `probability` (two classes) or `probabilities`; of several outputs in their
    /// order, each with its name behind: `prediction_<output>`.
    pub fn answer_schema(&self) -> SchemaRef {
        Arc::clone(self.answer.schema())
    }

    /// About how much memory it holds.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn network(&self) -> &nn::Model {
        self.network.model()
    }

    /// Binds to incoming columns; the answer is the answer columns, then `keep`.
    pub fn session(
        self: &Arc<Self>,
        incoming: &Schema,
        keep: &[String],
    ) -> Result<ScoringSession, ServingError> {
        let pipeline = self.pipeline.bind(incoming)?;
        let mut fields: Vec<Arc<Field>> = self.answer.schema().fields().iter().cloned().collect();
        let mut kept = Vec::with_capacity(keep.len());
        let mut seen = HashSet::new();
        for column in keep {
            let index = index_to_keep(incoming, column)?;
            if self.answer.schema().index_of(column).is_ok() {
                return Err(ServingError::KeepColumnClash {
                    column: column.clone(),
                });
            }
            if !seen.insert(column) {
                return Err(ServingError::RepeatedKeepColumn {
                    column: column.clone(),
                    place: "in the request",
                });
            }
            kept.push(index);
            fields.push(Arc::clone(&incoming.fields()[index]));
        }
        Ok(ScoringSession {
            bound: Arc::new(Bound {
                model: Arc::clone(self),
                pipeline,
                incoming: incoming.clone(),
                kept,
                schema: Arc::new(Schema::new(fields)),
            }),
        })
    }
}

/// A version's network as a table of layers, shapes and parameters, as Keras prints it: built from the manifest alone, no
/// weights are read.
pub fn summary(manifest: &ModelManifest) -> Result<String, ServingError> {
    let bad = |reason: String| ServingError::BadModel {
        model: manifest.name.clone(),
        version: manifest.version,
        reason,
    };
    let pipeline =
        FittedPipeline::from_json(&manifest.pipeline).map_err(|error| bad(error.to_string()))?;
    let model = network::build(&manifest.spec, &pipeline.output_schema()).map_err(bad)?;
    Ok(model.summary())
}

/// A model bound to one incoming schema. Cheap to clone; clones may score on several threads at once.
///
/// The same row gets the same bits whichever rows come beside it, in whichever batch (on one kind of CPU and one BLAS
/// build; see `network.rs`).
#[derive(Debug, Clone)]
pub struct ScoringSession {
    bound: Arc<Bound>,
}

#[derive(Debug)]
struct Bound {
    model: Arc<LoadedModel>,
    pipeline: AppliedPipeline,
    incoming: Schema,
    /// Incoming columns to repeat, in the order asked.
    kept: Vec<usize>,
    schema: SchemaRef,
}

impl ScoringSession {
    /// Answer columns, then the kept ones.
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.bound.schema)
    }

    pub fn model(&self) -> &Arc<LoadedModel> {
        &self.bound.model
    }

    /// Same rows, same order. CPU work: call it off the I/O runtime.
    pub fn score(&self, rows: &RecordBatch) -> Result<RecordBatch, ServingError> {
        self.score_from(rows, 0)
    }

    /// As `score`, for rows that begin at row `first_row` of what the caller sent: errors name rows of that.
    pub fn score_from(
        &self,
        rows: &RecordBatch,
        first_row: u64,
    ) -> Result<RecordBatch, ServingError> {
        let bound = &*self.bound;
        let outputs = self.outputs(rows, first_row, None)?;
        let mut columns: Vec<ArrayRef> = bound.model.answer.columns(outputs).map_err(|nan| {
            let manifest = &bound.model.manifest;
            ServingError::NotANumber {
                model: manifest.name.clone(),
                version: manifest.version,
                value: nan.value,
                row: Some(first_row + nan.row as u64),
            }
        })?;
        columns.extend(
            bound
                .kept
                .iter()
                .map(|&index| Arc::clone(rows.column(index))),
        );
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        RecordBatch::try_new_with_options(self.schema(), columns, &options).map_err(|error| {
            ServingError::Execution {
                reason: error.to_string(),
            }
        })
    }

    /// What the network answers: a row-major matrix of (rows, output width).
    pub(super) fn outputs(
        &self,
        rows: &RecordBatch,
        first_row: u64,
        mut measured: Option<&mut Measured>,
    ) -> Result<Vec<f32>, ServingError> {
        let bound = &*self.bound;
        refuse_other_columns(&bound.incoming, rows.schema_ref())?;
        let network = &bound.model.network;
        let mut outputs = Vec::with_capacity(rows.num_rows() * network.model().output_width());
        for first in (0..rows.num_rows()).step_by(CHUNK_ROWS) {
            let chunk = rows.slice(first, CHUNK_ROWS.min(rows.num_rows() - first));
            let chunk_row = first_row + first as u64;
            let features = bound.pipeline.apply(&chunk).map_err(|error| {
                error.from_row(usize::try_from(chunk_row).unwrap_or(usize::MAX))
            })?;
            network
                .run(&features, &mut outputs, measured.as_deref_mut())
                .map_err(|error| ServingError::of_network(error, chunk_row))?;
        }
        Ok(outputs)
    }
}

/// Where the one column of this name stands.
fn index_to_keep(incoming: &Schema, column: &str) -> Result<usize, ServingError> {
    let mut places = incoming
        .fields()
        .iter()
        .enumerate()
        .filter(|(_, field)| field.name() == column)
        .map(|(index, _)| index);
    let Some(index) = places.next() else {
        return Err(ServingError::UnknownKeepColumn {
            column: column.to_owned(),
            available: names(incoming),
        });
    };
    match places.next() {
        None => Ok(index),
        Some(_) => Err(ServingError::RepeatedKeepColumn {
            column: column.to_owned(),
            place: "among the incoming columns",
        }),
    }
}

/// Refuses a batch whose columns are not those that the session was bound to. Metadata and nullability may differ.
fn refuse_other_columns(bound: &Schema, batch: &Schema) -> Result<(), ServingError> {
    if bound.fields().len() != batch.fields().len() {
        return Err(ServingError::SchemaChanged {
            difference: format!(
                "{} columns instead of {}",
                batch.fields().len(),
                bound.fields().len()
            ),
        });
    }
    for (expected, found) in bound.fields().iter().zip(batch.fields()) {
        if Arc::ptr_eq(expected, found) {
            continue;
        }
        if expected.name() != found.name() || expected.data_type() != found.data_type() {
            return Err(ServingError::SchemaChanged {
                difference: format!(
                    "{:?} of type {} instead of {:?} of type {}",
                    found.name(),
                    found.data_type(),
                    expected.name(),
                    expected.data_type()
                ),
            });
        }
    }
    Ok(())
}

/// Column names for a message: the first 20, quoted.
pub(super) fn names(schema: &Schema) -> String {
    const NAMES_MAX: usize = 20;
    let mut text = schema
        .fields()
        .iter()
        .take(NAMES_MAX)
        .map(|field| format!("{:?}", field.name()))
        .collect::<Vec<_>>()
        .join(", ");
    if schema.fields().len() > NAMES_MAX {
        text.push_str(&format!(" and {} more", schema.fields().len() - NAMES_MAX));
    }
    text
}
