//! A SQL text, with or without bound parameters, to a flight, a schema, or rows.
//!
//! A statement that changes something may come down the same way, as drivers send whatever they are given. GetFlightInfo
//! carries it out, once, and its ticket reads the number of rows: the caller knows the outcome when the call returns, and
//! a ticket that is read again changes nothing again. GetSchema and DoGet never change anything.

use std::io::Cursor;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::ipc::reader::StreamReader;
use arrow_flight::{FlightEndpoint, FlightInfo};
use bytes::Bytes;
use tonic::Status;

use super::column_metadata::described;
use super::{changes, statement_ticket};
use crate::features::{Query, SqlStatementPlan};
use crate::flight::codec::expanded_schema;
use crate::flight::convert::timestamp;
use crate::flight::error::FlightError;
use crate::flight::proto::v1::peer::Statement;
use crate::flight::service::VerbContext;
use crate::flight::verbs::do_get::FlightStream;
use crate::flight::verbs::get_flight_info::with_schema;

pub(in crate::flight) async fn flight_info(
    context: &VerbContext,
    statement: Statement,
) -> Result<FlightInfo, Status> {
    match context.services.queries.understand(&statement.sql).await? {
        SqlStatementPlan::Query(query) => query_info(context, *query, statement),
        SqlStatementPlan::Change(change) => {
            let values = values_of(&statement.parameters)?;
            let rows = changes::run(context, *change, changes::bound(values)).await?;
            // The ticket reads a query that answers the number.
            let statement = Statement {
                sql: format!("SELECT CAST({rows} AS BIGINT) AS {ROWS}"),
                parameters: Bytes::new(),
            };
            let query = context.services.queries.prepare(&statement.sql).await?;
            query_info(context, query, statement)
        }
    }
}

/// The column of the answer to a change.
const ROWS: &str = "rows";

/// What a change answers where a query is expected: the rows that it wrote.
pub(super) fn change_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new(ROWS, DataType::Int64, false)]))
}

fn query_info(
    context: &VerbContext,
    query: Query,
    statement: Statement,
) -> Result<FlightInfo, Status> {
    let query = with_values(query, &statement.parameters)?;
    let schema = described_schema(&query);
    let rows = query.rows_expected();
    let (ticket, expires) = statement_ticket(context, statement);
    let endpoint = FlightEndpoint {
        ticket: Some(ticket),
        expiration_time: Some(timestamp(expires)),
        ..FlightEndpoint::default()
    };
    Ok(with_schema(FlightInfo::new(), &schema)?
        .with_endpoint(endpoint)
        .with_total_records(rows.map_or(-1, |rows| i64::try_from(rows).unwrap_or(i64::MAX)))
        .with_total_bytes(-1)
        .with_ordered(true))
}

pub(in crate::flight) async fn schema(
    context: &VerbContext,
    sql: &str,
    parameters: &[u8],
) -> Result<SchemaRef, Status> {
    match context.services.queries.understand(sql).await? {
        SqlStatementPlan::Query(query) => Ok(described_schema(&with_values(*query, parameters)?)),
        SqlStatementPlan::Change(_) => Ok(change_schema()),
    }
}

/// The rows of a query; what changes something is refused. Errors of planning and of starting come before the stream does.
pub(in crate::flight) async fn run(
    context: &VerbContext,
    sql: &str,
    parameters: &[u8],
) -> Result<FlightStream, Status> {
    let query = context.services.queries.prepare(sql).await?;
    let query = with_values(query, parameters)?;
    let schema = expanded_schema(&query.schema());
    Ok(context.batches(schema, query.execute().await?))
}

/// The same with columns that are described, as the schema of the statement's flight has them: drivers compare the two.
pub(super) async fn run_described(
    context: &VerbContext,
    statement: &Statement,
) -> Result<FlightStream, Status> {
    let query = context.services.queries.prepare(&statement.sql).await?;
    let query = with_values(query, &statement.parameters)?;
    let schema = described_schema(&query);
    Ok(context.batches(schema, query.execute().await?))
}

/// What a statement answers, with what drivers ask of its columns.
pub(super) fn described_schema(query: &Query) -> SchemaRef {
    let tables = query.tables();
    described(&expanded_schema(&query.schema()), |column| {
        tables.get(column)?.as_deref()
    })
}

fn with_values(query: Query, parameters: &[u8]) -> Result<Query, Status> {
    match values_of(parameters)? {
        None => Ok(query),
        Some(values) => Ok(query.bind(&values)?),
    }
}

/// The rows that [`super::prepared::bind`] put into the handle. It was signed here, so it can be read.
pub(super) fn values_of(stream: &[u8]) -> Result<Option<RecordBatch>, FlightError> {
    if stream.is_empty() {
        return Ok(None);
    }
    let unreadable = |error: arrow::error::ArrowError| FlightError::Internal {
        doing: "reading bound parameters",
        reason: error.to_string(),
    };
    let reader = StreamReader::try_new(Cursor::new(stream), None).map_err(unreadable)?;
    let schema = reader.schema();
    let batches = reader.collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
    concat_batches(&schema, &batches)
        .map(Some)
        .map_err(unreadable)
}
