//! `flight_sql` and `flight_sql:extension`: every command of Flight SQL with the arguments that the scenario's client
//! sends, statements and Substrait plans with and without a transaction.
//!
//! Commands, tickets, handles and the schemas of metadata are the server's own; what they stand for is one word.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow_flight::sql::metadata::{SqlInfoData, SqlInfoDataBuilder};
use arrow_flight::sql::{
    ActionBeginSavepointResult, ActionBeginTransactionResult, ActionCancelQueryResult,
    ActionCreatePreparedStatementResult, Command as Sql, CommandGetSqlInfo,
    DoPutPreparedStatementResult, DoPutUpdateResult, EndTransaction, ProstMessageExt, SqlInfo,
    SqlSupportedTransaction, SubstraitPlan, TicketStatementQuery,
};
use arrow_flight::{
    Action, CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus, FlightData,
    FlightDescriptor, FlightEndpoint, FlightInfo, PutResult, SchemaAsIpc, SchemaResult, Ticket,
};
use bytes::Bytes;
use prost::Message;
use tonic::{Request, Response, Status, Streaming};
use volary::flight::conformance::{
    Answers, Command, FlightMessage, Inbound, InboundItem, Packed, Rows, Verbs, Wire, info_rows,
    metadata_schema, sql_command,
};

use crate::toy::{all, expect, flight, rows, statement, unexpected, word_of};

const QUERY: &str = "SELECT STATEMENT";
const UPDATE: &str = "UPDATE STATEMENT";
const PREPARED_QUERY: &str = "SELECT PREPARED STATEMENT";
const PREPARED_UPDATE: &str = "UPDATE PREPARED STATEMENT";
const PLAN: &str = "SUBSTRAIT PLAN";
/// Ends the word of what belongs to a transaction.
const IN_TRANSACTION: &str = " IN TRANSACTION";

const TRANSACTION: &str = "transaction_id";
const SAVEPOINT: &str = "savepoint_id";

#[derive(Debug)]
pub(crate) struct FlightSql;

/// What the scenario's server says of itself.
fn server_info() -> Result<SqlInfoData, Status> {
    let mut info = SqlInfoDataBuilder::new();
    info.append(SqlInfo::FlightSqlServerSql, false);
    info.append(SqlInfo::FlightSqlServerSubstrait, true);
    info.append(SqlInfo::FlightSqlServerSubstraitMinVersion, "min_version");
    info.append(SqlInfo::FlightSqlServerSubstraitMaxVersion, "max_version");
    info.append(
        SqlInfo::FlightSqlServerTransaction,
        SqlSupportedTransaction::Savepoint as i32,
    );
    info.append(SqlInfo::FlightSqlServerCancel, true);
    info.append(SqlInfo::FlightSqlServerStatementTimeout, 42);
    info.append(SqlInfo::FlightSqlServerTransactionTimeout, 7);
    info.build()
        .map_err(|error| Status::internal(error.to_string()))
}

impl FlightSql {
    /// The word that a statement, a plan, a ticket or a handle stands for; `None` for metadata.
    fn word(wire: &Wire, command: &Sql) -> Result<Option<String>, Status> {
        Ok(Some(match command {
            Sql::CommandStatementQuery(query) => {
                expect("statement", query.query.as_str(), QUERY)?;
                word_in(QUERY, query.transaction_id.as_ref())?
            }
            Sql::CommandStatementUpdate(update) => {
                expect("statement", update.query.as_str(), UPDATE)?;
                word_in(UPDATE, update.transaction_id.as_ref())?
            }
            Sql::CommandStatementSubstraitPlan(plan) => {
                expect_plan(plan.plan.as_ref())?;
                word_in(PLAN, plan.transaction_id.as_ref())?
            }
            Sql::TicketStatementQuery(ticket) => {
                let opened = wire
                    .signer
                    .open_ticket(&ticket.statement_handle, SystemTime::now())?;
                word_of(opened.rows)?
            }
            Sql::CommandPreparedStatementQuery(query) => {
                Self::prepared(wire, &query.prepared_statement_handle)?
            }
            Sql::CommandPreparedStatementUpdate(update) => {
                Self::prepared(wire, &update.prepared_statement_handle)?
            }
            _ => return Ok(None),
        }))
    }

    fn prepared(wire: &Wire, handle: &Bytes) -> Result<String, Status> {
        Ok(wire.signer.open_handle(handle)?.sql)
    }

    /// What a prepared statement is answered with.
    fn handle(wire: &Wire, word: &str) -> Result<arrow_flight::Result, Status> {
        Ok(packed(&ActionCreatePreparedStatementResult {
            prepared_statement_handle: wire.signer.handle(&statement(word)),
            ..ActionCreatePreparedStatementResult::default()
        }))
    }

    fn schema(wire: &Wire, command: &Sql) -> Result<SchemaRef, Status> {
        if let Some(word) = Self::word(wire, command)? {
            return Ok(if word.ends_with(IN_TRANSACTION) {
                described("pkey", DataType::Int32)
            } else {
                described("id", DataType::Int64)
            });
        }
        metadata_schema(command)?
            .ok_or_else(|| unexpected("command", command.type_url(), "a query or metadata"))
    }

    /// The ticket of a statement is signed; prepared statements and metadata are read by showing the command.
    fn ticket(wire: &Wire, command: Sql) -> Result<Ticket, Status> {
        let shown = match &command {
            Sql::CommandStatementQuery(_) | Sql::CommandStatementSubstraitPlan(_) => {
                let word = Self::word(wire, &command)?.unwrap_or_default();
                let rows = Rows::Statement(statement(&word));
                let (statement_handle, _) = wire.signer.ticket(rows, SystemTime::now());
                TicketStatementQuery { statement_handle }.as_any()
            }
            _ => command.into_any(),
        };
        Ok(Ticket {
            ticket: shown.encode_to_vec().into(),
        })
    }

    /// CancelQuery and CancelFlightInfo are sent for the plan that has no transaction.
    fn expect_plan_flight(wire: &Wire, info: &FlightInfo) -> Result<(), Status> {
        expect("number of endpoints", &info.endpoint.len(), &1)?;
        let ticket = info.endpoint[0].ticket.clone().unwrap_or_default();
        let command = read(&ticket.ticket)?;
        expect(
            "ticket",
            &Self::word(wire, &command)?.as_deref(),
            &Some(PLAN),
        )
    }

    fn act(wire: &Wire, action: &Action) -> Result<Vec<arrow_flight::Result>, Status> {
        if action.r#type == "CancelFlightInfo" {
            let request = CancelFlightInfoRequest::decode(action.body.clone())
                .map_err(|error| Status::invalid_argument(error.to_string()))?;
            Self::expect_plan_flight(wire, &request.info.unwrap_or_default())?;
            let body = CancelFlightInfoResult {
                status: CancelStatus::Cancelled.into(),
            };
            return Ok(vec![arrow_flight::Result {
                body: body.encode_to_vec().into(),
            }]);
        }
        let body = Packed::open(&action.body, "the body of a Flight SQL action")?;
        let request = sql_command(&body)?
            .ok_or_else(|| unexpected("action", action.r#type.as_str(), "one of Flight SQL"))?;
        Ok(match request {
            Sql::ActionBeginTransactionRequest(_) => vec![packed(&ActionBeginTransactionResult {
                transaction_id: TRANSACTION.into(),
            })],
            Sql::ActionEndTransactionRequest(request) => {
                expect("transaction", &request.transaction_id, TRANSACTION)?;
                if request.action() == EndTransaction::Unspecified {
                    return Err(unexpected("end", &request.action, "commit or rollback"));
                }
                Vec::new()
            }
            Sql::ActionBeginSavepointRequest(request) => {
                expect("transaction", &request.transaction_id, TRANSACTION)?;
                expect("savepoint", request.name.as_str(), "savepoint_name")?;
                vec![packed(&ActionBeginSavepointResult {
                    savepoint_id: SAVEPOINT.into(),
                })]
            }
            Sql::ActionEndSavepointRequest(request) => {
                expect("savepoint", &request.savepoint_id, SAVEPOINT)?;
                if request.action == 0 {
                    return Err(unexpected("end", &request.action, "release or rollback"));
                }
                Vec::new()
            }
            Sql::ActionCreatePreparedStatementRequest(request) => {
                let known = [PREPARED_QUERY, PREPARED_UPDATE];
                if !known.contains(&request.query.as_str()) {
                    return Err(unexpected("statement", &request.query, &known));
                }
                let word = word_in(&request.query, request.transaction_id.as_ref())?;
                vec![Self::handle(wire, &word)?]
            }
            Sql::ActionCreatePreparedSubstraitPlanRequest(request) => {
                expect_plan(request.plan.as_ref())?;
                vec![Self::handle(
                    wire,
                    &word_in(PLAN, request.transaction_id.as_ref())?,
                )?]
            }
            Sql::ActionClosePreparedStatementRequest(request) => {
                Self::prepared(wire, &request.prepared_statement_handle)?;
                Vec::new()
            }
            Sql::ActionCancelQueryRequest(request) => {
                let info = FlightInfo::decode(request.info)
                    .map_err(|error| Status::invalid_argument(error.to_string()))?;
                Self::expect_plan_flight(wire, &info)?;
                // Its enum has the numbers of CancelStatus.
                let result = CancelStatus::Cancelled.into();
                vec![packed(&ActionCancelQueryResult { result })]
            }
            other => return Err(unexpected("action", other.type_url(), "one of Flight SQL")),
        })
    }
}

/// A word, marked when its transaction is the one that was begun.
fn word_in(word: &str, transaction: Option<&Bytes>) -> Result<String, Status> {
    match transaction.filter(|id| !id.is_empty()) {
        None => Ok(word.to_owned()),
        Some(id) => {
            expect("transaction", id, TRANSACTION)?;
            Ok(format!("{word}{IN_TRANSACTION}"))
        }
    }
}

fn expect_plan(plan: Option<&SubstraitPlan>) -> Result<(), Status> {
    let plan = plan.cloned().unwrap_or_default();
    expect("plan", &plan.plan, "plan")?;
    expect("version of the plan", plan.version.as_str(), "version")
}

/// A Flight SQL message by itself.
pub(crate) fn read(bytes: &Bytes) -> Result<Sql, Status> {
    match Command::decode(bytes)? {
        (Command::Sql(command), _) => Ok(*command),
        (other, _) => Err(unexpected("command", other.name(), "one of Flight SQL")),
    }
}

fn packed(message: &impl ProstMessageExt) -> arrow_flight::Result {
    arrow_flight::Result {
        body: message.as_any().encode_to_vec().into(),
    }
}

/// The answer to an update.
pub(crate) fn updated(record_count: i64) -> PutResult {
    PutResult {
        app_metadata: DoPutUpdateResult { record_count }.encode_to_vec().into(),
    }
}

/// A column with everything that Flight SQL can say of one.
fn described(name: &str, data_type: DataType) -> SchemaRef {
    let known = [
        ("CATALOG_NAME", "catalog_test"),
        ("SCHEMA_NAME", "schema_test"),
        ("TABLE_NAME", "test"),
        ("TYPE_NAME", "type_test"),
        ("PRECISION", "100"),
        ("IS_AUTO_INCREMENT", "1"),
        ("IS_CASE_SENSITIVE", "0"),
        ("IS_SEARCHABLE", "1"),
        ("REMARKS", "test column"),
    ];
    let known: HashMap<_, _> = known
        .into_iter()
        .map(|(key, value)| (format!("ARROW:FLIGHT:SQL:{key}"), value.to_owned()))
        .collect();
    let field = Field::new(name, data_type, true).with_metadata(known);
    Arc::new(Schema::new(vec![field]))
}

/// A table as its command names it.
struct TableRef {
    catalog: Option<String>,
    db_schema: Option<String>,
    table: String,
}

/// The arguments of metadata commands.
fn expect_arguments(command: &Sql) -> Result<(), Status> {
    let table = |table: &TableRef, prefix: &str| {
        let named = |name: &str| format!("{prefix}{name}");
        expect("catalog", &table.catalog, &Some(named("catalog")))?;
        expect("schema", &table.db_schema, &Some(named("db_schema")))?;
        expect("table", &table.table, &named("table"))
    };
    let own_table = |catalog: &Option<String>, schema: &Option<String>, name: &str| {
        let own = TableRef {
            catalog: catalog.clone(),
            db_schema: schema.clone(),
            table: name.to_owned(),
        };
        table(&own, "")
    };
    let patterns = |catalog: &Option<String>, schemas: &Option<String>| {
        expect("catalog", &catalog.as_deref(), &Some("catalog"))?;
        let expected = Some("db_schema_filter_pattern");
        expect("pattern of schemas", &schemas.as_deref(), &expected)
    };
    match command {
        Sql::CommandGetDbSchemas(asked) => {
            patterns(&asked.catalog, &asked.db_schema_filter_pattern)
        }
        Sql::CommandGetTables(asked) => {
            patterns(&asked.catalog, &asked.db_schema_filter_pattern)?;
            let pattern = asked.table_name_filter_pattern.as_deref();
            expect("pattern of tables", &pattern, &Some("table_filter_pattern"))?;
            expect(
                "table types",
                asked.table_types.as_slice(),
                &["table", "view"][..],
            )?;
            expect("schema's inclusion", &asked.include_schema, &true)
        }
        Sql::CommandGetPrimaryKeys(asked) => {
            own_table(&asked.catalog, &asked.db_schema, &asked.table)
        }
        Sql::CommandGetExportedKeys(asked) => {
            own_table(&asked.catalog, &asked.db_schema, &asked.table)
        }
        Sql::CommandGetImportedKeys(asked) => {
            own_table(&asked.catalog, &asked.db_schema, &asked.table)
        }
        Sql::CommandGetCrossReference(asked) => {
            let primary = TableRef {
                catalog: asked.pk_catalog.clone(),
                db_schema: asked.pk_db_schema.clone(),
                table: asked.pk_table.clone(),
            };
            let foreign = TableRef {
                catalog: asked.fk_catalog.clone(),
                db_schema: asked.fk_db_schema.clone(),
                table: asked.fk_table.clone(),
            };
            table(&primary, "pk_")?;
            table(&foreign, "fk_")
        }
        _ => Ok(()),
    }
}

/// Asked for the two entries that the message is tested with, the scenario has no rows.
fn without_rows(asked: &CommandGetSqlInfo) -> bool {
    let tested = [
        SqlInfo::FlightSqlServerName as u32,
        SqlInfo::FlightSqlServerReadOnly as u32,
    ];
    asked.info == tested
}

#[tonic::async_trait]
impl Verbs for FlightSql {
    async fn get_flight_info(
        &self,
        wire: &Wire,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let descriptor = request.into_inner();
        let command = read(&descriptor.cmd)?;
        expect_arguments(&command)?;
        let schema = Self::schema(wire, &command)?;
        let endpoint = FlightEndpoint {
            ticket: Some(Self::ticket(wire, command)?),
            ..FlightEndpoint::default()
        };
        Ok(Response::new(flight(&schema, descriptor, [endpoint])?))
    }

    async fn get_schema(
        &self,
        wire: &Wire,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<SchemaResult>, Status> {
        let schema = Self::schema(wire, &read(&request.get_ref().cmd)?)?;
        let options = arrow::ipc::writer::IpcWriteOptions::default();
        let result = SchemaAsIpc::new(&schema, &options).try_into();
        let result = result
            .map_err(|error: arrow::error::ArrowError| Status::internal(error.to_string()))?;
        Ok(Response::new(result))
    }

    async fn do_get(
        &self,
        wire: &Wire,
        request: Request<Ticket>,
    ) -> Result<Response<Answers<FlightMessage>>, Status> {
        let command = read(&request.get_ref().ticket)?;
        let schema = Self::schema(wire, &command)?;
        let batches: Vec<RecordBatch> = match &command {
            Sql::CommandGetSqlInfo(asked) if !without_rows(asked) => {
                vec![info_rows(&server_info()?, &asked.info)?]
            }
            _ => Vec::new(),
        };
        Ok(Response::new(rows(wire, schema, batches)))
    }

    async fn do_put(
        &self,
        wire: &Wire,
        request: Request<Streaming<FlightData>>,
    ) -> Result<Response<Answers<PutResult>>, Status> {
        let (descriptor, mut inbound) = Inbound::open(request.into_inner(), wire.limits).await?;
        let command = read(&descriptor.cmd)?;
        let word = Self::word(wire, &command)?.unwrap_or_default();
        let answer = match &command {
            Sql::CommandPreparedStatementQuery(_) => {
                let schema = match inbound.next().await? {
                    Some(InboundItem::Schema(schema)) => schema,
                    other => return Err(unexpected("first message", &other, "a schema")),
                };
                expect("parameters", &schema, &described("id", DataType::Int64))?;
                let bound = DoPutPreparedStatementResult {
                    prepared_statement_handle: Some(wire.signer.handle(&statement(&word))),
                };
                PutResult {
                    app_metadata: bound.encode_to_vec().into(),
                }
            }
            Sql::CommandStatementUpdate(_) | Sql::CommandStatementSubstraitPlan(_) => {
                updated(if word.ends_with(IN_TRANSACTION) {
                    15_000
                } else {
                    10_000
                })
            }
            Sql::CommandPreparedStatementUpdate(_) => updated(if word.ends_with(IN_TRANSACTION) {
                25_000
            } else {
                20_000
            }),
            other => return Err(unexpected("command", other.type_url(), "an update")),
        };
        // An update without parameters is answered at once: Java's client never ends its side of one.
        let at_once = matches!(
            command,
            Sql::CommandStatementUpdate(_) | Sql::CommandStatementSubstraitPlan(_)
        );
        while !at_once && inbound.next().await?.is_some() {}
        Ok(Response::new(all(vec![answer])))
    }

    async fn do_action(
        &self,
        wire: &Wire,
        request: Request<Action>,
    ) -> Result<Response<Answers<arrow_flight::Result>>, Status> {
        Ok(Response::new(all(Self::act(wire, request.get_ref())?)))
    }
}
