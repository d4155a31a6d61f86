//! Blobs as a stream: from any offset, resumed where the connection broke, never longer
//! or shorter than announced. Chunks come as they left the socket; hashing is left to the
//! reader, who hashes anyway, or to [`Blob::bytes`].

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use base64::Engine;
use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use http::header::{ACCEPT_ENCODING, RANGE};
use http::{HeaderValue, Method};
use http_body::{Body, Frame, SizeHint};
use oci::{Descriptor, Digest, Hasher};

use crate::error::{At, Error, Object, Place};
use crate::header::{self, ContentRange};
use crate::hosts::Capability;
use crate::net::Incoming;
use crate::remote::Remote;
use crate::repository::Repository;
use crate::retry::Patience;
use crate::scope::Scopes;
use crate::session::{Reply, Target};
use crate::url::Url;

/// A blob that is being fetched. It is a [`Stream`] and a [`Body`] of its chunks; dropping
/// it ends the transfer.
pub struct Blob {
    fetch: Arc<Fetch>,
    /// Where the stream began.
    start: u64,
    /// Where the next chunk belongs.
    position: u64,
    /// Size of the whole, when anybody said it.
    size: Option<u64>,
    at: At,
    state: State,
    patience: Patience,
}

enum State {
    Reading { body: Incoming, skip: u64 },
    Reopening(Pin<Box<dyn Future<Output = Result<Opened, Error>> + Send>>),
    Done,
}

/// What has to be known to ask again.
struct Fetch {
    repository: Repository,
    descriptor: Descriptor,
    object: Object,
}

struct Opened {
    body: Incoming,
    /// Where the body begins.
    from: u64,
    size: Option<u64>,
    at: At,
}

impl Repository {
    /// Fetches a blob from `offset` on. A server that knows no ranges sends it from the
    /// start: [`Blob::start`] says where the stream really begins.
    ///
    /// Layers that may not be pushed (`urls` in their descriptor) are fetched from there
    /// when the registry does not have them, without any credentials.
    pub async fn blob(&self, descriptor: &Descriptor, offset: u64) -> Result<Blob, Error> {
        let digest = descriptor.digest;
        let is_config = oci::media_type::is_config(&descriptor.media_type);
        let object = if is_config { Object::Config(digest) } else { Object::Blob(digest) };
        if offset > 0 && offset == descriptor.size {
            return Ok(Blob::complete(self, descriptor, object));
        }
        let fetch =
            Arc::new(Fetch { repository: self.clone(), descriptor: descriptor.clone(), object });
        let opened = fetch.open(offset, &self.retry().begin()).await?;
        Ok(Blob {
            start: opened.from,
            position: opened.from,
            size: opened.size,
            at: opened.at,
            state: State::Reading { body: opened.body, skip: 0 },
            patience: self.retry().begin(),
            fetch,
        })
    }

    /// A small blob whole and verified: a config, an artifact's content.
    pub async fn blob_bytes(&self, descriptor: &Descriptor, limit: u64) -> Result<Bytes, Error> {
        if let Some(bytes) = embedded(descriptor) {
            return Ok(bytes);
        }
        self.blob(descriptor, 0).await?.bytes(limit).await
    }

    /// The size of a blob that the repository holds; `None` when it does not.
    pub async fn blob_size(&self, digest: &Digest) -> Result<Option<u64>, Error> {
        let scopes = self.scopes(&["pull"]);
        let target = self.target(&format!("blobs/{digest}"));
        let call = self.call(Method::HEAD, target, Object::Blob(*digest), &scopes);
        match self.session.ask(Capability::Pull, &call, &self.retry().begin()).await {
            Ok(reply) => Ok(Some(header::length(&reply.headers).unwrap_or_default())),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// The blob that a descriptor holds in itself, if it is what its digest says.
fn embedded(descriptor: &Descriptor) -> Option<Bytes> {
    let data = base64::engine::general_purpose::STANDARD.decode(descriptor.data.as_ref()?).ok()?;
    let whole = data.len() as u64 == descriptor.size && descriptor.digest.matches(&data);
    whole.then(|| data.into())
}

impl Fetch {
    async fn open(&self, offset: u64, patience: &Patience) -> Result<Opened, Error> {
        let target = self.repository.target(&format!("blobs/{}", self.descriptor.digest));
        let scopes = self.repository.scopes(&["pull"]);
        match self.open_at(target, &scopes, offset, patience).await {
            Err(Error::NotFound { at, answer }) => {
                let found = self.open_elsewhere(offset, patience).await?;
                found.ok_or(Error::NotFound { at, answer })
            }
            result => result,
        }
    }

    /// From one of the descriptor's URLs. Another server's question for credentials is
    /// never answered (CVE-2020-15157): such URLs stand in images of strangers.
    async fn open_elsewhere(
        &self,
        offset: u64,
        patience: &Patience,
    ) -> Result<Option<Opened>, Error> {
        let none = Scopes::default();
        let urls = self.descriptor.urls.iter().filter_map(|url| Url::parse(url).ok());
        let urls: Vec<Url> = urls.collect();
        let last = urls.len().saturating_sub(1);
        for (position, url) in urls.into_iter().enumerate() {
            match self.open_at(Target::Url(url), &none, offset, patience).await {
                Ok(opened) => return Ok(Some(opened)),
                Err(error) if position == last => return Err(error),
                Err(error) => tracing::warn!("trying the next URL: {error}"),
            }
        }
        Ok(None)
    }

    async fn open_at(
        &self,
        target: Target,
        scopes: &Scopes,
        offset: u64,
        patience: &Patience,
    ) -> Result<Opened, Error> {
        let mut call = self.repository.call(Method::GET, target, self.object.clone(), scopes);
        // A body that somebody compresses on the way has another length and digest.
        call.headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if offset > 0 {
            call.headers.insert(RANGE, range(offset));
        }
        call.accept = if offset > 0 { &[200, 206] } else { &[200] };
        let session = &self.repository.session;
        let reply = session.ask(Capability::Pull, &call, patience).await?;
        self.opened(reply, offset)
    }

    /// Holds the answer against what was asked.
    fn opened(&self, reply: Reply, offset: u64) -> Result<Opened, Error> {
        let at = reply.at;
        let expected = (self.descriptor.size > 0).then_some(self.descriptor.size);
        let length = header::length(&reply.headers);
        let (from, told) = if reply.status == 206 {
            let value = header::text(&reply.headers, "content-range").unwrap_or_default();
            let range = ContentRange::parse(value).filter(|range| range.first == offset);
            let Some(range) = range else {
                let what = format!("asked from byte {offset} on, got Content-Range {value:?}");
                return Err(Error::protocol(at, what));
            };
            if length.is_some_and(|length| length != range.last - range.first + 1) {
                let what = format!("Content-Length does not fit Content-Range {value:?}");
                return Err(Error::protocol(at, what));
            }
            (offset, range.size.or(Some(range.last + 1)))
        } else {
            (0, length)
        };
        if let (Some(expected), Some(actual)) = (expected, told)
            && expected != actual
        {
            return Err(Error::SizeMismatch { at, expected, actual });
        }
        Ok(Opened { body: reply.body, from, size: expected.or(told), at })
    }
}

fn range(offset: u64) -> HeaderValue {
    HeaderValue::from_str(&format!("bytes={offset}-"))
        .unwrap_or_else(|_| HeaderValue::from_static("bytes=0-"))
}

impl Blob {
    /// One that was fetched before: no server answers a range that begins at the end.
    fn complete(repository: &Repository, descriptor: &Descriptor, object: Object) -> Self {
        let at = Box::new(Place {
            method: Method::GET,
            url: Url::of_registry(repository.registry()),
            registry: repository.registry().into(),
            repository: Some(repository.name().into()),
            object: object.clone(),
        });
        Self {
            fetch: Arc::new(Fetch {
                repository: repository.clone(),
                descriptor: descriptor.clone(),
                object,
            }),
            start: descriptor.size,
            position: descriptor.size,
            size: Some(descriptor.size),
            at,
            state: State::Done,
            patience: repository.retry().begin(),
        }
    }

    /// Where the stream begins: the offset that was asked for, or 0.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// How far it has come, from the start of the blob.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Size of the whole blob, if known.
    pub fn size(&self) -> Option<u64> {
        self.size
    }

    /// The error that content with this digest is; `None` when it is the right one.
    pub fn verify(&self, actual: Digest) -> Result<(), Error> {
        let expected = self.fetch.descriptor.digest;
        if actual == expected {
            return Ok(());
        }
        Err(Error::digest_mismatch(self.at.clone(), expected, actual))
    }

    /// The next chunk; `None` at the end of the whole blob.
    pub async fn chunk(&mut self) -> Option<Result<Bytes, Error>> {
        std::future::poll_fn(|cx| self.poll_chunk(cx)).await
    }

    /// The rest, whole and verified: for small blobs fetched from their start.
    pub async fn bytes(mut self, limit: u64) -> Result<Bytes, Error> {
        let too_large = |at: &At| Err(Error::TooLarge { at: at.clone(), limit });
        if self.size.is_some_and(|size| size > limit) {
            return too_large(&self.at);
        }
        let mut hasher = Hasher::new(self.fetch.descriptor.digest.algorithm());
        let mut whole = BytesMut::new();
        while let Some(chunk) = self.chunk().await {
            let chunk = chunk?;
            if (whole.len() + chunk.len()) as u64 > limit {
                return too_large(&self.at);
            }
            hasher.update(&chunk);
            whole.extend_from_slice(&chunk);
        }
        self.verify(hasher.finish())?;
        Ok(whole.freeze())
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        loop {
            match &mut self.state {
                State::Done => return Poll::Ready(None),
                State::Reopening(opening) => match ready!(opening.as_mut().poll(cx)) {
                    Ok(opened) => {
                        self.at = opened.at;
                        self.size = self.size.or(opened.size);
                        let skip = self.position - opened.from;
                        self.state = State::Reading { body: opened.body, skip };
                    }
                    Err(error) => self.failed(error)?,
                },
                State::Reading { body, skip } => match ready!(body.poll_chunk(cx)) {
                    Some(Ok(mut chunk)) => {
                        // A server without ranges began anew: what is known is passed over.
                        let known = (*skip).min(chunk.len() as u64);
                        *skip -= known;
                        let chunk = chunk.split_off(known as usize);
                        if chunk.is_empty() {
                            continue;
                        }
                        return Poll::Ready(Some(self.took(chunk)));
                    }
                    // Whatever became of the connection, nothing is missing.
                    Some(Err(_)) if self.size == Some(self.position) => self.state = State::Done,
                    Some(Err(failure)) => {
                        let error = Remote::failed(&self.at, failure);
                        self.failed(error)?;
                    }
                    None => match self.size {
                        Some(expected) if self.position < expected => {
                            let received = self.position;
                            self.failed(Error::Truncated {
                                at: self.at.clone(),
                                expected,
                                received,
                            })?;
                        }
                        _ => self.state = State::Done,
                    },
                },
            }
        }
    }

    fn took(&mut self, chunk: Bytes) -> Result<Bytes, Error> {
        self.position += chunk.len() as u64;
        self.patience.renew();
        match self.size {
            Some(expected) if self.position > expected => {
                self.state = State::Done;
                Err(Error::SizeMismatch { at: self.at.clone(), expected, actual: self.position })
            }
            _ => Ok(chunk),
        }
    }

    /// Asks again from where the stream stopped, or ends it with the error.
    fn failed(&mut self, error: Error) -> Result<(), Error> {
        let Some(wait) = self.patience.after(&error) else {
            self.state = State::Done;
            return Err(error);
        };
        let (fetch, position) = (self.fetch.clone(), self.position);
        self.state = State::Reopening(Box::pin(async move {
            fetch.repository.session.will_retry(&fetch.object, wait, &error).await;
            // This stream's patience counts the attempts, not one for each of them.
            fetch.open(position, &crate::retry::Retry::NEVER.begin()).await
        }));
        Ok(())
    }
}

impl Stream for Blob {
    type Item = Result<Bytes, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_chunk(cx)
    }
}

impl Body for Blob {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        self.poll_chunk(cx).map(|next| next.map(|chunk| chunk.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.state, State::Done)
    }

    fn size_hint(&self) -> SizeHint {
        match self.size {
            Some(size) => SizeHint::with_exact(size.saturating_sub(self.position)),
            None => SizeHint::default(),
        }
    }
}
