//! From a request to a resolved job: first what can be refused without reading rows, then rows, label, pipeline, model.
//!
//! Knows the catalog and SQL; does not know threads, streams or who trains.

use std::sync::Arc;

use arrow::datatypes::{DataType, Schema};
use futures::FutureExt;
use tokio::sync::Semaphore;

use super::TrainingError;
use super::admission::RUNNING_MAX;
use super::decode::{DatasetRows, feature_columns, row_shape};
use super::early_stopping::StoppingRule;
use super::job::{ResolvedJob, ResolvedRows, RowsPlace, TrainRequest, Validation};
use super::label::LabelReaders;
use super::memory::{Room, Side, deal};
use super::monitor::{plateau_rule, stopping_rule};
use super::outputs::{
    CheckedOutput, check_label_type, check_model, check_outputs, label_types, objectives_of,
    resolved_outputs,
};
use super::rows::{PlacedRows, Staged, place_rows, stage_windows};
use crate::catalog::name::check_name;
use crate::catalog::{Catalog, Dataset, JobId, LabelColumn, TrainingRecord};
use crate::features::{FeatureError, FittedPipeline, PipelineSpec, QueryEngine, Source};
use crate::frames::data_plan::{LANES_MAX, default_lanes};
use crate::nn::{Model, ModelSpec};
use crate::optim::{Optimizer, OptimizerSpec, PlateauRule};

/// Most epochs of a job; more is a slip of the keyboard.
pub(super) const EPOCHS_MAX: u32 = 1_000_000;

/// Most checkpoints kept of a job; each is as large as the model and its optimizer's state.
const CHECKPOINTS_MAX: u32 = 1_000;

/// Most rows of a minibatch: 2^24, above which a float32 no longer counts rows one by one.
const BATCH_SIZE_MAX: u32 = 1 << 24;

/// A request found to be in order, as far as can be told without reading rows.
#[derive(Debug)]
pub(crate) struct CheckedRequest {
    pub(crate) request: TrainRequest,
    spec: ModelSpec,
    pipeline: PipelineSpec,
    outputs: Vec<CheckedOutput>,
    optimizer: OptimizerSpec,
    features: Vec<String>,
    lanes: u32,
    early_stopping: Option<StoppingRule>,
    reduce_on_plateau: Option<PlateauRule>,
}

/// A job that can start.
#[derive(Debug)]
pub(crate) struct PreparedJob {
    pub(crate) job: ResolvedJob,
    /// What a reader of the model is told of how it was trained.
    pub(crate) record: TrainingRecord,
    pub(crate) parameters: u64,
    /// What a reader of the model is told of its rows: `census@3`, the query, or the path.
    pub(crate) source: String,
    pub(crate) dataset_version: Option<i64>,
}

/// Refuses what can be refused without reading rows.
pub(crate) async fn check(
    request: TrainRequest,
    queries: &QueryEngine,
) -> Result<CheckedRequest, TrainingError> {
    check_name("model", &request.name)?;
    in_range("epochs", request.epochs, 1, EPOCHS_MAX)?;
    in_range("batch_size", request.batch_size, 1, BATCH_SIZE_MAX)?;
    let lanes = match request.lanes {
        0 => default_lanes(request.batch_size),
        lanes if lanes.is_power_of_two() && lanes <= LANES_MAX => lanes,
        other => {
            let hint = format!("give a power of two up to {LANES_MAX}, or 0 for the default");
            return Err(bad_option("lanes", other, hint));
        }
    };
    if let Some(rule) = &request.checkpoints {
        in_range("checkpoints.every", rule.every, 1, EPOCHS_MAX)?;
        in_range("checkpoints.keep", rule.keep, 1, CHECKPOINTS_MAX)?;
    }
    if let Validation::Split(share) = &request.validation
        && !(*share > 0.0 && *share < 1.0)
    {
        let hint = "give a number between 0 and 1, both excluded";
        return Err(bad_option("validation_split", share, hint));
    }
    for (class, weight) in &request.class_weight {
        // Weights are kept as float32, where large ones become infinite.
        if !((*weight as f32).is_finite() && *weight >= 0.0) {
            let received = format!("{weight:?} for class {class:?}");
            let hint = "weights are not negative and at most 3.4e38";
            return Err(bad_option("class_weight", received, hint));
        }
    }
    let optimizer = OptimizerSpec::from_json(&request.optimizer).map_err(bad_model)?;
    Optimizer::build(&optimizer).map_err(bad_model)?;
    let spec = ModelSpec::from_json(&request.model).map_err(bad_model)?;
    let (spec, mut outputs) = check_outputs(&request, spec)?;
    let objectives = objectives_of(&outputs);
    let pipeline = PipelineSpec::from_json(&request.pipeline)?;
    if !request.class_weight.is_empty() && objectives.several() {
        let received = format!("given for a network with {} outputs", outputs.len());
        let hint = "a class weighs alike for one output alone; weigh rows by a `sample_weight` column instead";
        return Err(bad_option("class_weight", received, hint));
    }
    if !request.class_weight.is_empty() && !objectives.outputs()[0].loss.takes_classes() {
        let received = format!("given with loss {:?}", request.loss);
        let hint = "class weights need a loss over classes";
        return Err(bad_option("class_weight", received, hint));
    }
    let early_stopping = stopping_rule(&request, &objectives)?;
    let reduce_on_plateau = plateau_rule(&request, &objectives)?;
    let query = queries.open(&request.source).await?;
    if query.rows_expected() == Some(0) {
        return Err(no_rows(&request.source));
    }
    let schema = query.schema();
    let types = check_columns(&request, &outputs, &schema, "the source")?;
    for (output, label_type) in outputs.iter_mut().zip(types) {
        output.label_type = label_type;
    }
    let features = if request.features.is_empty() {
        let taken = |name: &str| {
            outputs.iter().any(|output| output.label == name)
                || Some(name) == request.sample_weight.as_deref()
        };
        let names = schema.fields().iter().map(|field| field.name().clone());
        names.filter(|name| !taken(name)).collect()
    } else {
        request.features.clone()
    };
    if features.is_empty() {
        let hint = "give at least one column besides the label";
        return Err(bad_option("features", "empty", hint));
    }
    if let Some(output) = outputs
        .iter()
        .find(|output| features.contains(&output.label))
    {
        let received = format!("a list with the label {:?}", output.label);
        let hint = "a model that reads its label learns nothing else";
        return Err(bad_option("features", received, hint));
    }
    for output in &outputs {
        check_label_type(&output.objective.loss, &output.label, &output.label_type)?;
    }
    if let Validation::Source(source) = &request.validation {
        let query = queries.open(source).await?;
        if query.rows_expected() == Some(0) {
            return Err(no_rows(source));
        }
        check_columns(&request, &outputs, &query.schema(), "the validation source")?;
    }
    Ok(CheckedRequest {
        spec,
        pipeline,
        outputs,
        optimizer,
        features,
        lanes,
        early_stopping,
        reduce_on_plateau,
        request,
    })
}

/// Reads what must be read: pins or stages the rows, finds the classes, fits the pipeline, builds the model.
pub(crate) async fn prepare(
    mut checked: CheckedRequest,
    job: JobId,
    catalog: &Catalog,
    queries: &QueryEngine,
    // Of all jobs that run at once. A job's share is a property of the job: the same whether another one runs or not.
    cache_bytes: u64,
) -> Result<PreparedJob, TrainingError> {
    // From here on the job is about one version, whatever is committed meanwhile.
    let mut dataset_version = None;
    if let Source::Table(reference) = &mut checked.request.source {
        dataset_version = Some(catalog.datasets.open(reference).boxed().await?.version);
        reference.version = dataset_version;
    }
    let request = &checked.request;
    let mut labels = LabelReaders::new(&checked.outputs, request.sample_weight.as_deref())?;
    let (train, validation) = place_rows(request, job, catalog, queries, &mut labels)
        .boxed()
        .await?;
    let labels = labels.finish()?;
    let class_weight = class_weights(request, &labels[0])?;
    let source = match &train.place {
        RowsPlace::Table { name, version } => Source::Table(crate::catalog::DatasetReference {
            name: name.clone(),
            version: Some(*version),
        }),
        RowsPlace::Staged { job } => Source::Staged(*job),
    };
    let fitted = checked
        .pipeline
        .fit(queries, &source, &checked.features, None)
        .boxed()
        .await?;
    let model = Model::build(&checked.spec, &feature_columns(&fitted)?).map_err(bad_model)?;
    check_model(&model, &checked.outputs, &labels)?;
    if !model.sparse_tables().is_empty() {
        checked.optimizer.check_sparse().map_err(bad_model)?;
    }
    let weighted = request.sample_weight.is_some() || !class_weight.is_empty();
    let objectives = objectives_of(&checked.outputs);
    let row_bytes = row_shape(&model, &objectives, weighted).row_bytes().max(1);
    let side = |placed: &PlacedRows| Side {
        rows: placed.dataset.rows,
        row_bytes,
    };
    let share = cache_bytes / RUNNING_MAX as u64;
    let sides = (side(&train), validation.as_ref().map(side));
    let (train_room, validation_room) = deal(share, checked.lanes, sides.0, sides.1);
    let resolve = |placed: &PlacedRows, room: Room| ResolvedRows {
        place: placed.place.clone(),
        rows: placed.dataset.rows,
        cached: room == Room::Memory,
        window_rows: match room {
            Room::Memory => 0,
            Room::Windows { window_rows, .. } => window_rows,
        },
        split: placed.split,
        first_file: first_file(&placed.place, &placed.dataset),
    };
    let mut resolved = ResolvedJob {
        seed: request.seed,
        epochs: request.epochs,
        batch_size: request.batch_size,
        lanes: checked.lanes,
        shuffle: request.shuffle,
        model: checked.spec.to_json(),
        pipeline: fitted.to_json(),
        optimizer: checked.optimizer.to_json(),
        outputs: resolved_outputs(&checked.outputs, labels),
        class_weight,
        sample_weight: request.sample_weight.clone(),
        train: resolve(&train, train_room),
        validation: validation
            .as_ref()
            .zip(validation_room)
            .map(|(placed, room)| resolve(placed, room)),
        early_stopping: checked.early_stopping,
        reduce_on_plateau: checked.reduce_on_plateau,
        checkpoints: request.checkpoints,
        resume: None,
        rate_is_new: false,
    };
    let windows = Restaging {
        job,
        resolved: &resolved,
        fitted: &fitted,
        model: &model,
        catalog,
    };
    let train = windows.place(train, train_room, Staged::TrainWindows);
    let train = train.boxed().await?;
    let validation = match validation.zip(validation_room) {
        Some((placed, room)) => {
            let place = windows.place(placed, room, Staged::ValidationWindows);
            Some(place.boxed().await?)
        }
        None => None,
    };
    resolved.train.place = train;
    if let (Some(rows), Some(place)) = (&mut resolved.validation, validation) {
        rows.place = place;
    }
    let record = record(request, &resolved, cache_bytes);
    Ok(PreparedJob {
        job: resolved,
        record,
        parameters: model.parameter_len() as u64,
        source: describe(&request.source),
        dataset_version,
    })
}

/// What tells a table from another of its name and version.
pub(crate) fn first_file(place: &RowsPlace, dataset: &Dataset) -> Option<String> {
    match place {
        RowsPlace::Table { .. } => dataset.files.first().map(|file| file.path.to_string()),
        RowsPlace::Staged { .. } => None,
    }
}

/// Rows that are read in windows get row groups of their own.
struct Restaging<'a> {
    job: JobId,
    resolved: &'a ResolvedJob,
    fitted: &'a FittedPipeline,
    model: &'a Model,
    catalog: &'a Catalog,
}

impl Restaging<'_> {
    /// Where the workers find the rows.
    async fn place(
        &self,
        placed: PlacedRows,
        room: Room,
        staged: Staged,
    ) -> Result<RowsPlace, TrainingError> {
        let Room::Windows {
            row_group_bytes, ..
        } = room
        else {
            return Ok(placed.place);
        };
        let rows = DatasetRows::new(
            placed.dataset,
            self.resolved,
            self.fitted,
            self.model,
            matches!(staged, Staged::ValidationWindows),
            placed.split,
            Arc::new(Semaphore::new(1)),
        )?;
        let (job, bytes) = (self.job, row_group_bytes);
        stage_windows(&rows, &placed.place, job, staged, bytes, self.catalog).await
    }
}

fn record(request: &TrainRequest, job: &ResolvedJob, cache_bytes: u64) -> TrainingRecord {
    let window = |rows: &ResolvedRows| (!rows.cached).then_some(rows.window_rows);
    let (validation_split, validation) = match &request.validation {
        Validation::None => (None, None),
        Validation::Split(share) => (Some(*share), None),
        Validation::Source(source) => (None, Some(describe(source))),
    };
    TrainingRecord {
        epochs: job.epochs,
        batch_size: job.batch_size,
        lanes: job.lanes,
        shuffle: job.shuffle,
        optimizer: job.optimizer.clone(),
        class_weight: request.class_weight.clone(),
        sample_weight: job.sample_weight.clone(),
        validation_split,
        validation,
        early_stopping: job.early_stopping.as_ref().map(StoppingRule::record),
        reduce_on_plateau: job.reduce_on_plateau.as_ref().map(PlateauRule::record),
        training_cache_bytes: cache_bytes,
        window_rows: window(&job.train),
        validation_window_rows: job.validation.as_ref().and_then(window),
        resumed_from: None,
    }
}

/// One weight per class, in class order; empty when none is given.
fn class_weights(request: &TrainRequest, label: &LabelColumn) -> Result<Vec<f32>, TrainingError> {
    if request.class_weight.is_empty() {
        return Ok(Vec::new());
    }
    if label.classes.is_empty() {
        let received = format!("given with the label {:?} of numbers", label.name);
        let hint = "class weights need a label column of classes";
        return Err(bad_option("class_weight", received, hint));
    }
    if let Some(unknown) = request
        .class_weight
        .keys()
        .find(|class| !label.classes.contains(class))
    {
        let received = format!("given for {unknown:?}");
        let known: Vec<String> = label
            .classes
            .iter()
            .take(10)
            .map(|class| format!("{class:?}"))
            .collect();
        return Err(bad_option(
            "class_weight",
            received,
            format!("classes are {}", known.join(", ")),
        ));
    }
    let weight = |class| {
        request
            .class_weight
            .get(class)
            .map_or(1.0, |weight| *weight as f32)
    };
    let weights: Vec<f32> = label.classes.iter().map(weight).collect();
    if weights.iter().all(|weight| *weight == 0.0) {
        let hint = "give at least one class a weight above 0";
        return Err(bad_option("class_weight", "0 for every class", hint));
    }
    Ok(weights)
}

/// Labels, features and weights are columns of the rows. Returns the labels' types.
fn check_columns(
    request: &TrainRequest,
    outputs: &[CheckedOutput],
    schema: &Schema,
    place: &str,
) -> Result<Vec<DataType>, TrainingError> {
    let available = || {
        let names: Vec<String> = schema
            .fields()
            .iter()
            .take(50)
            .map(|field| format!("{:?}", field.name()))
            .collect();
        let more = schema.fields().len().saturating_sub(50);
        match more {
            0 => names.join(", "),
            more => format!("{} and {more} more", names.join(", ")),
        }
    };
    for feature in &request.features {
        if schema.column_with_name(feature).is_none() {
            return Err(FeatureError::UnknownColumn {
                column: feature.clone(),
                context: format!(" in {place}"),
                available: available(),
            }
            .into());
        }
    }
    if let Some(column) = &request.sample_weight {
        match schema.column_with_name(column) {
            Some((_, field)) if field.data_type().is_numeric() => {}
            Some((_, field)) => {
                let received = format!("column {column:?} of type {}", field.data_type());
                return Err(bad_option(
                    "sample_weight",
                    received,
                    "name a column of numbers",
                ));
            }
            // Validation rows may do without weights.
            None if place != "the source" => {}
            None => {
                return Err(FeatureError::UnknownColumn {
                    column: column.clone(),
                    context: format!(" in {place}"),
                    available: available(),
                }
                .into());
            }
        }
    }
    label_types(outputs, schema, place, available)
}

fn describe(source: &Source) -> String {
    match source {
        Source::Table(reference) => match reference.version {
            Some(version) => format!("{}@{version}", reference.name),
            None => reference.name.clone(),
        },
        Source::Query(text) | Source::Path(text) => text.clone(),
        Source::Staged(job) => format!("rows of job {job}"),
    }
}

pub(super) fn no_rows(source: &Source) -> TrainingError {
    FeatureError::NoRows {
        what: describe(source),
    }
    .into()
}

pub(super) fn in_range(
    option: &'static str,
    given: u32,
    least: u32,
    most: u32,
) -> Result<(), TrainingError> {
    if (least..=most).contains(&given) {
        return Ok(());
    }
    Err(bad_option(option, given, format!("give {least} to {most}")))
}

pub(super) fn bad_option(
    option: &'static str,
    received: impl std::fmt::Display,
    hint: impl Into<String>,
) -> TrainingError {
    TrainingError::BadOption {
        option,
        received: received.to_string(),
        hint: hint.into(),
    }
}

pub(super) fn bad_model(error: impl std::fmt::Display) -> TrainingError {
    TrainingError::BadModel {
        reason: error.to_string(),
    }
}

pub(super) fn internal(error: impl std::fmt::Display) -> TrainingError {
    TrainingError::Internal {
        reason: error.to_string(),
    }
}
