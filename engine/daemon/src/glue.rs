//! Where two siblings meet: what the networks' routes need of containers.

use std::sync::Arc;

use engine_api::{NetworkConnectRequest, NetworkDisconnectRequest, StringMap};
use metastore::{Batch, Class};
use network::{Network, Networks};
use tokio::sync::oneshot;

use crate::engine::Engine;
use crate::http::ApiError;
use crate::lifecycle::{Container, Named, endpoint_spec, network_attributes};
use crate::records::{SPECS, Spec};
use crate::routes::networks::{Answer, Containers};

/// The containers, as the networks' routes see them.
pub struct NetworkSide(pub Arc<Engine>);

/// Runs `job` on the networks' thread.
pub(crate) async fn on_thread<T: Send + 'static>(
    engine: &Engine,
    job: impl FnOnce(&mut Networks) -> network::Result<T> + Send + 'static,
) -> Result<T, ApiError> {
    let (done, result) = oneshot::channel();
    engine.network.submit(move |networks| {
        let _ = done.send(job(networks));
    });
    result
        .await
        .map_err(|_| ApiError::internal("the network thread has ended"))?
        .map_err(ApiError::from)
}

fn change_spec(
    engine: &Engine,
    container: &Container,
    change: impl FnOnce(&mut Spec),
) -> Result<Spec, ApiError> {
    let mut spec = container.spec().map_err(ApiError::not_found)?;
    change(&mut spec);
    let written = Batch::default()
        .put_json(SPECS, spec.id.as_bytes(), &spec)
        .and_then(|batch| engine.store.commit(Class::Crash, batch));
    written.map_err(|e| ApiError::internal(e.to_string()))?;
    container.changed(&spec);
    Ok(spec)
}

/// Whether a container is on a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    Already,
    New,
}

/// What keeps a container off a network: some kinds have no other beside them.
fn may_connect(engine: &Engine, spec: &Spec, network: &Network) -> Result<Known, ApiError> {
    let mode = spec.host.network_mode.as_str();
    let shared = || {
        ApiError::bad_request(
            "container sharing network namespace with another container or host cannot be connected to any other network",
        )
    };
    if mode.starts_with("container:") {
        return Err(shared());
    }
    if mode != "host" && network.driver == "host" {
        return Err(ApiError::bad_request(
            "cannot connect container to host network - container must be created in host network mode",
        ));
    }
    for other in spec.endpoints.keys().filter_map(|name| engine.networks.find(name).ok()) {
        if other.name == network.name {
            return Ok(Known::Already);
        }
        if other.driver == "host" || network.driver == "host" {
            return Err(shared());
        }
        if other.name == "none" || network.name == "none" {
            return Err(ApiError::bad_request(
                "container cannot be connected to multiple networks with one of the networks in private (none) mode",
            ));
        }
    }
    Ok(Known::New)
}

async fn connect(
    engine: Arc<Engine>,
    network: Arc<Network>,
    request: NetworkConnectRequest,
) -> Result<(), ApiError> {
    let container = engine.find(&request.container)?;
    let settings = request.endpoint_config.unwrap_or_default();
    let row = container.row();
    let runs = row.state.phase.has_task();
    let record = container.spec().map_err(ApiError::not_found)?;
    if may_connect(&engine, &record, &network)? == Known::Already && !runs {
        return Ok(());
    }
    let named = Named { id: &container.id, name: &row.name, hostname: &record.config.hostname };
    let spec = endpoint_spec(&named, &network.name, &settings);
    if runs {
        let (id, name) = (container.id.clone(), network.id.to_string());
        on_thread(&engine, move |networks| networks.connect(&id, &name, &spec)).await?;
    } else {
        engine.networks.check_endpoint(network.id.as_str(), &spec)?;
    }
    change_spec(&engine, &container, |spec| {
        spec.endpoints.insert(network.name.clone(), settings);
    })?;
    let attributes = network_attributes(&container.id, &network.name, &network.driver);
    engine.events.publish("network", "connect", network.id.as_str(), attributes);
    Ok(())
}

async fn disconnect(
    engine: Arc<Engine>,
    network: Arc<Network>,
    request: NetworkDisconnectRequest,
) -> Result<(), ApiError> {
    let container = engine.find(&request.container)?;
    let row = container.row();
    let spec = container.spec().map_err(ApiError::not_found)?;
    let listed =
        spec.endpoints.keys().find(|k| **k == network.name || **k == *network.id.as_str()).cloned();
    if row.state.phase.has_task() {
        if spec.host.network_mode == "host" && network.driver == "host" {
            return Err(ApiError::bad_request(
                "cannot disconnect container from host network - container was created in host network mode",
            ));
        }
        let (id, name, force) = (container.id.clone(), network.id.to_string(), request.force);
        on_thread(&engine, move |networks| networks.disconnect(&id, &name, force)).await?;
    } else if listed.is_none() {
        let text =
            format!("container {} is not connected to network {}", container.id, network.name);
        return Err(ApiError::forbidden(text));
    }
    if let Some(listed) = listed {
        change_spec(&engine, &container, |spec| {
            spec.endpoints.remove(&listed);
        })?;
    }
    let attributes = network_attributes(&container.id, &network.name, &network.driver);
    engine.events.publish("network", "disconnect", network.id.as_str(), attributes);
    Ok(())
}

impl Containers for NetworkSide {
    fn check(&self, container: &str) -> Result<(), ApiError> {
        self.0.find(container)?;
        Ok(())
    }

    fn connect(&self, network: Arc<Network>, request: NetworkConnectRequest) -> Answer {
        Box::pin(connect(Arc::clone(&self.0), network, request))
    }

    fn disconnect(&self, network: Arc<Network>, request: NetworkDisconnectRequest) -> Answer {
        Box::pin(disconnect(Arc::clone(&self.0), network, request))
    }

    fn publish(&self, action: &'static str, network: &Network) {
        let attributes = StringMap::from([
            ("name".to_owned(), network.name.clone()),
            ("type".to_owned(), network.driver.clone()),
        ]);
        self.0.events.publish("network", action, network.id.as_str(), attributes);
    }
}
