//! What the fields of results and of tables say of their columns, for ODBC, JDBC and ADBC: the keys of FlightSql.proto.
//!
//! Values travel as text. A key that means nothing for a type is left out. Schemas of our own commands have none of it:
//! who reads rows there and writes them again would write it down with them.

#[cfg(test)]
use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

use super::{CATALOG, SCHEMA};

const PREFIX: &str = "ARROW:FLIGHT:SQL:";

/// The schema with a description of each column; `table` says from which table one is taken as it is, if from any.
pub(super) fn described<'a>(
    schema: &Schema,
    table: impl Fn(usize) -> Option<&'a str>,
) -> SchemaRef {
    let fields: Vec<Field> = schema
        .fields()
        .iter()
        .enumerate()
        .map(|(column, field)| describe(field, table(column)))
        .collect();
    let metadata = schema.metadata().clone();
    Arc::new(Schema::new_with_metadata(fields, metadata))
}

/// The schema without such descriptions: a result that was read is written again with those of its own columns.
pub(in crate::flight) fn undescribed(schema: SchemaRef) -> SchemaRef {
    let is_described = |field: &Field| field.metadata().keys().any(|key| key.starts_with(PREFIX));
    if !schema.fields().iter().any(|field| is_described(field)) {
        return schema;
    }
    let fields: Vec<Field> = schema
        .fields()
        .iter()
        .map(|field| {
            let mut metadata = field.metadata().clone();
            metadata.retain(|key, _| !key.starts_with(PREFIX));
            Field::clone(field).with_metadata(metadata)
        })
        .collect();
    let metadata = schema.metadata().clone();
    Arc::new(Schema::new_with_metadata(fields, metadata))
}

fn describe(field: &Field, table: Option<&str>) -> Field {
    let kind = Kind::of(field.data_type());
    let mut metadata = field.metadata().clone();
    // A result that was read and written again has the description of then.
    metadata.retain(|key, _| !key.starts_with(PREFIX));
    let mut say = |key: &str, value: String| {
        metadata.insert(format!("{PREFIX}{key}"), value);
    };
    let flag = |is: bool| String::from(if is { "1" } else { "0" });
    if let Some(table) = table {
        say("CATALOG_NAME", CATALOG.to_owned());
        // The standard's name, and the one that Arrow's clients in C++, Go and Java look for.
        say("DB_SCHEMA_NAME", SCHEMA.to_owned());
        say("SCHEMA_NAME", SCHEMA.to_owned());
        say("TABLE_NAME", table.to_owned());
    }
    say("TYPE_NAME", kind.name.to_owned());
    if let Some(precision) = kind.precision {
        say("PRECISION", precision.to_string());
    }
    if let Some(scale) = kind.scale {
        say("SCALE", scale.to_string());
    }
    say("IS_AUTO_INCREMENT", flag(false));
    say("IS_CASE_SENSITIVE", flag(kind.name == VARCHAR));
    // What is computed cannot be written; a table's columns can.
    say("IS_READ_ONLY", flag(table.is_none()));
    say("IS_SEARCHABLE", flag(true));
    field.clone().with_metadata(metadata)
}

const VARCHAR: &str = "VARCHAR";

/// A type as SQL calls it, with the size that ODBC and JDBC give it: decimal digits, characters of a time, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Kind {
    name: &'static str,
    precision: Option<i32>,
    scale: Option<i32>,
}

impl Kind {
    fn of(data_type: &DataType) -> Self {
        match data_type {
            DataType::Boolean => sized("BOOLEAN", 1),
            DataType::Int8 => number("TINYINT", 3, 0),
            DataType::Int16 => number("SMALLINT", 5, 0),
            DataType::Int32 => number("INTEGER", 10, 0),
            DataType::Int64 => number("BIGINT", 19, 0),
            DataType::UInt8 => number("TINYINT UNSIGNED", 3, 0),
            DataType::UInt16 => number("SMALLINT UNSIGNED", 5, 0),
            DataType::UInt32 => number("INTEGER UNSIGNED", 10, 0),
            DataType::UInt64 => number("BIGINT UNSIGNED", 20, 0),
            DataType::Float16 | DataType::Float32 => sized("REAL", 7),
            DataType::Float64 => sized("DOUBLE", 15),
            DataType::Decimal32(precision, scale)
            | DataType::Decimal64(precision, scale)
            | DataType::Decimal128(precision, scale)
            | DataType::Decimal256(precision, scale) => {
                number("DECIMAL", i32::from(*precision), i32::from(*scale))
            }
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => named(VARCHAR),
            DataType::FixedSizeBinary(bytes) => sized("BYTEA", *bytes),
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView => named("BYTEA"),
            DataType::Date32 | DataType::Date64 => sized("DATE", 10),
            DataType::Time32(unit) | DataType::Time64(unit) => time("TIME", 8, *unit, 0),
            DataType::Timestamp(unit, None) => time("TIMESTAMP", 19, *unit, 0),
            DataType::Timestamp(unit, Some(_)) => time("TIMESTAMP WITH TIME ZONE", 19, *unit, 6),
            DataType::Interval(_) | DataType::Duration(_) => named("INTERVAL"),
            DataType::Dictionary(_, values) => Self::of(values),
            DataType::RunEndEncoded(_, values) => Self::of(values.data_type()),
            DataType::List(_)
            | DataType::LargeList(_)
            | DataType::ListView(_)
            | DataType::LargeListView(_)
            | DataType::FixedSizeList(..) => named("ARRAY"),
            DataType::Struct(_) => named("STRUCT"),
            DataType::Map(..) => named("MAP"),
            DataType::Union(..) => named("UNION"),
            DataType::Null => named("NULL"),
        }
    }
}

fn named(name: &'static str) -> Kind {
    Kind {
        name,
        precision: None,
        scale: None,
    }
}

fn sized(name: &'static str, precision: i32) -> Kind {
    Kind {
        precision: Some(precision),
        ..named(name)
    }
}

fn number(name: &'static str, precision: i32, scale: i32) -> Kind {
    Kind {
        scale: Some(scale),
        ..sized(name, precision)
    }
}

/// `characters` without a fraction; a fraction has a point before its digits, and a zone has some characters behind.
fn time(name: &'static str, characters: i32, unit: TimeUnit, zone: i32) -> Kind {
    let digits = match unit {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 3,
        TimeUnit::Microsecond => 6,
        TimeUnit::Nanosecond => 9,
    };
    let fraction = if digits == 0 { 0 } else { digits + 1 };
    number(name, characters + fraction + zone, digits)
}

/// The description of one column, without the prefix of its keys.
#[cfg(test)]
fn told(field: &Field) -> HashMap<&str, &str> {
    let told = field.metadata().iter();
    told.filter_map(|(key, value)| Some((key.strip_prefix(PREFIX)?, value.as_str())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_of_a_table_says_what_it_is_and_where_it_is_from() {
        let stale = HashMap::from([
            (format!("{PREFIX}TABLE_NAME"), String::from("before")),
            (format!("{PREFIX}REMARKS"), String::from("old")),
            (String::from("mine"), String::from("kept")),
        ]);
        let schema = Schema::new(vec![
            Field::new("price", DataType::Decimal128(12, 3), true).with_metadata(stale),
            Field::new("name", DataType::Utf8, true),
            Field::new("day", DataType::Date32, false),
        ]);
        let bare = undescribed(Arc::new(schema.clone()));
        assert!(told(bare.field(0)).is_empty());
        assert_eq!(bare.field(0).metadata()["mine"], "kept");
        assert_eq!(undescribed(Arc::clone(&bare)), bare);
        let described = described(&schema, |column| (column < 2).then_some("sales"));
        let price = told(described.field(0));
        let expected = HashMap::from([
            ("CATALOG_NAME", "volary"),
            ("DB_SCHEMA_NAME", "public"),
            ("SCHEMA_NAME", "public"),
            ("TABLE_NAME", "sales"),
            ("TYPE_NAME", "DECIMAL"),
            ("PRECISION", "12"),
            ("SCALE", "3"),
            ("IS_AUTO_INCREMENT", "0"),
            ("IS_CASE_SENSITIVE", "0"),
            ("IS_READ_ONLY", "0"),
            ("IS_SEARCHABLE", "1"),
        ]);
        assert_eq!(price, expected);
        assert_eq!(described.field(0).metadata()["mine"], "kept");
        let name = told(described.field(1));
        assert_eq!(
            (name["TYPE_NAME"], name["IS_CASE_SENSITIVE"]),
            (VARCHAR, "1")
        );
        assert!(!name.contains_key("PRECISION") && !name.contains_key("SCALE"));
        let computed = told(described.field(2));
        assert!(!computed.contains_key("TABLE_NAME"));
        assert_eq!(
            (computed["PRECISION"], computed["IS_READ_ONLY"]),
            ("10", "1")
        );
    }

    #[test]
    fn times_have_the_characters_that_they_are_written_with() {
        let zone = || Some(Arc::from("UTC"));
        for (data_type, written, digits) in [
            (DataType::Time32(TimeUnit::Second), "12:34:56", 0),
            (
                DataType::Time64(TimeUnit::Nanosecond),
                "12:34:56.123456789",
                9,
            ),
            (
                DataType::Timestamp(TimeUnit::Millisecond, None),
                "2025-11-26 01:02:03.123",
                3,
            ),
            (
                DataType::Timestamp(TimeUnit::Microsecond, zone()),
                "2025-11-26 01:02:03.123456+01:00",
                6,
            ),
        ] {
            let kind = Kind::of(&data_type);
            let size = i32::try_from(written.len()).unwrap();
            assert_eq!((kind.precision, kind.scale), (Some(size), Some(digits)));
        }
    }
}
