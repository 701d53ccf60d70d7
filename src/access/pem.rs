//! Certificates and keys from PEM files. Knows no TLS.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::SystemTime;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::TlsError;

/// A file and the words by which the user gave it: `--tls-key`, `VOLARY_TLS_KEY`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PemFile {
    pub path: PathBuf,
    pub setting: String,
}

/// What changes when a file is written anew or replaced; `None` when it is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark(Option<(SystemTime, u64, u64)>);

impl PemFile {
    pub fn new(setting: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            setting: setting.into(),
        }
    }

    pub(super) fn mark(&self) -> Mark {
        let seen = std::fs::metadata(&self.path)
            .and_then(|metadata| Ok((metadata.modified()?, metadata.len(), metadata.ino())));
        Mark(seen.ok())
    }

    /// All certificates of the file, of which there is at least one.
    pub(super) fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let bytes = self.read()?;
        let certificates = CertificateDer::pem_slice_iter(&bytes)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| self.unusable(error.to_string(), NO_PEM))?;
        if certificates.is_empty() {
            return Err(TlsError::Missing {
                setting: self.setting.clone(),
                path: self.path.clone(),
                found: contents(&bytes),
                wanted: "certificate",
                hint: if is_der(&bytes) {
                    "turn it into PEM with `openssl x509 -inform der -in FILE -out FILE.pem`"
                } else {
                    "a certificate in PEM begins with the line -----BEGIN CERTIFICATE-----"
                },
            });
        }
        Ok(certificates)
    }

    /// The first private key of the file.
    pub(super) fn private_key(&self) -> Result<PrivateKeyDer<'static>, TlsError> {
        let bytes = self.read()?;
        PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| match error {
            rustls::pki_types::pem::Error::NoItemsFound => TlsError::Missing {
                setting: self.setting.clone(),
                path: self.path.clone(),
                found: contents(&bytes),
                wanted: "private key that can be read",
                hint: if labels(&bytes)
                    .iter()
                    .any(|label| label.contains("ENCRYPTED"))
                {
                    "take the password off with `openssl pkey -in FILE -out FILE.open`"
                } else if is_der(&bytes) {
                    "turn it into PEM with `openssl pkey -inform der -in FILE -out FILE.pem`"
                } else {
                    "a key in PEM begins with the line -----BEGIN PRIVATE KEY-----"
                },
            },
            other => self.unusable(other.to_string(), NO_PEM),
        })
    }

    pub(super) fn unusable(&self, reason: String, hint: &'static str) -> TlsError {
        TlsError::Unusable {
            setting: self.setting.clone(),
            path: self.path.clone(),
            reason,
            hint,
        }
    }

    fn read(&self) -> Result<Vec<u8>, TlsError> {
        std::fs::read(&self.path).map_err(|source| TlsError::Unreadable {
            setting: self.setting.clone(),
            path: self.path.clone(),
            source,
        })
    }
}

const NO_PEM: &str = "write it anew from where it came; it is damaged";

/// What stands behind `-----BEGIN` in the file.
fn labels(bytes: &[u8]) -> Vec<String> {
    String::from_utf8_lossy(bytes)
        .lines()
        .filter_map(|line| line.trim().strip_prefix("-----BEGIN "))
        .filter_map(|line| line.strip_suffix("-----"))
        .map(str::to_owned)
        .collect()
}

/// What a file holds, in words, for the user who named the wrong one.
fn contents(bytes: &[u8]) -> String {
    let mut labels = labels(bytes);
    labels.dedup();
    if !labels.is_empty() {
        return labels.join(", ");
    }
    if is_der(bytes) {
        return String::from("DER");
    }
    let text = if bytes.is_empty() {
        "nothing"
    } else {
        "no PEM"
    };
    text.to_owned()
}

/// Whether the file begins as a DER sequence of more than 255 bytes does.
fn is_der(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0x30, 0x82])
}
