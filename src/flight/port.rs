//! Flight's service as the port has it: DoGet and DoExchange answer from the memory that their rows lie in.
//!
//! tonic's generated service encodes every message into one fresh run of bytes. For streams of rows that is most of the
//! work of a server, so those two verbs are written to HTTP/2 here, piece by piece as [`FlightMessage`] gives them; every
//! other verb goes to the generated code. gRPC over HTTP/2: a message is a flag byte (0: not compressed), its length as
//! four bytes, and the message; the status comes in the trailers
//! (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>).

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arrow_flight::flight_service_server::FlightServiceServer;
use arrow_flight::{FlightData, Ticket};
use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use http_body::Frame;
use prost::Message;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::metadata::{GRPC_CONTENT_TYPE, MetadataMap};
use tonic::server::NamedService;
use tonic::{Extensions, Request, Response, Status, Streaming};
use tonic_prost::ProstDecoder;

use super::codec::FlightMessage;
use super::service::VolaryService;

const DO_GET: &str = "/arrow.flight.protocol.FlightService/DoGet";
const DO_EXCHANGE: &str = "/arrow.flight.protocol.FlightService/DoExchange";

/// The Flight service of the port.
#[derive(Debug, Clone)]
pub(super) struct FlightPort {
    service: Arc<VolaryService>,
    generated: FlightServiceServer<VolaryService>,
    message_bytes_max: usize,
}

impl FlightPort {
    /// `message_bytes_max` bounds what comes in.
    pub(super) fn new(service: VolaryService, message_bytes_max: usize) -> Self {
        let service = Arc::new(service);
        Self {
            generated: FlightServiceServer::from_arc(Arc::clone(&service))
                .max_decoding_message_size(message_bytes_max)
                .max_encoding_message_size(usize::MAX),
            service,
            message_bytes_max,
        }
    }
}

impl NamedService for FlightPort {
    const NAME: &'static str = <FlightServiceServer<VolaryService> as NamedService>::NAME;
}

impl Service<http::Request<Body>> for FlightPort {
    type Response = http::Response<Body>;
    type Error = std::convert::Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let (service, limit) = (Arc::clone(&self.service), self.message_bytes_max);
        match request.uri().path() {
            DO_GET => Box::pin(async move {
                let answer = async {
                    let request = only_message(streaming::<Ticket>(request, limit)?).await?;
                    service.get(request).await
                };
                Ok(respond(answer.await))
            }),
            DO_EXCHANGE => Box::pin(async move {
                let answer = async {
                    let request = streaming::<FlightData>(request, limit)?;
                    service.exchange(request).await
                };
                Ok(respond(answer.await))
            }),
            _ => self.generated.call(request),
        }
    }
}

/// The request as a stream of messages, as tonic's generated code makes it.
fn streaming<T: Message + Default + 'static>(
    request: http::Request<Body>,
    message_bytes_max: usize,
) -> Result<Request<Streaming<T>>, Status> {
    let (parts, body) = request.into_parts();
    if let Some(encoding) = parts.headers.get("grpc-encoding")
        && encoding != "identity"
    {
        let mut status = Status::unimplemented(format!(
            "messages compressed with {encoding:?} are not taken; send them as they are (Arrow's own compression is taken)"
        ));
        status.metadata_mut().insert(
            "grpc-accept-encoding",
            tonic::metadata::MetadataValue::from_static("identity"),
        );
        return Err(status);
    }
    let decoder = ProstDecoder::<T>::default();
    let messages = Streaming::new_request(decoder, body, None, Some(message_bytes_max));
    Ok(Request::from_parts(
        MetadataMap::from_headers(parts.headers),
        Extensions::default(),
        messages,
    ))
}

/// The request of a verb that takes one message.
async fn only_message<T>(request: Request<Streaming<T>>) -> Result<Request<T>, Status> {
    let (metadata, extensions, mut messages) = request.into_parts();
    let message = messages
        .message()
        .await?
        .ok_or_else(|| Status::invalid_argument("the request has no message"))?;
    Ok(Request::from_parts(metadata, extensions, message))
}

type Answers = BoxStream<'static, Result<FlightMessage, Status>>;

fn respond(answer: Result<Response<Answers>, Status>) -> http::Response<Body> {
    match answer {
        Ok(answer) => {
            let (metadata, messages, _) = answer.into_parts();
            let mut response = http::Response::new(Body::new(MessageBody {
                messages,
                pieces: VecDeque::new(),
                ended: false,
            }));
            *response.headers_mut() = metadata.into_headers();
            response
                .headers_mut()
                .insert(CONTENT_TYPE, GRPC_CONTENT_TYPE);
            response
        }
        Err(status) => status.into_http(),
    }
}

/// Messages as the body of an HTTP/2 answer, with the status as its trailers. Holds one message; the next is asked for
/// when the client's window has room for more.
struct MessageBody {
    messages: Answers,
    pieces: VecDeque<Bytes>,
    ended: bool,
}

impl MessageBody {
    fn trailers(&mut self, status: &Status) -> Frame<Bytes> {
        self.ended = true;
        let mut trailers = HeaderMap::new();
        if status.add_header(&mut trailers).is_err() {
            // A message that no header can hold: the code at least arrives.
            trailers.insert(
                Status::GRPC_STATUS,
                HeaderValue::from(i32::from(status.code())),
            );
        }
        Frame::trailers(trailers)
    }
}

impl http_body::Body for MessageBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        loop {
            if let Some(piece) = this.pieces.pop_front() {
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            if this.ended {
                return Poll::Ready(None);
            }
            let message = match std::task::ready!(this.messages.poll_next_unpin(context)) {
                Some(Ok(message)) => message,
                Some(Err(status)) => return Poll::Ready(Some(Ok(this.trailers(&status)))),
                None => return Poll::Ready(Some(Ok(this.trailers(&Status::ok(""))))),
            };
            match framed(message) {
                Ok(pieces) => this.pieces = pieces.into(),
                Err(status) => return Poll::Ready(Some(Ok(this.trailers(&status)))),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended && self.pieces.is_empty()
    }
}

/// The message behind gRPC's prefix, whose length has four bytes.
fn framed(message: FlightMessage) -> Result<Vec<Bytes>, Status> {
    let bytes = message.encoded_bytes();
    let Ok(length) = u32::try_from(bytes) else {
        return Err(Status::resource_exhausted(format!(
            "a message of {bytes} bytes is beyond what gRPC can carry (4 GiB); ask for fewer rows at a time"
        )));
    };
    let [a, b, c, d] = length.to_be_bytes();
    Ok(message.into_pieces(&[0, a, b, c, d]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body::Body as _;

    fn message(text: &'static str) -> FlightMessage {
        FlightMessage {
            app_metadata: Bytes::from_static(text.as_bytes()),
            ..FlightMessage::default()
        }
    }

    /// The bytes of an answer's body, and its trailers.
    async fn sent(messages: Vec<Result<FlightMessage, Status>>) -> (Vec<u8>, HeaderMap) {
        let mut body = MessageBody {
            messages: futures::stream::iter(messages).boxed(),
            pieces: VecDeque::new(),
            ended: false,
        };
        let (mut bytes, mut trailers) = (Vec::new(), None);
        while let Some(frame) =
            futures::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await
        {
            assert!(trailers.is_none(), "nothing comes after the trailers");
            match frame.unwrap().into_data() {
                Ok(data) => bytes.extend_from_slice(&data),
                Err(frame) => trailers = frame.into_trailers().ok(),
            }
        }
        assert!(body.is_end_stream());
        (bytes, trailers.expect("every answer ends with a status"))
    }

    /// The messages of a body by gRPC's prefixes.
    fn messages_of(mut bytes: &[u8]) -> Vec<FlightData> {
        let mut found = Vec::new();
        while let [0, a, b, c, d, rest @ ..] = bytes {
            let (message, others) = rest.split_at(u32::from_be_bytes([*a, *b, *c, *d]) as usize);
            found.push(FlightData::decode(message).unwrap());
            bytes = others;
        }
        assert!(bytes.is_empty());
        found
    }

    #[tokio::test]
    async fn messages_are_framed_and_the_end_is_a_status() {
        let (bytes, trailers) = sent(vec![Ok(message("first")), Ok(message("second"))]).await;
        let words: Vec<_> = messages_of(&bytes)
            .into_iter()
            .map(|message| message.app_metadata)
            .collect();
        assert_eq!(words, ["first", "second"]);
        assert_eq!(trailers[Status::GRPC_STATUS], "0");
    }

    #[tokio::test]
    async fn an_error_in_midstream_is_the_status_behind_what_was_sent() {
        let refused = Status::not_found("no such rows");
        let (bytes, trailers) = sent(vec![
            Ok(message("first")),
            Err(refused),
            Ok(message("never")),
        ])
        .await;
        assert_eq!(messages_of(&bytes).len(), 1);
        let status = Status::from_header_map(&trailers).expect("a status");
        assert_eq!(status.code(), tonic::Code::NotFound);
        assert_eq!(status.message(), "no such rows");
    }

    #[test]
    fn messages_compressed_by_grpc_are_refused_with_what_is_taken() {
        let request = http::Request::builder()
            .header("grpc-encoding", "gzip")
            .body(Body::empty())
            .unwrap();
        let status = streaming::<Ticket>(request, 1 << 20).expect_err("refused");
        assert_eq!(status.code(), tonic::Code::Unimplemented);
        assert!(status.message().contains("gzip"), "{status}");
        assert_eq!(
            status.metadata().get("grpc-accept-encoding").unwrap(),
            "identity"
        );
    }

    #[tokio::test]
    async fn a_request_without_a_message_is_refused() {
        let request = streaming::<Ticket>(http::Request::new(Body::empty()), 1 << 20).unwrap();
        let status = only_message(request).await.expect_err("refused");
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
    }
}
