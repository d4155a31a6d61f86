//! HTTP/1.1 as an Engine API client needs it: one request on one connection, its
//! answer's body as it comes, and connections taken over after an upgrade.

use crate::ClientError;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// The most bytes of an answer's head.
const MAX_HEAD: usize = 256 * 1024;
/// How much is read at once.
const READ: usize = 32 * 1024;

/// A connection to a daemon.
#[derive(Debug)]
pub enum Stream {
    /// A unix socket, or the pair that `ssh` holds the other end of.
    Unix(UnixStream),
    /// A TCP connection.
    Tcp(TcpStream),
}

macro_rules! on_either {
    ($self:ident, $method:ident, $($arg:expr),*) => {
        match $self.get_mut() {
            Stream::Unix(stream) => Pin::new(stream).$method($($arg),*),
            Stream::Tcp(stream) => Pin::new(stream).$method($($arg),*),
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        on_either!(self, poll_read, cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        on_either!(self, poll_write, cx, buf)
    }
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        on_either!(self, poll_flush, cx)
    }
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        on_either!(self, poll_shutdown, cx)
    }
}

/// A connection with what was read of it beyond the last answer.
#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) stream: Stream,
    pub(crate) buffer: Vec<u8>,
}

/// Connections that wait for the next request.
pub(crate) type Idle = Arc<Mutex<Vec<Conn>>>;

/// A connection that the daemon gave up to its own protocol.
#[derive(Debug)]
pub struct Hijacked {
    /// The connection.
    pub stream: Stream,
    /// What came with the answer's head already.
    pub early: Vec<u8>,
    /// The type of what follows.
    pub content_type: String,
}

/// The head of an answer.
#[derive(Debug, Default)]
pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
}

impl Head {
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

impl Conn {
    /// Reads more into the buffer; 0 at the end.
    async fn more(&mut self) -> std::io::Result<usize> {
        self.buffer.reserve(READ);
        self.stream.read_buf(&mut self.buffer).await
    }

    /// Reads an answer's head, leaving what follows it in the buffer.
    pub(crate) async fn head(&mut self) -> Result<Head, ClientError> {
        loop {
            let mut slots = [httparse::EMPTY_HEADER; 64];
            let mut parsed = httparse::Response::new(&mut slots);
            match parsed.parse(&self.buffer) {
                Ok(httparse::Status::Complete(used)) => {
                    let status = parsed.code.unwrap_or(0);
                    let headers = parsed
                        .headers
                        .iter()
                        .map(|h| (h.name.to_owned(), String::from_utf8_lossy(h.value).into_owned()))
                        .collect();
                    self.buffer.drain(..used);
                    if status == 100 {
                        continue;
                    }
                    return Ok(Head { status, headers });
                }
                Ok(httparse::Status::Partial) if self.buffer.len() < MAX_HEAD => {}
                Ok(httparse::Status::Partial) => {
                    return Err(ClientError::Broken("the answer's head is too long".into()));
                }
                Err(error) => {
                    return Err(ClientError::Broken(format!("malformed HTTP response: {error}")));
                }
            }
            if self.more().await? == 0 {
                return Err(ClientError::Broken("EOF".into()));
            }
        }
    }

    /// Writes bytes.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes).await
    }
}

/// How the end of a body is told.
#[derive(Debug, Clone, Copy)]
enum Framing {
    Length(u64),
    Chunked(Chunk),
    UntilEnd,
    Done,
}

#[derive(Debug, Clone, Copy)]
enum Chunk {
    Size,
    Data(u64),
    DataEnd,
    Trailer,
}

/// A body, read as it comes. Its connection is used again once it is read to the end.
#[derive(Debug)]
pub struct Body {
    conn: Option<Conn>,
    framing: Framing,
    keep: bool,
    idle: Idle,
}

/// An answer.
#[derive(Debug)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// Its body.
    pub body: Body,
    pub(crate) head: Head,
}

impl Response {
    pub(crate) fn new(conn: Conn, head: Head, no_body: bool, idle: Idle) -> Self {
        let chunked = head
            .get("transfer-encoding")
            .is_some_and(|v| v.to_ascii_lowercase().contains("chunked"));
        let length = head.get("content-length").and_then(|v| v.trim().parse().ok());
        let framing = if no_body || matches!(head.status, 204 | 304) {
            Framing::Done
        } else if chunked {
            Framing::Chunked(Chunk::Size)
        } else {
            length.map_or(Framing::UntilEnd, Framing::Length)
        };
        let close =
            head.get("connection").is_some_and(|v| v.to_ascii_lowercase().contains("close"));
        let keep = !close && !matches!(framing, Framing::UntilEnd);
        let mut body = Body { conn: Some(conn), framing, keep, idle };
        if matches!(body.framing, Framing::Done | Framing::Length(0)) {
            body.finish();
        }
        Self { status: head.status, body, head }
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.get(name)
    }
}

impl Body {
    fn finish(&mut self) {
        self.framing = Framing::Done;
        if let Some(conn) = self.conn.take()
            && self.keep
            && conn.buffer.is_empty()
            && let Ok(mut idle) = self.idle.lock()
        {
            idle.push(conn);
        }
    }

    /// The next bytes; `None` at the end.
    ///
    /// # Errors
    /// When the connection breaks before the end of the body.
    pub async fn chunk(&mut self) -> Result<Option<Vec<u8>>, ClientError> {
        loop {
            let Some(conn) = self.conn.as_mut() else { return Ok(None) };
            match self.framing {
                Framing::Done => return Ok(None),
                Framing::Length(0) | Framing::Chunked(Chunk::Data(0)) => {}
                _ if conn.buffer.is_empty() => {
                    if conn.more().await? == 0 {
                        self.keep = false;
                        let whole = matches!(self.framing, Framing::UntilEnd);
                        self.finish();
                        if whole {
                            return Ok(None);
                        }
                        return Err(ClientError::Broken("unexpected EOF".into()));
                    }
                    continue;
                }
                _ => {}
            }
            if let Some(data) = self.take() {
                return Ok(Some(data));
            }
            if matches!(self.framing, Framing::Done) {
                return Ok(None);
            }
            // A chunk's line is not whole yet.
            if let (Framing::Chunked(Chunk::Size | Chunk::DataEnd | Chunk::Trailer), Some(conn)) =
                (self.framing, self.conn.as_mut())
                && !conn.buffer.contains(&b'\n')
                && conn.more().await? == 0
            {
                return Err(ClientError::Broken("unexpected EOF".into()));
            }
        }
    }

    /// Takes payload from the buffer, or one step of the framing.
    fn take(&mut self) -> Option<Vec<u8>> {
        let conn = self.conn.as_mut()?;
        match &mut self.framing {
            Framing::UntilEnd => Some(std::mem::take(&mut conn.buffer)),
            Framing::Length(left) | Framing::Chunked(Chunk::Data(left)) if *left > 0 => {
                let count = conn.buffer.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= count as u64;
                let rest = conn.buffer.split_off(count);
                Some(std::mem::replace(&mut conn.buffer, rest))
            }
            Framing::Length(_) => {
                self.finish();
                None
            }
            Framing::Chunked(state) => {
                if let Chunk::Data(_) = state {
                    *state = Chunk::DataEnd;
                    return None;
                }
                let end = conn.buffer.iter().position(|b| *b == b'\n')?;
                let line: Vec<u8> = conn.buffer.drain(..=end).collect();
                let line = String::from_utf8_lossy(&line);
                let line = line.trim();
                *state = match state {
                    Chunk::DataEnd => Chunk::Size,
                    Chunk::Size => {
                        let size = line.split(';').next().unwrap_or_default().trim();
                        match u64::from_str_radix(size, 16) {
                            Ok(0) => Chunk::Trailer,
                            Ok(size) => Chunk::Data(size),
                            Err(_) => {
                                self.keep = false;
                                self.finish();
                                return None;
                            }
                        }
                    }
                    _ if line.is_empty() => {
                        self.finish();
                        return None;
                    }
                    _ => Chunk::Trailer,
                };
                None
            }
            Framing::Done => None,
        }
    }

    /// The whole body.
    ///
    /// # Errors
    /// As `chunk`.
    pub async fn all(&mut self) -> Result<Vec<u8>, ClientError> {
        let mut whole = Vec::new();
        while let Some(mut part) = self.chunk().await? {
            if whole.is_empty() {
                whole = part;
            } else {
                whole.append(&mut part);
            }
        }
        Ok(whole)
    }
}
