//! Connecting a sandbox to a network and taking it off again. Addresses and the record first
//! ([`Networks::reserve`]), then the kernel ([`Networks::make_reserved`]); what fails leaves
//! nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use sys::netlink::Socket;

use super::kernel::{Inside, set_default_routes};
use super::{Networks, SandboxState};
use crate::driver::bridge::{MAX_PORTS, mac_of};
use crate::driver::{JoinPlan, LinkKind};
use crate::records::{EndpointRecord, Origin};
use crate::sandbox::Namespaces;
use crate::types::{Endpoint, EndpointId, EndpointSpec, Network, NetworkId};
use crate::validate::{self, Wanted};
use crate::{Error, Result};

/// Addresses taken for an endpoint that does not exist yet.
#[derive(Default)]
struct Taken {
    v4: Option<(Ipv4Addr, u8)>,
    v6: Option<(Ipv6Addr, u8)>,
}

impl Networks {
    /// Connects a container, which has a sandbox, to a network by name, id or id prefix.
    pub fn connect(
        &mut self,
        container: &str,
        network: &str,
        spec: &EndpointSpec,
    ) -> Result<Endpoint> {
        let endpoint = self.reserve(container, network, spec)?;
        self.make_reserved(container)?;
        Ok(endpoint)
    }

    /// First half of `connect`: addresses are taken and the endpoint is recorded and shown, the
    /// kernel knows nothing yet. A start reserves first, since its spec needs the addresses, and
    /// has the links made beside the runtime's own work.
    pub fn reserve(
        &mut self,
        container: &str,
        network: &str,
        spec: &EndpointSpec,
    ) -> Result<Endpoint> {
        let network = self.reader.find(network)?;
        let wanted = validate::endpoint(&network, spec)?;
        self.check_sandbox(container, &network, spec)?;
        if !spec.ports.is_empty() && self.driver(&network.driver)?.capabilities().addresses {
            let port = &spec.ports[0];
            return Err(Error::Unsupported(format!(
                "publishing port {}/{}",
                port.container_port,
                port.protocol.as_str()
            )));
        }
        let addresses = self.driver(&network.driver)?.capabilities().addresses;
        let taken = if addresses { self.take(&network, &wanted)? } else { Taken::default() };
        let endpoint = self.new_endpoint(container, &network, spec, &wanted, &taken, addresses)?;
        match self.record_endpoint(&network, &endpoint) {
            Ok(()) => Ok(endpoint),
            Err(error) => {
                self.free(&endpoint);
                Err(error)
            }
        }
    }

    fn record_endpoint(&mut self, network: &Network, endpoint: &Endpoint) -> Result<()> {
        let plan = self.driver(&network.driver)?.join(network, endpoint)?;
        let record = EndpointRecord {
            endpoint: endpoint.clone(),
            host_links: host_links(&plan),
            serial: self.next_serial,
        };
        self.next_serial += 1;
        self.records.put_endpoint(&record)?;
        if let Some(state) = self.networks.get_mut(&network.id) {
            state.ports += record.host_links.len();
        }
        if let Some(state) = self.sandboxes.get_mut(&endpoint.container) {
            state.endpoints.push(record);
            state.unmade += 1;
        }
        self.reader.put_endpoint(endpoint.clone());
        Ok(())
    }

    /// Second half of `connect`: makes what is reserved in the kernel, in order. The first that
    /// fails is taken back with those after it.
    pub fn make_reserved(&mut self, container: &str) -> Result<()> {
        while let Some(record) = self.next_unmade(container) {
            let made = self
                .plan_of(&record)
                .and_then(|(network, plan)| self.make(&network, &record, &plan));
            let Some(state) = self.sandboxes.get_mut(container) else { return Ok(()) };
            match made {
                Ok(()) => {
                    state.unmade -= 1;
                    state.ready = None;
                    self.firewall.suspect();
                }
                Err(error) => {
                    let first = state.endpoints.len() - state.unmade;
                    state.unmade = 0;
                    for record in state.endpoints.split_off(first) {
                        self.records.delete_endpoint(&record)?;
                        self.forget(&record);
                        self.free(&record.endpoint);
                    }
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn next_unmade(&self, container: &str) -> Option<EndpointRecord> {
        let state = self.sandboxes.get(container)?;
        state.endpoints.iter().rev().take(state.unmade).next_back().cloned()
    }

    fn plan_of(&self, record: &EndpointRecord) -> Result<(Arc<Network>, JoinPlan)> {
        let network = self.reader.find(record.endpoint.network.as_str())?;
        let plan = self.driver(&network.driver)?.join(&network, &record.endpoint)?;
        Ok((network, plan))
    }

    fn check_sandbox(
        &mut self,
        container: &str,
        network: &Network,
        spec: &EndpointSpec,
    ) -> Result<()> {
        let state =
            self.sandboxes.get(container).ok_or_else(|| Error::NoSandbox(container.to_owned()))?;
        if state.endpoints.iter().any(|e| e.endpoint.network == network.id) {
            return Err(Error::EndpointExists {
                name: spec.container_name.clone(),
                network: network.name.clone(),
            });
        }
        if let Origin::Shared { .. } = state.record.origin {
            return Err(Error::Invalid(
                "container sharing network namespace with another container or host cannot be connected to any other network".to_owned(),
            ));
        }
        let host = state.record.origin == Origin::Host;
        if (network.driver == "host") != host {
            return Err(Error::Invalid(if host {
                "cannot connect container in host network mode to another network".to_owned()
            } else {
                "cannot connect container to host network - container must be created in host network mode".to_owned()
            }));
        }
        let none = |e: &EndpointRecord| e.endpoint.network_name == "none";
        if !state.endpoints.is_empty()
            && (network.driver == "null" || state.endpoints.iter().any(none))
        {
            return Err(Error::Invalid(
                "container cannot be connected to multiple networks with one of the networks in private (none) mode".to_owned(),
            ));
        }
        let ports = |all: &Self| all.networks.get(&network.id).map_or(0, |n| n.ports);
        if network.link.is_some() && ports(self) >= MAX_PORTS {
            // Those of the dead count until they are really gone.
            let what = format!("bridge of network {}", network.name);
            self.settle_until(&what, |tomb| {
                tomb.endpoints.iter().any(|e| e.endpoint.network == network.id)
            })?;
        }
        if let Some(link) = &network.link
            && ports(self) >= MAX_PORTS
        {
            return Err(Error::BridgeFull {
                network: network.name.clone(),
                bridge: link.name.clone(),
                limit: MAX_PORTS,
            });
        }
        Ok(())
    }

    /// Takes a network's addresses: the wanted ones, once a dying holder let go, else the next.
    fn take(&mut self, network: &Network, wanted: &Wanted) -> Result<Taken> {
        for address in [wanted.ipv4, wanted.ipv6].into_iter().flatten() {
            let id = network.id.clone();
            self.settle_until(&format!("address {address}"), |tomb| {
                tomb.endpoints.iter().any(|e| {
                    e.endpoint.network == id
                        && (e.endpoint.ipv4.is_some_and(|a| IpAddr::V4(a.0) == address)
                            || e.endpoint.ipv6.is_some_and(|a| IpAddr::V6(a.0) == address))
                })
            })?;
        }
        let mut taken = Taken::default();
        for v4 in [true, false] {
            if !(if v4 { network.ipv4 } else { network.ipv6 }) {
                continue;
            }
            let wish = if v4 { wanted.ipv4 } else { wanted.ipv6 };
            match self.take_one(&network.id, v4, wish) {
                Ok(Some((IpAddr::V4(a), len))) => taken.v4 = Some((a, len)),
                Ok(Some((IpAddr::V6(a), len))) => taken.v6 = Some((a, len)),
                Ok(None) => {}
                Err(error) => {
                    self.free_addresses(&network.id, taken.v4, taken.v6);
                    return Err(error);
                }
            }
        }
        Ok(taken)
    }

    /// The wanted address or the next one; from a full pool what the dead hold, once it is free.
    fn take_one(
        &mut self,
        network: &NetworkId,
        v4: bool,
        wish: Option<IpAddr>,
    ) -> Result<Option<(IpAddr, u8)>> {
        match self.try_take_one(network, v4, wish) {
            Err(_) if wish.is_none() => {
                self.settle_until("every free address", |tomb| {
                    tomb.endpoints.iter().any(|e| e.endpoint.network == *network)
                })?;
                self.try_take_one(network, v4, wish)
            }
            taken => taken,
        }
    }

    fn try_take_one(
        &mut self,
        network: &NetworkId,
        v4: bool,
        wish: Option<IpAddr>,
    ) -> Result<Option<(IpAddr, u8)>> {
        let Some(state) = self.networks.get_mut(network) else { return Ok(None) };
        let mut pools = state.allocations.iter_mut().filter(|a| a.subnet().is_ipv4() == v4);
        let found = match wish {
            Some(address) => pools.find(|a| a.subnet().contains(address)),
            None => pools.next(),
        };
        let Some(pool) = found else { return Ok(None) };
        let len = pool.subnet().len();
        let address = match wish {
            Some(address) => pool.reserve(address).map(|()| address)?,
            None => pool.allocate()?,
        };
        Ok(Some((address, len)))
    }

    /// Gives an endpoint's addresses back.
    pub(super) fn free(&mut self, endpoint: &Endpoint) {
        self.free_addresses(&endpoint.network, endpoint.ipv4, endpoint.ipv6);
    }

    fn free_addresses(
        &mut self,
        network: &NetworkId,
        v4: Option<(Ipv4Addr, u8)>,
        v6: Option<(Ipv6Addr, u8)>,
    ) {
        let Some(state) = self.networks.get_mut(network) else { return };
        for pool in &mut state.allocations {
            if let Some((a, _)) = v4 {
                pool.release(IpAddr::V4(a));
            }
            if let Some((a, _)) = v6 {
                pool.release(IpAddr::V6(a));
            }
        }
    }

    fn new_endpoint(
        &self,
        container: &str,
        network: &Network,
        spec: &EndpointSpec,
        wanted: &Wanted,
        taken: &Taken,
        link: bool,
    ) -> Result<Endpoint> {
        let gateway = |v4: bool| {
            let mut of_family = network.pools.iter().filter(|p| p.subnet.is_ipv4() == v4);
            of_family.next().and_then(|p| p.gateway).filter(|_| !network.internal)
        };
        let mac =
            wanted.mac.unwrap_or_else(|| mac_of(taken.v4.map(|a| a.0), taken.v6.map(|a| a.0)));
        Ok(Endpoint {
            id: EndpointId::random()?,
            network: network.id.clone(),
            network_name: network.name.clone(),
            container: container.to_owned(),
            container_name: spec.container_name.clone(),
            interface: if link { self.free_interface(container) } else { String::new() },
            mac: if link { validate::mac_text(mac) } else { String::new() },
            ipv4: taken.v4,
            gateway4: match gateway(true) {
                Some(IpAddr::V4(a)) if taken.v4.is_some() => Some(a),
                _ => None,
            },
            ipv6: taken.v6,
            gateway6: match gateway(false) {
                Some(IpAddr::V6(a)) if taken.v6.is_some() => Some(a),
                _ => None,
            },
            dns_names: spec.dns_names.clone(),
            gw_priority: spec.gw_priority,
            ports: Vec::new(),
        })
    }

    fn free_interface(&self, container: &str) -> String {
        let used = self.sandboxes.get(container).map_or(&[][..], |s| s.endpoints.as_slice());
        let free = (0..).map(|n| format!("eth{n}"));
        free.into_iter()
            .find(|name| !used.iter().any(|e| e.endpoint.interface == *name))
            .unwrap_or_default()
    }

    /// Makes a recorded endpoint in the kernel; also at restore.
    pub(super) fn make(
        &mut self,
        network: &Arc<Network>,
        record: &EndpointRecord,
        plan: &JoinPlan,
    ) -> Result<()> {
        if plan.links.is_empty() {
            return self.firewall.add(&plan.elements);
        }
        let container = record.endpoint.container.clone();
        let (netns, mut socket) = self.enter(&container)?;
        let bridge = match self.networks.get(&network.id).and_then(|n| n.bridge) {
            Some(index) => Some(index),
            None => self.bridge_again(network)?,
        };
        let foreign =
            self.sandboxes.get(&container).is_some_and(|s| s.record.origin != Origin::Own);
        let mut inside = Inside { netns: &netns, socket: &mut socket, foreign };
        let mut done = self.apply_join(plan, record, bridge, &mut inside);
        if done.is_err() && self.bridge_is_gone(network)? {
            // Somebody removed the bridge below us.
            let bridge = self.bridge_again(network)?;
            self.mend_ports(Some(&network.id))?;
            done = self.apply_join(plan, record, bridge, &mut inside);
        }
        done?;
        if plan.default_route
            && let Err(error) = self.route_by_best(&container, Some(&record.endpoint), &mut socket)
        {
            self.delete_links(&record.host_links);
            let _ = self.firewall.remove(&plan.elements);
            return Err(error);
        }
        Ok(())
    }

    pub(super) fn bridge_is_gone(&mut self, network: &Network) -> Result<bool> {
        let Some(link) = &network.link else { return Ok(false) };
        Ok(sys::netlink::route::link_by_name(&mut self.host, &link.name)?.is_none())
    }

    pub(super) fn bridge_again(&mut self, network: &Network) -> Result<Option<u32>> {
        let plan = self.driver(&network.driver)?.network_plan(network)?;
        let index = plan.bridge.as_ref().map(|b| self.apply_bridge(b)).transpose()?;
        if let Some(state) = self.networks.get_mut(&network.id) {
            state.bridge = index;
        }
        Ok(index)
    }

    /// The namespace of a container's sandbox and a socket inside; from the pool's descriptors for
    /// the first endpoint, which closes them, since whoever holds them pins the namespace.
    fn enter(&mut self, container: &str) -> Result<(OwnedFd, Socket)> {
        let state = self
            .sandboxes
            .get_mut(container)
            .ok_or_else(|| Error::NoSandbox(container.to_owned()))?;
        if let Some(ready) = state.ready.take() {
            return Ok((ready.netns, ready.socket));
        }
        let record = state.record.clone();
        let path =
            self.netns_path(&record).ok_or_else(|| Error::NoSandbox(container.to_owned()))?;
        let netns = Namespaces::open_pin(&path)?;
        let socket = self.namespaces.socket_in(&netns)?;
        Ok((netns, socket))
    }

    /// Points the sandbox's default routes at the endpoint with the highest priority, the lowest
    /// network name among equals; `new` counts although it is not in the state yet.
    fn route_by_best(
        &self,
        container: &str,
        new: Option<&Endpoint>,
        socket: &mut Socket,
    ) -> Result<()> {
        let known = self.sandboxes.get(container).map_or(&[][..], SandboxState::made);
        let best = known
            .iter()
            .map(|e| &e.endpoint)
            .chain(new)
            .filter(|e| e.gateway4.is_some() || e.gateway6.is_some())
            .min_by_key(|e| (-e.gw_priority, e.network_name.clone()));
        let Some(best) = best else { return Ok(()) };
        if new.is_some_and(|n| n.id != best.id) {
            return Ok(());
        }
        let gateways: Vec<IpAddr> = best
            .gateway4
            .map(IpAddr::V4)
            .into_iter()
            .chain(best.gateway6.map(IpAddr::V6))
            .collect();
        set_default_routes(socket, &best.interface, &gateways)
    }

    /// Takes a container off a network. With `force` the container may be named, and its sandbox
    /// may be gone.
    pub fn disconnect(&mut self, container: &str, network: &str, force: bool) -> Result<Endpoint> {
        let network = self.reader.find(network)?;
        let holder = self.sandboxes.iter().find_map(|(id, state)| {
            let at = state.endpoints.iter().position(|e| {
                e.endpoint.network == network.id
                    && (id == container || force && e.endpoint.container_name == container)
            })?;
            Some((id.clone(), at))
        });
        let Some((holder, at)) = holder else {
            return Err(if force && !self.sandboxes.contains_key(container) {
                Error::EndpointNotFound(container.to_owned())
            } else {
                Error::NotConnected {
                    container: container.to_owned(),
                    network: network.name.clone(),
                }
            });
        };
        // A start under way: what it reserved is made first, so that it counts on what is there.
        self.make_reserved(&holder)?;
        let record = self.sandboxes.get(&holder).and_then(|s| s.endpoints.get(at)).cloned();
        let record = record.ok_or_else(|| Error::NoSandbox(holder.clone()))?;
        let plan = self.driver(&network.driver)?.join(&network, &record.endpoint)?;
        if let Err(error) = self.firewall.remove(&plan.elements) {
            tracing::warn!(%error, container = holder, "firewall elements stay after a disconnect");
        }
        self.delete_links(&record.host_links);
        // The record goes last: whoever is killed in between finds the container connected again.
        self.records.delete_endpoint(&record)?;
        if let Some(state) = self.sandboxes.get_mut(&holder) {
            state.endpoints.remove(at);
        }
        self.forget(&record);
        if plan.default_route
            && let Ok((_netns, mut socket)) = self.enter(&holder)
            && let Err(error) = self.route_by_best(&holder, None, &mut socket)
        {
            tracing::warn!(%error, container = holder, "no default route after a disconnect");
        }
        match Self::clean_connections(std::slice::from_ref(&record)) {
            Ok(()) => self.free(&record.endpoint),
            // Its address is handed out again by the next daemon at the earliest.
            Err(error) => tracing::warn!(%error, "tracked connections stay after a disconnect"),
        }
        Ok(record.endpoint)
    }

    /// Takes an endpoint out of counters and view.
    pub(super) fn forget(&mut self, record: &EndpointRecord) {
        if let Some(state) = self.networks.get_mut(&record.endpoint.network) {
            state.ports = state.ports.saturating_sub(record.host_links.len());
        }
        self.reader.remove_endpoint(&record.endpoint);
    }
}

pub(super) fn host_links(plan: &JoinPlan) -> Vec<String> {
    plan.links
        .iter()
        .map(|l| {
            let LinkKind::Veth { host_name, .. } = &l.kind;
            host_name.clone()
        })
        .collect()
}
