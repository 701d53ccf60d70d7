//! What the store keeps of an upload in parts, and where.
//!
//! | below `uploads/<id>/` | what it is | how it changes |
//! |---|---|---|
//! | `upload.json` | dataset, mode, lifetime | created at the beginning |
//! | `schema` | the schema that the parts' files have | created if absent, at the beginning or by the first part |
//! | `renewed` | when the writer was last heard of | written over |
//! | `parts/<part>-<attempt>.json` | the files of a part's finished attempt | created if absent, when they are durable |
//! | `outcome.json` | committed, and with which parts, or aborted, or expired | created if absent: what is decided once |
//! | `result.json` | the version that the commit made | created if absent |

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{PartAttempt, UploadId};
use crate::catalog::{CatalogError, WriteMode};
use crate::storage::parquet::WrittenFile;
use crate::storage::{Objects, Path, StorageError};

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct UploadRecord {
    pub(super) dataset: String,
    pub(super) mode: WriteMode,
    pub(super) created_ms: u64,
    pub(super) lifetime_ms: u64,
}

/// One finished attempt of a part.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct AttemptRecord {
    pub(super) part: String,
    pub(super) attempt: u32,
    pub(super) rows: u64,
    pub(super) finished_ms: u64,
    pub(super) files: Vec<WrittenFile>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Ending {
    Committed,
    Aborted,
    Expired,
}

/// How an upload ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct OutcomeRecord {
    pub(super) ending: Ending,
    pub(super) at_ms: u64,
    /// Of a commit: what counts, in the order of the rows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) parts: Vec<PartAttempt>,
}

/// What a commit made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ResultRecord {
    pub(super) version: i64,
    pub(super) rows: u64,
    pub(super) bytes: u64,
    pub(super) files: u32,
    pub(super) committed_ms: u64,
}

/// The records of all uploads.
#[derive(Debug)]
pub(super) struct Records {
    pub(super) objects: Objects,
}

impl Records {
    /// The ids of all uploads of which something is kept, oldest first.
    pub(super) async fn ids(&self) -> Result<Vec<UploadId>, CatalogError> {
        let names = self.objects.folders(&Path::from("uploads")).await?;
        Ok(names
            .iter()
            .filter_map(|name| UploadId::parse_str(name).ok())
            .collect())
    }

    pub(super) async fn begin(
        &self,
        id: UploadId,
        record: &UploadRecord,
    ) -> Result<(), CatalogError> {
        self.create(&folder(id).join("upload.json"), record).await?;
        Ok(())
    }

    pub(super) async fn upload(&self, id: UploadId) -> Result<Option<UploadRecord>, CatalogError> {
        self.read(&folder(id).join("upload.json")).await
    }

    /// The schema of the parts' files, once one is settled.
    pub(super) async fn schema(&self, id: UploadId) -> Result<Option<SchemaRef>, CatalogError> {
        let path = folder(id).join("schema");
        let Some(bytes) = self.objects.read(&path).await? else {
            return Ok(None);
        };
        let reader =
            StreamReader::try_new(bytes.as_ref(), None).map_err(|error| corrupt(&path, &error))?;
        Ok(Some(reader.schema()))
    }

    /// Settles the schema, unless another has been; answers the one that holds.
    pub(super) async fn settle_schema(
        &self,
        id: UploadId,
        schema: &SchemaRef,
    ) -> Result<SchemaRef, CatalogError> {
        let path = folder(id).join("schema");
        let bytes = schema_bytes(schema)?;
        if self.objects.create(&path, bytes).await? {
            return Ok(Arc::clone(schema));
        }
        let settled = self.schema(id).await?;
        settled.ok_or_else(|| corrupt(&path, &"it was removed a moment ago"))
    }

    pub(super) async fn renewed_ms(&self, id: UploadId) -> Result<Option<u64>, CatalogError> {
        self.read(&folder(id).join("renewed")).await
    }

    pub(super) async fn renew(&self, id: UploadId, now_ms: u64) -> Result<(), CatalogError> {
        let bytes = Bytes::from(now_ms.to_string());
        Ok(self.objects.put(&folder(id).join("renewed"), bytes).await?)
    }

    /// Every finished attempt of every part, in no order.
    pub(super) async fn attempts(&self, id: UploadId) -> Result<Vec<PartAttempt>, CatalogError> {
        let found = self.objects.files(&folder(id).join("parts")).await?;
        Ok(found
            .iter()
            .filter_map(|object| attempt_of(object.location.filename()?))
            .collect())
    }

    pub(super) async fn attempt(
        &self,
        id: UploadId,
        attempt: &PartAttempt,
    ) -> Result<Option<AttemptRecord>, CatalogError> {
        self.read(&attempt_path(id, attempt)).await
    }

    /// Whether this is the record of the attempt from now on; false when there is one.
    pub(super) async fn finish_attempt(
        &self,
        id: UploadId,
        record: &AttemptRecord,
    ) -> Result<bool, CatalogError> {
        let attempt = PartAttempt {
            part: record.part.clone(),
            attempt: record.attempt,
        };
        self.create(&attempt_path(id, &attempt), record).await
    }

    pub(super) async fn forget_attempt(
        &self,
        id: UploadId,
        attempt: &PartAttempt,
    ) -> Result<(), CatalogError> {
        Ok(self.objects.remove(&attempt_path(id, attempt)).await?)
    }

    pub(super) async fn outcome(
        &self,
        id: UploadId,
    ) -> Result<Option<OutcomeRecord>, CatalogError> {
        self.read(&folder(id).join("outcome.json")).await
    }

    /// Decides how an upload ends, unless that has been decided; answers what holds.
    pub(super) async fn decide(
        &self,
        id: UploadId,
        outcome: OutcomeRecord,
    ) -> Result<OutcomeRecord, CatalogError> {
        let path = folder(id).join("outcome.json");
        if self.create(&path, &outcome).await? {
            return Ok(outcome);
        }
        let decided = self.outcome(id).await?;
        decided.ok_or_else(|| corrupt(&path, &"it was removed a moment ago"))
    }

    pub(super) async fn result(&self, id: UploadId) -> Result<Option<ResultRecord>, CatalogError> {
        self.read(&folder(id).join("result.json")).await
    }

    pub(super) async fn keep_result(
        &self,
        id: UploadId,
        result: &ResultRecord,
    ) -> Result<(), CatalogError> {
        self.create(&folder(id).join("result.json"), result).await?;
        Ok(())
    }

    /// Forgets an upload: first that there is one, so that nobody meets half of it.
    pub(super) async fn forget(&self, id: UploadId) -> Result<(), CatalogError> {
        self.objects.remove(&folder(id).join("upload.json")).await?;
        self.objects.remove_tree(&folder(id)).await?;
        for here in [folder(id).join("parts"), folder(id)] {
            self.objects.remove_unfinished(&here, "").await?;
        }
        Ok(())
    }

    async fn create<T: Serialize>(&self, path: &Path, record: &T) -> Result<bool, CatalogError> {
        let bytes = serde_json::to_vec(record).map_err(|source| CatalogError::Store {
            doing: format!("writing {path}"),
            source: Box::new(source),
        })?;
        Ok(self.objects.create(path, bytes.into()).await?)
    }

    async fn read<T: DeserializeOwned>(&self, path: &Path) -> Result<Option<T>, CatalogError> {
        let Some(bytes) = self.objects.read(path).await? else {
            return Ok(None);
        };
        serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|error| corrupt(path, &error))
    }
}

fn corrupt(path: &Path, reason: &dyn std::fmt::Display) -> CatalogError {
    CatalogError::Corrupt {
        what: path.to_string(),
        reason: reason.to_string(),
    }
}

fn schema_bytes(schema: &Schema) -> Result<Bytes, CatalogError> {
    let failed = |source| StorageError::failed("writing an upload's schema", source);
    let mut writer = StreamWriter::try_new(Vec::new(), schema).map_err(failed)?;
    writer.finish().map_err(failed)?;
    Ok(writer.into_inner().map_err(failed)?.into())
}

fn folder(id: UploadId) -> Path {
    Path::from_iter(["uploads", id.to_string().as_str()])
}

/// The names of an upload's files in the dataset's folder begin with it.
pub(super) fn stem(id: UploadId) -> String {
    format!("part-{id}-")
}

fn attempt_path(id: UploadId, attempt: &PartAttempt) -> Path {
    folder(id).join("parts").join(attempt_name(attempt))
}

/// `p-17-2.json`; a part whose name could mean something to a store stands there in base64, after `b-`.
fn attempt_name(PartAttempt { part, attempt }: &PartAttempt) -> String {
    let plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-');
    if part.bytes().all(plain) {
        format!("p-{part}-{attempt}.json")
    } else {
        format!("b-{}-{attempt}.json", BASE64.encode(part))
    }
}

fn attempt_of(name: &str) -> Option<PartAttempt> {
    let (head, attempt) = name.strip_suffix(".json")?.rsplit_once('-')?;
    let part = match head.split_at_checked(2)? {
        ("p-", part) => part.to_owned(),
        ("b-", part) => String::from_utf8(BASE64.decode(part).ok()?).ok()?,
        _ => return None,
    };
    Some(PartAttempt {
        part,
        attempt: attempt.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_has_a_file_name_of_its_own_that_every_store_takes() {
        let longest = "~".repeat(super::super::PART_CHARACTERS_MAX);
        let parts = [
            "17", "a/b", "a-1", "a-1-2", "b-MQ", "..", "a b", "%41", "A#1", &longest,
        ];
        let names: Vec<String> = parts
            .iter()
            .map(|part| {
                let attempt = PartAttempt {
                    part: (*part).to_owned(),
                    attempt: u32::MAX,
                };
                let name = attempt_name(&attempt);
                assert_eq!(attempt_of(&name), Some(attempt), "{name}");
                assert!(name.len() <= 200, "{name}");
                // The store changes nothing of it.
                assert_eq!(Path::from_iter([name.as_str()]).to_string(), name);
                name
            })
            .collect();
        let distinct: std::collections::BTreeSet<&String> = names.iter().collect();
        assert_eq!(distinct.len(), parts.len());
    }
}
