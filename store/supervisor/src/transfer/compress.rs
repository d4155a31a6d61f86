//! Layers that are stored plain (as archives bring them) pushed compressed: each is compressed
//! once, and sent meanwhile. What it became is remembered on it, so that a later push sends the
//! same bytes. Of the documents only what names such layers is written anew, and stored beside what
//! it was made of.

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
use registry_client::{Grower, GrowingFile};
use std::cell::Cell;
use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

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
pub(super) enum Form {
    /// It is stored, and these repositories are known to hold it.
    Stored { of: Descriptor, sources: Vec<Source> },
    /// It has to be made.
    Unmade(Unmade),
}

/// A layer that was never compressed in this form.
pub(super) struct Unmade {
    layer: Descriptor,
    key: &'static str,
    kind: &'static str,
    /// Until its form is known, nobody else compresses that layer.
    _flight: Claim,
}

/// How much of a layer is in how much of its compressed form: what bytes that are sent mean for the
/// layer.
#[derive(Debug, Default)]
pub(super) struct Ratio(Mutex<(u64, u64)>);

impl Ratio {
    pub(super) fn new(layer: u64, form: u64) -> Self {
        Self(Mutex::new((layer, form)))
    }

    fn set(&self, layer: u64, form: u64) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (layer, form);
    }

    /// Bytes of the layer that so many bytes of its form stand for.
    pub(super) fn of(&self, bytes: u64) -> u64 {
        let (layer, form) = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let part = u128::from(layer) * u128::from(bytes) / u128::from(form.max(1));
        u64::try_from(part).unwrap_or(layer).min(layer)
    }
}

/// A compressed form on its way into being, for whoever sends it.
pub(super) struct Growing {
    pub(super) source: Arc<GrowingFile>,
    pub(super) ratio: Arc<Ratio>,
    /// What it is, once it is whole; an error if it will never be.
    pub(super) made: oneshot::Receiver<Descriptor>,
}

/// A layer that is being compressed, the only one of its push.
pub(super) struct Making<'a> {
    packer: &'a Packer<'a>,
    unmade: Unmade,
    /// The ingest that the form is written to.
    reference: String,
    form: Grown,
    made: oneshot::Sender<Descriptor>,
    alone: MutexGuard<'a, ()>,
}

/// Where a form is written to, telling how far it is.
struct Grown {
    sink: BlobSink,
    grower: Grower,
    ratio: Arc<Ratio>,
    /// Bytes of the layer that were read.
    read: Rc<Cell<u64>>,
}

impl Write for Grown {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let count = self.sink.write(buf)?;
        self.ratio.set(self.read.get(), self.sink.size);
        self.grower.grew(self.sink.size);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Making<'_> {
    /// Compresses the layer, stores its form, and remembers it on the layer; gives up when
    /// `waiter` does, and leaves nothing then.
    pub(super) fn finish(self, waiter: &Waiter) -> Result<Descriptor, Error> {
        let Self { packer, unmade, reference, form, made, alone } = self;
        let layer = unmade.layer.digest;
        let compressed = packer.compress(&layer, form, waiter);
        drop(alone);
        let Grown { sink, grower, .. } = compressed.inspect_err(|_| {
            // The next attempt begins at the start: this one's bytes are of no use.
            let _ = packer.state.ingest_abort(packer.context, &reference);
        })?;
        let of = Descriptor::new(unmade.kind, sink.writer.digest(), sink.size);
        packer.lock().insert(layer, of.clone());
        // The sender may be gone.
        let _ = made.send(of.clone());
        grower.end();
        // It is on its way while the disk is waited for.
        packer.keep(&layer, unmade.key, sink)?;
        Ok(of)
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

    /// The compressed form of a plain layer, if it is known.
    pub(super) fn layer(&self, layer: &Descriptor) -> Result<Form, Error> {
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
            return Ok(Form::Stored { of, sources });
        }
        Ok(Form::Unmade(Unmade { layer: layer.clone(), key, kind, _flight: flight }))
    }

    /// Begins to compress a layer, once no other is.
    pub(super) fn begin(&self, unmade: Unmade) -> Result<(Making<'_>, Growing), Error> {
        let alone = self.alone.lock().unwrap_or_else(PoisonError::into_inner);
        let digest = unmade.layer.digest;
        let reference = format!("compress-{:?}-{digest}", self.form);
        let mut writer = Writer::open(self.state, self.context, &reference, 0, None)?;
        // What an attempt left that was killed is of no use: compression begins at the start.
        writer.truncate()?;
        let file = writer.data();
        let file =
            file.map_err(|e| Error::io(format!("reading the compressed form of {digest}"))(e))?;
        let (source, grower) = GrowingFile::new(file);
        let (tell, made) = oneshot::channel();
        let ratio = Arc::new(Ratio::default());
        let growing = Growing { source: Arc::new(source), ratio: Arc::clone(&ratio), made };
        let form = Grown { sink: BlobSink { writer, size: 0 }, grower, ratio, read: Rc::default() };
        Ok((Making { packer: self, unmade, reference, form, made: tell, alone }, growing))
    }

    fn compress(&self, layer: &Digest, form: Grown, waiter: &Waiter) -> Result<Grown, Error> {
        let (file, _) = self.state.content_open(self.context, layer)?;
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let go_on = || waiter.wait(std::future::ready(())).map_err(Failed);
        let source = Counted { from: file, read: Rc::clone(&form.read) };
        compress_blocks(source, form, self.form, threads, go_on).map_err(|Failed(e)| e)
    }

    /// Stores what a layer was compressed to, and remembers it on the layer.
    fn keep(&self, layer: &Digest, key: &str, form: BlobSink) -> Result<(), Error> {
        let BlobSink { writer, size } = form;
        let digest = writer.digest();
        let labels = Labels::from([(UNCOMPRESSED.to_owned(), layer.to_string())]);
        match writer.commit(size, Some(digest), labels) {
            Ok(_) | Err(Error::AlreadyExists(_)) => {}
            Err(e) => return Err(e),
        }
        let labels = Labels::from([(key.to_owned(), digest.to_string())]);
        let paths = [format!("labels.{key}")];
        self.state.content_update(self.context, layer, &labels, &paths).map(drop)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Digest, Descriptor>> {
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

/// A file that is read, and how far.
struct Counted {
    from: std::fs::File,
    read: Rc<Cell<u64>>,
}

impl Read for Counted {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(buf)?;
        self.read.set(self.read.get() + count as u64);
        Ok(count)
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
