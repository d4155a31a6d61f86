//! Forwarding in the kernel: off on a fresh host, needed by every bridge. Who switches it on makes
//! the host a router between all its links; so what we switched on is remembered, kept closed for
//! what comes from outside and goes elsewhere than to containers, and said.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use sys::netlink::route::{self, Link};

use super::Networks;
use crate::driver::Element;
use crate::firewall::Variant;
use crate::records::Forwarding;
use crate::{Error, Result};

const V4: &str = "/proc/sys/net/ipv4/ip_forward";
const V6: &str = "/proc/sys/net/ipv6/conf/all/forwarding";
/// Links that lead to something inside this host.
const INNER: [&str; 4] = ["veth", "tun", "dummy", "netkit"];

fn is_off(path: &str) -> bool {
    // A kernel without IPv6 has no such file, and nothing to switch on.
    fs::read_to_string(path).is_ok_and(|text| text.trim() == "0")
}

fn write(path: &str, what: &str) -> Result<()> {
    fs::write(path, "1").map_err(|e| Error::kernel(format!("switch {what} forwarding on"), e))
}

/// What has to be switched on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Switch {
    v4: bool,
    v6: bool,
}

impl Networks {
    /// Decides and records what will be switched on, and gives the firewall that must be there
    /// before.
    pub(super) fn plan_forwarding(&self, v6: bool) -> Result<(Variant, Switch)> {
        let boot = sys::boot::id().unwrap_or_default();
        let known = self.records.forwarding()?.filter(|fact| fact.boot == boot);
        let known = known.unwrap_or_else(|| Forwarding { boot, ..Forwarding::default() });
        let may = self.config.ip_forward;
        let switch = Switch { v4: may && is_off(V4), v6: may && v6 && is_off(V6) };
        let fact =
            Forwarding { v4: known.v4 | switch.v4, v6: known.v6 | switch.v6, ..known.clone() };
        if fact != known {
            self.records.put_forwarding(&fact)?;
        }
        let closed = self.firewall.is_on() && !self.config.ip_forward_no_drop;
        let variant = Variant {
            strict: fact.v4 && closed,
            strict6: fact.v6 && closed,
            ..self.firewall.variant()
        };
        Ok((variant, switch))
    }

    /// Switches on what was planned, and says so.
    pub(super) fn switch_forwarding(&mut self, switch: Switch) -> Result<()> {
        let rest = if self.is_strict() {
            "new flows from outside to elsewhere than containers stay unforwarded (--ip-forward-no-drop changes that)"
        } else {
            "this host now forwards between all its links"
        };
        if switch.v4 {
            write(V4, "IPv4")?;
            tracing::warn!("IPv4 forwarding was off and is on now; {rest}");
        }
        if switch.v6 {
            let kept = keep_advertisements(&route::links(&mut self.host)?);
            write(V6, "IPv6")?;
            let kept = kept.join(", ");
            tracing::warn!(accept_ra = kept, "IPv6 forwarding was off and is on now; {rest}");
        }
        Ok(())
    }

    /// Before the first network with IPv6: as `restore` does for those that exist.
    pub(super) fn forward_v6(&mut self) -> Result<()> {
        let (variant, switch) = self.plan_forwarding(true)?;
        self.firewall.set_variant(variant)?;
        self.watch_guests()?;
        self.switch_forwarding(switch)
    }

    /// Whether packets that come from outside are kept from being forwarded.
    pub(super) fn is_strict(&self) -> bool {
        let variant = self.firewall.variant();
        variant.strict || variant.strict6
    }

    /// Lets pass what other programs' bridges of guests forward, which they wanted as we did.
    pub(super) fn watch_guests(&mut self) -> Result<()> {
        self.guests_stale = false;
        let wanted: BTreeSet<Element> = if self.is_strict() {
            let links = route::links(&mut self.host)?;
            let ours = |name: &str| {
                let of = |n: &super::NetworkState| n.network.link.as_ref().map(|l| l.name.clone());
                self.networks.values().filter_map(of).any(|own| own == name)
            };
            guest_bridges(&links)
                .filter(|link| !ours(&link.name))
                .map(|l| Element::Guests(l.name.clone()))
                .collect()
        } else {
            BTreeSet::new()
        };
        let (fresh, gone) = self.firewall.guests_to(&wanted);
        self.firewall.remove(&gone)?;
        self.firewall.add(&fresh)
    }
}

/// Bridges that no link to the outside is a port of.
fn guest_bridges(links: &[Link]) -> impl Iterator<Item = &Link> {
    let outer = |bridge: &Link| {
        links
            .iter()
            .any(|port| port.master == Some(bridge.index) && !INNER.contains(&port.kind.as_str()))
    };
    links.iter().filter(|link| link.kind == "bridge").filter(move |link| !outer(link))
}

/// A host that forwards ignores router advertisements, unless told otherwise: links to the outside
/// that live by them would lose their addresses and routes. Gives the links that were told.
fn keep_advertisements(links: &[Link]) -> Vec<String> {
    let mut kept = Vec::new();
    let outer = |link: &&Link| link.master.is_none() && !INNER.contains(&link.kind.as_str());
    for link in links.iter().filter(outer) {
        let path = Path::new("/proc/sys/net/ipv6/conf").join(&link.name).join("accept_ra");
        if link.name == "lo" || fs::read_to_string(&path).map_or(true, |text| text.trim() != "1") {
            continue;
        }
        match fs::write(&path, "2") {
            Ok(()) => kept.push(link.name.clone()),
            Err(error) => {
                tracing::warn!(%error, link = link.name, "it ignores router advertisements now");
            }
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, kind: &str, master: Option<u32>) -> Link {
        Link { index, name: format!("l{index}"), kind: kind.into(), master, ..Link::default() }
    }

    #[test]
    fn a_bridge_with_a_port_to_the_outside_holds_no_guests() {
        let links = [
            link(1, "", None),
            link(2, "bridge", None),
            link(3, "bridge", None),
            link(4, "veth", Some(2)),
            link(5, "tun", Some(2)),
            link(6, "", Some(3)),
            link(7, "bridge", None),
            link(8, "veth", None),
        ];
        let names: Vec<_> = guest_bridges(&links).map(|l| l.name.as_str()).collect();
        assert_eq!(names, ["l2", "l7"]);
    }
}
