//! A request's body, read by the handler while the connection's loop looks
//! after everything else.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{Buf, Bytes, BytesMut};
use futures_util::Stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Mutex, Notify};

use super::ApiError;
use super::head::Length;
use super::stream::{ReadHalf, WriteHalf};

/// How much is read at once, in bytes.
const READ: usize = 64 << 10;
/// Largest body of a request that is read into memory, in bytes.
const MAX_IN_MEMORY: usize = 16 << 20;
/// Longest line of chunk framing, in bytes.
const MAX_LINE: usize = 4096;

/// Where the reader stands in a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Left(u64),
    ChunkSize,
    ChunkData(u64),
    ChunkEnd,
    Trailer,
    Done,
}

/// The reading side of a connection.
#[derive(Debug)]
pub(super) struct ReadSide {
    pub half: ReadHalf,
    pub buf: BytesMut,
    pub eof: bool,
    framing: Framing,
}

impl ReadSide {
    pub(super) fn new(half: ReadHalf) -> Self {
        Self { half, buf: BytesMut::new(), eof: false, framing: Framing::Done }
    }

    /// Sets up for a body of this length.
    pub(super) fn expect(&mut self, length: Length) {
        self.framing = match length {
            Length::Fixed(0) => Framing::Done,
            Length::Fixed(n) => Framing::Left(n),
            Length::Chunked => Framing::ChunkSize,
        };
    }

    pub(super) fn is_done(&self) -> bool {
        self.framing == Framing::Done
    }

    /// Reads more into the buffer; false at the end of input. Safe to drop
    /// while it waits.
    pub(super) async fn fill(&mut self) -> io::Result<bool> {
        if self.eof {
            return Ok(false);
        }
        self.buf.reserve(READ);
        let n = self.half.read_buf(&mut self.buf).await?;
        self.eof = n == 0;
        Ok(n > 0)
    }

    async fn more(&mut self) -> io::Result<()> {
        if self.fill().await? { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    async fn line(&mut self) -> io::Result<Bytes> {
        loop {
            if let Some(at) = self.buf.iter().position(|b| *b == b'\n') {
                let mut line = self.buf.split_to(at + 1).freeze();
                line.truncate(line.len() - 1);
                if line.last() == Some(&b'\r') {
                    line.truncate(line.len() - 1);
                }
                return Ok(line);
            }
            if self.buf.len() > MAX_LINE {
                return Err(io::Error::other("malformed chunked encoding"));
            }
            self.more().await?;
        }
    }

    async fn take(&mut self, left: u64) -> io::Result<Bytes> {
        if self.buf.is_empty() {
            self.more().await?;
        }
        let n = left.min(self.buf.len() as u64) as usize;
        Ok(self.buf.split_to(n).freeze())
    }

    /// The next piece of the body; `None` at its end.
    async fn chunk(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            match self.framing {
                Framing::Done => return Ok(None),
                Framing::Left(left) => {
                    let data = self.take(left).await?;
                    let left = left - data.len() as u64;
                    self.framing = if left == 0 { Framing::Done } else { Framing::Left(left) };
                    return Ok(Some(data));
                }
                Framing::ChunkSize => {
                    let line = self.line().await?;
                    self.framing = match chunk_size(&line)? {
                        0 => Framing::Trailer,
                        n => Framing::ChunkData(n),
                    };
                }
                Framing::ChunkData(left) => {
                    let data = self.take(left).await?;
                    let left = left - data.len() as u64;
                    self.framing =
                        if left == 0 { Framing::ChunkEnd } else { Framing::ChunkData(left) };
                    return Ok(Some(data));
                }
                Framing::ChunkEnd => {
                    if !self.line().await?.is_empty() {
                        return Err(io::Error::other("malformed chunked encoding"));
                    }
                    self.framing = Framing::ChunkSize;
                }
                Framing::Trailer => {
                    if self.line().await?.is_empty() {
                        self.framing = Framing::Done;
                    }
                }
            }
        }
    }

    /// Reads and drops the rest of a body, up to `limit` bytes; whether the
    /// connection can go on.
    pub(super) async fn drain(&mut self, limit: usize) -> bool {
        let mut seen = 0;
        loop {
            match self.chunk().await {
                Ok(None) => return true,
                Ok(Some(data)) => seen += data.len(),
                Err(_) => return false,
            }
            if seen > limit {
                return false;
            }
        }
    }
}

fn chunk_size(line: &[u8]) -> io::Result<u64> {
    let digits = line.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
    let text = std::str::from_utf8(digits).unwrap_or_default();
    let hex = !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit());
    let size = hex.then(|| u64::from_str_radix(text, 16).ok()).flatten();
    size.ok_or_else(|| io::Error::other("malformed chunked encoding"))
}

/// What the connection's loop and the handler share.
#[derive(Debug)]
pub(super) struct Shared {
    pub read: Mutex<ReadSide>,
    pub write: Mutex<WriteHalf>,
    /// The client waits for `100 Continue` before it sends the body.
    pub expects: AtomicBool,
    /// Told when a body has been read to its end.
    pub consumed: Notify,
}

/// A request's body.
#[derive(Debug)]
pub struct Body {
    shared: Arc<Shared>,
    length: Option<u64>,
    /// All was read: the connection's loop may hold the reading side from now on.
    done: bool,
}

impl Body {
    pub(super) fn new(shared: Arc<Shared>, length: Length) -> Self {
        let length = match length {
            Length::Fixed(n) => Some(n),
            Length::Chunked => None,
        };
        Self { shared, length, done: false }
    }

    /// The length that the client announced; `None` for a stream.
    pub fn length(&self) -> Option<u64> {
        self.length
    }

    /// The next piece, or `None` at the end.
    ///
    /// # Errors
    /// The connection broke, or the framing is wrong.
    pub async fn chunk(&mut self) -> io::Result<Option<Bytes>> {
        if self.done || self.length == Some(0) {
            return Ok(None);
        }
        if self.shared.expects.swap(false, Ordering::AcqRel) {
            let mut write = self.shared.write.lock().await;
            write.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        let mut read = self.shared.read.lock().await;
        let chunk = read.chunk().await?;
        if read.is_done() {
            self.done = true;
            self.shared.consumed.notify_one();
        }
        Ok(chunk)
    }

    /// The whole body.
    ///
    /// # Errors
    /// 400 when the connection broke, 413 above 16 MiB.
    pub async fn bytes(mut self) -> Result<Bytes, ApiError> {
        let mut out = BytesMut::new();
        while let Some(chunk) =
            self.chunk().await.map_err(|e| ApiError::bad_request(read_error(&e)))?
        {
            if out.len() + chunk.len() > MAX_IN_MEMORY {
                let status = http::StatusCode::PAYLOAD_TOO_LARGE;
                return Err(ApiError { status, message: "request body too large".into() });
            }
            out.extend_from_slice(&chunk);
        }
        Ok(out.copy_to_bytes(out.len()))
    }

    /// The body as a stream of its pieces.
    pub fn into_stream(self) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
        futures_util::stream::try_unfold(self, |mut body| async move {
            Ok(body.chunk().await?.map(|chunk| (chunk, body)))
        })
    }
}

/// Go's words for a body that ended early.
fn read_error(e: &io::Error) -> String {
    match e.kind() {
        io::ErrorKind::UnexpectedEof => "unexpected EOF".into(),
        _ => e.to_string(),
    }
}
