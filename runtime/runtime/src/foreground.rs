//! A container or exec in the foreground: signals passed on, the terminal relayed, the end awaited.

use crate::error::{At, Result};
use crate::notify::Notify;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::termios::{OptionalActions, Termios};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Signals that are passed on to the container; SIGCHLD and SIGWINCH are for ourselves.
const PASSED_ON: [i32; 12] = [1, 2, 3, 6, 10, 12, 13, 14, 15, 20, 18, 28];
const SIGWINCH: i32 = 28;

/// Blocks the signals and makes a descriptor of them.
///
/// # Errors
/// As signalfd(2).
pub(crate) fn signals() -> Result<OwnedFd> {
    sys::clone::block_into_fd(&PASSED_ON).at(|| "signalfd".into())
}

/// A pair of sockets over which our own child sends us its terminal.
///
/// # Errors
/// As socketpair(2).
pub(crate) fn socket_pair() -> Result<(OwnedFd, OwnedFd)> {
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .at(|| "socketpair".into())
}

/// Our own terminal in raw mode until dropped.
struct Raw(Option<Termios>);

impl Raw {
    fn enter() -> Self {
        let stdin = rustix::stdio::stdin();
        let Ok(old) = rustix::termios::tcgetattr(stdin) else { return Self(None) };
        let mut raw = old.clone();
        raw.make_raw();
        let _ = rustix::termios::tcsetattr(stdin, OptionalActions::Now, &raw);
        Self(Some(old))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Some(old) = &self.0 {
            let _ = rustix::termios::tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, old);
        }
    }
}

fn copy_size(master: BorrowedFd<'_>) {
    if let Ok(size) = rustix::termios::tcgetwinsize(rustix::stdio::stdin()) {
        let _ = rustix::termios::tcsetwinsize(master, size);
    }
}

/// Moves what is there from one side to the other; false at the end.
fn pump(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> bool {
    let mut buffer = [0u8; 16 * 1024];
    let Ok(got) = rustix::io::read(from, &mut buffer[..]) else { return false };
    let mut left = &buffer[..got];
    while !left.is_empty() {
        match rustix::io::write(to, left) {
            Ok(sent) => left = &left[sent..],
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return false,
        }
    }
    got > 0
}

/// Waits for the end of `pid` and answers its exit code (128 + signal when killed).
///
/// # Errors
/// When the terminal can't be had.
pub(crate) fn follow(
    pid: i32,
    pidfd: &OwnedFd,
    signals: &OwnedFd,
    console: Option<OwnedFd>,
    notify: Option<Notify>,
) -> Result<i32> {
    let mut master = None;
    if let Some(socket) = console {
        let mut name = [0u8; 64];
        let (_, fd) =
            sys::tty::recv_fd(socket.as_fd(), &mut name).at(|| "receive terminal".into())?;
        master = fd;
    }
    let _raw = master.as_ref().map(|_| Raw::enter());
    if let Some(master) = &master {
        copy_size(master.as_fd());
    }
    let mut typing = true;
    let mut notify = notify;
    loop {
        let stdin = rustix::stdio::stdin();
        let mut fds = vec![PollFd::new(pidfd, PollFlags::IN), PollFd::new(signals, PollFlags::IN)];
        if let Some(master) = &master {
            fds.push(PollFd::new(master, PollFlags::IN));
            if typing {
                fds.push(PollFd::new(&stdin, PollFlags::IN));
            }
        }
        let notify_at = fds.len();
        if let Some(notify) = &notify {
            fds.push(PollFd::from_borrowed_fd(notify.fd(), PollFlags::IN));
        }
        if poll(&mut fds, None).is_err() {
            continue;
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(fds);
        while let Some(signal) = sys::clone::next_signal(signals.as_fd()) {
            match &master {
                Some(master) if signal == SIGWINCH => copy_size(master.as_fd()),
                _ => drop(sys::clone::kill(pid, signal)),
            }
        }
        if ready.get(notify_at) == Some(&true) && notify.as_ref().is_some_and(Notify::pass_on) {
            notify = None;
        }
        if let Some(side) = &master {
            if notify_at > 3 && ready[3] {
                typing = pump(stdin, side.as_fd());
            }
            if ready[2] {
                if !pump(side.as_fd(), rustix::stdio::stdout()) {
                    master = None;
                }
                continue;
            }
        }
        // Orphans that we adopted are reaped on the way.
        if ready[0] {
            let mut code = 255;
            while let Ok(Some((who, how))) = sys::clone::wait(-1, false) {
                if who == pid {
                    code = how.code();
                }
            }
            return Ok(code);
        }
    }
}
