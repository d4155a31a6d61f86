//! procfs without trust in anybody's view of it (CVE-2025-52881): a private instance that is mounted
//! nowhere, so that nothing can be put over its files; where that is denied, a detached copy of
//! `/proc`; else `/proc` itself, verified. Opened before anything of a container's is entered,
//! walked without links and without crossing mounts. The only way this crate writes to procfs from
//! inside a container's mount namespace.

use crate::error::{At, Error, Result};
use crate::tree;
use rustix::fs::OFlags;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};
use std::os::fd::{AsFd, OwnedFd};

const PROC_MAGIC: u64 = 0x9fa0;

/// A procfs nobody else can reach into.
#[derive(Debug)]
pub(crate) struct ProcRoot {
    dir: OwnedFd,
}

impl ProcRoot {
    /// Values below `sys` are those of the writer's namespaces, so a later child may write through
    /// it too.
    ///
    /// # Errors
    /// When nothing better than `/proc` can be had, and that is no procfs.
    pub(crate) fn open() -> Result<Self> {
        if let Ok(dir) = private().or_else(|_| tree::copy_path("/proc", false))
            && is_root_of_procfs(&dir)?
        {
            return Ok(Self { dir });
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = rustix::fs::open("/proc", flags, rustix::fs::Mode::empty())
            .at(|| "open /proc".into())?;
        if is_root_of_procfs(&dir)? {
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
        let file = self.open_to_write(path)?;
        rustix::io::write(&file, value.as_bytes()).map(drop).at(|| format!("write /proc/{path}"))
    }

    /// Whether there is such a file.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.open_to_write(path).is_ok()
    }

    fn open_to_write(&self, path: &str) -> Result<OwnedFd> {
        let what = || format!("open /proc/{path}");
        let real = if let Some(rest) = path.strip_prefix("self/") {
            // The link names us by the pid that this instance of procfs knows.
            let pid = rustix::fs::readlinkat(&self.dir, "self", Vec::new())
                .at(|| "readlink /proc/self".into())?;
            format!("{}/{rest}", pid.to_string_lossy())
        } else {
            path.to_owned()
        };
        sys::mount::open_beneath(self.dir.as_fd(), &real, OFlags::WRONLY, true).at(what)
    }
}

fn private() -> rustix::io::Result<OwnedFd> {
    let context = rustix::mount::fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_create(&context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

fn is_root_of_procfs(dir: &OwnedFd) -> Result<bool> {
    let kind = rustix::fs::fstatfs(dir).at(|| "statfs /proc".into())?.f_type as u64;
    let inode = rustix::fs::fstat(dir).at(|| "stat /proc".into())?.st_ino;
    Ok(kind == PROC_MAGIC && inode == 1)
}
