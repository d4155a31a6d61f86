//! Uploads: begun, continued, asked about, finished, given up.

use std::sync::Arc;

use http::{HeaderMap, Response, StatusCode, header};
use oci::{Algorithm, Digest};

use super::{Answer, ApiError, Call, Code, Registry, answer, blobs, route};
use crate::http::{Body, ContentRange};
use crate::name::Repository;
use crate::store::{Claim, Session, StoreError};

impl Registry {
    /// POST: mounts a blob, takes one whole, or begins an upload.
    pub(super) async fn begin_upload(&self, call: Call, name: Repository) -> Answer {
        if let Some(mount) = call.query.get("mount") {
            let digest = route::digest(mount)?;
            // Without a source anybody could get any blob by its digest alone.
            if let Some(from) = call.query.get("from") {
                let (from, to) = (route::repository(from)?, name.clone());
                let mounted =
                    self.blocking(move |store| store.mount_blob(&digest, &from, &to)).await?;
                if mounted {
                    return Ok(blobs::created(&name, &digest));
                }
            }
        }
        let whole = call.query.get("digest").map(route::digest).transpose()?;
        let algorithm = match (call.query.get("digest-algorithm"), whole) {
            (Some(text), _) => text.parse().map_err(|e: oci::InvalidDigest| {
                ApiError::with(Code::DigestInvalid, e.to_string())
            })?,
            (None, Some(digest)) => digest.algorithm(),
            (None, None) => Algorithm::Sha256,
        };
        let repository = name.clone();
        let session =
            self.blocking(move |store| store.begin_upload(&repository, algorithm)).await?;
        // A client that announces no body means to send it by PUT, as it would elsewhere.
        if let Some(digest) = whole
            && (!is_empty(&call) || digest.matches(b""))
        {
            let claim = session.claim().await?;
            return self.receive_all(call, claim, name, digest).await;
        }
        Ok(progress(StatusCode::ACCEPTED, &session, &name, 0))
    }

    /// GET: how far the upload is.
    pub(super) async fn upload_status(&self, name: Repository, uuid: String) -> Answer {
        let session = self.store.upload(&name, &uuid)?;
        let size = session.size().await?;
        Ok(progress(StatusCode::NO_CONTENT, &session, &name, size))
    }

    /// PATCH: more of it.
    pub(super) async fn append_upload(&self, call: Call, name: Repository, uuid: String) -> Answer {
        let (session, claim) = self.claim(&name, &uuid).await?;
        check_place(&call, &claim, &session, &name)?;
        let claim = self.receive(call, claim).await?;
        Ok(progress(StatusCode::ACCEPTED, &session, &name, claim.size()))
    }

    /// PUT: the last of it, possibly nothing, and its digest.
    pub(super) async fn finish_upload(&self, call: Call, name: Repository, uuid: String) -> Answer {
        let digest = call.query.get("digest").ok_or_else(|| {
            ApiError::with(Code::DigestInvalid, "the parameter digest is missing")
        })?;
        let digest = route::digest(digest)?;
        let (session, mut claim) = self.claim(&name, &uuid).await?;
        check_place(&call, &claim, &session, &name)?;
        claim.hash_by(digest.algorithm());
        self.receive_all(call, claim, name, digest).await
    }

    /// DELETE: gives it up.
    pub(super) async fn cancel_upload(&self, name: Repository, uuid: String) -> Answer {
        let (_, claim) = self.claim(&name, &uuid).await?;
        self.blocking(move |store| {
            store.end_upload(claim);
            Ok(())
        })
        .await?;
        Ok(answer::status(StatusCode::NO_CONTENT))
    }

    async fn receive_all(
        &self,
        call: Call,
        claim: Claim,
        name: Repository,
        digest: Digest,
    ) -> Answer {
        let claim = self.receive(call, claim).await?;
        self.blocking(move |store| store.finish_upload(claim, &digest)).await?;
        Ok(blobs::created(&name, &digest))
    }

    async fn claim(
        &self,
        name: &Repository,
        uuid: &str,
    ) -> Result<(Arc<Session>, Claim), ApiError> {
        let session = self.store.upload(name, uuid)?;
        let claim = session.claim().await?;
        Ok((session, claim))
    }
}

/// Whether the client announced that no body comes.
fn is_empty(call: &Call) -> bool {
    http_body::Body::is_end_stream(&call.body)
}

/// A chunk must begin where the upload stands, and be as long as it says.
fn check_place(
    call: &Call,
    claim: &Claim,
    session: &Session,
    name: &Repository,
) -> Result<(), ApiError> {
    let Some(text) = call.header(&header::CONTENT_RANGE) else { return Ok(()) };
    let range = ContentRange::parse(text).ok_or_else(|| {
        ApiError::with(Code::BlobUploadInvalid, format!("invalid Content-Range {text:?}"))
    })?;
    let announced = http_body::Body::size_hint(&call.body).exact();
    if announced.is_some_and(|length| length != range.length()) {
        return Err(Code::SizeInvalid.into());
    }
    if range.first == claim.size() {
        return Ok(());
    }
    let mut headers = HeaderMap::new();
    describe(&mut headers, session, name, claim.size());
    let out_of_order = StoreError::OutOfOrder { offset: claim.size() };
    let error =
        headers.into_iter().fold(ApiError::from(out_of_order), |error, (key, value)| match key {
            Some(key) => error.header(key, value),
            None => error,
        });
    Err(error)
}

fn progress(status: StatusCode, session: &Session, name: &Repository, size: u64) -> Response<Body> {
    let mut response = answer::status(status);
    describe(response.headers_mut(), session, name, size);
    response
}

/// Where to go on, and how far it is. Nothing at all is shown as docker-registry shows it.
fn describe(headers: &mut HeaderMap, session: &Session, name: &Repository, size: u64) {
    let uuid = session.uuid();
    answer::set(headers, header::LOCATION, &format!("/v2/{name}/blobs/uploads/{uuid}"));
    answer::set(headers, header::RANGE, &format!("0-{}", size.saturating_sub(1)));
    answer::set(headers, "Docker-Upload-UUID", uuid);
}
