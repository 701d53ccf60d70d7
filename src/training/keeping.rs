//! The coordinator's side of checkpoints: one counts once every worker has written its part, and only so many are kept.
//!
//! What goes wrong here is told in the job's notes; the training goes on.

use std::collections::{BTreeMap, BTreeSet};

use super::TrainingError;
use super::checkpoint::{Checkpoint, Standing};
use super::prepare::PreparedJob;
use crate::catalog::{Catalog, LiveJob};

/// The checkpoints of a running job.
#[derive(Debug)]
pub(crate) struct Keeping<'a> {
    live: &'a LiveJob,
    catalog: &'a Catalog,
    /// The model's.
    name: &'a str,
    prepared: &'a PreparedJob,
    workers: usize,
    /// By epoch: those of which some parts are written.
    begun: BTreeMap<u32, Begun>,
}

#[derive(Debug, Default)]
struct Begun {
    workers: BTreeSet<usize>,
    standing: Option<Standing>,
    /// Whether a part could not be written.
    failed: bool,
}

impl<'a> Keeping<'a> {
    pub(crate) fn new(
        live: &'a LiveJob,
        catalog: &'a Catalog,
        name: &'a str,
        prepared: &'a PreparedJob,
        workers: usize,
    ) -> Self {
        Self {
            live,
            catalog,
            name,
            prepared,
            workers,
            begun: BTreeMap::new(),
        }
    }

    /// Whether checkpoints are taken at all.
    pub(crate) fn keeps(&self) -> bool {
        self.prepared.job.checkpoints.is_some()
    }

    /// Whether some workers have written parts of a checkpoint that others have not.
    pub(crate) fn waits(&self) -> bool {
        !self.begun.is_empty()
    }

    /// Waits no longer for parts that are missing.
    pub(crate) fn give_up(&mut self) {
        for epoch in std::mem::take(&mut self.begun).into_keys() {
            self.note(epoch, "not every server wrote its part in time");
        }
    }

    /// A worker that is gone will write no part that is missing.
    pub(crate) fn expects_no_more_of(&mut self, worker: usize) {
        let missing = |begun: &Begun| !begun.workers.contains(&worker);
        let lost = self.begun.iter().filter(|(_, begun)| missing(begun));
        for epoch in lost.map(|(epoch, _)| *epoch).collect::<Vec<_>>() {
            self.begun.remove(&epoch);
            self.note(epoch, "a server was gone before it wrote its part");
        }
    }

    /// Takes a worker's word of its part; with the last of them the checkpoint counts.
    pub(crate) async fn part_written(
        &mut self,
        worker: usize,
        epoch: u32,
        standing: Option<Standing>,
        problem: Option<String>,
    ) {
        let begun = self.begun.entry(epoch).or_default();
        begun.workers.insert(worker);
        if standing.is_some() {
            begun.standing = standing;
        }
        if let Some(problem) = problem {
            begun.failed = true;
            self.note(epoch, &problem);
        }
        if self.begun[&epoch].workers.len() < self.workers {
            return;
        }
        let begun = self.begun.remove(&epoch).filter(|begun| !begun.failed);
        let Some(standing) = begun.and_then(|begun| begun.standing) else {
            return;
        };
        if let Err(error) = self.commit(epoch, standing).await {
            self.note(epoch, &error.to_string());
        }
    }

    async fn commit(&self, epoch: u32, standing: Standing) -> Result<(), TrainingError> {
        let (id, checkpoints) = (self.live.id, &self.catalog.checkpoints);
        let checkpoint = Checkpoint::new(self.name, self.prepared, epoch, self.workers, standing);
        let manifest = checkpoint.to_bytes()?;
        // Who goes on from it takes over the history up to it.
        self.live.save_if_behind().await?;
        // The status first: whoever breaks off in between leaves one checkpoint too many told of, and the rows for it.
        self.live.update(|status| status.checkpoints.push(epoch));
        if let Err(error) = checkpoints.commit(id, epoch, manifest).await {
            self.live
                .update(|status| status.checkpoints.retain(|kept| *kept != epoch));
            return Err(error.into());
        }
        let keep = self.prepared.job.checkpoints.map_or(1, |rule| rule.keep) as usize;
        let mut outdated = Vec::new();
        self.live.update(|status| {
            let surplus = status.checkpoints.len().saturating_sub(keep);
            outdated.extend(status.checkpoints.drain(..surplus));
        });
        // The new one is written down before the old one goes.
        self.live.save().await?;
        for epoch in outdated {
            checkpoints.remove(id, epoch).await?;
        }
        Ok(())
    }

    fn note(&self, epoch: u32, problem: &str) {
        tracing::warn!(job = %self.live.id, epoch, problem, "a checkpoint was not kept");
        self.live.update(|status| {
            let note = format!("the checkpoint of epoch {epoch} was not kept: {problem}");
            status.notes.push(note);
        });
    }
}
