//! The commit: what counts is decided once, then it becomes one version, whoever has to finish that.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _};

use super::record::{AttemptRecord, Ending, OutcomeRecord, ResultRecord, UploadRecord, stem};
use super::{
    CommittedUpload, PartAttempt, READS_AT_ONCE, UploadError, UploadId, Uploads, moment, ms_of,
    over, time_of,
};
use crate::catalog::dataset::{NotCommitted, commit_files};
use crate::catalog::{CatalogError, Datasets};
use crate::storage::Path;
use crate::storage::physical::StoredSchema;

/// Missing attempts that an error names.
const MISSING_SHOWN_MAX: usize = 5;

impl Uploads {
    /// Makes parts visible at once as one version: the attempts named, in their order, or of every part the lowest
    /// finished attempt, in the order of the parts' names. Repeated, it answers what the first one did.
    ///
    /// Runs to its end even when the caller goes away in the middle.
    pub async fn commit(
        self: &Arc<Self>,
        id: UploadId,
        parts: Vec<PartAttempt>,
    ) -> Result<CommittedUpload, UploadError> {
        let uploads = Arc::clone(self);
        let run = async move { uploads.commit_to_the_end(id, parts).await };
        let done = self.datasets.tracker().spawn(run).await;
        done.map_err(|source| CatalogError::Store {
            doing: format!("committing upload {id}"),
            source: Box::new(source),
        })?
    }

    async fn commit_to_the_end(
        self: Arc<Self>,
        id: UploadId,
        parts: Vec<PartAttempt>,
    ) -> Result<CommittedUpload, UploadError> {
        let standing = self.standing(id).await?;
        let record = standing.record;
        let decided = standing.outcome.is_some();
        let outcome = match standing.outcome {
            Some(outcome) => outcome,
            None => self.decide_commit(id, &record, &parts).await?,
        };
        if outcome.ending != Ending::Committed {
            return Err(over(id, &record, &outcome));
        }
        if !parts.is_empty() && outcome.parts != parts {
            let when = moment(outcome.at_ms);
            return Err(UploadError::OtherParts { id, when });
        }
        let committed = self.complete(id, &record, &outcome, decided).await?;
        // Tidiness, which the sweep repeats.
        if let Err(error) = self.tidy(id, &record, &outcome).await {
            tracing::warn!(upload = %id, %error, "files of parts that were not committed are left");
        }
        Ok(committed)
    }

    /// Chooses what counts and writes it down. What the commit would be refused for is found before, so that the upload
    /// stays open.
    async fn decide_commit(
        &self,
        id: UploadId,
        record: &UploadRecord,
        asked: &[PartAttempt],
    ) -> Result<OutcomeRecord, UploadError> {
        let finished = self.records.attempts(id).await?;
        let parts = choose(id, asked, finished)?;
        let schema = self.records.schema(id).await?;
        let schema = schema.ok_or(UploadError::Nothing { id })?;
        self.datasets
            .check_commit(&record.dataset, record.mode, Some(&schema))
            .await?;
        let outcome = OutcomeRecord {
            ending: Ending::Committed,
            at_ms: self.clock.now_ms(),
            parts,
        };
        Ok(self.records.decide(id, outcome).await?)
    }

    /// Makes what was decided a version, if it is none yet. `again`: somebody may have done so and died before they said.
    pub(super) async fn complete(
        &self,
        id: UploadId,
        record: &UploadRecord,
        outcome: &OutcomeRecord,
        again: bool,
    ) -> Result<CommittedUpload, UploadError> {
        let dataset = &record.dataset;
        if let Some(result) = self.records.result(id).await? {
            return Ok(committed_of(dataset, &result));
        }
        let files: Vec<_> = self
            .chosen(id, outcome)
            .await?
            .into_iter()
            .flat_map(|attempt| attempt.files)
            .collect();
        if again && self.datasets.version_with(dataset, id).await?.is_none() {
            let there = self.files(id, record).await?;
            if !files.iter().all(|file| there.contains(&file.path)) {
                return Err(UploadError::Gone {
                    id,
                    when: moment(outcome.at_ms),
                    dataset: dataset.clone(),
                });
            }
        }
        let schema = self.records.schema(id).await?;
        let schema = schema.ok_or(UploadError::Nothing { id })?;
        let stored = StoredSchema::of(&schema)?;
        let folder = Datasets::folder(dataset);
        let objects = &self.records.objects;
        let version = commit_files(
            objects,
            dataset,
            &folder,
            record.mode,
            &stored,
            &files,
            Some(id),
        )
        .await;
        // Whether it may stand or not, the files are kept: the commit can be asked for again.
        let version = version.map_err(|NotCommitted { error, .. }| error)?;
        let table = self.datasets.committed(dataset, version).await?;
        let result = ResultRecord {
            version,
            rows: table.rows,
            bytes: table.bytes,
            files: u32::try_from(table.files.len()).unwrap_or(u32::MAX),
            committed_ms: ms_of(table.committed),
        };
        self.records.keep_result(id, &result).await?;
        Ok(committed_of(dataset, &result))
    }

    /// The records of the attempts that count, in order.
    async fn chosen(
        &self,
        id: UploadId,
        outcome: &OutcomeRecord,
    ) -> Result<Vec<AttemptRecord>, CatalogError> {
        futures::stream::iter(outcome.parts.clone())
            .map(|attempt| async move {
                let record = self.records.attempt(id, &attempt).await?;
                record.ok_or_else(|| CatalogError::Corrupt {
                    what: format!("upload {id}"),
                    reason: format!("{} was committed and is gone", shown(&attempt)),
                })
            })
            .buffered(READS_AT_ONCE)
            .try_collect()
            .await
    }

    /// The files of an upload in the dataset's folder, counted or not.
    async fn files(
        &self,
        id: UploadId,
        record: &UploadRecord,
    ) -> Result<HashSet<Path>, CatalogError> {
        let folder = Datasets::folder(&record.dataset);
        let stem = stem(id);
        let ours = |path: &Path| path.filename().is_some_and(|name| name.starts_with(&stem));
        let objects = self.records.objects.files(&folder).await?;
        Ok(objects
            .into_iter()
            .map(|object| object.location)
            .filter(ours)
            .collect())
    }

    /// Deletes the files of an upload that has ended, but for those that were committed.
    pub(super) async fn tidy(
        &self,
        id: UploadId,
        record: &UploadRecord,
        outcome: &OutcomeRecord,
    ) -> Result<(), CatalogError> {
        self.tallies.lock().remove(&id);
        let folder = Datasets::folder(&record.dataset);
        let objects = &self.records.objects;
        // Also under the hands of whoever still writes an attempt that no longer counts.
        objects.remove_unfinished(&folder, &stem(id)).await?;
        let mut files = self.files(id, record).await?;
        if files.is_empty() {
            return Ok(());
        }
        for attempt in self.chosen(id, outcome).await? {
            for file in &attempt.files {
                files.remove(&file.path);
            }
        }
        for path in files {
            objects.remove(&path).await?;
        }
        Ok(())
    }
}

fn committed_of(dataset: &str, result: &ResultRecord) -> CommittedUpload {
    CommittedUpload {
        dataset: dataset.to_owned(),
        version: result.version,
        rows: result.rows,
        bytes: result.bytes,
        files: result.files,
        committed: time_of(result.committed_ms),
    }
}

/// The attempts that count: those asked for, if they have finished; else the lowest of every part.
fn choose(
    id: UploadId,
    asked: &[PartAttempt],
    finished: Vec<PartAttempt>,
) -> Result<Vec<PartAttempt>, UploadError> {
    if asked.is_empty() {
        let mut lowest: HashMap<String, u32> = HashMap::new();
        for PartAttempt { part, attempt } in finished {
            let least = lowest.entry(part).or_insert(attempt);
            *least = attempt.min(*least);
        }
        let mut chosen: Vec<PartAttempt> = lowest
            .into_iter()
            .map(|(part, attempt)| PartAttempt { part, attempt })
            .collect();
        chosen.sort_by(|a, b| in_order(&a.part, &b.part));
        return Ok(chosen);
    }
    let mut parts = HashSet::new();
    if let Some(twice) = asked.iter().find(|asked| !parts.insert(&asked.part)) {
        return Err(UploadError::NamedTwice {
            part: twice.part.clone(),
        });
    }
    let finished: HashSet<PartAttempt> = finished.into_iter().collect();
    let missing: Vec<String> = asked
        .iter()
        .filter(|asked| !finished.contains(asked))
        .map(shown)
        .collect();
    if missing.is_empty() {
        return Ok(asked.to_vec());
    }
    let more = missing.len().saturating_sub(MISSING_SHOWN_MAX);
    let named = missing[..missing.len() - more].join(", ");
    Err(UploadError::Missing {
        id,
        missing: match more {
            0 => named,
            more => format!("{named} and {more} more"),
        },
    })
}

fn shown(PartAttempt { part, attempt }: &PartAttempt) -> String {
    format!("attempt {attempt} of part {part:?}")
}

/// The order of parts' names: as texts, but for runs of digits, which are numbers.
pub(super) fn in_order(a: &str, b: &str) -> Ordering {
    let (mut left, mut right) = (a.as_bytes(), b.as_bytes());
    loop {
        let (Some(x), Some(y)) = (left.first(), right.first()) else {
            return left.len().cmp(&right.len()).then_with(|| a.cmp(b));
        };
        if x.is_ascii_digit() && y.is_ascii_digit() {
            let (m, n) = (number(&mut left), number(&mut right));
            match m.len().cmp(&n.len()).then_with(|| m.cmp(n)) {
                Ordering::Equal => {}
                other => return other,
            }
        } else if x == y {
            (left, right) = (&left[1..], &right[1..]);
        } else {
            return x.cmp(y);
        }
    }
}

/// Takes a run of digits off the front, without its leading zeros.
fn number<'a>(text: &mut &'a [u8]) -> &'a [u8] {
    let digits = text.iter().take_while(|c| c.is_ascii_digit()).count();
    let (run, rest) = text.split_at(digits);
    *text = rest;
    let zeros = run.iter().take_while(|c| **c == b'0').count();
    &run[zeros..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_in_the_order_of_their_names_and_numbers_in_that_of_numbers() {
        let mut parts = ["10", "9", "a10", "a9b", "a9", "", "010", "B", "1.10", "1.9"];
        parts.sort_by(|a, b| in_order(a, b));
        let expected = ["", "1.9", "1.10", "9", "010", "10", "B", "a9", "a9b", "a10"];
        assert_eq!(parts, expected);
    }
}
