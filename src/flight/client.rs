//! A thin client for the command line: actions as JSON in and out, a SQL query as record batches.
//!
//! Programs use `python-client` or any Flight library; this knows just enough for `volary members` and its siblings.

use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::{Action, FlightClient, FlightDescriptor};
use futures::stream::{BoxStream, StreamExt, TryStreamExt};
use tonic::transport::{Channel, Endpoint};

use super::outgoing::{Security, innermost};
use crate::access::{ClientTls, ClientTlsConfig, TlsError};

/// A server that does not answer the connection for this long is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Servers send at most 2 MiB; rows of a single wide value may be larger.
const MESSAGE_BYTES_MAX: usize = 256 << 20;

/// Why a command got no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error(
        "server URL {url:?} cannot be used: {reason}; write it as grpc://127.0.0.1:50051, or grpc+tls://HOST:PORT"
    )]
    BadUrl { url: String, reason: String },
    #[error(
        "no server answers at {url:?}: {reason}; start one with `volary serve`, or name it with `--server`"
    )]
    NoServer { url: String, reason: String },
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(
        "the connection to the server broke: {reason}; if it speaks TLS, write grpc+tls://, and if it asks for a \
         certificate, give one with `--cert-chain` and `--private-key`"
    )]
    Broken { reason: String },
    /// The server's own words, hint included.
    #[error("{message}")]
    Refused { code: String, message: String },
    #[error("the server's answer cannot be read: {reason}; use a client of the server's version")]
    BadAnswer { reason: String },
}

/// A connection to one server.
#[derive(Debug)]
pub struct Client {
    inner: FlightClient<Channel>,
}

/// A query's schema and rows.
pub struct Answer {
    pub schema: SchemaRef,
    pub rows: BoxStream<'static, Result<RecordBatch, ClientError>>,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answer")
            .field("schema", &self.schema)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// Connects to `grpc://HOST:PORT` (or `grpc+tcp://`, `http://`, or `HOST:PORT` alone), or with TLS to
    /// `grpc+tls://HOST:PORT` (or `https://`).
    pub async fn connect(url: &str, tls: ClientTlsConfig) -> Result<Self, ClientError> {
        let bad = |reason: &str| ClientError::BadUrl {
            url: url.to_owned(),
            reason: reason.to_owned(),
        };
        let (security, address) = match url.split_once("://") {
            None => (Security::default(), url),
            Some(("grpc" | "grpc+tcp" | "http", address)) => (Security::default(), address),
            Some(("grpc+tls" | "https", address)) => {
                (Security::client(ClientTls::open(tls)?), address)
            }
            Some(_) => return Err(bad("its scheme is neither grpc nor grpc+tls")),
        };
        let endpoint = Endpoint::from_shared(security.uri(address))
            .map_err(|error| bad(&error.to_string()))?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true);
        let channel = security
            .connect(&endpoint)
            .await
            .map_err(|error| ClientError::NoServer {
                url: url.to_owned(),
                reason: innermost(&error),
            })?;
        let service =
            FlightServiceClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
        Ok(Self {
            inner: FlightClient::new_from_inner(service),
        })
    }

    /// Does an action: its body and every answer are the proto3 JSON forms of `actions.proto`.
    pub async fn action(
        &mut self,
        kind: &str,
        body: &serde_json::Value,
    ) -> Result<Vec<serde_json::Value>, ClientError> {
        let action = Action::new(kind, body.to_string());
        let answers = self.inner.do_action(action).await.map_err(refused)?;
        answers
            .map(|answer| {
                serde_json::from_slice(&answer.map_err(refused)?).map_err(|error| {
                    ClientError::BadAnswer {
                        reason: error.to_string(),
                    }
                })
            })
            .try_collect()
            .await
    }

    /// Runs a query; every endpoint's rows in order.
    pub async fn query(&mut self, sql: &str) -> Result<Answer, ClientError> {
        let command = serde_json::json!({
            "@type": "type.googleapis.com/volary.v1.Query",
            "sql": sql,
        });
        let info = self
            .inner
            .get_flight_info(FlightDescriptor::new_cmd(command.to_string()))
            .await
            .map_err(refused)?;
        let mut parts = Vec::new();
        for ticket in info
            .endpoint
            .iter()
            .filter_map(|endpoint| endpoint.ticket.clone())
        {
            parts.push(self.inner.do_get(ticket).await.map_err(refused)?);
        }
        let schema = info
            .try_decode_schema()
            .map_err(|error| ClientError::BadAnswer {
                reason: error.to_string(),
            })?;
        Ok(Answer {
            schema: schema.into(),
            rows: futures::stream::iter(parts)
                .flatten()
                .map_err(refused)
                .boxed(),
        })
    }
}

fn refused(error: FlightError) -> ClientError {
    match error {
        // The server's own refusals come without a cause on this side.
        FlightError::Tonic(status) if std::error::Error::source(&*status).is_some() => {
            ClientError::Broken {
                reason: innermost(&*status),
            }
        }
        FlightError::Tonic(status) => ClientError::Refused {
            code: format!("{:?}", status.code()),
            message: status.message().to_owned(),
        },
        other => ClientError::BadAnswer {
            reason: other.to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_where_nobody_listens_is_named_with_a_remedy() {
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("a port")
            .port();
        let url = format!("grpc://127.0.0.1:{port}");
        let error = Client::connect(&url, ClientTlsConfig::default())
            .await
            .expect_err("nobody");
        assert!(error.to_string().contains(&url), "{error}");
        assert!(error.to_string().contains("volary serve"), "{error}");
    }

    #[tokio::test]
    async fn a_url_of_another_kind_is_refused_before_any_connection() {
        for url in ["ftp://127.0.0.1:1", "grpc://"] {
            let error = Client::connect(url, ClientTlsConfig::default())
                .await
                .expect_err("refused");
            assert!(
                matches!(error, ClientError::BadUrl { .. }),
                "{url}: {error}"
            );
        }
    }
}
