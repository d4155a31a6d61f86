//! Signals, freezing, and what follows an exit or a removal: deleting the task, the
//! network, the snapshot, folders. Nobody waits for it; a tombstone replays it.

use std::sync::Arc;
use std::time::Duration;

use containerd_api::services::containers::v1::DeleteContainerRequest;
use containerd_api::services::snapshots::v1::RemoveSnapshotRequest;
use containerd_api::services::tasks::v1 as tasks;
use containerd_rpc::{Kind, RpcError, within};
use metastore::{Batch, Class};
use tokio::sync::oneshot;
use tracing::warn;

use super::container::{Container, Deps};
use super::machine::{Answer, Input, Refusal};
use super::specs;
use crate::records::{TOMBSTONES, Tombstone};
use crate::sink;

/// How often a step of the clean-up is tried before it waits for the next start of the daemon.
const TRIES: u32 = 8;

/// How long one call may take before it counts as failed and is tried again.
const CALL: Duration = Duration::from_secs(10);

/// Sends a signal to the container's first process.
pub(super) async fn signal(
    container: Arc<Container>,
    signal: u32,
    reply: Option<oneshot::Sender<Answer>>,
) {
    let request = tasks::KillRequest {
        container_id: container.id.clone(),
        signal,
        ..tasks::KillRequest::default()
    };
    let result = container.client().tasks().kill(request).await.map_err(RpcError::from);
    let answer = match result {
        Ok(_) => Ok(0),
        // It ended in between, which is what was wanted or will be told by the exit.
        Err(e) if matches!(e.kind, Kind::NotFound | Kind::FailedPrecondition) => Ok(0),
        Err(e) => Err(Refusal::Failed(500, e.to_string())),
    };
    match (reply, answer) {
        (Some(reply), answer) => {
            let _ = reply.send(answer);
        }
        (None, Err(e)) => warn!("signal {signal} to container {}: {e:?}", container.id),
        (None, Ok(_)) => {}
    }
}

/// Freezes or thaws and reports.
pub(super) async fn freeze(
    container: Arc<Container>,
    frozen: bool,
    reply: oneshot::Sender<Answer>,
) {
    let id = container.id.clone();
    let mut client = container.client().tasks();
    let result = if frozen {
        client.pause(tasks::PauseTaskRequest { container_id: id }).await
    } else {
        client.resume(tasks::ResumeTaskRequest { container_id: id }).await
    };
    let word = if frozen { "pause" } else { "unpause" };
    let result = result
        .map(|_| ())
        .map_err(|e| format!("cannot {word} container {}: {}", container.id, e.message()));
    container.deliver(Input::Frozen(frozen, result, reply));
}

/// Thaws a container that is to die.
pub(super) async fn thaw(container: Arc<Container>) {
    let request = tasks::ResumeTaskRequest { container_id: container.id.clone() };
    if let Err(e) = container.client().tasks().resume(request).await {
        warn!("thawing container {}: {}", container.id, e.message());
    }
}

/// After a run: task, container and network go; the root file system stays.
pub(super) async fn run_ended(container: Arc<Container>, generation: u64) {
    clean_run(container.deps(), &container.id).await;
    container.deliver(Input::TornDown(generation));
}

/// Deletes what belongs to a run: network, task, containerd's record, sockets.
pub async fn clean_run(deps: &Deps, id: &str) {
    let name = id.to_owned();
    let (done, released) = oneshot::channel();
    deps.network.submit(move |networks| {
        let _ = done.send(networks.release(&name));
    });
    delete_task(deps, id).await;
    delete_container(deps, id).await;
    if let Ok(Err(e)) = released.await {
        warn!("releasing the network of container {id}: {e}");
    }
    sink::clean(deps, id);
}

/// Deletes a task, killing it first if it must.
pub(super) async fn delete_task(deps: &Deps, id: &str) {
    for attempt in 0..TRIES {
        let request = tasks::DeleteTaskRequest { container_id: id.to_owned() };
        match within(CALL, deps.client.tasks().delete(request)).await {
            Ok(_) => return,
            Err(e) if e.is_not_found() => return,
            Err(e) if e.kind == Kind::FailedPrecondition => {
                let kill = tasks::KillRequest {
                    container_id: id.to_owned(),
                    signal: 9,
                    all: true,
                    ..Default::default()
                };
                let _ = deps.client.tasks().kill(kill).await;
                let wait =
                    tasks::WaitRequest { container_id: id.to_owned(), exec_id: String::new() };
                let _ =
                    tokio::time::timeout(Duration::from_secs(2), deps.client.tasks().wait(wait))
                        .await;
            }
            Err(e) => {
                warn!("deleting the task of container {id}: {e}");
                tokio::time::sleep(back_off(attempt)).await;
            }
        }
    }
}

/// Deletes containerd's record of a container.
pub(super) async fn delete_container(deps: &Deps, id: &str) {
    for attempt in 0..TRIES {
        let request = DeleteContainerRequest { id: id.to_owned() };
        match within(CALL, deps.client.containers().delete(request)).await {
            Ok(()) => return,
            Err(e) if e.is_not_found() => return,
            Err(e) => {
                warn!("deleting container {id}: {e}");
                tokio::time::sleep(back_off(attempt)).await;
            }
        }
    }
}

fn back_off(attempt: u32) -> Duration {
    Duration::from_millis(20 << attempt.min(6))
}

/// Does what a tombstone says, then drops it.
pub async fn bury(deps: Deps, id: String, tombstone: Tombstone) {
    clean_run(&deps, &id).await;
    for attempt in 0..TRIES {
        let request =
            RemoveSnapshotRequest { snapshotter: tombstone.snapshotter.clone(), key: id.clone() };
        match within(CALL, deps.client.snapshots().remove(request)).await {
            Ok(()) => break,
            Err(e) if e.is_not_found() => break,
            Err(e) if attempt + 1 == TRIES => {
                // The tombstone stays: the next start of the daemon goes on.
                return warn!("removing the root file system of container {id}: {e}");
            }
            Err(_) => tokio::time::sleep(back_off(attempt)).await,
        }
    }
    let mut folders = vec![specs::folder(&deps.settings.data_root, &id)];
    folders.extend(
        tombstone.volumes.iter().map(|v| crate::volumes::folder(&deps.settings.data_root, v)),
    );
    for folder in &folders {
        crate::volumes::remove_folder(folder);
    }
    if let Err(e) =
        deps.store.commit(Class::Crash, Batch::default().delete(TOMBSTONES, id.as_bytes()))
    {
        warn!("dropping the tombstone of container {id}: {e}");
    }
    deps.settled(&id);
}
