//! ferry-containerd: content, images, snapshots, leases, tasks, transfer.
//!
//! [`State`] holds what the services share. Each service is a folder or file with
//! plain Rust functions that do the work, and a thin gRPC layer on top of them.
//! [`server`] puts them on the socket. Everything is namespaced by [`Context`].
//!
//! Absent here: the shim's own code, the Docker API, and any knowledge of ferryd.

pub mod check;
pub mod children;
pub mod config;
pub mod containers;
pub mod content;
pub mod context;
pub mod diff;
pub mod error;
pub mod events;
pub mod gc;
pub mod idle;
pub mod images;
pub mod introspection;
pub mod labels;
pub mod leases;
pub mod namespaces;
pub mod publish;
pub mod running;
mod sealed;
pub mod server;
pub mod snapshots;
pub mod state;
pub mod streaming;
pub mod tasks;
pub mod transfer;
pub mod version;

pub use config::Config;
pub use context::Context;
pub use error::Error;
pub use state::State;
