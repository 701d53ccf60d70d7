//! The verbs that the port serves for everybody: over the catalog and the engines.

use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo,
    HandshakeRequest, HandshakeResponse, PollInfo, PutResult, SchemaResult, Ticket,
};
use tonic::{Request, Response, Status, Streaming};

use super::{
    Verbs, do_action, do_exchange, do_get, do_put, get_flight_info, get_schema, handshake,
    list_actions, list_flights, poll_flight_info,
};
use crate::flight::codec::FlightMessage;
use crate::flight::command::ActionKind;
use crate::flight::lease::Leases;
use crate::flight::service::{Answers, Services};
use crate::flight::wire::{VerbContext, Wire};

/// Everything behind the port.
#[derive(Debug)]
pub(in crate::flight) struct Ours {
    services: Services,
    leases: Leases,
    direct_endpoints: bool,
}

impl Ours {
    /// With `direct_endpoints`, `Read` sends clients to all servers, at the addresses they advertise.
    pub(in crate::flight) fn new(services: Services, direct_endpoints: bool) -> Self {
        Self {
            services,
            leases: Leases::default(),
            direct_endpoints,
        }
    }

    fn context(&self, wire: &Wire) -> VerbContext {
        VerbContext {
            services: self.services.clone(),
            leases: self.leases.clone(),
            direct_endpoints: self.direct_endpoints,
            wire: wire.clone(),
        }
    }
}

#[tonic::async_trait]
impl Verbs for Ours {
    async fn handshake(
        &self,
        _: &Wire,
        request: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Answers<HandshakeResponse>>, Status> {
        handshake::handshake(request, |credentials| Ok(credentials.anonymous_token())).await
    }

    async fn list_flights(
        &self,
        wire: &Wire,
        request: Request<Criteria>,
    ) -> Result<Response<Answers<FlightInfo>>, Status> {
        let flights = list_flights::list_flights(&self.context(wire), request.into_inner()).await?;
        Ok(Response::new(flights))
    }

    async fn get_flight_info(
        &self,
        wire: &Wire,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let info =
            get_flight_info::get_flight_info(&self.context(wire), request.into_inner()).await?;
        Ok(Response::new(info))
    }

    async fn poll_flight_info(
        &self,
        wire: &Wire,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<PollInfo>, Status> {
        let descriptor = request.into_inner();
        let info = poll_flight_info::poll_flight_info(&self.context(wire), descriptor).await?;
        Ok(Response::new(info))
    }

    async fn get_schema(
        &self,
        wire: &Wire,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<SchemaResult>, Status> {
        let schema = get_schema::get_schema(&self.context(wire), request.into_inner()).await?;
        Ok(Response::new(schema))
    }

    async fn do_get(
        &self,
        wire: &Wire,
        request: Request<Ticket>,
    ) -> Result<Response<Answers<FlightMessage>>, Status> {
        let rows = do_get::do_get(&self.context(wire), request.into_inner()).await?;
        Ok(Response::new(rows))
    }

    async fn do_put(
        &self,
        wire: &Wire,
        request: Request<Streaming<FlightData>>,
    ) -> Result<Response<Answers<PutResult>>, Status> {
        let taken = do_put::do_put(&self.context(wire), request.into_inner()).await?;
        Ok(Response::new(taken))
    }

    async fn do_exchange(
        &self,
        wire: &Wire,
        request: Request<Streaming<FlightData>>,
    ) -> Result<Response<Answers<FlightMessage>>, Status> {
        let answers = do_exchange::do_exchange(&self.context(wire), request.into_inner()).await?;
        Ok(Response::new(answers))
    }

    async fn do_action(
        &self,
        wire: &Wire,
        request: Request<Action>,
    ) -> Result<Response<Answers<arrow_flight::Result>>, Status> {
        let results = do_action::do_action(&self.context(wire), request.into_inner()).await?;
        Ok(Response::new(results))
    }

    async fn list_actions(
        &self,
        _: &Wire,
        _: Request<Empty>,
    ) -> Result<Response<Answers<ActionType>>, Status> {
        Ok(Response::new(list_actions::list_actions(ActionKind::ALL)))
    }
}
