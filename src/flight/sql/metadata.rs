//! What drivers ask before the first query: what the server is, and its catalogs, schemas, tables, types and keys.

use std::sync::{Arc, LazyLock};

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow_flight::sql::metadata::{
    SqlInfoData, SqlInfoDataBuilder, XdbcTypeInfo, XdbcTypeInfoData, XdbcTypeInfoDataBuilder,
};
use arrow_flight::sql::{
    Command, Nullable, Searchable, SqlInfo, SqlNullOrdering, SqlSupportedTransaction, XdbcDataType,
};
use tonic::Status;

use crate::flight::codec::expanded_schema;
use crate::flight::error::FlightError;
use crate::flight::service::VerbContext;

/// Where SQL sees the datasets; the names that `features` gives its catalog and schema.
pub(in crate::flight) const CATALOG: &str = "volary";
pub(in crate::flight) const SCHEMA: &str = "public";
const TABLE_TYPE: &str = "TABLE";

/// What the server says of itself.
static SQL_INFO: LazyLock<Result<SqlInfoData, String>> = LazyLock::new(|| {
    let mut info = SqlInfoDataBuilder::new();
    info.append(SqlInfo::FlightSqlServerName, "Volary");
    info.append(SqlInfo::FlightSqlServerVersion, env!("CARGO_PKG_VERSION"));
    info.append(SqlInfo::FlightSqlServerArrowVersion, "1.3");
    info.append(SqlInfo::FlightSqlServerReadOnly, true);
    info.append(SqlInfo::FlightSqlServerSql, true);
    info.append(SqlInfo::FlightSqlServerSubstrait, false);
    info.append(
        SqlInfo::FlightSqlServerTransaction,
        SqlSupportedTransaction::None as i32,
    );
    info.append(SqlInfo::FlightSqlServerCancel, true);
    info.append(SqlInfo::FlightSqlServerBulkIngestion, false);
    info.append(SqlInfo::SqlDdlCatalog, false);
    info.append(SqlInfo::SqlDdlSchema, false);
    info.append(SqlInfo::SqlDdlTable, false);
    info.append(SqlInfo::SqlIdentifierQuoteChar, "\"");
    info.append(
        SqlInfo::SqlNullOrdering,
        SqlNullOrdering::SqlNullsSortedHigh as i32,
    );
    info.append(SqlInfo::SqlTransactionsSupported, false);
    info.build().map_err(|error| error.to_string())
});

/// The types that columns have, as ODBC and JDBC call them.
static TYPES: LazyLock<Result<XdbcTypeInfoData, String>> = LazyLock::new(|| {
    let mut types = XdbcTypeInfoDataBuilder::new();
    let signed = Some(false);
    for (name, kind, size, unsigned, quote) in [
        ("BOOLEAN", XdbcDataType::XdbcBit, 1, None, None),
        ("TINYINT", XdbcDataType::XdbcTinyint, 3, signed, None),
        ("SMALLINT", XdbcDataType::XdbcSmallint, 5, signed, None),
        ("INTEGER", XdbcDataType::XdbcInteger, 10, signed, None),
        ("BIGINT", XdbcDataType::XdbcBigint, 19, signed, None),
        ("REAL", XdbcDataType::XdbcReal, 7, signed, None),
        ("DOUBLE", XdbcDataType::XdbcDouble, 15, signed, None),
        ("DECIMAL", XdbcDataType::XdbcDecimal, 38, signed, None),
        (
            "VARCHAR",
            XdbcDataType::XdbcVarchar,
            i32::MAX,
            None,
            Some("'"),
        ),
        (
            "VARBINARY",
            XdbcDataType::XdbcVarbinary,
            i32::MAX,
            None,
            Some("'"),
        ),
        ("DATE", XdbcDataType::XdbcDate, 10, None, Some("'")),
        ("TIME", XdbcDataType::XdbcTime, 18, None, Some("'")),
        (
            "TIMESTAMP",
            XdbcDataType::XdbcTimestamp,
            29,
            None,
            Some("'"),
        ),
    ] {
        types.append(XdbcTypeInfo {
            type_name: name.to_owned(),
            data_type: kind,
            column_size: Some(size),
            literal_prefix: quote.map(ToOwned::to_owned),
            literal_suffix: quote.map(ToOwned::to_owned),
            nullable: Nullable::NullabilityNullable,
            case_sensitive: matches!(kind, XdbcDataType::XdbcVarchar),
            searchable: Searchable::Full,
            unsigned_attribute: unsigned,
            local_type_name: Some(name.to_owned()),
            sql_data_type: kind,
            ..XdbcTypeInfo::default()
        });
    }
    types.build().map_err(|error| error.to_string())
});

/// The schema of a metadata command's rows; `None` when the command is another one.
pub(super) fn schema(command: &Command) -> Result<Option<SchemaRef>, FlightError> {
    Ok(Some(match command {
        Command::CommandGetSqlInfo(_) => Arc::new(SqlInfoDataBuilder::schema().clone()),
        Command::CommandGetCatalogs(command) => (*command).into_builder().schema(),
        Command::CommandGetDbSchemas(command) => command.clone().into_builder().schema(),
        Command::CommandGetTables(command) => command.clone().into_builder().schema(),
        Command::CommandGetTableTypes(command) => (*command).into_builder().schema(),
        Command::CommandGetXdbcTypeInfo(_) => types()?.schema(),
        Command::CommandGetPrimaryKeys(_) => primary_keys(),
        Command::CommandGetExportedKeys(_)
        | Command::CommandGetImportedKeys(_)
        | Command::CommandGetCrossReference(_) => foreign_keys(),
        _ => return Ok(None),
    }))
}

/// The rows of a metadata command; `None` when the command is another one.
pub(super) async fn rows(
    context: &VerbContext,
    command: &Command,
) -> Result<Option<RecordBatch>, Status> {
    let batch = match command {
        Command::CommandGetSqlInfo(command) => sql_info()?
            .record_batch(command.info.iter().copied())
            .map_err(failed)?,
        Command::CommandGetCatalogs(command) => {
            let mut builder = (*command).into_builder();
            builder.append(CATALOG);
            builder.build().map_err(failed)?
        }
        Command::CommandGetDbSchemas(command) => {
            let mut builder = command.clone().into_builder();
            builder.append(CATALOG, SCHEMA);
            builder.build().map_err(failed)?
        }
        Command::CommandGetTableTypes(command) => {
            let mut builder = (*command).into_builder();
            builder.append(TABLE_TYPE);
            builder.build().map_err(failed)?
        }
        Command::CommandGetTables(command) => {
            let mut builder = command.clone().into_builder();
            for dataset in context.services.catalog.datasets.list().await? {
                let schema = expanded_schema(&dataset.schema);
                builder
                    .append(CATALOG, SCHEMA, &dataset.name, TABLE_TYPE, &schema)
                    .map_err(failed)?;
            }
            builder.build().map_err(failed)?
        }
        Command::CommandGetXdbcTypeInfo(command) => {
            types()?.record_batch(command.data_type).map_err(failed)?
        }
        // Datasets have no keys; Tableau and others ask all the same.
        Command::CommandGetPrimaryKeys(_) => RecordBatch::new_empty(primary_keys()),
        Command::CommandGetExportedKeys(_)
        | Command::CommandGetImportedKeys(_)
        | Command::CommandGetCrossReference(_) => RecordBatch::new_empty(foreign_keys()),
        _ => return Ok(None),
    };
    Ok(Some(batch))
}

fn sql_info() -> Result<&'static SqlInfoData, FlightError> {
    SQL_INFO.as_ref().map_err(failed)
}

fn types() -> Result<&'static XdbcTypeInfoData, FlightError> {
    TYPES.as_ref().map_err(failed)
}

fn failed(reason: impl std::fmt::Display) -> FlightError {
    FlightError::Internal {
        doing: "listing metadata",
        reason: reason.to_string(),
    }
}

/// As FlightSql.proto gives it beside CommandGetPrimaryKeys.
fn primary_keys() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("catalog_name", DataType::Utf8, true),
        Field::new("db_schema_name", DataType::Utf8, true),
        Field::new("table_name", DataType::Utf8, false),
        Field::new("column_name", DataType::Utf8, false),
        Field::new("key_name", DataType::Utf8, true),
        Field::new("key_sequence", DataType::Int32, false),
    ]))
}

/// As FlightSql.proto gives it beside CommandGetExportedKeys, CommandGetImportedKeys and CommandGetCrossReference.
fn foreign_keys() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("pk_catalog_name", DataType::Utf8, true),
        Field::new("pk_db_schema_name", DataType::Utf8, true),
        Field::new("pk_table_name", DataType::Utf8, false),
        Field::new("pk_column_name", DataType::Utf8, false),
        Field::new("fk_catalog_name", DataType::Utf8, true),
        Field::new("fk_db_schema_name", DataType::Utf8, true),
        Field::new("fk_table_name", DataType::Utf8, false),
        Field::new("fk_column_name", DataType::Utf8, false),
        Field::new("key_sequence", DataType::Int32, false),
        Field::new("fk_key_name", DataType::Utf8, true),
        Field::new("pk_key_name", DataType::Utf8, true),
        Field::new("update_rule", DataType::UInt8, false),
        Field::new("delete_rule", DataType::UInt8, false),
    ]))
}
