//! What a push consists of: the documents below an image's target and the blobs that they name.
//! Of an index of which only some platforms were pulled, the rest is sought where it came from;
//! where that fails, one manifest stands for the index.

use super::graph::{check_depth, manifests};
use super::progress::key_of;
use super::remote::Remote;
use super::{platform, source};
use crate::labels::Labels;
use crate::{Context, Error, State};
use bytes::Bytes;
use containerd_api::transfer_types::ImageStore;
use oci::image::{ImageConfig, Manifest, Node};
use oci::{Descriptor, Digest, Platform, media_type};
use registry_client::{MAX_CONFIG, MAX_MANIFEST, Which};
use std::collections::HashSet;
use std::sync::Arc;

/// A registry's host and a repository of it.
pub(super) type Source = (String, String);

/// A blob to push.
pub(super) struct Piece {
    pub(super) of: Descriptor,
    pub(super) parents: Vec<String>,
    /// Repositories that are known to hold it.
    pub(super) sources: Vec<Source>,
}

/// A manifest or index to push.
pub(super) struct Document {
    pub(super) of: Descriptor,
    pub(super) parents: Vec<String>,
    pub(super) bytes: Bytes,
}

/// All of an image.
#[derive(Default)]
pub(super) struct Tree {
    /// Children before those that name them; the root is the last.
    pub(super) documents: Vec<Document>,
    pub(super) blobs: Vec<Piece>,
    seen: HashSet<Digest>,
}

/// Collects what to push for `target`, and says what will be the root.
pub(super) fn gather(
    state: &Arc<State>,
    context: &Context,
    remote: &Remote,
    target: &Descriptor,
    from: &ImageStore,
) -> Result<(Descriptor, Tree), Error> {
    let gatherer = Gatherer { state, context, remote };
    let platforms: Vec<Platform> = from.platforms.iter().map(platform).collect();
    let root = match platforms.as_slice() {
        [] => target.clone(),
        [one] => gatherer.manifest_for(target, one, false)?,
        _ => return Err(Error::Unimplemented("pushing several platforms of an image".into())),
    };
    let mut tree = Tree::default();
    match gatherer.document(&root, &[], &[], &mut tree, 0) {
        Ok(()) => return Ok((root, tree)),
        Err(Error::NotFound(_) | Error::Registry { .. })
            if media_type::is_index(&root.media_type) => {}
        Err(e) => return Err(e),
    }
    let chosen = gatherer.manifest_for(&root, &Platform::host(), true)?;
    let mut tree = Tree::default();
    gatherer.document(&chosen, &[], &[], &mut tree, 0)?;
    Ok((chosen, tree))
}

struct Gatherer<'a> {
    state: &'a Arc<State>,
    context: &'a Context,
    remote: &'a Remote,
}

impl Gatherer<'_> {
    /// Adds a document with everything below it.
    fn document(
        &self,
        of: &Descriptor,
        parents: &[String],
        around: &[Source],
        tree: &mut Tree,
        depth: u32,
    ) -> Result<(), Error> {
        check_depth(of, depth)?;
        if !tree.seen.insert(of.digest) {
            return Ok(());
        }
        let sources = self.sources(&of.digest, around);
        let bytes = self.bytes(of, &sources)?;
        let below = [key_of(of)];
        match Node::parse(&bytes) {
            Node::Index(index) => {
                for child in &index.manifests {
                    self.document(child, &below, &sources, tree, depth + 1)?;
                }
            }
            Node::Manifest(manifest) => {
                for blob in manifest.layers.iter().chain([&manifest.config]) {
                    self.blob(blob, &below, &sources, tree)?;
                }
            }
            Node::Leaf => {}
        }
        let (of, parents) = (of.clone(), parents.to_vec());
        tree.documents.push(Document { of, parents, bytes });
        Ok(())
    }

    fn blob(
        &self,
        of: &Descriptor,
        parents: &[String],
        around: &[Source],
        tree: &mut Tree,
    ) -> Result<(), Error> {
        if !tree.seen.insert(of.digest) {
            return Ok(());
        }
        let mut sources = self.sources(&of.digest, around);
        if let Err(missing) = self.state.content_info(self.context, &of.digest) {
            sources = self.holders(of, sources)?;
            if sources.is_empty() {
                return Err(missing);
            }
        }
        tree.blobs.push(Piece { of: of.clone(), parents: parents.to_vec(), sources });
        Ok(())
    }

    /// Where a blob is known to be; one that is not here is where its referrer came from.
    fn sources(&self, digest: &Digest, around: &[Source]) -> Vec<Source> {
        match self.state.content_info(self.context, digest) {
            Ok(info) => source::all(&info.labels),
            Err(_) => around.to_vec(),
        }
    }

    /// Those of `sources` that have a blob indeed.
    fn holders(&self, of: &Descriptor, sources: Vec<Source>) -> Result<Vec<Source>, Error> {
        let mut holders = Vec::new();
        for (host, path) in sources {
            let Some(from) = self.remote.elsewhere(&host, &path) else { continue };
            match self.remote.wait(from.blob_size(&of.digest)) {
                Ok(Some(_)) => holders.push((host, path)),
                Ok(None) => {}
                Err(cancelled @ Error::Cancelled(_)) => return Err(cancelled),
                Err(e) => tracing::debug!("{} at {host}/{path}: {e}", of.digest),
            }
        }
        Ok(holders)
    }

    fn bytes(&self, of: &Descriptor, sources: &[Source]) -> Result<Bytes, Error> {
        match self.state.content_bytes(self.context, &of.digest, MAX_MANIFEST) {
            Err(missing @ Error::NotFound(_)) => {
                for (domain, path) in sources {
                    let Some(from) = self.remote.elsewhere(domain, path) else { continue };
                    let fetched = self.remote.wait(from.manifest(&Which::Digest(of.digest)));
                    match fetched {
                        Ok(raw) => return self.keep(raw.bytes),
                        Err(cancelled @ Error::Cancelled(_)) => return Err(cancelled),
                        Err(e) => tracing::debug!("{} from {domain}/{path}: {e}", of.digest),
                    }
                }
                Err(missing)
            }
            found => found.map(Into::into),
        }
    }

    /// What was fetched for a push stays for as long as the push's lease.
    fn keep(&self, bytes: Bytes) -> Result<Bytes, Error> {
        self.state.content_put(self.context, &bytes, Labels::new())?;
        Ok(bytes)
    }

    /// The manifest of `root` that suits `platform` best, of those of which everything is here
    /// where `complete`; any platform's before none.
    fn manifest_for(
        &self,
        root: &Descriptor,
        platform: &Platform,
        complete: bool,
    ) -> Result<Descriptor, Error> {
        let mut ranked: Vec<(usize, Descriptor)> = Vec::new();
        for (of, manifest) in manifests(self.state, self.context, root)? {
            let Some((has, whole)) = self.look(&manifest) else { continue };
            let rank = platform.rank(&has).or(complete.then_some(usize::MAX));
            if let Some(rank) = rank.filter(|_| whole || !complete) {
                ranked.push((rank, of));
            }
        }
        ranked.sort_by_key(|(rank, _)| *rank);
        let best = ranked.into_iter().next().map(|(_, manifest)| manifest);
        best.ok_or_else(|| Error::NotFound(format!("no manifest of {} to push", root.digest)))
    }

    /// The platform of an image's manifest, and whether all of it is here; `None` for artifacts.
    fn look(&self, manifest: &Manifest) -> Option<(Platform, bool)> {
        let config = &manifest.config.digest;
        let bytes = self.state.content_bytes(self.context, config, MAX_CONFIG).ok()?;
        let config: ImageConfig = serde_json::from_slice(&bytes).ok()?;
        if config.os.is_empty() {
            return None;
        }
        let here =
            |layer: &Descriptor| self.state.content_info(self.context, &layer.digest).is_ok();
        Some((config.platform(), manifest.layers.iter().all(here)))
    }
}
