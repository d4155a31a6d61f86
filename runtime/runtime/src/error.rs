//! The error of this crate, worded as runc words it, since shims and daemons look for its texts.

use std::fmt;
use std::io;

/// What can go wrong with a container.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No state is kept for the id.
    #[error("container does not exist")]
    NotFound,
    /// The id is taken.
    #[error("container with given ID already exists")]
    Exists,
    /// The container's status forbids what was asked, or an argument makes no sense.
    #[error("{0}")]
    Refused(String),
    /// The child that sets a container up, or the exec's, reported this.
    #[error("unable to start container process: {0}")]
    Start(String),
    /// A hook failed.
    #[error("{0}")]
    Hook(String),
    /// config.json asks for something impossible.
    #[error("{0}")]
    Spec(String),
    /// A system call failed.
    #[error("{what}: {}", Lower(source))]
    Io {
        /// What was attempted, on what.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
    /// A cgroup refused.
    #[error("unable to apply cgroup configuration: {0}")]
    Cgroup(#[from] cgroup::Error),
    /// The system call filter makes no sense.
    #[error("unable to init seccomp: {0}")]
    Seccomp(#[from] crate::seccomp::Invalid),
}

/// Results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A system error the way C programs print it: `no such file or directory`.
pub struct Lower<'a>(pub &'a io::Error);

impl fmt::Display for Lower<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        let text = text.split(" (os error").next().unwrap_or_default();
        // musl and glibc name some errors differently; these are the texts that callers look for.
        match self.0.raw_os_error() {
            Some(libc_errno::ELOOP) => return f.write_str("too many levels of symbolic links"),
            Some(libc_errno::ENOEXEC) => return f.write_str("exec format error"),
            Some(libc_errno::EBUSY) => return f.write_str("device or resource busy"),
            _ => {}
        }
        let mut letters = text.chars();
        match letters.next() {
            Some(first) => write!(f, "{}{}", first.to_lowercase(), letters.as_str()),
            None => Ok(()),
        }
    }
}

mod libc_errno {
    pub(super) const ENOEXEC: i32 = 8;
    pub(super) const EBUSY: i32 = 16;
    pub(super) const ELOOP: i32 = 40;
}

/// Adds what was attempted to a system error.
pub(crate) trait At<T> {
    /// Names the attempt: verb and object.
    ///
    /// # Errors
    /// The same as before, named.
    fn at(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::Io { what: what(), source })
    }
}

impl<T> At<T> for rustix::io::Result<T> {
    fn at(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|errno| Error::Io { what: what(), source: errno.into() })
    }
}
