//! How many jobs of one kind run at once on one server, and how many may wait.
//!
//! First come, first served. Knows nothing of what a job does.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The places of one server for one kind of job.
#[derive(Debug)]
pub struct Admission {
    waiting_max: usize,
    places: Arc<Semaphore>,
    turns: Arc<Semaphore>,
}

/// A job's right to wait and then to run; given back when dropped.
#[derive(Debug)]
pub struct Place {
    _place: OwnedSemaphorePermit,
    turns: Arc<Semaphore>,
}

/// A job's right to run, which it does until this is dropped.
#[derive(Debug)]
pub struct Turn {
    /// The semaphore is never closed, so there always is one.
    _turn: Option<OwnedSemaphorePermit>,
}

/// So many jobs wait already that one more is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full {
    pub waiting: usize,
}

impl Admission {
    pub fn new(running_max: usize, waiting_max: usize) -> Self {
        Self {
            waiting_max,
            places: Arc::new(Semaphore::new(running_max + waiting_max)),
            turns: Arc::new(Semaphore::new(running_max)),
        }
    }

    /// A place for one more job, or a refusal when too many wait already.
    pub fn admit(&self) -> Result<Place, Full> {
        match Arc::clone(&self.places).try_acquire_owned() {
            Ok(place) => Ok(Place {
                _place: place,
                turns: Arc::clone(&self.turns),
            }),
            Err(_) => Err(Full {
                waiting: self.waiting_max,
            }),
        }
    }
}

impl Place {
    /// Resolves when the job may run. Turns come in the order of asking.
    pub async fn turn(&self) -> Turn {
        Turn {
            _turn: Arc::clone(&self.turns).acquire_owned().await.ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn jobs_beyond_the_running_wait_in_order() {
        let admission = Admission::new(2, 64);
        let running = [admission.admit().unwrap(), admission.admit().unwrap()];
        let first = running[0].turn().await;
        let _second = running[1].turn().await;
        let waiting = [admission.admit().unwrap(), admission.admit().unwrap()];
        let mut third = waiting[0].turn().boxed();
        let mut fourth = waiting[1].turn().boxed();
        assert!((&mut third).now_or_never().is_none());
        assert!((&mut fourth).now_or_never().is_none());
        drop(first);
        assert!((&mut fourth).now_or_never().is_none());
        assert!(third.now_or_never().is_some());
    }

    #[test]
    fn jobs_beyond_the_queue_are_refused_until_one_ends() {
        let admission = Admission::new(2, 5);
        let mut places: Vec<_> = (0..7).map(|_| admission.admit().unwrap()).collect();
        assert_eq!(admission.admit().unwrap_err(), Full { waiting: 5 });
        places.pop();
        admission.admit().unwrap();
    }
}
