//! What drivers ask before the first query: what the server is, and its catalogs, schemas, tables, types and keys.
//!
//! An empty catalog or schema in a question means objects without one, of which there are none; one that is left out
//! narrows nothing. `%` and `_` in patterns are those of LIKE.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow_flight::sql::Command;
use arrow_flight::sql::metadata::SqlInfoDataBuilder;
use tonic::Status;

use super::server_info::server_info;
use super::type_info::types;
use crate::flight::codec::expanded_schema;
use crate::flight::error::FlightError;
use crate::flight::service::VerbContext;

/// Where SQL sees the datasets; the names that `features` gives its catalog and schema.
pub(in crate::flight) const CATALOG: &str = "volary";
pub(in crate::flight) const SCHEMA: &str = "public";
const TABLE_TYPE: &str = "TABLE";

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
        Command::CommandGetSqlInfo(command) => server_info(&context.services.queries.functions())?
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
