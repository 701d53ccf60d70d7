//! CancelFlightInfo and Flight SQL's CancelQuery: a job's flight ends the job; any other's tickets are withdrawn on every
//! server, and whoever reads one of them is stopped.

use std::time::{Duration, SystemTime};

use arrow_flight::{
    Action, CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus, FlightInfo,
};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use prost::Message;
use tonic::Status;

use super::{Target, jobs};
use crate::cluster::MemberState;
use crate::flight::command::{ActionKind, Command};
use crate::flight::error::FlightError;
use crate::flight::proto::v1::{JobHandle, job::State};
use crate::flight::service::VerbContext;
use crate::flight::wire::Wire;
use crate::training::PeerNetwork;

/// Longest wait for another server's word; one that does not answer may still be reading.
const PEER_TIMEOUT: Duration = Duration::from_secs(3);

/// Cancels what `info` stands for.
pub(crate) async fn cancel_flight_info(
    context: &VerbContext,
    info: Option<FlightInfo>,
) -> Result<CancelStatus, Status> {
    let info = info.ok_or(FlightError::Incomplete {
        what: "CancelFlightInfo came without a FlightInfo",
        needs: "the one that GetFlightInfo or PollFlightInfo answered",
    })?;
    if let Some(descriptor) = &info.flight_descriptor
        && let Ok(Target::Command(Command::JobHandle(JobHandle { id }), _)) = Target::of(descriptor)
    {
        return cancel_job(context, &id).await;
    }
    if !withdraw_flight(context, &info)? {
        // Metadata, and models as functions: there is nothing to stop.
        return Ok(CancelStatus::NotCancellable);
    }
    if context.call.forwarded || everywhere_else(context, info).await {
        Ok(CancelStatus::Cancelled)
    } else {
        Ok(CancelStatus::Cancelling)
    }
}

async fn cancel_job(context: &VerbContext, id: &str) -> Result<CancelStatus, Status> {
    let id = jobs::parse_id(id)?;
    let job = jobs::cancel(context, id, context.call.forwarded).await?;
    Ok(match job.state() {
        State::Cancelled => CancelStatus::Cancelled,
        State::Succeeded | State::Failed => CancelStatus::NotCancellable,
        _ => CancelStatus::Cancelling,
    })
}

/// Withdraws the flight's tickets on this server; false when it has none.
pub fn withdraw_flight(wire: &Wire, info: &FlightInfo) -> Result<bool, FlightError> {
    let tickets = info
        .endpoint
        .iter()
        .filter_map(|endpoint| wire.signed_ticket_of_any_age(&endpoint.ticket.as_ref()?.ticket))
        .collect::<Result<Vec<_>, _>>()?;
    let now = SystemTime::now();
    let lifetime = wire.signer.lifetime();
    for ticket in &tickets {
        // It may have been renewed, by anybody and until now.
        let expires = ticket.expires.max(now + lifetime);
        wire.reads.cancel(&ticket.id, expires, now)?;
    }
    Ok(!tickets.is_empty())
}

/// Has every other server withdraw the same tickets; false when one of them did not say that it has.
async fn everywhere_else(context: &VerbContext, info: FlightInfo) -> bool {
    let body = CancelFlightInfoRequest { info: Some(info) };
    let action = Action {
        r#type: ActionKind::CancelFlightInfo.name().to_owned(),
        body: body.encode_to_vec().into(),
    };
    tell_the_others(context, &action, None).await
}

/// Passes an action to every other server, with a session's cookie if it is about one; false when one of them failed.
pub(crate) async fn tell_the_others(
    context: &VerbContext,
    action: &Action,
    cookie: Option<&str>,
) -> bool {
    let peers = &context.services.peers;
    let members = context.services.cluster.members();
    let told: FuturesUnordered<_> = members
        .iter()
        .filter(|member| member.state != MemberState::Dead && member.name != peers.own_name())
        .map(|member| async move {
            let told = async {
                let mut answers = peers.forward_as(member, action.clone(), cookie).await?;
                while answers.message().await?.is_some() {}
                Ok::<(), Status>(())
            };
            match tokio::time::timeout(PEER_TIMEOUT, told).await {
                Ok(Ok(())) => true,
                Ok(Err(status)) => {
                    tracing::warn!(server = member.name, error = %status.message(), "a server was not told of a cancellation");
                    false
                }
                Err(_) => {
                    tracing::warn!(server = member.name, "a server did not answer a cancellation in time");
                    false
                }
            }
        })
        .collect();
    told.all(|told| async move { told }).await
}

/// The bare message that the standard answers with.
pub fn result(status: CancelStatus) -> CancelFlightInfoResult {
    CancelFlightInfoResult {
        status: status.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_flight::FlightEndpoint;

    use crate::flight::proto::v1::peer::ticket_body::Rows;
    use crate::flight::service::FlightConfig;

    const HOUR: Duration = Duration::from_secs(3600);

    /// A flight whose ticket was signed at this time.
    fn flight(wire: &Wire, signed: SystemTime) -> FlightInfo {
        let rows = Rows::History("census".to_owned());
        let (ticket, _) = wire.signer.ticket(rows, signed);
        FlightInfo {
            endpoint: vec![FlightEndpoint {
                ticket: Some(arrow_flight::Ticket { ticket }),
                ..FlightEndpoint::default()
            }],
            ..FlightInfo::default()
        }
    }

    #[tokio::test]
    async fn what_was_begun_with_a_ticket_is_cancelled_with_it_after_it_has_expired() {
        let mut config = FlightConfig::new([7; 32]);
        config.ticket_lifetime = HOUR;
        let wire = Wire::new(&config);
        let now = SystemTime::now();
        let info = flight(&wire, now - 2 * HOUR);
        let given = &info.endpoint[0].ticket.as_ref().unwrap().ticket;
        let expired = wire.signed_ticket(given).unwrap().unwrap_err();
        assert!(matches!(expired, FlightError::ExpiredTicket));

        // It was renewed before it expired, or a long read was begun with it.
        let opened = wire.signed_ticket_of_any_age(given).unwrap().unwrap();
        let reading = wire.reads.begin(&opened.id).unwrap();
        let (renewed, _) = wire.signer.renew(opened.clone(), now);
        assert!(withdraw_flight(&wire, &info).unwrap());
        reading.stopped().await;
        let renewed = wire.signed_ticket(&renewed).unwrap().unwrap();
        assert!(matches!(
            wire.reads.begin(&renewed.id),
            Err(FlightError::CancelledTicket)
        ));
        // The cancellation lasts as long as a renewed ticket could.
        let kept: Vec<_> = wire.withdrawn.messages(now + HOUR - Duration::from_secs(1));
        assert_eq!(kept.len(), 1);
    }
}
