//! Garbage collection: mark what roots refer to, sweep the rest.
//!
//! Roots are images, containers, unexpired leases, and whatever carries a `gc.root`
//! label; references are `gc.ref.*` labels, a snapshot's parent and `gc.bref.*` back
//! references. Marking reads without a lock; when something was written meanwhile it
//! is done again under the lock, so that nothing fresh is swept.

mod mark;
mod sweep;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use crate::{Error, State};

/// How long deletions are gathered before a collection: what a client without a lease has
/// just made stays that long at least, as with a stock containerd.
const GATHER: Duration = Duration::from_secs(10);
/// At the latest so often, for what expires.
const PERIOD: Duration = Duration::from_secs(600);
/// How long commits are gathered before one syncfs.
const SYNC_AFTER: Duration = Duration::from_millis(500);

/// Wakes the collector.
#[derive(Debug, Default)]
pub struct Collector {
    wanted: Notify,
    one: tokio::sync::Mutex<()>,
}

impl Collector {
    /// Asks for a collection soon.
    pub fn trigger(&self) {
        self.wanted.notify_one();
    }
}

/// Collects now, and returns when it is done; at most one runs at a time.
pub async fn collect(state: &Arc<State>) -> Result<(), Error> {
    let _one = state.gc.one.lock().await;
    let worker = Arc::clone(state);
    let swept = tokio::task::spawn_blocking(move || sweep::run(&worker)).await;
    let swept = swept.map_err(|e| Error::Other(format!("the collector failed: {e}")))??;
    if !swept.is_empty() {
        tracing::debug!(?swept, "collected");
    }
    Ok(())
}

/// Collects, unlinks and syncs behind, for as long as the daemon lives.
pub async fn run(state: Arc<State>) {
    let removal = async {
        loop {
            state.folders.removal.notified().await;
            let worker = Arc::clone(&state);
            let _ = tokio::task::spawn_blocking(move || worker.folders.empty_removing()).await;
        }
    };
    let syncing = async {
        loop {
            state.folders.unsynced.notified().await;
            tokio::time::sleep(SYNC_AFTER).await;
            let worker = Arc::clone(&state);
            let work = move || crate::snapshots::sync_behind(&worker);
            if let Ok(Err(error)) = tokio::task::spawn_blocking(work).await {
                tracing::error!(%error, "syncing layers failed");
            }
        }
    };
    let collecting = async {
        loop {
            let _ = tokio::time::timeout(PERIOD, state.gc.wanted.notified()).await;
            tokio::time::sleep(GATHER).await;
            if let Err(error) = collect(&state).await {
                tracing::error!(%error, "collecting garbage failed");
            }
        }
    };
    futures_util::future::join4(removal, syncing, collecting, state.activity.run()).await;
}
