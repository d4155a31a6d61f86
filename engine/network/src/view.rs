//! The published view of networks and endpoints: what `list` and `inspect` read from any thread
//! while the owner works. Short locks, no kernel, no store.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use crate::types::{Endpoint, Network, NetworkId};
use crate::{Error, Result};

#[derive(Debug, Default)]
struct View {
    networks: BTreeMap<NetworkId, Arc<Network>>,
    /// By network, then by container.
    endpoints: BTreeMap<NetworkId, BTreeMap<String, Arc<Endpoint>>>,
    warnings: Vec<String>,
}

/// A network with its endpoints.
#[derive(Clone, Debug)]
pub struct NetworkView {
    /// The network.
    pub network: Arc<Network>,
    /// Its endpoints, by container.
    pub endpoints: Vec<Arc<Endpoint>>,
}

/// Reads networks and endpoints from any thread.
#[derive(Clone, Debug, Default)]
pub struct Reader(Arc<RwLock<View>>);

impl Reader {
    fn read(&self) -> RwLockReadGuard<'_, View> {
        // A view is replaced value by value: a panic elsewhere can't leave half of one.
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// All networks, without endpoints, newest first after the built-in ones were made.
    pub fn networks(&self) -> Vec<Arc<Network>> {
        let mut all: Vec<_> = self.read().networks.values().cloned().collect();
        all.sort_by_key(|n| (n.created, n.id.clone()));
        all
    }

    /// One network by full id, exact name, or unique id prefix.
    pub fn find(&self, name_or_id: &str) -> Result<Arc<Network>> {
        find(&self.read().networks, name_or_id).cloned()
    }

    /// One network with its endpoints.
    pub fn inspect(&self, name_or_id: &str) -> Result<NetworkView> {
        let view = self.read();
        let network = find(&view.networks, name_or_id)?.clone();
        let endpoints = view
            .endpoints
            .get(&network.id)
            .map(|all| all.values().cloned().collect())
            .unwrap_or_default();
        Ok(NetworkView { network, endpoints })
    }

    /// How many endpoints a network has.
    pub fn endpoint_count(&self, network: &NetworkId) -> usize {
        self.read().endpoints.get(network).map_or(0, BTreeMap::len)
    }

    /// A container's endpoints, by network name.
    pub fn of_container(&self, container: &str) -> Vec<Arc<Endpoint>> {
        let mut all: Vec<_> =
            self.read().endpoints.values().filter_map(|e| e.get(container).cloned()).collect();
        all.sort_by(|a, b| a.network_name.cmp(&b.network_name));
        all
    }

    /// Checks what a container asks of a network, as create and connect do before they change
    /// anything. Of a network that does not exist yet only the form can be checked.
    pub fn check_endpoint(&self, network: &str, spec: &crate::EndpointSpec) -> Result<()> {
        let found = self.find(network).ok();
        let name = found.as_ref().map_or(network, |n| n.name.as_str());
        crate::validate::endpoint_of(name, found.as_deref(), spec)?;
        found.map_or(Ok(()), |network| crate::validate::endpoint(&network, spec).map(|_| ()))
    }

    /// What keeps containers' packets from passing and can't be mended from here.
    pub fn warnings(&self) -> Vec<String> {
        self.read().warnings.clone()
    }

    fn write(&self, change: impl FnOnce(&mut View)) {
        change(&mut self.0.write().unwrap_or_else(PoisonError::into_inner));
    }

    pub(crate) fn put_network(&self, network: Arc<Network>) {
        self.write(|view| {
            view.networks.insert(network.id.clone(), network);
        });
    }

    pub(crate) fn remove_network(&self, id: &NetworkId) {
        self.write(|view| {
            view.networks.remove(id);
            view.endpoints.remove(id);
        });
    }

    pub(crate) fn put_endpoint(&self, endpoint: Endpoint) {
        self.write(|view| {
            let all = view.endpoints.entry(endpoint.network.clone()).or_default();
            all.insert(endpoint.container.clone(), Arc::new(endpoint));
        });
    }

    pub(crate) fn remove_endpoint(&self, endpoint: &Endpoint) {
        self.write(|view| {
            if let Some(all) = view.endpoints.get_mut(&endpoint.network) {
                all.remove(&endpoint.container);
            }
        });
    }

    pub(crate) fn set_warnings(&self, warnings: Vec<String>) {
        self.write(|view| view.warnings = warnings);
    }
}

fn find<'a>(
    all: &'a BTreeMap<NetworkId, Arc<Network>>,
    name_or_id: &str,
) -> Result<&'a Arc<Network>> {
    if let Some(network) = all.values().find(|n| n.id.as_str() == name_or_id) {
        return Ok(network);
    }
    if let Some(network) = all.values().find(|n| n.name == name_or_id) {
        return Ok(network);
    }
    let not_found = || Error::NetworkNotFound(name_or_id.to_owned());
    if name_or_id.is_empty() {
        return Err(not_found());
    }
    let mut by_prefix = all.values().filter(|n| n.id.as_str().starts_with(name_or_id));
    match (by_prefix.next(), by_prefix.count()) {
        (Some(one), 0) => Ok(one),
        (Some(_), more) => Err(Error::Ambiguous(name_or_id.to_owned(), more + 1, "ID prefix")),
        (None, _) => Err(not_found()),
    }
}
