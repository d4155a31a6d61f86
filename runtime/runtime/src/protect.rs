//! Keeping our own binary out of a container's hands (CVE-2019-5736): what runs inside a container
//! before its program must not be a file that the container could write to through
//! `/proc/PID/exe`.
//!
//! Nothing is to be done when the executable lies on a read-only superblock, as
//! ferry-containerd arranges it once per boot. Else the runtime executes itself again from a
//! detached overlay of two lower folders, which has no way to write; where that can't be had, from
//! a sealed copy in memory.

use crate::error::{At, Error, Result};
use rustix::fs::{Mode, OFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

const OVERLAY_MAGIC: u64 = 0x794c_7630;
/// Set for the second execution: inode and device of the file it must be running from.
const MARK: &str = "_FERRY_RUNC_SEALED";

/// Makes sure that this process runs from a file that can't be written; executes it again if
/// needed, so that it then starts anew at `main`.
///
/// # Errors
/// When no safe copy can be had.
pub fn protect() -> Result<()> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let exe = rustix::fs::open("/proc/self/exe", flags, Mode::empty())
        .at(|| "open /proc/self/exe".into())?;
    if is_safe(exe.as_fd()) {
        return Ok(());
    }
    if std::env::var_os(MARK).is_some() {
        return Err(Error::Refused("could not ensure we are a sealed binary".into()));
    }
    let safe = overlay(exe.as_fd()).or_else(|_| copy(exe.as_fd()))?;
    let stat = rustix::fs::fstat(&safe).at(|| "stat".into())?;
    let c = |bytes: Vec<u8>| CString::new(bytes).unwrap_or_default();
    let args: Vec<CString> = std::env::args_os().map(|a| c(a.into_vec())).collect();
    let mut env: Vec<CString> = std::env::vars_os()
        .map(|(k, v)| c([k.into_vec(), b"=".to_vec(), v.into_vec()].concat()))
        .collect();
    env.push(c(format!("{MARK}={}:{}", stat.st_dev, stat.st_ino).into_bytes()));
    let error = sys::clone::execveat(safe.as_fd(), &args, &env);
    Err(error).at(|| "execute a sealed copy of the runtime".into())
}

fn is_safe(exe: BorrowedFd<'_>) -> bool {
    if sys::mount::is_sealed(exe) {
        return true;
    }
    if let Ok(read_only) = sys::mount::superblock_is_read_only(exe) {
        return read_only;
    }
    // A detached mount has no place in the mount table: our own mark names the file instead, and
    // it must be an overlay seen read-only. Who can set our environment needs no such trick.
    let Ok(mark) = std::env::var(MARK) else { return false };
    let Ok(stat) = rustix::fs::fstat(exe) else { return false };
    let Ok(fs) = rustix::fs::fstatfs(exe) else { return false };
    mark == format!("{}:{}", stat.st_dev, stat.st_ino) && fs.f_type as u64 == OVERLAY_MAGIC
}

/// The executable's folder below an empty one, read-only by construction: an overlay without an
/// upper folder has nowhere to write.
fn overlay(exe: BorrowedFd<'_>) -> Result<OwnedFd> {
    let path = rustix::fs::readlink("/proc/self/exe", Vec::new()).at(|| "readlink".into())?;
    let path = path.to_string_lossy().into_owned();
    let path = Path::new(&path);
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Error::Refused("the runtime's own path is unknown".into()));
    };
    let what = || "make a read-only overlay".to_owned();
    let context = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).at(what)?;
    // Any second folder does: it lies below and shows nothing but names that nobody opens.
    let lower = format!("{}:/sys/kernel", folder.display());
    rustix::mount::fsconfig_set_string(&context, c"lowerdir", lower.as_str()).at(what)?;
    rustix::mount::fsconfig_create(&context).at(what)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOSUID;
    let mount =
        rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes).at(what)?;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&mount, name, flags, Mode::empty()).at(what)?;
    let (ours, theirs) = (rustix::fs::fstat(exe).at(what)?, rustix::fs::fstat(&file).at(what)?);
    // The file could have been replaced since we were executed.
    if (ours.st_size, ours.st_mtime, ours.st_mtime_nsec)
        != (theirs.st_size, theirs.st_mtime, theirs.st_mtime_nsec)
    {
        return Err(Error::Refused("the runtime's binary has changed".into()));
    }
    Ok(file)
}

fn copy(exe: BorrowedFd<'_>) -> Result<OwnedFd> {
    let size = rustix::fs::fstat(exe).at(|| "stat".into())?.st_size as u64;
    sys::mount::sealed_copy(c"ferry-runc", exe, size)
        .and_then(|file| {
            // Executing needs a descriptor that is not open for writing.
            let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            Ok(rustix::fs::open(&path, flags, Mode::empty())?)
        })
        .at(|| "make a sealed copy of the runtime".into())
}
