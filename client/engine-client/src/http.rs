//! HTTP/1.1 as an Engine API client needs it: one request on one connection, its
//! answer's head, and connections taken over after an upgrade.

use crate::ClientError;
use crate::body::Body;
use std::os::fd::BorrowedFd;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use sys::pipe::move_bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// The most bytes of an answer's head.
const MAX_HEAD: usize = 256 * 1024;
/// How much is read at once.
pub(crate) const READ: usize = 32 * 1024;

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

impl Stream {
    /// Moves what is there into a pipe; 0 at the end.
    pub(crate) async fn splice(&self, pipe: BorrowedFd<'_>, most: usize) -> std::io::Result<usize> {
        match self {
            Self::Unix(from) => {
                from.async_io(Interest::READABLE, || move_bytes(from, pipe, most)).await
            }
            Self::Tcp(from) => {
                from.async_io(Interest::READABLE, || move_bytes(from, pipe, most)).await
            }
        }
    }
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
    /// Reads more into the buffer, at most so many bytes; 0 at the end.
    pub(crate) async fn more(&mut self, most: usize) -> std::io::Result<usize> {
        self.buffer.reserve(most);
        (&mut self.stream).take(most as u64).read_buf(&mut self.buffer).await
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
            if self.more(READ).await? == 0 {
                return Err(ClientError::Broken("EOF".into()));
            }
        }
    }

    /// Writes bytes.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes).await
    }
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
        let body = Body::new(conn, &head, no_body, idle);
        Self { status: head.status, body, head }
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.get(name)
    }
}
