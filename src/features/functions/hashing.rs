//! Values to buckets by a fixed hash: murmur3 (x86, 32 bits, seed 0) of the value's UTF-8 text, modulo the buckets.
//!
//! The hash is scikit-learn's `murmurhash3_32(text, positive=True)`. Text is hashed as it is; integers, booleans and
//! floats by their shortest decimal text (`-3`, `true`, `0.5`); null by the one character U+0000, so that it has a
//! bucket of its own as any other value has.

use std::io::Cursor;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int32Array};
use arrow::datatypes::{DataType, Float64Type, Int32Type, Int64Type};
use datafusion::error::{DataFusionError, Result as DataFusionResult};

use super::wrong_argument;

/// Stands for a null.
const NULL_TEXT: &str = "\0";
/// Between the texts of a cross; U+001F, "unit separator".
const SEPARATOR: u8 = 0x1f;

pub(super) fn hash(column: &ArrayRef, buckets: u32) -> DataFusionResult<ArrayRef> {
    cross(std::slice::from_ref(column), column.len(), buckets)
}

pub(super) fn cross(columns: &[ArrayRef], rows: usize, buckets: u32) -> DataFusionResult<ArrayRef> {
    for column in columns {
        if column.len() != rows {
            return Err(DataFusionError::Internal(
                "columns of unequal length".into(),
            ));
        }
    }
    let texts = columns
        .iter()
        .map(Texts::of)
        .collect::<DataFusionResult<Vec<_>>>()?;
    let mut text = Vec::new();
    let mut numbers = Vec::with_capacity(rows);
    for row in 0..rows {
        text.clear();
        for (place, texts) in texts.iter().enumerate() {
            if place > 0 {
                text.push(SEPARATOR);
            }
            texts.append(row, &mut text);
        }
        let hash = murmur3::murmur3_32(&mut Cursor::new(&text), 0)?;
        numbers.push((hash % buckets.max(1)) as i32);
    }
    Ok(Arc::new(Int32Array::from(numbers)))
}

/// A column read as text.
enum Texts<'a> {
    Small(&'a arrow::array::StringArray),
    Large(&'a arrow::array::LargeStringArray),
    View(&'a arrow::array::StringViewArray),
    Integer(&'a arrow::array::Int64Array),
    Index(&'a Int32Array),
    Float(&'a arrow::array::Float64Array),
    Boolean(&'a arrow::array::BooleanArray),
}

impl<'a> Texts<'a> {
    fn of(column: &'a ArrayRef) -> DataFusionResult<Self> {
        Ok(match column.data_type() {
            DataType::Utf8 => Self::Small(column.as_string()),
            DataType::LargeUtf8 => Self::Large(column.as_string()),
            DataType::Utf8View => Self::View(column.as_string_view()),
            DataType::Int64 => Self::Integer(column.as_primitive::<Int64Type>()),
            DataType::Int32 => Self::Index(column.as_primitive::<Int32Type>()),
            DataType::Float64 => Self::Float(column.as_primitive::<Float64Type>()),
            DataType::Boolean => Self::Boolean(column.as_boolean()),
            other => return Err(wrong_argument("hash", other)),
        })
    }

    fn array(&self) -> &dyn Array {
        match self {
            Self::Small(array) => array,
            Self::Large(array) => array,
            Self::View(array) => array,
            Self::Integer(array) => array,
            Self::Index(array) => array,
            Self::Float(array) => array,
            Self::Boolean(array) => array,
        }
    }

    fn append(&self, row: usize, text: &mut Vec<u8>) {
        use std::io::Write;
        if self.array().is_null(row) {
            text.extend_from_slice(NULL_TEXT.as_bytes());
            return;
        }
        // Writing into a Vec cannot fail.
        let _ = match self {
            Self::Small(array) => text.write_all(array.value(row).as_bytes()),
            Self::Large(array) => text.write_all(array.value(row).as_bytes()),
            Self::View(array) => text.write_all(array.value(row).as_bytes()),
            Self::Integer(array) => write!(text, "{}", array.value(row)),
            Self::Index(array) => write!(text, "{}", array.value(row)),
            Self::Float(array) => write!(text, "{}", array.value(row)),
            Self::Boolean(array) => write!(text, "{}", array.value(row)),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int64Array, StringArray};

    #[test]
    fn hashes_are_those_of_scikit_learn() {
        // sklearn.utils.murmurhash3_32(text, seed=0, positive=True) for "", "a", "Private", "39".
        let column: ArrayRef = Arc::new(StringArray::from(vec!["", "a", "Private", "39"]));
        let out = hash(&column, 1 << 30).unwrap();
        let expected: Vec<i32> = [0_u32, 1_009_084_850, 479_536_455, 834_769_235]
            .iter()
            .map(|hash| (hash % (1 << 30)) as i32)
            .collect();
        assert_eq!(
            out.as_primitive::<Int32Type>().values(),
            expected.as_slice()
        );
    }

    #[test]
    fn numbers_hash_as_their_text_and_null_as_a_value() {
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![Some(39), Some(-1), None]));
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["39", "-1", "\0"]));
        assert_eq!(
            &hash(&numbers, 1_000).unwrap(),
            &hash(&texts, 1_000).unwrap()
        );
    }

    #[test]
    fn a_cross_hashes_the_texts_with_a_separator_between() {
        let left: ArrayRef = Arc::new(StringArray::from(vec!["ab", "a"]));
        let right: ArrayRef = Arc::new(StringArray::from(vec!["c", "bc"]));
        let crossed = cross(&[left, right], 2, 1 << 30).unwrap();
        let joined: ArrayRef = Arc::new(StringArray::from(vec!["ab\u{1f}c", "a\u{1f}bc"]));
        assert_eq!(&crossed, &hash(&joined, 1 << 30).unwrap());
    }
}
