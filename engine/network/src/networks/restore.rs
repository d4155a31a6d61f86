//! After a start, whatever came before it: the kernel is made to match the records. Endpoints of
//! living containers stay as they are, missing ones are made again, the rest is buried, and what
//! no record knows is swept.

use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::time::Duration;

use sys::netlink::route;
use sys::netns;

use super::connect::host_links;
use super::{Networks, SandboxState};
use crate::driver::JoinPlan;
use crate::records::{EndpointRecord, Origin, SandboxRecord, Tombstone};
use crate::sandbox::Namespaces;
use crate::types::{BridgeLink, Network, NetworkSpec, Pool};
use crate::{Error, Result};

/// What a restore found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Endpoints that were as recorded.
    pub kept: usize,
    /// Endpoints that were made again.
    pub made: usize,
    /// Sandboxes of containers that live no more.
    pub buried: usize,
    /// Links and pins that no record knows.
    pub swept: usize,
}

/// How long the last releases may take at an orderly end.
const RELEASE: Duration = Duration::from_secs(5);

impl Networks {
    /// Makes the kernel match the records. `lives` tells of a container's full id whether it still
    /// runs. Call it once, before anything else.
    pub fn restore(&mut self, lives: &dyn Fn(&str) -> bool) -> Result<Restored> {
        let mut found = Restored::default();
        self.ensure_built_in()?;
        let v6 = self.networks.values().any(|n| n.network.ipv6);
        let (variant, switch) = self.plan_forwarding(v6)?;
        self.pin_host()?;
        for tombstone in self.records.tombstones()? {
            self.hold(&tombstone.endpoints);
            self.bury(tombstone);
        }
        let again = self.read_sandboxes(lives, &mut found)?;
        self.hold_host_addresses()?;
        // The firewall comes first: links never are without it, and where the tables are somebody
        // else's nothing else is touched.
        self.firewall.load(variant, self.wanted_elements()?)?;
        self.restore_bridges()?;
        if let Err(error) = self.mend_ports(None) {
            tracing::error!(%error, "containers stay off their bridges");
        }
        self.watch_guests()?;
        self.switch_forwarding(switch)?;
        self.firewall.settle();
        self.reader.set_warnings(self.firewall.warnings());
        for (record, plan) in again {
            self.make_again(&record, &plan, &mut found);
        }
        found.swept += self.sweep_links()?;
        let known: BTreeSet<String> = self
            .sandboxes
            .values()
            .map(|s| s.record.id.short().to_owned())
            .chain(self.dying.keys().map(|id| id.short().to_owned()))
            .chain(["default".to_owned()])
            .collect();
        found.swept += self.namespaces.sweep(|name| known.contains(name))?;
        self.look_at_links()?;
        Ok(found)
    }

    /// Ends in order. Ready namespaces go and no more are made. With a container connected,
    /// everything else stays for the next daemon, so that the container never notices. With none,
    /// what was put into other firewalls is taken out, and our own tables go, unless they keep
    /// closed what we opened when we switched forwarding on. Bridges stay.
    pub fn end(&mut self) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        self.namespaces.rest();
        match self.wait_settled(RELEASE) {
            Ok(true) => {}
            Ok(false) => tracing::warn!("released endpoints are left to the next start"),
            Err(error) => tracing::warn!(%error, "released endpoints are left to the next start"),
        }
        if self.sandboxes.is_empty() && self.dying.is_empty() {
            self.namespaces.leave();
        }
        let linked = |e: &EndpointRecord| !e.host_links.is_empty();
        let used = self.sandboxes.values().flat_map(|s| &s.endpoints).any(linked);
        if !used && let Err(error) = self.firewall.unload() {
            tracing::warn!(%error, "firewall rules stay");
        }
    }

    /// One network that can't be made must not keep the daemon from starting, unless it is the
    /// default one, whose flags are at hand.
    fn restore_bridges(&mut self) -> Result<()> {
        let networks: Vec<_> = self.networks.values().map(|n| n.network.clone()).collect();
        for network in networks {
            let plan = self.driver(&network.driver)?.network_plan(&network)?;
            let done = plan.bridge.as_ref().map(|b| self.apply_bridge(b)).transpose();
            let index = match done {
                Ok(index) => index,
                Err(error) if !network.predefined() => {
                    tracing::error!(%error, network = network.name, "bridge could not be made");
                    None
                }
                Err(error) => return Err(error),
            };
            if let Some(state) = self.networks.get_mut(&network.id) {
                state.bridge = index;
            }
        }
        Ok(())
    }

    /// What the host itself has of a subnet is not handed out, whatever the records say.
    pub(super) fn hold_host_addresses(&mut self) -> Result<()> {
        let all = route::addresses(&mut self.host)?;
        for pool in self.networks.values_mut().flat_map(|n| &mut n.allocations) {
            for address in &all {
                // Its gateway is held already, and the rest is out of its range.
                let _ = pool.reserve(address.address);
            }
        }
        Ok(())
    }

    /// Only records: the kernel follows for all networks at once.
    fn ensure_built_in(&mut self) -> Result<()> {
        for (name, driver) in [("none", "null"), ("host", "host")] {
            if !self.networks.values().any(|n| n.network.name == name) {
                let spec = NetworkSpec { name: name.to_owned(), ..NetworkSpec::default() };
                let network = super::draft(&spec, driver)?;
                self.record_network(network)?;
            }
        }
        let known = self.networks.values().find(|n| n.network.name == "bridge");
        let known = known.map(|n| n.network.clone());
        match (&self.config.bridge, known) {
            (Some(bridge), Some(network)) => {
                let bridge = bridge.clone();
                self.update_default(&bridge, &network)
            }
            (Some(bridge), None) => {
                let bridge = bridge.clone();
                let network = self.default_bridge(&bridge, None)?;
                self.record_network(network).map(|_| ())
            }
            (None, _) => Ok(()),
        }
    }

    /// Takes changed flags over into the default bridge's record, its id and pool kept unless the
    /// flags name another pool.
    fn update_default(&mut self, bridge: &str, old: &Network) -> Result<()> {
        let mut new = self.default_bridge(bridge, Some(&old.pools))?;
        new.id = old.id.clone();
        new.created = old.created;
        if let (Some(new), Some(old)) = (&mut new.link, &old.link) {
            new.mac = old.mac;
        }
        if new != *old {
            self.records.put_network(&new)?;
            self.keep(new);
        }
        Ok(())
    }

    fn default_bridge(&mut self, bridge: &str, known: Option<&[Pool]>) -> Result<Network> {
        let pools = match (&self.config.bip, known) {
            (None, Some(pools)) => pools.to_vec(),
            (None, None) => self.choose_pools(&NetworkSpec::default())?,
            (Some(bip), _) => {
                let (gateway, subnet) = ipam::Prefix::parse_with_address(bip)
                    .map_err(|e| Error::Invalid(format!("invalid bip {bip}: {e}")))?;
                let mut pool = super::unnamed(subnet);
                pool.gateway = Some(gateway);
                vec![pool]
            }
        };
        let mut pools = pools;
        if let (Some(text), Some(pool)) = (&self.config.fixed_cidr, pools.first_mut()) {
            let range: ipam::Prefix = text
                .parse()
                .map_err(|e| Error::Invalid(format!("invalid fixed-cidr {text}: {e}")))?;
            if !pool.subnet.contains_prefix(&range) {
                return Err(Error::Invalid(format!(
                    "fixed-cidr {text} is not within the default bridge's subnet {}",
                    pool.subnet
                )));
            }
            pool.ip_range = Some(range);
        }
        let option = |key: &str, value: String| (format!("com.docker.network.{key}"), value);
        let options = [
            option("bridge.default_bridge", "true".to_owned()),
            option("bridge.enable_icc", self.config.icc.to_string()),
            option("bridge.enable_ip_masquerade", self.config.ip_masq.to_string()),
            option("bridge.host_binding_ipv4", "0.0.0.0".to_owned()),
            option("bridge.name", bridge.to_owned()),
            option("driver.mtu", self.config.mtu.unwrap_or(1500).to_string()),
        ];
        let spec = NetworkSpec {
            name: "bridge".to_owned(),
            options: options.into_iter().collect(),
            ..NetworkSpec::default()
        };
        let mut network = super::draft(&spec, "bridge")?;
        network.pools = pools;
        self.driver("bridge")?.create_network(&spec, &mut network)?;
        let mac = network.link.as_ref().map_or([2, 0x42, 0, 0, 0, 1], |l| l.mac);
        network.link = Some(BridgeLink { name: bridge.to_owned(), mac });
        Ok(network)
    }

    fn pin_host(&self) -> Result<()> {
        let path = self.namespaces.host_path();
        let at = |e: std::io::Error| Error::kernel(format!("pin {}", path.display()), e);
        if netns::open(&path).is_ok_and(|fd| netns::is_network_namespace(fd.as_fd())) {
            return Ok(());
        }
        netns::unpin(&path).map_err(at)?;
        let own = netns::current().map_err(at)?;
        netns::pin(own.as_fd(), &path).map_err(at)
    }

    /// Reserves the addresses of endpoints that exist or die.
    fn hold(&mut self, records: &[EndpointRecord]) {
        for record in records {
            let endpoint = &record.endpoint;
            let Some(state) = self.networks.get_mut(&endpoint.network) else { continue };
            state.ports += record.host_links.len();
            self.next_serial = self.next_serial.max(record.serial + 1);
            let newest = record.serial >= state.newest;
            state.newest = state.newest.max(record.serial);
            for pool in &mut state.allocations {
                for address in endpoint
                    .ipv4
                    .map(|a| std::net::IpAddr::V4(a.0))
                    .into_iter()
                    .chain(endpoint.ipv6.map(|a| std::net::IpAddr::V6(a.0)))
                {
                    if pool.reserve(address).is_ok() && newest {
                        pool.set_last(address);
                    }
                }
            }
        }
    }

    /// Reads sandboxes and endpoints; gives what must be made again.
    fn read_sandboxes(
        &mut self,
        lives: &dyn Fn(&str) -> bool,
        found: &mut Restored,
    ) -> Result<Vec<(EndpointRecord, JoinPlan)>> {
        let links: BTreeSet<String> =
            route::links(&mut self.host)?.into_iter().map(|l| l.name).collect();
        let mut endpoints = self.records.endpoints()?;
        let mut again = Vec::new();
        for sandbox in self.records.sandboxes()? {
            let (mine, others): (Vec<_>, Vec<_>) =
                endpoints.into_iter().partition(|e| e.endpoint.container == sandbox.container);
            endpoints = others;
            self.hold(&mine);
            if !lives(&sandbox.container) || !self.netns_is_there(&sandbox) {
                let tombstone = Tombstone { sandbox, endpoints: mine };
                self.records.bury(&tombstone)?;
                self.bury(tombstone);
                found.buried += 1;
                continue;
            }
            for record in &mine {
                let Some(state) = self.networks.get(&record.endpoint.network) else { continue };
                let plan =
                    self.driver(&state.network.driver)?.join(&state.network, &record.endpoint)?;
                if host_links(&plan).iter().all(|name| links.contains(name)) {
                    found.kept += 1;
                } else {
                    again.push((record.clone(), plan));
                }
                self.reader.put_endpoint(record.endpoint.clone());
            }
            let container = sandbox.container.clone();
            let state = SandboxState { record: sandbox, ready: None, endpoints: mine, unmade: 0 };
            self.sandboxes.insert(container, state);
        }
        // An endpoint without a sandbox: its sandbox's record was never written, nothing uses it.
        for record in endpoints {
            self.records.delete_endpoint(&record)?;
        }
        Ok(again)
    }

    fn netns_is_there(&self, sandbox: &SandboxRecord) -> bool {
        match &sandbox.origin {
            Origin::Host | Origin::Shared { .. } | Origin::AfterCreate { adopted: false } => true,
            Origin::Path { path } => Namespaces::open_pin(path.as_ref()).is_ok(),
            Origin::Own | Origin::AfterCreate { adopted: true } => {
                Namespaces::open_pin(&self.namespaces.path(&sandbox.id)).is_ok()
            }
        }
    }

    fn make_again(&mut self, record: &EndpointRecord, plan: &JoinPlan, found: &mut Restored) {
        let Some(state) = self.networks.get(&record.endpoint.network) else { return };
        let network = state.network.clone();
        match self.make(&network, record, plan) {
            Ok(()) => found.made += 1,
            // One container without its network must not keep the daemon from starting.
            Err(error) => {
                let container = record.endpoint.container.as_str();
                tracing::error!(%error, container, "endpoint could not be made again");
            }
        }
    }

    /// Removes links that this daemon made and no record knows.
    fn sweep_links(&mut self) -> Result<usize> {
        let known: BTreeSet<String> = self
            .sandboxes
            .values()
            .flat_map(|s| &s.endpoints)
            .flat_map(|e| e.host_links.clone())
            .collect();
        let prefix = self.alias_prefix();
        let unknown: Vec<String> = route::links(&mut self.host)?
            .into_iter()
            .filter(|l| l.alias.starts_with(&prefix) && !known.contains(&l.name))
            .map(|l| l.name)
            .collect();
        self.delete_links(&unknown);
        Ok(unknown.len())
    }
}
