//! The one error enum of this crate, with the texts that clients match, and its kinds, from which
//! the daemon takes the HTTP status. Nothing here decides when an error occurs.

use std::io;

use crate::types::{EndpointId, NetworkId};

/// What kind of failure it is; the daemon's HTTP layer has one status for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The request makes no sense whatever the state: 400.
    InvalidParameter,
    /// Something named does not exist: 404.
    NotFound,
    /// The state forbids it now: 409.
    Conflict,
    /// Never allowed, or refused by policy: 403.
    Forbidden,
    /// This program can't do it (yet): 501.
    NotImplemented,
    /// The machine failed: 500.
    System,
}

/// Why an operation on networks, sandboxes or endpoints failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No network has this name, id, or id prefix.
    #[error("network {0} not found")]
    NetworkNotFound(String),
    /// Several networks have this name or id prefix.
    #[error("network {0} is ambiguous ({1} matches found on {2})")]
    Ambiguous(String, usize, &'static str),
    /// A network has this name already.
    #[error("network with name {0} already exists")]
    NameInUse(String),
    /// A name of the built-in networks was asked for in a create.
    #[error("operation is not permitted on predefined {0} network ")]
    Predefined(String),
    /// Removal of a built-in network.
    #[error("{0} is a pre-defined network and cannot be removed")]
    PredefinedRemove(String),
    /// A second network of a driver that has exactly one.
    #[error("only one instance of \"{0}\" network is allowed")]
    OnlyOne(&'static str),
    /// No driver (network or IPAM) of this name.
    #[error("plugin \"{0}\" not found")]
    PluginNotFound(String),
    /// An overlay network, or another that needs a cluster, on a node without one.
    #[error(
        "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again."
    )]
    NotManager,
    /// A swarm-scoped network while swarm is inactive.
    #[error("cannot create a swarm scoped network when swarm is not active")]
    SwarmScope,
    /// An ingress network that isn't a cluster's.
    #[error("Ingress network can only be global scope network")]
    IngressScope,
    /// The request itself is wrong; the text says what.
    #[error("{0}")]
    Invalid(String),
    /// Refused by policy; the text says why.
    #[error("{0}")]
    Refused(String),
    /// Something named in a request does not exist; the text says what.
    #[error("{0}")]
    Missing(String),
    /// An option that exists elsewhere and that this program does not have; the text names it.
    #[error("{0} is not supported")]
    Unsupported(String),
    /// Address or pool errors of a create.
    #[error("invalid pool request: Pool overlaps with other one on this address space")]
    PoolOverlaps,
    /// Every default pool overlaps with something.
    #[error(
        "all predefined address pools have been fully subnetted: a network needs a subnet of its own (--subnet)"
    )]
    NoPool,
    /// Two bridge networks on one link.
    #[error(
        "cannot create network {0} ({2}): conflicts with network {1} ({2}): networks have same bridge name"
    )]
    BridgeNameInUse(NetworkId, NetworkId, String),
    /// Removal while containers are connected.
    #[error("error while removing network: network {network} has active endpoints ({endpoints})")]
    ActiveEndpoints {
        /// The network's name.
        network: String,
        /// `name:"c1" id:"6b8c32156047"`, joined by `, `.
        endpoints: String,
    },
    /// The container is connected already.
    #[error("endpoint with name {name} already exists in network {network}")]
    EndpointExists {
        /// The container's name.
        name: String,
        /// The network's name.
        network: String,
    },
    /// Disconnect of what isn't connected.
    #[error("container {container} is not connected to network {network}")]
    NotConnected {
        /// The container's id.
        container: String,
        /// The network's name.
        network: String,
    },
    /// A forced disconnect of a name that no endpoint has.
    #[error("endpoint {0} not found")]
    EndpointNotFound(String),
    /// A static address that somebody holds, or that the pool does not have.
    #[error(transparent)]
    Address(#[from] ipam::Taken),
    /// The pool is full.
    #[error(transparent)]
    Exhausted(#[from] ipam::Exhausted),
    /// A published port that somebody holds.
    #[error(
        "driver failed programming external connectivity on endpoint {container} ({endpoint}): Bind for {address} failed: port is already allocated"
    )]
    PortInUse {
        /// The container's name.
        container: String,
        /// The endpoint's id.
        endpoint: EndpointId,
        /// `host:port`.
        address: String,
    },
    /// The kernel's limit of ports on one bridge.
    #[error(
        "network {network} is full: its bridge {bridge} already has {limit} ports, which is as many as the kernel allows; create a second network"
    )]
    BridgeFull {
        /// The network's name.
        network: String,
        /// The link's name.
        bridge: String,
        /// The number of ports.
        limit: usize,
    },
    /// `container:X` where X has no sandbox.
    #[error(
        "cannot join network namespace of a non running container: container {0} is not running"
    )]
    NotRunning(String),
    /// An operation that needs a sandbox for a container without one.
    #[error("container {0} has no sandbox")]
    NoSandbox(String),
    /// A resource that a dying endpoint still holds did not come free in time.
    #[error("{what} is still held by an endpoint of container {container} that is being removed")]
    StillHeld {
        /// The address or link.
        what: String,
        /// The old holder.
        container: String,
    },
    /// Another running process owns our firewall tables.
    #[error(
        "firewall tables {0} belong to another running process: two daemons in one network namespace need tables of their own"
    )]
    TablesOwned(String),
    /// The kernel refused; the text names the object and what was attempted.
    #[error("{what}: {source}")]
    Kernel {
        /// What was attempted, on what.
        what: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A netlink request was refused.
    #[error(transparent)]
    Netlink(#[from] sys::netlink::Error),
    /// The store failed.
    #[error("network records: {0}")]
    Store(String),
}

impl Error {
    /// Which status the failure has.
    pub fn kind(&self) -> Kind {
        match self {
            Self::NetworkNotFound(_)
            | Self::PluginNotFound(_)
            | Self::Missing(_)
            | Self::EndpointNotFound(_) => Kind::NotFound,
            Self::NameInUse(_) | Self::NotRunning(_) => Kind::Conflict,
            Self::Invalid(_) | Self::Ambiguous(..) => Kind::InvalidParameter,
            Self::Predefined(_)
            | Self::PredefinedRemove(_)
            | Self::OnlyOne(_)
            | Self::NotManager
            | Self::SwarmScope
            | Self::IngressScope
            | Self::Refused(_)
            | Self::PoolOverlaps
            | Self::BridgeNameInUse(..)
            | Self::ActiveEndpoints { .. }
            | Self::EndpointExists { .. }
            | Self::Address(_)
            | Self::BridgeFull { .. } => Kind::Forbidden,
            Self::Unsupported(_) => Kind::NotImplemented,
            Self::NoPool
            | Self::NotConnected { .. }
            | Self::Exhausted(_)
            | Self::PortInUse { .. }
            | Self::NoSandbox(_)
            | Self::StillHeld { .. }
            | Self::TablesOwned(_)
            | Self::Kernel { .. }
            | Self::Netlink(_)
            | Self::Store(_) => Kind::System,
        }
    }

    /// A kernel failure, with what was attempted.
    pub(crate) fn kernel(what: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::Kernel { what: what.into(), source: source.into() }
    }
}

/// The result of this crate's operations.
pub type Result<T> = std::result::Result<T, Error>;
