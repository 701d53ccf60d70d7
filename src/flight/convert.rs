//! Between messages and what the lower layers take and give.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::error::FlightError;
use super::proto::{object_of, struct_of, v1};
use crate::catalog::upload::{CommittedUpload, Upload, UploadId, UploadState};
use crate::catalog::{
    Dataset, DatasetReference, JobId, JobKind, JobState, JobStatus, JobTerms, ModelManifest,
    WriteMode,
};
use crate::cluster::{Member, MemberState};
use crate::features::Source;
use crate::serving::ScoreRequest;
use crate::training::{
    CheckpointRule, EarlyStopping, OutputRequest, ReduceOnPlateau, ResumeRequest, TrainRequest,
    Validation,
};

pub(super) fn write_mode(mode: i32) -> Result<WriteMode, FlightError> {
    match v1::put::Mode::try_from(mode) {
        Ok(v1::put::Mode::Error) => Ok(WriteMode::Error),
        Ok(v1::put::Mode::Append) => Ok(WriteMode::Append),
        Ok(v1::put::Mode::Overwrite) => Ok(WriteMode::Overwrite),
        Err(_) => Err(FlightError::BadField {
            message: "Put",
            field: "mode",
            received: mode.to_string(),
            hint: "use ERROR, APPEND or OVERWRITE",
        }),
    }
}

/// Version 0 on the wire is the newest.
pub(super) fn model_version(version: u64) -> Option<u64> {
    (version != 0).then_some(version)
}

pub(super) fn job_id(text: &str) -> Result<JobId, FlightError> {
    JobId::parse_str(text).map_err(|_| FlightError::BadJobId {
        received: text.chars().take(80).collect(),
    })
}

pub(super) fn source(
    message: &'static str,
    source: Option<v1::Source>,
) -> Result<Source, tonic::Status> {
    match source.and_then(|source| source.rows) {
        Some(v1::source::Rows::Table(name)) => Ok(Source::Table(DatasetReference::parse(&name)?)),
        Some(v1::source::Rows::Query(sql)) => Ok(Source::Query(sql)),
        Some(v1::source::Rows::Path(path)) => Ok(Source::Path(path)),
        None => Err(FlightError::BadField {
            message,
            field: "source",
            received: "empty".to_owned(),
            hint: "give one of table, query, path",
        }
        .into()),
    }
}

pub(super) fn train_request(train: v1::Train) -> Result<TrainRequest, tonic::Status> {
    Ok(TrainRequest {
        name: train.name,
        source: source("Train", train.source)?,
        label: train.label,
        features: train.features,
        pipeline: train.pipeline.into_iter().map(object_of).collect(),
        model: train.model.map_or(serde_json::Value::Null, object_of),
        loss: train.loss,
        optimizer: train.optimizer.map_or(serde_json::Value::Null, object_of),
        metrics: train.metrics,
        outputs: train
            .outputs
            .into_iter()
            .map(|output| OutputRequest {
                name: output.name,
                label: output.label,
                loss: output.loss,
                loss_weight: output.loss_weight,
                metrics: output.metrics,
            })
            .collect(),
        epochs: train.epochs,
        batch_size: train.batch_size,
        seed: train.seed,
        lanes: train.lanes,
        shuffle: train.shuffle.unwrap_or(true),
        validation: match train.validation {
            None => Validation::None,
            Some(v1::train::Validation::ValidationSplit(share)) => Validation::Split(share),
            Some(v1::train::Validation::ValidationSource(rows)) => {
                Validation::Source(source("Train", Some(rows))?)
            }
        },
        early_stopping: train.early_stopping.map(|stopping| EarlyStopping {
            monitor: stopping.monitor,
            patience: stopping.patience,
            min_delta: stopping.min_delta,
            restore_best_weights: stopping.restore_best_weights,
            maximize: stopping.maximize,
        }),
        reduce_on_plateau: train.reduce_on_plateau.map(|plateau| ReduceOnPlateau {
            monitor: plateau.monitor,
            factor: plateau.factor,
            patience: plateau.patience,
            min_delta: plateau.min_delta,
            cooldown: plateau.cooldown,
            min_learning_rate: plateau.min_learning_rate,
            maximize: plateau.maximize,
        }),
        class_weight: train.class_weight,
        sample_weight: (!train.sample_weight.is_empty()).then_some(train.sample_weight),
        checkpoints: train.checkpoints.map(|asked| CheckpointRule {
            every: asked.every.max(1),
            keep: asked.keep.max(1),
        }),
        terms: JobTerms {
            lease_seconds: train.lease_seconds,
            drop_datasets: train.drop_datasets,
        },
    })
}

pub(super) fn resume_request(resume: &v1::Resume) -> Result<ResumeRequest, FlightError> {
    let given = |number: u32| (number != 0).then_some(number);
    Ok(ResumeRequest {
        job: job_id(&resume.id)?,
        epoch: given(resume.epoch),
        epochs: given(resume.epochs),
        learning_rate: resume.learning_rate,
        terms: leased(resume.lease_seconds),
    })
}

pub(super) fn score_request(score: v1::Score) -> Result<ScoreRequest, tonic::Status> {
    Ok(ScoreRequest {
        model: score.model,
        version: model_version(score.version),
        source: source("Score", score.source)?,
        into: score.into,
        mode: write_mode(score.mode)?,
        keep: score.keep,
        terms: leased(score.lease_seconds),
    })
}

fn leased(lease_seconds: u32) -> JobTerms {
    JobTerms {
        lease_seconds,
        ..JobTerms::default()
    }
}

pub(super) fn job(status: &JobStatus) -> v1::Job {
    v1::Job {
        id: status.id.to_string(),
        kind: match status.kind {
            JobKind::Train => v1::job::Kind::Train,
            JobKind::Score => v1::job::Kind::Score,
        }
        .into(),
        state: match status.state {
            JobState::Queued => v1::job::State::Queued,
            JobState::Running => v1::job::State::Running,
            JobState::Succeeded => v1::job::State::Succeeded,
            JobState::Failed => v1::job::State::Failed,
            JobState::Cancelled => v1::job::State::Cancelled,
        }
        .into(),
        name: status.name.clone(),
        progress: status.progress,
        coordinator: status.coordinator.clone(),
        created: Some(timestamp_ms(status.created_ms)),
        started: status.started_ms.map(timestamp_ms),
        finished: status.finished_ms.map(timestamp_ms),
        epoch: status.epoch,
        epochs: status.epochs,
        step: status.step,
        rows: status.rows,
        rows_per_second: status.rows_per_second,
        metrics: status.metrics.clone(),
        version: status.version.unwrap_or(0),
        error: status.error.as_ref().map(|error| v1::JobError {
            code: error.code.clone(),
            message: error.message.clone(),
        }),
        servers: status.servers.clone(),
        notes: status.notes.clone(),
        checkpoints: status.checkpoints.clone(),
    }
}

pub(super) fn dataset(dataset: &Dataset) -> v1::Dataset {
    v1::Dataset {
        name: dataset.name.clone(),
        version: dataset.version,
        rows: dataset.rows,
        bytes: dataset.bytes,
        files: u32::try_from(dataset.files.len()).unwrap_or(u32::MAX),
        committed: Some(timestamp(dataset.committed)),
    }
}

pub(super) fn committed_upload(committed: &CommittedUpload) -> v1::Dataset {
    v1::Dataset {
        name: committed.dataset.clone(),
        version: committed.version,
        rows: committed.rows,
        bytes: committed.bytes,
        files: committed.files,
        committed: Some(timestamp(committed.committed)),
    }
}

pub(super) fn upload_id(text: &str) -> Result<UploadId, FlightError> {
    UploadId::parse_str(text).map_err(|_| FlightError::BadUploadId {
        received: text.chars().take(80).collect(),
    })
}

pub(super) fn upload(upload: &Upload) -> v1::Upload {
    v1::Upload {
        id: upload.id.to_string(),
        dataset: upload.dataset.clone(),
        mode: match upload.mode {
            WriteMode::Error => v1::put::Mode::Error,
            WriteMode::Append | WriteMode::AppendExisting => v1::put::Mode::Append,
            WriteMode::Overwrite | WriteMode::OverwriteExisting => v1::put::Mode::Overwrite,
        }
        .into(),
        state: match upload.state {
            UploadState::Open => v1::upload::State::Open,
            UploadState::Committed => v1::upload::State::Committed,
            UploadState::Aborted => v1::upload::State::Aborted,
            UploadState::Expired => v1::upload::State::Expired,
        }
        .into(),
        created: Some(timestamp(upload.created)),
        expires: Some(timestamp(upload.expires)),
        parts: upload
            .parts
            .iter()
            .map(|part| v1::UploadPart {
                part: part.part.clone(),
                attempt: part.attempt,
                rows: part.rows,
                bytes: part.bytes,
            })
            .collect(),
        version: upload.version.unwrap_or(0),
    }
}

/// The fields every list shows; the network and the pipeline are left out.
pub(super) fn model(manifest: &ModelManifest) -> v1::Model {
    v1::Model {
        name: manifest.name.clone(),
        version: manifest.version,
        label: manifest.label.name.clone(),
        classes: manifest.label.classes.clone(),
        parameters: manifest.parameters,
        metrics: manifest.metrics.clone(),
        committed: Some(timestamp_ms(manifest.committed_ms)),
        job: manifest.job.clone(),
        dataset: match manifest.dataset_version {
            Some(version) if !manifest.source.contains('@') => {
                format!("{}@{version}", manifest.source)
            }
            _ => manifest.source.clone(),
        },
        seed: manifest.seed,
        spec: None,
        summary: String::new(),
        pipeline: Vec::new(),
        outputs: manifest
            .outputs
            .iter()
            .map(|output| v1::ModelOutput {
                name: output.name.clone(),
                label: output.label.name.clone(),
                classes: output.label.classes.clone(),
                loss: output.loss.clone(),
                loss_weight: output.loss_weight,
            })
            .collect(),
    }
}

/// The model with its network, as it was described and as a table, and its fitted pipeline.
pub(super) fn model_in_full(manifest: &ModelManifest) -> v1::Model {
    v1::Model {
        spec: Some(struct_of(&manifest.spec)),
        // A version that cannot be built can still be looked at.
        summary: crate::serving::summary(manifest)
            .unwrap_or_else(|error| format!("no summary: {error}")),
        pipeline: match &manifest.pipeline {
            serde_json::Value::Array(steps) => steps.iter().map(struct_of).collect(),
            serde_json::Value::Object(fields) => match fields.get("steps") {
                Some(serde_json::Value::Array(steps)) => steps.iter().map(struct_of).collect(),
                _ => vec![struct_of(&manifest.pipeline)],
            },
            _ => Vec::new(),
        },
        ..model(manifest)
    }
}

pub(super) fn member(member: &Member) -> v1::Member {
    v1::Member {
        name: member.name.clone(),
        address: member.address.clone(),
        state: match member.state {
            MemberState::Ready => v1::member::State::Ready,
            MemberState::Draining => v1::member::State::Draining,
            MemberState::Dead => v1::member::State::Dead,
        }
        .into(),
        version: member.version.clone(),
        cores: member.cores,
        memory_bytes: member.memory_bytes,
    }
}

/// As protobuf has it; times before 1970 become 1970.
pub fn timestamp(time: SystemTime) -> prost_types::Timestamp {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    prost_types::Timestamp {
        seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        nanos: since.subsec_nanos().cast_signed(),
    }
}

fn timestamp_ms(milliseconds: u64) -> prost_types::Timestamp {
    timestamp(UNIX_EPOCH + Duration::from_millis(milliseconds))
}
