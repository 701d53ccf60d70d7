//! Where a server's queries spill: beside the system's other temporary files, never in the shared store.
//!
//! A directory belongs to the process that holds the lock on a file in it, which ends with the process however that ends.
//! What a killed server has left goes when the next one starts on the machine.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use uuid::Uuid;

/// How the directories' names begin.
const STEM: &str = "volary-spill-";
/// The file that is locked.
const IN_USE: &str = "in-use";

/// One server's directory, removed with everything in it when this is dropped.
#[derive(Debug)]
pub struct SpillDirectory {
    place: PathBuf,
    /// None where there is no directory.
    lock: Option<File>,
}

impl SpillDirectory {
    /// Makes a directory in `parent` and removes those there that no process holds any more.
    ///
    /// Where none can be made, this is said and the server goes without: a query that would spill is refused.
    pub(super) fn make(parent: &Path) -> Self {
        match sweep(parent) {
            Ok(0) => {}
            Ok(removed) => tracing::info!(removed, "removed what killed servers had spilled"),
            Err(error) => {
                tracing::warn!(?parent, %error, "cannot look for what killed servers have spilled")
            }
        }
        let place = parent.join(format!("{STEM}{}", Uuid::new_v4()));
        let lock = made(&place).inspect_err(|error| {
            tracing::warn!(?place, %error, "there is no directory for queries to spill to");
        });
        Self {
            place,
            lock: lock.ok(),
        }
    }

    pub fn path(&self) -> &Path {
        &self.place
    }
}

impl Drop for SpillDirectory {
    fn drop(&mut self) {
        if self.lock.is_some() {
            let _ = std::fs::remove_dir_all(&self.place);
        }
    }
}

/// A directory whose file is locked. It gets its name when it is: until then nobody takes it for an abandoned one.
fn made(place: &Path) -> io::Result<File> {
    let name = place.file_name().unwrap_or_default().to_string_lossy();
    let hidden = place.with_file_name(format!(".{name}"));
    std::fs::create_dir(&hidden)?;
    let lock = File::create(hidden.join(IN_USE))?;
    lock.try_lock()?;
    std::fs::rename(&hidden, place)?;
    Ok(lock)
}

/// Removes the directories that nobody holds; answers how many.
fn sweep(parent: &Path) -> io::Result<usize> {
    let mut removed = 0;
    for entry in std::fs::read_dir(parent)? {
        let entry = entry?;
        if !entry.file_name().to_string_lossy().starts_with(STEM) {
            continue;
        }
        // Another user's, or gone meanwhile.
        let Ok(lock) = File::open(entry.path().join(IN_USE)) else {
            continue;
        };
        if lock.try_lock().is_ok() && std::fs::remove_dir_all(entry.path()).is_ok() {
            removed += 1;
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(parent: &Path) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(parent).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    #[test]
    fn a_server_removes_what_a_killed_one_has_spilled_and_nothing_of_one_that_lives() {
        let parent = tempfile::tempdir().unwrap();
        let living = SpillDirectory::make(parent.path());
        let killed = SpillDirectory::make(parent.path());
        std::fs::write(killed.path().join("sorted"), "rows").unwrap();
        // A process that is killed lets go of its locks and runs no destructor.
        let left = killed.path().to_owned();
        killed.lock.as_ref().unwrap().unlock().unwrap();
        std::mem::forget(killed);
        let others = parent.path().join("volary-of-somebody-else");
        std::fs::create_dir(&others).unwrap();

        let next = SpillDirectory::make(parent.path());
        assert!(!left.exists());
        let mut expected = vec![
            living.path().to_owned(),
            next.path().to_owned(),
            others.clone(),
        ];
        let mut found = names(parent.path());
        expected.sort();
        found.sort();
        assert_eq!(found, expected);
        drop((living, next));
        assert_eq!(names(parent.path()), [others]);
    }

    #[test]
    fn a_server_without_a_place_to_spill_starts() {
        let parent = tempfile::tempdir().unwrap();
        let absent = parent.path().join("absent");
        let spill = SpillDirectory::make(&absent);
        assert!(spill.lock.is_none() && !spill.path().exists());
    }
}
