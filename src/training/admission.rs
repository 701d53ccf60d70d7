//! How many jobs of one server train at once, and how many may wait.
//!
//! First come, first served. Knows nothing of what a job does.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::TrainingError;

/// Most jobs that train at once on the server they were submitted to; they share its cache in equal parts.
pub(crate) const RUNNING_MAX: usize = 2;

/// Most jobs that wait for their turn.
const QUEUED_MAX: usize = 64;

/// The places of one server.
#[derive(Debug)]
pub(crate) struct Admission {
    places: Arc<Semaphore>,
    turns: Arc<Semaphore>,
}

/// A job's right to wait and then to run; given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    _place: OwnedSemaphorePermit,
    turns: Arc<Semaphore>,
}

impl Default for Admission {
    fn default() -> Self {
        Self {
            places: Arc::new(Semaphore::new(RUNNING_MAX + QUEUED_MAX)),
            turns: Arc::new(Semaphore::new(RUNNING_MAX)),
        }
    }
}

impl Admission {
    /// A place for one more job, or a refusal when too many wait already.
    pub(crate) fn admit(&self) -> Result<Place, TrainingError> {
        let place = Arc::clone(&self.places).try_acquire_owned();
        Ok(Place {
            _place: place.map_err(|_| TrainingError::TooManyJobs {
                waiting: QUEUED_MAX,
            })?,
            turns: Arc::clone(&self.turns),
        })
    }
}

impl Place {
    /// Resolves when the job may run, which it does until the turn is dropped. Turns come in the order of asking.
    pub(crate) async fn turn(&self) -> Result<OwnedSemaphorePermit, TrainingError> {
        let turn = Arc::clone(&self.turns).acquire_owned().await;
        // The semaphore is never closed.
        turn.map_err(|_| TrainingError::Stopping)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;
    use crate::support::fault::{Fault, Faulty};

    #[tokio::test]
    async fn jobs_beyond_the_running_wait_in_order() {
        let admission = Admission::default();
        let running = [admission.admit().unwrap(), admission.admit().unwrap()];
        let first = running[0].turn().await.unwrap();
        let _second = running[1].turn().await.unwrap();
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
        let admission = Admission::default();
        let mut places: Vec<_> = (0..RUNNING_MAX + QUEUED_MAX)
            .map(|_| admission.admit().unwrap())
            .collect();
        let refused = admission.admit().unwrap_err();
        assert_eq!(refused.fault(), Fault::ResourceExhausted);
        places.pop();
        admission.admit().unwrap();
    }
}
