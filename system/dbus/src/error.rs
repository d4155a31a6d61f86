//! What can go wrong: a peer's error reply, a deadline, the socket, or bytes that are not D-Bus.

use std::io;

/// Bytes or values that the protocol does not allow; the text says what and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(pub(crate) String);

impl Invalid {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

/// Why a connection or a call failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The other side answered with an error.
    #[error("{call}: {name}: {text}")]
    Remote {
        /// What was called: `interface.member`.
        call: String,
        /// The error's name, `org.freedesktop.DBus.Error.…` or a service's own.
        name: String,
        /// The first argument of the error, when it is a text.
        text: String,
    },
    /// No answer within the deadline.
    #[error("{0}: no answer in time")]
    Timeout(String),
    /// The other side closed the connection, or broke the protocol, which closes it too.
    #[error("D-Bus connection is closed{}", .0.as_deref().map(|w| format!(": {w}")).unwrap_or_default())]
    Closed(Option<String>),
    /// No address of the bus could be connected to.
    #[error("connect to D-Bus at {address}: {source}")]
    Connect {
        /// The address as written.
        address: String,
        /// Why the last of them failed.
        source: io::Error,
    },
    /// The bus refused to let us in; its words.
    #[error("D-Bus authentication refused: {0}")]
    Refused(String),
    /// The caller asked for something that can't be sent.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The socket failed.
    #[error("D-Bus socket: {0}")]
    Io(#[from] io::Error),
}

impl Error {
    /// The error's name, when the other side answered with one.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Remote { name, .. } => Some(name),
            _ => None,
        }
    }
}

/// The result of what this crate does with a bus.
pub type Result<T> = std::result::Result<T, Error>;
