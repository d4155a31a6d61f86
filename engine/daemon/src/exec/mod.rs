//! Further processes in a running container: what is known of each, their table, and how
//! long they are remembered. Starting and ending them is in `run`, finding them again
//! after a restart in `restore`.

mod restore;
mod run;

use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use engine_api::ExecCreateRequest;
use metastore::{Batch, Class, Store};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::engine::Engine;
use crate::records::EXECS;

pub(crate) use restore::{load, reconcile};
pub(crate) use run::resize;
pub use run::{close_input, exited, run_over, start};

/// How often those that ended are looked at: one that was seen ended before is forgotten.
const SWEEP: Duration = Duration::from_secs(300);
/// How long a resize waits for the start.
const BEGIN: Duration = Duration::from_secs(10);
/// The exit code of one that its container's end took along.
const KILLED: i64 = 137;
/// The exit code of one that could not be started.
const NOT_STARTED: i64 = 126;

/// What an exec is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ExecState {
    /// Its start was asked for.
    pub started: bool,
    /// It runs.
    pub running: bool,
    /// Its process, also after its end; 0 when there was none.
    pub pid: u32,
    /// Its exit code, once it ended.
    pub exit_code: Option<i64>,
    /// It ended a while ago and is forgotten soon.
    #[serde(skip)]
    pub can_remove: bool,
    /// This daemon is starting it.
    #[serde(skip)]
    pub starting: bool,
}

/// What is written down of an exec.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct ExecRecord {
    container: String,
    request: ExecCreateRequest,
    state: ExecState,
}

/// A process beside the container's own.
pub struct Exec {
    /// 64 hexadecimal digits.
    pub id: String,
    /// The container's id.
    pub container: String,
    /// What was asked for.
    pub request: ExecCreateRequest,
    state: watch::Sender<ExecState>,
    store: Store,
}

impl Exec {
    /// A new exec, not started, and written down.
    pub fn new(store: Store, id: String, container: String, request: ExecCreateRequest) -> Self {
        let exec = Self::known(store, id, container, request, ExecState::default());
        exec.save();
        exec
    }

    fn known(
        store: Store,
        id: String,
        container: String,
        request: ExecCreateRequest,
        state: ExecState,
    ) -> Self {
        Self { id, container, request, state: watch::Sender::new(state), store }
    }

    /// What it is doing.
    pub fn state(&self) -> ExecState {
        *self.state.borrow()
    }

    /// Completes once its exit is known.
    pub fn over(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut state = self.state.subscribe();
        async move {
            // The sender lives as long as the exec: without it, it is over as well.
            let _ = state.wait_for(|s| s.exit_code.is_some()).await;
        }
    }

    /// Completes once its process is there, or never will be; false when that takes too long.
    pub async fn begun(&self) -> bool {
        let mut state = self.state.subscribe();
        let there = state.wait_for(|s| s.running || s.exit_code.is_some());
        tokio::time::timeout(BEGIN, there).await.is_ok()
    }

    /// The command as events name it: its first word, then the others, be there any or not.
    pub fn command(&self) -> String {
        let mut words = self.request.cmd.iter().flatten();
        let first = words.next().cloned().unwrap_or_default();
        format!("{first} {}", words.map(String::as_str).collect::<Vec<_>>().join(" "))
    }

    /// Writes down what it is doing.
    fn save(&self) {
        let record = ExecRecord {
            container: self.container.clone(),
            request: self.request.clone(),
            state: self.state(),
        };
        let batch = Batch::default().put_json(EXECS, self.id.as_bytes(), &record);
        self.commit(batch);
    }

    /// Drops what is written down.
    fn drop_record(&self) {
        self.commit(Ok(Batch::default().delete(EXECS, self.id.as_bytes())));
    }

    fn commit(&self, batch: Result<Batch, metastore::StoreError>) {
        if let Err(e) = batch.and_then(|batch| self.store.commit(Class::Crash, batch)) {
            tracing::error!("writing the state of exec {}: {e}", self.id);
        }
    }

    /// Claims the one start that it has.
    fn claim(&self) -> bool {
        let news = self.state.send_if_modified(|s| {
            s.starting |= !s.started;
            !std::mem::replace(&mut s.started, true)
        });
        if news {
            self.save();
        }
        news
    }

    /// It ended; false when that was known.
    fn ended(&self, code: i64) -> bool {
        let news = self.state.send_if_modified(|s| {
            let news = s.exit_code.is_none();
            if news {
                (s.running, s.starting, s.exit_code) = (false, false, Some(code));
            }
            news
        });
        if news {
            self.save();
        }
        news
    }

    fn runs(&self, pid: u32) {
        self.state.send_modify(|s| {
            // Its exit may have been told before its start was answered.
            (s.running, s.starting, s.pid) = (s.exit_code.is_none(), false, pid);
        });
        self.save();
    }

    fn is_over(&self) -> bool {
        self.state.borrow().exit_code.is_some()
    }
}

/// All execs by id.
#[derive(Default)]
pub struct ExecTable {
    all: Mutex<HashMap<String, Arc<Exec>>>,
    /// Those that ended are being looked at.
    sweeping: AtomicBool,
}

impl ExecTable {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Exec>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
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

    fn forget(&self, exec: &Exec) {
        self.lock().remove(&exec.id);
        exec.drop_record();
    }

    /// Forgets the execs of a container that is gone.
    pub fn drop_container(&self, container: &str) {
        self.lock().retain(|_, exec| {
            let keep = exec.container != container;
            if !keep {
                exec.drop_record();
            }
            keep
        });
    }

    /// Forgets those that were seen ended before, marks those that ended since; false when none
    /// is left that ended.
    fn sweep(&self) -> bool {
        let mut ended = false;
        self.lock().retain(|_, exec| {
            if !exec.is_over() {
                return true;
            }
            let keep = exec.state.send_if_modified(|s| !std::mem::replace(&mut s.can_remove, true));
            if !keep {
                exec.drop_record();
            }
            ended |= keep;
            keep
        });
        ended
    }
}

/// Looks at those that ended for as long as there are any.
fn sweep_later(engine: &Arc<Engine>) {
    if engine.execs.sweeping.swap(true, Ordering::AcqRel) {
        return;
    }
    let engine = Arc::downgrade(engine);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(SWEEP).await;
            let Some(engine) = engine.upgrade() else { return };
            if !engine.execs.sweep() {
                // Before the last look, so that one that ends now begins anew.
                engine.execs.sweeping.store(false, Ordering::Release);
                return;
            }
        }
    });
}

/// The execs of one container that have not ended.
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

    /// All of them.
    pub fn all(&self) -> Vec<Arc<Exec>> {
        self.lock().clone()
    }

    /// The ids that `inspect` shows.
    pub fn ids(&self) -> Vec<String> {
        self.lock().iter().map(|e| e.id.clone()).collect()
    }

    fn remove(&self, id: &str) {
        self.lock().retain(|e| e.id != id);
    }

    fn take(&self) -> Vec<Arc<Exec>> {
        std::mem::take(&mut *self.lock())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use metastore::Format;

    fn store(folder: &std::path::Path) -> Store {
        Store::open(&folder.join("s"), Format { version: 1, min_reader: 1 }).unwrap()
    }

    fn exec(store: &Store, id: &str) -> Arc<Exec> {
        let request = ExecCreateRequest { cmd: Some(vec!["a".into()]), ..Default::default() };
        Arc::new(Exec::new(store.clone(), id.into(), "c".into(), request))
    }

    #[test]
    fn an_exec_is_started_once_and_its_first_exit_counts() {
        let temp = tempfile::tempdir().unwrap();
        let exec = exec(&store(temp.path()), "1");
        assert_eq!(exec.command(), "a ");
        assert!(exec.claim() && !exec.claim());
        exec.runs(5);
        assert!(exec.ended(3) && !exec.ended(137));
        let state = exec.state();
        assert_eq!((state.exit_code, state.pid, state.running), (Some(3), 5, false));
    }

    #[test]
    fn those_that_ended_are_kept_for_two_looks() {
        let temp = tempfile::tempdir().unwrap();
        let store = store(temp.path());
        let table = ExecTable::default();
        let (ended, runs) = (exec(&store, "11"), exec(&store, "22"));
        table.insert(Arc::clone(&ended));
        table.insert(Arc::clone(&runs));
        ended.ended(0);
        assert!(table.sweep());
        assert!(table.get("11").unwrap().state().can_remove);
        assert!(!table.sweep());
        assert!(table.get("11").is_none() && table.get("2").is_some());
        let kept: Vec<(Vec<u8>, ExecRecord)> = store.scan_json(EXECS, b"").unwrap();
        assert_eq!(kept.len(), 1);
        table.drop_container("c");
        assert!(store.scan(EXECS, b"").unwrap().is_empty());
    }
}
