//! Stdio of one process: sources (pipes, a terminal, FIFOs) are read without blocking, and their
//! bytes go where its client wants them: FIFOs, files, or the sink with its log and attachers.
//! Nothing is dropped: what can't go on is not read. Knows no task service and no runtime.

mod attach;
mod input;
mod json;
mod log;
mod output;
mod plan;
mod spool;

use crate::poll::{Part, Timer, Timers, Token};
use attach::{Hub, Input};
use input::InputEnd;
use log::Log;
use output::Output;
pub(crate) use plan::{Given, Spec, open, open_fifos};
use rustix::io::Errno;
use rustix::net::SendFlags;
use std::cell::RefCell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::rc::Rc;
use std::thread::JoinHandle;
use std::time::Duration;
use sys::epoll::{Epoll, Event, Interest};

/// How long the end of output is awaited after a process's end, when someone else holds the pipe.
const DRAIN: Duration = Duration::from_secs(2);

/// What stdio needs of the loop around it.
pub(crate) struct Ctx {
    /// Where descriptors are watched.
    pub(crate) epoll: Rc<Epoll>,
    /// Deadlines asked for since they were last collected.
    pub(crate) timers: RefCell<Timers>,
    /// Log threads that still write, to be joined before the process ends.
    pub(crate) threads: RefCell<Vec<JoinHandle<()>>>,
}

impl Ctx {
    /// A context around an epoll.
    pub(crate) fn new(epoll: Rc<Epoll>) -> Self {
        Self { epoll, timers: RefCell::default(), threads: RefCell::default() }
    }

    /// Waits until every log is written. Blocks: only for the end.
    pub(crate) fn join_logs(&self) {
        for thread in self.threads.borrow_mut().drain(..) {
            let _ = thread.join();
        }
    }
}

fn send(socket: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize, Errno> {
    rustix::net::send(socket, bytes, SendFlags::NOSIGNAL)
}

/// Where input comes from besides attachers.
struct Feed {
    path: PathBuf,
    fifo: OwnedFd,
    /// Only the read end is held: end of file will show.
    ends: bool,
    watched: bool,
}

/// A FIFO for input that is not opened yet. A client's writer waits for its reader, and clients
/// (`ctr` is one) take the end of their own input for lost when it comes before they have the
/// answer that the container exists: so the reader comes with the start.
struct LateFeed {
    path: PathBuf,
    /// The client has already said that no input will follow.
    closed: bool,
}

/// Stdio of one process.
pub(crate) struct Io {
    id: u32,
    outputs: [Option<Output>; 2],
    input: Option<InputEnd>,
    feed: Option<Feed>,
    late_feed: Option<LateFeed>,
    hub: Option<Hub>,
    log: Option<Log>,
    tty: bool,
    exited: bool,
    finished: bool,
}

impl Io {
    /// Handles an event of one of its descriptors.
    pub(crate) fn event(&mut self, part: Part, event: Event, ctx: &Ctx) {
        match part {
            Part::Source(n) => self.pump(n, event.hangup, ctx),
            Part::Dest(n) => {
                if let Some(output) = &mut self.outputs[usize::from(n & 1)] {
                    output.flush(ctx);
                }
                self.pump(n, false, ctx);
            }
            Part::Feed => self.feed(event.hangup, ctx),
            Part::Input => {
                if let Some(input) = &mut self.input {
                    input.flush(ctx);
                }
                self.resume_input(ctx);
            }
            Part::Listener => {
                if let Some(hub) = &mut self.hub {
                    hub.accept(ctx);
                }
            }
            Part::Log => {
                if let Some(log) = &self.log {
                    log.clear();
                }
                self.pump_all(ctx);
            }
            Part::Attacher(id) => {
                let asked = self.hub.as_mut().map(|h| h.event(id, ctx)).unwrap_or_default();
                for input in asked {
                    match (input, &mut self.input) {
                        (Input::Bytes(bytes), Some(end)) => end.push(&bytes, ctx),
                        (Input::Close, _) => self.close_input(ctx),
                        (Input::Bytes(_), None) => {}
                    }
                }
                self.resume_input(ctx);
                self.pump_all(ctx);
            }
        }
        self.settle(ctx);
    }

    fn pump_all(&mut self, ctx: &Ctx) {
        self.pump(0, false, ctx);
        self.pump(1, false, ctx);
    }

    /// Moves output on until there is none or it can't go on.
    fn pump(&mut self, n: u8, hangup: bool, ctx: &Ctx) {
        // Bounded, so that one busy process does not starve the control connection.
        const ROUNDS: usize = 8;
        let Some(output) = &mut self.outputs[usize::from(n & 1)] else { return };
        let mut buffer = Vec::new();
        let mut rounds = 0;
        // What a killed sink left behind comes with no event of its own.
        while rounds < ROUNDS || output.has_backlog() {
            rounds += 1;
            let full = output.is_full()
                || self.log.as_ref().is_some_and(Log::is_full)
                || self.hub.as_ref().is_some_and(|h| h.is_full(n));
            if full {
                output.watch(false, ctx);
                return;
            }
            buffer.clear();
            buffer.reserve_exact(16 * 1024);
            match output.read(&mut buffer) {
                Ok(0) if output.ends_at_zero(hangup) => {
                    output.end(ctx);
                    if let Some(log) = &mut self.log {
                        log.push(n, b"");
                    }
                    return;
                }
                Ok(0) | Err(Errno::AGAIN) => {
                    output.watch(true, ctx);
                    output.empty = true;
                    return;
                }
                Ok(_) => {
                    output.empty = false;
                    output.push(&buffer, ctx);
                    if let Some(log) = &mut self.log {
                        log.push(n, &buffer);
                    }
                    if let Some(hub) = &mut self.hub {
                        hub.output(n, &buffer, ctx);
                    }
                }
                Err(Errno::INTR) => {}
                // A terminal without processes answers EIO: its end of file.
                Err(_) => {
                    output.end(ctx);
                    if let Some(log) = &mut self.log {
                        log.push(n, b"");
                    }
                    return;
                }
            }
        }
        output.watch(true, ctx);
    }

    /// Moves input on from a FIFO.
    fn feed(&mut self, hangup: bool, ctx: &Ctx) {
        let (Some(feed), Some(input)) = (&mut self.feed, &mut self.input) else { return };
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let open = input.is_open();
            if open && input.is_full() {
                break;
            }
            match rustix::io::read(&feed.fifo, &mut buffer) {
                Ok(0) if feed.ends && hangup => {
                    let _ = ctx.epoll.remove(feed.fifo.as_fd());
                    self.feed = None;
                    return self.close_end(ctx);
                }
                // Input of a process that has closed its own is read and dropped.
                Ok(n) if n > 0 => input.push(&buffer[..n], ctx),
                Err(Errno::INTR) => {}
                _ => return,
            }
        }
        feed.watched = false;
        let _ = ctx.epoll.remove(feed.fifo.as_fd());
    }

    fn resume_input(&mut self, ctx: &Ctx) {
        let full = self.input.as_ref().is_some_and(InputEnd::is_full);
        if let Some(feed) = self.feed.as_mut().filter(|f| !f.watched && !full) {
            feed.watched = true;
            let token = Token::Io(self.id, Part::Feed).encode();
            let _ = ctx.epoll.add(feed.fifo.as_fd(), token, Interest::READ);
        }
        if let Some(hub) = &mut self.hub {
            hub.hold_input(full, ctx);
        }
    }

    /// Begins to move bytes. Before the runtime is done, its own complaints may be in the pipes:
    /// see [`Io::said`].
    pub(crate) fn begin(&mut self, ctx: &Ctx) {
        for output in self.outputs.iter_mut().flatten() {
            output.watch(true, ctx);
        }
        self.resume_input(ctx);
    }

    /// Makes this process, a fork, the one that attachers find.
    pub(crate) fn claim(&self) -> std::io::Result<()> {
        self.hub.as_ref().map_or(Ok(()), Hub::claim)
    }

    /// Moves on what is there without an event: the backlog of a sink that was killed.
    pub(crate) fn resume(&mut self, ctx: &Ctx) {
        if self.outputs.iter().flatten().any(Output::has_backlog) {
            self.pump_all(ctx);
        }
    }

    /// What a runtime that failed has written where the process's output would have gone.
    pub(crate) fn said(&mut self) -> String {
        let mut text = Vec::with_capacity(4096);
        for output in self.outputs.iter_mut().rev().flatten() {
            if text.is_empty() {
                // Nothing to be read is nothing said.
                let _ = output.read(&mut text);
            }
        }
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Opens the FIFO that input comes from, if that was not done yet.
    pub(crate) fn open_input(&mut self, ctx: &Ctx) -> std::io::Result<()> {
        let Some(late) = self.late_feed.take() else { return Ok(()) };
        let fifo = sys::unix::open_fifo(&late.path, sys::unix::FifoEnd::Both)?;
        self.feed = Some(Feed { path: late.path, fifo, ends: false, watched: false });
        self.resume_input(ctx);
        if late.closed {
            self.close_input(ctx);
        }
        Ok(())
    }

    fn close_end(&mut self, ctx: &Ctx) {
        if let Some(input) = self.input.as_mut().filter(|_| !self.tty) {
            input.close(ctx);
        }
    }

    /// The client wants no more input to come. From a FIFO, what other writers still send comes
    /// first.
    pub(crate) fn close_input(&mut self, ctx: &Ctx) {
        if let Some(late) = &mut self.late_feed {
            late.closed = true;
            return;
        }
        if let Some(feed) = self.feed.as_mut().filter(|f| !f.ends)
            && let Ok(read_end) = sys::unix::open_fifo(&feed.path, sys::unix::FifoEnd::Read)
        {
            let _ = ctx.epoll.remove(feed.fifo.as_fd());
            // Opened while we were a writer ourselves, it shows the hang-up that follows.
            feed.fifo = read_end;
            feed.ends = true;
            feed.watched = true;
            let token = Token::Io(self.id, Part::Feed).encode();
            let _ = ctx.epoll.add(feed.fifo.as_fd(), token, Interest::READ);
            return;
        }
        self.close_end(ctx);
    }

    /// The process has ended: everything it wrote is in the pipes, and is moved on now as far as
    /// it can.
    pub(crate) fn process_ended(&mut self, ctx: &Ctx) {
        self.exited = true;
        for _ in 0..64 {
            let before: usize = self.unfinished();
            self.pump_all(ctx);
            let blocked = self.outputs.iter().flatten().all(|o| o.empty || !o.is_watched());
            if before == 0 || blocked {
                break;
            }
        }
        ctx.timers.borrow_mut().after(DRAIN, Timer::Drain(self.id));
        self.settle(ctx);
    }

    fn unfinished(&self) -> usize {
        self.outputs.iter().flatten().filter(|o| !o.has_ended()).count()
    }

    /// End of output is not awaited any longer from those who only hold the pipe; what is in it
    /// and waits for an attacher still goes on.
    pub(crate) fn stop_waiting(&mut self, ctx: &Ctx) {
        self.pump_all(ctx);
        for n in 0..2u8 {
            if let Some(output) =
                self.outputs[usize::from(n)].as_mut().filter(|o| !o.has_ended() && o.empty)
            {
                output.end(ctx);
                if let Some(log) = &mut self.log {
                    log.push(n, b"");
                }
            }
        }
        if self.unfinished() > 0 {
            ctx.timers.borrow_mut().after(DRAIN, Timer::Drain(self.id));
        }
        self.settle(ctx);
    }

    /// Notices that all is done: output forwarded and the log written.
    fn settle(&mut self, ctx: &Ctx) {
        if self.finished || !self.exited || self.unfinished() > 0 {
            return;
        }
        if self.log.as_ref().is_some_and(|log| !log.is_idle()) {
            return;
        }
        self.finished = true;
        if let Some(hub) = &mut self.hub {
            hub.drain(ctx);
        }
    }

    /// Whether all output was forwarded and written.
    pub(crate) fn is_finished(&self) -> bool {
        self.finished && self.hub.as_ref().is_none_or(|hub| !hub.is_busy())
    }

    /// The terminal's descriptor, for its size.
    pub(crate) fn terminal(&self) -> Option<BorrowedFd<'_>> {
        self.outputs[0].as_ref().filter(|_| self.tty).and_then(Output::source)
    }

    /// The sink's description, if this is one.
    pub(crate) fn sink(&self) -> Option<&shim_api::sink::SinkUri> {
        self.hub.as_ref().map(Hub::uri)
    }

    /// Ends it: what is in the pipes is taken once more, the log is handed back to be finished.
    pub(crate) fn close(mut self, ctx: &Ctx) {
        self.stop_waiting(ctx);
        for output in self.outputs.iter_mut().flatten() {
            output.end(ctx);
            output.close(ctx);
        }
        if let Some(feed) = &self.feed {
            let _ = ctx.epoll.remove(feed.fifo.as_fd());
        }
        if let Some(end) = self.input.as_ref().and_then(InputEnd::fd) {
            let _ = ctx.epoll.remove(end);
        }
        if let Some(mut log) = self.log.take() {
            let _ = ctx.epoll.remove(log.fd());
            let mut threads = ctx.threads.borrow_mut();
            threads.retain(|thread| !thread.is_finished());
            threads.extend(log.finish());
        }
        if let Some(mut hub) = self.hub.take() {
            hub.drain(ctx);
            hub.close(ctx);
        }
        ctx.timers.borrow_mut().cancel(Timer::Drain(self.id));
    }

    /// Wires a terminal's master in, once the runtime has handed it over.
    pub(crate) fn set_terminal(&mut self, master: OwnedFd, ctx: &Ctx) -> std::io::Result<()> {
        sys::unix::set_nonblocking(master.as_fd(), true)?;
        let writer = master.try_clone()?;
        if let Some(input) = &mut self.input {
            input.set(writer, ctx);
        }
        if let Some(output) = &mut self.outputs[0] {
            output.set_source(master, ctx);
        }
        self.resume_input(ctx);
        Ok(())
    }
}
