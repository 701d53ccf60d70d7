//! How many jobs of one server train at once, and how many may wait.

use super::TrainingError;
use crate::support::admission;

pub(crate) use crate::support::admission::Place;

/// Most jobs that train at once on the server they were submitted to; they share its cache in equal parts.
pub(crate) const RUNNING_MAX: usize = 2;

/// Most jobs that wait for their turn.
const QUEUED_MAX: usize = 64;

/// The places of one server.
#[derive(Debug)]
pub(crate) struct Admission(admission::Admission);

impl Default for Admission {
    fn default() -> Self {
        Self(admission::Admission::new(RUNNING_MAX, QUEUED_MAX))
    }
}

impl Admission {
    /// A place for one more job, or a refusal when too many wait already.
    pub(crate) fn admit(&self) -> Result<Place, TrainingError> {
        self.0.admit().map_err(|full| TrainingError::TooManyJobs {
            waiting: full.waiting,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::fault::{Fault, Faulty};

    #[test]
    fn a_job_too_many_is_refused_with_how_many_wait() {
        let admission = Admission::default();
        let _places: Vec<_> = (0..RUNNING_MAX + QUEUED_MAX)
            .map(|_| admission.admit().unwrap())
            .collect();
        let refused = admission.admit().unwrap_err();
        assert_eq!(refused.fault(), Fault::ResourceExhausted);
        assert!(
            refused.to_string().contains("64 training jobs wait"),
            "{refused}"
        );
    }
}
