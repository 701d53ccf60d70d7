//! The port and the layers of the protocol without a catalog or engines: what `examples/conformance.rs` answers Arrow's
//! integration scenarios with.
//!
//! The program does not use this module; it names what the example may use, and nothing is made for the example alone.

pub use super::codec::{
    BatchEncoder, DecodeLimits, FlightMessage, Inbound, InboundItem, batch_stream, expanded_schema,
};
pub use super::command::{Command, sql_command};
pub use super::convert::timestamp;
pub use super::error::FlightError;
pub use super::proto::v1::peer::{Statement, ticket_body::Rows};
pub use super::proto::{Form, Packed};
pub use super::service::{Answers, Verbs, serve_verbs};
pub use super::sql::metadata::schema as metadata_schema;
pub use super::ticket::Signer;
pub use super::verbs::get_flight_info::with_schema;
pub use super::verbs::handshake::{Credentials, handshake, shown_token};
