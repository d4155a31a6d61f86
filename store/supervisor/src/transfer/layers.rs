//! Layers beside the stream that brings them: each is unpacked by a thread of its own into a
//! private active snapshot without parent, and joined to those below only when the image's config
//! has told their order. Commits of blobs (an fsync each) run beside the next member too.

use super::joined;
use crate::content::Writer;
use crate::diff::extract;
use crate::labels::Labels;
use crate::snapshots::{Kind, Place, Snapshotter};
use crate::{Context, Error, State};
use archive::{Compression, Deferred, TailReader};
use oci::{Algorithm, Digest};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

/// An unpacked layer that belongs to no image yet.
#[derive(Debug)]
pub(super) struct Layer {
    /// The active snapshot's key.
    pub(super) key: String,
    /// Its folder.
    pub(super) folder: PathBuf,
    /// Digest of the uncompressed tar.
    pub(super) diff_id: Option<Digest>,
    /// Bytes of that tar.
    pub(super) size: u64,
    /// What only the layers below can settle.
    pub(super) deferred: Deferred,
}

impl Layer {
    /// Whether its digest can be compared with `diff_id`: a layer that was unpacked before its
    /// image's config was known may have been hashed by another algorithm.
    pub(super) fn is_hashed_like(&self, diff_id: &Digest) -> bool {
        self.diff_id.is_some_and(|own| own.algorithm() == diff_id.algorithm())
    }

    /// Holds the layer against what its image says of the blob that it came from.
    pub(super) fn check(&self, blob: &Digest, diff_id: &Digest) -> Result<(), Error> {
        if self.diff_id == Some(*diff_id) {
            return Ok(());
        }
        let got = self.diff_id.map(|d| d.to_string()).unwrap_or_default();
        Err(wrong(blob, &got, diff_id))
    }
}

/// The error that a layer's content is.
pub(super) fn wrong(blob: &Digest, got: &str, wanted: &Digest) -> Error {
    Error::InvalidArgument(format!("layer {blob}: wrong diff id {got}, the image says {wanted}"))
}

/// A fresh key for a snapshot that a layer is unpacked into. A start of the daemon drops those of
/// the last run.
pub(super) fn extraction() -> Result<String, Error> {
    Ok(format!("{}{}", crate::snapshots::EXTRACTION, crate::state::random_uuid()?))
}

/// Bounds how many layers are in flight.
struct Slots(Mutex<usize>, Condvar);

struct Slot(Arc<Slots>);

impl Slots {
    fn take(slots: &Arc<Self>) -> Slot {
        let mut free = slots.0.lock().unwrap_or_else(PoisonError::into_inner);
        while *free == 0 {
            free = slots.1.wait(free).unwrap_or_else(PoisonError::into_inner);
        }
        *free -= 1;
        Slot(Arc::clone(slots))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.1.notify_one();
    }
}

/// How many layers are worked on at once.
pub(super) fn in_flight() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from) + 2
}

/// A thread that unpacks.
pub(super) type Job = JoinHandle<Result<Layer, Error>>;
type Commit = JoinHandle<Result<(), Error>>;

/// The threads of one import.
pub(super) struct Workers {
    pub(super) state: Arc<State>,
    pub(super) context: Context,
    snapshotter: Option<String>,
    slots: Arc<Slots>,
    running: Mutex<Vec<(Digest, Commit, Option<Job>)>>,
}

impl Workers {
    pub(super) fn new(state: &Arc<State>, context: &Context, snapshotter: Option<&str>) -> Self {
        Self {
            state: Arc::clone(state),
            context: context.clone(),
            snapshotter: snapshotter.map(Into::into),
            slots: Arc::new(Slots(Mutex::new(in_flight()), Condvar::new())),
            running: Mutex::default(),
        }
    }

    /// Starts to unpack what `source` brings, when layers are wanted at all. The digest of a plain
    /// tar is its blob's: it is not computed twice.
    pub(super) fn unpack(
        &self,
        source: TailReader,
        compression: Compression,
    ) -> Result<Option<Job>, Error> {
        let Some(snapshotter) = self.snapshotter.clone() else { return Ok(None) };
        let slot = Slots::take(&self.slots);
        let (state, context) = (Arc::clone(&self.state), self.context.clone());
        let thread = std::thread::Builder::new().name("layer".into()).spawn(move || {
            let _slot = slot;
            let digest = (compression != Compression::None).then_some(Algorithm::Sha256);
            extract_alone(&state, &context, &snapshotter, source, digest)
        });
        thread.map(Some).map_err(Error::io("starting a thread"))
    }

    /// Makes a blob durable, beside whatever comes next.
    pub(super) fn commit(&self, writer: Writer, size: u64, digest: Digest, job: Option<Job>) {
        let commit =
            std::thread::spawn(move || match writer.commit(size, Some(digest), Labels::new()) {
                Ok(_) | Err(Error::AlreadyExists(_)) => Ok(()),
                Err(e) => Err(e),
            });
        self.running.lock().unwrap_or_else(PoisonError::into_inner).push((digest, commit, job));
    }

    /// Waits for all; a member that is no layer after all is dropped.
    pub(super) fn finish(self) -> Result<HashMap<Digest, Layer>, Error> {
        let running = self.running.into_inner().unwrap_or_else(PoisonError::into_inner);
        let (mut layers, mut failure) = (HashMap::new(), None);
        for (digest, commit, job) in running {
            if let Err(e) = joined(commit.join()) {
                failure.get_or_insert(e);
            }
            match job.map(|job| joined(job.join())) {
                Some(Ok(mut layer)) => {
                    layer.diff_id = layer.diff_id.or(Some(digest));
                    layers.insert(digest, layer);
                }
                // It is tried again, and reported, if an image turns out to need it.
                Some(Err(e)) => tracing::debug!("unpacking {digest} ahead: {e}"),
                None => {}
            }
        }
        failure.map_or(Ok(layers), Err)
    }
}

/// Unpacks `source` into a fresh active snapshot without parent.
pub(super) fn extract_alone(
    state: &Arc<State>,
    context: &Context,
    snapshotter: &str,
    source: impl std::io::Read,
    digest: Option<Algorithm>,
) -> Result<Layer, Error> {
    let key = extraction()?;
    let place = Place::new(context, Snapshotter::named(snapshotter)?);
    let mounts = state.prepare(&place, Kind::Active, &key, "", Labels::new())?;
    let extracted = extract(&mounts, source, digest);
    match extracted {
        Ok((folder, applied)) => Ok(Layer {
            key,
            folder,
            diff_id: applied.diff_id,
            size: applied.stream_size,
            deferred: applied.deferred,
        }),
        Err(e) => {
            discard(state, context, snapshotter, &key);
            Err(e)
        }
    }
}

/// Removes an active snapshot that nobody needs.
pub(super) fn discard(state: &Arc<State>, context: &Context, snapshotter: &str, key: &str) {
    let place = Snapshotter::named(snapshotter).map(|s| Place::new(context, s));
    if let Err(e) = place.and_then(|place| state.remove_snapshot(&place, key)) {
        tracing::warn!("removing the snapshot {key}: {e}");
    }
}
