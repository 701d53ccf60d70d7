//! One worker's share of a step: its lanes forward and backward, and its part of the tree of sums.
//!
//! A step has two phases with a barrier between. In the first every thread computes its lanes, reading the whole flat
//! vector; in the second (`update.rs`) every thread finishes the tree over its own range of the vector and writes that
//! range.
//! The flat vector is the parameters followed by the moving statistics: gradients are summed and handed to the
//! optimizer; the changes of statistics are summed weighted by rows and divided by the rows of the minibatch.
//! Sparse tables, first in the vector, have lists of rows instead (`tables.rs`): what is summed and cut into shards is the
//! vector behind them, and ranges of it are counted from there.

use std::borrow::Cow;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Mutex, RwLock};
use tokio_util::sync::CancellationToken;

use super::TrainingError;
use super::crew::{Barrier, SharedVector};
use super::feed::LaneFeed;
use super::reduction;
use super::report::{EpochReport, LaneReport};
use super::tables::{OwnedRows, ReceivedRows};
use crate::frames::data_plan::{DataPlan, split};
use crate::frames::minibatch::{DecodedRows, Matrix, RowShape};
use crate::nn::{
    InputData, LaneBatch, LaneTrainer, MetricState, Model, Objectives, OutputPlace, Predictor,
    ProgramError, SideBySide, StepKey,
};
use crate::optim::{ArrayBlocks, ArrayNorms, Optimizer};
use crate::tensor::row_sums::RowSums;

/// Rows that are evaluated at a time: a fixed number, so that sums have one order everywhere.
const EVALUATION_ROWS: usize = 256;

/// What a job computes, joined to one worker's place in it.
#[derive(Debug)]
pub(crate) struct Share {
    pub(crate) model: Arc<Model>,
    pub(crate) objectives: Objectives,
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
    pub(crate) worker: u32,
    pub(crate) workers: u32,
    /// The model's arrays but for sparse tables, for an optimizer that needs their norms.
    pub(crate) arrays: ArrayBlocks,
}

/// Which step it is, and what the leader alone knows of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StepOfJob {
    pub(crate) epoch: u64,
    /// Minibatch of the epoch, from 0.
    pub(crate) step: u64,
    /// Step of the job, from 1.
    pub(crate) total_step: u64,
    pub(crate) learning_rate: f32,
}

/// What the crew does next.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Command {
    Train(StepOfJob),
    /// Changes the places of the weights and their moving averages.
    SwapAverages,
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
    /// And over its rows of each sparse table.
    pub(super) received_rows: RwLock<Vec<ReceivedRows>>,
    /// Norms of the arrays, for the stage of the update that comes next.
    pub(super) norms: RwLock<Vec<ArrayNorms>>,
    pub(super) hands: Vec<Mutex<Hand>>,
    pub(super) partials: Vec<RwLock<Partials>>,
    failed: AtomicBool,
    failure: Mutex<Option<TrainingError>>,
    stop: CancellationToken,
}

/// What one thread's lanes came to: the sums at the largest subtrees that it holds.
#[derive(Debug)]
pub(super) struct Partials {
    /// By node; each as long as what is summed of the flat vector.
    pub(super) dense: Vec<(u32, Vec<f32>)>,
    /// For each sparse table, a list for each of `dense`.
    pub(super) tables: Vec<RowSums>,
}

/// What belongs to one thread.
#[derive(Debug)]
pub(super) struct Hand {
    lanes: Vec<Lane>,
    nodes: Vec<u32>,
    trainer: LaneTrainer,
    predictor: Predictor,
    places: Vec<OutputPlace>,
    /// The range of the flat vector that this thread updates.
    pub(super) owned: Range<usize>,
    /// The gradient of that range, and what the update has made of it so far.
    pub(super) sum: Vec<f32>,
    pub(super) slots: Vec<Vec<f32>>,
    /// The rows of sparse tables that this thread updates.
    pub(super) tables: Vec<OwnedRows>,
    /// Sums of the squares of the range's blocks, after a stage that measures them.
    pub(super) block_sums: Vec<f64>,
    /// Vectors not in use, each as long as what is summed of the flat vector.
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
        let length = share.length();
        let mut vector = share.model.initial_parameters(share.seed);
        vector.extend(share.model.initial_statistics());
        if vector.len() != length {
            return Err(TrainingError::Internal {
                reason: "the model's first values are not as many as its parameters".into(),
            });
        }
        let held = u64::from(share.own_lanes.end - share.own_lanes.start);
        let shard = share.shard_of(share.worker);
        let hands = (0..threads).map(|thread| {
            let lanes = split(held, threads as u32, thread as u32);
            let first = share.own_lanes.start;
            let lanes = first + lanes.start as u32..first + lanes.end as u32;
            let owned = reduction::parameter_shard(shard.len(), threads, thread, share.grid());
            let owned = shard.start + owned.start..shard.start + owned.end;
            let tables = share.rows_of_thread(threads as u32, thread as u32);
            Hand::new(&share, lanes, owned, tables).map(Mutex::new)
        });
        let hands = hands.collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            barrier: Barrier::new(threads),
            vector: SharedVector::new(vector),
            command: Mutex::new(Command::Evaluate),
            received: RwLock::new(Vec::new()),
            received_rows: RwLock::new(share.received_rows()),
            norms: RwLock::new(Vec::new()),
            hands,
            partials: (0..threads)
                .map(|_| {
                    RwLock::new(Partials {
                        dense: Vec::new(),
                        tables: share.row_sums(),
                    })
                })
                .collect(),
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
                Command::SwapAverages => {
                    self.swap_averages(thread);
                    if !self.barrier.wait() {
                        return;
                    }
                }
                Command::Train(now) => {
                    self.train(thread, &now);
                    if !self.barrier.wait() {
                        return;
                    }
                    let exchanged = self.share.workers > 1;
                    if exchanged && !self.barrier.wait() {
                        return;
                    }
                    let rounds = self.share.optimizer.rounds(now.total_step);
                    for round in 0..rounds {
                        self.update(thread, round, &now);
                        // Between the two the leader finds the norms.
                        if !self.barrier.wait() || !self.barrier.wait() {
                            return;
                        }
                    }
                    self.update(thread, rounds, &now);
                    if exchanged && !self.barrier.wait() {
                        return;
                    }
                }
            }
        }
    }

    /// The first phase: this thread's lanes, summed into the largest subtrees it holds.
    pub(crate) fn train(&self, thread: usize, now: &StepOfJob) {
        self.guarded(|| {
            let hand = &mut *self.hands[thread].lock();
            let Partials { dense, tables } = &mut *self.partials[thread].write();
            hand.pool.extend(dense.drain(..).map(|(_, sum)| sum));
            tables.iter_mut().for_each(RowSums::clear);
            // SAFETY: between the barriers around this phase nobody writes the flat vector.
            let vector = unsafe { self.vector.read(0..self.length()) };
            let minibatch = self.share.plan.minibatch(now.step);
            let pass = Pass {
                share: &self.share,
                vector,
                minibatch,
                epoch: now.epoch,
                step: now.step,
                total_step: now.total_step,
                stop: &self.stop,
            };
            for index in 0..hand.nodes.len() {
                let node = hand.nodes[index];
                if let Some(sum) = pass.sum_below(hand, tables, node)? {
                    dense.push((node, sum));
                }
            }
            Ok(())
        });
    }

    /// Evaluates this thread's lanes' parts of the validation rows.
    pub(crate) fn evaluate(&self, thread: usize) {
        let Some(plan) = &self.share.validation else {
            return;
        };
        if self.has_failed() {
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
                    hand.predictor
                        .predict(parameters, statistics, rows.rows, &inputs(rows))
                        .map_err(program_error)?;
                    let answers = SideBySide {
                        values: hand.predictor.predictions(),
                        width: self.share.model.output_width(),
                    };
                    let places = &hand.places;
                    self.share.objectives.update(
                        &mut lane.report.validation,
                        true,
                        places,
                        |output| answers.columns(&places[output].answers),
                        targets(rows),
                        hand.predictor.masks(),
                        rows.weights.as_deref(),
                        hand.predictor.penalties(),
                    );
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
                    output_losses: self.share.no_losses(),
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

    /// A copy of parameters and statistics. Called while the crew is at rest.
    pub(crate) fn values(&self) -> Vec<f32> {
        // SAFETY: the crew is at rest; nobody writes.
        unsafe { self.vector.read(0..self.length()) }.to_vec()
    }

    /// Whether all parameters and statistics are numbers. Called while the crew is at rest.
    pub(crate) fn is_finite(&self) -> bool {
        // SAFETY: the crew is at rest; nobody writes.
        let values = unsafe { self.vector.read(0..self.length()) };
        values.iter().all(|value| value.is_finite())
    }

    /// Other parameters and statistics. Called while the crew is at rest.
    pub(crate) fn replace_values(&self, values: &[f32]) {
        // SAFETY: the crew is at rest; nobody else reads or writes.
        let own = unsafe { self.vector.write(0..self.length()) };
        own.copy_from_slice(values);
    }

    /// The first failure of any thread.
    pub(crate) fn failure(&self) -> Result<(), TrainingError> {
        if !self.has_failed() {
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

    pub(super) fn length(&self) -> usize {
        self.share.length()
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Runs a phase; a failure or a panic is kept for the leader, so that no thread misses a barrier.
    pub(super) fn guarded(&self, phase: impl FnOnce() -> Result<(), TrainingError>) {
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
    /// Of the flat vector: parameters, then statistics.
    pub(crate) fn length(&self) -> usize {
        self.model.parameter_len() + self.model.statistics_len()
    }

    /// Where what is summed may be cut.
    fn grid(&self) -> usize {
        self.optimizer.grid().max(reduction::CACHE_LINE)
    }

    /// How much of the flat vector is summed number by number: all but the sparse tables, which stand first.
    pub(super) fn summed_len(&self) -> usize {
        self.length() - self.model.sparse_len()
    }

    /// The part that a worker owns of what is summed.
    pub(crate) fn shard_of(&self, worker: u32) -> Range<usize> {
        let (workers, worker) = (self.workers as usize, worker as usize);
        reduction::parameter_shard(self.summed_len(), workers, worker, self.grid())
    }

    /// Where a range of what is summed stands in the flat vector.
    pub(super) fn place_of(&self, range: Range<usize>) -> Range<usize> {
        let first = self.model.sparse_len();
        first + range.start..first + range.end
    }

    /// The parameters within a range of what is summed.
    pub(super) fn parameters_of(&self, range: &Range<usize>) -> Range<usize> {
        let length = self.model.parameter_len() - self.model.sparse_len();
        range.start.min(length)..range.end.min(length)
    }

    /// How many sums a worker has to share after a stage of an update.
    pub(crate) fn block_sums_of(&self, worker: u32, stage: usize) -> usize {
        let parameters = self.parameters_of(&self.shard_of(worker));
        self.arrays.within(parameters).len() * self.optimizer.sums_per_block(stage)
    }

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
        self.states(false)
    }

    /// Of each output, where there are several.
    fn no_losses(&self) -> Vec<f64> {
        match self.objectives.several() {
            true => vec![0.0; self.objectives.outputs().len()],
            false => Vec::new(),
        }
    }

    fn validation_states(&self) -> Result<Vec<MetricState>, TrainingError> {
        self.states(true)
    }

    fn states(&self, losses: bool) -> Result<Vec<MetricState>, TrainingError> {
        let states = self.objectives.states(&self.model, losses);
        states.map_err(|error| TrainingError::BadModel {
            reason: error.to_string(),
        })
    }
}

impl Hand {
    fn new(
        share: &Share,
        lanes: Range<u32>,
        owned: Range<usize>,
        tables: Vec<OwnedRows>,
    ) -> Result<Self, TrainingError> {
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
                output_losses: Vec::new(),
                train: Vec::new(),
                validation: Vec::new(),
            },
        };
        let trained = share.parameters_of(&owned).len();
        Ok(Self {
            lanes: lanes.map(lane).collect(),
            nodes,
            trainer: LaneTrainer::new(Arc::clone(&share.model), share.objectives.clone())
                .map_err(program_error)?,
            predictor: Predictor::with_penalties(Arc::clone(&share.model)),
            places: share.objectives.places(&share.model),
            sum: vec![0.0; owned.len()],
            slots: share.optimizer.first_slots(trained),
            tables,
            block_sums: Vec::new(),
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
    fn sum_below(
        &self,
        hand: &mut Hand,
        tables: &mut [RowSums],
        node: u32,
    ) -> Result<Option<Vec<f32>>, TrainingError> {
        if node >= self.share.lanes {
            return self.lane(hand, tables, node - self.share.lanes);
        }
        let left = self.sum_below(hand, tables, 2 * node)?;
        let right = self.sum_below(hand, tables, 2 * node + 1)?;
        match (left, right) {
            (Some(mut left), Some(right)) => {
                reduction::add(&mut left, &right);
                hand.pool.push(right);
                tables.iter_mut().for_each(RowSums::join);
                Ok(Some(left))
            }
            (left, right) => Ok(left.or(right)),
        }
    }

    /// One lane forward and backward: its gradient, then its new statistics times its rows. Pushes a list to each table.
    fn lane(
        &self,
        hand: &mut Hand,
        tables: &mut [RowSums],
        number: u32,
    ) -> Result<Option<Vec<f32>>, TrainingError> {
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
            .unwrap_or_else(|| vec![0.0; self.share.summed_len()]);
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
        let dense_len = parameter_len - self.share.model.sparse_len();
        let (gradient, statistics_out) = out.split_at_mut(dense_len);
        let denominator = (self.minibatch.end - self.minibatch.start) as f32;
        let output = hand
            .trainer
            .step_with_tables(
                parameters,
                statistics,
                &batch,
                &key,
                denominator,
                gradient,
                statistics_out,
                tables,
            )
            .map_err(|error| self.step_error(error))?;
        if !output.loss_sum.is_finite() {
            return Err(TrainingError::NotFinite {
                loss: (output.loss_sum / rows.rows as f64) as f32,
                epoch: self.epoch as u32 + 1,
                step: self.total_step,
                origin: "the loss".to_owned(),
            });
        }
        lane.report.loss_sum += output.loss_sum;
        lane.rows_seen += rows.rows as u64;
        let sums = lane.report.output_losses.iter_mut();
        for (sum, loss) in sums.zip(output.output_losses) {
            *sum += loss;
        }
        self.share.objectives.update(
            &mut lane.report.train,
            false,
            &hand.places,
            |number| Cow::Borrowed(output.predictions(number)),
            targets(rows),
            SideBySide::default(),
            None,
            &[],
        );
        for (value, before) in statistics_out.iter_mut().zip(statistics) {
            *value = (*value - before) * rows.rows as f32;
        }
        Ok(Some(out))
    }

    fn step_error(&self, error: ProgramError) -> TrainingError {
        match error {
            ProgramError::NonFiniteLoss { value, origin, .. } => TrainingError::NotFinite {
                loss: value.parse().unwrap_or(f32::NAN),
                epoch: self.epoch as u32 + 1,
                step: self.total_step,
                origin,
            },
            other => program_error(other),
        }
    }
}

fn targets(rows: &DecodedRows) -> SideBySide<'_> {
    SideBySide {
        values: &rows.target,
        width: rows.target_width,
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
