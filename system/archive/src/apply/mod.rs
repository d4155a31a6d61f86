//! Unpacking: a tar stream into a folder that is not trusted and an archive that is trusted even
//! less. What only a lower layer can tell (attributes of implied folders, targets of hardlinks)
//! is returned as [`Deferred`]; `join` settles it.

mod entry;
mod spread;
mod whiteout;

use crate::read::{Limits, Reader, Time};
use crate::root::{Root, clean};
use crate::{ArchiveError, HashReader};
use oci::{Algorithm, Digest};
use rustix::fs::{self, AtFlags, Timespec, Timestamps};
use std::collections::HashSet;
use std::io::{BufReader, Read};

/// How `.wh.` entries are treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whiteouts {
    /// Become overlay's: a 0:0 character device, `trusted.overlay.opaque` on folders.
    Overlay,
    /// Remove what they name, as when a layer is applied onto a mounted root file system.
    Remove,
    /// Are plain names (`docker cp`, import of a root file system).
    Keep,
}

/// How an archive is unpacked.
#[derive(Clone, Debug)]
pub struct Options {
    /// Treatment of whiteouts.
    pub whiteouts: Whiteouts,
    /// Bounds.
    pub limits: Limits,
    /// How to compute the digest of the stream; `None` when it is known already.
    pub digest: Option<Algorithm>,
    /// Whether owners are set from the archive; otherwise everything belongs to the caller.
    pub owners: bool,
    /// Whether a folder may replace a file and a file a folder.
    pub replace_kind: bool,
    /// A cleaned folder below the root under which everything lands.
    pub base: Vec<u8>,
}

impl Default for Options {
    fn default() -> Self {
        let (whiteouts, limits) = (Whiteouts::Overlay, Limits::default());
        let digest = Some(Algorithm::Sha256);
        Self { whiteouts, limits, digest, owners: true, replace_kind: true, base: Vec::new() }
    }
}

/// What only the layers below can settle.
#[derive(Clone, Debug, Default)]
pub struct Deferred {
    /// Folders that no entry described, parents first.
    pub implied: Vec<Vec<u8>>,
    /// Hardlinks whose target this archive does not hold.
    pub links: Vec<MissingLink>,
}

/// A hardlink to a file of a lower layer.
#[derive(Clone, Debug)]
pub struct MissingLink {
    /// The name to make.
    pub path: Vec<u8>,
    /// The cleaned name of the existing file.
    pub target: Vec<u8>,
}

/// The result of unpacking.
#[derive(Debug)]
pub struct Applied {
    /// Digest of the whole uncompressed stream, when it was asked for.
    pub diff_id: Option<Digest>,
    /// Bytes of the uncompressed stream.
    pub stream_size: u64,
    /// Bytes of file content that were unpacked.
    pub size: u64,
    /// Number of entries.
    pub entries: u64,
    /// What [`crate::join`] has still to do.
    pub deferred: Deferred,
}

/// Unpacks the uncompressed `stream` into `root`. The stream is read to its end, past the
/// archive's, so that the digest covers all of it.
pub fn apply<R: Read>(stream: R, root: Root, options: &Options) -> Result<Applied, ArchiveError> {
    let hashed = HashReader::new(stream, options.digest);
    let mut reader = Reader::new(BufReader::with_capacity(256 * 1024, hashed), options.limits);
    let mut unpacker = Unpacker::new(root, options);
    while let Some(entry) = reader.next_entry()? {
        unpacker.entry(&entry, &mut reader)?;
    }
    let (diff_id, stream_size) = reader.drain()?.into_inner().finish();
    unpacker.finish(diff_id, stream_size)
}

struct Unpacker<'a> {
    root: Root,
    options: &'a Options,
    /// Folder times, set last since making children changes them.
    times: Vec<(Vec<u8>, Time)>,
    implied: Vec<Vec<u8>>,
    links: Vec<MissingLink>,
    /// Names made by this archive: a whiteout only hides what lies below it.
    made: HashSet<Vec<u8>>,
    pace: spread::Pace,
    size: u64,
    entries: u64,
}

impl<'a> Unpacker<'a> {
    fn new(root: Root, options: &'a Options) -> Self {
        let (times, implied, links, made) = (Vec::new(), Vec::new(), Vec::new(), HashSet::new());
        let pace = spread::Pace::default();
        Self { root, options, times, implied, links, made, pace, size: 0, entries: 0 }
    }

    fn finish(
        mut self,
        diff_id: Option<Digest>,
        stream_size: u64,
    ) -> Result<Applied, ArchiveError> {
        let times = std::mem::take(&mut self.times);
        let described: HashSet<&[u8]> = times.iter().map(|(name, _)| name.as_slice()).collect();
        self.implied.retain(|name| !described.contains(name.as_slice()));
        for (name, time) in times.iter().rev() {
            // A later entry may have replaced or removed the folder.
            if let Ok(dir) = self.root.dir(name) {
                set_times(&dir, *time)
                    .map_err(|e| ArchiveError::entry("setting times of", name, e))?;
            }
        }
        let deferred = Deferred { implied: self.implied, links: self.links };
        Ok(Applied { diff_id, stream_size, size: self.size, entries: self.entries, deferred })
    }

    /// The cleaned name below the root, with the base in front.
    fn target(&self, name: &[u8]) -> Vec<u8> {
        let name = clean(name);
        match (self.options.base.is_empty(), name.is_empty()) {
            (true, _) => name,
            (false, true) => self.options.base.clone(),
            (false, false) => [self.options.base.as_slice(), &name].join(&b'/'),
        }
    }
}

fn set_times(dir: &std::os::fd::OwnedFd, time: Time) -> Result<(), rustix::io::Errno> {
    fs::utimensat(dir, ".", &stamps(time), AtFlags::empty())
}

fn stamps(time: Time) -> Timestamps {
    let stamp = Timespec { tv_sec: time.secs, tv_nsec: time.nanos.into() };
    Timestamps { last_access: stamp, last_modification: stamp }
}
