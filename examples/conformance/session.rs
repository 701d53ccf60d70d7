//! `session_options`: a session takes every option but one name and one value.

use arrow_flight::Action;
use tonic::{Request, Response, Status};
use volary::flight::conformance::session_messages::{
    CloseSessionResult, close_session_result, session_option_value::OptionValue,
    set_session_options_result::ErrorValue,
};
use volary::flight::conformance::{
    ActionKind, Answers, Verbs, Wire, bare, end_session, session_options, set_session_options,
};

use crate::toy::unexpected;

const INVALID: &str = "lol_invalid";

#[derive(Debug)]
pub(crate) struct SessionOptions;

fn accepts(name: &str, value: &OptionValue) -> Result<(), ErrorValue> {
    match value {
        _ if name == INVALID => Err(ErrorValue::InvalidName),
        OptionValue::StringValue(text) if text == INVALID => Err(ErrorValue::InvalidValue),
        _ => Ok(()),
    }
}

#[tonic::async_trait]
impl Verbs for SessionOptions {
    async fn do_action(
        &self,
        wire: &Wire,
        request: Request<Action>,
    ) -> Result<Response<Answers<arrow_flight::Result>>, Status> {
        let action = request.into_inner();
        let kind = ActionKind::parse(&action.r#type)?;
        let body = kind.open(&action.body)?;
        Ok(Response::new(match kind {
            ActionKind::SetSessionOptions => {
                let known = |name: &str| name != INVALID;
                let result = set_session_options(wire, body.read_named()?, accepts, known);
                bare(kind, &result, body.form)
            }
            ActionKind::GetSessionOptions => bare(kind, &session_options(wire)?, body.form),
            ActionKind::CloseSession => {
                end_session(wire)?;
                let result = CloseSessionResult {
                    status: close_session_result::Status::Closed.into(),
                };
                bare(kind, &result, body.form)
            }
            _ => return Err(unexpected("action", kind.name(), "a session's")),
        }))
    }
}
