//! A training job as asked for, and as resolved for its workers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::checkpoint::{CheckpointReference, CheckpointRule};
use super::early_stopping::StoppingRule;
use crate::catalog::{JobId, JobTerms, ModelOutput};
use crate::features::Source;
use crate::frames::data_plan::SplitPart;
use crate::optim::PlateauRule;

#[derive(Debug, Clone, PartialEq)]
pub struct TrainRequest {
    pub name: String,
    pub source: Source,
    pub label: String,
    /// Empty: every column but label and sample weight.
    pub features: Vec<String>,
    pub pipeline: Vec<serde_json::Value>,
    pub model: serde_json::Value,
    pub loss: String,
    pub optimizer: serde_json::Value,
    pub metrics: Vec<String>,
    /// How each output is trained; empty: the one output, by `label`, `loss` and `metrics`.
    pub outputs: Vec<OutputRequest>,
    pub epochs: u32,
    pub batch_size: u32,
    pub seed: u64,
    /// 0: chosen from the batch size.
    pub lanes: u32,
    pub shuffle: bool,
    pub validation: Validation,
    pub early_stopping: Option<EarlyStopping>,
    pub reduce_on_plateau: Option<ReduceOnPlateau>,
    pub class_weight: BTreeMap<String, f64>,
    pub sample_weight: Option<String>,
    pub checkpoints: Option<CheckpointRule>,
    pub terms: JobTerms,
}

/// A job that ended is to go on from one of its checkpoints.
#[derive(Debug, Clone, PartialEq)]
pub struct ResumeRequest {
    pub job: JobId,
    /// Epochs that were over; None: the newest checkpoint.
    pub epoch: Option<u32>,
    /// Epochs of the whole; None: as the job was asked for. With those of the checkpoint its weights are committed as they
    /// are.
    pub epochs: Option<u32>,
    /// In place of the optimizer's, from here on; a plateau begins anew.
    pub learning_rate: Option<f64>,
    pub terms: JobTerms,
}

/// How one of a network's outputs is to be trained.
#[derive(Debug, Clone, PartialEq)]
pub struct OutputRequest {
    /// As among the network's `outputs`.
    pub name: String,
    pub label: String,
    /// Empty: the request's.
    pub loss: String,
    /// None: 1.
    pub loss_weight: Option<f64>,
    pub metrics: Vec<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Validation {
    None,
    Split(f64),
    Source(Source),
}

#[derive(Debug, Clone, PartialEq)]
pub struct EarlyStopping {
    /// Empty: `val_loss`.
    pub monitor: String,
    pub patience: u32,
    pub min_delta: f64,
    pub restore_best_weights: bool,
    /// None: decided by the metric.
    pub maximize: Option<bool>,
}

/// A learning rate that falls when a measure no longer gets better; what is None has Keras' default.
#[derive(Debug, Clone, PartialEq)]
pub struct ReduceOnPlateau {
    /// Empty: `val_loss`.
    pub monitor: String,
    pub factor: Option<f64>,
    pub patience: Option<u32>,
    pub min_delta: Option<f64>,
    pub cooldown: u32,
    pub min_learning_rate: f64,
    /// None: decided by the metric.
    pub maximize: Option<bool>,
}

/// A job with every choice made: what each worker is told, the same for all of them. Travels as JSON between servers
/// of one version, and stands in checkpoints, whose form (`checkpoint.rs`) rises when it changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResolvedJob {
    pub seed: u64,
    pub epochs: u32,
    pub batch_size: u32,
    pub lanes: u32,
    pub shuffle: bool,
    /// JSON of `nn::ModelSpec`.
    pub model: serde_json::Value,
    /// JSON of `features::FittedPipeline`.
    pub pipeline: serde_json::Value,
    pub optimizer: serde_json::Value,
    /// How each output is trained, in the order of the network's.
    pub outputs: Vec<ModelOutput>,
    /// One weight per class, in class order; empty when all weigh 1, and where there are several outputs.
    pub class_weight: Vec<f32>,
    pub sample_weight: Option<String>,
    pub train: ResolvedRows,
    pub validation: Option<ResolvedRows>,
    pub early_stopping: Option<StoppingRule>,
    pub reduce_on_plateau: Option<PlateauRule>,
    /// When checkpoints are taken; `None`: never.
    pub checkpoints: Option<CheckpointRule>,
    /// What it goes on from; `None`: it begins.
    pub resume: Option<CheckpointReference>,
    /// Whether it goes on with a learning rate of its own, which forgets how far a plateau had lowered the old one.
    pub rate_is_new: bool,
}

/// Rows of a job, and how every server reads them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResolvedRows {
    pub place: RowsPlace,
    pub rows: u64,
    /// Whether the decoded rows are kept in memory: decided once for the job, never by a server.
    pub cached: bool,
    /// Most rows of a window, where they are not.
    pub window_rows: u64,
    /// Which of the source's rows they are; `None`: all of them. For errors, which name the source's rows.
    pub split: Option<SplitPart>,
    /// Of a table: the name of its first file, which no other table has. A table that was dropped and made anew counts its
    /// versions from 0 again.
    pub first_file: Option<String>,
}

/// Where the rows of a job are: nothing can change them while it runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowsPlace {
    Table { name: String, version: i64 },
    Staged { job: JobId },
}
