//! One connection, whatever it is made of: TCP, TLS, TLS in a tunnel. Adds no buffer.

use std::io;
use std::io::IoSlice;
use std::pin::Pin;
use std::task::{Context, Poll};

use file_stream::Files;
use hyper_util::client::legacy::connect::{Connected, Connection};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// What bytes go through, both ways.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

/// A connection that requests are sent on.
pub(crate) enum Wire {
    /// Nothing is between requests and socket, so the kernel can send files itself.
    Plain(TcpStream, Files),
    /// To a proxy that reads the requests, and wants whole URLs in them.
    Proxied(Box<dyn Duplex>),
    /// Through TLS.
    Tls(Box<dyn Duplex>),
}

impl Connection for Wire {
    fn connected(&self) -> Connected {
        match self {
            Self::Plain(_, files) => Connected::new().extra(files.clone()),
            Self::Proxied(_) => Connected::new().proxy(true),
            Self::Tls(_) => Connected::new(),
        }
    }
}

macro_rules! each {
    ($wire:expr, $stream:ident => $call:expr) => {
        match $wire.get_mut() {
            Wire::Plain($stream, _) => $call,
            Wire::Proxied($stream) | Wire::Tls($stream) => $call,
        }
    };
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket, files) => files.poll_write(socket, bufs, cx),
            Self::Proxied(stream) | Self::Tls(stream) => {
                Pin::new(stream).poll_write_vectored(cx, bufs)
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(socket, _) => socket.is_write_vectored(),
            Self::Proxied(stream) | Self::Tls(stream) => stream.is_write_vectored(),
        }
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
