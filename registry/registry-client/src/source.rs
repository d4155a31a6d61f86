//! What is sent: bytes in memory, or a blob that can be read from any offset again, so
//! that a broken upload goes on where it stopped.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::Stream;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::net::Chunks;

/// How much of a file is read at once.
const CHUNK: usize = 1 << 20;

/// A blob to push. It is read more than once when an attempt fails.
pub trait BlobSource: Send + Sync + 'static {
    /// The bytes from `offset` on, at least `length` of them.
    fn read(&self, offset: u64, length: u64) -> Chunks;
}

/// The body of a request.
#[derive(Clone)]
pub(crate) enum Payload {
    Empty,
    Whole(Bytes),
    Part { source: Arc<dyn BlobSource>, offset: u64, length: u64 },
}

impl BlobSource for Bytes {
    fn read(&self, offset: u64, length: u64) -> Chunks {
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(self.len());
        let to = from.saturating_add(usize::try_from(length).unwrap_or(usize::MAX)).min(self.len());
        let part = self.slice(from..to);
        Box::pin(futures_util::stream::iter([Ok(part)]))
    }
}

/// A file, read in chunks of 1 MiB, the next while one is being sent. Three chunks are in
/// memory at most, whatever the file's size.
#[derive(Debug, Clone)]
pub struct FileBlob(Arc<File>);

impl FileBlob {
    /// The content of an open file, from its start.
    pub fn new(file: File) -> Self {
        Self(Arc::new(file))
    }
}

impl BlobSource for FileBlob {
    fn read(&self, offset: u64, length: u64) -> Chunks {
        let mut reader = FileReader {
            file: self.0.clone(),
            offset,
            end: offset.saturating_add(length),
            spare: Arc::default(),
            next: None,
        };
        reader.begin();
        Box::pin(reader)
    }
}

/// Buffers that were sent and can be filled again.
type Spare = Mutex<Vec<Vec<u8>>>;

struct FileReader {
    file: Arc<File>,
    offset: u64,
    end: u64,
    spare: Arc<Spare>,
    /// The read under way.
    next: Option<JoinHandle<io::Result<Vec<u8>>>>,
}

impl FileReader {
    fn begin(&mut self) {
        let left = self.end - self.offset;
        if left == 0 {
            return;
        }
        let length = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        let mut buffer = spare.pop().unwrap_or_else(|| Vec::with_capacity(length));
        drop(spare);
        let (file, offset) = (self.file.clone(), self.offset);
        self.offset += length as u64;
        self.next = Some(spawn_blocking(move || {
            buffer.resize(length, 0);
            let mut filled = 0;
            while filled < length {
                match file.read_at(&mut buffer[filled..], offset + filled as u64) {
                    Ok(0) => break,
                    Ok(read) => filled += read,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            // A file that shrank: the body notices that bytes are missing.
            buffer.truncate(filled);
            Ok(buffer)
        }));
    }
}

impl Stream for FileReader {
    type Item = io::Result<Bytes>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Bytes>>> {
        let Some(next) = &mut self.next else { return Poll::Ready(None) };
        let read = ready!(Pin::new(next).poll(cx));
        self.next = None;
        let buffer = read.map_err(io::Error::other).flatten();
        if buffer.as_ref().is_ok_and(|buffer| !buffer.is_empty()) {
            self.begin();
        }
        Poll::Ready(match buffer {
            Ok(buffer) if buffer.is_empty() => None,
            Ok(buffer) => {
                Some(Ok(Bytes::from_owner(Chunk { buffer, home: Arc::downgrade(&self.spare) })))
            }
            Err(error) => Some(Err(error)),
        })
    }
}

/// A filled buffer that goes home when it was sent.
struct Chunk {
    buffer: Vec<u8>,
    home: Weak<Spare>,
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        if let Some(home) = self.home.upgrade() {
            let mut spare = home.lock().unwrap_or_else(PoisonError::into_inner);
            spare.push(std::mem::take(&mut self.buffer));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use futures_util::StreamExt;

    use super::*;

    async fn all(mut chunks: Chunks) -> Vec<u8> {
        let mut whole = Vec::new();
        while let Some(chunk) = chunks.next().await {
            whole.extend_from_slice(&chunk.unwrap());
        }
        whole
    }

    #[tokio::test]
    async fn a_file_is_read_from_any_offset_in_chunks() {
        let content: Vec<u8> = (0..2 * CHUNK + 777).map(|n| (n % 251) as u8).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&content).unwrap();
        let blob = FileBlob::new(file);
        let size = content.len() as u64;
        for (offset, length) in [(0, size), (1, size - 1), (CHUNK as u64, 10), (size, 0)] {
            let from = offset as usize;
            let expected = &content[from..from + length as usize];
            assert!(all(blob.read(offset, length)).await == expected, "{offset} {length}");
        }
    }

    #[tokio::test]
    async fn buffers_are_used_again() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(20 * CHUNK as u64).unwrap();
        let mut chunks = FileBlob::new(file).read(0, 20 * CHUNK as u64);
        let mut seen = std::collections::HashSet::new();
        while let Some(chunk) = chunks.next().await {
            seen.insert(chunk.unwrap().as_ptr() as usize);
        }
        assert!(seen.len() <= 3, "{} buffers", seen.len());
    }

    #[tokio::test]
    async fn a_shorter_file_ends_early() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"abc").unwrap();
        assert_eq!(all(FileBlob::new(file).read(1, 10)).await, b"bc");
        assert_eq!(all(Bytes::from_static(b"abc").read(1, 10)).await, b"bc");
    }
}
