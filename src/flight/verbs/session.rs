//! SetSessionOptions, GetSessionOptions, CloseSession; and which options a session of this server has.

use std::time::SystemTime;

use arrow_flight::Action;
use tonic::Status;

use super::cancel::tell_the_others;
use crate::flight::call::{COMPRESSION_OPTION, DICTIONARIES_OPTION};
use crate::flight::codec::{Compression, Dictionaries};
use crate::flight::command::ActionKind;
use crate::flight::error::FlightError;
use crate::flight::proto::session::{
    CloseSessionResult, GetSessionOptionsResult, SetSessionOptionsRequest, SetSessionOptionsResult,
    close_session_result::Status as Closed, session_option_value::OptionValue,
    set_session_options_result::ErrorValue,
};
use crate::flight::service::VerbContext;
use crate::flight::session::{Session, SessionOptions};
use crate::flight::sql::{CATALOG, SCHEMA};
use crate::flight::wire::Wire;

/// Every option, and whether it may have this value. Text is taken for all of them.
const OPTIONS: &[(&str, fn(&str) -> bool)] = &[
    // There is one catalog with one schema; JDBC and ADBC set them before the first statement.
    ("catalog", |text| text == CATALOG),
    ("schema", |text| text == SCHEMA),
    (COMPRESSION_OPTION, |text| {
        Compression::parse(text).is_some()
    }),
    (DICTIONARIES_OPTION, |text| {
        Dictionaries::parse(text).is_some()
    }),
];

fn accepts(name: &str, value: &OptionValue) -> Result<(), ErrorValue> {
    let (_, takes) = OPTIONS
        .iter()
        .find(|(known, _)| *known == name)
        .ok_or(ErrorValue::InvalidName)?;
    match value {
        OptionValue::StringValue(text) if takes(text) => Ok(()),
        _ => Err(ErrorValue::InvalidValue),
    }
}

pub(crate) fn set(wire: &Wire, request: SetSessionOptionsRequest) -> SetSessionOptionsResult {
    let known = |name: &str| OPTIONS.iter().any(|(known, _)| *known == name);
    set_those(wire, request, accepts, known)
}

/// Sets what `accepts` has no objection to, unsets what `known` knows, and has the client carry the session from now on.
pub fn set_those(
    wire: &Wire,
    request: SetSessionOptionsRequest,
    accepts: impl Fn(&str, &OptionValue) -> Result<(), ErrorValue>,
    known: impl Fn(&str) -> bool,
) -> SetSessionOptionsResult {
    let mut session = wire.call.session.clone().unwrap_or_else(Session::begin);
    let result = session.set(request.session_options, accepts, known);
    let cookie = session.cookie(&wire.signer, SystemTime::now());
    wire.call.set_cookie(&cookie);
    result
}

/// The options that are set. Clients ask before they set any: none are set where no session is shown.
pub fn get(wire: &Wire) -> Result<GetSessionOptionsResult, FlightError> {
    let session_options = match &wire.call.session {
        Some(session) => session.options.clone(),
        None if wire.call.session_lost => return Err(FlightError::NoSession),
        None => SessionOptions::new(),
    };
    Ok(GetSessionOptionsResult { session_options })
}

/// Ends the session on this server, and has the client forget it.
pub fn end(wire: &Wire) -> Result<&Session, FlightError> {
    let session = wire.call.session.as_ref();
    let session = session.ok_or(FlightError::NoSession)?;
    let now = SystemTime::now();
    let expires = Session::lasts_until(now);
    wire.withdrawn.add_session(&session.id, expires, now)?;
    wire.call.set_cookie(&Session::end_cookie());
    Ok(session)
}

/// Ends the session on every server; a client that shows its cookie again has none.
pub(crate) async fn close(context: &VerbContext) -> Result<CloseSessionResult, Status> {
    let session = end(context)?;
    let mut status = Closed::Closed;
    if !context.call.forwarded {
        let action = Action {
            r#type: ActionKind::CloseSession.name().to_owned(),
            ..Action::default()
        };
        let cookie = session.cookie(&context.signer, SystemTime::now());
        if !tell_the_others(context, &action, Some(&cookie)).await {
            status = Closed::Closing;
        }
    }
    Ok(CloseSessionResult {
        status: status.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_taken_for_every_option_and_nothing_else_is() {
        let text = |text: &str| OptionValue::StringValue(text.to_owned());
        for (name, value, expected) in [
            ("catalog", text("volary"), Ok(())),
            ("catalog", text("other"), Err(ErrorValue::InvalidValue)),
            ("schema", text("public"), Ok(())),
            ("compression", text("lz4"), Ok(())),
            ("compression", text("none"), Ok(())),
            ("dictionaries", text("keep"), Ok(())),
            ("dictionaries", text("drop"), Err(ErrorValue::InvalidValue)),
            ("compression", text("gzip"), Err(ErrorValue::InvalidValue)),
            (
                "compression",
                OptionValue::BoolValue(true),
                Err(ErrorValue::InvalidValue),
            ),
            ("colour", text("red"), Err(ErrorValue::InvalidName)),
        ] {
            assert_eq!(accepts(name, &value), expected, "{name} {value:?}");
        }
    }
}
