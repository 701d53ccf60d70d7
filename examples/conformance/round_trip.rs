//! The scenario without a name: what was put under a path is read back, batch by batch with its metadata.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow_flight::{
    FlightData, FlightDescriptor, FlightEndpoint, FlightInfo, Location, PutResult, Ticket,
};
use bytes::Bytes;
use futures::StreamExt;
use tokio::sync::Mutex;
use tonic::{Request, Response, Status, Streaming};
use volary::flight::conformance::{
    Answers, BatchEncoder, FlightError, FlightMessage, Inbound, InboundItem, Verbs, Wire,
    expanded_schema,
};

use crate::toy::{endpoint, flight, word};

/// What was put under one path.
#[derive(Debug, Clone)]
struct Put {
    schema: SchemaRef,
    batches: Vec<(RecordBatch, Bytes)>,
}

#[derive(Debug)]
pub(crate) struct RoundTrip {
    address: SocketAddr,
    put: Arc<Mutex<HashMap<String, Put>>>,
}

impl RoundTrip {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self {
            address,
            put: Arc::default(),
        }
    }

    async fn under(&self, path: &str) -> Result<Put, Status> {
        let put = self.put.lock().await.get(path).cloned();
        put.ok_or_else(|| Status::not_found(format!("nothing was put under {path:?}")))
    }
}

fn path_of(descriptor: &FlightDescriptor) -> Result<String, Status> {
    let path = descriptor.path.first().cloned();
    path.ok_or_else(|| Status::invalid_argument("the scenario has a path"))
}

#[tonic::async_trait]
impl Verbs for RoundTrip {
    async fn do_put(
        &self,
        wire: &Wire,
        request: Request<Streaming<FlightData>>,
    ) -> Result<Response<Answers<PutResult>>, Status> {
        let (descriptor, mut inbound) = Inbound::open(request.into_inner(), wire.limits).await?;
        let path = path_of(&descriptor)?;
        let Some(InboundItem::Schema(schema)) = inbound.next().await? else {
            return Err(FlightError::NoSchema.into());
        };
        let store = Arc::clone(&self.put);
        let acknowledged: Answers<PutResult> = async_stream::try_stream! {
            let mut batches = Vec::new();
            while let Some(item) = inbound.next().await? {
                if let InboundItem::Batch { batch, app_metadata } = item {
                    batches.push((batch, app_metadata.clone()));
                    yield PutResult { app_metadata };
                }
            }
            store.lock().await.insert(path, Put { schema, batches });
        }
        .boxed();
        Ok(Response::new(acknowledged))
    }

    async fn get_flight_info(
        &self,
        wire: &Wire,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let descriptor = request.into_inner();
        let path = path_of(&descriptor)?;
        let put = self.under(&path).await?;
        let endpoint = FlightEndpoint {
            location: vec![Location {
                uri: format!("grpc+tcp://{}", self.address),
            }],
            ..endpoint(&wire.signer, &path)
        };
        let info = flight(&expanded_schema(&put.schema), descriptor, [endpoint])?;
        Ok(Response::new(info))
    }

    async fn do_get(
        &self,
        wire: &Wire,
        request: Request<Ticket>,
    ) -> Result<Response<Answers<FlightMessage>>, Status> {
        let put = self.under(&word(wire, request.get_ref())?).await?;
        let answers: Answers<FlightMessage> = async_stream::try_stream! {
            let mut encoder = BatchEncoder::new(expanded_schema(&put.schema));
            yield encoder.schema_message();
            for (batch, app_metadata) in put.batches {
                yield encoder.encode_whole(&batch, app_metadata)?;
            }
        }
        .boxed();
        Ok(Response::new(answers))
    }
}
