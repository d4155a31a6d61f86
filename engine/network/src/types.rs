//! What crosses this crate's edge: ids, what a caller asks for, what it gets. Plain data, no
//! kernel, no store.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use ipam::Prefix;
use serde::{Deserialize, Serialize};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// A fresh random id: 64 hexadecimal digits.
            pub fn random() -> crate::Result<Self> {
                crate::types::random_hex().map(Self)
            }

            /// All 64 digits.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The first 12 digits, as tools show it.
            pub fn short(&self) -> &str {
                self.0.get(..12).unwrap_or(&self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.short())
            }
        }
    };
}

id! {
    /// A network's id.
    NetworkId
}
id! {
    /// An endpoint's id: one container's attachment to one network.
    EndpointId
}
id! {
    /// A sandbox's id; its first 12 digits name the file that pins the namespace.
    SandboxId
}

pub(crate) fn random_hex() -> crate::Result<String> {
    let mut bytes = [0u8; 32];
    getrandom::fill(&mut bytes)
        .map_err(|e| crate::Error::kernel("random id", std::io::Error::other(e.to_string())))?;
    Ok(hex(&bytes))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|b| [DIGITS[usize::from(b >> 4)] as char, DIGITS[usize::from(b & 15)] as char])
        .collect()
}

/// One address pool as a client writes it; checked by `Networks::create`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct IpamPool {
    /// CIDR; host bits zero. Empty: chosen from the default pools.
    pub subnet: String,
    /// CIDR within the subnet from which unnamed addresses come; may be empty.
    pub ip_range: String,
    /// The host's address in the subnet; may be empty.
    pub gateway: String,
    /// Addresses never handed out, by the client's name for them.
    pub aux_addresses: BTreeMap<String, String>,
}

/// The IPAM part of a create.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct IpamSpec {
    /// `default` (also when empty) or `null`.
    pub driver: String,
    /// Options as given; absent and empty differ on the wire.
    pub options: Option<BTreeMap<String, String>>,
    /// The pools, in the client's order.
    pub config: Vec<IpamPool>,
}

/// What a client asks for in `POST /networks/create`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkSpec {
    /// The unique name.
    pub name: String,
    /// `bridge` (also when empty), `host`, `null`, or another program's.
    pub driver: String,
    /// `local`, `swarm`, `global`; empty is local.
    pub scope: String,
    /// No route to the outside, and none from there.
    pub internal: bool,
    /// Shown back; means something in a cluster only.
    pub attachable: bool,
    /// A cluster's ingress network.
    pub ingress: bool,
    /// A template for other networks.
    pub config_only: bool,
    /// The template to use; empty for none.
    pub config_from: String,
    /// Whether endpoints get IPv4 addresses; absent: yes.
    pub enable_ipv4: Option<bool>,
    /// Whether endpoints get IPv6 addresses; absent: no.
    pub enable_ipv6: Option<bool>,
    /// Pools.
    pub ipam: IpamSpec,
    /// The driver's options, `com.docker.network.…`.
    pub options: BTreeMap<String, String>,
    /// The client's labels.
    pub labels: BTreeMap<String, String>,
}

/// A transport protocol of a published port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// The number in the IP header.
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }

    /// The lower-case name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

/// A port to publish.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortSpec {
    /// The host's address; `None` means every address.
    pub host_ip: Option<IpAddr>,
    /// First host port; 0 means any free one.
    pub host_port: u16,
    /// Last host port of a range to pick from; equal to `host_port` without a range.
    pub host_port_end: u16,
    /// The port in the container.
    pub container_port: u16,
    /// The protocol.
    pub protocol: Protocol,
}

/// A port that is published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortBinding {
    /// The host's address, unspecified for all.
    pub host_ip: IpAddr,
    /// The host's port.
    pub host_port: u16,
    /// The port in the container.
    pub container_port: u16,
    /// The protocol.
    pub protocol: Protocol,
}

/// What a container asks for when it connects to a network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointSpec {
    /// The container's name, without the leading slash; named in errors and in `inspect`.
    pub container_name: String,
    /// Names the network's DNS answers for this endpoint, in order; `None` on the default bridge.
    pub dns_names: Option<Vec<String>>,
    /// Some of those names were asked for, which the predefined networks refuse.
    pub has_aliases: bool,
    /// A static IPv4 address, as written.
    pub ipv4: String,
    /// A static IPv6 address, as written.
    pub ipv6: String,
    /// Link-local addresses, as written.
    pub link_local: Vec<String>,
    /// A MAC address, as written; empty: derived from the address.
    pub mac: String,
    /// The endpoint's driver options.
    pub driver_opts: BTreeMap<String, String>,
    /// The endpoint with the highest priority gives the default route; equal ones by name.
    pub gw_priority: i64,
    /// Ports to publish on this endpoint.
    pub ports: Vec<PortSpec>,
}

/// Where a container's network namespace comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SandboxKind {
    /// A namespace of its own, from the pool or new; endpoints follow with `connect`. The network
    /// mode `none` is this without endpoints.
    Own,
    /// The host's namespace.
    Host,
    /// Another container's namespace, by its full id.
    Container(String),
    /// A namespace that someone else made and keeps.
    Path(PathBuf),
    /// The runtime makes it, inside the container's own user namespace, since sysfs needs a
    /// network namespace of its own user namespace; the caller hands it in with `adopt` after the
    /// runtime's create.
    AfterCreate,
}

/// How the OCI spec names a sandbox's namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Netns {
    /// `{"type":"network","path":…}`.
    Path(PathBuf),
    /// No network namespace in the spec.
    Host,
    /// `{"type":"network"}` without a path.
    New,
}

/// A container's network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sandbox {
    /// The id that `inspect` shows as SandboxID (that of the other container's when shared).
    pub id: SandboxId,
    /// What `inspect` shows as SandboxKey; absent while the runtime has not made it.
    pub key: Option<PathBuf>,
    /// What the OCI spec needs.
    pub netns: Netns,
}

/// A container's attachment to one network, as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// The endpoint's id.
    pub id: EndpointId,
    /// The network's id.
    pub network: NetworkId,
    /// The network's name.
    pub network_name: String,
    /// The container's full id.
    pub container: String,
    /// The container's name when it connected.
    pub container_name: String,
    /// The link's name inside the sandbox; empty for drivers without one (host, none).
    pub interface: String,
    /// `02:42:ac:11:00:02`; empty without a link.
    pub mac: String,
    /// The IPv4 address and its subnet's length.
    pub ipv4: Option<(Ipv4Addr, u8)>,
    /// The network's IPv4 gateway; absent on internal networks.
    pub gateway4: Option<Ipv4Addr>,
    /// The IPv6 address and its subnet's length.
    pub ipv6: Option<(Ipv6Addr, u8)>,
    /// The network's IPv6 gateway.
    pub gateway6: Option<Ipv6Addr>,
    /// As asked for.
    pub dns_names: Option<Vec<String>>,
    /// As asked for.
    pub gw_priority: i64,
    /// Ports that are published.
    #[serde(default)]
    pub ports: Vec<PortBinding>,
}

/// A pool of a network, checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// The subnet.
    pub subnet: Prefix,
    /// Where unnamed addresses come from, if narrower.
    #[serde(default)]
    pub ip_range: Option<Prefix>,
    /// The host's address; on internal networks too.
    pub gateway: Option<IpAddr>,
    /// Addresses never handed out.
    #[serde(default)]
    pub aux_addresses: BTreeMap<String, IpAddr>,
    /// Whether `inspect` shows the gateway: a client that names a subnet without one is shown none.
    pub show_gateway: bool,
    /// Whether the client named the subnet, which is what allows static addresses.
    pub from_user: bool,
}

/// A network as `list` and `inspect` show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// The id.
    pub id: NetworkId,
    /// The name.
    pub name: String,
    /// Nanoseconds since the epoch.
    pub created: i64,
    /// `bridge`, `host` or `null`.
    pub driver: String,
    /// `local`.
    pub scope: String,
    /// Whether endpoints get IPv4 addresses.
    pub ipv4: bool,
    /// Whether endpoints get IPv6 addresses.
    pub ipv6: bool,
    /// The IPAM driver's name.
    pub ipam_driver: String,
    /// Options of the IPAM driver as given.
    pub ipam_options: Option<BTreeMap<String, String>>,
    /// Its pools, IPv4 before IPv6.
    pub pools: Vec<Pool>,
    /// As asked for.
    pub internal: bool,
    /// As asked for.
    pub attachable: bool,
    /// The driver's options.
    pub options: BTreeMap<String, String>,
    /// The client's labels.
    pub labels: BTreeMap<String, String>,
    /// The bridge's name and MAC, for the drivers that have one.
    #[serde(default)]
    pub link: Option<BridgeLink>,
}

impl Network {
    /// Whether the engine made this network and nobody may remove it.
    pub fn predefined(&self) -> bool {
        matches!(self.name.as_str(), "bridge" | "host" | "none")
    }
}

/// A bridge in the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BridgeLink {
    /// The link's name.
    pub name: String,
    /// Its address, fixed at creation so that it never follows its ports.
    pub mac: [u8; 6],
}
