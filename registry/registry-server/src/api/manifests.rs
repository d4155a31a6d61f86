//! Manifests: got, pushed under tags or by digest, deleted.

use http::{HeaderName, StatusCode, header};
use oci::Digest;

use super::upload::read_small;
use super::{Answer, ApiError, Call, Code, Registry, answer, blobs};
use crate::http::Body;
use crate::manifest::{MAX_SIZE, Manifest};
use crate::name::{Repository, Tag, TagOrDigest};
use crate::store::{Condition, Put};

/// Most tags that one push may set.
const MAX_TAGS: usize = 100;

impl Registry {
    /// GET and HEAD of a manifest. It comes with the type that it was pushed with, whatever the
    /// client says to accept: there is nothing else to send.
    pub(super) async fn get_manifest(
        &self,
        call: &Call,
        name: Repository,
        which: TagOrDigest,
    ) -> Answer {
        let is_head = call.is_head();
        let (which, is_stale) = match &self.proxy {
            None => (which, false),
            Some(proxy) => {
                let manifest = proxy.manifest(&name, &which).await?;
                (TagOrDigest::Digest(manifest.digest), manifest.is_stale)
            }
        };
        let found = self.blocking(move |store| {
            let stored = store.manifest(&name, &which)?;
            let bytes = if is_head { None } else { Some(store.manifest_bytes(&stored.digest)?) };
            Ok((stored, bytes))
        });
        let (stored, bytes) = found.await?;
        let etag = format!("\"{}\"", stored.digest);
        let mut response = answer::status(StatusCode::OK);
        let headers = response.headers_mut();
        answer::set(headers, header::CONTENT_TYPE, &stored.media_type);
        answer::set(headers, "Docker-Content-Digest", &stored.digest.to_string());
        answer::set(headers, header::ETAG, &etag);
        if is_stale {
            let warning = "299 - \"the registry behind this cache cannot be reached\"";
            answer::set(headers, header::WARNING, warning);
        }
        if blobs::matches_none(call, &etag) {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            return Ok(response);
        }
        response.headers_mut().insert(header::CONTENT_LENGTH, stored.size.into());
        *response.body_mut() = Body::from(bytes.unwrap_or_default());
        Ok(response)
    }

    /// PUT of a manifest.
    pub(super) async fn put_manifest(
        &self,
        call: Call,
        name: Repository,
        which: TagOrDigest,
    ) -> Answer {
        let media_type = content_type(&call)?;
        let (condition, more) = (condition(&call)?, more_tags(&call, &which)?);
        let bytes = read_small(call, MAX_SIZE).await?;
        let digest = match &which {
            TagOrDigest::Digest(digest) if !digest.matches(&bytes) => {
                return Err(Code::DigestInvalid.into());
            }
            TagOrDigest::Digest(digest) => *digest,
            TagOrDigest::Tag(_) => Digest::sha256(&bytes),
        };
        let manifest = Manifest::parse(&media_type, &bytes)
            .map_err(|e| ApiError::with(Code::ManifestInvalid, e.to_string()))?;
        let subject = manifest.subject();
        let tags: Vec<Tag> = match which {
            TagOrDigest::Tag(tag) => vec![tag],
            TagOrDigest::Digest(_) => more.clone(),
        };
        let shown = name.to_string();
        self.blocking(move |store| {
            let put = Put { digest, tags: &tags, bytes: &bytes, manifest: &manifest, condition };
            store.put_manifest(&name, &put)
        })
        .await?;
        let mut response = answer::status(StatusCode::CREATED);
        let headers = response.headers_mut();
        answer::set(headers, header::LOCATION, &format!("/v2/{shown}/manifests/{digest}"));
        answer::set(headers, "Docker-Content-Digest", &digest.to_string());
        if let Some(subject) = subject {
            answer::set(headers, "OCI-Subject", &subject.to_string());
        }
        for tag in &more {
            if let Ok(value) = tag.as_str().parse() {
                headers.append(HeaderName::from_static("oci-tag"), value);
            }
        }
        Ok(response)
    }

    /// DELETE of a tag, or of a manifest with all its tags.
    pub(super) async fn delete_manifest(&self, name: Repository, which: TagOrDigest) -> Answer {
        self.blocking(move |store| match which {
            TagOrDigest::Tag(tag) => store.delete_tag(&name, &tag),
            TagOrDigest::Digest(digest) => store.delete_manifest(&name, &digest),
        })
        .await?;
        Ok(answer::status(StatusCode::ACCEPTED))
    }
}

/// The type without parameters.
fn content_type(call: &Call) -> Result<String, ApiError> {
    let text = call.header(&header::CONTENT_TYPE).unwrap_or_default();
    let bare = text.split(';').next().unwrap_or_default().trim();
    if bare.is_empty() {
        return Err(ApiError::with(Code::ManifestInvalid, "a Content-Type is required"));
    }
    Ok(bare.to_owned())
}

/// The tags that a push by digest brings along.
fn more_tags(call: &Call, which: &TagOrDigest) -> Result<Vec<Tag>, ApiError> {
    if matches!(which, TagOrDigest::Tag(_)) {
        return Ok(Vec::new());
    }
    let tags: Result<Vec<Tag>, _> = call.query.all("tag").map(str::parse).collect();
    let mut tags = tags.map_err(|_| ApiError::new(Code::TagInvalid))?;
    let mut seen = std::collections::HashSet::new();
    tags.retain(|tag| seen.insert(tag.clone()));
    if tags.len() > MAX_TAGS {
        return Err(ApiError::new(Code::TagInvalid)
            .status(StatusCode::URI_TOO_LONG)
            .message("too many tags"));
    }
    Ok(tags)
}

/// What the client wants to be so before its push counts.
fn condition(call: &Call) -> Result<Condition, ApiError> {
    let digests = |text: &str| -> Result<Vec<Digest>, ApiError> {
        let one = |tag: &str| super::route::digest(tag.trim().trim_matches('"'));
        text.split(',').map(one).collect()
    };
    match (call.header(&header::IF_MATCH), call.header(&header::IF_NONE_MATCH)) {
        (None, None) => Ok(Condition::None),
        (Some("*"), _) => Ok(Condition::Present),
        (Some(these), _) => Ok(Condition::Is(digests(these)?)),
        (None, Some("*")) => Ok(Condition::Absent),
        (None, Some(these)) => Ok(Condition::IsNot(digests(these)?)),
    }
}
