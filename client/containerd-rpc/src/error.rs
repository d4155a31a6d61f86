//! Errors of calls by what they mean to a caller. Nothing here decides what a
//! user sees.

use tonic::{Code, Status};

/// What a failed call means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The object does not exist.
    NotFound,
    /// An object of that name exists.
    AlreadyExists,
    /// The object's state forbids it.
    FailedPrecondition,
    /// The peer does not understand the request.
    InvalidArgument,
    /// The peer can't do that at all.
    Unimplemented,
    /// Nobody answered: the peer is gone, or was, and the outcome is unknown.
    Unavailable,
    /// The deadline passed; the outcome is unknown.
    TimedOut,
    /// The caller or the peer gave up.
    Cancelled,
    /// Everything else.
    Other,
}

/// A call that failed, with the peer's own message.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct RpcError {
    /// What it means.
    pub kind: Kind,
    /// The peer's words, unchanged; ours, when its connection broke.
    pub message: String,
}

impl RpcError {
    /// Whether the object that the call named does not exist.
    pub fn is_not_found(&self) -> bool {
        self.kind == Kind::NotFound
    }

    /// Whether such an object existed before.
    pub fn is_already_exists(&self) -> bool {
        self.kind == Kind::AlreadyExists
    }

    /// Whether the peer may have done it or not: it did not answer.
    pub fn is_unknown_outcome(&self) -> bool {
        matches!(self.kind, Kind::Unavailable | Kind::TimedOut | Kind::Cancelled)
    }

    /// Makes "the object does not exist" a success, as removals want it.
    pub fn absent_is_fine(result: Result<(), Self>) -> Result<(), Self> {
        match result {
            Err(e) if e.is_not_found() => Ok(()),
            other => other,
        }
    }
}

impl From<Status> for RpcError {
    fn from(status: Status) -> Self {
        let kind = match status.code() {
            Code::NotFound => Kind::NotFound,
            Code::AlreadyExists => Kind::AlreadyExists,
            Code::FailedPrecondition => Kind::FailedPrecondition,
            Code::InvalidArgument | Code::OutOfRange => Kind::InvalidArgument,
            Code::Unimplemented => Kind::Unimplemented,
            Code::Unavailable => Kind::Unavailable,
            Code::DeadlineExceeded => Kind::TimedOut,
            Code::Cancelled => Kind::Cancelled,
            // A connection that broke under a call surfaces as Unknown with a transport source.
            Code::Unknown if is_transport(&status) => Kind::Unavailable,
            _ => Kind::Other,
        };
        let message = match status.message() {
            "transport error" => broken(&status),
            words => words.to_owned(),
        };
        Self { kind, message }
    }
}

/// Words for a connection that broke under a call; the peer has none.
fn broken(status: &Status) -> String {
    let first = std::error::Error::source(status);
    let causes = std::iter::successors(first, |cause| cause.source());
    let cause = causes.last().map(|cause| format!(" ({cause})")).unwrap_or_default();
    format!("the connection to containerd broke{cause}: try again once it is back")
}

fn is_transport(status: &Status) -> bool {
    std::error::Error::source(status).is_some()
        || status.message().contains("transport error")
        || status.message().contains("h2 protocol error")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_become_kinds_and_messages_stay() {
        let error =
            RpcError::from(Status::not_found("container \"x\" in namespace \"moby\": not found"));
        assert!(error.is_not_found());
        assert_eq!(error.to_string(), "container \"x\" in namespace \"moby\": not found");
        assert!(RpcError::absent_is_fine(Err(error)).is_ok());
    }

    #[test]
    fn a_broken_connection_is_an_unknown_outcome() {
        for status in [
            Status::unavailable("x"),
            Status::unknown("transport error"),
            Status::deadline_exceeded("x"),
        ] {
            assert!(RpcError::from(status).is_unknown_outcome());
        }
        assert!(!RpcError::from(Status::unknown("runc failed")).is_unknown_outcome());
        assert_eq!(
            RpcError::from(Status::unknown("transport error")).to_string(),
            "the connection to containerd broke: try again once it is back"
        );
    }
}
