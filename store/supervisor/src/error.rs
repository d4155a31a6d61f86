//! The one error of all services, and its gRPC status in one match.

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
            Self::Io { .. } | Self::Store(_) | Self::Other(_) => Code::Unknown,
        }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

impl From<containerd_api::filter::InvalidFilter> for Error {
    fn from(error: containerd_api::filter::InvalidFilter) -> Self {
        Self::InvalidArgument(error.to_string())
    }
}
