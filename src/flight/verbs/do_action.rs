//! DoAction: jobs, datasets, uploads, models, the cluster, and Flight SQL's prepared statements.

use arrow_flight::sql::{ActionCancelQueryRequest, ActionCancelQueryResult, ProstMessageExt as _};
use arrow_flight::{
    Action, CancelFlightInfoRequest, FlightInfo, RenewFlightEndpointRequest, Result as ActionResult,
};
use futures::StreamExt;
use futures::stream::BoxStream;
use prost::{Message, Name};
use tonic::Status;

use super::{cancel, jobs, renew, session, uploads};
use crate::flight::command::ActionKind;
use crate::flight::convert;
use crate::flight::error::FlightError;
use crate::flight::proto::session::{CloseSessionRequest, GetSessionOptionsRequest};
use crate::flight::proto::v1;
use crate::flight::proto::{Form, pack, pack_bare};
use crate::flight::service::VerbContext;
use crate::flight::sql;

pub type ActionStream = BoxStream<'static, Result<ActionResult, Status>>;

/// Flight SQL's actions that need a transaction, a savepoint or Substrait; none of them is served.
const NOT_SERVED: &[(&str, &str)] = &[
    ("BeginTransaction", "a transaction"),
    ("EndTransaction", "a transaction"),
    ("BeginSavepoint", "a savepoint"),
    ("EndSavepoint", "a savepoint"),
    ("CreatePreparedSubstraitPlan", "a Substrait plan"),
];

pub(crate) async fn do_action(
    context: &VerbContext,
    action: Action,
) -> Result<ActionStream, Status> {
    let forwarded = context.call.forwarded;
    if let Some((_, what)) = NOT_SERVED.iter().find(|(name, _)| *name == action.r#type) {
        return Err(FlightError::NotServed { what }.into());
    }
    let kind = ActionKind::parse(&action.r#type)?;
    let body = kind.open(&action.body)?;
    let form = body.form;
    let services = &context.services;
    let catalog = &services.catalog;
    match kind {
        ActionKind::Train => {
            let train = body.read::<v1::Train>()?;
            let request = convert::train_request(train)?;
            let id = services.training.submit(request).await?;
            jobs::lease(context, id);
            let job = jobs::current(context, id, forwarded).await?;
            Ok(one(&job, form))
        }
        ActionKind::Score => {
            let score = body.read::<v1::Score>()?;
            let request = convert::score_request(score)?;
            let id = services.serving.score(&services.queries, request).await?;
            jobs::lease(context, id);
            let job = jobs::current(context, id, forwarded).await?;
            Ok(one(&job, form))
        }
        ActionKind::Evaluate => {
            let request = body.read::<v1::Evaluate>()?;
            let source = convert::source("Evaluate", request.source)?;
            let (metrics, rows) = services
                .serving
                .evaluate(
                    &services.queries,
                    &request.model,
                    convert::model_version(request.version),
                    &source,
                    &request.metrics,
                    Some(request.sample_weight.as_str()).filter(|column| !column.is_empty()),
                )
                .await?;
            Ok(one(&v1::Evaluation { metrics, rows }, form))
        }
        ActionKind::ListJobs => {
            body.read::<v1::ListJobs>()?;
            let mut listed = catalog.jobs.list().await?;
            listed.sort_by_key(|status| std::cmp::Reverse(status.id));
            let listed = jobs::all_current(context, listed, forwarded).await;
            Ok(many(listed.into_iter(), form))
        }
        ActionKind::JobStatus => {
            let request = body.read::<v1::JobStatus>()?;
            let id = jobs::parse_id(&request.id)?;
            if !request.listed {
                context.leases.touch(id);
            }
            Ok(one(&jobs::current(context, id, forwarded).await?, form))
        }
        ActionKind::CancelJob => {
            let id = jobs::parse_id(&body.read::<v1::CancelJob>()?.id)?;
            Ok(one(&jobs::cancel(context, id, forwarded).await?, form))
        }
        ActionKind::Resume => {
            let resume = body.read::<v1::Resume>()?;
            let request = convert::resume_request(&resume)?;
            jobs::refuse_running(context, request.job, forwarded).await?;
            let id = services.training.resume(request).await?;
            jobs::lease(context, id);
            Ok(one(&jobs::current(context, id, forwarded).await?, form))
        }
        ActionKind::DropCheckpoints => {
            let id = jobs::parse_id(&body.read::<v1::DropCheckpoints>()?.id)?;
            jobs::refuse_running(context, id, forwarded).await?;
            services.training.drop_checkpoints(id).await?;
            Ok(one(&v1::Done {}, form))
        }
        ActionKind::WatchJob => {
            let id = jobs::parse_id(&body.read::<v1::WatchJob>()?.id)?;
            let changes = jobs::follow(context, id, forwarded).await?;
            Ok(changes
                .map(move |job| job.map(|job| result(&job, form)))
                .boxed())
        }
        ActionKind::ListDatasets => {
            body.read::<v1::ListDatasets>()?;
            let listed = catalog.datasets.list().await?;
            Ok(many(listed.iter().map(convert::dataset), form))
        }
        ActionKind::DropDataset => {
            let request = body.read::<v1::DropDataset>()?;
            catalog.datasets.remove(&request.name).await?;
            Ok(one(&v1::Done {}, form))
        }
        ActionKind::BeginUpload
        | ActionKind::CommitUpload
        | ActionKind::AbortUpload
        | ActionKind::DescribeUpload
        | ActionKind::ListUploads => uploads::action(context, kind, &body).await,
        ActionKind::ListModels => {
            body.read::<v1::ListModels>()?;
            let listed = catalog.models.list().await?;
            Ok(many(
                listed.iter().map(|manifest| convert::model(manifest)),
                form,
            ))
        }
        ActionKind::DescribeModel => {
            let request = body.read::<v1::DescribeModel>()?;
            let manifest = catalog
                .models
                .manifest(&request.name, convert::model_version(request.version))
                .await?;
            Ok(one(&convert::model_in_full(&manifest), form))
        }
        ActionKind::DropModel => {
            let request = body.read::<v1::DropModel>()?;
            catalog.models.remove(&request.name).await?;
            Ok(one(&v1::Done {}, form))
        }
        ActionKind::ListMembers => {
            body.read::<v1::ListMembers>()?;
            let members = services.cluster.members();
            Ok(many(members.iter().map(convert::member), form))
        }
        ActionKind::CancelFlightInfo => {
            let request: CancelFlightInfoRequest = body.read_named()?;
            let status = cancel::cancel_flight_info(context, request.info).await?;
            Ok(bare(kind, &cancel::result(status), form))
        }
        ActionKind::CancelQuery => {
            let request: ActionCancelQueryRequest = body.read_named()?;
            let info =
                FlightInfo::decode(request.info).map_err(|error| FlightError::BadCommand {
                    message: "the FlightInfo of CancelQuery".to_owned(),
                    reason: error.to_string(),
                })?;
            let status = cancel::cancel_flight_info(context, Some(info)).await?;
            // Its enum has the numbers of CancelStatus.
            let answer = ActionCancelQueryResult {
                result: status.into(),
            };
            let body = answer.as_any().encode_to_vec().into();
            Ok(futures::stream::once(async { Ok(ActionResult { body }) }).boxed())
        }
        ActionKind::RenewFlightEndpoint => {
            let request: RenewFlightEndpointRequest = body.read_named()?;
            let endpoint = renew::renew_flight_endpoint(context, request.endpoint)?;
            Ok(bare(kind, &endpoint, form))
        }
        ActionKind::SetSessionOptions => {
            let result = session::set(context, body.read_named()?);
            Ok(bare(kind, &result, form))
        }
        ActionKind::GetSessionOptions => {
            body.read_named::<GetSessionOptionsRequest>()?;
            Ok(bare(kind, &session::get(context)?, form))
        }
        ActionKind::CloseSession => {
            body.read_named::<CloseSessionRequest>()?;
            Ok(bare(kind, &session::close(context).await?, form))
        }
        ActionKind::CreatePreparedStatement | ActionKind::ClosePreparedStatement => {
            let body = sql::prepared::action(context, &body).await?;
            let results = body.map(|body| Ok(ActionResult { body }));
            Ok(futures::stream::iter(results).boxed())
        }
    }
}

/// An answer of Flight's own actions.
pub fn bare<M: Message>(kind: ActionKind, message: &M, form: Form) -> ActionStream {
    let body = pack_bare(kind.answer(), message, form);
    futures::stream::once(async { Ok(ActionResult { body }) }).boxed()
}

fn result<M: Message + Name>(message: &M, form: Form) -> ActionResult {
    ActionResult {
        body: pack(message, form),
    }
}

pub(super) fn one<M: Message + Name>(message: &M, form: Form) -> ActionStream {
    let result = result(message, form);
    futures::stream::once(async { Ok(result) }).boxed()
}

pub(super) fn many<M: Message + Name>(
    messages: impl Iterator<Item = M>,
    form: Form,
) -> ActionStream {
    let results: Vec<_> = messages.map(|message| Ok(result(&message, form))).collect();
    futures::stream::iter(results).boxed()
}
