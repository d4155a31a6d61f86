//! The talk between the runtime and the child that sets a container up: a pair of seqpacket
//! sockets, one message a step. Only the messages; the steps are in `create` and `init`.

use crate::error::{At, Error, Result};
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType};
use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Longest error text that is passed on.
const LIMIT: usize = 8 * 1024;

/// What is said.
#[derive(Debug)]
pub(crate) enum Message {
    /// Child: it failed, and this is why.
    Failed(String),
    /// Child: it waits for the unit around it. Parent: it is in its cgroup.
    Grouped,
    /// Child: it waits for its ids to be mapped. Parent: they are.
    Mapped,
    /// Child: everything is mounted, the hooks may run. Parent: they have.
    Hooks,
    /// Child: here is the seccomp listener. Parent: it was passed on.
    Listener(Option<OwnedFd>),
    /// Child: all is set up. Parent: execute the program.
    Ready,
    /// The other side is gone; after `Ready` it means that the program runs.
    Closed,
}

/// One end.
#[derive(Debug)]
pub(crate) struct Channel {
    socket: OwnedFd,
    /// Whether failures are no longer the other side's business.
    muted: Cell<bool>,
}

/// Both ends.
///
/// # Errors
/// As socketpair(2).
pub(crate) fn pair() -> Result<(Channel, Channel)> {
    let (a, b) = rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .at(|| "socketpair".into())?;
    let end = |socket| Channel { socket, muted: Cell::new(false) };
    Ok((end(a), end(b)))
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Channel {
    /// Says something.
    ///
    /// # Errors
    /// When the other side is gone.
    pub(crate) fn say(&self, message: &Message) -> Result<()> {
        let text;
        let bytes: &[u8] = match message {
            Message::Failed(_) if self.muted.get() => {
                return Err(Error::Start("the runtime no longer listens".into()));
            }
            Message::Failed(why) => {
                let mut all = vec![b'E'];
                all.extend_from_slice(&why.as_bytes()[..why.len().min(LIMIT)]);
                text = all;
                &text
            }
            Message::Grouped => b"G",
            Message::Mapped => b"M",
            Message::Hooks => b"H",
            Message::Listener(Some(fd)) => {
                return sys::tty::send_fd(self.socket.as_fd(), b"N", fd.as_fd())
                    .at(|| "send".into());
            }
            Message::Listener(None) => b"N",
            Message::Ready => b"R",
            Message::Closed => return Ok(()),
        };
        rustix::net::send(&self.socket, bytes, SendFlags::NOSIGNAL).at(|| "send".into())?;
        Ok(())
    }

    /// Waits for the next message.
    ///
    /// # Errors
    /// As recvmsg(2).
    pub(crate) fn hear(&self) -> Result<Message> {
        let mut buffer = vec![0u8; LIMIT + 1];
        let mut receive = || sys::tty::recv_fd(self.socket.as_fd(), &mut buffer);
        let got = match receive() {
            // It went without having heard everything. What it said before comes after that.
            Err(e) if e.kind() == io::ErrorKind::ConnectionReset => receive(),
            other => other,
        };
        let (got, fd) = got.at(|| "receive".into())?;
        Ok(match buffer[..got].first() {
            None => Message::Closed,
            Some(b'E') => Message::Failed(String::from_utf8_lossy(&buffer[1..got]).into_owned()),
            Some(b'G') => Message::Grouped,
            Some(b'M') => Message::Mapped,
            Some(b'H') => Message::Hooks,
            Some(b'N') => Message::Listener(fd),
            Some(b'R') => Message::Ready,
            Some(other) => return Err(Error::Start(format!("unknown message {other}"))),
        })
    }

    /// Child: says something and waits for the same word from the parent.
    ///
    /// # Errors
    /// When the parent is gone.
    pub(crate) fn ask(&self, message: &Message) -> Result<()> {
        self.say(message)?;
        match self.hear()? {
            Message::Closed | Message::Failed(_) => Err(Error::Start("the runtime is gone".into())),
            _ => Ok(()),
        }
    }

    /// Whether `mute` was called.
    pub(crate) fn is_muted(&self) -> bool {
        self.muted.get()
    }

    /// From here on failures are not said: `start` has been answered, or is about to be.
    pub(crate) fn mute(&self) {
        self.muted.set(true);
    }
}
