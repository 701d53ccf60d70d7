//! RenewFlightEndpoint: the same endpoint with a ticket that may be read for another lifetime from now.

use std::time::SystemTime;

use arrow_flight::{FlightEndpoint, Ticket};
use tonic::Status;

use crate::flight::convert::timestamp;
use crate::flight::error::FlightError;
use crate::flight::sql::rewrapped;
use crate::flight::wire::Wire;

/// An endpoint without a signed ticket is refused, and so is one whose ticket was cancelled or has expired.
pub fn renew_flight_endpoint(
    wire: &Wire,
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
    let Some(opened) = wire.signed_ticket(&given) else {
        return Err(needs.into());
    };
    let opened = opened?;
    if wire.withdrawn.has_ticket(&opened.id) {
        return Err(FlightError::CancelledTicket.into());
    }
    let (signed, expires) = wire.signer.renew(opened, SystemTime::now());
    endpoint.ticket = Some(Ticket {
        ticket: rewrapped(&given, signed),
    });
    endpoint.expiration_time = Some(timestamp(expires));
    Ok(endpoint)
}
