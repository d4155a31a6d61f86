//! One stream out of a process: where its bytes are read, and the FIFO or pipe they go to when
//! its client wants them plain. No log and no attachers.

use super::spool::Spool;
use super::{Ctx, Part, Token};
use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use sys::epoll::Interest;
use sys::unix::FifoEnd;

/// Where plain bytes go.
pub(crate) struct Dest {
    /// Non-blocking; of a FIFO both ends, so that a dead reader means "full".
    pub(crate) fd: OwnedFd,
    /// The FIFO's path; `None`: a logger's pipe.
    pub(crate) fifo: Option<PathBuf>,
}

/// One stream.
pub(crate) struct Output {
    io: u32,
    n: u8,
    source: Option<OwnedFd>,
    /// The source is a FIFO: zero bytes mean its end only once a writer has been there.
    fifo_source: bool,
    dest: Option<Dest>,
    /// Keeps what was read until it is logged.
    spool: Option<Spool>,
    waiting: Vec<u8>,
    sent: usize,
    watched: bool,
    dest_watched: bool,
    ended: bool,
    /// The last read found nothing.
    pub(crate) empty: bool,
}

impl Output {
    /// A stream; the source may come later (a terminal's).
    pub(crate) fn new(
        io: u32,
        n: u8,
        source: Option<OwnedFd>,
        fifo_source: bool,
        dest: Option<Dest>,
    ) -> Self {
        Self {
            io,
            n,
            source,
            fifo_source,
            dest,
            spool: None,
            waiting: Vec::new(),
            sent: 0,
            watched: false,
            dest_watched: false,
            ended: false,
            empty: true,
        }
    }

    /// Where bytes are read.
    pub(crate) fn source(&self) -> Option<BorrowedFd<'_>> {
        self.source.as_ref().map(AsFd::as_fd)
    }

    /// Sets the source and watches it.
    pub(crate) fn set_source(&mut self, source: OwnedFd, ctx: &Ctx) {
        self.source = Some(source);
        self.watch(true, ctx);
    }

    /// Whether the source's events are waited for.
    pub(crate) fn is_watched(&self) -> bool {
        self.watched
    }

    /// Starts or stops waiting for the source. A source that may not be read is not watched at
    /// all: its hang-up would be reported for ever.
    pub(crate) fn watch(&mut self, yes: bool, ctx: &Ctx) {
        let Some(source) = self.source.as_ref().filter(|_| yes != self.watched) else { return };
        let token = Token::Io(self.io, Part::Source(self.n)).encode();
        let done = if yes {
            ctx.epoll.add(source.as_fd(), token, Interest::READ)
        } else {
            ctx.epoll.remove(source.as_fd())
        };
        self.watched = yes && done.is_ok();
    }

    /// Reads into a buffer's spare room.
    pub(crate) fn read(&mut self, buffer: &mut Vec<u8>) -> Result<usize, Errno> {
        match (&self.source, &mut self.spool) {
            (Some(source), Some(spool)) => spool.read(source.as_fd(), buffer),
            (Some(source), None) => rustix::io::read(source, spare_capacity(buffer)),
            (None, _) => Err(Errno::AGAIN),
        }
    }

    /// Reads by way of a spool from now on.
    pub(crate) fn set_spool(&mut self, spool: Spool) {
        self.spool = Some(spool);
    }

    /// Whether something can be read whatever the source's events say.
    pub(crate) fn has_backlog(&self) -> bool {
        self.spool.as_ref().is_some_and(Spool::has_backlog)
    }

    /// Whether reading zero bytes is the end.
    pub(crate) fn ends_at_zero(&self, hangup: bool) -> bool {
        hangup || !self.fifo_source
    }

    /// Whether plain bytes still wait, so that no more should be read.
    pub(crate) fn is_full(&self) -> bool {
        self.sent < self.waiting.len()
    }

    /// Passes bytes on to the plain destination, if there is one.
    pub(crate) fn push(&mut self, bytes: &[u8], ctx: &Ctx) {
        if self.dest.is_some() {
            self.waiting.extend_from_slice(bytes);
            self.flush(ctx);
        }
    }

    /// Writes what waits.
    pub(crate) fn flush(&mut self, ctx: &Ctx) {
        let Some(dest) = &self.dest else { return };
        while self.sent < self.waiting.len() {
            match rustix::io::write(&dest.fd, &self.waiting[self.sent..]) {
                Ok(n) => self.sent += n,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                // A logger that died: its output goes nowhere, as everywhere.
                Err(_) => self.sent = self.waiting.len(),
            }
        }
        let watch = self.sent < self.waiting.len();
        if !watch {
            self.waiting = Vec::new();
            self.sent = 0;
        }
        if watch != self.dest_watched {
            let token = Token::Io(self.io, Part::Dest(self.n)).encode();
            let done = if watch {
                ctx.epoll.add(dest.fd.as_fd(), token, Interest::WRITE)
            } else {
                ctx.epoll.remove(dest.fd.as_fd())
            };
            self.dest_watched = watch && done.is_ok();
        }
        if self.ended && !watch {
            self.release();
        }
    }

    /// The source has ended, or nobody waits for it any longer.
    pub(crate) fn end(&mut self, ctx: &Ctx) {
        if !self.ended {
            self.watch(false, ctx);
            // A terminal's descriptor stays for its size; nothing is read from it.
            if !self.fifo_source {
                self.source = None;
            }
            self.ended = true;
            self.empty = true;
            self.flush(ctx);
        }
    }

    /// Lets the reader of a FIFO see its end. Bytes in a FIFO live only while someone has it
    /// open: with no reader there yet, the write end stays until the process is deleted.
    fn release(&mut self) {
        let Some(dest) = self.dest.take() else { return };
        let Some(path) = dest.fifo else { return };
        let Ok(write_end) = sys::unix::open_fifo(&path, FifoEnd::Write) else { return };
        drop(dest.fd);
        if sys::unix::has_no_reader(write_end.as_fd()) {
            self.dest = Some(Dest { fd: write_end, fifo: None });
        }
    }

    /// Whether the source has ended and everything was passed on.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended && self.waiting.is_empty()
    }

    /// Lets go of everything.
    pub(crate) fn close(&mut self, ctx: &Ctx) {
        self.watch(false, ctx);
        if let Some(dest) = self.dest.take().filter(|_| self.dest_watched) {
            let _ = ctx.epoll.remove(dest.fd.as_fd());
        }
        self.source = None;
    }
}
