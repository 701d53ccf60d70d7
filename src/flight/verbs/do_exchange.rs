//! DoExchange: scoring, and the streams of servers that train together.
//!
//! Scoring: the answer's schema goes out as soon as the incoming one is known, before any rows; then one answer batch
//! per incoming batch, same rows, same order, `app_metadata` echoed. Clients that write and read in turns work, and so
//! do those that do both at once. At most [`BATCHES_IN_FLIGHT`] batches are held; beyond that the client's writes wait.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow_flight::FlightData;
use bytes::Bytes;
use futures::StreamExt;
use tonic::{Status, Streaming};

use super::Target;
use super::do_get::FlightStream;
use crate::flight::codec::{BatchEncoder, FlightMessage, Inbound, InboundItem, expanded_schema};
use crate::flight::command::Command;
use crate::flight::convert::{job_id, model_version};
use crate::flight::error::FlightError;
use crate::flight::peer::{accepted_gradients, event_message, start_of};
use crate::flight::proto::v1::Predict;
use crate::flight::proto::v1::peer::{OpenGradientStream, StartWorker};
use crate::flight::service::VerbContext;
use crate::serving::ScoringSession;
use crate::telemetry::metrics::rows_scored;

/// Batches of one stream that are scored or wait to be sent.
const BATCHES_IN_FLIGHT: usize = 2;

pub(crate) async fn do_exchange(
    context: &VerbContext,
    stream: Streaming<FlightData>,
) -> Result<FlightStream, Status> {
    let (descriptor, inbound) = Inbound::open(stream, context.limits).await?;
    match Target::of(&descriptor)? {
        Target::Model { name, version } => {
            predict(context, inbound, &name, version, Vec::new()).await
        }
        Target::Command(Command::Predict(command), _) => {
            let Predict {
                model,
                version,
                keep,
            } = command;
            predict(context, inbound, &model, model_version(version), keep).await
        }
        Target::Command(Command::StartWorker(start), _) => work(context, inbound, start).await,
        Target::Command(Command::OpenGradientStream(open), _) => {
            gradients(context, inbound, open).await
        }
        other => Err(FlightError::WrongCommand {
            verb: "DoExchange",
            received: other.name(),
            expected: "path [\"models\", name], [\"models\", name, version], or a Predict command",
        }
        .into()),
    }
}

async fn predict(
    context: &VerbContext,
    mut inbound: Inbound,
    name: &str,
    version: Option<u64>,
    keep: Vec<String>,
) -> Result<FlightStream, Status> {
    let place = context.incoming.admit()?;
    let model = context.services.serving.model(name, version).await?;
    let answers = async_stream::stream! {
        let _place = place;
        let mut session: Option<Arc<ScoringSession>> = None;
        loop {
            let item = match inbound.next().await {
                Ok(Some(item)) => item,
                Ok(None) => return,
                Err(status) => {
                    yield Answer::Ready(Err(status));
                    return;
                }
            };
            match (item, &session) {
                (InboundItem::Schema(schema), _) => match model.session(&schema, &keep) {
                    Ok(bound) => {
                        let answered = expanded_schema(&bound.schema());
                        session = Some(Arc::new(bound));
                        yield Answer::Ready(Ok(BatchEncoder::new(answered).schema_message()));
                    }
                    Err(error) => {
                        yield Answer::Ready(Err(error.into()));
                        return;
                    }
                },
                (InboundItem::Batch { batch, app_metadata }, Some(session)) => {
                    yield Answer::Score(Arc::clone(session), batch, app_metadata);
                }
                (InboundItem::Batch { .. }, None) => {
                    yield Answer::Ready(Err(FlightError::NoSchema.into()));
                    return;
                }
                (InboundItem::Metadata(app_metadata), _) => {
                    yield Answer::Ready(Ok(FlightMessage { app_metadata, ..FlightMessage::default() }));
                }
            }
        }
    };
    Ok(answers
        .map(Answer::wait)
        .buffered(BATCHES_IN_FLIGHT)
        .boxed())
}

/// A message of the answer: known, or to be worked out.
enum Answer {
    Ready(Result<FlightMessage, Status>),
    Score(Arc<ScoringSession>, RecordBatch, Bytes),
}

impl Answer {
    async fn wait(self) -> Result<FlightMessage, Status> {
        match self {
            Self::Ready(message) => message,
            Self::Score(session, batch, app_metadata) => {
                tokio::task::spawn_blocking(move || score(&session, &batch, app_metadata))
                    .await
                    .map_err(|error| FlightError::Internal {
                        doing: "scoring",
                        reason: error.to_string(),
                    })?
            }
        }
    }
}

/// One answer batch, as one message whatever its size: splitting it would break one answer per batch.
fn score(
    session: &ScoringSession,
    batch: &RecordBatch,
    app_metadata: Bytes,
) -> Result<FlightMessage, Status> {
    let schema = session.schema();
    rows_scored("exchange", batch.num_rows() as u64);
    let answer = if batch.num_rows() == 0 {
        RecordBatch::new_empty(Arc::clone(&schema))
    } else {
        session.score(batch)?
    };
    let mut encoder = BatchEncoder::new(expanded_schema(&schema));
    Ok(encoder.encode_whole(&answer, app_metadata)?)
}

/// The worker's end of a coordinator's stream: events out, until either side stops. A server that drains does not wait
/// for the end of the job: the job fails at once and can be started again.
async fn work(
    context: &VerbContext,
    mut inbound: Inbound,
    start: StartWorker,
) -> Result<FlightStream, Status> {
    let start = start_of(start)?;
    let mut events = context.services.training.accept_worker(start).await?;
    let shutdown = context.services.shutdown.clone();
    Ok(async_stream::stream! {
        loop {
            tokio::select! {
                biased;
                () = shutdown.begun() => {
                    yield Err(FlightError::WorkerStopping.into());
                    return;
                }
                event = events.next() => match event {
                    Some(event) => yield Ok(event_message(event)),
                    None => return,
                },
                // The coordinator sends nothing after its start: whatever comes is the end of its interest.
                _ = inbound.message() => return,
            }
        }
    }
    .boxed())
}

/// The owner's end of a gradient stream.
async fn gradients(
    context: &VerbContext,
    inbound: Inbound,
    open: OpenGradientStream,
) -> Result<FlightStream, Status> {
    let job = job_id(&open.job)?;
    let (stream, answers) = accepted_gradients(inbound);
    context
        .services
        .training
        .accept_gradients(
            job,
            open.generation,
            open.from_worker,
            open.to_worker,
            stream,
        )
        .await?;
    Ok(answers)
}
