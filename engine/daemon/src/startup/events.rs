//! The stream of containerd's task events: after each (re)connect the tasks are listed
//! and compared with what is known, so that no exit is missed; then events follow. What image
//! operations left that a kill cut short is swept up at that time, too.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use containerd_api::any::unpack;
use containerd_api::events::{TaskExit, TaskOom};
use containerd_api::prost_types::Any;
use containerd_api::services::events::v1::{PublishRequest, SubscribeRequest};
use containerd_api::services::tasks::v1::ListTasksRequest;
use containerd_api::task_types::{Process, Status};
use containerd_api::types::Envelope;
use containerd_rpc::{Client, RpcError, Streaming};
use shim_api::sink::ExitRecord;
use tokio::sync::oneshot;
use tracing::{debug, warn};

use super::StartupError;
use crate::engine::Engine;
use crate::exec;
use crate::lifecycle::Container;
use crate::lifecycle::machine::Input;
use crate::records::now;
use crate::sink;

/// The pause before events are asked for again.
const RECONNECT: Duration = Duration::from_millis(20);
/// The code of an exit that nobody saw.
const UNKNOWN: i64 = 255;

/// Begins to follow; returns once known and real state agree for the first time.
pub(super) async fn follow_first(engine: &Arc<Engine>) -> Result<(), StartupError> {
    let (agreed, first) = oneshot::channel();
    tokio::spawn(follow(Arc::clone(engine), Some(agreed)));
    first.await.map_err(|_| StartupError::Machine("following events ended".into()))
}

async fn follow(engine: Arc<Engine>, mut agreed: Option<oneshot::Sender<()>>) {
    loop {
        if let Err(e) = follow_once(&engine, &mut agreed).await {
            debug!("task events: {e}");
        }
        tokio::time::sleep(RECONNECT).await;
    }
}

/// Subscribes, and returns when the subscription holds. A stock containerd answers only
/// with the first event, so we publish events of our own until it does.
async fn subscribe(
    client: &Client,
    request: SubscribeRequest,
) -> Result<Streaming<Envelope>, RpcError> {
    let mut events = client.events();
    let subscribed = events.subscribe(request);
    let knocking = async {
        loop {
            tokio::time::sleep(RECONNECT).await;
            let event = Some(Any { type_url: "google.protobuf.Empty".into(), ..Any::default() });
            let knock = PublishRequest { topic: "/tasks/ferryd-listens".into(), event };
            if let Err(status) = client.events().publish(knock).await {
                return RpcError::from(status);
            }
        }
    };
    tokio::select! {
        stream = subscribed => Ok(stream?.into_inner()),
        error = knocking => Err(error),
    }
}

async fn follow_once(
    engine: &Arc<Engine>,
    agreed: &mut Option<oneshot::Sender<()>>,
) -> Result<(), RpcError> {
    let namespace = engine.client.namespace();
    let filters = vec![format!("namespace=={namespace},topic~=|^/tasks/|")];
    let mut stream = subscribe(&engine.client, SubscribeRequest { filters }).await?;
    // Whoever was cut short by the daemon's end or the store's can't clear up any more.
    let client = engine.client.clone();
    tokio::spawn(async move {
        if let Err(e) = images::sweep(&client).await {
            debug!("sweeping up after operations that were cut short: {e}");
        }
    });
    reconcile(engine).await?;
    if let Some(agreed) = agreed.take() {
        // Nobody waits any more when the start-up was given up.
        let _ = agreed.send(());
    }
    while let Some(envelope) = stream.message().await? {
        event(engine, &envelope);
    }
    Ok(())
}

fn event(engine: &Arc<Engine>, envelope: &Envelope) {
    let Some(any) = &envelope.event else { return };
    if let Some(Ok(exit)) = unpack::<TaskExit>(any) {
        let Some(container) = engine.by_id(&exit.container_id) else { return };
        if exit.id == exit.container_id || exit.id.is_empty() {
            let at = exit.exited_at.as_ref().map_or_else(now, containerd_api::time::to_nanos);
            let code = i64::from(exit.exit_status);
            if container.row().state.detached_sink {
                // A foreign shim tells nothing about drained output: its sink does.
                tokio::spawn(exited_when_drained(container, exit.pid, code, at));
            } else {
                let oom = record(engine, &container, exit.pid).is_some_and(|r| r.oom_killed);
                container.deliver(Input::Exited { pid: exit.pid, code, at, oom });
            }
        } else {
            exec::exited(engine, &container, &exit.id, i64::from(exit.exit_status));
        }
    } else if let Some(Ok(oom)) = unpack::<TaskOom>(any)
        && let Some(container) = engine.by_id(&oom.container_id)
    {
        container.tell("oom", &[]);
    }
}

/// How long output may take to drain after an exit.
const DRAIN: Duration = Duration::from_secs(2);

async fn exited_when_drained(container: Arc<Container>, pid: u32, code: i64, at: i64) {
    // A sink that was killed is started again meanwhile by its watch: until the task is deleted,
    // the shim's FIFOs hold what it did not take.
    if tokio::time::timeout(DRAIN, container.output_drained(pid)).await.is_err() {
        warn!("output of container {} did not drain in time", container.id);
    }
    container.deliver(Input::Exited { pid, code, at, oom: false });
}

/// The exit record of a container's process, if it is of this run.
fn record(engine: &Engine, container: &Container, pid: u32) -> Option<ExitRecord> {
    let path = sink::exit_record(&engine.settings.exec_root, &container.id, "");
    let bytes = std::fs::read(path).ok()?;
    ExitRecord::parse(&bytes).ok().filter(|r| r.pid == pid)
}

/// All tasks of containerd by container.
pub(super) async fn tasks(client: &Client) -> Result<HashMap<String, Process>, RpcError> {
    let answer = client.tasks().list(ListTasksRequest::default()).await?.into_inner();
    // Old versions leave the container's id in `id` alone.
    let key =
        |p: &Process| if p.container_id.is_empty() { p.id.clone() } else { p.container_id.clone() };
    Ok(answer.tasks.into_iter().map(|p| (key(&p), p)).collect())
}

/// Tells the exits that nobody was told of.
async fn reconcile(engine: &Arc<Engine>) -> Result<(), RpcError> {
    let tasks = tasks(&engine.client).await?;
    for container in engine.all() {
        let row = container.row();
        let pid = row.state.pid;
        if !row.state.phase.has_task() || pid == 0 {
            continue;
        }
        let task = tasks.get(&container.id);
        let alive =
            task.is_some_and(|t| t.status() != Status::Stopped && (t.pid == pid || t.pid == 0));
        if alive {
            exec::reconcile(engine, &container).await;
            continue;
        }
        let written = record(engine, &container, pid);
        let stopped = task.filter(|t| t.status() == Status::Stopped && t.pid == pid);
        let (code, at, oom) = match (written, stopped) {
            (Some(r), _) => {
                (i64::from(r.exit_code), containerd_api::time::nanos(r.exited_at), r.oom_killed)
            }
            (None, Some(t)) => {
                let at = t.exited_at.as_ref().map_or_else(now, containerd_api::time::to_nanos);
                (i64::from(t.exit_status), at, false)
            }
            (None, None) => (UNKNOWN, now(), false),
        };
        if row.state.detached_sink {
            tokio::spawn(exited_when_drained(container, pid, code, at));
        } else {
            container.deliver(Input::Exited { pid, code, at, oom });
        }
    }
    Ok(())
}
