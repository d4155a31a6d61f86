//! From records to containers: at the start of the daemon, and its orderly end.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use network::Networks;
use tracing::{info, warn};

use super::StartupError;
use crate::engine::Engine;
use crate::lifecycle::machine::Message;
use crate::lifecycle::restart::Policy;
use crate::lifecycle::{self, Container, STOP_TIMEOUT};
use crate::records::{INTENTS, Phase, SPECS, STATES, Spec, State, TOMBSTONES, Tombstone};
use crate::sink::Sink;
use crate::{detached, exec};

/// Reads all records, undoes what was half made and
/// goes on with what was half removed.
pub(super) async fn load(engine: &Arc<Engine>) -> Result<(), StartupError> {
    let states: std::collections::HashMap<Vec<u8>, State> =
        engine.store.scan_json(STATES, b"")?.into_iter().collect();
    let intents: Vec<Vec<u8>> =
        engine.store.scan(INTENTS, b"")?.into_iter().map(|(id, _)| id).collect();
    let mut count = 0;
    for (id, spec) in engine.store.scan_json::<Spec>(SPECS, b"")? {
        let mut state = states.get(&id).cloned().unwrap_or_default();
        let half_made = intents.contains(&id);
        if half_made && !state.phase.has_task() {
            state.pid = 0;
        }
        engine.registry.restore(&spec.name, &spec.id);
        engine.add_container(Container::new(Arc::clone(engine), &spec, state));
        count += 1;
    }
    for id in intents {
        let id = String::from_utf8_lossy(&id).into_owned();
        undo_start(engine, &id).await;
    }
    for (id, stone) in engine.store.scan_json::<Tombstone>(TOMBSTONES, b"")? {
        let id = String::from_utf8_lossy(&id).into_owned();
        engine.chores.spawn(lifecycle::bury(Arc::clone(engine), id, stone));
    }
    crate::volumes::finish_removals(engine)?;
    exec::load(engine)?;
    resume_sinks(engine).await;
    recall_sandboxes(engine).await;
    info!("{count} containers");
    Ok(())
}

/// Sinks beside foreign shims may have been killed while nobody watched.
async fn resume_sinks(engine: &Arc<Engine>) {
    for container in engine.all() {
        let Some(pid) = container.running().filter(|_| container.row().state.detached_sink) else {
            continue;
        };
        let Ok(spec) = container.spec() else { continue };
        if let Err(e) = detached::ensure(engine, &Sink::of_container(engine, &spec)).await {
            warn!("{e}");
        }
        detached::watch(engine, &container, pid);
    }
}

/// Which sandbox each running container has, as `inspect` shows it.
async fn recall_sandboxes(engine: &Arc<Engine>) {
    let running: Vec<_> = engine.all().into_iter().filter(|c| c.running().is_some()).collect();
    let ids: Vec<String> = running.iter().map(|c| c.id.clone()).collect();
    let found = crate::glue::on_thread(engine, move |networks| {
        // One without networking has none.
        Ok(ids.iter().map(|id| networks.describe(id).ok()).collect::<Vec<_>>())
    });
    match found.await {
        Ok(found) => {
            for (container, sandbox) in running.iter().zip(found) {
                if let Some(sandbox) = &sandbox {
                    container.set_sandbox(sandbox);
                }
            }
        }
        Err(e) => warn!("sandboxes of running containers: {e}"),
    }
}

/// A start that the last daemon began and did not finish.
async fn undo_start(engine: &Arc<Engine>, id: &str) {
    let running = engine.by_id(id).is_some_and(|c| c.row().state.phase.has_task());
    if !running {
        lifecycle::clean_run(engine, id).await;
    }
    let dropped = metastore::Batch::default().delete(INTENTS, id.as_bytes());
    if let Err(e) = engine.store.commit(metastore::Class::Crash, dropped) {
        warn!("dropping the intent of container {id}: {e}");
    }
}

/// Starts what its policy wants running, and removes what should have gone. Returns when all starts
/// are done, so that the first client sees the containers as they should be.
pub(super) async fn start_due(engine: &Arc<Engine>) {
    let mut starts = Vec::new();
    for container in engine.all() {
        let row = container.row();
        let Ok(spec) = container.spec() else { continue };
        let policy = &spec.host.restart_policy;
        let policy = Policy::parse(&policy.name, policy.maximum_retry_count).unwrap_or_default();
        let state = &row.state;
        let due = match state.phase {
            Phase::Restarting => true,
            Phase::Exited => {
                policy.at_boot(state.started_at != 0, state.exit_code, state.stopped_by_user)
            }
            Phase::Created => false,
            _ => false,
        };
        if due {
            starts.push(container.begin(Message::Revive));
        } else if spec.host.auto_remove && state.phase == Phase::Exited {
            drop(container.begin(|reply| Message::Remove(true, true, reply)));
        }
    }
    join_all(starts).await;
}

/// What a container's own time to stop leaves for the rest.
const MARGIN: Duration = Duration::from_secs(5);

/// How long tear-downs may take.
const TEAR_DOWN: Duration = Duration::from_secs(10);

/// An orderly end: with live restore containers run on, else they are stopped, and those that take
/// longer than their own time and the daemon's are left.
pub(super) async fn end(engine: &Arc<Engine>) {
    let containers = if engine.current.load().live_restore { Vec::new() } else { engine.all() };
    let stopped = join_all(containers.iter().map(|c| c.ask(Message::Shutdown)));
    match patience(engine, &containers) {
        None => drop(stopped.await),
        Some(limit) => {
            if tokio::time::timeout(limit, stopped).await.is_err() {
                warn!("containers did not stop within {} seconds", limit.as_secs());
            }
        }
    }
    // What was ended is also taken down; what is left of that, the next daemon goes on with.
    engine.chores.close();
    if tokio::time::timeout(TEAR_DOWN, engine.chores.wait()).await.is_err() {
        warn!("{} tear-downs are left to the next start", engine.chores.len());
    }
    let handle = engine.network.clone();
    // Only what nobody uses goes; the rest is the next daemon's.
    let resting = tokio::task::spawn_blocking(move || handle.call(Networks::end));
    if resting.await.is_err() {
        warn!("the network's thread ended early");
    }
}

/// How long all containers may take to stop; without end if one of them may.
fn patience(engine: &Engine, containers: &[Arc<Container>]) -> Option<Duration> {
    let limit = |seconds: i64| u64::try_from(seconds).ok().map(Duration::from_secs);
    let mut longest = limit(engine.current.load().shutdown_timeout)?;
    for container in containers.iter().filter(|c| c.row().state.phase.has_task()) {
        let Ok(spec) = container.spec() else { continue };
        let own = match spec.config.stop_timeout {
            Some(seconds) => limit(seconds)?,
            None => STOP_TIMEOUT,
        };
        longest = longest.max(own + MARGIN);
    }
    Some(longest)
}
