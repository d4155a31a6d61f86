//! Pushing: blobs first, side by side, each by the cheapest way (there already, mounted from
//! another repository, sent, where it is wanted compressed while it is made); then manifests,
//! children before their index.

use super::compress::{self, Form, Growing, Packer, Ratio, Unmade, is_plain};
use super::gather::{Piece, Source, Tree, gather};
use super::joined;
use super::progress::{Job, Moving, Progress, Retries};
use super::remote::Remote;
use super::source;
use crate::labels::Labels;
use crate::leases::{Guard, Resource};
use crate::{Context, Error, State};
use containerd_api::transfer_types::ImageStore;
use futures_util::StreamExt as _;
use oci::media_type::is_foreign_layer;
use oci::{Descriptor, Reference};
use registry_client::{
    BlobSource, Chunks, FileBlob, Files, PushOptions, Pushed, Relay, Repository, Upload, Which,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Blobs that are sent at once unless the client says it; as many as docker sends.
const UPLOADS: usize = 5;

/// Pushes the image that `from` names to `remote`. Returns what the registry has under the
/// reference then: the image's target, or one manifest of it where the rest can't be had.
pub(super) fn push(
    state: &Arc<State>,
    context: &Context,
    remote: &Remote,
    from: &ImageStore,
    progress: &Progress,
) -> Result<Descriptor, Error> {
    let image = state.image(context, &from.name)?;
    // The image may be removed meanwhile, what is pushed may not.
    let guard = Guard::unless_leased(state, context)?;
    let context = guard.as_ref().map_or(context, Guard::context);
    if let Some(lease) = &context.lease {
        let root = Resource::new("content", image.target.digest.to_string());
        state.lease_add(context, lease, root)?;
    }
    progress.tell(&format!("Pushing to {}", remote.title()), "", None);
    progress.tell("pushing content", &from.name, Some(&image.target));
    let (mut root, mut tree) = gather(state, context, remote, &image.target, from)?;
    if root.digest != image.target.digest {
        let what = "not all of the index is here: pushing one manifest";
        progress.tell(what, &from.name, Some(&root));
    }
    let form = from.labels.get(containerd_api::PUSH_COMPRESSION_LABEL);
    let form = form.map(|text| compress::wanted(text)).transpose()?;
    let packer = form.map(|form| Packer::new(state, context, &remote.waiter, form));
    if packer.is_some() {
        // The largest takes longest to compress and then to send.
        tree.blobs.sort_by_key(|piece| (!is_plain(&piece.of), std::cmp::Reverse(piece.of.size)));
    }
    let with_foreign =
        from.labels.get(containerd_api::PUSH_FOREIGN_LABEL).is_some_and(|said| said == "true");
    let push = Push { state, context, remote, progress, packer: packer.as_ref(), with_foreign };
    let jobs = push.announce(&tree, &from.name);
    push.blobs(&tree, &jobs.blobs)?;
    if let Some(packer) = &packer {
        packer.documents(&mut tree)?;
        root = tree.documents.last().map_or(root, |last| last.of.clone());
    }
    push.documents(&tree, &jobs.documents)?;
    progress.tell("pushed content", &from.name, Some(&root));
    progress.tell(&format!("Completed push to {}", remote.title()), "", Some(&root));
    Ok(root)
}

struct Push<'a> {
    state: &'a Arc<State>,
    context: &'a Context,
    remote: &'a Remote,
    progress: &'a Progress,
    packer: Option<&'a Packer<'a>>,
    /// Foreign layers are sent, too, if they are here.
    with_foreign: bool,
}

struct Jobs {
    blobs: Vec<Arc<Job>>,
    documents: Vec<Arc<Job>>,
}

impl Push<'_> {
    fn announce(&self, tree: &Tree, root: &str) -> Jobs {
        let parents = |given: &[String]| match given {
            [] => vec![root.to_owned()],
            given => given.to_vec(),
        };
        let job =
            |of: &Descriptor, given: &[String]| self.progress.job(of, &parents(given), Moving::Up);
        let documents = tree.documents.iter().map(|d| job(&d.of, &d.parents));
        let documents = documents.collect();
        let blobs = tree.blobs.iter().map(|b| job(&b.of, &b.parents)).collect();
        Jobs { blobs, documents }
    }

    fn blobs(&self, tree: &Tree, jobs: &[Arc<Job>]) -> Result<(), Error> {
        let waiter = self.remote.waiter.child();
        let remote = self.remote.with_waiter(waiter.clone());
        let push = Push { remote: &remote, ..*self };
        let next = AtomicUsize::new(0);
        let work = || -> Result<(), Error> {
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let (Some(piece), Some(job)) = (tree.blobs.get(at), jobs.get(at)) else {
                    return Ok(());
                };
                push.blob(piece, job).inspect_err(|_| waiter.cancel())?;
            }
        };
        std::thread::scope(|scope| {
            let workers = self.remote.at_once().unwrap_or(UPLOADS);
            let workers = (0..workers.min(tree.blobs.len())).map(|_| scope.spawn(work));
            let workers: Vec<_> = workers.collect();
            let results = workers.into_iter().map(|worker| joined(worker.join()));
            // The one that failed first made the others give up.
            let failures: Vec<Error> = results.filter_map(Result::err).collect();
            let given_up = |e: &Error| matches!(e, Error::Cancelled(_));
            let cause = failures.iter().position(|e| !given_up(e)).unwrap_or(0);
            failures.into_iter().nth(cause).map_or(Ok(()), Err)
        })
    }

    fn blob(&self, piece: &Piece, job: &Arc<Job>) -> Result<(), Error> {
        let of = &piece.of;
        let is_here = self.state.content_info(self.context, &of.digest).is_ok();
        let is_foreign = is_foreign_layer(&of.media_type) && !of.urls.is_empty();
        if is_foreign && !(self.with_foreign && is_here) {
            // Its publisher forbids it; whoever pulls gets it from there.
            self.progress.done(job, "skipped");
            return Ok(());
        }
        // What is only sent on from another registry goes as it is.
        let Some(packer) = self.packer.filter(|_| is_plain(of) && is_here) else {
            return self.send_stored(of, &piece.sources, of.size, job);
        };
        match packer.layer(of)? {
            Form::Stored { of: packed, sources } => {
                self.send_stored(&packed, &sources, of.size, job)
            }
            Form::Unmade(unmade) => self.send_fresh(packer, unmade, job),
        }
    }

    /// Compresses a layer, and has the registry hold what it becomes, which is sent meanwhile.
    fn send_fresh(&self, packer: &Packer<'_>, unmade: Unmade, job: &Arc<Job>) -> Result<(), Error> {
        let _place = self.remote.place()?;
        // Before its turn has come: the registry's disk may take a while to begin it.
        let upload = self.remote.wait(self.watched(job).begin_upload())?;
        let (making, growing) = match packer.begin(unmade) {
            Ok(begun) => begun,
            Err(e) => {
                self.remote.waiter.wait(upload.cancel())?;
                return Err(e);
            }
        };
        let waiter = self.remote.waiter.child();
        let (made, sent) = std::thread::scope(|scope| {
            // What can't be sent need not be made.
            let send = || self.send_growing(upload, growing, job).inspect_err(|_| waiter.cancel());
            let sending = scope.spawn(send);
            let made = making.finish(&waiter);
            (made, joined(sending.join()))
        });
        match (made, sent) {
            // One of them made the other give up.
            (Err(Error::Cancelled(_)), Err(cause)) => Err(cause),
            (made, sent) => {
                let of = made?;
                sent?;
                self.remember(&of)
            }
        }
    }

    fn send_growing(&self, upload: Upload, growing: Growing, job: &Arc<Job>) -> Result<(), Error> {
        let Growing { source, ratio, made } = growing;
        let source = Arc::new(Counted { inner: source, job: Arc::clone(job), ratio });
        let pushed = self.remote.wait(upload.push_growing(source, async { made.await.ok() }))?;
        // Why there is nothing to push, whoever makes it says.
        if let Some(pushed) = pushed {
            self.done(job, pushed);
        }
        Ok(())
    }

    /// Has the registry hold a blob that is there, the form of a layer of `whole` bytes.
    fn send_stored(
        &self,
        of: &Descriptor,
        sources: &[Source],
        whole: u64,
        job: &Arc<Job>,
    ) -> Result<(), Error> {
        let _place = self.remote.place()?;
        let own = self.remote.reference.path();
        let from = sources.iter().filter(|(host, path)| self.remote.is_here(host) && path != own);
        let options = PushOptions {
            mount_from: from.map(|(_, p)| p.clone()).collect(),
            ..PushOptions::default()
        };
        let inner = self.source(of, sources)?;
        let ratio = Arc::new(Ratio::new(whole, of.size));
        let source = Arc::new(Counted { inner, job: Arc::clone(job), ratio });
        let pushed = self.remote.wait(self.watched(job).push_blob(of, source, &options))?;
        self.done(job, pushed);
        self.remember(of)
    }

    /// The repository, telling a job's client when something is tried again.
    fn watched(&self, job: &Arc<Job>) -> Repository {
        let watch = Retries { progress: self.progress.clone(), job: Arc::clone(job) };
        self.remote.repository.clone().with_watch(Arc::new(watch))
    }

    fn done(&self, job: &Job, pushed: Pushed) {
        match pushed {
            Pushed::Existed => self.progress.done(job, "already exists"),
            Pushed::Mounted(from) => {
                let key = source::key(&self.remote.reference);
                self.progress.done_by(job, "already exists", (key, from));
            }
            Pushed::Uploaded => self.progress.done(job, "complete"),
        }
    }

    /// Where a blob's bytes come from: the store, else the registry that it was pulled from.
    fn source(&self, of: &Descriptor, sources: &[Source]) -> Result<Arc<dyn BlobSource>, Error> {
        match self.state.content_open(self.context, &of.digest) {
            Ok((file, _)) => Ok(Arc::new(FileBlob::new(file))),
            Err(missing @ Error::NotFound(_)) => {
                let from = sources.iter().find_map(|(d, p)| self.remote.elsewhere(d, p));
                let from = from.ok_or(missing)?;
                Ok(Arc::new(Relay::new(from, of.clone())))
            }
            Err(e) => Err(e),
        }
    }

    /// The repository holds a blob from now on.
    fn remember(&self, of: &Descriptor) -> Result<(), Error> {
        let Ok(info) = self.state.content_info(self.context, &of.digest) else { return Ok(()) };
        if let Some((key, value)) = source::label(&self.remote.reference, Some(&info.labels)) {
            let paths = [format!("labels.{key}")];
            let labels = Labels::from([(key, value)]);
            self.state.content_update(self.context, &of.digest, &labels, &paths)?;
        }
        Ok(())
    }

    fn documents(&self, tree: &Tree, jobs: &[Arc<Job>]) -> Result<(), Error> {
        let last = tree.documents.len().saturating_sub(1);
        for (n, (document, job)) in tree.documents.iter().zip(jobs).enumerate() {
            let which = match self.remote.reference.tag() {
                Some(tag) if n == last => Which::Tag(tag.into()),
                None if n == last => root_of(&self.remote.reference, &document.of)?,
                _ => Which::Digest(document.of.digest),
            };
            let (media, bytes) = (&document.of.media_type, document.bytes.clone());
            self.remote.wait(self.remote.repository.push_manifest(&which, media, bytes))?;
            self.progress.done(job, "complete");
            self.remember(&document.of)?;
        }
        Ok(())
    }
}

/// A reference without tag means `latest`, one with a digest that very thing.
fn root_of(reference: &Reference, root: &Descriptor) -> Result<Which, Error> {
    match reference.digest() {
        None => Ok(Which::Tag("latest".into())),
        Some(digest) if digest == root.digest => Ok(Which::Digest(digest)),
        Some(digest) => Err(Error::InvalidArgument(format!(
            "{reference} can't be pushed: the image is {}, not {digest}",
            root.digest
        ))),
    }
}

/// Tells a job how much of a blob was sent.
struct Counted {
    inner: Arc<dyn BlobSource>,
    job: Arc<Job>,
    ratio: Arc<Ratio>,
}

impl BlobSource for Counted {
    fn read(&self, offset: u64, length: u64, files: Option<Files>) -> Chunks {
        let (job, ratio) = (Arc::clone(&self.job), Arc::clone(&self.ratio));
        let mut at = offset;
        Box::pin(self.inner.read(offset, length, files).map(move |chunk| {
            if let Ok(chunk) = &chunk {
                at += chunk.len() as u64;
                job.moved(ratio.of(at));
            }
            chunk
        }))
    }
}
