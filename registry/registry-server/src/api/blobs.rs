//! Blobs: sent whole or in part, and deleted.

use http::{Response, StatusCode, header};
use oci::Digest;

use super::{Answer, ApiError, Call, Code, Registry, answer};
use crate::http::{Body, FileBody, Requested, requested};
use crate::name::Repository;

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
            let size = self.blocking(move |store| store.blob_size(&name, &digest)).await?;
            response.headers_mut().insert(header::CONTENT_LENGTH, size.into());
            return Ok(response);
        }
        let blob = self.blocking(move |store| store.blob(&name, &digest)).await?;
        if matches_none(call, &etag) {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            return Ok(response);
        }
        // A range of another version of the blob would make no sense; there is but one.
        let range = call.header(&header::RANGE);
        let range = range.filter(|_| call.header(&header::IF_RANGE).is_none_or(|own| own == etag));
        let (first, end) = match requested(range, blob.size) {
            Requested::All => (0, blob.size),
            Requested::Part(first, end) => {
                *response.status_mut() = StatusCode::PARTIAL_CONTENT;
                let text = format!("bytes {first}-{}/{}", end - 1, blob.size);
                answer::set(response.headers_mut(), header::CONTENT_RANGE, &text);
                (first, end)
            }
            Requested::Nothing => return Err(unsatisfiable(blob.size)),
        };
        *response.body_mut() = match end - first {
            0 => Body::empty(),
            _ => Body::File(Box::new(FileBody::new(blob.file, first, end, call.files.clone()))),
        };
        Ok(response)
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
