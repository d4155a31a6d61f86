//! What the members of an image archive mean: the OCI layout when there is one, else docker's
//! `manifest.json`, from which manifests are made up exactly as containerd makes them, so that one
//! archive gives one digest whoever imports it.

use super::import::{Blob, Contents};
use crate::Error;
use archive::Compression;
use oci::image::Index;
use oci::{Descriptor, Digest, Reference, media_type};
use serde::{Deserialize, Serialize};

/// The annotation that holds an image's full name.
pub(super) const IMAGE_NAME: &str = "io.containerd.image.name";
/// OCI's annotation of a reference within a layout.
pub(super) const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// The images of an archive.
pub(super) struct Resolved {
    /// The index of all of them, as a document of the archive.
    pub(super) index: Descriptor,
    /// Its entries, with their annotations.
    pub(super) images: Vec<Descriptor>,
}

/// An entry of docker's `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

/// A manifest as containerd's importer writes it: field order matters for its digest.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Made<'a> {
    schema_version: u32,
    media_type: &'a str,
    config: Descriptor,
    layers: Vec<Descriptor>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MadeIndex<'a> {
    schema_version: u32,
    media_type: &'a str,
    manifests: &'a [Descriptor],
}

/// Finds the images. Made-up documents are added to `contents`.
pub(super) fn resolve(contents: &mut Contents) -> Result<Resolved, Error> {
    let invalid = |what: String| Error::InvalidArgument(what);
    if let Some((digest, bytes)) = contents.document("index.json") {
        let index: Index =
            serde_json::from_slice(bytes).map_err(|e| invalid(format!("index.json: {e}")))?;
        let descriptor = Descriptor::new(media_type::OCI_INDEX, digest, bytes.len() as u64);
        return Ok(Resolved { index: descriptor, images: index.manifests });
    }
    let (_, bytes) = contents.document("manifest.json").ok_or_else(|| {
        invalid(
            "unrecognized image format: the archive has no index.json and no manifest.json".into(),
        )
    })?;
    let saved: Vec<Saved> =
        serde_json::from_slice(bytes).map_err(|e| invalid(format!("manifest.json: {e}")))?;
    let mut images = Vec::new();
    for entry in &saved {
        let manifest = made_up(contents, entry)?;
        let tags = entry.repo_tags.as_deref().unwrap_or_default();
        if tags.is_empty() {
            images.push(manifest);
            continue;
        }
        for tag in tags {
            let mut named = manifest.clone();
            let name = Reference::parse(tag)
                .map_err(|e| invalid(format!("manifest.json: tag {tag:?}: {e}")))?
                .tagged()
                .to_string();
            let short = name.rsplit_once(':').map(|(_, tag)| tag.to_owned()).unwrap_or_default();
            named.annotations.insert(IMAGE_NAME.into(), name);
            named.annotations.insert(REF_NAME.into(), short);
            images.push(named);
        }
    }
    let index =
        MadeIndex { schema_version: 2, media_type: media_type::OCI_INDEX, manifests: &images };
    let index = add(contents, media_type::OCI_INDEX, &index)?;
    Ok(Resolved { index, images })
}

fn made_up(contents: &mut Contents, entry: &Saved) -> Result<Descriptor, Error> {
    let missing =
        |name: &str| Error::InvalidArgument(format!("image archive: {name:?} is missing"));
    let (digest, config) =
        contents.document(&entry.config).ok_or_else(|| missing(&entry.config))?;
    let parsed: oci::image::ImageConfig = serde_json::from_slice(config)
        .map_err(|e| Error::InvalidArgument(format!("{}: {e}", entry.config)))?;
    let config = Descriptor::new(media_type::DOCKER_CONFIG, digest, config.len() as u64);
    let layer = |name: &String| {
        let blob = contents.blob(name).ok_or_else(|| missing(name))?;
        Ok(Descriptor::new(layer_type(blob), blob.digest, blob.size))
    };
    let layers: Result<Vec<Descriptor>, Error> =
        entry.layers.as_deref().unwrap_or_default().iter().map(layer).collect();
    let media_type = media_type::DOCKER_MANIFEST;
    let made = Made { schema_version: 2, media_type, config, layers: layers? };
    let mut manifest = add(contents, media_type, &made)?;
    if !parsed.os.is_empty() {
        manifest.platform = Some(parsed.platform().normalized());
    }
    Ok(manifest)
}

fn layer_type(blob: &Blob) -> &'static str {
    match blob.compression {
        Compression::None => media_type::DOCKER_LAYER,
        Compression::Gzip => media_type::DOCKER_LAYER_GZIP,
        Compression::Zstd => media_type::DOCKER_LAYER_ZSTD,
    }
}

fn add(
    contents: &mut Contents,
    media: &str,
    document: &impl Serialize,
) -> Result<Descriptor, Error> {
    let bytes = serde_json::to_vec(document).map_err(|e| Error::Other(e.to_string()))?;
    let descriptor = Descriptor::of(media, &bytes);
    contents.documents.insert(Digest::sha256(&bytes), bytes);
    Ok(descriptor)
}
