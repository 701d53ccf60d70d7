//! Who may connect, and as whom they are believed: certificates and TLS settings of servers and of their clients.
//!
//! The only folder that names rustls. Knows no Flight, no HTTP and no port: it turns a TCP stream into an encrypted one.
//!
//! `pem` reads files, `trust` decides whose certificate is believed, `tls` makes connections with both, and takes up files
//! that were renewed while the server runs.

pub mod error;
mod pem;
pub mod tls;
mod trust;

pub use error::TlsError;
pub use pem::PemFile;
pub use tls::{ClientTls, ClientTlsConfig, SecureStream, ServerTls, TlsConfig};

#[cfg(test)]
mod tests;
