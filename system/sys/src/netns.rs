//! Network namespaces: making, pinning by a bind-mounted file, entering for a moment. A thread's
//! namespace is changed only between `Excursion::begin` and its end, and never silently kept.

use std::fs::{File, OpenOptions};
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::Mode;
use rustix::mount::{MountPropagationFlags, UnmountFlags};
use rustix::thread::{LinkNameSpaceType, UnshareFlags};

/// The calling thread's network namespace.
pub fn current() -> io::Result<OwnedFd> {
    open(Path::new("/proc/thread-self/ns/net"))
}

/// Opens the namespace that a file pins.
pub fn open(path: &Path) -> io::Result<OwnedFd> {
    Ok(File::open(path)?.into())
}

/// Whether `fd` is a network namespace.
pub fn is_network_namespace(fd: BorrowedFd<'_>) -> bool {
    const NSFS_MAGIC: i128 = 0x6e73_6673;
    rustix::fs::fstatfs(fd).is_ok_and(|s| i128::from(s.f_type) == NSFS_MAGIC)
}

/// The calling thread is in another network namespace; it returns when this is dropped.
///
/// Begin it only on a thread that runs nothing else meanwhile (it can't move to another). If the
/// kernel refuses the way back the process aborts: everything after would act on the wrong
/// namespace.
#[derive(Debug)]
pub struct Excursion<'a> {
    home: BorrowedFd<'a>,
    // Bound to the thread.
    _not_send: PhantomData<*const ()>,
}

impl<'a> Excursion<'a> {
    /// Enters the namespace `to`; `home` is the one the thread is in now.
    pub fn begin(home: BorrowedFd<'a>, to: BorrowedFd<'_>) -> io::Result<Self> {
        rustix::thread::move_into_link_name_space(to, Some(LinkNameSpaceType::Network))?;
        Ok(Self { home, _not_send: PhantomData })
    }

    /// Enters a new namespace; `home` is the one the thread is in now.
    pub fn begin_new(home: BorrowedFd<'a>) -> io::Result<Self> {
        // SAFETY: only the network namespace of this thread changes, which Rust's library and
        // libc keep no state about (unsharing files or the file system would be another matter).
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET)? };
        Ok(Self { home, _not_send: PhantomData })
    }
}

impl Drop for Excursion<'_> {
    fn drop(&mut self) {
        let back =
            rustix::thread::move_into_link_name_space(self.home, Some(LinkNameSpaceType::Network));
        if back.is_err() {
            std::process::abort();
        }
    }
}

/// Makes the namespace `netns` a file: creates `path` (mode 0444) and mounts the namespace on it.
pub fn pin(netns: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::OpenOptionsExt;
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(Mode::from_raw_mode(0o444).as_raw_mode())
        .open(path)?;
    let source = format!("/proc/thread-self/fd/{}", netns.as_raw_fd());
    let mounted = rustix::mount::mount_bind(source, path);
    if let Err(error) = mounted {
        let _ = std::fs::remove_file(path);
        return Err(error.into());
    }
    Ok(())
}

/// Undoes `pin`; one that is gone already is no error. The namespace dies with its last user.
pub fn unpin(path: &Path) -> io::Result<()> {
    match rustix::mount::unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        // Not mounted: only the file is there.
        Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Makes the folder a shared mount of its own, as `ip netns` does for its folder: an `unpin` then
/// also takes the copies away that other mount namespaces got when they were cloned, which would
/// keep a dead namespace alive.
///
/// Does nothing when it is a mount already.
pub fn make_shared_folder(folder: &Path) -> io::Result<()> {
    let parent = folder.parent().unwrap_or(Path::new("/"));
    if mount_id(folder)? != mount_id(parent)? {
        return Ok(());
    }
    rustix::mount::mount_bind(folder, folder)?;
    rustix::mount::mount_change(folder, MountPropagationFlags::SHARED)?;
    Ok(())
}

/// Undoes [`make_shared_folder`]. Errors: EBUSY while something is mounted in it.
pub fn give_back_folder(folder: &Path) -> io::Result<()> {
    Ok(rustix::mount::unmount(folder, UnmountFlags::NOFOLLOW)?)
}

fn mount_id(path: &Path) -> io::Result<u64> {
    let folder = File::open(path)?;
    let flags = rustix::fs::AtFlags::EMPTY_PATH;
    let stat = rustix::fs::statx(folder.as_fd(), c"", flags, rustix::fs::StatxFlags::MNT_ID)?;
    Ok(stat.stx_mnt_id)
}
