//! `POST /containers/prune`: removes what does not run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use engine_api::ContainersPruneReport;
use engine_api::filters::{CONTAINERS_PRUNE, Filters};
use engine_api::moment::moment;
use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::engine::Engine;
use crate::http::{ApiError, Request, Response};
use crate::lifecycle::machine::Message;
use crate::records::Phase;

/// Removals at once.
const AT_ONCE: usize = 8;
static RUNNING: AtomicBool = AtomicBool::new(false);

/// The handler.
pub(super) async fn prune(engine: Arc<Engine>, request: Request) -> Result<Response, ApiError> {
    let filters = request.filters(CONTAINERS_PRUNE)?;
    let until = until(&filters)?;
    if RUNNING.swap(true, Ordering::AcqRel) {
        return Err(ApiError::conflict("a prune operation is already running"));
    }
    let mut candidates = engine.all();
    candidates.retain(|c| {
        let row = c.row();
        matches!(row.state.phase, Phase::Created | Phase::Exited | Phase::Dead)
            && until.is_none_or(|at| row.fixed.created < at)
            && filters.labels("label", &row.fixed.labels)
            && filters.without_labels(&row.fixed.labels)
    });
    let removed: Vec<(String, i64)> = stream::iter(candidates)
        .map(|container| {
            let engine = Arc::clone(&engine);
            async move {
                let size = super::inspect::size(&engine, &container).await;
                let gone = container.ask(|reply| Message::Remove(false, false, reply)).await;
                gone.ok().map(|_| (container.id.clone(), size))
            }
        })
        .buffer_unordered(AT_ONCE)
        .filter_map(std::future::ready)
        .collect()
        .await;
    RUNNING.store(false, Ordering::Release);
    let space: u64 = removed.iter().map(|(_, size)| u64::try_from(*size).unwrap_or(0)).sum();
    let attributes = [("reclaimed".to_owned(), space.to_string())];
    engine.events.publish("container", "prune", "", attributes.into());
    let ids: Vec<String> = removed.into_iter().map(|(id, _)| id).collect();
    let reply = ContainersPruneReport {
        containers_deleted: Some(ids).filter(|l| !l.is_empty()),
        space_reclaimed: space,
    };
    Ok(Response::json(&reply, request.version))
}

/// A moment in nanoseconds since the epoch, of a filter that may be given once.
pub(in crate::routes) fn until(filters: &Filters) -> Result<Option<i64>, ApiError> {
    let mut values = filters.get("until");
    let Some(text) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(ApiError::bad_request("more than one until filter specified"));
    }
    let found = moment(text, Timestamp::now(), &TimeZone::system());
    found.map(Some).map_err(ApiError::bad_request)
}
