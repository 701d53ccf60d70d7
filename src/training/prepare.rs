//! From a request to a resolved job: first what can be refused without reading rows, then rows, label, pipeline, model.
//!
//! Knows the catalog and SQL; does not know threads, streams or who trains.

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Schema};
use futures::{FutureExt, TryStreamExt};

use super::TrainingError;
use super::decode::{feature_columns, row_shape};
use super::early_stopping::StoppingRule;
use super::feed::WINDOWS_PER_LANE;
use super::job::{ResolvedJob, ResolvedRows, RowsPlace, TrainRequest, Validation};
use crate::catalog::name::check_name;
use crate::catalog::{Catalog, Dataset, DatasetWriter, JobId, LabelColumn};
use crate::features::{FeatureError, PipelineSpec, QueryEngine, Source};
use crate::frames::data_plan::{LANES_MAX, default_lanes, is_held_out};
use crate::frames::{ClassCollector, FrameError, gather_float};
use crate::nn::{Loss, Metric, MetricState, Model, ModelSpec, TargetKind};
use crate::optim::{Optimizer, OptimizerSpec};

/// Most epochs of a job; more is a slip of the keyboard.
const EPOCHS_MAX: u32 = 1_000_000;

/// Most rows of a minibatch: 2^24, above which a float32 no longer counts rows one by one.
const BATCH_SIZE_MAX: u32 = 1 << 24;

/// A request found to be in order, as far as can be told without reading rows.
#[derive(Debug)]
pub(crate) struct CheckedRequest {
    pub(crate) request: TrainRequest,
    spec: ModelSpec,
    pipeline: PipelineSpec,
    loss: Loss,
    metrics: Vec<Metric>,
    optimizer: OptimizerSpec,
    features: Vec<String>,
    label_type: DataType,
    lanes: u32,
    early_stopping: Option<StoppingRule>,
}

/// A job that can start.
#[derive(Debug)]
pub(crate) struct PreparedJob {
    pub(crate) job: ResolvedJob,
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
    let loss = Loss::parse(&request.loss).map_err(bad_model)?;
    let mut metrics = Vec::new();
    for name in &request.metrics {
        let metric = Metric::parse(name).map_err(bad_model)?;
        if metric.needs_classes() && !loss.has_classes() {
            let received = format!("{name:?} with loss {:?}", request.loss);
            let hint = "it needs a label of classes; use \"mae\" or \"mse\"";
            return Err(bad_option("metrics", received, hint));
        }
        // The loss is in every history anyway.
        if metric != Metric::Loss && !metrics.contains(&metric) {
            metrics.push(metric);
        }
    }
    let optimizer = OptimizerSpec::from_json(&request.optimizer).map_err(bad_model)?;
    Optimizer::build(&optimizer).map_err(bad_model)?;
    let spec = ModelSpec::from_json(&request.model).map_err(bad_model)?;
    let pipeline = PipelineSpec::from_json(&request.pipeline)?;
    if !request.class_weight.is_empty() && !loss.has_classes() {
        let received = format!("given with loss {:?}", request.loss);
        let hint = "class weights need a loss over classes";
        return Err(bad_option("class_weight", received, hint));
    }
    let early_stopping = stopping_rule(&request, &metrics)?;
    let query = queries.open(&request.source).await?;
    if query.rows_expected() == Some(0) {
        return Err(no_rows(&request.source));
    }
    let schema = query.schema();
    let label_type = check_columns(&request, &schema, "the source")?;
    let features = if request.features.is_empty() {
        let taken =
            |name: &str| name == request.label || Some(name) == request.sample_weight.as_deref();
        let names = schema.fields().iter().map(|field| field.name().clone());
        names.filter(|name| !taken(name)).collect()
    } else {
        request.features.clone()
    };
    if features.is_empty() {
        let hint = "give at least one column besides the label";
        return Err(bad_option("features", "empty", hint));
    }
    if features.contains(&request.label) {
        let received = format!("a list with the label {:?}", request.label);
        let hint = "a model that reads its label learns nothing else";
        return Err(bad_option("features", received, hint));
    }
    check_label_type(loss, &request.label, &label_type)?;
    if let Validation::Source(source) = &request.validation {
        let query = queries.open(source).await?;
        if query.rows_expected() == Some(0) {
            return Err(no_rows(source));
        }
        check_columns(&request, &query.schema(), "the validation source")?;
    }
    Ok(CheckedRequest {
        spec,
        pipeline,
        loss,
        metrics,
        optimizer,
        features,
        label_type,
        lanes,
        early_stopping,
        request,
    })
}

/// Reads what must be read: pins or stages the rows, finds the classes, fits the pipeline, builds the model.
pub(crate) async fn prepare(
    mut checked: CheckedRequest,
    job: JobId,
    catalog: &Catalog,
    queries: &QueryEngine,
    cache_bytes: u64,
) -> Result<PreparedJob, TrainingError> {
    // From here on the job is about one version, whatever is committed meanwhile.
    let mut dataset_version = None;
    if let Source::Table(reference) = &mut checked.request.source {
        dataset_version = Some(catalog.datasets.open(reference).boxed().await?.version);
        reference.version = dataset_version;
    }
    let request = &checked.request;
    let (train, validation) = place_rows(request, job, catalog, queries).boxed().await?;
    // With a split the classes are those of all rows; a validation source must not bring new ones.
    let mut datasets = vec![&train.1];
    if let (Validation::Split(_), Some(validation)) = (&request.validation, &validation) {
        datasets.push(&validation.1);
    }
    let label = read_label(&checked, &datasets).await?;
    let class_weight = class_weights(request, &label)?;
    let source = match &train.0 {
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
    let target = if label.classes.is_empty() {
        TargetKind::Numeric {
            width: label_width(&checked.label_type),
        }
    } else {
        TargetKind::Classes {
            classes: label.classes.len(),
        }
    };
    checked.loss.check(&model, &target).map_err(bad_model)?;
    for metric in &checked.metrics {
        MetricState::new(*metric, checked.loss, model.output_width()).map_err(bad_model)?;
    }
    let weighted = request.sample_weight.is_some() || !class_weight.is_empty();
    let row_bytes = row_shape(&model, checked.loss, weighted).row_bytes().max(1);
    // With a validation of its own windows, each of the two has half of the memory.
    let sides = 1 + u64::from(validation.is_some());
    let window_rows =
        cache_bytes / (row_bytes * u64::from(checked.lanes) * WINDOWS_PER_LANE * sides);
    let mut left = cache_bytes;
    let mut resolve = |(place, dataset): (RowsPlace, Dataset)| {
        let bytes = dataset.rows.saturating_mul(row_bytes);
        let cached = bytes <= left && dataset.rows < u64::from(u32::MAX);
        if cached {
            left -= bytes;
        }
        ResolvedRows {
            place,
            rows: dataset.rows,
            cached,
            window_rows: window_rows.max(1),
        }
    };
    let resolved = ResolvedJob {
        seed: request.seed,
        epochs: request.epochs,
        batch_size: request.batch_size,
        lanes: checked.lanes,
        shuffle: request.shuffle,
        model: checked.spec.to_json(),
        pipeline: fitted.to_json(),
        loss: checked.loss.name().to_owned(),
        optimizer: checked.optimizer.to_json(),
        metrics: checked
            .metrics
            .iter()
            .map(|metric| metric.name().to_owned())
            .collect(),
        label,
        class_weight,
        sample_weight: request.sample_weight.clone(),
        train: resolve(train),
        validation: validation.map(&mut resolve),
        early_stopping: checked.early_stopping,
    };
    Ok(PreparedJob {
        job: resolved,
        parameters: model.parameter_len() as u64,
        source: describe(&request.source),
        dataset_version,
    })
}

/// Removes the rows that a job staged.
pub(crate) async fn clean_up(job: JobId, catalog: &Catalog) {
    for job in [job, validation_place(job)] {
        if let Err(error) = catalog.datasets.remove_staged(job).await {
            tracing::warn!(%job, %error, "staged rows were not removed");
        }
    }
}

type PlacedRows = (RowsPlace, Dataset);

async fn place_rows(
    request: &TrainRequest,
    job: JobId,
    catalog: &Catalog,
    queries: &QueryEngine,
) -> Result<(PlacedRows, Option<PlacedRows>), TrainingError> {
    let validation_job = validation_place(job);
    let placed = match &request.validation {
        Validation::None => (place(&request.source, job, catalog, queries).await?, None),
        Validation::Source(source) => {
            let train = place(&request.source, job, catalog, queries).await?;
            let validation = place(source, validation_job, catalog, queries).await?;
            (train, Some(validation))
        }
        Validation::Split(share) => {
            let (train, validation) =
                stage_split(request, *share, job, validation_job, catalog, queries).await?;
            (train, Some(validation))
        }
    };
    if placed.0.1.rows == 0 {
        return Err(no_rows(&request.source));
    }
    match (&placed.1, &request.validation) {
        (Some((_, dataset)), Validation::Source(source)) if dataset.rows == 0 => {
            Err(no_rows(source))
        }
        _ => Ok(placed),
    }
}

/// A table is pinned to its version; a query or path is written down once, in its fixed order.
async fn place(
    source: &Source,
    job: JobId,
    catalog: &Catalog,
    queries: &QueryEngine,
) -> Result<PlacedRows, TrainingError> {
    if let Source::Table(reference) = source {
        let dataset = catalog.datasets.open(reference).boxed().await?;
        let place = RowsPlace::Table {
            name: dataset.name.clone(),
            version: dataset.version,
        };
        return Ok((place, dataset));
    }
    let query = queries.open(source).await?;
    let mut writer = catalog.datasets.stage(job, query.schema()).await?;
    let mut rows = query.execute().await?;
    while let Some(batch) = rows.try_next().await? {
        writer.write(batch).await?;
    }
    Ok((RowsPlace::Staged { job }, writer.commit().await?))
}

/// Writes the rows down in two parts, by the rule of seed and row number, so that the pipeline is fitted and the
/// data planned on exactly the training rows.
async fn stage_split(
    request: &TrainRequest,
    share: f64,
    train_job: JobId,
    validation_job: JobId,
    catalog: &Catalog,
    queries: &QueryEngine,
) -> Result<(PlacedRows, PlacedRows), TrainingError> {
    let query = queries.open(&request.source).await?;
    let mut train = catalog.datasets.stage(train_job, query.schema()).await?;
    let mut validation = catalog
        .datasets
        .stage(validation_job, query.schema())
        .await?;
    let mut rows = query.execute().await?;
    let mut row = 0u64;
    let (mut kept, mut held) = (0u64, 0u64);
    while let Some(batch) = rows.try_next().await? {
        let is_held: BooleanArray = (row..row + batch.num_rows() as u64)
            .map(|row| Some(is_held_out(request.seed, row, share)))
            .collect();
        row += batch.num_rows() as u64;
        let is_kept = arrow::compute::not(&is_held).map_err(internal)?;
        kept += write_where(&mut train, &batch, &is_kept).await?;
        held += write_where(&mut validation, &batch, &is_held).await?;
    }
    if row == 0 {
        return Err(no_rows(&request.source));
    }
    if kept == 0 || held == 0 {
        let received =
            format!("{share}, which leaves {kept} rows to train on and {held} to validate on");
        let hint = "choose another share, or give more rows";
        return Err(bad_option("validation_split", received, hint));
    }
    Ok((
        (RowsPlace::Staged { job: train_job }, train.commit().await?),
        (
            RowsPlace::Staged {
                job: validation_job,
            },
            validation.commit().await?,
        ),
    ))
}

async fn write_where(
    writer: &mut DatasetWriter,
    batch: &RecordBatch,
    chosen: &BooleanArray,
) -> Result<u64, TrainingError> {
    let rows = filter_record_batch(batch, chosen).map_err(internal)?;
    let count = rows.num_rows() as u64;
    if count > 0 {
        writer.write(rows).await?;
    }
    Ok(count)
}

/// Where a job's validation rows are staged: beside its training rows, under its own id with the last bit turned.
fn validation_place(job: JobId) -> JobId {
    JobId::from_u128(job.as_u128() ^ 1)
}

/// Reads label and sample weight once: their classes, and that no row is null, not a number or negative.
async fn read_label(
    checked: &CheckedRequest,
    datasets: &[&Dataset],
) -> Result<LabelColumn, TrainingError> {
    let label = &checked.request.label;
    let bad = |problem: String, hint: &str| TrainingError::BadLabel {
        column: label.clone(),
        problem,
        hint: hint.to_owned(),
    };
    let mut collector = match checked.loss.has_classes() {
        true => Some(ClassCollector::new(label, &checked.label_type)?),
        false => None,
    };
    let mut columns = vec![label.clone()];
    columns.extend(checked.request.sample_weight.iter().cloned());
    let width = label_width(&checked.label_type);
    let mut row = 0;
    for (place, dataset) in datasets.iter().enumerate() {
        let mut rows = dataset.scan(Some(&columns));
        let mut numbers = Vec::new();
        let mut weight_sum = 0.0;
        while let Some(batch) = rows.try_next().await? {
            let checked_label = match &mut collector {
                Some(collector) => collector.add(&batch),
                None => {
                    numbers.clear();
                    gather_float(&batch, std::slice::from_ref(label), width, &mut numbers)
                }
            };
            checked_label.map_err(|error| bad_label(label, error.from_row(row)))?;
            if let Some(column) = &checked.request.sample_weight {
                numbers.clear();
                gather_float(&batch, std::slice::from_ref(column), 1, &mut numbers)
                    .map_err(|error| error.from_row(row))?;
                if let Some(at) = numbers.iter().position(|weight| *weight < 0.0) {
                    let received =
                        format!("column {column:?}, {} in row {}", numbers[at], row + at);
                    let hint = "weights are not negative";
                    return Err(bad_option("sample_weight", received, hint));
                }
                weight_sum += numbers.iter().map(|weight| f64::from(*weight)).sum::<f64>();
            }
            row += batch.num_rows();
        }
        // The rows to train on come first.
        if let (0, Some(column)) = (place, &checked.request.sample_weight)
            && weight_sum == 0.0
        {
            let received = format!("column {column:?}, whose sum over all rows is 0");
            let hint = "give at least one row a weight above 0";
            return Err(bad_option("sample_weight", received, hint));
        }
    }
    let classes = match collector {
        None => Vec::new(),
        Some(collector) => collector.finish()?.text().to_vec(),
    };
    match (classes.as_slice(), checked.loss) {
        ([only], _) => Err(bad(
            format!("has one class only, {only:?}"),
            "give rows of at least two classes",
        )),
        (several, Loss::BinaryCrossentropy) if several.len() > 2 => Err(bad(
            format!("has {} classes", several.len()),
            "binary_crossentropy takes two; use sparse_categorical_crossentropy",
        )),
        _ => Ok(LabelColumn {
            name: label.clone(),
            data_type: plain_type(&checked.label_type).to_string(),
            classes,
        }),
    }
}

fn bad_label(label: &str, error: FrameError) -> TrainingError {
    let (problem, hint) = match error {
        FrameError::Null { row, .. } => (format!("is null in row {row}"), "drop these rows"),
        FrameError::NotFinite { row, value, .. } | FrameError::OutOfRange { row, value, .. } => {
            (format!("is {value} in row {row}"), "drop these rows")
        }
        other => return other.into(),
    };
    TrainingError::BadLabel {
        column: label.to_owned(),
        problem,
        hint: hint.to_owned(),
    }
}

/// One weight per class, in class order; empty when none is given.
fn class_weights(request: &TrainRequest, label: &LabelColumn) -> Result<Vec<f32>, TrainingError> {
    if request.class_weight.is_empty() {
        return Ok(Vec::new());
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

/// Label, features and weights are columns of the rows. Returns the label's type.
fn check_columns(
    request: &TrainRequest,
    schema: &Schema,
    place: &str,
) -> Result<DataType, TrainingError> {
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
    match schema.column_with_name(&request.label) {
        Some((_, field)) => Ok(field.data_type().clone()),
        None => Err(TrainingError::BadLabel {
            column: request.label.clone(),
            problem: format!("is no column of {place}"),
            hint: format!("columns are {}", available()),
        }),
    }
}

/// Numbers per row of a label that holds numbers.
fn label_width(data_type: &DataType) -> usize {
    match data_type {
        DataType::FixedSizeList(_, size) => usize::try_from(*size).unwrap_or(0),
        _ => 1,
    }
}

/// The label's type as it is written into manifests: a list without the names and metadata of its items.
fn plain_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::FixedSizeList(item, size) => {
            let item = Field::new_list_field(item.data_type().clone(), true);
            DataType::FixedSizeList(item.into(), *size)
        }
        other => other.clone(),
    }
}

fn check_label_type(loss: Loss, label: &str, data_type: &DataType) -> Result<(), TrainingError> {
    let logical = match data_type {
        DataType::Dictionary(_, value) => value.as_ref(),
        other => other,
    };
    let text = matches!(
        logical,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
    );
    let boolean = logical == &DataType::Boolean;
    let (fits, hint) = if loss.has_classes() {
        (
            text || boolean || logical.is_integer(),
            "classes are text, booleans or integers",
        )
    } else {
        let number = match data_type {
            DataType::FixedSizeList(item, size) if *size > 0 => item.data_type(),
            single => single,
        };
        (
            number.is_integer() || number.is_floating(),
            "this loss needs numbers, or fixed-size lists of them",
        )
    };
    if fits {
        return Ok(());
    }
    Err(TrainingError::BadLabel {
        column: label.to_owned(),
        problem: format!(
            "has type {data_type}, which loss {:?} cannot use",
            loss.name()
        ),
        hint: hint.to_owned(),
    })
}

fn stopping_rule(
    request: &TrainRequest,
    metrics: &[Metric],
) -> Result<Option<StoppingRule>, TrainingError> {
    let Some(stopping) = &request.early_stopping else {
        return Ok(None);
    };
    let validated = request.validation != Validation::None;
    let monitor = match stopping.monitor.as_str() {
        "" => "val_loss".to_owned(),
        given => given.to_owned(),
    };
    let names = std::iter::once("loss").chain(metrics.iter().map(|metric| metric.name()));
    let mut known: Vec<String> = Vec::new();
    for name in names {
        known.push(name.to_owned());
        if validated {
            known.push(format!("val_{name}"));
        }
    }
    if !known.contains(&monitor) {
        let hint = if validated {
            format!("monitor one of {}", known.join(", "))
        } else {
            format!(
                "monitor one of {}, or give validation rows",
                known.join(", ")
            )
        };
        return Err(bad_option(
            "early_stopping.monitor",
            format!("{monitor:?}"),
            hint,
        ));
    }
    if !(stopping.min_delta.is_finite() && stopping.min_delta >= 0.0) {
        let hint = "give a number from 0 on";
        return Err(bad_option(
            "early_stopping.min_delta",
            stopping.min_delta,
            hint,
        ));
    }
    let measured = monitor.strip_prefix("val_").unwrap_or(&monitor);
    let maximize = stopping
        .maximize
        .unwrap_or(matches!(measured, "auc" | "accuracy"));
    Ok(Some(StoppingRule {
        monitor,
        patience: stopping.patience,
        min_delta: stopping.min_delta,
        restore_best_weights: stopping.restore_best_weights,
        maximize,
    }))
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

fn no_rows(source: &Source) -> TrainingError {
    FeatureError::NoRows {
        what: describe(source),
    }
    .into()
}

fn in_range(option: &'static str, given: u32, least: u32, most: u32) -> Result<(), TrainingError> {
    if (least..=most).contains(&given) {
        return Ok(());
    }
    Err(bad_option(option, given, format!("give {least} to {most}")))
}

fn bad_option(
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

fn bad_model(error: impl std::fmt::Display) -> TrainingError {
    TrainingError::BadModel {
        reason: error.to_string(),
    }
}

fn internal(error: impl std::fmt::Display) -> TrainingError {
    TrainingError::Internal {
        reason: error.to_string(),
    }
}
