//! One worker's share of a step: its lanes forward and backward, its part of the tree of sums, its part of the update.
//!
//! A step has two phases with a barrier between. In the first every thread computes its lanes, reading the whole flat
//! vector; in the second every thread finishes the tree over its own range of the vector and writes that range.
//! The flat vector is the parameters followed by the moving statistics: gradients are summed and handed to the
//! optimizer; the changes of statistics are summed weighted by rows and divided by the rows of the minibatch.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use tokio_util::sync::CancellationToken;

use super::TrainingError;
use super::crew::{Barrier, SharedVector};
use super::exchange::{PartialSum, to_bytes};
use super::feed::LaneFeed;
use super::reduction::{self, NodeValues};
use super::report::{EpochReport, LaneReport};
use crate::frames::data_plan::{DataPlan, split};
use crate::frames::minibatch::{DecodedRows, Matrix, RowShape};
use crate::nn::{
    InputData, LaneBatch, LaneTrainer, Loss, Metric, MetricState, Model, Predictor, ProgramError,
    StepKey,
};
use crate::optim::Optimizer;

/// Rows that are evaluated at a time: a fixed number, so that sums have one order everywhere.
const EVALUATION_ROWS: usize = 256;

/// What a job computes, joined to one worker's place in it.
#[derive(Debug)]
pub(crate) struct Share {
    pub(crate) model: Arc<Model>,
    pub(crate) loss: Loss,
    pub(crate) metrics: Vec<Metric>,
    pub(crate) optimizer: Optimizer,
    pub(crate) seed: u64,
    pub(crate) lanes: u32,
    pub(crate) plan: DataPlan,
    /// Validation rows as one minibatch, in the order of the files.
    pub(crate) validation: Option<DataPlan>,
    pub(crate) shape: RowShape,
    pub(crate) validation_shape: RowShape,
    /// This worker's lanes.
    pub(crate) own_lanes: Range<u32>,
    /// This worker's shard of the flat vector.
    pub(crate) shard: Range<usize>,
    /// Whether there are other workers.
    pub(crate) exchanged: bool,
}

/// What the crew does next.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Command {
    Train {
        epoch: u64,
        /// Minibatch of the epoch, from 0.
        step: u64,
        /// Step of the job, from 1.
        total_step: u64,
    },
    /// Evaluates the validation rows, if there are any. After it the crew is at rest: nobody reads or writes.
    Evaluate,
}

/// All that the threads of one worker share.
#[derive(Debug)]
pub(crate) struct Crew {
    pub(crate) share: Share,
    pub(crate) barrier: Barrier,
    pub(crate) vector: SharedVector,
    pub(crate) command: Mutex<Command>,
    /// Partial sums of the other workers over this worker's shard.
    pub(crate) received: RwLock<Vec<(u32, Vec<f32>)>>,
    hands: Vec<Mutex<Hand>>,
    partials: Vec<RwLock<Vec<(u32, Vec<f32>)>>>,
    failed: AtomicBool,
    failure: Mutex<Option<TrainingError>>,
    stop: CancellationToken,
}

/// What belongs to one thread.
#[derive(Debug)]
struct Hand {
    lanes: Vec<Lane>,
    nodes: Vec<u32>,
    trainer: LaneTrainer,
    predictor: Predictor,
    /// The range of the flat vector that this thread updates.
    owned: Range<usize>,
    sum: Vec<f32>,
    slots: Vec<Vec<f32>>,
    /// Vectors not in use, each as long as the flat vector.
    pool: Vec<Vec<f32>>,
}

/// What belongs to one lane.
#[derive(Debug)]
struct Lane {
    number: u32,
    feed: LaneFeed,
    validation_feed: LaneFeed,
    rows: DecodedRows,
    validation_rows: DecodedRows,
    rows_seen: u64,
    report: LaneReport,
}

impl Crew {
    /// `stop` ends a phase early, as a failure does.
    pub(crate) fn new(
        share: Share,
        threads: usize,
        stop: CancellationToken,
    ) -> Result<Self, TrainingError> {
        let length = share.model.parameter_len() + share.model.statistics_len();
        let mut vector = share.model.initial_parameters(share.seed);
        vector.extend(share.model.initial_statistics());
        if vector.len() != length {
            return Err(TrainingError::Internal {
                reason: "the model's first values are not as many as its parameters".into(),
            });
        }
        let held = u64::from(share.own_lanes.end - share.own_lanes.start);
        let hands = (0..threads).map(|thread| {
            let lanes = split(held, threads as u32, thread as u32);
            let first = share.own_lanes.start;
            let lanes = first + lanes.start as u32..first + lanes.end as u32;
            let owned = reduction::parameter_shard(share.shard.len(), threads, thread);
            Hand::new(
                &share,
                lanes,
                share.shard.start + owned.start..share.shard.start + owned.end,
            )
            .map(Mutex::new)
        });
        let hands = hands.collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            barrier: Barrier::new(threads),
            vector: SharedVector::new(vector),
            command: Mutex::new(Command::Evaluate),
            received: RwLock::new(Vec::new()),
            hands,
            partials: (0..threads).map(|_| RwLock::new(Vec::new())).collect(),
            failed: AtomicBool::new(false),
            failure: Mutex::new(None),
            stop,
            share,
        })
    }

    /// The life of every thread but the first, which leads.
    pub(crate) fn follow(&self, thread: usize) {
        while self.barrier.wait() {
            let command = *self.command.lock();
            match command {
                Command::Evaluate => {
                    self.evaluate(thread);
                    if !self.barrier.wait() {
                        return;
                    }
                }
                Command::Train {
                    epoch,
                    step,
                    total_step,
                } => {
                    self.train(thread, epoch, step, total_step);
                    if !self.barrier.wait() {
                        return;
                    }
                    if self.share.exchanged && !self.barrier.wait() {
                        return;
                    }
                    self.update(thread, epoch, step, total_step);
                    if self.share.exchanged && !self.barrier.wait() {
                        return;
                    }
                }
            }
        }
    }

    /// The first phase: this thread's lanes, summed into the largest subtrees it holds.
    pub(crate) fn train(&self, thread: usize, epoch: u64, step: u64, total_step: u64) {
        self.guarded(|| {
            let hand = &mut *self.hands[thread].lock();
            let partials = &mut *self.partials[thread].write();
            hand.pool.extend(partials.drain(..).map(|(_, sum)| sum));
            // SAFETY: between the barriers around this phase nobody writes the flat vector.
            let vector = unsafe { self.vector.read(0..self.length()) };
            let minibatch = self.share.plan.minibatch(step);
            let pass = Pass {
                share: &self.share,
                vector,
                minibatch,
                epoch,
                step,
                total_step,
                stop: &self.stop,
            };
            for index in 0..hand.nodes.len() {
                let node = hand.nodes[index];
                if let Some(sum) = pass.sum_below(hand, node)? {
                    partials.push((node, sum));
                }
            }
            Ok(())
        });
    }

    /// The second phase: finishes the tree over this thread's range and writes the range's new values.
    pub(crate) fn update(&self, thread: usize, epoch: u64, step: u64, total_step: u64) {
        if self.failed.load(Ordering::Acquire) {
            return;
        }
        self.guarded(|| {
            let hand = &mut *self.hands[thread].lock();
            let owned = hand.owned.clone();
            if owned.is_empty() {
                return Ok(());
            }
            let partials: Vec<_> = self.partials.iter().map(RwLock::read).collect();
            let received = self.received.read();
            let known = |node: u32| {
                let here = partials.iter().flat_map(|partials| partials.iter());
                let here = here.map(|(node, values)| (*node, 0, values));
                let there = received
                    .iter()
                    .map(|(node, values)| (*node, self.share.shard.start, values));
                let (node, offset, values) =
                    here.chain(there).find(|(found, ..)| *found == node)?;
                Some(NodeValues {
                    node,
                    offset,
                    values,
                })
            };
            if !reduction::sum_node(self.share.lanes, 1, &known, owned.clone(), &mut hand.sum) {
                return Err(TrainingError::Internal {
                    reason: "a minibatch without rows was trained".into(),
                });
            }
            // SAFETY: every thread has its own range, and between the barriers around this phase nobody reads.
            let values = unsafe { self.vector.write(owned.clone()) };
            let parameters = self
                .share
                .model
                .parameter_len()
                .clamp(owned.start, owned.end)
                - owned.start;
            let (parameter_values, statistics) = values.split_at_mut(parameters);
            let (gradient, statistics_sum) = hand.sum.split_at(parameters);
            let optimizer = &self.share.optimizer;
            optimizer.update(
                total_step,
                optimizer.learning_rate(total_step, epoch),
                parameter_values,
                gradient,
                &mut hand.slots,
            );
            let minibatch = self.share.plan.minibatch(step);
            let rows = (minibatch.end - minibatch.start) as f32;
            // Sums of changes, so that a statistic that no lane changed stays as it was to the bit.
            for (value, sum) in statistics.iter_mut().zip(statistics_sum) {
                *value += sum / rows;
            }
            Ok(())
        });
    }

    /// Evaluates this thread's lanes' parts of the validation rows.
    pub(crate) fn evaluate(&self, thread: usize) {
        let Some(plan) = &self.share.validation else {
            return;
        };
        if self.failed.load(Ordering::Acquire) {
            return;
        }
        self.guarded(|| {
            let hand = &mut *self.hands[thread].lock();
            // SAFETY: while the crew evaluates nobody writes the flat vector.
            let vector = unsafe { self.vector.read(0..self.length()) };
            let (parameters, statistics) = vector.split_at(self.share.model.parameter_len());
            for lane in &mut hand.lanes {
                lane.report.validation = self.share.validation_states()?;
                let part = plan.lane_part(0, lane.number);
                for state in &mut lane.report.validation {
                    state.begin_at(part.start);
                }
                let mut start = part.start;
                while start < part.end {
                    if self.stop.is_cancelled() {
                        return Err(TrainingError::Cancelled);
                    }
                    let end = part.end.min(start + EVALUATION_ROWS as u64);
                    lane.validation_feed
                        .fill(start..end, &mut lane.validation_rows)?;
                    let rows = &lane.validation_rows;
                    let predictions = hand
                        .predictor
                        .predict(parameters, statistics, rows.rows, &inputs(rows))
                        .map_err(program_error)?;
                    for state in &mut lane.report.validation {
                        let weights = rows.weights.as_deref();
                        let weights = weights.filter(|_| state.metric().is_loss());
                        state.update(predictions, &rows.target, weights);
                    }
                    start = end;
                }
            }
            Ok(())
        });
    }

    /// Gives every lane of this worker its feeds for an epoch and forgets the last epoch's sums.
    /// Called while the crew is at rest.
    pub(crate) fn begin_epoch(
        &self,
        feed: impl Fn(u32) -> Result<LaneFeed, TrainingError>,
        validation_feed: impl Fn(u32) -> Result<LaneFeed, TrainingError>,
    ) -> Result<(), TrainingError> {
        for hand in &self.hands {
            for lane in &mut hand.lock().lanes {
                lane.feed = feed(lane.number)?;
                lane.validation_feed = validation_feed(lane.number)?;
                lane.rows_seen = 0;
                lane.report = LaneReport {
                    loss_sum: 0.0,
                    train: self.share.train_states()?,
                    validation: Vec::new(),
                };
            }
        }
        Ok(())
    }

    /// What this worker's lanes found in the epoch. Called while the crew is at rest.
    pub(crate) fn end_epoch(&self) -> EpochReport {
        let mut report = EpochReport::new();
        for hand in &self.hands {
            for lane in &hand.lock().lanes {
                report.insert(lane.number, lane.report.clone());
            }
        }
        report
    }

    /// Mean loss of the epoch so far over the lanes of the first thread: an estimate for the progress display.
    pub(crate) fn running_loss(&self) -> Option<f64> {
        let hand = self.hands[0].try_lock()?;
        let rows: u64 = hand.lanes.iter().map(|lane| lane.rows_seen).sum();
        let sum: f64 = hand.lanes.iter().map(|lane| lane.report.loss_sum).sum();
        (rows > 0).then(|| sum / rows as f64)
    }

    /// This worker's partial sums over another owner's shard. Called by the leader between the phases.
    pub(crate) fn partial_sums(&self, workers: u32, step: u64, owner: u32) -> Vec<PartialSum> {
        let shard = reduction::parameter_shard(self.length(), workers as usize, owner as usize);
        let partials: Vec<_> = self.partials.iter().map(RwLock::read).collect();
        let known = |node: u32| {
            let mut all = partials.iter().flat_map(|partials| partials.iter());
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
        // SAFETY: the followers wait at a barrier; nobody writes.
        to_bytes(unsafe { self.vector.read(self.share.shard.clone()) })
    }

    /// Takes over another owner's new values. Called by the leader after the second phase.
    pub(crate) fn take_values(&self, workers: u32, owner: u32, values: &[f32]) {
        let shard = reduction::parameter_shard(self.length(), workers as usize, owner as usize);
        // SAFETY: the followers wait at a barrier; nobody else reads or writes.
        unsafe { self.vector.write(shard) }.copy_from_slice(values);
    }

    /// A copy of parameters and statistics. Called while the crew is at rest.
    pub(crate) fn values(&self) -> Vec<f32> {
        // SAFETY: the crew is at rest; nobody writes.
        unsafe { self.vector.read(0..self.length()) }.to_vec()
    }

    /// The first failure of any thread.
    pub(crate) fn failure(&self) -> Result<(), TrainingError> {
        if !self.failed.load(Ordering::Acquire) {
            return Ok(());
        }
        Err(self
            .failure
            .lock()
            .take()
            .unwrap_or_else(|| TrainingError::Internal {
                reason: "a lane failed".into(),
            }))
    }

    pub(crate) fn length(&self) -> usize {
        self.share.model.parameter_len() + self.share.model.statistics_len()
    }

    /// Runs a phase; a failure or a panic is kept for the leader, so that no thread misses a barrier.
    fn guarded(&self, phase: impl FnOnce() -> Result<(), TrainingError>) {
        let outcome = catch_unwind(AssertUnwindSafe(phase)).unwrap_or_else(|panic| {
            let text = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("unknown");
            Err(TrainingError::Internal {
                reason: format!("a training thread panicked: {text}"),
            })
        });
        if let Err(error) = outcome {
            self.failure.lock().get_or_insert(error);
            self.failed.store(true, Ordering::Release);
        }
    }
}

impl Share {
    /// The largest subtrees within a worker's lanes that have rows in a step.
    pub(crate) fn nodes_with_rows(&self, lanes: Range<u32>, step: u64) -> Vec<u32> {
        let mut nodes = reduction::cover(self.lanes, lanes);
        nodes.retain(|&node| {
            reduction::lanes_below(self.lanes, node)
                .any(|lane| !self.plan.lane_part(step, lane).is_empty())
        });
        nodes
    }

    fn train_states(&self) -> Result<Vec<MetricState>, TrainingError> {
        self.states(self.metrics.iter().cloned())
    }

    fn validation_states(&self) -> Result<Vec<MetricState>, TrainingError> {
        self.states(std::iter::once(Metric::loss()).chain(self.metrics.iter().cloned()))
    }

    fn states(
        &self,
        metrics: impl Iterator<Item = Metric>,
    ) -> Result<Vec<MetricState>, TrainingError> {
        metrics
            .map(|metric| MetricState::new(metric, self.loss.clone(), self.model.output_extents()))
            .collect::<Result<_, _>>()
            .map_err(|error| TrainingError::BadModel {
                reason: error.to_string(),
            })
    }
}

impl Hand {
    fn new(share: &Share, lanes: Range<u32>, owned: Range<usize>) -> Result<Self, TrainingError> {
        let nodes = reduction::cover(share.lanes, lanes.clone());
        let lane = |number| Lane {
            number,
            feed: LaneFeed::None,
            validation_feed: LaneFeed::None,
            rows: DecodedRows::with_capacity(&share.shape, 0),
            validation_rows: DecodedRows::with_capacity(&share.validation_shape, 0),
            rows_seen: 0,
            report: LaneReport {
                loss_sum: 0.0,
                train: Vec::new(),
                validation: Vec::new(),
            },
        };
        let trained = share.model.parameter_len().clamp(owned.start, owned.end) - owned.start;
        Ok(Self {
            lanes: lanes.map(lane).collect(),
            nodes,
            trainer: LaneTrainer::new(Arc::clone(&share.model), share.loss.clone())
                .map_err(program_error)?,
            predictor: Predictor::new(Arc::clone(&share.model)),
            sum: vec![0.0; owned.len()],
            slots: share.optimizer.first_slots(trained),
            owned,
            pool: Vec::new(),
        })
    }
}

/// One step's first phase on one thread.
struct Pass<'a> {
    share: &'a Share,
    vector: &'a [f32],
    minibatch: Range<u64>,
    epoch: u64,
    step: u64,
    total_step: u64,
    stop: &'a CancellationToken,
}

impl Pass<'_> {
    /// The sum over the lanes below a node, or `None` when they have no rows. Children are summed as soon as both
    /// are there, while they are in the cache; at most one vector per level of the tree is in use.
    fn sum_below(&self, hand: &mut Hand, node: u32) -> Result<Option<Vec<f32>>, TrainingError> {
        if node >= self.share.lanes {
            return self.lane(hand, node - self.share.lanes);
        }
        let left = self.sum_below(hand, 2 * node)?;
        let right = self.sum_below(hand, 2 * node + 1)?;
        match (left, right) {
            (Some(mut left), Some(right)) => {
                reduction::add(&mut left, &right);
                hand.pool.push(right);
                Ok(Some(left))
            }
            (left, right) => Ok(left.or(right)),
        }
    }

    /// One lane forward and backward: its gradient, then its new statistics times its rows.
    fn lane(&self, hand: &mut Hand, number: u32) -> Result<Option<Vec<f32>>, TrainingError> {
        if self.stop.is_cancelled() {
            return Err(TrainingError::Cancelled);
        }
        let part = self.share.plan.lane_part(self.step, number);
        if part.is_empty() {
            return Ok(None);
        }
        let mut out = hand
            .pool
            .pop()
            .unwrap_or_else(|| vec![0.0; self.vector.len()]);
        let first = hand.lanes[0].number;
        let lane = &mut hand.lanes[(number - first) as usize];
        let start = self.minibatch.start;
        lane.feed
            .fill(start + part.start..start + part.end, &mut lane.rows)?;
        let rows = &lane.rows;
        let batch = LaneBatch {
            rows: rows.rows,
            inputs: inputs(rows),
            target: &rows.target,
            weights: rows.weights.as_deref(),
        };
        let key = StepKey {
            seed: self.share.seed,
            epoch: self.epoch,
            step: self.total_step,
            lane: number,
        };
        let parameter_len = self.share.model.parameter_len();
        let (parameters, statistics) = self.vector.split_at(parameter_len);
        let (gradient, statistics_out) = out.split_at_mut(parameter_len);
        let denominator = (self.minibatch.end - self.minibatch.start) as f32;
        let output = hand
            .trainer
            .step(
                parameters,
                statistics,
                &batch,
                &key,
                denominator,
                gradient,
                statistics_out,
            )
            .map_err(|error| self.step_error(error))?;
        if !output.loss_sum.is_finite() {
            return Err(TrainingError::NotFinite {
                loss: (output.loss_sum / rows.rows as f64) as f32,
                epoch: self.epoch as u32 + 1,
                step: self.total_step,
            });
        }
        lane.report.loss_sum += output.loss_sum;
        lane.rows_seen += rows.rows as u64;
        for state in &mut lane.report.train {
            state.update(output.predictions, &rows.target, None);
        }
        for (value, before) in statistics_out.iter_mut().zip(statistics) {
            *value = (*value - before) * rows.rows as f32;
        }
        Ok(Some(out))
    }

    fn step_error(&self, error: ProgramError) -> TrainingError {
        match error {
            ProgramError::NonFiniteLoss { value, .. } => TrainingError::NotFinite {
                loss: value.parse().unwrap_or(f32::NAN),
                epoch: self.epoch as u32 + 1,
                step: self.total_step,
            },
            other => program_error(other),
        }
    }
}

fn inputs(rows: &DecodedRows) -> Vec<InputData<'_>> {
    let each = rows.inputs.iter();
    each.map(|matrix| match matrix {
        Matrix::Float32 { values, .. } => InputData::Float32(values),
        Matrix::Int32 { values, .. } => InputData::Int32(values),
    })
    .collect()
}

fn program_error(error: ProgramError) -> TrainingError {
    TrainingError::BadModel {
        reason: error.to_string(),
    }
}
