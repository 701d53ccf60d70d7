//! A client's session: its options, carried whole in a signed cookie, so that every server of the cluster knows it and
//! none keeps it.
//!
//! Knows no option's meaning: who serves a session says which options there are.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use prost::Message;
use tonic::metadata::MetadataMap;

use super::proto::session::set_session_options_result::ErrorValue;
use super::proto::session::{
    SessionOptionValue, SetSessionOptionsRequest, SetSessionOptionsResult,
    session_option_value::OptionValue, set_session_options_result,
};
use super::proto::v1::peer::SessionBody;
use super::ticket::{Signer, milliseconds};

/// The name that the standard suggests.
const COOKIE: &str = "arrow_flight_session_id";

/// How long a session lasts after its options were last set.
const LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// All options of a session in protobuf's form. With its signature and base64 the cookie stays below the 4 KiB that
/// clients keep (RFC 6265, section 6.1).
const OPTIONS_BYTES_MAX: usize = 2048;

/// Values by option name.
pub type SessionOptions = BTreeMap<String, SessionOptionValue>;

/// One client's options.
#[derive(Debug, Clone, PartialEq)]
pub struct Session {
    /// UUID version 7.
    pub id: String,
    pub options: SessionOptions,
}

impl Session {
    /// A session without options.
    pub fn begin() -> Self {
        Self {
            id: uuid::Uuid::now_v7().to_string(),
            options: SessionOptions::new(),
        }
    }

    /// The session whose cookie a call carries, if this cluster made it and it has not expired.
    pub fn of(metadata: &MetadataMap, signer: &Signer, now: SystemTime) -> Option<Self> {
        let cookies = metadata
            .get_all("cookie")
            .into_iter()
            .filter_map(|header| header.to_str().ok())
            .flat_map(|header| header.split(';'));
        cookies
            .filter_map(|cookie| cookie.trim().split_once('='))
            .filter(|(name, _)| *name == COOKIE)
            .find_map(|(_, value)| Self::open(value.trim_matches('"'), signer, now))
    }

    /// Whether a call carries a session's cookie, be it good or not.
    pub fn is_shown(metadata: &MetadataMap) -> bool {
        let cookies = metadata.get_all("cookie").into_iter();
        let texts = cookies.filter_map(|header| header.to_str().ok());
        texts
            .flat_map(|header| header.split(';'))
            .filter_map(|cookie| cookie.trim().split_once('='))
            .any(|(name, _)| name == COOKIE)
    }

    fn open(value: &str, signer: &Signer, now: SystemTime) -> Option<Self> {
        let body = signer.open_session(&URL_SAFE_NO_PAD.decode(value).ok()?.into())?;
        if body.expires_ms < milliseconds(now) {
            return None;
        }
        let options = SetSessionOptionsRequest::decode(body.options).ok()?;
        Some(Self {
            id: body.id,
            options: options.session_options,
        })
    }

    /// The `Set-Cookie` header that makes the client carry this session.
    pub fn cookie(&self, signer: &Signer, now: SystemTime) -> String {
        let options = SetSessionOptionsRequest {
            session_options: self.options.clone(),
        };
        let body = SessionBody {
            id: self.id.clone(),
            options: options.encode_to_vec().into(),
            expires_ms: milliseconds(now + LIFETIME),
        };
        let value = URL_SAFE_NO_PAD.encode(signer.session(&body));
        format!("{COOKIE}={value}; Path=/; Max-Age={}", LIFETIME.as_secs())
    }

    /// The `Set-Cookie` header that makes the client forget its session.
    pub fn end_cookie() -> String {
        format!("{COOKIE}=closed; Path=/; Max-Age=0")
    }

    /// How long a closed session's cookie could still be shown.
    pub fn lasts_until(now: SystemTime) -> SystemTime {
        now + LIFETIME
    }

    /// Sets the options that `accepts` has no objection to, unsets those without a value, and names the others.
    pub fn set(
        &mut self,
        asked: SessionOptions,
        accepts: impl Fn(&str, &OptionValue) -> Result<(), ErrorValue>,
        known: impl Fn(&str) -> bool,
    ) -> SetSessionOptionsResult {
        let mut result = SetSessionOptionsResult::default();
        for (name, value) in asked {
            let set = match &value.option_value {
                None if known(&name) => {
                    self.options.remove(&name);
                    continue;
                }
                None => Err(ErrorValue::InvalidName),
                Some(given) => accepts(&name, given),
            };
            let set = set.and_then(|()| {
                let before = self.options.insert(name.clone(), value);
                let whole = SetSessionOptionsRequest {
                    session_options: self.options.clone(),
                };
                if whole.encoded_len() <= OPTIONS_BYTES_MAX {
                    return Ok(());
                }
                match before {
                    Some(before) => self.options.insert(name.clone(), before),
                    None => self.options.remove(&name),
                };
                Err(ErrorValue::Error)
            });
            if let Err(error) = set {
                let error = set_session_options_result::Error {
                    value: error.into(),
                };
                result.errors.insert(name, error);
            }
        }
        result
    }

    /// The text of an option.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.options.get(name)?.option_value.as_ref()? {
            OptionValue::StringValue(text) => Some(text),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signer(key: u8) -> Signer {
        Signer::new([key; 32], Duration::from_secs(60))
    }

    fn text(value: &str) -> SessionOptionValue {
        SessionOptionValue {
            option_value: Some(OptionValue::StringValue(value.to_owned())),
        }
    }

    fn setting(session: &mut Session, name: &str, value: SessionOptionValue) -> Vec<String> {
        let asked = SessionOptions::from([(name.to_owned(), value)]);
        let accepts = |name: &str, _: &OptionValue| match name {
            "known" | "long" => Ok(()),
            _ => Err(ErrorValue::InvalidName),
        };
        let result = session.set(asked, accepts, |name| name == "known");
        result.errors.into_keys().collect()
    }

    /// The call of a client that keeps the cookies it is told to keep.
    fn carrying(cookie: &str) -> MetadataMap {
        let mut metadata = MetadataMap::new();
        let pair = cookie.split(';').next().unwrap();
        metadata.insert("cookie", format!("other=1; {pair}").parse().unwrap());
        metadata
    }

    #[test]
    fn a_session_is_known_to_every_server_of_the_cluster_until_it_expires() {
        let now = SystemTime::now();
        let mut session = Session::begin();
        assert!(setting(&mut session, "known", text("yes")).is_empty());
        let call = carrying(&session.cookie(&signer(1), now));
        assert_eq!(Session::of(&call, &signer(1), now).as_ref(), Some(&session));
        assert_eq!(session.text("known"), Some("yes"));
        assert_eq!(Session::of(&call, &signer(2), now), None);
        let late = now + LIFETIME + Duration::from_secs(1);
        assert_eq!(Session::of(&call, &signer(1), late), None);
        let closed = carrying(&Session::end_cookie());
        assert_eq!(Session::of(&closed, &signer(1), now), None);
    }

    #[test]
    fn options_that_cannot_be_set_are_named_and_the_others_are_set() {
        let mut session = Session::begin();
        assert_eq!(setting(&mut session, "unknown", text("x")), ["unknown"]);
        assert!(setting(&mut session, "known", text("x")).is_empty());
        let unset = SessionOptionValue { option_value: None };
        assert_eq!(setting(&mut session, "other", unset.clone()), ["other"]);
        assert!(setting(&mut session, "known", unset).is_empty());
        assert!(session.options.is_empty());
    }

    #[test]
    fn a_session_stays_small_enough_for_a_cookie() {
        let mut session = Session::begin();
        assert!(setting(&mut session, "long", text(&"x".repeat(1900))).is_empty());
        assert_eq!(
            setting(&mut session, "known", text(&"x".repeat(200))),
            ["known"]
        );
        assert_eq!(session.options.len(), 1);
        let cookie = session.cookie(&signer(1), SystemTime::now());
        assert!(cookie.len() < 4096, "{}", cookie.len());
    }
}
