//! What follows from a tombstone: the firewall's elements go, the namespace is let die, and only
//! when the kernel told that the links are gone and tracked connections are forgotten are
//! addresses free again. Everything is bounded: how many die at once, how long a death may take
//! before it is helped along.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

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
        self.firewall.maintain()?;
        self.reader.set_warnings(self.firewall.warnings());
        self.hear()?;
        self.take_down()?;
        self.help_along();
        self.settle();
        if self.unclean.due_in() == Some(Duration::ZERO) {
            self.clean()?;
        }
        if self.dying.is_empty() && self.namespaces.lacks() {
            self.namespaces.refill()?;
        }
        Ok(if !self.dying.is_empty() {
            Some(Duration::from_millis(100))
        } else if self.namespaces.lacks() {
            Some(Duration::from_millis(1))
        } else {
            self.unclean.due_in()
        })
    }

    fn hear(&mut self) -> Result<()> {
        let mut gone = Vec::new();
        let complete = self
            .monitor
            .drain(|header, body| {
                if header.kind == RTM_DELLINK {
                    gone.extend(route::parse_link(body).map(|l| l.name));
                }
            })
            .map_err(|e| Error::kernel("read link events", e))?;
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
        self.firewall.remove(&elements)?;
        for id in slice {
            let path = self.namespaces.path(&id);
            let Some(dying) = self.dying.get_mut(&id) else { continue };
            dying.since = Some(Instant::now());
            if matches!(dying.tombstone.sandbox.origin, Origin::Own | Origin::AfterCreate { .. }) {
                netns::unpin(&path)
                    .map_err(|e| Error::kernel(format!("unpin {}", path.display()), e))?;
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
        if late.is_empty() {
            return;
        }
        self.delete_links(&late);
        for dying in self.dying.values_mut() {
            dying.links.retain(|name| !late.contains(name));
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

    /// Frees the addresses of those whose links are gone.
    fn clean(&mut self) -> Result<()> {
        let gone = std::mem::take(&mut self.unclean).tombstones;
        let records: Vec<EndpointRecord> =
            gone.iter().flat_map(|tombstone| tombstone.endpoints.clone()).collect();
        Self::clean_connections(&records);
        for record in &records {
            self.free(&record.endpoint);
            if let Some(state) = self.networks.get_mut(&record.endpoint.network) {
                state.ports = state.ports.saturating_sub(record.host_links.len());
            }
        }
        for tombstone in &gone {
            self.records.delete_tombstone(&tombstone.sandbox.id)?;
        }
        Ok(())
    }

    /// Forgets tracked connections of addresses that are about to be free.
    pub(super) fn clean_connections(records: &[EndpointRecord]) {
        let mut held: BTreeSet<IpAddr> = BTreeSet::new();
        for record in records {
            held.extend(record.endpoint.ipv4.map(|a| IpAddr::V4(a.0)));
            held.extend(record.endpoint.ipv6.map(|a| IpAddr::V6(a.0)));
        }
        let Ok(mut socket) = Socket::open(Protocol::Netfilter) else { return };
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
            if let Err(error) = deleted {
                tracing::debug!(%error, "tracked connections stay until they time out");
            }
        }
    }

    /// Waits until no tombstone matches, or the claim's deadline has passed.
    pub(super) fn settle_until(&mut self, matches: impl Fn(&Tombstone) -> bool) -> Result<()> {
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
                    what: "a network resource".to_owned(),
                    container: dying.tombstone.sandbox.container.clone(),
                });
            }
            self.wait_for_event(Duration::from_millis(100))?;
            self.maintain()?;
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
        let mut fds: Vec<PollFd<'_>> = self
            .wakers()
            .into_iter()
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
            .collect();
        let timeout = Timespec {
            tv_sec: at_most.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: at_most.subsec_nanos().into(),
        };
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(e) => Err(Error::kernel("wait for link events", e)),
        }
    }
}
