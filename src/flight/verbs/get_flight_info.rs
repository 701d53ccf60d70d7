//! GetFlightInfo: what a descriptor names, its schema, and a signed ticket that reads it.
//!
//! The endpoint names no location, which by the standard means this server; any other server of the cluster takes
//! the ticket as well.

use std::num::NonZeroUsize;
use std::ops::Range;
use std::time::SystemTime;

use arrow::datatypes::{Schema, SchemaRef};
use arrow_flight::{FlightDescriptor, FlightEndpoint, FlightInfo, Location, Ticket};
use bytes::Bytes;
use tonic::Status;

use super::{Target, reference_text};
use crate::catalog::{Dataset, DatasetReference};
use crate::cluster::MemberState;
use crate::flight::command::Command;
use crate::flight::convert::timestamp;
use crate::flight::error::FlightError;
use crate::flight::proto::v1;
use crate::flight::proto::v1::peer::{Statement, TablePart, ticket_body::Rows};
use crate::flight::service::VerbContext;
use crate::flight::sql;

const VERB: &str = "GetFlightInfo";
/// The connection that the answer came over (Flight.rst, "Connection Reuse").
const REUSE_CONNECTION: &str = "arrow-flight-reuse-connection://?";

/// Tickets of one answer; a reader has hardly more connections than that.
const ENDPOINTS_MAX: usize = 10_000;

/// Tickets of one answer when no number was asked for: together some 250 KB.
const ENDPOINTS_UNASKED_MAX: usize = 1000;

const EXPECTED: &str = "a path, a Read, a Query, or a Flight SQL command";

pub(crate) async fn get_flight_info(
    context: &VerbContext,
    descriptor: FlightDescriptor,
) -> Result<FlightInfo, Status> {
    let target = Target::of(&descriptor)?;
    let info = match target {
        Target::Dataset(reference) => {
            let dataset = context.services.catalog.datasets.open(&reference).await?;
            dataset_info(context, &dataset)?
        }
        Target::Model { name, version } => model_info(context, &name, version).await?,
        Target::History(id) => {
            let history = context.services.catalog.jobs.history(id).await?;
            let info = readable(context, &history.schema(), Rows::History(id.to_string()))?;
            info.with_total_records(count(history.num_rows() as u64))
        }
        Target::Command(Command::Read(read), _) => read_info(context, &read).await?,
        Target::Command(Command::Query(query), _) => {
            let planned = context.services.queries.prepare(&query.sql).await?;
            let schema = context.advertised(&planned.schema());
            let rows = planned.rows_expected();
            let statement = Statement {
                sql: query.sql,
                parameters: Bytes::new(),
            };
            let info = readable(context, &schema, Rows::Statement(statement))?;
            info.with_total_records(rows.map_or(-1, count))
        }
        Target::Command(Command::Sql(command), _) => sql::flight_info(context, *command).await?,
        other => {
            return Err(FlightError::WrongCommand {
                verb: VERB,
                received: other.name(),
                expected: EXPECTED,
            }
            .into());
        }
    };
    Ok(info.with_descriptor(descriptor))
}

/// The schema a target answers with, without a ticket.
pub(crate) async fn target_schema(
    context: &VerbContext,
    target: Target,
) -> Result<SchemaRef, Status> {
    Ok(match target {
        Target::Dataset(reference) => {
            let dataset = context.services.catalog.datasets.open(&reference).await?;
            context.advertised(&dataset.schema)
        }
        Target::Model { name, version } => {
            let (schema, _, _) = model_schema(context, &name, version).await?;
            schema
        }
        Target::History(id) => context.services.catalog.jobs.history(id).await?.schema(),
        Target::Command(Command::Read(read), _) => {
            let (_, schema) = opened(context, &read).await?;
            schema
        }
        Target::Command(Command::Query(query), _) => {
            context.advertised(&context.services.queries.prepare(&query.sql).await?.schema())
        }
        Target::Command(Command::Sql(command), _) => sql::schema(context, &command).await?,
        other => {
            return Err(FlightError::WrongCommand {
                verb: "GetSchema",
                received: other.name(),
                expected: EXPECTED,
            }
            .into());
        }
    })
}

/// A dataset at the version it was opened at.
pub(crate) fn dataset_info(context: &VerbContext, dataset: &Dataset) -> Result<FlightInfo, Status> {
    let rows = Rows::TablePart(table_part(dataset, 0..usize::MAX, &[]));
    let info = readable(context, &context.advertised(&dataset.schema), rows)?;
    Ok(info
        .with_descriptor(FlightDescriptor::new_path(vec![dataset.name.clone()]))
        .with_total_records(count(dataset.rows))
        .with_total_bytes(count(dataset.bytes))
        .with_app_metadata(format!("{{\"version\": {}}}", dataset.version)))
}

/// What a ticket says of some row groups of a dataset.
fn table_part(dataset: &Dataset, row_groups: Range<usize>, columns: &[String]) -> TablePart {
    TablePart {
        table: reference_text(&dataset.name, dataset.version),
        id: dataset.id.clone(),
        first: row_groups.start as u64,
        row_groups: row_groups.len() as u64,
        columns: columns.to_vec(),
    }
}

/// A dataset in several endpoints, each a run of its row groups.
async fn read_info(context: &VerbContext, read: &v1::Read) -> Result<FlightInfo, Status> {
    let (dataset, schema) = opened(context, read).await?;
    let endpoints = usize::try_from(read.endpoints).unwrap_or(usize::MAX);
    if endpoints > ENDPOINTS_MAX {
        return Err(FlightError::TooManyEndpoints {
            asked: endpoints,
            limit: ENDPOINTS_MAX,
        }
        .into());
    }
    let mut locations = Locations::of(context);
    let mut info = with_schema(FlightInfo::new(), &schema)?;
    for (run, rows) in dataset.runs(endpoints_of(endpoints, dataset.files.len())) {
        let part = Rows::TablePart(table_part(&dataset, run, &read.columns));
        let mut endpoint = endpoint(context, part);
        endpoint.app_metadata = format!("{{\"rows\": {rows}}}").into();
        endpoint.location = locations.next_of_all();
        info = info.with_endpoint(endpoint);
    }
    Ok(info
        .with_ordered(true)
        .with_total_records(count(dataset.rows))
        .with_total_bytes(if read.columns.is_empty() {
            count(dataset.bytes)
        } else {
            -1
        })
        .with_app_metadata(format!("{{\"version\": {}}}", dataset.version)))
}

/// How many endpoints to make at most; `None`: one for every file. A dataset of very many files is not answered with as
/// many tickets, which would be more than clients take in one message.
fn endpoints_of(asked: usize, files: usize) -> Option<NonZeroUsize> {
    match NonZeroUsize::new(asked) {
        None if files > ENDPOINTS_UNASKED_MAX => NonZeroUsize::new(ENDPOINTS_UNASKED_MAX),
        asked => asked,
    }
}

/// Where the endpoints of one answer may be read.
struct Locations {
    servers: Vec<String>,
    next: usize,
}

impl Locations {
    /// Nowhere but here, unless clients are to be sent to all servers.
    fn of(context: &VerbContext) -> Self {
        let mut servers = Vec::new();
        if context.direct_endpoints {
            let members = context.services.cluster.members().into_iter();
            let ready = members.filter(|member| member.state == MemberState::Ready);
            let peers = &context.services.peers;
            servers.extend(ready.map(|member| peers.location(&member.address)));
        }
        Self { servers, next: 0 }
    }

    /// The next server in turn, and the connection at hand for a client that cannot reach it. None at all means here.
    fn next_of_all(&mut self) -> Vec<Location> {
        if self.servers.is_empty() {
            return Vec::new();
        }
        let server = self.servers[self.next % self.servers.len()].clone();
        self.next += 1;
        let locations = [server, REUSE_CONNECTION.to_owned()];
        locations.map(|uri| Location { uri }).into()
    }
}

async fn opened(context: &VerbContext, read: &v1::Read) -> Result<(Dataset, SchemaRef), Status> {
    let reference = DatasetReference::parse(&read.dataset)?;
    let dataset = context.services.catalog.datasets.open(&reference).await?;
    let columns = Some(read.columns.as_slice()).filter(|columns| !columns.is_empty());
    let schema = context.advertised(&*dataset.project(columns)?);
    Ok((dataset, schema))
}

/// A model as a function: input fields, then answer fields. It has no rows, so no endpoint.
pub(crate) async fn model_info(
    context: &VerbContext,
    name: &str,
    version: Option<u64>,
) -> Result<FlightInfo, Status> {
    let (schema, inputs, version) = model_schema(context, name, version).await?;
    Ok(with_schema(FlightInfo::new(), &schema)?
        .with_descriptor(FlightDescriptor::new_path(vec![
            "models".to_owned(),
            name.to_owned(),
        ]))
        .with_total_records(-1)
        .with_total_bytes(-1)
        .with_app_metadata(format!("{{\"inputs\": {inputs}, \"version\": {version}}}")))
}

async fn model_schema(
    context: &VerbContext,
    name: &str,
    version: Option<u64>,
) -> Result<(SchemaRef, usize, u64), Status> {
    let model = context.services.serving.model(name, version).await?;
    let inputs = model.input_schema();
    let answers = model.answer_schema();
    let fields: Vec<_> = inputs
        .fields()
        .iter()
        .chain(answers.fields())
        .cloned()
        .collect();
    Ok((
        Schema::new(fields).into(),
        inputs.fields().len(),
        model.manifest().version,
    ))
}

/// One endpoint with a signed ticket for `rows`.
pub(crate) fn readable(
    context: &VerbContext,
    schema: &Schema,
    rows: Rows,
) -> Result<FlightInfo, Status> {
    Ok(with_schema(FlightInfo::new(), schema)?
        .with_endpoint(endpoint(context, rows))
        .with_total_records(-1)
        .with_total_bytes(-1)
        .with_ordered(true))
}

fn endpoint(context: &VerbContext, rows: Rows) -> FlightEndpoint {
    let (ticket, expires) = context.signer.ticket(rows, SystemTime::now());
    FlightEndpoint {
        ticket: Some(Ticket { ticket }),
        expiration_time: Some(timestamp(expires)),
        ..FlightEndpoint::default()
    }
}

pub fn with_schema(info: FlightInfo, schema: &Schema) -> Result<FlightInfo, Status> {
    info.try_with_schema(schema).map_err(|error| {
        FlightError::Internal {
            doing: "encoding a schema",
            reason: error.to_string(),
        }
        .into()
    })
}

fn count(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dataset_of_many_files_has_no_more_endpoints_than_fit_one_message_unless_they_are_asked_for()
     {
        let number = |asked, files| endpoints_of(asked, files).map(NonZeroUsize::get);
        assert_eq!(number(0, 1), None);
        assert_eq!(number(0, ENDPOINTS_UNASKED_MAX), None);
        assert_eq!(
            number(0, ENDPOINTS_UNASKED_MAX + 1),
            Some(ENDPOINTS_UNASKED_MAX)
        );
        assert_eq!(number(ENDPOINTS_MAX, 3), Some(ENDPOINTS_MAX));
    }
}
