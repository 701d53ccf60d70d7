//! Jobs that are to end when nobody cares for them any more: a notebook whose kernel was killed in the middle of a fit
//! leaves no job that trains for hours.
//!
//! A job asked for with a lease is cancelled when nobody has watched it or asked about it for that long. The length stands
//! in the job's journal. Only the server that drives a job knows how it is renewed: whoever asks elsewhere is passed on to
//! it; and when it is gone, other servers end the job (`training/left_overs.rs`).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::catalog::{JobBoard, JobId};

/// The leases of the jobs that this server drives. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Leases {
    held: Arc<Mutex<HashMap<JobId, Lease>>>,
}

#[derive(Debug)]
struct Lease {
    length: Duration,
    watchers: usize,
    /// When it ends, unless somebody watches.
    until: Instant,
}

impl Leases {
    /// Cancels `job` when nobody has held or touched its lease for as long as its terms say; nothing where they do not.
    pub(super) fn grant(&self, jobs: &Arc<JobBoard>, job: JobId) {
        let Some(mut live) = jobs.watch(job) else {
            return;
        };
        let length = Duration::from_secs(live.borrow().terms.lease_seconds.into());
        if length.is_zero() {
            return;
        }
        let until = Instant::now() + length;
        let lease = Lease {
            length,
            watchers: 0,
            until,
        };
        self.held.lock().insert(job, lease);
        let (leases, jobs) = (self.clone(), Arc::clone(jobs));
        tokio::spawn(async move {
            let ended = async {
                let _ = live.wait_for(|status| status.state.is_final()).await;
            };
            tokio::select! {
                () = ended => {}
                () = leases.abandoned(job) => {
                    tracing::info!(%job, seconds = length.as_secs(), "cancelling a job that nobody watches any more");
                    jobs.cancel(job);
                }
            }
            leases.held.lock().remove(&job);
        });
    }

    /// Somebody asked about the job.
    pub(super) fn touch(&self, job: JobId) {
        if let Some(lease) = self.held.lock().get_mut(&job) {
            lease.until = Instant::now() + lease.length;
        }
    }

    /// Somebody watches the job, until the answer is dropped.
    pub(super) fn hold(&self, job: JobId) -> Held {
        if let Some(lease) = self.held.lock().get_mut(&job) {
            lease.watchers += 1;
        }
        Held {
            leases: self.clone(),
            job,
        }
    }

    /// Waits until the job's lease has ended.
    async fn abandoned(&self, job: JobId) {
        loop {
            let wait = match self.held.lock().get(&job) {
                None => return,
                Some(lease) if lease.watchers > 0 => Instant::now() + lease.length,
                Some(lease) if lease.until <= Instant::now() => return,
                Some(lease) => lease.until,
            };
            tokio::time::sleep_until(wait).await;
        }
    }
}

/// One watcher of a job.
#[derive(Debug)]
pub(super) struct Held {
    leases: Leases,
    job: JobId,
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(lease) = self.leases.held.lock().get_mut(&self.job) {
            lease.watchers = lease.watchers.saturating_sub(1);
            lease.until = Instant::now() + lease.length;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leased(length: Duration) -> (Leases, JobId) {
        let (leases, job) = (Leases::default(), JobId::now_v7());
        let lease = Lease {
            length,
            watchers: 0,
            until: Instant::now() + length,
        };
        leases.held.lock().insert(job, lease);
        (leases, job)
    }

    /// Whether the lease has ended by now.
    async fn has_ended(leases: &Leases, job: JobId) -> bool {
        tokio::select! {
            biased;
            () = leases.abandoned(job) => true,
            () = std::future::ready(()) => false,
        }
    }

    #[tokio::test]
    async fn a_lease_lasts_while_somebody_watches_and_its_length_beyond() {
        let (leases, job) = leased(Duration::from_millis(20));
        let (mine, other) = (leases.hold(job), leases.hold(job));
        let later = Instant::now() + Duration::from_millis(60);
        tokio::time::sleep_until(later).await;
        assert!(!has_ended(&leases, job).await);
        drop(mine);
        assert!(!has_ended(&leases, job).await);
        drop(other);
        leases.abandoned(job).await;
        assert!(Instant::now() >= later + Duration::from_millis(20));
    }

    #[tokio::test]
    async fn asking_about_a_job_renews_its_lease() {
        let (leases, job) = leased(Duration::from_secs(3600));
        let before = leases.held.lock()[&job].until;
        tokio::task::yield_now().await;
        leases.touch(job);
        assert!(leases.held.lock()[&job].until > before);
        assert!(!has_ended(&leases, job).await);
    }
}
