//! The bytes of a file in large pieces: as blanks where the connection sends from files; else they
//! are read, on the spot as far as the page cache has them, from the disk on a thread that may wait.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::Stream;
use rustix::io::{Errno, ReadWriteFlags};
use tokio::task::JoinHandle;

use crate::files::{self, Files};

/// Bytes per piece that is read: what the second-level cache of a core holds.
const PIECE: usize = 256 << 10;
/// Pieces that are kept for the next read; more are in flight only while they are being sent.
const KEPT: usize = 3;

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

/// What a thread that may wait does for a stream.
enum Waiting {
    /// It reads a piece into a buffer.
    Read(JoinHandle<(Vec<u8>, io::Result<usize>)>),
    /// It brings a piece into memory.
    Fetch(JoinHandle<io::Result<()>>),
}

/// A part of a file, in pieces. A file that is shorter than was said is an error, `UnexpectedEof`;
/// one that shrinks while the kernel is to send it, of the connection.
pub struct FileStream {
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

impl FileStream {
    /// The bytes of `file` from `offset` to before `end`, which are there. `files` is there when
    /// the connection can send from files; what comes then must be written to it, in this order.
    pub fn new(file: impl Into<Arc<File>>, offset: u64, end: u64, files: Option<Files>) -> Self {
        let file = file.into();
        // Only advice: the kernel reads further ahead.
        let whole = std::num::NonZeroU64::new(end.saturating_sub(offset));
        rustix::fs::fadvise(&file, offset, whole, rustix::fs::Advice::Sequential).ok();
        let pool = Pool::default();
        Self { file, offset, end, files, fetched: 0, pool, waiting: None }
    }

    /// More is there meanwhile, to before `end`: after the last piece others follow.
    pub fn grow(&mut self, end: u64) {
        self.end = self.end.max(end);
    }

    /// How many bytes are to come.
    pub fn left(&self) -> u64 {
        self.end.saturating_sub(self.offset)
    }

    fn next_length(&self, most: usize) -> usize {
        usize::try_from(self.left()).unwrap_or(usize::MAX).min(most)
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
            return Err(too_short());
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
                Ok(_) | Err(Errno::AGAIN | Errno::INTR | Errno::OPNOTSUPP) => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
            let (file, offset) = (Arc::clone(&self.file), self.offset);
            self.waiting = Some(Waiting::Read(tokio::task::spawn_blocking(move || {
                use std::os::unix::fs::FileExt;
                let read = loop {
                    match file.read_at(&mut buffer[..length], offset) {
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                        read => break read,
                    }
                };
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
        if self.file.metadata()?.len() < self.offset + length as u64 {
            return Poll::Ready(Err(too_short()));
        }
        let blank = files.blank(&self.file, self.offset, length);
        self.offset += length as u64;
        Poll::Ready(Ok(blank))
    }
}

fn too_short() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "a stored file is too short")
}

/// Reads without waiting for the disk.
fn read_cached(file: &File, buffer: &mut [u8], offset: u64) -> Result<usize, Errno> {
    rustix::io::preadv2(file, &mut [IoSliceMut::new(buffer)], offset, ReadWriteFlags::NOWAIT)
}

impl Stream for FileStream {
    type Item = io::Result<Bytes>;

    fn poll_next(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Bytes>>> {
        let this = self.get_mut();
        if this.left() == 0 {
            return Poll::Ready(None);
        }
        let piece = ready!(match this.files.clone() {
            Some(files) => this.poll_blank(&files, context),
            None => this.poll_piece(context),
        });
        if piece.is_err() {
            this.end = this.offset;
        }
        Poll::Ready(Some(piece))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::io::Write;

    use futures_util::StreamExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    fn file(size: usize) -> (Arc<File>, Vec<u8>) {
        let bytes: Vec<u8> = (0..size).map(|n| (n % 251) as u8).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        (Arc::new(file), bytes)
    }

    async fn all(mut stream: FileStream) -> io::Result<Vec<u8>> {
        let mut whole = Vec::new();
        while let Some(piece) = stream.next().await {
            whole.extend_from_slice(&piece?);
        }
        Ok(whole)
    }

    #[tokio::test]
    async fn a_file_comes_out_whole_or_in_part_and_a_short_one_is_an_error() {
        let (file, bytes) = file(PIECE * 5 / 2);
        let part =
            |from: usize, to: usize| FileStream::new(file.clone(), from as u64, to as u64, None);
        assert!(all(part(0, bytes.len())).await.unwrap() == bytes);
        assert!(all(part(5, PIECE + 7)).await.unwrap() == bytes[5..PIECE + 7]);
        assert!(all(part(9, 9)).await.unwrap().is_empty());
        let beyond = all(part(bytes.len() - 1, bytes.len() + 1)).await;
        assert_eq!(beyond.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn buffers_are_used_again() {
        let (file, bytes) = file(20 * PIECE);
        let mut stream = FileStream::new(file, 0, bytes.len() as u64, None);
        let mut seen = HashSet::new();
        while let Some(piece) = stream.next().await {
            seen.insert(piece.unwrap().as_ptr() as usize);
        }
        assert!(seen.len() <= KEPT, "{} buffers", seen.len());
    }

    /// Writes `head`, a part of a file as blanks, and `tail`, as a server of bodies does.
    async fn send(
        socket: &mut TcpStream,
        (file, from, to): (Arc<File>, u64, u64),
        (head, tail): (&'static [u8], &'static [u8]),
    ) -> io::Result<()> {
        let files = Files::default();
        let mut queue = vec![Bytes::from_static(head)];
        let stream = FileStream::new(file, from, to, Some(files.clone()));
        for piece in stream.collect::<Vec<_>>().await {
            queue.push(piece?);
        }
        queue.push(Bytes::from_static(tail));
        while !queue.is_empty() {
            let slices: Vec<io::IoSlice<'_>> = queue.iter().map(|b| io::IoSlice::new(b)).collect();
            let wrote =
                std::future::poll_fn(|context| files.poll_write(socket, &slices, context)).await?;
            let mut wrote = wrote;
            queue.retain_mut(|bytes| {
                let part = wrote.min(bytes.len());
                wrote -= part;
                bytes::Buf::advance(bytes, part);
                !bytes.is_empty()
            });
        }
        socket.shutdown().await
    }

    #[tokio::test]
    async fn the_kernel_sends_a_file_between_what_stands_around_it() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (file, bytes) = file(3 * files::PIECE + 1234);
        let to = bytes.len() as u64;
        let address = listener.local_addr().unwrap();
        let receiver = tokio::spawn(async move {
            let mut socket = TcpStream::connect(address).await.unwrap();
            let mut all = Vec::new();
            socket.read_to_end(&mut all).await.unwrap();
            all
        });
        let mut socket = listener.accept().await.unwrap().0;
        send(&mut socket, (file.clone(), 7, to), (b"head", b"tail")).await.unwrap();
        let all = receiver.await.unwrap();
        assert!(all == [b"head", &bytes[7..], b"tail"].concat());
    }

    #[tokio::test]
    async fn a_file_that_is_too_short_for_the_kernel_is_an_error() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let _receiver = TcpStream::connect(address).await.unwrap();
        let mut socket = listener.accept().await.unwrap().0;
        let (file, _) = file(10);
        let sent = send(&mut socket, (file, 0, 11), (b"", b"")).await;
        assert_eq!(sent.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
