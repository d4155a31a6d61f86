//! Namespaces of our own: made, pinned by a file below the exec root, a few kept ready. Which
//! container has which is not known here.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use sys::netlink::route::{LinkChange, LinkRef, set_link};
use sys::netlink::{Batch, Protocol, Socket};
use sys::netns::{self, Excursion};

use crate::types::SandboxId;
use crate::{Error, Result};

/// A namespace with its loopback link up, and a netlink socket inside.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) id: SandboxId,
    pub(crate) netns: OwnedFd,
    pub(crate) socket: Socket,
}

/// Ready namespaces, and how to make more.
#[derive(Debug)]
pub(crate) struct Namespaces {
    folder: PathBuf,
    host: OwnedFd,
    ready: VecDeque<Ready>,
    want: usize,
}

impl Namespaces {
    /// Uses `folder` for pins, makes it if need be; the calling thread's namespace is the host's.
    pub(crate) fn open(folder: PathBuf, want: usize) -> Result<Self> {
        let at = |e: io::Error| Error::kernel(format!("folder {}", folder.display()), e);
        fs::create_dir_all(&folder).map_err(at)?;
        netns::make_shared_folder(&folder).map_err(at)?;
        let host = netns::current().map_err(|e| Error::kernel("open own network namespace", e))?;
        Ok(Self { folder, host, ready: VecDeque::new(), want })
    }

    pub(crate) fn path(&self, id: &SandboxId) -> PathBuf {
        self.folder.join(id.short())
    }

    /// A ready namespace, or a new one.
    pub(crate) fn take(&mut self) -> Result<Ready> {
        match self.ready.pop_front() {
            Some(ready) => Ok(ready),
            None => self.make(),
        }
    }

    /// Gives one back that nothing was done with.
    pub(crate) fn give_back(&mut self, ready: Ready) {
        self.ready.push_front(ready);
    }

    /// Whether another ready namespace is wanted.
    pub(crate) fn lacks(&self) -> bool {
        self.ready.len() < self.want
    }

    /// Makes one more ready namespace.
    pub(crate) fn refill(&mut self) -> Result<()> {
        if self.lacks() {
            let made = self.make()?;
            self.ready.push_back(made);
        }
        Ok(())
    }

    /// Where the host's own namespace is pinned.
    pub(crate) fn host_path(&self) -> PathBuf {
        self.folder.join("default")
    }

    /// Unpins the ready ones and makes no more; at an orderly end.
    pub(crate) fn rest(&mut self) {
        self.want = 0;
        for ready in std::mem::take(&mut self.ready) {
            let _ = netns::unpin(&self.path(&ready.id));
        }
    }

    /// Gives the folder back once nothing of a container is in it.
    pub(crate) fn leave(&self) {
        let _ = netns::unpin(&self.host_path());
        // With something in it the folder stays, which the kernel sees best.
        let _ = netns::give_back_folder(&self.folder);
    }

    /// Removes pins that neither `known` nor the pool knows.
    pub(crate) fn sweep(&self, known: impl Fn(&str) -> bool) -> Result<usize> {
        let at = |e: io::Error| Error::kernel(format!("folder {}", self.folder.display()), e);
        let mut count = 0;
        for entry in fs::read_dir(&self.folder).map_err(at)? {
            let entry = entry.map_err(at)?;
            let path = entry.path();
            let is_ready = self.ready.iter().any(|ready| self.path(&ready.id) == path);
            let is_known = entry.file_name().to_str().is_some_and(&known);
            if !is_ready && !is_known {
                netns::unpin(&path).map_err(at)?;
                count += 1;
            }
        }
        Ok(count)
    }

    /// Opens a netlink socket inside a namespace.
    pub(crate) fn socket_in(&self, netns: &OwnedFd) -> Result<Socket> {
        self.inside(netns, || Socket::open(Protocol::Route))
            .and_then(|socket| socket.map_err(|e| Error::kernel("open netlink socket", e)))
    }

    /// Runs `f` with the thread inside a namespace.
    pub(crate) fn inside<T>(&self, netns: &OwnedFd, f: impl FnOnce() -> T) -> Result<T> {
        let there = Excursion::begin(self.host.as_fd(), netns.as_fd())
            .map_err(|e| Error::kernel("enter network namespace", e))?;
        let out = f();
        drop(there);
        Ok(out)
    }

    /// Opens a pinned namespace.
    pub(crate) fn open_pin(path: &Path) -> Result<OwnedFd> {
        let what = || format!("network namespace {}", path.display());
        let fd = netns::open(path).map_err(|e| Error::kernel(what(), e))?;
        if !netns::is_network_namespace(fd.as_fd()) {
            return Err(Error::kernel(what(), io::Error::from_raw_os_error(22)));
        }
        Ok(fd)
    }

    /// Pins a namespace that the runtime made.
    pub(crate) fn pin(&self, id: &SandboxId, netns: &OwnedFd) -> Result<()> {
        let path = self.path(id);
        netns::pin(netns.as_fd(), &path)
            .map_err(|e| Error::kernel(format!("pin {}", path.display()), e))
    }

    fn make(&self) -> Result<Ready> {
        let id = SandboxId::random()?;
        let failed = |what: &'static str| move |e: io::Error| Error::kernel(what, e);
        let there =
            Excursion::begin_new(self.host.as_fd()).map_err(failed("make network namespace"))?;
        let netns = netns::current().map_err(failed("open new network namespace"))?;
        let socket = Socket::open(Protocol::Route).map_err(failed("open netlink socket"))?;
        // Links have no IPv6 addresses unless their network has them. A kernel without IPv6 has
        // no such file.
        let _ = fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
        drop(there);
        let mut ready = Ready { id, netns, socket };
        let mut batch = Batch::default();
        let up = LinkChange { up: Some(true), ..LinkChange::default() };
        set_link(&mut batch, LinkRef::Index(1), &up);
        ready.socket.request(batch)?;
        ready.socket.trim();
        self.pin(&ready.id, &ready.netns)?;
        Ok(ready)
    }
}
