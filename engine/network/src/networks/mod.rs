//! `Networks`: the owner of all networks, sandboxes and endpoints. Used from one thread, which no
//! other code moves between network namespaces. Here: its state, opening, creating and removing
//! networks. Joining is in `connect`, the kernel in `kernel`, dying in `release`, restarts in
//! `restore`.

mod connect;
mod forwarding;
mod kernel;
mod release;
mod restore;
mod sandboxes;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use ipam::{Allocations, Prefix};
use metastore::Store;
use sys::netlink::{Protocol, Socket, route};

use crate::config::Config;
use crate::driver::bridge::Bridge;
use crate::driver::host::Plain;
use crate::driver::{Driver, Element};
use crate::firewall::{Firewall, Settings};
use crate::records::{EndpointRecord, Records, SandboxRecord};
use crate::sandbox::{Namespaces, Ready};
use crate::types::{Network, NetworkId, NetworkSpec, Pool, SandboxId};
use crate::view::Reader;
use crate::{Error, Result, validate};

pub use restore::Restored;

/// A network and what is allocated of it.
struct NetworkState {
    network: Arc<Network>,
    /// One for each pool of the network.
    allocations: Vec<Allocations>,
    /// The bridge's number in the kernel, once known.
    bridge: Option<u32>,
    /// Endpoints, dying ones included: each is a port of the bridge.
    ports: usize,
    /// The newest endpoint that a restart found.
    newest: u64,
}

/// A container's sandbox and endpoints.
struct SandboxState {
    record: SandboxRecord,
    /// Descriptors from the pool, until the first endpoint is there.
    ready: Option<Ready>,
    endpoints: Vec<EndpointRecord>,
    /// How many of `endpoints`, at its end, are reserved and not in the kernel yet.
    unmade: usize,
}

impl SandboxState {
    /// The endpoints that exist in the kernel.
    fn made(&self) -> &[EndpointRecord] {
        &self.endpoints[..self.endpoints.len() - self.unmade]
    }
}

/// All networks, sandboxes and endpoints of a daemon.
pub struct Networks {
    config: Config,
    records: Records,
    reader: Reader,
    host: Socket,
    monitor: Socket,
    firewall: Firewall,
    namespaces: Namespaces,
    drivers: Vec<Box<dyn Driver>>,
    networks: BTreeMap<NetworkId, NetworkState>,
    sandboxes: BTreeMap<String, SandboxState>,
    dying: BTreeMap<SandboxId, release::Dying>,
    unclean: release::Unclean,
    queue: VecDeque<SandboxId>,
    /// The number of the next endpoint.
    next_serial: u64,
    /// Links of others changed, which may be bridges whose packets are to pass.
    guests_stale: bool,
    /// After the end nothing is repaired any more.
    ended: bool,
}

impl Networks {
    /// Opens records and sockets; the calling thread's network namespace is the host's from now
    /// on. The kernel is changed by `restore`, which must follow before anything else.
    pub fn open(config: Config, store: Store) -> Result<Self> {
        let records = Records::new(store);
        let host =
            Socket::open(Protocol::Route).map_err(|e| Error::kernel("open netlink socket", e))?;
        let monitor = Socket::open_in_groups(Protocol::Route, &[route::GROUP_LINK])
            .map_err(|e| Error::kernel("open netlink socket", e))?;
        let firewall = Firewall::open(&Settings {
            table: config.table.clone(),
            on: config.firewall,
            own: config.own_tables,
            bus: config.bus.clone(),
        })?;
        let namespaces = Namespaces::open(config.exec_root.join("netns"), config.ready)?;
        let mut networks = Self {
            config,
            records,
            reader: Reader::default(),
            host,
            monitor,
            firewall,
            namespaces,
            drivers: vec![Box::new(Bridge), Box::new(Plain::HOST), Box::new(Plain::NULL)],
            networks: BTreeMap::new(),
            sandboxes: BTreeMap::new(),
            dying: BTreeMap::new(),
            unclean: release::Unclean::default(),
            queue: VecDeque::new(),
            next_serial: 1,
            guests_stale: false,
            ended: false,
        };
        for network in networks.records.networks()? {
            networks.keep(network);
        }
        Ok(networks)
    }

    /// The published view, for other threads.
    pub fn reader(&self) -> Reader {
        self.reader.clone()
    }

    /// Descriptors that become readable when `maintain` has something to do.
    pub fn wakers(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let firewall = (!self.ended).then(|| self.firewall.wakers());
        [self.monitor.as_fd()].into_iter().chain(firewall.into_iter().flatten())
    }

    /// Whether the kernel keeps others from changing our firewall tables (from 6.9 on).
    pub fn tables_are_owned(&self) -> bool {
        self.firewall.owned()
    }

    /// Creates a network; nothing has changed when it fails.
    pub fn create(&mut self, spec: &NetworkSpec) -> Result<Arc<Network>> {
        validate::spec(spec)?;
        if self.networks.values().any(|n| n.network.name == spec.name) {
            return Err(Error::NameInUse(spec.name.clone()));
        }
        let name = if spec.driver.is_empty() { "bridge" } else { spec.driver.as_str() };
        if !self.drivers.iter().any(|d| d.name() == name) {
            return Err(Error::PluginNotFound(name.to_owned()));
        }
        let mut network = draft(spec, name)?;
        let driver = self.driver(name)?;
        if !driver.capabilities().many {
            driver.create_network(spec, &mut network)?;
        }
        network.pools = self.choose_pools(spec)?;
        self.driver(name)?.create_network(spec, &mut network)?;
        self.add_network(network)
    }

    fn add_network(&mut self, network: Network) -> Result<Arc<Network>> {
        let plan = self.driver(&network.driver)?.network_plan(&network)?;
        let network = self.record_network(network)?;
        match self.apply_network(&plan) {
            Ok(index) => {
                if let Some(state) = self.networks.get_mut(&network.id) {
                    state.bridge = index;
                }
                if let Err(error) = self.hold_host_addresses() {
                    tracing::warn!(%error, "the host's own addresses may be handed out");
                }
                Ok(network)
            }
            Err(error) => {
                // The first error tells what happened.
                if let Err(second) = self.undo_network(&plan) {
                    tracing::warn!(error = %second, "undoing a network");
                }
                self.forget_network(&network)?;
                Err(error)
            }
        }
    }

    /// Takes a network into the records, and into state and view.
    fn record_network(&mut self, network: Network) -> Result<Arc<Network>> {
        let link = |n: &Network| n.link.as_ref().map(|l| l.name.clone());
        if let Some(name) = link(&network)
            && let Some(other) =
                self.networks.values().find(|n| link(&n.network).as_ref() == Some(&name))
        {
            return Err(Error::BridgeNameInUse(network.id, other.network.id.clone(), name));
        }
        self.records.put_network(&network)?;
        Ok(self.keep(network))
    }

    fn forget_network(&mut self, network: &Network) -> Result<()> {
        self.records.delete_network(network)?;
        self.networks.remove(&network.id);
        self.reader.remove_network(&network.id);
        Ok(())
    }

    /// Removes a network by name, id or id prefix.
    pub fn remove(&mut self, name_or_id: &str) -> Result<Arc<Network>> {
        let network = self.reader.find(name_or_id)?;
        if network.predefined() {
            return Err(Error::PredefinedRemove(network.name.clone()));
        }
        let used: Vec<String> = self
            .sandboxes
            .values()
            .flat_map(|s| &s.endpoints)
            .filter(|e| e.endpoint.network == network.id)
            .map(|e| format!("name:{:?} id:{:?}", e.endpoint.container_name, e.endpoint.id.short()))
            .collect();
        if !used.is_empty() {
            return Err(Error::ActiveEndpoints {
                network: network.name.clone(),
                endpoints: used.join(", "),
            });
        }
        let id = network.id.clone();
        let what = format!("network {}", network.name);
        self.settle_until(&what, |tomb| tomb.endpoints.iter().any(|e| e.endpoint.network == id))?;
        let plan = self.driver(&network.driver)?.network_plan(&network)?;
        // The record goes last: whoever is killed in between finds the whole network again.
        self.undo_network(&plan)?;
        self.forget_network(&network)?;
        Ok(network)
    }

    fn driver(&self, name: &str) -> Result<&dyn Driver> {
        self.drivers
            .iter()
            .find(|d| d.name() == name)
            .map(AsRef::as_ref)
            .ok_or_else(|| Error::PluginNotFound(name.to_owned()))
    }

    /// Takes a network into state and view, its gateways and auxiliary addresses reserved.
    fn keep(&mut self, network: Network) -> Arc<Network> {
        let mut allocations = Vec::new();
        for pool in &network.pools {
            let mut all = Allocations::new(pool.subnet, pool.ip_range);
            for address in pool.gateway.iter().chain(pool.aux_addresses.values()) {
                // The same address under two names is reserved once.
                let _ = all.reserve(*address);
            }
            allocations.push(all);
        }
        let network = Arc::new(network);
        let state = NetworkState {
            network: network.clone(),
            allocations,
            bridge: None,
            ports: 0,
            newest: 0,
        };
        self.networks.insert(network.id.clone(), state);
        self.reader.put_network(network.clone());
        network
    }

    fn choose_pools(&mut self, spec: &NetworkSpec) -> Result<Vec<Pool>> {
        let mut pools = Vec::new();
        for (checked, _) in validate::pools(&spec.ipam)? {
            pools.extend(checked);
        }
        let v4 = spec.enable_ipv4 != Some(false);
        let v6 = spec.enable_ipv6 == Some(true);
        pools.retain(|p| if p.subnet.is_ipv4() { v4 } else { v6 });
        let taken: Vec<Prefix> =
            self.networks.values().flat_map(|n| &n.network.pools).map(|p| p.subnet).collect();
        if pools.iter().any(|p| taken.iter().any(|t| t.overlaps(&p.subnet))) {
            return Err(Error::PoolOverlaps);
        }
        if v4 && !pools.iter().any(|p| p.subnet.is_ipv4()) {
            let mut used = self.subnets_in_use()?;
            used.extend(&taken);
            let subnet = ipam::choose(&self.config.pools, &used).ok_or(Error::NoPool)?;
            pools.insert(0, unnamed(subnet));
        }
        if v6 && !pools.iter().any(|p| !p.subnet.is_ipv4()) {
            pools.push(unnamed(unique_local(&taken)?));
        }
        pools.sort_by_key(|p| !p.subnet.is_ipv4());
        for pool in &mut pools {
            if pool.gateway.is_none() {
                let mut free = Allocations::new(pool.subnet, pool.ip_range);
                for address in pool.aux_addresses.values() {
                    let _ = free.reserve(*address);
                }
                pool.gateway = Some(free.allocate_first()?);
            }
        }
        Ok(pools)
    }

    /// What routes and addresses of the host use, up or down.
    fn subnets_in_use(&mut self) -> Result<Vec<Prefix>> {
        let routes = route::route_destinations(&mut self.host)?;
        let mut used: Vec<Prefix> =
            routes.iter().filter_map(|(to, len)| Prefix::containing(*to, *len)).collect();
        let addresses = route::addresses(&mut self.host)?;
        used.extend(addresses.iter().filter_map(|a| Prefix::containing(a.address, a.len)));
        Ok(used)
    }

    /// All elements that networks and endpoints want in the firewall.
    fn wanted_elements(&self) -> Result<BTreeSet<Element>> {
        let mut all = BTreeSet::new();
        for state in self.networks.values() {
            let driver = self.driver(&state.network.driver)?;
            all.extend(driver.network_plan(&state.network)?.elements);
        }
        for record in self.sandboxes.values().flat_map(|s| &s.endpoints) {
            if let Some(state) = self.networks.get(&record.endpoint.network) {
                let driver = self.driver(&state.network.driver)?;
                all.extend(driver.join(&state.network, &record.endpoint)?.elements);
            }
        }
        Ok(all)
    }
}

fn unnamed(subnet: Prefix) -> Pool {
    Pool {
        subnet,
        ip_range: None,
        gateway: None,
        aux_addresses: BTreeMap::new(),
        show_gateway: true,
        from_user: false,
    }
}

/// A fresh /64 of fd00::/8 (RFC 4193).
fn unique_local(taken: &[Prefix]) -> Result<Prefix> {
    for _ in 0..64 {
        let random = NetworkId::random()?;
        let mut octets = [0u8; 16];
        octets[0] = 0xfd;
        for (at, byte) in octets[1..6].iter_mut().enumerate() {
            *byte = u8::from_str_radix(&random.as_str()[at * 2..at * 2 + 2], 16).unwrap_or(0);
        }
        if let Some(subnet) = Prefix::containing(IpAddr::from(octets), 64)
            && !taken.iter().any(|t| t.overlaps(&subnet))
        {
            return Ok(subnet);
        }
    }
    Err(Error::NoPool)
}

fn draft(spec: &NetworkSpec, driver: &str) -> Result<Network> {
    Ok(Network {
        id: NetworkId::random()?,
        name: spec.name.clone(),
        created: now(),
        driver: driver.to_owned(),
        scope: "local".to_owned(),
        ipv4: spec.enable_ipv4 != Some(false),
        ipv6: spec.enable_ipv6 == Some(true),
        ipam_driver: "default".to_owned(),
        ipam_options: spec.ipam.options.clone(),
        pools: Vec::new(),
        internal: spec.internal,
        attachable: spec.attachable,
        options: spec.options.clone(),
        labels: spec.labels.clone(),
        link: None,
    })
}

fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |d| d.as_nanos() as i64)
}
