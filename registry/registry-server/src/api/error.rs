//! Errors as clients get them: status, code, message and detail, in the specification's form.

use std::io::ErrorKind;

use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Response, StatusCode, header};
use serde::Serialize;
use serde_json::{Value, json};

use super::answer;
use crate::http::Body;
use crate::store::StoreError;

/// The codes of the specification, and three that docker-registry adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    BlobUnknown,
    BlobUploadInvalid,
    BlobUploadUnknown,
    DigestInvalid,
    ManifestBlobUnknown,
    ManifestInvalid,
    ManifestUnknown,
    NameInvalid,
    NameUnknown,
    SizeInvalid,
    Unauthorized,
    Denied,
    Unsupported,
    TooManyRequests,
    TagInvalid,
    Unavailable,
    Unknown,
}

impl Code {
    /// Its name, its status unless another fits better, and its message.
    const fn parts(self) -> (&'static str, StatusCode, &'static str) {
        const BAD: StatusCode = StatusCode::BAD_REQUEST;
        const ABSENT: StatusCode = StatusCode::NOT_FOUND;
        match self {
            Self::BlobUnknown => ("BLOB_UNKNOWN", ABSENT, "blob unknown to registry"),
            Self::BlobUploadInvalid => ("BLOB_UPLOAD_INVALID", BAD, "blob upload invalid"),
            Self::BlobUploadUnknown => {
                ("BLOB_UPLOAD_UNKNOWN", ABSENT, "blob upload unknown to registry")
            }
            Self::DigestInvalid => {
                ("DIGEST_INVALID", BAD, "provided digest did not match uploaded content")
            }
            Self::ManifestBlobUnknown => ("MANIFEST_BLOB_UNKNOWN", BAD, "blob unknown to registry"),
            Self::ManifestInvalid => ("MANIFEST_INVALID", BAD, "manifest invalid"),
            Self::ManifestUnknown => ("MANIFEST_UNKNOWN", ABSENT, "manifest unknown"),
            Self::NameInvalid => ("NAME_INVALID", BAD, "invalid repository name"),
            Self::NameUnknown => ("NAME_UNKNOWN", ABSENT, "repository name not known to registry"),
            Self::SizeInvalid => {
                ("SIZE_INVALID", BAD, "provided length did not match content length")
            }
            Self::Unauthorized => {
                ("UNAUTHORIZED", StatusCode::UNAUTHORIZED, "authentication required")
            }
            Self::Denied => {
                ("DENIED", StatusCode::FORBIDDEN, "requested access to the resource is denied")
            }
            Self::Unsupported => {
                ("UNSUPPORTED", StatusCode::METHOD_NOT_ALLOWED, "The operation is unsupported.")
            }
            Self::TooManyRequests => {
                ("TOOMANYREQUESTS", StatusCode::TOO_MANY_REQUESTS, "too many requests")
            }
            Self::TagInvalid => ("TAG_INVALID", BAD, "manifest tag did not match URI"),
            Self::Unavailable => {
                ("UNAVAILABLE", StatusCode::SERVICE_UNAVAILABLE, "service unavailable")
            }
            Self::Unknown => ("UNKNOWN", StatusCode::INTERNAL_SERVER_ERROR, "unknown error"),
        }
    }
}

/// An answer that is an error.
#[derive(Debug)]
pub(crate) struct ApiError(Box<Parts>);

#[derive(Debug)]
struct Parts {
    status: StatusCode,
    errors: Vec<Entry>,
    headers: HeaderMap,
}

#[derive(Serialize)]
struct Errors {
    errors: Vec<Entry>,
}

/// One error, in the order in which docker-registry writes it.
#[derive(Debug, Serialize)]
struct Entry {
    code: &'static str,
    message: String,
    #[serde(skip_serializing_if = "Value::is_null")]
    detail: Value,
}

impl ApiError {
    pub(crate) fn new(code: Code) -> Self {
        Self::with(code, Value::Null)
    }

    /// The same with something about the object.
    pub(crate) fn with(code: Code, detail: impl Into<Value>) -> Self {
        Self::all(code, [detail.into()])
    }

    /// Several errors of a kind.
    fn all(code: Code, details: impl IntoIterator<Item = Value>) -> Self {
        let (code, status, message) = code.parts();
        let entry = |detail| Entry { code, message: message.to_owned(), detail };
        let errors = details.into_iter().map(entry).collect();
        Self(Box::new(Parts { status, errors, headers: HeaderMap::new() }))
    }

    pub(crate) fn status(mut self, status: StatusCode) -> Self {
        self.0.status = status;
        self
    }

    /// Replaces the message of the (only) error.
    pub(crate) fn message(mut self, message: &str) -> Self {
        for error in &mut self.0.errors {
            message.clone_into(&mut error.message);
        }
        self
    }

    pub(crate) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.append(name, value);
        self
    }

    pub(crate) fn into_response(self) -> Response<Body> {
        let Parts { status, errors, headers } = *self.0;
        let mut response = answer::json(&Errors { errors });
        *response.status_mut() = status;
        response.headers_mut().extend(headers);
        response
    }
}

impl From<Code> for ApiError {
    fn from(code: Code) -> Self {
        Self::new(code)
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::NameUnknown(name) => {
                Self::with(Code::NameUnknown, json!({"name": name.as_str()}))
            }
            StoreError::BlobUnknown(digest) => Self::with(Code::BlobUnknown, digest.to_string()),
            StoreError::ManifestBlobsUnknown(missing) => {
                let details = missing.iter().map(|digest| digest.to_string().into());
                Self::all(Code::ManifestBlobUnknown, details)
            }
            StoreError::ManifestUnknown(which) => {
                Self::with(Code::ManifestUnknown, format!("unknown manifest {which}"))
            }
            StoreError::UploadUnknown(_) => Self::new(Code::BlobUploadUnknown),
            StoreError::TooManyUploads(_) => {
                Self::with(Code::TooManyRequests, error.to_string()).retry_after(60)
            }
            StoreError::OutOfOrder { .. } => Self::with(Code::BlobUploadInvalid, error.to_string())
                .status(StatusCode::RANGE_NOT_SATISFIABLE),
            StoreError::WrongDigest { .. } => Self::with(Code::DigestInvalid, error.to_string()),
            StoreError::Precondition(_) => Self::with(Code::ManifestInvalid, error.to_string())
                .status(StatusCode::PRECONDITION_FAILED),
            StoreError::Io { source, .. } if source.kind() == ErrorKind::StorageFull => {
                tracing::error!("{error}");
                Self::new(Code::Unavailable)
                    .status(StatusCode::INSUFFICIENT_STORAGE)
                    .message("no space left on the registry's disk")
            }
            StoreError::InUse { .. }
            | StoreError::Collecting
            | StoreError::Damaged(_)
            | StoreError::Io { .. } => {
                // The answer tells the client nothing about paths: the log does.
                tracing::error!("{error}");
                Self::new(Code::Unknown)
            }
        }
    }
}

impl ApiError {
    /// Says when to come again.
    pub(crate) fn retry_after(self, seconds: u64) -> Self {
        self.header(header::RETRY_AFTER, HeaderValue::from(seconds))
    }
}
