//! The types that columns of SQL have, as ODBC and JDBC call them: CommandGetXdbcTypeInfo.

use std::sync::LazyLock;

use arrow_flight::sql::metadata::{XdbcTypeInfo, XdbcTypeInfoData, XdbcTypeInfoDataBuilder};
use arrow_flight::sql::{Nullable, Searchable, XdbcDataType, XdbcDatetimeSubcode};

use crate::flight::error::FlightError;

static TYPES: LazyLock<Result<XdbcTypeInfoData, String>> = LazyLock::new(|| {
    let mut types = XdbcTypeInfoDataBuilder::new();
    // By the number of their type, as the standard asks.
    let mut rows = rows();
    rows.sort_by_key(|row| row.data_type as i32);
    for row in rows {
        types.append(row);
    }
    types.build().map_err(|error| error.to_string())
});

pub(super) fn types() -> Result<&'static XdbcTypeInfoData, FlightError> {
    TYPES.as_ref().map_err(|reason| FlightError::Internal {
        doing: "listing metadata",
        reason: reason.clone(),
    })
}

fn rows() -> Vec<XdbcTypeInfo> {
    use XdbcDataType as Kind;
    vec![
        base("BOOLEAN", Kind::XdbcBit, 1),
        whole("TINYINT", Kind::XdbcTinyint, 3, false),
        whole("SMALLINT", Kind::XdbcSmallint, 5, false),
        whole("INTEGER", Kind::XdbcInteger, 10, false),
        whole("BIGINT", Kind::XdbcBigint, 19, false),
        whole("TINYINT UNSIGNED", Kind::XdbcTinyint, 3, true),
        whole("SMALLINT UNSIGNED", Kind::XdbcSmallint, 5, true),
        whole("INTEGER UNSIGNED", Kind::XdbcInteger, 10, true),
        whole("BIGINT UNSIGNED", Kind::XdbcBigint, 20, true),
        floating("REAL", Kind::XdbcReal, 24),
        floating("DOUBLE", Kind::XdbcDouble, 53),
        XdbcTypeInfo {
            create_params: Some(vec!["precision".to_owned(), "scale".to_owned()]),
            fixed_prec_scale: true,
            maximum_scale: Some(38),
            ..whole("DECIMAL", Kind::XdbcDecimal, 38, false)
        },
        XdbcTypeInfo {
            case_sensitive: true,
            ..quoted("VARCHAR", Kind::XdbcVarchar, i32::MAX, "'")
        },
        quoted("BYTEA", Kind::XdbcVarbinary, i32::MAX, "X'"),
        // In the generic type that stands for all times, a date has the subcode 1, as in ODBC.
        XdbcTypeInfo {
            sql_data_type: Kind::XdbcDatetime,
            datetime_subcode: Some(XdbcDatetimeSubcode::XdbcSubcodeYear),
            ..quoted("DATE", Kind::XdbcDate, 10, "DATE '")
        },
        XdbcTypeInfo {
            sql_data_type: Kind::XdbcDatetime,
            datetime_subcode: Some(XdbcDatetimeSubcode::XdbcSubcodeTime),
            minimum_scale: Some(0),
            maximum_scale: Some(9),
            ..quoted("TIME", Kind::XdbcTime, 18, "TIME '")
        },
        XdbcTypeInfo {
            sql_data_type: Kind::XdbcDatetime,
            datetime_subcode: Some(XdbcDatetimeSubcode::XdbcSubcodeTimestamp),
            minimum_scale: Some(0),
            maximum_scale: Some(9),
            ..quoted("TIMESTAMP", Kind::XdbcTimestamp, 29, "TIMESTAMP '")
        },
        XdbcTypeInfo {
            sql_data_type: Kind::XdbcDatetime,
            datetime_subcode: Some(XdbcDatetimeSubcode::XdbcSubcodeTimestampWithTimezone),
            minimum_scale: Some(0),
            maximum_scale: Some(9),
            ..quoted("TIMESTAMP WITH TIME ZONE", Kind::XdbcTimestamp, 35, "'")
        },
        XdbcTypeInfo {
            datetime_subcode: Some(XdbcDatetimeSubcode::XdbcSubcodeDayToSecond),
            interval_precision: Some(9),
            ..quoted("INTERVAL", Kind::XdbcInterval, 29, "INTERVAL '")
        },
    ]
}

fn base(name: &str, kind: XdbcDataType, size: i32) -> XdbcTypeInfo {
    XdbcTypeInfo {
        type_name: name.to_owned(),
        data_type: kind,
        column_size: Some(size),
        literal_prefix: None,
        literal_suffix: None,
        create_params: None,
        nullable: Nullable::NullabilityNullable,
        case_sensitive: false,
        searchable: Searchable::Full,
        unsigned_attribute: None,
        fixed_prec_scale: false,
        auto_increment: None,
        local_type_name: Some(name.to_owned()),
        minimum_scale: None,
        maximum_scale: None,
        sql_data_type: kind,
        datetime_subcode: None,
        num_prec_radix: None,
        interval_precision: None,
    }
}

fn whole(name: &str, kind: XdbcDataType, digits: i32, unsigned: bool) -> XdbcTypeInfo {
    XdbcTypeInfo {
        unsigned_attribute: Some(unsigned),
        auto_increment: Some(false),
        minimum_scale: Some(0),
        maximum_scale: Some(0),
        num_prec_radix: Some(10),
        ..base(name, kind, digits)
    }
}

/// Of so many bits.
fn floating(name: &str, kind: XdbcDataType, bits: i32) -> XdbcTypeInfo {
    XdbcTypeInfo {
        unsigned_attribute: Some(false),
        auto_increment: Some(false),
        num_prec_radix: Some(2),
        ..base(name, kind, bits)
    }
}

fn quoted(name: &str, kind: XdbcDataType, size: i32, prefix: &str) -> XdbcTypeInfo {
    XdbcTypeInfo {
        literal_prefix: Some(prefix.to_owned()),
        literal_suffix: Some("'".to_owned()),
        ..base(name, kind, size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_told_in_the_order_of_their_numbers_or_one_alone() {
        let all = types().unwrap().record_batch(None).unwrap();
        assert_eq!(all.num_rows(), rows().len());
        let bigints = types()
            .unwrap()
            .record_batch(XdbcDataType::XdbcBigint as i32)
            .unwrap();
        assert_eq!(bigints.num_rows(), 2, "signed and unsigned");
    }
}
