//! Sandboxes, endpoints, networks: links, addresses and firewall through netlink alone.
//!
//! [`Networks`] owns all state and is used from one thread; [`Reader`] is its published view, for
//! `list` and `inspect` from anywhere. Drivers plan, `networks::kernel` acts, records come before
//! effects. Nothing here knows HTTP, tokio, or what a container is beyond its id.
//!
//! A container's life: [`Networks::sandbox`], then [`Networks::connect`] for each network, then
//! [`Networks::release`]; [`Networks::maintain`] whenever a waker is readable or its time came,
//! which [`thread::spawn`] sees to.

mod config;
pub mod driver;
mod error;
pub mod files;
pub mod firewall;
mod networks;
mod records;
mod sandbox;
pub mod thread;
mod types;
mod validate;
mod view;

pub use config::Config;
pub use error::{Error, Kind, Result};
pub use networks::{Networks, Restored};
pub use types::{
    BridgeLink, Endpoint, EndpointId, EndpointSpec, IpamPool, IpamSpec, Netns, Network, NetworkId,
    NetworkSpec, Pool, PortBinding, PortSpec, Protocol, Sandbox, SandboxId, SandboxKind,
};
pub use view::{NetworkView, Reader};
