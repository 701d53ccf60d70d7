//! Uploads in parts: the actions, and DoPut of a part.
//!
//! After every batch of a part the client is told `{"rows": n}`; once the part is durable,
//! `{"rows": n, "part": "...", "attempt": n}`.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow_flight::{PutResult, Result as ActionResult};
use futures::stream::BoxStream;
use tonic::Status;

use super::do_action::{many, one};
use super::do_put::{Sink, receive};
use crate::catalog::upload::{FinishedPart, PartAttempt, PartWriter};
use crate::flight::codec::{Inbound, schema_of_message};
use crate::flight::command::ActionKind;
use crate::flight::convert;
use crate::flight::proto::Packed;
use crate::flight::proto::v1;
use crate::flight::service::VerbContext;

pub(super) async fn action(
    context: &VerbContext,
    kind: ActionKind,
    body: &Packed,
) -> Result<BoxStream<'static, Result<ActionResult, Status>>, Status> {
    let uploads = &context.services.catalog.uploads;
    let form = body.form;
    match kind {
        ActionKind::BeginUpload => {
            let request = body.read::<v1::BeginUpload>()?;
            let schema = match request.schema.is_empty() {
                true => None,
                false => Some(schema_of_message(&request.schema, context.limits)?),
            };
            let lifetime = match request.lifetime_seconds {
                0 => None,
                seconds => Some(Duration::from_secs(seconds.into())),
            };
            let mode = convert::write_mode(request.mode)?;
            let upload = uploads
                .begin(&request.dataset, mode, schema, lifetime)
                .await?;
            Ok(one(&convert::upload(&upload), form))
        }
        ActionKind::CommitUpload => {
            let request = body.read::<v1::CommitUpload>()?;
            let id = convert::upload_id(&request.id)?;
            let parts = request.parts.into_iter().map(|each| PartAttempt {
                part: each.part,
                attempt: each.attempt,
            });
            let committed = uploads.commit(id, parts.collect()).await?;
            tracing::info!(
                upload = %id,
                dataset = committed.dataset,
                version = committed.version,
                "committed an upload in parts"
            );
            Ok(one(&convert::committed_upload(&committed), form))
        }
        ActionKind::AbortUpload => {
            let request = body.read::<v1::AbortUpload>()?;
            uploads.abort(convert::upload_id(&request.id)?).await?;
            Ok(one(&v1::Done {}, form))
        }
        ActionKind::DescribeUpload => {
            let request = body.read::<v1::DescribeUpload>()?;
            let upload = uploads.describe(convert::upload_id(&request.id)?).await?;
            Ok(one(&convert::upload(&upload), form))
        }
        _ => {
            body.read::<v1::ListUploads>()?;
            let listed = uploads.list().await?;
            Ok(many(listed.iter().map(convert::upload), form))
        }
    }
}

/// DoPut of a part.
pub(super) fn put_part(
    context: &VerbContext,
    inbound: Inbound,
    command: v1::PutPart,
) -> Result<BoxStream<'static, Result<PutResult, Status>>, Status> {
    let id = convert::upload_id(&command.upload)?;
    let uploads = Arc::clone(&context.services.catalog.uploads);
    receive(context, inbound, async move |schema| {
        Ok(uploads
            .put_part(id, &command.part, command.attempt, schema)
            .await?)
    })
}

impl Sink for PartWriter {
    async fn take(&mut self, batch: RecordBatch) -> Result<u64, Status> {
        Ok(self.write(batch).await?)
    }

    async fn give_up(self) {
        self.abort().await;
    }

    async fn conclude(self) -> Result<String, Status> {
        let FinishedPart {
            rows,
            part,
            attempt,
            ..
        } = self.finish().await?;
        let part = serde_json::Value::from(part);
        Ok(format!(
            "{{\"rows\": {rows}, \"part\": {part}, \"attempt\": {attempt}}}"
        ))
    }
}
