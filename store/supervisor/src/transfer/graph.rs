//! Keeping what an archive brought: documents become blobs, and labels tell the collector what
//! refers to what.

use super::import::Contents;
use crate::labels::Labels;
use crate::{Context, Error, State};
use oci::image::{Manifest, Node};
use oci::{Descriptor, Platform};
use std::sync::Arc;

/// Deepest nesting of indexes.
const MAX_DEPTH: u32 = 8;
/// Largest index or manifest, in bytes.
const MAX_DOCUMENT: u64 = 8 << 20;

/// The document behind a descriptor in the store. Errors: it is not there.
pub(super) fn stored(state: &State, context: &Context, of: &Descriptor) -> Result<Node, Error> {
    Ok(Node::parse(&state.content_bytes(context, &of.digest, MAX_DOCUMENT)?))
}

/// Stores `root` and all that it refers to. `platforms` (none: all) choose among an index's
/// entries; entries that the archive does not hold are left out.
pub(super) fn keep(
    state: &Arc<State>,
    context: &Context,
    contents: &Contents,
    root: &Descriptor,
    platforms: &[Platform],
) -> Result<(), Error> {
    let keeper = Keeper { state, context, contents, platforms };
    keeper.node(root, 0)
}

struct Keeper<'a> {
    state: &'a Arc<State>,
    context: &'a Context,
    contents: &'a Contents,
    platforms: &'a [Platform],
}

impl Keeper<'_> {
    fn node(&self, of: &Descriptor, depth: u32) -> Result<(), Error> {
        check_depth(of, depth)?;
        let Some(bytes) = self.contents.documents.get(&of.digest) else { return self.blob(of) };
        let mut labels = Labels::new();
        match Node::parse(bytes) {
            Node::Index(index) => {
                for (n, child) in index.manifests.iter().enumerate() {
                    if self.wanted(child) && self.held(child) {
                        self.node(child, depth + 1)?;
                        labels.insert(reference(&format!("m.{n}")), child.digest.to_string());
                    }
                }
            }
            Node::Manifest(manifest) => {
                self.node(&manifest.config, depth + 1)?;
                labels.insert(reference("config"), manifest.config.digest.to_string());
                for (n, layer) in manifest.layers.iter().enumerate() {
                    self.node(layer, depth + 1)?;
                    labels.insert(reference(&format!("l.{n}")), layer.digest.to_string());
                }
            }
            Node::Leaf => {}
        }
        let algorithm = of.digest.algorithm();
        self.state.content_put_as(self.context, algorithm, bytes, labels)?;
        Ok(())
    }

    fn wanted(&self, child: &Descriptor) -> bool {
        let Some(platform) = &child.platform else { return true };
        self.platforms.is_empty() || self.platforms.iter().any(|p| p.rank(platform).is_some())
    }

    fn held(&self, child: &Descriptor) -> bool {
        self.contents.documents.contains_key(&child.digest)
            || self.state.content_info(self.context, &child.digest).is_ok()
    }

    /// A blob must have come with the archive, or be there already.
    fn blob(&self, of: &Descriptor) -> Result<(), Error> {
        match self.contents.blobs.get(&of.digest) {
            Some(blob) if blob.size == of.size => Ok(()),
            Some(blob) => Err(Error::InvalidArgument(format!(
                "blob {} has {} bytes, {} were announced",
                of.digest, blob.size, of.size
            ))),
            None => self.state.content_info(self.context, &of.digest).map(drop),
        }
    }
}

/// Refuses an index of indexes of indexes…
pub(super) fn check_depth(of: &Descriptor, depth: u32) -> Result<(), Error> {
    if depth > MAX_DEPTH {
        return Err(Error::InvalidArgument(format!("index {} is nested too deep", of.digest)));
    }
    Ok(())
}

/// All manifests below a descriptor that are in the store. Of an index only some platforms may be.
pub(super) fn manifests(
    state: &State,
    context: &Context,
    of: &Descriptor,
) -> Result<Vec<(Descriptor, Manifest)>, Error> {
    let mut found = Vec::new();
    collect(state, context, of, &mut found, 0)?;
    Ok(found)
}

fn collect(
    state: &State,
    context: &Context,
    of: &Descriptor,
    found: &mut Vec<(Descriptor, Manifest)>,
    depth: u32,
) -> Result<(), Error> {
    match stored(state, context, of) {
        Ok(Node::Manifest(manifest)) => found.push((of.clone(), *manifest)),
        Ok(Node::Index(index)) if depth < MAX_DEPTH => {
            for child in &index.manifests {
                collect(state, context, child, found, depth + 1)?;
            }
        }
        Ok(_) => {}
        Err(Error::NotFound(_)) if depth > 0 => {}
        Err(e) => return Err(e),
    }
    Ok(())
}

/// The label by which a document keeps what it refers to.
pub(super) fn reference(what: &str) -> String {
    format!("containerd.io/gc.ref.content.{what}")
}
