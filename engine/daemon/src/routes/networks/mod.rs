//! The networks' endpoints: list, inspect, create, remove, connect, disconnect, prune. Reads come
//! from the published view, changes go to the network crate's thread, and what concerns a
//! container (its record, its actor) to [`Containers`]. No kernel, no store here.

mod convert;
mod filter;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use engine_api::filters::{NETWORKS, NETWORKS_PRUNE};
use engine_api::types::{
    NetworkConnectRequest, NetworkCreateRequest, NetworkCreateResponse, NetworkDisconnectRequest,
    NetworkInspect, NetworksPruneReport,
};
use http::StatusCode;
use network::thread::Handle;
use network::{Kind, Network, Networks, Reader};

use crate::http::{ApiError, Request, Response, Router};

pub use convert::endpoint_settings;

/// What comes of a request to a container.
pub type Answer = Pin<Box<dyn Future<Output = Result<(), ApiError>> + Send>>;

/// What the networks' routes need of containers; the lifecycle implements it.
pub trait Containers: Send + Sync {
    /// Connects a container, by any reference, running or not, to a network, and publishes the
    /// event.
    fn connect(&self, network: Arc<Network>, request: NetworkConnectRequest) -> Answer;

    /// Whether there is such a container; else the error that says so.
    ///
    /// # Errors
    /// 404 with the name as it was given.
    fn check(&self, container: &str) -> Result<(), ApiError>;

    /// Takes a container off a network, and publishes the event.
    fn disconnect(&self, network: Arc<Network>, request: NetworkDisconnectRequest) -> Answer;

    /// Publishes a network's event: `create` or `destroy`.
    fn publish(&self, action: &'static str, network: &Network);
}

/// What the routes work on.
#[derive(Clone)]
pub struct Context {
    /// The published view.
    pub reader: Reader,
    /// The thread that owns the networks.
    pub thread: Handle,
    /// The containers.
    pub containers: Arc<dyn Containers>,
}

impl From<network::Error> for ApiError {
    fn from(error: network::Error) -> Self {
        let status = match error.kind() {
            Kind::InvalidParameter => StatusCode::BAD_REQUEST,
            Kind::NotFound => StatusCode::NOT_FOUND,
            Kind::Conflict => StatusCode::CONFLICT,
            Kind::Forbidden => StatusCode::FORBIDDEN,
            Kind::NotImplemented => StatusCode::NOT_IMPLEMENTED,
            Kind::System => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self { status, message: error.to_string() }
    }
}

/// Registers the routes.
pub fn register(router: &mut Router, context: &Context) {
    routes!(router.on(context) {
        "NetworkList" list;
        "NetworkListSlash" list;
        "NetworkInspect" inspect;
        "NetworkCreate" create;
        "NetworkConnect" connect;
        "NetworkDisconnect" disconnect;
        "NetworkPrune" prune;
        "NetworkDelete" remove;
    });
}

/// Runs something on the networks' thread.
///
/// # Errors
/// What it returns; 500 when the thread has ended.
pub async fn on_thread<T: Send + 'static>(
    thread: &Handle,
    job: impl FnOnce(&mut Networks) -> network::Result<T> + Send + 'static,
) -> Result<T, ApiError> {
    let (answer, result) = tokio::sync::oneshot::channel();
    thread.submit(move |networks| {
        // A caller that is gone needs no answer.
        let _ = answer.send(job(networks));
    });
    match result.await {
        Ok(done) => Ok(done?),
        Err(_) => Err(ApiError::internal("the network thread has ended")),
    }
}

#[allow(clippy::unused_async)] // every handler is registered alike
async fn list(context: Context, request: Request) -> Result<Response, ApiError> {
    let filters = request.filters(NETWORKS)?;
    let wanted = filter::Wanted::new(&filters)?;
    let all: Vec<NetworkInspect> = context
        .reader
        .networks()
        .iter()
        .filter(|n| wanted.matches(n, context.reader.endpoint_count(&n.id)))
        .map(|n| convert::network(n))
        .collect();
    Ok(Response::json(&all, request.version))
}

#[allow(clippy::unused_async)] // every handler is registered alike
async fn inspect(context: Context, request: Request) -> Result<Response, ApiError> {
    let found = context.reader.inspect(request.name())?;
    let scope = request.query.get("scope");
    if !scope.is_empty() && scope != found.network.scope {
        return Err(ApiError::not_found(format!("network {} not found", request.name())));
    }
    let mut shown = convert::network(&found.network);
    shown.containers = found.endpoints.iter().map(|e| convert::resource(e)).collect();
    Ok(Response::json(&shown, request.version))
}

async fn create(context: Context, request: Request) -> Result<Response, ApiError> {
    let version = request.version;
    let body: NetworkCreateRequest = request.json_required().await?;
    let spec = convert::spec(body);
    let network = on_thread(&context.thread, move |networks| networks.create(&spec)).await?;
    context.containers.publish("create", &network);
    let reply =
        NetworkCreateResponse { id: network.id.to_string(), ..NetworkCreateResponse::default() };
    Ok(Response::json_with(StatusCode::CREATED, &reply, version))
}

async fn remove(context: Context, request: Request) -> Result<Response, ApiError> {
    let name = request.name().to_owned();
    let network = on_thread(&context.thread, move |networks| networks.remove(&name)).await?;
    context.containers.publish("destroy", &network);
    Ok(Response::no_content())
}

async fn connect(context: Context, request: Request) -> Result<Response, ApiError> {
    let name = request.name().to_owned();
    let body: NetworkConnectRequest = request.json_required().await?;
    named(&body.container)?;
    context.containers.check(&body.container)?;
    let network = context.reader.find(&name)?;
    context.containers.connect(network, body).await?;
    Ok(Response::status(StatusCode::OK))
}

async fn disconnect(context: Context, request: Request) -> Result<Response, ApiError> {
    let name = request.name().to_owned();
    let body: NetworkDisconnectRequest = request.json_required().await?;
    named(&body.container)?;
    let known = context.containers.check(&body.container);
    if !body.force {
        known.clone()?;
    }
    let network = context.reader.find(&name)?;
    // By force an endpoint goes whose container is gone; none ever is.
    known.map_err(|_| ApiError::not_found(format!("endpoint {} not found", body.container)))?;
    context.containers.disconnect(network, body).await?;
    Ok(Response::status(StatusCode::OK))
}

fn named(container: &str) -> Result<(), ApiError> {
    if container.is_empty() {
        return Err(ApiError::bad_request("invalid name or ID supplied: \"\""));
    }
    Ok(())
}

async fn prune(context: Context, request: Request) -> Result<Response, ApiError> {
    let filters = request.filters(NETWORKS_PRUNE)?;
    let until = crate::routes::containers::until(&filters)?;
    let mut deleted = Vec::new();
    for network in context.reader.networks() {
        let old = until.is_none_or(|until| network.created < until);
        let chosen = filters.labels("label", &network.labels)
            && filters.without_labels(&network.labels)
            && old;
        if network.predefined() || !chosen || context.reader.endpoint_count(&network.id) > 0 {
            continue;
        }
        let id = network.id.to_string();
        // One that came into use meanwhile stays, as its removal by name would be refused.
        if on_thread(&context.thread, move |networks| networks.remove(&id)).await.is_ok() {
            context.containers.publish("destroy", &network);
            deleted.push(network.name.clone());
        }
    }
    let networks_deleted = (!deleted.is_empty()).then_some(deleted);
    Ok(Response::json(&NetworksPruneReport { networks_deleted }, request.version))
}
