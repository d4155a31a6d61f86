//! Files that go from the page cache into a socket without passing through this process.
//!
//! hyper writes what a body gives it, and knows nothing of files. So a body gives it *blanks*:
//! slices of one block of memory that nobody ever looks into, while the piece of the file that a
//! blank stands for waits in a queue of the connection. Where hyper hands a blank to the socket,
//! recognised by its address, the kernel is asked to send the piece instead. Bytes leave in the
//! order in which bodies gave them, so the queue and the blanks stay in step; were one ever copied,
//! zeros would go out and no client would find its digest, which the tests would see first.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use rustix::io::Errno;
use tokio::io::{AsyncWrite, Interest};
use tokio::net::TcpStream;

/// Bytes of the largest piece.
pub(crate) const PIECE: usize = 1 << 20;

/// A part of a file that is to be sent.
#[derive(Debug)]
struct Piece {
    file: Arc<File>,
    offset: u64,
    left: usize,
}

/// The pieces that a connection's blanks stand for. A clone is the same connection's.
#[derive(Clone, Debug, Default)]
pub struct Files(Arc<Mutex<VecDeque<Piece>>>);

fn blanks() -> &'static Bytes {
    static BLANKS: OnceLock<Bytes> = OnceLock::new();
    // Never written to, so never more than an address.
    BLANKS.get_or_init(|| Bytes::from(vec![0; PIECE]))
}

/// Whether these bytes are not meant to be sent themselves.
fn is_blank(bytes: &[u8]) -> bool {
    let start = blanks().as_ptr().addr();
    !bytes.is_empty() && (start..start + PIECE).contains(&bytes.as_ptr().addr())
}

impl Files {
    /// A blank for the next `length` bytes (at most [`PIECE`]) of a file.
    pub(crate) fn blank(&self, file: &Arc<File>, offset: u64, length: usize) -> Bytes {
        let length = length.min(PIECE);
        self.queue().push_back(Piece { file: Arc::clone(file), offset, left: length });
        blanks().slice(..length)
    }

    fn queue(&self) -> std::sync::MutexGuard<'_, VecDeque<Piece>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what a connection's owner gave it to its socket, the bytes of files in place of
    /// their blanks.
    pub fn poll_write(
        &self,
        socket: &mut TcpStream,
        buffers: &[io::IoSlice<'_>],
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let plain = buffers.iter().position(|buffer| is_blank(buffer)).unwrap_or(buffers.len());
        match buffers.get(plain) {
            Some(blank) if buffers[..plain].iter().all(|buffer| buffer.is_empty()) => {
                self.poll_send(socket, blank.len(), context)
            }
            _ => Pin::new(socket).poll_write_vectored(context, &buffers[..plain]),
        }
    }

    /// Sends a file's bytes when the socket takes some.
    fn poll_send(
        &self,
        socket: &TcpStream,
        length: usize,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(socket.poll_write_ready(context))?;
            match self.send(socket, length) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }

    /// Sends what the blank `length` bytes long stands for, as far as the socket takes it.
    fn send(&self, socket: &TcpStream, length: usize) -> io::Result<usize> {
        let mut queue = self.queue();
        let piece = queue.front_mut().ok_or_else(|| io::Error::other("a blank without a file"))?;
        let length = length.min(piece.left);
        let sent = socket.try_io(Interest::WRITABLE, || {
            let mut offset = piece.offset;
            match rustix::fs::sendfile(socket, &*piece.file, Some(&mut offset), length) {
                Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(sent) => Ok(sent),
                Err(Errno::INTR) => Err(io::ErrorKind::WouldBlock.into()),
                Err(error) => Err(error.into()),
            }
        })?;
        piece.offset += sent as u64;
        piece.left -= sent;
        if piece.left == 0 {
            queue.pop_front();
        }
        Ok(sent)
    }
}

/// Whether a piece of a file is in memory, as far as some of its pages tell: sending what is not
/// would hold up every connection of this thread.
pub(crate) fn is_cached(file: &File, offset: u64, length: usize) -> bool {
    /// What the kernel reads ahead at least.
    const STEP: usize = 128 << 10;
    let last = length.saturating_sub(1);
    (0..last).step_by(STEP).chain([last]).all(|at| {
        let mut byte = [0];
        let at = offset + at as u64;
        let read = rustix::io::preadv2(
            file,
            &mut [io::IoSliceMut::new(&mut byte)],
            at,
            rustix::io::ReadWriteFlags::NOWAIT,
        );
        // A file system that cannot tell is taken to be fast.
        !matches!(read, Err(Errno::AGAIN))
    })
}

/// Brings a piece of a file into memory. Blocks.
pub(crate) fn fetch(file: &File, offset: u64, length: usize) -> io::Result<()> {
    use std::os::unix::fs::FileExt;
    let mut buffer = vec![0; 128 << 10];
    let mut done = 0;
    while done < length {
        let part = buffer.len().min(length - done);
        match file.read_at(&mut buffer[..part], offset + done as u64)? {
            // The other side tells.
            0 => return Ok(()),
            count => done += count,
        }
    }
    Ok(())
}
