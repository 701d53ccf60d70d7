//! `expiration_time:*`: endpoints that expire at different times, one of them without saying when; all of them can be
//! cancelled, and those that expire renewed.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, RecordBatch, UInt32Array};
use arrow::datatypes::DataType;
use arrow_flight::{
    Action, ActionType, CancelFlightInfoRequest, CancelStatus, Empty, FlightDescriptor,
    FlightEndpoint, FlightInfo, RenewFlightEndpointRequest, Ticket,
};
use bytes::Bytes;
use tokio::sync::Mutex;
use tonic::{Request, Response, Status};
use volary::flight::conformance::{
    ActionKind, Answers, FlightMessage, Verbs, Wire, bare, cancel_result, list_actions,
    renew_flight_endpoint, withdraw_flight,
};

use crate::toy::{column, endpoint, flight, opened, rows, unexpected, word_of};

const ACTIONS: &[ActionKind] = &[
    ActionKind::CancelFlightInfo,
    ActionKind::RenewFlightEndpoint,
];

/// An endpoint that does not say when it expires is read once.
#[derive(Debug, Default)]
pub(crate) struct ExpirationTime {
    read_once: Mutex<HashSet<Bytes>>,
}

#[tonic::async_trait]
impl Verbs for ExpirationTime {
    async fn get_flight_info(
        &self,
        wire: &Wire,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let within = |seconds| wire.signer.with_lifetime(Duration::from_secs(seconds));
        let endpoints = [
            FlightEndpoint {
                expiration_time: None,
                ..endpoint(&wire.signer, "0")
            },
            endpoint(&within(5), "1"),
            endpoint(&within(6), "2"),
        ];
        let schema = column("number", DataType::UInt32);
        let info = flight(&schema, request.into_inner(), endpoints)?;
        Ok(Response::new(info))
    }

    async fn do_get(
        &self,
        wire: &Wire,
        request: Request<Ticket>,
    ) -> Result<Response<Answers<FlightMessage>>, Status> {
        let ticket = opened(wire, request.get_ref())?;
        let word = word_of(ticket.rows)?;
        let number: u32 = word
            .parse()
            .map_err(|_| unexpected("ticket", &word, "a number"))?;
        if number == 0 && !self.read_once.lock().await.insert(ticket.id.clone()) {
            return Err(Status::not_found("this endpoint was read before"));
        }
        let schema = column("number", DataType::UInt32);
        let numbers: ArrayRef = Arc::new(UInt32Array::from(vec![number]));
        let batch = RecordBatch::try_new(Arc::clone(&schema), vec![numbers])
            .map_err(|error| Status::internal(error.to_string()))?;
        let messages = async { Ok(rows(wire, schema, vec![batch])) };
        let messages = wire.reads.rows(&ticket.id, messages).await?;
        Ok(Response::new(messages))
    }

    async fn do_action(
        &self,
        wire: &Wire,
        request: Request<Action>,
    ) -> Result<Response<Answers<arrow_flight::Result>>, Status> {
        let action = request.into_inner();
        let kind = ActionKind::parse(&action.r#type)?;
        let body = kind.open(&action.body)?;
        Ok(Response::new(match kind {
            ActionKind::CancelFlightInfo => {
                let request: CancelFlightInfoRequest = body.read_named()?;
                let withdrawn = withdraw_flight(wire, &request.info.unwrap_or_default())?;
                let status = if withdrawn {
                    CancelStatus::Cancelled
                } else {
                    CancelStatus::NotCancellable
                };
                bare(kind, &cancel_result(status), body.form)
            }
            ActionKind::RenewFlightEndpoint => {
                let request: RenewFlightEndpointRequest = body.read_named()?;
                let renewed = renew_flight_endpoint(wire, request.endpoint)?;
                bare(kind, &renewed, body.form)
            }
            _ => return Err(unexpected("action", kind.name(), "one that is listed")),
        }))
    }

    async fn list_actions(
        &self,
        _: &Wire,
        _: Request<Empty>,
    ) -> Result<Response<Answers<ActionType>>, Status> {
        Ok(Response::new(list_actions(ACTIONS)))
    }
}
