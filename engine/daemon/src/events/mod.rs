//! The bus of events: strictly ordered, the last ones kept for who asks later. What
//! happened is told by its owners, how it travels to clients is the routes' part.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use engine_api::{EventActor, EventMessage, StringMap};
use tokio::sync::broadcast;

use crate::records::now;

/// How many events are kept for `since`.
const KEPT: usize = 256;
/// How far a subscriber may fall behind before it is cut.
const BEHIND: usize = 1024;

struct Inner {
    last: i64,
    kept: VecDeque<Arc<EventMessage>>,
}

/// The bus.
#[derive(Clone)]
pub struct Bus {
    inner: Arc<Mutex<Inner>>,
    live: broadcast::Sender<Arc<EventMessage>>,
}

impl Default for Bus {
    fn default() -> Self {
        let inner = Inner { last: 0, kept: VecDeque::with_capacity(KEPT) };
        Self { inner: Arc::new(Mutex::new(inner)), live: broadcast::channel(BEHIND).0 }
    }
}

impl Bus {
    /// Publishes an event about the object `id` of `kind` (`container`, `image`,
    /// `network`, `volume`, …).
    pub fn publish(&self, kind: &str, action: &str, id: &str, attributes: StringMap) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        // Two events never share an instant, so that `since` can't lose one.
        inner.last = now().max(inner.last + 1);
        let of_container = kind == "container";
        let (name, from) = match kind {
            "container" | "image" => {
                (action.to_owned(), attributes.get("image").cloned().unwrap_or_default())
            }
            _ => (String::new(), String::new()),
        };
        let message = Arc::new(EventMessage {
            status: name,
            id: if of_container || kind == "image" { id.to_owned() } else { String::new() },
            from: if of_container { from } else { String::new() },
            kind: kind.to_owned(),
            action: action.to_owned(),
            actor: EventActor { id: id.to_owned(), attributes },
            scope: "local".into(),
            time: inner.last.div_euclid(1_000_000_000),
            time_nano: inner.last,
        });
        if inner.kept.len() == KEPT {
            inner.kept.pop_front();
        }
        inner.kept.push_back(Arc::clone(&message));
        // Nobody listening is no error.
        let _ = self.live.send(message);
    }

    /// The kept events from `since` (nanoseconds) on, when asked for, and all that follow
    /// without a gap. A receiver that lags is to be closed.
    pub fn subscribe(
        &self,
        since: Option<i64>,
    ) -> (Vec<Arc<EventMessage>>, broadcast::Receiver<Arc<EventMessage>>) {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let live = self.live.subscribe();
        let kept = since.map_or_else(Vec::new, |since| {
            inner.kept.iter().filter(|m| m.time_nano >= since).cloned().collect()
        });
        (kept, live)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_strictly_ordered_and_replayed_without_a_gap() {
        let bus = Bus::default();
        for n in 0..300 {
            bus.publish("container", "start", &n.to_string(), StringMap::new());
        }
        let (kept, mut live) = bus.subscribe(Some(0));
        assert_eq!(kept.len(), KEPT);
        assert!(kept.windows(2).all(|w| w[0].time_nano < w[1].time_nano));
        bus.publish("network", "connect", "n", StringMap::new());
        let next = live.try_recv().unwrap();
        assert_eq!((next.kind.as_str(), next.status.as_str()), ("network", ""));
        assert!(next.time_nano > kept[KEPT - 1].time_nano);
    }
}
