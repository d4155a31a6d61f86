//! From plans to the kernel: bridges, veth pairs, addresses, routes. Two batches a join: one in
//! the host, one inside the sandbox. What fails is undone here; what is planned is decided
//! elsewhere.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use sys::netlink::route::{self, Link, LinkChange, LinkRef, Route, Veth};
use sys::netlink::{Batch, Socket};

use super::Networks;
use crate::driver::bridge::MAX_PORTS;
use crate::driver::{BridgePlan, JoinPlan, LinkKind, LinkPlan, NetworkPlan};
use crate::records::EndpointRecord;
use crate::types::NetworkId;
use crate::{Error, Result};

/// A sandbox while something is done in it.
pub(super) struct Inside<'a> {
    pub(super) netns: &'a OwnedFd,
    pub(super) socket: &'a mut Socket,
    /// Whether somebody else made it, with settings that we do not know.
    pub(super) foreign: bool,
}

impl Networks {
    /// Makes what a network needs in the host, or adopts it; the bridge's number.
    pub(super) fn apply_network(&mut self, plan: &NetworkPlan) -> Result<Option<u32>> {
        let index = plan.bridge.as_ref().map(|b| self.apply_bridge(b)).transpose()?;
        // Before restore has loaded the firewall, it does this for all networks at once.
        if self.firewall.is_ready() && plan.bridge.as_ref().is_some_and(BridgePlan::has_v6) {
            self.forward_v6()?;
        }
        self.firewall.add(&plan.elements)?;
        self.reader.set_warnings(self.firewall.warnings());
        Ok(index)
    }

    pub(super) fn apply_bridge(&mut self, plan: &BridgePlan) -> Result<u32> {
        let mut batch = Batch::default();
        let (link, have) = match route::link_by_name(&mut self.host, &plan.name)? {
            Some(link) if link.kind != "bridge" => {
                return Err(Error::Refused(format!(
                    "link {} exists already and is no bridge",
                    plan.name
                )));
            }
            Some(link) => {
                let all = route::addresses(&mut self.host)?.into_iter();
                let have: BTreeSet<(IpAddr, u8)> =
                    all.filter(|a| a.link == link.index).map(|a| (a.address, a.len)).collect();
                (link, have)
            }
            None => {
                route::add_bridge(&mut batch, &plan.name, plan.mac, plan.mtu);
                self.host.request(std::mem::take(&mut batch))?;
                let link = route::link_by_name(&mut self.host, &plan.name)?
                    .ok_or_else(|| Error::kernel(format!("bridge {}", plan.name), gone()))?;
                (link, BTreeSet::new())
            }
        };
        if is_ours(&link, plan) {
            quiet(plan)?;
        }
        for (address, len) in plan.addresses.iter().filter(|a| !have.contains(a)) {
            route::add_address(&mut batch, link.index, *address, *len);
        }
        let mtu = plan.mtu.filter(|mtu| *mtu != link.mtu);
        if !link.up || mtu.is_some() {
            let change = LinkChange { up: Some(true), mtu, ..LinkChange::default() };
            route::set_link(&mut batch, LinkRef::Index(link.index), &change);
        }
        self.host.request(batch)?;
        Ok(link.index)
    }

    /// Takes a network's elements and bridge away; what is gone already is no error, and a bridge
    /// that was there before us stays.
    pub(super) fn undo_network(&mut self, plan: &NetworkPlan) -> Result<()> {
        let elements = self.firewall.remove(&plan.elements);
        self.reader.set_warnings(self.firewall.warnings());
        if let Some(bridge) = &plan.bridge
            && let Some(link) = route::link_by_name(&mut self.host, &bridge.name)?
            && is_ours(&link, bridge)
        {
            let mut batch = Batch::default();
            route::delete_link(&mut batch, LinkRef::Index(link.index));
            match self.host.request(batch) {
                Err(error) if error.errno() != Some(libc_enodev()) => return Err(error.into()),
                _ => {}
            }
        }
        elements
    }

    /// Makes an endpoint's links; on failure none of them is left.
    pub(super) fn apply_join(
        &mut self,
        plan: &JoinPlan,
        record: &EndpointRecord,
        bridge: Option<u32>,
        inside: &mut Inside<'_>,
    ) -> Result<()> {
        let done = self
            .make_links(plan, record, bridge, inside)
            .and_then(|()| self.firewall.add(&plan.elements));
        if done.is_err() {
            self.delete_links(&record.host_links);
            let _ = self.firewall.remove(&plan.elements);
        }
        done
    }

    fn make_links(
        &mut self,
        plan: &JoinPlan,
        record: &EndpointRecord,
        bridge: Option<u32>,
        inside: &mut Inside<'_>,
    ) -> Result<()> {
        let alias = self.alias(record);
        for link in &plan.links {
            let LinkKind::Veth { host_name, isolated, .. } = &link.kind;
            let mut batch = Batch::default();
            route::add_veth(
                &mut batch,
                &Veth {
                    name: host_name,
                    master: bridge,
                    peer_name: &link.target_name,
                    peer_mac: link.mac,
                    peer_netns: inside.netns.as_fd(),
                    mtu: link.mtu,
                },
            );
            let change = LinkChange {
                up: Some(true),
                alias: Some(&alias),
                isolated: isolated.then_some(true),
                ..LinkChange::default()
            };
            route::set_link(&mut batch, LinkRef::Name(host_name), &change);
            self.host.request(batch).map_err(|error| self.full_or(error, record))?;
            if !plan.sysctls.is_empty() || inside.foreign {
                self.write_sysctls(plan, link, inside)?;
            }
            configure(plan, link, inside.socket)?;
            // Links carry packets once the kernel's link watch has run, some time later; asking
            // for a link makes it run now (from 6.9 on). Else the first packets are lost, and a
            // connection made at once takes a second.
            route::link_by_name(inside.socket, &link.target_name)?;
            route::link_by_name(&mut self.host, host_name)?;
            if self.networks.get(&record.endpoint.network).is_some_and(|n| n.ports <= 1) {
                let LinkKind::Veth { bridge, .. } = &link.kind;
                route::link_by_name(&mut self.host, bridge)?;
            }
        }
        Ok(())
    }

    /// Puts containers' links back on their bridges where somebody took them off, as one does who
    /// removes a bridge; of one network, or of all.
    pub(super) fn mend_ports(&mut self, only: Option<&NetworkId>) -> Result<()> {
        let links = route::links(&mut self.host)?;
        let mut batch = Batch::default();
        for record in self.sandboxes.values().flat_map(super::SandboxState::made) {
            let Some(state) = self.networks.get(&record.endpoint.network) else { continue };
            if state.bridge.is_none() || only.is_some_and(|id| *id != state.network.id) {
                continue;
            }
            let driver = self.driver(&state.network.driver)?;
            for plan in driver.join(&state.network, &record.endpoint)?.links {
                let LinkKind::Veth { host_name, isolated, .. } = &plan.kind;
                // One that is missing is made again as a whole, elsewhere.
                let astray = |l: &&Link| l.name == *host_name && l.master != state.bridge;
                if let Some(link) = links.iter().find(astray) {
                    let link = LinkRef::Index(link.index);
                    let change = LinkChange { master: state.bridge, ..LinkChange::default() };
                    route::set_link(&mut batch, link, &change);
                    if *isolated {
                        // It is a flag of the port, which there is only now.
                        let change = LinkChange { isolated: Some(true), ..LinkChange::default() };
                        route::set_link(&mut batch, link, &change);
                    }
                }
            }
        }
        Ok(self.host.request(batch)?)
    }

    /// A bridge may hold ports of others too, which only the kernel counts.
    fn full_or(&self, error: sys::netlink::Error, record: &EndpointRecord) -> Error {
        let full = rustix::io::Errno::XFULL.raw_os_error();
        let state = self.networks.get(&record.endpoint.network);
        match state.and_then(|s| s.network.link.as_ref().map(|l| (&s.network.name, &l.name))) {
            Some((network, bridge)) if error.errno() == Some(full) => Error::BridgeFull {
                network: network.clone(),
                bridge: bridge.clone(),
                limit: MAX_PORTS,
            },
            _ => error.into(),
        }
    }

    fn write_sysctls(&self, plan: &JoinPlan, link: &LinkPlan, inside: &Inside<'_>) -> Result<()> {
        self.namespaces.inside(inside.netns, || {
            let conf = Path::new("/proc/sys/net/ipv6/conf").join(&link.target_name);
            if inside.foreign && conf.exists() {
                // In a namespace of ours this is the default.
                fs::write(conf.join("disable_ipv6"), "1")
                    .map_err(|e| Error::kernel("set disable_ipv6", e))?;
            }
            for (key, value) in &plan.sysctls {
                let path = format!("/proc/sys/{}", key.replace('.', "/"));
                let path = path.replace("IFNAME", &link.target_name);
                fs::write(&path, value).map_err(|e| Error::kernel(format!("set {key}"), e))?;
            }
            Ok(())
        })?
    }

    /// Removes links of the host by name; what is gone already is no error.
    pub(super) fn delete_links(&mut self, names: &[String]) {
        for name in names {
            let mut batch = Batch::default();
            route::delete_link(&mut batch, LinkRef::Name(name));
            if let Err(error) = self.host.request(batch)
                && error.errno() != Some(libc_enodev())
            {
                tracing::warn!(%error, "link stays");
            }
        }
    }

    /// How our links are known again: by which daemon and for which endpoint they were made.
    pub(super) fn alias(&self, record: &EndpointRecord) -> String {
        let container = record.endpoint.container.get(..12).unwrap_or(&record.endpoint.container);
        format!("{}{container} {}", self.alias_prefix(), record.endpoint.id.short())
    }

    pub(super) fn alias_prefix(&self) -> String {
        format!("{} container ", self.config.table)
    }
}

/// Whether the bridge was made for this plan: its address, fixed and random, tells.
fn is_ours(link: &Link, plan: &BridgePlan) -> bool {
    link.kind == "bridge" && link.mac == Some(plan.mac)
}

/// Keeps containers from advertising themselves to the host as its IPv6 router (CVE-2020-13401),
/// and gives the bridge IPv6 addresses only where the network has some.
fn quiet(plan: &BridgePlan) -> Result<()> {
    let conf = Path::new("/proc/sys/net/ipv6/conf").join(&plan.name);
    // A kernel without IPv6 has no such folder.
    if !conf.exists() {
        return Ok(());
    }
    for (key, value) in [("accept_ra", false), ("disable_ipv6", !plan.has_v6())] {
        let value = if value { "1" } else { "0" };
        fs::write(conf.join(key), value)
            .map_err(|e| Error::kernel(format!("set {key} of bridge {}", plan.name), e))?;
    }
    Ok(())
}

fn configure(plan: &JoinPlan, link: &LinkPlan, socket: &mut Socket) -> Result<()> {
    let found = route::link_by_name(socket, &link.target_name)?
        .ok_or_else(|| Error::kernel(format!("link {}", link.target_name), gone()))?;
    let mut batch = Batch::default();
    let up = LinkChange { up: Some(true), ..LinkChange::default() };
    route::set_link(&mut batch, LinkRef::Index(found.index), &up);
    for (address, len) in &link.addresses {
        route::add_address(&mut batch, found.index, *address, *len);
    }
    for item in &plan.routes {
        let to = Some((item.to.network(), item.to.len()));
        let v4 = item.to.is_ipv4();
        route::add_route(&mut batch, &Route { to, via: item.via, link: found.index, v4 });
    }
    for (address, mac) in &plan.neighbours {
        route::add_neighbour(&mut batch, found.index, *address, *mac);
    }
    socket.request(batch)?;
    Ok(())
}

/// Makes the default routes of a sandbox go by the link of this name.
pub(super) fn set_default_routes(
    socket: &mut Socket,
    interface: &str,
    gateways: &[IpAddr],
) -> Result<()> {
    if gateways.is_empty() {
        return Ok(());
    }
    let found = route::link_by_name(socket, interface)?
        .ok_or_else(|| Error::kernel(format!("link {interface}"), gone()))?;
    let mut batch = Batch::default();
    for via in gateways {
        let link = found.index;
        route::add_route(&mut batch, &Route { to: None, via: Some(*via), link, v4: via.is_ipv4() });
    }
    socket.request(batch)?;
    Ok(())
}

fn gone() -> std::io::Error {
    std::io::Error::from_raw_os_error(libc_enodev())
}

/// ENODEV: no such link.
pub(super) fn libc_enodev() -> i32 {
    rustix::io::Errno::NODEV.raw_os_error()
}
