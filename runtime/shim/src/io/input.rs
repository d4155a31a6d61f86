//! The way into a process: a pipe or a terminal, written without blocking, with a bound after
//! which whoever feeds it has to wait.

use super::{Ctx, Part, Token};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use sys::epoll::Interest;

/// Waiting bytes beyond which no more input is taken.
const BACKLOG: usize = 64 * 1024;

/// The writing end of a process's input.
pub(crate) struct InputEnd {
    io: u32,
    end: Option<OwnedFd>,
    waiting: Vec<u8>,
    sent: usize,
    closing: bool,
    watched: bool,
    /// The end comes later (a terminal's): until then bytes wait.
    later: bool,
}

impl InputEnd {
    /// Wraps a non-blocking descriptor.
    pub(crate) fn new(io: u32, end: OwnedFd) -> Self {
        Self { end: Some(end), later: false, ..Self::later(io) }
    }

    /// An end that [`InputEnd::set`] brings later.
    pub(crate) fn later(io: u32) -> Self {
        let (waiting, sent) = (Vec::new(), 0);
        Self { io, end: None, waiting, sent, closing: false, watched: false, later: true }
    }

    /// Brings the end, non-blocking.
    pub(crate) fn set(&mut self, end: OwnedFd, ctx: &Ctx) {
        self.end = Some(end);
        self.later = false;
        self.flush(ctx);
    }

    /// Whether bytes pushed are of any use.
    pub(crate) fn is_open(&self) -> bool {
        self.end.is_some() || self.later
    }

    /// The descriptor, while open.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.end.as_ref().map(AsFd::as_fd)
    }

    /// Whether no more bytes should be pushed now.
    pub(crate) fn is_full(&self) -> bool {
        self.waiting.len() - self.sent > BACKLOG
    }

    /// Adds bytes; what can't be written now waits.
    pub(crate) fn push(&mut self, bytes: &[u8], ctx: &Ctx) {
        if self.is_open() && !self.closing {
            self.waiting.extend_from_slice(bytes);
            self.flush(ctx);
        }
    }

    /// Closes the end once all waiting bytes are written.
    pub(crate) fn close(&mut self, ctx: &Ctx) {
        self.closing = true;
        self.flush(ctx);
    }

    /// Writes what waits.
    pub(crate) fn flush(&mut self, ctx: &Ctx) {
        let Some(end) = &self.end else { return };
        let mut dead = false;
        while self.sent < self.waiting.len() {
            match rustix::io::write(end, &self.waiting[self.sent..]) {
                Ok(n) => self.sent += n,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(_) => {
                    dead = true;
                    break;
                }
            }
        }
        let empty = self.sent == self.waiting.len();
        if empty || dead {
            self.waiting = Vec::new();
            self.sent = 0;
        }
        let watch = !empty && !dead;
        if watch && !self.watched {
            let token = Token::Io(self.io, Part::Input).encode();
            let _ = ctx.epoll.add(end.as_fd(), token, Interest::WRITE);
        } else if !watch && self.watched {
            let _ = ctx.epoll.remove(end.as_fd());
        }
        self.watched = watch;
        if dead || (empty && self.closing) {
            self.end = None;
        }
    }
}
