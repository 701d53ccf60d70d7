//! DoPut: rows into a dataset, as one version or not at all; or as one part of an upload, see `uploads`.
//!
//! After every batch the client is told `{"rows": n}`, the rows taken so far; after the commit
//! `{"rows": n, "version": v}`. A stream that breaks, changes its schema, or whose client goes away leaves nothing.
//! A client that cannot cancel a call (pyarrow ends every half-written stream as if it were whole) gives an upload up
//! by a message without rows whose `app_metadata` is `{"abort": true}`.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow_flight::{FlightData, PutResult};
use futures::StreamExt;
use futures::stream::BoxStream;
use tonic::{Status, Streaming};

use super::{Target, uploads};
use crate::catalog::{DatasetWriter, WriteMode};
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
        Target::Command(Command::PutPart(part), _) => uploads::put_part(context, inbound, part),
        Target::Command(Command::Sql(command), form) => {
            sql::put(context, *command, form, inbound).await
        }
        other => Err(FlightError::WrongCommand {
            verb: "DoPut",
            received: other.name(),
            expected: "path [dataset], or a Put or PutPart command",
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
    inbound: Inbound,
    name: String,
    mode: WriteMode,
) -> Result<PutStream, Status> {
    let datasets = Arc::clone(&context.services.catalog.datasets);
    receive(context, inbound, async move |schema| {
        Ok(datasets.write(&name, schema, mode).await?)
    })
}

/// Where the rows of a stream go.
pub(super) trait Sink: Send + 'static {
    /// Takes rows; answers how many it has taken so far.
    fn take(&mut self, batch: RecordBatch) -> impl Future<Output = Result<u64, Status>> + Send;
    /// Leaves nothing of them.
    fn give_up(self) -> impl Future<Output = ()> + Send;
    /// Makes them durable; answers the last words to the client.
    fn conclude(self) -> impl Future<Output = Result<String, Status>> + Send;
}

impl Sink for DatasetWriter {
    async fn take(&mut self, batch: RecordBatch) -> Result<u64, Status> {
        Ok(self.write(batch).await?)
    }

    async fn give_up(self) {
        self.abort().await;
    }

    async fn conclude(self) -> Result<String, Status> {
        let rows = self.rows();
        let dataset = self.commit().await?;
        let version = dataset.version;
        tracing::info!(dataset = dataset.name, version, rows, "committed an upload");
        Ok(format!("{{\"rows\": {rows}, \"version\": {version}}}"))
    }
}

/// Passes the rows of a stream to the sink that `begin` opens for their schema.
pub(super) fn receive<S: Sink, F: Future<Output = Result<S, Status>> + Send>(
    context: &VerbContext,
    mut inbound: Inbound,
    begin: impl FnOnce(SchemaRef) -> F + Send + 'static,
) -> Result<PutStream, Status> {
    let place = context.incoming.admit()?;
    let answers = async_stream::try_stream! {
        let _place = place;
        let schema = loop {
            match inbound.next().await? {
                Some(InboundItem::Schema(schema)) => break sql::undescribed(schema),
                Some(_) => {}
                None => Err(FlightError::NoSchema)?,
            }
        };
        let mut sink = begin(schema).await?;
        let broken: Option<Status> = loop {
            let rows = match inbound.next().await {
                Ok(Some(InboundItem::Batch { batch, .. })) => match sink.take(batch).await {
                    Ok(taken) => taken,
                    Err(status) => break Some(status),
                },
                Ok(Some(InboundItem::Metadata(words))) if gives_up(&words) => {
                    break Some(FlightError::GivenUp.into());
                }
                Ok(Some(_)) => continue,
                Ok(None) => break None,
                Err(status) => break Some(status),
            };
            yield PutResult { app_metadata: format!("{{\"rows\": {rows}}}").into() };
        };
        if let Some(status) = broken {
            sink.give_up().await;
            Err(status)?;
            return;
        }
        // tonic reports a stream that the client reset with CANCEL as one that has ended. Before it polls this answer
        // again, hyper looks for the reset and drops the call; so the commit must not begin within the same poll.
        tokio::task::yield_now().await;
        let last_words = sink.conclude().await?;
        yield PutResult { app_metadata: last_words.into() };
    };
    Ok(answers.boxed())
}
