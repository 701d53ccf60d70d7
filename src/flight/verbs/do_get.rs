//! DoGet: the rows that a ticket stands for.
//!
//! Signed tickets come from GetFlightInfo. A Query or a Flight SQL command, in either form, is taken as a ticket too,
//! so that a bare client reads in one call.

use std::ops::Range;
use std::sync::Arc;
use std::time::SystemTime;

use arrow::array::RecordBatch;
use arrow_flight::Ticket;
use futures::StreamExt;
use futures::stream::BoxStream;
use tonic::Status;

use crate::catalog::{Dataset, DatasetReference};
use crate::flight::codec::FlightMessage;
use crate::flight::command::Command;
use crate::flight::convert::job_id;
use crate::flight::error::FlightError;
use crate::flight::proto::v1::peer::ticket_body::Rows;
use crate::flight::service::VerbContext;
use crate::flight::sql;
use crate::flight::ticket::{OpenedTicket, Signer};

pub(crate) type FlightStream = BoxStream<'static, Result<FlightMessage, Status>>;

pub(crate) async fn do_get(context: &VerbContext, ticket: Ticket) -> Result<FlightStream, Status> {
    let bytes = ticket.ticket;
    if Signer::is_ticket(&bytes) {
        let opened = context.signer.open_ticket(&bytes, SystemTime::now())?;
        return read_ticket(context, opened).await;
    }
    match Command::decode(&bytes) {
        Ok((Command::Read(read), _)) => {
            let reference = DatasetReference::parse(&read.dataset)?;
            let dataset = context.services.catalog.datasets.open(&reference).await?;
            let columns = Some(read.columns.as_slice()).filter(|columns| !columns.is_empty());
            scan(context, &dataset, columns, 0..usize::MAX)
        }
        Ok((Command::Query(query), _)) => sql::statements::run(context, &query.sql, &[]).await,
        Ok((Command::Sql(command), _)) => sql::read(context, *command).await,
        Ok((other, _)) => Err(FlightError::WrongCommand {
            verb: "DoGet",
            received: format!("command {}", other.name()),
            expected: "a ticket from GetFlightInfo, a Read, a Query, or a Flight SQL command",
        }
        .into()),
        // What is no text of ours was meant to be a ticket.
        Err(FlightError::NotACommand { .. }) if !bytes.starts_with(b"{") => {
            Err(FlightError::BadTicket {
                reason: "it is neither signed here nor a command",
            }
            .into())
        }
        Err(error) => Err(error.into()),
    }
}

/// The rows of an opened ticket, until they end or somebody cancels the ticket.
pub(crate) async fn read_ticket(
    context: &VerbContext,
    ticket: OpenedTicket,
) -> Result<FlightStream, Status> {
    let rows = read_rows(context, ticket.rows);
    context.reads.rows(&ticket.id, rows).await
}

async fn read_rows(context: &VerbContext, rows: Rows) -> Result<FlightStream, Status> {
    match rows {
        Rows::TablePart(part) => {
            let reference = DatasetReference::parse(&part.table)?;
            let dataset = context.services.catalog.datasets.open(&reference).await?;
            if dataset.id != part.id {
                let name = dataset.name;
                return Err(FlightError::ReplacedDataset { name }.into());
            }
            let columns = Some(part.columns.as_slice()).filter(|columns| !columns.is_empty());
            let place = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
            let first = place(part.first);
            let run = first..first.saturating_add(place(part.row_groups));
            scan(context, &dataset, columns, run)
        }
        Rows::History(id) => {
            let history = context.services.catalog.jobs.history(job_id(&id)?).await?;
            Ok(one_batch(context, history))
        }
        Rows::Statement(statement) => {
            sql::statements::run(context, &statement.sql, &statement.parameters).await
        }
    }
}

/// The rows of some row groups, read from the files as the values that the stream advertises.
fn scan(
    context: &VerbContext,
    dataset: &Dataset,
    columns: Option<&[String]>,
    row_groups: Range<usize>,
) -> Result<FlightStream, Status> {
    let schema = context.advertised(&*dataset.project(columns)?);
    let rows = dataset.serve(Arc::clone(&schema), row_groups);
    Ok(context.batches(schema, rows))
}

/// A stream of one batch that is already in memory.
pub(crate) fn one_batch(context: &VerbContext, batch: RecordBatch) -> FlightStream {
    let schema = context.advertised(batch.schema_ref());
    let batches = futures::stream::once(async { Ok::<_, FlightError>(batch) });
    context.batches(schema, batches.boxed())
}
