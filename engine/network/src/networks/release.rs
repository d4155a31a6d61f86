//! What follows from a tombstone: the firewall's elements go, the namespace is let die, and only
//! when the kernel told that the links are gone and tracked connections are forgotten are
//! addresses free again. Everything is bounded: how many die at once, how long a death may take
//! before it is helped along.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use sys::netlink::route::{self, RTM_DELLINK};
use sys::netlink::{Protocol, Socket, conntrack};
use sys::netns;

use super::Networks;
use crate::records::{EndpointRecord, Origin, Tombstone};
use crate::types::SandboxId;
use crate::{Error, Result};

/// Namespaces that may die at once: the kernel holds RTNL while it takes them down.
const SLICE: usize = 32;
/// A namespace that lives longer after its release has a foreign holder: its links are removed.
const PATIENCE: Duration = Duration::from_millis(1500);
/// Tracked connections that can't be forgotten hold an address for so many attempts.
const FAILURES: u32 = 20;
/// With more links than this their namespaces die by themselves sooner than one by one.
const BY_HAND: usize = 8;
/// How long an operation waits for what a dying endpoint holds.
const CLAIM: Duration = Duration::from_secs(5);
/// Addresses whose links are gone wait this long for others: forgetting tracked connections walks
/// the kernel's whole table, some 10 ms whatever is in it, so it is done once for many.
const GATHER: Duration = Duration::from_millis(1000);

/// A released container whose links may still exist.
pub(super) struct Dying {
    tombstone: Tombstone,
    links: BTreeSet<String>,
    since: Option<Instant>,
}

/// Containers whose links are gone; their addresses are free once the kernel forgot their
/// connections.
#[derive(Default)]
pub(super) struct Unclean {
    tombstones: Vec<Tombstone>,
    /// Since the first of them.
    since: Option<Instant>,
    /// How often the kernel would not forget.
    failures: u32,
}

impl Unclean {
    fn due_in(&self) -> Option<Duration> {
        self.since.map(|since| GATHER.saturating_sub(since.elapsed()))
    }
}

impl Networks {
    /// Lets go of all that a container holds, once it is recorded; the rest follows in `maintain`.
    /// A container without a sandbox is no error.
    pub fn release(&mut self, container: &str) -> Result<()> {
        let Some(state) = self.sandboxes.get(container) else { return Ok(()) };
        let mut tombstone =
            Tombstone { sandbox: state.record.clone(), endpoints: state.endpoints.clone() };
        let made = state.made().len();
        for reserved in &mut tombstone.endpoints[made..] {
            // Nobody will tell of the end of links that never were.
            let port = self.networks.get_mut(&reserved.endpoint.network);
            if let Some(network) = port {
                network.ports = network.ports.saturating_sub(reserved.host_links.len());
            }
            reserved.host_links.clear();
        }
        self.records.bury(&tombstone)?;
        // A namespace nobody used is as good as new, but its id was told: it is not used again.
        self.sandboxes.remove(container);
        for record in &tombstone.endpoints {
            self.reader.remove_endpoint(&record.endpoint);
        }
        self.bury(tombstone);
        Ok(())
    }

    /// Queues a tombstone that is recorded.
    pub(super) fn bury(&mut self, tombstone: Tombstone) {
        // Who shares a namespace holds nothing of it.
        if matches!(tombstone.sandbox.origin, Origin::Shared { .. }) {
            if let Err(error) = self.records.delete_tombstone(&tombstone.sandbox.id) {
                tracing::warn!(%error, "tombstone stays");
            }
            return;
        }
        let id = tombstone.sandbox.id.clone();
        let links = tombstone.endpoints.iter().flat_map(|e| e.host_links.clone()).collect();
        self.dying.insert(id.clone(), Dying { tombstone, links, since: None });
        self.queue.push_back(id);
    }

    /// Does what waits: hears of links that are gone, takes down the next slice, refills the
    /// pool, mends the firewall. Returns when to call again at the latest, unless a waker is
    /// readable before; absent: only wakers matter.
    pub fn maintain(&mut self) -> Result<Option<Duration>> {
        if !self.ended && self.firewall.maintain()? {
            self.reader.set_warnings(self.firewall.warnings());
        }
        self.hear()?;
        if self.guests_stale && !self.ended {
            self.watch_guests()?;
        }
        self.take_down()?;
        self.help_along();
        self.settle();
        if self.unclean.due_in() == Some(Duration::ZERO) {
            self.clean()?;
        }
        let lacks = self.namespaces.lacks() && !self.ended;
        if self.dying.is_empty() && lacks {
            self.namespaces.refill()?;
        }
        let next = if !self.dying.is_empty() {
            Some(Duration::from_millis(100))
        } else if lacks && self.namespaces.lacks() {
            Some(Duration::from_millis(1))
        } else {
            None
        };
        Ok(next.into_iter().chain(self.unclean.due_in()).chain(self.firewall.again()).min())
    }

    fn hear(&mut self) -> Result<()> {
        let (mut gone, mut others) = (Vec::new(), false);
        let ours = self.alias_prefix();
        let complete = self
            .monitor
            .drain(|header, body| {
                let Some(link) = route::parse_link(body) else { return };
                others |= !link.alias.starts_with(&ours);
                if header.kind == RTM_DELLINK {
                    gone.push(link.name);
                }
            })
            .map_err(|e| Error::kernel("read link events", e))?;
        self.guests_stale |= (others || !complete) && self.is_strict();
        self.mend_bridges(complete.then_some(gone.as_slice()))?;
        if complete {
            for dying in self.dying.values_mut() {
                for name in &gone {
                    dying.links.remove(name);
                }
            }
        } else {
            self.look_at_links()?;
        }
        Ok(())
    }

    /// Makes bridges again that somebody removed below us: of these links, or of all.
    fn mend_bridges(&mut self, gone: Option<&[String]>) -> Result<()> {
        let bridge = |n: &super::NetworkState| n.network.link.as_ref().map(|l| l.name.clone());
        let lost = |n: &&super::NetworkState| {
            n.bridge.is_some()
                && bridge(n).is_some_and(|name| gone.is_none_or(|all| all.contains(&name)))
        };
        let lost: Vec<_> = self.networks.values().filter(lost).map(|n| n.network.clone()).collect();
        for network in lost {
            // Ours to remove, it was made again at once, or nothing was lost.
            if self.bridge_is_gone(&network)? {
                tracing::warn!(network = network.name, "somebody removed its bridge; made again");
                self.bridge_again(&network)?;
                self.mend_ports(Some(&network.id))?;
            }
        }
        Ok(())
    }

    /// Compares with the kernel itself: events were lost, or there were none yet.
    pub(super) fn look_at_links(&mut self) -> Result<()> {
        let all: BTreeSet<String> =
            route::links(&mut self.host)?.into_iter().map(|l| l.name).collect();
        for dying in self.dying.values_mut() {
            dying.links.retain(|name| all.contains(name));
        }
        Ok(())
    }

    fn take_down(&mut self) -> Result<()> {
        let busy = self.dying.values().filter(|d| d.since.is_some()).count();
        let mut slice = Vec::new();
        while busy + slice.len() < SLICE {
            let Some(id) = self.queue.pop_front() else { break };
            slice.push(id);
        }
        if slice.is_empty() {
            return Ok(());
        }
        let mut elements = Vec::new();
        for id in &slice {
            let Some(dying) = self.dying.get(id) else { continue };
            for record in &dying.tombstone.endpoints {
                if let Some(state) = self.networks.get(&record.endpoint.network) {
                    let driver = self.driver(&state.network.driver)?;
                    elements.extend(driver.join(&state.network, &record.endpoint)?.elements);
                }
            }
        }
        if let Err(error) = self.firewall.remove(&elements) {
            // Nothing of the slice was begun: it is for the next round.
            slice.into_iter().rev().for_each(|id| self.queue.push_front(id));
            return Err(error);
        }
        for id in slice {
            let path = self.namespaces.path(&id);
            let Some(dying) = self.dying.get_mut(&id) else { continue };
            dying.since = Some(Instant::now());
            if matches!(dying.tombstone.sandbox.origin, Origin::Own | Origin::AfterCreate { .. })
                && let Err(error) = netns::unpin(&path)
            {
                // Its links are removed by hand, later; the pin is swept at the next start.
                tracing::warn!(%error, "unpin {}", path.display());
            }
        }
        Ok(())
    }

    /// Removes links by hand where the namespace does not die: someone holds it, or it is not ours.
    fn help_along(&mut self) {
        let late: Vec<String> = self
            .dying
            .values()
            .filter(|d| {
                let foreign = matches!(d.tombstone.sandbox.origin, Origin::Path { .. });
                d.since.is_some_and(|since| foreign || since.elapsed() > PATIENCE)
            })
            .flat_map(|d| d.links.iter().cloned())
            .collect();
        self.remove_links(&late);
    }

    fn remove_links(&mut self, names: &[String]) {
        self.delete_links(names);
        for dying in self.dying.values_mut() {
            dying.links.retain(|name| !names.contains(name));
        }
    }

    fn settle(&mut self) {
        let done: Vec<SandboxId> = self
            .dying
            .iter()
            .filter(|(_, d)| d.since.is_some() && d.links.is_empty())
            .map(|(id, _)| id.clone())
            .collect();
        let gone = done.iter().filter_map(|id| self.dying.remove(id)).map(|d| d.tombstone);
        self.unclean.tombstones.extend(gone);
        if !self.unclean.tombstones.is_empty() {
            self.unclean.since.get_or_insert_with(Instant::now);
        }
    }

    /// Frees the addresses of those whose links are gone. Those whose connections can't be
    /// forgotten are tried again.
    fn clean(&mut self) -> Result<()> {
        let mut gone = std::mem::take(&mut self.unclean);
        let records: Vec<EndpointRecord> =
            gone.tombstones.iter().flat_map(|tombstone| tombstone.endpoints.clone()).collect();
        if let Err(error) = Self::clean_connections(&records) {
            if gone.failures < FAILURES {
                gone.failures += 1;
                gone.since = Some(Instant::now());
                self.unclean = gone;
                return Err(error);
            }
            tracing::warn!(%error, "tracked connections stay until they time out");
        }
        for record in &records {
            self.free(&record.endpoint);
            if let Some(state) = self.networks.get_mut(&record.endpoint.network) {
                state.ports = state.ports.saturating_sub(record.host_links.len());
            }
        }
        // A tombstone that stays on disk is found again at the next start, and does no harm.
        gone.tombstones.iter().try_for_each(|t| self.records.delete_tombstone(&t.sandbox.id))
    }

    /// Forgets tracked connections of addresses that are about to be free: old flows must not reach
    /// the next holder. Where the kernel tracks none there is nothing to forget.
    pub(super) fn clean_connections(records: &[EndpointRecord]) -> Result<()> {
        let mut held: BTreeSet<IpAddr> = BTreeSet::new();
        for record in records {
            held.extend(record.endpoint.ipv4.map(|a| IpAddr::V4(a.0)));
            held.extend(record.endpoint.ipv6.map(|a| IpAddr::V6(a.0)));
        }
        if held.is_empty() {
            return Ok(());
        }
        let mut socket = Socket::open(Protocol::Netfilter)
            .map_err(|e| Error::kernel("open conntrack socket", e))?;
        for v4 in [true, false] {
            if !held.iter().any(|a| a.is_ipv4() == v4) {
                continue;
            }
            let deleted = conntrack::delete(&mut socket, v4, |flow| {
                [flow.source, flow.destination, flow.reply_source]
                    .into_iter()
                    .flatten()
                    .any(|a| held.contains(&a))
            });
            match deleted {
                Ok(_) => {}
                // The kernel has no such part, or not for IPv6.
                Err(e) if e.errno() == Some(Errno::INVAL.raw_os_error()) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }

    /// Waits until no tombstone matches, or the claim's deadline has passed.
    pub(super) fn settle_until(
        &mut self,
        what: &str,
        matches: impl Fn(&Tombstone) -> bool,
    ) -> Result<()> {
        let deadline = Instant::now() + CLAIM;
        loop {
            if self.unclean.tombstones.iter().any(&matches) {
                self.clean()?;
            }
            let Some(dying) = self.dying.values().find(|d| matches(&d.tombstone)) else {
                return Ok(());
            };
            if Instant::now() > deadline {
                return Err(Error::StillHeld {
                    what: what.to_owned(),
                    container: dying.tombstone.sandbox.container.clone(),
                });
            }
            self.maintain()?;
            let late = self.dying.values().filter(|d| d.since.is_some() && matches(&d.tombstone));
            let late: Vec<String> = late.flat_map(|d| d.links.iter().cloned()).collect();
            if (1..=BY_HAND).contains(&late.len()) {
                self.remove_links(&late);
            } else {
                self.wait_for_event(Duration::from_millis(20))?;
            }
        }
    }

    /// Waits until everything that was released is gone, or the deadline has passed; for tests and
    /// an orderly end. True when everything is.
    pub fn wait_settled(&mut self, within: Duration) -> Result<bool> {
        let deadline = Instant::now() + within;
        loop {
            self.maintain()?;
            if self.dying.is_empty() {
                self.clean()?;
                return Ok(true);
            }
            if Instant::now() > deadline {
                return Ok(false);
            }
            self.wait_for_event(Duration::from_millis(100))?;
        }
    }

    fn wait_for_event(&self, at_most: Duration) -> Result<()> {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let mut fds: Vec<PollFd<'_>> =
            self.wakers().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
        let timeout = Timespec {
            tv_sec: at_most.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: at_most.subsec_nanos().into(),
        };
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(e) => Err(Error::kernel("wait for link events", e)),
        }
    }
}
