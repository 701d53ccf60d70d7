//! Categories to places: a table built once when a pipeline is fitted or loaded, and asked once per value.
//!
//! The tables are small (tens to thousands of categories) and the values short, so a value's first and last sixteen
//! bytes are read as numbers: they are the hash's input and, with the length, for values of up to 32 bytes the whole
//! comparison. No string is made and nothing is allocated per row.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeListArray, Float32Array, GenericStringArray, Int32Array,
    OffsetSizeTrait,
};
use arrow::datatypes::{DataType, Field, Int64Type};
use datafusion::error::{DataFusionError, Result as DataFusionResult};

use super::wrong_argument;

/// Stands for "no place" in the walk below.
const NOWHERE: u32 = u32::MAX;

/// The values of a categorical column, in the order of their places.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::features) enum CategoryValues {
    Text(Vec<String>),
    /// Integers, and booleans as 0 and 1.
    Integer(Vec<i64>),
}

/// Category values with their table.
#[derive(Debug, Clone)]
pub(in crate::features) struct Categories {
    values: CategoryValues,
    /// Null was met in training and is a category: the last one.
    null: bool,
    table: Table,
}

impl PartialEq for Categories {
    fn eq(&self, other: &Self) -> bool {
        self.values == other.values && self.null == other.null
    }
}

impl Categories {
    pub(in crate::features) fn new(values: CategoryValues, null: bool) -> Self {
        let table = match &values {
            CategoryValues::Text(texts) => Table::new(texts.iter().map(String::as_bytes)),
            CategoryValues::Integer(numbers) => {
                let bytes: Vec<[u8; 8]> =
                    numbers.iter().map(|number| number.to_le_bytes()).collect();
                Table::new(bytes.iter().map(<[u8; 8]>::as_slice))
            }
        };
        Self {
            values,
            null,
            table,
        }
    }

    pub(in crate::features) fn values(&self) -> &CategoryValues {
        &self.values
    }

    pub(in crate::features) fn has_null(&self) -> bool {
        self.null
    }

    /// Categories, the null one included.
    pub(in crate::features) fn len(&self) -> usize {
        self.known() + usize::from(self.null)
    }

    fn known(&self) -> usize {
        match &self.values {
            CategoryValues::Text(texts) => texts.len(),
            CategoryValues::Integer(numbers) => numbers.len(),
        }
    }

    /// FixedSizeList<Float32>: zeros with a 1 at the category's place; unknown ones at the last place or nowhere.
    pub(super) fn one_hot(&self, column: &ArrayRef, bucket: bool) -> DataFusionResult<ArrayRef> {
        let slots = super::ColumnFunction::slots(self, bucket);
        let total = column.len().checked_mul(slots).ok_or_else(|| {
            DataFusionError::ResourcesExhausted("a one-hot batch is too large".into())
        })?;
        let mut numbers = vec![0.0_f32; total];
        let unknown = if bucket { self.len() as u32 } else { NOWHERE };
        let null = if self.null {
            self.known() as u32
        } else {
            unknown
        };
        self.walk(column, null, unknown, |row, place| {
            if let Some(number) = numbers.get_mut(row * slots + place as usize)
                && place != NOWHERE
            {
                *number = 1.0;
            }
        })?;
        let list = FixedSizeListArray::try_new_with_length(
            Arc::new(Field::new_list_field(DataType::Float32, false)),
            i32::try_from(slots).map_err(|_| {
                DataFusionError::ResourcesExhausted("too many categories for one-hot".into())
            })?,
            Arc::new(Float32Array::from(numbers)),
            None,
            column.len(),
        )?;
        Ok(Arc::new(list))
    }

    /// Int32: the category's place from 1; 0 for unknown ones and null.
    pub(super) fn index(&self, column: &ArrayRef) -> DataFusionResult<ArrayRef> {
        let mut places = vec![0_i32; column.len()];
        self.walk(column, NOWHERE, NOWHERE, |row, place| {
            // NOWHERE wraps to 0, the place of the unknown.
            places[row] = place.wrapping_add(1) as i32;
        })?;
        Ok(Arc::new(Int32Array::from(places)))
    }

    fn walk(
        &self,
        column: &ArrayRef,
        null: u32,
        unknown: u32,
        emit: impl FnMut(usize, u32),
    ) -> DataFusionResult<()> {
        match (&self.values, column.data_type()) {
            (CategoryValues::Text(_), DataType::Utf8) => {
                self.walk_text(column.as_string::<i32>(), null, unknown, emit);
            }
            (CategoryValues::Text(_), DataType::LargeUtf8) => {
                self.walk_text(column.as_string::<i64>(), null, unknown, emit);
            }
            (CategoryValues::Text(_), DataType::Utf8View) => {
                let mut emit = emit;
                for (row, value) in column.as_string_view().iter().enumerate() {
                    let place = match value {
                        None => null,
                        Some(text) => self.table.find(text.as_bytes(), 0, text.len(), unknown),
                    };
                    emit(row, place);
                }
            }
            (CategoryValues::Integer(_), DataType::Int64) => {
                let mut emit = emit;
                for (row, value) in column.as_primitive::<Int64Type>().iter().enumerate() {
                    let place = match value {
                        None => null,
                        Some(number) => self.table.find(&number.to_le_bytes(), 0, 8, unknown),
                    };
                    emit(row, place);
                }
            }
            (_, other) => return Err(wrong_argument("category lookup", other)),
        }
        Ok(())
    }

    fn walk_text<O: OffsetSizeTrait>(
        &self,
        texts: &GenericStringArray<O>,
        null: u32,
        unknown: u32,
        mut emit: impl FnMut(usize, u32),
    ) {
        let bytes = texts.value_data();
        let nulls = texts.nulls().filter(|nulls| nulls.null_count() > 0);
        for (row, ends) in texts.value_offsets().windows(2).enumerate() {
            let place = if nulls.is_some_and(|nulls| nulls.is_null(row)) {
                null
            } else {
                let start = ends[0].as_usize();
                self.table
                    .find(bytes, start, ends[1].as_usize() - start, unknown)
            };
            emit(row, place);
        }
    }
}

/// Open addressing over byte strings; at most half full.
#[derive(Debug, Clone)]
struct Table {
    /// Place of the key in each bucket, NOWHERE when it is empty.
    buckets: Vec<Bucket>,
    keys: Vec<Box<[u8]>>,
    shift: u32,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    ends: Ends,
    length: u32,
    place: u32,
}

const EMPTY: Bucket = Bucket {
    ends: Ends { head: 0, tail: 0 },
    length: 0,
    place: NOWHERE,
};

/// Up to this length the two ends and the length are the whole value.
const ENDS_BYTES: usize = 32;

impl Table {
    fn new<'a>(keys: impl Iterator<Item = &'a [u8]>) -> Self {
        let keys: Vec<Box<[u8]>> = keys.map(Into::into).collect();
        let size = (keys.len() * 2 + 1).next_power_of_two().max(4);
        let mut table = Self {
            buckets: vec![EMPTY; size],
            shift: 64 - size.trailing_zeros(),
            keys: Vec::new(),
        };
        for (place, key) in keys.iter().enumerate() {
            let ends = Ends::of(key, 0, key.len());
            let mut at = (ends.mix(key.len()) >> table.shift) as usize;
            while table.buckets[at].place != NOWHERE {
                at = (at + 1) & (size - 1);
            }
            table.buckets[at] = Bucket {
                ends,
                length: key.len() as u32,
                place: place as u32,
            };
        }
        table.keys = keys;
        table
    }

    /// Place of `bytes[start..start + length]`, or `unknown`.
    #[inline]
    fn find(&self, bytes: &[u8], start: usize, length: usize, unknown: u32) -> u32 {
        let ends = Ends::of(bytes, start, length);
        let last = self.buckets.len() - 1;
        let mut at = (ends.mix(length) >> self.shift) as usize & last;
        loop {
            let bucket = &self.buckets[at];
            let same = (bucket.ends.head == ends.head)
                & (bucket.ends.tail == ends.tail)
                & (bucket.length as usize == length);
            if bucket.place == NOWHERE {
                return unknown;
            }
            if same
                && (length <= ENDS_BYTES
                    || *self.keys[bucket.place as usize] == bytes[start..start + length])
            {
                return bucket.place;
            }
            at = (at + 1) & last;
        }
    }
}

/// The first and the last sixteen bytes of a value as numbers; of a shorter value, both are all of it, zeros behind.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Ends {
    head: u128,
    tail: u128,
}

impl Ends {
    /// Without a branch on the length while sixteen bytes can be read: values of mixed lengths are the rule.
    #[inline]
    fn of(bytes: &[u8], start: usize, length: usize) -> Self {
        let reach = length.max(16);
        let Some(around) = bytes.get(start..start + reach) else {
            return Self::at_the_end(&bytes[start..start + length]);
        };
        let mask = u128::MAX >> (128 - 8 * length.clamp(1, 16));
        let mask = if length == 0 { 0 } else { mask };
        match (around.first_chunk::<16>(), around.last_chunk::<16>()) {
            (Some(head), Some(tail)) => Self {
                head: u128::from_le_bytes(*head) & mask,
                tail: u128::from_le_bytes(*tail) & mask,
            },
            _ => Self::at_the_end(&bytes[start..start + length]),
        }
    }

    /// A value of fewer than sixteen bytes at the end of the buffer.
    #[cold]
    fn at_the_end(value: &[u8]) -> Self {
        let mut chunk = [0; 16];
        for (to, from) in chunk.iter_mut().zip(value) {
            *to = *from;
        }
        let head = u128::from_le_bytes(chunk);
        Self { head, tail: head }
    }

    /// Multiply-and-fold, as wyhash and foldhash do.
    #[inline]
    fn mix(self, length: usize) -> u64 {
        // Digits of pi: any odd numbers with mixed bits will do.
        const LOW: u64 = 0x243f_6a88_85a3_08d3;
        const HIGH: u64 = 0x1319_8a2e_0370_7345;
        const LENGTH: u64 = 0xa409_3822_299f_31d1;
        let low = self.head as u64 ^ ((self.tail >> 64) as u64).rotate_left(23) ^ LOW;
        let high = (self.head >> 64) as u64
            ^ (self.tail as u64).rotate_left(41)
            ^ HIGH
            ^ (length as u64).wrapping_mul(LENGTH);
        let product = u128::from(low) * u128::from(high);
        let folded = (product as u64) ^ ((product >> 64) as u64);
        folded.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int64Array, LargeStringArray, StringArray, StringViewArray};
    use arrow::datatypes::{Float32Type, Int32Type};

    fn words(count: usize) -> Vec<String> {
        (0..count)
            .map(|number| {
                let stem = format!("{:x}", number * 2_654_435_761 % 4_294_967_296);
                stem.repeat(1 + number % 5)
            })
            .collect()
    }

    fn indices(out: &ArrayRef) -> Vec<i32> {
        out.as_primitive::<Int32Type>().values().to_vec()
    }

    #[test]
    fn every_category_is_found_at_its_place_and_no_other_value_is() {
        let mut known = words(3_000);
        known.push(String::new());
        known.push("Ünïcode, a text longer than sixteen bytes".into());
        let categories = Categories::new(CategoryValues::Text(known.clone()), false);
        let expected: Vec<i32> = (1..=known.len() as i32).collect();
        let forms: [ArrayRef; 3] = [
            Arc::new(StringArray::from(known.clone())),
            Arc::new(LargeStringArray::from(known.clone())),
            Arc::new(StringViewArray::from_iter_values(&known)),
        ];
        for column in forms {
            assert_eq!(indices(&categories.index(&column).unwrap()), expected);
            let slice = column.slice(17, 100);
            assert_eq!(
                indices(&categories.index(&slice).unwrap()),
                &expected[17..117]
            );
        }
        let strangers: Vec<String> = known.iter().map(|word| format!("{word}\0")).collect();
        let column: ArrayRef = Arc::new(StringArray::from(strangers));
        let found = indices(&categories.index(&column).unwrap());
        assert!(found.iter().all(|place| *place == 0));
    }

    #[test]
    fn a_long_category_differs_from_one_with_the_same_ends() {
        let categories = Categories::new(
            CategoryValues::Text(vec!["0123456789abcdef-x-01234567".into()]),
            false,
        );
        let column: ArrayRef = Arc::new(StringArray::from(vec![
            "0123456789abcdef-x-01234567",
            "0123456789abcdef-y-01234567",
        ]));
        assert_eq!(indices(&categories.index(&column).unwrap()), [1, 0]);
    }

    #[test]
    fn one_hot_has_places_for_categories_then_null_then_the_unknown() {
        let column: ArrayRef = Arc::new(StringArray::from(vec![Some("b"), Some("?"), None]));
        let text = || CategoryValues::Text(vec!["a".into(), "b".into()]);
        let rows = |null, bucket| {
            let out = Categories::new(text(), null)
                .one_hot(&column, bucket)
                .unwrap();
            let list = out.as_fixed_size_list();
            list.values()
                .as_primitive::<Float32Type>()
                .values()
                .chunks(list.value_length() as usize)
                .map(<[f32]>::to_vec)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            rows(true, true),
            [[0., 1., 0., 0.], [0., 0., 0., 1.], [0., 0., 1., 0.]]
        );
        assert_eq!(
            rows(false, true),
            [[0., 1., 0.], [0., 0., 1.], [0., 0., 1.]]
        );
        assert_eq!(
            rows(true, false),
            [[0., 1., 0.], [0., 0., 0.], [0., 0., 1.]]
        );
        assert_eq!(rows(false, false), [[0., 1.], [0., 0.], [0., 0.]]);
    }

    #[test]
    fn integers_are_categories_too() {
        let categories = Categories::new(CategoryValues::Integer(vec![-4, 0, 9]), false);
        let column: ArrayRef = Arc::new(Int64Array::from(vec![Some(9), None, Some(-4), Some(1)]));
        assert_eq!(indices(&categories.index(&column).unwrap()), [3, 0, 1, 0]);
    }
}
