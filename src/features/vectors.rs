//! Columns of vectors: fixed-size lists of numbers, and lists that are to become them.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, GenericListArray, OffsetSizeTrait};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, FieldRef};

use super::session::strict_cast;

/// Why lists are no vectors of the length asked for.
#[derive(Debug)]
pub(super) enum VectorProblem {
    Length { row: usize, length: usize },
    Cast(String),
}

/// Whether a vector may be made of items of this type.
pub(super) fn is_number(data_type: &DataType) -> bool {
    data_type.is_numeric() || data_type == &DataType::Boolean
}

/// The type of vectors of `width` numbers, whatever a source calls its items.
pub(super) fn vector_type(item: &DataType, width: usize) -> DataType {
    DataType::FixedSizeList(
        Arc::new(Field::new_list_field(item.clone(), true)),
        i32::try_from(width).unwrap_or(i32::MAX),
    )
}

/// The type of vectors as long as those of `wanted`, with the items of `given`, which is a list.
pub(super) fn vectors_of(given: &DataType, wanted: &DataType) -> DataType {
    match (given, wanted) {
        (DataType::List(item) | DataType::LargeList(item), DataType::FixedSizeList(_, size)) => {
            vector_type(item.data_type(), usize::try_from(*size).unwrap_or(0))
        }
        _ => wanted.clone(),
    }
}

/// Lists of any length, as pandas and most programs send vectors.
pub(super) fn is_list_of_numbers(data_type: &DataType) -> bool {
    match data_type {
        DataType::List(item) | DataType::LargeList(item) => is_number(item.data_type()),
        _ => false,
    }
}

/// Lists as the vectors of type `wanted`; a list of another length is refused with its row.
pub(super) fn to_vectors(column: &ArrayRef, wanted: &DataType) -> Result<ArrayRef, VectorProblem> {
    let DataType::FixedSizeList(_, size) = wanted else {
        return Err(VectorProblem::Cast(format!("{wanted} is no vector")));
    };
    let width = usize::try_from(*size).unwrap_or(0);
    let other = match column.data_type() {
        DataType::List(_) => other_length::<i32>(column, width),
        DataType::LargeList(_) => other_length::<i64>(column, width),
        _ => None,
    };
    if let Some((row, length)) = other {
        return Err(VectorProblem::Length { row, length });
    }
    // A null list has no numbers, and the cast fills it up.
    strict_cast(&rebased(column), wanted).map_err(VectorProblem::Cast)
}

/// A column of lists whose values begin at its own first one; any other column as it is.
///
/// Arrow's cast of lists to vectors takes the values from the first of the array that a slice was cut from (arrow-cast
/// 59.3, `cast_list_to_fixed_size_list`): wrong numbers, or a panic.
pub(super) fn rebased(column: &ArrayRef) -> ArrayRef {
    match column.data_type() {
        DataType::List(item) => rebased_list::<i32>(column, item),
        DataType::LargeList(item) => rebased_list::<i64>(column, item),
        _ => Arc::clone(column),
    }
}

fn rebased_list<O: OffsetSizeTrait>(column: &ArrayRef, item: &FieldRef) -> ArrayRef {
    let lists = column.as_list::<O>();
    let first = lists.offsets()[0];
    if first == O::zero() {
        return Arc::clone(column);
    }
    let offsets: Vec<O> = lists
        .offsets()
        .iter()
        .map(|offset| *offset - first)
        .collect();
    let length = offsets.last().map_or(0, |last| last.as_usize());
    let moved = GenericListArray::<O>::try_new(
        Arc::clone(item),
        OffsetBuffer::new(offsets.into()),
        lists.values().slice(first.as_usize(), length),
        lists.nulls().cloned(),
    );
    // The parts are those of an array that was whole.
    debug_assert!(moved.is_ok());
    moved.map_or_else(|_| Arc::clone(column), |lists| Arc::new(lists))
}

/// The first list that is there and has another length.
fn other_length<O: OffsetSizeTrait>(column: &ArrayRef, width: usize) -> Option<(usize, usize)> {
    let lists = column.as_list::<O>();
    (0..lists.len())
        .filter(|row| lists.is_valid(*row))
        .map(|row| (row, lists.value_length(row).as_usize()))
        .find(|(_, length)| *length != width)
}
