//! Loaded versions, bounded by bytes; each is loaded once however many ask at the same moment.
//!
//! Knows neither store nor model: how a version is loaded and how large it is is told by the caller.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::OnceCell;

use super::ServingError;

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
pub(super) struct VersionCache<T> {
    bytes_max: usize,
    state: Mutex<State<T>>,
}

/// Filled once, with the version and its size in bytes.
type Cell<T> = Arc<OnceCell<(Arc<T>, usize)>>;

#[derive(Debug)]
struct State<T> {
    entries: HashMap<Identity, Entry<T>>,
    /// Counts uses; the larger, the more recent.
    clock: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Entry<T> {
    cell: Cell<T>,
    used: u64,
    /// 0 until it is loaded.
    bytes: usize,
}

impl<T> VersionCache<T> {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            state: Mutex::new(State {
                entries: HashMap::new(),
                clock: 0,
                bytes: 0,
            }),
        }
    }

    /// The version if it is here, else what `load` makes, which comes with its size in bytes. Of several callers at once one loads and the rest wait;
    /// when it fails or goes away, the next one tries.
    pub(super) async fn get_or_load<Load>(
        &self,
        identity: Identity,
        load: impl FnOnce() -> Load,
    ) -> Result<Arc<T>, ServingError>
    where
        Load: Future<Output = Result<(T, usize), ServingError>>,
    {
        let cell = self.state.lock().use_entry(&identity);
        let _forget = ForgetUnlessLoaded {
            cache: self,
            identity: &identity,
            cell: &cell,
        };
        let (version, bytes) = cell
            .get_or_try_init(|| async {
                let (version, bytes) = load().await?;
                Ok::<_, ServingError>((Arc::new(version), bytes.max(1)))
            })
            .await?;
        let mut state = self.state.lock();
        state.account(&identity, &cell, *bytes, self.bytes_max);
        Ok(Arc::clone(version))
    }

    #[cfg(test)]
    fn held(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.entries.len(), state.bytes)
    }
}

impl<T> State<T> {
    fn use_entry(&mut self, identity: &Identity) -> Cell<T> {
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
    fn account(&mut self, identity: &Identity, cell: &Cell<T>, bytes: usize, bytes_max: usize) {
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
struct ForgetUnlessLoaded<'a, T> {
    cache: &'a VersionCache<T>,
    identity: &'a Identity,
    cell: &'a Cell<T>,
}

impl<T> Drop for ForgetUnlessLoaded<'_, T> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn version(name: &str, version: u64) -> Identity {
        Identity {
            name: name.to_owned(),
            version,
            job: "job".to_owned(),
            committed_ms: 0,
        }
    }

    /// Asks for `identity`, whose loading answers its own version number at `bytes` bytes; tells whether it was loaded.
    async fn ask(cache: &VersionCache<u64>, identity: Identity, bytes: usize) -> bool {
        let mut loaded = false;
        let number = identity.version;
        let answer = cache
            .get_or_load(identity, async || {
                loaded = true;
                Ok((number, bytes))
            })
            .await;
        assert_eq!(*answer.unwrap(), number);
        loaded
    }

    #[tokio::test]
    async fn a_version_is_loaded_once_for_many_callers_at_the_same_moment() {
        let cache = Arc::new(VersionCache::new(100));
        let loads = Arc::new(AtomicUsize::new(0));
        let callers: Vec<_> = (0..20)
            .map(|_| {
                let (cache, loads) = (Arc::clone(&cache), Arc::clone(&loads));
                tokio::spawn(async move {
                    let load = async || {
                        loads.fetch_add(1, Ordering::Relaxed);
                        tokio::task::yield_now().await;
                        Ok((7_u64, 10))
                    };
                    cache.get_or_load(version("census", 7), load).await.unwrap()
                })
            })
            .collect();
        for caller in callers {
            assert_eq!(*caller.await.unwrap(), 7);
        }
        assert_eq!(loads.load(Ordering::Relaxed), 1);
        assert_eq!(cache.held(), (1, 10));
    }

    #[tokio::test]
    async fn the_least_recently_used_version_makes_room() {
        let cache = VersionCache::new(100);
        assert!(ask(&cache, version("a", 1), 40).await);
        assert!(ask(&cache, version("b", 1), 40).await);
        assert!(!ask(&cache, version("a", 1), 40).await);
        assert!(ask(&cache, version("c", 1), 40).await);
        assert_eq!(cache.held(), (2, 80));
        assert!(!ask(&cache, version("a", 1), 40).await);
        assert!(ask(&cache, version("b", 1), 40).await);
    }

    #[tokio::test]
    async fn a_version_larger_than_the_bound_is_answered_and_not_kept() {
        let cache = VersionCache::new(100);
        assert!(ask(&cache, version("small", 1), 60).await);
        assert!(ask(&cache, version("large", 1), 101).await);
        assert!(ask(&cache, version("large", 1), 101).await);
        assert!(!ask(&cache, version("small", 1), 60).await);
        assert_eq!(cache.held(), (1, 60));
    }

    #[tokio::test]
    async fn a_failed_load_leaves_nothing_and_the_next_caller_tries_again() {
        let cache = VersionCache::<u64>::new(100);
        let failed = cache
            .get_or_load(version("a", 1), async || Err(ServingError::Stopping))
            .await;
        assert!(failed.is_err());
        assert_eq!(cache.held(), (0, 0));
        assert!(ask(&cache, version("a", 1), 5).await);
    }

    #[tokio::test]
    async fn a_model_trained_anew_under_the_same_number_is_another_one() {
        let cache = VersionCache::new(100);
        assert!(ask(&cache, version("a", 1), 5).await);
        let anew = Identity {
            job: "another".to_owned(),
            ..version("a", 1)
        };
        assert!(ask(&cache, anew, 5).await);
    }
}
