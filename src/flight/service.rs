//! The port: per call a request id, a span and a status; then the verb.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use arrow_flight::flight_service_server::{FlightService, FlightServiceServer};
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo,
    HandshakeRequest, HandshakeResponse, PollInfo, PutResult, SchemaResult, Ticket,
};
use futures::stream::BoxStream;
use futures::{FutureExt, Stream, StreamExt, TryStreamExt};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tonic::metadata::MetadataMap;
use tonic::service::Routes;
use tonic::{Code, Request, Response, Status, Streaming};
use tracing::{Instrument, Span};

use super::call::CallOptions;
use super::codec::FlightMessage;
use super::error::FlightError;
use super::http2;
use super::incoming::connections;
use super::peer::PeerClient;
use super::port::FlightPort;
use super::proto::DESCRIPTORS;
use super::status::code_name;
use super::trace::{self, Trace};
use super::verbs::{Ours, Verbs, withdrawn};
pub(super) use super::wire::VerbContext;
use super::wire::Wire;
use crate::access::ServerTls;
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
    /// `None`: the port is not encrypted.
    pub tls: Option<Arc<ServerTls>>,
}

impl std::fmt::Debug for FlightConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FlightConfig")
            .field("message_bytes_max", &self.message_bytes_max)
            .field("incoming_streams_max", &self.incoming_streams_max)
            .field("ticket_lifetime", &self.ticket_lifetime)
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}

impl FlightConfig {
    /// 256 MiB messages, 64 incoming streams, tickets that last an hour, no TLS.
    pub fn new(ticket_key: [u8; 32]) -> Self {
        Self {
            message_bytes_max: 256 << 20,
            message_bytes_option: "--max-message-size",
            incoming_streams_max: 64,
            incoming_streams_option: "--max-incoming-streams",
            direct_endpoints: false,
            ticket_key,
            ticket_lifetime: Duration::from_secs(3600),
            tls: None,
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

/// Serves the port until the shutdown begins and the last stream has ended.
pub async fn serve(
    listener: TcpListener,
    services: Services,
    config: FlightConfig,
) -> Result<(), FlightError> {
    let shutdown = services.shutdown.clone();
    let wire = Wire::new(&config);
    let _asking = AbortOnDropHandle::new(tokio::spawn(withdrawn::keep_asking(
        services.clone(),
        wire.withdrawn.clone(),
    )));
    let verbs = Arc::new(Ours::new(services, config.direct_endpoints));
    serve_wire(listener, verbs, wire, &config, shutdown).await
}

/// Serves `verbs` as the port serves ours.
pub async fn serve_verbs(
    listener: TcpListener,
    verbs: Arc<dyn Verbs>,
    config: &FlightConfig,
    shutdown: Shutdown,
) -> Result<(), FlightError> {
    serve_wire(listener, verbs, Wire::new(config), config, shutdown).await
}

async fn serve_wire(
    listener: TcpListener,
    verbs: Arc<dyn Verbs>,
    wire: Wire,
    config: &FlightConfig,
    shutdown: Shutdown,
) -> Result<(), FlightError> {
    let failed = |reason: String| FlightError::Internal {
        doing: "serving the gRPC port",
        reason,
    };
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
    let service = VolaryService::new(verbs, wire, shutdown.clone());
    let mut others = Routes::builder();
    others
        .add_service(health_service)
        .add_service(reflection)
        .add_service(reflection_alpha);
    let port = FlightPort::new(service, others, config.message_bytes_max);

    let incoming = connections(listener, config.tls.clone());
    let drain = async move {
        shutdown.begun().await;
        health
            .set_service_status("", tonic_health::ServingStatus::NotServing)
            .await;
        health
            .set_not_serving::<FlightServiceServer<VolaryService>>()
            .await;
    };
    http2::serve(incoming, port, drain).await;
    Ok(())
}

/// Arrow Flight as the port speaks it: around each verb its id, its span, its measures and what becomes of a panic.
#[derive(Debug)]
pub(super) struct VolaryService {
    verbs: Arc<dyn Verbs>,
    wire: Wire,
    shutdown: Shutdown,
}

impl VolaryService {
    pub(super) fn new(verbs: Arc<dyn Verbs>, wire: Wire, shutdown: Shutdown) -> Self {
        Self {
            verbs,
            wire,
            shutdown,
        }
    }

    /// DoGet, as the port calls it.
    pub(super) async fn get(
        &self,
        request: Request<Ticket>,
    ) -> Result<Response<Answers<FlightMessage>>, Status> {
        let (call, wire) = self.begin("do_get", request.metadata())?;
        call.stream(self.verbs.do_get(&wire, request)).await
    }

    /// DoExchange, as the port calls it.
    pub(super) async fn exchange(
        &self,
        request: Request<Streaming<FlightData>>,
    ) -> Result<Response<Answers<FlightMessage>>, Status> {
        let (call, wire) = self.begin("do_exchange", request.metadata())?;
        call.stream(self.verbs.do_exchange(&wire, request)).await
    }

    /// Counts the call as running work, gives it an id and a span, and logs how it went.
    fn begin(&self, verb: &'static str, metadata: &MetadataMap) -> Result<(Call, Wire), Status> {
        let guard = self.shutdown.guard();
        let timer = request_started(verb);
        if self.shutdown.has_begun() {
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
            &self.wire.signer,
            &self.wire.withdrawn,
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
        let wire = Wire {
            call: options.clone(),
            ..self.wire.clone()
        };
        let call = Call {
            id,
            span,
            trace,
            options,
            timer,
            guard,
        };
        Ok((call, wire))
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
        work: impl Future<Output = Result<Response<T>, Status>>,
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
        marked(result, &options, &id)
    }

    /// Runs a verb that answers with a stream; the call lasts until the stream ends or is dropped.
    async fn stream<T: Send + 'static>(
        self,
        work: impl Future<Output = Result<Response<Answers<T>>, Status>>,
    ) -> Result<Response<Answers<T>>, Status> {
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
        let response = match result {
            Ok(response) => response,
            Err(status) => {
                timer.finish(code_name(status.code()));
                return marked(Err(status), &options, &id);
            }
        };
        let caller = id.clone();
        let response = response.map(|inner| {
            let caught = AssertUnwindSafe(inner).catch_unwind();
            let inner = caught
                .map(move |next| next.unwrap_or_else(|panic| Err(panicked(&caller, &*panic))))
                .boxed();
            let stream = CallStream {
                inner,
                span,
                trace,
                timer: Some(timer),
                _guard: guard,
            };
            stream.boxed()
        });
        marked(Ok(response), &options, &id)
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

/// The answer or the refusal, with the call's id among its headers; an answer also has the cookie that the verb set.
fn marked<T>(
    mut result: Result<Response<T>, Status>,
    options: &CallOptions,
    id: &str,
) -> Result<Response<T>, Status> {
    if let Ok(response) = &mut result {
        options.answer(response.metadata_mut());
    }
    if let Ok(id) = id.parse() {
        match &mut result {
            Ok(response) => response.metadata_mut().insert("x-request-id", id),
            Err(status) => status.metadata_mut().insert("x-request-id", id),
        };
    }
    result
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

/// The messages of a verb that answers with a stream.
pub type Answers<T> = BoxStream<'static, Result<T, Status>>;

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
        let (call, wire) = self.begin("handshake", request.metadata())?;
        call.stream(self.verbs.handshake(&wire, request)).await
    }

    async fn list_flights(
        &self,
        request: Request<Criteria>,
    ) -> Result<Response<Self::ListFlightsStream>, Status> {
        let (call, wire) = self.begin("list_flights", request.metadata())?;
        call.stream(self.verbs.list_flights(&wire, request)).await
    }

    async fn get_flight_info(
        &self,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let (call, wire) = self.begin("get_flight_info", request.metadata())?;
        call.answer(self.verbs.get_flight_info(&wire, request))
            .await
    }

    async fn poll_flight_info(
        &self,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<PollInfo>, Status> {
        let (call, wire) = self.begin("poll_flight_info", request.metadata())?;
        call.answer(self.verbs.poll_flight_info(&wire, request))
            .await
    }

    async fn get_schema(
        &self,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<SchemaResult>, Status> {
        let (call, wire) = self.begin("get_schema", request.metadata())?;
        call.answer(self.verbs.get_schema(&wire, request)).await
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
        let (call, wire) = self.begin("do_put", request.metadata())?;
        call.stream(self.verbs.do_put(&wire, request)).await
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
        let (call, wire) = self.begin("do_action", request.metadata())?;
        call.stream(self.verbs.do_action(&wire, request)).await
    }

    async fn list_actions(
        &self,
        request: Request<Empty>,
    ) -> Result<Response<Self::ListActionsStream>, Status> {
        let (call, wire) = self.begin("list_actions", request.metadata())?;
        call.stream(self.verbs.list_actions(&wire, request)).await
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

    #[tokio::test]
    async fn a_call_has_its_id_among_the_headers_whether_it_is_answered_or_refused() {
        let answered = call().answer(async { Ok(Response::new(())) }).await;
        let refused: Result<Response<()>, _> = call()
            .answer(async { Err(Status::not_found("nothing")) })
            .await;
        let unread: Result<Response<Answers<()>>, _> = call()
            .stream(async { Err(Status::not_found("nothing")) })
            .await;
        let headers = [
            answered.unwrap().metadata().clone(),
            refused.unwrap_err().metadata().clone(),
            unread.err().unwrap().metadata().clone(),
        ];
        for headers in headers {
            assert_eq!(headers.get("x-request-id").unwrap(), "request-7");
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
        let streaming = call()
            .stream(async { Ok(Response::new(numbers.boxed())) })
            .await
            .unwrap();
        let mut streaming = streaming.into_inner();
        assert_eq!(streaming.next().await.unwrap().unwrap(), 0);
        assert_eq!(streaming.next().await.unwrap().unwrap(), 1);
        is_of_the_panic(&streaming.next().await.unwrap().unwrap_err());
        assert!(streaming.next().await.is_none());
    }
}
