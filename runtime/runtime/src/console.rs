//! Terminals of containers: made inside, handed out over a socket.

use crate::error::{At, Error, Result};
use crate::tree::{self, Root};
use oci::runtime::ConsoleSize;
use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::termios::Winsize;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

const DEVPTS_MAGIC: u64 = 0x1cd1;

/// Connects to the socket that gets the terminal's master side.
///
/// # Errors
/// As connect(2).
pub(crate) fn connect(path: &Path) -> Result<OwnedFd> {
    let what = || format!("dial unix {}", path.display());
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .at(what)?;
    let address = SocketAddrUnix::new(path).at(what)?;
    rustix::net::connect(&socket, &address).at(|| format!("{}: connect", what()))?;
    Ok(socket)
}

/// Makes a terminal in the container's own devpts, sends its master away and returns the slave.
///
/// # Errors
/// When `/dev/pts` is no devpts, or the terminal can't be made or sent.
pub(crate) fn open(
    root: &Root,
    size: Option<&ConsoleSize>,
    socket: BorrowedFd<'_>,
) -> Result<OwnedFd> {
    let what = || "failed to create console".to_owned();
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let master = sys::mount::open_in_root(root.dir.as_fd(), "/dev/pts/ptmx", flags, Mode::empty())
        .at(what)?;
    if rustix::fs::fstatfs(&master).at(what)?.f_type as u64 != DEVPTS_MAGIC {
        return Err(Error::Refused("/dev/pts/ptmx of the container is no devpts".into()));
    }
    let slave = sys::tty::slave_of(master.as_fd()).at(what)?;
    if let Some(size) = size {
        let size = Winsize {
            ws_row: size.height as u16,
            ws_col: size.width as u16,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        rustix::termios::tcsetwinsize(&slave, size).at(what)?;
    }
    sys::tty::send_fd(socket, b"/dev/ptmx", master.as_fd()).at(what)?;
    Ok(slave)
}

/// Shows the terminal as `/dev/console`.
///
/// # Errors
/// When the mount fails.
pub(crate) fn show(root: &Root, slave: BorrowedFd<'_>) -> Result<()> {
    let what = || "failed to mount /dev/console".to_owned();
    let number = rustix::fs::fstat(slave).at(what)?.st_rdev;
    let path = format!("/dev/pts/{}", rustix::fs::minor(number));
    let node = root.find(&path)?.ok_or(Error::NotFound)?;
    if rustix::fs::fstat(&node).at(what)?.st_rdev != number {
        return Err(Error::Refused(format!("{path} is not the container's terminal")));
    }
    let copy = tree::copy(node.as_fd(), false).at(what)?;
    // A link of the image's would put the terminal over whatever it names (CVE-2025-52565).
    if root.find_itself("/dev/console").is_ok_and(|itself| is_link(&itself)) {
        return Err(Error::Refused(format!("{}: it is a link", what())));
    }
    let target = root.file("/dev/console")?;
    tree::attach(copy.as_fd(), target.as_fd()).at(what)
}

fn is_link(file: &OwnedFd) -> bool {
    rustix::fs::fstat(file).is_ok_and(|stat| stat.st_mode & 0o170_000 == 0o120_000)
}

/// Makes the terminal the standard streams and the controlling one.
///
/// # Errors
/// As dup2(2) and ioctl_tty(2).
pub(crate) fn become_stdio(slave: BorrowedFd<'_>) -> Result<()> {
    sys::tty::make_controlling(slave).at(|| "set controlling terminal".into())?;
    (0..3).try_for_each(|n| sys::clone::dup_onto(slave, n).at(|| "dup2".into()))
}
