//! Training samples per second of the census-size MLP (108-128-64-1, Adam) on two threads, without data loading or network:
//! lanes, their fixed tree of sums, sharded update. `benches/peers/torch_mlp.py` is the same in PyTorch.
//!
//! Arguments: batch size, seconds, threads (1 or 2), "explain" for the plan. Prints samples per second of the clock, and on one
//! thread per second of processor time too, which a busy machine disturbs less. "Best" is the fastest run of 8 steps.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use serde_json::json;
use volary::nn::{
    FeatureColumn, FeatureKind, InputData, LaneBatch, LaneTrainer, Loss, Model, ModelSpec, StepKey,
};
use volary::optim::{Optimizer, OptimizerSpec};
use volary::support::random::{Purpose, RandomKey};
use volary::tensor::kernels::reduce::accumulate;

const WIDTH: usize = 108;

fn main() {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
    let number = |index: usize, default: f64| {
        arguments
            .get(index)
            .and_then(|text| text.parse().ok())
            .unwrap_or(default)
    };
    let (batch, seconds) = (number(0, 256.0) as usize, number(1, 2.0));
    let lanes = (0..=4)
        .rev()
        .map(|power| 1usize << power)
        .find(|lanes| batch / lanes >= 32)
        .unwrap_or(1);
    let threads = number(2, 2.0).clamp(1.0, 2.0) as usize;
    if arguments.get(3).is_some_and(|text| text == "explain") {
        println!(
            "{}",
            LaneTrainer::new(Arc::new(model()), Loss::BinaryCrossentropy)
                .unwrap()
                .describe(batch / lanes)
                .unwrap()
        );
    }
    run(batch, lanes.max(threads), threads, seconds);
}

/// One thread's places: its lanes' gradients, its half of the sums.
struct Shared {
    parameters: Vec<f32>,
    gradients: Vec<Vec<f32>>,
    slots: Vec<Vec<Vec<f32>>>,
}

struct SharedPointer(*mut Shared);
// SAFETY: threads write apart from each other between barriers (see `run`).
unsafe impl Sync for SharedPointer {}

fn run(batch: usize, lanes: usize, threads: usize, seconds: f64) {
    let model = Arc::new(model());
    let optimizer = Optimizer::build(&OptimizerSpec::from_json(&json!("adam")).unwrap()).unwrap();
    let mut stream = RandomKey::of(1, 0).stream(Purpose::Test);
    let batches = 16;
    let features: Vec<f32> = (0..batches * batch * WIDTH)
        .map(|_| stream.normal() as f32)
        .collect();
    let target: Vec<f32> = (0..batches * batch)
        .map(|_| stream.below(2) as f32)
        .collect();
    let len = model.parameter_len();
    let half = if threads == 1 { len } else { len / 2 };
    let mut shared = Shared {
        parameters: model.initial_parameters(1),
        gradients: vec![vec![0.0; len]; lanes],
        slots: (0..threads)
            .map(|thread| vec![vec![0.0; if thread == 0 { half } else { len - half }]; 2])
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
            let (model, optimizer, pointer, barrier, stop, steps_done) =
                (&model, &optimizer, &pointer, &barrier, &stop, &steps_done);
            let (processor_ns, best_ns) = (&processor_ns, &best_ns);
            let (features, target) = (&features, &target);
            scope.spawn(move || {
                let mut trainer =
                    LaneTrainer::new(Arc::clone(model), Loss::BinaryCrossentropy).unwrap();
                let rows = batch / lanes;
                let mine = lanes / threads;
                let mut inputs: Vec<InputData<'_>> = vec![InputData::Float32(&[])];
                let mut step = 0;
                let mut window = Instant::now();
                while stop.load(Ordering::Relaxed) == 0 {
                    // SAFETY: parameters are only read here, and each thread writes its own lanes' gradients.
                    let (parameters, gradients) = unsafe {
                        (
                            &(*pointer.0).parameters,
                            (*pointer.0).gradients.as_mut_ptr(),
                        )
                    };
                    for lane in thread * mine..(thread + 1) * mine {
                        let first = (step % batches) * batch + lane * rows;
                        inputs[0] =
                            InputData::Float32(&features[first * WIDTH..(first + rows) * WIDTH]);
                        let batch_rows = LaneBatch {
                            rows,
                            inputs,
                            target: &target[first..first + rows],
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
                            .step(
                                parameters,
                                &[],
                                &batch_rows,
                                &key,
                                batch as f32,
                                gradient,
                                &mut [],
                            )
                            .unwrap();
                        inputs = batch_rows.inputs;
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
                            (*pointer.0).parameters.as_mut_ptr().add(range.start),
                            range.len(),
                        );
                        let slots = &mut *(*pointer.0).slots.as_mut_ptr().add(thread);
                        optimizer.update(step as u64 + 1, 1e-3, shard, left, slots);
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

fn model() -> Model {
    let json = json!({"format_version": 1, "name": "census", "layers": [
        {"name": "features", "layer": "Input"},
        {"name": "dense", "layer": "Dense", "config": {"units": 128, "activation": "relu"}, "inputs": ["features"]},
        {"name": "dense_1", "layer": "Dense", "config": {"units": 64, "activation": "relu"}, "inputs": ["dense"]},
        {"name": "dense_2", "layer": "Dense", "config": {"units": 1, "activation": "sigmoid"}, "inputs": ["dense_1"]},
    ], "outputs": ["dense_2"]});
    let features = [FeatureColumn {
        name: "features".to_string(),
        width: WIDTH,
        kind: FeatureKind::Float,
    }];
    Model::build(&ModelSpec::from_json(&json).unwrap(), &features).unwrap()
}
