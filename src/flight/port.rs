//! Flight's service as the port has it: DoGet and DoExchange answer from the memory that their rows lie in.
//!
//! tonic's generated service encodes every message into one fresh run of bytes. For streams of rows that is most of the
//! work of a server, so those two verbs are answered here, in pieces as [`FlightMessage`] gives them; every other verb,
//! health and reflection go to the generated code.
//!
//! [`FlightMessage`]: super::codec::FlightMessage

use std::convert::Infallible;
use std::sync::Arc;

use arrow_flight::flight_service_server::FlightServiceServer;
use arrow_flight::{FlightData, Ticket};
use futures::future::BoxFuture;
use hyper::body::Incoming;
use prost::Message;
use tonic::body::Body;
use tonic::codegen::Service as _;
use tonic::metadata::MetadataMap;
use tonic::service::{Routes, RoutesBuilder};
use tonic::{Extensions, Request, Status, Streaming};
use tonic_prost::ProstDecoder;

use super::body::{PortBody, refused, respond};
use super::deadline::{Deadline, deadline_exceeded};
use super::service::VolaryService;

const DO_GET: &str = "/arrow.flight.protocol.FlightService/DoGet";
const DO_EXCHANGE: &str = "/arrow.flight.protocol.FlightService/DoExchange";

/// All services of the port. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct FlightPort {
    service: Arc<VolaryService>,
    others: Routes,
    message_bytes_max: usize,
}

impl FlightPort {
    /// `message_bytes_max` bounds what comes in; `others` are served beside Flight.
    pub(super) fn new(
        service: VolaryService,
        mut others: RoutesBuilder,
        message_bytes_max: usize,
    ) -> Self {
        let service = Arc::new(service);
        others.add_service(
            FlightServiceServer::from_arc(Arc::clone(&service))
                .max_decoding_message_size(message_bytes_max)
                .max_encoding_message_size(usize::MAX),
        );
        Self {
            service,
            others: others.routes().prepare(),
            message_bytes_max,
        }
    }

    async fn answer(self, request: http::Request<Body>) -> http::Response<PortBody> {
        let mut deadline = Deadline::of(request.headers());
        let limit = self.message_bytes_max;
        let path = request.uri().path();
        if path == DO_GET {
            let answer = async {
                let request = only_message(streaming::<Ticket>(request, limit)?).await?;
                self.service.get(request).await
            };
            let answer = Deadline::limit(&mut deadline, answer).await;
            respond(answer.unwrap_or_else(|| Err(deadline_exceeded())), deadline)
        } else if path == DO_EXCHANGE {
            let answer = async {
                let request = streaming::<FlightData>(request, limit)?;
                self.service.exchange(request).await
            };
            let answer = Deadline::limit(&mut deadline, answer).await;
            respond(answer.unwrap_or_else(|| Err(deadline_exceeded())), deadline)
        } else {
            let mut others = self.others;
            match Deadline::limit(&mut deadline, others.call(request)).await {
                Some(Ok(answer)) => answer.map(|body| PortBody::encoded(body, deadline)),
                None => refused(deadline_exceeded()),
            }
        }
    }
}

impl hyper::service::Service<http::Request<Incoming>> for FlightPort {
    type Response = http::Response<PortBody>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn call(&self, request: http::Request<Incoming>) -> Self::Future {
        let answer = self.clone().answer(request.map(Body::new));
        Box::pin(async { Ok(answer.await) })
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

#[cfg(test)]
mod tests {
    use super::*;

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
