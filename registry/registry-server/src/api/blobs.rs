//! Blobs: sent whole or in part, and deleted.

use file_stream::FileStream;
use http::{Response, StatusCode, header};
use oci::Digest;

use super::{Answer, ApiError, Call, Code, Registry, answer};
use crate::http::{Body, Requested, requested};
use crate::name::Repository;
use crate::proxy;
use crate::store::{Blob, StoreError};

/// A blob that is to be sent.
enum Source {
    Here(Blob),
    Coming(proxy::Reader, proxy::Opened),
}

impl Source {
    /// Its size, if that is known.
    fn size(&self) -> Option<u64> {
        match self {
            Self::Here(blob) => Some(blob.size),
            Self::Coming(_, opened) => opened.size,
        }
    }

    /// Its bytes from `first` to before `end`.
    fn body(self, first: u64, end: Option<u64>, call: &Call) -> Body {
        if end == Some(first) {
            return Body::empty();
        }
        let files = call.files.clone();
        match self {
            Self::Here(blob) => {
                let end = end.unwrap_or(blob.size);
                Body::File(Box::new(FileStream::new(blob.file, first, end, files)))
            }
            Self::Coming(reader, opened) => proxy::tail(reader, opened, first, end, files),
        }
    }
}

impl Registry {
    /// GET and HEAD of a blob.
    pub(super) async fn get_blob(&self, call: &Call, name: Repository, digest: Digest) -> Answer {
        let etag = format!("\"{digest}\"");
        let mut response = answer::status(StatusCode::OK);
        let headers = response.headers_mut();
        answer::set(headers, "Docker-Content-Digest", &digest.to_string());
        answer::set(headers, header::ETAG, &etag);
        answer::set(headers, header::CACHE_CONTROL, "max-age=31536000");
        answer::set(headers, header::ACCEPT_RANGES, "bytes");
        answer::set(headers, header::CONTENT_TYPE, "application/octet-stream");
        if call.is_head() {
            let size = self.size_of_blob(&name, &digest).await?;
            response.headers_mut().insert(header::CONTENT_LENGTH, size.into());
            return Ok(response);
        }
        if matches_none(call, &etag) && self.size_of_blob(&name, &digest).await.is_ok() {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            return Ok(response);
        }
        let source = self.source(name, digest).await?;
        // A range of another version of the blob would make no sense; there is but one.
        let range = call.header(&header::RANGE);
        let range = range.filter(|_| call.header(&header::IF_RANGE).is_none_or(|own| own == etag));
        let Some(size) = source.size() else {
            *response.body_mut() = source.body(0, None, call);
            return Ok(response);
        };
        let (first, end) = match requested(range, size) {
            Requested::All => (0, size),
            Requested::Part(first, end) => {
                *response.status_mut() = StatusCode::PARTIAL_CONTENT;
                let text = format!("bytes {first}-{}/{size}", end - 1);
                answer::set(response.headers_mut(), header::CONTENT_RANGE, &text);
                (first, end)
            }
            Requested::Nothing => return Err(unsatisfiable(size)),
        };
        response.headers_mut().insert(header::CONTENT_LENGTH, (end - first).into());
        *response.body_mut() = source.body(first, Some(end), call);
        Ok(response)
    }

    async fn size_of_blob(&self, name: &Repository, digest: &Digest) -> Result<u64, ApiError> {
        let (own, asked) = (name.clone(), *digest);
        let here = self.blocking(move |store| match store.blob_size(&own, &asked) {
            Err(StoreError::BlobUnknown(_)) => Ok(None),
            size => size.map(Some),
        });
        match (here.await?, &self.proxy) {
            (Some(size), _) => Ok(size),
            (None, Some(proxy)) => Ok(proxy.blob_size(name, digest).await?),
            (None, None) => Err(StoreError::BlobUnknown(*digest).into()),
        }
    }

    /// Where a blob's bytes are, or come from.
    async fn source(&self, name: Repository, digest: Digest) -> Result<Source, ApiError> {
        loop {
            let own = name.clone();
            let here = self.blocking(move |store| match store.blob(&own, &digest) {
                Err(StoreError::BlobUnknown(_)) => Ok(None),
                blob => blob.map(Some),
            });
            match (here.await?, &self.proxy) {
                (Some(blob), _) => return Ok(Source::Here(blob)),
                (None, None) => return Err(StoreError::BlobUnknown(digest).into()),
                (None, Some(proxy)) => match proxy.blob(&name, &digest).await? {
                    proxy::Blob::Here => {}
                    proxy::Blob::Coming(fetch) => {
                        let mut reader = fetch.read();
                        let opened = reader.opened().await?;
                        return Ok(Source::Coming(reader, opened));
                    }
                },
            }
        }
    }

    /// DELETE of a blob.
    pub(super) async fn delete_blob(&self, name: Repository, digest: Digest) -> Answer {
        self.blocking(move |store| store.delete_blob(&name, &digest)).await?;
        Ok(answer::status(StatusCode::ACCEPTED))
    }
}

/// Whether the client says that it has this already.
pub(super) fn matches_none(call: &Call, etag: &str) -> bool {
    let own = call.header(&header::IF_NONE_MATCH).unwrap_or_default();
    own.split(',')
        .map(|one| one.trim().trim_start_matches("W/"))
        .any(|one| one == etag || one == "*" || one == etag.trim_matches('"'))
}

fn unsatisfiable(size: u64) -> ApiError {
    let range = format!("bytes */{size}").parse();
    let error = ApiError::new(Code::SizeInvalid)
        .message("requested range not satisfiable")
        .status(StatusCode::RANGE_NOT_SATISFIABLE);
    match range {
        Ok(value) => error.header(header::CONTENT_RANGE, value),
        Err(_) => error,
    }
}

/// 201 for a blob that is there now.
pub(super) fn created(name: &Repository, digest: &Digest) -> Response<Body> {
    let mut response = answer::status(StatusCode::CREATED);
    let headers = response.headers_mut();
    answer::set(headers, header::LOCATION, &format!("/v2/{name}/blobs/{digest}"));
    answer::set(headers, "Docker-Content-Digest", &digest.to_string());
    response
}
