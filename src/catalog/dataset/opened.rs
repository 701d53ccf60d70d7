//! Versions of datasets as they were last opened, so that a ticket's server reads a log once and not for every ticket.
//! A version is valid while the log's entry is the one that it was opened by: a name may be removed and taken again.

use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::Dataset;
use crate::storage::delta::LoggedVersion;

/// Files that all versions together name, at most: a quarter of a kilobyte each.
const FILES_MAX: u64 = 1 << 17;
/// The number of versions is estimated by it, and no limit of anything.
const VERSIONS_ABOUT: usize = 256;

#[derive(Debug)]
pub(super) struct Opened {
    versions: Cache<(String, i64), (LoggedVersion, Dataset), Files>,
}

#[derive(Debug, Clone)]
struct Files;

impl Weighter<(String, i64), (LoggedVersion, Dataset)> for Files {
    fn weight(&self, _: &(String, i64), (_, dataset): &(LoggedVersion, Dataset)) -> u64 {
        // One for what a version without files takes.
        1 + dataset.files.len() as u64
    }
}

impl Default for Opened {
    fn default() -> Self {
        Self {
            versions: Cache::with_weighter(VERSIONS_ABOUT, FILES_MAX, Files),
        }
    }
}

impl Opened {
    /// The version, when the log's entry is still the one that it was opened by.
    pub(super) fn get(&self, name: &str, logged: &LoggedVersion) -> Option<Dataset> {
        let (known, dataset) = self.versions.get(&(name.to_owned(), logged.version))?;
        // Without a tag, nothing tells one entry from another.
        (known == *logged && known.tag.is_some()).then_some(dataset)
    }

    pub(super) fn remember(&self, logged: LoggedVersion, dataset: &Dataset) {
        let key = (dataset.name.clone(), logged.version);
        self.versions.insert(key, (logged, dataset.clone()));
    }

    /// Forgets all versions of a dataset.
    pub(super) fn forget(&self, name: &str) {
        self.versions.retain(|(known, _), _| known != name);
    }
}
