//! Checkpoints of jobs in the store: what was kept of a job while it trained, under the job.
//!
//! Every worker writes a part; the manifest comes last, created if absent, and a checkpoint without one does not count.
//! Knows places and when a checkpoint counts; what stands in parts and manifests is the trainer's.

use bytes::Bytes;

use super::{CatalogError, JobId};
use crate::storage::{Objects, Path};

const MANIFEST: &str = "checkpoint.json";

/// All checkpoints of the store.
#[derive(Debug)]
pub struct Checkpoints {
    objects: Objects,
}

impl Checkpoints {
    pub(crate) fn new(objects: Objects) -> Self {
        Self { objects }
    }

    /// Writes a worker's part of a checkpoint, in place of one that broke off.
    pub async fn write_part(
        &self,
        job: JobId,
        epoch: u32,
        worker: u32,
        part: Bytes,
    ) -> Result<(), CatalogError> {
        let path = folder(job, epoch).join(part_name(worker));
        Ok(self.objects.put(&path, part).await?)
    }

    /// Makes a checkpoint count, once all its parts are written.
    pub async fn commit(
        &self,
        job: JobId,
        epoch: u32,
        manifest: Bytes,
    ) -> Result<(), CatalogError> {
        let path = folder(job, epoch).join(MANIFEST);
        if self.objects.create(&path, manifest).await? {
            return Ok(());
        }
        Err(CatalogError::Corrupt {
            what: path.to_string(),
            reason: "a new checkpoint is there already".into(),
        })
    }

    /// The epochs that a job has checkpoints of, ascending.
    pub async fn epochs(&self, job: JobId) -> Result<Vec<u32>, CatalogError> {
        let mut epochs = Vec::new();
        for name in self.objects.folders(&all_of(job)).await? {
            let Ok(epoch) = name.parse() else { continue };
            let files = self.objects.files(&folder(job, epoch)).await?;
            if files
                .iter()
                .any(|file| file.location.filename() == Some(MANIFEST))
            {
                epochs.push(epoch);
            }
        }
        epochs.sort_unstable();
        Ok(epochs)
    }

    /// The manifest of a job's checkpoint; `None` is its newest.
    pub async fn manifest(&self, job: JobId, epoch: Option<u32>) -> Result<Bytes, CatalogError> {
        let kept = self.epochs(job).await?;
        let wanted = epoch.or(kept.last().copied());
        let found = match wanted {
            Some(epoch) => {
                let path = folder(job, epoch).join(MANIFEST);
                self.objects.read(&path).await?
            }
            None => None,
        };
        found.ok_or_else(|| CatalogError::UnknownCheckpoint {
            job: job.to_string(),
            epoch: epoch.map_or(String::new(), |epoch| format!(" of epoch {epoch}")),
            hint: match kept.as_slice() {
                [] => "checkpoints are kept of jobs that ask for them".into(),
                kept => {
                    let kept: Vec<String> = kept.iter().map(u32::to_string).collect();
                    format!("there are those of epochs {}", kept.join(", "))
                }
            },
        })
    }

    /// A worker's part of a checkpoint that counts.
    pub async fn part(&self, job: JobId, epoch: u32, worker: u32) -> Result<Bytes, CatalogError> {
        let path = folder(job, epoch).join(part_name(worker));
        let part = self.objects.read(&path).await?;
        part.ok_or_else(|| CatalogError::Corrupt {
            what: path.to_string(),
            reason: "the checkpoint's manifest counts it and it is gone".into(),
        })
    }

    /// Removes a checkpoint: first it no longer counts, then its parts go.
    pub async fn remove(&self, job: JobId, epoch: u32) -> Result<(), CatalogError> {
        let here = folder(job, epoch);
        self.objects.remove(&here.clone().join(MANIFEST)).await?;
        Ok(self.objects.remove_tree(&here).await?)
    }

    /// Removes all of a job's but those of some epochs: what broke off before it counted.
    pub async fn retain(&self, job: JobId, kept: &[u32]) -> Result<(), CatalogError> {
        for name in self.objects.folders(&all_of(job)).await? {
            if let Ok(epoch) = name.parse()
                && !kept.contains(&epoch)
            {
                self.remove(job, epoch).await?;
            }
        }
        Ok(())
    }

    /// Removes all of a job's, those that broke off included.
    pub async fn remove_all(&self, job: JobId) -> Result<(), CatalogError> {
        self.retain(job, &[]).await
    }
}

fn all_of(job: JobId) -> Path {
    Path::from_iter(["jobs", job.to_string().as_str(), "checkpoints"])
}

fn folder(job: JobId, epoch: u32) -> Path {
    all_of(job).join(format!("{epoch:07}"))
}

fn part_name(worker: u32) -> String {
    format!("part-{worker:03}.safetensors")
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[tokio::test]
    async fn a_checkpoint_counts_once_its_manifest_is_there_and_no_longer_when_it_goes() {
        let directory = tempfile::tempdir().unwrap();
        let objects = Objects::open(directory.path().to_str().unwrap()).unwrap();
        let checkpoints = Checkpoints::new(objects);
        let job = Uuid::now_v7();
        let none = checkpoints.manifest(job, None).await.unwrap_err();
        assert!(none.to_string().contains("of jobs that ask for them"));
        for epoch in [2, 10] {
            for worker in [0, 1] {
                let part = Bytes::from(format!("{epoch} {worker}"));
                checkpoints
                    .write_part(job, epoch, worker, part)
                    .await
                    .unwrap();
            }
            let commit = checkpoints.commit(job, epoch, Bytes::from(epoch.to_string()));
            commit.await.unwrap();
        }
        let broken_off = checkpoints.write_part(job, 11, 0, Bytes::new());
        broken_off.await.unwrap();
        assert_eq!(checkpoints.epochs(job).await.unwrap(), [2, 10]);
        assert_eq!(checkpoints.manifest(job, None).await.unwrap(), "10");
        assert_eq!(checkpoints.manifest(job, Some(2)).await.unwrap(), "2");
        assert_eq!(checkpoints.part(job, 10, 1).await.unwrap(), "10 1");
        let missing = checkpoints.manifest(job, Some(3)).await.unwrap_err();
        assert!(
            missing.to_string().ends_with("those of epochs 2, 10"),
            "{missing}"
        );
        let twice = checkpoints.commit(job, 2, Bytes::new()).await;
        assert!(matches!(twice, Err(CatalogError::Corrupt { .. })));
        checkpoints.remove(job, 2).await.unwrap();
        checkpoints.retain(job, &[10]).await.unwrap();
        assert_eq!(checkpoints.epochs(job).await.unwrap(), [10]);
        let left = checkpoints.objects.tree(&all_of(job)).await.unwrap();
        assert_eq!(left.len(), 3, "{left:?}");
        checkpoints.remove_all(job).await.unwrap();
        assert!(checkpoints.epochs(job).await.unwrap().is_empty());
        let left = checkpoints.objects.tree(&all_of(job)).await.unwrap();
        assert!(left.is_empty(), "{left:?}");
    }
}
