//! A repository: what can be done with it is in the modules beside this one; here is what
//! they share, and its manifests.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method};
use oci::media_type::{DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST};
use oci::{Descriptor, Digest, Reference};

use crate::error::{Error, Object};
use crate::header;
use crate::hosts::Capability;
use crate::manifest::{self, RawManifest};
use crate::retry::Retry;
use crate::scope::{Scope, Scopes};
use crate::session::{Call, Reply, Session, Target, Watch};
use crate::source::Payload;

/// Largest manifest; the specification wants at least this much accepted.
pub const MAX_MANIFEST: u64 = 4 << 20;
/// Largest image config that is read whole, in bytes.
pub const MAX_CONFIG: u64 = 8 << 20;

/// Which manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// What a tag points to.
    Tag(String),
    /// Exactly this.
    Digest(Digest),
}

impl Which {
    /// What a reference names: its digest, else its tag, else `latest`.
    pub fn of(reference: &Reference) -> Self {
        match reference.digest() {
            Some(digest) => Self::Digest(digest),
            None => Self::Tag(reference.tag().unwrap_or("latest").into()),
        }
    }

    /// The digest, when it is one.
    pub fn digest(&self) -> Option<Digest> {
        match self {
            Self::Tag(_) => None,
            Self::Digest(digest) => Some(*digest),
        }
    }

    /// What a host must be able to do to be asked for it.
    fn needs(&self) -> Capability {
        match self {
            Self::Tag(_) => Capability::Resolve,
            Self::Digest(_) => Capability::Pull,
        }
    }
}

impl std::fmt::Display for Which {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tag(tag) => f.write_str(tag),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

/// One repository of a registry, as one user sees it. Clones share what they learn.
#[derive(Clone)]
pub struct Repository {
    pub(crate) session: Session,
    name: Arc<str>,
    kind: &'static str,
}

impl Repository {
    pub(crate) fn new(session: Session, name: &str) -> Self {
        Self { session, name: name.into(), kind: "repository" }
    }

    /// As a plugin's repository: tokens are asked for with that class.
    pub fn of_plugin(mut self) -> Self {
        self.kind = "repository(plugin)";
        self
    }

    /// Headers that go with every request to the registry, but for credentials; a
    /// `User-Agent` replaces the client's.
    pub fn with_headers(mut self, headers: HeaderMap) -> Self {
        self.session = self.session.with_headers(headers);
        self
    }

    /// Somebody to be told when requests are repeated.
    pub fn with_watch(mut self, watch: Arc<dyn Watch>) -> Self {
        self.session = self.session.with_watch(watch);
        self
    }

    /// The registry, as users write it.
    pub fn registry(&self) -> &str {
        &self.session.registry
    }

    /// The name within the registry.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn retry(&self) -> Retry {
        self.session.client.config.retry
    }

    pub(crate) fn scopes(&self, actions: &[&str]) -> Scopes {
        Scope::new(self.kind, &self.name, actions).into()
    }

    pub(crate) fn scope_of(&self, name: &str, actions: &[&str]) -> Scope {
        Scope::new(self.kind, name, actions)
    }

    pub(crate) fn target(&self, path: &str) -> Target {
        Target::Path(format!("/{}/{path}", self.name))
    }

    /// A request without body that answers 200.
    pub(crate) fn call<'a>(
        &'a self,
        method: Method,
        target: Target,
        object: Object,
        scopes: &'a Scopes,
    ) -> Call<'a> {
        Call {
            method,
            target,
            repository: Some(&self.name),
            object,
            headers: HeaderMap::new(),
            body: Payload::Empty,
            scopes,
            timeout: self.session.client.config.timeouts.answer,
            accept: &[200],
        }
    }

    /// The descriptor of a manifest, without fetching it where the registry tells enough.
    pub async fn resolve(&self, which: &Which) -> Result<Descriptor, Error> {
        let scopes = self.scopes(&["pull"]);
        let mut call = self.manifest_call(Method::HEAD, which, &scopes);
        // Whatever a HEAD is refused with, the GET after it brings the reason in its body.
        call.accept = &[];
        let reply = self.session.ask(which.needs(), &call, &self.retry().begin()).await?;
        let described = match reply.status {
            200 => manifest::described(&reply, which)?,
            _ => None,
        };
        reply.done().await;
        match described {
            Some(descriptor) => Ok(descriptor),
            None => Ok(self.manifest(which).await?.descriptor),
        }
    }

    /// A manifest or index, its digest verified. Docker's schema 1 is refused.
    pub async fn manifest(&self, which: &Which) -> Result<RawManifest, Error> {
        let scopes = self.scopes(&["pull"]);
        let call = self.manifest_call(Method::GET, which, &scopes);
        let reply = self.session.ask(which.needs(), &call, &self.retry().begin()).await?;
        manifest::read(reply, which).await
    }

    fn manifest_call<'a>(&'a self, method: Method, which: &Which, scopes: &'a Scopes) -> Call<'a> {
        let target = self.target(&format!("manifests/{which}"));
        let mut call = self.call(method, target, Object::Manifest(which.to_string()), scopes);
        // Separate headers: some servers read only the first of a list.
        for media_type in [OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST, "*/*"] {
            call.headers.append(ACCEPT, HeaderValue::from_static(media_type));
        }
        call
    }

    /// Stores a manifest under a tag or its digest. When it has a subject and the registry
    /// keeps no referrers, the subject's fall-back tag is brought up to date.
    pub async fn push_manifest(
        &self,
        which: &Which,
        media_type: &str,
        bytes: Bytes,
    ) -> Result<Digest, Error> {
        let scopes = self.scopes(&["pull", "push"]);
        let (reply, digest) = self.put_manifest(which, media_type, &bytes, &scopes).await?;
        let subject = manifest::subject(&bytes);
        let kept = header::text(&reply.headers, "oci-subject").is_some();
        let at = reply.at.clone();
        reply.done().await;
        if let Some(subject) = subject.filter(|_| !kept) {
            let descriptor = manifest::referrer(media_type, digest, &bytes);
            self.add_referrer(&at, subject, descriptor).await?;
        }
        Ok(digest)
    }

    pub(crate) async fn put_manifest(
        &self,
        which: &Which,
        media_type: &str,
        bytes: &Bytes,
        scopes: &Scopes,
    ) -> Result<(Reply, Digest), Error> {
        let algorithm = which.digest().map_or(oci::Algorithm::Sha256, |d| d.algorithm());
        let digest = Digest::of(algorithm, bytes);
        let object = Object::Manifest(which.to_string());
        let mut call =
            self.call(Method::PUT, self.target(&format!("manifests/{which}")), object, scopes);
        let kind = HeaderValue::from_str(media_type)
            .map_err(|_| Error::InvalidParameter(format!("media type {media_type:?}")))?;
        call.headers.insert(CONTENT_TYPE, kind);
        call.body = Payload::Whole(bytes.clone());
        call.accept = &[200, 201, 202];
        let remote = self.session.writer().await?;
        let reply = self.session.send(&remote, &call, &mut self.retry().begin()).await?;
        let expected = which.digest().unwrap_or(digest);
        let stored = header::text(&reply.headers, "docker-content-digest");
        let stored = stored.and_then(|text| text.parse::<Digest>().ok());
        let differs = |other: &Digest| other.algorithm() == digest.algorithm() && *other != digest;
        if let Some(actual) = stored.filter(differs).or((expected != digest).then_some(digest)) {
            return Err(Error::digest_mismatch(reply.at, expected, actual));
        }
        Ok((reply, digest))
    }

    /// Removes a tag, or a manifest with all its tags.
    pub async fn delete_manifest(&self, which: &Which) -> Result<(), Error> {
        let subject = match which {
            Which::Digest(_) => match self.manifest(which).await {
                Ok(raw) => manifest::subject(&raw.bytes),
                Err(error) if error.is_not_found() => return Err(error),
                // What can't be read can still be deleted.
                Err(_) => None,
            },
            Which::Tag(_) => None,
        };
        let object = Object::Manifest(which.to_string());
        let at = self.delete(&format!("manifests/{which}"), object).await?;
        if let (Some(subject), Which::Digest(digest)) = (subject, which) {
            self.remove_referrer(&at, subject, digest).await?;
        }
        Ok(())
    }

    /// Removes a blob from the repository.
    pub async fn delete_blob(&self, digest: &Digest) -> Result<(), Error> {
        self.delete(&format!("blobs/{digest}"), Object::Blob(*digest)).await?;
        Ok(())
    }

    async fn delete(&self, path: &str, object: Object) -> Result<crate::error::At, Error> {
        let scopes = self.scopes(&["delete", "pull"]);
        let mut call = self.call(Method::DELETE, self.target(path), object, &scopes);
        call.accept = &[200, 202, 204];
        let remote = self.session.writer().await?;
        match self.session.send(&remote, &call, &mut self.retry().begin()).await {
            Ok(reply) => {
                let at = reply.at.clone();
                reply.done().await;
                Ok(at)
            }
            Err(Error::Rejected { at, answer }) if answer.status == 405 => {
                Err(Error::Unsupported { at, what: "deletion is disabled there" })
            }
            Err(error) => Err(error),
        }
    }
}
