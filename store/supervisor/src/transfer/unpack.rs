//! From an image to snapshots: layers that were unpacked ahead are settled against those below
//! and committed under their chain ids, bottom up; missing ones are unpacked from their blobs now.

use super::flights::Claim;
use super::graph::manifests;
use super::layers::{Layer, discard, extract_alone, extraction, wrong};
use super::remote::Waiter;
use crate::diff::UNCOMPRESSED;
use crate::labels::Labels;
use crate::leases::Resource;
use crate::snapshots::{Kind, Place, Snapshotter};
use crate::{Context, Error, State};
use oci::image::{ChainId, ImageConfig, Manifest};
use oci::{Algorithm, Descriptor, Digest, Platform};
use registry_client::MAX_CONFIG;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What is unpacked for one platform and snapshotter: a manifest's layers with their digests and
/// the names of the snapshots that they become.
pub(super) struct Plan {
    pub(super) snapshotter: String,
    pub(super) config: Digest,
    /// Bottom up.
    pub(super) layers: Vec<Planned>,
}

/// One layer of a plan.
#[derive(Clone)]
pub(super) struct Planned {
    pub(super) blob: Descriptor,
    pub(super) diff_id: Digest,
    pub(super) chain: ChainId,
    below: Option<ChainId>,
}

/// Chooses the manifest of `image` that suits `platform` best; `None` when the image has nothing
/// for that platform.
pub(super) fn plan(
    state: &State,
    context: &Context,
    image: &Descriptor,
    platform: &Platform,
    snapshotter: &str,
) -> Result<Option<Plan>, Error> {
    let mut ranked: Vec<(usize, Manifest, ImageConfig)> = Vec::new();
    for (_, manifest) in manifests(state, context, image)? {
        let bytes = match state.content_bytes(context, &manifest.config.digest, MAX_CONFIG) {
            Ok(bytes) => bytes,
            // A manifest that came along without what it refers to.
            Err(Error::NotFound(_)) if manifest.config.digest != image.digest => continue,
            Err(e) => return Err(e),
        };
        // Artifacts have no image config and nothing to unpack.
        let Ok(config) = serde_json::from_slice::<ImageConfig>(&bytes) else { continue };
        if let Some(rank) = platform.rank(&config.platform()) {
            ranked.push((rank, manifest, config));
        }
    }
    ranked.sort_by_key(|(rank, ..)| *rank);
    let Some((_, manifest, config)) = ranked.into_iter().next() else { return Ok(None) };
    let diff_ids = config.rootfs.diff_ids;
    if manifest.layers.len() != diff_ids.len() {
        let what = format!("mismatched image rootfs and manifest layers of {}", image.digest);
        return Err(Error::InvalidArgument(what));
    }
    let chain = ChainId::all(&diff_ids);
    let layers = manifest.layers.into_iter().zip(diff_ids).enumerate().map(|(n, both)| Planned {
        blob: both.0,
        diff_id: both.1,
        chain: chain[n],
        below: n.checked_sub(1).map(|n| chain[n]),
    });
    Ok(Some(Plan {
        snapshotter: snapshotter.into(),
        config: manifest.config.digest,
        layers: layers.collect(),
    }))
}

/// The platforms and configs of the image manifests below `image` that are in the store.
pub(super) fn configs(
    state: &State,
    context: &Context,
    image: &Descriptor,
) -> Result<Vec<(Platform, Digest)>, Error> {
    let mut configs = Vec::new();
    for (_, manifest) in manifests(state, context, image)? {
        let digest = manifest.config.digest;
        let Ok(bytes) = state.content_bytes(context, &digest, MAX_CONFIG) else { continue };
        if let Ok(config) = serde_json::from_slice::<ImageConfig>(&bytes) {
            configs.push((config.platform(), digest));
        }
    }
    Ok(configs)
}

/// Unpacks all layers of a plan, bottom up.
pub(super) fn unpack(
    state: &Arc<State>,
    context: &Context,
    plan: &Plan,
    ready: &mut HashMap<Digest, Layer>,
) -> Result<(), Error> {
    let step = Step { state, context, snapshotter: &plan.snapshotter };
    for layer in &plan.layers {
        step.layer(layer, ready)?;
    }
    finish(state, context, plan)
}

/// Lets the image's config keep the topmost snapshot.
pub(super) fn finish(state: &State, context: &Context, plan: &Plan) -> Result<(), Error> {
    let Some(top) = plan.layers.last() else { return Ok(()) };
    let key = format!("containerd.io/gc.ref.snapshot.{}", plan.snapshotter);
    label(state, context, &plan.config, key, top.chain.0.to_string())
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

/// Where layers are unpacked.
pub(super) struct Step<'a> {
    pub(super) state: &'a Arc<State>,
    pub(super) context: &'a Context,
    pub(super) snapshotter: &'a str,
}

impl Step<'_> {
    /// Whether the layer's snapshot is there; then the call's lease keeps it.
    pub(super) fn is_done(&self, layer: &Planned) -> Result<bool, Error> {
        let (place, name) = (self.place()?, layer.chain.0.to_string());
        if self.state.snapshot(&place, &name).is_err() {
            return Ok(false);
        }
        if let Some(lease) = &self.context.lease {
            let kind = format!("snapshots/{}", self.snapshotter);
            self.state.lease_add(self.context, lease, Resource::new(kind, name.as_str()))?;
        }
        // It may have been collected before the lease had it.
        Ok(self.state.snapshot(&place, &name).is_ok())
    }

    /// Claims the layer for one transfer; `None` while another has it.
    pub(super) fn try_claim(&self, layer: &Planned) -> Option<Claim> {
        self.state.flights.try_claim(self.key(layer))
    }

    fn key(&self, layer: &Planned) -> String {
        format!("{}\0{}\0{}", self.context.namespace, self.snapshotter, layer.chain.0)
    }

    /// [`Step::layer`] where another transfer may be at the same layer: then it is waited for.
    /// Layers are claimed or waited for bottom up by everybody, so nobody waits for ever.
    pub(super) fn layer_claimed(
        &self,
        layer: &Planned,
        claim: Option<Claim>,
        waiter: &Waiter,
        ready: &mut HashMap<Digest, Layer>,
    ) -> Result<(), Error> {
        let _claim = match claim {
            Some(claim) => claim,
            None => waiter.wait(self.state.flights.claim(self.key(layer)))?,
        };
        self.layer(layer, ready)
    }

    /// Makes the layer's snapshot unless it is there: from what was unpacked ahead, else from the
    /// blob.
    pub(super) fn layer(
        &self,
        layer: &Planned,
        ready: &mut HashMap<Digest, Layer>,
    ) -> Result<(), Error> {
        let Self { state, context, snapshotter, .. } = *self;
        let Planned { blob, diff_id, .. } = layer;
        if self.is_done(layer)? {
            if let Some(layer) = ready.remove(&blob.digest) {
                discard(state, context, snapshotter, &layer.key);
            }
            return Ok(());
        }
        let committed = if streams(snapshotter) {
            let unpacked = match ready.remove(&blob.digest) {
                Some(unpacked) if unpacked.is_hashed_like(diff_id) => unpacked,
                unfit => {
                    if let Some(unpacked) = unfit {
                        discard(state, context, snapshotter, &unpacked.key);
                    }
                    self.extract(blob, diff_id.algorithm())?
                }
            };
            let settled = self.settle(&unpacked, layer);
            settled.inspect_err(|_| discard(state, context, snapshotter, &unpacked.key))
        } else {
            self.in_order(layer)
        };
        match committed {
            Err(Error::AlreadyExists(_)) => {}
            other => other?,
        }
        if blob.digest != *diff_id {
            label(state, context, &blob.digest, UNCOMPRESSED.into(), diff_id.to_string())?;
        }
        Ok(())
    }

    fn extract(&self, blob: &Descriptor, digest: Algorithm) -> Result<Layer, Error> {
        let (file, _) = self.state.content_open(self.context, &blob.digest)?;
        extract_alone(self.state, self.context, self.snapshotter, file, Some(digest))
    }

    fn settle(&self, unpacked: &Layer, layer: &Planned) -> Result<(), Error> {
        let Planned { blob, diff_id, .. } = layer;
        unpacked.check(&blob.digest, diff_id)?;
        let place = self.place()?;
        let below = layer.below.map(|b| b.0.to_string()).unwrap_or_default();
        let folders = folders(self.state, &place, &below)?;
        let parents: Vec<&Path> = folders.iter().map(AsRef::as_ref).collect();
        archive::join(&unpacked.folder, &parents, &unpacked.deferred)
            .map_err(|e| Error::Other(format!("layer {}: {e}", blob.digest)))?;
        let name = layer.chain.0.to_string();
        self.state.commit_snapshot(&place, &name, &unpacked.key, &below, Labels::new())
    }

    /// A snapshotter whose snapshots are full copies: each layer on top of the one below.
    fn in_order(&self, layer: &Planned) -> Result<(), Error> {
        let (state, place) = (self.state, self.place()?);
        let Planned { blob, diff_id, .. } = layer;
        let key = extraction()?;
        let below = layer.below.map(|b| b.0.to_string()).unwrap_or_default();
        let mounts = state.prepare(&place, Kind::Active, &key, &below, Labels::new())?;
        let algorithm = diff_id.algorithm();
        let applied = state.diff_apply(self.context, blob, &mounts, algorithm, false);
        let done = applied.and_then(|applied| {
            if applied.digest != *diff_id {
                return Err(wrong(&blob.digest, &applied.digest.to_string(), diff_id));
            }
            let name = layer.chain.0.to_string();
            state.commit_snapshot(&place, &name, &key, "", Labels::new())
        });
        done.inspect_err(|_| discard(state, self.context, self.snapshotter, &key))
    }

    fn place(&self) -> Result<Place<'_>, Error> {
        Ok(Place::new(self.context, Snapshotter::named(self.snapshotter)?))
    }
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
