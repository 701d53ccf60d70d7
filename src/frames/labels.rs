//! Labels: the classes of a column, a class's place among them, and classes back as the column's own type.
//!
//! Classes are sorted in the label's own order (numbers by size, text by its bytes, false before true), so the same
//! labels give the same places on every server and in every run.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray as _, Float64Array, Int64Array, RecordBatch, StringArray, UInt32Array,
};
use arrow::compute::{CastOptions, cast_with_options, take};
use arrow::datatypes::{DataType, Float64Type, Int64Type, UInt64Type};

use super::FrameError;
use super::columns::{column, first_null, listed};

/// Most classes of a label: beyond that a softmax over them is no classifier that anybody meant.
pub const CLASSES_MAX: usize = 65_536;

const WANTED: &str = "labels with classes are text, booleans or whole numbers";

/// A class as a row has it.
#[derive(Debug, Clone, Copy)]
enum Seen<'a> {
    Number(i128),
    Text(&'a str),
}

impl Seen<'_> {
    fn text(self, boolean: bool) -> String {
        match self {
            Self::Text(text) => text.to_string(),
            Self::Number(number) if boolean => (number != 0).to_string(),
            Self::Number(number) => number.to_string(),
        }
    }
}

/// Gathers the classes of a label column, batch by batch; at most `CLASSES_MAX`.
#[derive(Debug)]
pub struct ClassCollector {
    column: String,
    data_type: DataType,
    // One of the two stays empty.
    numbers: BTreeSet<i128>,
    texts: BTreeSet<String>,
}

impl ClassCollector {
    /// Begins for a column of a type that can have classes.
    pub fn new(column: &str, data_type: &DataType) -> Result<Self, FrameError> {
        kind_of(column, data_type)?;
        Ok(Self {
            column: column.to_string(),
            data_type: data_type.clone(),
            numbers: BTreeSet::new(),
            texts: BTreeSet::new(),
        })
    }

    /// Adds the labels of a batch. A null is refused with its row.
    pub fn add(&mut self, batch: &RecordBatch) -> Result<(), FrameError> {
        let array = column(batch, &self.column)?;
        let (numbers, texts) = (&mut self.numbers, &mut self.texts);
        visit(&self.column, array, |seen, _| {
            match seen {
                Seen::Number(number) => {
                    numbers.insert(number);
                }
                Seen::Text(text) if !texts.contains(text) => {
                    texts.insert(text.to_string());
                }
                Seen::Text(_) => {}
            }
            if numbers.len() + texts.len() > CLASSES_MAX {
                return Err(FrameError::TooManyClasses {
                    column: self.column.clone(),
                    limit: CLASSES_MAX,
                });
            }
            Ok(())
        })
    }

    /// The classes seen.
    pub fn finish(self) -> Result<Classes, FrameError> {
        let boolean = self.data_type == DataType::Boolean;
        let numbers = self
            .numbers
            .iter()
            .map(|number| Seen::Number(*number).text(boolean));
        let text: Vec<String> = numbers.chain(self.texts.iter().cloned()).collect();
        Classes::from_text(&self.column, &self.data_type, &text)
    }
}

/// The classes of one label, sorted.
#[derive(Debug, Clone)]
pub struct Classes {
    column: String,
    data_type: DataType,
    text: Vec<String>,
    // One of the two stays empty.
    numbers: HashMap<i128, i32>,
    texts: HashMap<String, i32>,
    /// The classes as an array of the label's own type.
    values: ArrayRef,
}

impl Classes {
    /// Classes as a manifest keeps them: the label's type, and each class as text, in order.
    pub fn from_text(
        column: &str,
        data_type: &DataType,
        text: &[String],
    ) -> Result<Self, FrameError> {
        let kind = kind_of(column, data_type)?;
        if text.len() > CLASSES_MAX {
            return Err(FrameError::TooManyClasses {
                column: column.to_string(),
                limit: CLASSES_MAX,
            });
        }
        let wrong = |()| FrameError::WrongType {
            column: column.to_string(),
            data_type: data_type.to_string(),
            wanted: WANTED,
        };
        let strings: ArrayRef = Arc::new(StringArray::from_iter_values(text));
        let strict = CastOptions {
            safe: false,
            ..CastOptions::default()
        };
        let values = cast_with_options(&strings, data_type, &strict).map_err(|_| wrong(()))?;
        let mut numbers = HashMap::new();
        let mut texts = HashMap::new();
        for (text, place) in text.iter().zip(0..) {
            match kind {
                Kind::Text => {
                    texts.insert(text.clone(), place);
                }
                Kind::Boolean => {
                    numbers.insert(i128::from(text == "true"), place);
                }
                Kind::Whole => {
                    let number = text.parse().map_err(|_| wrong(()))?;
                    numbers.insert(number, place);
                }
            }
        }
        Ok(Self {
            column: column.to_string(),
            data_type: data_type.clone(),
            text: text.to_vec(),
            numbers,
            texts,
            values,
        })
    }

    /// Each class as text, in order.
    pub fn text(&self) -> &[String] {
        &self.text
    }

    /// The label's own type.
    pub fn data_type(&self) -> &DataType {
        &self.data_type
    }

    /// How many classes there are.
    pub fn len(&self) -> usize {
        self.text.len()
    }

    /// Whether there are none, as for an empty table.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Appends each row's place among the classes. A null or an unknown class is refused with its row.
    pub fn indices(&self, batch: &RecordBatch, out: &mut Vec<i32>) -> Result<(), FrameError> {
        let array = column(batch, &self.column)?;
        let begin = out.len();
        out.reserve(array.len());
        let outcome = visit(&self.column, array, |seen, row| {
            let place = match seen {
                Seen::Number(number) => self.numbers.get(&number),
                Seen::Text(text) => self.texts.get(text),
            };
            match place {
                Some(place) => {
                    out.push(*place);
                    Ok(())
                }
                None => Err(FrameError::UnknownClass {
                    column: self.column.clone(),
                    row,
                    value: seen.text(array.data_type() == &DataType::Boolean),
                    classes: listed(self.text.iter().map(String::as_str)),
                }),
            }
        });
        if outcome.is_err() {
            out.truncate(begin);
        }
        outcome
    }

    /// Classes by their places, as a column of the label's own type.
    pub fn answer(&self, indices: &[i32]) -> Result<ArrayRef, FrameError> {
        let count = self.text.len();
        let wrong = |index: i64| FrameError::NoSuchClass {
            column: self.column.clone(),
            index,
            classes: count,
        };
        let places = indices
            .iter()
            .map(|index| match u32::try_from(*index) {
                Ok(place) if (place as usize) < count => Ok(place),
                _ => Err(wrong(i64::from(*index))),
            })
            .collect::<Result<Vec<_>, _>>()?;
        take(&self.values, &UInt32Array::from(places), None).map_err(|_| wrong(-1))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Boolean,
    Whole,
}

fn kind_of(column: &str, data_type: &DataType) -> Result<Kind, FrameError> {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Ok(Kind::Text),
        DataType::Boolean => Ok(Kind::Boolean),
        DataType::Dictionary(_, value) if !matches!(**value, DataType::Dictionary(..)) => {
            kind_of(column, value)
        }
        whole if whole.is_integer() || whole.is_floating() => Ok(Kind::Whole),
        other => Err(FrameError::WrongType {
            column: column.to_string(),
            data_type: other.to_string(),
            wanted: WANTED,
        }),
    }
}

/// Calls `each` with every row's class and row number, in order.
fn visit(
    name: &str,
    array: &ArrayRef,
    mut each: impl FnMut(Seen<'_>, usize) -> Result<(), FrameError>,
) -> Result<(), FrameError> {
    let kind = kind_of(name, array.data_type())?;
    if let Some(row) = first_null(array) {
        return Err(FrameError::Null {
            column: name.to_string(),
            row,
        });
    }
    let wrong = || FrameError::WrongType {
        column: name.to_string(),
        data_type: array.data_type().to_string(),
        wanted: WANTED,
    };
    let cast =
        |to: &DataType| cast_with_options(array, to, &CastOptions::default()).map_err(|_| wrong());
    let logical = match array.data_type() {
        DataType::Dictionary(_, value) => value.as_ref(),
        other => other,
    };
    match kind {
        Kind::Text => {
            let texts = cast(&DataType::Utf8)?;
            for (row, text) in texts.as_string::<i32>().iter().enumerate() {
                each(Seen::Text(text.unwrap_or_default()), row)?;
            }
        }
        Kind::Boolean => {
            let bits = cast(&DataType::Boolean)?;
            for (row, bit) in bits.as_boolean().values().iter().enumerate() {
                each(Seen::Number(i128::from(bit)), row)?;
            }
        }
        Kind::Whole if logical == &DataType::UInt64 => {
            let values = cast(&DataType::UInt64)?;
            for (row, value) in values
                .as_primitive::<UInt64Type>()
                .values()
                .iter()
                .enumerate()
            {
                each(Seen::Number(i128::from(*value)), row)?;
            }
        }
        Kind::Whole if logical.is_floating() => {
            let values = cast(&DataType::Float64)?;
            let values: &Float64Array = values.as_primitive::<Float64Type>();
            for (row, value) in values.values().iter().enumerate() {
                if !value.is_finite() || value.fract() != 0.0 {
                    return Err(FrameError::OutOfRange {
                        column: name.to_string(),
                        row,
                        value: value.to_string(),
                        wanted: WANTED,
                    });
                }
                each(Seen::Number(*value as i128), row)?;
            }
        }
        Kind::Whole => {
            let values = cast(&DataType::Int64)?;
            let values: &Int64Array = values.as_primitive::<Int64Type>();
            for (row, value) in values.values().iter().enumerate() {
                each(Seen::Number(i128::from(*value)), row)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{BooleanArray, DictionaryArray, Int64Array, LargeStringArray};
    use arrow::datatypes::Int32Type;

    fn one_column(array: ArrayRef) -> RecordBatch {
        RecordBatch::try_from_iter([("y", array)]).unwrap()
    }

    fn classes_and_places(array: ArrayRef) -> (Classes, Vec<i32>) {
        let batch = one_column(array);
        let mut collector = ClassCollector::new("y", batch.column(0).data_type()).unwrap();
        collector.add(&batch).unwrap();
        let classes = collector.finish().unwrap();
        let mut places = Vec::new();
        classes.indices(&batch, &mut places).unwrap();
        (classes, places)
    }

    #[test]
    fn classes_are_sorted_and_come_back_in_the_labels_own_type() {
        let cases: Vec<(ArrayRef, &[&str], &[i32])> = vec![
            (
                Arc::new(LargeStringArray::from(vec![">50K", "<=50K", ">50K"])),
                &["<=50K", ">50K"],
                &[1, 0, 1],
            ),
            (
                Arc::new(BooleanArray::from(vec![true, false, true])),
                &["false", "true"],
                &[1, 0, 1],
            ),
            (
                Arc::new(Int64Array::from(vec![10, -3, 9, 10])),
                &["-3", "9", "10"],
                &[2, 0, 1, 2],
            ),
            (
                Arc::new(Float64Array::from(vec![1.0, 0.0, 1.0])),
                &["0", "1"],
                &[1, 0, 1],
            ),
            (
                Arc::new(
                    vec!["b", "a", "b"]
                        .into_iter()
                        .collect::<DictionaryArray<Int32Type>>(),
                ),
                &["a", "b"],
                &[1, 0, 1],
            ),
        ];
        for (array, text, expected) in cases {
            let (classes, places) = classes_and_places(Arc::clone(&array));
            assert_eq!(classes.text(), text);
            assert_eq!(places, expected);
            let again = Classes::from_text("y", classes.data_type(), classes.text()).unwrap();
            let answer = again.answer(&places).unwrap();
            assert_eq!(answer.data_type(), array.data_type());
            let plain = |array: &ArrayRef| arrow::compute::cast(array, &DataType::Utf8).unwrap();
            assert_eq!(&plain(&answer), &plain(&array));
        }
    }

    #[test]
    fn a_null_or_unknown_label_is_refused_with_its_row() {
        let (classes, _) = classes_and_places(Arc::new(StringArray::from(vec!["a", "b"])));
        let mut places = vec![7];
        let batch = one_column(Arc::new(StringArray::from(vec!["a", "c"])));
        let error = classes.indices(&batch, &mut places).unwrap_err();
        assert_eq!(
            error.from_row(100).to_string(),
            "label \"y\" is \"c\" in row 101; classes are \"a\", \"b\""
        );
        let batch = one_column(Arc::new(StringArray::from(vec![Some("a"), None])));
        let error = classes.indices(&batch, &mut places).unwrap_err();
        assert_eq!(
            error,
            FrameError::Null {
                column: "y".into(),
                row: 1
            }
        );
        assert_eq!(places, [7]);
        assert!(classes.answer(&[2]).is_err());
        assert!(classes.answer(&[-1]).is_err());
    }
}
