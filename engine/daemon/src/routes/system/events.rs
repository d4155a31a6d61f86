//! `GET /events`: the kept events since a time, then all that follow until another.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use engine_api::filters::Filters;
use engine_api::moment::stamp;
use engine_api::{ApiVersion, EventMessage};
use futures_util::stream;
use tokio::sync::broadcast::Receiver;
use tokio::time::Instant;

use super::Reply;
use crate::engine::Engine;
use crate::http::{ApiError, Request, Response};
use crate::records::now;

#[allow(clippy::unused_async)] // every handler is registered alike
pub(super) async fn events(engine: Arc<Engine>, request: Request) -> Reply {
    // A filter that is not known is passed over, here alone.
    let filters = Filters::parse(request.query.get("filters"))?;
    let time = |key: &str| match request.query.get(key) {
        "" => Ok(None),
        text => stamp(text).map(Some).map_err(ApiError::internal),
    };
    let (since, until) = (time("since")?, time("until")?);
    let (kept, live) = engine.events.subscribe(since);
    let wanted = move |message: &EventMessage| {
        matches(&filters, message) && until.is_none_or(|until| message.time_nano <= until)
    };
    let version = request.version;
    let kept: Vec<_> = kept.into_iter().filter(|message| wanted(message)).collect();
    let first = stream::iter(kept.into_iter().map(move |message| Ok(line(&message, version))));
    let left = until.map(|until| Duration::from_nanos(u64::try_from(until - now()).unwrap_or(0)));
    let follow = Follow { live, end: left.map(|left| Instant::now() + left) };
    let rest = stream::unfold((follow, wanted), move |(mut follow, wanted)| async move {
        let message = follow.next(&wanted).await?;
        Some((Ok(line(&message, version)), (follow, wanted)))
    });
    Ok(Response::json_stream(Box::pin(futures_util::StreamExt::chain(first, rest))))
}

struct Follow {
    live: Receiver<Arc<EventMessage>>,
    end: Option<Instant>,
}

impl Follow {
    /// The next wanted event; `None` at the end, or when this client is too slow.
    async fn next(&mut self, wanted: &impl Fn(&EventMessage) -> bool) -> Option<Arc<EventMessage>> {
        loop {
            let message = match self.end {
                Some(end) => tokio::time::timeout_at(end, self.live.recv()).await.ok()?,
                None => self.live.recv().await,
            };
            let message = message.ok()?;
            if wanted(&message) {
                return Some(message);
            }
        }
    }
}

fn line(message: &EventMessage, version: ApiVersion) -> Bytes {
    Bytes::from(engine_api::encode(message, version))
}

fn matches(filters: &Filters, message: &EventMessage) -> bool {
    let action = message.action.split(':').next().unwrap_or_default();
    let is_event = any(filters, "event", |wanted| wanted == action || wanted == message.action);
    let is_type = any(filters, "type", |wanted| wanted == message.kind);
    let is_scope = any(filters, "scope", |wanted| wanted == message.scope);
    let attributes = &message.actor.attributes;
    let name = attributes.get("name").map(String::as_str).unwrap_or_default();
    let of = |kind: &str| {
        any(filters, kind, |wanted| {
            message.kind == kind && (message.actor.id.starts_with(wanted) || name == wanted)
        })
    };
    let kinds = ["config", "daemon", "network", "node", "plugin", "secret", "service", "volume"];
    let image = any(filters, "image", |wanted| is_of_image(message, wanted));
    is_event
        && is_type
        && is_scope
        && image
        && of("container")
        && kinds.iter().all(|kind| of(kind))
        && filters.labels("label", attributes)
}

/// An image's own events, and those of containers made from it.
fn is_of_image(message: &EventMessage, wanted: &str) -> bool {
    let attribute = if message.kind == "image" { "name" } else { "image" };
    let name = message.actor.attributes.get(attribute).map(String::as_str).unwrap_or_default();
    let bare = name.split(':').next().unwrap_or_default();
    name == wanted || bare == wanted || (message.kind == "image" && message.actor.id == wanted)
}

/// Whether one of a key's values fits; a key that is not given lets all through.
fn any(filters: &Filters, key: &str, fits: impl Fn(&str) -> bool) -> bool {
    let values: BTreeSet<&str> = filters.get(key).collect();
    values.is_empty() || values.into_iter().any(fits)
}

#[cfg(test)]
mod tests {
    use super::matches;
    use engine_api::EventMessage;
    use engine_api::filters::Filters;

    #[test]
    fn filters_of_one_key_add_and_of_several_narrow() {
        let mut message =
            EventMessage { kind: "container".into(), action: "die".into(), ..Default::default() };
        message.actor.id = "abc123".into();
        message.actor.attributes.insert("image".into(), "busybox:latest".into());
        let all = Filters::default();
        assert!(matches(&all, &message));
        assert!(matches(&all.clone().with("event", "die").with("event", "start"), &message));
        assert!(matches(&all.clone().with("container", "abc").with("image", "busybox"), &message));
        assert!(!matches(&all.clone().with("container", "abc").with("event", "start"), &message));
        assert!(!matches(&all.with("network", "abc"), &message));
    }
}
