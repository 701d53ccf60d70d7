//! RenewFlightEndpoint: the same endpoint with a ticket that may be read for another lifetime from now.

use std::time::SystemTime;

use arrow_flight::{FlightEndpoint, Ticket};
use tonic::Status;

use crate::flight::convert::timestamp;
use crate::flight::error::FlightError;
use crate::flight::service::VerbContext;
use crate::flight::sql::rewrapped;

pub(crate) fn renew_flight_endpoint(
    context: &VerbContext,
    endpoint: Option<FlightEndpoint>,
) -> Result<FlightEndpoint, Status> {
    let needs = FlightError::Incomplete {
        what: "RenewFlightEndpoint came without an endpoint that has a signed ticket",
        needs: "one that GetFlightInfo answered, with its ticket",
    };
    let Some(mut endpoint) = endpoint else {
        return Err(needs.into());
    };
    let given = endpoint.ticket.take().unwrap_or_default().ticket;
    let Some(opened) = context.signed_ticket(&given) else {
        return Err(needs.into());
    };
    let opened = opened?;
    if context.reads.is_withdrawn(&opened.id) {
        return Err(FlightError::CancelledTicket.into());
    }
    let (signed, expires) = context.signer.renew(opened, SystemTime::now());
    endpoint.ticket = Some(Ticket {
        ticket: rewrapped(&given, signed),
    });
    endpoint.expiration_time = Some(timestamp(expires));
    Ok(endpoint)
}
