//! What the other registry's refusals and silences become here.

use std::time::Duration;

use oci::Digest;
use registry_client::{Error, Object};

use crate::api::{ApiError, Code};
use crate::name::Repository;
use crate::store::StoreError;

/// Why something is not served. Several clients may wait for the same thing, and all are told.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    code: Code,
    detail: String,
    retry_after: Option<Duration>,
}

impl Failure {
    fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), retry_after: None }
    }

    pub(super) fn unknown_name(name: &Repository) -> Self {
        Self::new(Code::NameUnknown, name.to_string())
    }

    pub(super) fn unknown_blob(digest: &Digest) -> Self {
        Self::new(Code::BlobUnknown, digest.to_string())
    }

    /// For who came in the moment in which it was given up.
    pub(super) fn abandoned(digest: &Digest) -> Self {
        tracing::info!(%digest, "nobody waits for the blob any more: given up");
        Self::new(Code::Unavailable, digest.to_string())
    }

    pub(super) fn internal(why: &str) -> Self {
        tracing::error!("{why}");
        Self::new(Code::Unknown, "")
    }

    /// Whether the other registry may answer differently a while later.
    pub(crate) fn may_pass(&self) -> bool {
        matches!(self.code, Code::Unavailable | Code::TooManyRequests)
    }
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        let object = error.at().map(|at| &at.object);
        let code = match error {
            Error::NotFound { .. } => match object {
                Some(Object::Blob(_) | Object::Config(_)) => Code::BlobUnknown,
                Some(Object::Tags | Object::Referrers(_)) => Code::NameUnknown,
                _ => Code::ManifestUnknown,
            },
            // Whoever asks here cannot log in there: it is this registry that may not.
            Error::Unauthorized { .. } | Error::Denied { .. } | Error::NoCredentials { .. } => {
                Code::Denied
            }
            Error::RateLimited { .. } => Code::TooManyRequests,
            Error::Token { cause, .. } => return Self::from(&**cause),
            Error::SchemaOne { .. } => Code::ManifestUnknown,
            _ => {
                tracing::warn!("{error}");
                Code::Unavailable
            }
        };
        Self { code, detail: error.to_string(), retry_after: error.retry_after() }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::WrongDigest { .. } => {
                tracing::error!("the other registry sent something else: {error}");
                Self::new(Code::Unavailable, error.to_string())
            }
            StoreError::TooManyUploads(_) => Self::new(Code::TooManyRequests, error.to_string()),
            StoreError::BlobUnknown(digest) => Self::unknown_blob(&digest),
            other => Self::internal(&other.to_string()),
        }
    }
}

impl From<Failure> for ApiError {
    fn from(failure: Failure) -> Self {
        let error = Self::with(failure.code, failure.detail);
        match (failure.code, failure.retry_after) {
            (_, Some(wait)) => error.retry_after(wait.as_secs().max(1)),
            (Code::TooManyRequests, None) => error.retry_after(60),
            (_, None) => error,
        }
    }
}

impl From<Failure> for std::io::Error {
    fn from(failure: Failure) -> Self {
        Self::other(failure.detail)
    }
}
