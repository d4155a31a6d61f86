//! What is counted, in Prometheus' text format.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// The content type of the text.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Request {
    method: &'static str,
    route: &'static str,
    code: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Route {
    route: &'static str,
}

/// All counters.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<Request, Counter>,
    durations: Family<Route, Histogram, fn() -> Histogram>,
    sent: Counter,
    received: Counter,
    uploads: Gauge,
    connections: Gauge,
    collected: Counter,
}

fn histogram() -> Histogram {
    Histogram::new([0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10.0, 60.0])
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("ferry_registry");
        let requests = Family::default();
        registry.register("http_requests", "Requests that were answered", requests.clone());
        let durations =
            Family::<Route, Histogram, fn() -> Histogram>::new_with_constructor(histogram);
        registry.register(
            "http_request_duration_seconds",
            "Time from a request's head to the end of its answer",
            durations.clone(),
        );
        let (sent, received, collected) =
            (Counter::default(), Counter::default(), Counter::default());
        registry.register("sent_bytes", "Bytes of bodies that were sent", sent.clone());
        registry.register("received_bytes", "Bytes of uploads", received.clone());
        registry.register("collected_bytes", "Bytes that were collected", collected.clone());
        let (uploads, connections) = (Gauge::default(), Gauge::default());
        registry.register("open_uploads", "Uploads that are not finished", uploads.clone());
        registry.register("connections", "Open connections", connections.clone());
        Self { registry, requests, durations, sent, received, uploads, connections, collected }
    }

    /// An answer that is over.
    pub(crate) fn request(
        &self,
        method: &http::Method,
        route: &'static str,
        code: u16,
        sent: u64,
        took: Duration,
    ) {
        let method = match method.as_str() {
            "GET" => "GET",
            "HEAD" => "HEAD",
            "POST" => "POST",
            "PUT" => "PUT",
            "PATCH" => "PATCH",
            "DELETE" => "DELETE",
            _ => "other",
        };
        self.requests.get_or_create(&Request { method, route, code }).inc();
        self.durations.get_or_create(&Route { route }).observe(took.as_secs_f64());
        self.sent.inc_by(sent);
    }

    pub(crate) fn received(&self, bytes: u64) {
        self.received.inc_by(bytes);
    }

    pub(crate) fn collected(&self, bytes: u64) {
        self.collected.inc_by(bytes);
    }

    /// A connection that is open for as long as the answer lives.
    pub(crate) fn connection(&self) -> Connection {
        self.connections.inc();
        Connection(self.connections.clone())
    }

    /// The text.
    pub(crate) fn text(&self, uploads: usize) -> String {
        self.uploads.set(uploads as i64);
        let mut text = String::new();
        // Writing to a text does not fail.
        encode(&mut text, &self.registry).ok();
        text
    }
}

/// See [`Metrics::connection`].
#[derive(Debug)]
pub(crate) struct Connection(Gauge);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_is_told_by_its_name() {
        let metrics = Metrics::new();
        metrics.request(&http::Method::GET, "blob", 200, 7, Duration::from_millis(2));
        let open = metrics.connection();
        let text = metrics.text(3);
        for line in [
            "ferry_registry_http_requests_total{method=\"GET\",route=\"blob\",code=\"200\"} 1",
            "ferry_registry_sent_bytes_total 7",
            "ferry_registry_open_uploads 3",
            "ferry_registry_connections 1",
        ] {
            assert!(text.lines().any(|own| own == line), "{line}\n{text}");
        }
        drop(open);
        assert!(metrics.text(0).contains("ferry_registry_connections 0"));
    }
}
