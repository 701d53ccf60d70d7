//! One attempt of one part, from its schema to the record that makes it count.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use uuid::Uuid;

use super::record::{AttemptRecord, Ending, stem};
use super::{
    FinishedPart, PART_CHARACTERS_MAX, PARTS_MAX, PartAttempt, RENEWALS_PER_LIFETIME, Standing,
    UploadError, UploadId, Uploads, over,
};
use crate::catalog::dataset::{Whole, match_columns};
use crate::catalog::name::shortened;
use crate::catalog::{CatalogError, DatasetWriter};
use crate::storage::physical::StoredSchema;

/// Parts that this server takes for an upload before it counts all of them again.
const PARTS_BETWEEN_COUNTS: usize = 256;

/// How many parts an upload has, as far as this server knows.
#[derive(Debug)]
pub(super) struct Tally {
    counted: usize,
    taken_since: usize,
}

/// A part on its way in. Dropped without `finish`, it leaves nothing.
#[derive(Debug)]
pub struct PartWriter {
    uploads: Arc<Uploads>,
    id: UploadId,
    attempt: PartAttempt,
    standing: Standing,
    rows: Rows,
    taken: u64,
}

#[derive(Debug)]
enum Rows {
    New(Box<DatasetWriter>),
    /// The attempt has finished before, here or on another server: what comes is counted and let go.
    Known(FinishedPart),
}

impl Uploads {
    /// Begins an attempt of a part. Rows that do not fit the parts before are refused here, before any is taken.
    pub async fn put_part(
        self: &Arc<Self>,
        id: UploadId,
        part: &str,
        attempt: u32,
        schema: SchemaRef,
    ) -> Result<PartWriter, UploadError> {
        check_part(part)?;
        let attempt = PartAttempt {
            part: part.to_owned(),
            attempt,
        };
        let mut standing = self.standing(id).await?;
        if let Some(outcome) = &standing.outcome
            && (outcome.ending != Ending::Committed || !outcome.parts.contains(&attempt))
        {
            return Err(over(id, &standing.record, outcome));
        }
        let rows = match self.records.attempt(id, &attempt).await? {
            Some(record) => Rows::Known(FinishedPart::of(&record)),
            None => {
                self.tally(id).await?;
                self.renew(id, &mut standing).await?;
                let writer = self.writer(id, &attempt, &standing, schema).await?;
                Rows::New(Box::new(writer))
            }
        };
        Ok(PartWriter {
            uploads: Arc::clone(self),
            id,
            attempt,
            standing,
            rows,
            taken: 0,
        })
    }

    async fn writer(
        &self,
        id: UploadId,
        attempt: &PartAttempt,
        standing: &Standing,
        schema: SchemaRef,
    ) -> Result<DatasetWriter, UploadError> {
        let (dataset, mode) = (&standing.record.dataset, standing.record.mode);
        let settled = match self.records.schema(id).await? {
            Some(settled) => settled,
            None => {
                let ours = self.datasets.schema_for(dataset, &schema, mode).await?;
                self.records.settle_schema(id, &ours).await?
            }
        };
        let order = match match_columns(dataset, Whole::Upload, &settled, &schema) {
            Ok(order) => order,
            Err(CatalogError::SchemaMismatch { reason, .. }) => {
                return Err(UploadError::PartMisfit {
                    id,
                    part: attempt.part.clone(),
                    reason,
                });
            }
            Err(error) => return Err(error.into()),
        };
        let stored = StoredSchema::of(&settled)?;
        // Attempts of one part may be written at the same time: each has names of its own.
        let stem = format!("{}{}", stem(id), Uuid::now_v7());
        Ok(self
            .datasets
            .write_files(dataset, &stem, schema, order, stored))
    }

    async fn refuse_ended(&self, id: UploadId, standing: &Standing) -> Result<(), UploadError> {
        match self.records.outcome(id).await? {
            None => Ok(()),
            Some(outcome) => Err(over(id, &standing.record, &outcome)),
        }
    }

    /// Whether a record that was just made can be committed still, or was in time for a commit.
    async fn stands(&self, id: UploadId, attempt: &PartAttempt) -> Result<bool, UploadError> {
        if self.records.upload(id).await?.is_none() {
            return Ok(false);
        }
        Ok(match self.records.outcome(id).await? {
            None => true,
            Some(outcome) => outcome.parts.contains(attempt),
        })
    }

    /// What an attempt is told that did not become a record: the record of the same attempt sent twice, whose stream
    /// ended first; else how the upload has ended meanwhile; else `error`.
    async fn told_late(
        &self,
        id: UploadId,
        attempt: &PartAttempt,
        standing: &Standing,
        error: UploadError,
    ) -> Result<FinishedPart, UploadError> {
        let known = self.records.attempt(id, attempt).await?;
        match self.records.outcome(id).await? {
            Some(outcome) if !outcome.parts.contains(attempt) => {
                Err(over(id, &standing.record, &outcome))
            }
            _ => match known {
                Some(known) => Ok(FinishedPart::of(&known)),
                None => Err(error),
            },
        }
    }

    /// Refuses a part more than an upload may have. Parts of other servers are seen at the next count.
    async fn tally(&self, id: UploadId) -> Result<(), UploadError> {
        let known = self.tallies.lock().get_mut(&id).and_then(|tally| {
            tally.taken_since += 1;
            (tally.taken_since < PARTS_BETWEEN_COUNTS).then(|| tally.counted + tally.taken_since)
        });
        let parts = match known {
            Some(parts) => parts,
            None => {
                let counted = self.records.attempts(id).await?.len();
                let tally = Tally {
                    counted,
                    taken_since: 0,
                };
                self.tallies.lock().insert(id, tally);
                counted
            }
        };
        if parts >= PARTS_MAX {
            return Err(UploadError::TooManyParts { id });
        }
        Ok(())
    }
}

impl PartWriter {
    /// Adds rows; the batch must have the schema that the part began with. Returns the rows taken so far.
    ///
    /// A long part is a sign of its writer from time to time, and ends early when the upload does.
    pub async fn write(&mut self, batch: RecordBatch) -> Result<u64, UploadError> {
        match &mut self.rows {
            Rows::Known(_) => self.taken += batch.num_rows() as u64,
            Rows::New(writer) => {
                match writer.write(batch).await {
                    Ok(taken) => self.taken = taken,
                    Err(error) => {
                        // Of an upload that has ended, the files are deleted under the writer's hands.
                        self.uploads.refuse_ended(self.id, &self.standing).await?;
                        return Err(error.into());
                    }
                }
                let now = self.uploads.clock.now_ms();
                let lifetime = self.standing.record.lifetime_ms;
                let age = now.saturating_sub(self.standing.renewed_ms);
                if age >= lifetime / RENEWALS_PER_LIFETIME {
                    self.uploads.refuse_ended(self.id, &self.standing).await?;
                    self.uploads.renew(self.id, &mut self.standing).await?;
                }
            }
        }
        Ok(self.taken)
    }

    /// Deletes what was written.
    pub async fn abort(self) {
        if let Rows::New(writer) = self.rows {
            writer.abort().await;
        }
    }

    /// Makes the rows durable and the attempt one that a commit may take.
    ///
    /// Runs to its end even when the caller goes away in the middle.
    pub async fn finish(self) -> Result<FinishedPart, UploadError> {
        let tracker = self.uploads.datasets.tracker().clone();
        tracker
            .spawn(self.finish_to_the_end())
            .await
            .map_err(|source| CatalogError::Store {
                doing: "finishing a part".into(),
                source: Box::new(source),
            })?
    }

    async fn finish_to_the_end(self) -> Result<FinishedPart, UploadError> {
        let Self {
            uploads,
            id,
            attempt,
            mut standing,
            rows,
            taken,
        } = self;
        let writer = match rows {
            Rows::Known(finished) => return Ok(finished),
            Rows::New(writer) => *writer,
        };
        let files = match writer.finish().await {
            Ok(files) => files,
            Err(error) => {
                return uploads
                    .told_late(id, &attempt, &standing, error.into())
                    .await;
            }
        };
        let record = AttemptRecord {
            part: attempt.part.clone(),
            attempt: attempt.attempt,
            rows: taken,
            finished_ms: uploads.clock.now_ms(),
            files,
        };
        // When the store fails after it took the record, the files must stay: they go with the upload.
        let first = uploads.records.finish_attempt(id, &record).await?;
        if first && uploads.stands(id, &attempt).await? {
            uploads.renew(id, &mut standing).await?;
            return Ok(FinishedPart::of(&record));
        }
        if first {
            uploads.records.forget_attempt(id, &attempt).await?;
        }
        // Best effort: a file that no version names is invisible, and goes with the upload at the latest.
        for file in &record.files {
            let _ = uploads.records.objects.remove(&file.path).await;
        }
        let unknown = UploadError::Unknown { id };
        uploads.told_late(id, &attempt, &standing, unknown).await
    }
}

fn check_part(part: &str) -> Result<(), UploadError> {
    let characters = part.chars().count();
    let printable = |c: char| c == ' ' || c.is_ascii_graphic();
    let reason = if part.is_empty() {
        "it is empty".to_owned()
    } else if characters > PART_CHARACTERS_MAX {
        format!("it has {characters} characters")
    } else if let Some(odd) = part.chars().find(|c| !printable(*c)) {
        format!("it holds {odd:?}")
    } else {
        return Ok(());
    };
    Err(UploadError::BadPart {
        part: shortened(part),
        reason,
    })
}
