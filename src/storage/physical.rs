//! Every Arrow type in words that Delta has, and back.
//!
//! Delta knows fewer types than Arrow. A table keeps its exact Arrow schema beside Delta's (see `delta`), its files
//! hold the nearest type that any Delta reader understands, and reading casts back. No value changes on the way:
//!
//! | Arrow | in the file | Delta type |
//! |---|---|---|
//! | Boolean, Int8 to Int64, Float32, Float64, Utf8, Binary, Date32 | the same | boolean, byte to long, float, double, string, binary, date |
//! | UInt8, UInt16, UInt32 | Int16, Int32, Int64 | short, integer, long |
//! | UInt64 | Decimal128(20, 0) | decimal(20,0) |
//! | Float16 | Float32 | float |
//! | Decimal32, Decimal64, Decimal128, Decimal256 of at most 38 digits | Decimal128; a negative scale is written out | decimal |
//! | Decimal256 of more digits | Utf8 | string |
//! | LargeUtf8, Utf8View | Utf8 | string |
//! | LargeBinary, BinaryView, FixedSizeBinary | Binary | binary |
//! | Timestamp with a zone, s to us | microseconds, UTC | timestamp |
//! | Timestamp without a zone, s to us | microseconds | timestamp_ntz |
//! | Timestamp in ns | microseconds while every value is whole microseconds, else a further file in nanoseconds | timestamp, timestamp_ntz |
//! | Date64 | microseconds | timestamp_ntz |
//! | Time32 | Int32 | integer |
//! | Time64, Duration | Int64 | long |
//! | Interval | Int32 months, or a struct of months, days, milliseconds or nanoseconds | integer, struct |
//! | Null | Utf8, all null | string |
//! | Dictionary, RunEndEncoded | its values | theirs |
//! | List, LargeList, ListView, LargeListView, FixedSizeList | List | array |
//! | Struct, Map | the same, member by member | struct, map |
//! | Union, Struct without fields, anything nested more than 64 deep | refused before the first row | |
//!
//! Nanosecond timestamps are what pandas makes of every date; nearly all are whole microseconds, and those files are
//! plain Delta for every reader. A file in nanoseconds is beyond what Delta specifies: this server and DuckDB read it
//! exactly, polars cuts it to microseconds, the `deltalake` package refuses to make it Arrow, Spark does not read it.
//! A value outside the range of the stored type (a timestamp in seconds 300,000 years away) is refused with its column.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray as _, BooleanArray, FixedSizeListArray, Int32Array, Int64Array,
    ListArray, MapArray, PrimitiveArray, RecordBatch, RecordBatchOptions, StructArray,
    new_null_array,
};
use arrow::buffer::OffsetBuffer;
use arrow::compute::{CastOptions, cast_with_options, filter, take};
use arrow::datatypes::{
    DataType, Field, FieldRef, Fields, Int32Type, IntervalDayTime, IntervalDayTimeType,
    IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit, IntervalYearMonthType, Schema,
    SchemaRef, TimeUnit, TimestampNanosecondType,
};
use arrow::error::ArrowError;

use super::StorageError;

/// Deepest nesting of a column's type: conversion walks it on the stack.
pub const NESTING_MAX: usize = 64;

/// An Arrow schema and the schema its files have.
#[derive(Debug, Clone)]
pub struct StoredSchema {
    /// As uploaded.
    pub exact: SchemaRef,
    /// In files; nanosecond timestamps as microseconds. Delta's schema is made from this one.
    pub stored: SchemaRef,
    /// In files that hold timestamps between two microseconds; `None` when no column is in nanoseconds.
    pub precise: Option<SchemaRef>,
}

impl StoredSchema {
    /// Finds the stored form of every column, or names the first that has none.
    pub fn of(exact: &SchemaRef) -> Result<Self, StorageError> {
        if exact.fields().is_empty() {
            return Err(StorageError::Misfit {
                reason: "there are no columns; a dataset needs at least one".into(),
            });
        }
        check_names("", exact.fields())?;
        let stored = stored_schema(exact, TimeUnit::Microsecond)?;
        let precise = stored_schema(exact, TimeUnit::Nanosecond)?;
        for (field, stored) in exact.fields().iter().zip(stored.fields()) {
            check_restorable(field, stored)?;
        }
        Ok(Self {
            exact: Arc::clone(exact),
            precise: (precise != stored).then_some(precise),
            stored,
        })
    }

    /// The schema of a file.
    pub fn in_file(&self, precise: bool) -> &SchemaRef {
        match &self.precise {
            Some(schema) if precise => schema,
            _ => &self.stored,
        }
    }

    /// Whether some timestamp lies between two microseconds, so that the batch needs a file in nanoseconds.
    pub fn needs_nanoseconds(&self, batch: &RecordBatch) -> bool {
        self.precise.is_some() && batch.columns().iter().any(has_odd_nanoseconds)
    }

    /// Turns columns (in the exact schema's order) into those of a file.
    pub fn store(&self, batch: &RecordBatch, precise: bool) -> Result<RecordBatch, StorageError> {
        let schema = self.in_file(precise);
        let mut columns = Vec::with_capacity(batch.num_columns());
        for (field, column) in schema.fields().iter().zip(batch.columns()) {
            let stored = to_stored(column, field.data_type())
                .map_err(|error| misfit(field.name(), &error))?;
            if !field.is_nullable() && stored.logical_null_count() > 0 {
                return Err(StorageError::Misfit {
                    reason: format!(
                        "column {:?} is declared without nulls and has {} in these rows",
                        field.name(),
                        stored.logical_null_count()
                    ),
                });
            }
            columns.push(stored);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options).map_err(|error| {
            StorageError::Misfit {
                reason: error.to_string(),
            }
        })
    }
}

/// Turns a file's rows back into rows of the exact schema.
///
/// Mostly one batch; more where a dictionary's keys or a run's ends are too small for all the rows together.
pub fn restore(
    columns: &[ArrayRef],
    rows: usize,
    exact: &SchemaRef,
    what: &str,
) -> Result<Vec<RecordBatch>, StorageError> {
    match restore_whole(columns, rows, exact) {
        Ok(whole) => Ok(vec![whole]),
        Err(_) if rows > 1 => {
            let half = rows / 2;
            let part = |from, rows| {
                columns
                    .iter()
                    .map(|c| c.slice(from, rows))
                    .collect::<Vec<_>>()
            };
            let mut parts = restore(&part(0, half), half, exact, what)?;
            let rest = rows - half;
            parts.extend(restore(&part(half, rest), rest, exact, what)?);
            Ok(parts)
        }
        Err(error) => Err(StorageError::Corrupt {
            what: what.to_string(),
            reason: error.to_string(),
        }),
    }
}

fn restore_whole(
    columns: &[ArrayRef],
    rows: usize,
    exact: &SchemaRef,
) -> Result<RecordBatch, ArrowError> {
    let columns = exact
        .fields()
        .iter()
        .zip(columns)
        .map(|(field, column)| to_exact(column, field.data_type()))
        .collect::<Result<Vec<_>, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::clone(exact), columns, &options)
}

/// One column of a file as the exact type (for the SQL scan, which reads files itself).
pub fn restore_column(column: &ArrayRef, exact: &DataType) -> Result<ArrayRef, StorageError> {
    to_exact(column, exact).map_err(|error| StorageError::Corrupt {
        what: format!("a stored {} column", column.data_type()),
        reason: error.to_string(),
    })
}

/// Whether two types hold the same values and differ in encoding alone: a dictionary, a view or a 64-bit offset more.
/// Rows of one may be appended to a dataset of the other.
pub fn same_values(one: &DataType, other: &DataType) -> bool {
    use DataType::*;
    let members_match = |a: &Fields, b: &Fields| {
        a.len() == b.len()
            && a.iter()
                .zip(b)
                .all(|(a, b)| a.name() == b.name() && same_values(a.data_type(), b.data_type()))
    };
    match (one, other) {
        (Dictionary(_, value), other) => same_values(value, other),
        (one, Dictionary(_, value)) => same_values(one, value),
        (RunEndEncoded(_, value), other) => same_values(value.data_type(), other),
        (one, RunEndEncoded(_, value)) => same_values(one, value.data_type()),
        (Utf8 | LargeUtf8 | Utf8View, Utf8 | LargeUtf8 | Utf8View)
        | (Binary | LargeBinary | BinaryView, Binary | LargeBinary | BinaryView) => true,
        (
            List(a) | LargeList(a) | ListView(a) | LargeListView(a),
            List(b) | LargeList(b) | ListView(b) | LargeListView(b),
        ) => same_values(a.data_type(), b.data_type()),
        (FixedSizeList(a, n), FixedSizeList(b, m)) => {
            n == m && same_values(a.data_type(), b.data_type())
        }
        (Struct(a), Struct(b)) => members_match(a, b),
        (Map(a, _), Map(b, _)) => match (a.data_type(), b.data_type()) {
            (Struct(a), Struct(b)) => {
                a.len() == b.len()
                    && a.iter()
                        .zip(b)
                        .all(|(a, b)| same_values(a.data_type(), b.data_type()))
            }
            _ => false,
        },
        (one, other) => one == other,
    }
}

fn misfit(column: &str, error: &ArrowError) -> StorageError {
    StorageError::Misfit {
        reason: format!("column {column:?}: {error}"),
    }
}

fn unstorable(column: &str, data_type: &DataType, reason: impl Into<String>) -> StorageError {
    StorageError::Unstorable {
        column: column.to_string(),
        data_type: data_type.to_string(),
        reason: reason.into(),
    }
}

/// Delta compares names without regard to case, at every level.
fn check_names(path: &str, fields: &Fields) -> Result<(), StorageError> {
    let mut seen = std::collections::HashMap::new();
    for field in fields {
        let here = format!("{path}{}", field.name());
        if field.name().is_empty() {
            return Err(unstorable(
                &here,
                field.data_type(),
                "it has no name; give every column one",
            ));
        }
        if let Some(first) = seen.insert(field.name().to_lowercase(), field.name()) {
            let reason = if first == field.name() {
                "another column has the same name; rename one".to_string()
            } else {
                format!("column {first:?} differs in upper and lower case only; rename one")
            };
            return Err(unstorable(&here, field.data_type(), reason));
        }
    }
    Ok(())
}

/// Sends a null through and back: casts that do not exist show themselves before the first row.
fn check_restorable(field: &Field, stored: &Field) -> Result<(), StorageError> {
    let probe = new_null_array(field.data_type(), 1);
    to_stored(&probe, stored.data_type())
        .and_then(|there| to_exact(&there, field.data_type()))
        .map(|_| ())
        .map_err(|error| unstorable(field.name(), field.data_type(), error.to_string()))
}

fn stored_schema(exact: &Schema, timestamps: TimeUnit) -> Result<SchemaRef, StorageError> {
    let fields = exact
        .fields()
        .iter()
        .map(|field| stored_field("", field, timestamps, 0))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Arc::new(Schema::new(fields)))
}

fn stored_field(
    path: &str,
    field: &Field,
    timestamps: TimeUnit,
    depth: usize,
) -> Result<Field, StorageError> {
    let path = format!("{path}{}", field.name());
    let stored = stored_type(&path, field.data_type(), timestamps, depth)?;
    Ok(Field::new(field.name(), stored, field.is_nullable()))
}

fn stored_type(
    path: &str,
    exact: &DataType,
    timestamps: TimeUnit,
    depth: usize,
) -> Result<DataType, StorageError> {
    use DataType::*;
    if depth > NESTING_MAX {
        return Err(unstorable(
            path,
            exact,
            format!("it is nested more than {NESTING_MAX} deep"),
        ));
    }
    let inner = |data_type: &DataType| stored_type(path, data_type, timestamps, depth + 1);
    Ok(match exact {
        Boolean | Int8 | Int16 | Int32 | Int64 | Float32 | Float64 | Utf8 | Binary | Date32 => {
            exact.clone()
        }
        UInt8 => Int16,
        UInt16 => Int32,
        UInt32 | Time64(_) | Duration(_) => Int64,
        UInt64 => Decimal128(20, 0),
        Float16 => Float32,
        Time32(_) => Int32,
        LargeUtf8 | Utf8View | Null => Utf8,
        LargeBinary | BinaryView | FixedSizeBinary(_) => Binary,
        Decimal32(p, s) | Decimal64(p, s) | Decimal128(p, s) | Decimal256(p, s) => {
            let digits = i32::from(*p) - i32::from(*s).min(0);
            match u8::try_from(digits) {
                Ok(digits) if digits <= 38 => Decimal128(digits, (*s).max(0)),
                _ if *s >= 0 => Utf8,
                _ => {
                    return Err(unstorable(
                        path,
                        exact,
                        "more than 38 digits with a negative scale have no stored form",
                    ));
                }
            }
        }
        Timestamp(unit, zone) => {
            let unit = if *unit == TimeUnit::Nanosecond {
                timestamps
            } else {
                TimeUnit::Microsecond
            };
            Timestamp(unit, zone.as_ref().map(|_| Arc::from("UTC")))
        }
        Date64 => Timestamp(TimeUnit::Microsecond, None),
        Interval(IntervalUnit::YearMonth) => Int32,
        Interval(IntervalUnit::DayTime) => Struct(day_time_fields()),
        Interval(IntervalUnit::MonthDayNano) => Struct(month_day_nano_fields()),
        Dictionary(_, value) => inner(value)?,
        RunEndEncoded(_, value) => inner(value.data_type())?,
        List(item)
        | LargeList(item)
        | ListView(item)
        | LargeListView(item)
        | FixedSizeList(item, _) => List(Arc::new(Field::new(
            "element",
            stored_type(
                &format!("{path}.{}", item.name()),
                item.data_type(),
                timestamps,
                depth + 1,
            )?,
            item.is_nullable(),
        ))),
        Struct(fields) => {
            if fields.is_empty() {
                return Err(unstorable(path, exact, "a struct needs at least one field"));
            }
            let path = format!("{path}.");
            check_names(&path, fields)?;
            Struct(
                fields
                    .iter()
                    .map(|field| stored_field(&path, field, timestamps, depth + 1))
                    .collect::<Result<_, _>>()?,
            )
        }
        Map(entries, _) => {
            let (key, value) = key_and_value(entries)
                .ok_or_else(|| unstorable(path, exact, "its entries are no key and value"))?;
            let entries = vec![
                Field::new("key", inner(key.data_type())?, false),
                Field::new("value", inner(value.data_type())?, value.is_nullable()),
            ];
            Map(
                Arc::new(Field::new("key_value", Struct(entries.into()), false)),
                false,
            )
        }
        Union(..) => {
            return Err(unstorable(
                path,
                exact,
                "neither Parquet nor Delta has unions; use a struct of nullable fields",
            ));
        }
    })
}

fn key_and_value(entries: &Field) -> Option<(&FieldRef, &FieldRef)> {
    match entries.data_type() {
        DataType::Struct(fields) if fields.len() == 2 => Some((&fields[0], &fields[1])),
        _ => None,
    }
}

fn day_time_fields() -> Fields {
    vec![
        Field::new("days", DataType::Int32, true),
        Field::new("milliseconds", DataType::Int32, true),
    ]
    .into()
}

fn month_day_nano_fields() -> Fields {
    vec![
        Field::new("months", DataType::Int32, true),
        Field::new("days", DataType::Int32, true),
        Field::new("nanoseconds", DataType::Int64, true),
    ]
    .into()
}

fn has_odd_nanoseconds(array: &ArrayRef) -> bool {
    match array.data_type() {
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            let array = array.as_primitive::<TimestampNanosecondType>();
            let odd = |value: &i64| value % 1_000 != 0;
            match array.nulls() {
                None => array.values().iter().any(odd),
                // The bytes below a null are anything.
                Some(_) => array.iter().flatten().any(|value| odd(&value)),
            }
        }
        DataType::Struct(_) => array.as_struct().columns().iter().any(has_odd_nanoseconds),
        DataType::List(_) => has_odd_nanoseconds(array.as_list::<i32>().values()),
        DataType::LargeList(_) => has_odd_nanoseconds(array.as_list::<i64>().values()),
        DataType::ListView(_) => has_odd_nanoseconds(array.as_list_view::<i32>().values()),
        DataType::LargeListView(_) => has_odd_nanoseconds(array.as_list_view::<i64>().values()),
        DataType::FixedSizeList(..) => has_odd_nanoseconds(array.as_fixed_size_list().values()),
        DataType::Map(..) => {
            let map = array.as_map();
            has_odd_nanoseconds(map.keys()) || has_odd_nanoseconds(map.values())
        }
        DataType::Dictionary(..) => has_odd_nanoseconds(array.as_any_dictionary().values()),
        DataType::RunEndEncoded(_, value) => {
            strict_cast(array, value.data_type()).is_ok_and(|values| has_odd_nanoseconds(&values))
        }
        _ => false,
    }
}

/// A cast that refuses what does not fit instead of answering null.
fn strict_cast(array: &dyn Array, to: &DataType) -> Result<ArrayRef, ArrowError> {
    let options = CastOptions {
        safe: false,
        ..CastOptions::default()
    };
    cast_with_options(array, to, &options)
}

fn to_stored(array: &ArrayRef, stored: &DataType) -> Result<ArrayRef, ArrowError> {
    use DataType::*;
    if array.data_type() == stored {
        return Ok(Arc::clone(array));
    }
    match (array.data_type(), stored) {
        (Null, _) => Ok(new_null_array(stored, array.len())),
        (Dictionary(..), _) => {
            let dictionary = array.as_any_dictionary();
            let values = take(dictionary.values(), dictionary.keys(), None)?;
            to_stored(&values, stored)
        }
        (RunEndEncoded(_, value), _) => to_stored(&strict_cast(array, value.data_type())?, stored),
        (Interval(IntervalUnit::YearMonth), _) => {
            let months = array.as_primitive::<IntervalYearMonthType>();
            Ok(Arc::new(months.reinterpret_cast::<Int32Type>()))
        }
        (Interval(IntervalUnit::DayTime), Struct(fields)) => {
            let array = array.as_primitive::<IntervalDayTimeType>();
            let days: Int32Array = array.values().iter().map(|v| v.days).collect();
            let milliseconds: Int32Array = array.values().iter().map(|v| v.milliseconds).collect();
            let columns: Vec<ArrayRef> = vec![Arc::new(days), Arc::new(milliseconds)];
            let nulls = array.nulls().cloned();
            Ok(Arc::new(StructArray::try_new(
                fields.clone(),
                columns,
                nulls,
            )?))
        }
        (Interval(IntervalUnit::MonthDayNano), Struct(fields)) => {
            let array = array.as_primitive::<IntervalMonthDayNanoType>();
            let months: Int32Array = array.values().iter().map(|v| v.months).collect();
            let days: Int32Array = array.values().iter().map(|v| v.days).collect();
            let nanoseconds: Int64Array = array.values().iter().map(|v| v.nanoseconds).collect();
            let columns: Vec<ArrayRef> =
                vec![Arc::new(months), Arc::new(days), Arc::new(nanoseconds)];
            let nulls = array.nulls().cloned();
            Ok(Arc::new(StructArray::try_new(
                fields.clone(),
                columns,
                nulls,
            )?))
        }
        (Struct(_), Struct(fields)) => convert_struct(array.as_struct(), fields, to_stored),
        (Map(..), Map(entries, ordered)) => {
            convert_map(array.as_map(), entries, *ordered, to_stored)
        }
        (
            List(_) | LargeList(_) | ListView(_) | LargeListView(_) | FixedSizeList(..),
            List(item),
        ) => {
            let list = as_plain_list(array)?;
            Ok(Arc::new(convert_list(&list, item, to_stored)?))
        }
        _ => strict_cast(array, stored),
    }
}

fn to_exact(array: &ArrayRef, exact: &DataType) -> Result<ArrayRef, ArrowError> {
    use DataType::*;
    if array.data_type() == exact {
        return Ok(Arc::clone(array));
    }
    match exact {
        Null => Ok(new_null_array(exact, array.len())),
        Dictionary(..) if matches!(array.data_type(), Dictionary(..)) => {
            strict_cast(array, exact).or_else(|_| {
                // The file has more values than these keys can count; the rows at hand may need fewer.
                let dictionary = array.as_any_dictionary();
                let plain = take(dictionary.values(), dictionary.keys(), None)?;
                to_exact(&plain, exact)
            })
        }
        Dictionary(_, value) => strict_cast(&to_exact(array, value)?, exact),
        RunEndEncoded(_, value) => strict_cast(&to_exact(array, value.data_type())?, exact),
        Interval(IntervalUnit::YearMonth) if array.data_type() == &Int32 => {
            let months = array.as_primitive::<Int32Type>();
            Ok(Arc::new(months.reinterpret_cast::<IntervalYearMonthType>()))
        }
        Interval(IntervalUnit::DayTime) => {
            let [days, milliseconds] = members(array)?;
            let (days, milliseconds) = (days.as_primitive(), milliseconds.as_primitive());
            let intervals = (0..array.len()).map(|row| {
                array
                    .is_valid(row)
                    .then(|| IntervalDayTime::new(int32(days, row), int32(milliseconds, row)))
            });
            Ok(Arc::new(
                intervals.collect::<PrimitiveArray<IntervalDayTimeType>>(),
            ))
        }
        Interval(IntervalUnit::MonthDayNano) => {
            let [months, days, nanoseconds] = members(array)?;
            let (months, days) = (months.as_primitive(), days.as_primitive());
            let nanoseconds = nanoseconds.as_primitive::<arrow::datatypes::Int64Type>();
            let intervals = (0..array.len()).map(|row| {
                array.is_valid(row).then(|| {
                    IntervalMonthDayNano::new(
                        int32(months, row),
                        int32(days, row),
                        nanoseconds.value(row),
                    )
                })
            });
            Ok(Arc::new(
                intervals.collect::<PrimitiveArray<IntervalMonthDayNanoType>>(),
            ))
        }
        Struct(fields) if matches!(array.data_type(), Struct(_)) => {
            convert_struct(array.as_struct(), fields, to_exact)
        }
        Map(entries, ordered) if matches!(array.data_type(), Map(..)) => {
            convert_map(array.as_map(), entries, *ordered, to_exact)
        }
        List(item) if array.data_type().is_list() => {
            let list = as_plain_list(array)?;
            Ok(Arc::new(convert_list(&list, item, to_exact)?))
        }
        LargeList(item) | ListView(item) | LargeListView(item) if array.data_type().is_list() => {
            let list = convert_list(&as_plain_list(array)?, item, to_exact)?;
            strict_cast(&list, exact)
        }
        FixedSizeList(item, size) if array.data_type().is_list() => {
            let list = convert_list(&as_plain_list(array)?, item, to_exact)?;
            let width = usize::try_from(*size).unwrap_or(0);
            let even =
                list.null_count() == 0 && list.offsets().lengths().all(|length| length == width);
            if even || width == 0 {
                let values = Arc::clone(list.values());
                let nulls = list.nulls().cloned();
                let (item, size) = (Arc::clone(item), *size);
                return Ok(Arc::new(FixedSizeListArray::try_new_with_length(
                    item,
                    size,
                    values,
                    nulls,
                    list.len(),
                )?));
            }
            strict_cast(&list, exact)
        }
        _ => strict_cast(array, exact),
    }
}

fn int32(array: &Int32Array, row: usize) -> i32 {
    array.value(row)
}

fn members<const N: usize>(array: &ArrayRef) -> Result<[&ArrayRef; N], ArrowError> {
    let columns = array.as_struct_opt().map(StructArray::columns);
    columns
        .and_then(|columns| columns.iter().collect::<Vec<_>>().try_into().ok())
        .ok_or_else(|| {
            ArrowError::CastError(format!("{} is no stored interval", array.data_type()))
        })
}

type Convert = fn(&ArrayRef, &DataType) -> Result<ArrayRef, ArrowError>;

fn convert_struct(
    array: &StructArray,
    fields: &Fields,
    convert: Convert,
) -> Result<ArrayRef, ArrowError> {
    if array.num_columns() != fields.len() {
        return Err(ArrowError::CastError(format!(
            "a struct of {} fields is no struct of {}",
            array.num_columns(),
            fields.len()
        )));
    }
    let columns = array
        .columns()
        .iter()
        .zip(fields)
        .map(|(column, field)| convert(column, field.data_type()))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Arc::new(StructArray::try_new_with_length(
        fields.clone(),
        columns,
        array.nulls().cloned(),
        array.len(),
    )?))
}

fn convert_list(
    list: &ListArray,
    item: &FieldRef,
    convert: Convert,
) -> Result<ListArray, ArrowError> {
    let (offsets, from, length) = rebased(list.offsets());
    let values = convert(&list.values().slice(from, length), item.data_type())?;
    ListArray::try_new(Arc::clone(item), offsets, values, list.nulls().cloned())
}

fn convert_map(
    map: &MapArray,
    entries: &FieldRef,
    ordered: bool,
    convert: Convert,
) -> Result<ArrayRef, ArrowError> {
    let (offsets, from, length) = rebased(map.offsets());
    let DataType::Struct(fields) = entries.data_type() else {
        return Err(ArrowError::CastError("a map's entries are a struct".into()));
    };
    let pairs = convert_struct(&map.entries().slice(from, length), fields, convert)?;
    Ok(Arc::new(MapArray::try_new(
        Arc::clone(entries),
        offsets,
        pairs.as_struct().clone(),
        map.nulls().cloned(),
        ordered,
    )?))
}

/// Offsets that begin at 0, and the part of the values that they speak of: a slice must not drag all values along.
fn rebased(offsets: &OffsetBuffer<i32>) -> (OffsetBuffer<i32>, usize, usize) {
    let first = offsets[0];
    let last = offsets[offsets.len() - 1];
    let offsets = if first == 0 {
        offsets.clone()
    } else {
        OffsetBuffer::new(offsets.iter().map(|offset| offset - first).collect())
    };
    (offsets, first as usize, (last - first) as usize)
}

/// Any kind of list as a `List` with the same items.
fn as_plain_list(array: &ArrayRef) -> Result<ListArray, ArrowError> {
    use DataType::*;
    let item = match array.data_type() {
        List(_) => return Ok(array.as_list::<i32>().clone()),
        LargeList(item) | ListView(item) | LargeListView(item) | FixedSizeList(item, _) => item,
        other => {
            return Err(ArrowError::CastError(format!("{other} is no list")));
        }
    };
    if let (FixedSizeList(_, size), Some(nulls)) = (array.data_type(), array.nulls()) {
        // Values below a null row are anything, nulls included where the items may have none: leave them out.
        let width = usize::try_from(*size).unwrap_or(0);
        let kept: BooleanArray = nulls
            .iter()
            .flat_map(|valid| std::iter::repeat_n(Some(valid), width))
            .collect();
        let values = filter(array.as_fixed_size_list().values(), &kept)?;
        let lengths = nulls.iter().map(|valid| if valid { width } else { 0 });
        let offsets = OffsetBuffer::from_lengths(lengths);
        return ListArray::try_new(Arc::clone(item), offsets, values, Some(nulls.clone()));
    }
    let list = strict_cast(array, &List(Arc::clone(item)))?;
    Ok(list.as_list::<i32>().clone())
}
