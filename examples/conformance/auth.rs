//! `auth:basic_proto`: a call without a token is refused; the handshake takes Flight's `BasicAuth` message.

use arrow_flight::{Action, ActionType, Empty, HandshakeRequest, HandshakeResponse};
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};
use volary::flight::conformance::{Answers, Credentials, Verbs, Wire, handshake, shown_token};

use crate::toy::all;

const USER: &str = "arrow";
const PASSWORD: &str = "flight";

/// Knows one user, whose name is the token.
#[derive(Debug)]
pub(crate) struct BasicAuth;

fn token_for(credentials: &Credentials) -> Result<String, Status> {
    match credentials {
        Credentials::Basic { user, password } if user == USER && password == PASSWORD => {
            Ok(user.clone())
        }
        _ => Err(Status::unauthenticated(
            "this user and password are not known",
        )),
    }
}

/// Who calls, by the token.
fn caller(metadata: &MetadataMap) -> Result<String, Status> {
    shown_token(metadata)
        .filter(|token| token == USER)
        .ok_or_else(|| Status::unauthenticated("the call shows no token; shake hands first"))
}

#[tonic::async_trait]
impl Verbs for BasicAuth {
    async fn handshake(
        &self,
        _: &Wire,
        request: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Answers<HandshakeResponse>>, Status> {
        handshake(request, token_for).await
    }

    async fn do_action(
        &self,
        _: &Wire,
        request: Request<Action>,
    ) -> Result<Response<Answers<arrow_flight::Result>>, Status> {
        let body = caller(request.metadata())?.into();
        Ok(Response::new(all(vec![arrow_flight::Result { body }])))
    }

    async fn list_actions(
        &self,
        _: &Wire,
        request: Request<Empty>,
    ) -> Result<Response<Answers<ActionType>>, Status> {
        caller(request.metadata())?;
        Ok(Response::new(all(Vec::new())))
    }
}
