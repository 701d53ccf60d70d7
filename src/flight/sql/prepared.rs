//! Prepared statements without state: the handle is the statement, signed, with its parameters once they are bound.
//!
//! So a handle is good on every server of the cluster, and closing one forgets nothing.

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::Schema;
use arrow::ipc::writer::IpcWriteOptions;
use arrow_flight::sql::{
    ActionCreatePreparedStatementResult, Any, Command, DoPutPreparedStatementResult,
    ProstMessageExt,
};
use arrow_flight::{IpcMessage, PutResult, SchemaAsIpc};
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use prost::Message;
use tonic::Status;

use super::statements::described_schema;
use crate::features::SqlStatementPlan;
use crate::flight::codec::{Inbound, InboundItem, stream_bytes};
use crate::flight::command::sql_command;
use crate::flight::error::FlightError;
use crate::flight::proto::Packed;
use crate::flight::proto::v1::peer::Statement;
use crate::flight::service::VerbContext;

/// ActionCreatePreparedStatementResult with the field that arrow-flight's message does not have. Drivers that miss it
/// take an empty schema for an update.
#[derive(Clone, PartialEq, prost::Message)]
struct PreparedStatement {
    #[prost(bytes = "bytes", tag = "1")]
    prepared_statement_handle: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    dataset_schema: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    parameter_schema: Bytes,
    #[prost(bool, optional, tag = "4")]
    is_update: Option<bool>,
}

/// Most bytes of bound values that a handle carries: it travels with every call.
const PARAMETER_BYTES_MAX: usize = 4 << 20;

/// CreatePreparedStatement and ClosePreparedStatement: the body of the one answer, or none.
pub(in crate::flight) async fn action(
    context: &VerbContext,
    body: &Packed,
) -> Result<std::option::IntoIter<Bytes>, Status> {
    match sql_command(body)? {
        Some(Command::ActionCreatePreparedStatementRequest(request)) => {
            super::refuse_transaction(request.transaction_id.as_ref())?;
            let planned = context.services.queries.understand(&request.query).await?;
            let handle = context.signer.handle(&Statement {
                sql: request.query,
                parameters: Bytes::new(),
            });
            let (dataset_schema, parameters, is_update) = match planned {
                SqlStatementPlan::Query(query) => (
                    ipc_schema(&described_schema(&query))?,
                    query.parameters(),
                    false,
                ),
                SqlStatementPlan::Change(change) => (Bytes::new(), change.parameters(), true),
            };
            let result = PreparedStatement {
                prepared_statement_handle: handle,
                dataset_schema,
                parameter_schema: ipc_schema(&parameters)?,
                is_update: Some(is_update),
            };
            let any = Any {
                type_url: ActionCreatePreparedStatementResult::type_url().to_owned(),
                value: result.encode_to_vec().into(),
            };
            Ok(Some(Bytes::from(any.encode_to_vec())).into_iter())
        }
        Some(Command::ActionClosePreparedStatementRequest(request)) => {
            context
                .signer
                .open_handle(&request.prepared_statement_handle)?;
            Ok(None.into_iter())
        }
        _ => Err(FlightError::BadCommand {
            message: body.name.clone(),
            reason: "it is not a prepared statement's action".to_owned(),
        }
        .into()),
    }
}

/// DoPut of parameters: answers with the handle that holds them.
pub(super) async fn bind(
    context: &VerbContext,
    handle: &Bytes,
    mut inbound: Inbound,
) -> Result<BoxStream<'static, Result<PutResult, Status>>, Status> {
    let mut statement = context.signer.open_handle(handle)?;
    let mut schema = None;
    let mut batches: Vec<RecordBatch> = Vec::new();
    let mut bytes = 0;
    while let Some(item) = inbound.next().await? {
        match item {
            InboundItem::Schema(given) => schema = Some(given),
            InboundItem::Batch { batch, .. } => {
                bytes += batch.get_array_memory_size();
                if bytes > PARAMETER_BYTES_MAX {
                    return Err(FlightError::TooManyParameters {
                        bytes,
                        limit: PARAMETER_BYTES_MAX,
                    }
                    .into());
                }
                batches.push(batch);
            }
            InboundItem::Metadata(_) => {}
        }
    }
    let schema = schema.ok_or(FlightError::NoSchema)?;
    let values = concat_batches(&schema, &batches).map_err(|error| FlightError::BadMessage {
        reason: error.to_string(),
    })?;
    // Refuses parameters that do not fit before they are bound.
    match context.services.queries.understand(&statement.sql).await? {
        SqlStatementPlan::Query(query) => {
            query.bind(&values)?;
        }
        SqlStatementPlan::Change(change) => {
            let expected = change.parameters().fields().len();
            if values.num_columns() != expected || (expected > 0 && values.num_rows() == 0) {
                return Err(FlightError::BadMessage {
                    reason: format!(
                        "the number of parameters is {expected}, and {} rows of {} values were bound",
                        values.num_rows(),
                        values.num_columns()
                    ),
                }
                .into());
            }
        }
    }
    statement.parameters = match values.num_columns() {
        0 => Bytes::new(),
        _ => stream_bytes(&schema, std::slice::from_ref(&values))?,
    };
    let result = DoPutPreparedStatementResult {
        prepared_statement_handle: Some(context.signer.handle(&statement)),
    };
    let answer = PutResult {
        app_metadata: result.encode_to_vec().into(),
    };
    Ok(futures::stream::once(async { Ok(answer) }).boxed())
}

/// A schema as Flight SQL's messages carry it.
fn ipc_schema(schema: &Schema) -> Result<Bytes, FlightError> {
    let IpcMessage(bytes) = SchemaAsIpc::new(schema, &IpcWriteOptions::default())
        .try_into()
        .map_err(|error: arrow::error::ArrowError| FlightError::Internal {
            doing: "encoding a schema",
            reason: error.to_string(),
        })?;
    Ok(bytes)
}
