//! ListActions: every action with what it takes and answers, from the enum that DoAction dispatches on.

use arrow_flight::ActionType;
use futures::StreamExt;
use futures::stream::BoxStream;
use tonic::Status;

use crate::flight::command::ActionKind;

pub(crate) fn list_actions() -> BoxStream<'static, Result<ActionType, Status>> {
    futures::stream::iter(ActionKind::ALL.iter().map(|kind| {
        Ok(ActionType {
            r#type: kind.name().to_owned(),
            description: kind.description(),
        })
    }))
    .boxed()
}
