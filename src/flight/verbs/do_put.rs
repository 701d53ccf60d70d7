//! DoPut: rows into a dataset, as one version or not at all.
//!
//! After every batch the client is told `{"rows": n}`, the rows taken so far; after the commit
//! `{"rows": n, "version": v}`. A stream that breaks, changes its schema, or whose client goes away leaves nothing.
//! A client that cannot cancel a call (pyarrow ends every half-written stream as if it were whole) gives an upload up
//! by a message without rows whose `app_metadata` is `{"abort": true}`.

use std::sync::Arc;

use arrow_flight::{FlightData, PutResult};
use futures::StreamExt;
use futures::stream::BoxStream;
use tonic::{Status, Streaming};

use super::Target;
use crate::catalog::WriteMode;
use crate::flight::codec::{Inbound, InboundItem};
use crate::flight::command::Command;
use crate::flight::convert::write_mode;
use crate::flight::error::FlightError;
use crate::flight::service::VerbContext;
use crate::flight::sql;

type PutStream = BoxStream<'static, Result<PutResult, Status>>;

pub(crate) async fn do_put(
    context: &VerbContext,
    stream: Streaming<FlightData>,
) -> Result<PutStream, Status> {
    let (descriptor, inbound) = Inbound::open(stream, context.limits).await?;
    match Target::of(&descriptor)? {
        Target::Dataset(reference) => {
            if let Some(version) = reference.version {
                return Err(FlightError::BadPath {
                    path: format!("[\"{}@{version}\"]", reference.name),
                    expected: "a version cannot be written; leave it out",
                }
                .into());
            }
            write(context, inbound, reference.name, WriteMode::Error)
        }
        Target::Command(Command::Put(put), _) => {
            let mode = write_mode(put.mode)?;
            write(context, inbound, put.dataset, mode)
        }
        Target::Command(Command::Sql(command), form) => {
            sql::put(context, *command, form, inbound).await
        }
        other => Err(FlightError::WrongCommand {
            verb: "DoPut",
            received: other.name(),
            expected: "path [dataset], or a Put command",
        }
        .into()),
    }
}

/// Whether these words without rows ask to forget the upload.
fn gives_up(words: &[u8]) -> bool {
    serde_json::from_slice::<serde_json::Value>(words)
        .is_ok_and(|words| words.get("abort") == Some(&serde_json::Value::Bool(true)))
}

fn write(
    context: &VerbContext,
    mut inbound: Inbound,
    name: String,
    mode: WriteMode,
) -> Result<PutStream, Status> {
    let place = context.incoming.admit()?;
    let datasets = Arc::clone(&context.services.catalog.datasets);
    let answers = async_stream::try_stream! {
        let _place = place;
        let schema = loop {
            match inbound.next().await? {
                Some(InboundItem::Schema(schema)) => break schema,
                Some(_) => {}
                None => Err(FlightError::NoSchema)?,
            }
        };
        let mut writer = datasets.write(&name, schema, mode).await?;
        let mut rows = 0;
        let broken: Option<Status> = loop {
            match inbound.next().await {
                Ok(Some(InboundItem::Batch { batch, .. })) => match writer.write(batch).await {
                    Ok(taken) => rows = taken,
                    Err(error) => break Some(error.into()),
                },
                Ok(Some(InboundItem::Metadata(words))) if gives_up(&words) => {
                    break Some(FlightError::GivenUp.into());
                }
                Ok(Some(_)) => continue,
                Ok(None) => break None,
                Err(status) => break Some(status),
            }
            yield PutResult { app_metadata: format!("{{\"rows\": {rows}}}").into() };
        };
        if let Some(status) = broken {
            writer.abort().await;
            Err(status)?;
            return;
        }
        // tonic reports a stream that the client reset with CANCEL as one that has ended. Before it polls this answer
        // again, hyper looks for the reset and drops the call; so the commit must not begin within the same poll.
        tokio::task::yield_now().await;
        let dataset = writer.commit().await?;
        tracing::info!(dataset = name, version = dataset.version, rows, "committed an upload");
        yield PutResult {
            app_metadata: format!("{{\"rows\": {rows}, \"version\": {}}}", dataset.version).into(),
        };
    };
    Ok(answers.boxed())
}
