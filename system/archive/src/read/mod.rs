//! The tar reader: one pass, every size bounded, extensions (PAX, GNU) folded into the entry
//! they describe. Nothing here touches a file system.

mod header;
mod pax;
mod sparse;

pub use sparse::Sparse;

use crate::ArchiveError;
use header::{BLOCK, Raw};
use std::io::{self, BufRead, Read};

/// The longest PAX header or GNU long name that is read, as in Go's reader.
const MAX_EXTENSION: u64 = 1 << 20;

/// What an archive may cost the reader.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Number of entries.
    pub entries: u64,
    /// Bytes of file content, holes included.
    pub bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { entries: 20_000_000, bytes: 1 << 44 }
    }
}

/// A time stamp, possibly before 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Time {
    /// Seconds since 1970.
    pub secs: i64,
    /// Nanoseconds, always forward.
    pub nanos: u32,
}

/// What an entry makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// Another name of an earlier file.
    HardLink,
    /// A symbolic link.
    Symlink,
    /// A folder.
    Dir,
    /// A character device with major and minor.
    Char(u32, u32),
    /// A block device with major and minor.
    Block(u32, u32),
    /// A named pipe.
    Fifo,
}

/// One member of the archive.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The name, as bytes, neither cleaned nor trusted.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Permission bits, 0o7777 at most.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes of data that follow in the archive.
    pub size: u64,
    /// Modification time.
    pub mtime: Time,
    /// Target of a link.
    pub link: Vec<u8>,
    /// Extended attributes, name and value.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where the data goes when the file has holes.
    pub sparse: Option<Sparse>,
}

impl Entry {
    /// The length of the file that this entry makes.
    pub fn real_size(&self) -> u64 {
        self.sparse.as_ref().map_or(self.size, |sparse| sparse.real_size)
    }
}

/// Reads entries one after the other; the data of the present one comes through [`Read`].
pub struct Reader<R> {
    inner: R,
    /// Position in the stream, for messages.
    offset: u64,
    /// Data of the present entry that was not read yet.
    remaining: u64,
    /// Padding after that data.
    padding: u64,
    entries: u64,
    bytes: u64,
    limits: Limits,
    ended: bool,
}

impl<R: BufRead> Reader<R> {
    /// A reader of the uncompressed stream `inner`.
    pub fn new(inner: R, limits: Limits) -> Self {
        Self {
            inner,
            offset: 0,
            remaining: 0,
            padding: 0,
            entries: 0,
            bytes: 0,
            limits,
            ended: false,
        }
    }

    /// The next entry, or `None` at the end of the archive. Skips what is left of the present one.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, ArchiveError> {
        let mut pending = Pending::default();
        loop {
            self.skip_data()?;
            let Some(raw) = self.next_header()? else {
                return if pending.any() {
                    Err(ArchiveError::malformed(
                        self.offset,
                        "the archive ends after an extension header",
                    ))
                } else {
                    Ok(None)
                };
            };
            match raw.kind {
                b'x' | b'X' => pending.pax = Some(pax::parse(&self.extension(&raw)?, self.offset)?),
                // Global headers are read past, as Go's users do.
                b'g' => drop(self.extension(&raw)?),
                b'L' => pending.long_name = Some(until_nul(self.extension(&raw)?)),
                b'K' => pending.long_link = Some(until_nul(self.extension(&raw)?)),
                _ => return self.entry(raw, pending).map(Some),
            }
        }
    }

    /// Passes the present entry's data on in whatever chunks the stream has.
    pub fn copy_data(
        &mut self,
        mut to: impl FnMut(&[u8]) -> Result<(), ArchiveError>,
    ) -> Result<(), ArchiveError> {
        while self.remaining > 0 {
            let chunk = self
                .inner
                .fill_buf()
                .map_err(|e| ArchiveError::stream("reading the archive", e))?;
            if chunk.is_empty() {
                return Err(ArchiveError::malformed(self.offset, "unexpected end inside an entry"));
            }
            let n = chunk.len().min(usize::try_from(self.remaining).unwrap_or(usize::MAX));
            to(&chunk[..n])?;
            self.inner.consume(n);
            self.remaining -= n as u64;
            self.offset += n as u64;
        }
        Ok(())
    }

    /// The present entry's data as one buffer of at most `limit` bytes.
    pub fn read_all(&mut self, limit: u64) -> Result<Vec<u8>, ArchiveError> {
        if self.remaining > limit {
            return Err(ArchiveError::Limit { what: "bytes in one member", limit });
        }
        let mut data = Vec::with_capacity(usize::try_from(self.remaining).unwrap_or(0));
        self.copy_data(|chunk| {
            data.extend_from_slice(chunk);
            Ok(())
        })?;
        Ok(data)
    }

    /// Reads what follows the end of the archive (a digest covers it too) and gives the stream back.
    pub fn drain(mut self) -> Result<R, ArchiveError> {
        self.skip_data()?;
        io::copy(&mut self.inner, &mut io::sink())
            .map_err(|e| ArchiveError::stream("reading the archive", e))?;
        Ok(self.inner)
    }

    fn skip_data(&mut self) -> Result<(), ArchiveError> {
        self.copy_data(|_| Ok(()))?;
        self.remaining = std::mem::take(&mut self.padding);
        // The padding of the last entry may be cut off; Go's reader tolerates that as well.
        match self.copy_data(|_| Ok(())) {
            Err(ArchiveError::Malformed { .. }) => {
                self.remaining = 0;
                self.ended = true;
                Ok(())
            }
            other => other,
        }
    }

    /// The next header block, `None` at two zero blocks or the end of the stream.
    fn next_header(&mut self) -> Result<Option<Raw>, ArchiveError> {
        if self.ended {
            return Ok(None);
        }
        let Some(block) = self.block()? else {
            self.ended = true;
            return Ok(None);
        };
        if block.iter().all(|byte| *byte == 0) {
            self.ended = true;
            return match self.block()? {
                Some(second) if second.iter().any(|byte| *byte != 0) => {
                    Err(ArchiveError::malformed(self.offset, "a lone zero block between entries"))
                }
                _ => Ok(None),
            };
        }
        self.entries += 1;
        if self.entries > self.limits.entries {
            return Err(ArchiveError::Limit { what: "entries", limit: self.limits.entries });
        }
        Raw::parse(&block, self.offset).map(Some)
    }

    fn block(&mut self) -> Result<Option<[u8; BLOCK]>, ArchiveError> {
        let mut block = [0; BLOCK];
        let mut have = 0;
        while have < BLOCK {
            let n = self
                .inner
                .read(&mut block[have..])
                .map_err(|e| ArchiveError::stream("reading the archive", e))?;
            if n == 0 {
                break;
            }
            have += n;
        }
        self.offset += have as u64;
        match have {
            0 => Ok(None),
            BLOCK => Ok(Some(block)),
            _ => Err(ArchiveError::malformed(self.offset, "unexpected end inside a header")),
        }
    }

    fn extension(&mut self, raw: &Raw) -> Result<Vec<u8>, ArchiveError> {
        if raw.size > MAX_EXTENSION {
            return Err(ArchiveError::Limit {
                what: "bytes in an extension header",
                limit: MAX_EXTENSION,
            });
        }
        self.expect_data(raw.size);
        self.read_all(MAX_EXTENSION)
    }

    fn expect_data(&mut self, size: u64) {
        self.remaining = size;
        self.padding = size.next_multiple_of(BLOCK as u64) - size;
    }

    fn entry(&mut self, raw: Raw, pending: Pending) -> Result<Entry, ArchiveError> {
        let mut entry = Entry {
            kind: raw.entry_kind(),
            path: pending.long_name.unwrap_or(raw.path.clone()),
            link: pending.long_link.unwrap_or(raw.link.clone()),
            mode: raw.mode & 0o7777,
            uid: raw.uid,
            gid: raw.gid,
            size: raw.size,
            mtime: Time { secs: raw.mtime, nanos: 0 },
            xattrs: Vec::new(),
            sparse: None,
        };
        let pax = pending.pax.unwrap_or_default();
        pax.apply(&mut entry, self.offset)?;
        if !matches!(entry.kind, Kind::File) {
            // Only files carry data, whatever their size field says.
            entry.size = 0;
        } else if entry.path.ends_with(b"/") {
            entry.kind = Kind::Dir;
        }
        if !raw.known() {
            return Err(ArchiveError::refused(
                &entry.path,
                format!("unknown entry type {:?}", raw.kind as char),
            ));
        }
        if entry.size > i64::MAX as u64 {
            return Err(ArchiveError::malformed(self.offset, "an entry's size is out of range"));
        }
        self.expect_data(entry.size);
        self.read_sparse(&raw, &pax, &mut entry)?;
        self.bytes = self.bytes.saturating_add(entry.real_size());
        if self.bytes > self.limits.bytes {
            return Err(ArchiveError::Limit { what: "bytes", limit: self.limits.bytes });
        }
        Ok(entry)
    }

    fn read_sparse(
        &mut self,
        raw: &Raw,
        pax: &pax::Records,
        entry: &mut Entry,
    ) -> Result<(), ArchiveError> {
        let map = if raw.kind == b'S' {
            sparse::old_gnu(raw, || {
                let block = self.block()?;
                block
                    .ok_or_else(|| ArchiveError::malformed(0, "unexpected end inside a sparse map"))
            })?
        } else if pax.sparse_in_data() {
            let before = self.remaining;
            let map = sparse::from_data(pax, |buf| {
                if self.remaining < buf.len() as u64 {
                    return Err(ArchiveError::malformed(
                        self.offset,
                        "a sparse map longer than its entry",
                    ));
                }
                self.read_exact(buf).map_err(|e| ArchiveError::stream("reading a sparse map", e))
            })?;
            entry.size -= before - self.remaining;
            map
        } else if let Some(map) = pax.sparse_map()? {
            map
        } else {
            return Ok(());
        };
        map.check(entry.size).map_err(|what| ArchiveError::refused(&entry.path, what))?;
        entry.sparse = Some(map);
        Ok(())
    }
}

impl<R: BufRead> Read for Reader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let want = buf.len().min(usize::try_from(self.remaining).unwrap_or(usize::MAX));
        if want == 0 {
            return Ok(0);
        }
        let n = self.inner.read(&mut buf[..want])?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.remaining -= n as u64;
        self.offset += n as u64;
        Ok(n)
    }
}

/// Extension headers that wait for their entry.
#[derive(Default)]
struct Pending {
    pax: Option<pax::Records>,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

impl Pending {
    fn any(&self) -> bool {
        self.pax.is_some() || self.long_name.is_some() || self.long_link.is_some()
    }
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(end) = bytes.iter().position(|byte| *byte == 0) {
        bytes.truncate(end);
    }
    bytes
}
