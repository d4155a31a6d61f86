//! The event exchange: publishers never wait, slow subscribers are cut.

use std::borrow::Cow;
use std::sync::{Mutex, PoisonError};

use containerd_api::filter::{Fields, Filters};
use containerd_api::prost::Name;
use containerd_api::prost_types::Any;
use containerd_api::types::Envelope;
use containerd_api::{any, time};
use tokio::sync::mpsc;

use crate::Error;

/// Events that a subscriber may lag behind before it is cut.
const QUEUE: usize = 8192;

/// Distributes events to subscribers in the order of publication.
#[derive(Debug, Default)]
pub struct Exchange {
    subscribers: Mutex<Vec<Subscriber>>,
}

#[derive(Debug)]
struct Subscriber {
    filters: Filters,
    queue: mpsc::Sender<Envelope>,
}

/// The receiving end; it ends when the subscriber was too slow.
pub type Subscription = mpsc::Receiver<Envelope>;

impl Exchange {
    /// Publishes `event` under `topic`, stamped now. The record it tells of must be written already.
    pub fn publish<E: Name>(&self, namespace: &str, topic: &str, event: &E) {
        self.distribute(&Envelope {
            timestamp: Some(time::now()),
            namespace: namespace.into(),
            topic: topic.into(),
            event: Some(any::pack(event)),
        });
    }

    /// Publishes an event that a client packed.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a topic that is no `/path`.
    pub fn publish_any(&self, namespace: &str, topic: &str, event: Any) -> Result<(), Error> {
        self.forward(Envelope {
            timestamp: Some(time::now()),
            namespace: namespace.into(),
            topic: topic.into(),
            event: Some(event),
        })
    }

    /// Passes on an envelope that was stamped elsewhere, as shims send them.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a wrong namespace, topic or an absent timestamp.
    pub fn forward(&self, envelope: Envelope) -> Result<(), Error> {
        let invalid = |what: String| Err(Error::InvalidArgument(what));
        if let Err(error) = crate::context::check_identifier(&envelope.namespace) {
            return invalid(format!("event envelope has invalid namespace: {error}"));
        }
        if let Err(error) = check_topic(&envelope.topic) {
            return invalid(format!("envelope topic {:?}: {error}", envelope.topic));
        }
        if envelope.timestamp.is_none() {
            return invalid("timestamp must be set on forwarded event".into());
        }
        self.distribute(&envelope);
        Ok(())
    }

    /// Subscribes to all events that `filters` let pass.
    pub fn subscribe(&self, filters: Filters) -> Subscription {
        let (queue, subscription) = mpsc::channel(QUEUE);
        self.lock().push(Subscriber { filters, queue });
        subscription
    }

    fn distribute(&self, envelope: &Envelope) {
        self.lock().retain(|subscriber| {
            if !subscriber.filters.matches(&Event(envelope)) {
                return !subscriber.queue.is_closed();
            }
            // A full queue cuts the subscriber: it sees the end and asks for the state anew.
            subscriber.queue.try_send(envelope.clone()).is_ok()
        });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Subscriber>> {
        self.subscribers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn check_topic(topic: &str) -> Result<(), String> {
    let Some(path) = topic.strip_prefix('/').filter(|path| !path.is_empty()) else {
        return Err("must start with '/' and have a component".into());
    };
    path.split('/').try_for_each(crate::context::check_identifier)
}

struct Event<'a>(&'a Envelope);

impl Fields for Event<'_> {
    fn field(&self, path: &[&str]) -> Option<Cow<'_, str>> {
        let text =
            |s: &'_ str| Some(Cow::Owned(s.to_owned())).filter(|s: &Cow<'_, str>| !s.is_empty());
        match path {
            ["namespace"] => text(&self.0.namespace),
            ["topic"] => text(&self.0.topic),
            ["event", rest @ ..] => {
                super::fields::field(self.0.event.as_ref()?, rest).map(Cow::Owned)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use containerd_api::events::{NamespaceCreate, TaskExit};

    use super::*;

    #[tokio::test]
    async fn a_subscriber_gets_what_its_filters_let_pass_and_nothing_else() {
        let exchange = Exchange::default();
        let filters = Filters::parse(&["namespace==moby,topic~=|^/tasks/|"]).unwrap();
        let mut tasks = exchange.subscribe(filters);
        let exit = TaskExit { container_id: "c".into(), ..TaskExit::default() };
        let by_id = Filters::parse(&["event.container_id==c"]).unwrap();
        let mut by_id = exchange.subscribe(by_id);
        exchange.publish("other", "/tasks/exit", &TaskExit::default());
        exchange.publish("moby", "/namespaces/create", &NamespaceCreate::default());
        exchange.publish("moby", "/tasks/exit", &exit);
        let event = tasks.recv().await.unwrap();
        assert_eq!(any::unpack::<TaskExit>(&event.event.unwrap()).unwrap().unwrap(), exit);
        assert!(tasks.try_recv().is_err());
        assert_eq!(by_id.recv().await.unwrap().namespace, "moby");
    }

    #[test]
    fn wrong_envelopes_are_refused() {
        let exchange = Exchange::default();
        for (namespace, topic) in [("", "/a"), ("n", "a"), ("n", "/"), ("n", "/a//b"), ("n-", "/a")]
        {
            assert!(exchange.publish_any(namespace, topic, Any::default()).is_err(), "{topic}");
        }
        assert!(exchange.publish_any("n", "/a/b", Any::default()).is_ok());
    }
}
