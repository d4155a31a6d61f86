//! Bodies of answers.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use file_stream::FileStream;
use futures_util::Stream;
use http_body::{Frame, SizeHint};

type Streamed = Pin<Box<dyn http_body::Body<Data = Bytes, Error = io::Error> + Send>>;

/// The body of an answer.
pub(crate) enum Body {
    /// Bytes at hand, possibly none.
    Full(Bytes),
    /// A part of a file.
    File(Box<FileStream>),
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
            Self::File(file) => {
                let piece = ready!(Pin::new(file.as_mut()).poll_next(context));
                Poll::Ready(piece.map(|piece| piece.map(Frame::data)))
            }
            Self::Stream(stream) => stream.as_mut().poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Full(bytes) => bytes.is_empty(),
            Self::File(file) => file.left() == 0,
            Self::Stream(stream) => stream.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::File(file) => SizeHint::with_exact(file.left()),
            Self::Stream(stream) => stream.size_hint(),
        }
    }
}
