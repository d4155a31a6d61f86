//! Progress of a transfer, as containerd's `Progress` messages on a stream of the client's.
//!
//! What happened is told in order and whole; how far things are is looked at a few times a second
//! and told when it changed. Work never waits for a slow client.

use crate::diff::to_wire;
use crate::streaming::Stream;
use containerd_api::any;
use containerd_api::transfer_types as api;
use oci::{Descriptor, media_type};
use registry_client::{Object, Watch};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// How often counts are looked at.
const LOOK: Duration = Duration::from_millis(100);
/// How long a client may take to read what was told last.
const FAREWELL: Duration = Duration::from_secs(2);

/// Where progress goes.
#[derive(Clone, Debug, Default)]
pub struct Progress(Option<Teller>);

#[derive(Clone, Debug)]
struct Teller {
    events: mpsc::UnboundedSender<api::Progress>,
    jobs: Arc<Mutex<Vec<Arc<Job>>>>,
}

/// Whoever tells the client; it ends after the last [`Progress`] is gone.
#[derive(Debug)]
pub struct Telling(Option<JoinHandle<()>>);

impl Telling {
    /// Waits until the client was told everything, though not for ever.
    pub async fn end(self) {
        let Some(task) = self.0 else { return };
        let abort = task.abort_handle();
        if tokio::time::timeout(FAREWELL, task).await.is_err() {
            abort.abort();
        }
    }
}

impl Progress {
    /// Progress on a stream; without one, or on a raw one, it goes nowhere. Needs a runtime where
    /// there is a stream.
    pub fn start(stream: Option<Stream>) -> (Self, Telling) {
        let Some(Stream::Grpc(endpoint)) = stream else { return (Self(None), Telling(None)) };
        let (events, waiting) = mpsc::unbounded_channel();
        let teller = Teller { events, jobs: Arc::default() };
        let task = tokio::spawn(tell(endpoint, waiting, Arc::clone(&teller.jobs)));
        (Self(Some(teller)), Telling(Some(task)))
    }

    /// Says that something happened.
    pub(super) fn tell(&self, event: &str, name: &str, of: Option<&Descriptor>) {
        let size = of.map_or(0, |d| d.size as i64);
        self.send(api::Progress {
            event: event.into(),
            name: name.into(),
            total: size,
            progress: size,
            desc: of.map(to_wire),
            ..api::Progress::default()
        });
    }

    fn send(&self, event: api::Progress) {
        if let Some(teller) = &self.0 {
            // A client that went away needs no news.
            let _ = teller.events.send(event);
        }
    }

    /// Announces a blob that has to be moved, below `parents`.
    pub(super) fn job(&self, of: &Descriptor, parents: &[String], moving: Moving) -> Arc<Job> {
        let job = Arc::new(Job {
            name: key_of(of),
            parents: parents.to_vec(),
            of: of.clone(),
            moving,
            moved: AtomicU64::new(0),
            unpacked: AtomicU64::new(0),
            stage: AtomicU8::new(WAITING),
        });
        if let Some(teller) = &self.0 {
            let mut jobs = teller.jobs.lock().unwrap_or_else(PoisonError::into_inner);
            jobs.push(Arc::clone(&job));
        }
        self.send(job.event("waiting", 0));
        job
    }

    /// Says that a job is done: `already exists` or `complete`.
    pub(super) fn done(&self, job: &Job, event: &str) {
        if job.stage.swap(DONE, Ordering::AcqRel) != DONE {
            self.send(job.event(event, job.of.size));
        }
    }

    /// The same, with a word in the descriptor's annotations about how it came about.
    pub(super) fn done_by(&self, job: &Job, event: &str, annotation: (String, String)) {
        if job.stage.swap(DONE, Ordering::AcqRel) != DONE {
            let mut event = job.event(event, job.of.size);
            if let Some(desc) = &mut event.desc {
                desc.annotations.insert(annotation.0, annotation.1);
            }
            self.send(event);
        }
    }
}

/// Tells the client when what moves a blob is tried again.
pub(super) struct Retries {
    pub(super) progress: Progress,
    pub(super) job: Arc<Job>,
}

impl Watch for Retries {
    fn retrying(&self, _: &Object, wait: Duration, _: &registry_client::Error) {
        let seconds = wait.as_secs_f64().ceil().max(1.0) as u64;
        self.progress.send(self.job.event("retrying", seconds));
    }
}

/// Which way blobs go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moving {
    Down,
    Up,
}

const WAITING: u8 = 0;
const MOVING: u8 = 1;
const UNPACKING: u8 = 2;
const DONE: u8 = 3;

/// A blob on its way.
#[derive(Debug)]
pub(super) struct Job {
    name: String,
    parents: Vec<String>,
    of: Descriptor,
    moving: Moving,
    moved: AtomicU64,
    unpacked: AtomicU64,
    stage: AtomicU8,
}

impl Job {
    /// It came this far.
    pub(super) fn moved(&self, bytes: u64) {
        self.moved.store(bytes, Ordering::Relaxed);
        let _ = self.stage.compare_exchange(WAITING, MOVING, Ordering::AcqRel, Ordering::Relaxed);
    }

    /// All of it is here; what is left is unpacking.
    pub(super) fn arrived(&self) {
        let _ = self.stage.compare_exchange(MOVING, UNPACKING, Ordering::AcqRel, Ordering::Relaxed);
        let _ =
            self.stage.compare_exchange(WAITING, UNPACKING, Ordering::AcqRel, Ordering::Relaxed);
    }

    /// Unpacking came this far, in bytes of the blob.
    pub(super) fn unpacked(&self, bytes: u64) {
        self.unpacked.store(bytes, Ordering::Relaxed);
    }

    fn event(&self, event: &str, progress: u64) -> api::Progress {
        api::Progress {
            event: event.into(),
            name: self.name.clone(),
            parents: self.parents.clone(),
            progress: progress as i64,
            total: self.of.size as i64,
            desc: Some(to_wire(&self.of)),
        }
    }

    /// Stage and count, if there is something to tell about it.
    fn count(&self) -> Option<(u8, u64)> {
        match self.stage.load(Ordering::Acquire) {
            MOVING => Some((MOVING, self.moved.load(Ordering::Relaxed))),
            UNPACKING => Some((UNPACKING, self.unpacked.load(Ordering::Relaxed))),
            _ => None,
        }
    }

    fn word(&self, stage: u8) -> &'static str {
        match (stage, self.moving) {
            (UNPACKING, _) => "extracting",
            (_, Moving::Down) => "downloading",
            (_, Moving::Up) => "uploading",
        }
    }
}

/// The name of a blob in progress and the reference of its ingest, as containerd's clients make it.
pub(super) fn key_of(of: &Descriptor) -> String {
    let media = of.media_type.as_str();
    let kind = if media_type::is_manifest(media) {
        "manifest"
    } else if media_type::is_index(media) {
        "index"
    } else if media_type::is_layer(media) {
        "layer"
    } else if media_type::is_config(media) {
        "config"
    } else {
        "unknown"
    };
    format!("{kind}-{}", of.digest)
}

async fn tell(
    endpoint: crate::streaming::Endpoint,
    mut events: mpsc::UnboundedReceiver<api::Progress>,
    jobs: Arc<Mutex<Vec<Arc<Job>>>>,
) {
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut last: Vec<Option<(u8, u64)>> = Vec::new();
    loop {
        tokio::select! {
            biased;
            event = events.recv() => {
                let Some(event) = event else { return };
                if endpoint.outgoing.send(Ok(any::pack(&event))).await.is_err() {
                    return;
                }
            }
            _ = look.tick() => {
                for event in changed(&jobs, &mut last) {
                    if endpoint.outgoing.send(Ok(any::pack(&event))).await.is_err() {
                        return;
                    }
                }
            }
        }
    }
}

fn changed(jobs: &Mutex<Vec<Arc<Job>>>, last: &mut Vec<Option<(u8, u64)>>) -> Vec<api::Progress> {
    let jobs = jobs.lock().unwrap_or_else(PoisonError::into_inner);
    last.resize(jobs.len(), None);
    let mut events = Vec::new();
    for (job, last) in jobs.iter().zip(last) {
        let now = job.count();
        if let Some((stage, bytes)) = now.filter(|_| now != *last) {
            events.push(job.event(job.word(stage), bytes));
            *last = now;
        }
    }
    events
}
