//! Blobs on their way up, by the cheapest way: not at all when the registry has them, mounted from
//! another repository, sent whole, or sent while they are still being made.

use std::sync::Arc;

use http::header::CONTENT_LENGTH;
use http::{HeaderValue, Method};
use oci::{Descriptor, Digest};

use crate::error::{Error, Object};
use crate::remote::Remote;
use crate::repository::Repository;
use crate::scope::Scopes;
use crate::session::Reply;
use crate::source::BlobSource;
use crate::upload::Upload;

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
                    upload = Some(Upload::begun(self, &remote, &scopes, object.clone(), *reply)?);
                    break;
                }
                Mount::Refused => {}
            }
        }
        let upload = match upload {
            Some(upload) => upload,
            None => Upload::begin(self, &remote, &scopes, object).await?,
        };
        upload.send(descriptor, &source, options.chunk).await?;
        Ok(Pushed::Uploaded)
    }

    /// Begins an upload of a blob that is still to be made.
    pub async fn begin_upload(&self) -> Result<Upload, Error> {
        let remote = self.session.writer().await?;
        let scopes = self.scopes(&["pull", "push"]);
        Upload::begin(self, &remote, &scopes, Object::Upload).await
    }

    pub(crate) async fn exists(
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
}

enum Mount {
    Done,
    Upload(Box<Reply>),
    Refused,
}
