//! `POST /containers/prune`: removes what does not run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use engine_api::ContainersPruneReport;
use engine_api::filters::CONTAINERS_PRUNE;
use futures_util::{StreamExt, stream};

use crate::engine::Engine;
use crate::http::{ApiError, Request, Response};
use crate::lifecycle::machine::Message;
use crate::records::{Phase, now};

/// Removals at once.
const AT_ONCE: usize = 8;
static RUNNING: AtomicBool = AtomicBool::new(false);

/// The handler.
pub(super) async fn prune(engine: Arc<Engine>, request: Request) -> Result<Response, ApiError> {
    let filters = request.filters(CONTAINERS_PRUNE)?;
    let until = filters.get("until").next().map(until).transpose()?;
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

/// A time, or a duration before now, in nanoseconds since the epoch.
fn until(text: &str) -> Result<i64, ApiError> {
    if let Some(nanos) = duration(text) {
        return Ok(now().saturating_sub(nanos));
    }
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Ok(i64::try_from(time.as_nanosecond()).unwrap_or(i64::MAX));
    }
    super::logs::time(text).map_err(|_| {
        ApiError::bad_request(format!("failed to parse value as time or duration: {text:?}"))
    })
}

/// Go's `1h30m`.
fn duration(text: &str) -> Option<i64> {
    let mut rest = text;
    let mut total = 0.0_f64;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        rest = &rest[end..];
        let end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let scale = match &rest[..end] {
            "h" => 3.6e12,
            "m" => 6e10,
            "s" => 1e9,
            "ms" => 1e6,
            "us" => 1e3,
            "ns" => 1.0,
            _ => return None,
        };
        total += number * scale;
        rest = &rest[end..];
    }
    (!text.is_empty()).then_some(total as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_gos() {
        assert_eq!(duration("1h30m"), Some(5_400_000_000_000));
        assert_eq!(duration("10ms"), Some(10_000_000));
        assert!(duration("10").is_none() && duration("x").is_none());
    }
}
