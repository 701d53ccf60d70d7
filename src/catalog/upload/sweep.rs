//! Looks after uploads whose writers have gone: expires what is left alone, finishes commits that were decided, deletes
//! what no commit took, and forgets what ended long ago.
//!
//! And removes what writes of any kind left half-written when their server was killed: no record tells of those.
//!
//! Every server sweeps. Nothing here needs to be done by one alone: each step is decided in the store or may be repeated.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use uuid::Uuid;

use super::record::Ending;
use super::{UploadError, UploadId, Uploads};
use crate::catalog::CatalogError;
use crate::storage::{Path, TOUCH_EVERY};
use crate::support::shutdown::Shutdown;

/// How long the records of an upload that has ended are kept, so that who comes late is told how it ended.
const KEPT_AFTER_END: Duration = Duration::from_secs(24 * 3600);
/// An upload has its record so long after its id was made.
const BEGUN_WITHIN_MS: u64 = 60_000;
/// A file that is half written and has not been touched for so long has no writer any more.
pub(super) const ABANDONED_AFTER: Duration = TOUCH_EVERY.saturating_mul(60);
/// How often all folders are looked through for such files.
pub(super) const ABANDONED_SOUGHT_EVERY: Duration = Duration::from_secs(3600);
/// Where they may lie.
const WRITTEN_FOLDERS: [&str; 4] = ["datasets", "uploads", "models", "jobs"];
/// The longest and the shortest time between two sweeps.
pub(super) const SWEEP_EVERY_MAX: Duration = Duration::from_secs(60);
const SWEEP_EVERY_MIN: Duration = Duration::from_secs(1);

impl Uploads {
    /// Sweeps at once and then whenever something may be due, until the server stops.
    pub async fn keep_swept(self: Arc<Self>, shutdown: Shutdown) {
        loop {
            let wait = match self.sweep().await {
                Ok(due_ms) => Duration::from_millis(due_ms.saturating_sub(self.clock.now_ms())),
                Err(error) => {
                    tracing::warn!(%error, "uploads could not be looked after");
                    SWEEP_EVERY_MAX
                }
            };
            let wait = jittered(wait.clamp(SWEEP_EVERY_MIN, SWEEP_EVERY_MAX));
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.begun.notified() => {}
                () = shutdown.begun() => return,
            }
        }
    }

    /// Looks after every upload once; answers when something is due next. One that cannot be looked after is logged and
    /// left for the next time.
    pub async fn sweep(&self) -> Result<u64, UploadError> {
        self.remove_abandoned().await;
        let mut next = u64::MAX;
        let ids = self.records.ids().await?;
        let kept: HashSet<&UploadId> = ids.iter().collect();
        // Other servers forget, too.
        self.tidied.lock().retain(|id, _| kept.contains(id));
        self.tallies.lock().retain(|id, _| kept.contains(id));
        for id in ids {
            match self.look_after(id).await {
                Ok(due_ms) => next = next.min(due_ms),
                Err(error) => {
                    tracing::warn!(upload = %id, %error, "an upload could not be looked after");
                }
            }
        }
        Ok(next)
    }

    /// Removes what is half written and has no writer; at most once an hour, which nobody waits for.
    async fn remove_abandoned(&self) {
        let now_ms = self.clock.now_ms();
        {
            let mut due_ms = self.abandoned_due_ms.lock();
            if now_ms < *due_ms {
                return;
            }
            *due_ms = now_ms.saturating_add(milliseconds(ABANDONED_SOUGHT_EVERY));
        }
        let before_ms = now_ms.saturating_sub(milliseconds(ABANDONED_AFTER));
        let before = UNIX_EPOCH + Duration::from_millis(before_ms);
        let objects = &self.records.objects;
        for folder in WRITTEN_FOLDERS {
            let path = Path::from(folder);
            match objects.remove_abandoned(&path, before).await {
                Ok(0) => {}
                Ok(files) => {
                    tracing::info!(folder, files, "removed what was half written and abandoned")
                }
                Err(error) => tracing::warn!(folder, %error, "half-written files are left"),
            }
        }
    }

    async fn look_after(&self, id: UploadId) -> Result<u64, UploadError> {
        let now = self.clock.now_ms();
        if let Some(due_ms) = self.tidied.lock().get(&id)
            && now < *due_ms
        {
            return Ok(*due_ms);
        }
        let standing = match self.standing(id).await {
            Ok(standing) => standing,
            Err(UploadError::Unknown { .. }) => {
                // One that begins at this moment has a folder before it has a record.
                let (seconds, _) = id.get_timestamp().map_or((0, 0), |time| time.to_unix());
                let young_until = seconds.saturating_mul(1000).saturating_add(BEGUN_WITHIN_MS);
                if now < young_until {
                    return Ok(young_until);
                }
                // A part that ended after the upload was forgotten may have left a note.
                self.records.forget(id).await?;
                return Ok(u64::MAX);
            }
            Err(error) => return Err(error),
        };
        let (record, Some(outcome)) = (&standing.record, &standing.outcome) else {
            return Ok(standing.expires_ms());
        };
        let due_ms = outcome.at_ms.saturating_add(milliseconds(KEPT_AFTER_END));
        let mut outcome = outcome.clone();
        if outcome.ending == Ending::Committed
            && let Err(error) = self.complete(id, record, &outcome, true).await
        {
            if now < due_ms || !is_refusal(&error) {
                return Err(error);
            }
            // In all this time the dataset existed, or had other columns: nothing of it counts any more.
            tracing::warn!(upload = %id, %error, "a commit could not be completed and is given up");
            outcome.parts.clear();
        }
        self.tidy(id, record, &outcome).await?;
        if now < due_ms {
            self.tidied.lock().insert(id, due_ms);
            return Ok(due_ms);
        }
        self.records.forget(id).await?;
        self.tidied.lock().remove(&id);
        tracing::info!(upload = %id, dataset = record.dataset, "forgot an upload that ended");
        Ok(u64::MAX)
    }
}

/// Whether a commit was refused for what stands in the store, and is certainly in no version.
fn is_refusal(error: &UploadError) -> bool {
    matches!(
        error,
        UploadError::Gone { .. }
            | UploadError::Catalog(
                CatalogError::DatasetExists { .. } | CatalogError::SchemaMismatch { .. }
            )
    )
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A time somewhat shorter or longer, so that servers started together do not sweep together.
fn jittered(wait: Duration) -> Duration {
    let share = Uuid::new_v4().as_u128() % 1024;
    let share = share as u32;
    wait * 3 / 4 + wait / 2 * share / 1024
}
