//! What a pull or push tells while it goes: messages in docker's words, in order.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use engine_api::JsonMessage;
use registry_client::{Error, Object, Watch};
use tokio::sync::mpsc;

/// Between two messages about one transfer.
const EVERY: Duration = Duration::from_millis(100);

/// Where an operation tells how it goes. Clones tell the same listener.
#[derive(Debug, Clone)]
pub struct Progress {
    messages: mpsc::UnboundedSender<JsonMessage>,
    told: Arc<AtomicBool>,
}

impl Progress {
    /// A teller and its listener.
    pub fn new() -> (Self, mpsc::UnboundedReceiver<JsonMessage>) {
        let (messages, listener) = mpsc::unbounded_channel();
        (Self { messages, told: Arc::default() }, listener)
    }

    /// Tells. Nobody listening any more is fine.
    pub fn tell(&self, message: JsonMessage) {
        self.told.store(true, Ordering::Relaxed);
        let _ = self.messages.send(message);
    }

    /// Whether anything was told.
    pub fn has_told(&self) -> bool {
        self.told.load(Ordering::Relaxed)
    }

    pub(crate) fn action(&self, id: &str, text: &str) {
        self.tell(JsonMessage::action(id, text));
    }
}

/// The progress of one transfer, told in steps that are worth it.
pub(crate) struct Meter {
    progress: Progress,
    id: String,
    text: &'static str,
    total: u64,
    last: Option<Instant>,
}

impl Meter {
    pub(crate) fn new(progress: Progress, id: String, text: &'static str, total: u64) -> Self {
        Self { progress, id, text, total, last: None }
    }

    /// So much is done now.
    pub(crate) fn at(&mut self, current: u64) {
        let is_due = self.last.is_none_or(|last| last.elapsed() >= EVERY);
        if is_due || current == self.total {
            self.last = Some(Instant::now());
            self.progress.tell(JsonMessage::progress(&self.id, self.text, current, self.total));
        }
    }
}

impl Watch for Progress {
    fn retrying(&self, object: &Object, wait: Duration, _: &Error) {
        if let Object::Blob(digest) = object {
            let seconds = wait.as_secs_f64().ceil().max(1.0) as u64;
            self.action(&digest.short(), &retrying(seconds));
        }
    }
}

/// Docker's words for a wait.
pub(crate) fn retrying(seconds: u64) -> String {
    let plural = if seconds == 1 { "" } else { "s" };
    format!("Retrying in {seconds} second{plural}")
}
