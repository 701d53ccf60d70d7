//! A worker: the loop that joins rows, steps, the exchange and the update, and tells the coordinator how it goes.
//!
//! Runs on its own threads from the first row to the last epoch; knows no Flight, no catalog and no SQL.

use std::future::Future;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::TrainingError;
use super::checkpoint::{CheckpointRule, Exact, PartSink, Plateau, Saved, Standing, Watched};
use super::early_stopping::{EarlyStopping, StoppingRule};
use super::exchange::{Exchange, Rows};
use super::feed::{LaneFeed, RowGroups, RowStore, open_feed, read_all};
use super::news::{HistoryRow, WorkerNews};
use super::reduction;
use super::report;
use super::saving::Saving;
use super::step::{Command, Crew, Share, StepOfJob};
use crate::frames::data_plan::{DataPlan, PlanSettings};
use crate::nn::{Metric, Model, Objectives, ParameterInfo};
use crate::optim::{ArrayBlocks, Optimizer, PlateauRule, ReduceOnPlateau};

/// How often progress is told: twice as often as the status must change.
const PROGRESS_EVERY: Duration = Duration::from_millis(250);

/// All that a worker needs to begin.
#[derive(Debug)]
pub(crate) struct WorkerTask {
    pub(crate) model: Arc<Model>,
    pub(crate) objectives: Objectives,
    pub(crate) optimizer: Optimizer,
    pub(crate) seed: u64,
    pub(crate) epochs: u32,
    pub(crate) batch_size: u32,
    pub(crate) lanes: u32,
    pub(crate) shuffle: bool,
    pub(crate) early_stopping: Option<StoppingRule>,
    pub(crate) reduce_on_plateau: Option<PlateauRule>,
    pub(crate) checkpoints: Option<(CheckpointRule, Arc<dyn PartSink>)>,
    /// What to go on from.
    pub(crate) saved: Option<Saved>,
    pub(crate) train: RowsOfJob,
    pub(crate) validation: Option<RowsOfJob>,
    pub(crate) worker: u32,
    pub(crate) workers: u32,
    pub(crate) threads: usize,
}

/// A source of rows and how the job reads it: the same on every server.
#[derive(Debug, Clone)]
pub(crate) struct RowsOfJob {
    pub(crate) source: Arc<dyn RowGroups>,
    /// Whether all rows are kept in memory.
    pub(crate) cached: bool,
    /// Most rows of a window, where they are not.
    pub(crate) window_rows: u64,
}

/// What training came to; the same on every worker, but for the best epoch, which worker 0 alone keeps.
#[derive(Debug)]
pub(crate) struct Trained {
    pub(crate) parameters: Vec<f32>,
    pub(crate) statistics: Vec<f32>,
    /// The history row of the weights kept (worker 0).
    pub(crate) row: HistoryRow,
}

/// Trains. Blocks its thread until the job is over; must not run on a thread of the runtime.
pub(crate) fn train(
    task: WorkerTask,
    connect: impl Future<Output = Result<Option<Exchange>, TrainingError>>,
    news: &mpsc::Sender<WorkerNews>,
    runtime: &Handle,
    stop: &CancellationToken,
) -> Result<Trained, TrainingError> {
    crate::tensor::blas::use_one_thread();
    let rows = unless_stopped(runtime, stop, load(&task.train, task.threads))?;
    let validation_rows = match &task.validation {
        Some(validation) => Some(unless_stopped(
            runtime,
            stop,
            load(validation, task.threads),
        )?),
        None => None,
    };
    let exchange = unless_stopped(runtime, stop, connect)?;
    let _ = news.blocking_send(WorkerNews::Loaded);
    let plan = |rows: &RowsOfJob, batch_size: u32, shuffle: bool| {
        DataPlan::new(PlanSettings {
            row_groups: rows.source.row_groups().to_vec(),
            seed: task.seed,
            batch_size,
            lanes: task.lanes,
            shuffle,
            window_rows: rows.window_rows,
        })
    };
    let validation = match &task.validation {
        Some(validation) => {
            let rows = validation.source.row_groups().iter().sum::<u64>();
            let rows = u32::try_from(rows.max(1)).map_err(|_| TrainingError::BadOption {
                option: "validation",
                received: format!("{rows} rows"),
                hint: "validate on fewer than 2^32 rows".into(),
            })?;
            Some(plan(validation, rows, false))
        }
        None => None,
    };
    let share = Share {
        plan: plan(&task.train, task.batch_size, task.shuffle),
        validation,
        shape: task.train.source.shape().clone(),
        validation_shape: task
            .validation
            .as_ref()
            .unwrap_or(&task.train)
            .source
            .shape()
            .clone(),
        arrays: arrays(&task.model),
        model: task.model,
        objectives: task.objectives,
        optimizer: task.optimizer,
        seed: task.seed,
        lanes: task.lanes,
        own_lanes: reduction::lanes_of_worker(task.lanes, task.workers, task.worker),
        worker: task.worker,
        workers: task.workers,
    };
    // More threads than lanes would only wait at barriers, unless there is much to update.
    let lanes_held = (share.own_lanes.end - share.own_lanes.start) as usize;
    let threads = task.threads.clamp(1, lanes_held.max(1));
    let crew = Crew::new(share, threads, stop.clone())?;
    if let Some(saved) = &task.saved {
        crew.restore(saved)?;
    }
    std::thread::scope(|scope| {
        let _ends = EndOfWork(&crew);
        for thread in 1..threads {
            let crew = &crew;
            std::thread::Builder::new()
                .name(format!("lanes-{thread}"))
                .spawn_scoped(scope, move || crew.follow(thread))
                .map_err(|error| TrainingError::Internal {
                    reason: format!("a thread cannot be started: {error}"),
                })?;
        }
        let mut leader = Leader {
            crew: &crew,
            first_epoch: 0,
            epochs: task.epochs,
            early_stopping: task.early_stopping.map(EarlyStopping::new),
            plateau: task.reduce_on_plateau.map(ReduceOnPlateau::new),
            rate_scale: 1.0,
            best: None,
            last_row: HistoryRow::new(),
            saving: task
                .checkpoints
                .map(|(rule, sink)| Saving::new(rule, sink, news.clone(), runtime.clone())),
            rows,
            validation_rows,
            exchange,
            news,
            runtime,
            stop,
            told: Instant::now(),
        };
        if let Some(saved) = task.saved {
            leader.go_on_from(saved);
        }
        let trained = leader.run();
        // Failed or not: what was saved last is told of before the end is.
        if let Some(saving) = &mut leader.saving {
            saving.finish();
        }
        trained
    })
}

/// Lets the followers go when the leader leaves, however it leaves.
struct EndOfWork<'a>(&'a Crew);

impl Drop for EndOfWork<'_> {
    fn drop(&mut self) {
        self.0.barrier.abandon();
    }
}

/// The thread that leads the crew: it computes lanes as the others do, and talks to the other workers.
struct Leader<'a> {
    crew: &'a Crew,
    /// Epochs that were over before this worker began.
    first_epoch: u32,
    epochs: u32,
    early_stopping: Option<EarlyStopping>,
    /// Decides on worker 0 alone, as early stopping does.
    plateau: Option<ReduceOnPlateau>,
    /// What the scheduled learning rate is multiplied by, as worker 0 said last.
    rate_scale: f32,
    best: Option<(Vec<f32>, HistoryRow)>,
    last_row: HistoryRow,
    saving: Option<Saving>,
    rows: RowStore,
    validation_rows: Option<RowStore>,
    exchange: Option<Exchange>,
    news: &'a mpsc::Sender<WorkerNews>,
    runtime: &'a Handle,
    stop: &'a CancellationToken,
    told: Instant,
}

impl Leader<'_> {
    /// Takes over what a checkpoint says besides the numbers, which the crew has.
    fn go_on_from(&mut self, saved: Saved) {
        let standing = saved.standing;
        self.first_epoch = saved.epoch;
        self.rate_scale = standing.rate_scale.0 as f32;
        if let (Some(stopping), Some(watched)) = (&mut self.early_stopping, standing.early_stopping)
        {
            stopping.best = watched.best.map(|best| best.0);
            stopping.waited = watched.waited;
        }
        if let (Some(plateau), Some(state)) = (&mut self.plateau, standing.plateau) {
            let rule = plateau.rule().clone();
            *plateau = ReduceOnPlateau::resume(rule, state.state(self.rate_scale));
        }
        self.last_row = (&standing.row).into();
        let best_row = standing.best_row.as_ref().map(HistoryRow::from);
        self.best = saved.best.zip(best_row);
    }

    fn run(&mut self) -> Result<Trained, TrainingError> {
        let steps = self.crew.share.plan.steps();
        let mut total_step = u64::from(self.first_epoch) * steps;
        for epoch in self.first_epoch..self.epochs {
            let began = Instant::now();
            if epoch > 0 {
                self.swap_averages(total_step)?;
            }
            self.begin_epoch(u64::from(epoch))?;
            for step in 0..steps {
                total_step += 1;
                self.step(u64::from(epoch), step, total_step)?;
                self.tell_progress(epoch, step, total_step, began);
            }
            // Only after the next barrier has every thread written its last range.
            self.swap_averages(total_step)?;
            *self.crew.command.lock() = Command::Evaluate;
            self.barrier()?;
            let trained = began.elapsed();
            self.crew.evaluate(0);
            self.barrier()?;
            self.crew.failure()?;
            self.check_finite(epoch, total_step)?;
            let verdict = self.close_epoch(epoch, total_step, trained, began)?;
            if let Some(row) = verdict.row {
                self.last_row = row;
            }
            self.save(epoch + 1, verdict.flow.is_break());
            if verdict.flow.is_break() {
                break;
            }
        }
        let (mut values, row) = match self.best.take() {
            Some(best) => best,
            None => (self.crew.values(), std::mem::take(&mut self.last_row)),
        };
        let statistics = values.split_off(self.crew.share.model.parameter_len());
        Ok(Trained {
            parameters: values,
            statistics,
            row,
        })
    }

    /// Takes a checkpoint where one is due, once the last one is written. The crew is at rest.
    fn save(&mut self, epochs_over: u32, ends: bool) {
        let Some(saving) = &mut self.saving else {
            return;
        };
        if !saving
            .rule()
            .is_due(epochs_over, ends || epochs_over == self.epochs)
        {
            return;
        }
        saving.finish();
        let standing = (self.crew.share.worker == 0).then(|| Standing {
            rate_scale: Exact(f64::from(self.rate_scale)),
            early_stopping: self.early_stopping.as_ref().map(|stopping| Watched {
                best: stopping.best.map(Exact),
                waited: stopping.waited,
            }),
            plateau: self
                .plateau
                .as_ref()
                .map(|plateau| Plateau::of(plateau.state())),
            row: (&self.last_row).into(),
            best_row: self.best.as_ref().map(|(_, row)| row.into()),
        });
        let best = self.best.as_ref().map(|(values, _)| values.as_slice());
        saving.begin(epochs_over, self.crew.part(best), standing);
    }

    /// One step of the job on this worker; returns when its values are the new ones on every thread that will read them.
    fn step(&mut self, epoch: u64, step: u64, total_step: u64) -> Result<(), TrainingError> {
        let crew = self.crew;
        if self.stop.is_cancelled() {
            return Err(TrainingError::Cancelled);
        }
        let now = StepOfJob {
            epoch,
            step,
            total_step,
            learning_rate: self.learning_rate(total_step, epoch),
        };
        *crew.command.lock() = Command::Train(now);
        self.barrier()?;
        crew.train(0, &now);
        self.barrier()?;
        crew.failure()?;
        if let Some(exchange) = &mut self.exchange {
            let share = &crew.share;
            let others: Vec<u32> = exchange.workers().collect();
            let outgoing = others.iter().map(|&owner| crew.partial_sums(step, owner));
            let expected: Vec<Vec<u32>> = others
                .iter()
                .map(|&other| {
                    let lanes = reduction::lanes_of_worker(share.lanes, share.workers, other);
                    share.nodes_with_rows(lanes, step)
                })
                .collect();
            let shard = share.shard_of(share.worker);
            let scatter = exchange.scatter(total_step, outgoing.collect(), &expected, shard.len());
            *crew.received.write() = unless_stopped(self.runtime, self.stop, scatter)?;
            if crew.has_tables() {
                let outgoing = others.iter().map(|&owner| crew.row_sums(step, owner));
                let swap = exchange.swap_rows(total_step, Rows::Sums, outgoing.collect());
                let received = unless_stopped(self.runtime, self.stop, swap)?;
                crew.take_row_sums(step, &received)?;
            }
            self.barrier()?;
        }
        let rounds = crew.share.optimizer.rounds(total_step);
        for round in 0..rounds {
            crew.update(0, round, &now);
            self.barrier()?;
            crew.failure()?;
            self.find_norms(round, total_step)?;
            self.barrier()?;
        }
        crew.update(0, rounds, &now);
        if self.exchange.is_none() {
            return Ok(());
        }
        self.barrier()?;
        crew.failure()?;
        self.gather_values(total_step)?;
        self.gather_rows(total_step)
    }

    /// The norms that the next stage of the update needs, from the sums of all workers. The followers wait.
    fn find_norms(&mut self, round: usize, total_step: u64) -> Result<(), TrainingError> {
        let crew = self.crew;
        let own = crew.block_sums();
        let Some(exchange) = &mut self.exchange else {
            crew.take_block_sums(round, &own);
            return Ok(());
        };
        let lengths: Vec<usize> = exchange
            .workers()
            .map(|worker| crew.share.block_sums_of(worker, round))
            .collect();
        let sharing = exchange.share_block_sums(total_step, round, &own, &lengths);
        let mut others = unless_stopped(self.runtime, self.stop, sharing)?;
        others.push((crew.share.worker, own));
        // Shards lie in the order of workers, and so do their blocks.
        others.sort_by_key(|(worker, _)| *worker);
        let all: Vec<f64> = others.into_iter().flat_map(|(_, sums)| sums).collect();
        crew.take_block_sums(round, &all);
        Ok(())
    }

    /// Hands out this worker's shard and takes all others'. The followers wait.
    fn gather_values(&mut self, total_step: u64) -> Result<(), TrainingError> {
        let crew = self.crew;
        let Some(exchange) = &mut self.exchange else {
            return Ok(());
        };
        let lengths: Vec<usize> = exchange
            .workers()
            .map(|owner| crew.share.shard_of(owner).len())
            .collect();
        let gather = exchange.gather(
            total_step,
            crew.own_values(),
            &lengths,
            |owner, _, values| crew.take_values(owner, values),
        );
        unless_stopped(self.runtime, self.stop, gather)
    }

    /// Hands out the rows of sparse tables that this worker changed and takes all others'. The followers wait.
    fn gather_rows(&mut self, total_step: u64) -> Result<(), TrainingError> {
        let crew = self.crew;
        let Some(exchange) = self.exchange.as_mut().filter(|_| crew.has_tables()) else {
            return Ok(());
        };
        let own = crew.new_rows();
        let outgoing = exchange.workers().map(|_| own.clone()).collect();
        let swap = exchange.swap_rows(total_step, Rows::New, outgoing);
        for (owner, bytes) in unless_stopped(self.runtime, self.stop, swap)? {
            crew.take_new_rows(owner, &bytes)?;
        }
        Ok(())
    }

    /// Where weights are averaged: the averages in their place, or, the next time, the weights again. So what is
    /// validated and kept at the end of an epoch are the averages, and training goes on with the weights.
    fn swap_averages(&mut self, total_step: u64) -> Result<(), TrainingError> {
        let crew = self.crew;
        if !crew.share.optimizer.averages() {
            return Ok(());
        }
        *crew.command.lock() = Command::SwapAverages;
        self.barrier()?;
        crew.swap_averages(0);
        self.barrier()?;
        crew.failure()?;
        self.gather_values(total_step)
    }

    fn learning_rate(&self, total_step: u64, epoch: u64) -> f32 {
        let scheduled = self.crew.share.optimizer.learning_rate(total_step, epoch);
        scheduled * self.rate_scale
    }

    fn begin_epoch(&self, epoch: u64) -> Result<(), TrainingError> {
        let share = &self.crew.share;
        let feeds = |store: &RowStore, plan: &DataPlan| {
            let order = match store {
                RowStore::Memory(_) => Arc::new(plan.permutation(epoch)?),
                RowStore::Windows(_) => Arc::default(),
            };
            let (store, plan) = (store.clone(), plan.clone());
            let (runtime, stop) = (self.runtime.clone(), self.stop.clone());
            Ok::<_, TrainingError>(move |lane| {
                open_feed(&store, &plan, epoch, lane, &order, &runtime, &stop)
            })
        };
        let train = feeds(&self.rows, &share.plan)?;
        match (&self.validation_rows, &share.validation) {
            (Some(store), Some(plan)) => self.crew.begin_epoch(train, feeds(store, plan)?),
            _ => self.crew.begin_epoch(train, |_| Ok(LaneFeed::None)),
        }
    }

    /// Joins all lanes' sums on worker 0, which writes history and decides whether to go on.
    fn close_epoch(
        &mut self,
        epoch: u32,
        total_step: u64,
        trained: Duration,
        began: Instant,
    ) -> Result<EpochVerdict, TrainingError> {
        let mut report = self.crew.end_epoch();
        if self.crew.share.worker != 0 {
            let Some(exchange) = &mut self.exchange else {
                return Err(TrainingError::Internal {
                    reason: "a worker has no link to worker 0".into(),
                });
            };
            let verdict = exchange.report(total_step, report::encode(&report));
            let verdict = unless_stopped(self.runtime, self.stop, verdict)?;
            let flow = match verdict.as_slice() {
                [go_on, rate_scale] if *go_on > 0.0 => {
                    self.rate_scale = *rate_scale;
                    ControlFlow::Continue(())
                }
                _ => ControlFlow::Break(()),
            };
            return Ok(EpochVerdict { row: None, flow });
        }
        if let Some(exchange) = &mut self.exchange {
            let reports =
                unless_stopped(self.runtime, self.stop, exchange.take_reports(total_step))?;
            for bytes in reports {
                report.extend(report::decode(&bytes)?);
            }
        }
        if report.len() != self.crew.share.lanes as usize {
            return Err(TrainingError::Internal {
                reason: format!(
                    "{} lanes reported of {}",
                    report.len(),
                    self.crew.share.lanes
                ),
            });
        }
        let row = self.history_row(&report, epoch, total_step, trained, began)?;
        let mut flow = ControlFlow::Continue(());
        if let Some(stopping) = &mut self.early_stopping {
            let value = row.get(&stopping.rule().monitor).copied().flatten();
            let verdict = stopping.observe(value.unwrap_or(f64::NAN));
            if verdict.improved && stopping.rule().restore_best_weights {
                self.best = Some((self.crew.values(), row.clone()));
            }
            if verdict.stop {
                flow = ControlFlow::Break(());
            }
        }
        if let Some(plateau) = &mut self.plateau {
            let value = row.get(&plateau.rule().monitor).copied().flatten();
            let optimizer = &self.crew.share.optimizer;
            let scheduled = optimizer.learning_rate(total_step, u64::from(epoch));
            plateau.observe(value.unwrap_or(f64::NAN), scheduled);
            self.rate_scale = plateau.scale();
        }
        if let Some(exchange) = &mut self.exchange {
            let go_on = if flow.is_continue() { 1.0 } else { 0.0 };
            let answer = [go_on, self.rate_scale];
            unless_stopped(
                self.runtime,
                self.stop,
                exchange.answer_reports(total_step, &answer),
            )?;
        }
        let news = WorkerNews::Epoch {
            epoch: epoch + 1,
            step: total_step,
            rows: u64::from(epoch + 1) * self.crew.share.plan.rows(),
            row: row.clone(),
        };
        let _ = self.news.blocking_send(news);
        Ok(EpochVerdict {
            row: Some(row),
            flow,
        })
    }

    fn history_row(
        &self,
        report: &report::EpochReport,
        epoch: u32,
        total_step: u64,
        trained: Duration,
        began: Instant,
    ) -> Result<HistoryRow, TrainingError> {
        let share = &self.crew.share;
        let merged = report::merge(report)?;
        let rows = share.plan.rows() as f64;
        let known = |value: f64| (!value.is_nan()).then_some(value);
        let mut row = HistoryRow::new();
        let mut put = |name: &str, value: f64| {
            row.insert(name.to_owned(), known(value));
        };
        put("epoch", f64::from(epoch + 1));
        put("loss", merged.loss_sum / rows);
        put("seconds", began.elapsed().as_secs_f64());
        put("rows_per_second", rows / trained.as_secs_f64().max(1e-9));
        let learning_rate = self.learning_rate(total_step, u64::from(epoch));
        put("learning_rate", f64::from(learning_rate));
        let objectives = &share.objectives;
        for (number, sum) in merged.output_losses.iter().enumerate() {
            put(&objectives.column(number, &Metric::loss()), sum / rows);
        }
        for (name, value) in objectives.values(&merged.train, false) {
            put(&name, value);
        }
        if !merged.validation.is_empty() {
            for (name, value) in objectives.values(&merged.validation, true) {
                put(&format!("val_{name}"), value);
            }
        }
        Ok(row)
    }

    /// Weights that are no numbers end the job now rather than in a model.
    fn check_finite(&self, epoch: u32, total_step: u64) -> Result<(), TrainingError> {
        if self.crew.is_finite() {
            return Ok(());
        }
        let model = &self.crew.share.model;
        let values = self.crew.values();
        let (parameters, statistics) = values.split_at(model.parameter_len());
        let arrays = |infos: &[ParameterInfo], values: &[f32]| {
            let broken = |info: &&ParameterInfo| {
                !values[info.offset..info.offset + info.len()]
                    .iter()
                    .all(|value| value.is_finite())
            };
            infos.iter().find(broken).map(|info| info.name.clone())
        };
        let name = arrays(model.parameters(), parameters)
            .or_else(|| arrays(model.statistics(), statistics))
            .unwrap_or_default();
        Err(TrainingError::NotFinite {
            loss: f32::NAN,
            epoch: epoch + 1,
            step: total_step,
            origin: format!("the array {name:?} after the last update"),
        })
    }

    fn tell_progress(&mut self, epoch: u32, step: u64, total_step: u64, began: Instant) {
        if self.crew.share.worker != 0 || self.told.elapsed() < PROGRESS_EVERY {
            return;
        }
        self.told = Instant::now();
        let plan = &self.crew.share.plan;
        let rows = plan.minibatch(step).end;
        // A coordinator that is behind misses a line of progress, and nothing else.
        let _ = self.news.try_send(WorkerNews::Progress {
            epoch,
            step: total_step,
            rows: u64::from(epoch) * plan.rows() + rows,
            rows_per_second: rows as f64 / began.elapsed().as_secs_f64().max(1e-9),
            loss: self.crew.running_loss(),
        });
    }

    fn barrier(&self) -> Result<(), TrainingError> {
        if self.crew.barrier.wait() {
            Ok(())
        } else {
            Err(TrainingError::Cancelled)
        }
    }
}

/// The arrays whose gradients are dense, in their order in the flat vector.
fn arrays(model: &Model) -> ArrayBlocks {
    let dense = model.parameters().iter();
    let dense = dense.filter(|info| info.offset >= model.sparse_len());
    ArrayBlocks::new(dense.map(ParameterInfo::len))
}

struct EpochVerdict {
    row: Option<HistoryRow>,
    flow: ControlFlow<()>,
}

async fn load(rows: &RowsOfJob, at_a_time: usize) -> Result<RowStore, TrainingError> {
    Ok(if rows.cached {
        RowStore::Memory(Arc::new(read_all(rows.source.as_ref(), at_a_time).await?))
    } else {
        RowStore::Windows(Arc::clone(&rows.source))
    })
}

/// Waits on this thread for work of the runtime, unless the job is stopped first.
fn unless_stopped<T>(
    runtime: &Handle,
    stop: &CancellationToken,
    work: impl Future<Output = Result<T, TrainingError>>,
) -> Result<T, TrainingError> {
    runtime.block_on(async {
        tokio::select! {
            biased;
            () = stop.cancelled() => Err(TrainingError::Cancelled),
            outcome = work => outcome,
        }
    })
}
