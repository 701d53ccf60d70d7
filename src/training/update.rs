//! The second phase of a step: every thread finishes the tree of sums over its own range of the flat vector and writes the
//! range's new values; and what of that goes to other workers.
//!
//! An optimizer that needs norms updates in stages. After each but the last the leader joins the sums of all blocks,
//! exchanged where there are other workers, and every worker makes the same norms of them.

use bytes::Bytes;
use parking_lot::RwLock;

use super::TrainingError;
use super::exchange::{PartialSum, to_bytes};
use super::reduction::{self, NodeValues};
use super::step::{Crew, Hand, StepOfJob};
use crate::optim::{Cut, Stage};

impl Crew {
    /// A stage of the second phase, from 0 to the optimizer's `rounds`; the last writes this thread's range.
    pub(crate) fn update(&self, thread: usize, stage: usize, now: &StepOfJob) {
        if self.has_failed() {
            return;
        }
        self.guarded(|| {
            let hand = &mut *self.hands[thread].lock();
            if stage == self.share.optimizer.rounds(now.total_step) {
                self.update_tables(&mut hand.tables, now);
            }
            if hand.owned.is_empty() {
                return Ok(());
            }
            if stage == 0 {
                self.finish_tree(hand)?;
            }
            let owned = hand.owned.clone();
            let parameters = self.share.parameters_of(&owned);
            let optimizer = &self.share.optimizer;
            let rounds = optimizer.rounds(now.total_step);
            // SAFETY: every thread has its own range, and between the barriers around this phase nobody reads another's.
            let values = unsafe { self.vector.write(self.share.place_of(owned)) };
            let (parameter_values, statistics) = values.split_at_mut(parameters.len());
            let (gradient, statistics_sum) = hand.sum.split_at_mut(parameters.len());
            if rounds == 0 {
                optimizer.update(
                    now.total_step,
                    now.learning_rate,
                    parameter_values,
                    gradient,
                    &mut hand.slots,
                );
            } else {
                let done = optimizer.stage(
                    stage,
                    now.total_step,
                    now.learning_rate,
                    &self.share.arrays,
                    &self.norms.read(),
                    Cut {
                        start: parameters.start,
                        parameters: parameter_values,
                        update: gradient,
                        slots: &mut hand.slots,
                    },
                );
                if let Stage::Measured(sums) = done {
                    hand.block_sums = sums;
                }
            }
            if stage == rounds {
                let minibatch = self.share.plan.minibatch(now.step);
                let rows = (minibatch.end - minibatch.start) as f32;
                for (value, sum) in statistics.iter_mut().zip(statistics_sum) {
                    // Sums of changes, so that a statistic that no lane changed stays as it was to the bit.
                    *value += *sum / rows;
                }
            }
            Ok(())
        });
    }

    /// The sum over all lanes, over a thread's range.
    fn finish_tree(&self, hand: &mut Hand) -> Result<(), TrainingError> {
        let partials: Vec<_> = self.partials.iter().map(RwLock::read).collect();
        let received = self.received.read();
        let shard_start = self.share.shard_of(self.share.worker).start;
        let known = |node: u32| {
            let here = partials.iter().flat_map(|partials| &partials.dense);
            let here = here.map(|(node, values)| (*node, 0, values));
            let there = received
                .iter()
                .map(|(node, values)| (*node, shard_start, values));
            let (node, offset, values) = here.chain(there).find(|(found, ..)| *found == node)?;
            Some(NodeValues {
                node,
                offset,
                values,
            })
        };
        let (lanes, range) = (self.share.lanes, hand.owned.clone());
        if reduction::sum_node(lanes, 1, &known, range, &mut hand.sum) {
            Ok(())
        } else {
            Err(TrainingError::Internal {
                reason: "a minibatch without rows was trained".into(),
            })
        }
    }

    /// This worker's sums of the squares of its blocks, in their order. Called by the leader after a stage.
    pub(crate) fn block_sums(&self) -> Vec<f64> {
        let mut all = Vec::new();
        for hand in &self.hands {
            all.extend_from_slice(&hand.lock().block_sums);
        }
        all
    }

    /// Makes the norms of the next stage from the sums of all workers, in the order of blocks. Called by the leader.
    pub(crate) fn take_block_sums(&self, stage: usize, sums: &[f64]) {
        let optimizer = &self.share.optimizer;
        *self.norms.write() = optimizer.norms(stage, &self.share.arrays, sums);
    }

    /// Changes the places of this thread's weights and their averages.
    pub(crate) fn swap_averages(&self, thread: usize) {
        if self.has_failed() {
            return;
        }
        self.guarded(|| {
            let hand = &mut *self.hands[thread].lock();
            let parameters = self.share.parameters_of(&hand.owned);
            // SAFETY: every thread has its own range, and between the barriers around this phase nobody reads.
            let values = unsafe { self.vector.write(self.share.place_of(parameters)) };
            let optimizer = &self.share.optimizer;
            optimizer.swap_averages(values, &mut hand.slots);
            Ok(())
        });
    }

    /// This worker's partial sums over another owner's shard. Called by the leader between the phases.
    pub(crate) fn partial_sums(&self, step: u64, owner: u32) -> Vec<PartialSum> {
        let shard = self.share.shard_of(owner);
        let partials: Vec<_> = self.partials.iter().map(RwLock::read).collect();
        let known = |node: u32| {
            let mut all = partials.iter().flat_map(|partials| &partials.dense);
            let (node, values) = all.find(|(found, _)| *found == node)?;
            Some(NodeValues {
                node: *node,
                offset: 0,
                values,
            })
        };
        let mut scratch = vec![0.0; shard.len()];
        self.share
            .nodes_with_rows(self.share.own_lanes.clone(), step)
            .into_iter()
            .map(|node| {
                if !shard.is_empty() {
                    reduction::sum_node(
                        self.share.lanes,
                        node,
                        &known,
                        shard.clone(),
                        &mut scratch,
                    );
                }
                PartialSum {
                    node,
                    values: to_bytes(&scratch),
                }
            })
            .collect()
    }

    /// The new values of this worker's shard. Called by the leader after the second phase.
    pub(crate) fn own_values(&self) -> Bytes {
        let shard = self.share.shard_of(self.share.worker);
        // SAFETY: the followers wait at a barrier; nobody writes.
        to_bytes(unsafe { self.vector.read(self.share.place_of(shard)) })
    }

    /// Takes over another owner's new values. Called by the leader after the second phase.
    pub(crate) fn take_values(&self, owner: u32, values: &[f32]) {
        let place = self.share.place_of(self.share.shard_of(owner));
        // SAFETY: the followers wait at a barrier; nobody else reads or writes.
        unsafe { self.vector.write(place) }.copy_from_slice(values);
    }
}
