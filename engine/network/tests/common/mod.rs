//! A host of its own for each test: the test's thread moves into a fresh network namespace, which
//! is the "host" of a `Networks` in a temporary folder; "containers" are its sandboxes, and what
//! runs in them are threads.
#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::disallowed_methods,
    clippy::missing_panics_doc,
    clippy::print_stdout,
    clippy::unused_self,
    clippy::unwrap_used
)]

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use metastore::{Format, Store};
use network::{Config, Endpoint, EndpointSpec, Networks, SandboxKind};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sys::netlink::route::{self, LinkChange, LinkRef, Veth};
use sys::netlink::{Batch, Protocol, Socket};
use sys::netns;

pub mod firewalls;

/// A connection that is to come about may take so long on a loaded machine.
const LONG: Duration = Duration::from_secs(20);
/// One that is not is awaited so long.
pub const SHORT: Duration = Duration::from_millis(400);

pub struct World {
    pub networks: Option<Networks>,
    pub folder: PathBuf,
    home: OwnedFd,
}

/// Whether the test can run; prints why not.
pub fn skipped() -> bool {
    if rustix::process::geteuid().is_root() {
        return false;
    }
    println!("SKIPPED: network: needs root to make network namespaces");
    true
}

impl World {
    /// Moves this thread into a new network namespace for good, and opens networks there.
    pub fn new(name: &str) -> Self {
        let mut world = Self::bare(name);
        world.open(&|_| false);
        world
    }

    pub fn bare(name: &str) -> Self {
        let home = netns::current().unwrap();
        let there = netns::Excursion::begin_new(home.as_fd()).unwrap();
        std::mem::forget(there);
        let folder =
            std::env::temp_dir().join(format!("ferry-network-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let mut socket = Socket::open(Protocol::Route).unwrap();
        let mut batch = Batch::default();
        let up = LinkChange { up: Some(true), ..LinkChange::default() };
        route::set_link(&mut batch, LinkRef::Index(1), &up);
        socket.request(batch).unwrap();
        // A new namespace may inherit what the host has switched on.
        fs::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap();
        Self { networks: None, folder, home }
    }

    /// Another daemon's folder in the same namespace.
    pub fn folder_only(name: &str) -> Self {
        let folder =
            std::env::temp_dir().join(format!("ferry-network-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        Self { networks: None, folder, home: netns::current().unwrap() }
    }

    pub fn config(&self) -> Config {
        let mut config = Config::new(self.folder.join("exec"));
        config.ready = 2;
        // This machine's own bus knows nothing of the test's namespace.
        config.bus = Some(dbus::Address::path(self.folder.join("bus")));
        config
    }

    pub fn open(&mut self, lives: &dyn Fn(&str) -> bool) -> network::Restored {
        self.open_with(self.config(), lives)
    }

    pub fn open_with(&mut self, config: Config, lives: &dyn Fn(&str) -> bool) -> network::Restored {
        let mut networks = Networks::open(config, self.store()).unwrap();
        let restored = networks.restore(lives).unwrap();
        self.networks = Some(networks);
        restored
    }

    pub fn store(&self) -> Store {
        let format = Format { version: 1, min_reader: 1 };
        Store::open(&self.folder.join("store"), format).unwrap()
    }

    /// As kill -9 does it: descriptors close, nothing else happens.
    pub fn kill(&mut self) {
        self.networks = None;
    }

    pub fn net(&mut self) -> &mut Networks {
        self.networks.as_mut().unwrap()
    }

    /// Starts a "container" on a network.
    pub fn run(&mut self, container: &str, network: &str) -> Container {
        let spec = EndpointSpec { container_name: container.into(), ..EndpointSpec::default() };
        let sandbox = self.net().sandbox(container, SandboxKind::Own).unwrap();
        let endpoint = self.net().connect(container, network, &spec).unwrap();
        Container { netns: netns::open(&sandbox.key.unwrap()).unwrap(), endpoint }
    }

    /// Does what waits, whenever the kernel or a bus tells of something, until `done`.
    pub fn maintain_until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            self.net().maintain().unwrap();
            if done(self) {
                return;
            }
            assert!(Instant::now() < deadline, "{what}: not within a minute");
            let mut fds: Vec<PollFd<'_>> = self
                .networks
                .as_ref()
                .unwrap()
                .wakers()
                .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
                .collect();
            let soon = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };
            poll(&mut fds, Some(&soon)).unwrap();
        }
    }

    /// A machine outside: its own namespace, `192.0.2.2` and `2001:db8::2`, this host being the
    /// first address of both.
    pub fn outside(&self) -> OwnedFd {
        let outside = self.outside_named("up0", "192.0.2");
        let near = Socket::open(Protocol::Route).unwrap();
        let far = inside(&outside, || Socket::open(Protocol::Route).unwrap()).join().unwrap();
        for (mut socket, name, address) in
            [(near, "up0", "2001:db8::1"), (far, "eth0", "2001:db8::2")]
        {
            let link = route::link_by_name(&mut socket, name).unwrap().unwrap().index;
            let mut batch = Batch::default();
            route::add_address(&mut batch, link, address.parse().unwrap(), 64);
            if name == "eth0" {
                let via = Some("2001:db8::1".parse().unwrap());
                route::add_route(&mut batch, &route::Route { to: None, via, link, v4: false });
            }
            socket.request(batch).unwrap();
        }
        outside
    }

    /// Another such machine, `NET.2`, behind another link, `NET.1`. The link is a macvlan, since a veth
    /// counts as a way to somebody inside this host.
    pub fn outside_named(&self, near_name: &str, net: &str) -> OwnedFd {
        let host = netns::current().unwrap();
        let there = netns::Excursion::begin_new(host.as_fd()).unwrap();
        let outside = netns::current().unwrap();
        drop(there);
        let mut near = Socket::open(Protocol::Route).unwrap();
        let mut batch = Batch::default();
        let wire = format!("{near_name}w");
        route::add_veth(
            &mut batch,
            &Veth {
                name: &wire,
                master: None,
                peer_name: "eth0",
                peer_mac: [2, 0, 0, 0, 0, 9],
                peer_netns: outside.as_fd(),
                mtu: None,
            },
        );
        near.request(batch).unwrap();
        let set = |name: &str, address: String| {
            program("ip", &["addr", "add", &address, "dev", name]).unwrap();
            program("ip", &["link", "set", name, "up"]).unwrap();
        };
        // Else it answers for the addresses of the macvlan above it.
        program("ip", &["link", "set", &wire, "up", "arp", "off"]).unwrap();
        program("ip", &["link", "add", "link", &wire, "name", near_name, "type", "macvlan"]);
        set(near_name, format!("{net}.1/24"));
        let net = net.to_owned();
        inside(&outside, move || {
            set("eth0", format!("{net}.2/24"));
            program("ip", &["route", "add", "default", "via", &format!("{net}.1")]).unwrap();
        })
        .join()
        .unwrap();
        outside
    }

    /// The host of this world.
    pub fn host(&self) -> OwnedFd {
        netns::current().unwrap()
    }

    pub fn links(&self) -> Vec<String> {
        let mut socket = Socket::open(Protocol::Route).unwrap();
        let mut all: Vec<_> =
            route::links(&mut socket).unwrap().into_iter().map(|l| l.name).collect();
        all.sort();
        all
    }

    pub fn pins(&self) -> Vec<String> {
        let Ok(all) = fs::read_dir(self.folder.join("exec/netns")) else { return Vec::new() };
        all.map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.networks = None;
        let pins = self.folder.join("exec/netns");
        for name in self.pins() {
            let _ = netns::unpin(&pins.join(name));
        }
        let _ = rustix::mount::unmount(&pins, rustix::mount::UnmountFlags::DETACH);
        let _ = fs::remove_dir_all(&self.folder);
        let _ = rustix::thread::move_into_link_name_space(
            self.home.as_fd(),
            Some(rustix::thread::LinkNameSpaceType::Network),
        );
    }
}

pub struct Container {
    pub netns: OwnedFd,
    pub endpoint: Endpoint,
}

impl Container {
    pub fn ip(&self) -> IpAddr {
        IpAddr::V4(self.endpoint.ipv4.unwrap().0)
    }

    pub fn ip6(&self) -> IpAddr {
        IpAddr::V6(self.endpoint.ipv6.unwrap().0)
    }
}

/// Runs `f` on a thread inside a namespace.
pub fn inside<T: Send + 'static>(
    netns: &OwnedFd,
    f: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    let netns = netns.try_clone().unwrap();
    std::thread::spawn(move || {
        rustix::thread::move_into_link_name_space(
            netns.as_fd(),
            Some(rustix::thread::LinkNameSpaceType::Network),
        )
        .unwrap();
        f()
    })
}

/// Connects from one namespace to an address in another, where a server answers with the address
/// it sees; that, or `None` when no connection comes about.
pub fn reach(from: &OwnedFd, to: &OwnedFd, address: IpAddr) -> Option<IpAddr> {
    reach_within(from, to, address, LONG)
}

/// Whether no connection comes about.
pub fn cut_off(from: &OwnedFd, to: &OwnedFd, address: IpAddr) -> bool {
    reach_within(from, to, address, SHORT).is_none()
}

pub fn reach_within(
    from: &OwnedFd,
    to: &OwnedFd,
    address: IpAddr,
    within: Duration,
) -> Option<IpAddr> {
    let listener = inside(to, move || TcpListener::bind((address, 0)).unwrap()).join().unwrap();
    let port = listener.local_addr().unwrap().port();
    reach_listener(from, listener, SocketAddr::new(address, port), within)
}

pub fn reach_listener(
    from: &OwnedFd,
    listener: TcpListener,
    to: SocketAddr,
    within: Duration,
) -> Option<IpAddr> {
    listener.set_nonblocking(true).unwrap();
    let client = inside(from, move || {
        let mut stream = TcpStream::connect_timeout(&to, within).ok()?;
        stream.set_read_timeout(Some(LONG)).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        text.parse().ok()
    });
    while !client.is_finished() {
        if let Ok((mut stream, peer)) = listener.accept() {
            let _ = write!(stream, "{}", peer.ip());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    client.join().unwrap()
}

/// Runs a program in this thread's namespace; its output, or `None` when there is no such program.
pub fn program(name: &str, args: &[&str]) -> Option<String> {
    let found = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"]
        .iter()
        .map(|folder| Path::new(folder).join(name))
        .find(|path| path.exists());
    let Some(path) = found else {
        println!("SKIPPED: network: no program {name} (cargo xtask setup)");
        return None;
    };
    let output = Command::new(path).args(args).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name} {args:?}: {errors}");
    Some(text)
}
