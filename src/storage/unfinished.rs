//! Files that are not whole: `object_store` and we write an object beside its place, under its name with `#` and digits, which
//! no listing shows, and then rename it. A process that was killed leaves such a file for ever.
//!
//! Whoever writes one for longer touches it now and then, so that its age tells whether its writer lives.

use std::fs::File;
use std::io::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tokio_util::task::AbortOnDropHandle;

/// How often a file that is written in parts is touched. Who calls one abandoned waits for many times as long: clocks
/// differ, and a machine may sleep.
pub const TOUCH_EVERY: Duration = Duration::from_secs(60);

/// Whether an object of another name is being written under this one.
fn is_unfinished(name: &str) -> bool {
    name.rsplit_once('#')
        .is_some_and(|(_, digits)| !digits.is_empty() && digits.bytes().all(|c| c.is_ascii_digit()))
}

fn is_absent(error: &Error) -> bool {
    error.kind() == ErrorKind::NotFound
}

/// Calls `each` with every unfinished file directly in `folder` whose name begins with `stem`; none where there is no
/// folder.
fn each_unfinished(
    folder: &Path,
    stem: &str,
    mut each: impl FnMut(&Path) -> Result<()>,
) -> Result<()> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if is_absent(&error) => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let is_one = name
            .to_str()
            .is_some_and(|name| name.starts_with(stem) && is_unfinished(name));
        if is_one {
            match each(&entry.path()) {
                Err(error) if is_absent(&error) => {}
                done => done?,
            }
        }
    }
    Ok(())
}

/// Removes the unfinished files of a folder whose names begin with `stem`, and the folder when it is empty then.
pub(super) fn remove_by_stem(folder: &Path, stem: &str) -> Result<()> {
    each_unfinished(folder, stem, |path| std::fs::remove_file(path))?;
    // Refused while anything else is in it.
    let _ = std::fs::remove_dir(folder);
    Ok(())
}

/// Removes the unfinished files below a folder that nobody has touched since `before`; answers how many.
pub(super) fn remove_untouched(folder: &Path, before: SystemTime) -> Result<usize> {
    let mut removed = 0;
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let entries = match std::fs::read_dir(&folder) {
            Err(error) if is_absent(&error) => continue,
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            }
        }
        each_unfinished(&folder, "", |path| {
            if std::fs::metadata(path)?.modified()? < before {
                std::fs::remove_file(path)?;
                removed += 1;
            }
            Ok(())
        })?;
    }
    Ok(removed)
}

/// Touches the file in which `target` is being written until the handle is dropped. No other writer may have the target.
pub(super) fn keep_touched(target: PathBuf, every: Duration) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        loop {
            tokio::time::sleep(every).await;
            let target = target.clone();
            let touched = tokio::task::spawn_blocking(move || touch(&target)).await;
            if let Ok(Err(error)) = touched {
                tracing::warn!(%error, "a file that is being written could not be touched");
            }
        }
    }))
}

fn touch(target: &Path) -> Result<()> {
    let (Some(folder), Some(name)) = (target.parent(), target.file_name()) else {
        return Ok(());
    };
    let stem = format!("{}#", name.to_string_lossy());
    let now = SystemTime::now();
    each_unfinished(folder, &stem, |path| {
        File::options().write(true).open(path)?.set_modified(now)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{Objects, Path as ObjectPath};
    use object_store::ObjectStoreExt as _;

    const HOUR: Duration = Duration::from_secs(3600);

    fn age(path: &Path, by: Duration) {
        let file = File::options().write(true).open(path).unwrap();
        file.set_modified(SystemTime::now() - by).unwrap();
    }

    #[tokio::test]
    async fn what_a_killed_process_left_half_written_is_removed_by_the_beginning_of_its_name() {
        let directory = tempfile::tempdir().unwrap();
        let objects = Objects::open(directory.path().to_str().unwrap()).unwrap();
        let folder = directory.path().join("a");
        std::fs::create_dir(&folder).unwrap();
        for name in ["mine-1#7", "mine#x", "mine", "other#7"] {
            std::fs::write(folder.join(name), b"").unwrap();
        }
        let prefix = ObjectPath::from("a");
        objects.remove_unfinished(&prefix, "mine").await.unwrap();
        let left = || {
            let entries = std::fs::read_dir(&folder).unwrap();
            let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            names.collect::<std::collections::BTreeSet<String>>()
        };
        let expected = ["mine", "mine#x", "other#7"].map(String::from);
        assert_eq!(left(), expected.into());
        for name in ["mine#x", "mine"] {
            std::fs::remove_file(folder.join(name)).unwrap();
        }
        objects.remove_unfinished(&prefix, "other").await.unwrap();
        assert!(!folder.exists());
        objects.remove_unfinished(&prefix, "").await.unwrap();
    }

    #[tokio::test]
    async fn what_nobody_has_touched_for_long_is_removed_wherever_it_lies_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let objects = Objects::open(directory.path().to_str().unwrap()).unwrap();
        let log = directory.path().join("datasets/t/_delta_log");
        std::fs::create_dir_all(&log).unwrap();
        let table = directory.path().join("datasets/t");
        let old = [table.join("part-1.parquet#1"), log.join("0.json#42")];
        let kept = [
            table.join("part-1.parquet"),
            table.join("part-2.parquet#1"),
            table.join("notes#x"),
            directory.path().join("other#1"),
        ];
        for path in old.iter().chain(&kept) {
            std::fs::write(path, b"rows").unwrap();
            age(path, HOUR * 2);
        }
        age(&kept[1], Duration::ZERO);
        let before = SystemTime::now() - HOUR;
        let folder = ObjectPath::from("datasets");
        assert_eq!(objects.remove_abandoned(&folder, before).await.unwrap(), 2);
        assert!(old.iter().all(|path| !path.exists()));
        assert!(kept.iter().all(|path| path.exists()));
        assert_eq!(objects.remove_abandoned(&folder, before).await.unwrap(), 0);
        let none = ObjectPath::from("none");
        assert_eq!(objects.remove_abandoned(&none, before).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_file_that_is_being_written_stays_young_and_is_forgotten_with_its_writer() {
        let directory = tempfile::tempdir().unwrap();
        let objects = Objects::open(directory.path().to_str().unwrap()).unwrap();
        let store = objects.store();
        let mut upload = store
            .put_multipart(&ObjectPath::from("datasets/t/part-1.parquet"))
            .await
            .unwrap();
        upload.put_part(vec![1; 10].into()).await.unwrap();
        let folder = directory.path().join("datasets/t");
        let mut files = std::fs::read_dir(&folder).unwrap();
        let written = files.next().unwrap().unwrap().path();
        assert!(is_unfinished(written.to_str().unwrap()));
        age(&written, HOUR * 2);

        let touched = keep_touched(folder.join("part-1.parquet"), Duration::from_millis(1));
        let is_young = || {
            let modified = std::fs::metadata(&written).unwrap().modified().unwrap();
            SystemTime::now() - HOUR < modified
        };
        while !is_young() {
            tokio::task::yield_now().await;
        }
        drop(touched);
        upload.complete().await.unwrap();
        assert!(!written.exists() && folder.join("part-1.parquet").exists());
    }
}
