//! Going on with a job that has ended, from one of its checkpoints, as a new job; and forgetting what was kept of one.
//!
//! The new job is the old one but for what the request changes: it trains the epochs that are left on the same rows, in the
//! same order, and its history begins with the old one's.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::checkpoint::CheckpointReference;
use super::coordinator::Work;
use super::host::{read_checkpoint, read_saved};
use super::job::ResumeRequest;
use super::news::HistoryRow;
use super::prepare::{EPOCHS_MAX, PreparedJob, bad_model, bad_option};
use super::rows::clean_up;
use super::worker::Trained;
use super::{Training, TrainingError};
use crate::catalog::{Catalog, JobId, JobKind, JobStatus};
use crate::nn::{Model, ModelSpec};
use crate::optim::{Optimizer, OptimizerSpec};

/// How long the journal may tell less than the coordinator has said.
const LAST_WORDS: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A job that goes on.
#[derive(Debug)]
pub(super) struct Resumed {
    pub(super) name: String,
    pub(super) prepared: PreparedJob,
    pub(super) from: CheckpointReference,
}

impl Resumed {
    /// What training came to, where the checkpoint is of the last epoch already.
    pub(super) async fn over(&self, catalog: &Catalog) -> Result<Option<Trained>, TrainingError> {
        if self.prepared.job.epochs > self.from.epoch {
            return Ok(None);
        }
        let saved = read_saved(&self.from, catalog).await?;
        let job = &self.prepared.job;
        let spec = ModelSpec::from_json(&job.model).map_err(bad_model)?;
        let pipeline = crate::features::FittedPipeline::from_json(&job.pipeline)?;
        let features = super::decode::feature_columns(&pipeline)?;
        let model = Model::build(&spec, &features).map_err(bad_model)?;
        let best_row = saved.standing.best_row.as_ref();
        let (mut parameters, row) = match saved.best.zip(best_row) {
            Some((values, row)) => (values, HistoryRow::from(row)),
            None => (saved.values, HistoryRow::from(&saved.standing.row)),
        };
        if parameters.len() != model.parameter_len() + model.statistics_len() {
            return Err(TrainingError::BadCheckpoint {
                reason: "it is of a network of other sizes".to_owned(),
            });
        }
        let statistics = parameters.split_off(model.parameter_len());
        Ok(Some(Trained {
            parameters,
            statistics,
            row,
        }))
    }
}

impl Training {
    /// Goes on with a job that has ended, as a new job; returns its id.
    pub async fn resume(self: &Arc<Self>, request: ResumeRequest) -> Result<JobId, TrainingError> {
        let place = self.admission.admit()?;
        self.ended(request.job).await?;
        let catalog = &self.catalog;
        let checkpoint = read_checkpoint(request.job, request.epoch, catalog).await?;
        let over = checkpoint.epoch;
        let mut prepared = checkpoint.prepared();
        let (job, record) = (&mut prepared.job, &mut prepared.record);
        match request.epochs {
            Some(epochs) if (over..=EPOCHS_MAX).contains(&epochs) => job.epochs = epochs,
            Some(epochs) => {
                let hint = format!(
                    "the checkpoint is of epoch {over}: give {over} to commit its weights as they are, or more to train on"
                );
                return Err(bad_option("epochs", epochs, hint));
            }
            None if job.epochs > over => {}
            None => {
                let hint = format!(
                    "all {over} epochs of the job are over: give more to train on, or {over} to commit the checkpoint's \
                     weights"
                );
                return Err(bad_option("epochs", "not given", hint));
            }
        }
        if let Some(rate) = request.learning_rate {
            job.optimizer["learning_rate"] = serde_json::json!(rate);
            let optimizer = OptimizerSpec::from_json(&job.optimizer).map_err(bad_model)?;
            Optimizer::build(&optimizer).map_err(bad_model)?;
            job.optimizer = optimizer.to_json();
        }
        // Not as the checkpoint's own job had it: what a plateau has seen since is gone on from.
        job.rate_is_new = request.learning_rate.is_some();
        let from = CheckpointReference {
            job: request.job,
            epoch: over,
        };
        job.resume = Some(from);
        record.epochs = job.epochs;
        record.optimizer = job.optimizer.clone();
        record.resumed_from = Some(format!("{}@{over}", request.job));
        let history = catalog.jobs.history(request.job).await?;
        let steps = job.train.rows.div_ceil(u64::from(job.batch_size));
        let (epochs, rows) = (job.epochs, job.train.rows);
        let record = record.clone();
        let live = catalog
            .jobs
            .create(JobKind::Train, &checkpoint.name, epochs, request.terms)
            .await?;
        live.record_earlier(&history, over as usize);
        live.update(|status| {
            status.epoch = over;
            status.step = u64::from(over) * steps;
            status.rows = u64::from(over) * rows;
            status.progress = f64::from(over) / f64::from(epochs.max(1));
            // From now on it is known whose checkpoint and rows it needs.
            status.training = Some(record);
            status
                .notes
                .push(format!("goes on from epoch {over} of job {}", request.job));
        });
        live.save().await?;
        let id = live.id;
        let work = Work::GoOn(Box::new(Resumed {
            name: checkpoint.name,
            prepared,
            from,
        }));
        tokio::spawn(Arc::clone(self).drive(live, work, place));
        Ok(id)
    }

    /// Removes the checkpoints of a job that has ended, and the copy of its rows that was kept for them.
    pub async fn drop_checkpoints(&self, job: JobId) -> Result<(), TrainingError> {
        self.ended(job).await?;
        self.refuse_while_needed(job).await?;
        // First nobody is told of them any more.
        self.catalog.jobs.forget_checkpoints(job).await?;
        self.catalog.checkpoints.remove_all(job).await?;
        clean_up(job, &self.catalog).await;
        Ok(())
    }

    /// Jobs that went on from this one read its checkpoint when they start, and its rows as long as they may go on.
    async fn refuse_while_needed(&self, job: JobId) -> Result<(), TrainingError> {
        let all = self.catalog.jobs.list().await?;
        let parent_of = |status: &JobStatus| -> Option<JobId> {
            let from = status.training.as_ref()?.resumed_from.as_ref()?;
            from.split_once('@')?.0.parse().ok()
        };
        let parents: BTreeMap<JobId, JobId> = all
            .iter()
            .filter_map(|status| Some((status.id, parent_of(status)?)))
            .collect();
        let descends = |from: JobId| {
            // A job goes on from an earlier one, so this ends.
            let mut ancestors = std::iter::successors(parents.get(&from), |id| parents.get(*id));
            ancestors.any(|ancestor| *ancestor == job)
        };
        let needs = |status: &&JobStatus| {
            (!status.state.is_final() || !status.checkpoints.is_empty()) && descends(status.id)
        };
        match all.iter().find(needs) {
            None => Ok(()),
            Some(status) => Err(TrainingError::CheckpointsNeeded {
                job: job.to_string(),
                reason: format!(
                    "job {} goes on from it; wait for its end and drop its checkpoints first",
                    status.id
                ),
            }),
        }
    }

    /// Waits until a job's end is in its journal. A job whose coordinator is gone has ended, whatever its journal says; who
    /// can ask the coordinator has asked it: then the last words are on their way.
    async fn ended(&self, job: JobId) -> Result<(), TrainingError> {
        let jobs = &self.catalog.jobs;
        let deadline = Instant::now() + LAST_WORDS;
        loop {
            let status = jobs.status(job).await?;
            if status.state.is_final() {
                return Ok(());
            }
            let here = jobs.watch(job).is_some();
            let elsewhere = status.coordinator != self.network.own_name();
            let peers = self.network.peers();
            let alive = peers.iter().any(|peer| peer.name == status.coordinator);
            let driven = here || (elsewhere && alive);
            if !driven {
                return Ok(());
            }
            if here || Instant::now() > deadline {
                return Err(TrainingError::StillRunning {
                    job: job.to_string(),
                    coordinator: status.coordinator,
                });
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}
