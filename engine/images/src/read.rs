//! Reading documents from the content store: index → manifest → configuration.

use containerd_api::services::content::v1::ReadContentRequest;
use containerd_api::types;
use containerd_rpc::{Client, RpcError};
use oci::image::{ChainId, ImageConfig, Index, Manifest};
use oci::{Descriptor, Digest, Platform, media_type};
use serde::de::DeserializeOwned;

use crate::{ImageError, ImagesConfig, ResolvedImage, size};

/// Largest document that is read, in bytes.
const MAX_DOCUMENT: u64 = 8 << 20;
/// How deep indexes may nest.
pub(crate) const MAX_DEPTH: usize = 4;

/// The label of a configuration that names the image that it was committed from.
pub(crate) const PARENT: &str = "io.ferry.image.parent";

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

pub(crate) async fn document<T: DeserializeOwned>(
    client: &Client,
    descriptor: &Descriptor,
) -> Result<T, ImageError> {
    let bytes = read_blob(client, descriptor).await?;
    serde_json::from_slice(&bytes).map_err(|e| ImageError::content(descriptor.digest, e))
}

/// Whether an entry of an index says something about another one and runs nowhere.
pub(crate) fn is_attestation(entry: &Descriptor) -> bool {
    entry.annotations.contains_key("vnd.docker.reference.type")
}

/// The manifest for `platform` below `target`; another one that is there if that one isn't, since
/// of an index only the platforms that somebody asked for were fetched.
async fn choose_manifest(
    client: &Client,
    target: &Descriptor,
    platform: &Platform,
) -> Result<(Descriptor, Manifest), ImageError> {
    let mut open = vec![(target.clone(), 0)];
    let mut missing = None;
    while let Some((at, depth)) = open.pop() {
        if !media_type::is_index(&at.media_type) {
            match document(client, &at).await {
                Ok(manifest) => return Ok((at, manifest)),
                Err(ImageError::Rpc(e)) if e.is_not_found() => missing = Some(e),
                Err(e) => return Err(e),
            }
            continue;
        }
        if depth == MAX_DEPTH {
            return Err(ImageError::content(target.digest, "indexes nest too deep"));
        }
        let index: Index = match document(client, &at).await {
            Ok(index) => index,
            Err(ImageError::Rpc(e)) if depth > 0 && e.is_not_found() => continue,
            Err(e) => return Err(e),
        };
        let entries = index.manifests.into_iter().filter(|entry| !is_attestation(entry));
        let mut ranked: Vec<_> = entries.map(|entry| (rank(platform, &entry), entry)).collect();
        ranked.sort_by_key(|(rank, _)| *rank);
        // The last one pushed is looked at first.
        open.extend(ranked.into_iter().rev().map(|(_, entry)| (entry, depth + 1)));
    }
    Err(match missing {
        Some(e) => e.into(),
        None => ImageError::content(target.digest, format!("nothing for {platform}")),
    })
}

/// How early an entry of an index is looked at: the best for the platform first, those that do
/// not say where they run next, then all others.
fn rank(platform: &Platform, entry: &Descriptor) -> usize {
    match &entry.platform {
        Some(given) => platform.rank(given).unwrap_or(usize::MAX),
        None => usize::MAX - 1,
    }
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
    let sources = sources(client, &target.digest).await;
    let labels = crate::registry::labels(client, &manifest.config.digest).await?;
    let parent = labels.get(PARENT).and_then(|id| id.parse().ok());
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
        parent,
        sources,
        names: Vec::new(),
    })
}

/// Where content is known to be had from: `host/path`.
async fn sources(client: &Client, digest: &Digest) -> Vec<String> {
    let labels = crate::registry::labels(client, digest).await.unwrap_or_default();
    let mut out = Vec::new();
    for (key, value) in labels {
        if let Some(host) = key.strip_prefix(crate::registry::SOURCE) {
            out.extend(value.split(',').map(|path| format!("{host}/{path}")));
        }
    }
    out
}
