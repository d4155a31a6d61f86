//! Starting an exec, its end, and what is cleaned up behind it.

use std::sync::Arc;
use std::time::Duration;

use containerd_api::services::tasks::v1 as tasks;
use containerd_rpc::{Kind, RpcError, within};
use http::StatusCode;
use shim_api::sink::Hello;
use tokio_util::sync::CancellationToken;

use super::{Exec, KILLED, sweep_later};
use crate::detached;
use crate::engine::Engine;
use crate::http::ApiError;
use crate::lifecycle::{self, Container, Terminal};
use crate::sink::{self, Attached, Sink};

/// How often deleting a process is tried.
const TRIES: u32 = 8;
/// How long one call may take before it counts as failed.
const CALL: Duration = Duration::from_secs(10);
/// How long a detached sink may still tell output after its process's end.
const DRAIN: Duration = Duration::from_secs(2);

/// Starts an exec; with `hello` an attacher is connected before its process runs.
pub async fn start(
    engine: &Arc<Engine>,
    exec: &Arc<Exec>,
    size: Option<[u64; 2]>,
    hello: Option<Hello>,
) -> Result<Option<Attached>, ApiError> {
    let container = engine
        .by_id(&exec.container)
        .ok_or_else(|| ApiError::not_found(format!("No such container: {}", exec.container)))?;
    if !exec.claim() {
        let id = &exec.id;
        return Err(ApiError::conflict(match exec.state().exit_code {
            Some(_) => format!("exec command {id} has already run"),
            None => format!("exec command {id} is already running"),
        }));
    }
    container.tell(&format!("exec_start: {}", exec.command()), &[("execID", exec.id.clone())]);
    let terminal = match size {
        _ if !exec.request.tty => Terminal::No,
        None => Terminal::Yes,
        Some(size) => Terminal::OfSize(size),
    };
    match steps(engine, &container, exec, terminal, hello).await {
        Ok(attached) => Ok(attached),
        Err(failure) => {
            over(engine, &container, exec, failure.1);
            clean(Arc::clone(engine), Arc::clone(exec), Output::None).await;
            Err(failure.0)
        }
    }
}

type Failure = (ApiError, i64);

async fn steps(
    engine: &Arc<Engine>,
    container: &Arc<Container>,
    exec: &Arc<Exec>,
    terminal: Terminal,
    hello: Option<Hello>,
) -> Result<Option<Attached>, Failure> {
    let internal = |text: String| (ApiError::internal(text), 126);
    let tty = exec.request.tty;
    let process = lifecycle::exec_process(container, exec, terminal).await.map_err(|f| (f, 126))?;
    let sink = Sink::of_exec(engine, &container.id, &exec.id, exec.request.attach_stdin, tty);
    let runtime = engine.runtime(&container.row().fixed.runtime).map_err(internal)?;
    let mut detached = None;
    let stdio = sink.stdio(engine, runtime.is_foreign, &mut detached).await.map_err(internal)?;
    let spec = serde_json::to_vec(&process).map_err(|e| internal(e.to_string()))?;
    let request = tasks::ExecProcessRequest {
        container_id: container.id.clone(),
        stdin: stdio.stdin,
        stdout: stdio.stdout,
        stderr: stdio.stderr,
        terminal: tty,
        spec: Some(containerd_api::any::json(containerd_api::any::OCI_PROCESS, spec)),
        exec_id: exec.id.clone(),
    };
    let client = &engine.client;
    client.tasks().exec(request).await.map_err(|e| failure(&e.into()))?;
    let attached = match hello {
        Some(hello) => Some(
            sink::connect(&sink.socket, hello)
                .await
                .map_err(|e| internal(format!("attaching: {e}")))?,
        ),
        None => None,
    };
    let request =
        tasks::StartRequest { container_id: container.id.clone(), exec_id: exec.id.clone() };
    let started = client.tasks().start(request).await.map_err(|e| failure(&e.into()))?;
    exec.runs(started.into_inner().pid);
    if runtime.is_foreign {
        detached::watch_exec(engine, exec, sink);
    }
    Ok(attached)
}

/// What the runtime's refusal means: the exit code as `docker exec` shows it.
fn failure(e: &RpcError) -> Failure {
    let text = e.message.trim_start_matches("failed to start exec: ").to_owned();
    let (status, code, message) = lifecycle::refusal(text);
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (ApiError { status, message }, code)
}

/// Whether there may be output that nobody was told yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Output {
    Some,
    None,
}

/// Removes what an exec left in the shim and the exec root; a process that still runs is ended.
pub(super) async fn clean(engine: Arc<Engine>, exec: Arc<Exec>, output: Output) {
    let exec_root = &engine.settings.exec_root;
    let socket = sink::socket(exec_root, &exec.container, &exec.id);
    if output == Output::Some && detached::is_beside(&engine, &socket) {
        // It is told to end below: what it has still to tell comes first.
        let _ = tokio::time::timeout(DRAIN, detached::drained(&socket)).await;
    }
    delete_process(&engine, &exec).await;
    detached::end(&engine, &socket);
    for path in [sink::exit_record(exec_root, &exec.container, &exec.id), socket] {
        let _ = std::fs::remove_file(path);
    }
}

async fn delete_process(engine: &Engine, exec: &Exec) {
    for attempt in 0..TRIES {
        let request = tasks::DeleteProcessRequest {
            container_id: exec.container.clone(),
            exec_id: exec.id.clone(),
        };
        match within(CALL, engine.client.tasks().delete_process(request)).await {
            Ok(_) => return,
            Err(e) if e.is_not_found() => return,
            // Its start failed half-way.
            Err(e) if e.kind == Kind::FailedPrecondition => kill(engine, exec).await,
            Err(e) => {
                tracing::debug!("deleting exec {}: {e}", exec.id);
                tokio::time::sleep(Duration::from_millis(20 << attempt)).await;
            }
        }
    }
}

async fn kill(engine: &Engine, exec: &Exec) {
    let request = tasks::KillRequest {
        container_id: exec.container.clone(),
        exec_id: exec.id.clone(),
        signal: crate::signals::SIGKILL,
        all: false,
    };
    let _ = within(CALL, engine.client.tasks().kill(request)).await;
    let wait =
        tasks::WaitRequest { container_id: exec.container.clone(), exec_id: exec.id.clone() };
    let _ = tokio::time::timeout(CALL, engine.client.tasks().wait(wait)).await;
}

/// Notes the end of an exec; false when it was known.
fn over(engine: &Arc<Engine>, container: &Container, exec: &Arc<Exec>, code: i64) -> bool {
    let news = exec.ended(code);
    container.execs.remove(&exec.id);
    sweep_later(engine);
    news
}

/// An exec's process ended: tell, and clean up behind.
pub fn exited(engine: &Arc<Engine>, container: &Arc<Container>, id: &str, code: i64) {
    let Some(exec) = engine.execs.get(id) else { return };
    if !over(engine, container, &exec, code) {
        return;
    }
    container.tell("exec_die", &[("execID", exec.id.clone()), ("exitCode", code.to_string())]);
    tokio::spawn(clean(Arc::clone(engine), exec, Output::Some));
}

/// The container's run is over: so are its execs; those that never began are forgotten.
pub fn run_over(engine: &Arc<Engine>, container: &Arc<Container>) {
    for exec in container.execs.take() {
        if exec.state().started {
            exited(engine, container, &exec.id, KILLED);
        } else {
            engine.execs.forget(&exec);
        }
    }
}

/// An exec that a restart found running.
pub(super) fn goes_on(engine: &Arc<Engine>, container: &Container, exec: &Arc<Exec>, pid: u32) {
    if exec.state().pid != pid || !exec.state().running {
        exec.runs(pid);
    }
    let foreign = engine.runtime(&container.row().fixed.runtime).is_ok_and(|r| r.is_foreign);
    if foreign {
        let asked = &exec.request;
        let sink = Sink::of_exec(engine, &exec.container, &exec.id, asked.attach_stdin, asked.tty);
        detached::watch_exec(engine, exec, sink);
    }
}

/// Tells a terminal its size; an empty exec id means the container's own.
pub(crate) async fn resize(
    container: &Container,
    exec: &str,
    height: u32,
    width: u32,
) -> Result<(), ApiError> {
    let request = tasks::ResizePtyRequest {
        container_id: container.id.clone(),
        exec_id: exec.to_owned(),
        width,
        height,
    };
    let answer = container.deps().client.tasks().resize_pty(request).await.map_err(RpcError::from);
    match answer {
        Ok(_) => Ok(()),
        Err(e) if e.is_not_found() => Err(ApiError::not_found(e.to_string())),
        Err(e) => Err(ApiError::internal(e.to_string())),
    }
}

/// Tells a foreign shim of the end of input, once there was one; our own learns it from its sink.
/// An empty exec id means the container's own process.
pub async fn close_input(container: &Container, exec: &str, over: CancellationToken) {
    over.cancelled().await;
    let request = tasks::CloseIoRequest {
        container_id: container.id.clone(),
        exec_id: exec.to_owned(),
        stdin: true,
    };
    if let Err(e) = container.deps().client.tasks().close_io(request).await {
        tracing::debug!("closing the input of container {}: {}", container.id, e.message());
    }
}
