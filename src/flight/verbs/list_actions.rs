//! ListActions: actions with what they take and answer, from the enum that DoAction dispatches on.

use arrow_flight::ActionType;
use futures::StreamExt;
use futures::stream::BoxStream;
use tonic::Status;

use crate::flight::command::ActionKind;

pub fn list_actions(
    kinds: &'static [ActionKind],
) -> BoxStream<'static, Result<ActionType, Status>> {
    futures::stream::iter(kinds.iter().map(|kind| {
        Ok(ActionType {
            r#type: kind.name().to_owned(),
            description: kind.description(),
        })
    }))
    .boxed()
}
