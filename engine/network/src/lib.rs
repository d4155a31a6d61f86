//! Sandboxes, endpoints, networks: links, addresses and firewall through netlink alone.
//!
//! `Networks` owns all state and is used from one thread; `Reader` is its published view, for
//! `list` and `inspect` from anywhere. Drivers plan, `apply` acts, records come before effects.
//! Nothing here knows HTTP, tokio, or what a container is beyond its id.

pub mod driver;
mod error;
mod types;

pub use error::{Error, Kind, Result};
pub use types::{
    BridgeLink, Endpoint, EndpointId, EndpointSpec, IpamPool, IpamSpec, Netns, Network, NetworkId,
    NetworkSpec, Pool, PortBinding, PortSpec, Protocol, Sandbox, SandboxId, SandboxKind,
};
