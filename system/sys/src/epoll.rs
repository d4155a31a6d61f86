//! epoll and eventfd: waiting for many descriptors in one thread. No callbacks, no registry: a
//! token of the caller's comes back with each event.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// What to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Interest {
    /// Wait until reading would not block.
    pub read: bool,
    /// Wait until writing would not block.
    pub write: bool,
}

impl Interest {
    /// Reading.
    pub const READ: Self = Self { read: true, write: false };
    /// Writing.
    pub const WRITE: Self = Self { read: false, write: true };
    /// Neither: only hang-up and error are reported.
    pub const NONE: Self = Self { read: false, write: false };

    fn bits(self) -> u32 {
        let read = if self.read { libc::EPOLLIN | libc::EPOLLRDHUP } else { 0 };
        let write = if self.write { libc::EPOLLOUT } else { 0 };
        (read | write) as u32
    }
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// The token given with the descriptor.
    pub token: u64,
    /// Reading won't block (data, end of file or an error to collect).
    pub readable: bool,
    /// Writing won't block.
    pub writable: bool,
    /// The peer is gone, or the descriptor has an error.
    pub hangup: bool,
}

/// An epoll descriptor, level-triggered.
#[derive(Debug)]
pub struct Epoll(OwnedFd);

impl Epoll {
    /// Makes one, close-on-exec.
    pub fn new() -> io::Result<Self> {
        // SAFETY: a system call on plain numbers.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel returned a new descriptor that nobody else owns.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    fn control(&self, op: i32, fd: BorrowedFd<'_>, token: u64, events: u32) -> io::Result<()> {
        let mut event = libc::epoll_event { events, u64: token };
        let (own, other) = (self.0.as_raw_fd(), fd.as_raw_fd());
        // SAFETY: both descriptors are live and `event` is of the kernel's layout.
        match unsafe { libc::epoll_ctl(own, op, other, &raw mut event) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Watches a descriptor. It must be removed before it is closed, if duplicates of it exist.
    pub fn add(&self, fd: BorrowedFd<'_>, token: u64, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, token, interest.bits())
    }

    /// Changes what a watched descriptor is waited for.
    pub fn modify(&self, fd: BorrowedFd<'_>, token: u64, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, token, interest.bits())
    }

    /// Stops watching a descriptor.
    pub fn remove(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_DEL, fd, 0, 0)
    }

    /// Waits for events, at most `timeout` (`None`: for ever; rounded up to milliseconds). A signal
    /// ends the wait without events.
    pub fn wait(&self, into: &mut Vec<Event>, timeout: Option<Duration>) -> io::Result<()> {
        const MAX: usize = 32;
        into.clear();
        let mut raw = [libc::epoll_event { events: 0, u64: 0 }; MAX];
        let millis = timeout
            .map_or(-1, |t| i32::try_from(t.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX));
        // SAFETY: `raw` has room for MAX events.
        let n =
            unsafe { libc::epoll_wait(self.0.as_raw_fd(), raw.as_mut_ptr(), MAX as i32, millis) };
        if n < 0 {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::Interrupted { Ok(()) } else { Err(error) };
        }
        into.extend(raw[..n as usize].iter().map(|event| {
            let (events, token) = (event.events, event.u64);
            let has = |bits: i32| events & bits as u32 != 0;
            Event {
                token,
                readable: has(libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR),
                writable: has(libc::EPOLLOUT | libc::EPOLLERR),
                hangup: has(libc::EPOLLHUP | libc::EPOLLERR),
            }
        }));
        Ok(())
    }
}

/// An eventfd: how another thread wakes a poll loop.
#[derive(Debug)]
pub struct Waker(OwnedFd);

impl Waker {
    /// Makes one, non-blocking and close-on-exec.
    pub fn new() -> io::Result<Self> {
        use rustix::event::{EventfdFlags, eventfd};
        Ok(Self(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    /// Makes it readable.
    pub fn wake(&self) {
        // Full means that it is readable already.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    /// Makes it unreadable again.
    pub fn clear(&self) {
        let _ = rustix::io::read(&self.0, &mut [0u8; 8]);
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_waker_wakes_and_is_cleared() {
        let (epoll, waker) = (Epoll::new().unwrap(), Waker::new().unwrap());
        epoll.add(waker.as_fd(), 7, Interest::READ).unwrap();
        let mut events = Vec::new();
        let no_time = Some(Duration::ZERO);
        epoll.wait(&mut events, no_time).unwrap();
        assert_eq!(events, []);
        waker.wake();
        epoll.wait(&mut events, no_time).unwrap();
        assert!(events[0].readable && events[0].token == 7);
        waker.clear();
        epoll.wait(&mut events, no_time).unwrap();
        assert_eq!(events, []);
    }
}
