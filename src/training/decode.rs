//! Rows of a dataset version as the model takes them: the fitted pipeline, the label and the weights of each row.
//!
//! The only place of training where Arrow becomes matrices.

use std::sync::Arc;

use arrow::array::RecordBatch;
use async_trait::async_trait;
use futures::FutureExt;

use super::TrainingError;
use super::feed::RowGroups;
use super::job::{ResolvedJob, RowsPlace};
use crate::catalog::{Catalog, Dataset, DatasetReference};
use crate::features::{AppliedPipeline, FittedPipeline};
use crate::frames::minibatch::{DecodedRows, Matrix, MatrixKind, RowShape};
use crate::frames::{Classes, FrameError, gather_float, gather_int, width_of};
use crate::nn::{FeatureColumn, FeatureKind, InputType, Loss, Model, ModelInput};

/// A dataset version whose row groups decode to matrices.
#[derive(Debug)]
pub(crate) struct DatasetRows {
    dataset: Dataset,
    /// File and row group of each of our row groups.
    places: Vec<(usize, usize)>,
    row_groups: Vec<u64>,
    columns: Vec<String>,
    decoder: Arc<Decoder>,
}

/// What turns a record batch into rows of the model.
#[derive(Debug)]
struct Decoder {
    pipeline: AppliedPipeline,
    inputs: Vec<ModelInput>,
    label: String,
    target: Target,
    sample_weight: Option<String>,
    shape: RowShape,
}

#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // one a job
enum Target {
    Numbers,
    Class {
        classes: Classes,
        /// Whether the target is one number per class instead of the class's place.
        one_hot: bool,
        /// By class; empty when all weigh 1.
        weights: Vec<f32>,
    },
}

/// Opens the rows of a job.
pub(crate) async fn open_place(
    catalog: &Catalog,
    place: &RowsPlace,
) -> Result<Dataset, TrainingError> {
    Ok(match place {
        RowsPlace::Table { name, version } => {
            let reference = DatasetReference {
                name: name.clone(),
                version: Some(*version),
            };
            catalog.datasets.open(&reference).boxed().await?
        }
        RowsPlace::Staged { job } => catalog.datasets.open_staged(*job).await?,
    })
}

/// The feature columns that a fitted pipeline makes, as a model sees them.
pub(crate) fn feature_columns(
    pipeline: &FittedPipeline,
) -> Result<Vec<FeatureColumn>, TrainingError> {
    pipeline
        .output_schema()
        .fields()
        .iter()
        .map(|field| {
            Ok(FeatureColumn {
                name: field.name().clone(),
                width: width_of(field)?,
                kind: if field.data_type().is_integer() {
                    FeatureKind::Integer
                } else {
                    FeatureKind::Float
                },
            })
        })
        .collect()
}

/// Which matrices a row is decoded into.
pub(crate) fn row_shape(model: &Model, loss: Loss, weighted: bool) -> RowShape {
    let input = |input: &ModelInput| {
        let kind = match input.dtype {
            InputType::Float32 => MatrixKind::Float32,
            InputType::Int32 => MatrixKind::Int32,
        };
        (kind, input.width)
    };
    RowShape {
        inputs: model.inputs().iter().map(input).collect(),
        target_width: loss.target_width(model),
        weighted,
    }
}

impl DatasetRows {
    /// Rows to train on, weighted as the job says, or (`validation`) to validate on: these have no class weights, and
    /// sample weights only where the dataset has that column.
    pub(crate) fn new(
        dataset: Dataset,
        job: &ResolvedJob,
        pipeline: &FittedPipeline,
        model: &Model,
        loss: Loss,
        validation: bool,
    ) -> Result<Self, TrainingError> {
        let mut columns: Vec<String> = pipeline
            .input_schema()
            .fields()
            .iter()
            .map(|field| field.name().clone())
            .collect();
        let sample_weight = job
            .sample_weight
            .clone()
            .filter(|column| !validation || dataset.schema.column_with_name(column).is_some());
        for column in std::iter::once(&job.label.name).chain(&sample_weight) {
            if !columns.contains(column) {
                columns.push(column.clone());
            }
        }
        let indices = columns
            .iter()
            .map(|column| dataset.schema.index_of(column))
            .collect::<Result<Vec<_>, _>>();
        let projected = indices.and_then(|indices| dataset.schema.project(&indices));
        let projected = projected.map_err(|error| TrainingError::BadOption {
            option: "features",
            received: error.to_string(),
            hint: "name columns that every source of the job has".into(),
        })?;
        let target = if job.label.classes.is_empty() {
            Target::Numbers
        } else {
            let data_type = job.label.arrow_type()?;
            Target::Class {
                classes: Classes::from_text(&job.label.name, &data_type, &job.label.classes)?,
                one_hot: loss == Loss::CategoricalCrossentropy,
                weights: if validation {
                    Vec::new()
                } else {
                    job.class_weight.clone()
                },
            }
        };
        let class_weighted =
            matches!(&target, Target::Class { weights, .. } if !weights.is_empty());
        let shape = row_shape(model, loss, sample_weight.is_some() || class_weighted);
        let places = dataset.files.iter().enumerate().flat_map(|(file, data)| {
            (0..data.row_groups.len()).map(move |row_group| (file, row_group))
        });
        Ok(Self {
            places: places.collect(),
            row_groups: dataset
                .files
                .iter()
                .flat_map(|file| file.row_groups.iter().copied())
                .collect(),
            decoder: Arc::new(Decoder {
                pipeline: pipeline.bind(&projected)?,
                inputs: model.inputs().to_vec(),
                label: job.label.name.clone(),
                target,
                sample_weight,
                shape,
            }),
            columns,
            dataset,
        })
    }
}

#[async_trait]
impl RowGroups for DatasetRows {
    fn shape(&self) -> &RowShape {
        &self.decoder.shape
    }

    fn row_groups(&self) -> &[u64] {
        &self.row_groups
    }

    async fn read(&self, row_group: usize) -> Result<DecodedRows, TrainingError> {
        let (file, place) = self.places[row_group];
        let batches = self
            .dataset
            .read_row_group(file, place, Some(&self.columns))
            .await?;
        let first: u64 = self.row_groups[..row_group].iter().sum();
        let decoder = Arc::clone(&self.decoder);
        // Decoding is work for a core, and the runtime's threads are for waiting.
        let decoding =
            tokio::task::spawn_blocking(move || decoder.decode(&batches, first as usize));
        decoding.await.map_err(|error| TrainingError::Internal {
            reason: format!("decoding rows failed: {error}"),
        })?
    }
}

impl Decoder {
    fn decode(&self, batches: &[RecordBatch], first: usize) -> Result<DecodedRows, TrainingError> {
        let count = batches.iter().map(RecordBatch::num_rows).sum();
        let mut rows = DecodedRows::with_capacity(&self.shape, count);
        let mut places = Vec::new();
        for batch in batches {
            let at = first + rows.rows;
            let located = |error: FrameError| TrainingError::from(error.from_row(at));
            let features = self.pipeline.apply(batch)?;
            for (input, matrix) in self.inputs.iter().zip(&mut rows.inputs) {
                match matrix {
                    Matrix::Float32 { values, .. } => {
                        gather_float(&features, &input.columns, input.width, values)
                    }
                    Matrix::Int32 { values, .. } => {
                        gather_int(&features, &input.columns, input.width, values)
                    }
                }
                .map_err(located)?;
            }
            let before = rows.weights.as_ref().map_or(0, Vec::len);
            if let Some(weights) = &mut rows.weights {
                match &self.sample_weight {
                    Some(column) => {
                        gather_float(batch, std::slice::from_ref(column), 1, weights)
                            .map_err(located)?;
                    }
                    None => weights.resize(before + batch.num_rows(), 1.0),
                }
            }
            match &self.target {
                Target::Numbers => {
                    let label = std::slice::from_ref(&self.label);
                    let width = self.shape.target_width;
                    gather_float(batch, label, width, &mut rows.target).map_err(located)?;
                }
                Target::Class {
                    classes,
                    one_hot,
                    weights: class_weights,
                } => {
                    places.clear();
                    classes.indices(batch, &mut places).map_err(located)?;
                    if *one_hot {
                        let start = rows.target.len();
                        let width = classes.len();
                        rows.target.resize(start + places.len() * width, 0.0);
                        for (row, &place) in places.iter().enumerate() {
                            rows.target[start + row * width + place as usize] = 1.0;
                        }
                    } else {
                        rows.target.extend(places.iter().map(|&place| place as f32));
                    }
                    if let (Some(weights), false) = (&mut rows.weights, class_weights.is_empty()) {
                        for (weight, &place) in weights[before..].iter_mut().zip(&places) {
                            *weight *= class_weights[place as usize];
                        }
                    }
                }
            }
            rows.rows += batch.num_rows();
        }
        Ok(rows)
    }
}
