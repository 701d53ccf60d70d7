//! What the scenarios share: signed tickets for a word, flights, and rows that are known beforehand.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::SystemTime;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow_flight::{FlightDescriptor, FlightEndpoint, FlightInfo, Ticket};
use bytes::Bytes;
use futures::StreamExt;
use tonic::Status;
use volary::flight::conformance::{
    Answers, FlightError, FlightMessage, OpenedTicket, Rows, Signer, Statement, Wire, timestamp,
    with_schema,
};

/// An endpoint whose signed ticket stands for a word.
pub(crate) fn endpoint(signer: &Signer, word: &str) -> FlightEndpoint {
    let rows = Rows::Statement(statement(word));
    let (ticket, expires) = signer.ticket(rows, SystemTime::now());
    FlightEndpoint {
        ticket: Some(Ticket { ticket }),
        expiration_time: Some(timestamp(expires)),
        ..FlightEndpoint::default()
    }
}

/// The ticket, opened as ours are: its signature is right, and it has not expired.
pub(crate) fn opened(wire: &Wire, ticket: &Ticket) -> Result<OpenedTicket, Status> {
    let opened = wire.signed_ticket(&ticket.ticket);
    Ok(opened.ok_or_else(|| unexpected("ticket", &ticket.ticket, "a signed one"))??)
}

/// What a ticket stands for.
pub(crate) fn word(wire: &Wire, ticket: &Ticket) -> Result<String, Status> {
    word_of(opened(wire, ticket)?.rows)
}

/// A word as tickets and handles carry it.
pub(crate) fn statement(word: &str) -> Statement {
    Statement {
        sql: word.to_owned(),
        parameters: Bytes::new(),
    }
}

pub(crate) fn word_of(rows: Rows) -> Result<String, Status> {
    match rows {
        Rows::Statement(statement) => Ok(statement.sql),
        other => Err(unexpected("ticket", &other, &"a statement")),
    }
}

/// A flight of unknown size.
pub(crate) fn flight(
    schema: &Schema,
    descriptor: FlightDescriptor,
    endpoints: impl IntoIterator<Item = FlightEndpoint>,
) -> Result<FlightInfo, Status> {
    let info = with_schema(FlightInfo::new(), schema)?
        .with_descriptor(descriptor)
        .with_total_records(-1)
        .with_total_bytes(-1);
    Ok(endpoints.into_iter().fold(info, FlightInfo::with_endpoint))
}

/// One column that is never null.
pub(crate) fn column(name: &str, data_type: DataType) -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new(name, data_type, false)]))
}

pub(crate) fn rows(
    wire: &Wire,
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
) -> Answers<FlightMessage> {
    let batches = batches.into_iter().map(Ok::<_, FlightError>);
    wire.batches(schema, futures::stream::iter(batches).boxed())
}

/// Answers that are known at once.
pub(crate) fn all<T: Send + 'static>(answers: Vec<T>) -> Answers<T> {
    futures::stream::iter(answers.into_iter().map(Ok)).boxed()
}

/// Refuses what the scenario's client does not send.
pub(crate) fn expect<T: PartialEq<E> + Debug + ?Sized, E: Debug + ?Sized>(
    what: &str,
    received: &T,
    expected: &E,
) -> Result<(), Status> {
    if received == expected {
        return Ok(());
    }
    Err(unexpected(what, received, expected))
}

pub(crate) fn unexpected(
    what: &str,
    received: &(impl Debug + ?Sized),
    expected: &(impl Debug + ?Sized),
) -> Status {
    Status::invalid_argument(format!(
        "the {what} is {received:?}, the scenario has {expected:?}"
    ))
}
