//! Layers that are stored plain (as archives bring them) pushed compressed: each is compressed
//! once, and what it became is remembered on it, so that a later push sends the same bytes. Of the
//! documents only what names such layers is written anew, and stored beside what it was made of.

use super::flights::Claim;
use super::gather::{Document, Source, Tree};
use super::graph::reference;
use super::remote::Waiter;
use super::source;
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
use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};

/// What a push's label asks for.
pub(super) fn wanted(text: &str) -> Result<Compression, Error> {
    match text {
        "gzip" => Ok(Compression::Gzip),
        "zstd" => Ok(Compression::Zstd),
        other => Err(Error::InvalidArgument(format!("compression {other:?}"))),
    }
}

pub(super) struct Packer<'a> {
    state: &'a Arc<State>,
    context: &'a Context,
    waiter: &'a Waiter,
    form: Compression,
    /// Held while a layer is compressed: that takes all cores, and others are sent meanwhile.
    alone: Mutex<()>,
    /// What layers became so far.
    packed: Mutex<HashMap<Digest, Descriptor>>,
}

/// What a plain layer is pushed as.
pub(super) struct Packed {
    pub(super) of: Descriptor,
    /// Repositories that are known to hold it.
    pub(super) sources: Vec<Source>,
    /// What was made now, and is not stored yet.
    pub(super) fresh: Option<Fresh>,
}

/// A layer that was compressed just now. It can be sent while [`Packer::keep`] waits for the disk.
pub(super) struct Fresh {
    layer: Digest,
    key: &'static str,
    blob: BlobSink,
    /// Until it is known, nobody else compresses that layer.
    _flight: Claim,
}

impl Fresh {
    /// The blob's bytes.
    pub(super) fn open(&self) -> Result<std::fs::File, Error> {
        let what = || format!("reading the compressed form of {}", self.layer);
        self.blob.writer.data().map_err(|e| Error::io(what())(e))
    }
}

impl<'a> Packer<'a> {
    pub(super) fn new(
        state: &'a Arc<State>,
        context: &'a Context,
        waiter: &'a Waiter,
        form: Compression,
    ) -> Self {
        Self { state, context, waiter, form, alone: Mutex::default(), packed: Mutex::default() }
    }

    /// The compressed form of a plain layer: known, or made now; `told` hears how far that is.
    pub(super) fn layer(&self, layer: &Descriptor, told: impl FnMut(u64)) -> Result<Packed, Error> {
        let (state, context) = (self.state, self.context);
        let (key, kind) = match self.form {
            Compression::Zstd => ("containerd.io/gc.ref.content.zstd", media::OCI_LAYER_ZSTD),
            _ if layer.media_type == media::DOCKER_LAYER => {
                ("containerd.io/gc.ref.content.gzip", media::DOCKER_LAYER_GZIP)
            }
            _ => ("containerd.io/gc.ref.content.gzip", media::OCI_LAYER_GZIP),
        };
        let flight = format!("{}\0{key}\0{}", context.namespace, layer.digest);
        let flight = self.waiter.wait(state.flights.claim(flight))?;
        let known = state.content_info(context, &layer.digest)?.labels.get(key).cloned();
        let known = known.and_then(|text| text.parse::<Digest>().ok());
        if let Some(digest) = known
            && let Some((size, sources)) = self.kept(&digest)?
        {
            let of = Descriptor::new(kind, digest, size);
            self.lock().insert(layer.digest, of.clone());
            return Ok(Packed { of, sources, fresh: None });
        }
        let blob = {
            let _alone = self.alone.lock().unwrap_or_else(PoisonError::into_inner);
            self.compress(layer, told)?
        };
        let of = Descriptor::new(kind, blob.writer.digest(), blob.size);
        self.lock().insert(layer.digest, of.clone());
        let fresh = Fresh { layer: layer.digest, key, blob, _flight: flight };
        Ok(Packed { of, sources: Vec::new(), fresh: Some(fresh) })
    }

    /// Stores what a layer was compressed to, and remembers it on the layer.
    pub(super) fn keep(&self, fresh: Fresh) -> Result<(), Error> {
        let Fresh { layer, key, blob: BlobSink { writer, size }, _flight } = fresh;
        let digest = writer.digest();
        let labels = Labels::from([(UNCOMPRESSED.to_owned(), layer.to_string())]);
        match writer.commit(size, Some(digest), labels) {
            Ok(_) | Err(Error::AlreadyExists(_)) => {}
            Err(e) => return Err(e),
        }
        let labels = Labels::from([(key.to_owned(), digest.to_string())]);
        let paths = [format!("labels.{key}")];
        self.state.content_update(self.context, &layer, &labels, &paths).map(drop)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Digest, Descriptor>> {
        self.packed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The size of a blob and where else it is, if it is here; then the push's lease keeps it.
    fn kept(&self, digest: &Digest) -> Result<Option<(u64, Vec<Source>)>, Error> {
        let (state, context) = (self.state, self.context);
        if let Some(lease) = &context.lease {
            state.lease_add(context, lease, Resource::new("content", digest.to_string()))?;
        }
        let info = state.content_info(context, digest).ok();
        Ok(info.map(|info| (info.size, source::all(&info.labels))))
    }

    fn compress(&self, layer: &Descriptor, told: impl FnMut(u64)) -> Result<BlobSink, Error> {
        let (file, _) = self.state.content_open(self.context, &layer.digest)?;
        let reference = format!("compress-{:?}-{}", self.form, layer.digest);
        let mut writer = Writer::open(self.state, self.context, &reference, 0, None)?;
        // What an earlier attempt left is of no use: compression begins at the start.
        writer.truncate()?;
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let sink = BlobSink { writer, size: 0 };
        let go_on = || self.waiter.wait(std::future::ready(())).map_err(Failed);
        let source = Heard { from: file, at: 0, told };
        compress_blocks(source, sink, self.form, threads, go_on).map_err(|Failed(e)| e)
    }

    /// The documents of a tree, naming layers by what they became. Docker's schema 2 has no zstd:
    /// there a manifest becomes OCI's, and the index above it too.
    pub(super) fn documents(&self, tree: &mut Tree) -> Result<(), Error> {
        let mut changed = std::mem::take(&mut *self.lock());
        if changed.is_empty() {
            return Ok(());
        }
        for document in std::mem::take(&mut tree.documents) {
            tree.documents.push(self.document(document, &mut changed)?);
        }
        Ok(())
    }

    fn document(
        &self,
        document: Document,
        changed: &mut HashMap<Digest, Descriptor>,
    ) -> Result<Document, Error> {
        let anew = match Node::parse(&document.bytes) {
            Node::Manifest(manifest) => self.manifest(*manifest, changed)?,
            Node::Index(index) => of_index(*index, changed)?,
            Node::Leaf => None,
        };
        let Some(Anew { kind, bytes, labels }) = anew else { return Ok(document) };
        let mut of = Descriptor::of(kind, &bytes);
        (of.platform, of.annotations) =
            (document.of.platform.clone(), document.of.annotations.clone());
        self.state.content_put(self.context, &bytes, labels)?;
        changed.insert(document.of.digest, of.clone());
        Ok(Document { of, parents: document.parents, bytes: bytes.into() })
    }

    fn manifest(
        &self,
        mut manifest: Manifest,
        changed: &HashMap<Digest, Descriptor>,
    ) -> Result<Option<Anew>, Error> {
        let mut any = false;
        let config = manifest.config.digest.to_string();
        let mut labels = Labels::from([(reference("config"), config)]);
        for (n, layer) in manifest.layers.iter_mut().enumerate() {
            if let Some(packed) = changed.get(&layer.digest) {
                (layer.digest, layer.size) = (packed.digest, packed.size);
                layer.media_type.clone_from(&packed.media_type);
                any = true;
            }
            labels.insert(reference(&format!("l.{n}")), layer.digest.to_string());
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
        let (kind, bytes) = (manifest.media_type.clone(), json(&manifest)?);
        Ok(Some(Anew { kind, bytes, labels }))
    }
}

/// A document that was written anew.
struct Anew {
    kind: String,
    bytes: Vec<u8>,
    labels: Labels,
}

/// A file that is read, and whoever hears how far.
struct Heard<F> {
    from: std::fs::File,
    at: u64,
    told: F,
}

impl<F: FnMut(u64)> Read for Heard<F> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let n = self.from.read(buf)?;
        self.at += n as u64;
        (self.told)(self.at);
        Ok(n)
    }
}

/// Whether a layer is stored uncompressed.
pub(super) fn is_plain(layer: &Descriptor) -> bool {
    matches!(layer.media_type.as_str(), media::DOCKER_LAYER | media::OCI_LAYER)
}

fn of_index(
    mut index: Index,
    changed: &HashMap<Digest, Descriptor>,
) -> Result<Option<Anew>, Error> {
    let mut any = false;
    let mut labels = Labels::new();
    for (n, child) in index.manifests.iter_mut().enumerate() {
        if let Some(anew) = changed.get(&child.digest) {
            (child.digest, child.size) = (anew.digest, anew.size);
            child.media_type.clone_from(&anew.media_type);
            any = true;
        }
        labels.insert(reference(&format!("m.{n}")), child.digest.to_string());
        // An attestation names the manifest that it is about.
        for value in child.annotations.values_mut() {
            let about = value.parse::<Digest>().ok().and_then(|digest| changed.get(&digest));
            if let Some(anew) = about {
                *value = anew.digest.to_string();
            }
        }
    }
    if !any {
        return Ok(None);
    }
    let is_oci = |child: &Descriptor| child.media_type == media::OCI_MANIFEST;
    if index.media_type == media::DOCKER_LIST && index.manifests.iter().any(is_oci) {
        index.media_type = media::OCI_INDEX.into();
    }
    Ok(Some(Anew { kind: index.media_type.clone(), bytes: json(&index)?, labels }))
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
