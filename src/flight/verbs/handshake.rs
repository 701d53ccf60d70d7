//! Handshake: credentials for a token, in each of the ways that clients have.
//!
//! HTTP-style clients (JDBC, `authenticate_basic_token` of pyarrow) show Basic credentials in the `authorization` header
//! and take a bearer token from it; they cannot open a connection without one. Flight's own clients send a `BasicAuth`
//! message, take the token from the payload, and show it in `auth-token-bin`. While this server has no authentication,
//! whoever asks is given a token, and no call checks it.

use arrow_flight::{BasicAuth, HandshakeRequest, HandshakeResponse};
use base64::Engine;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, URL_SAFE_NO_PAD};
use futures::StreamExt;
use prost::Message;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};

use crate::flight::service::Answers;

const TOKEN: &str = "volary-anonymous";

/// Arrow's client in Go leaves the padding out.
const BASIC: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What a caller shows when it asks for a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credentials {
    None,
    Basic {
        user: String,
        password: String,
    },
    /// A token that it already has.
    Token(String),
}

impl Credentials {
    fn of_header(metadata: &MetadataMap) -> Option<Self> {
        let header = metadata.get("authorization")?.to_str().ok()?;
        let (scheme, credentials) = header.split_once(' ')?;
        if scheme.eq_ignore_ascii_case("basic") {
            let text = String::from_utf8(BASIC.decode(credentials.trim()).ok()?).ok()?;
            let (user, password) = text.split_once(':').unwrap_or((&text, ""));
            Some(Self::Basic {
                user: user.to_owned(),
                password: password.to_owned(),
            })
        } else if scheme.eq_ignore_ascii_case("bearer") {
            Some(Self::Token(credentials.trim().to_owned()))
        } else {
            None
        }
    }

    /// A payload that is not `BasicAuth` is a greeting without credentials, as old clients send it.
    fn of_payload(request: &HandshakeRequest) -> Self {
        match BasicAuth::decode(request.payload.clone()) {
            Ok(BasicAuth { username, password }) if !username.is_empty() => Self::Basic {
                user: username,
                password,
            },
            _ => Self::None,
        }
    }

    /// The token of a server that knows everybody.
    pub(crate) fn anonymous_token(&self) -> String {
        match self {
            Self::None => TOKEN.to_owned(),
            Self::Basic { user, .. } => format!("{TOKEN}.{}", URL_SAFE_NO_PAD.encode(user)),
            Self::Token(token) => token.clone(),
        }
    }
}

/// The token that a call shows, in either of the headers.
pub fn shown_token(metadata: &MetadataMap) -> Option<String> {
    if let Some(token) = metadata.get_bin("auth-token-bin") {
        return String::from_utf8(token.to_bytes().ok()?.to_vec()).ok();
    }
    match Credentials::of_header(metadata)? {
        Credentials::Token(token) => Some(token),
        _ => None,
    }
}

/// Answers every message of the caller with the token that `grant` gives, which HTTP-style clients find in the header.
pub async fn handshake(
    request: Request<Streaming<HandshakeRequest>>,
    grant: impl Fn(&Credentials) -> Result<String, Status> + Send + 'static,
) -> Result<Response<Answers<HandshakeResponse>>, Status> {
    let shown = Credentials::of_header(request.metadata());
    let in_header = shown.as_ref().map(&grant).transpose()?;
    let mut requests = request.into_inner();
    let header = in_header.clone();
    let answers: Answers<HandshakeResponse> = async_stream::try_stream! {
        while let Some(request) = requests.message().await? {
            let token = match &in_header {
                Some(token) => token.clone(),
                None => grant(&Credentials::of_payload(&request))?,
            };
            yield HandshakeResponse {
                protocol_version: request.protocol_version,
                payload: token.into(),
            };
        }
    }
    .boxed();
    let mut response = Response::new(answers);
    if let Some(Ok(value)) = header.map(|token| format!("Bearer {token}").parse()) {
        response.metadata_mut().insert("authorization", value);
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::metadata::MetadataValue;

    fn calling_with(header: &str) -> MetadataMap {
        let mut metadata = MetadataMap::new();
        metadata.insert("authorization", header.parse().unwrap());
        metadata
    }

    fn alice() -> Credentials {
        Credentials::Basic {
            user: "alice".to_owned(),
            password: "secret:1".to_owned(),
        }
    }

    #[test]
    fn credentials_are_read_from_the_header_and_from_flights_own_message() {
        let header = format!("Basic {}", BASIC.encode("alice:secret:1"));
        let header = Credentials::of_header(&calling_with(&header));
        let payload = BasicAuth {
            username: "alice".to_owned(),
            password: "secret:1".to_owned(),
        };
        let payload = Credentials::of_payload(&HandshakeRequest {
            protocol_version: 0,
            payload: payload.encode_to_vec().into(),
        });
        assert_eq!((header, payload), (Some(alice()), alice()));
        assert_eq!(alice().anonymous_token(), "volary-anonymous.YWxpY2U");
    }

    #[test]
    fn a_token_is_read_from_either_header() {
        assert_eq!(shown_token(&calling_with("Bearer abc")).unwrap(), "abc");
        let mut metadata = MetadataMap::new();
        metadata.insert_bin("auth-token-bin", MetadataValue::from_bytes(b"abc"));
        assert_eq!(shown_token(&metadata).unwrap(), "abc");
    }

    #[test]
    fn other_credentials_are_passed_over() {
        assert_eq!(Credentials::of_header(&calling_with("Basic ***")), None);
        assert_eq!(Credentials::of_header(&calling_with("Digest x")), None);
        let greeting = HandshakeRequest {
            protocol_version: 0,
            payload: "hello".into(),
        };
        assert_eq!(Credentials::of_payload(&greeting), Credentials::None);
    }
}
