//! From an image to snapshots: layers that were unpacked ahead are settled against those below
//! and committed under their chain ids, bottom up; missing ones are unpacked from their blobs now.

use super::graph::Node;
use super::layers::{Layer, discard, extract_alone};
use crate::diff::UNCOMPRESSED;
use crate::labels::Labels;
use crate::snapshots::{Kind, Place, Snapshotter};
use crate::{Context, Error, State};
use oci::image::{ChainId, ImageConfig, Manifest};
use oci::{Algorithm, Descriptor, Digest, Platform};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Largest image config, in bytes.
const MAX_CONFIG: u64 = 8 << 20;

/// Unpacks the manifest of `image` that suits `platform` best for `snapshotter`; returns the
/// topmost chain id, or `None` when the image has nothing for that platform.
pub(super) fn unpack(
    state: &Arc<State>,
    context: &Context,
    image: &Descriptor,
    platform: &Platform,
    snapshotter: &str,
    ready: &mut HashMap<Digest, Layer>,
) -> Result<Option<ChainId>, Error> {
    let mut found = Vec::new();
    manifests(state, context, image, &mut found, 0)?;
    let mut ranked: Vec<(usize, Manifest, ImageConfig)> = Vec::new();
    for manifest in found {
        let bytes = state.content_bytes(context, &manifest.config.digest, MAX_CONFIG)?;
        // Artifacts have no image config and nothing to unpack.
        let Ok(config) = serde_json::from_slice::<ImageConfig>(&bytes) else { continue };
        if let Some(rank) = platform.rank(&config.platform()) {
            ranked.push((rank, manifest, config));
        }
    }
    ranked.sort_by_key(|(rank, ..)| *rank);
    let Some((_, manifest, config)) = ranked.into_iter().next() else { return Ok(None) };
    let layers = &manifest.layers;
    let diff_ids = &config.rootfs.diff_ids;
    if layers.len() != diff_ids.len() {
        let what = format!("mismatched image rootfs and manifest layers of {}", image.digest);
        return Err(Error::InvalidArgument(what));
    }
    let chain = ChainId::all(diff_ids);
    for (n, layer) in layers.iter().enumerate() {
        let below = n.checked_sub(1).map(|n| chain[n]);
        let step = Step { state, context, snapshotter, chain: chain[n], below };
        step.layer(layer, diff_ids[n], ready)?;
    }
    let Some(top) = chain.last().copied() else { return Ok(None) };
    let key = format!("containerd.io/gc.ref.snapshot.{snapshotter}");
    label(state, context, &manifest.config.digest, key, top.0.to_string())?;
    Ok(Some(top))
}

/// All manifests below a descriptor that are in the store.
fn manifests(
    state: &State,
    context: &Context,
    of: &Descriptor,
    found: &mut Vec<Manifest>,
    depth: u32,
) -> Result<(), Error> {
    match Node::stored(state, context, of) {
        Ok(Node::Manifest(manifest)) => found.push(*manifest),
        Ok(Node::Index(index)) if depth < 8 => {
            for child in &index.manifests {
                manifests(state, context, child, found, depth + 1)?;
            }
        }
        Ok(_) => {}
        // An index of which only some platforms are here.
        Err(Error::NotFound(_)) if depth > 0 => {}
        Err(e) => return Err(e),
    }
    Ok(())
}

fn label(
    state: &State,
    context: &Context,
    digest: &Digest,
    key: String,
    value: String,
) -> Result<(), Error> {
    let path = format!("labels.{key}");
    state.content_update(context, digest, &Labels::from([(key, value)]), &[path]).map(drop)
}

struct Step<'a> {
    state: &'a Arc<State>,
    context: &'a Context,
    snapshotter: &'a str,
    chain: ChainId,
    below: Option<ChainId>,
}

impl Step<'_> {
    fn layer(
        &self,
        blob: &Descriptor,
        diff_id: Digest,
        ready: &mut HashMap<Digest, Layer>,
    ) -> Result<(), Error> {
        let Self { state, context, snapshotter, .. } = *self;
        let name = self.chain.0.to_string();
        if state.snapshot(&self.place()?, &name).is_ok() {
            if let Some(layer) = ready.remove(&blob.digest) {
                discard(state, context, snapshotter, &layer.key);
            }
            return Ok(());
        }
        let committed = if streams(snapshotter) {
            let layer = match ready.remove(&blob.digest) {
                Some(layer) if layer.is_hashed_like(&diff_id) => layer,
                unfit => {
                    if let Some(layer) = unfit {
                        discard(state, context, snapshotter, &layer.key);
                    }
                    self.extract(blob, diff_id.algorithm())?
                }
            };
            let settled = self.settle(&layer, diff_id, &name);
            settled.inspect_err(|_| discard(state, context, snapshotter, &layer.key))
        } else {
            self.in_order(blob, diff_id, &name)
        };
        match committed {
            Err(Error::AlreadyExists(_)) => {}
            other => other?,
        }
        if blob.digest != diff_id {
            label(state, context, &blob.digest, UNCOMPRESSED.into(), diff_id.to_string())?;
        }
        Ok(())
    }

    fn extract(&self, blob: &Descriptor, digest: Algorithm) -> Result<Layer, Error> {
        let (file, _) = self.state.content_open(self.context, &blob.digest)?;
        extract_alone(self.state, self.context, self.snapshotter, file, Some(digest))
    }

    fn settle(&self, layer: &Layer, diff_id: Digest, name: &str) -> Result<(), Error> {
        if layer.diff_id != Some(diff_id) {
            let got = layer.diff_id.map(|d| d.to_string()).unwrap_or_default();
            return Err(wrong(&got, &diff_id));
        }
        let place = self.place()?;
        let below = self.below.map(|b| b.0.to_string()).unwrap_or_default();
        let folders = folders(self.state, &place, &below)?;
        let parents: Vec<&Path> = folders.iter().map(AsRef::as_ref).collect();
        archive::join(&layer.folder, &parents, &layer.deferred)
            .map_err(|e| Error::Other(format!("layer {diff_id}: {e}")))?;
        self.state.commit_snapshot(&place, name, &layer.key, &below, Labels::new())
    }

    /// A snapshotter whose snapshots are full copies: each layer on top of the one below.
    fn in_order(&self, blob: &Descriptor, diff_id: Digest, name: &str) -> Result<(), Error> {
        let (state, place) = (self.state, self.place()?);
        let key = format!("extract-{}", crate::state::random_uuid()?);
        let below = self.below.map(|b| b.0.to_string()).unwrap_or_default();
        let mounts = state.prepare(&place, Kind::Active, &key, &below, Labels::new())?;
        let algorithm = diff_id.algorithm();
        let applied = state.diff_apply(self.context, blob, &mounts, algorithm, false);
        let done = applied.and_then(|applied| {
            if applied.digest != diff_id {
                return Err(wrong(&applied.digest.to_string(), &diff_id));
            }
            state.commit_snapshot(&place, name, &key, "", Labels::new())
        });
        done.inspect_err(|_| discard(state, self.context, self.snapshotter, &key))
    }

    fn place(&self) -> Result<Place<'_>, Error> {
        Ok(Place::new(self.context, Snapshotter::named(self.snapshotter)?))
    }
}

fn wrong(got: &str, wanted: &Digest) -> Error {
    Error::InvalidArgument(format!("wrong diff id {got}, the image says {wanted}"))
}

/// The folders of a committed snapshot and all below it, topmost first.
fn folders(state: &State, place: &Place<'_>, top: &str) -> Result<Vec<PathBuf>, Error> {
    let (mut found, mut name) = (Vec::new(), top.to_owned());
    while !name.is_empty() {
        let snapshot = state.snapshot(place, &name)?;
        found.push(state.layer_path(&snapshot));
        name = snapshot.parent;
    }
    Ok(found)
}

/// Which snapshotter layers can be unpacked for while they stream in: only an overlay's layers
/// stand alone.
pub(super) fn streams(snapshotter: &str) -> bool {
    snapshotter == "overlayfs"
}

/// Drops layers that no image turned out to need.
pub(super) fn drop_rest(
    state: &Arc<State>,
    context: &Context,
    snapshotter: &str,
    ready: HashMap<Digest, Layer>,
) {
    for layer in ready.into_values() {
        discard(state, context, snapshotter, &layer.key);
    }
}
