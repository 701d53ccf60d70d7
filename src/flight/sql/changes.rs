//! Statements that change something, carried out: tables by `features`, models by `training`.

use arrow::array::RecordBatch;
use arrow_flight::PutResult;
use arrow_flight::sql::DoPutUpdateResult;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use prost::Message;
use tonic::Status;

use super::models;
use super::statements::values_of;
use crate::features::{Change, SqlStatementPlan};
use crate::flight::codec::{Inbound, InboundItem};
use crate::flight::error::FlightError;
use crate::flight::proto::Form;
use crate::flight::proto::v1::peer::Statement;
use crate::flight::service::VerbContext;

/// DoPut of an update: of the values that its handle has, or of those that come in, of all rows together.
pub(super) async fn put(
    context: &VerbContext,
    statement: Statement,
    inbound: Option<Inbound>,
) -> Result<u64, Status> {
    let SqlStatementPlan::Change(change) =
        context.services.queries.understand(&statement.sql).await?
    else {
        return Err(FlightError::IsAQuery.into());
    };
    let Some(inbound) = inbound else {
        let held = values_of(&statement.parameters)?;
        return run(context, *change, bound(held)).await;
    };
    // Values that come in are newer than those that the handle holds: a driver that binds and then executes many times
    // shows the handle of its first binding.
    let place = context.incoming.admit()?;
    let mut incoming = std::pin::pin!(incoming(inbound).peekable());
    let nothing_came = match incoming.as_mut().peek().await {
        None => true,
        Some(Ok(batch)) => batch.num_rows() == 0 || batch.num_columns() == 0,
        Some(Err(_)) => false,
    };
    let rows = if nothing_came {
        run(context, *change, bound(values_of(&statement.parameters)?)).await
    } else {
        run(context, *change, incoming).await
    };
    drop(place);
    rows
}

/// Carries a change out, once, for all rows of values together; answers the rows written.
pub(super) async fn run(
    context: &VerbContext,
    change: Change,
    values: impl Stream<Item = Result<RecordBatch, Status>> + Send,
) -> Result<u64, Status> {
    let queries = &context.services.queries;
    let expected = change.parameters().fields().len();
    let mut values = std::pin::pin!(values.filter(|batch| {
        // Drivers send a batch of nothing where there is nothing to bind.
        let is_empty = batch
            .as_ref()
            .is_ok_and(|batch| batch.num_rows() == 0 || batch.num_columns() == 0);
        std::future::ready(!is_empty)
    }));
    if let Change::Insert(insert) = change {
        let mut insertion = queries.begin_insert(insert).await?;
        let mut is_bound = false;
        while let Some(batch) = values.next().await {
            insertion.add_bound(&batch?).await?;
            is_bound = true;
        }
        if !is_bound {
            // Says what is missing when there are parameters.
            insertion.add().await?;
        }
        // As an upload does: a call that was reset must not be committed within the same poll.
        tokio::task::yield_now().await;
        let (rows, dataset) = insertion.commit().await?;
        tracing::info!(
            dataset = dataset.name,
            version = dataset.version,
            rows,
            "committed an INSERT"
        );
        return Ok(rows);
    }
    let row = match values.next().await.transpose()? {
        None => None,
        Some(batch) if batch.num_rows() > 1 || values.next().await.transpose()?.is_some() => {
            return Err(FlightError::ParameterRows {
                rows: batch.num_rows(),
                wanted: "one row of parameters to all but INSERT",
            }
            .into());
        }
        Some(batch) => Some(batch),
    };
    match change {
        Change::CreateTable(mut create) => {
            if let Some(row) = row {
                create.rows = create.rows.bind(&row)?;
            }
            tokio::task::yield_now().await;
            Ok(queries.create_table(create).await?)
        }
        _ if row.is_some() && expected == 0 => Err(FlightError::ParameterRows {
            rows: 1,
            wanted: "nothing: the statement has no parameters",
        }
        .into()),
        Change::DropTable { name, if_exists } => {
            queries.drop_table(&name, if_exists).await?;
            Ok(0)
        }
        Change::CreateModel(create) => models::create(context, create).await,
        Change::DropModel { name, if_exists } => models::remove(context, &name, if_exists).await,
        Change::Insert(_) => unreachable!("inserted above"),
    }
}

/// Values that are here already.
pub(super) fn bound(
    values: Option<RecordBatch>,
) -> impl Stream<Item = Result<RecordBatch, Status>> + Send {
    futures::stream::iter(values.map(Ok))
}

/// The batches of a stream.
fn incoming(mut inbound: Inbound) -> BoxStream<'static, Result<RecordBatch, Status>> {
    async_stream::try_stream! {
        while let Some(item) = inbound.next().await? {
            if let InboundItem::Batch { batch, .. } = item {
                yield batch;
            }
        }
    }
    .boxed()
}

/// What DoPut answers of an update, in the form that the command came in.
pub(super) fn update_result(
    rows: u64,
    form: Form,
) -> BoxStream<'static, Result<PutResult, Status>> {
    let record_count = i64::try_from(rows).unwrap_or(i64::MAX);
    let app_metadata = match form {
        Form::Any => DoPutUpdateResult { record_count }.encode_to_vec(),
        Form::Json => serde_json::json!({
            "@type": "type.googleapis.com/arrow.flight.protocol.sql.DoPutUpdateResult",
            "record_count": record_count,
        })
        .to_string()
        .into_bytes(),
    };
    let answer = PutResult {
        app_metadata: app_metadata.into(),
    };
    futures::stream::once(async { Ok(answer) }).boxed()
}
