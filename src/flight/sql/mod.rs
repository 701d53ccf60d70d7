//! Flight SQL: statements and prepared statements on `features::session`, updates, bulk ingest, and the metadata that
//! drivers ask for.
//!
//! No state is kept between calls, and there are no transactions: each statement is committed by itself.

mod changes;
mod column_metadata;
mod ingest;
pub(super) mod metadata;
mod models;
pub(super) mod prepared;
mod server_info;
pub(super) mod statements;
mod type_info;

pub(super) use column_metadata::undescribed;
pub(super) use metadata::{CATALOG, SCHEMA};

use arrow::datatypes::SchemaRef;
use arrow_flight::sql::{Command, ProstMessageExt};
use arrow_flight::{FlightEndpoint, FlightInfo, PutResult, Ticket};
use futures::stream::BoxStream;
use prost::Message;
use tonic::Status;

use super::codec::Inbound;
use super::error::FlightError;
use super::proto::Form;
use super::proto::v1::peer::{Statement, ticket_body::Rows};
use super::service::VerbContext;
use super::verbs::do_get::{FlightStream, one_batch, read_ticket};
use super::verbs::get_flight_info::with_schema;
use bytes::Bytes;
use std::time::SystemTime;

/// GetFlightInfo of a Flight SQL command.
pub(super) async fn flight_info(
    context: &VerbContext,
    command: Command,
) -> Result<FlightInfo, Status> {
    match command {
        Command::CommandStatementQuery(query) => {
            refuse_transaction(query.transaction_id.as_ref())?;
            let statement = Statement {
                sql: query.query,
                parameters: Bytes::new(),
            };
            statements::flight_info(context, statement).await
        }
        Command::CommandPreparedStatementQuery(query) => {
            let statement = context
                .signer
                .open_handle(&query.prepared_statement_handle)?;
            statements::flight_info(context, statement).await
        }
        other => {
            let schema = metadata::schema(&other)?.ok_or_else(|| refused(&other))?;
            // Metadata is read by showing the command itself: it needs no signature and never expires.
            let ticket = other.into_any().encode_to_vec().into();
            let endpoint = FlightEndpoint {
                ticket: Some(Ticket { ticket }),
                ..FlightEndpoint::default()
            };
            Ok(with_schema(FlightInfo::new(), &schema)?
                .with_endpoint(endpoint)
                .with_total_records(-1)
                .with_total_bytes(-1))
        }
    }
}

/// GetSchema of a Flight SQL command.
pub(super) async fn schema(context: &VerbContext, command: &Command) -> Result<SchemaRef, Status> {
    match command {
        Command::CommandStatementQuery(query) => {
            statements::schema(context, &query.query, &[]).await
        }
        Command::CommandPreparedStatementQuery(query) => {
            let statement = context
                .signer
                .open_handle(&query.prepared_statement_handle)?;
            statements::schema(context, &statement.sql, &statement.parameters).await
        }
        other => Ok(metadata::schema(other)?.ok_or_else(|| refused(other))?),
    }
}

/// DoGet with a Flight SQL message as the ticket.
pub(super) async fn read(context: &VerbContext, command: Command) -> Result<FlightStream, Status> {
    match command {
        Command::TicketStatementQuery(ticket) => {
            let opened = context
                .signer
                .open_ticket(&ticket.statement_handle, SystemTime::now())?;
            match &opened.rows {
                Rows::Statement(statement) => {
                    let rows = statements::run_described(context, statement);
                    context.reads.rows(&opened.id, rows).await
                }
                _ => read_ticket(context, opened).await,
            }
        }
        Command::CommandStatementQuery(query) => {
            let statement = Statement {
                sql: query.query,
                parameters: Bytes::new(),
            };
            statements::run_described(context, &statement).await
        }
        Command::CommandPreparedStatementQuery(query) => {
            let statement = context
                .signer
                .open_handle(&query.prepared_statement_handle)?;
            statements::run_described(context, &statement).await
        }
        other => match metadata::rows(context, &other).await? {
            Some(batch) => Ok(one_batch(context, batch)),
            None => Err(refused(&other).into()),
        },
    }
}

/// DoPut with a Flight SQL command: updates, bulk ingest, and parameters of a prepared query.
pub(super) async fn put(
    context: &VerbContext,
    command: Command,
    form: Form,
    inbound: Inbound,
) -> Result<BoxStream<'static, Result<PutResult, Status>>, Status> {
    let rows = match command {
        Command::CommandPreparedStatementQuery(query) => {
            return prepared::bind(context, &query.prepared_statement_handle, inbound).await;
        }
        Command::CommandStatementUpdate(update) => {
            refuse_transaction(update.transaction_id.as_ref())?;
            let statement = Statement {
                sql: update.query,
                parameters: Bytes::new(),
            };
            changes::put(context, statement, None).await?
        }
        Command::CommandPreparedStatementUpdate(update) => {
            let statement = context
                .signer
                .open_handle(&update.prepared_statement_handle)?;
            changes::put(context, statement, Some(inbound)).await?
        }
        Command::CommandStatementIngest(command) => ingest::put(context, command, inbound).await?,
        other => return Err(refused(&other).into()),
    };
    Ok(changes::update_result(rows, form))
}

/// Each statement is committed by itself.
fn refuse_transaction(id: Option<&Bytes>) -> Result<(), FlightError> {
    match id {
        Some(id) if !id.is_empty() => Err(FlightError::NoTransactions),
        _ => Ok(()),
    }
}

/// A ticket in the shape that Flight SQL gives it.
fn statement_ticket(context: &VerbContext, statement: Statement) -> (Ticket, SystemTime) {
    let (statement_handle, expires) = context
        .signer
        .ticket(Rows::Statement(statement), SystemTime::now());
    let ticket = wrapped(statement_handle);
    (Ticket { ticket }, expires)
}

/// The signed part of a Flight SQL ticket; `None` when the ticket is another one.
pub(super) fn signed_part(ticket: &Bytes) -> Option<Bytes> {
    match super::command::Command::decode(ticket) {
        Ok((super::command::Command::Sql(command), _)) => match *command {
            Command::TicketStatementQuery(ticket) => Some(ticket.statement_handle),
            _ => None,
        },
        _ => None,
    }
}

/// `signed` in the shape that `ticket` has.
pub(super) fn rewrapped(ticket: &Bytes, signed: Bytes) -> Bytes {
    match signed_part(ticket) {
        Some(_) => wrapped(signed),
        None => signed,
    }
}

fn wrapped(statement_handle: Bytes) -> Bytes {
    let ticket = arrow_flight::sql::TicketStatementQuery { statement_handle };
    ticket.as_any().encode_to_vec().into()
}

fn refused(command: &Command) -> FlightError {
    match command {
        Command::CommandStatementUpdate(_)
        | Command::CommandPreparedStatementUpdate(_)
        | Command::CommandStatementIngest(_) => FlightError::ReadOnly {
            what: "the command",
            verb: "this verb",
            hint: "send it by DoPut",
        },
        Command::CommandStatementSubstraitPlan(_)
        | Command::ActionCreatePreparedSubstraitPlanRequest(_) => FlightError::NotServed {
            what: "a Substrait plan",
        },
        other => FlightError::WrongCommand {
            verb: "Flight SQL",
            received: super::command::Command::Sql(Box::new(other.clone()))
                .name()
                .to_owned(),
            expected: "a statement or a metadata command",
        },
    }
}
