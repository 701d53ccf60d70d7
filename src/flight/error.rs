//! What can go wrong on the wire itself: messages, commands, tickets and streams that are not what they should be.

use crate::support::fault::{Fault, Faulty};

#[derive(Debug, thiserror::Error)]
pub enum FlightError {
    #[error("{received} is not a command; send {expected}")]
    NotACommand { received: String, expected: String },
    #[error("{verb} does not take {received}; send {expected}")]
    WrongCommand {
        verb: &'static str,
        received: String,
        expected: &'static str,
    },
    #[error("{message} cannot be read: {reason}")]
    BadCommand { message: String, reason: String },
    #[error("the descriptor is empty; give a path such as [\"census\"] or a command")]
    NoDescriptor,
    #[error(
        "the stream ended without a message; send the schema and a descriptor first. A driver that sends none for a table without rows cannot make one so: write CREATE TABLE name (column type, ...)"
    )]
    NoMessage,
    #[error("path {path} names nothing; {expected}")]
    BadPath {
        path: String,
        expected: &'static str,
    },
    #[error("there is no action {received:?}; known are {known}")]
    UnknownAction { received: String, known: String },
    #[error(
        "the ticket is not one of this cluster: {reason}; ask GetFlightInfo for one, or send a Query command"
    )]
    BadTicket { reason: &'static str },
    #[error("the ticket has expired; ask GetFlightInfo for a new one")]
    ExpiredTicket,
    #[error(
        "dataset {name:?} was removed since the ticket was given, and another one made under its name; ask GetFlightInfo for a new one"
    )]
    ReplacedDataset { name: String },
    #[error("the ticket was cancelled; ask GetFlightInfo for a new one")]
    CancelledTicket,
    #[error("the read was cancelled by CancelFlightInfo")]
    CancelledRead,
    #[error("{limit} {what} that have not expired are as many as are remembered; try again later")]
    TooManyWithdrawn { what: &'static str, limit: usize },
    #[error("{what}; it needs {needs}")]
    Incomplete {
        what: &'static str,
        needs: &'static str,
    },
    #[error(
        "there is no session, or it was closed or has expired; SetSessionOptions opens one, and its cookie must be sent with every call"
    )]
    NoSession,
    #[error("header {header:?} is {received:?}; {hint}")]
    BadHeader {
        header: &'static str,
        received: String,
        hint: &'static str,
    },
    #[error(
        "the prepared statement handle is not one of this cluster; prepare the statement again"
    )]
    BadHandle,
    #[error("the Arrow message cannot be read: {reason}")]
    BadMessage { reason: String },
    #[error(
        "the stream's schema changes mid-stream: {reason}; send each schema in a stream of its own"
    )]
    SchemaChanged { reason: String },
    #[error(
        "the stream has no schema; send one before the first rows, as every Arrow Flight writer does"
    )]
    NoSchema,
    #[error(
        "a message of the stream is larger than {limit} bytes; send smaller batches (`max_chunksize` in pyarrow), or raise the server's `{option}`"
    )]
    MessageTooLarge { limit: usize, option: &'static str },
    #[error(
        "a batch claims {claimed} bytes when decoded, the limit is {limit}; send smaller batches (`max_chunksize` in pyarrow), or raise the server's `{option}`"
    )]
    BatchTooLarge {
        claimed: u64,
        limit: u64,
        option: &'static str,
    },
    #[error(
        "{limit} uploads and prediction streams are open, as many as this server takes; try again when one has ended, ask another server, or raise `{option}`"
    )]
    TooManyStreams { limit: usize, option: &'static str },
    #[error("{what} changes something, and {verb} only reads; {hint}")]
    ReadOnly {
        what: &'static str,
        verb: &'static str,
        hint: &'static str,
    },
    #[error("the statement is a query; send it as one (CommandStatementQuery)")]
    IsAQuery,
    #[error("CREATE MODEL has no option {option:?}; {hint}")]
    UnknownOption { option: String, hint: String },
    #[error("option {option:?} of CREATE MODEL is {received}; {hint}")]
    BadOption {
        option: String,
        received: String,
        hint: &'static str,
    },
    #[error(
        "{name:?} is no {kind} here; there is one catalog, \"volary\", with one schema, \"public\""
    )]
    NoNamespace { kind: &'static str, name: String },
    #[error(
        "bound parameters have {bytes} bytes, more than the {limit} that a statement may carry; bind fewer rows at a time"
    )]
    TooManyParameters { bytes: usize, limit: usize },
    #[error("{asked} endpoints are more than the {limit} that one answer may have; ask for fewer")]
    TooManyEndpoints { asked: usize, limit: usize },
    #[error("{what} is not served here{}", instead(what))]
    NotServed { what: &'static str },
    #[error(
        "there are no transactions: each statement and each ingest is committed by itself; leave the transaction out (autocommit)"
    )]
    NoTransactions,
    #[error("bind {wanted}, not {rows} rows")]
    ParameterRows { rows: usize, wanted: &'static str },
    #[error("job id {received:?} is not a UUID; ListJobs shows the ids")]
    BadJobId { received: String },
    #[error(
        "upload id {received:?} is not a UUID; BeginUpload answers the id, ListUploads shows those that are open"
    )]
    BadUploadId { received: String },
    #[error("field {field:?} of {message} is {received}; {hint}")]
    BadField {
        message: &'static str,
        field: &'static str,
        received: String,
        hint: &'static str,
    },
    #[error("server {server:?} at {address} cannot be reached: {reason}")]
    PeerUnreachable {
        server: String,
        address: String,
        reason: String,
    },
    #[error("the client gave the upload up; nothing of it was kept")]
    GivenUp,
    #[error("the server is stopping; ask another one")]
    Stopping,
    /// The last word of a worker to its coordinator, which names the server.
    #[error("it is stopping")]
    WorkerStopping,
    #[error(
        "the server failed while it answered; its log has the cause under request id {request_id}"
    )]
    Panicked { request_id: String },
    #[error("{doing} failed: {reason}")]
    Internal { doing: &'static str, reason: String },
}

/// What to do in place of what is not served, after a semicolon.
fn instead(what: &str) -> &'static str {
    match what {
        "a transaction" | "a savepoint" => {
            "; each statement and each ingest is committed by itself, so leave it out (autocommit)"
        }
        "a Substrait plan" => "; send SQL",
        "a temporary table" => "; make a dataset, and drop it when it is no longer needed",
        _ => "",
    }
}

impl Faulty for FlightError {
    fn fault(&self) -> Fault {
        match self {
            Self::NotACommand { .. }
            | Self::WrongCommand { .. }
            | Self::BadCommand { .. }
            | Self::NoDescriptor
            | Self::NoMessage
            | Self::UnknownAction { .. }
            | Self::BadTicket { .. }
            | Self::BadHandle
            | Self::BadMessage { .. }
            | Self::SchemaChanged { .. }
            | Self::NoSchema
            | Self::ReadOnly { .. }
            | Self::IsAQuery
            | Self::UnknownOption { .. }
            | Self::BadOption { .. }
            | Self::ParameterRows { .. }
            | Self::BadJobId { .. }
            | Self::BadUploadId { .. }
            | Self::BadHeader { .. }
            | Self::NoSession
            | Self::Incomplete { .. }
            | Self::TooManyEndpoints { .. }
            | Self::BadField { .. } => Fault::InvalidArgument,
            Self::BadPath { .. }
            | Self::NoNamespace { .. }
            | Self::ExpiredTicket
            | Self::ReplacedDataset { .. } => Fault::NotFound,
            Self::TooManyParameters { .. }
            | Self::MessageTooLarge { .. }
            | Self::BatchTooLarge { .. }
            | Self::TooManyStreams { .. }
            | Self::TooManyWithdrawn { .. } => Fault::ResourceExhausted,
            Self::NotServed { .. } | Self::NoTransactions => Fault::Unimplemented,
            Self::GivenUp => Fault::Aborted,
            Self::CancelledTicket | Self::CancelledRead => Fault::Cancelled,
            Self::PeerUnreachable { .. } | Self::Stopping | Self::WorkerStopping => {
                Fault::Unavailable
            }
            Self::Panicked { .. } | Self::Internal { .. } => Fault::Internal,
        }
    }
}
