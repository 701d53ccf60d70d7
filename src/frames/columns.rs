//! Columns of a record batch as row-major matrices of `f32` or `i32`, and matrices as columns.
//!
//! A kernel wants one row's features side by side, Arrow keeps one column's rows side by side: this is the transposition.
//! It walks tiles of rows, so that the part of the matrix being written stays in the processor's cache while each
//! column's slice is read in order; types are told apart once per column and tile, never per value.

use arrow::array::{Array, ArrayRef, AsArray as _, FixedSizeListArray, Float32Array, RecordBatch};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Field, Float16Type, Float32Type, Float64Type, Int8Type,
    Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow::error::ArrowError;
use std::sync::Arc;

use super::FrameError;

/// Rows of a tile: 128 rows of 108 floats are 54 KiB, within a core's second-level cache.
const TILE_ROWS: usize = 128;

const WANTED_FLOAT: &str =
    "give numbers, booleans or fixed-size lists of numbers, or encode it with a feature transform";
const WANTED_INT: &str =
    "give integers, booleans or fixed-size lists of integers, or index it with a feature transform";
const WANTED_INT32: &str = "integers here are between -2147483648 and 2147483647";

/// Appends the named columns to `out` as rows of `width` floats: each column's values side by side, in order.
///
/// Accepts integers, floats, booleans (0 and 1) and fixed-size lists of them.
/// Errors: a missing column, another type, a width other than expected, a null, a NaN, an infinity, or a double
/// too large for a float, each with its column and first row. On error `out` is as before.
pub fn gather_float(
    batch: &RecordBatch,
    columns: &[String],
    width: usize,
    out: &mut Vec<f32>,
) -> Result<(), FrameError> {
    gather(batch, columns, width, out, WANTED_FLOAT)
}

/// Appends the named columns to `out` as rows of `width` integers, as `gather_float` does for floats.
///
/// Accepts integers, booleans and fixed-size lists of them; floats are refused, since rounding would be a guess.
pub fn gather_int(
    batch: &RecordBatch,
    columns: &[String],
    width: usize,
    out: &mut Vec<i32>,
) -> Result<(), FrameError> {
    gather(batch, columns, width, out, WANTED_INT)
}

/// How many values of a row a column of this type gives: 1, or the size of a fixed-size list.
pub fn width_of(field: &Field) -> Result<usize, FrameError> {
    let value = match field.data_type() {
        DataType::FixedSizeList(item, size) if *size >= 0 => {
            if is_number(item.data_type()) {
                return Ok(*size as usize);
            }
            item.data_type()
        }
        data_type => data_type,
    };
    if is_number(value) && value == field.data_type() {
        return Ok(1);
    }
    Err(FrameError::WrongType {
        column: field.name().clone(),
        data_type: field.data_type().to_string(),
        wanted: WANTED_FLOAT,
    })
}

/// The type of a column with `width` floats per row: Float32, or a fixed-size list of them.
pub fn matrix_type(width: usize) -> DataType {
    if width == 1 {
        return DataType::Float32;
    }
    let size = i32::try_from(width).unwrap_or(i32::MAX);
    DataType::FixedSizeList(Arc::new(item_field()), size)
}

/// A row-major matrix as a column of `matrix_type(width)`.
pub fn matrix_column(matrix: Vec<f32>, width: usize) -> Result<ArrayRef, ArrowError> {
    let rows = matrix.len().checked_div(width).unwrap_or(0);
    let values = Float32Array::from(matrix);
    match matrix_type(width) {
        DataType::FixedSizeList(item, size) => Ok(Arc::new(
            FixedSizeListArray::try_new_with_length(item, size, Arc::new(values), None, rows)?,
        )),
        _ => Ok(Arc::new(values)),
    }
}

fn item_field() -> Field {
    Field::new("item", DataType::Float32, false)
}

fn is_number(data_type: &DataType) -> bool {
    data_type.is_integer() || data_type.is_floating() || data_type == &DataType::Boolean
}

/// A number of the matrix: where it may come from, and what of it is refused.
trait Cell: Copy + Default {
    fn from_bool(value: bool) -> Self;
    fn from_int<N: Whole>(value: N) -> (Self, bool);
    /// `None`: cells of this kind take no floats.
    fn from_float(value: f64) -> Option<(Self, bool)>;
    fn from_single(value: f32) -> Option<(Self, bool)>;
    const TAKES_FLOATS: bool;
    fn refuse(column: &str, row: usize, value: String) -> FrameError;
}

/// An Arrow integer.
trait Whole: Copy + std::fmt::Display {
    fn to_f32(self) -> f32;
    fn to_i32(self) -> Option<i32>;
}

macro_rules! whole {
    ($($native:ty),*) => {$(
        impl Whole for $native {
            #[inline]
            #[allow(clippy::cast_lossless)] // infallible for the narrow ones only
            fn to_f32(self) -> f32 { self as f32 }
            #[inline]
            fn to_i32(self) -> Option<i32> { i32::try_from(self).ok() }
        }
    )*};
}
whole!(i8, i16, i32, i64, u8, u16, u32, u64);

impl Cell for f32 {
    const TAKES_FLOATS: bool = true;
    #[inline]
    fn from_bool(value: bool) -> Self {
        f32::from(u8::from(value))
    }
    #[inline]
    fn from_int<N: Whole>(value: N) -> (Self, bool) {
        (value.to_f32(), true)
    }
    #[inline]
    fn from_float(value: f64) -> Option<(Self, bool)> {
        let single = value as f32;
        Some((single, single.is_finite()))
    }
    #[inline]
    fn from_single(value: f32) -> Option<(Self, bool)> {
        Some((value, value.is_finite()))
    }
    fn refuse(column: &str, row: usize, value: String) -> FrameError {
        let column = column.to_string();
        if value.parse::<f64>().is_ok_and(f64::is_finite) {
            let wanted = "that is too large for a 32-bit float, scale the column";
            return FrameError::OutOfRange {
                column,
                row,
                value,
                wanted,
            };
        }
        FrameError::NotFinite { column, row, value }
    }
}

impl Cell for i32 {
    const TAKES_FLOATS: bool = false;
    #[inline]
    fn from_bool(value: bool) -> Self {
        Self::from(value)
    }
    #[inline]
    fn from_int<N: Whole>(value: N) -> (Self, bool) {
        match value.to_i32() {
            Some(value) => (value, true),
            None => (0, false),
        }
    }
    fn from_float(_: f64) -> Option<(Self, bool)> {
        None
    }
    fn from_single(_: f32) -> Option<(Self, bool)> {
        None
    }
    fn refuse(column: &str, row: usize, value: String) -> FrameError {
        FrameError::OutOfRange {
            column: column.to_string(),
            row,
            value,
            wanted: WANTED_INT32,
        }
    }
}

/// A column's values in order; a list's values side by side.
struct Source<'a> {
    name: &'a str,
    width: usize,
    values: Values<'a>,
}

enum Values<'a> {
    Boolean(&'a BooleanBuffer),
    Int8(&'a [i8]),
    Int16(&'a [i16]),
    Int32(&'a [i32]),
    Int64(&'a [i64]),
    UInt8(&'a [u8]),
    UInt16(&'a [u16]),
    UInt32(&'a [u32]),
    UInt64(&'a [u64]),
    Float16(&'a [<Float16Type as ArrowPrimitiveType>::Native]),
    Float32(&'a [f32]),
    Float64(&'a [f64]),
}

fn gather<T: Cell>(
    batch: &RecordBatch,
    columns: &[String],
    width: usize,
    out: &mut Vec<T>,
    wanted: &'static str,
) -> Result<(), FrameError> {
    let sources = columns
        .iter()
        .map(|name| source::<T>(batch, name, wanted))
        .collect::<Result<Vec<_>, _>>()?;
    let found = sources.iter().map(|source| source.width).sum();
    if found != width {
        return Err(FrameError::Width {
            found,
            expected: width,
        });
    }
    let begin = out.len();
    let rows = batch.num_rows();
    out.resize(begin + rows * width, T::default());
    let filled = fill(&sources, width, rows, &mut out[begin..]);
    if filled.is_err() {
        out.truncate(begin);
    }
    filled
}

fn fill<T: Cell>(
    sources: &[Source<'_>],
    width: usize,
    rows: usize,
    matrix: &mut [T],
) -> Result<(), FrameError> {
    for first in (0..rows).step_by(TILE_ROWS) {
        let tile_rows = TILE_ROWS.min(rows - first);
        let tile = &mut matrix[first * width..(first + tile_rows) * width];
        let mut place = 0;
        for source in sources {
            if !fill_tile(source, first, tile_rows, width, place, tile) {
                return Err(first_refused::<T>(source, first, tile_rows));
            }
            place += source.width;
        }
    }
    Ok(())
}

/// Writes one column's part of a tile; false when a value is refused.
fn fill_tile<T: Cell>(
    source: &Source<'_>,
    first: usize,
    rows: usize,
    width: usize,
    place: usize,
    tile: &mut [T],
) -> bool {
    let own = source.width;
    let part = first * own..(first + rows) * own;
    macro_rules! each {
        ($values:expr, $convert:expr) => {
            write_tile(&$values[part], own, width, place, tile, $convert)
        };
    }
    let float = |value: f64| T::from_float(value).unwrap_or((T::default(), false));
    match &source.values {
        Values::Boolean(bits) => {
            for row in 0..rows {
                for column in 0..own {
                    let bit = bits.value((first + row) * own + column);
                    tile[row * width + place + column] = T::from_bool(bit);
                }
            }
            true
        }
        Values::Int8(values) => each!(values, |v| T::from_int(v)),
        Values::Int16(values) => each!(values, |v| T::from_int(v)),
        Values::Int32(values) => each!(values, |v| T::from_int(v)),
        Values::Int64(values) => each!(values, |v| T::from_int(v)),
        Values::UInt8(values) => each!(values, |v| T::from_int(v)),
        Values::UInt16(values) => each!(values, |v| T::from_int(v)),
        Values::UInt32(values) => each!(values, |v| T::from_int(v)),
        Values::UInt64(values) => each!(values, |v| T::from_int(v)),
        Values::Float16(values) => each!(values, |v| float(v.to_f64())),
        Values::Float32(values) => {
            each!(values, |v| T::from_single(v)
                .unwrap_or((T::default(), false)))
        }
        Values::Float64(values) => each!(values, float),
    }
}

#[inline]
fn write_tile<N: Copy, T: Cell>(
    values: &[N],
    own: usize,
    width: usize,
    place: usize,
    tile: &mut [T],
    convert: impl Fn(N) -> (T, bool),
) -> bool {
    // One flag for the whole tile: a branch per value would keep the loop from being vectorised.
    let mut good = true;
    if own == 1 {
        for (row, value) in tile.chunks_exact_mut(width).zip(values) {
            let (cell, fits) = convert(*value);
            row[place] = cell;
            good &= fits;
        }
    } else if own > 0 {
        for (row, values) in tile.chunks_exact_mut(width).zip(values.chunks_exact(own)) {
            for (cell, value) in row[place..place + own].iter_mut().zip(values) {
                let (converted, fits) = convert(*value);
                *cell = converted;
                good &= fits;
            }
        }
    }
    good
}

/// Names the first refused value of a tile that has one.
fn first_refused<T: Cell>(source: &Source<'_>, first: usize, rows: usize) -> FrameError {
    let own = source.width;
    let part = first * own..(first + rows) * own;
    macro_rules! find {
        ($values:expr, $fits:expr) => {
            $values[part.clone()]
                .iter()
                .enumerate()
                .find(|(_, value)| !$fits(**value))
                .map(|(at, value)| (first + at / own, value.to_string()))
        };
    }
    let float = |value: f64| T::from_float(value).is_some_and(|(_, fits)| fits);
    let found = match &source.values {
        Values::Boolean(_) => None,
        Values::Int8(values) => find!(values, |v| T::from_int(v).1),
        Values::Int16(values) => find!(values, |v| T::from_int(v).1),
        Values::Int32(values) => find!(values, |v| T::from_int(v).1),
        Values::Int64(values) => find!(values, |v| T::from_int(v).1),
        Values::UInt8(values) => find!(values, |v| T::from_int(v).1),
        Values::UInt16(values) => find!(values, |v| T::from_int(v).1),
        Values::UInt32(values) => find!(values, |v| T::from_int(v).1),
        Values::UInt64(values) => find!(values, |v| T::from_int(v).1),
        Values::Float16(values) => {
            find!(values, |v: <Float16Type as ArrowPrimitiveType>::Native| {
                float(v.to_f64())
            })
        }
        Values::Float32(values) => find!(values, |v: f32| float(f64::from(v))),
        Values::Float64(values) => find!(values, float),
    };
    let (row, value) = found.unwrap_or((first, String::new()));
    T::refuse(source.name, row, value)
}

fn source<'a, T: Cell>(
    batch: &'a RecordBatch,
    name: &'a str,
    wanted: &'static str,
) -> Result<Source<'a>, FrameError> {
    let column = column(batch, name)?;
    if let Some(row) = first_null(column) {
        return Err(FrameError::Null {
            column: name.to_string(),
            row,
        });
    }
    let wrong = || FrameError::WrongType {
        column: name.to_string(),
        data_type: column.data_type().to_string(),
        wanted,
    };
    let (width, values) = match column.data_type() {
        DataType::FixedSizeList(_, size) => {
            let list = column.as_fixed_size_list();
            let width = usize::try_from(*size).map_err(|_| wrong())?;
            // `values` does not follow a slice's offset; `value_offset` of row 0 does.
            let begin = list.value_offset(0) as usize;
            let inner = list.values();
            if let Some(nulls) = inner.nulls().filter(|nulls| nulls.null_count() > 0) {
                let part = nulls.slice(begin, list.len() * width);
                if let Some(at) = part.iter().position(|valid| !valid) {
                    return Err(FrameError::Null {
                        column: name.to_string(),
                        row: at / width,
                    });
                }
            }
            (width, numbers(inner, begin..begin + list.len() * width))
        }
        _ => (1, numbers(column, 0..column.len())),
    };
    let values = values.ok_or_else(wrong)?;
    let is_float = matches!(
        values,
        Values::Float16(_) | Values::Float32(_) | Values::Float64(_)
    );
    if is_float && !T::TAKES_FLOATS {
        return Err(wrong());
    }
    Ok(Source {
        name,
        width,
        values,
    })
}

/// A named column, or what columns there are.
pub(super) fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef, FrameError> {
    batch
        .column_by_name(name)
        .ok_or_else(|| FrameError::MissingColumn {
            column: name.to_string(),
            columns: listed(
                batch
                    .schema()
                    .fields()
                    .iter()
                    .map(|field| field.name().as_str()),
            ),
        })
}

/// Names as an error shows them: the first ten.
pub(super) fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    const SHOWN: usize = 10;
    let names: Vec<String> = names.map(|name| format!("{name:?}")).collect();
    match names.len() {
        0 => "none".into(),
        count if count <= SHOWN => names.join(", "),
        count => format!("{} and {} more", names[..SHOWN].join(", "), count - SHOWN),
    }
}

pub(super) fn first_null(array: &dyn Array) -> Option<usize> {
    if array.logical_null_count() == 0 {
        return None;
    }
    array.logical_nulls()?.iter().position(|valid| !valid)
}

fn numbers(array: &ArrayRef, part: std::ops::Range<usize>) -> Option<Values<'_>> {
    macro_rules! slice {
        ($kind:ident, $arrow:ty) => {
            Values::$kind(&array.as_primitive::<$arrow>().values()[part])
        };
    }
    Some(match array.data_type() {
        DataType::Boolean if part.start == 0 => Values::Boolean(array.as_boolean().values()),
        DataType::Int8 => slice!(Int8, Int8Type),
        DataType::Int16 => slice!(Int16, Int16Type),
        DataType::Int32 => slice!(Int32, Int32Type),
        DataType::Int64 => slice!(Int64, Int64Type),
        DataType::UInt8 => slice!(UInt8, UInt8Type),
        DataType::UInt16 => slice!(UInt16, UInt16Type),
        DataType::UInt32 => slice!(UInt32, UInt32Type),
        DataType::UInt64 => slice!(UInt64, UInt64Type),
        DataType::Float16 => slice!(Float16, Float16Type),
        DataType::Float32 => slice!(Float32, Float32Type),
        DataType::Float64 => slice!(Float64, Float64Type),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{BooleanArray, Float64Array, Int16Array, Int64Array, UInt64Array};
    use arrow::datatypes::Schema;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_string()).collect()
    }

    fn some_rows(rows: usize) -> RecordBatch {
        let a: Float64Array = (0..rows)
            .map(|row| row as f64 * 0.5)
            .collect::<Vec<_>>()
            .into();
        let b: Int16Array = (0..rows)
            .map(|row| -((row % 100) as i16))
            .collect::<Vec<_>>()
            .into();
        let c: BooleanArray = (0..rows).map(|row| Some(row % 3 == 0)).collect();
        let d = matrix_column((0..rows * 4).map(|at| at as f32).collect(), 4).unwrap();
        RecordBatch::try_from_iter([
            ("a", Arc::new(a) as ArrayRef),
            ("b", Arc::new(b)),
            ("c", Arc::new(c)),
            ("d", d),
        ])
        .unwrap()
    }

    #[test]
    fn columns_become_rows_in_the_order_asked() {
        // More than one tile, a ragged last one, and a slice whose arrays do not begin at 0.
        let batch = some_rows(1_003).slice(500, 503);
        let mut matrix = vec![42.0];
        gather_float(&batch, &names(&["d", "b", "a", "c"]), 7, &mut matrix).unwrap();
        assert_eq!(matrix.len(), 1 + 503 * 7);
        for (row, cells) in matrix[1..].chunks(7).enumerate() {
            let at = row + 500;
            let four = (at * 4) as f32;
            let c = f32::from(u8::from(at % 3 == 0));
            let b = -((at % 100) as f32);
            assert_eq!(
                cells,
                [
                    four,
                    four + 1.0,
                    four + 2.0,
                    four + 3.0,
                    b,
                    at as f32 * 0.5,
                    c
                ]
            );
        }
        let mut integers = Vec::new();
        gather_int(&batch, &names(&["c", "b"]), 2, &mut integers).unwrap();
        assert_eq!(integers[..4], [0, 0, 1, -1]);
    }

    #[test]
    fn what_is_no_number_is_refused_with_column_and_row() {
        let refuse = |array: ArrayRef| {
            let field = Field::new("x", array.data_type().clone(), true);
            let schema = Arc::new(Schema::new(vec![field]));
            let batch = RecordBatch::try_new(schema, vec![array]).unwrap();
            let mut matrix = vec![1.0];
            let error = gather_float(&batch, &names(&["x"]), 1, &mut matrix).unwrap_err();
            assert_eq!(matrix, [1.0]);
            error.to_string()
        };
        let mut values = vec![0.0; 300];
        values[200] = f64::NAN;
        assert!(refuse(Arc::new(Float64Array::from(values.clone()))).contains("is NaN in row 200"));
        values[150] = f64::NEG_INFINITY;
        assert!(
            refuse(Arc::new(Float64Array::from(values.clone()))).contains("is -inf in row 150")
        );
        values[20] = 1e300;
        assert!(
            refuse(Arc::new(Float64Array::from(values))).contains("too large for a 32-bit float")
        );
        let nulls = Int64Array::from(vec![Some(1), None]);
        assert!(refuse(Arc::new(nulls)).contains("is null in row 1"));
        let text = arrow::array::StringArray::from(vec!["a"]);
        assert!(refuse(Arc::new(text)).contains("has type Utf8"));
    }

    #[test]
    fn integers_that_do_not_fit_and_floats_are_refused_as_integers() {
        let batch = RecordBatch::try_from_iter([
            (
                "big",
                Arc::new(UInt64Array::from(vec![1, u64::MAX])) as ArrayRef,
            ),
            ("real", Arc::new(Float64Array::from(vec![1.0, 2.0]))),
        ])
        .unwrap();
        let mut out = Vec::new();
        let error = gather_int(&batch, &names(&["big"]), 1, &mut out).unwrap_err();
        assert!(error.to_string().contains("18446744073709551615 in row 1"));
        let error = gather_int(&batch, &names(&["real"]), 1, &mut out).unwrap_err();
        assert!(error.to_string().contains("has type Float64"));
        let error = gather_int(&batch, &names(&["none"]), 1, &mut out).unwrap_err();
        assert!(error.to_string().contains("\"big\", \"real\""));
        let error = gather_float(&batch, &names(&["real"]), 2, &mut Vec::new()).unwrap_err();
        assert_eq!(
            error,
            FrameError::Width {
                found: 1,
                expected: 2
            }
        );
    }

    #[test]
    fn a_matrix_becomes_the_column_that_its_type_says() {
        for width in [1, 2, 5] {
            let matrix: Vec<f32> = (0..10 * width).map(|at| at as f32).collect();
            let column = matrix_column(matrix.clone(), width).unwrap();
            assert_eq!(column.data_type(), &matrix_type(width));
            assert_eq!(column.len(), 10);
            let field = Field::new("x", matrix_type(width), false);
            assert_eq!(width_of(&field).unwrap(), width);
            let batch = RecordBatch::try_from_iter([("x", column)]).unwrap();
            let mut back = Vec::new();
            gather_float(&batch, &names(&["x"]), width, &mut back).unwrap();
            assert_eq!(back, matrix);
        }
    }
}
