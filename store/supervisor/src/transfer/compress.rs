//! Layers that are stored plain (as archives bring them) pushed compressed: each is compressed
//! once, and what it became is remembered on it, so that a later push sends the same bytes. Of the
//! documents only what names such layers is written anew.

use super::gather::{Document, Tree};
use super::remote::Waiter;
use crate::content::Writer;
use crate::diff::{BlobSink, UNCOMPRESSED};
use crate::labels::Labels;
use crate::leases::Resource;
use crate::{Context, Error, State};
use archive::{Compression, compress_blocks};
use oci::image::{Index, Manifest, Node};
use oci::media_type as media;
use oci::{Descriptor, Digest};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

/// What a push's label asks for.
pub(super) fn wanted(text: &str) -> Result<Compression, Error> {
    match text {
        "gzip" => Ok(Compression::Gzip),
        "zstd" => Ok(Compression::Zstd),
        other => Err(Error::InvalidArgument(format!("compression {other:?}"))),
    }
}

pub(super) struct Packer<'a> {
    pub(super) state: &'a Arc<State>,
    pub(super) context: &'a Context,
    pub(super) waiter: &'a Waiter,
    pub(super) form: Compression,
}

impl Packer<'_> {
    /// The same tree with its plain layers compressed. Docker's schema 2 has no zstd: there the
    /// manifest becomes OCI's.
    pub(super) fn pack(&self, mut tree: Tree) -> Result<Tree, Error> {
        let mut changed: HashMap<Digest, Descriptor> = HashMap::new();
        for document in &tree.documents {
            let Node::Manifest(manifest) = Node::parse(&document.bytes) else { continue };
            for layer in manifest.layers.iter().filter(|layer| is_plain(layer)) {
                if let Entry::Vacant(vacant) = changed.entry(layer.digest) {
                    vacant.insert(self.layer(layer)?);
                }
            }
        }
        if changed.is_empty() {
            return Ok(tree);
        }
        for piece in &mut tree.blobs {
            if let Some(packed) = changed.get(&piece.of.digest) {
                piece.of = packed.clone();
                piece.sources.clear();
            }
        }
        for document in std::mem::take(&mut tree.documents) {
            tree.documents.push(self.document(document, &mut changed)?);
        }
        Ok(tree)
    }

    fn document(
        &self,
        document: Document,
        changed: &mut HashMap<Digest, Descriptor>,
    ) -> Result<Document, Error> {
        let bytes = match Node::parse(&document.bytes) {
            Node::Manifest(manifest) => self.manifest(*manifest, changed)?,
            Node::Index(index) => of_index(*index, changed)?,
            Node::Leaf => None,
        };
        let Some((kind, bytes)) = bytes else { return Ok(document) };
        let mut of = Descriptor::of(kind, &bytes);
        (of.platform, of.annotations) =
            (document.of.platform.clone(), document.of.annotations.clone());
        changed.insert(document.of.digest, of.clone());
        Ok(Document { of, parents: document.parents, bytes: bytes.into() })
    }

    fn manifest(
        &self,
        mut manifest: Manifest,
        changed: &HashMap<Digest, Descriptor>,
    ) -> Result<Option<(String, Vec<u8>)>, Error> {
        let mut any = false;
        for layer in &mut manifest.layers {
            if let Some(packed) = changed.get(&layer.digest) {
                (layer.digest, layer.size) = (packed.digest, packed.size);
                layer.media_type.clone_from(&packed.media_type);
                any = true;
            }
        }
        if !any {
            return Ok(None);
        }
        if self.form == Compression::Zstd && manifest.media_type == media::DOCKER_MANIFEST {
            manifest.media_type = media::OCI_MANIFEST.into();
            manifest.config.media_type = media::OCI_CONFIG.into();
            for layer in &mut manifest.layers {
                if layer.media_type == media::DOCKER_LAYER_GZIP {
                    layer.media_type = media::OCI_LAYER_GZIP.into();
                }
            }
        }
        Ok(Some((manifest.media_type.clone(), json(&manifest)?)))
    }

    /// The compressed form of a layer: known, or made now.
    fn layer(&self, layer: &Descriptor) -> Result<Descriptor, Error> {
        let (state, context) = (self.state, self.context);
        let (key, kind) = match self.form {
            Compression::Zstd => ("containerd.io/gc.ref.content.zstd", media::OCI_LAYER_ZSTD),
            _ if layer.media_type == media::DOCKER_LAYER => {
                ("containerd.io/gc.ref.content.gzip", media::DOCKER_LAYER_GZIP)
            }
            _ => ("containerd.io/gc.ref.content.gzip", media::OCI_LAYER_GZIP),
        };
        let flight = format!("{}\0{key}\0{}", context.namespace, layer.digest);
        let _alone = self.waiter.wait(state.flights.claim(flight))?;
        let known = state.content_info(context, &layer.digest)?.labels.get(key).cloned();
        if let Some(digest) = known.and_then(|text| text.parse::<Digest>().ok()) {
            if let Some(lease) = &context.lease {
                let kept = Resource::new("content", digest.to_string());
                state.lease_add(context, lease, kept)?;
            }
            if let Ok(info) = state.content_info(context, &digest) {
                return Ok(Descriptor::new(kind, digest, info.size));
            }
        }
        let (digest, size) = self.compress(layer)?;
        let labels = Labels::from([(key.to_owned(), digest.to_string())]);
        state.content_update(context, &layer.digest, &labels, &[format!("labels.{key}")])?;
        Ok(Descriptor::new(kind, digest, size))
    }

    fn compress(&self, layer: &Descriptor) -> Result<(Digest, u64), Error> {
        let (file, _) = self.state.content_open(self.context, &layer.digest)?;
        let reference = format!("compress-{:?}-{}", self.form, layer.digest);
        let mut writer = Writer::open(self.state, self.context, &reference, 0, None)?;
        // What an earlier attempt left is of no use: compression begins at the start.
        writer.truncate()?;
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let sink = BlobSink { writer, size: 0 };
        let go_on = || self.waiter.wait(std::future::ready(())).map_err(Failed);
        let packed = compress_blocks(file, sink, self.form, threads, go_on);
        let BlobSink { writer, size } = packed.map_err(|Failed(e)| e)?;
        let digest = writer.digest();
        let labels = Labels::from([(UNCOMPRESSED.to_owned(), layer.digest.to_string())]);
        match writer.commit(size, Some(digest), labels) {
            Ok(_) | Err(Error::AlreadyExists(_)) => Ok((digest, size)),
            Err(e) => Err(e),
        }
    }
}

fn is_plain(layer: &Descriptor) -> bool {
    matches!(layer.media_type.as_str(), media::DOCKER_LAYER | media::OCI_LAYER)
}

fn of_index(
    mut index: Index,
    changed: &HashMap<Digest, Descriptor>,
) -> Result<Option<(String, Vec<u8>)>, Error> {
    let mut any = false;
    for child in &mut index.manifests {
        if let Some(anew) = changed.get(&child.digest) {
            (child.digest, child.size) = (anew.digest, anew.size);
            child.media_type.clone_from(&anew.media_type);
            any = true;
        }
        // An attestation names the manifest that it is about.
        for value in child.annotations.values_mut() {
            let about = value.parse::<Digest>().ok().and_then(|digest| changed.get(&digest));
            if let Some(anew) = about {
                *value = anew.digest.to_string();
            }
        }
    }
    let kind = index.media_type.clone();
    if any { Ok(Some((kind, json(&index)?))) } else { Ok(None) }
}

fn json(value: &impl serde::Serialize) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(value).map_err(|e| Error::Other(e.to_string()))
}

/// An error of the work, whoever's it was.
struct Failed(Error);

impl From<archive::ArchiveError> for Failed {
    fn from(e: archive::ArchiveError) -> Self {
        Self(Error::Other(format!("compressing a layer: {e}")))
    }
}
