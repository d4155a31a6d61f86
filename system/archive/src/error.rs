//! The crate's one error type. What must not live here: anything that prints or logs.

use std::io;

/// What can go wrong with an archive, always naming the entry or the step.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The bytes are no archive of the expected form.
    #[error("malformed archive at byte {offset}: {what}")]
    Malformed {
        /// Position in the uncompressed stream.
        offset: u64,
        /// What was wrong there.
        what: String,
    },
    /// An entry that is well-formed but must not be unpacked.
    #[error("archive entry {name:?} refused: {what}")]
    Refused {
        /// The entry's name as the archive has it.
        name: String,
        /// Why.
        what: String,
    },
    /// A bound was exceeded.
    #[error("archive exceeds the limit of {limit} {what}")]
    Limit {
        /// What is counted.
        what: &'static str,
        /// The bound.
        limit: u64,
    },
    /// A system call failed for one entry.
    #[error("{action} {name:?}: {source}")]
    Entry {
        /// What was attempted.
        action: &'static str,
        /// The entry or path.
        name: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Reading or writing the stream itself failed.
    #[error("{action}: {source}")]
    Stream {
        /// What was attempted.
        action: &'static str,
        /// The cause.
        source: io::Error,
    },
    /// A compression that is recognised and not supported.
    #[error("{0} is not supported")]
    Unsupported(String),
}

impl ArchiveError {
    pub(crate) fn malformed(offset: u64, what: impl Into<String>) -> Self {
        Self::Malformed { offset, what: what.into() }
    }

    pub(crate) fn refused(name: &[u8], what: impl Into<String>) -> Self {
        Self::Refused { name: lossy(name), what: what.into() }
    }

    pub(crate) fn entry(action: &'static str, name: &[u8], source: impl Into<io::Error>) -> Self {
        Self::Entry { action, name: lossy(name), source: source.into() }
    }

    pub(crate) fn stream(action: &'static str, source: io::Error) -> Self {
        Self::Stream { action, source }
    }
}

fn lossy(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}
