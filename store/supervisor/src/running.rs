//! What runs beside the records: tasks with their shims, streams in flight, children. Wires tasks
//! to the containers' records and to the event bus; no behaviour of its own.

use crate::children::Children;
use crate::streaming::{self, Streams};
use crate::tasks::{self, ContainerFacts, Host, Settings, TaskError, Tasks};
use crate::{Config, Context, Error, State};
use containerd_api::prost_types::{Any, Timestamp};
use containerd_api::types::Envelope;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The running half of the daemon.
#[derive(Clone)]
pub struct Running {
    /// Tasks.
    pub tasks: Tasks,
    /// Streams.
    pub streams: Streams,
}

/// The name of our own shim's program.
const SHIM: &str = "containerd-shim-ferry-v2";

impl Running {
    /// Adopts orphans, serves shims' events and raw streams, and finds the tasks of before again.
    /// Must be done before clients are served.
    pub async fn start(config: &Config, state: &Arc<State>) -> Result<Self, Error> {
        let children = Children::default();
        children.adopt().map_err(Error::io("becoming a subreaper"))?;
        let program = std::env::current_exe().map_err(Error::io("finding the daemon's program"))?;
        let ttrpc_address = with_suffix(&config.address, ".ttrpc");
        let host: Arc<dyn Host> = Arc::new(Records(Arc::clone(state)));
        tasks::serve_shim_events(&ttrpc_address, Arc::clone(&host))
            .map_err(Error::io(format!("listening at {}", ttrpc_address.display())))?;
        let streams = Streams::default();
        streaming::listen(&config.address, config.uid, config.gid, streams.clone())?;
        let tasks = Tasks::new(Settings {
            state: config.state.join("io.containerd.runtime.v2.task"),
            grpc_address: config.address.clone(),
            ttrpc_address,
            own_shim: crate::sealed::program(&config.state, &own_shim(&program)),
            program,
            children,
            host,
        });
        tasks.restore().await;
        Ok(Self { tasks, streams })
    }

    /// Gives back what only running tasks need; for an orderly stop.
    pub(crate) fn stop(&self, state: &Path) {
        if self.tasks.is_empty() {
            crate::sealed::release(state);
        }
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

/// Our shim: beside this program, else in PATH.
fn own_shim(program: &Path) -> PathBuf {
    let beside = program.with_file_name(SHIM);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places =
        std::iter::once(beside.clone()).chain(std::env::split_paths(&path).map(|p| p.join(SHIM)));
    places.find(|place| place.is_absolute() && place.is_file()).unwrap_or(beside)
}

/// The records, as tasks see them.
struct Records(Arc<State>);

#[tonic::async_trait]
impl Host for Records {
    async fn container(&self, namespace: &str, id: &str) -> Result<ContainerFacts, TaskError> {
        let found = self.0.container(&Context::new(namespace), id).map_err(|e| match e {
            Error::NotFound(what) => TaskError::NotFound(what),
            other => TaskError::Precondition(other.to_string()),
        })?;
        let runtime = found.runtime.unwrap_or_default();
        Ok(ContainerFacts {
            runtime: runtime.name,
            options: runtime.options,
            spec: found.spec.unwrap_or_default().value,
        })
    }

    fn publish(&self, namespace: &str, topic: &str, at: Option<Timestamp>, event: Any) {
        let envelope = Envelope {
            timestamp: at.or_else(|| Some(containerd_api::time::now())),
            namespace: namespace.into(),
            topic: topic.into(),
            event: Some(event),
        };
        if let Err(error) = self.0.events.forward(envelope) {
            tracing::warn!("an event of a task: {error}");
        }
    }
}
