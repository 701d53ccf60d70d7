//! The port: per call a request id, a span and a status; then the verb.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow_flight::flight_service_server::{FlightService, FlightServiceServer};
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo,
    HandshakeRequest, HandshakeResponse, PollInfo, PutResult, SchemaResult, Ticket,
};
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{FutureExt, Stream, StreamExt, TryStreamExt};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::task_tracker::TaskTrackerToken;
use tonic::metadata::MetadataMap;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Code, Request, Response, Status, Streaming};
use tracing::{Instrument, Span};

use super::call::CallOptions;
use super::codec::{DecodeLimits, FlightMessage, batch_stream};
use super::error::FlightError;
use super::peer::PeerClient;
use super::port::FlightPort;
use super::proto::DESCRIPTORS;
use super::reads::Reads;
use super::sql;
use super::status::code_name;
use super::ticket::{OpenedTicket, Signer};
use super::trace::{self, Trace};
use super::verbs;
use crate::catalog::Catalog;
use crate::cluster::Cluster;
use crate::features::QueryEngine;
use crate::serving::Serving;
use crate::support::shutdown::Shutdown;
use crate::telemetry::metrics::{RequestTimer, request_started};
use crate::training::Training;

/// Settings of the port.
#[derive(Clone)]
pub struct FlightConfig {
    /// Largest incoming message in bytes.
    pub message_bytes_max: usize,
    /// The name that `message_bytes_max` has among the server's options, for the error that names it.
    pub message_bytes_option: &'static str,
    /// Uploads and prediction streams open at a time.
    pub incoming_streams_max: usize,
    /// The name that `incoming_streams_max` has among the server's options.
    pub incoming_streams_option: &'static str,
    /// Whether `Read` sends clients to all servers, at the addresses they advertise.
    pub direct_endpoints: bool,
    /// Key of tickets and prepared statements; the same on every server of the cluster.
    pub ticket_key: [u8; 32],
    /// How long a ticket may be read.
    pub ticket_lifetime: Duration,
}

impl std::fmt::Debug for FlightConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FlightConfig")
            .field("message_bytes_max", &self.message_bytes_max)
            .field("incoming_streams_max", &self.incoming_streams_max)
            .field("ticket_lifetime", &self.ticket_lifetime)
            .finish_non_exhaustive()
    }
}

impl FlightConfig {
    /// 256 MiB messages, 64 incoming streams, tickets that last an hour.
    pub fn new(ticket_key: [u8; 32]) -> Self {
        Self {
            message_bytes_max: 256 << 20,
            message_bytes_option: "--max-message-size",
            incoming_streams_max: 64,
            incoming_streams_option: "--max-incoming-streams",
            direct_endpoints: false,
            ticket_key,
            ticket_lifetime: Duration::from_secs(3600),
        }
    }
}

/// Everything that the verbs call.
#[derive(Debug, Clone)]
pub struct Services {
    pub catalog: Catalog,
    pub queries: Arc<QueryEngine>,
    pub serving: Arc<Serving>,
    pub training: Arc<Training>,
    pub cluster: Arc<Cluster>,
    pub peers: Arc<PeerClient>,
    pub shutdown: Shutdown,
}

/// Compressed batches may decode to this many times the largest message.
const DECODED_RATIO: u64 = 8;

/// To clients and servers alike: enough for one busy stream over a slow link, and for several on one connection.
const STREAM_WINDOW_BYTES: u32 = 16 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 64 << 20;

/// HTTP/2's default of 16 KiB makes 128 frames of a 2 MiB message.
const FRAME_BYTES_MAX: u32 = 1 << 20;

/// Streams one connection may have open: a cluster's gradient streams share one with its actions.
const STREAMS_MAX: u32 = 4096;

/// Tokens, cookies and traces together outgrow the default of 16 KiB.
const HEADER_BYTES_MAX: u32 = 64 << 10;

/// A stream of rows that has none to send says so after this long: half of the shortest patience that proxies have.
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(15);

/// A client that is gone without a word is noticed by these. They are long, because some gRPC libraries answer pings
/// only while the program is inside a call, and a program may compute between two writes.
const CLIENT_PING_EVERY: Duration = Duration::from_secs(60);
const CLIENT_PING_TIMEOUT: Duration = Duration::from_secs(60);

/// Serves the port until the shutdown begins and the last stream has ended.
pub async fn serve(
    listener: TcpListener,
    services: Services,
    config: FlightConfig,
) -> Result<(), FlightError> {
    let failed = |reason: String| FlightError::Internal {
        doing: "serving the gRPC port",
        reason,
    };
    let shutdown = services.shutdown.clone();
    let message_bytes_max = config.message_bytes_max;

    let health = tonic_health::server::HealthReporter::new();
    health
        .set_serving::<FlightServiceServer<VolaryService>>()
        .await;
    let health_service = tonic_health::pb::health_server::HealthServer::new(
        tonic_health::server::HealthService::from_health_reporter(health.clone()),
    );
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .map_err(|error| failed(error.to_string()))?;
    let reflection_alpha = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1alpha()
        .map_err(|error| failed(error.to_string()))?;
    let flight = FlightPort::new(VolaryService::new(services, config), message_bytes_max);

    let incoming = TcpIncoming::from(listener)
        .with_nodelay(Some(true))
        .with_keepalive(Some(Duration::from_secs(60)));
    let drain = async move {
        shutdown.begun().await;
        health
            .set_service_status("", tonic_health::ServingStatus::NotServing)
            .await;
        health
            .set_not_serving::<FlightServiceServer<VolaryService>>()
            .await;
    };
    Server::builder()
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES_MAX)
        .max_concurrent_streams(STREAMS_MAX)
        .http2_max_header_list_size(HEADER_BYTES_MAX)
        .http2_keepalive_interval(Some(CLIENT_PING_EVERY))
        .http2_keepalive_timeout(Some(CLIENT_PING_TIMEOUT))
        .add_service(health_service)
        .add_service(reflection)
        .add_service(reflection_alpha)
        .add_service(flight)
        .serve_with_incoming_shutdown(incoming, drain)
        .await
        .map_err(|error| failed(error.to_string()))
}

/// What the verbs share. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct VerbContext {
    pub(super) services: Services,
    /// Of the call that the context was made for.
    pub(super) call: CallOptions,
    pub(super) signer: Signer,
    pub(super) reads: Reads,
    pub(super) direct_endpoints: bool,
    pub(super) limits: DecodeLimits,
    pub(super) incoming: IncomingStreams,
}

impl VerbContext {
    /// The schema, then `batches`, in the form that the call asked for. `advertised` must be an expanded schema.
    pub(super) fn batches<E>(
        &self,
        advertised: SchemaRef,
        batches: BoxStream<'static, Result<RecordBatch, E>>,
    ) -> BoxStream<'static, Result<FlightMessage, Status>>
    where
        E: Into<Status> + Send + 'static,
    {
        batch_stream(advertised, self.call.compression, KEEP_ALIVE_EVERY, batches)
    }

    /// What a ticket signed here stands for, plain or as Flight SQL wraps it; `None` when it is not of that kind.
    pub(super) fn signed_ticket(
        &self,
        ticket: &Bytes,
    ) -> Option<Result<OpenedTicket, FlightError>> {
        let signed = if Signer::is_ticket(ticket) {
            ticket.clone()
        } else {
            sql::signed_part(ticket)?
        };
        Some(self.signer.open_ticket(&signed, SystemTime::now()))
    }
}

/// How many streams of rows may come in at a time: what each of them holds adds up.
#[derive(Debug, Clone)]
pub(super) struct IncomingStreams {
    permits: Arc<Semaphore>,
    limit: usize,
    option: &'static str,
}

impl IncomingStreams {
    /// A place for one more, kept until it is dropped; nobody waits for one.
    pub(super) fn admit(&self) -> Result<OwnedSemaphorePermit, FlightError> {
        Arc::clone(&self.permits)
            .try_acquire_owned()
            .map_err(|_| FlightError::TooManyStreams {
                limit: self.limit,
                option: self.option,
            })
    }
}

/// Arrow Flight as this server speaks it.
#[derive(Debug)]
pub(super) struct VolaryService {
    context: VerbContext,
}

impl VolaryService {
    pub(super) fn new(services: Services, config: FlightConfig) -> Self {
        Self {
            context: VerbContext {
                services,
                call: CallOptions::default(),
                reads: Reads::default(),
                direct_endpoints: config.direct_endpoints,
                incoming: IncomingStreams {
                    permits: Arc::new(Semaphore::new(config.incoming_streams_max)),
                    limit: config.incoming_streams_max,
                    option: config.incoming_streams_option,
                },
                signer: Signer::new(config.ticket_key, config.ticket_lifetime),
                limits: DecodeLimits {
                    message_bytes_max: config.message_bytes_max,
                    batch_bytes_max: (config.message_bytes_max as u64)
                        .saturating_mul(DECODED_RATIO),
                    option: config.message_bytes_option,
                },
            },
        }
    }

    /// DoGet, as the port calls it.
    pub(super) async fn get(
        &self,
        request: Request<Ticket>,
    ) -> Result<Response<Answers<FlightMessage>>, Status> {
        let (call, context) = self.begin("do_get", request.metadata())?;
        let ticket = request.into_inner();
        call.stream(verbs::do_get::do_get(&context, ticket)).await
    }

    /// DoExchange, as the port calls it.
    pub(super) async fn exchange(
        &self,
        request: Request<Streaming<FlightData>>,
    ) -> Result<Response<Answers<FlightMessage>>, Status> {
        let (call, context) = self.begin("do_exchange", request.metadata())?;
        let stream = request.into_inner();
        call.stream(verbs::do_exchange::do_exchange(&context, stream))
            .await
    }

    /// Counts the call as running work, gives it an id and a span, and logs how it went.
    fn begin(
        &self,
        verb: &'static str,
        metadata: &MetadataMap,
    ) -> Result<(Call, VerbContext), Status> {
        let guard = self.context.services.shutdown.guard();
        let timer = request_started(verb);
        if self.context.services.shutdown.has_begun() {
            timer.finish(code_name(Code::Unavailable));
            return Err(FlightError::Stopping.into());
        }
        let header = |name: &str| metadata.get(name).and_then(|value| value.to_str().ok());
        let id = header("x-request-id")
            .filter(|id| id.len() <= 128 && id.bytes().all(|byte| byte.is_ascii_graphic()))
            .map_or_else(|| uuid::Uuid::now_v7().to_string(), ToOwned::to_owned);
        let trace = Trace::of(metadata);
        let span = match trace.as_ref().and_then(Trace::parent) {
            Some(trace) => tracing::info_span!(
                "flight",
                verb,
                request_id = %id,
                trace_id = trace.trace_id,
                parent_span_id = trace.parent_id,
            ),
            None => tracing::info_span!("flight", verb, request_id = %id),
        };
        let options = CallOptions::of(
            metadata,
            &self.context.signer,
            &self.context.reads,
            SystemTime::now(),
        );
        let options = match options {
            Ok(options) => options,
            Err(error) => {
                let status = Status::from(error);
                timer.finish(code_name(status.code()));
                return Err(status);
            }
        };
        let context = VerbContext {
            call: options.clone(),
            ..self.context.clone()
        };
        let call = Call {
            id,
            span,
            trace,
            options,
            timer,
            guard,
        };
        Ok((call, context))
    }
}

/// One call under way.
struct Call {
    id: String,
    span: Span,
    trace: Option<Trace>,
    options: CallOptions,
    timer: RequestTimer,
    guard: TaskTrackerToken,
}

impl Call {
    /// Runs a verb that answers once.
    async fn answer<T>(
        self,
        work: impl Future<Output = Result<T, Status>>,
    ) -> Result<Response<T>, Status> {
        let Self {
            id,
            span,
            trace,
            options,
            timer,
            guard,
        } = self;
        let work = trace::within(trace.clone(), unless_it_panics(&id, work));
        let result = work.instrument(span.clone()).await;
        timer.finish(code_name(
            result.as_ref().err().map_or(Code::Ok, Status::code),
        ));
        drop(guard);
        span.in_scope(|| log(&result));
        let mut response = Response::new(result?);
        options.answer(response.metadata_mut());
        mark(response.metadata_mut(), &id);
        Ok(response)
    }

    /// Runs a verb that answers with a stream; the call lasts until the stream ends or is dropped.
    async fn stream<T: Send + 'static>(
        self,
        work: impl Future<Output = Result<BoxStream<'static, Result<T, Status>>, Status>>,
    ) -> Result<Response<BoxStream<'static, Result<T, Status>>>, Status> {
        let Self {
            id,
            span,
            trace,
            options,
            timer,
            guard,
        } = self;
        let work = trace::within(trace.clone(), unless_it_panics(&id, work));
        let result = work.instrument(span.clone()).await;
        span.in_scope(|| log(&result));
        let inner = match result {
            Ok(inner) => {
                let id = id.clone();
                let caught = AssertUnwindSafe(inner).catch_unwind();
                caught
                    .map(move |next| next.unwrap_or_else(|panic| Err(panicked(&id, &*panic))))
                    .boxed()
            }
            Err(status) => {
                timer.finish(code_name(status.code()));
                return Err(status);
            }
        };
        let stream = CallStream {
            inner,
            span,
            trace,
            timer: Some(timer),
            _guard: guard,
        };
        let mut response = Response::new(stream.boxed());
        options.answer(response.metadata_mut());
        mark(response.metadata_mut(), &id);
        Ok(response)
    }
}

/// A verb that panics ends its own call, with a status that the caller can report.
async fn unless_it_panics<T>(
    id: &str,
    work: impl Future<Output = Result<T, Status>>,
) -> Result<T, Status> {
    let caught = AssertUnwindSafe(work).catch_unwind().await;
    caught.unwrap_or_else(|panic| Err(panicked(id, &*panic)))
}

fn panicked(id: &str, panic: &(dyn Any + Send)) -> Status {
    let words = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    tracing::error!(
        request_id = id,
        panic = words.unwrap_or("without words"),
        "a request panicked"
    );
    FlightError::Panicked {
        request_id: id.to_owned(),
    }
    .into()
}

fn log<T>(result: &Result<T, Status>) {
    match result {
        Ok(_) => tracing::debug!("answered"),
        Err(status) => {
            tracing::debug!(code = ?status.code(), message = status.message(), "refused");
        }
    }
}

fn mark(metadata: &mut MetadataMap, id: &str) {
    if let Ok(id) = id.parse() {
        metadata.insert("x-request-id", id);
    }
}

/// A verb's stream that keeps its call counted and its span entered.
struct CallStream<T> {
    inner: BoxStream<'static, Result<T, Status>>,
    span: Span,
    trace: Option<Trace>,
    /// Taken when the stream ends; a stream that is dropped before counts as cancelled.
    timer: Option<RequestTimer>,
    _guard: TaskTrackerToken,
}

impl<T> Stream for CallStream<T> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let _entered = this.span.enter();
        let inner = &mut this.inner;
        let next = match &this.trace {
            None => inner.poll_next_unpin(context),
            some => trace::within_now(some.clone(), || inner.poll_next_unpin(context)),
        };
        let code = match &next {
            Poll::Ready(Some(Err(status))) => {
                tracing::debug!(code = ?status.code(), message = status.message(), "stream ended");
                Some(status.code())
            }
            Poll::Ready(None) => Some(Code::Ok),
            _ => None,
        };
        if let Some(code) = code
            && let Some(timer) = this.timer.take()
        {
            timer.finish(code_name(code));
        }
        next
    }
}

type Answers<T> = BoxStream<'static, Result<T, Status>>;

/// Messages as the trait has them. The port answers DoGet and DoExchange itself and does not come this way.
fn whole(messages: Answers<FlightMessage>) -> Answers<FlightData> {
    messages.map_ok(FlightData::from).boxed()
}

#[tonic::async_trait]
impl FlightService for VolaryService {
    type HandshakeStream = Answers<HandshakeResponse>;
    type ListFlightsStream = Answers<FlightInfo>;
    type DoGetStream = Answers<FlightData>;
    type DoPutStream = Answers<PutResult>;
    type DoExchangeStream = Answers<FlightData>;
    type DoActionStream = Answers<arrow_flight::Result>;
    type ListActionsStream = Answers<ActionType>;

    async fn handshake(
        &self,
        request: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Self::HandshakeStream>, Status> {
        let (call, _) = self.begin("handshake", request.metadata())?;
        let token = verbs::handshake::token(request.metadata());
        let answers = verbs::handshake::handshake(request.into_inner(), token.clone());
        let mut response = call.stream(answers).await?;
        verbs::handshake::grant(response.metadata_mut(), token.as_deref());
        Ok(response)
    }

    async fn list_flights(
        &self,
        request: Request<Criteria>,
    ) -> Result<Response<Self::ListFlightsStream>, Status> {
        let (call, context) = self.begin("list_flights", request.metadata())?;
        let criteria = request.into_inner();
        call.stream(verbs::list_flights::list_flights(&context, criteria))
            .await
    }

    async fn get_flight_info(
        &self,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let (call, context) = self.begin("get_flight_info", request.metadata())?;
        let descriptor = request.into_inner();
        call.answer(verbs::get_flight_info::get_flight_info(
            &context, descriptor,
        ))
        .await
    }

    async fn poll_flight_info(
        &self,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<PollInfo>, Status> {
        let (call, context) = self.begin("poll_flight_info", request.metadata())?;
        let descriptor = request.into_inner();
        call.answer(verbs::poll_flight_info::poll_flight_info(
            &context, descriptor,
        ))
        .await
    }

    async fn get_schema(
        &self,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<SchemaResult>, Status> {
        let (call, context) = self.begin("get_schema", request.metadata())?;
        let descriptor = request.into_inner();
        call.answer(verbs::get_schema::get_schema(&context, descriptor))
            .await
    }

    async fn do_get(
        &self,
        request: Request<Ticket>,
    ) -> Result<Response<Self::DoGetStream>, Status> {
        Ok(self.get(request).await?.map(whole))
    }

    async fn do_put(
        &self,
        request: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoPutStream>, Status> {
        let (call, context) = self.begin("do_put", request.metadata())?;
        let stream = request.into_inner();
        call.stream(verbs::do_put::do_put(&context, stream)).await
    }

    async fn do_exchange(
        &self,
        request: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoExchangeStream>, Status> {
        Ok(self.exchange(request).await?.map(whole))
    }

    async fn do_action(
        &self,
        request: Request<Action>,
    ) -> Result<Response<Self::DoActionStream>, Status> {
        let (call, context) = self.begin("do_action", request.metadata())?;
        let action = request.into_inner();
        call.stream(verbs::do_action::do_action(&context, action))
            .await
    }

    async fn list_actions(
        &self,
        request: Request<Empty>,
    ) -> Result<Response<Self::ListActionsStream>, Status> {
        let (call, _) = self.begin("list_actions", request.metadata())?;
        call.stream(async { Ok(verbs::list_actions::list_actions()) })
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call() -> Call {
        Call {
            id: "request-7".to_owned(),
            span: Span::none(),
            trace: None,
            options: CallOptions::default(),
            timer: request_started("do_get"),
            guard: Shutdown::new().guard(),
        }
    }

    fn is_of_the_panic(status: &Status) {
        assert_eq!(status.code(), Code::Internal);
        assert!(status.message().contains("request-7"), "{status}");
    }

    #[tokio::test]
    async fn a_verb_that_panics_ends_its_own_call_with_its_request_id() {
        let answered: Result<Response<()>, Status> =
            call().answer(async { panic!("on purpose") }).await;
        is_of_the_panic(&answered.unwrap_err());

        let begun: Result<Response<Answers<()>>, Status> =
            call().stream(async { panic!("on {}", "purpose") }).await;
        is_of_the_panic(&begun.err().unwrap());

        let numbers = futures::stream::iter(0..3).map(|number| {
            assert!(number < 2, "on purpose");
            Ok(number)
        });
        let streaming = call().stream(async { Ok(numbers.boxed()) }).await.unwrap();
        let mut streaming = streaming.into_inner();
        assert_eq!(streaming.next().await.unwrap().unwrap(), 0);
        assert_eq!(streaming.next().await.unwrap().unwrap(), 1);
        is_of_the_panic(&streaming.next().await.unwrap().unwrap_err());
        assert!(streaming.next().await.is_none());
    }
}
