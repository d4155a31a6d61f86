//! Pulling: documents first, then layers side by side, committed bottom up as soon as all below
//! are there; the image is recorded last, once everything it needs is durable.

use super::fetch::{Fetcher, Unpacking};
use super::flights::Claim;
use super::graph::{check_depth, reference};
use super::layers::{Layer, discard, in_flight};
use super::progress::{Job, Moving, Progress, key_of};
use super::remote::Remote;
use super::unpack::{Plan, Planned, Step};
use super::{names, platform, source, unpack};
use crate::images::Image;
use crate::labels::Labels;
use crate::leases::Guard;
use crate::snapshots::Snapshotter;
use crate::{Context, Error, State};
use containerd_api::transfer_types::ImageStore;
use oci::image::{ChainId, Index, Node};
use oci::{Descriptor, Digest, Platform};
use registry_client::{MAX_CONFIG, MAX_MANIFEST, Which};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, mpsc};

/// Pulls the image of `remote` into the store, and unpacks it where `store` asks for that. Answers
/// when all of it is durable; returns what the image is.
pub(super) fn pull(
    state: &Arc<State>,
    context: &Context,
    remote: &Remote,
    store: &ImageStore,
    progress: &Progress,
) -> Result<Descriptor, Error> {
    let guard = Guard::unless_leased(state, context)?;
    let context = guard.as_ref().map_or(context, Guard::context);
    progress.tell(&format!("Resolving from {}", remote.title()), "", None);
    let target = remote.resolve()?;
    progress.tell(&format!("Pulling from {}", remote.title()), "", None);
    progress.tell("fetching image content", &remote.text, Some(&target));
    let pull = Pull { fetcher: Fetcher { state, context, remote, progress }, store };
    let mut blobs = Blobs::default();
    let root = [remote.text.clone()];
    pull.document(&target, &root, true, &mut blobs, 0)?;
    if blobs.images == 0 && !store.platforms.is_empty() {
        return Err(Error::NotFound("no match for platform in manifest".into()));
    }
    let mut plans = Vec::new();
    for wish in &store.unpacks {
        let snapshotter = Snapshotter::named(&wish.snapshotter)?.name();
        let platform = wish.platform.as_ref().map_or_else(Platform::host, platform);
        plans.extend(unpack::plan(state, context, &target, &platform, snapshotter)?);
    }
    pull.layers(&blobs, &plans)?;
    let mut wanted = names::given(store, &target);
    wanted.extend(names::imported(store, &target));
    for name in wanted {
        let mut record = Image::new(target.clone());
        record.labels = store.labels.clone().into_iter().collect();
        state.put_image(context, &name, record)?;
        progress.tell("saved", &name, Some(&target));
    }
    progress.tell(&format!("Completed pull from {}", remote.title()), "", Some(&target));
    Ok(target)
}

/// Blobs to fetch, each once, in the order in which they were met.
#[derive(Default)]
struct Blobs {
    order: Vec<(Descriptor, Arc<Job>)>,
    seen: HashSet<Digest>,
    /// How many image manifests were met that are wanted whole.
    images: usize,
}

struct Pull<'a> {
    fetcher: Fetcher<'a>,
    store: &'a ImageStore,
}

impl Pull<'_> {
    /// Fetches a manifest or index and what it refers to, but for layers, which are noted. Where
    /// not `whole`, only metadata is wanted.
    fn document(
        &self,
        of: &Descriptor,
        parents: &[String],
        whole: bool,
        blobs: &mut Blobs,
        depth: u32,
    ) -> Result<(), Error> {
        check_depth(of, depth)?;
        let Fetcher { progress, .. } = &self.fetcher;
        let job = progress.job(of, parents, Moving::Down);
        let (bytes, known) = self.fetch_manifest(of)?;
        let below = [key_of(of)];
        let mut labels = Labels::new();
        match Node::parse(&bytes) {
            Node::Index(index) => {
                for (n, child) in index.manifests.iter().enumerate() {
                    labels.insert(reference(&format!("m.{n}")), child.digest.to_string());
                }
                self.keep(of, &bytes, labels)?;
                progress.done(&job, word(known));
                for (child, wanted) in self.children(&index) {
                    self.document(child, &below, whole && wanted, blobs, depth + 1)?;
                }
            }
            Node::Manifest(manifest) => {
                labels.insert(reference("config"), manifest.config.digest.to_string());
                for (n, layer) in manifest.layers.iter().enumerate() {
                    labels.insert(reference(&format!("l.{n}")), layer.digest.to_string());
                }
                self.keep(of, &bytes, labels)?;
                progress.done(&job, word(known));
                self.config(&manifest.config, &below)?;
                blobs.images += usize::from(whole);
                for layer in manifest.layers.iter().filter(|_| whole) {
                    if blobs.seen.insert(layer.digest) {
                        let job = progress.job(layer, &below, Moving::Down);
                        blobs.order.push((layer.clone(), job));
                    }
                }
            }
            Node::Leaf => {
                self.keep(of, &bytes, labels)?;
                progress.done(&job, word(known));
            }
        }
        Ok(())
    }

    /// The bytes, and whether the store had them.
    fn fetch_manifest(&self, of: &Descriptor) -> Result<(Vec<u8>, bool), Error> {
        let Fetcher { state, context, remote, .. } = self.fetcher;
        if let Ok(bytes) = state.content_bytes(context, &of.digest, MAX_MANIFEST) {
            return Ok((bytes, true));
        }
        let raw = remote.wait(remote.repository.manifest(&Which::Digest(of.digest)))?;
        if of.size > 0 && raw.bytes.len() as u64 != of.size {
            return Err(Error::InvalidArgument(format!(
                "manifest {} has {} bytes, {} were announced",
                of.digest,
                raw.bytes.len(),
                of.size
            )));
        }
        Ok((raw.bytes.into(), false))
    }

    /// Stores a document, with the labels that keep what it refers to.
    fn keep(&self, of: &Descriptor, bytes: &[u8], mut labels: Labels) -> Result<(), Error> {
        let Fetcher { state, context, remote, .. } = self.fetcher;
        let known = state.content_info(context, &of.digest).map(|info| info.labels).ok();
        labels.extend(source::label(&remote.reference, known.as_ref()));
        state.content_put_as(context, of.digest.algorithm(), bytes, labels).map(drop)
    }

    fn config(&self, of: &Descriptor, parents: &[String]) -> Result<(), Error> {
        let Fetcher { progress, remote, .. } = &self.fetcher;
        let job = progress.job(of, parents, Moving::Down);
        if self.fetcher.keep(&of.digest)? {
            progress.done(&job, "already exists");
            return Ok(());
        }
        let bytes = remote.wait(remote.repository.blob_bytes(of, MAX_CONFIG))?;
        self.keep(of, &bytes, Labels::new())?;
        progress.done(&job, "complete");
        Ok(())
    }

    /// The entries of an index that are fetched, and whether they are wanted whole: for each
    /// platform asked for the best there is; those without platform always.
    fn children<'i>(&self, index: &'i Index) -> Vec<(&'i Descriptor, bool)> {
        let wanted: Vec<Platform> = self.store.platforms.iter().map(platform).collect();
        let limit = match self.store.manifest_limit as usize {
            0 => usize::MAX,
            limit => limit,
        };
        if wanted.is_empty() {
            return index.manifests.iter().take(limit).map(|child| (child, true)).collect();
        }
        let rank = |child: &Descriptor, of: &Platform| of.rank(child.platform.as_ref()?);
        let mut chosen = HashSet::new();
        for of in &wanted {
            let best = index.manifests.iter().filter_map(|child| rank(child, of)).min();
            let fits = |child: &&Descriptor| best.is_some() && rank(child, of) == best;
            chosen
                .extend(index.manifests.iter().filter(fits).map(|child| child.digest).take(limit));
        }
        let wanted =
            |child: &Descriptor| child.platform.is_none() || chosen.contains(&child.digest);
        let children = index.manifests.iter().map(|child| (child, wanted(child)));
        children.filter(|(_, wanted)| *wanted || self.store.all_metadata).collect()
    }

    /// Fetches all blobs, side by side, and unpacks those that the plans name.
    fn layers(&self, blobs: &Blobs, plans: &[Plan]) -> Result<(), Error> {
        let ahead = plans.iter().find(|plan| unpack::streams(&plan.snapshotter));
        let mut claims = self.claims(ahead)?;
        let work = Work { fetcher: &self.fetcher, blobs, ahead: ahead_of(ahead, &claims) };
        let waiter = self.fetcher.remote.waiter.child();
        let remote = self.fetcher.remote.with_waiter(waiter.clone());
        let fetcher = Fetcher { remote: &remote, ..self.fetcher };
        let work = Work { fetcher: &fetcher, ..work };
        let next = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            let (done, results) = mpsc::channel();
            // A layer that has arrived needs no place any more, only somebody who unpacks it.
            let workers = in_flight().max(remote.at_once().unwrap_or(0));
            for _ in 0..workers.min(blobs.order.len()) {
                let (done, work, next) = (done.clone(), &work, &next);
                let worker = move || work.run(next, &done);
                std::thread::Builder::new()
                    .name("layer".into())
                    .spawn_scoped(scope, worker)
                    .map_err(Error::io("starting a thread"))
                    .inspect_err(|_| waiter.cancel())?;
            }
            drop(done);
            let mut arrived = Arrived { results, ready: HashMap::new(), done: HashSet::new() };
            let joined = self.join(&mut arrived, plans, &mut claims);
            if joined.is_err() {
                waiter.cancel();
            }
            // Whatever the others still bring after a failure is of no use.
            let rest = arrived.all();
            if let Some(plan) = ahead {
                let Fetcher { state, context, .. } = self.fetcher;
                unpack::drop_rest(state, context, &plan.snapshotter, arrived.ready);
            }
            joined.and(rest)
        })
    }

    /// Claims the layers that are not there and that nobody else is unpacking.
    fn claims(&self, ahead: Option<&Plan>) -> Result<HashMap<ChainId, Claim>, Error> {
        let Some(plan) = ahead else { return Ok(HashMap::new()) };
        let step = self.step(&plan.snapshotter);
        let mut claims = HashMap::new();
        for layer in &plan.layers {
            if let Some(claim) = step.try_claim(layer)
                && !step.is_done(layer)?
            {
                claims.insert(layer.chain, claim);
            }
        }
        Ok(claims)
    }

    fn step<'s>(&'s self, snapshotter: &'s str) -> Step<'s> {
        Step { state: self.fetcher.state, context: self.fetcher.context, snapshotter }
    }

    /// Commits layers bottom up as they arrive.
    fn join(
        &self,
        arrived: &mut Arrived,
        plans: &[Plan],
        claims: &mut HashMap<ChainId, Claim>,
    ) -> Result<(), Error> {
        for plan in plans {
            let step = self.step(&plan.snapshotter);
            for layer in &plan.layers {
                arrived.wait_for(&layer.blob.digest)?;
                let mut none = HashMap::new();
                let ready =
                    if unpack::streams(&plan.snapshotter) { &mut arrived.ready } else { &mut none };
                let claim = claims.remove(&layer.chain);
                step.layer_claimed(layer, claim, &self.fetcher.remote.waiter, ready)?;
            }
            unpack::finish(self.fetcher.state, self.fetcher.context, plan)?;
        }
        Ok(())
    }
}

/// The layers to unpack on their way, by blob: those of which this transfer has the claim.
fn ahead_of<'p>(
    plan: Option<&'p Plan>,
    claims: &HashMap<ChainId, Claim>,
) -> HashMap<Digest, (&'p str, &'p Planned)> {
    let mut ahead = HashMap::new();
    if let Some(plan) = plan {
        for layer in plan.layers.iter().filter(|layer| claims.contains_key(&layer.chain)) {
            ahead.entry(layer.blob.digest).or_insert((plan.snapshotter.as_str(), layer));
        }
    }
    ahead
}

fn word(known: bool) -> &'static str {
    if known { "already exists" } else { "complete" }
}

/// A result of a worker: the blob, and the layer that it became.
type Done = (Digest, Result<Option<Layer>, Error>);

/// What the workers have to do.
struct Work<'a> {
    fetcher: &'a Fetcher<'a>,
    blobs: &'a Blobs,
    ahead: HashMap<Digest, (&'a str, &'a Planned)>,
}

impl Work<'_> {
    /// Fetches blob after blob until none is left or one fails.
    fn run(&self, next: &std::sync::atomic::AtomicUsize, done: &mpsc::Sender<Done>) {
        loop {
            let at = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let Some((blob, job)) = self.blobs.order.get(at) else { return };
            let ahead = self.ahead.get(&blob.digest);
            let unpacking =
                ahead.map(|(snapshotter, layer)| Unpacking { snapshotter, diff_id: layer.diff_id });
            let fetched = self.fetcher.blob(blob, job, unpacking.as_ref());
            let failed = fetched.is_err();
            if let Err(mpsc::SendError((_, Ok(Some(layer))))) = done.send((blob.digest, fetched))
                && let Some((snapshotter, _)) = ahead
            {
                let Fetcher { state, context, .. } = self.fetcher;
                discard(state, context, snapshotter, &layer.key);
            }
            if failed {
                return;
            }
        }
    }
}

/// What has come so far.
struct Arrived {
    results: mpsc::Receiver<Done>,
    ready: HashMap<Digest, Layer>,
    done: HashSet<Digest>,
}

impl Arrived {
    fn take(&mut self, (digest, result): Done) -> Result<(), Error> {
        if let Some(layer) = result? {
            self.ready.insert(digest, layer);
        }
        self.done.insert(digest);
        Ok(())
    }

    fn wait_for(&mut self, digest: &Digest) -> Result<(), Error> {
        while !self.done.contains(digest) {
            let Ok(next) = self.results.recv() else {
                return Err(Error::Other(format!("blob {digest} was not fetched")));
            };
            self.take(next)?;
        }
        Ok(())
    }

    /// Waits for all workers; the first error counts.
    fn all(&mut self) -> Result<(), Error> {
        let mut first = Ok(());
        while let Ok(next) = self.results.recv() {
            first = first.and(self.take(next));
        }
        first
    }
}
