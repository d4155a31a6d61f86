//! The tar writer: ustar where everything fits, PAX records where it does not, always the same
//! bytes for the same input. No walking of folders here.

use crate::{ArchiveError, Kind, Time};
use std::io::Write;

const BLOCK: usize = 512;

/// What an entry to be written says.
#[derive(Clone, Debug)]
pub struct Header {
    /// The name; folders get a trailing slash when written.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes of data that will follow; zero unless the kind is a file.
    pub size: u64,
    /// Modification time; nanoseconds are written only when not zero.
    pub mtime: Time,
    /// Target of a link.
    pub link: Vec<u8>,
    /// Extended attributes, written in the given order.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Header {
    /// A plain file, owned by root, mode 0644, of the given size and time zero.
    pub fn file(path: impl Into<Vec<u8>>, size: u64) -> Self {
        let (uid, gid, link, xattrs) = (0, 0, Vec::new(), Vec::new());
        Self {
            path: path.into(),
            kind: Kind::File,
            mode: 0o644,
            uid,
            gid,
            size,
            mtime: Time::default(),
            link,
            xattrs,
        }
    }

    /// A folder, owned by root, mode 0755.
    pub fn dir(path: impl Into<Vec<u8>>) -> Self {
        Self { kind: Kind::Dir, mode: 0o755, ..Self::file(path, 0) }
    }
}

/// Writes entries to a stream.
pub struct Writer<W> {
    out: W,
    /// Data still owed to the present entry.
    owed: u64,
    padding: usize,
}

impl<W: Write> Writer<W> {
    /// A writer onto `out`.
    pub fn new(out: W) -> Self {
        Self { out, owed: 0, padding: 0 }
    }

    /// Starts an entry. Exactly `header.size` bytes of [`Self::data`] must follow.
    pub fn start(&mut self, header: &Header) -> Result<(), ArchiveError> {
        self.end_entry()?;
        let mut path = header.path.clone();
        if header.kind == Kind::Dir && !path.ends_with(b"/") {
            path.push(b'/');
        }
        let records = pax_records(header, &path);
        if !records.is_empty() {
            let name = [b"PaxHeaders.0/".as_slice(), &path].concat();
            let mut block = block(&name, b'x', records.len() as u64);
            finish(&mut block);
            self.put(&block)?;
            self.put(&records)?;
            self.put(&[0; BLOCK][..pad(records.len() as u64)])?;
        }
        self.put(&main_block(header, &path))?;
        self.owed = header.size;
        self.padding = pad(header.size);
        Ok(())
    }

    /// Writes a piece of the present entry's data.
    pub fn data(&mut self, chunk: &[u8]) -> Result<(), ArchiveError> {
        self.owed = self
            .owed
            .checked_sub(chunk.len() as u64)
            .ok_or_else(|| ArchiveError::malformed(0, "an entry grew while it was written"))?;
        self.put(chunk)
    }

    /// A whole entry at once; `header.size` is taken from `data`.
    pub fn entry(&mut self, mut header: Header, data: &[u8]) -> Result<(), ArchiveError> {
        header.size = data.len() as u64;
        self.start(&header)?;
        self.data(data)
    }

    /// Ends the archive and gives the stream back.
    pub fn finish(mut self) -> Result<W, ArchiveError> {
        self.end_entry()?;
        self.put(&[0; 2 * BLOCK])?;
        self.out.flush().map_err(|e| ArchiveError::stream("writing the archive", e))?;
        Ok(self.out)
    }

    /// The stream, for callers that send an entry's data past this writer (`sendfile`): tell the
    /// length by [`Self::passed`].
    pub fn get_mut(&mut self) -> &mut W {
        &mut self.out
    }

    /// Counts `length` bytes of data as written.
    pub fn passed(&mut self, length: u64) {
        self.owed = self.owed.saturating_sub(length);
    }

    fn end_entry(&mut self) -> Result<(), ArchiveError> {
        if self.owed > 0 {
            return Err(ArchiveError::malformed(0, "an entry shrank while it was written"));
        }
        let padding = std::mem::take(&mut self.padding);
        self.put(&[0; BLOCK][..padding])
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), ArchiveError> {
        self.out.write_all(bytes).map_err(|e| ArchiveError::stream("writing the archive", e))
    }
}

fn pad(size: u64) -> usize {
    (size.next_multiple_of(BLOCK as u64) - size) as usize
}

const MAX_ID: u32 = 0o777_7777;
const MAX_SIZE: u64 = 0o777_7777_7777;

fn fits(text: &[u8]) -> bool {
    text.len() <= 100 && text.is_ascii()
}

/// The PAX records that the header needs, in a fixed order.
fn pax_records(header: &Header, path: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut add = |key: &[u8], value: &[u8]| {
        let body = key.len() + value.len() + 3;
        let mut length = body + 1;
        while length != body + length.to_string().len() {
            length = body + length.to_string().len();
        }
        out.extend_from_slice(length.to_string().as_bytes());
        out.push(b' ');
        out.extend_from_slice(key);
        out.push(b'=');
        out.extend_from_slice(value);
        out.push(b'\n');
    };
    for (key, value) in &header.xattrs {
        add(&[b"SCHILY.xattr.".as_slice(), key].concat(), value);
    }
    if header.gid > MAX_ID {
        add(b"gid", header.gid.to_string().as_bytes());
    }
    if !fits(&header.link) {
        add(b"linkpath", &header.link);
    }
    if header.mtime.secs < 0 || header.mtime.secs as u64 > MAX_SIZE || header.mtime.nanos > 0 {
        add(b"mtime", pax_time(header.mtime).as_bytes());
    }
    if !fits(path) {
        add(b"path", path);
    }
    if header.size > MAX_SIZE {
        add(b"size", header.size.to_string().as_bytes());
    }
    if header.uid > MAX_ID {
        add(b"uid", header.uid.to_string().as_bytes());
    }
    out
}

fn pax_time(time: Time) -> String {
    let (sign, secs, nanos) = match (time.secs < 0, time.nanos) {
        (true, 0) => ("-", time.secs.unsigned_abs(), 0),
        (true, nanos) => ("-", (time.secs + 1).unsigned_abs(), 1_000_000_000 - nanos),
        (false, nanos) => ("", time.secs as u64, nanos),
    };
    let text = format!("{sign}{secs}.{nanos:09}");
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}

fn block(path: &[u8], kind: u8, size: u64) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let name = &path[..path.len().min(100)];
    block[..name.len()].copy_from_slice(name);
    octal(&mut block[100..108], 0);
    octal(&mut block[108..116], 0);
    octal(&mut block[116..124], 0);
    octal(&mut block[124..136], size.min(MAX_SIZE));
    octal(&mut block[136..148], 0);
    block[156] = kind;
    block[257..265].copy_from_slice(b"ustar\x0000");
    octal(&mut block[329..337], 0);
    octal(&mut block[337..345], 0);
    block
}

fn main_block(header: &Header, path: &[u8]) -> [u8; BLOCK] {
    let (kind, major, minor) = match header.kind {
        Kind::File => (b'0', 0, 0),
        Kind::HardLink => (b'1', 0, 0),
        Kind::Symlink => (b'2', 0, 0),
        Kind::Char(major, minor) => (b'3', major, minor),
        Kind::Block(major, minor) => (b'4', major, minor),
        Kind::Dir => (b'5', 0, 0),
        Kind::Fifo => (b'6', 0, 0),
    };
    let mut block = block(path, kind, header.size);
    octal(&mut block[100..108], u64::from(header.mode & 0o7777));
    octal(&mut block[108..116], u64::from(if header.uid > MAX_ID { 0 } else { header.uid }));
    octal(&mut block[116..124], u64::from(if header.gid > MAX_ID { 0 } else { header.gid }));
    let secs = u64::try_from(header.mtime.secs).unwrap_or(0);
    octal(&mut block[136..148], if secs > MAX_SIZE { 0 } else { secs });
    let link = &header.link[..header.link.len().min(100)];
    block[157..157 + link.len()].copy_from_slice(link);
    octal(&mut block[329..337], u64::from(major));
    octal(&mut block[337..345], u64::from(minor));
    finish(&mut block);
    block
}

fn octal(field: &mut [u8], value: u64) {
    let digits = field.len() - 1;
    let text = format!("{value:0digits$o}");
    field[..digits].copy_from_slice(&text.as_bytes()[text.len() - digits..]);
}

fn finish(block: &mut [u8; BLOCK]) {
    block[148..156].fill(b' ');
    let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}
