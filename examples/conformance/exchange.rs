//! `do_exchange:echo`: every batch comes back, with the metadata that it came with.

use arrow_flight::FlightData;
use futures::StreamExt;
use tonic::{Request, Response, Status, Streaming};
use volary::flight::conformance::{
    Answers, BatchEncoder, FlightError, FlightMessage, Inbound, InboundItem, Verbs, Wire,
    expanded_schema,
};

use crate::toy::expect;

#[derive(Debug)]
pub(crate) struct Echo;

#[tonic::async_trait]
impl Verbs for Echo {
    async fn do_exchange(
        &self,
        wire: &Wire,
        request: Request<Streaming<FlightData>>,
    ) -> Result<Response<Answers<FlightMessage>>, Status> {
        let (descriptor, mut inbound) = Inbound::open(request.into_inner(), wire.limits).await?;
        expect("command", &descriptor.cmd, "echo")?;
        let answers: Answers<FlightMessage> = async_stream::try_stream! {
            let mut encoder = None;
            while let Some(item) = inbound.next().await? {
                match item {
                    InboundItem::Schema(schema) => {
                        let begun = BatchEncoder::new(expanded_schema(&schema));
                        yield begun.schema_message();
                        encoder = Some(begun);
                    }
                    InboundItem::Batch { batch, app_metadata } => {
                        let encoder = encoder.as_mut().ok_or(FlightError::NoSchema)?;
                        yield encoder.encode_whole(&batch, app_metadata)?;
                    }
                    InboundItem::Metadata(app_metadata) => {
                        yield FlightMessage { app_metadata, ..FlightMessage::default() };
                    }
                }
            }
        }
        .boxed();
        Ok(Response::new(answers))
    }
}
