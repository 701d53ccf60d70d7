//! The bodies of the port's answers. Knows gRPC's framing of messages, and no verb.
//!
//! gRPC over HTTP/2: a message is a flag byte (0: not compressed), its length as four bytes, and the message; the status
//! comes in the trailers (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>).

use std::pin::Pin;
use std::task::{Context, Poll};

use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use http_body::Frame;
use tonic::metadata::GRPC_CONTENT_TYPE;
use tonic::{Response, Status, body::Body};

use super::codec::{FlightMessage, Pieces};
use super::deadline::{Deadline, deadline_exceeded};

type Answers = BoxStream<'static, Result<FlightMessage, Status>>;

/// The body of one answer, until it ends or the client's deadline passes.
pub(super) struct PortBody {
    content: Content,
    deadline: Option<Deadline>,
    ended: bool,
}

/// What an answer consists of: rows, which are written from the memory that they lie in, or what tonic has encoded.
enum Content {
    Rows(Answers),
    Encoded(Body),
}

impl PortBody {
    fn new(content: Content, deadline: Option<Deadline>) -> Self {
        Self {
            content,
            deadline,
            ended: false,
        }
    }

    /// What tonic has encoded as an answer.
    pub(super) fn encoded(body: Body, deadline: Option<Deadline>) -> Self {
        Self::new(Content::Encoded(body), deadline)
    }

    fn trailers(&mut self, status: &Status) -> Frame<Pieces> {
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

/// The answer of a verb that streams rows, or its refusal.
pub(super) fn respond(
    answer: Result<Response<Answers>, Status>,
    deadline: Option<Deadline>,
) -> http::Response<PortBody> {
    match answer {
        Ok(answer) => {
            let (metadata, messages, _) = answer.into_parts();
            let body = PortBody::new(Content::Rows(messages), deadline);
            let mut response = http::Response::new(body);
            *response.headers_mut() = metadata.into_headers();
            response
                .headers_mut()
                .insert(CONTENT_TYPE, GRPC_CONTENT_TYPE);
            response
        }
        Err(status) => refused(status),
    }
}

/// The answer that is a status alone.
pub(super) fn refused(status: Status) -> http::Response<PortBody> {
    status.into_http().map(|body| PortBody::encoded(body, None))
}

impl http_body::Body for PortBody {
    type Data = Pieces;
    type Error = Status;

    /// Rows come a message at a time, a frame of data each; the next is asked for when the one before is with the
    /// connection. The status comes in the trailers.
    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Pieces>, Status>>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        if let Some(deadline) = &mut this.deadline
            && deadline.poll_unpin(context).is_ready()
        {
            return Poll::Ready(Some(Ok(this.trailers(&deadline_exceeded()))));
        }
        match &mut this.content {
            Content::Encoded(body) => {
                let frame = std::task::ready!(Pin::new(body).poll_frame(context));
                Poll::Ready(frame.map(|frame| Ok(frame?.map_data(Pieces::from))))
            }
            Content::Rows(messages) => {
                let framed = match std::task::ready!(messages.poll_next_unpin(context)) {
                    Some(message) => message.and_then(framed),
                    None => Err(Status::ok("")),
                };
                Poll::Ready(Some(Ok(match framed {
                    Ok(pieces) => Frame::data(pieces),
                    Err(status) => this.trailers(&status),
                })))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended
            || match &self.content {
                Content::Encoded(body) => body.is_end_stream(),
                Content::Rows(_) => false,
            }
    }
}

/// The message behind gRPC's prefix, whose length has four bytes.
fn framed(message: FlightMessage) -> Result<Pieces, Status> {
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
    use arrow_flight::FlightData;
    use bytes::{Buf as _, Bytes};
    use http_body::Body as _;
    use prost::Message as _;

    fn message(text: &'static str) -> FlightMessage {
        FlightMessage {
            app_metadata: Bytes::from_static(text.as_bytes()),
            ..FlightMessage::default()
        }
    }

    /// The bytes of an answer's body, and its trailers.
    async fn sent(messages: Vec<Result<FlightMessage, Status>>) -> (Vec<u8>, HeaderMap) {
        received(futures::stream::iter(messages).boxed(), None).await
    }

    async fn received(messages: Answers, deadline: Option<Deadline>) -> (Vec<u8>, HeaderMap) {
        let mut body = PortBody::new(Content::Rows(messages), deadline);
        let (mut bytes, mut trailers) = (Vec::new(), None);
        while let Some(frame) =
            futures::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await
        {
            assert!(trailers.is_none(), "nothing comes after the trailers");
            match frame.unwrap().into_data() {
                Ok(mut data) => bytes.extend_from_slice(&data.copy_to_bytes(data.remaining())),
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

    #[tokio::test]
    async fn a_stream_that_outlasts_the_deadline_of_its_caller_ends_with_what_was_sent() {
        let silent =
            futures::stream::iter([Ok(message("first"))]).chain(futures::stream::pending());
        let deadline = Deadline::in_time(std::time::Duration::from_millis(1));
        let (bytes, trailers) = received(silent.boxed(), Some(deadline)).await;
        assert!(messages_of(&bytes).len() <= 1);
        let status = Status::from_header_map(&trailers).expect("a status");
        assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
    }
}
