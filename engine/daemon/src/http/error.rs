//! The one error that handlers answer with: a status and dockerd's text.

use engine_api::DecodeError;
use engine_api::filters::FilterError;
use engine_api::upgrade::UpgradeError;
use http::StatusCode;

/// A failed request: what the client gets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// The status of the answer.
    pub status: StatusCode,
    /// The text, as dockerd words it.
    pub message: String,
}

macro_rules! statuses {
    ($($(#[$meta:meta])* $name:ident $status:ident;)*) => {$(
        $(#[$meta])*
        pub fn $name(message: impl Into<String>) -> Self {
            Self { status: StatusCode::$status, message: message.into() }
        }
    )*};
}

impl ApiError {
    statuses! {
        /// 400: the request is wrong in itself.
        bad_request BAD_REQUEST;
        /// 401: credentials are missing or wrong.
        unauthorized UNAUTHORIZED;
        /// 403: not allowed.
        forbidden FORBIDDEN;
        /// 404: no such object.
        not_found NOT_FOUND;
        /// 409: the object's state does not allow it.
        conflict CONFLICT;
        /// 500: it went wrong.
        internal INTERNAL_SERVER_ERROR;
        /// 501: this engine can't.
        not_implemented NOT_IMPLEMENTED;
        /// 503: not now.
        unavailable SERVICE_UNAVAILABLE;
    }

    /// 304: already as asked; carries no body.
    pub fn not_modified() -> Self {
        Self { status: StatusCode::NOT_MODIFIED, message: String::new() }
    }
}

/// What the kernel said, as Go words it: in small letters, without a number.
pub fn errno_text(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

impl From<DecodeError> for ApiError {
    fn from(e: DecodeError) -> Self {
        Self::bad_request(e.to_string())
    }
}

impl From<UpgradeError> for ApiError {
    fn from(e: UpgradeError) -> Self {
        match e {
            UpgradeError::Invalid(text) => Self::bad_request(text),
            UpgradeError::Fault(text) => Self::internal(text),
        }
    }
}

impl From<FilterError> for ApiError {
    fn from(e: FilterError) -> Self {
        Self::bad_request(e.to_string())
    }
}
