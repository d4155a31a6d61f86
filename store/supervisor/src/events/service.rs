//! `containerd.services.events.v1.Events`.

use std::pin::Pin;
use std::sync::Arc;

use containerd_api::filter::Filters;
use containerd_api::services::events::v1 as api;
use containerd_api::types::Envelope;
use futures_util::Stream;
use futures_util::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::{Context, Error, State};

/// The gRPC service of events.
#[derive(Debug, Clone)]
pub struct Service(pub Arc<State>);

#[tonic::async_trait]
impl api::events_server::Events for Service {
    async fn publish(&self, request: Request<api::PublishRequest>) -> Result<Response<()>, Status> {
        let context = Context::from_metadata(request.metadata())?;
        let request = request.into_inner();
        let event = request.event.unwrap_or_default();
        self.0.events.publish_any(&context.namespace, &request.topic, event)?;
        Ok(Response::new(()))
    }

    async fn forward(&self, request: Request<api::ForwardRequest>) -> Result<Response<()>, Status> {
        self.0.events.forward(request.into_inner().envelope.unwrap_or_default())?;
        Ok(Response::new(()))
    }

    type SubscribeStream = Pin<Box<dyn Stream<Item = Result<Envelope, Status>> + Send>>;

    async fn subscribe(
        &self,
        request: Request<api::SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let filters = Filters::parse(&request.into_inner().filters).map_err(Error::from)?;
        let events = ReceiverStream::new(self.0.events.subscribe(filters)).map(Ok);
        Ok(Response::new(Box::pin(events)))
    }
}
