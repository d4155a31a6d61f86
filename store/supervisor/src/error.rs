//! The one error of all services, and its gRPC status in one match.

use tonic::metadata::MetadataValue;
use tonic::{Code, Status};

/// What a service answers instead of a result. Texts are containerd's: `WHAT: not found`.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such object.
    #[error("{0}: not found")]
    NotFound(String),
    /// There is one already.
    #[error("{0}: already exists")]
    AlreadyExists(String),
    /// The request makes no sense.
    #[error("{0}: invalid argument")]
    InvalidArgument(String),
    /// Not in this state.
    #[error("{0}: failed precondition")]
    FailedPrecondition(String),
    /// Somebody else is at it, or it can't be reached now.
    #[error("{0}: unavailable")]
    Unavailable(String),
    /// Beyond the end.
    #[error("{0}: out of range")]
    OutOfRange(String),
    /// Given up.
    #[error("{0}: aborted")]
    Aborted(String),
    /// Took too long.
    #[error("{0}: context deadline exceeded")]
    DeadlineExceeded(String),
    /// Not offered by Ferry; the text names it.
    #[error("{0}: not implemented")]
    Unimplemented(String),
    /// Given up by whoever asked.
    #[error("{0}: context canceled")]
    Cancelled(String),
    /// A registry refused or could not be reached.
    #[error("{text}")]
    Registry {
        /// What happened.
        text: String,
        /// The gRPC code for it.
        code: Code,
        /// The same in docker's words.
        told: registry_client::Told,
    },
    /// The kernel refused; the text says what was attempted on which object.
    #[error("{what}: {source}")]
    Io {
        /// What was attempted, with the object's name.
        what: String,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// The metadata store failed.
    #[error(transparent)]
    Store(#[from] metastore::StoreError),
    /// Anything else, in words.
    #[error("{0}")]
    Other(String),
}

impl Error {
    /// For `map_err` on I/O: names what was attempted.
    pub fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { what: what.into(), source }
    }

    /// For `map_err` on rustix calls: names what was attempted.
    pub fn errno(what: impl Into<String>) -> impl FnOnce(rustix::io::Errno) -> Self {
        move |source| Self::Io { what: what.into(), source: source.into() }
    }

    /// The gRPC code.
    pub fn code(&self) -> Code {
        match self {
            Self::NotFound(_) => Code::NotFound,
            Self::AlreadyExists(_) => Code::AlreadyExists,
            Self::InvalidArgument(_) => Code::InvalidArgument,
            Self::FailedPrecondition(_) => Code::FailedPrecondition,
            Self::Unavailable(_) => Code::Unavailable,
            Self::OutOfRange(_) => Code::OutOfRange,
            Self::Aborted(_) => Code::Aborted,
            Self::DeadlineExceeded(_) => Code::DeadlineExceeded,
            Self::Unimplemented(_) => Code::Unimplemented,
            Self::Cancelled(_) => Code::Cancelled,
            Self::Registry { code, .. } => *code,
            Self::Io { .. } | Self::Store(_) | Self::Other(_) => Code::Unknown,
        }
    }
}

/// The gRPC code for what a registry did.
pub(crate) fn registry_code(error: &registry_client::Error) -> Code {
    use registry_client::Error as E;
    match error {
        E::NotFound { .. } => Code::NotFound,
        E::Unauthorized { .. } | E::NoCredentials { .. } | E::Token { .. } => Code::Unauthenticated,
        E::Denied { .. } => Code::PermissionDenied,
        E::RateLimited { .. } => Code::ResourceExhausted,
        E::InvalidParameter(_) | E::InvalidRegistry { .. } | E::SchemaOne { .. } => {
            Code::InvalidArgument
        }
        E::Connect { .. } | E::Timeout { .. } | E::Broken { .. } | E::Server { .. } => {
            Code::Unavailable
        }
        E::DigestMismatch { .. } | E::SizeMismatch { .. } | E::Truncated { .. } => Code::DataLoss,
        _ => Code::Unknown,
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let mut status = Self::new(error.code(), error.to_string());
        if let Error::Registry { told, .. } = error {
            // Clients that know docker's words for it find them here; others need not look.
            let message = MetadataValue::from_bytes(told.message.as_bytes());
            status.metadata_mut().insert_bin(containerd_api::TOLD_MESSAGE_KEY, message);
            status.metadata_mut().insert(containerd_api::TOLD_STATUS_KEY, told.status.into());
        }
        status
    }
}

impl From<containerd_api::filter::InvalidFilter> for Error {
    fn from(error: containerd_api::filter::InvalidFilter) -> Self {
        Self::InvalidArgument(error.to_string())
    }
}
