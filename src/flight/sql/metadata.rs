//! What drivers ask before the first query: what the server is, and its catalogs, schemas, tables, types and keys.
//!
//! An empty catalog or schema in a question means objects without one, of which there are none; one that is left out
//! narrows nothing. `%` and `_` in patterns are those of LIKE.

use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, AsArray, RecordBatch, UnionArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, UnionMode};
use arrow_flight::sql::Command;
use arrow_flight::sql::metadata::SqlInfoData;
use tonic::Status;

use super::column_metadata::described;
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
pub fn schema(command: &Command) -> Result<Option<SchemaRef>, FlightError> {
    Ok(Some(match command {
        Command::CommandGetSqlInfo(_) => Arc::clone(&SQL_INFO_SCHEMA),
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
        Command::CommandGetSqlInfo(command) => {
            let known = server_info(&context.services.queries.functions())?;
            info_rows(&known, &command.info)?
        }
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
                let table = dataset.name.as_str();
                let schema = described(&expanded_schema(&dataset.schema), |_| Some(table));
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

/// As Arrow's clients in C++, Go and Java compare it. arrow-flight's own has other names in its map, and entries that
/// may be null.
static SQL_INFO_SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let integers = DataType::List(Arc::new(Field::new_list_field(DataType::Int32, true)));
    let entries = DataType::Struct(Fields::from(vec![
        Field::new("key", DataType::Int32, false),
        Field::new("value", integers, true),
    ]));
    let texts = DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true)));
    let map = DataType::Map(Arc::new(Field::new("entries", entries, false)), false);
    let values = [
        ("string_value", DataType::Utf8),
        ("bool_value", DataType::Boolean),
        ("bigint_value", DataType::Int64),
        ("int32_bitmask", DataType::Int32),
        ("string_list", texts),
        ("int32_to_int32_list_map", map),
    ];
    let values = (0..)
        .zip(values.map(|(name, value)| Arc::new(Field::new(name, value, false))))
        .collect();
    Arc::new(Schema::new(vec![
        Field::new("info_name", DataType::UInt32, false),
        Field::new("value", DataType::Union(values, UnionMode::Dense), false),
    ]))
});

/// What is known of the codes that are asked for, of all when none is.
pub fn info_rows(known: &SqlInfoData, codes: &[u32]) -> Result<RecordBatch, FlightError> {
    let batch = known.record_batch(codes.iter().copied()).map_err(failed)?;
    let schema = Arc::clone(&SQL_INFO_SCHEMA);
    let DataType::Union(fields, _) = schema.field(1).data_type() else {
        return Err(failed("the values are a union"));
    };
    let values = batch.column(1).as_union();
    let cast = fields
        .iter()
        .map(|(code, field)| cast(values.child(code), field.data_type()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(failed)?;
    let (codes, offsets) = (values.type_ids().clone(), values.offsets().cloned());
    let values = UnionArray::try_new(fields.clone(), codes, offsets, cast).map_err(failed)?;
    let columns: Vec<ArrayRef> = vec![Arc::clone(batch.column(0)), Arc::new(values)];
    RecordBatch::try_new(schema, columns).map_err(failed)
}

fn failed(reason: impl std::fmt::Display) -> FlightError {
    FlightError::Internal {
        doing: "listing metadata",
        reason: reason.to_string(),
    }
}

/// As Arrow's servers in C++, Go and Java have it; FlightSql.proto names the last two columns in the other order.
fn primary_keys() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("catalog_name", DataType::Utf8, true),
        Field::new("db_schema_name", DataType::Utf8, true),
        Field::new("table_name", DataType::Utf8, false),
        Field::new("column_name", DataType::Utf8, false),
        Field::new("key_sequence", DataType::Int32, false),
        Field::new("key_name", DataType::Utf8, true),
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    use arrow_flight::sql::SqlInfo;
    use arrow_flight::sql::metadata::SqlInfoDataBuilder;

    #[test]
    fn sql_info_keeps_its_values_in_the_schema_that_clients_compare() {
        let mut known = SqlInfoDataBuilder::new();
        known.append(SqlInfo::FlightSqlServerName, "a server");
        known.append(
            SqlInfo::SqlSupportsConvert,
            HashMap::from([(3, vec![1, 4])]),
        );
        known.append(SqlInfo::SqlKeywords, &["some", "words"][..]);
        let known = known.build().unwrap();
        let all = info_rows(&known, &[]).unwrap();
        assert_eq!(all.schema(), *SQL_INFO_SCHEMA);
        assert_eq!(all.num_rows(), 3);
        let codes = [SqlInfo::SqlSupportsConvert as u32];
        let one = info_rows(&known, &codes).unwrap();
        assert_eq!(one.num_rows(), 1);
        let map = one.column(1).as_union().value(0);
        let map = map.as_map();
        assert_eq!(map.keys().len(), 1);
        assert_eq!(map.values().as_list::<i32>().value(0).len(), 2);
    }
}
