//! Diff: layers onto mounts and mounts into layers. Where the mounts are one overlay or one bind,
//! the folders behind them are worked on directly and nothing is mounted; else the mount stays
//! detached, seen by nobody. Media types decide what is written, never how something is read.

mod service;
mod target;

pub use service::Service;
pub(crate) use service::{blocking, to_wire};
pub(crate) use target::extract;

use crate::content::Writer;
use crate::labels::Labels;
use crate::{Context, Error, State};
use archive::{Compression, Compressor, Decompressor, HashWriter, diff_overlay, diff_trees};
use containerd_api::types::Mount;
use oci::{Algorithm, Descriptor, media_type};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use target::Target;

/// The label that tells a compressed layer's diff id.
pub(crate) const UNCOMPRESSED: &str = "containerd.io/uncompressed";

impl State {
    /// Unpacks the layer `blob` onto `mounts`; returns the uncompressed layer's descriptor, its
    /// digest by `algorithm`. Blocks for as long as that takes.
    pub fn diff_apply(
        &self,
        context: &Context,
        blob: &Descriptor,
        mounts: &[Mount],
        algorithm: Algorithm,
        sync: bool,
    ) -> Result<Descriptor, Error> {
        let what = |e| Error::Other(format!("applying layer {}: {e}", blob.digest));
        let (file, info) = self.content_open(context, &blob.digest)?;
        let stream = Decompressor::new(file).map_err(what)?;
        let plain = stream.compression() == Compression::None;
        let known = plain && blob.digest.algorithm() == algorithm;
        let target = Target::of(mounts)?;
        let options = archive::Options {
            whiteouts: target.whiteouts,
            digest: (!known).then_some(algorithm),
            ..archive::Options::default()
        };
        let applied = archive::apply(stream, target.open()?, &options).map_err(what)?;
        let parents: Vec<&Path> = target.lowers.iter().map(AsRef::as_ref).collect();
        archive::join(&target.folder, &parents, &applied.deferred).map_err(what)?;
        if sync {
            let root = target.open()?;
            rustix::fs::syncfs(root.fd()).map_err(|e| Error::Io {
                what: format!("syncing {}", blob.digest),
                source: e.into(),
            })?;
        }
        let diff_id = applied.diff_id.unwrap_or(blob.digest);
        let size = if plain { info.size } else { applied.stream_size };
        Ok(Descriptor::new(media_type::OCI_LAYER, diff_id, size))
    }

    /// Writes the layer that turns `left` into `right` as a blob of type `media`, under the
    /// ingest `reference`. Blocks for as long as that takes.
    pub fn diff_create(
        self: &Arc<Self>,
        context: &Context,
        left: &[Mount],
        right: &[Mount],
        media: &str,
        reference: &str,
        mut labels: Labels,
    ) -> Result<Descriptor, Error> {
        let media = if media.is_empty() { media_type::OCI_LAYER_GZIP } else { media };
        let compression = compression_of(media)?;
        let reference = match reference {
            "" => crate::content::own_reference()?,
            given => given.to_owned(),
        };
        let mut writer = Writer::open(self, context, &reference, 0, None)?;
        if writer.status().offset > 0 {
            writer.truncate()?;
        }
        let sink = BlobSink { writer, size: 0 };
        let what = |e| Error::Other(format!("writing the layer {reference}: {e}"));
        let compressor = Compressor::new(sink, compression).map_err(what)?;
        let hashed = HashWriter::new(compressor, Algorithm::Sha256);
        let (hashed, diff_id, _) = write_diff(left, right, hashed)?.finish();
        let BlobSink { writer, size } = hashed.finish().map_err(what)?;
        if compression != Compression::None {
            labels.insert(UNCOMPRESSED.into(), diff_id.to_string());
        }
        let digest = writer.digest();
        match writer.commit(size, Some(digest), labels) {
            Ok(_) | Err(Error::AlreadyExists(_)) => {}
            Err(e) => return Err(e),
        }
        Ok(Descriptor::new(media, digest, size))
    }
}

/// The compression that a layer's media type asks for. Errors: a type that is no layer's.
fn compression_of(media: &str) -> Result<Compression, Error> {
    if media_type::is_layer(media) {
        match media.rsplit(['.', '+']).next() {
            Some("tar") => return Ok(Compression::None),
            Some("gzip") => return Ok(Compression::Gzip),
            Some("zstd") => return Ok(Compression::Zstd),
            _ => {}
        }
    }
    Err(Error::Unimplemented(format!("unsupported diff media type: {media}")))
}

fn write_diff<W: Write>(left: &[Mount], right: &[Mount], out: W) -> Result<W, Error> {
    let failed = |e| Error::Other(format!("writing a layer: {e}"));
    let new = Target::of(right)?;
    // What the overlay collected is the difference, if the left side is what it stands on.
    if new.is_overlay() && left_is_below(left, &new)? {
        let lowers: Vec<&Path> = new.lowers.iter().map(AsRef::as_ref).collect();
        return Ok(diff_overlay(&new.folder, &lowers, out).map_err(failed)?.0);
    }
    let new = Target::view(right)?;
    let old = if left.is_empty() { None } else { Some(Target::view(left)?) };
    let old = old.as_ref().map(|old| old.folder.as_path());
    Ok(diff_trees(old, &new.folder, out).map_err(failed)?.0)
}

fn left_is_below(left: &[Mount], new: &Target) -> Result<bool, Error> {
    if left.is_empty() {
        return Ok(new.lowers.is_empty());
    }
    Ok(Target::layers(left)? == new.lowers)
}

/// A content writer as a byte sink.
pub(crate) struct BlobSink {
    pub(crate) writer: Writer,
    /// Bytes written.
    pub(crate) size: u64,
}

impl Write for BlobSink {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.writer.write(buf).map_err(|e| io::Error::other(e.to_string()))?;
        self.size += buf.len() as u64;
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
