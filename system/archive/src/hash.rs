//! Digests in the same pass as the copy: readers and writers that hash what goes through them.

use oci::{Algorithm, Digest, Hasher};
use std::io::{self, Read, Write};

/// Hashes and counts everything read through it.
pub struct HashReader<R> {
    inner: R,
    hash: Option<Hasher>,
    count: u64,
}

impl<R: Read> HashReader<R> {
    /// A reader that hashes; without an algorithm it only counts, for streams whose digest is
    /// known already.
    pub fn new(inner: R, algorithm: Option<Algorithm>) -> Self {
        Self { inner, hash: algorithm.map(Hasher::new), count: 0 }
    }

    /// The digest (absent when only counting) and the number of bytes read.
    pub fn finish(self) -> (Option<Digest>, u64) {
        (self.hash.map(Hasher::finish), self.count)
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
    hash: Hasher,
    count: u64,
}

impl<W: Write> HashWriter<W> {
    /// A writer that hashes.
    pub fn new(inner: W, algorithm: Algorithm) -> Self {
        Self { inner, hash: Hasher::new(algorithm), count: 0 }
    }

    /// The inner writer, the digest and the number of bytes written.
    pub fn finish(self) -> (W, Digest, u64) {
        (self.inner, self.hash.finish(), self.count)
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
