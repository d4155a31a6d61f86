//! From plans to the kernel: bridges, veth pairs, addresses, routes. Two batches a join: one in
//! the host, one inside the sandbox. What fails is undone here; what is planned is decided
//! elsewhere.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};

use sys::netlink::route::{self, LinkChange, LinkRef, Route, Veth};
use sys::netlink::{Batch, Socket};

use super::Networks;
use crate::driver::{BridgePlan, JoinPlan, LinkKind, LinkPlan, NetworkPlan};
use crate::records::EndpointRecord;
use crate::{Error, Result};

/// A sandbox while something is done in it.
pub(super) struct Inside<'a> {
    pub(super) netns: &'a OwnedFd,
    pub(super) socket: &'a mut Socket,
}

impl Networks {
    /// Makes what a network needs in the host, or adopts it; the bridge's number.
    pub(super) fn apply_network(&mut self, plan: &NetworkPlan) -> Result<Option<u32>> {
        let index = plan.bridge.as_ref().map(|b| self.apply_bridge(b)).transpose()?;
        self.firewall.add(&plan.elements)?;
        self.reader.set_warnings(self.firewall.warnings());
        Ok(index)
    }

    pub(super) fn apply_bridge(&mut self, plan: &BridgePlan) -> Result<u32> {
        let found = route::link_by_name(&mut self.host, &plan.name)?;
        let mut batch = Batch::default();
        let have: BTreeSet<(IpAddr, u8)> = match &found {
            Some(link) if link.kind != "bridge" => {
                return Err(Error::Refused(format!(
                    "link {} exists already and is no bridge",
                    plan.name
                )));
            }
            Some(link) => route::addresses(&mut self.host)?
                .into_iter()
                .filter(|a| a.link == link.index)
                .map(|a| (a.address, a.len))
                .collect(),
            None => {
                route::add_bridge(&mut batch, &plan.name, plan.mac, plan.mtu);
                self.host.request(std::mem::take(&mut batch))?;
                BTreeSet::new()
            }
        };
        let link = route::link_by_name(&mut self.host, &plan.name)?
            .ok_or_else(|| Error::kernel(format!("bridge {}", plan.name), gone()))?;
        for (address, len) in plan.addresses.iter().filter(|a| !have.contains(a)) {
            route::add_address(&mut batch, link.index, *address, *len);
        }
        let mtu = plan.mtu.filter(|mtu| *mtu != link.mtu);
        if !link.up || mtu.is_some() {
            let change = LinkChange { up: Some(true), mtu, ..LinkChange::default() };
            route::set_link(&mut batch, LinkRef::Index(link.index), &change);
        }
        self.host.request(batch)?;
        if plan.addresses.iter().any(|(a, _)| !a.is_ipv4()) {
            // Without a router of its own the bridge may not forward; a kernel without IPv6 was
            // refused above.
            let _ = fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1");
        }
        Ok(link.index)
    }

    /// Takes a network's elements and bridge away; what is gone already is no error.
    pub(super) fn undo_network(&mut self, plan: &NetworkPlan) {
        if let Err(error) = self.firewall.remove(&plan.elements) {
            tracing::warn!(%error, "firewall elements of a removed network stay");
        }
        if let Some(bridge) = &plan.bridge {
            let mut batch = Batch::default();
            route::delete_link(&mut batch, LinkRef::Name(&bridge.name));
            if let Err(error) = self.host.request(batch)
                && error.errno() != Some(libc_enodev())
            {
                tracing::warn!(%error, "bridge of a removed network stays");
            }
        }
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
            self.host.request(batch)?;
            if !plan.sysctls.is_empty() {
                self.write_sysctls(plan, link, inside.netns)?;
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

    fn write_sysctls(&self, plan: &JoinPlan, link: &LinkPlan, netns: &OwnedFd) -> Result<()> {
        self.namespaces.inside(netns, || {
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
