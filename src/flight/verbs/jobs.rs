//! A job as any server can tell of it: from its own memory, from the server that drives it, or from the journal.

use std::time::Duration;

use arrow_flight::Action;
use futures::StreamExt;
use futures::stream::BoxStream;
use prost::Name;
use tonic::Status;

use crate::catalog::{JobId, JobStatus};
use crate::cluster::MemberState;
use crate::flight::convert;
use crate::flight::error::FlightError;
use crate::flight::proto::v1::{self, job::State};
use crate::flight::proto::{Form, Packed, pack};
use crate::flight::service::VerbContext;
use crate::support::fault::Fault;
use crate::training::{PeerNetwork, TrainingError};

/// How often a job is looked at when nobody can tell of its changes, and at least how often a watcher hears of it.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Jobs asked for at once when all are listed.
const ASKED_AT_ONCE: usize = 16;

pub(crate) fn is_final(job: &v1::Job) -> bool {
    matches!(
        job.state(),
        State::Succeeded | State::Failed | State::Cancelled
    )
}

/// Keeps the lease of a job that has just begun here, if it was asked for with one.
pub(crate) fn lease(context: &VerbContext, id: JobId) {
    context.leases.grant(&context.services.catalog.jobs, id);
}

/// The job as it stands.
pub(crate) async fn current(
    context: &VerbContext,
    id: JobId,
    forwarded: bool,
) -> Result<v1::Job, Status> {
    look(context, id, forwarded, false).await
}

/// The job as it stands, for itself or for a list.
async fn look(
    context: &VerbContext,
    id: JobId,
    forwarded: bool,
    listed: bool,
) -> Result<v1::Job, Status> {
    let jobs = &context.services.catalog.jobs;
    if let Some(live) = jobs.watch(id) {
        let status = live.borrow().clone();
        return Ok(convert::job(&status));
    }
    let status = jobs.status(id).await?;
    if status.state.is_final() {
        return Ok(convert::job(&status));
    }
    let request = v1::JobStatus {
        id: id.to_string(),
        listed,
    };
    match ask_coordinator(context, &status, &request, forwarded).await? {
        Some(mut answers) => match answers.next().await {
            Some(job) => job,
            None => Ok(lost(&status)),
        },
        // It may have ended between the two looks.
        None => settled(context, id).await,
    }
}

/// Refuses a job that has not ended, as whoever drives it knows.
pub(crate) async fn refuse_running(
    context: &VerbContext,
    id: JobId,
    forwarded: bool,
) -> Result<(), Status> {
    let job = current(context, id, forwarded).await?;
    if is_final(&job) {
        return Ok(());
    }
    Err(TrainingError::StillRunning {
        job: job.id,
        coordinator: job.coordinator,
    }
    .into())
}

/// Jobs as they stand, in the order given: those that have not ended are asked for where they are driven. One that
/// nobody can tell of stands as its journal has it.
pub(crate) async fn all_current(
    context: &VerbContext,
    listed: Vec<JobStatus>,
    forwarded: bool,
) -> Vec<v1::Job> {
    futures::stream::iter(listed)
        .map(|status| async move {
            if status.state.is_final() {
                return convert::job(&status);
            }
            let job = look(context, status.id, forwarded, true).await;
            job.unwrap_or_else(|_| convert::job(&status))
        })
        .buffered(ASKED_AT_ONCE)
        .collect()
        .await
}

/// Asks for the end of a job, wherever it is driven; answers with the job as it then stands.
pub(crate) async fn cancel(
    context: &VerbContext,
    id: JobId,
    forwarded: bool,
) -> Result<v1::Job, Status> {
    if context.services.catalog.jobs.cancel(id) {
        return current(context, id, forwarded).await;
    }
    let status = context.services.catalog.jobs.status(id).await?;
    if status.state.is_final() {
        return Ok(convert::job(&status));
    }
    let request = v1::CancelJob { id: id.to_string() };
    match ask_coordinator(context, &status, &request, forwarded).await? {
        Some(mut answers) => match answers.next().await {
            Some(job) => job,
            None => Ok(lost(&status)),
        },
        None => settled(context, id).await,
    }
}

/// The job whenever it changes and at least every half second, the last one in a final state.
pub(crate) async fn follow(
    context: &VerbContext,
    id: JobId,
    forwarded: bool,
) -> Result<BoxStream<'static, Result<v1::Job, Status>>, Status> {
    let jobs = &context.services.catalog.jobs;
    if let Some(mut live) = jobs.watch(id) {
        let held = context.leases.hold(id);
        return Ok(async_stream::stream! {
            let _held = held;
            loop {
                let status = live.borrow_and_update().clone();
                let ended = status.state.is_final();
                yield Ok(convert::job(&status));
                if ended {
                    return;
                }
                // An `Err` is the end of the sender, whose last word has been read or is read in the next turn.
                if let Ok(Err(_)) = tokio::time::timeout(LOOK_EVERY, live.changed()).await
                    && live.borrow().state == status.state
                {
                    return;
                }
            }
        }
        .boxed());
    }
    let status = jobs.status(id).await?;
    if status.state.is_final() {
        let job = convert::job(&status);
        return Ok(futures::stream::once(async { Ok(job) }).boxed());
    }
    let request = v1::WatchJob { id: id.to_string() };
    let Some(mut answers) = ask_coordinator(context, &status, &request, forwarded).await? else {
        let job = settled(context, id).await?;
        return Ok(futures::stream::once(async { Ok(job) }).boxed());
    };
    let context = context.clone();
    Ok(async_stream::stream! {
        let mut ended = false;
        while let Some(Ok(job)) = answers.next().await {
            ended = is_final(&job);
            yield Ok(job);
        }
        if !ended {
            // The coordinator went away in the middle.
            yield settled(&context, id).await;
        }
    }
    .boxed())
}

/// Streams what the coordinator answers; `None` when there is no other server to ask, or it cannot be reached.
async fn ask_coordinator<M: prost::Message + Name>(
    context: &VerbContext,
    status: &JobStatus,
    request: &M,
    forwarded: bool,
) -> Result<Option<BoxStream<'static, Result<v1::Job, Status>>>, Status> {
    let peers = &context.services.peers;
    if forwarded || status.coordinator == peers.own_name() {
        return Ok(None);
    }
    let Some(member) = peers.member(&status.coordinator) else {
        return Ok(None);
    };
    if member.state == MemberState::Dead {
        return Ok(None);
    }
    let action = Action {
        r#type: M::NAME.to_owned(),
        body: pack(request, Form::Any),
    };
    match peers.forward(&member, action).await {
        Ok(answers) => Ok(Some(
            answers
                .map(|answer| {
                    let packed = Packed::open(&answer?.body, "a Job")?;
                    Ok(packed.read::<v1::Job>()?)
                })
                .boxed(),
        )),
        Err(status) if crate::flight::status::fault_of(status.code()) == Fault::Unavailable => {
            Ok(None)
        }
        Err(status) => Err(status),
    }
}

/// The journal's last word on a job that nobody drives any more: its end, or that it was lost.
async fn settled(context: &VerbContext, id: JobId) -> Result<v1::Job, Status> {
    if let Some(live) = context.services.catalog.jobs.watch(id) {
        let status = live.borrow().clone();
        return Ok(convert::job(&status));
    }
    let status = context.services.catalog.jobs.status(id).await?;
    if status.state.is_final() {
        return Ok(convert::job(&status));
    }
    Ok(lost(&status))
}

/// A job whose coordinator is gone has failed, though nobody was left to write it down.
fn lost(status: &JobStatus) -> v1::Job {
    let mut job = convert::job(status);
    job.set_state(State::Failed);
    job.error = Some(v1::JobError {
        code: Fault::Unavailable.name().to_owned(),
        message: format!(
            "server {:?}, which drove the job, was lost; {}",
            status.coordinator,
            status.way_on()
        ),
    });
    job
}

/// The wire's word for the end of a job that did not succeed.
pub(crate) fn failure(job: &v1::Job) -> Option<Status> {
    match job.state() {
        State::Cancelled => Some(Status::cancelled(format!("job {} was cancelled", job.id))),
        State::Failed => {
            let error = job.error.clone().unwrap_or_default();
            Some(crate::flight::status::status_of_job(
                &crate::catalog::JobError {
                    code: error.code,
                    message: error.message,
                },
            ))
        }
        _ => None,
    }
}

/// The id of a job handle or of a request that names one.
pub(crate) fn parse_id(text: &str) -> Result<JobId, FlightError> {
    convert::job_id(text)
}
