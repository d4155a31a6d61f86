//! `Version` and gRPC's standard `Health`.

use std::pin::Pin;

use containerd_api::health::health_check_response::ServingStatus;
use containerd_api::health::{self, HealthCheckRequest, HealthCheckResponse};
use containerd_api::services::version::v1 as api;
use futures_util::Stream;
use tonic::{Request, Response, Status};

/// The version that clients compare: the containerd whose services are offered.
pub const VERSION: &str = concat!("2.1.9+ferry-", env!("CARGO_PKG_VERSION"));

/// The gRPC service of the version.
#[derive(Debug, Clone)]
pub struct Service;

#[tonic::async_trait]
impl api::version_server::Version for Service {
    async fn version(&self, _: Request<()>) -> Result<Response<api::VersionResponse>, Status> {
        let version = api::VersionResponse { version: VERSION.into(), revision: String::new() };
        Ok(Response::new(version))
    }
}

/// The gRPC service of health: once the socket answers, everything does.
#[derive(Debug, Clone)]
pub struct Health;

const SERVING: HealthCheckResponse = HealthCheckResponse { status: ServingStatus::Serving as i32 };

#[tonic::async_trait]
impl health::health_server::Health for Health {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        if request.get_ref().service.is_empty() {
            return Ok(Response::new(SERVING));
        }
        Err(Status::not_found("unknown service"))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(
        &self,
        _: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        // The status never changes while the server lives; its end ends the stream.
        let once = futures_util::stream::iter([Ok(SERVING)]);
        let forever = futures_util::StreamExt::chain(once, futures_util::stream::pending());
        Ok(Response::new(Box::pin(forever)))
    }
}
