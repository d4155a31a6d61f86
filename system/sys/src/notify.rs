//! Readiness: a daemon tells whoever started it that it serves, in systemd's protocol (a datagram
//! to the socket that `NOTIFY_SOCKET` names); and the side that starts one and waits for the word.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// The variable that names the socket. A daemon hands it to none of its children.
pub const VARIABLE: &str = "NOTIFY_SOCKET";

/// Tells whoever asked to be told: `READY=1`, `STOPPING=1`. Without anyone it does nothing.
pub fn tell(state: &str) -> io::Result<()> {
    use std::os::unix::ffi::OsStrExt as _;
    let Some(place) = std::env::var_os(VARIABLE) else { return Ok(()) };
    let address = match place.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        [b'/', ..] => SocketAddr::from_pathname(&place)?,
        _ => return Err(io::Error::new(io::ErrorKind::Unsupported, "not a unix socket")),
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address)?;
    Ok(())
}

/// What became of the program that is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum News {
    /// It serves.
    Ready,
    /// It has ended.
    Ended,
    /// Neither until the deadline.
    Late,
}

/// Where a program that is about to be started tells of itself. Whoever shares the network
/// namespace can say that it is ready, too: the word is a reason to ask it, not a proof.
#[derive(Debug)]
pub(crate) struct Waiter {
    socket: UnixDatagram,
    address: String,
}

impl Waiter {
    /// A socket of a new name.
    pub(crate) fn new() -> io::Result<Self> {
        let mut random = [0u8; 16];
        rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())?;
        let name = format!("ferry-ready-{:032x}", u128::from_be_bytes(random));
        let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name)?)?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, address: format!("@{name}") })
    }

    /// What the program gets in [`VARIABLE`].
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Waits until the program says that it is ready, or ends.
    pub(crate) fn wait(&self, pidfd: BorrowedFd<'_>, at_most: Duration) -> io::Result<News> {
        let end = Instant::now() + at_most;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let left = Timespec {
                tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            };
            let mut fds = [
                PollFd::from_borrowed_fd(self.socket.as_fd(), PollFlags::IN),
                PollFd::from_borrowed_fd(pidfd, PollFlags::IN),
            ];
            match poll(&mut fds, Some(&left)) {
                Ok(0) => return Ok(News::Late),
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
            let mut text = [0; 4096];
            if let Ok(length) = self.socket.recv(&mut text) {
                if text[..length].split(|b| *b == b'\n').any(|line| line == b"READY=1") {
                    return Ok(News::Ready);
                }
            } else if !fds[1].revents().is_empty() {
                return Ok(News::Ended);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spawn::Command;

    fn starts(script: &str, at_most: Duration) -> News {
        let waiter = Waiter::new().unwrap();
        let child = Command::new("/bin/sh").args(["-c", script]).spawn().unwrap();
        let name = waiter.address().strip_prefix('@').unwrap().to_owned();
        if script.contains("read") {
            let address = SocketAddr::from_abstract_name(&name).unwrap();
            let from = UnixDatagram::unbound().unwrap();
            from.send_to_addr(b"STATUS=loading", &address).unwrap();
            from.send_to_addr(b"STATUS=up\nREADY=1\n", &address).unwrap();
        }
        let pidfd = child.into_pidfd();
        let news = waiter.wait(pidfd.as_fd(), at_most).unwrap();
        let _ = crate::process::signal_pidfd(pidfd.as_fd(), libc::SIGKILL);
        crate::process::wait_pidfd(pidfd.as_fd(), true).unwrap();
        news
    }

    #[test]
    fn a_program_is_ready_or_ended_or_late() {
        let long = Duration::from_mins(1);
        assert_eq!(starts("exit 3", long), News::Ended);
        assert_eq!(starts("exec sleep 600 # read", long), News::Ready);
        assert_eq!(starts("exec sleep 600", Duration::from_millis(1)), News::Late);
    }
}
