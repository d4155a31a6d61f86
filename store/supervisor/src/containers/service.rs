//! `containerd.services.containers.v1.Containers`.

use std::pin::Pin;
use std::sync::Arc;

use containerd_api::filter::Filters;
use containerd_api::services::containers::v1 as api;
use futures_util::Stream;
use tonic::{Request, Response, Status};

use crate::{Context, Error, State, labels};

/// The gRPC service of containers.
#[derive(Debug, Clone)]
pub struct Service(pub Arc<State>);

impl Service {
    fn list_matching(
        &self,
        request: Request<api::ListContainersRequest>,
    ) -> Result<Vec<api::Container>, Error> {
        let context = Context::from_metadata(request.metadata())?;
        let filters = Filters::parse(&request.into_inner().filters)?;
        let mut all = self.0.containers(&context)?;
        all.retain(|container| matches(&filters, container));
        Ok(all)
    }
}

fn matches(filters: &Filters, container: &api::Container) -> bool {
    filters.matches(&|path: &[&str]| match path {
        ["id"] => Some(container.id.clone()),
        ["image"] => Some(container.image.clone()).filter(|s| !s.is_empty()),
        ["runtime", "name"] => container.runtime.as_ref().map(|r| r.name.clone()),
        ["snapshotter"] => Some(container.snapshotter.clone()).filter(|s| !s.is_empty()),
        ["snapshotkey"] => Some(container.snapshot_key.clone()).filter(|s| !s.is_empty()),
        ["labels", rest @ ..] => container.labels.get(&rest.join(".")).cloned(),
        _ => None,
    })
}

#[tonic::async_trait]
impl api::containers_server::Containers for Service {
    async fn get(
        &self,
        request: Request<api::GetContainerRequest>,
    ) -> Result<Response<api::GetContainerResponse>, Status> {
        let context = Context::from_metadata(request.metadata())?;
        let container = Some(self.0.container(&context, &request.into_inner().id)?);
        Ok(Response::new(api::GetContainerResponse { container }))
    }

    async fn list(
        &self,
        request: Request<api::ListContainersRequest>,
    ) -> Result<Response<api::ListContainersResponse>, Status> {
        let containers = self.list_matching(request)?;
        Ok(Response::new(api::ListContainersResponse { containers }))
    }

    type ListStreamStream =
        Pin<Box<dyn Stream<Item = Result<api::ListContainerMessage, Status>> + Send>>;

    async fn list_stream(
        &self,
        request: Request<api::ListContainersRequest>,
    ) -> Result<Response<Self::ListStreamStream>, Status> {
        let all = self.list_matching(request)?.into_iter();
        let messages = all.map(|c| Ok(api::ListContainerMessage { container: Some(c) }));
        Ok(Response::new(Box::pin(futures_util::stream::iter(messages))))
    }

    async fn create(
        &self,
        request: Request<api::CreateContainerRequest>,
    ) -> Result<Response<api::CreateContainerResponse>, Status> {
        let context = Context::from_metadata(request.metadata())?;
        let wanted = request.into_inner().container.unwrap_or_default();
        let container = Some(self.0.create_container(&context, wanted)?);
        Ok(Response::new(api::CreateContainerResponse { container }))
    }

    async fn update(
        &self,
        request: Request<api::UpdateContainerRequest>,
    ) -> Result<Response<api::UpdateContainerResponse>, Status> {
        let context = Context::from_metadata(request.metadata())?;
        let request = request.into_inner();
        let paths = labels::paths(request.update_mask);
        let wanted = request.container.unwrap_or_default();
        let container = Some(self.0.update_container(&context, wanted, &paths)?);
        Ok(Response::new(api::UpdateContainerResponse { container }))
    }

    async fn delete(
        &self,
        request: Request<api::DeleteContainerRequest>,
    ) -> Result<Response<()>, Status> {
        let context = Context::from_metadata(request.metadata())?;
        self.0.delete_container(&context, &request.into_inner().id)?;
        Ok(Response::new(()))
    }
}
