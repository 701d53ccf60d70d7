//! Uploads in parts: many writers, any servers, one commit.
//!
//! A writer begins an upload, sends parts to any servers in any order, and commits them at once as one version, in the
//! order it names. A part may be sent more than once (a task that is retried, or run twice to be faster): every attempt
//! of it that finishes is kept, and the commit takes one.
//!
//! All state is in the store (see `record`), so that any server takes any call. An upload ends once: commit, abort and
//! expiry are decided by who creates `outcome.json`. The files of parts lie in the dataset's folder, where the log that
//! names files does not name them before the commit.
//!
//! Knows what an upload is and when it ends; how files become a version, `dataset` knows.

mod commit;
mod error;
mod part;
mod record;
mod sweep;

pub use error::UploadError;
pub use part::PartWriter;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arrow::datatypes::SchemaRef;
use futures::{StreamExt as _, TryStreamExt as _};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use uuid::Uuid;

use super::name::check_name;
use super::{Datasets, WriteMode};
use crate::storage::Objects;
use crate::support::clock::Clock;
use error::moment;
use record::{AttemptRecord, Ending, OutcomeRecord, Records, UploadRecord};

/// UUID version 7: sorts by time.
pub type UploadId = Uuid;

/// Parts of one upload.
pub const PARTS_MAX: usize = 100_000;
/// Characters of a part's name.
pub const PART_CHARACTERS_MAX: usize = 128;
/// The longest time that an upload may be left alone.
pub const LIFETIME_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// The time after which an upload that is left alone expires, where its writer does not say.
const LIFETIME_DEFAULT: Duration = Duration::from_secs(3600);
/// A sign of the writer is written down when the last one is older than this share of the lifetime, and the lifetime is
/// longer by it: a thousand parts a minute are not a thousand notes.
const RENEWALS_PER_LIFETIME: u64 = 16;
/// Records read at once.
const READS_AT_ONCE: usize = 16;

/// One attempt of a part.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PartAttempt {
    pub part: String,
    pub attempt: u32,
}

/// An attempt of a part whose rows are durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FinishedPart {
    pub part: String,
    pub attempt: u32,
    pub rows: u64,
    pub bytes: u64,
}

impl FinishedPart {
    fn of(record: &AttemptRecord) -> Self {
        Self {
            part: record.part.clone(),
            attempt: record.attempt,
            rows: record.rows,
            bytes: record.files.iter().map(|file| file.bytes).sum(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UploadState {
    Open,
    Committed,
    Aborted,
    Expired,
}

/// An upload as it stands.
#[derive(Debug, Clone)]
pub struct Upload {
    pub id: UploadId,
    pub dataset: String,
    pub mode: WriteMode,
    pub state: UploadState,
    pub created: SystemTime,
    /// When it expires, or would have, if nothing more comes for it.
    pub expires: SystemTime,
    /// Every finished attempt, by part; empty where many uploads are listed.
    pub parts: Vec<FinishedPart>,
    /// Of the dataset, once the upload is in.
    pub version: Option<i64>,
}

/// What a commit made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedUpload {
    pub dataset: String,
    pub version: i64,
    /// Of the version.
    pub rows: u64,
    pub bytes: u64,
    pub files: u32,
    pub committed: SystemTime,
}

/// All uploads in parts of the store.
#[derive(Debug)]
pub struct Uploads {
    records: Records,
    datasets: Arc<Datasets>,
    clock: Arc<dyn Clock>,
    /// Uploads that have ended and whose files are tidied, with the time at which their records go.
    tidied: Mutex<HashMap<UploadId, u64>>,
    tallies: Mutex<HashMap<UploadId, part::Tally>>,
    /// When half-written files without a writer are looked for again.
    abandoned_due_ms: Mutex<u64>,
    /// Wakes the sweep when an upload may expire before it looks again.
    begun: Notify,
}

/// An upload's record and, if it has ended, how.
#[derive(Debug, Clone)]
struct Standing {
    record: UploadRecord,
    outcome: Option<OutcomeRecord>,
    renewed_ms: u64,
}

impl Standing {
    fn expires_ms(&self) -> u64 {
        let lifetime = self.record.lifetime_ms;
        self.renewed_ms + lifetime + lifetime / RENEWALS_PER_LIFETIME
    }
}

impl Uploads {
    pub(crate) fn new(objects: Objects, datasets: Arc<Datasets>, clock: Arc<dyn Clock>) -> Self {
        Self {
            records: Records { objects },
            datasets,
            clock,
            tidied: Mutex::default(),
            tallies: Mutex::default(),
            abandoned_due_ms: Mutex::default(),
            begun: Notify::new(),
        }
    }

    /// Begins an upload. With a schema, types that cannot be stored and columns that do not fit are refused now; without
    /// one, by the first part.
    pub async fn begin(
        &self,
        dataset: &str,
        mode: WriteMode,
        schema: Option<SchemaRef>,
        lifetime: Option<Duration>,
    ) -> Result<Upload, UploadError> {
        check_name("dataset", dataset)?;
        let lifetime = lifetime.unwrap_or(LIFETIME_DEFAULT);
        if lifetime < Duration::from_secs(1) || lifetime > LIFETIME_MAX {
            return Err(UploadError::BadLifetime {
                seconds: lifetime.as_secs(),
            });
        }
        let schema = match schema {
            Some(schema) => Some(self.datasets.schema_for(dataset, &schema, mode).await?),
            None => {
                self.datasets.check_commit(dataset, mode, None).await?;
                None
            }
        };
        let id = Uuid::now_v7();
        let now = self.clock.now_ms();
        let record = UploadRecord {
            dataset: dataset.to_owned(),
            mode,
            created_ms: now,
            lifetime_ms: u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX),
        };
        self.records.begin(id, &record).await?;
        if let Some(schema) = schema {
            self.records.settle_schema(id, &schema).await?;
        }
        if lifetime < sweep::SWEEP_EVERY_MAX {
            self.begun.notify_one();
        }
        let standing = Standing {
            record,
            outcome: None,
            renewed_ms: now,
        };
        Ok(upload_of(id, &standing, Vec::new(), None))
    }

    /// An upload as it stands, with its parts.
    pub async fn describe(&self, id: UploadId) -> Result<Upload, UploadError> {
        let standing = self.standing(id).await?;
        let mut attempts = self.records.attempts(id).await?;
        attempts.sort_by(|a, b| commit::in_order(&a.part, &b.part).then(a.attempt.cmp(&b.attempt)));
        let parts = futures::stream::iter(attempts)
            .map(|attempt| async move { self.records.attempt(id, &attempt).await })
            .buffered(READS_AT_ONCE)
            .try_filter_map(
                |record| async move { Ok(record.map(|record| FinishedPart::of(&record))) },
            )
            .try_collect()
            .await?;
        let result = self.records.result(id).await?;
        let version = result.map(|result| result.version);
        Ok(upload_of(id, &standing, parts, version))
    }

    /// Every upload that is open, oldest first, without its parts. One that cannot be read is logged and left out.
    pub async fn list(&self) -> Result<Vec<Upload>, UploadError> {
        let ids = self.records.ids().await?;
        let listed: Vec<Option<Upload>> = futures::stream::iter(ids)
            .map(|id| async move {
                match self.standing(id).await {
                    Ok(standing) if standing.outcome.is_none() => {
                        Some(upload_of(id, &standing, Vec::new(), None))
                    }
                    Ok(_) | Err(UploadError::Unknown { .. }) => None,
                    Err(error) => {
                        tracing::warn!(upload = %id, %error, "an upload cannot be read and is not listed");
                        None
                    }
                }
            })
            .buffered(READS_AT_ONCE)
            .collect()
            .await;
        Ok(listed.into_iter().flatten().collect())
    }

    /// Gives an upload up and deletes its files. One that is given up already stays so.
    pub async fn abort(&self, id: UploadId) -> Result<(), UploadError> {
        let mut standing = self.standing(id).await?;
        let outcome = self.end(id, &mut standing, Ending::Aborted).await?;
        if outcome.ending == Ending::Committed {
            return Err(over(id, &standing.record, &outcome));
        }
        Ok(self.tidy(id, &standing.record, &outcome).await?)
    }

    /// Waits until the files of broken parts are deleted and commits under way have ended.
    pub async fn settled(&self) {
        self.datasets.settled().await;
    }

    /// What the store knows of an upload; one that nothing has come for in its lifetime expires here.
    async fn standing(&self, id: UploadId) -> Result<Standing, UploadError> {
        let record = self.records.upload(id).await?;
        let record = record.ok_or(UploadError::Unknown { id })?;
        let outcome = self.records.outcome(id).await?;
        let renewed = self.records.renewed_ms(id).await?;
        let mut standing = Standing {
            renewed_ms: renewed.unwrap_or(0).max(record.created_ms),
            outcome,
            record,
        };
        if standing.outcome.is_none() && self.clock.now_ms() >= standing.expires_ms() {
            self.end(id, &mut standing, Ending::Expired).await?;
        }
        Ok(standing)
    }

    /// Ends an upload, if it has not ended; answers how it has.
    async fn end(
        &self,
        id: UploadId,
        standing: &mut Standing,
        ending: Ending,
    ) -> Result<OutcomeRecord, UploadError> {
        if let Some(outcome) = &standing.outcome {
            return Ok(outcome.clone());
        }
        let outcome = OutcomeRecord {
            ending,
            at_ms: self.clock.now_ms(),
            parts: Vec::new(),
        };
        let outcome = self.records.decide(id, outcome).await?;
        standing.outcome = Some(outcome.clone());
        Ok(outcome)
    }

    /// Writes down that the writer was heard of, if that is worth a note.
    async fn renew(&self, id: UploadId, standing: &mut Standing) -> Result<(), UploadError> {
        let now = self.clock.now_ms();
        let age = now.saturating_sub(standing.renewed_ms);
        if age >= standing.record.lifetime_ms / RENEWALS_PER_LIFETIME {
            self.records.renew(id, now).await?;
            standing.renewed_ms = now;
        }
        Ok(())
    }
}

/// What whoever comes too late is told.
fn over(id: UploadId, record: &UploadRecord, outcome: &OutcomeRecord) -> UploadError {
    let when = moment(outcome.at_ms);
    match outcome.ending {
        Ending::Committed => UploadError::Committed { id, when },
        Ending::Aborted => UploadError::Aborted { id, when },
        Ending::Expired => UploadError::Expired {
            id,
            when,
            lifetime_seconds: record.lifetime_ms / 1000,
        },
    }
}

fn upload_of(
    id: UploadId,
    standing: &Standing,
    parts: Vec<FinishedPart>,
    version: Option<i64>,
) -> Upload {
    Upload {
        id,
        dataset: standing.record.dataset.clone(),
        mode: standing.record.mode,
        state: match standing.outcome.as_ref().map(|outcome| outcome.ending) {
            None => UploadState::Open,
            Some(Ending::Committed) => UploadState::Committed,
            Some(Ending::Aborted) => UploadState::Aborted,
            Some(Ending::Expired) => UploadState::Expired,
        },
        created: time_of(standing.record.created_ms),
        expires: time_of(standing.expires_ms()),
        parts,
        version,
    }
}

fn time_of(at_ms: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(at_ms)
}

fn ms_of(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
