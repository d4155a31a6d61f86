//! Where two siblings meet: what the networks' routes need of containers.

use std::sync::Arc;

use engine_api::{NetworkConnectRequest, NetworkDisconnectRequest, StringMap};
use metastore::{Batch, Class};
use network::{Network, Networks};
use tokio::sync::oneshot;

use crate::engine::Engine;
use crate::http::ApiError;
use crate::lifecycle::{Container, network_attributes};
use crate::records::{SPECS, Spec};
use crate::routes::networks::{Answer, Containers, endpoint_spec};

/// The containers, as the networks' routes see them.
pub struct NetworkSide(pub Arc<Engine>);

async fn on_thread<T: Send + 'static>(
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
    Ok(spec)
}

async fn connect(
    engine: Arc<Engine>,
    network: Arc<Network>,
    request: NetworkConnectRequest,
) -> Result<(), ApiError> {
    let container = engine.find(&request.container)?;
    let settings = request.endpoint_config.unwrap_or_default();
    let row = container.row();
    let mode = row.fixed.network_mode.as_str();
    if mode == "host" || mode.starts_with("container:") || network.driver == "host" {
        let text = format!(
            "container cannot be {} to host network or one of another container",
            "connected"
        );
        return Err(ApiError::forbidden(text));
    }
    let custom = !network.predefined();
    let names = custom.then(|| {
        let mut names = vec![row.name.clone()];
        names.extend(settings.aliases.iter().flatten().cloned());
        names.push(container.id[..12].to_owned());
        names
    });
    let spec = endpoint_spec(&row.name, &settings, names);
    if row.state.phase.has_task() {
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
