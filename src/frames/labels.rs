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

/// A class as it is compared.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Class {
    Number(i128),
    Text(String),
}

/// Gathers the classes of a label column, batch by batch; at most `CLASSES_MAX`.
#[derive(Debug)]
pub struct ClassCollector {
    column: String,
    data_type: DataType,
    found: BTreeSet<Class>,
}

impl ClassCollector {
    /// Begins for a column of a type that can have classes.
    pub fn new(column: &str, data_type: &DataType) -> Result<Self, FrameError> {
        kind_of(column, data_type)?;
        Ok(Self {
            column: column.to_string(),
            data_type: data_type.clone(),
            found: BTreeSet::new(),
        })
    }

    /// Adds the labels of a batch. A null is refused with its row.
    pub fn add(&mut self, batch: &RecordBatch) -> Result<(), FrameError> {
        let array = column(batch, &self.column)?;
        let found = &mut self.found;
        visit(&self.column, array, |class, _| {
            if !found.contains(&class) {
                found.insert(class);
            }
            Ok(())
        })?;
        if self.found.len() > CLASSES_MAX {
            return Err(FrameError::TooManyClasses {
                column: self.column.clone(),
                limit: CLASSES_MAX,
            });
        }
        Ok(())
    }

    /// The classes seen.
    pub fn finish(self) -> Result<Classes, FrameError> {
        let boolean = self.data_type == DataType::Boolean;
        let text: Vec<String> = self
            .found
            .iter()
            .map(|class| text_of(class, boolean))
            .collect();
        Classes::from_text(&self.column, &self.data_type, &text)
    }
}

/// The classes of one label, sorted.
#[derive(Debug, Clone)]
pub struct Classes {
    column: String,
    data_type: DataType,
    text: Vec<String>,
    places: HashMap<Class, i32>,
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
        let wrong = |_| FrameError::WrongType {
            column: column.to_string(),
            data_type: data_type.to_string(),
            wanted: WANTED,
        };
        let strings: ArrayRef = Arc::new(StringArray::from_iter_values(text));
        let strict = CastOptions {
            safe: false,
            ..CastOptions::default()
        };
        let values = cast_with_options(&strings, data_type, &strict).map_err(wrong)?;
        let places = text
            .iter()
            .enumerate()
            .filter_map(|(place, text)| {
                let class = match kind {
                    Kind::Text => Class::Text(text.clone()),
                    Kind::Boolean => Class::Number(i128::from(text == "true")),
                    Kind::Whole => Class::Number(text.parse().ok()?),
                };
                Some((class, i32::try_from(place).ok()?))
            })
            .collect();
        Ok(Self {
            column: column.to_string(),
            data_type: data_type.clone(),
            text: text.to_vec(),
            places,
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
        let outcome = visit(&self.column, array, |class, row| {
            match self.places.get(&class) {
                Some(place) => {
                    out.push(*place);
                    Ok(())
                }
                None => Err(FrameError::UnknownClass {
                    column: self.column.clone(),
                    row,
                    value: text_of(&class, array.data_type() == &DataType::Boolean),
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

#[derive(Debug, Clone, Copy)]
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

fn text_of(class: &Class, boolean: bool) -> String {
    match class {
        Class::Text(text) => text.clone(),
        Class::Number(number) if boolean => (*number != 0).to_string(),
        Class::Number(number) => number.to_string(),
    }
}

/// Calls `each` with every row's class and row number, in order.
fn visit(
    name: &str,
    array: &ArrayRef,
    mut each: impl FnMut(Class, usize) -> Result<(), FrameError>,
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
                each(Class::Text(text.unwrap_or_default().to_string()), row)?;
            }
        }
        Kind::Boolean => {
            let bits = cast(&DataType::Boolean)?;
            for (row, bit) in bits.as_boolean().values().iter().enumerate() {
                each(Class::Number(i128::from(bit)), row)?;
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
                each(Class::Number(i128::from(*value)), row)?;
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
                each(Class::Number(*value as i128), row)?;
            }
        }
        Kind::Whole => {
            let values = cast(&DataType::Int64)?;
            let values: &Int64Array = values.as_primitive::<Int64Type>();
            for (row, value) in values.values().iter().enumerate() {
                each(Class::Number(i128::from(*value)), row)?;
            }
        }
    }
    Ok(())
}
