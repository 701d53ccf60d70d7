//! PollFlightInfo: training and scoring as long-running flights; everything else is complete at once.
//!
//! The first call with a Train or Score command starts the job and answers with a JobHandle descriptor to poll next.
//! A call with a JobHandle waits until the job changes, at most [`WAIT_MAX`]. When the descriptor is gone the job has
//! succeeded and the flight's endpoint reads its history; a job that failed or was cancelled ends the poll with its
//! status. `app_metadata` of the flight is the Job, in the form of the command.

use std::time::{Duration, SystemTime};

use arrow::datatypes::Schema;
use arrow_flight::{FlightDescriptor, FlightInfo, PollInfo};
use futures::StreamExt;
use tonic::Status;

use super::get_flight_info::{get_flight_info, readable, with_schema};
use super::{Target, jobs};
use crate::catalog::JobId;
use crate::flight::command::Command;
use crate::flight::convert;
use crate::flight::error::FlightError;
use crate::flight::proto::v1::peer::ticket_body::Rows;
use crate::flight::proto::v1::{self, JobHandle};
use crate::flight::proto::{Form, pack};
use crate::flight::service::VerbContext;

/// Longest wait for a change; below every client's and proxy's patience.
const WAIT_MAX: Duration = Duration::from_secs(5);

pub(crate) async fn poll_flight_info(
    context: &VerbContext,
    descriptor: FlightDescriptor,
) -> Result<PollInfo, Status> {
    let forwarded = context.call.forwarded;
    let services = &context.services;
    match Target::of(&descriptor)? {
        Target::Command(Command::Train(train), form) => {
            let request = convert::train_request(*train)?;
            let id = services.training.submit(request).await?;
            jobs::lease(context, id);
            let job = jobs::current(context, id, forwarded).await?;
            poll_info(context, id, &job, form).await
        }
        Target::Command(Command::Score(score), form) => {
            let request = convert::score_request(score)?;
            let id = services.serving.score(&services.queries, request).await?;
            jobs::lease(context, id);
            let job = jobs::current(context, id, forwarded).await?;
            poll_info(context, id, &job, form).await
        }
        Target::Command(Command::JobHandle(JobHandle { id }), form) => {
            let id = jobs::parse_id(&id)?;
            let job = next_change(context, id, forwarded).await?;
            poll_info(context, id, &job, form).await
        }
        Target::Command(
            Command::Put(_)
            | Command::PutPart(_)
            | Command::Predict(_)
            | Command::StartWorker(_)
            | Command::OpenGradientStream(_)
            | Command::ListWithdrawn(_),
            _,
        ) => Err(FlightError::WrongCommand {
            verb: "PollFlightInfo",
            received: Target::of(&descriptor)?.name(),
            expected: "Train, Score, JobHandle, or what GetFlightInfo takes",
        }
        .into()),
        Target::Dataset(_)
        | Target::Model { .. }
        | Target::History(_)
        | Target::Command(Command::Read(_) | Command::Query(_) | Command::Sql(_), _) => {
            Ok(PollInfo {
                info: Some(get_flight_info(context, descriptor).await?),
                progress: Some(1.0),
                expiration_time: Some(expiry(context)),
                flight_descriptor: None,
            })
        }
    }
}

/// The job once it differs from how it stands now, or after the longest wait.
async fn next_change(context: &VerbContext, id: JobId, forwarded: bool) -> Result<v1::Job, Status> {
    let mut changes = jobs::follow(context, id, forwarded).await?;
    let first = match changes.next().await {
        Some(job) => job?,
        None => return jobs::current(context, id, forwarded).await,
    };
    if jobs::is_final(&first) {
        return Ok(first);
    }
    let changed = async {
        while let Some(job) = changes.next().await {
            let job = job?;
            if job != first {
                return Ok(job);
            }
        }
        jobs::current(context, id, forwarded).await
    };
    match tokio::time::timeout(WAIT_MAX, changed).await {
        Ok(job) => job,
        Err(_) => Ok(first),
    }
}

async fn poll_info(
    context: &VerbContext,
    id: JobId,
    job: &v1::Job,
    form: Form,
) -> Result<PollInfo, Status> {
    if let Some(status) = jobs::failure(job) {
        return Err(status);
    }
    let handle = FlightDescriptor::new_cmd(pack(&JobHandle { id: id.to_string() }, form));
    let done = jobs::is_final(job);
    let info = if done {
        let history = context.services.catalog.jobs.history(id).await?;
        readable(context, &history.schema(), Rows::History(id.to_string()))?
            .with_total_records(i64::try_from(history.num_rows()).unwrap_or(-1))
    } else {
        with_schema(FlightInfo::new(), &Schema::empty())?
            .with_total_records(-1)
            .with_total_bytes(-1)
    };
    Ok(PollInfo {
        info: Some(
            info.with_descriptor(handle.clone())
                .with_app_metadata(pack(job, form)),
        ),
        flight_descriptor: (!done).then_some(handle),
        progress: Some(if done {
            1.0
        } else {
            job.progress.clamp(0.0, 1.0)
        }),
        expiration_time: Some(expiry(context)),
    })
}

/// Until when what a poll answered is good: its tickets expire then. A job's handle lasts as long as the job's record; a
/// poller that has come this far asks again long before.
fn expiry(context: &VerbContext) -> prost_types::Timestamp {
    convert::timestamp(SystemTime::now() + context.signer.lifetime())
}
