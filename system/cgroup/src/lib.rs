//! cgroups of one container: v1, hybrid and v2, through the file system; and as a unit of systemd.
//! Its group in the resctrl file system beside them.
//!
//! What must not be here: OCI documents other than `Resources`, namespaces, mounts inside a
//! container, and any decision about where a container's cgroup *should* be beyond resolving the
//! path it was given.

mod devices;
mod file;
mod host;
mod oom;
mod resctrl;
mod stats;
pub mod systemd;
mod tree;
mod v1;
mod v2;

pub use devices::{DeviceList, UnsupportedRule};
pub use host::{Hierarchy, Host};
pub use oom::OomWatch;
pub use resctrl::{RdtGroup, RdtStats, Resctrl};
pub use stats::Stats;
pub use tree::Cgroup;

use std::io;
use std::path::PathBuf;

/// What can go wrong with a cgroup.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be written.
    #[error("failed to write \"{value}\": write {}: {}", path.display(), Text(source))]
    Write {
        /// What was to be written.
        value: String,
        /// Where.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file could not be read, a folder not made or removed.
    #[error("{what} {}: {}", path.display(), Text(source))]
    Io {
        /// What was attempted: `open`, `mkdir`, …
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The memory limit is below what is in use.
    #[error("unable to set memory limit to {limit} (current usage: {usage}, peak usage: {peak})")]
    MemoryInUse {
        /// The limit asked for.
        limit: i64,
        /// Bytes in use.
        usage: u64,
        /// Most bytes ever in use.
        peak: u64,
    },
    /// The host has no controller for a limit that was asked for.
    #[error("cannot set {limit}: the {controller} cgroup controller is not mounted")]
    NoController {
        /// The controller missing.
        controller: &'static str,
        /// The limit asked for.
        limit: &'static str,
    },
    /// A value has no meaning.
    #[error("{0}")]
    Invalid(String),
    /// A device rule that cgroup v1 can't hold.
    #[error(transparent)]
    Device(#[from] UnsupportedRule),
    /// The service manager refused, or can't be reached.
    #[error("{0}")]
    Systemd(String),
    /// A unit of that name is there already, and not ours.
    #[error("unable to start unit {name:?}: {text}")]
    UnitExists {
        /// The unit.
        name: String,
        /// The manager's words.
        text: String,
    },
    /// The freezer did not reach the state asked for in time.
    #[error("unable to freeze")]
    FreezeTimeout,
}

impl Error {
    /// Whether the kernel refused for lack of rights, which a rootless caller may ignore.
    pub fn is_denied(&self) -> bool {
        let (Self::Write { source, .. } | Self::Io { source, .. }) = self else { return false };
        source.kind() == io::ErrorKind::PermissionDenied
            || source.raw_os_error() == Some(rustix::io::Errno::ROFS.raw_os_error())
    }
}

/// Shows an error as C and Go programs do: `no such file or directory`.
pub(crate) struct Text<'a>(&'a io::Error);

impl std::fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = self.0.to_string();
        let text = text.split(" (os error").next().unwrap_or_default();
        let mut letters = text.chars();
        match letters.next() {
            Some(first) => write!(f, "{}{}", first.to_lowercase(), letters.as_str()),
            None => Ok(()),
        }
    }
}
