//! The set of tasks: create, delete, restore after a restart, and the clean-up after a shim that
//! died. Calls that only pass through to the shim are in `service`.

use super::shim::{ExitStatus, QUICK, Shim};
use super::{Bundle, Settings, TaskError, launch, log};
use shim_api::events::{Event as _, TaskDelete, TaskExit};
use shim_api::task::{
    CreateTaskRequest, CreateTaskResponse, DeleteRequest, DeleteResponse, Method, ShutdownRequest,
    StateRequest, StateResponse, Status,
};
use shim_api::{Any, Timestamp};
use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};
use tokio_util::sync::CancellationToken;

/// How long a shim may take to create: images of other storages mount slowly.
const CREATE_LIMIT: Duration = Duration::from_secs(120);
/// SIGKILL as an exit code: what is recorded for the init of a killed shim.
const KILLED: u32 = 137;

type Key = (String, String);

/// All tasks of all namespaces. Cheap to clone.
#[derive(Clone)]
pub struct Tasks(Arc<Inner>);

struct Inner {
    settings: Settings,
    shims: Mutex<HashMap<Key, Arc<Shim>>>,
}

/// What creating needs beside the container's record.
#[derive(Clone, Debug, Default)]
pub struct Created {
    /// What the shim is asked; `id`, `bundle` are filled in here.
    pub request: CreateTaskRequest,
    /// Overrides the record's runtime when not empty.
    pub runtime: String,
}

impl Tasks {
    /// No tasks yet; [`Self::restore`] finds those of before.
    pub fn new(settings: Settings) -> Self {
        Self(Arc::new(Inner { settings, shims: Mutex::default() }))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Arc<Shim>>> {
        self.0.shims.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The task of a container. Errors: `NotFound` in containerd's words.
    pub(super) fn get(&self, namespace: &str, id: &str) -> Result<Arc<Shim>, TaskError> {
        let found = self.lock().get(&(namespace.into(), id.into())).cloned();
        found.ok_or_else(|| TaskError::NotFound(format!("task {id}")))
    }

    /// Whether a container has a task.
    pub fn has(&self, namespace: &str, id: &str) -> bool {
        self.get(namespace, id).is_ok()
    }

    /// Whether there is no task at all.
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// All tasks of a namespace.
    pub(super) fn all(&self, namespace: &str) -> Vec<Arc<Shim>> {
        let shims = self.lock();
        shims.iter().filter(|((ns, _), _)| ns == namespace).map(|(_, s)| Arc::clone(s)).collect()
    }

    /// Starts a shim and has it create the init process; returns its pid. On failure nothing is
    /// left behind.
    pub async fn create(&self, namespace: &str, id: &str, wish: Created) -> Result<u32, TaskError> {
        let settings = &self.0.settings;
        let facts = settings.host.container(namespace, id).await?;
        if self.has(namespace, id) {
            return Err(TaskError::Exists(format!("task {id}: already exists")));
        }
        let runtime = if wish.runtime.is_empty() { &facts.runtime } else { &wish.runtime };
        let program = launch::resolve(runtime, settings)?;
        let bundle = Bundle::named(&settings.state, namespace, id)?;
        bundle.create(&facts.spec, &program)?;
        let mut request = wish.request;
        request.options =
            request.options.filter(|options| !options.value.is_empty()).or(facts.options);
        let connected = self.launch(&bundle, &program, request.options.as_ref()).await;
        let shim = match connected {
            Ok(shim) => Arc::new(shim),
            Err(e) => {
                self.clean(&bundle).await;
                return Err(e);
            }
        };
        request.id = id.into();
        request.bundle = bundle.path().to_string_lossy().into_owned();
        let made: Result<CreateTaskResponse, _> =
            shim.call(Method::Create, &request, Some(CREATE_LIMIT)).await;
        match made {
            Ok(made) => {
                shim.pid.store(made.pid, Ordering::Release);
                self.lock().insert((namespace.into(), id.into()), Arc::clone(&shim));
                self.watch(shim);
                Ok(made.pid)
            }
            Err(e) => {
                shim.ending.store(true, Ordering::Release);
                self.shut_down(&shim).await;
                self.clean(&bundle).await;
                Err(e.of_create())
            }
        }
    }

    async fn launch(
        &self,
        bundle: &Bundle,
        program: &Path,
        options: Option<&Any>,
    ) -> Result<Shim, TaskError> {
        let company = self.company(bundle, program)?;
        let bootstrap = launch::start(&self.0.settings, bundle, program, options).await?;
        Shim::connect(bundle.clone(), &bootstrap, company).await
    }

    /// What runs beside a shim until its handle goes: the reader of a foreign shim's log.
    fn company(&self, bundle: &Bundle, program: &Path) -> Result<CancellationToken, TaskError> {
        let end = CancellationToken::new();
        if !launch::is_own(program, &self.0.settings) {
            let what = format!("opening the log of the shim of {}", bundle.id);
            log::follow(bundle, end.clone()).map_err(|source| TaskError::Io { what, source })?;
        }
        Ok(end)
    }

    /// Removes what a failed start left; its own failure is only told to the log, since the
    /// caller has the first one to report.
    async fn clean(&self, bundle: &Bundle) {
        if let Some(program) = launch::pinned(&self.0.settings, bundle)
            && let Err(e) = launch::delete(&self.0.settings, bundle, &program).await
        {
            tracing::debug!("after a failed start: {e}");
        }
        if let Err(e) = bundle.remove() {
            tracing::warn!("after a failed start: {e}");
        }
    }

    /// Deletes an exited (or only created) init process, ends its shim, removes the bundle.
    pub async fn delete(&self, namespace: &str, id: &str) -> Result<DeleteResponse, TaskError> {
        let shim = self.get(namespace, id)?;
        let request = DeleteRequest { id: id.into(), exec_id: String::new() };
        let deleted: DeleteResponse = match shim.call(Method::Delete, &request, None).await {
            Ok(deleted) => deleted,
            // Another delete was quicker, and ended the shim.
            Err(e) if lost(&e) && shim.is_ending() => {
                return Err(TaskError::NotFound(format!("task {id}")));
            }
            Err(e) if lost(&e) => {
                // It died under us: what its program cleaned up is the answer.
                let status = shim.death().await;
                let pid = shim.pid.load(Ordering::Acquire);
                return Ok(DeleteResponse { pid, exit_status: status.code, exited_at: status.at });
            }
            Err(e) => return Err(e),
        };
        shim.ending.store(true, Ordering::Release);
        self.shut_down(&shim).await;
        let removed = shim.bundle.remove();
        self.lock().remove(&(namespace.to_owned(), id.to_owned()));
        removed?;
        Ok(deleted)
    }

    async fn shut_down(&self, shim: &Shim) {
        let request = ShutdownRequest { id: shim.bundle.id.clone(), now: false };
        // A shim that ends before it answers did what it was told.
        let asked = shim.call::<()>(Method::Shutdown, &request, Some(QUICK)).await;
        if let Err(e) = asked
            && !lost(&e)
        {
            tracing::debug!("shutting down the shim of {}: {e}", shim.bundle.id);
        }
    }

    /// Cleans up after the shim when its connection ends and nobody asked for that.
    fn watch(&self, shim: Arc<Shim>) {
        let tasks = self.clone();
        tokio::spawn(async move {
            shim.lost().await;
            if !shim.is_ending() {
                tracing::warn!("the shim of {} died", shim.bundle.id);
                tasks.bury(&shim.bundle, Some(&shim)).await;
            }
        });
    }

    /// Ends what a dead shim left, publishes the exit, forgets the task.
    async fn bury(&self, bundle: &Bundle, shim: Option<&Shim>) {
        let deleted = match launch::pinned(&self.0.settings, bundle) {
            Some(program) => launch::delete(&self.0.settings, bundle, &program).await,
            None => Err(TaskError::NotFound(format!("the shim program of {}", bundle.id))),
        };
        let deleted = deleted.unwrap_or_else(|e| {
            tracing::warn!("cleaning up after a dead shim: {e}");
            DeleteResponse { exit_status: KILLED, ..DeleteResponse::default() }
        });
        let known = shim.map_or(0, |s| s.pid.load(Ordering::Acquire));
        let pid = if deleted.pid == 0 { known } else { deleted.pid };
        let at = deleted.exited_at.or_else(|| Some(now()));
        if let Err(e) = bundle.remove() {
            tracing::warn!("after a dead shim: {e}");
        }
        let (namespace, id) = (bundle.namespace.clone(), bundle.id.clone());
        let exit = TaskExit {
            container_id: id.clone(),
            id: id.clone(),
            pid,
            exit_status: deleted.exit_status,
            exited_at: at,
        };
        let gone = TaskDelete {
            container_id: id.clone(),
            pid,
            exit_status: deleted.exit_status,
            exited_at: at,
            id: String::new(),
        };
        self.lock().remove(&(namespace.clone(), id));
        self.publish(&namespace, TaskExit::TOPIC, exit.pack());
        self.publish(&namespace, TaskDelete::TOPIC, gone.pack());
        if let Some(shim) = shim {
            shim.dead.send_replace(Some(ExitStatus { code: deleted.exit_status, at }));
        }
    }

    fn publish(&self, namespace: &str, topic: &str, event: Any) {
        self.0.settings.host.publish(namespace, topic, Some(now()), event);
    }

    /// Reconnects to the shim of every bundle, and buries those that are gone. Returns when all
    /// are settled. An exit that a foreign shim could tell nobody is published again; clients
    /// match exits by pid, so one too many does no harm.
    pub async fn restore(&self) {
        let found = Bundle::all(&self.0.settings.state);
        let each = found.into_iter().map(|bundle| {
            let tasks = self.clone();
            tokio::spawn(async move { tasks.restore_one(bundle).await })
        });
        for task in each.collect::<Vec<_>>() {
            // A panic is reported by the runtime; the other tasks go on.
            let _ = task.await;
        }
    }

    async fn restore_one(&self, bundle: Bundle) {
        let reached = match bundle.bootstrap() {
            Some(bootstrap) => self.reconnect(&bundle, &bootstrap).await,
            None => Err(TaskError::NotFound(format!("the shim's address in {}", bundle.id))),
        };
        let (shim, state) = match reached {
            Ok(reached) => reached,
            Err(e) => {
                tracing::info!("{}: its shim is gone: {e}", bundle.id);
                return self.bury(&bundle, None).await;
            }
        };
        shim.pid.store(state.pid, Ordering::Release);
        let key = (bundle.namespace.clone(), bundle.id.clone());
        self.lock().insert(key, Arc::clone(&shim));
        self.watch(shim);
        if state.status == Status::Stopped as i32 {
            let exit = TaskExit {
                container_id: bundle.id.clone(),
                id: bundle.id.clone(),
                pid: state.pid,
                exit_status: state.exit_status,
                exited_at: state.exited_at,
            };
            self.publish(&bundle.namespace, TaskExit::TOPIC, exit.pack());
        }
    }

    async fn reconnect(
        &self,
        bundle: &Bundle,
        bootstrap: &shim_api::bootstrap::Bootstrap,
    ) -> Result<(Arc<Shim>, StateResponse), TaskError> {
        let program = bundle.shim();
        let program = program.as_deref().unwrap_or(&self.0.settings.own_shim);
        let company = self.company(bundle, program)?;
        let shim = Shim::connect(bundle.clone(), bootstrap, company).await?;
        let request = StateRequest { id: bundle.id.clone(), exec_id: String::new() };
        let state = shim.call(Method::State, &request, Some(QUICK)).await?;
        Ok((Arc::new(shim), state))
    }
}

/// Whether an error means that the shim is gone.
pub(super) fn lost(error: &TaskError) -> bool {
    matches!(error, TaskError::Shim(s) if s.code == shim_api::ttrpc::Code::Unavailable)
}

fn now() -> Timestamp {
    shim_api::time::timestamp(SystemTime::now())
}
