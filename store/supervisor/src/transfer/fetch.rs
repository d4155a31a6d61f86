//! One blob from a registry, in one pass: socket → hash → ingest file, and beside it → inflate →
//! hash → the layer's own folder. The page cache is the buffer between the two. Only the download
//! resumes: what is there is hashed again and unpacked from its beginning.

use super::joined;
use super::layers::{Layer, discard, extract_alone};
use super::progress::{Job, Progress, Retries, key_of};
use super::remote::Remote;
use super::source;
use crate::content::Writer;
use crate::labels::Labels;
use crate::leases::Resource;
use crate::{Context, Error, State};
use archive::Tail;
use oci::{Descriptor, Digest};
use std::io::Read;
use std::sync::Arc;

/// What fetching needs to know.
pub(super) struct Fetcher<'a> {
    pub(super) state: &'a Arc<State>,
    pub(super) context: &'a Context,
    pub(super) remote: &'a Remote,
    pub(super) progress: &'a Progress,
}

/// What a blob is to be unpacked to on its way.
pub(super) struct Unpacking<'a> {
    pub(super) snapshotter: &'a str,
    pub(super) diff_id: Digest,
}

/// How an attempt ended.
enum Attempt {
    Whole(Option<Layer>),
    /// What came is not what was asked for.
    Wrong(Error),
}

impl Fetcher<'_> {
    /// Sees to it that the store holds a blob, and unpacks it where that is wanted. Both digests
    /// are verified before the blob counts.
    pub(super) fn blob(
        &self,
        of: &Descriptor,
        job: &Arc<Job>,
        unpacking: Option<&Unpacking<'_>>,
    ) -> Result<Option<Layer>, Error> {
        let key = format!("{}\0{}", self.context.namespace, of.digest);
        let _flight = self.remote.waiter.wait(self.state.flights.claim(key))?;
        if self.keep(&of.digest)? {
            let layer = unpacking.map(|wish| self.unpack_stored(of, job, wish)).transpose()?;
            self.progress.done(job, "already exists");
            return Ok(layer);
        }
        let mut writer = match self.open(of) {
            Err(Error::AlreadyExists(_)) => return self.blob_again(of, job, unpacking),
            opened => opened?,
        };
        let resumed = writer.status().offset > 0;
        let mut attempt = match self.attempt(&mut writer, of, job, unpacking) {
            // There is nothing to go on with.
            Err(why) if writer.status().offset == 0 => Attempt::Wrong(why),
            attempt => attempt?,
        };
        if let (true, Attempt::Wrong(why)) = (resumed, &attempt) {
            tracing::warn!("beginning {} again: {why}", of.digest);
            writer.truncate()?;
            attempt = self.attempt(&mut writer, of, job, unpacking)?;
        }
        match attempt {
            Attempt::Whole(layer) => {
                let labels = source::label(&self.remote.reference, None);
                let stored = writer.commit(of.size, Some(of.digest), Labels::from_iter(labels));
                match stored {
                    Ok(_) | Err(Error::AlreadyExists(_)) => {}
                    Err(e) => {
                        self.drop_layer(unpacking, layer);
                        return Err(e);
                    }
                }
                self.progress.done(job, "complete");
                Ok(layer)
            }
            Attempt::Wrong(why) => {
                // Nothing of it is worth keeping.
                let reference = writer.status().reference;
                drop(writer);
                self.state.ingest_abort(self.context, &reference)?;
                Err(why)
            }
        }
    }

    /// Somebody else, who knows no claims, stored it meanwhile.
    fn blob_again(
        &self,
        of: &Descriptor,
        job: &Arc<Job>,
        unpacking: Option<&Unpacking<'_>>,
    ) -> Result<Option<Layer>, Error> {
        if !self.keep(&of.digest)? {
            return Err(Error::Unavailable(format!("blob {} comes and goes", of.digest)));
        }
        let layer = unpacking.map(|wish| self.unpack_stored(of, job, wish)).transpose()?;
        self.progress.done(job, "already exists");
        Ok(layer)
    }

    /// Whether the store has a blob; then the call's lease keeps it and it remembers this source.
    pub(super) fn keep(&self, digest: &Digest) -> Result<bool, Error> {
        let (state, context) = (self.state, self.context);
        if state.content_info(context, digest).is_err() {
            return Ok(false);
        }
        if let Some(lease) = &context.lease {
            state.lease_add(context, lease, Resource::new("content", digest.to_string()))?;
        }
        // It may have been collected before the lease had it.
        let Ok(info) = state.content_info(context, digest) else { return Ok(false) };
        if let Some((key, value)) = source::label(&self.remote.reference, Some(&info.labels)) {
            let path = format!("labels.{key}");
            state.content_update(context, digest, &Labels::from([(key, value)]), &[path])?;
        }
        Ok(true)
    }

    fn open(&self, of: &Descriptor) -> Result<Writer, Error> {
        let reference = key_of(of);
        let open = || Writer::open(self.state, self.context, &reference, of.size, Some(of.digest));
        match open() {
            // An ingest of the same name for something else.
            Err(Error::Aborted(_)) => {
                self.state.ingest_abort(self.context, &reference)?;
                open()
            }
            opened => opened,
        }
    }

    fn unpack_stored(
        &self,
        of: &Descriptor,
        job: &Arc<Job>,
        wish: &Unpacking<'_>,
    ) -> Result<Layer, Error> {
        job.arrived();
        let (file, _) = self.state.content_open(self.context, &of.digest)?;
        let layer = self.extract(of, Counted::new(file, job), wish)?;
        self.checked(of, wish, layer)
    }

    fn extract(
        &self,
        of: &Descriptor,
        from: impl Read,
        wish: &Unpacking<'_>,
    ) -> Result<Layer, Error> {
        // The digest of a plain tar is its blob's: it is not computed twice.
        let plain = of.digest == wish.diff_id;
        let algorithm = (!plain).then_some(wish.diff_id.algorithm());
        let mut layer = extract_alone(self.state, self.context, wish.snapshotter, from, algorithm)?;
        if plain && layer.size == of.size {
            layer.diff_id = Some(of.digest);
        }
        Ok(layer)
    }

    fn checked(&self, of: &Descriptor, wish: &Unpacking<'_>, layer: Layer) -> Result<Layer, Error> {
        match layer.check(&of.digest, &wish.diff_id) {
            Ok(()) => Ok(layer),
            Err(e) => {
                discard(self.state, self.context, wish.snapshotter, &layer.key);
                Err(e)
            }
        }
    }

    fn drop_layer(&self, unpacking: Option<&Unpacking<'_>>, layer: Option<Layer>) {
        if let (Some(wish), Some(layer)) = (unpacking, layer) {
            discard(self.state, self.context, wish.snapshotter, &layer.key);
        }
    }

    fn attempt(
        &self,
        writer: &mut Writer,
        of: &Descriptor,
        job: &Arc<Job>,
        unpacking: Option<&Unpacking<'_>>,
    ) -> Result<Attempt, Error> {
        let offset = writer.status().offset;
        let place = self.remote.place()?;
        let watch = Retries { progress: self.progress.clone(), job: Arc::clone(job) };
        let repository = self.remote.repository.clone().with_watch(Arc::new(watch));
        let mut blob = self.remote.wait(repository.blob(of, offset))?;
        if blob.start() != offset {
            // A server that knows no ranges.
            writer.truncate()?;
        }
        let tail = Tail::new();
        tail.advance(writer.status().offset);
        let reading = |e| Error::io(format!("reading the ingest of {}", of.digest))(e);
        let data = writer.data().map_err(reading)?;
        let (copied, layer) = std::thread::scope(|scope| {
            let unpacking = unpacking.map(|wish| {
                let from = Counted::new(tail.reader(data), job);
                scope.spawn(move || self.extract(of, from, wish))
            });
            let copied = self.copy(writer, &mut blob, &tail, job);
            match &copied {
                Ok(()) => tail.finish(),
                Err(e) => tail.abort(&e.to_string()),
            }
            drop(place);
            job.arrived();
            let synced = copied.and_then(|()| writer.sync());
            let layer = unpacking.map(|thread| joined(thread.join()));
            (synced, layer)
        });
        let verified = copied.map(|()| blob.verify(writer.digest()));
        match (verified, layer) {
            (Ok(Ok(())), None) => Ok(Attempt::Whole(None)),
            (Ok(Ok(())), Some(layer)) => {
                let wish = unpacking.map(|wish| self.checked(of, wish, layer?)).transpose();
                Ok(wish.map_or_else(Attempt::Wrong, Attempt::Whole))
            }
            (failed, layer) => {
                self.drop_layer(unpacking, layer.and_then(Result::ok));
                match failed {
                    Ok(wrong) => Ok(Attempt::Wrong(
                        wrong
                            .err()
                            .map_or_else(|| Error::Other(String::new()), |e| self.remote.failed(e)),
                    )),
                    Err(e) => Err(e),
                }
            }
        }
    }

    fn copy(
        &self,
        writer: &mut Writer,
        blob: &mut registry_client::Blob,
        tail: &Tail,
        job: &Arc<Job>,
    ) -> Result<(), Error> {
        let mut at = writer.status().offset;
        job.moved(at);
        while let Some(chunk) = self.remote.waiter.wait(blob.chunk())? {
            let chunk = chunk.map_err(|e| self.remote.failed(e))?;
            writer.write(&chunk)?;
            at += chunk.len() as u64;
            tail.advance(at);
            job.moved(at);
        }
        Ok(())
    }
}

/// Tells a job how far its unpacking came.
struct Counted<'a, R> {
    from: R,
    at: u64,
    job: &'a Job,
}

impl<'a, R> Counted<'a, R> {
    fn new(from: R, job: &'a Job) -> Self {
        Self { from, at: 0, job }
    }
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let n = self.from.read(buf)?;
        self.at += n as u64;
        self.job.unpacked(self.at);
        Ok(n)
    }
}
