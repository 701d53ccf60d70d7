//! The wire: Arrow Flight, Flight SQL, health and reflection on one gRPC port, and what servers say to each other.
//!
//! The only folder that names tonic, arrow_flight or prost. It reads requests, hands them to the catalog and the
//! engines, and writes answers; it decides nothing about data, SQL or models. Only `peer.rs` knows that training has
//! a network.
//!
//! What travels is described in `docs/protocol.md`.

mod body;
mod call;
pub mod client;
mod codec;
mod command;
pub mod conformance;
mod convert;
mod deadline;
mod error;
mod http2;
mod incoming;
mod lease;
mod outgoing;
mod peer;
mod port;
mod proto;
mod reads;
mod service;
mod session;
mod sql;
mod status;
mod ticket;
mod trace;
mod verbs;
mod wire;
mod withdrawn;

pub use error::FlightError;
pub use peer::PeerClient;
pub use service::{FlightConfig, Services, serve};
