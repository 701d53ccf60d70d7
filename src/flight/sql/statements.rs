//! A SQL text, with or without bound parameters, to a flight, a schema, or rows.

use std::io::Cursor;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::ipc::reader::StreamReader;
use arrow_flight::{FlightEndpoint, FlightInfo};
use tonic::Status;

use super::statement_ticket;
use crate::features::Query;
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
    let query = plan(context, &statement.sql, &statement.parameters).await?;
    let schema = expanded_schema(&query.schema());
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
    Ok(expanded_schema(
        &plan(context, sql, parameters).await?.schema(),
    ))
}

/// Errors of planning and of starting come before the stream does.
pub(in crate::flight) async fn run(
    context: &VerbContext,
    sql: &str,
    parameters: &[u8],
) -> Result<FlightStream, Status> {
    let query = plan(context, sql, parameters).await?;
    let schema = expanded_schema(&query.schema());
    Ok(context.batches(schema, query.execute().await?))
}

async fn plan(context: &VerbContext, sql: &str, parameters: &[u8]) -> Result<Query, Status> {
    let query = context.services.queries.prepare(sql).await?;
    if parameters.is_empty() {
        return Ok(query);
    }
    Ok(query.bind(&parameter_row(parameters)?)?)
}

/// The row that [`super::prepared::bind`] put into the handle. It was signed here, so it can be read.
fn parameter_row(stream: &[u8]) -> Result<RecordBatch, FlightError> {
    let unreadable = |reason: String| FlightError::Internal {
        doing: "reading bound parameters",
        reason,
    };
    StreamReader::try_new(Cursor::new(stream), None)
        .map_err(|error| unreadable(error.to_string()))?
        .next()
        .ok_or_else(|| unreadable("there is no row".to_owned()))?
        .map_err(|error| unreadable(error.to_string()))
}
