//! Samples per second of one model on one or two threads, without data loading or network: lanes, their fixed tree of sums,
//! sharded update; or prediction. `benches/peers/torch_engine.py` is the same in PyTorch.
//!
//! Arguments: a file with the workload (`benches/workloads.py` writes it), batch size, seconds, threads (1 or 2), "train",
//! "predict" or "explain" for the plan, and lanes (0: as many as a job has by default). Prints samples per second of the clock, and on one thread per second of processor time
//! too, which a busy machine disturbs less. "Best" is the fastest run of 8 steps.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use serde_json::{Value, json};
use volary::nn::{
    FeatureColumn, FeatureKind, InputData, LaneBatch, LaneTrainer, Loss, Model, ModelSpec,
    Predictor, StepKey,
};
use volary::optim::{Optimizer, OptimizerSpec, TableRows};
use volary::support::random::{Purpose, RandomKey};
use volary::tensor::kernels::reduce::accumulate;
use volary::tensor::row_sums::{KnownRows, RowSums, within};

/// Minibatches of random rows that are gone through in turn.
const BATCHES: usize = 16;

fn main() {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
    let [file, rest @ ..] = arguments.as_slice() else {
        println!(
            "engine WORKLOAD.json [BATCH] [SECONDS] [THREADS] [train|predict|explain] [LANES]"
        );
        return;
    };
    let number = |index: usize, default: f64| {
        rest.get(index)
            .and_then(|text| text.parse().ok())
            .unwrap_or(default)
    };
    let (batch, seconds) = (number(0, 64.0) as usize, number(1, 2.0));
    let threads = number(2, 1.0).clamp(1.0, 2.0) as usize;
    let workload = Workload::read(file, batch);
    let by_default = (0..=4)
        .rev()
        .map(|power| 1usize << power)
        .find(|lanes| batch / lanes >= 32)
        .unwrap_or(1);
    let lanes = match number(4, 0.0) as usize {
        0 => by_default.max(threads),
        lanes => lanes,
    };
    match rest.get(3).map_or("train", String::as_str) {
        "explain" => println!("{}", workload.trainer().describe(batch / lanes).unwrap()),
        "predict" => predict(&workload, threads, seconds),
        _ => train(&workload, lanes, threads, seconds),
    }
}

/// A model, what it learns from, and random rows of the right shapes.
struct Workload {
    model: Arc<Model>,
    loss: Loss,
    batch: usize,
    /// Numbers of one row, per input.
    widths: Vec<usize>,
    inputs: Vec<Numbers>,
    target: Vec<f32>,
    target_width: usize,
}

enum Numbers {
    Float32(Vec<f32>),
    Int32(Vec<i32>),
}

impl Numbers {
    fn rows(&self, first: usize, rows: usize, width: usize) -> InputData<'_> {
        let range = first * width..(first + rows) * width;
        match self {
            Numbers::Float32(values) => InputData::Float32(&values[range]),
            Numbers::Int32(values) => InputData::Int32(&values[range]),
        }
    }
}

impl Workload {
    fn read(file: &str, batch: usize) -> Self {
        let text = std::fs::read(file).unwrap_or_else(|error| panic!("{file}: {error}"));
        let json: Value = serde_json::from_slice(&text).unwrap();
        let mut stream = RandomKey::of(1, 0).stream(Purpose::Test);
        let rows = BATCHES * batch;
        let (mut features, mut widths, mut inputs) = (Vec::new(), Vec::new(), Vec::new());
        for input in json["inputs"].as_array().unwrap() {
            let width = input["width"].as_u64().unwrap() as usize;
            let below = input["below"].as_u64();
            features.push(FeatureColumn {
                name: input["name"].as_str().unwrap().to_string(),
                width,
                kind: if below.is_some() {
                    FeatureKind::Integer
                } else {
                    FeatureKind::Float
                },
            });
            widths.push(width);
            inputs.push(match below {
                Some(below) => Numbers::Int32(
                    (0..rows * width)
                        .map(|_| stream.below(below) as i32)
                        .collect(),
                ),
                None => {
                    Numbers::Float32((0..rows * width).map(|_| stream.normal() as f32).collect())
                }
            });
        }
        let model =
            Model::build(&ModelSpec::from_json(&json["model"]).unwrap(), &features).unwrap();
        let loss = Loss::parse(json["loss"].as_str().unwrap()).unwrap();
        let target_width = json["target_width"].as_u64().unwrap() as usize;
        let classes = json["classes"].as_u64();
        let target = (0..rows * target_width)
            .map(|_| match classes {
                Some(classes) => stream.below(classes) as f32,
                None => stream.normal() as f32,
            })
            .collect();
        Workload {
            model: Arc::new(model),
            loss,
            batch,
            widths,
            inputs,
            target,
            target_width,
        }
    }

    fn trainer(&self) -> LaneTrainer {
        LaneTrainer::new(Arc::clone(&self.model), self.loss.clone()).unwrap()
    }

    fn inputs(&self, first: usize, rows: usize) -> Vec<InputData<'_>> {
        let numbers = self.inputs.iter().zip(&self.widths);
        numbers
            .map(|(numbers, &width)| numbers.rows(first, rows, width))
            .collect()
    }

    fn target(&self, first: usize, rows: usize) -> &[f32] {
        &self.target[first * self.target_width..(first + rows) * self.target_width]
    }
}

fn predict(workload: &Workload, threads: usize, seconds: f64) {
    let (parameters, statistics) = (
        workload.model.initial_parameters(1),
        workload.model.initial_statistics(),
    );
    let done = AtomicUsize::new(0);
    let start = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (done, parameters, statistics) = (&done, &parameters, &statistics);
            scope.spawn(move || {
                let mut predictor = Predictor::new(Arc::clone(&workload.model));
                let mut round = thread;
                while start.elapsed().as_secs_f64() < seconds {
                    let inputs = workload.inputs(round % BATCHES * workload.batch, workload.batch);
                    predictor
                        .predict(parameters, statistics, workload.batch, &inputs)
                        .unwrap();
                    done.fetch_add(workload.batch, Ordering::Relaxed);
                    round += 1;
                }
            });
        }
    });
    let samples = done.load(Ordering::Relaxed) as f64;
    println!(
        "{:.0} samples/s predicted, at batch {} on {threads} threads",
        samples / start.elapsed().as_secs_f64(),
        workload.batch
    );
}

/// One thread's places: its lanes' gradients, its half of the sums.
struct Shared {
    parameters: Vec<f32>,
    gradients: Vec<Vec<f32>>,
    slots: Vec<Vec<Vec<f32>>>,
    /// Each thread's lists of the rows of each sparse table, and the slots of the rows that it updates.
    lists: Vec<Vec<RowSums>>,
    row_slots: Vec<Vec<Vec<Vec<f32>>>>,
}

/// A thread's rows of a table.
fn own_rows(rows: usize, threads: usize, thread: usize) -> std::ops::Range<u32> {
    (rows * thread / threads) as u32..(rows * (thread + 1) / threads) as u32
}

struct SharedPointer(*mut Shared);
// SAFETY: threads write apart from each other between barriers (see `run`).
unsafe impl Sync for SharedPointer {}

fn train(workload: &Workload, lanes: usize, threads: usize, seconds: f64) {
    let (model, batch) = (&workload.model, workload.batch);
    let optimizer = Optimizer::build(&OptimizerSpec::from_json(&json!("adam")).unwrap()).unwrap();
    let statistics = model.initial_statistics();
    let (tables, tables_len) = (model.sparse_tables(), model.sparse_len());
    let len = model.parameter_len() - tables_len;
    let half = if threads == 1 { len } else { len / 2 };
    let mut shared = Shared {
        parameters: model.initial_parameters(1),
        gradients: vec![vec![0.0; len]; lanes],
        slots: (0..threads)
            .map(|thread| vec![vec![0.0; if thread == 0 { half } else { len - half }]; 2])
            .collect(),
        lists: (0..threads)
            .map(|_| tables.iter().map(|t| RowSums::new(t.width)).collect())
            .collect(),
        row_slots: (0..threads)
            .map(|thread| {
                let of_table = tables.iter().map(|table| {
                    let rows = own_rows(table.rows, threads, thread);
                    optimizer.first_row_slots(rows.len() * table.width)
                });
                of_table.collect()
            })
            .collect(),
    };
    let pointer = SharedPointer(&mut shared);
    let barrier = Barrier {
        threads,
        arrived: AtomicUsize::new(0),
        round: AtomicUsize::new(0),
    };
    let stop = AtomicUsize::new(0);
    let steps_done = AtomicUsize::new(0);
    let best_ns = AtomicUsize::new(usize::MAX);
    let processor_ns = AtomicUsize::new(0);
    let start = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (optimizer, pointer, barrier, stop, steps_done) =
                (&optimizer, &pointer, &barrier, &stop, &steps_done);
            let (processor_ns, best_ns, statistics) = (&processor_ns, &best_ns, &statistics);
            scope.spawn(move || {
                let mut trainer = workload.trainer();
                let mut statistics_out = statistics.clone();
                let rows = batch / lanes;
                let mine = lanes / threads;
                let mut step = 0;
                let mut scratch = Vec::new();
                let mut window = Instant::now();
                while stop.load(Ordering::Relaxed) == 0 {
                    // SAFETY: parameters are only read here, and each thread writes its own lanes' gradients.
                    let (parameters, gradients) = unsafe {
                        (
                            &(*pointer.0).parameters,
                            (*pointer.0).gradients.as_mut_ptr(),
                        )
                    };
                    // SAFETY: a thread's lists are its own until the barrier.
                    let lists = unsafe { &mut *(*pointer.0).lists.as_mut_ptr().add(thread) };
                    lists.iter_mut().for_each(RowSums::clear);
                    for lane in thread * mine..(thread + 1) * mine {
                        let first = (step % BATCHES) * batch + lane * rows;
                        let batch_rows = LaneBatch {
                            rows,
                            inputs: workload.inputs(first, rows),
                            target: workload.target(first, rows),
                            weights: None,
                        };
                        let key = StepKey {
                            seed: 1,
                            epoch: 0,
                            step: step as u64,
                            lane: lane as u32,
                        };
                        // SAFETY: a lane belongs to one thread until the barrier.
                        let gradient = unsafe { &mut *gradients.add(lane) };
                        trainer
                            .step_with_tables(
                                parameters,
                                statistics,
                                &batch_rows,
                                &key,
                                batch as f32,
                                gradient,
                                &mut statistics_out,
                                lists,
                            )
                            .unwrap();
                        // The tree's sums that this lane completes, while both sides are in the cache.
                        let (place, mut width) = (lane - thread * mine, 1);
                        while width < mine && place & width != 0 {
                            // SAFETY: both lanes belong to this thread, and they differ.
                            let (left, right) = unsafe {
                                (
                                    &mut *gradients.add(lane + 1 - 2 * width),
                                    &*gradients.add(lane + 1 - width),
                                )
                            };
                            accumulate(left, right);
                            lists.iter_mut().for_each(RowSums::join);
                            width *= 2;
                        }
                    }
                    barrier.wait();
                    // SAFETY: each thread writes its own shard of the parameters; gradients are only read across shards.
                    unsafe {
                        let range = if thread == 0 { 0..half } else { half..len };
                        let left = std::slice::from_raw_parts_mut(
                            (*gradients).as_mut_ptr().add(range.start),
                            range.len(),
                        );
                        let right = std::slice::from_raw_parts(
                            (*gradients.add(mine % lanes)).as_ptr().add(range.start),
                            range.len(),
                        );
                        if threads == 2 {
                            accumulate(left, right);
                        }
                        let shard = std::slice::from_raw_parts_mut(
                            (*pointer.0)
                                .parameters
                                .as_mut_ptr()
                                .add(tables_len + range.start),
                            range.len(),
                        );
                        let slots = &mut *(*pointer.0).slots.as_mut_ptr().add(thread);
                        optimizer.update(step as u64 + 1, 1e-3, shard, left, slots);
                        // Each thread finishes the tree over its own rows and writes them; lists are only read.
                        let update = optimizer.row_update(step as u64 + 1, 1e-3);
                        for (index, table) in tables.iter().enumerate() {
                            let rows = own_rows(table.rows, threads, thread);
                            let all_lists = (&raw const (*pointer.0).lists).as_ref().unwrap();
                            let mut known: Vec<KnownRows<'_>> = all_lists
                                .iter()
                                .enumerate()
                                .map(|(other, tables)| {
                                    let list = &tables[index].lists()[0];
                                    KnownRows {
                                        node: (threads + other) as u32,
                                        entries: &list[within(list, &rows)],
                                        values: tables[index].values(),
                                    }
                                })
                                .collect();
                            let own = std::slice::from_raw_parts_mut(
                                (*pointer.0)
                                    .parameters
                                    .as_mut_ptr()
                                    .add(table.offset + rows.start as usize * table.width),
                                rows.len() * table.width,
                            );
                            let slots =
                                &mut (&mut *(*pointer.0).row_slots.as_mut_ptr().add(thread))[index];
                            let own = TableRows {
                                first: rows.start,
                                width: table.width,
                                values: own,
                                slots,
                            };
                            update.update_rows(own, lanes as u32, &mut known, &mut scratch, |_| {});
                        }
                    }
                    step += 1;
                    if thread == 0 {
                        if step % 8 == 0 {
                            best_ns
                                .fetch_min(window.elapsed().as_nanos() as usize, Ordering::Relaxed);
                            window = Instant::now();
                        }
                        steps_done.store(step, Ordering::Relaxed);
                        if start.elapsed().as_secs_f64() > seconds {
                            stop.store(1, Ordering::Relaxed);
                        }
                    }
                    barrier.wait();
                }
                // First number: nanoseconds this thread has run.
                let text =
                    std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
                let ran = text
                    .split(' ')
                    .next()
                    .and_then(|number| number.parse().ok())
                    .unwrap_or(0);
                processor_ns.fetch_add(ran, Ordering::Relaxed);
            });
        }
    });
    assert!(shared.parameters.iter().all(|value| value.is_finite()));
    let samples = (steps_done.load(Ordering::Relaxed) * batch) as f64;
    let processor = processor_ns.load(Ordering::Relaxed) as f64 / 1e9;
    println!(
        "{:.0} samples/s, best {:.0}, {:.0} per processor second, at batch {batch} in {lanes} lanes on {threads} threads",
        samples / start.elapsed().as_secs_f64(),
        (8 * batch) as f64 * 1e9 / best_ns.load(Ordering::Relaxed) as f64,
        samples / processor
    );
}

/// A barrier that spins: a step is shorter than a sleep and a wake.
struct Barrier {
    threads: usize,
    arrived: AtomicUsize,
    round: AtomicUsize,
}

impl Barrier {
    fn wait(&self) {
        let round = self.round.load(Ordering::Acquire);
        if self.arrived.fetch_add(1, Ordering::AcqRel) + 1 == self.threads {
            self.arrived.store(0, Ordering::Relaxed);
            self.round.store(round + 1, Ordering::Release);
            return;
        }
        let mut spins = 0u32;
        while self.round.load(Ordering::Acquire) == round {
            spins += 1;
            if spins > 10_000 {
                std::thread::yield_now()
            } else {
                std::hint::spin_loop()
            }
        }
    }
}
