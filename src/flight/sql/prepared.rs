//! Prepared statements without state: the handle is the statement, signed, with its parameters once they are bound.
//!
//! So a handle is good on every server of the cluster, and closing one forgets nothing.

use arrow::array::RecordBatch;
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

use crate::flight::codec::{Inbound, InboundItem, expanded_schema, stream_bytes};
use crate::flight::command::sql_command;
use crate::flight::error::FlightError;
use crate::flight::proto::Packed;
use crate::flight::proto::v1::peer::Statement;
use crate::flight::service::VerbContext;

/// `is_update = 4` of ActionCreatePreparedStatementResult, false and present. arrow-flight's message does not have the
/// field; JDBC takes its absence together with an empty schema for an update.
const IS_NO_UPDATE: &[u8] = &[4 << 3, 0];

/// CreatePreparedStatement and ClosePreparedStatement: the body of the one answer, or none.
pub(in crate::flight) async fn action(
    context: &VerbContext,
    body: &Packed,
) -> Result<std::option::IntoIter<Bytes>, Status> {
    match sql_command(body)? {
        Some(Command::ActionCreatePreparedStatementRequest(request)) => {
            if request.transaction_id.is_some() {
                return Err(FlightError::NotServed {
                    what: "a transaction",
                }
                .into());
            }
            let query = context.services.queries.prepare(&request.query).await?;
            let handle = context.signer.handle(&Statement {
                sql: request.query,
                parameters: Bytes::new(),
            });
            let result = ActionCreatePreparedStatementResult {
                prepared_statement_handle: handle,
                dataset_schema: ipc_schema(&expanded_schema(&query.schema()))?,
                parameter_schema: ipc_schema(&query.parameters())?,
            };
            let mut value = result.encode_to_vec();
            value.extend_from_slice(IS_NO_UPDATE);
            let any = Any {
                type_url: ActionCreatePreparedStatementResult::type_url().to_owned(),
                value: value.into(),
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
    let mut rows: Vec<RecordBatch> = Vec::new();
    while let Some(item) = inbound.next().await? {
        if let InboundItem::Batch { batch, .. } = item
            && batch.num_rows() > 0
        {
            rows.push(batch);
            let count = rows.iter().map(RecordBatch::num_rows).sum();
            if count > 1 {
                return Err(FlightError::ParameterRows { rows: count }.into());
            }
        }
    }
    let row = rows.pop().ok_or(FlightError::ParameterRows { rows: 0 })?;
    // Refuses parameters that do not fit before they are bound.
    let query = context.services.queries.prepare(&statement.sql).await?;
    query.bind(&row)?;
    statement.parameters = stream_bytes(row.schema_ref(), std::slice::from_ref(&row))?;
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
