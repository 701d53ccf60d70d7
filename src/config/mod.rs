//! Settings of one server: what was given, checked and resolved once, then passed in and never fetched.
//!
//! One list ([`options::OPTIONS`]) is the source of `--help`, of the `VOLARY_*` variables, of the keys of the
//! configuration file and of `docs/configuration.md`. Knows no server: it ends with a [`NodeConfig`].

pub mod error;
pub mod given;
pub mod options;
pub mod quantity;
pub mod resolved;

pub use error::ConfigError;
pub use given::Given;
pub use resolved::NodeConfig;
