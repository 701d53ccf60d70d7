//! Jobs whose server is gone: what was agreed of their end is kept to, and the end is written down.
//!
//! A server that starts ends the jobs that its earlier process was killed with. Other servers end the jobs of a server that
//! stays away, but only those of which something was agreed: of the others everybody says that they are lost, and membership
//! is no truth to write down for its own sake. All kinds of jobs: training has the view of the cluster, serving has none.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::StreamExt;
use tokio::time::{Instant, MissedTickBehavior};

use super::Training;
use super::rows::clean_up;
use crate::catalog::{JobId, JobStatus};
use crate::support::shutdown::Shutdown;

/// Jobs that are looked after at once.
const AT_ONCE: usize = 16;

/// How often the view of the cluster is looked at. The store is looked at when somebody is missed.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long a server must be away at least, and at least as long as the job's lease: it may be back, or never have been gone.
const AWAY_MIN: Duration = Duration::from_secs(10);

impl Training {
    /// For the start of a server: ends the jobs that an earlier process of its name was killed with, and removes the rows
    /// that they, and jobs that have ended, left staged. A store that refuses is logged; the server starts all the same.
    pub async fn end_left_overs(&self) {
        let jobs = &self.catalog.jobs;
        let listed = match jobs.list().await {
            Ok(listed) => listed,
            Err(error) => {
                tracing::warn!(%error, "jobs of an earlier run were not looked for");
                return;
            }
        };
        let ending = listed.into_iter().map(|status| async move {
            let left_over = jobs.is_left_over(&status);
            if (left_over || status.state.is_final()) && status.checkpoints.is_empty() {
                clean_up(status.id, &self.catalog).await;
            }
            // The rows first: a job that has ended is not expected to have any.
            if left_over {
                let id = status.id;
                match jobs.end_left_over(status).await {
                    Ok(()) => tracing::info!(job = %id, "a job of an earlier run has failed"),
                    Err(error) => tracing::warn!(job = %id, %error, "a job's end was not written"),
                }
            }
        });
        futures::stream::iter(ending)
            .buffer_unordered(AT_ONCE)
            .collect::<()>()
            .await;
    }

    /// Ends jobs of servers that stay away, until the shutdown begins.
    pub async fn keep_ending_lost(&self, shutdown: Shutdown) {
        let mut lost = Lost::default();
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.begun() => return,
                _ = looks.tick() => {}
            }
            let alive = self.network.alive();
            if lost.misses_somebody(&alive) {
                match self.catalog.jobs.list().await {
                    Ok(listed) => lost.find(listed, &alive, Instant::now()),
                    Err(error) => {
                        tracing::warn!(%error, "jobs of a lost server were not looked for");
                        // At the next look they are looked for again.
                        lost.alive = None;
                    }
                }
            }
            for missed in lost.due(&alive, Instant::now()) {
                self.end_lost(missed, &mut lost).await;
            }
        }
    }

    /// Ends the job, unless something says that its server lives although it is not seen: it answers at its address, or
    /// the journal has moved. Then the time counts anew.
    async fn end_lost(&self, missed: JobStatus, lost: &mut Lost) {
        let jobs = &self.catalog.jobs;
        let id = missed.id;
        let ended = async {
            // As it is by now: its server may have written its end before it went, or another one has.
            let status = jobs.status(id).await?;
            if status.state.is_final() {
                return Ok(false);
            }
            if status != missed || self.network.reaches(&status.coordinator).await {
                lost.miss(status, Instant::now());
                return Ok(false);
            }
            if status.checkpoints.is_empty() {
                clean_up(id, &self.catalog).await;
            }
            jobs.end_left_over(status).await.map(|()| true)
        };
        match ended.await {
            Ok(true) => tracing::info!(job = %id, "a job of a lost server has failed"),
            Ok(false) => {}
            Err(error) => tracing::warn!(job = %id, %error, "a lost job's end was not written"),
        }
    }
}

/// Jobs whose server is missed, and since when.
#[derive(Debug, Default)]
struct Lost {
    /// At the last look; `None` before the first.
    alive: Option<BTreeSet<String>>,
    /// Whoever was alive at any look. A server that was never seen may be of a cluster that this one has not joined.
    seen: BTreeSet<String>,
    jobs: BTreeMap<JobId, Missed>,
}

#[derive(Debug)]
struct Missed {
    /// As the journal had it when the time began to count.
    status: JobStatus,
    until: Instant,
}

impl Lost {
    /// Whether somebody of the last look is not alive any more; so it is before the first one.
    fn misses_somebody(&mut self, alive: &BTreeSet<String>) -> bool {
        self.seen.extend(alive.iter().cloned());
        let before = self.alive.replace(alive.clone());
        before.is_none_or(|before| !before.is_subset(alive))
    }

    /// Takes up the jobs of the store whose end was agreed of and whose server is not alive.
    fn find(&mut self, listed: Vec<JobStatus>, alive: &BTreeSet<String>, now: Instant) {
        for status in listed {
            let is_lost = !status.state.is_final()
                && !alive.contains(&status.coordinator)
                && self.seen.contains(&status.coordinator);
            let is_known = self.jobs.contains_key(&status.id);
            if is_lost && !is_known && !status.terms.is_default() {
                self.miss(status, now);
            }
        }
    }

    /// Counts the time of the job's server from now.
    fn miss(&mut self, status: JobStatus, now: Instant) {
        let lease = Duration::from_secs(status.terms.lease_seconds.into());
        let until = now + lease.max(AWAY_MIN);
        self.jobs.insert(status.id, Missed { status, until });
    }

    /// The jobs whose server has been away for long enough. One that is back takes its jobs back.
    fn due(&mut self, alive: &BTreeSet<String>, now: Instant) -> Vec<JobStatus> {
        self.jobs
            .retain(|_, missed| !alive.contains(&missed.status.coordinator));
        let due = self.jobs.extract_if(.., |_, missed| missed.until <= now);
        due.map(|(_, missed)| missed.status).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{Catalog, JobKind, JobTerms};

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn ids(due: Vec<JobStatus>) -> Vec<JobId> {
        due.into_iter().map(|status| status.id).collect()
    }

    #[tokio::test]
    async fn a_lost_job_is_due_when_its_server_has_stayed_away_for_its_lease_and_not_before() {
        let store = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(store.path().to_str().unwrap(), "a", 0).await;
        let jobs = catalog.unwrap().jobs;
        let agreed = |lease_seconds| JobTerms {
            lease_seconds,
            ..JobTerms::default()
        };
        let create = async |terms| jobs.create(JobKind::Train, "m", 1, terms).await.unwrap();
        let (short, long) = (create(agreed(1)).await, create(agreed(60)).await);
        let unagreed = create(JobTerms::default()).await;
        let listed = jobs.list().await.unwrap();
        assert_eq!(listed.len(), 3);

        let (both, other) = (names(&["a", "b"]), names(&["b"]));
        let now = Instant::now();
        // Another cluster over the same store never sees this one's servers, and leaves their jobs alone.
        let mut stranger = Lost::default();
        assert!(stranger.misses_somebody(&other));
        stranger.find(listed.clone(), &other, now);
        assert!(stranger.due(&other, now + AWAY_MIN * 100).is_empty());

        let mut lost = Lost::default();
        assert!(lost.misses_somebody(&both));
        lost.find(listed.clone(), &both, now);
        assert!(!lost.misses_somebody(&both));
        assert!(lost.due(&both, now + AWAY_MIN * 100).is_empty());

        assert!(lost.misses_somebody(&other));
        lost.find(listed.clone(), &other, now);
        assert!(lost.due(&other, now).is_empty());
        assert_eq!(ids(lost.due(&other, now + AWAY_MIN)), [short.id]);
        // It is back, and is lost again: the time is counted anew.
        assert!(lost.due(&both, now + AWAY_MIN).is_empty());
        assert!(!lost.misses_somebody(&both) && lost.misses_somebody(&other));
        let later = now + AWAY_MIN;
        lost.find(listed, &other, later);
        assert_eq!(ids(lost.due(&other, now + AWAY_MIN * 2)), [short.id]);
        assert!(lost.due(&other, now + Duration::from_secs(60)).is_empty());
        let due = lost.due(&other, later + Duration::from_secs(60));
        assert_eq!(ids(due), [long.id]);
        drop((short, long, unagreed));
        jobs.settled().await;
    }
}
