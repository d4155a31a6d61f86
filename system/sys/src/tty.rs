//! Pseudo-terminals of containers, and descriptors sent over unix sockets.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Unlocks a terminal's master and opens its slave through it (TIOCGPTPEER), so that no path is
/// involved.
///
/// # Errors
/// As ioctl_tty(2).
pub fn slave_of(master: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    rustix::pty::unlockpt(master)?;
    // SAFETY: TIOCGPTPEER takes open flags by value and answers a new descriptor.
    let slave = unsafe {
        libc::ioctl(
            master.as_raw_fd(),
            libc::TIOCGPTPEER as _,
            libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC,
        )
    };
    if slave < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: new and owned by nobody.
    Ok(unsafe { OwnedFd::from_raw_fd(slave) })
}

/// Makes the terminal the controlling one of the caller's session.
///
/// # Errors
/// As ioctl_tty(2).
pub fn make_controlling(slave: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the argument is a number.
    if unsafe { libc::ioctl(slave.as_raw_fd(), libc::TIOCSCTTY as _, 0) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Sends one descriptor, with a text, over a unix stream or seqpacket socket.
///
/// # Errors
/// As sendmsg(2).
pub fn send_fd(socket: BorrowedFd<'_>, text: &[u8], fd: BorrowedFd<'_>) -> io::Result<()> {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
    let fds = [fd];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&fds));
    let parts = [io::IoSlice::new(text)];
    rustix::net::sendmsg(socket, &parts, &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives a message and the descriptor that came with it, if any.
///
/// # Errors
/// As recvmsg(2).
pub fn recv_fd(socket: BorrowedFd<'_>, into: &mut [u8]) -> io::Result<(usize, Option<OwnedFd>)> {
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [io::IoSliceMut::new(into)];
    let got = loop {
        match rustix::net::recvmsg(socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => {}
            other => break other?,
        }
    };
    let mut fd = None;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(mut fds) = message {
            fd = fds.next();
        }
    }
    Ok((got.bytes, fd))
}
