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
use futures::stream::BoxStream;
use tonic::{Status, Streaming};

use super::do_get::FlightStream;
use super::{Target, withdrawn};
use crate::flight::codec::{
    BatchEncoder, Compression, FlightMessage, Inbound, InboundItem, expanded_schema,
};
use crate::flight::command::Command;
use crate::flight::convert::{job_id, model_version};
use crate::flight::error::FlightError;
use crate::flight::peer::{accepted_gradients, event_message, start_of};
use crate::flight::proto::v1::Predict;
use crate::flight::proto::v1::peer::{OpenGradientStream, StartWorker};
use crate::flight::service::VerbContext;
use crate::serving::{LoadedModel, ScoringSession};
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
        Target::Command(Command::ListWithdrawn(asked), _) => withdrawn::list(context, asked).await,
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
    let incoming = async_stream::stream! {
        let _place = place;
        loop {
            match inbound.next().await {
                Ok(Some(item)) => yield Ok(item),
                Ok(None) => return,
                Err(status) => {
                    yield Err(status);
                    return;
                }
            }
        }
    };
    Ok(answers(
        model,
        keep,
        context.call.format.compression,
        incoming.boxed(),
    ))
}

/// The answers to what comes in, in its order.
fn answers(
    model: Arc<LoadedModel>,
    keep: Vec<String>,
    compression: Compression,
    mut incoming: BoxStream<'static, Result<InboundItem, Status>>,
) -> FlightStream {
    let answers = async_stream::stream! {
        let mut session: Option<Arc<ScoringSession>> = None;
        // Of the stream: what errors count rows from.
        let mut rows = 0;
        while let Some(item) = incoming.next().await {
            let item = match item {
                Ok(item) => item,
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
                    let first_row = rows;
                    rows += batch.num_rows() as u64;
                    yield Answer::Score(Arc::clone(session), batch, first_row, app_metadata);
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
    answers
        .map(move |answer| answer.wait(compression))
        .buffered(BATCHES_IN_FLIGHT)
        .boxed()
}

/// A message of the answer: known, or to be worked out.
enum Answer {
    Ready(Result<FlightMessage, Status>),
    /// With the position of the batch's first row in the stream.
    Score(Arc<ScoringSession>, RecordBatch, u64, Bytes),
}

impl Answer {
    async fn wait(self, compression: Compression) -> Result<FlightMessage, Status> {
        match self {
            Self::Ready(message) => message,
            Self::Score(session, batch, first_row, app_metadata) => {
                let scored = move || score(&session, &batch, first_row, app_metadata, compression);
                tokio::task::spawn_blocking(scored).await.map_err(|error| {
                    FlightError::Internal {
                        doing: "scoring",
                        reason: error.to_string(),
                    }
                })?
            }
        }
    }
}

/// One answer batch, as one message whatever its size: splitting it would break one answer per batch.
fn score(
    session: &ScoringSession,
    batch: &RecordBatch,
    first_row: u64,
    app_metadata: Bytes,
    compression: Compression,
) -> Result<FlightMessage, Status> {
    let schema = session.schema();
    rows_scored("exchange", batch.num_rows() as u64);
    let answer = if batch.num_rows() == 0 {
        RecordBatch::new_empty(Arc::clone(&schema))
    } else {
        session.score_from(batch, first_row)?
    };
    let mut encoder = BatchEncoder::new(expanded_schema(&schema)).with_compression(compression);
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

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Float64Array};
    use serde_json::json;

    use super::*;
    use crate::catalog::{LabelColumn, ModelManifest, ModelVersion};

    /// prediction = 2 x + 1
    fn model() -> Arc<LoadedModel> {
        let manifest = ModelManifest {
            format_version: 1,
            name: "line".into(),
            version: 1,
            spec: json!({"format_version": 1, "name": "line", "outputs": ["answer"], "layers": [
                {"name": "columns", "layer": "Input", "config": {"columns": ["x"]}},
                {"name": "answer", "layer": "Dense", "config": {"units": 1}, "inputs": ["columns"]},
            ]}),
            pipeline: json!({
                "format_version": 1, "columns": [{"name": "x", "type": "Float64"}], "steps": [],
            }),
            label: LabelColumn {
                name: "y".into(),
                data_type: "Float64".into(),
                classes: Vec::new(),
            },
            loss: "mse".into(),
            metric_names: Vec::new(),
            outputs: Vec::new(),
            metrics: std::collections::BTreeMap::new(),
            parameters: 2,
            training: None,
            job: "job".into(),
            source: "rows".into(),
            dataset_version: None,
            seed: 0,
            code_version: "test".into(),
            committed_ms: 0,
        };
        let named = r#"{"answer/bias":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"answer/kernel":{"dtype":"F32","shape":[1,1],"data_offsets":[4,8]}}"#;
        let mut weights = (named.len() as u64).to_le_bytes().to_vec();
        weights.extend(named.as_bytes());
        weights.extend([1.0_f32, 2.0].into_iter().flat_map(f32::to_le_bytes));
        let weights = weights.into();
        Arc::new(LoadedModel::new(ModelVersion { manifest, weights }, 1).unwrap())
    }

    fn batch(numbers: Vec<f64>) -> RecordBatch {
        let numbers: ArrayRef = Arc::new(Float64Array::from(numbers));
        RecordBatch::try_from_iter([("x", numbers)]).unwrap()
    }

    #[tokio::test]
    async fn a_row_that_cannot_be_scored_is_counted_from_the_first_of_the_stream() {
        let mut last = vec![0.0; 10];
        last[3] = f64::NAN;
        let batches = [vec![0.0; 20_000], Vec::new(), vec![0.0; 5], last].map(batch);
        let schema = InboundItem::Schema(batches[0].schema());
        let batches = batches.map(|batch| InboundItem::Batch {
            batch,
            app_metadata: Bytes::new(),
        });
        let incoming = std::iter::once(schema).chain(batches).map(Ok);
        let incoming = futures::stream::iter(incoming.collect::<Vec<_>>()).boxed();
        let answered: Vec<_> = answers(model(), Vec::new(), Compression::None, incoming)
            .collect()
            .await;
        assert_eq!(answered.len(), 5);
        assert!(answered[..4].iter().all(Result::is_ok));
        let refused = answered[4].as_ref().err().unwrap();
        assert_eq!(refused.code(), tonic::Code::InvalidArgument);
        assert!(
            refused.message().contains("\"x\" is NaN at row 20008;"),
            "{refused}"
        );
    }
}
