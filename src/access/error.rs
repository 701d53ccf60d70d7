//! What can be wrong with certificates and keys. Every text names the setting and the file, what was found, the remedy.

use std::path::PathBuf;

/// Files that cannot be used for TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error(
        "{setting} names {path:?}, which cannot be read: {source}; name a PEM file that this process may read"
    )]
    Unreadable {
        setting: String,
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{setting} names {path:?}, which holds {found} and no {wanted}; {hint}")]
    Missing {
        setting: String,
        path: PathBuf,
        /// `a certificate`, `a private key under a password`, `nothing`.
        found: String,
        /// `certificate` or `private key`.
        wanted: &'static str,
        hint: &'static str,
    },
    #[error("{setting} names {path:?}, which cannot be used: {reason}; {hint}")]
    Unusable {
        setting: String,
        path: PathBuf,
        reason: String,
        hint: &'static str,
    },
    #[error(
        "the key in {key:?} does not belong to the first certificate in {certificate:?}; \
         give the two files that were made together, the server's own certificate before those of its issuers"
    )]
    KeyOfAnother { certificate: PathBuf, key: PathBuf },
    #[error("a certificate cannot be shown without its key; give {missing} beside {given}")]
    OneWithoutTheOther {
        given: String,
        missing: &'static str,
    },
    #[error(
        "this machine has no root certificates that could be trusted ({reason}); name some with {setting}"
    )]
    NoRoots {
        reason: String,
        setting: &'static str,
    },
    #[error("TLS cannot be set up: {reason}")]
    Internal { reason: String },
}
