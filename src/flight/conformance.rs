//! The port and the layers of the protocol without a catalog or engines: what `examples/conformance` answers Arrow's
//! integration scenarios with.
//!
//! The program does not use this module. It names what the example may use; nothing is made for the example alone.

pub use super::call::CallOptions;
pub use super::codec::{
    BatchEncoder, DecodeLimits, FlightMessage, Inbound, InboundItem, expanded_schema,
};
pub use super::command::{ActionKind, Command, sql_command};
pub use super::convert::timestamp;
pub use super::error::FlightError;
pub use super::proto::session as session_messages;
pub use super::proto::v1::peer::{Statement, ticket_body::Rows};
pub use super::proto::{Form, Packed};
pub use super::reads::Reads;
pub use super::service::{Answers, FlightConfig, serve_verbs};
pub use super::session::Session;
pub use super::sql::metadata::{info_rows, schema as metadata_schema};
pub use super::ticket::{OpenedTicket, Signer};
pub use super::verbs::Verbs;
pub use super::verbs::cancel::{result as cancel_result, withdraw_flight};
pub use super::verbs::do_action::bare;
pub use super::verbs::get_flight_info::with_schema;
pub use super::verbs::handshake::{Credentials, handshake, shown_token};
pub use super::verbs::list_actions::list_actions;
pub use super::verbs::renew::renew_flight_endpoint;
pub use super::verbs::session::{
    end as end_session, get as session_options, set_those as set_session_options,
};
pub use super::wire::Wire;
