//! Between record batches and Flight messages.
//!
//! `decode` trusts nothing that comes in; `encode` promises that every batch has the schema that was sent first.
//! Knows no verbs.

mod decode;
mod encode;
mod format;
mod message;
mod split;

pub use decode::{DecodeLimits, Inbound, InboundItem, schema_of_message};
pub use encode::{BatchEncoder, batch_stream, stream_bytes};
pub use format::{AnswerFormat, Compression, Dictionaries, expanded_schema};
pub use message::{FlightMessage, Pieces};
