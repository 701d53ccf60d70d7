//! What a server missed before it joined: cancelled tickets and closed sessions, asked of every server as it comes into
//! view.
//!
//! The server asked answers when it counts the asker as a member. Whatever it withdraws from then on it tells the asker of
//! (`cancel.rs`), so nothing is lost between the two.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use futures::StreamExt;
use prost::Message;
use tonic::Status;

use super::do_get::FlightStream;
use crate::cluster::{Member, MemberState};
use crate::flight::codec::FlightMessage;
use crate::flight::proto::v1::peer::ListWithdrawn;
use crate::flight::service::{Services, VerbContext};
use crate::flight::withdrawn::Withdrawn;
use crate::training::PeerNetwork;

/// How long an asker's own gossip may take to reach the server that it asks; it asks again when it was longer.
const UNTIL_SEEN_MAX: Duration = Duration::from_secs(3);

/// A server that has not said all by then is asked again.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// A server that could not be asked is asked again after this long.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Answers another server that asks.
pub(super) async fn list(
    context: &VerbContext,
    asked: ListWithdrawn,
) -> Result<FlightStream, Status> {
    let mut view = context.services.cluster.watch();
    let is_seen = |members: &Vec<Member>| {
        let mut members = members.iter();
        members.any(|member| member.address == asked.address && is_alive(member))
    };
    let seen = tokio::time::timeout(UNTIL_SEEN_MAX, view.wait_for(is_seen)).await;
    if seen.is_err() {
        let reason = format!("no server at {} is a member here yet", asked.address);
        return Err(Status::unavailable(reason));
    }
    let messages = context.withdrawn.messages(SystemTime::now());
    Ok(futures::stream::iter(messages)
        .map(|message| {
            Ok(FlightMessage {
                app_metadata: message.encode_to_vec().into(),
                ..FlightMessage::default()
            })
        })
        .boxed())
}

/// Asks every server that comes into view, or back into it, for as long as this one runs.
pub(in crate::flight) async fn keep_asking(services: Services, withdrawn: Withdrawn) {
    let peers = &services.peers;
    let mut view = services.cluster.watch();
    let mut asked: BTreeSet<(String, String)> = BTreeSet::new();
    loop {
        let members = view.borrow_and_update().clone();
        let own = members
            .iter()
            .find(|member| member.name == peers.own_name())
            .map(|member| member.address.clone());
        let others: Vec<&Member> = members
            .iter()
            .filter(|member| member.name != peers.own_name() && is_alive(member))
            .collect();
        asked.retain(|(name, address)| {
            let mut others = others.iter();
            others.any(|member| member.name == *name && member.address == *address)
        });
        let mut failed = false;
        for member in others {
            let key = (member.name.clone(), member.address.clone());
            let Some(own) = own.as_deref().filter(|_| !asked.contains(&key)) else {
                continue;
            };
            let asking = ask(&services, member, own, &withdrawn);
            let answered = tokio::time::timeout(ANSWER_TIMEOUT, asking).await;
            let answered = answered
                .unwrap_or_else(|_| Err(Status::deadline_exceeded("it does not answer in time")));
            match answered {
                Ok(()) => {
                    asked.insert(key);
                }
                Err(status) => {
                    failed = true;
                    tracing::warn!(server = member.name, error = %status.message(), "a server did not say which tickets were cancelled");
                }
            }
        }
        let again = async {
            if failed {
                tokio::time::sleep(ASK_AGAIN).await;
            } else {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            changed = view.changed() => if changed.is_err() { return },
            () = again => {}
        }
    }
}

async fn ask(
    services: &Services,
    member: &Member,
    own_address: &str,
    withdrawn: &Withdrawn,
) -> Result<(), Status> {
    let mut messages = services.peers.list_withdrawn(member, own_address).await?;
    while let Some(message) = messages.next().await {
        withdrawn.take(message?, SystemTime::now())?;
    }
    Ok(())
}

fn is_alive(member: &Member) -> bool {
    member.state != MemberState::Dead
}
