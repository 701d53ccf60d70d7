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
