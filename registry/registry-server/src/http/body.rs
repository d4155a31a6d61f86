//! Bodies of answers. A file goes out in large pieces: by the kernel alone where the connection is
//! plain; else they are read, on the spot as far as the page cache has them, from the disk on a
//! thread that may wait.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use rustix::io::{Errno, ReadWriteFlags};
use tokio::task::JoinHandle;

use super::files::{self, Files};

/// Bytes per piece: what the second-level cache of a core holds.
const PIECE: usize = 256 << 10;
/// Pieces that are kept for the next read; more are in flight only while they are being sent.
const KEPT: usize = 3;

type Streamed = Pin<Box<dyn http_body::Body<Data = Bytes, Error = io::Error> + Send>>;

/// The body of an answer.
pub(crate) enum Body {
    /// Bytes at hand, possibly none.
    Full(Bytes),
    /// A part of a file.
    File(Box<FileBody>),
    /// What somebody else makes.
    Stream(Streamed),
}

impl Body {
    /// No bytes.
    pub(crate) const fn empty() -> Self {
        Self::Full(Bytes::new())
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Self::Full(text.into())
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Full(bytes.into())
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match self.get_mut() {
            Self::Full(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Full(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::File(file) => Pin::new(file.as_mut()).poll_frame(context),
            Self::Stream(stream) => stream.as_mut().poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Full(bytes) => bytes.is_empty(),
            Self::File(file) => file.is_end_stream(),
            Self::Stream(stream) => stream.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::File(file) => file.size_hint(),
            Self::Stream(stream) => stream.size_hint(),
        }
    }
}

/// Buffers that come back once they are sent.
type Pool = Arc<Mutex<Vec<Vec<u8>>>>;

/// A filled buffer on its way out.
struct Piece {
    buffer: Vec<u8>,
    length: usize,
    pool: Pool,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.buffer[..self.length]
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        if pool.len() < KEPT {
            pool.push(std::mem::take(&mut self.buffer));
        }
    }
}

/// What a thread that may wait does for a body.
enum Waiting {
    /// It reads a piece into a buffer.
    Read(JoinHandle<(Vec<u8>, io::Result<usize>)>),
    /// It brings a piece into memory.
    Fetch(JoinHandle<io::Result<()>>),
}

/// A part of a file as a body.
pub(crate) struct FileBody {
    file: Arc<File>,
    offset: u64,
    end: u64,
    // Where the kernel can be asked to send it.
    files: Option<Files>,
    // Up to here it is in memory.
    fetched: u64,
    pool: Pool,
    waiting: Option<Waiting>,
}

impl FileBody {
    /// The bytes of `file` from `offset` to before `end`, which are there. `files` is there when
    /// the connection can send from files.
    pub(crate) fn new(
        file: impl Into<Arc<File>>,
        offset: u64,
        end: u64,
        files: Option<Files>,
    ) -> Self {
        let file = file.into();
        // Only advice: the kernel reads further ahead.
        let whole = std::num::NonZeroU64::new(end - offset);
        rustix::fs::fadvise(&file, offset, whole, rustix::fs::Advice::Sequential).ok();
        let pool = Pool::default();
        Self { file, offset, end, files, fetched: 0, pool, waiting: None }
    }

    fn next_length(&self, most: usize) -> usize {
        usize::try_from(self.end - self.offset).unwrap_or(usize::MAX).min(most)
    }

    fn buffer(&self, length: usize) -> Vec<u8> {
        let kept = self.pool.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut buffer = kept.unwrap_or_default();
        if buffer.len() < length {
            buffer.resize(length, 0);
        }
        buffer
    }

    fn piece(&mut self, buffer: Vec<u8>, read: io::Result<usize>) -> io::Result<Bytes> {
        let length = read?;
        if length == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a stored file is too short"));
        }
        self.offset += length as u64;
        Ok(Bytes::from_owner(Piece { buffer, length, pool: Arc::clone(&self.pool) }))
    }

    /// The next piece by way of a buffer.
    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        if self.waiting.is_none() {
            let length = self.next_length(PIECE);
            let mut buffer = self.buffer(length);
            match read_cached(&self.file, &mut buffer[..length], self.offset) {
                Ok(count) if count > 0 => return Poll::Ready(self.piece(buffer, Ok(count))),
                // At the end of the file too: the other way tells.
                Ok(_) | Err(Errno::AGAIN | Errno::OPNOTSUPP) => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
            let (file, offset) = (Arc::clone(&self.file), self.offset);
            self.waiting = Some(Waiting::Read(tokio::task::spawn_blocking(move || {
                use std::os::unix::fs::FileExt;
                let read = file.read_at(&mut buffer[..length], offset);
                (buffer, read)
            })));
        }
        let Some(Waiting::Read(reading)) = &mut self.waiting else { return Poll::Pending };
        let (buffer, read) = ready!(Pin::new(reading).poll(context)).map_err(io::Error::other)?;
        self.waiting = None;
        Poll::Ready(self.piece(buffer, read))
    }

    /// The next piece as a blank that the connection fills.
    fn poll_blank(&mut self, files: &Files, context: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        let length = self.next_length(files::PIECE);
        if self.waiting.is_none() && self.fetched <= self.offset {
            if !files::is_cached(&self.file, self.offset, length) {
                let (file, offset) = (Arc::clone(&self.file), self.offset);
                let fetching =
                    tokio::task::spawn_blocking(move || files::fetch(&file, offset, length));
                self.waiting = Some(Waiting::Fetch(fetching));
            }
            self.fetched = self.offset + length as u64;
        }
        if let Some(Waiting::Fetch(fetching)) = &mut self.waiting {
            ready!(Pin::new(fetching).poll(context)).map_err(io::Error::other)??;
            self.waiting = None;
        }
        let blank = files.blank(&self.file, self.offset, length);
        self.offset += length as u64;
        Poll::Ready(Ok(blank))
    }
}

/// Reads without waiting for the disk.
fn read_cached(file: &File, buffer: &mut [u8], offset: u64) -> Result<usize, Errno> {
    rustix::io::preadv2(file, &mut [IoSliceMut::new(buffer)], offset, ReadWriteFlags::NOWAIT)
}

impl http_body::Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = self.get_mut();
        if this.offset >= this.end {
            return Poll::Ready(None);
        }
        let piece = match this.files.clone() {
            Some(files) => this.poll_blank(&files, context),
            None => this.poll_piece(context),
        };
        Poll::Ready(Some(ready!(piece).map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.offset >= self.end
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.end - self.offset)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn a_file_comes_out_whole_or_in_part_and_a_short_one_is_an_error() {
        let mut file = tempfile::tempfile().unwrap();
        let bytes: Vec<u8> = (0..PIECE * 5 / 2).map(|n| n as u8).collect();
        file.write_all(&bytes).unwrap();
        let part = |from: usize, to: usize| {
            Body::File(Box::new(FileBody::new(
                file.try_clone().unwrap(),
                from as u64,
                to as u64,
                None,
            )))
        };
        let whole = part(0, bytes.len()).collect().await.unwrap().to_bytes();
        assert!(whole == bytes);
        let middle = part(5, PIECE + 7).collect().await.unwrap().to_bytes();
        assert!(middle == bytes[5..PIECE + 7]);
        let beyond = part(bytes.len() - 1, bytes.len() + 1).collect().await;
        assert_eq!(beyond.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
