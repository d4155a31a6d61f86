//! Reading an image archive, docker's or an OCI layout, in one pass: every member becomes a blob
//! under its own hash while its layer is unpacked beside it. What the members mean is settled at
//! the end (`resolve`), since docker writes its indexes last. Names in the archive are never
//! trusted for content.

use super::layers::{Layer, Workers};
use crate::content::Writer;
use crate::{Context, Error, State};
use archive::{Compression, Decompressor, Kind, Limits, Reader, Tail, clean};
use oci::{Algorithm, Digest};
use std::collections::HashMap;
use std::io::{BufReader, Read};
use std::sync::Arc;

/// Largest member that can be a manifest, an index or a config, in bytes.
const MAX_DOCUMENT: u64 = 8 << 20;
/// Most bytes of such members in one archive.
const MAX_DOCUMENTS: usize = 128 << 20;
/// Most symbolic links in a row.
const MAX_LINKS: usize = 16;

/// A blob of the archive.
#[derive(Clone, Debug)]
pub(super) struct Blob {
    pub(super) digest: Digest,
    pub(super) size: u64,
    pub(super) compression: Compression,
}

enum Member {
    Document(Digest),
    Blob(Blob),
    Link(Vec<u8>),
}

/// What an archive held.
#[derive(Default)]
pub(super) struct Contents {
    members: HashMap<Vec<u8>, Member>,
    /// JSON documents by digest, not yet stored.
    pub(super) documents: HashMap<Digest, Vec<u8>>,
    /// Other members by digest, stored.
    pub(super) blobs: HashMap<Digest, Blob>,
    /// Layers unpacked so far, by their blob's digest.
    pub(super) layers: HashMap<Digest, Layer>,
    held: usize,
}

impl Contents {
    /// A document and its digest by name.
    pub(super) fn document(&self, name: &str) -> Option<(Digest, &[u8])> {
        match self.member(name.as_bytes())? {
            Member::Document(digest) => self.documents.get(digest).map(|d| (*digest, d.as_slice())),
            _ => None,
        }
    }

    /// A layer by name, through links.
    pub(super) fn blob(&self, name: &str) -> Option<&Blob> {
        match self.member(name.as_bytes())? {
            Member::Blob(blob) => Some(blob),
            _ => None,
        }
    }

    fn member(&self, name: &[u8]) -> Option<&Member> {
        let mut name = clean(name);
        for _ in 0..MAX_LINKS {
            match self.members.get(&name)? {
                Member::Link(target) => name.clone_from(target),
                found => return Some(found),
            }
        }
        None
    }
}

/// Reads the archive to its end. `unpack` names the snapshotter that layers are unpacked for.
pub(super) fn read(
    state: &Arc<State>,
    context: &Context,
    stream: impl Read,
    unpack: Option<&str>,
) -> Result<Contents, Error> {
    let failed = |e| Error::Other(format!("reading the image archive: {e}"));
    let stream = Decompressor::new(stream).map_err(failed)?;
    let source = BufReader::with_capacity(1 << 20, stream);
    let mut reader = Reader::new(source, Limits::default());
    let mut contents = Contents::default();
    let import = crate::content::own_reference()?;
    let workers = Workers::new(state, context, unpack);
    let read: Result<(), Error> = (|| {
        while let Some(entry) = reader.next_entry().map_err(failed)? {
            let name = clean(&entry.path);
            match entry.kind {
                Kind::Symlink | Kind::HardLink => {
                    let target = link_target(&name, &entry.link, entry.kind);
                    contents.members.insert(name, Member::Link(target));
                }
                Kind::File if entry.size > 0 && entry.sparse.is_none() => {
                    let reference = format!("{import}-{}", contents.members.len());
                    let source = Source { name: &name, size: entry.size, reference };
                    let member = member(&mut reader, &source, &workers, &mut contents)?;
                    contents.members.insert(name, member);
                }
                _ => {}
            }
        }
        Ok(())
    })();
    // Blobs must be durable and layers whole before anybody names them; also after a failure
    // nothing may go on behind the caller's back.
    let finished = workers.finish();
    read?;
    contents.layers = finished?;
    Ok(contents)
}

/// Where a link member points, as a cleaned name.
fn link_target(name: &[u8], link: &[u8], kind: Kind) -> Vec<u8> {
    let folder = name.iter().rposition(|byte| *byte == b'/').map_or(&[][..], |at| &name[..at]);
    match kind {
        Kind::Symlink if !link.starts_with(b"/") => clean(&[folder, b"/", link].concat()),
        _ => clean(link),
    }
}

/// A member that is about to be read.
struct Source<'a> {
    name: &'a [u8],
    size: u64,
    /// The ingest that its bytes go to.
    reference: String,
}

impl Source<'_> {
    /// The algorithm of its digest. A layout's names tell it, and nothing else is taken from them.
    fn algorithm(&self) -> Algorithm {
        let below = |a: &Algorithm| self.name.starts_with(format!("blobs/{a}/").as_bytes());
        Algorithm::ALL.into_iter().find(below).unwrap_or(Algorithm::Sha256)
    }
}

fn member<R: std::io::BufRead>(
    reader: &mut Reader<R>,
    source: &Source<'_>,
    workers: &Workers,
    contents: &mut Contents,
) -> Result<Member, Error> {
    let size = source.size;
    let failed = |e| Error::Other(format!("reading the image archive: {e}"));
    // The head tells a document from a layer; the rest follows it.
    let mut head = vec![0; usize::try_from(size.min(512)).unwrap_or(512)];
    reader.read_exact(&mut head).map_err(Error::io("reading the image archive"))?;
    let left = size - head.len() as u64;
    if matches!(head.first(), Some(b'{' | b'[')) && size <= MAX_DOCUMENT {
        head.extend(reader.read_all(left).map_err(failed)?);
        contents.held += head.len();
        if contents.held > MAX_DOCUMENTS {
            return Err(Error::InvalidArgument(
                "the image archive holds too many documents".into(),
            ));
        }
        let digest = Digest::of(source.algorithm(), &head);
        contents.documents.insert(digest, head);
        return Ok(Member::Document(digest));
    }
    let blob = blob(reader, source, &head, workers)?;
    contents.blobs.insert(blob.digest, blob.clone());
    Ok(Member::Blob(blob))
}

fn blob<R: std::io::BufRead>(
    reader: &mut Reader<R>,
    source: &Source<'_>,
    head: &[u8],
    workers: &Workers,
) -> Result<Blob, Error> {
    let size = source.size;
    let compression =
        Compression::sniff(head).map_err(|e| Error::InvalidArgument(e.to_string()))?;
    let mut writer = Writer::open(&workers.state, &workers.context, &source.reference, size, None)?;
    writer.hash_by(source.algorithm())?;
    let tail = Tail::new();
    let looks_like_a_layer =
        compression != Compression::None || head.get(257..262) == Some(b"ustar");
    let job = if looks_like_a_layer {
        let file = writer.data().map_err(Error::io("reading an ingest"))?;
        workers.unpack(tail.reader(file), compression)?
    } else {
        None
    };
    let written = (|| {
        writer.write(head)?;
        let mut at = head.len() as u64;
        let mut broken = None;
        let copied = reader.copy_data(|chunk| {
            if let Err(e) = writer.write(chunk) {
                broken = Some(e);
                return Err(archive::ArchiveError::Unsupported("a write".into()));
            }
            at += chunk.len() as u64;
            tail.advance(at);
            Ok(())
        });
        match (broken, copied) {
            (Some(e), _) => Err(e),
            (None, Err(e)) => Err(Error::Other(format!("reading the image archive: {e}"))),
            (None, Ok(())) => Ok(()),
        }
    })();
    if let Err(e) = written {
        tail.abort(&e.to_string());
        return Err(e);
    }
    tail.advance(size);
    tail.finish();
    let digest = writer.digest();
    workers.commit(writer, size, digest, job);
    Ok(Blob { digest, size, compression })
}
