//! The client that servers of one cluster use on each other: training's network over DoExchange, and forwarded actions.
//!
//! One channel per server, kept; messages of any size inside the cluster; a server that no longer answers pings is
//! seen within [`PING_EVERY`] + [`PING_TIMEOUT`], so nothing waits for it for longer.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::{Action, FlightData, FlightDescriptor};
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use parking_lot::Mutex;
use prost::Message;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};

use super::codec::FlightMessage;
use super::command::Command;
use super::error::FlightError;
use super::outgoing::{Security, innermost};
use super::proto::Form;
use super::proto::v1::peer::{
    ListWithdrawn, OpenGradientStream, Piece, StartWorker as StartWorkerMessage, Withdrawn,
    WorkerEvent as WorkerEventMessage,
};
use super::status::fault_of;
use super::trace;
use crate::access::ServerTls;
use crate::catalog::JobId;
use crate::cluster::{Cluster, Member, MemberState};
use crate::support::fault::Fault;
use crate::training::{
    GradientMessage, GradientStream, PeerNetwork, StartWorker, TrainingError, TrainingPeer,
    WorkerEvent,
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
pub(super) const PING_EVERY: Duration = Duration::from_secs(2);
pub(super) const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// One connection carries all streams to a server, so its window holds several busy ones.
const STREAM_WINDOW_BYTES: u32 = 16 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 64 << 20;

/// Gradient messages held in each direction of a stream; the sender waits beyond.
const GRADIENT_MESSAGES_MAX: usize = 16;

/// On requests that one server passes to another, which must answer and not pass them on.
pub(super) const FORWARDED: &str = "x-volary-forwarded";

/// Connections to the other servers of the cluster.
#[derive(Debug)]
pub struct PeerClient {
    cluster: Arc<Cluster>,
    security: Security,
    channels: Mutex<HashMap<String, Channel>>,
}

impl PeerClient {
    /// With `tls` every server of the cluster is called over TLS, at the name that its certificate has to be for.
    pub fn new(cluster: Arc<Cluster>, tls: Option<Arc<ServerTls>>) -> Arc<Self> {
        Arc::new(Self {
            cluster,
            security: Security::server(tls),
            channels: Mutex::default(),
        })
    }

    /// The server of that name, as the cluster sees it.
    pub(super) fn member(&self, name: &str) -> Option<Member> {
        self.cluster
            .members()
            .into_iter()
            .find(|member| member.name == name)
    }

    /// Passes an action to another server and answers with what that one answers.
    pub(super) async fn forward(
        &self,
        server: &Member,
        action: Action,
    ) -> Result<Streaming<arrow_flight::Result>, Status> {
        self.forward_as(server, action, None).await
    }

    /// Passes an action on with the cookie that the client showed.
    pub(super) async fn forward_as(
        &self,
        server: &Member,
        action: Action,
        cookie: Option<&str>,
    ) -> Result<Streaming<arrow_flight::Result>, Status> {
        let mut request = Request::new(action);
        let metadata = request.metadata_mut();
        metadata.insert(FORWARDED, tonic::metadata::MetadataValue::from_static("1"));
        if let Some(Ok(cookie)) = cookie.map(str::parse) {
            metadata.insert("cookie", cookie);
        }
        trace::pass_on(metadata);
        let mut client = self.client(&server.name, &server.address)?;
        let answer = client.do_action(request).await;
        Ok(answer
            .map_err(|status| unheard(server, status))?
            .into_inner())
    }

    /// Where a client reads from the server at `HOST:PORT`.
    pub(super) fn location(&self, address: &str) -> String {
        self.security.location(address)
    }

    /// What another server has withdrawn; `own_address` is where it tells this one of what it withdraws later.
    pub(super) async fn list_withdrawn(
        &self,
        server: &Member,
        own_address: &str,
    ) -> Result<BoxStream<'static, Result<Withdrawn, Status>>, Status> {
        let asked = descriptor_message(&Command::ListWithdrawn(ListWithdrawn {
            address: own_address.to_owned(),
        }));
        let mut client = self.client(&server.name, &server.address)?;
        let asked = futures::stream::once(async { asked });
        let answers = client.do_exchange(asked).await?.into_inner();
        let read = |answer: Result<FlightData, Status>| {
            Withdrawn::decode(answer?.app_metadata).map_err(|error| {
                Status::internal(format!("what was withdrawn cannot be read: {error}"))
            })
        };
        Ok(answers.map(read).boxed())
    }

    fn client(
        &self,
        name: &str,
        address: &str,
    ) -> Result<FlightServiceClient<Channel>, FlightError> {
        let mut channels = self.channels.lock();
        let channel = match channels.get(address) {
            Some(channel) => channel.clone(),
            None => {
                let endpoint = endpoint(self.security.uri(address)).map_err(|error| {
                    FlightError::PeerUnreachable {
                        server: name.to_owned(),
                        address: address.to_owned(),
                        reason: error.to_string(),
                    }
                })?;
                let channel = self.security.connect_lazily(&endpoint);
                // Servers that are gone leave a channel behind; a cluster of a few hundred makes no difference.
                if channels.len() >= CHANNELS_MAX {
                    channels.clear();
                }
                channels.insert(address.to_owned(), channel.clone());
                channel
            }
        };
        Ok(FlightServiceClient::new(channel)
            .max_decoding_message_size(usize::MAX)
            .max_encoding_message_size(usize::MAX))
    }

    async fn exchange(
        &self,
        peer: &TrainingPeer,
        messages: impl Stream<Item = FlightData> + Send + 'static,
    ) -> Result<Streaming<FlightData>, TrainingError> {
        let lost = |reason: String| TrainingError::ServerLost {
            server: peer.name.clone(),
            reason,
        };
        let mut client = self
            .client(&peer.name, &peer.address)
            .map_err(|error| lost(error.to_string()))?;
        let mut request = Request::new(messages);
        trace::pass_on(request.metadata_mut());
        let answer = client
            .do_exchange(request)
            .await
            .map_err(|status| training_error(&peer.name, &status))?;
        Ok(answer.into_inner())
    }
}

/// Channels kept at most.
const CHANNELS_MAX: usize = 1024;

fn endpoint(uri: String) -> Result<Endpoint, tonic::transport::Error> {
    Ok(Endpoint::from_shared(uri)?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES))
}

/// A server that could not be connected to: its status is made here and keeps the reason inside.
fn unheard(server: &Member, status: Status) -> Status {
    use std::error::Error as _;
    if status.source().is_none() {
        return status;
    }
    FlightError::PeerUnreachable {
        server: server.name.clone(),
        address: server.address.clone(),
        reason: innermost(&status),
    }
    .into()
}

/// A server that refuses says why; one that cannot be asked is lost.
fn training_error(server: &str, status: &Status) -> TrainingError {
    match fault_of(status.code()) {
        Fault::Internal if status.code() == tonic::Code::Internal => TrainingError::Internal {
            reason: format!("server {server:?}: {}", status.message()),
        },
        Fault::Unavailable | Fault::Cancelled | Fault::Internal => TrainingError::ServerLost {
            server: server.to_owned(),
            reason: match (std::error::Error::source(status), status.message()) {
                (Some(_), _) => innermost(status),
                (None, "") => status.code().description().to_owned(),
                (None, message) => message.to_owned(),
            },
        },
        _ => TrainingError::Internal {
            reason: format!("server {server:?}: {}", status.message()),
        },
    }
}

#[async_trait]
impl PeerNetwork for PeerClient {
    fn peers(&self) -> Vec<TrainingPeer> {
        self.cluster
            .members()
            .into_iter()
            .filter(|member| member.state == MemberState::Ready)
            .map(|member| TrainingPeer {
                name: member.name,
                address: member.address,
                cores: member.cores,
            })
            .collect()
    }

    fn alive(&self) -> BTreeSet<String> {
        self.cluster
            .members()
            .into_iter()
            .filter(|member| member.state != MemberState::Dead)
            .map(|member| member.name)
            .collect()
    }

    async fn reaches(&self, name: &str) -> bool {
        /// A machine that is gone answers nothing.
        const TIMEOUT: Duration = Duration::from_secs(2);
        let members = self.cluster.members();
        let Some(member) = members.iter().find(|member| member.name == name) else {
            return false;
        };
        let connecting = tokio::net::TcpStream::connect(&member.address);
        matches!(tokio::time::timeout(TIMEOUT, connecting).await, Ok(Ok(_)))
    }

    fn own_name(&self) -> &str {
        self.cluster.own_name()
    }

    async fn lost(&self, name: &str) {
        let mut view = self.cluster.watch();
        let alive = |members: &Vec<Member>| {
            members
                .iter()
                .any(|member| member.name == name && member.state != MemberState::Dead)
        };
        // An `Err` means that the cluster itself has stopped, and with it every peer.
        let _ = view.wait_for(|members| !alive(members)).await;
    }

    async fn start_worker(
        &self,
        peer: &TrainingPeer,
        start: StartWorker,
    ) -> Result<BoxStream<'static, Result<WorkerEvent, TrainingError>>, TrainingError> {
        let open = descriptor_message(&Command::StartWorker(start_message(start)));
        // The request stays open for as long as the answer is read: its end tells the worker to stop.
        let token = CancellationToken::new();
        let guard = token.clone().drop_guard();
        let messages = async_stream::stream! {
            yield open;
            token.cancelled().await;
        };
        let answers = self.exchange(peer, messages).await?;
        Ok(worker_events(peer.name.clone(), answers, guard))
    }

    async fn open_gradients(
        &self,
        peer: &TrainingPeer,
        job: JobId,
        generation: u64,
        from_worker: u32,
        to_worker: u32,
    ) -> Result<GradientStream, TrainingError> {
        let open = descriptor_message(&Command::OpenGradientStream(OpenGradientStream {
            job: job.to_string(),
            generation,
            from_worker,
            to_worker,
        }));
        let (outgoing, messages) = mpsc::channel(GRADIENT_MESSAGES_MAX);
        let requests = futures::stream::once(async { open })
            .chain(gradient_messages(messages).map(FlightData::from));
        let mut answers = self.exchange(peer, requests).await?;
        let (sender, incoming) = mpsc::channel(GRADIENT_MESSAGES_MAX);
        let server = peer.name.clone();
        tokio::spawn(async move {
            loop {
                let next = tokio::select! {
                    next = answers.message() => next,
                    () = sender.closed() => return,
                };
                let message = match next {
                    Ok(Some(data)) => gradient_of(data),
                    Ok(None) => return,
                    Err(status) => Err(training_error(&server, &status)),
                };
                let failed = message.is_err();
                if sender.send(message).await.is_err() || failed {
                    return;
                }
            }
        });
        Ok(GradientStream { outgoing, incoming })
    }
}

fn worker_events(
    server: String,
    mut answers: Streaming<FlightData>,
    guard: DropGuard,
) -> BoxStream<'static, Result<WorkerEvent, TrainingError>> {
    async_stream::stream! {
        let _guard = guard;
        loop {
            match answers.message().await {
                Ok(Some(data)) => match WorkerEventMessage::decode(data.app_metadata) {
                    Ok(event) => yield Ok(WorkerEvent(event.body)),
                    Err(error) => {
                        yield Err(TrainingError::Internal {
                            reason: format!("server {server:?} sent an event that cannot be read: {error}"),
                        });
                        return;
                    }
                },
                Ok(None) => return,
                Err(status) => {
                    yield Err(training_error(&server, &status));
                    return;
                }
            }
        }
    }
    .boxed()
}

fn descriptor_message(command: &Command) -> FlightData {
    FlightData {
        flight_descriptor: Some(FlightDescriptor::new_cmd(command.encode(Form::Any))),
        ..FlightData::default()
    }
}

fn start_message(start: StartWorker) -> StartWorkerMessage {
    StartWorkerMessage {
        job: start.job.to_string(),
        generation: start.generation,
        worker: start.worker,
        servers: start
            .servers
            .iter()
            .map(|peer| peer.address.clone())
            .collect(),
        server_names: start.servers.iter().map(|peer| peer.name.clone()).collect(),
        cores: start.servers.iter().map(|peer| peer.cores).collect(),
        plan: start.plan,
    }
}

/// The coordinator's word as it arrived.
pub(super) fn start_of(message: StartWorkerMessage) -> Result<StartWorker, FlightError> {
    let workers = message.servers.len();
    if message.server_names.len() != workers || message.cores.len() != workers {
        return Err(FlightError::BadField {
            message: "StartWorker",
            field: "servers",
            received: format!("{workers} addresses"),
            hint: "names, addresses and cores go together",
        });
    }
    Ok(StartWorker {
        job: super::convert::job_id(&message.job)?,
        generation: message.generation,
        worker: message.worker,
        servers: message
            .server_names
            .into_iter()
            .zip(message.servers)
            .zip(message.cores)
            .map(|((name, address), cores)| TrainingPeer {
                name,
                address,
                cores,
            })
            .collect(),
        plan: message.plan,
    })
}

/// A worker's word on its way to the coordinator.
pub(super) fn event_message(event: WorkerEvent) -> FlightMessage {
    FlightMessage {
        app_metadata: WorkerEventMessage { body: event.0 }.encode_to_vec().into(),
        ..FlightMessage::default()
    }
}

/// Gradients on their way out, until the sender is dropped.
pub(super) fn gradient_messages(
    mut messages: mpsc::Receiver<GradientMessage>,
) -> impl Stream<Item = FlightMessage> + Send + 'static {
    futures::stream::poll_fn(move |context| messages.poll_recv(context)).map(|message| {
        FlightMessage {
            app_metadata: Bytes::from(
                Piece {
                    step: message.step,
                    node: message.node,
                    offset: message.offset,
                    last: message.last,
                    values: (message.values.len() / 4) as u64,
                }
                .encode_to_vec(),
            ),
            data_body: vec![message.values],
            ..FlightMessage::default()
        }
    })
}

/// A gradient as it arrived.
pub(super) fn gradient_of(data: FlightData) -> Result<GradientMessage, TrainingError> {
    let broken = |reason: String| TrainingError::Internal {
        reason: format!("a gradient message cannot be read: {reason}"),
    };
    let piece = Piece::decode(data.app_metadata).map_err(|error| broken(error.to_string()))?;
    if piece.values.checked_mul(4) != Some(data.data_body.len() as u64) {
        return Err(broken(format!(
            "{} values in {} bytes",
            piece.values,
            data.data_body.len()
        )));
    }
    Ok(GradientMessage {
        step: piece.step,
        node: piece.node,
        offset: piece.offset,
        last: piece.last,
        values: data.data_body,
    })
}

/// Both ends of a gradient stream that another server opened: what training holds, and the answers to send.
pub(super) fn accepted_gradients(
    mut requests: super::codec::Inbound,
) -> (
    GradientStream,
    BoxStream<'static, Result<FlightMessage, Status>>,
) {
    let (outgoing, answers) = mpsc::channel(GRADIENT_MESSAGES_MAX);
    let (sender, incoming) = mpsc::channel(GRADIENT_MESSAGES_MAX);
    let reader = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(async move {
        loop {
            let message = match requests.message().await {
                Ok(Some(data)) => gradient_of(data),
                Ok(None) => return,
                Err(status) => Err(training_error("that opened the gradient stream", &status)),
            };
            let failed = message.is_err();
            if sender.send(message).await.is_err() || failed {
                return;
            }
        }
    }));
    let answers = gradient_messages(answers).map(move |message| {
        // The reader lives as long as the answers do: a dropped call closes both directions.
        let _ = &reader;
        Ok(message)
    });
    (GradientStream { outgoing, incoming }, answers.boxed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_gradient_arrives_as_it_left() {
        let (sender, receiver) = mpsc::channel(1);
        let message = GradientMessage {
            step: 7,
            node: 3,
            offset: 1 << 40,
            last: true,
            values: Bytes::from_static(&[0, 0, 128, 63, 0, 0, 0, 64]),
        };
        sender.send(message.clone()).await.unwrap();
        drop(sender);
        let sent: Vec<FlightData> = gradient_messages(receiver)
            .map(FlightData::from)
            .collect()
            .await;
        assert_eq!(sent.len(), 1);
        assert_eq!(gradient_of(sent[0].clone()).unwrap(), message);
        let mut short = sent[0].clone();
        short.data_body = short.data_body.slice(..4);
        assert!(gradient_of(short).is_err());
    }

    #[test]
    fn a_start_arrives_as_it_left() {
        let start = StartWorker {
            job: uuid::Uuid::now_v7(),
            generation: 2,
            worker: 1,
            servers: vec![TrainingPeer {
                name: "a".to_owned(),
                address: "127.0.0.1:1".to_owned(),
                cores: 2,
            }],
            plan: Bytes::from_static(b"{}"),
        };
        assert_eq!(start_of(start_message(start.clone())).unwrap(), start);
        let mut odd = start_message(start);
        odd.cores.clear();
        assert!(start_of(odd).is_err());
    }

    #[test]
    fn a_server_that_cannot_be_asked_is_lost_by_name() {
        let error = training_error("b", &Status::unavailable("tcp connect error"));
        assert!(matches!(error, TrainingError::ServerLost { server, .. } if server == "b"));
        let error = training_error("b", &Status::failed_precondition("no such job"));
        assert!(matches!(error, TrainingError::Internal { .. }));
    }
}
