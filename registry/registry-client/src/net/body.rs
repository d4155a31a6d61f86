//! Bodies: what is sent, mostly with its length known before, and what comes, with a limit on
//! how long it may be silent. Chunks pass through as they are; nothing is copied.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use http::Extensions;
use http_body::{Body, Frame, SizeHint};
use hyper_util::client::legacy::connect::CaptureConnection;
use tokio::time::{Instant, Sleep, sleep_until};

use super::transport::Failure;
use crate::source::BlobSource;

/// Chunks of a body to send.
pub type Chunks = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

/// When the connection last took something of a body.
pub(crate) struct Activity {
    base: Instant,
    millis: AtomicU64,
}

impl Activity {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { base: Instant::now(), millis: AtomicU64::new(0) })
    }

    fn note(&self) {
        self.millis.store(self.base.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    pub(crate) fn last(&self) -> Instant {
        self.base + Duration::from_millis(self.millis.load(Ordering::Relaxed))
    }
}

/// A request's body.
pub(crate) struct Outgoing {
    content: Content,
    activity: Arc<Activity>,
}

enum Content {
    Empty,
    Whole(Bytes),
    Part(Part),
}

/// A part of a blob. Reading begins when the body is asked for the first time: by then it is known
/// which connection it goes onto, and whether that can send from files.
struct Part {
    source: Arc<dyn BlobSource>,
    offset: u64,
    /// Bytes that are left of it; unknown where it ends when its source does.
    left: Option<u64>,
    connection: Option<CaptureConnection>,
    chunks: Option<Chunks>,
}

impl Part {
    fn chunks(&mut self) -> &mut Chunks {
        let (source, offset, left) = (&self.source, self.offset, self.left);
        let connection = &self.connection;
        self.chunks.get_or_insert_with(|| {
            let mut extras = Extensions::new();
            if let Some(connection) = connection
                && let Some(connected) = &*connection.connection_metadata()
            {
                connected.get_extras(&mut extras);
            }
            source.read(offset, left.unwrap_or(u64::MAX), extras.remove())
        })
    }
}

/// The source of a body failed: no fault of the connection.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct SourceFailed(pub(crate) io::Error);

impl Outgoing {
    pub(crate) fn empty(activity: Arc<Activity>) -> Self {
        Self { content: Content::Empty, activity }
    }

    pub(crate) fn whole(bytes: Bytes, activity: Arc<Activity>) -> Self {
        Self { content: Content::Whole(bytes), activity }
    }

    /// Exactly `length` bytes of a blob from `offset` on, or as many as there will be.
    pub(crate) fn part(
        source: Arc<dyn BlobSource>,
        offset: u64,
        length: Option<u64>,
        activity: Arc<Activity>,
    ) -> Self {
        let part = Part { source, offset, left: length, connection: None, chunks: None };
        Self { content: Content::Part(part), activity }
    }

    /// Tells the body where it will be known which connection it goes onto.
    pub(super) fn goes_onto(&mut self, connection: CaptureConnection) {
        if let Content::Part(part) = &mut self.content {
            part.connection = Some(connection);
        }
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = SourceFailed;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, SourceFailed>>> {
        self.activity.note();
        let part = match &mut self.content {
            Content::Empty => return Poll::Ready(None),
            Content::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                self.content = Content::Empty;
                return Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))));
            }
            Content::Part(part) => part,
        };
        if part.left == Some(0) {
            return Poll::Ready(None);
        }
        let failed = |error| Poll::Ready(Some(Err(SourceFailed(error))));
        match ready!(part.chunks().as_mut().poll_next(cx)) {
            Some(Ok(mut bytes)) => {
                if let Some(left) = &mut part.left {
                    // A source that has more must not spoil the framing.
                    bytes.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
                    *left -= bytes.len() as u64;
                }
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Some(Err(error)) => failed(error),
            None => match part.left {
                None => Poll::Ready(None),
                Some(left) => failed(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    format!("the content ended {left} bytes early"),
                )),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Empty => true,
            Content::Whole(bytes) => bytes.is_empty(),
            Content::Part(part) => part.left == Some(0),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Empty => SizeHint::with_exact(0),
            Content::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Content::Part(part) => part.left.map_or_else(SizeHint::new, SizeHint::with_exact),
        }
    }
}

/// An answer's body.
pub(crate) struct Incoming {
    inner: hyper::body::Incoming,
    idle: Duration,
    /// Armed only while nothing comes, so that a busy body costs no timer.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Incoming {
    pub(crate) fn new(inner: hyper::body::Incoming, idle: Duration) -> Self {
        Self { inner, idle, timer: None }
    }

    /// The next chunk; `None` at the orderly end.
    pub(crate) fn poll_chunk(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Failure>>> {
        loop {
            match Pin::new(&mut self.inner).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    self.timer = None;
                    // Trailers say nothing in this protocol.
                    if let Ok(bytes) = frame.into_data()
                        && !bytes.is_empty()
                    {
                        return Poll::Ready(Some(Ok(bytes)));
                    }
                }
                Poll::Ready(Some(Err(error))) => {
                    return Poll::Ready(Some(Err(Failure::of_hyper(&error))));
                }
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => break,
            }
        }
        let idle = self.idle;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + idle)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Some(Err(Failure::Silent(idle))))
    }
}

/// A small body whole; `None` when it is larger than `limit`.
pub(crate) async fn collect(body: &mut Incoming, limit: u64) -> Result<Option<Bytes>, Failure> {
    let announced = body.inner.size_hint().lower();
    if announced > limit {
        return Ok(None);
    }
    let mut whole = BytesMut::new();
    let mut single: Option<Bytes> = None;
    while let Some(chunk) = std::future::poll_fn(|cx| body.poll_chunk(cx)).await {
        let chunk = chunk?;
        if (whole.len() + single.as_ref().map_or(0, Bytes::len) + chunk.len()) as u64 > limit {
            return Ok(None);
        }
        if whole.is_empty() && single.is_none() {
            single = Some(chunk);
            continue;
        }
        if let Some(first) = single.take() {
            whole.extend_from_slice(&first);
        }
        whole.extend_from_slice(&chunk);
    }
    Ok(Some(single.unwrap_or_else(|| whole.freeze())))
}

/// Reads a body that nobody wants, so that its connection can be used again; gives up
/// when it is long or slow, and then the connection is closed.
pub(crate) async fn drain(mut body: Incoming) {
    const LIMIT: u64 = 64 << 10;
    const WAIT: Duration = Duration::from_secs(2);
    if body.inner.is_end_stream() {
        return;
    }
    body.idle = WAIT;
    let _ = collect(&mut body, LIMIT).await;
}
