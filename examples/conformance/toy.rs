//! What the scenarios share: signed tickets for a word, flights, and rows that are known beforehand.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow_flight::{FlightDescriptor, FlightEndpoint, FlightInfo, Ticket};
use bytes::Bytes;
use futures::StreamExt;
use tonic::Status;
use volary::flight::conformance::{
    Answers, DecodeLimits, FlightError, FlightMessage, Rows, Signer, Statement, batch_stream,
    timestamp, with_schema,
};

pub(crate) const MESSAGE_BYTES_MAX: usize = 64 << 20;

pub(crate) const LIMITS: DecodeLimits = DecodeLimits {
    message_bytes_max: MESSAGE_BYTES_MAX,
    batch_bytes_max: MESSAGE_BYTES_MAX as u64,
    option: "MESSAGE_BYTES_MAX",
};

/// A key of one process is enough for one server.
const KEY: [u8; 32] = *b"a key of the conformance example";

/// Signs with the example's key.
pub(crate) fn signer(lifetime: Duration) -> Signer {
    Signer::new(KEY, lifetime)
}

/// Makes and opens tickets that stand for a word.
#[derive(Debug)]
pub(crate) struct Tickets(Signer);

impl Default for Tickets {
    fn default() -> Self {
        Self(signer(Duration::from_secs(3600)))
    }
}

impl Tickets {
    pub(crate) fn endpoint(&self, word: &str) -> FlightEndpoint {
        let rows = Rows::Statement(statement(word));
        let (ticket, expires) = self.0.ticket(rows, SystemTime::now());
        FlightEndpoint {
            ticket: Some(Ticket { ticket }),
            expiration_time: Some(timestamp(expires)),
            ..FlightEndpoint::default()
        }
    }

    pub(crate) fn word(&self, ticket: &Ticket) -> Result<String, Status> {
        word_of(self.0.open_ticket(&ticket.ticket, SystemTime::now())?)
    }
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
    Ok(endpoints
        .into_iter()
        .fold(info, FlightInfo::with_endpoint))
}

/// One column that is never null.
pub(crate) fn column(name: &str, data_type: DataType) -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new(name, data_type, false)]))
}

pub(crate) fn rows(schema: SchemaRef, batches: Vec<RecordBatch>) -> Answers<FlightMessage> {
    let batches = batches.into_iter().map(Ok::<_, FlightError>);
    batch_stream(schema, futures::stream::iter(batches).boxed())
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
