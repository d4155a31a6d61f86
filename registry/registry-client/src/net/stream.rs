//! One connection, whatever it is made of: TCP, TLS, TLS in a tunnel. Adds no buffer.

use std::io;
use std::io::IoSlice;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper_util::client::legacy::connect::{Connected, Connection};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// What bytes go through, both ways.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

/// A connection that requests are sent on.
pub(crate) struct Wire {
    stream: Box<dyn Duplex>,
    /// Whether a proxy reads the requests, and wants whole URLs in them.
    proxied: bool,
}

impl Wire {
    pub(crate) fn new(stream: impl Duplex + 'static, proxied: bool) -> Self {
        Self { stream: Box::new(stream), proxied }
    }
}

impl Connection for Wire {
    fn connected(&self) -> Connected {
        Connected::new().proxy(self.proxied)
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// What a server says first, to tell one that speaks plain HTTP from a broken TLS server.
pub(crate) struct Sniffed {
    stream: Box<dyn Duplex>,
    first: Vec<u8>,
}

impl Sniffed {
    const LENGTH: usize = 5;

    pub(crate) fn new(stream: Box<dyn Duplex>) -> Self {
        Self { stream, first: Vec::new() }
    }

    /// Whether the first bytes begin an HTTP answer.
    pub(crate) fn is_http(&self) -> bool {
        self.first.starts_with(b"HTTP/")
    }

    /// Whether the first bytes begin a TLS record: type, and a version of the form 3.x.
    pub(crate) fn is_tls(&self) -> bool {
        self.first.len() < Self::LENGTH || (matches!(self.first[0], 20..=24) && self.first[1] == 3)
    }
}

impl AsyncRead for Sniffed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(cx, buf);
        if self.first.len() < Self::LENGTH {
            let fresh = &buf.filled()[before..];
            let more = fresh.len().min(Self::LENGTH - self.first.len());
            self.first.extend_from_slice(&fresh[..more]);
        }
        result
    }
}

impl AsyncWrite for Sniffed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// A TCP stream as any other.
pub(crate) fn tcp(stream: TcpStream) -> Box<dyn Duplex> {
    Box::new(stream)
}
