//! The poll loop: descriptors, signals and deadlines in, the right part called. Connections of
//! the task service live here; what calls mean is in `task`, what bytes mean in `io`.

use crate::io::{Ctx, Io};
use crate::poll::{Timer, Token};
use crate::publisher::Publisher;
use crate::runtime::Call;
use crate::task::{Container, Op, Waiting};
use rustix::io::Errno;
use shim_api::ttrpc::{Server, Status};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::mpsc;
use std::time::{Duration, SystemTime};
use sys::epoll::{Epoll, Event, Interest, Waker};
use sys::process::Exit;
use sys::signal::SignalFd;

/// Patience for a call of the runtime, hooks included.
pub(crate) const RUNTIME: Duration = Duration::from_secs(120);
/// Patience for what is still to be sent when the shim leaves.
const LEAVE: Duration = Duration::from_secs(3);

const SIGCHLD: i32 = rustix::process::Signal::CHILD.as_raw();
const SIGTERM: i32 = rustix::process::Signal::TERM.as_raw();
const SIGINT: i32 = rustix::process::Signal::INT.as_raw();
pub(crate) const SIGKILL: i32 = rustix::process::Signal::KILL.as_raw();

/// Who this shim is.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) namespace: String,
    pub(crate) id: String,
    /// The supervisor's gRPC address.
    pub(crate) address: String,
    /// The supervisor's ttrpc address; empty: none.
    pub(crate) ttrpc_address: String,
    pub(crate) publish_binary: String,
    pub(crate) bundle: PathBuf,
    /// This program.
    pub(crate) own: PathBuf,
    /// Its socket.
    pub(crate) socket: PathBuf,
}

/// A call that is to be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ticket {
    conn: u32,
    stream: u32,
}

struct Conn {
    socket: OwnedFd,
    server: Server,
    writing: bool,
}

/// A call of the runtime in flight.
pub(crate) struct Job {
    pub(crate) call: Call,
    pub(crate) op: Op,
    pub(crate) late: bool,
}

/// The shim.
pub(crate) struct Shim {
    pub(crate) me: Identity,
    pub(crate) ctx: Ctx,
    listener: OwnedFd,
    signals: SignalFd,
    conns: BTreeMap<u32, Conn>,
    next_conn: u32,
    pub(crate) publisher: Publisher,
    pub(crate) jobs: BTreeMap<i32, Job>,
    /// Ends of processes that nobody knows yet: one may be a process that the runtime is making.
    pub(crate) orphans: BTreeMap<i32, (Exit, SystemTime)>,
    pub(crate) ios: BTreeMap<u32, Io>,
    pub(crate) next_io: u32,
    pub(crate) waiting: BTreeMap<u32, Waiting>,
    pub(crate) container: Option<Container>,
    pub(crate) worker: std::sync::Arc<Waker>,
    pub(crate) done: (mpsc::Sender<io::Result<()>>, mpsc::Receiver<io::Result<()>>),
    pub(crate) deleting: Option<Ticket>,
    leaving: bool,
    terminated: bool,
    late: bool,
}

impl Shim {
    /// A shim that serves a socket it listens on.
    pub(crate) fn new(me: Identity, listener: OwnedFd) -> io::Result<Self> {
        let epoll = Rc::new(Epoll::new()?);
        let signals = SignalFd::new(&[SIGCHLD, SIGTERM, SIGINT])?;
        let worker = Waker::new()?;
        epoll.add(listener.as_fd(), Token::Listener.encode(), Interest::READ)?;
        epoll.add(signals.as_fd(), Token::Signals.encode(), Interest::READ)?;
        epoll.add(worker.as_fd(), Token::Worker.encode(), Interest::READ)?;
        let ttrpc = Some(&me.ttrpc_address).filter(|a| !a.is_empty());
        let ttrpc = ttrpc.map(|a| PathBuf::from(a.strip_prefix("unix://").unwrap_or(a)));
        let publisher = Publisher::new(ttrpc, &me.namespace);
        Ok(Self {
            me,
            ctx: Ctx::new(epoll),
            listener,
            signals,
            conns: BTreeMap::new(),
            next_conn: 0,
            publisher,
            jobs: BTreeMap::new(),
            orphans: BTreeMap::new(),
            ios: BTreeMap::new(),
            next_io: 0,
            waiting: BTreeMap::new(),
            container: None,
            worker: std::sync::Arc::new(worker),
            done: mpsc::channel(),
            deleting: None,
            leaving: false,
            terminated: false,
            late: false,
        })
    }

    /// Serves until told to leave.
    pub(crate) fn serve(&mut self) -> io::Result<()> {
        let mut events = Vec::new();
        while !self.may_leave() {
            let patience = self.ctx.timers.borrow().patience();
            self.ctx.epoll.wait(&mut events, patience)?;
            // Processes' ends first: a reply must not overtake an end that is already here.
            events.sort_by_key(|e| Token::decode(e.token) != Token::Signals);
            for event in &events {
                self.event(*event);
            }
            loop {
                let timer = self.ctx.timers.borrow_mut().pop();
                let Some(timer) = timer else { break };
                self.timer(timer);
            }
        }
        let _ = std::fs::remove_file(&self.me.socket);
        let ids: Vec<u32> = self.ios.keys().copied().collect();
        for id in ids {
            self.close_io(id);
        }
        self.ctx.join_logs();
        Ok(())
    }

    fn may_leave(&self) -> bool {
        let sent = self.conns.values().all(|c| c.server.pending().is_empty());
        self.leaving && (self.late || (sent && self.publisher.is_empty()))
    }

    /// Leaves once everything is sent, and soon in any case.
    pub(crate) fn leave(&mut self) {
        if !std::mem::replace(&mut self.leaving, true) {
            self.ctx.timers.borrow_mut().after(LEAVE, Timer::Leave);
        }
    }

    /// A process has ended; if the shim was asked to terminate, the last one takes it along.
    pub(crate) fn leave_if_terminated(&mut self) {
        if self.terminated && !self.container.as_ref().is_some_and(Container::lives) {
            self.leave();
        }
    }

    /// Closes a process's stdio; its log is written out by its thread.
    pub(crate) fn close_io(&mut self, id: u32) {
        if let Some(io) = self.ios.remove(&id) {
            io.close(&self.ctx);
        }
    }

    fn event(&mut self, event: Event) {
        match Token::decode(event.token) {
            Token::Listener => self.accept(),
            Token::Signals => self.signals(),
            Token::Conn(id) => self.conn_event(id),
            Token::Publisher => self.publisher.event(&self.ctx),
            Token::Worker => {
                self.worker.clear();
                while let Ok(result) = self.done.1.try_recv() {
                    self.unmounted(result);
                }
            }
            Token::Oom => self.oom(),
            Token::Logger(id) => self.logger_ready(id, true),
            Token::Io(id, part) => {
                if let Some(io) = self.ios.get_mut(&id) {
                    io.event(part, event, &self.ctx);
                }
            }
        }
    }

    fn timer(&mut self, timer: Timer) {
        match timer {
            Timer::Job(pid) => {
                if let Some(job) = self.jobs.get_mut(&pid) {
                    job.late = true;
                    let _ = job.call.child.kill(SIGKILL);
                }
            }
            Timer::Publish => self.publisher.retry(&self.ctx),
            Timer::Drain(id) => {
                if let Some(io) = self.ios.get_mut(&id) {
                    io.stop_waiting(&self.ctx);
                }
            }
            Timer::Feed(id) => {
                if let Some(io) = self.ios.get_mut(&id) {
                    // A FIFO that is gone gives no input.
                    let _ = io.open_input(&self.ctx);
                }
            }
            Timer::Logger(id) => self.logger_ready(id, false),
            Timer::Leave => self.late = true,
        }
    }

    fn signals(&mut self) {
        while let Ok(Some(signal)) = self.signals.next() {
            if signal != SIGCHLD {
                // Processes keep running; the shim goes when none is left.
                self.terminated = true;
                self.leave_if_terminated();
            }
        }
        while let Ok(Some((pid, exit))) = sys::process::reap_any() {
            let now = SystemTime::now();
            if let Some(job) = self.jobs.remove(&pid) {
                self.ctx.timers.borrow_mut().cancel(Timer::Job(pid));
                self.job_done(job, exit);
            } else if self.container.as_ref().is_some_and(|c| c.by_pid(pid).is_some()) {
                self.process_ended(pid, exit, now);
            } else if self.jobs.values().any(|job| job.op.makes_a_process()) {
                self.orphans.insert(pid, (exit, now));
            }
            if !self.jobs.values().any(|job| job.op.makes_a_process()) {
                self.orphans.clear();
            }
        }
    }

    fn accept(&mut self) {
        while let Ok(Some(socket)) = sys::unix::accept(self.listener.as_fd()) {
            // The socket's folder is closed to others already; this holds where it is not.
            let own = rustix::process::geteuid().as_raw();
            let trusted = sys::unix::peer(socket.as_fd()).is_ok_and(|p| p.uid == 0 || p.uid == own);
            self.next_conn = self.next_conn.wrapping_add(1);
            let token = Token::Conn(self.next_conn).encode();
            if trusted && self.ctx.epoll.add(socket.as_fd(), token, Interest::READ).is_ok() {
                let conn = Conn { socket, server: Server::default(), writing: false };
                self.conns.insert(self.next_conn, conn);
            }
        }
    }

    fn conn_event(&mut self, id: u32) {
        self.flush(id);
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let mut buffer = vec![0; 8 * 1024];
        match rustix::io::read(&conn.socket, &mut buffer) {
            Ok(0) => return self.hang_up(id),
            Ok(n) => {
                if conn.server.feed(&buffer[..n]).is_err() {
                    return self.hang_up(id);
                }
            }
            Err(Errno::AGAIN | Errno::INTR) => return,
            Err(_) => return self.hang_up(id),
        }
        while let Some(call) = self.conns.get_mut(&id).and_then(|c| c.server.next_call()) {
            let ticket = Ticket { conn: id, stream: call.stream };
            match self.call(&call, ticket) {
                Ok(Some(answer)) => self.reply(ticket, Ok(answer)),
                Ok(None) => {}
                Err(status) => self.reply(ticket, Err(status)),
            }
        }
    }

    /// Answers a call; whoever hung up in the meantime gets nothing.
    pub(crate) fn reply(&mut self, ticket: Ticket, result: Result<Vec<u8>, Status>) {
        if let Some(conn) = self.conns.get_mut(&ticket.conn) {
            conn.server.reply(ticket.stream, result);
            self.flush(ticket.conn);
        }
    }

    fn flush(&mut self, id: u32) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        while !conn.server.pending().is_empty() {
            let flags = rustix::net::SendFlags::NOSIGNAL;
            match rustix::net::send(&conn.socket, conn.server.pending(), flags) {
                Ok(n) => conn.server.advance(n),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(_) => return self.hang_up(id),
            }
        }
        let writing = !conn.server.pending().is_empty();
        if writing != conn.writing {
            conn.writing = writing;
            let interest = Interest { read: true, write: writing };
            let _ = self.ctx.epoll.modify(conn.socket.as_fd(), Token::Conn(id).encode(), interest);
        }
    }

    fn hang_up(&mut self, id: u32) {
        if let Some(conn) = self.conns.remove(&id) {
            let _ = self.ctx.epoll.remove(conn.socket.as_fd());
        }
        if let Some(container) = &mut self.container {
            let all = std::iter::once(&mut container.init).chain(container.execs.values_mut());
            all.for_each(|process| process.waiters.retain(|ticket| ticket.conn != id));
        }
    }
}
