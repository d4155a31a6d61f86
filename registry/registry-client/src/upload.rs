//! An upload: a blob whole in one request, in chunks, or as it grows, and on from where it broke.

use std::pin::pin;
use std::sync::Arc;

use http::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE};
use http::{HeaderValue, Method};
use oci::{Descriptor, Digest};

use crate::answer::Code;
use crate::error::{At, Error, Object};
use crate::header;
use crate::push::Pushed;
use crate::remote::Remote;
use crate::repository::Repository;
use crate::scope::Scopes;
use crate::session::{Call, Reply, Target};
use crate::source::{BlobSource, Payload};
use crate::url::Url;

/// Chunks where a registry, or a proxy before it, takes no larger body.
const SMALL_CHUNK: u64 = 32 << 20;

/// An upload that was begun. The registry forgets it after a while.
pub struct Upload {
    repository: Repository,
    remote: Arc<Remote>,
    scopes: Scopes,
    object: Object,
    location: Url,
    /// How many bytes the registry has.
    offset: u64,
    /// The least that a chunk but the last must hold, if the registry says so.
    min_chunk: Option<u64>,
}

/// Where an upload goes on; relative or absolute, and opaque but for that.
fn location(reply: &Reply) -> Result<Option<Url>, Error> {
    let Some(text) = header::text(&reply.headers, "location") else { return Ok(None) };
    let joined = reply.url.join(text);
    joined.map(Some).map_err(|why| Error::bad_url(reply.at.clone(), "Location", text, &why))
}

/// How many bytes the registry says that it has; none of it is as good as not saying it.
fn uploaded(reply: &Reply) -> Option<u64> {
    let told = header::text(&reply.headers, "range").and_then(header::uploaded);
    told.filter(|told| *told > 0)
}

/// What a failed request of an upload calls for.
enum Trouble {
    /// Nothing helps.
    Final,
    /// Smaller requests.
    TooLarge,
    /// Finding out how far the registry got: it counts otherwise, or forgot the upload.
    OutOfStep,
    /// The same, after a while.
    Passing,
}

impl Upload {
    pub(crate) async fn begin(
        repository: &Repository,
        remote: &Arc<Remote>,
        scopes: &Scopes,
        object: Object,
    ) -> Result<Self, Error> {
        let target = repository.target("blobs/uploads/");
        let mut call = repository.call(Method::POST, target, object.clone(), scopes);
        call.headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        call.accept = &[202];
        let mut patience = repository.retry().begin();
        let reply = repository.session.send(remote, &call, &mut patience).await?;
        Self::begun(repository, remote, scopes, object, reply)
    }

    /// The one that an answer tells of.
    pub(crate) fn begun(
        repository: &Repository,
        remote: &Arc<Remote>,
        scopes: &Scopes,
        object: Object,
        reply: Reply,
    ) -> Result<Self, Error> {
        let Some(location) = location(&reply)? else {
            let what = "the registry began an upload without saying where (no Location)";
            return Err(Error::protocol(reply.at, what));
        };
        let min_chunk = header::text(&reply.headers, "oci-chunk-min-length");
        let min_chunk = min_chunk.and_then(|text| text.trim().parse().ok());
        let (repository, remote, scopes) = (repository.clone(), remote.clone(), scopes.clone());
        Ok(Self { repository, remote, scopes, object, location, offset: 0, min_chunk })
    }

    /// Sends a whole blob, and goes on after breaks.
    pub(crate) async fn send(
        self,
        descriptor: &Descriptor,
        source: &Arc<dyn BlobSource>,
        chunk: Option<u64>,
    ) -> Result<(), Error> {
        self.send_after(None, descriptor, source, chunk).await
    }

    /// Has the repository hold a blob that is still being made: it is sent as it grows, in one
    /// request, and its digest is named when it is known. Reading `source` waits for what is not
    /// there yet. `made` is what the blob is in the end; where it is `None` there will be none, and
    /// so nothing is pushed.
    pub async fn push_growing(
        mut self,
        source: Arc<dyn BlobSource>,
        made: impl Future<Output = Option<Descriptor>>,
    ) -> Result<Option<Pushed>, Error> {
        let (repository, remote, scopes) =
            (self.repository.clone(), self.remote.clone(), self.scopes.clone());
        let mut made = pin!(made);
        let mut sending = Box::pin(self.grow(&source));
        let (descriptor, ended) = tokio::select! {
            sent = &mut sending => match sent {
                Err(error) if is_refused(&error) => return Err(error),
                // It can be sent from where that broke, once it is known what it is.
                sent => (made.await, Some(sent)),
            },
            descriptor = &mut made => (descriptor, None),
        };
        let Some(descriptor) = descriptor else {
            drop(sending);
            self.cancel().await;
            return Ok(None);
        };
        let sent = if ended.is_some() {
            ended
        } else {
            tokio::select! {
                biased;
                sent = &mut sending => Some(sent),
                // Then the rest of it need not be sent.
                Ok(true) = repository.exists(&remote, &descriptor.digest, &scopes) => None,
            }
        };
        drop(sending);
        let Some(sent) = sent else {
            self.cancel().await;
            return Ok(Some(Pushed::Existed));
        };
        self.end(&descriptor, &source, sent).await?;
        Ok(Some(Pushed::Uploaded))
    }

    /// Sends a blob as it grows, to its end. Its length is unknown, so that the request has none
    /// either: so does docker push, and so every registry takes it.
    /// Returns how many bytes the registry has then, if it says so.
    async fn grow(&mut self, source: &Arc<dyn BlobSource>) -> Result<Option<u64>, Error> {
        let body = Payload::Part { source: source.clone(), offset: 0, length: None };
        let reply = self.patched(body, None).await?;
        let told = uploaded(&reply);
        reply.done().await;
        Ok(told)
    }

    /// Ends the upload of a blob that was sent while it grew: what that left over is sent now.
    async fn end(
        mut self,
        descriptor: &Descriptor,
        source: &Arc<dyn BlobSource>,
        grown: Result<Option<u64>, Error>,
    ) -> Result<(), Error> {
        self.object = Object::Blob(descriptor.digest);
        let size = descriptor.size;
        let broken = match grown {
            Ok(Some(told)) if told > size => {
                let what = format!("the registry took {size} bytes and says that it has {told}");
                return Err(Error::protocol(self.at(), what));
            }
            Ok(told) => {
                self.offset = told.unwrap_or(size);
                None
            }
            Err(error) => Some(error),
        };
        self.send_after(broken, descriptor, source, None).await
    }

    /// Tells the registry to drop what it has.
    pub async fn cancel(self) {
        let mut call = self.call(Method::DELETE, Payload::Empty);
        call.accept = &[200, 202, 204, 404];
        let session = &self.repository.session;
        let once = &mut crate::retry::Retry::NEVER.begin();
        match session.send(&self.remote, &call, once).await {
            Ok(reply) => reply.done().await,
            // It forgets it by itself.
            Err(error) => tracing::debug!("an upload was not cancelled: {error}"),
        }
    }

    /// Sends what the registry lacks of a blob, and goes on after breaks, of which one may be known.
    async fn send_after(
        mut self,
        mut broken: Option<Error>,
        descriptor: &Descriptor,
        source: &Arc<dyn BlobSource>,
        mut chunk: Option<u64>,
    ) -> Result<(), Error> {
        let mut patience = self.repository.retry().begin();
        loop {
            let before = self.offset;
            let sent = match broken.take() {
                Some(error) => Err(error),
                None => self.send_rest(descriptor, source, chunk).await,
            };
            let Err(error) = sent else { return Ok(()) };
            let trouble = trouble(&error);
            let wait = match trouble {
                Trouble::Final => return Err(error),
                Trouble::TooLarge if chunk.is_some_and(|size| size <= SMALL_CHUNK) => {
                    return Err(error);
                }
                Trouble::TooLarge => {
                    tracing::debug!("sending smaller chunks: {error}");
                    chunk = Some(SMALL_CHUNK);
                    self.again().await?;
                    continue;
                }
                Trouble::OutOfStep => patience.again(),
                Trouble::Passing => patience.after(&error),
            };
            let Some(wait) = wait else { return Err(error) };
            self.repository.session.will_retry(&self.object, wait, &error).await;
            if self.catch_up(descriptor, before, matches!(trouble, Trouble::OutOfStep)).await? {
                return Ok(());
            }
            if self.offset > before {
                patience.renew();
            }
        }
    }

    /// Finds out where to go on after a break; `true` when the blob is there after all.
    async fn catch_up(
        &mut self,
        descriptor: &Descriptor,
        before: u64,
        out_of_step: bool,
    ) -> Result<bool, Error> {
        match self.ask_status().await {
            // Asked once and still out of step: this upload can't be understood.
            Ok(()) if out_of_step && self.offset == before => self.again().await?,
            Ok(()) if self.offset > descriptor.size => self.again().await?,
            Ok(()) => {}
            // The next attempt meets the same trouble and counts it.
            Err(error) if error.is_transient() => {}
            // The upload is gone: perhaps since it was ended, and only the answer was lost.
            Err(_) => {
                let Self { repository, remote, scopes, .. } = self;
                if repository.exists(remote, &descriptor.digest, scopes).await? {
                    return Ok(true);
                }
                self.again().await?;
            }
        }
        Ok(false)
    }

    /// Another upload in place of one that can't go on.
    async fn again(&mut self) -> Result<(), Error> {
        let object = self.object.clone();
        *self = Self::begin(&self.repository, &self.remote, &self.scopes, object).await?;
        Ok(())
    }

    async fn send_rest(
        &mut self,
        descriptor: &Descriptor,
        source: &Arc<dyn BlobSource>,
        chunk: Option<u64>,
    ) -> Result<(), Error> {
        let size = descriptor.size;
        let chunk = chunk.map(|chunk| chunk.max(self.min_chunk.unwrap_or(0)).max(1));
        let part = |offset: u64, length: u64| match length {
            0 => Payload::Empty,
            length => Payload::Part { source: source.clone(), offset, length: Some(length) },
        };
        // One request does it all, unless it is to be in pieces or a part is there already.
        if self.offset == 0 && chunk.is_none_or(|chunk| chunk >= size) {
            return self.put(&descriptor.digest, part(0, size)).await;
        }
        while self.offset < size {
            let left = size - self.offset;
            let length = chunk.map_or(left, |chunk| chunk.min(left));
            self.patch(part(self.offset, length), length).await?;
        }
        self.put(&descriptor.digest, Payload::Empty).await
    }

    fn at(&self) -> At {
        Box::new(crate::error::Place {
            method: Method::PATCH,
            url: self.location.clone(),
            registry: self.repository.registry().into(),
            repository: Some(self.repository.name().into()),
            object: self.object.clone(),
        })
    }

    fn call(&self, method: Method, body: Payload) -> Call<'_> {
        let target = Target::Url(self.location.clone());
        let mut call = self.repository.call(method, target, self.object.clone(), &self.scopes);
        call.timeout = self.repository.session.client.config.timeouts.commit;
        if matches!(body, Payload::Empty) {
            call.headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        } else {
            let octets = HeaderValue::from_static("application/octet-stream");
            call.headers.insert(CONTENT_TYPE, octets);
        }
        call.body = body;
        call
    }

    async fn patch(&mut self, body: Payload, length: u64) -> Result<(), Error> {
        let range = format!("{}-{}", self.offset, self.offset + length.saturating_sub(1));
        let range = HeaderValue::from_str(&range).ok().filter(|_| length > 0);
        let reply = self.patched(body, range).await?;
        // Servers that say how far they are know better than the count of what was sent, but
        // none may stand still, or know more than there is.
        let (before, most) = (self.offset, self.offset + length);
        self.offset = uploaded(&reply).unwrap_or(most);
        if length > 0 && !(before < self.offset && self.offset <= most) {
            let what = format!(
                "the registry had {before} bytes, took {length} more and says that it has {}",
                self.offset
            );
            return Err(Error::protocol(reply.at, what));
        }
        reply.done().await;
        Ok(())
    }

    /// Sends a part; the upload goes on where the answer says.
    async fn patched(&mut self, body: Payload, range: Option<HeaderValue>) -> Result<Reply, Error> {
        let mut call = self.call(Method::PATCH, body);
        if let Some(range) = range {
            call.headers.insert(CONTENT_RANGE, range);
        }
        call.accept = &[200, 201, 202, 204];
        let once = &mut crate::retry::Retry::NEVER.begin();
        let reply = self.repository.session.send(&self.remote, &call, once).await?;
        if let Some(next) = location(&reply)? {
            self.location = next;
        }
        Ok(reply)
    }

    async fn put(&self, digest: &Digest, body: Payload) -> Result<(), Error> {
        let mut call = self.call(Method::PUT, body);
        let text = digest.to_string();
        let url = self.location.with_parameter("digest", &text);
        let url = url.map_err(|why| Error::bad_url(self.at(), "Location", &text, &why))?;
        call.target = Target::Url(url);
        call.accept = &[200, 201, 202, 204];
        let once = &mut crate::retry::Retry::NEVER.begin();
        let reply = self.repository.session.send(&self.remote, &call, once).await?;
        let stored = header::text(&reply.headers, "docker-content-digest");
        let stored: Option<Digest> = stored.and_then(|text| text.parse().ok());
        let differs = |other: &Digest| other.algorithm() == digest.algorithm() && other != digest;
        if let Some(actual) = stored.filter(differs) {
            return Err(Error::digest_mismatch(reply.at, *digest, actual));
        }
        reply.done().await;
        Ok(())
    }

    /// Asks how far the registry got.
    async fn ask_status(&mut self) -> Result<(), Error> {
        let mut call = self.call(Method::GET, Payload::Empty);
        call.headers.remove(CONTENT_LENGTH);
        call.timeout = self.repository.session.client.config.timeouts.answer;
        call.accept = &[200, 202, 204];
        let once = &mut crate::retry::Retry::NEVER.begin();
        let reply = self.repository.session.send(&self.remote, &call, once).await?;
        self.offset = uploaded(&reply).unwrap_or(0);
        if let Some(next) = location(&reply)? {
            self.location = next;
        }
        reply.done().await;
        Ok(())
    }
}

/// Whether the registry will not have it, whatever the blob turns out to be.
fn is_refused(error: &Error) -> bool {
    !matches!(error, Error::Source { .. }) && matches!(trouble(error), Trouble::Final)
}

fn trouble(error: &Error) -> Trouble {
    match error {
        Error::Rejected { answer, .. } if answer.status == 413 => Trouble::TooLarge,
        Error::Rejected { answer, .. } if answer.status == 416 => Trouble::OutOfStep,
        Error::NotFound { answer, .. } if answer.code() != Code::NameUnknown => Trouble::OutOfStep,
        error if error.is_transient() => Trouble::Passing,
        _ => Trouble::Final,
    }
}
