//! `flight_sql:ingestion`: a bulk ingest with everything that it can say, and what the server says of ingests.

use arrow::datatypes::{DataType, Field, Schema};
use arrow_flight::sql::metadata::{SqlInfoData, SqlInfoDataBuilder};
use arrow_flight::sql::{
    Command as Sql, CommandStatementIngest, SqlInfo, TableExistsOption, TableNotExistOption,
};
use arrow_flight::{FlightData, FlightDescriptor, FlightEndpoint, FlightInfo, PutResult, Ticket};
use tonic::{Request, Response, Status, Streaming};
use volary::flight::conformance::{
    Answers, FlightMessage, Inbound, InboundItem, Verbs, Wire, info_rows, metadata_schema,
};

use crate::sql::{read, updated};
use crate::toy::{all, expect, flight, rows, unexpected};

#[derive(Debug)]
pub(crate) struct Ingestion;

/// What the scenario's server says of itself.
fn server_info() -> Result<SqlInfoData, Status> {
    let mut info = SqlInfoDataBuilder::new();
    info.append(SqlInfo::FlightSqlServerBulkIngestion, true);
    info.append(SqlInfo::FlightSqlServerIngestTransactionsSupported, true);
    info.build()
        .map_err(|error| Status::internal(error.to_string()))
}

fn expect_ingest(ingest: &CommandStatementIngest) -> Result<(), Status> {
    let options = ingest.table_definition_options.unwrap_or_default();
    let missing = TableNotExistOption::Create;
    expect(
        "option for a missing table",
        &options.if_not_exist(),
        &missing,
    )?;
    let present = TableExistsOption::Replace;
    expect("option for a present table", &options.if_exists(), &present)?;
    expect("table", ingest.table.as_str(), "test_table")?;
    expect("schema", &ingest.schema.as_deref(), &Some("test_schema"))?;
    expect("catalog", &ingest.catalog.as_deref(), &Some("test_catalog"))?;
    expect("temporary option", &ingest.temporary, &true)?;
    let transaction = ingest.transaction_id.as_deref();
    expect("transaction", &transaction, &Some(&b"123"[..]))?;
    let mut named: Vec<_> = ingest
        .options
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    named.sort_unstable();
    expect(
        "options",
        named.as_slice(),
        &[("key1", "val1"), ("key2", "val2")][..],
    )
}

#[tonic::async_trait]
impl Verbs for Ingestion {
    async fn get_flight_info(
        &self,
        _: &Wire,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let descriptor = request.into_inner();
        let schema = metadata_schema(&read(&descriptor.cmd)?)?
            .ok_or_else(|| unexpected("command", &descriptor.cmd, "metadata"))?;
        let endpoint = FlightEndpoint {
            ticket: Some(Ticket {
                ticket: descriptor.cmd.clone(),
            }),
            ..FlightEndpoint::default()
        };
        Ok(Response::new(flight(&schema, descriptor, [endpoint])?))
    }

    async fn do_get(
        &self,
        wire: &Wire,
        request: Request<Ticket>,
    ) -> Result<Response<Answers<FlightMessage>>, Status> {
        match read(&request.get_ref().ticket)? {
            Sql::CommandGetSqlInfo(asked) => {
                let known = info_rows(&server_info()?, &asked.info)?;
                Ok(Response::new(rows(wire, known.schema(), vec![known])))
            }
            other => Err(unexpected("command", other.type_url(), "GetSqlInfo")),
        }
    }

    async fn do_put(
        &self,
        wire: &Wire,
        request: Request<Streaming<FlightData>>,
    ) -> Result<Response<Answers<PutResult>>, Status> {
        let (descriptor, mut inbound) = Inbound::open(request.into_inner(), wire.limits).await?;
        match read(&descriptor.cmd)? {
            Sql::CommandStatementIngest(ingest) => expect_ingest(&ingest)?,
            other => return Err(unexpected("command", other.type_url(), "an ingest")),
        }
        let expected = Schema::new(vec![Field::new("test_field", DataType::Int64, true)]);
        let mut taken = 0;
        while let Some(item) = inbound.next().await? {
            match item {
                InboundItem::Schema(schema) => expect("schema", &*schema, &expected)?,
                InboundItem::Batch { batch, .. } => taken += batch.num_rows(),
                InboundItem::Metadata(_) => {}
            }
        }
        let taken = i64::try_from(taken).unwrap_or(i64::MAX);
        Ok(Response::new(all(vec![updated(taken)])))
    }
}
