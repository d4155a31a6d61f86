//! From a path to what it names.

use oci::Digest;

use super::{ApiError, Code};
use crate::http::unescape;
use crate::name::{Repository, TagOrDigest, is_uuid};

/// What a path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// `/`.
    Root,
    /// `/healthz`.
    Health,
    /// `/v2`, which is meant to be `/v2/`.
    BaseWithoutSlash,
    /// `/v2/`.
    Base,
    /// `/v2/_catalog`.
    Catalog,
    /// `/v2/NAME/tags/list`.
    Tags(Repository),
    /// `/v2/NAME/manifests/REFERENCE`.
    Manifest(Repository, TagOrDigest),
    /// `/v2/NAME/blobs/DIGEST`.
    Blob(Repository, Digest),
    /// `/v2/NAME/blobs/uploads/`.
    Uploads(Repository),
    /// `/v2/NAME/blobs/uploads/UUID`.
    Upload(Repository, String),
    /// `/v2/NAME/referrers/DIGEST`.
    Referrers(Repository, Digest),
}

impl Route {
    /// Its name in metrics.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Health => "healthz",
            Self::BaseWithoutSlash | Self::Base => "base",
            Self::Catalog => "catalog",
            Self::Tags(_) => "tags",
            Self::Manifest(..) => "manifest",
            Self::Blob(..) => "blob",
            Self::Uploads(_) => "uploads",
            Self::Upload(..) => "upload",
            Self::Referrers(..) => "referrers",
        }
    }

    /// Reads a path. Nothing: no such path at all.
    ///
    /// # Errors
    /// What in it is wrong.
    pub(crate) fn parse(path: &str) -> Result<Option<Self>, ApiError> {
        let Some(path) = unescape(path, false) else { return Ok(None) };
        let Some(rest) = path.strip_prefix("/v2/") else {
            return Ok(match path.as_str() {
                "/" => Some(Self::Root),
                "/healthz" => Some(Self::Health),
                "/v2" => Some(Self::BaseWithoutSlash),
                _ => None,
            });
        };
        match rest {
            "" => return Ok(Some(Self::Base)),
            "_catalog" => return Ok(Some(Self::Catalog)),
            _ => {}
        }
        let Some((head, last)) = rest.rsplit_once('/') else { return Ok(None) };
        if let Some(name) = head.strip_suffix("/tags").filter(|_| last == "list") {
            return Ok(Some(Self::Tags(repository(name)?)));
        }
        if let Some(name) = head.strip_suffix("/blobs/uploads") {
            let name = repository(name)?;
            return match last {
                "" => Ok(Some(Self::Uploads(name))),
                uuid if is_uuid(uuid) => Ok(Some(Self::Upload(name, uuid.into()))),
                _ => Err(Code::BlobUploadUnknown.into()),
            };
        }
        if let Some(name) = head.strip_suffix("/manifests") {
            return Ok(Some(Self::Manifest(repository(name)?, reference(last)?)));
        }
        if let Some(name) = head.strip_suffix("/blobs") {
            let name = repository(name)?;
            if last == "uploads" {
                return Ok(Some(Self::Uploads(name)));
            }
            return Ok(Some(Self::Blob(name, digest(last)?)));
        }
        if let Some(name) = head.strip_suffix("/referrers") {
            return Ok(Some(Self::Referrers(repository(name)?, digest(last)?)));
        }
        Ok(None)
    }
}

pub(super) fn repository(name: &str) -> Result<Repository, ApiError> {
    name.parse()
        .map_err(|_| ApiError::with(Code::NameInvalid, name.chars().take(300).collect::<String>()))
}

pub(super) fn digest(text: &str) -> Result<Digest, ApiError> {
    text.parse().map_err(|e: oci::InvalidDigest| ApiError::with(Code::DigestInvalid, e.to_string()))
}

fn reference(text: &str) -> Result<TagOrDigest, ApiError> {
    if text.contains(':') {
        return digest(text).map(TagOrDigest::Digest);
    }
    let tag = text.parse().map_err(|_| ApiError::new(Code::TagInvalid));
    tag.map(TagOrDigest::Tag)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn route(path: &str) -> Option<Route> {
        Route::parse(path).unwrap()
    }

    #[test]
    fn a_repository_may_be_called_like_a_part_of_a_path() {
        let digest = Digest::sha256(b"x");
        let name = |name: &str| name.parse::<Repository>().unwrap();
        let uuid = "123e4567-e89b-42d3-a456-426614174000";
        assert_eq!(route("/v2/"), Some(Route::Base));
        assert_eq!(route("/v2/_catalog"), Some(Route::Catalog));
        assert_eq!(route("/v2/tags/tags/list"), Some(Route::Tags(name("tags"))));
        assert_eq!(
            route(&format!("/v2/a/manifests/manifests/{digest}")),
            Some(Route::Manifest(name("a/manifests"), TagOrDigest::Digest(digest)))
        );
        let escaped = digest.to_string().replace(':', "%3A");
        let blobs = Some(Route::Blob(name("a/blobs"), digest));
        assert_eq!(route(&format!("/v2/a/blobs/blobs/{escaped}")), blobs);
        assert_eq!(route("/v2/a/blobs/uploads/"), Some(Route::Uploads(name("a"))));
        assert_eq!(
            route(&format!("/v2/a/blobs/uploads/{uuid}")),
            Some(Route::Upload(name("a"), uuid.into()))
        );
        let tag = TagOrDigest::Tag("uploads".parse().unwrap());
        assert_eq!(route("/v2/a/manifests/uploads"), Some(Route::Manifest(name("a"), tag)));
        for none in ["/v1/", "/v2/x", "/v2/a/b", "/v2/a/tags/x", "/x", ""] {
            assert_eq!(route(none), None, "{none}");
        }
    }

    #[test]
    fn names_that_are_none_are_errors() {
        for bad in [
            "/v2/A/tags/list",
            "/v2/../tags/list",
            "/v2/a%2f%2fb/tags/list",
            "/v2/a/manifests/.x",
            "/v2/a/manifests/sha256:zz",
            "/v2/a/blobs/x",
            "/v2/a/referrers/x",
            "/v2/a/blobs/uploads/x",
        ] {
            assert!(Route::parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_path_panics(path in "/v2/[a-zA-Z0-9%:/._-]{0,60}", any: String) {
            let _ = Route::parse(&path);
            let _ = Route::parse(&any);
        }
    }
}
