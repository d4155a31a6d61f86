//! A connection's bytes, plain or through TLS, and a bound on how long a client may take none.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use file_stream::Files;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Sleep;
use tokio_rustls::server::TlsStream;

/// How long a client may leave the socket full.
const STALL: Duration = Duration::from_secs(300);

/// A connection.
pub(crate) struct Stream {
    inner: Inner,
    files: Files,
    // Runs while the client takes nothing.
    stalled: Option<Pin<Box<Sleep>>>,
}

enum Inner {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Unix(UnixStream),
}

impl From<TcpStream> for Stream {
    fn from(stream: TcpStream) -> Self {
        Self::new(Inner::Tcp(stream))
    }
}

impl From<TlsStream<TcpStream>> for Stream {
    fn from(stream: TlsStream<TcpStream>) -> Self {
        Self::new(Inner::Tls(Box::new(stream)))
    }
}

impl From<UnixStream> for Stream {
    fn from(stream: UnixStream) -> Self {
        Self::new(Inner::Unix(stream))
    }
}

impl Stream {
    fn new(inner: Inner) -> Self {
        Self { inner, files: Files::default(), stalled: None }
    }

    /// What its bodies can send files by, if nothing is between them and the socket.
    pub(crate) fn files(&self) -> Option<Files> {
        matches!(self.inner, Inner::Tcp(_)).then(|| self.files.clone())
    }

    /// Whether the client speaks HTTP/2, which only TLS tells.
    pub(crate) fn is_http2(&self) -> bool {
        match &self.inner {
            Inner::Tls(stream) => stream.get_ref().1.alpn_protocol() == Some(b"h2"),
            Inner::Tcp(_) | Inner::Unix(_) => false,
        }
    }

    fn watch<T>(
        &mut self,
        context: &mut Context<'_>,
        done: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if done.is_ready() {
            self.stalled = None;
            return done;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(STALL)));
        match stalled.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

macro_rules! each {
    ($inner:expr, $stream:ident => $call:expr) => {
        match $inner {
            Inner::Tcp($stream) => $call,
            Inner::Tls($stream) => $call,
            Inner::Unix($stream) => $call,
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        each!(&mut self.get_mut().inner, s => Pin::new(s).poll_read(context, into))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let done = match &mut this.inner {
            Inner::Tcp(socket) => this.files.poll_write(socket, bytes, context),
            Inner::Tls(stream) => Pin::new(stream).poll_write_vectored(context, bytes),
            Inner::Unix(stream) => Pin::new(stream).poll_write_vectored(context, bytes),
        };
        this.watch(context, done)
    }

    fn is_write_vectored(&self) -> bool {
        each!(&self.inner, s => s.is_write_vectored())
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let done = each!(&mut this.inner, s => Pin::new(s).poll_flush(context));
        this.watch(context, done)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let done = each!(&mut this.inner, s => Pin::new(s).poll_shutdown(context));
        this.watch(context, done)
    }
}
