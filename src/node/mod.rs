//! One server from its settings to its end. The whole face is [`run`]: the program and the tests use the same door.
//!
//! `assemble` builds everything once in layer order, `run` serves and drains, `admin` is the HTTP port.

pub mod admin;
pub mod assemble;
pub mod error;
pub mod listener;
mod run;
pub mod spill;

pub use error::NodeError;
pub use listener::Listener;
pub use run::run;
