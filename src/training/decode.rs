//! Rows of a dataset version as the model takes them: the fitted pipeline, the label and the weights of each row.
//!
//! The only place of training where Arrow becomes matrices.

use std::sync::Arc;

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::{interleave_record_batch, take_record_batch};
use arrow::datatypes::{DataType, SchemaRef};
use async_trait::async_trait;
use futures::FutureExt;
use futures::stream::BoxStream;
use tokio::sync::Semaphore;

use super::TrainingError;
use super::feed::{RowGroup, RowGroups};
use super::job::{ResolvedJob, RowsPlace};
use super::outputs::objectives;
use super::prepare::internal;
use super::targets::Targets;
use crate::catalog::{Catalog, CatalogError, Dataset, DatasetReference};
use crate::features::{AppliedPipeline, FeatureError, FittedPipeline};
use crate::frames::data_plan::SplitPart;
use crate::frames::minibatch::{DecodedRows, Matrix, MatrixKind, RowShape};
use crate::frames::{FrameError, gather_float, gather_int, width_of};
use crate::nn::{FeatureColumn, FeatureKind, InputType, Model, ModelInput, Objectives};

/// Rows that go through the pipeline together: what it makes on the way from columns to the matrix is a few times these
/// bytes, and should stay in the processor's cache.
const SLICE_BYTES: u64 = 1 << 20;
/// Most and fewest of them.
const SLICE_ROWS_MAX: u64 = 8_192;
const SLICE_ROWS_MIN: u64 = 64;

/// A dataset version whose row groups decode to matrices.
#[derive(Debug)]
pub(crate) struct DatasetRows {
    dataset: Dataset,
    /// File and row group of each of our row groups.
    places: Vec<(usize, usize)>,
    row_groups: Vec<u64>,
    /// First row of each row group.
    firsts: Vec<u64>,
    columns: Vec<String>,
    decoder: Arc<Decoder>,
    /// A permit per thread that may decode.
    decoding: Arc<Semaphore>,
}

/// A row group's columns in memory.
#[derive(Debug)]
struct OpenRowGroup {
    batches: Arc<[RecordBatch]>,
    first: u64,
    decoder: Arc<Decoder>,
    decoding: Arc<Semaphore>,
}

/// What turns a record batch into rows of the model.
#[derive(Debug)]
struct Decoder {
    pipeline: AppliedPipeline,
    inputs: Vec<ModelInput>,
    targets: Targets,
    sample_weight: Option<String>,
    shape: RowShape,
    /// Which of the source's rows these are; `None`: all of them.
    split: Option<SplitPart>,
}

/// Which rows of some batches laid end to end, in which order.
#[derive(Debug)]
enum Chosen {
    All,
    Rows(Vec<u32>),
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
                kind: kind_of(field.data_type()),
            })
        })
        .collect()
}

/// What a column's numbers are, those of a list too.
fn kind_of(data_type: &DataType) -> FeatureKind {
    match data_type {
        DataType::FixedSizeList(item, _) => kind_of(item.data_type()),
        number if number.is_integer() => FeatureKind::Integer,
        _ => FeatureKind::Float,
    }
}

/// Which matrices a row is decoded into.
pub(crate) fn row_shape(model: &Model, objectives: &Objectives, weighted: bool) -> RowShape {
    let input = |input: &ModelInput| {
        let kind = match input.dtype {
            InputType::Float32 => MatrixKind::Float32,
            InputType::Int32 => MatrixKind::Int32,
        };
        (kind, input.width)
    };
    RowShape {
        inputs: model.inputs().iter().map(input).collect(),
        target_width: objectives.target_width(model),
        weighted,
    }
}

impl DatasetRows {
    /// Rows to train on, weighted as the job says, or (`validation`) to validate on: these have no class weights, and
    /// sample weights only where the dataset has that column. `split`: which of the source's rows they are.
    /// `decoding` holds a permit for each row group that may be decoded at once.
    pub(crate) fn new(
        dataset: Dataset,
        job: &ResolvedJob,
        pipeline: &FittedPipeline,
        model: &Model,
        validation: bool,
        split: Option<SplitPart>,
        decoding: Arc<Semaphore>,
    ) -> Result<Self, TrainingError> {
        let objectives = objectives(&job.outputs).map_err(internal)?;
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
        let labels = job.outputs.iter().map(|output| &output.label.name);
        for column in labels.chain(&sample_weight) {
            if !columns.contains(column) {
                columns.push(column.clone());
            }
        }
        let indices = columns
            .iter()
            .map(|column| {
                let index = dataset.schema.index_of(column);
                index.map_err(|_| missing_column(column, &dataset.schema, validation))
            })
            .collect::<Result<Vec<_>, _>>()?;
        let projected = dataset.schema.project(&indices).map_err(internal)?;
        let class_weights = match validation {
            true => Vec::new(),
            false => job.class_weight.clone(),
        };
        let places = objectives.places(model);
        let widths = places.iter().map(|place| place.targets.len());
        let targets = Targets::new(&job.outputs, widths, class_weights)?;
        let weighted = sample_weight.is_some() || targets.weighted();
        let shape = row_shape(model, &objectives, weighted);
        let places = dataset.files.iter().enumerate().flat_map(|(file, data)| {
            (0..data.row_groups.len()).map(move |row_group| (file, row_group))
        });
        let row_groups: Vec<u64> = dataset
            .files
            .iter()
            .flat_map(|file| file.row_groups.iter().copied())
            .collect();
        let mut next = 0;
        let firsts = row_groups.iter().map(|rows| {
            next += rows;
            next - rows
        });
        Ok(Self {
            places: places.collect(),
            firsts: firsts.collect(),
            row_groups,
            decoding,
            decoder: Arc::new(Decoder {
                pipeline: pipeline.bind(&projected)?,
                inputs: model.inputs().to_vec(),
                targets,
                sample_weight,
                shape,
                split,
            }),
            columns,
            dataset,
        })
    }

    /// The columns that are read, with their types.
    pub(crate) fn schema(&self) -> Result<SchemaRef, TrainingError> {
        Ok(self.dataset.project(Some(&self.columns))?)
    }

    /// The columns that are read, of all rows in order.
    pub(crate) fn scan(&self) -> BoxStream<'static, Result<RecordBatch, CatalogError>> {
        self.dataset.scan(Some(&self.columns))
    }

    /// Decodes rows of those columns, of which the first is row `first`, and forgets them: the first that cannot be used
    /// is named.
    pub(crate) async fn check(
        &self,
        batches: Vec<RecordBatch>,
        first: u64,
    ) -> Result<(), TrainingError> {
        let decoder = Arc::clone(&self.decoder);
        let checking = tokio::task::spawn_blocking(move || {
            let mut rows = DecodedRows::with_capacity(&decoder.shape, 0);
            for (slice, source) in decoder.slices(&batches, first, &Chosen::All) {
                decoder.add(&slice?, &source, &mut rows)?;
                rows.clear();
            }
            Ok(())
        });
        checking.await.map_err(internal)?
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

    async fn open(&self, row_group: usize) -> Result<Arc<dyn RowGroup>, TrainingError> {
        let (file, place) = self.places[row_group];
        let batches = self
            .dataset
            .read_row_group(file, place, Some(&self.columns))
            .await?;
        Ok(Arc::new(OpenRowGroup {
            batches: batches.into(),
            first: self.firsts[row_group],
            decoder: Arc::clone(&self.decoder),
            decoding: Arc::clone(&self.decoding),
        }))
    }
}

#[async_trait]
impl RowGroup for OpenRowGroup {
    async fn all(&self) -> Result<DecodedRows, TrainingError> {
        let rows = self.batches.iter().map(RecordBatch::num_rows).sum();
        let room = DecodedRows::with_capacity(&self.decoder.shape, rows);
        self.decode(Chosen::All, room).await
    }

    async fn rows(&self, rows: Vec<u32>, into: DecodedRows) -> Result<DecodedRows, TrainingError> {
        self.decode(Chosen::Rows(rows), into).await
    }
}

impl OpenRowGroup {
    async fn decode(
        &self,
        chosen: Chosen,
        mut into: DecodedRows,
    ) -> Result<DecodedRows, TrainingError> {
        let (batches, decoder) = (Arc::clone(&self.batches), Arc::clone(&self.decoder));
        let first = self.first;
        let permit = Arc::clone(&self.decoding).acquire_owned().await;
        // Decoding is work for a core, and the runtime's threads are for waiting.
        let decoding = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            into.clear();
            for (slice, source) in decoder.slices(&batches, first, &chosen) {
                decoder.add(&slice?, &source, &mut into)?;
            }
            Ok(into)
        });
        decoding.await.map_err(|error| TrainingError::Internal {
            reason: format!("decoding rows failed: {error}"),
        })?
    }
}

/// Where rows of a slice come from: numbers of the rows as the job has them.
#[derive(Debug)]
struct SliceRows<'a> {
    first: u64,
    /// The rows within the row group, where they are not simply those that follow.
    chosen: Option<&'a [u32]>,
    split: Option<&'a SplitPart>,
}

impl SliceRows<'_> {
    /// The source's number of a row of the slice.
    fn source_row(&self, row: usize) -> usize {
        let within = match self.chosen {
            Some(chosen) => u64::from(chosen.get(row).copied().unwrap_or(0)),
            None => row as u64,
        };
        let row = self.first + within;
        self.split.map_or(row, |split| split.source_row(row)) as usize
    }

    fn located(&self, error: FrameError) -> TrainingError {
        error.map_row(|row| self.source_row(row)).into()
    }

    fn located_feature(&self, mut error: FeatureError) -> TrainingError {
        if let FeatureError::BadValue { row, .. } = &mut error {
            *row = self.source_row(*row);
        }
        error.into()
    }
}

impl Decoder {
    /// The chosen rows of batches whose first row is row `first` of the job's, a slice at a time: so few that what the pipeline makes of them is small.
    fn slices<'a>(
        &'a self,
        batches: &'a [RecordBatch],
        first: u64,
        chosen: &'a Chosen,
    ) -> Box<dyn Iterator<Item = (Result<RecordBatch, TrainingError>, SliceRows<'a>)> + 'a> {
        let rows = SLICE_BYTES / self.shape.row_bytes().max(1);
        let rows = rows.clamp(SLICE_ROWS_MIN, SLICE_ROWS_MAX) as usize;
        let split = self.split.as_ref();
        match chosen {
            Chosen::All => {
                let mut next = first;
                let starts = batches.iter().map(move |batch| {
                    next += batch.num_rows() as u64;
                    (batch, next - batch.num_rows() as u64)
                });
                Box::new(starts.flat_map(move |(batch, start)| {
                    (0..batch.num_rows()).step_by(rows).map(move |at| {
                        let slice = batch.slice(at, rows.min(batch.num_rows() - at));
                        let source = SliceRows {
                            first: start + at as u64,
                            chosen: None,
                            split,
                        };
                        (Ok(slice), source)
                    })
                }))
            }
            Chosen::Rows(numbers) => Box::new(numbers.chunks(rows).map(move |numbers| {
                let source = SliceRows {
                    first,
                    chosen: Some(numbers),
                    split,
                };
                (take(batches, numbers), source)
            })),
        }
    }

    /// Adds a slice's rows.
    fn add(
        &self,
        batch: &RecordBatch,
        source: &SliceRows<'_>,
        rows: &mut DecodedRows,
    ) -> Result<(), TrainingError> {
        let located = |error: FrameError| source.located(error);
        let features = self.pipeline.apply(batch);
        let features = features.map_err(|error| source.located_feature(error))?;
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
        let weights = rows.weights.as_mut().map(|weights| &mut weights[before..]);
        let targets = self.targets.add(batch, &mut rows.target, weights);
        targets.map_err(located)?;
        rows.rows += batch.num_rows();
        Ok(())
    }
}

/// Rows of batches laid end to end, by number.
fn take(batches: &[RecordBatch], rows: &[u32]) -> Result<RecordBatch, TrainingError> {
    if let [batch] = batches {
        let rows = UInt32Array::from(rows.to_vec());
        return take_record_batch(batch, &rows).map_err(internal);
    }
    let mut ends = Vec::with_capacity(batches.len());
    let mut end = 0;
    for batch in batches {
        end += batch.num_rows();
        ends.push(end);
    }
    let place = |&row: &u32| {
        let row = row as usize;
        let batch = ends.partition_point(|&end| end <= row);
        (
            batch,
            row - batch.checked_sub(1).map_or(0, |before| ends[before]),
        )
    };
    let places: Vec<(usize, usize)> = rows.iter().map(place).collect();
    let batches: Vec<&RecordBatch> = batches.iter().collect();
    interleave_record_batch(&batches, &places).map_err(internal)
}

/// The rows lack a column that the job reads.
fn missing_column(column: &str, schema: &SchemaRef, validation: bool) -> TrainingError {
    const NAMES_MAX: usize = 10;
    let mut names: Vec<String> = schema
        .fields()
        .iter()
        .take(NAMES_MAX)
        .map(|field| format!("{:?}", field.name()))
        .collect();
    if schema.fields().len() > NAMES_MAX {
        names.push("...".to_owned());
    }
    TrainingError::BadOption {
        option: if validation { "validation" } else { "features" },
        received: format!(
            "rows without the column {column:?}; they have {}",
            names.join(", ")
        ),
        hint: "give rows with every column that the training reads".into(),
    }
}
