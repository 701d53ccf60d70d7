//! A label column to the numbers that a loss and its metrics compare with.

use std::collections::HashMap;

use arrow::array::{Array, ArrayRef, AsArray, Float32Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float32Type};

use super::ServingError;
use super::answer::class_type;
use crate::catalog::LabelColumn;

/// Reads labels as one model takes them.
#[derive(Debug)]
pub(super) struct LabelReader {
    name: String,
    /// Class as text to its index; empty for a regressor.
    classes: HashMap<String, usize>,
    /// The classes in order, for messages.
    known: String,
    /// Type that incoming labels are read as.
    read_as: DataType,
    /// Numbers per row that the loss wants: class indices, or one number for each output.
    width: usize,
}

impl LabelReader {
    /// `width` is `Loss::target_width`. Refuses an incoming type that cannot hold such labels.
    pub(super) fn new(
        label: &LabelColumn,
        label_type: &DataType,
        incoming: &DataType,
        width: usize,
    ) -> Result<Self, ServingError> {
        let bad_type = || {
            bad(format!(
                "column {:?} has type {incoming}; the model was trained on {label_type}",
                label.name
            ))
        };
        let read_as = if label.classes.is_empty() {
            match incoming {
                DataType::FixedSizeList(item, size)
                    if is_number(item.data_type())
                        && usize::try_from(*size).is_ok_and(|size| size == width) =>
                {
                    let item = arrow::datatypes::Field::new_list_field(DataType::Float32, true);
                    DataType::FixedSizeList(item.into(), *size)
                }
                single if width == 1 && is_number(single) => DataType::Float32,
                _ => return Err(bad_type()),
            }
        } else {
            let family = |data_type: &DataType| {
                class_type(data_type).map(|plain| match plain {
                    DataType::Boolean => "boolean",
                    DataType::Utf8 | DataType::LargeUtf8 => "text",
                    _ => "integer",
                })
            };
            if family(incoming).is_none() || family(incoming) != family(label_type) {
                return Err(bad_type());
            }
            DataType::Utf8
        };
        let classes = label.classes.iter().cloned().zip(0..).collect();
        Ok(Self {
            name: label.name.clone(),
            classes,
            known: label.classes.join(", "),
            read_as,
            width,
        })
    }

    /// (rows, width) numbers. `first_row` is where the column begins in the source, for messages.
    pub(super) fn targets(
        &self,
        column: &ArrayRef,
        first_row: u64,
    ) -> Result<Vec<f32>, ServingError> {
        let column = cast(column, &self.read_as).map_err(|error| bad(error.to_string()))?;
        if let Some(row) = (0..column.len()).find(|&row| column.is_null(row)) {
            return Err(self.null_at(first_row + row as u64));
        }
        if self.classes.is_empty() {
            return self.numbers(&column, first_row);
        }
        let mut targets = vec![0.0; column.len() * self.width];
        for (row, class) in column.as_string::<i32>().iter().flatten().enumerate() {
            let Some(&index) = self.classes.get(class) else {
                return Err(bad(format!(
                    "column {:?} holds {class:?} in row {}, which is no class of the model; classes are {}",
                    self.name,
                    first_row + row as u64,
                    self.known
                )));
            };
            if self.width == 1 {
                targets[row] = index as f32;
            } else {
                targets[row * self.width + index] = 1.0;
            }
        }
        Ok(targets)
    }

    fn numbers(&self, column: &ArrayRef, first_row: u64) -> Result<Vec<f32>, ServingError> {
        let values: &Float32Array = match column.data_type() {
            DataType::FixedSizeList(..) => column
                .as_fixed_size_list()
                .values()
                .as_primitive::<Float32Type>(),
            _ => column.as_primitive::<Float32Type>(),
        };
        let row_of = |position: usize| first_row + (position / self.width) as u64;
        if let Some(position) = (0..values.len()).find(|&position| values.is_null(position)) {
            return Err(self.null_at(row_of(position)));
        }
        let values = values.values();
        match values.iter().position(|value| !value.is_finite()) {
            Some(position) => Err(bad(format!(
                "column {:?} holds {} in row {}; labels must be finite",
                self.name,
                values[position],
                row_of(position)
            ))),
            None => Ok(values.to_vec()),
        }
    }

    fn null_at(&self, row: u64) -> ServingError {
        bad(format!(
            "column {:?} is null in row {row}; leave such rows out",
            self.name
        ))
    }
}

fn is_number(data_type: &DataType) -> bool {
    data_type.is_numeric()
}

fn bad(reason: String) -> ServingError {
    ServingError::BadLabel { reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{
        BooleanArray, DictionaryArray, FixedSizeListArray, Float64Array, Int32Array, Int64Array,
        StringArray,
    };
    use arrow::datatypes::Int8Type;
    use std::sync::Arc;

    fn label(data_type: &str, classes: &[&str]) -> LabelColumn {
        LabelColumn {
            name: "y".to_owned(),
            data_type: data_type.to_owned(),
            classes: classes.iter().map(|class| (*class).to_owned()).collect(),
        }
    }

    fn read(
        label_type: DataType,
        classes: &[&str],
        width: usize,
        column: ArrayRef,
    ) -> Result<Vec<f32>, String> {
        let label = label(&label_type.to_string(), classes);
        LabelReader::new(&label, &label_type, column.data_type(), width)
            .and_then(|reader| reader.targets(&column, 100))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn classes_become_their_index_in_any_arrow_type_of_their_kind() {
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["b", "a", "b"]));
        assert_eq!(
            read(DataType::Utf8, &["a", "b"], 1, texts).unwrap(),
            [1.0, 0.0, 1.0]
        );
        let dictionary: DictionaryArray<Int8Type> = vec!["b", "a"].into_iter().collect();
        assert_eq!(
            read(DataType::Utf8, &["a", "b"], 1, Arc::new(dictionary)).unwrap(),
            [1.0, 0.0]
        );
        let numbers: ArrayRef = Arc::new(Int32Array::from(vec![30, -5]));
        assert_eq!(
            read(DataType::Int64, &["-5", "7", "30"], 1, numbers).unwrap(),
            [2.0, 0.0]
        );
        let flags: ArrayRef = Arc::new(BooleanArray::from(vec![true, false]));
        assert_eq!(
            read(DataType::Boolean, &["false", "true"], 1, flags).unwrap(),
            [1.0, 0.0]
        );
    }

    #[test]
    fn a_loss_that_compares_every_output_gets_one_number_per_class() {
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![9, 3]));
        assert_eq!(
            read(DataType::Int64, &["3", "6", "9"], 3, numbers).unwrap(),
            [0.0, 0.0, 1.0, 1.0, 0.0, 0.0]
        );
    }

    #[test]
    fn numbers_are_read_alone_or_as_lists() {
        let single: ArrayRef = Arc::new(Float64Array::from(vec![0.5, -1.0]));
        assert_eq!(
            read(DataType::Float64, &[], 1, single).unwrap(),
            [0.5, -1.0]
        );
        let lists = FixedSizeListArray::from_iter_primitive::<arrow::datatypes::Float64Type, _, _>(
            vec![
                Some(vec![Some(1.0), Some(2.0)]),
                Some(vec![Some(3.0), Some(4.0)]),
            ],
            2,
        );
        let list_type = lists.data_type().clone();
        assert_eq!(
            read(list_type, &[], 2, Arc::new(lists)).unwrap(),
            [1.0, 2.0, 3.0, 4.0]
        );
    }

    #[test]
    fn an_unknown_class_a_null_or_an_infinite_number_is_refused_with_its_row() {
        let unknown: ArrayRef = Arc::new(StringArray::from(vec!["a", "z"]));
        assert_eq!(
            read(DataType::Utf8, &["a", "b"], 1, unknown).unwrap_err(),
            "the label: column \"y\" holds \"z\" in row 101, which is no class of the model; classes are a, b"
        );
        let null: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None]));
        let error = read(DataType::Utf8, &["a", "b"], 1, null).unwrap_err();
        assert!(error.contains("is null in row 101"), "{error}");
        let infinite: ArrayRef = Arc::new(Float64Array::from(vec![1.0, f64::INFINITY]));
        let error = read(DataType::Float64, &[], 1, infinite).unwrap_err();
        assert!(error.contains("holds inf in row 101"), "{error}");
    }

    #[test]
    fn labels_of_another_kind_are_refused_with_both_types() {
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["3"]));
        let error = read(DataType::Int64, &["3", "4"], 1, Arc::clone(&texts)).unwrap_err();
        assert!(error.contains("Utf8") && error.contains("Int64"), "{error}");
        assert!(read(DataType::Float32, &[], 1, texts).is_err());
    }
}
