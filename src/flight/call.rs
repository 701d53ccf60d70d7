//! What one call asks for beside its message: the headers and the session that every verb reads alike.

use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use tonic::metadata::{Ascii, MetadataMap, MetadataValue};

use super::codec::{AnswerFormat, Compression, Dictionaries};
use super::error::FlightError;
use super::peer::FORWARDED;
use super::session::Session;
use super::ticket::Signer;
use super::withdrawn::Withdrawn;

/// Asks for compressed record batches in the answer. A header outweighs the session's option of that name.
pub(super) const COMPRESSION_HEADER: &str = "volary-compression";

/// The session's option of the same meaning.
pub(super) const COMPRESSION_OPTION: &str = "compression";

/// Asks for dictionaries as such, by header or by the session.
pub(super) const DICTIONARIES_HEADER: &str = "volary-dictionaries";
pub(super) const DICTIONARIES_OPTION: &str = "dictionaries";

/// One call's options.
#[derive(Debug, Clone, Default)]
pub struct CallOptions {
    /// Another server passed this call on; then it is answered here or not at all.
    pub forwarded: bool,
    pub session: Option<Session>,
    /// The call shows the cookie of a session that was closed or has expired, or that another cluster made.
    pub session_lost: bool,
    /// The form of the record batches of the answer.
    pub format: AnswerFormat,
    cookie: Arc<OnceLock<MetadataValue<Ascii>>>,
}

impl CallOptions {
    /// Reads a call's headers. A cookie that is not good is passed over, as by every HTTP server.
    pub(super) fn of(
        metadata: &MetadataMap,
        signer: &Signer,
        withdrawn: &Withdrawn,
        now: SystemTime,
    ) -> Result<Self, FlightError> {
        let session = Session::of(metadata, signer, now)
            .filter(|session| !withdrawn.has_session(&session.id));
        let chosen = |header, option| match metadata.get(header) {
            Some(value) => Some(value.to_str().unwrap_or("not text")),
            None => session.as_ref()?.text(option),
        };
        let refused = |header, text: &str, hint| FlightError::BadHeader {
            header,
            received: text.chars().take(40).collect(),
            hint,
        };
        let mut format = AnswerFormat::default();
        if let Some(text) = chosen(COMPRESSION_HEADER, COMPRESSION_OPTION) {
            let hint = "write none, lz4 or zstd";
            format.compression =
                Compression::parse(text).ok_or_else(|| refused(COMPRESSION_HEADER, text, hint))?;
        }
        if let Some(text) = chosen(DICTIONARIES_HEADER, DICTIONARIES_OPTION) {
            let hint = "write values or keep";
            format.dictionaries = Dictionaries::parse(text)
                .ok_or_else(|| refused(DICTIONARIES_HEADER, text, hint))?;
        }
        Ok(Self {
            forwarded: metadata.contains_key(FORWARDED),
            session_lost: session.is_none() && Session::is_shown(metadata),
            session,
            format,
            cookie: Arc::default(),
        })
    }

    /// Has the answer tell the client to keep this cookie.
    pub fn set_cookie(&self, cookie: &str) {
        if let Ok(cookie) = cookie.parse() {
            let _ = self.cookie.set(cookie);
        }
    }

    /// Puts the cookie, if a verb set one, where HTTP clients look for it.
    pub(super) fn answer(&self, metadata: &mut MetadataMap) {
        if let Some(cookie) = self.cookie.get() {
            metadata.insert("set-cookie", cookie.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use crate::flight::proto::session::{SessionOptionValue, session_option_value::OptionValue};

    fn read(metadata: &MetadataMap) -> Result<CallOptions, FlightError> {
        let signer = Signer::new([1; 32], Duration::from_secs(60));
        CallOptions::of(metadata, &signer, &Withdrawn::default(), SystemTime::now())
    }

    #[test]
    fn a_call_with_the_cookie_of_no_session_is_told_from_one_without() {
        let mut metadata = MetadataMap::new();
        metadata.insert("cookie", "theme=dark".parse().unwrap());
        assert!(!read(&metadata).unwrap().session_lost);
        let ended = Session::end_cookie();
        let pair = ended.split(';').next().unwrap();
        metadata.insert("cookie", format!("theme=dark; {pair}").parse().unwrap());
        let call = read(&metadata).unwrap();
        assert!(call.session_lost && call.session.is_none());
    }

    #[test]
    fn a_header_outweighs_the_session() {
        let signer = Signer::new([1; 32], Duration::from_secs(60));
        let mut session = Session::begin();
        session.options.insert(
            COMPRESSION_OPTION.to_owned(),
            SessionOptionValue {
                option_value: Some(OptionValue::StringValue("zstd".to_owned())),
            },
        );
        let cookie = session.cookie(&signer, SystemTime::now());
        let mut metadata = MetadataMap::new();
        assert_eq!(
            read(&metadata).unwrap().format.compression,
            Compression::None
        );
        let pair = cookie.split(';').next().unwrap();
        metadata.insert("cookie", pair.parse().unwrap());
        assert_eq!(
            read(&metadata).unwrap().format.compression,
            Compression::Zstd
        );
        assert!(!read(&metadata).unwrap().session_lost);
        metadata.insert(COMPRESSION_HEADER, "LZ4".parse().unwrap());
        assert_eq!(
            read(&metadata).unwrap().format.compression,
            Compression::Lz4
        );
        metadata.insert(COMPRESSION_HEADER, "snappy".parse().unwrap());
        let refused = read(&metadata).unwrap_err().to_string();
        assert!(
            refused.contains("snappy") && refused.contains("lz4"),
            "{refused}"
        );
    }
}
