//! Loaded models, bounded by bytes; each is loaded once however many ask at the same moment.
//!
//! Knows no store: what a version's identity is and how one is loaded is told by the caller.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::OnceCell;

use super::ServingError;
use super::loaded::LoadedModel;

/// Which committed version this is. Name and number alone do not tell: a model may be removed and trained anew.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Identity {
    pub(super) name: String,
    pub(super) version: u64,
    pub(super) job: String,
    pub(super) committed_ms: u64,
}

/// The least recently used version makes room. What is in use lives on with its users; a version larger than the
/// whole bound is answered with but not kept.
#[derive(Debug)]
pub(super) struct ModelCache {
    bytes_max: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    entries: HashMap<Identity, Entry>,
    /// Counts uses; the larger, the more recent.
    clock: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    cell: Arc<OnceCell<Arc<LoadedModel>>>,
    used: u64,
    /// 0 until it is loaded.
    bytes: usize,
}

impl ModelCache {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            state: Mutex::default(),
        }
    }

    /// The version if it is here, else what `load` makes. Of several callers at once one loads and the rest wait;
    /// when it fails or goes away, the next one tries.
    pub(super) async fn get_or_load<Load>(
        &self,
        identity: Identity,
        load: impl FnOnce() -> Load,
    ) -> Result<Arc<LoadedModel>, ServingError>
    where
        Load: Future<Output = Result<LoadedModel, ServingError>>,
    {
        let cell = self.state.lock().use_entry(&identity);
        let _forget = ForgetUnlessLoaded {
            cache: self,
            identity: &identity,
            cell: &cell,
        };
        let model = cell
            .get_or_try_init(|| async { load().await.map(Arc::new) })
            .await?;
        self.state
            .lock()
            .account(&identity, &cell, model.bytes(), self.bytes_max);
        Ok(Arc::clone(model))
    }

    #[cfg(test)]
    fn held(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.entries.len(), state.bytes)
    }
}

impl State {
    fn use_entry(&mut self, identity: &Identity) -> Arc<OnceCell<Arc<LoadedModel>>> {
        self.clock += 1;
        let entry = self
            .entries
            .entry(identity.clone())
            .or_insert_with(|| Entry {
                cell: Arc::default(),
                used: 0,
                bytes: 0,
            });
        entry.used = self.clock;
        Arc::clone(&entry.cell)
    }

    /// Counts a loaded version once, then makes room.
    fn account(
        &mut self,
        identity: &Identity,
        cell: &Arc<OnceCell<Arc<LoadedModel>>>,
        bytes: usize,
        bytes_max: usize,
    ) {
        match self.entries.get_mut(identity) {
            Some(entry) if Arc::ptr_eq(&entry.cell, cell) && entry.bytes == 0 => {
                entry.bytes = bytes;
                self.bytes += bytes;
            }
            _ => return,
        }
        if bytes > bytes_max {
            self.remove(identity);
        }
        while self.bytes > bytes_max {
            let loaded = self.entries.iter().filter(|(_, entry)| entry.bytes > 0);
            let Some((oldest, _)) = loaded.min_by_key(|(_, entry)| entry.used) else {
                break;
            };
            let oldest = oldest.clone();
            self.remove(&oldest);
        }
    }

    fn remove(&mut self, identity: &Identity) {
        if let Some(entry) = self.entries.remove(identity) {
            self.bytes -= entry.bytes;
        }
    }
}

/// Takes an entry out again when nobody could load it, so that failed look-ups leave nothing behind.
struct ForgetUnlessLoaded<'a> {
    cache: &'a ModelCache,
    identity: &'a Identity,
    cell: &'a Arc<OnceCell<Arc<LoadedModel>>>,
}

impl Drop for ForgetUnlessLoaded<'_> {
    fn drop(&mut self) {
        let mut state = self.cache.state.lock();
        // Two owners are the map and this caller: nobody else waits for the cell.
        let alone = Arc::strong_count(self.cell) <= 2;
        if !self.cell.initialized()
            && alone
            && let Some(entry) = state.entries.get(self.identity)
            && Arc::ptr_eq(&entry.cell, self.cell)
        {
            state.remove(self.identity);
        }
    }
}
