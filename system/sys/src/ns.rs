//! Namespaces: leaving and entering them. Which ones, and in what order, is the caller's business.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// `CLONE_NEW*` bits.
pub mod flag {
    /// Mount table.
    pub const MOUNT: u64 = libc::CLONE_NEWNS as u64;
    /// Process ids.
    pub const PID: u64 = libc::CLONE_NEWPID as u64;
    /// Network stack.
    pub const NET: u64 = libc::CLONE_NEWNET as u64;
    /// Host and domain name.
    pub const UTS: u64 = libc::CLONE_NEWUTS as u64;
    /// Inter-process communication.
    pub const IPC: u64 = libc::CLONE_NEWIPC as u64;
    /// Users and capabilities.
    pub const USER: u64 = libc::CLONE_NEWUSER as u64;
    /// Root of the cgroup tree.
    pub const CGROUP: u64 = libc::CLONE_NEWCGROUP as u64;
    /// Clocks.
    pub const TIME: u64 = 0x80;
}

fn check(got: i32) -> io::Result<()> {
    if got == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Moves the calling process into new namespaces.
///
/// # Errors
/// As unshare(2).
pub fn unshare(flags: u64) -> io::Result<()> {
    // SAFETY: no memory is passed; descriptors are not unshared (only namespace bits are).
    check(unsafe { libc::unshare(flags as i32) })
}

/// Joins one namespace by its file, or several of a process by its pidfd (kernel 5.8).
///
/// # Errors
/// As setns(2).
pub fn setns(fd: BorrowedFd<'_>, flags: u64) -> io::Result<()> {
    // SAFETY: no memory is passed.
    check(unsafe { libc::setns(fd.as_raw_fd(), flags as i32) })
}

/// Sets the host name.
///
/// # Errors
/// As sethostname(2).
pub fn set_hostname(name: &str) -> io::Result<()> {
    // SAFETY: pointer and length are of one live string.
    check(unsafe { libc::sethostname(name.as_ptr().cast(), name.len()) })
}

/// Sets the NIS domain name.
///
/// # Errors
/// As setdomainname(2).
pub fn set_domainname(name: &str) -> io::Result<()> {
    // SAFETY: pointer and length are of one live string.
    check(unsafe { libc::setdomainname(name.as_ptr().cast(), name.len()) })
}
