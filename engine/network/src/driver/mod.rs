//! The driver seam of the container network model. A driver plans, purely; `apply` acts. A join
//! returns any number of links of any kind, so that macvlan, ipvlan, overlay and plug-ins fit, and
//! no caller may assume a bridge. Nothing here talks to the kernel.

use std::net::IpAddr;
use std::path::PathBuf;

use ipam::Prefix;

use crate::Result;
use crate::types::{Endpoint, Network, NetworkSpec};

pub mod bridge;
pub mod host;

/// What a driver is and may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Whether its networks take addresses from IPAM.
    pub addresses: bool,
    /// Whether more than one network of it may exist.
    pub many: bool,
}

/// A driver: from a checked network or endpoint to a plan. Pure.
pub trait Driver: Send {
    /// The name that `NetworkSpec::driver` matches.
    fn name(&self) -> &'static str;

    /// What it can do.
    fn capabilities(&self) -> Capabilities;

    /// Checks a create's options; `network` is complete but for `link`, which the driver fills.
    fn create_network(&self, spec: &NetworkSpec, network: &mut Network) -> Result<()>;

    /// What the host needs for the network to work; applied at create and again at restore.
    fn network_plan(&self, network: &Network) -> Result<NetworkPlan>;

    /// What joining needs, for an endpoint whose addresses are allocated.
    fn join(&self, network: &Network, endpoint: &Endpoint) -> Result<JoinPlan>;
}

/// What a network needs in the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkPlan {
    /// The bridge to make or to adopt.
    pub bridge: Option<BridgePlan>,
    /// The network's elements in the constant firewall table.
    pub elements: Vec<Element>,
    /// A network namespace of the driver's own (an overlay's), by path.
    pub own_namespace: Option<PathBuf>,
}

/// A bridge in the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BridgePlan {
    /// Its name.
    pub name: String,
    /// Its address.
    pub mac: [u8; 6],
    /// Its MTU in bytes; absent: the kernel's.
    pub mtu: Option<u32>,
    /// The host's addresses on it.
    pub addresses: Vec<(IpAddr, u8)>,
}

impl BridgePlan {
    /// Whether the network has IPv6.
    pub fn has_v6(&self) -> bool {
        self.addresses.iter().any(|(address, _)| !address.is_ipv4())
    }
}

/// What joining one endpoint needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JoinPlan {
    /// Links to make in the sandbox.
    pub links: Vec<LinkPlan>,
    /// Static routes inside the sandbox beside the default route.
    pub routes: Vec<RoutePlan>,
    /// Permanent neighbours inside the sandbox.
    pub neighbours: Vec<(IpAddr, [u8; 6])>,
    /// Forwarding entries of the driver's device.
    pub fdb: Vec<([u8; 6], IpAddr)>,
    /// `net.…` settings inside the sandbox, `IFNAME` standing for the link's name.
    pub sysctls: Vec<(String, String)>,
    /// The endpoint's elements in the constant firewall table.
    pub elements: Vec<Element>,
    /// Whether the driver wants this endpoint's gateways to be the default routes.
    pub default_route: bool,
}

/// A link to make in a sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkPlan {
    /// What it is and what it hangs on.
    pub kind: LinkKind,
    /// Its name inside the sandbox.
    pub target_name: String,
    /// Its address.
    pub mac: [u8; 6],
    /// Its MTU in bytes; absent: the kernel's.
    pub mtu: Option<u32>,
    /// Its addresses.
    pub addresses: Vec<(IpAddr, u8)>,
}

/// The kinds of links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkKind {
    /// A pair whose other end is a port of a bridge in the host.
    Veth {
        /// The host's end.
        host_name: String,
        /// The bridge.
        bridge: String,
        /// Whether ports with this flag may not talk to each other (`icc=false`).
        isolated: bool,
    },
}

/// A static route inside the sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoutePlan {
    /// Where to.
    pub to: Prefix,
    /// Through whom; absent: on the link.
    pub via: Option<IpAddr>,
}

/// One element of the constant table's sets and maps.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Element {
    /// `br`: a bridge of ours.
    Bridge(String),
    /// `internal`: a bridge without the outside.
    Internal(String),
    /// `guests`: the bridge of another program's guests, from which packets may be forwarded.
    Guests(String),
    /// `intra`: packets may pass from the first link to the second.
    Intra(String, String),
    /// `masq`: a subnet that leaves the host under the host's address.
    Masquerade(Prefix),
    /// `pub_ip`, or `pub_any` when the host address is unspecified, together with `open_any`: a
    /// published port by plain destination translation.
    Publish {
        /// Protocol number.
        protocol: u8,
        /// The host's address.
        host_ip: IpAddr,
        /// The host's port.
        host_port: u16,
        /// The container's address.
        to: IpAddr,
        /// The container's port.
        to_port: u16,
    },
}
