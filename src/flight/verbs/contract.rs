//! What the port asks of whoever answers beneath it. [`super::Ours`] does for everybody; `examples/conformance` does with
//! the fixed answers of Arrow's integration scenarios.

use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo,
    HandshakeRequest, HandshakeResponse, PollInfo, PutResult, SchemaResult, Ticket,
};
use tonic::{Request, Response, Status, Streaming};

use crate::flight::codec::FlightMessage;
use crate::flight::error::FlightError;
use crate::flight::service::Answers;
use crate::flight::wire::Wire;

/// The verbs of Arrow Flight, each with what its call has of the port. A verb that is left out is refused.
#[tonic::async_trait]
pub trait Verbs: std::fmt::Debug + Send + Sync + 'static {
    async fn handshake(
        &self,
        _: &Wire,
        _: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Answers<HandshakeResponse>>, Status> {
        not_served("Handshake")
    }

    async fn list_flights(
        &self,
        _: &Wire,
        _: Request<Criteria>,
    ) -> Result<Response<Answers<FlightInfo>>, Status> {
        not_served("ListFlights")
    }

    async fn get_flight_info(
        &self,
        _: &Wire,
        _: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        not_served("GetFlightInfo")
    }

    async fn poll_flight_info(
        &self,
        _: &Wire,
        _: Request<FlightDescriptor>,
    ) -> Result<Response<PollInfo>, Status> {
        not_served("PollFlightInfo")
    }

    async fn get_schema(
        &self,
        _: &Wire,
        _: Request<FlightDescriptor>,
    ) -> Result<Response<SchemaResult>, Status> {
        not_served("GetSchema")
    }

    async fn do_get(
        &self,
        _: &Wire,
        _: Request<Ticket>,
    ) -> Result<Response<Answers<FlightMessage>>, Status> {
        not_served("DoGet")
    }

    async fn do_put(
        &self,
        _: &Wire,
        _: Request<Streaming<FlightData>>,
    ) -> Result<Response<Answers<PutResult>>, Status> {
        not_served("DoPut")
    }

    async fn do_exchange(
        &self,
        _: &Wire,
        _: Request<Streaming<FlightData>>,
    ) -> Result<Response<Answers<FlightMessage>>, Status> {
        not_served("DoExchange")
    }

    async fn do_action(
        &self,
        _: &Wire,
        _: Request<Action>,
    ) -> Result<Response<Answers<arrow_flight::Result>>, Status> {
        not_served("DoAction")
    }

    async fn list_actions(
        &self,
        _: &Wire,
        _: Request<Empty>,
    ) -> Result<Response<Answers<ActionType>>, Status> {
        not_served("ListActions")
    }
}

fn not_served<T>(what: &'static str) -> Result<T, Status> {
    Err(FlightError::NotServed { what }.into())
}
