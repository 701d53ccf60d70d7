//! One dictionary for all kept row groups of a column.
//!
//! A Parquet file has a dictionary for each row group, in the order in which its values came. Sent as they are, every
//! row group brings its own along. Kept rows are written over to one that grows: row groups that come later share it,
//! and those that were there before are served with it as it has grown.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, DictionaryArray, PrimitiveArray, RecordBatch,
    UInt64Array, downcast_dictionary_array,
};
use arrow::compute::{concat, take};
use arrow::datatypes::{ArrowDictionaryKeyType, ArrowNativeType, ByteArrayType, DataType, Field};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatchOptions;
use parking_lot::Mutex;
use quick_cache::sync::Cache;

use crate::storage::Path;

/// A dictionary of more values is about as large as the keys of a row group, and is left to its row group.
const VALUES_MAX: usize = 1 << 15;
const VALUE_BYTES_MAX: usize = 1 << 19;

/// A dictionary, of at most some 3 MiB with its places, is remembered for each so many bytes of rows that may be kept.
const BYTES_OF_ONE: u64 = 32 << 20;
const COLUMNS_MAX: u64 = 256;

/// The dictionaries of kept rows, by folder of the table, name and type of the column.
#[derive(Debug)]
pub(super) struct Dictionaries(Cache<(Path, String, DataType), Arc<Mutex<SharedValues>>>);

impl Dictionaries {
    /// For `rows_bytes_max` of kept rows.
    pub(super) fn new(rows_bytes_max: u64) -> Self {
        let columns = (rows_bytes_max / BYTES_OF_ONE).clamp(1, COLUMNS_MAX);
        Self(Cache::new(columns as usize))
    }

    /// The rows of a file in `folder` with the dictionaries that its other row groups have.
    pub(super) fn share(&self, folder: &Path, rows: Vec<RecordBatch>) -> Vec<RecordBatch> {
        let mut adopted = Adopted::new();
        rows.into_iter()
            .map(|batch| {
                let shared = self.share_columns(folder, &batch, &mut adopted);
                shared.unwrap_or(batch)
            })
            .collect()
    }

    /// `None` where nothing is to be shared.
    fn share_columns(
        &self,
        folder: &Path,
        batch: &RecordBatch,
        adopted: &mut Adopted,
    ) -> Option<RecordBatch> {
        let mut shared_any = false;
        let columns = batch.schema_ref().fields().iter().zip(batch.columns());
        let columns = columns
            .enumerate()
            .map(|(number, (field, column))| {
                let Some(key) = key_of(folder, field) else {
                    return Arc::clone(column);
                };
                let values = self
                    .0
                    .get_or_insert_with(&key, || Ok::<_, ArrowError>(Arc::default()));
                match values.and_then(|values| values.lock().written_over(number, column, adopted))
                {
                    Ok(Some(column)) => {
                        shared_any = true;
                        column
                    }
                    // What cannot be shared is right as it is.
                    Ok(None) | Err(_) => Arc::clone(column),
                }
            })
            .collect();
        shared_any.then(|| with_columns(batch, columns)).flatten()
    }

    /// Kept rows of a file in `folder` by the dictionaries as they are now: the values that came since stand at the end.
    pub(super) fn as_grown(
        &self,
        folder: &Path,
        rows: &Arc<Vec<RecordBatch>>,
    ) -> Arc<Vec<RecordBatch>> {
        let Some(first) = rows.first() else {
            return Arc::clone(rows);
        };
        let dictionaries: Vec<_> = first
            .schema_ref()
            .fields()
            .iter()
            .map(|field| self.0.get(&key_of(folder, field)?))
            .collect();
        if dictionaries.iter().all(Option::is_none) {
            return Arc::clone(rows);
        }
        let grown = rows.iter().map(|batch| {
            let columns = batch.columns().iter().zip(&dictionaries);
            let columns = columns.map(|(column, dictionary)| {
                let grown = dictionary
                    .as_ref()
                    .and_then(|shared| shared.lock().grown(column));
                grown.unwrap_or_else(|| Arc::clone(column))
            });
            with_columns(batch, columns.collect()).unwrap_or_else(|| batch.clone())
        });
        Arc::new(grown.collect())
    }
}

/// `None`: the column has no dictionary that would be shared.
fn key_of(folder: &Path, field: &Field) -> Option<(Path, String, DataType)> {
    let DataType::Dictionary(_, value) = field.data_type() else {
        return None;
    };
    let shared = matches!(**value, DataType::Utf8 | DataType::Binary);
    shared.then(|| {
        let kind = field.data_type().clone();
        (folder.clone(), field.name().clone(), kind)
    })
}

fn with_columns(batch: &RecordBatch, columns: Vec<ArrayRef>) -> Option<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(batch.schema(), columns, &options).ok()
}

/// The values of a dictionary so far.
#[derive(Debug, Default)]
struct SharedValues {
    places: HashMap<Box<[u8]>, usize>,
    bytes: usize,
    /// `None` as long as there are none.
    values: Option<ArrayRef>,
    /// What they were when there were fewer, as far as somebody has them still.
    earlier: Vec<Weak<dyn Array>>,
    /// Counts how often it was begun anew.
    generation: u64,
}

/// The dictionaries of a row group by column and address: its batches share them.
type Adopted = HashMap<(usize, *const u8), Places>;

/// Where the values of one dictionary stand in the shared one.
struct Places {
    places: Vec<usize>,
    generation: u64,
    /// Kept, so that its address stays its own.
    _values: ArrayRef,
}

impl SharedValues {
    /// The column by this dictionary; `None` where that would be too large, or has more values than the keys can count.
    fn written_over(
        &mut self,
        number: usize,
        column: &ArrayRef,
        adopted: &mut Adopted,
    ) -> Result<Option<ArrayRef>, ArrowError> {
        let values = column.as_any_dictionary().values();
        if values.null_count() > 0 {
            return Ok(None);
        }
        let key = (number, Arc::as_ptr(values).cast::<u8>());
        let known = adopted.get(&key);
        if known.is_none_or(|known| known.generation != self.generation) {
            let Some(places) = self.adopt(values)? else {
                return Ok(None);
            };
            let places = Places {
                places,
                generation: self.generation,
                _values: Arc::clone(values),
            };
            adopted.insert(key, places);
        }
        let (Some(Places { places, .. }), Some(shared)) = (adopted.get(&key), &self.values) else {
            return Ok(None);
        };
        downcast_dictionary_array!(
            column => with_keys(column, places, shared),
            _ => Ok(None)
        )
    }

    /// Where each value stands; those that are new are put at the end.
    fn adopt(&mut self, values: &ArrayRef) -> Result<Option<Vec<usize>>, ArrowError> {
        let texts = match values.data_type() {
            DataType::Utf8 => bytes_of(values.as_string::<i32>()),
            _ => values.as_binary::<i32>().clone(),
        };
        let before = self.places.len();
        let mut new = Vec::new();
        let mut places = Vec::with_capacity(texts.len());
        for (row, text) in texts.iter().flatten().enumerate() {
            if let Some(place) = self.places.get(text) {
                places.push(*place);
                continue;
            }
            let place = before + new.len();
            if place >= VALUES_MAX || self.bytes + text.len() > VALUE_BYTES_MAX {
                // Begun anew with the next row group, which may have fewer.
                *self = Self {
                    generation: self.generation + 1,
                    ..Self::default()
                };
                return Ok(None);
            }
            self.bytes += text.len();
            self.places.insert(text.into(), place);
            places.push(place);
            new.push(row as u64);
        }
        if !new.is_empty() {
            let added = take(values, &UInt64Array::from(new), None)?;
            self.values = Some(match &self.values {
                Some(values) => {
                    self.earlier.retain(|earlier| earlier.strong_count() > 0);
                    self.earlier.push(Arc::downgrade(values));
                    concat(&[values.as_ref(), added.as_ref()])?
                }
                None => added,
            });
        }
        Ok(Some(places))
    }

    /// A column that was written over earlier, by the values of now; `None` where it has those or is none of ours, or
    /// where its keys could not count them.
    fn grown(&self, column: &ArrayRef) -> Option<ArrayRef> {
        let values = self.values.as_ref()?;
        let dictionary = column.as_any_dictionary_opt()?;
        let own: *const u8 = Arc::as_ptr(dictionary.values()).cast();
        let ours = |earlier: &Weak<dyn Array>| std::ptr::eq(earlier.as_ptr().cast(), own);
        if !self.earlier.iter().any(ours) || values.len() > keys_of(dictionary.keys().data_type()) {
            return None;
        }
        Some(dictionary.with_values(Arc::clone(values)))
    }
}

/// How many values keys of this type can count.
fn keys_of(kind: &DataType) -> usize {
    match kind {
        DataType::Int8 => 1 << 7,
        DataType::UInt8 => 1 << 8,
        DataType::Int16 => 1 << 15,
        DataType::UInt16 => 1 << 16,
        _ => VALUES_MAX,
    }
}

fn bytes_of<T: ByteArrayType<Offset = i32>>(
    array: &arrow::array::GenericByteArray<T>,
) -> BinaryArray {
    let (offsets, values, nulls) = array.clone().into_parts();
    BinaryArray::new(offsets, values, nulls)
}

/// The same rows by keys into `shared`.
fn with_keys<K: ArrowDictionaryKeyType>(
    column: &DictionaryArray<K>,
    places: &[usize],
    shared: &ArrayRef,
) -> Result<Option<ArrayRef>, ArrowError> {
    let countable = |place: &usize| K::Native::from_usize(*place);
    let Some(places) = places.iter().map(countable).collect::<Option<Vec<_>>>() else {
        return Ok(None);
    };
    // The key below a null may be anything.
    let nothing = K::Native::default();
    let place = |key: &K::Native| places.get(key.as_usize()).copied().unwrap_or(nothing);
    let keys = column.keys().values().iter().map(place).collect();
    let keys = PrimitiveArray::<K>::try_new(keys, column.nulls().cloned())?;
    let column = DictionaryArray::try_new(keys, Arc::clone(shared))?;
    Ok(Some(Arc::new(column)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::StringArray;
    use arrow::compute::cast;
    use arrow::datatypes::{Int8Type, Int32Type};

    fn batch<K: ArrowDictionaryKeyType>(words: &[Option<&str>]) -> RecordBatch {
        let words: DictionaryArray<K> = words.iter().copied().collect();
        RecordBatch::try_from_iter([("word", Arc::new(words) as ArrayRef)]).unwrap()
    }

    fn texts(batch: &RecordBatch) -> ArrayRef {
        cast(batch.column(0), &DataType::Utf8).unwrap()
    }

    fn values(batch: &RecordBatch) -> ArrayRef {
        Arc::clone(batch.column(0).as_any_dictionary().values())
    }

    #[test]
    fn row_groups_with_the_same_words_in_another_order_share_one_dictionary() {
        let folder = Path::from("datasets/t");
        let dictionaries = Dictionaries::new(1 << 30);
        let rows = [
            batch::<Int32Type>(&[Some("a"), Some("b"), None, Some("a")]),
            batch::<Int32Type>(&[Some("b"), Some("a")]),
            batch::<Int32Type>(&[None, Some("c"), Some("b")]),
            batch::<Int32Type>(&[Some("c"), Some("a")]),
        ];
        let shared: Vec<RecordBatch> = rows
            .iter()
            .flat_map(|batch| dictionaries.share(&folder, vec![batch.clone()]))
            .collect();
        for (shared, rows) in shared.iter().zip(&rows) {
            assert_eq!(shared.schema(), rows.schema());
            assert_eq!(&texts(shared), &texts(rows));
        }
        assert!(Arc::ptr_eq(&values(&shared[0]), &values(&shared[1])));
        assert!(Arc::ptr_eq(&values(&shared[2]), &values(&shared[3])));
        let words = StringArray::from(vec!["a", "b", "c"]);
        assert_eq!(values(&shared[3]).as_string::<i32>(), &words);
        // Another table's column of the same name has its own.
        let other = dictionaries.share(&Path::from("datasets/u"), vec![rows[3].clone()]);
        assert_eq!(values(&other[0]).len(), 2);
    }

    #[test]
    fn rows_that_were_kept_early_are_served_with_the_dictionary_as_it_has_grown() {
        let folder = Path::from("datasets/t");
        let dictionaries = Dictionaries::new(1 << 30);
        let share = |words: &[Option<&str>]| {
            Arc::new(dictionaries.share(&folder, vec![batch::<Int32Type>(words)]))
        };
        let first = share(&[Some("b"), None, Some("a")]);
        let second = share(&[Some("a"), Some("c")]);
        let third = share(&[Some("d")]);
        for kept in [&first, &second, &third] {
            let served = dictionaries.as_grown(&folder, kept);
            assert_eq!(&texts(&served[0]), &texts(&kept[0]));
            assert!(Arc::ptr_eq(&values(&served[0]), &values(&third[0])));
        }
        // Rows that have a dictionary of their own keep it.
        let own = Arc::new(vec![batch::<Int32Type>(&[Some("a")])]);
        let served = dictionaries.as_grown(&folder, &own);
        assert!(Arc::ptr_eq(&values(&served[0]), &values(&own[0])));
    }

    #[test]
    fn a_dictionary_that_outgrows_a_columns_keys_is_not_put_in_the_place_of_its_own() {
        let folder = Path::from("datasets/t");
        let dictionaries = Dictionaries::new(1 << 30);
        let words = |range: std::ops::Range<usize>| -> Vec<String> {
            range.map(|word| word.to_string()).collect()
        };
        let rows = |words: &[String]| {
            let words: Vec<Option<&str>> = words.iter().map(|word| Some(word.as_str())).collect();
            vec![batch::<Int8Type>(&words)]
        };
        let first = Arc::new(dictionaries.share(&folder, rows(&words(0..100))));
        let _ = dictionaries.share(&folder, rows(&words(100..200)));
        let served = dictionaries.as_grown(&folder, &first);
        assert_eq!(values(&served[0]).len(), 100);
    }

    #[test]
    fn a_dictionary_that_grows_beyond_its_keys_is_left_as_it_is() {
        let dictionaries = Dictionaries::new(1 << 30);
        for part in 0..4 {
            let words: Vec<String> = (0..100).map(|word| format!("{part} {word}")).collect();
            let words: Vec<Option<&str>> = words.iter().map(|word| Some(word.as_str())).collect();
            let rows = batch::<Int8Type>(&words);
            let shared = dictionaries.share(&Path::from("t"), vec![rows.clone()]);
            assert_eq!(&texts(&shared[0]), &texts(&rows));
            assert_eq!(shared[0].schema(), rows.schema());
        }
    }

    #[test]
    fn a_dictionary_of_very_many_words_is_left_to_its_row_group() {
        let dictionaries = Dictionaries::new(1 << 30);
        let words: Vec<String> = (0..VALUES_MAX + 1).map(|word| word.to_string()).collect();
        let words: Vec<Option<&str>> = words.iter().map(|word| Some(word.as_str())).collect();
        let rows = batch::<Int32Type>(&words);
        let shared = dictionaries.share(&Path::from("t"), vec![rows.clone()]);
        assert!(Arc::ptr_eq(&values(&shared[0]), &values(&rows)));
    }
}
