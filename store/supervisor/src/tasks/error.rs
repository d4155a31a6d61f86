//! Why a task call failed, and as which gRPC status clients see it. One match, no logging.

use shim_api::ttrpc;
use std::io;

/// A failure of the task service.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// No such task, process or container.
    #[error("{0}: not found")]
    NotFound(String),
    /// It exists already.
    #[error("{0}")]
    Exists(String),
    /// The request itself is wrong.
    #[error("{0}")]
    Invalid(String),
    /// The object's state forbids it.
    #[error("{0}")]
    Precondition(String),
    /// Nobody here can do that.
    #[error("{0}")]
    Unsupported(String),
    /// The shim answered with a failure; its text is what users know.
    #[error("{}", .0.message)]
    Shim(ttrpc::Status),
    /// The shim can't be reached.
    #[error("shim of {id}: {what}")]
    Lost {
        /// The container.
        id: String,
        /// How it was noticed.
        what: String,
    },
    /// A system call failed.
    #[error("{what}: {source}")]
    Io {
        /// What was attempted.
        what: String,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl TaskError {
    /// The failure of a shim's `Create`, with the words that clients of containerd know.
    pub(crate) fn of_create(self) -> Self {
        match self {
            Self::Shim(mut status) => {
                status.message = format!("failed to create shim task: {}", status.message);
                Self::Shim(status)
            }
            other => other,
        }
    }
}

impl From<ttrpc::Status> for TaskError {
    fn from(status: ttrpc::Status) -> Self {
        Self::Shim(status)
    }
}

impl From<TaskError> for tonic::Status {
    fn from(error: TaskError) -> Self {
        let code = match &error {
            TaskError::NotFound(_) => tonic::Code::NotFound,
            TaskError::Exists(_) => tonic::Code::AlreadyExists,
            TaskError::Invalid(_) => tonic::Code::InvalidArgument,
            TaskError::Precondition(_) => tonic::Code::FailedPrecondition,
            TaskError::Unsupported(_) => tonic::Code::Unimplemented,
            TaskError::Shim(status) => tonic::Code::from_i32(status.code as i32),
            TaskError::Lost { .. } => tonic::Code::Unavailable,
            TaskError::Io { .. } => tonic::Code::Unknown,
        };
        Self::new(code, error.to_string())
    }
}
