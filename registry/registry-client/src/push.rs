//! Blobs on their way up: not at all when the registry has them, mounted from another
//! repository, whole in one request, in chunks, and on from where an upload broke.

use std::sync::Arc;

use http::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE};
use http::{HeaderValue, Method};
use oci::{Descriptor, Digest};

use crate::answer::Code;
use crate::error::{At, Error, Object};
use crate::header;
use crate::net::Chunks;
use crate::remote::Remote;
use crate::repository::Repository;
use crate::scope::Scopes;
use crate::session::{Call, Reply, Target};
use crate::source::{BlobSource, Payload};
use crate::url::Url;

/// Chunks where a registry, or a proxy before it, takes no larger body.
const SMALL_CHUNK: u64 = 32 << 20;

/// How a blob came to be in the repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It was there.
    Existed,
    /// The registry has it from this repository of its own.
    Mounted(String),
    /// It was sent.
    Uploaded,
}

/// How to push a blob.
#[derive(Clone, Debug, Default)]
pub struct PushOptions {
    /// Repositories of the same registry that may hold the blob.
    pub mount_from: Vec<String>,
    /// Send it in pieces of this size, each a request of its own.
    pub chunk: Option<u64>,
    /// Skip the question whether it is there: the caller asked already.
    pub known_missing: bool,
}

/// An upload that was begun. The registry forgets it after a while.
pub struct Upload {
    repository: Repository,
    remote: Arc<Remote>,
    scopes: Scopes,
    object: Object,
    location: Url,
    offset: u64,
    /// The least that a chunk but the last must hold, if the registry says so.
    min_chunk: Option<u64>,
}

impl Repository {
    /// Sees to it that the repository holds a blob, by the cheapest way.
    pub async fn push_blob(
        &self,
        descriptor: &Descriptor,
        source: Arc<dyn BlobSource>,
        options: &PushOptions,
    ) -> Result<Pushed, Error> {
        let digest = descriptor.digest;
        let remote = self.session.writer().await?;
        let object = Object::Blob(digest);
        let scopes = self.scopes(&["pull", "push"]);
        if !options.known_missing && self.exists(&remote, &digest, &scopes).await? {
            return Ok(Pushed::Existed);
        }
        let mut upload = None;
        for from in &options.mount_from {
            match self.mount(&remote, &digest, from).await? {
                Mount::Done => return Ok(Pushed::Mounted(from.clone())),
                Mount::Upload(reply) => {
                    upload = Some(self.begun(remote.clone(), &scopes, object.clone(), *reply)?);
                    break;
                }
                Mount::Refused => {}
            }
        }
        let upload = match upload {
            Some(upload) => upload,
            None => self.begin(remote, scopes, object).await?,
        };
        upload.send_all(descriptor, &source, options.chunk).await?;
        Ok(Pushed::Uploaded)
    }

    /// Begins an upload of a blob whose digest is only known at its end.
    pub async fn upload(&self) -> Result<Upload, Error> {
        let remote = self.session.writer().await?;
        self.begin(remote, self.scopes(&["pull", "push"]), Object::Upload).await
    }

    async fn exists(
        &self,
        remote: &Remote,
        digest: &Digest,
        scopes: &Scopes,
    ) -> Result<bool, Error> {
        let target = self.target(&format!("blobs/{digest}"));
        let call = self.call(Method::HEAD, target, Object::Blob(*digest), scopes);
        match self.session.send(remote, &call, &mut self.retry().begin()).await {
            Ok(_) => Ok(true),
            // Whatever keeps us from looking, the upload's own answer says it with a reason.
            Err(error) if error.answer().is_some_and(|answer| answer.status < 500) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn mount(&self, remote: &Remote, digest: &Digest, from: &str) -> Result<Mount, Error> {
        let mut scopes = self.scopes(&["pull", "push"]);
        scopes.add(self.scope_of(from, &["pull"]));
        let query = crate::url::encode_form(&[("mount", &digest.to_string()), ("from", from)]);
        let target = self.target(&format!("blobs/uploads/?{query}"));
        let mut call = self.call(Method::POST, target, Object::Blob(*digest), &scopes);
        call.headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        call.accept = &[201, 202];
        match self.session.send(remote, &call, &mut self.retry().begin()).await {
            Ok(reply) if reply.status == 201 => {
                reply.done().await;
                Ok(Mount::Done)
            }
            Ok(reply) => Ok(Mount::Upload(Box::new(reply))),
            // No right to read there, or no such thing: that is no reason not to push.
            Err(error) if error.answer().is_some_and(|answer| answer.status < 500) => {
                tracing::debug!("not mounted from {from}: {error}");
                Ok(Mount::Refused)
            }
            Err(error @ Error::Token { .. }) => {
                tracing::debug!("not mounted from {from}: {error}");
                Ok(Mount::Refused)
            }
            Err(error) => Err(error),
        }
    }

    async fn begin(
        &self,
        remote: Arc<Remote>,
        scopes: Scopes,
        object: Object,
    ) -> Result<Upload, Error> {
        let mut call =
            self.call(Method::POST, self.target("blobs/uploads/"), object.clone(), &scopes);
        call.headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        call.accept = &[202];
        let reply = self.session.send(&remote, &call, &mut self.retry().begin()).await?;
        self.begun(remote, &scopes, object, reply)
    }

    fn begun(
        &self,
        remote: Arc<Remote>,
        scopes: &Scopes,
        object: Object,
        reply: Reply,
    ) -> Result<Upload, Error> {
        let Some(location) = location(&reply)? else {
            let what = "the registry began an upload without saying where (no Location)";
            return Err(Error::protocol(reply.at, what));
        };
        let min_chunk = header::text(&reply.headers, "oci-chunk-min-length");
        let min_chunk = min_chunk.and_then(|text| text.trim().parse().ok());
        let scopes = scopes.clone();
        let repository = self.clone();
        Ok(Upload { repository, remote, scopes, object, location, offset: 0, min_chunk })
    }
}

enum Mount {
    Done,
    Upload(Box<Reply>),
    Refused,
}

/// Where an upload goes on; relative or absolute, and opaque but for that.
fn location(reply: &Reply) -> Result<Option<Url>, Error> {
    let Some(text) = header::text(&reply.headers, "location") else { return Ok(None) };
    let joined = reply.url.join(text);
    joined.map(Some).map_err(|why| Error::bad_url(reply.at.clone(), "Location", text, &why))
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
    /// How many bytes the registry has.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The least that a chunk but the last must hold.
    pub fn min_chunk(&self) -> Option<u64> {
        self.min_chunk
    }

    /// Adds exactly `length` bytes. A failure is final: what was read of `chunks` is gone.
    pub async fn append(&mut self, chunks: Chunks, length: u64) -> Result<(), Error> {
        let once = Arc::new(Once(std::sync::Mutex::new(Some(chunks))));
        let expected = self.offset + length;
        let body = Payload::Part { source: once, offset: self.offset, length };
        self.patch(body, length).await?;
        if self.offset != expected {
            let text = format!("the registry has {} of {expected} bytes", self.offset);
            return Err(Error::Broken { at: self.at(), text });
        }
        Ok(())
    }

    /// Ends the upload: what was sent has this digest.
    pub async fn finish(mut self, digest: &Digest) -> Result<(), Error> {
        self.object = Object::Blob(*digest);
        self.put(digest, Payload::Empty).await
    }

    /// Tells the registry to drop what it has.
    pub async fn cancel(self) -> Result<(), Error> {
        let mut call = self.call(Method::DELETE, Payload::Empty);
        call.accept = &[200, 202, 204, 404];
        let session = &self.repository.session;
        session.send(&self.remote, &call, &mut crate::retry::Retry::NEVER.begin()).await?;
        Ok(())
    }

    /// Sends a whole blob, and goes on after breaks.
    async fn send_all(
        mut self,
        descriptor: &Descriptor,
        source: &Arc<dyn BlobSource>,
        mut chunk: Option<u64>,
    ) -> Result<(), Error> {
        let mut patience = self.repository.retry().begin();
        loop {
            let before = self.offset;
            let Err(error) = self.send_rest(descriptor, source, chunk).await else { return Ok(()) };
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
                let (repository, scopes) = (self.repository.clone(), self.scopes.clone());
                if repository.exists(&self.remote, &descriptor.digest, &scopes).await? {
                    return Ok(true);
                }
                self.again().await?;
            }
        }
        Ok(false)
    }

    /// Another upload in place of one that can't go on.
    async fn again(&mut self) -> Result<(), Error> {
        let (repository, scopes) = (self.repository.clone(), self.scopes.clone());
        *self = repository.begin(self.remote.clone(), scopes, self.object.clone()).await?;
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
            length => Payload::Part { source: source.clone(), offset, length },
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
        let mut call = self.call(Method::PATCH, body);
        if length > 0 {
            let range = format!("{}-{}", self.offset, self.offset + length - 1);
            if let Ok(range) = HeaderValue::from_str(&range) {
                call.headers.insert(CONTENT_RANGE, range);
            }
        }
        call.accept = &[200, 201, 202, 204];
        let once = &mut crate::retry::Retry::NEVER.begin();
        let reply = self.repository.session.send(&self.remote, &call, once).await?;
        if let Some(next) = location(&reply)? {
            self.location = next;
        }
        // Servers that say how far they are know better than the count of what was sent, but
        // none may stand still, or know more than there is.
        let told = header::text(&reply.headers, "range").and_then(header::uploaded);
        let (before, most) = (self.offset, self.offset + length);
        self.offset = told.filter(|told| *told > 0).unwrap_or(most);
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
        let told = header::text(&reply.headers, "range").and_then(header::uploaded);
        self.offset = told.unwrap_or(0);
        if let Some(next) = location(&reply)? {
            self.location = next;
        }
        reply.done().await;
        Ok(())
    }
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

/// A source that can be read once: what the caller streams.
struct Once(std::sync::Mutex<Option<Chunks>>);

impl BlobSource for Once {
    fn read(&self, _: u64, _: u64, _: Option<file_stream::Files>) -> Chunks {
        let taken = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        taken.unwrap_or_else(|| {
            let gone = std::io::Error::other("the stream was already read");
            Box::pin(futures_util::stream::iter([Err(gone)]))
        })
    }
}
