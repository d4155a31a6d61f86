//! What a detached sink has taken from its FIFOs and not yet logged, kept where a kill of the
//! sink does not reach it: a file for each stream, and a note of how far the log is. The next
//! sink goes on exactly there: no byte is lost and none is logged twice.

use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use rustix::pipe::{SpliceFlags, splice};
use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

/// Bytes that are moved at once.
const PIECE: usize = 16 * 1024;
/// Logged bytes after which their room is given back.
const PUNCH: u64 = 256 * 1024;

/// One stream's bytes. Offsets only grow; what is logged becomes a hole.
pub(crate) struct Spool {
    file: File,
    end: u64,
    read: u64,
}

impl Spool {
    /// Opens or makes the file; reading begins at `done`.
    pub(crate) fn open(path: &Path, done: u64) -> io::Result<Self> {
        let file = open(path)?;
        let end = file.metadata()?.len();
        Ok(Self { file, end, read: done.min(end) })
    }

    /// The file, for the log's side.
    pub(crate) fn file(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Whether bytes wait that need not come from the FIFO first.
    pub(crate) fn has_backlog(&self) -> bool {
        self.read < self.end
    }

    /// Bytes from the backlog, else from the FIFO by way of the file. The kernel takes from the
    /// FIFO what it has put into the file: a kill can't come in between.
    pub(crate) fn read(
        &mut self,
        source: BorrowedFd<'_>,
        buffer: &mut Vec<u8>,
    ) -> Result<usize, Errno> {
        if !self.has_backlog() {
            let mut at = self.end;
            let moved =
                splice(source, None, &self.file, Some(&mut at), PIECE, SpliceFlags::NONBLOCK)?;
            if moved == 0 {
                return Ok(0);
            }
            self.end += moved as u64;
        }
        let wanted = (self.end - self.read).min(PIECE as u64) as usize;
        let start = buffer.len();
        buffer.resize(start + wanted, 0);
        let got = self.file.read_at(&mut buffer[start..], self.read);
        buffer.truncate(start + got.as_ref().copied().unwrap_or(0));
        let got = got.map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))?;
        self.read += got as u64;
        Ok(got)
    }
}

fn open(path: &Path) -> io::Result<File> {
    File::options().read(true).write(true).create(true).truncate(false).open(path)
}

/// How far the log is: written before each of its writes, so that whoever comes after a kill
/// sees whether that write was done.
#[derive(Debug)]
pub(crate) struct Cursor {
    file: File,
    spools: [Option<File>; 2],
    done: [u64; 2],
    pending: [u64; 2],
    punched: [u64; 2],
}

/// The note: for both streams what was logged before the write and after it; the log's inode
/// and size before; the write's length.
const WORDS: usize = 7;

impl Cursor {
    /// Opens or makes the note, and cuts off what a killed sink wrote of the log in part.
    pub(crate) fn open(path: &Path, log: &Path) -> io::Result<Self> {
        let file = open(path)?;
        let mut bytes = [0; WORDS * 8];
        let mut done = [0; 2];
        if file.read_exact_at(&mut bytes, 0).is_ok() {
            let word = |n: usize| {
                let mut word = [0; 8];
                word.copy_from_slice(&bytes[n * 8..][..8]);
                u64::from_ne_bytes(word)
            };
            let (before, after) = ([word(0), word(1)], [word(2), word(3)]);
            let (inode, size, length) = (word(4), word(5), word(6));
            // Another file in its place: it was complete, and rotated.
            let partial = File::options().write(true).open(log).and_then(|log| {
                let now = log.metadata()?;
                let partial = now.ino() == inode && now.len() < size + length;
                if partial {
                    log.set_len(size)?;
                }
                Ok(partial)
            });
            done = if partial.unwrap_or(false) { before } else { after };
        }
        Ok(Self { file, spools: [None, None], done, pending: done, punched: done })
    }

    /// How much of a stream is logged.
    pub(crate) fn done(&self, stream: usize) -> u64 {
        self.done[stream]
    }

    /// Takes a stream's file, to give its room back.
    pub(crate) fn give_back(&mut self, stream: usize, file: File) {
        self.spools[stream] = Some(file);
    }

    /// So many bytes of a stream will be in the next write.
    pub(crate) fn took(&mut self, stream: u8, bytes: usize) {
        self.pending[usize::from(stream & 1)] += bytes as u64;
    }

    /// A write of `length` bytes to `log`, `size` bytes long, follows.
    pub(crate) fn intend(&self, log: &File, size: u64, length: u64) -> io::Result<()> {
        let ([a, b], [c, d]) = (self.done, self.pending);
        self.note([a, b, c, d, log.metadata()?.ino(), size, length])
    }

    /// All that was written is whole: the log may be cut or renamed.
    pub(crate) fn settle(&self) -> io::Result<()> {
        let [a, b] = self.done;
        self.note([a, b, a, b, 0, 0, 0])
    }

    fn note(&self, words: [u64; WORDS]) -> io::Result<()> {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        self.file.write_all_at(&bytes, 0)
    }

    /// The write is done, or what it would have written is given up.
    pub(crate) fn written(&mut self) {
        self.done = self.pending;
        for n in 0..2 {
            if let Some(file) = &self.spools[n]
                && self.done[n] - self.punched[n] >= PUNCH
            {
                let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                // Where holes can't be made, the file grows until the process ends.
                let _ = rustix::fs::fallocate(file, flags, 0, self.done[n]);
                self.punched[n] = self.done[n];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::AsFd;

    #[test]
    fn after_a_kill_a_write_counts_only_if_it_was_whole() {
        let folder = tempfile::tempdir().unwrap();
        let (note, path) = (folder.path().join("cursor"), folder.path().join("log"));
        std::fs::write(&path, "head ").unwrap();
        let mut log = File::options().append(true).open(&path).unwrap();
        let mut cursor = Cursor::open(&note, &path).unwrap();
        cursor.took(0, 3);
        cursor.took(1, 4);
        cursor.intend(&log, 5, 10).unwrap();
        log.write_all(b"01234").unwrap();
        let again = Cursor::open(&note, &path).unwrap();
        assert_eq!((again.done(0), again.done(1)), (0, 0));
        assert_eq!(std::fs::read(&path).unwrap(), b"head ");
        log.write_all(b"0123456789").unwrap();
        let again = Cursor::open(&note, &path).unwrap();
        assert_eq!((again.done(0), again.done(1)), (3, 4));
    }

    #[test]
    fn what_was_taken_from_a_pipe_is_there_for_the_next_sink() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spool");
        let (reader, mut writer) = io::pipe().unwrap();
        writer.write_all(b"taken").unwrap();
        let mut buffer = Vec::new();
        let mut first = Spool::open(&path, 0).unwrap();
        assert_eq!(first.read(reader.as_fd(), &mut buffer), Ok(5));
        assert_eq!(first.read(reader.as_fd(), &mut buffer), Err(Errno::AGAIN));
        drop(first);
        writer.write_all(b" later").unwrap();
        buffer.clear();
        let mut next = Spool::open(&path, 2).unwrap();
        assert!(next.has_backlog());
        assert_eq!(next.read(reader.as_fd(), &mut buffer), Ok(3));
        assert_eq!(next.read(reader.as_fd(), &mut buffer), Ok(6));
        assert_eq!(buffer, b"ken later");
    }
}
