//! Reading documents from the content store: index → manifest → configuration.

use containerd_api::services::content::v1::ReadContentRequest;
use containerd_api::types;
use containerd_rpc::{Client, RpcError};
use oci::image::{ChainId, ImageConfig, Index, Manifest};
use oci::{Descriptor, Platform, media_type};
use serde::de::DeserializeOwned;

use crate::{ImageError, ImagesConfig, ResolvedImage, size};

/// Largest document that is read, in bytes.
const MAX_DOCUMENT: u64 = 8 << 20;
/// How deep indexes may nest.
const MAX_DEPTH: usize = 4;

/// A descriptor off the wire; `None` when its digest is malformed.
pub(crate) fn from_wire(wire: &types::Descriptor) -> Option<Descriptor> {
    let digest = wire.digest.parse().ok()?;
    let mut out = Descriptor::new(wire.media_type.clone(), digest, wire.size.max(0) as u64);
    out.annotations = wire.annotations.clone().into_iter().collect();
    Some(out)
}

/// A descriptor for the wire.
pub(crate) fn to_wire(descriptor: &Descriptor) -> types::Descriptor {
    types::Descriptor {
        media_type: descriptor.media_type.clone(),
        digest: descriptor.digest.to_string(),
        size: descriptor.size as i64,
        annotations: descriptor.annotations.clone().into_iter().collect(),
    }
}

/// The bytes of a small blob.
pub(crate) async fn read_blob(
    client: &Client,
    descriptor: &Descriptor,
) -> Result<Vec<u8>, ImageError> {
    let what = descriptor.digest;
    if descriptor.size > MAX_DOCUMENT {
        return Err(ImageError::content(what, "too large for a document"));
    }
    let request = ReadContentRequest { digest: what.to_string(), offset: 0, size: 0 };
    let answer = client.content().read(request).await.map_err(RpcError::from)?;
    let mut parts = answer.into_inner();
    let mut out = Vec::with_capacity(descriptor.size as usize);
    while let Some(part) = parts.message().await.map_err(RpcError::from)? {
        if out.len() + part.data.len() > MAX_DOCUMENT as usize {
            return Err(ImageError::content(what, "longer than announced"));
        }
        out.extend_from_slice(&part.data);
    }
    Ok(out)
}

async fn document<T: DeserializeOwned>(
    client: &Client,
    descriptor: &Descriptor,
) -> Result<T, ImageError> {
    let bytes = read_blob(client, descriptor).await?;
    serde_json::from_slice(&bytes).map_err(|e| ImageError::content(descriptor.digest, e))
}

/// The manifest for `platform` below `target`.
async fn choose_manifest(
    client: &Client,
    target: &Descriptor,
    platform: &Platform,
) -> Result<(Descriptor, Manifest), ImageError> {
    let mut at = target.clone();
    for _ in 0..MAX_DEPTH {
        if !media_type::is_index(&at.media_type) {
            let manifest = document(client, &at).await?;
            return Ok((at, manifest));
        }
        let index: Index = document(client, &at).await?;
        let ranked = index.manifests.into_iter().filter_map(|entry| {
            let rank = match &entry.platform {
                Some(given) => platform.rank(given)?,
                // An entry that does not say runs where it is.
                None => usize::MAX,
            };
            Some((rank, entry))
        });
        let mut ranked: Vec<_> = ranked.collect();
        ranked.sort_by_key(|(rank, _)| *rank);
        let best = ranked.into_iter().next();
        at = best
            .ok_or_else(|| ImageError::content(at.digest, format!("nothing for {platform}")))?
            .1;
    }
    Err(ImageError::content(target.digest, "indexes nest too deep"))
}

/// Understands what a name points at.
pub(crate) async fn resolve_target(
    client: &Client,
    config: &ImagesConfig,
    target: Descriptor,
) -> Result<ResolvedImage, ImageError> {
    let (descriptor, manifest) = choose_manifest(client, &target, &config.platform).await?;
    let mut image: ImageConfig = document(client, &manifest.config).await?;
    let diff_ids = image.rootfs.diff_ids.clone();
    if !media_type::is_config(&manifest.config.media_type) {
        // Some builders label configurations freely; without layers of the
        // same number it is no image.
        if diff_ids.len() != manifest.layers.len() {
            return Err(ImageError::content(target.digest, "not an image"));
        }
    }
    if image.os.is_empty() {
        image.os = "linux".into();
    }
    let layer_sizes = size::of_layers(client, config, &diff_ids, &manifest.layers).await;
    Ok(ResolvedImage {
        id: manifest.config.digest,
        target,
        manifest: descriptor,
        layers: manifest.layers,
        config: image,
        chain_id: ChainId::of(&diff_ids),
        diff_ids,
        layer_sizes,
        names: Vec::new(),
    })
}
