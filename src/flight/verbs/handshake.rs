//! Handshake while there is no authentication: whoever asks is given a token, and no call checks it.
//!
//! JDBC and `authenticate_basic_token` of pyarrow cannot open a connection without one.

use arrow_flight::{HandshakeRequest, HandshakeResponse};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use futures::StreamExt;
use futures::stream::BoxStream;
use tonic::metadata::MetadataMap;
use tonic::{Status, Streaming};

const TOKEN: &str = "volary-anonymous";

/// The token for a caller that showed HTTP Basic credentials, or a bearer token that it already has.
pub(crate) fn token(metadata: &MetadataMap) -> Option<String> {
    let header = metadata.get("authorization")?.to_str().ok()?;
    let (scheme, credentials) = header.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("basic") {
        let user = STANDARD.decode(credentials.trim()).ok()?;
        let user = user.split(|byte| *byte == b':').next().unwrap_or_default();
        Some(format!("{TOKEN}.{}", URL_SAFE_NO_PAD.encode(user)))
    } else if scheme.eq_ignore_ascii_case("bearer") {
        Some(credentials.trim().to_owned())
    } else {
        None
    }
}

/// Puts the token where HTTP-style clients look for it.
pub(crate) fn grant(metadata: &mut MetadataMap, token: Option<&str>) {
    if let Some(Ok(value)) = token.map(|token| format!("Bearer {token}").parse()) {
        metadata.insert("authorization", value);
    }
}

/// Answers every message of the caller with the token.
pub(crate) async fn handshake(
    mut requests: Streaming<HandshakeRequest>,
    token: Option<String>,
) -> Result<BoxStream<'static, Result<HandshakeResponse, Status>>, Status> {
    let payload = token.unwrap_or_else(|| TOKEN.to_owned());
    Ok(async_stream::try_stream! {
        while let Some(request) = requests.message().await? {
            yield HandshakeResponse {
                protocol_version: request.protocol_version,
                payload: payload.clone().into(),
            };
        }
    }
    .boxed())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token_for(header: &str) -> Option<String> {
        let mut metadata = MetadataMap::new();
        metadata.insert("authorization", header.parse().unwrap());
        token(&metadata)
    }

    #[test]
    fn basic_credentials_are_answered_with_a_bearer_token() {
        let token = token_for(&format!("Basic {}", STANDARD.encode("alice:secret"))).unwrap();
        assert!(token.starts_with("volary-anonymous."), "{token}");
        let mut metadata = MetadataMap::new();
        grant(&mut metadata, Some(&token));
        assert_eq!(
            metadata.get("authorization").unwrap(),
            &format!("Bearer {token}")
        );
    }

    #[test]
    fn other_credentials_are_passed_over() {
        assert_eq!(token_for("Basic ***"), None);
        assert_eq!(token_for("Digest x"), None);
        assert_eq!(token_for("Bearer abc").as_deref(), Some("abc"));
    }
}
