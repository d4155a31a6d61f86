//! A start: network, spec, containerd's container and task, attachers, go. Each step
//! that made something arms its undo; a failure or a cancelled start undoes the newest
//! first and reports.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::SystemTime;

use containerd_api::services::containers::v1 as ctr;
use containerd_api::services::snapshots::v1::MountsRequest;
use containerd_api::services::tasks::v1 as tasks;
use containerd_api::types::Mount;
use containerd_rpc::RpcError;
use metastore::{Batch, Class};
use tokio_util::sync::CancellationToken;

use super::container::Container;
use super::machine::Input;
use super::{network, specs, teardown};
use crate::records::{INTENTS, Spec, now};
use crate::signals::SIGTERM;
use crate::sink::{self, Sink};
use crate::volumes;

/// Why a start failed: the reply's status, the exit code of `run`, the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    /// HTTP status.
    pub status: u16,
    /// Exit code.
    pub code: i64,
    /// What users see.
    pub text: String,
}

impl Failure {
    /// A failure before the runtime was asked.
    pub(super) fn new(status: u16, text: impl Into<String>) -> Self {
        Self { status, code: 128, text: text.into() }
    }

    /// A failure of the network.
    pub(super) fn network(e: &::network::Error) -> Self {
        use ::network::Kind;
        let status = match e.kind() {
            Kind::InvalidParameter => 400,
            Kind::NotFound => 404,
            Kind::Conflict => 409,
            Kind::Forbidden => 403,
            Kind::NotImplemented => 501,
            Kind::System => 500,
        };
        Self::new(status, format!("failed to set up container networking: {e}"))
    }

    /// A failure of shim or runtime: its text tells which exit code is meant.
    pub(super) fn task(e: &RpcError) -> Self {
        Self::from_runtime(format!("failed to create task for container: {}", e.message))
    }

    fn from_runtime(text: String) -> Self {
        let (status, code, text) = refusal(text);
        Self { status, code, text }
    }

    fn rpc(what: &str, e: &RpcError) -> Self {
        Self::new(500, format!("{what}: {e}"))
    }
}

/// What a refusal of the runtime means: the reply's status, the exit code, the text as users know
/// it.
pub(crate) fn refusal(mut text: String) -> (u16, i64, String) {
    let lower = text.to_lowercase();
    let has = |part: &str| lower.contains(part);
    if has("permission denied") {
        return (400, 126, text);
    }
    if has("is a directory") {
        // Clients look for the words of a file that may not be executed.
        text.push_str(": permission denied");
        return (400, 126, text);
    }
    if has("not a directory") {
        text.push_str(": Are you trying to mount a directory onto a file (or vice-versa)? Check if the specified host path exists and is the expected type");
        return (400, 127, text);
    }
    if ["executable file not found", "no such file or directory"].iter().any(|part| has(part)) {
        return (400, 127, text);
    }
    (500, 128, text)
}

/// What a start made so far.
#[derive(Default)]
struct Made {
    sandbox: bool,
    container: bool,
    task: bool,
    /// The sink beside a foreign shim.
    detached: Option<OwnedFd>,
}

/// Runs one start and reports to the machine.
pub(super) async fn run(container: Arc<Container>, generation: u64, cancel: CancellationToken) {
    let mut made = Made::default();
    let result = steps(&container, generation, &cancel, &mut made).await;
    container.parked.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clear();
    let input = match result {
        Ok(()) => Input::Started { generation, at: now() },
        Err(failure) => {
            undo(&container, made).await;
            Input::StartFailed {
                generation,
                status: failure.status,
                code: failure.code,
                error: failure.text,
            }
        }
    };
    let done = Batch::default().delete(INTENTS, container.id.as_bytes());
    if let Err(e) = container.store().commit(Class::Crash, done) {
        tracing::error!("clearing the intent of container {}: {e}", container.id);
    }
    container.deliver(input);
    if let Some(pid) = container.running().filter(|_| container.row().state.detached_sink) {
        crate::detached::watch(container.deps(), &container, pid);
    }
}

async fn steps(
    container: &Arc<Container>,
    generation: u64,
    cancel: &CancellationToken,
    made: &mut Made,
) -> Result<(), Failure> {
    let going = || {
        if cancel.is_cancelled() {
            Err(Failure::new(409, "the start was cancelled"))
        } else {
            Ok(())
        }
    };
    let spec = container.spec().map_err(|e| Failure::new(500, e))?;
    let intent = Batch::default().put(INTENTS, container.id.as_bytes(), generation.to_string());
    container.store().commit(Class::Crash, intent).map_err(|e| Failure::new(500, e.to_string()))?;
    made.sandbox = true;
    let (joined, root) =
        tokio::join!(network::join(container, &spec), root_mounts(container, &spec));
    let (joined, root) = (joined?, root?);
    going()?;
    volumes::fill(container.deps(), &spec, &root).await.map_err(|e| Failure::new(500, e))?;
    let oci = specs::oci_spec(container, &spec, &root, &joined)?;
    let runtime = container.deps().runtime(&spec.host.runtime).map_err(|e| Failure::new(400, e))?;
    create_container(container, &spec, &oci, &runtime).await?;
    made.container = true;
    going()?;
    let sink = Sink::of_container(container.deps(), &spec);
    let foreign = runtime.is_foreign;
    let stdio = sink
        .stdio(container.deps(), foreign, &mut made.detached)
        .await
        .map_err(|e| Failure::new(500, e))?;
    let request = tasks::CreateTaskRequest {
        container_id: container.id.clone(),
        rootfs: root,
        stdin: stdio.stdin,
        stdout: stdio.stdout,
        stderr: stdio.stderr,
        terminal: spec.config.tty,
        options: runtime.options.clone(),
        ..tasks::CreateTaskRequest::default()
    };
    let created = container.client().tasks().create(request).await;
    let created = created.map_err(|e| Failure::task(&RpcError::from(e)))?.into_inner();
    made.task = true;
    container.deliver(Input::Created { generation, pid: created.pid, detached_sink: foreign });
    joined.connected(container).await?;
    going()?;
    sink::admit(container, &sink.socket)
        .await
        .map_err(|e| Failure::new(500, format!("attaching: {e}")))?;
    let request =
        tasks::StartRequest { container_id: container.id.clone(), exec_id: String::new() };
    container
        .client()
        .tasks()
        .start(request)
        .await
        .map_err(|e| Failure::task(&RpcError::from(e)))?;
    Ok(())
}

/// Mounts of the root file system: those that create got, or asked for anew.
pub(crate) async fn root_mounts(container: &Container, spec: &Spec) -> Result<Vec<Mount>, Failure> {
    let kept = container.mounts.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
    if let Some(mounts) = kept {
        return Ok(mounts);
    }
    let request = MountsRequest { snapshotter: spec.snapshotter.clone(), key: spec.id.clone() };
    let answer = container.client().snapshots().mounts(request).await;
    answer
        .map(|a| a.into_inner().mounts)
        .map_err(|e| Failure::rpc("root file system of the container", &e.into()))
}

async fn create_container(
    container: &Container,
    spec: &Spec,
    oci: &oci::runtime::Spec,
    runtime: &crate::engine::RuntimeChoice,
) -> Result<(), Failure> {
    let json = serde_json::to_vec(oci).map_err(|e| Failure::new(500, e.to_string()))?;
    let stamp = Some(containerd_api::time::timestamp(SystemTime::now()));
    let record = ctr::Container {
        id: container.id.clone(),
        image: spec.config.image.clone(),
        runtime: Some(ctr::container::Runtime {
            name: runtime.name.clone(),
            options: runtime.options.clone(),
        }),
        spec: Some(containerd_api::any::json(containerd_api::any::OCI_SPEC, json)),
        snapshotter: spec.snapshotter.clone(),
        snapshot_key: spec.id.clone(),
        created_at: stamp,
        updated_at: stamp,
        ..ctr::Container::default()
    };
    let request = || ctr::CreateContainerRequest { container: Some(record.clone()) };
    let result = container.client().containers().create(request()).await.map_err(RpcError::from);
    match result {
        Ok(_) => Ok(()),
        // Remains of a run that nobody cleaned up.
        Err(e) if e.is_already_exists() => {
            teardown::delete_task(container.deps(), &container.id).await;
            teardown::delete_container(container.deps(), &container.id).await;
            let again = container.client().containers().create(request()).await;
            again.map(|_| ()).map_err(|e| Failure::rpc("creating the container", &e.into()))
        }
        Err(e) => Err(Failure::rpc("creating the container", &e)),
    }
}

async fn undo(container: &Arc<Container>, made: Made) {
    if made.task {
        teardown::delete_task(container.deps(), &container.id).await;
    }
    if let Some(sink) = made.detached {
        // It has ended with the task, unless that was never made.
        let _ = sys::process::signal_pidfd(sink.as_fd(), SIGTERM as i32);
    }
    if made.container {
        teardown::delete_container(container.deps(), &container.id).await;
    }
    if made.sandbox {
        let id = container.id.clone();
        let released = network::on_thread(container, move |networks| networks.release(&id)).await;
        if let Err(e) = released {
            tracing::warn!("releasing the network of container {}: {}", container.id, e.text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_runtimes_text_tells_the_exit_code() {
        let case = |text: &str| {
            let f = Failure::from_runtime(text.into());
            (f.status, f.code)
        };
        assert_eq!(case("exec: \"nope\": executable file not found in $PATH"), (400, 127));
        assert_eq!(case("exec: \"/x\": stat /x: no such file or directory"), (400, 127));
        assert_eq!(case("exec: \"/etc\": is a directory: permission denied"), (400, 126));
        assert_eq!(case("mount \"/x\": not a directory"), (400, 127));
        assert_eq!(case("something else"), (500, 128));
    }
}
