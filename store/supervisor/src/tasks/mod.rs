//! Tasks: the running process of a container, kept by a shim that this daemon starts, talks to,
//! loses and finds again. What must not live here: images, snapshots, a process's stdio.
//!
//! The shim is the truth: nothing of a task's state is stored but the bundle. A shim that ends
//! without having been told to is cleaned up by its own program, and its exit is published; an
//! exited task that nobody deleted stays until Delete.

mod bundle;
mod error;
mod events;
mod launch;
mod log;
mod manager;
mod service;
mod shim;
mod ttrpc;

pub use bundle::Bundle;
pub use error::TaskError;
pub use events::serve as serve_shim_events;
pub use manager::{Created, Tasks};
pub use service::TaskService;
pub use shim::ExitStatus;

use crate::children::Children;
use shim_api::{Any, Timestamp};
use std::path::PathBuf;
use std::sync::Arc;

/// What a task is made from: the container's record.
#[derive(Clone, Debug, Default)]
pub struct ContainerFacts {
    /// The runtime's name, or an absolute path.
    pub runtime: String,
    /// Options of the runtime.
    pub options: Option<Any>,
    /// The OCI spec as JSON.
    pub spec: Vec<u8>,
}

/// What tasks need of the rest of the daemon.
#[tonic::async_trait]
pub trait Host: Send + Sync + 'static {
    /// The container's record. Errors: `NotFound` with its id.
    async fn container(&self, namespace: &str, id: &str) -> Result<ContainerFacts, TaskError>;
    /// Publishes an event of a task under containerd's topic.
    fn publish(&self, namespace: &str, topic: &str, at: Option<Timestamp>, event: Any);
}

/// Where things are and who serves.
#[derive(Clone)]
pub struct Settings {
    /// Bundles: `<state>/<namespace>/<id>`.
    pub state: PathBuf,
    /// This daemon's gRPC socket.
    pub grpc_address: PathBuf,
    /// The socket on which shims forward events.
    pub ttrpc_address: PathBuf,
    /// This daemon's program, which old shims call to publish.
    pub program: PathBuf,
    /// `containerd-shim-ferry-v2`.
    pub own_shim: PathBuf,
    /// Starts and reaps programs.
    pub children: Children,
    /// The rest of the daemon.
    pub host: Arc<dyn Host>,
}
