//! Further processes in a running container: their table, their start and their end.
//! They live no longer than their container's run, and are kept in memory and in the
//! shim: a daemon that restarts finds them by the shim's exec ids.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use containerd_api::services::tasks::v1 as tasks;
use containerd_rpc::RpcError;
use engine_api::ExecCreateRequest;
use shim_api::sink::Hello;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::engine::Engine;
use crate::http::ApiError;
use crate::lifecycle::{self, Container};
use crate::sink::{self, Attached, Sink};

/// What an exec is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ExecState {
    /// Its start was asked for.
    pub started: bool,
    /// It runs.
    pub running: bool,
    /// Its process; 0 without one.
    pub pid: u32,
    /// Its exit code, once it ended.
    pub exit_code: Option<i64>,
}

/// A process beside the container's own.
#[derive(Debug)]
pub struct Exec {
    /// 64 hexadecimal digits.
    pub id: String,
    /// The container's id.
    pub container: String,
    /// What was asked for.
    pub request: ExecCreateRequest,
    state: watch::Sender<ExecState>,
}

impl Exec {
    /// A new exec, not started.
    pub fn new(id: String, container: String, request: ExecCreateRequest) -> Self {
        Self { id, container, request, state: watch::Sender::new(ExecState::default()) }
    }

    /// What it is doing.
    pub fn state(&self) -> ExecState {
        *self.state.borrow()
    }

    /// Its state, as it changes.
    pub fn watch(&self) -> watch::Receiver<ExecState> {
        self.state.subscribe()
    }

    /// Completes once its exit is known.
    pub fn over(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut state = self.watch();
        async move {
            // The sender lives as long as the exec: without it, it is over as well.
            let _ = state.wait_for(|s| s.exit_code.is_some()).await;
        }
    }

    /// The command as events and errors name it.
    pub fn command(&self) -> String {
        self.request.cmd.iter().flatten().cloned().collect::<Vec<_>>().join(" ")
    }

    /// Claims the one start that it has.
    fn claim(&self) -> bool {
        self.state.send_if_modified(|s| !std::mem::replace(&mut s.started, true))
    }

    /// It ended; false when that was known.
    pub fn ended(&self, code: i64) -> bool {
        self.state.send_if_modified(|s| {
            let news = s.exit_code.is_none();
            if news {
                (s.running, s.exit_code, s.pid) = (false, Some(code), 0);
            }
            news
        })
    }

    fn runs(&self, pid: u32) {
        self.state.send_modify(|s| {
            // Its exit may have been told before its start was answered.
            s.running = s.exit_code.is_none();
            s.pid = if s.running { pid } else { 0 };
        });
    }
}

/// All execs by id.
#[derive(Default)]
pub struct ExecTable(Mutex<HashMap<String, Arc<Exec>>>);

impl ExecTable {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Exec>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an exec.
    pub fn insert(&self, exec: Arc<Exec>) {
        self.lock().insert(exec.id.clone(), exec);
    }

    /// The exec of this id, or of this unique beginning.
    pub fn get(&self, id: &str) -> Option<Arc<Exec>> {
        let all = self.lock();
        if let Some(exec) = all.get(id) {
            return Some(Arc::clone(exec));
        }
        let mut matching = all.values().filter(|e| !id.is_empty() && e.id.starts_with(id));
        matching.next().filter(|_| matching.next().is_none()).cloned()
    }

    /// Forgets the execs of a container that is gone.
    pub fn drop_container(&self, container: &str) {
        self.lock().retain(|_, e| e.container != container);
    }
}

/// The execs of one container.
#[derive(Default)]
pub struct Execs(Mutex<Vec<Arc<Exec>>>);

impl Execs {
    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Exec>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds one.
    pub fn add(&self, exec: Arc<Exec>) {
        self.lock().push(exec);
    }

    /// The ids that `inspect` shows: those that have not ended.
    pub fn ids(&self) -> Vec<String> {
        let live = |e: &&Arc<Exec>| e.state().exit_code.is_none();
        self.lock().iter().filter(live).map(|e| e.id.clone()).collect()
    }

    /// Forgets one that ended long ago.
    pub fn forget(&self, id: &str) {
        self.lock().retain(|e| e.id != id);
    }

    /// The container's run ended: so did all of them.
    pub fn end_all(&self) {
        for exec in std::mem::take(&mut *self.lock()) {
            exec.ended(137);
        }
    }
}

/// Starts an exec; with `hello` an attacher is connected before its process runs.
pub async fn start(
    engine: &Arc<Engine>,
    exec: &Arc<Exec>,
    tty: bool,
    size: Option<[u64; 2]>,
    hello: Option<Hello>,
) -> Result<Option<Attached>, ApiError> {
    let container = engine
        .by_id(&exec.container)
        .ok_or_else(|| ApiError::not_found(format!("No such container: {}", exec.container)))?;
    if !exec.claim() {
        return Err(ApiError::conflict(format!(
            "Error: Exec command {} is already running",
            exec.id
        )));
    }
    container.tell(&format!("exec_start: {}", exec.command()), &[("execID", exec.id.clone())]);
    let result = steps(engine, &container, exec, tty, hello).await;
    match result {
        Ok(attached) => {
            if let Some(size) = size.filter(|_| tty) {
                let _ = resize(&container, &exec.id, size[0] as u32, size[1] as u32).await;
            }
            Ok(attached)
        }
        Err(failure) => {
            exec.ended(failure.1);
            clean(engine, &container, exec).await;
            Err(failure.0)
        }
    }
}

type Failure = (ApiError, i64);

async fn steps(
    engine: &Arc<Engine>,
    container: &Arc<Container>,
    exec: &Arc<Exec>,
    tty: bool,
    hello: Option<Hello>,
) -> Result<Option<Attached>, Failure> {
    let internal = |text: String| (ApiError::internal(text), 126);
    let process = lifecycle::exec_process(container, exec, tty).await.map_err(|f| (f, 126))?;
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
    Ok(attached)
}

/// What the runtime's refusal means: 126 and 127 as `docker exec` shows them.
fn failure(e: &RpcError) -> Failure {
    let text = e.message.trim_start_matches("failed to start exec: ").to_owned();
    let code = if text.contains("executable file not found")
        || text.contains("no such file or directory")
    {
        127
    } else {
        126
    };
    (ApiError::bad_request(text), code)
}

/// Removes what an exec left in the shim and the exec root.
pub async fn clean(engine: &Engine, container: &Container, exec: &Exec) {
    let request = tasks::DeleteProcessRequest {
        container_id: container.id.clone(),
        exec_id: exec.id.clone(),
    };
    if let Err(e) = engine.client.tasks().delete_process(request).await.map_err(RpcError::from) {
        tracing::debug!("deleting exec {}: {e}", exec.id);
    }
    let exec_root = &engine.settings.exec_root;
    let socket = sink::socket(exec_root, &container.id, &exec.id);
    crate::detached::end(engine, &socket);
    for path in [socket, sink::exit_record(exec_root, &container.id, &exec.id)] {
        let _ = std::fs::remove_file(path);
    }
}

/// An exec's process ended: tell, and clean up behind.
pub fn exited(engine: &Arc<Engine>, container: &Arc<Container>, id: &str, code: i64) {
    let Some(exec) = engine.execs.get(id) else { return };
    if !exec.ended(code) {
        return;
    }
    container.tell("exec_die", &[("execID", exec.id.clone()), ("exitCode", code.to_string())]);
    let (engine, container) = (Arc::clone(engine), Arc::clone(container));
    tokio::spawn(async move {
        clean(&engine, &container, &exec).await;
    });
}

/// Tells a terminal its size; an empty exec id means the container's own.
pub async fn resize(
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
