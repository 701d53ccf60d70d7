//! The scenarios of FlightInfo: order, locations, metadata, headers, polling, and rows whose memory has to be aligned.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arrow::array::{ArrayRef, BooleanArray, Int32Array, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow_flight::{
    FlightDescriptor, FlightEndpoint, FlightInfo, Location, PollInfo, Ticket,
    flight_descriptor::DescriptorType,
};
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Request, Response, Status};
use volary::flight::conformance::{Answers, FlightMessage, Verbs, Wire, timestamp};

use crate::toy::{column, endpoint, expect, flight, rows, unexpected, word};

/// `ordered`: three endpoints that are to be read in their order.
#[derive(Debug)]
pub(crate) struct Ordered;

#[tonic::async_trait]
impl Verbs for Ordered {
    async fn get_flight_info(
        &self,
        wire: &Wire,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let descriptor = request.into_inner();
        let ordered = descriptor.cmd == "ordered";
        let words = if ordered {
            ["1", "2", "3"]
        } else {
            ["1", "3", "2"]
        };
        let endpoints = words.map(|word| endpoint(&wire.signer, word));
        let info = flight(&number(), descriptor, endpoints)?;
        Ok(Response::new(info.with_ordered(ordered)))
    }

    async fn do_get(
        &self,
        wire: &Wire,
        request: Request<Ticket>,
    ) -> Result<Response<Answers<FlightMessage>>, Status> {
        let numbers = match word(wire, request.get_ref())?.as_str() {
            "1" => [1, 2, 3],
            "2" => [10, 20, 30],
            "3" => [100, 200, 300],
            other => return Err(unexpected("ticket", other, "1, 2 or 3")),
        };
        let numbers: ArrayRef = Arc::new(Int32Array::from(numbers.to_vec()));
        Ok(Response::new(batch(wire, number(), vec![numbers])?))
    }
}

fn number() -> SchemaRef {
    column("number", DataType::Int32)
}

/// One batch as a stream.
fn batch(
    wire: &Wire,
    schema: SchemaRef,
    columns: Vec<ArrayRef>,
) -> Result<Answers<FlightMessage>, Status> {
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns)
        .map_err(|error| Status::internal(error.to_string()))?;
    Ok(rows(wire, schema, vec![batch]))
}

/// `alignment`: columns of several widths, which the client moves where it wants them aligned.
#[derive(Debug)]
pub(crate) struct Alignment;

impl Alignment {
    fn schema() -> SchemaRef {
        Arc::new(Schema::new(vec![
            Field::new("int32", DataType::Int32, false),
            Field::new("int64", DataType::Int64, false),
            Field::new("bool", DataType::Boolean, false),
        ]))
    }
}

#[tonic::async_trait]
impl Verbs for Alignment {
    async fn get_flight_info(
        &self,
        wire: &Wire,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let endpoints = [endpoint(&wire.signer, "align-data")];
        let info = flight(&Self::schema(), request.into_inner(), endpoints)?;
        Ok(Response::new(info))
    }

    async fn do_get(
        &self,
        wire: &Wire,
        request: Request<Ticket>,
    ) -> Result<Response<Answers<FlightMessage>>, Status> {
        expect(
            "ticket",
            word(wire, request.get_ref())?.as_str(),
            "align-data",
        )?;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int32Array::from(vec![1, 2, 3])),
            Arc::new(Int64Array::from(vec![1, 2, 3])),
            Arc::new(BooleanArray::from(vec![false, true, false])),
        ];
        Ok(Response::new(batch(wire, Self::schema(), columns)?))
    }
}

/// `location:reuse_connection`: the endpoint is where the client already is.
#[derive(Debug)]
pub(crate) struct ReuseConnection;

#[tonic::async_trait]
impl Verbs for ReuseConnection {
    async fn get_flight_info(
        &self,
        wire: &Wire,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let here = Location {
            uri: "arrow-flight-reuse-connection://?".to_owned(),
        };
        let endpoint = FlightEndpoint {
            location: vec![here],
            ..endpoint(&wire.signer, "reuse")
        };
        let info = flight(&Schema::empty(), request.into_inner(), [endpoint])?;
        Ok(Response::new(info))
    }
}

/// `app_metadata_flight_info_endpoint`: what the client sent, beside the flight and beside its endpoint.
#[derive(Debug)]
pub(crate) struct AppMetadata;

#[tonic::async_trait]
impl Verbs for AppMetadata {
    async fn get_flight_info(
        &self,
        wire: &Wire,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let descriptor = request.into_inner();
        expect("descriptor", &descriptor.r#type(), &DescriptorType::Cmd)?;
        let words = descriptor.cmd.clone();
        let endpoint = endpoint(&wire.signer, "number").with_app_metadata(words.clone());
        let schema = column("number", DataType::UInt32);
        let info = flight(&schema, descriptor, [endpoint])?;
        Ok(Response::new(info.with_app_metadata(words)))
    }
}

/// `middleware`: a header of the call comes back with the answer, and with the refusal.
#[derive(Debug)]
pub(crate) struct Middleware;

const HEADER: &str = "x-middleware";

#[tonic::async_trait]
impl Verbs for Middleware {
    async fn get_flight_info(
        &self,
        wire: &Wire,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let received = request.metadata().get(HEADER).cloned();
        let received = received.unwrap_or_else(|| MetadataValue::from_static(""));
        let descriptor = request.into_inner();
        if descriptor.cmd != "success" {
            let mut headers = MetadataMap::new();
            headers.insert(HEADER, received);
            return Err(Status::with_metadata(
                tonic::Code::Unknown,
                "this call is to fail",
                headers,
            ));
        }
        let info = flight(
            &Schema::empty(),
            descriptor,
            [endpoint(&wire.signer, "foo")],
        )?;
        let mut response = Response::new(info);
        response.metadata_mut().insert(HEADER, received);
        Ok(response)
    }
}

/// `poll_flight_info`: a query that is done when it is asked about for the second time.
#[derive(Debug)]
pub(crate) struct Polling;

#[tonic::async_trait]
impl Verbs for Polling {
    async fn poll_flight_info(
        &self,
        wire: &Wire,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<PollInfo>, Status> {
        let descriptor = request.into_inner();
        let done = descriptor.cmd == "poll";
        let schema = column("number", DataType::UInt32);
        let endpoints = [endpoint(&wire.signer, "long-running query")];
        let info = Some(flight(&schema, descriptor, endpoints)?);
        Ok(Response::new(if done {
            PollInfo {
                info,
                progress: Some(1.0),
                ..PollInfo::default()
            }
        } else {
            PollInfo {
                info,
                flight_descriptor: Some(FlightDescriptor::new_cmd("poll")),
                progress: Some(0.1),
                expiration_time: Some(timestamp(SystemTime::now() + Duration::from_secs(10))),
            }
        }))
    }
}
