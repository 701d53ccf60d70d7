//! What a verb has of the port: the options of its call, and the layers of the protocol that all calls share. Knows no
//! catalog and no engine.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use bytes::Bytes;
use futures::stream::BoxStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;

use super::call::CallOptions;
use super::codec::{DecodeLimits, FlightMessage, batch_stream};
use super::error::FlightError;
use super::lease::Leases;
use super::reads::Reads;
use super::service::{FlightConfig, Services};
use super::sql;
use super::ticket::{OpenedTicket, Signer};
use super::withdrawn::Withdrawn;

/// Compressed batches may decode to this many times the largest message.
const DECODED_RATIO: u64 = 8;

/// A stream of rows that has none to send says so after this long: half of the shortest patience that proxies have.
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(15);

/// The port, as one call has it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Wire {
    pub call: CallOptions,
    pub signer: Signer,
    pub reads: Reads,
    pub withdrawn: Withdrawn,
    pub limits: DecodeLimits,
    pub(super) incoming: IncomingStreams,
}

impl Wire {
    pub(super) fn new(config: &FlightConfig) -> Self {
        let withdrawn = Withdrawn::default();
        Self {
            call: CallOptions::default(),
            signer: Signer::new(config.ticket_key, config.ticket_lifetime),
            reads: Reads::new(withdrawn.clone()),
            withdrawn,
            limits: DecodeLimits {
                message_bytes_max: config.message_bytes_max,
                batch_bytes_max: (config.message_bytes_max as u64).saturating_mul(DECODED_RATIO),
                option: config.message_bytes_option,
            },
            incoming: IncomingStreams {
                permits: Arc::new(Semaphore::new(config.incoming_streams_max)),
                limit: config.incoming_streams_max,
                option: config.incoming_streams_option,
            },
        }
    }

    /// What a stream of rows of `schema` advertises to the caller.
    pub fn advertised(&self, schema: &Schema) -> SchemaRef {
        self.call.format.advertised(schema)
    }

    /// The schema, then `batches`, in the form that the call asked for. `advertised` must come from
    /// [`Wire::advertised`].
    pub fn batches<E>(
        &self,
        advertised: SchemaRef,
        batches: BoxStream<'static, Result<RecordBatch, E>>,
    ) -> BoxStream<'static, Result<FlightMessage, Status>>
    where
        E: Into<Status> + Send + 'static,
    {
        batch_stream(advertised, self.call.format, KEEP_ALIVE_EVERY, batches)
    }

    /// What a ticket signed here stands for, plain or as Flight SQL wraps it; `None` when it is not of that kind.
    pub fn signed_ticket(&self, ticket: &Bytes) -> Option<Result<OpenedTicket, FlightError>> {
        let signed = signed_bytes(ticket)?;
        Some(self.signer.open_ticket(&signed, SystemTime::now()))
    }

    /// The same of a ticket that may have expired: what was begun with it may go on for longer, and can be cancelled.
    pub fn signed_ticket_of_any_age(
        &self,
        ticket: &Bytes,
    ) -> Option<Result<OpenedTicket, FlightError>> {
        let signed = signed_bytes(ticket)?;
        Some(self.signer.open_ticket(&signed, SystemTime::UNIX_EPOCH))
    }
}

fn signed_bytes(ticket: &Bytes) -> Option<Bytes> {
    if Signer::is_ticket(ticket) {
        Some(ticket.clone())
    } else {
        sql::signed_part(ticket)
    }
}

/// What our verbs share: the port, and everything behind it. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct VerbContext {
    pub(super) services: Services,
    pub(super) leases: Leases,
    pub(super) direct_endpoints: bool,
    pub(super) wire: Wire,
}

/// A verb says `context.signer`: which half of the context has it is no matter to it.
impl std::ops::Deref for VerbContext {
    type Target = Wire;

    fn deref(&self) -> &Wire {
        &self.wire
    }
}

/// How many streams of rows may come in at a time: what each of them holds adds up.
#[derive(Debug, Clone)]
pub(super) struct IncomingStreams {
    permits: Arc<Semaphore>,
    limit: usize,
    option: &'static str,
}

impl IncomingStreams {
    /// A place for one more, kept until it is dropped; nobody waits for one.
    pub(super) fn admit(&self) -> Result<OwnedSemaphorePermit, FlightError> {
        Arc::clone(&self.permits)
            .try_acquire_owned()
            .map_err(|_| FlightError::TooManyStreams {
                limit: self.limit,
                option: self.option,
            })
    }
}
