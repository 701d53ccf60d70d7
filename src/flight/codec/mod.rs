//! Between record batches and Flight messages.
//!
//! `decode` trusts nothing that comes in; `encode` promises that every batch has the schema that was sent first.
//! Knows no verbs.

mod decode;
mod encode;
mod message;

pub use decode::{DecodeLimits, Inbound, InboundItem, schema_of_message};
pub use encode::{
    AnswerFormat, BatchEncoder, Compression, Dictionaries, batch_stream, expanded_schema,
    stream_bytes,
};
pub use message::{FlightMessage, Pieces};
