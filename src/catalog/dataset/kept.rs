//! What is kept of files that were read: their footers, and rows as they were last decoded. A file never changes, so
//! nothing kept is ever wrong.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Fields;
use parking_lot::Mutex;
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};

use super::DataFile;
use super::dictionaries::Dictionaries;
use crate::catalog::CatalogError;
use crate::storage::parquet::read_footer;
use crate::storage::{Objects, ParquetMetaData, Path};

/// What all datasets of a store share of their files.
#[derive(Debug)]
pub(super) struct Kept {
    footers: Mutex<HashMap<Path, Arc<ParquetMetaData>>>,
    rows: Option<Arc<KeptRows>>,
}

/// Footers kept; one is some kilobytes to a megabyte. Beyond that all are read again.
const FOOTERS_MAX: usize = 512;

/// Row groups of which it is remembered that they were read.
const READ_ONCE_MAX: usize = 1 << 16;

/// A row group larger than this part of all that may be kept is not: it would push out too much else. Nor may more be
/// on its way to be kept, which slow readers could make last.
const SHARE_OF_ONE: u64 = 4;

/// One row group in the columns and types that a reader had it in.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct RowGroupKey {
    pub(super) file: Path,
    pub(super) row_group: usize,
    pub(super) columns: Fields,
}

/// A row group's rows, in the batches that they were decoded in.
pub(super) type Rows = Arc<Vec<RecordBatch>>;

#[derive(Debug)]
struct KeptRows {
    bytes_max: u64,
    rows: Cache<RowGroupKey, Rows, Bytes>,
    /// By a hash of the key, which is much smaller.
    read_once: Cache<u64, ()>,
    hashes: RandomState,
    /// Hashes of the row groups that somebody gathers.
    gathered: Mutex<HashSet<u64>>,
    bytes_gathered: AtomicU64,
    dictionaries: Dictionaries,
}

/// Counts rows by the memory that they hold.
#[derive(Debug, Clone)]
struct Bytes;

impl Weighter<RowGroupKey, Rows> for Bytes {
    fn weight(&self, _: &RowGroupKey, rows: &Rows) -> u64 {
        bytes_of(rows)
    }
}

/// A dictionary that several batches share is counted once.
fn bytes_of(rows: &[RecordBatch]) -> u64 {
    let mut dictionaries: HashSet<*const u8> = HashSet::new();
    let mut bytes = 1;
    for column in rows.iter().flat_map(RecordBatch::columns) {
        bytes += column.get_array_memory_size();
        if let Some(dictionary) = column.as_any_dictionary_opt() {
            let values = dictionary.values();
            if !dictionaries.insert(Arc::as_ptr(values).cast()) {
                bytes = bytes.saturating_sub(values.get_array_memory_size());
            }
        }
    }
    bytes as u64
}

impl Kept {
    /// Keeps at most so many bytes of rows; 0: none.
    pub(super) fn new(rows_bytes_max: u64) -> Self {
        Self {
            footers: Mutex::default(),
            rows: (rows_bytes_max > 0).then(|| Arc::new(KeptRows::new(rows_bytes_max))),
        }
    }

    /// The file's footer, read at most once.
    pub(super) async fn footer(
        &self,
        objects: &Objects,
        file: &DataFile,
    ) -> Result<Arc<ParquetMetaData>, CatalogError> {
        if let Some(known) = self.footers.lock().get(&file.path) {
            return Ok(Arc::clone(known));
        }
        let footer = read_footer(objects, &file.path, file.bytes).await?;
        let mut known = self.footers.lock();
        if known.len() >= FOOTERS_MAX {
            known.clear();
        }
        known.insert(file.path.clone(), Arc::clone(&footer));
        Ok(footer)
    }

    /// The rows, when they are kept.
    pub(super) fn rows(&self, key: &RowGroupKey) -> Option<Rows> {
        let kept = self.rows.as_ref()?;
        let rows = kept.rows.get(key)?;
        Some(kept.dictionaries.as_grown(&folder_of(&key.file), &rows))
    }

    /// Begins to gather a row group's rows, where they should be kept. Not when they are asked for the first time: what is
    /// read once, be it a whole large dataset, takes no memory from what is read again and again. Nor when another reader
    /// gathers them.
    pub(super) fn gather(&self, key: RowGroupKey) -> Option<Gathering> {
        let kept = self.rows.as_ref()?;
        let hash = kept.hashes.hash_one(&key);
        if kept.read_once.get(&hash).is_none() {
            kept.read_once.insert(hash, ());
            return None;
        }
        kept.gathered.lock().insert(hash).then(|| Gathering {
            kept: Arc::clone(kept),
            key,
            hash,
            rows: Vec::new(),
            bytes: 0,
        })
    }
}

/// The rows of one row group on their way to be kept; dropped, they are not.
#[derive(Debug)]
pub(super) struct Gathering {
    kept: Arc<KeptRows>,
    key: RowGroupKey,
    hash: u64,
    rows: Vec<RecordBatch>,
    bytes: u64,
}

impl Gathering {
    /// Takes one more batch. `None`: they are too many to be kept.
    pub(super) fn add(mut self, batch: &RecordBatch) -> Option<Self> {
        let bytes = bytes_of(std::slice::from_ref(batch));
        self.bytes += bytes;
        let all = self.kept.bytes_gathered.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.rows.push(batch.clone());
        (all <= self.kept.bytes_max / SHARE_OF_ONE).then_some(self)
    }

    /// Keeps the rows, in the place of some that were used less. Work for a blocking thread.
    pub(super) fn keep(mut self) {
        let rows = std::mem::take(&mut self.rows);
        let rows = self
            .kept
            .dictionaries
            .share(&folder_of(&self.key.file), rows);
        self.kept.rows.insert(self.key.clone(), Arc::new(rows));
    }
}

impl Drop for Gathering {
    fn drop(&mut self) {
        self.kept
            .bytes_gathered
            .fetch_sub(self.bytes, Ordering::Relaxed);
        self.kept.gathered.lock().remove(&self.hash);
    }
}

fn folder_of(file: &Path) -> Path {
    let mut parts: Vec<_> = file.parts().collect();
    parts.pop();
    parts.into_iter().collect()
}

impl KeptRows {
    fn new(bytes_max: u64) -> Self {
        /// What a row group has, about: the number of entries is estimated by it, and no limit of anything.
        const ROW_GROUP_BYTES: u64 = 8 << 20;
        let items = usize::try_from(bytes_max / ROW_GROUP_BYTES).map_or(1, |items| items.max(1));
        let options = OptionsBuilder::new()
            // One: of several, each would have its part of the memory, and large entries fill them unevenly.
            .shards(1)
            .estimated_items_capacity(items)
            .weight_capacity(bytes_max)
            .build()
            .expect("both capacities are given");
        Self {
            bytes_max,
            rows: Cache::with_options(
                options,
                Bytes,
                DefaultHashBuilder::default(),
                DefaultLifecycle::default(),
            ),
            read_once: Cache::new(READ_ONCE_MAX),
            hashes: RandomState::new(),
            gathered: Mutex::default(),
            bytes_gathered: AtomicU64::new(0),
            dictionaries: Dictionaries::new(bytes_max),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Int64Array};
    use arrow::datatypes::{DataType, Field};

    const ROWS: usize = 1 << 10;

    fn key(row_group: usize) -> RowGroupKey {
        RowGroupKey {
            file: Path::from("datasets/t/part.parquet"),
            row_group,
            columns: Fields::from(vec![Field::new("n", DataType::Int64, false)]),
        }
    }

    fn rows() -> Vec<RecordBatch> {
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..ROWS as i64));
        vec![RecordBatch::try_from_iter([("n", numbers)]).unwrap()]
    }

    fn read(kept: &Kept, row_group: usize) {
        let key = key(row_group);
        if kept.rows(&key).is_some() {
            return;
        }
        let mut gathering = kept.gather(key);
        for batch in rows() {
            gathering = gathering.and_then(|gathering| gathering.add(&batch));
        }
        if let Some(gathering) = gathering {
            gathering.keep();
        }
    }

    #[test]
    fn rows_are_kept_when_they_are_read_again_and_not_before() {
        let kept = Kept::new(1 << 20);
        read(&kept, 0);
        assert!(kept.rows(&key(0)).is_none());
        read(&kept, 0);
        assert_eq!(*kept.rows(&key(0)).unwrap(), rows());
        assert!(kept.rows(&key(1)).is_none());
    }

    #[test]
    fn no_more_is_kept_than_may_be() {
        let bytes_max = 10 * bytes_of(&rows());
        let kept = Kept::new(bytes_max);
        for row_group in (0..100).flat_map(|row_group| [row_group, row_group]) {
            read(&kept, row_group);
        }
        let held: Vec<Rows> = (0..100)
            .filter_map(|number| kept.rows(&key(number)))
            .collect();
        let bytes: u64 = held.iter().map(|rows| bytes_of(rows)).sum();
        assert!(
            !held.is_empty() && bytes <= bytes_max,
            "{bytes} of {bytes_max}"
        );
    }

    #[test]
    fn one_row_group_that_is_most_of_what_may_be_kept_is_not_kept() {
        let kept = Kept::new(2 * bytes_of(&rows()));
        read(&kept, 0);
        read(&kept, 0);
        assert!(kept.rows(&key(0)).is_none());
    }

    #[test]
    fn one_reader_gathers_a_row_group_and_one_that_gives_up_leaves_it_to_the_next() {
        let kept = Kept::new(1 << 20);
        assert!(kept.gather(key(0)).is_none());
        let first = kept.gather(key(0)).expect("the second time");
        assert!(kept.gather(key(0)).is_none());
        let first = first.add(&rows()[0]).expect("it is small");
        drop(first);
        let inner = kept.rows.as_ref().unwrap();
        assert_eq!(inner.bytes_gathered.load(Ordering::Relaxed), 0);
        assert!(kept.gather(key(0)).is_some());
    }

    #[test]
    fn a_dictionary_is_counted_once_for_all_batches_that_share_it() {
        use arrow::array::{DictionaryArray, Int32Array, StringArray};
        let words: ArrayRef = Arc::new(StringArray::from(vec!["x".repeat(10_000)]));
        let batch = || {
            let keys = Int32Array::from(vec![0; 10]);
            let column: ArrayRef = Arc::new(DictionaryArray::new(keys, Arc::clone(&words)));
            RecordBatch::try_from_iter([("word", column)]).unwrap()
        };
        let bytes = bytes_of(&[batch(), batch(), batch()]);
        assert!((10_000..20_000).contains(&bytes), "{bytes}");
    }

    #[test]
    fn nothing_is_kept_where_nothing_may_be() {
        let kept = Kept::new(0);
        read(&kept, 0);
        read(&kept, 0);
        assert!(kept.rows(&key(0)).is_none());
    }
}
