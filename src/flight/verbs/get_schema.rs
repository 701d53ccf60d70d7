//! GetSchema: the schema that GetFlightInfo would advertise.

use arrow::ipc::writer::IpcWriteOptions;
use arrow_flight::{FlightDescriptor, SchemaAsIpc, SchemaResult};
use tonic::Status;

use super::Target;
use super::get_flight_info::target_schema;
use crate::flight::error::FlightError;
use crate::flight::service::VerbContext;

pub(crate) async fn get_schema(
    context: &VerbContext,
    descriptor: FlightDescriptor,
) -> Result<SchemaResult, Status> {
    let target = Target::of(&descriptor)?;
    let schema = target_schema(context, target).await?;
    let options = IpcWriteOptions::default();
    SchemaResult::try_from(SchemaAsIpc::new(&schema, &options)).map_err(|error| {
        FlightError::Internal {
            doing: "encoding a schema",
            reason: error.to_string(),
        }
        .into()
    })
}
