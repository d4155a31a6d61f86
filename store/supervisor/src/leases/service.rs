//! `containerd.services.leases.v1.Leases`.

use std::sync::Arc;

use containerd_api::filter::Filters;
use containerd_api::services::leases::v1 as api;
use containerd_api::time;
use tonic::{Request, Response, Status};

use super::{Lease, Resource};
use crate::{Context, Error, State, labels};

/// The gRPC service of leases.
#[derive(Debug, Clone)]
pub struct Service(pub Arc<State>);

fn to_api(id: String, lease: Lease) -> api::Lease {
    api::Lease {
        id,
        created_at: Some(time::from_nanos(lease.created)),
        labels: lease.labels.into_iter().collect(),
    }
}

fn resource(resource: Option<api::Resource>) -> Resource {
    let resource = resource.unwrap_or_default();
    Resource::new(resource.r#type, resource.id)
}

#[tonic::async_trait]
impl api::leases_server::Leases for Service {
    async fn create(
        &self,
        request: Request<api::CreateRequest>,
    ) -> Result<Response<api::CreateResponse>, Status> {
        let context = Context::from_metadata(request.metadata())?;
        let request = request.into_inner();
        let labels = labels::checked(request.labels)?;
        let lease = self.0.create_lease(&context, &request.id, labels)?;
        let lease = Some(to_api(request.id, lease));
        Ok(Response::new(api::CreateResponse { lease }))
    }

    async fn delete(&self, request: Request<api::DeleteRequest>) -> Result<Response<()>, Status> {
        let context = Context::from_metadata(request.metadata())?;
        let request = request.into_inner();
        self.0.delete_lease(&context, &request.id)?;
        if request.sync {
            crate::gc::collect(&self.0).await?;
        }
        Ok(Response::new(()))
    }

    async fn list(
        &self,
        request: Request<api::ListRequest>,
    ) -> Result<Response<api::ListResponse>, Status> {
        let context = Context::from_metadata(request.metadata())?;
        let filters = Filters::parse(&request.into_inner().filters).map_err(Error::from)?;
        let mut leases = Vec::new();
        for (id, lease) in self.0.leases(&context)? {
            let matches = filters.matches(&|path: &[&str]| match path {
                ["id"] => Some(id.clone()),
                ["labels", rest @ ..] => labels::field(&lease.labels, rest),
                _ => None,
            });
            if matches {
                leases.push(to_api(id, lease));
            }
        }
        Ok(Response::new(api::ListResponse { leases }))
    }

    async fn add_resource(
        &self,
        request: Request<api::AddResourceRequest>,
    ) -> Result<Response<()>, Status> {
        let context = Context::from_metadata(request.metadata())?;
        let request = request.into_inner();
        self.0.lease_add(&context, &request.id, resource(request.resource))?;
        Ok(Response::new(()))
    }

    async fn delete_resource(
        &self,
        request: Request<api::DeleteResourceRequest>,
    ) -> Result<Response<()>, Status> {
        let context = Context::from_metadata(request.metadata())?;
        let request = request.into_inner();
        self.0.lease_drop(&context, &request.id, resource(request.resource))?;
        Ok(Response::new(()))
    }

    async fn list_resources(
        &self,
        request: Request<api::ListResourcesRequest>,
    ) -> Result<Response<api::ListResourcesResponse>, Status> {
        let context = Context::from_metadata(request.metadata())?;
        let all = self.0.lease_resources(&context, &request.into_inner().id)?.into_iter();
        let resources = all.map(|r| api::Resource { id: r.id, r#type: r.kind }).collect();
        Ok(Response::new(api::ListResourcesResponse { resources }))
    }
}
