//! procfs without trust in the container's view of it: the host's, opened before anything of a
//! container's is entered, walked without links or mounts (CVE-2025-52881). The only way this crate writes to procfs from inside a
//! container's mount namespace.

use crate::error::{At, Error, Result};
use rustix::fs::OFlags;
use std::os::fd::{AsFd, OwnedFd};

const PROC_MAGIC: u64 = 0x9fa0;

/// A procfs nobody else can reach into.
#[derive(Debug)]
pub(crate) struct ProcRoot {
    dir: OwnedFd,
}

impl ProcRoot {
    /// The host's procfs, opened before the caller enters anything of a container's. Values below
    /// `sys` are those of the writer's namespaces, so a later child may write through it too.
    ///
    /// # Errors
    /// When `/proc` is no procfs.
    pub(crate) fn host() -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = rustix::fs::open("/proc", flags, rustix::fs::Mode::empty())
            .at(|| "open /proc".into())?;
        let kind = rustix::fs::fstatfs(&dir).at(|| "statfs /proc".into())?.f_type as u64;
        let inode = rustix::fs::fstat(&dir).at(|| "stat /proc".into())?.st_ino;
        if kind == PROC_MAGIC && inode == 1 {
            Ok(Self { dir })
        } else {
            Err(Error::Refused("/proc is not the root of a procfs".into()))
        }
    }

    /// Writes a file, such as `sys/net/ipv4/ip_forward` or `self/oom_score_adj`.
    ///
    /// # Errors
    /// As openat2(2) and write(2).
    pub(crate) fn write(&self, path: &str, value: &str) -> Result<()> {
        let own;
        let path = if let Some(rest) = path.strip_prefix("self/") {
            // The link names us by the pid that this instance of procfs knows.
            let pid = rustix::fs::readlinkat(&self.dir, "self", Vec::new())
                .at(|| "readlink /proc/self".into())?;
            own = format!("{}/{rest}", pid.to_string_lossy());
            &own
        } else {
            path
        };
        let attempt = || {
            let file = sys::mount::open_beneath(self.dir.as_fd(), path, OFlags::WRONLY, true)?;
            rustix::io::write(&file, value.as_bytes())?;
            Ok::<(), std::io::Error>(())
        };
        attempt().at(|| format!("open /proc/{path}"))
    }
}
