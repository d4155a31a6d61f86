//! sha256 in the same pass as the copy: readers and writers that hash what goes through them.

use sha2::{Digest as _, Sha256};
use std::io::{self, Read, Write};

/// Hashes and counts everything read through it.
pub struct HashReader<R> {
    inner: R,
    hash: Option<Sha256>,
    count: u64,
}

impl<R: Read> HashReader<R> {
    /// A reader that hashes.
    pub fn new(inner: R) -> Self {
        Self { inner, hash: Some(Sha256::new()), count: 0 }
    }

    /// A reader that only counts, for streams whose digest is known already.
    pub fn counting(inner: R) -> Self {
        Self { inner, hash: None, count: 0 }
    }

    /// The sha256 (absent when only counting) and the number of bytes read.
    pub fn finish(self) -> (Option<[u8; 32]>, u64) {
        (self.hash.map(|hash| hash.finalize().into()), self.count)
    }
}

impl<R: Read> Read for HashReader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        if let Some(hash) = &mut self.hash {
            hash.update(&buf[..n]);
        }
        self.count += n as u64;
        Ok(n)
    }
}

/// Hashes and counts everything written through it.
pub struct HashWriter<W> {
    inner: W,
    hash: Sha256,
    count: u64,
}

impl<W: Write> HashWriter<W> {
    /// A writer that hashes.
    pub fn new(inner: W) -> Self {
        Self { inner, hash: Sha256::new(), count: 0 }
    }

    /// The inner writer, the sha256 and the number of bytes written.
    pub fn finish(self) -> (W, [u8; 32], u64) {
        (self.inner, self.hash.finalize().into(), self.count)
    }
}

impl<W: Write> Write for HashWriter<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(buf)?;
        self.hash.update(&buf[..n]);
        self.count += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
