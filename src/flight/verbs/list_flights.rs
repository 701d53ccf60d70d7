//! ListFlights: every dataset and every model. Criteria: a prefix of the name; empty means all.

use arrow_flight::{Criteria, FlightInfo};
use futures::StreamExt;
use futures::stream::BoxStream;
use tonic::Status;

use super::get_flight_info::{dataset_info, model_info};
use crate::flight::service::VerbContext;

pub(crate) async fn list_flights(
    context: &VerbContext,
    criteria: Criteria,
) -> Result<BoxStream<'static, Result<FlightInfo, Status>>, Status> {
    let prefix = String::from_utf8_lossy(&criteria.expression).into_owned();
    let datasets = context.services.catalog.datasets.list().await?;
    let models = context.services.catalog.models.list().await?;
    let context = context.clone();
    Ok(async_stream::try_stream! {
        for dataset in datasets.iter().filter(|dataset| dataset.name.starts_with(&prefix)) {
            yield dataset_info(&context, dataset)?;
        }
        for manifest in models.iter().filter(|manifest| manifest.name.starts_with(&prefix)) {
            match model_info(&context, &manifest.name, Some(manifest.version)).await {
                Ok(info) => yield info,
                // One model that cannot be read must not hide the others.
                Err(status) => tracing::warn!(
                    model = manifest.name,
                    version = manifest.version,
                    error = status.message(),
                    "a model cannot be listed"
                ),
            }
        }
    }
    .boxed())
}
