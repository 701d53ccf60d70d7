//! A crew of threads that compute a job's lanes together: a barrier that spins briefly and then parks, and the flat
//! vector they share.
//!
//! Knows no models and no servers. The only users of the vector's unsafe access are the phases in `step.rs`.

use std::cell::UnsafeCell;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// How long a thread spins at a barrier before it parks: about a tenth of a small model's step, so that the usual
/// wait is met spinning and a long one costs no core.
const SPIN: Duration = Duration::from_micros(40);

/// A barrier for a fixed number of threads, used again and again.
#[derive(Debug)]
pub(crate) struct Barrier {
    threads: usize,
    arrived: AtomicUsize,
    round: AtomicUsize,
    abandoned: AtomicBool,
    lock: Mutex<()>,
    opened: Condvar,
}

impl Barrier {
    pub(crate) fn new(threads: usize) -> Self {
        Self {
            threads,
            arrived: AtomicUsize::new(0),
            round: AtomicUsize::new(0),
            abandoned: AtomicBool::new(false),
            lock: Mutex::new(()),
            opened: Condvar::new(),
        }
    }

    /// Lets everybody go, now and at every later wait: the crew's work is over.
    pub(crate) fn abandon(&self) {
        {
            let _guard = self.lock.lock();
            self.abandoned.store(true, Ordering::Release);
        }
        self.opened.notify_all();
    }

    /// Returns when all threads have arrived; what they wrote before is seen by all of them after.
    /// False when the barrier was abandoned: the thread must leave.
    #[must_use]
    pub(crate) fn wait(&self) -> bool {
        let round = self.round.load(Ordering::Acquire);
        if self.arrived.fetch_add(1, Ordering::AcqRel) + 1 == self.threads {
            self.arrived.store(0, Ordering::Relaxed);
            {
                // Under the lock, so that no thread parks between its last look and the notification.
                let _guard = self.lock.lock();
                self.round.store(round.wrapping_add(1), Ordering::Release);
            }
            self.opened.notify_all();
            return !self.abandoned.load(Ordering::Acquire);
        }
        let still_closed = || {
            self.round.load(Ordering::Acquire) == round && !self.abandoned.load(Ordering::Acquire)
        };
        let began = Instant::now();
        while still_closed() {
            for _ in 0..32 {
                std::hint::spin_loop();
            }
            if began.elapsed() > SPIN {
                let mut guard = self.lock.lock();
                while still_closed() {
                    self.opened.wait(&mut guard);
                }
                break;
            }
        }
        !self.abandoned.load(Ordering::Acquire)
    }
}

/// A flat vector that all threads read in one phase of a step and write, each its own range, in another.
/// The barrier between the phases is what makes that sound; the callers uphold it.
pub(crate) struct SharedVector {
    values: Box<[UnsafeCell<f32>]>,
}

// SAFETY: access goes through `read` and `write`, whose callers promise that no range is written while it is read
// or written by another thread; floats have no ownership to lose.
unsafe impl Sync for SharedVector {}

impl std::fmt::Debug for SharedVector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SharedVector({} floats)", self.values.len())
    }
}

impl SharedVector {
    pub(crate) fn new(values: Vec<f32>) -> Self {
        Self {
            values: values.into_iter().map(UnsafeCell::new).collect(),
        }
    }

    /// The numbers of `range`.
    ///
    /// # Safety
    /// No thread may write into `range` while the slice lives: it is taken in a phase that only reads, or by the
    /// only thread that is between two barriers.
    pub(crate) unsafe fn read(&self, range: Range<usize>) -> &[f32] {
        let cells = &self.values[range];
        // SAFETY: `UnsafeCell<f32>` has the layout of `f32`; the caller promises that nobody writes.
        unsafe { std::slice::from_raw_parts(cells.as_ptr().cast::<f32>(), cells.len()) }
    }

    /// The numbers of `range`, to be changed.
    ///
    /// # Safety
    /// No other thread may read or write `range` while the slice lives, and the caller holds no other slice of it.
    #[allow(clippy::mut_from_ref)]
    pub(crate) unsafe fn write(&self, range: Range<usize>) -> &mut [f32] {
        let cells = &self.values[range];
        // SAFETY: `UnsafeCell::raw_get` gives a pointer that may be written; the caller promises exclusive access.
        unsafe { std::slice::from_raw_parts_mut(UnsafeCell::raw_get(cells.as_ptr()), cells.len()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_thread_wrote_before_the_barrier_all_read_after_it() {
        const THREADS: usize = 4;
        let barrier = Barrier::new(THREADS);
        let vector = SharedVector::new(vec![0.0; THREADS]);
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let (barrier, vector) = (&barrier, &vector);
                scope.spawn(move || {
                    for round in 1..=500 {
                        // SAFETY: each thread writes its own number; all read only after the barrier.
                        unsafe { vector.write(thread..thread + 1)[0] = round as f32 };
                        assert!(barrier.wait());
                        // SAFETY: nobody writes until the next barrier.
                        let seen = unsafe { vector.read(0..THREADS) };
                        assert!(seen.iter().all(|&value| value == round as f32));
                        assert!(barrier.wait());
                    }
                });
            }
        });
    }

    #[test]
    fn an_abandoned_barrier_lets_the_waiting_and_the_late_go() {
        let barrier = Barrier::new(3);
        std::thread::scope(|scope| {
            let early = scope.spawn(|| barrier.wait());
            barrier.abandon();
            assert!(!early.join().unwrap());
            assert!(!barrier.wait());
        });
    }
}
