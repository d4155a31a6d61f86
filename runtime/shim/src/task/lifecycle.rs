//! Create, start, exec: the calls that make processes, each in two halves around a call of the
//! runtime. Taking them away is in `delete`.

use super::{
    Answer, Container, Op, Phase, Process, Waiting, empty, not_found, precondition, unknown,
};
use crate::cgroups::Cgroups;
use crate::core::{Shim, Ticket};
use crate::io::{Given, Spec};
use crate::poll::{Timer, Token};
use crate::runtime::Runtime;
use prost::Message;
use rustix::pipe::{PipeFlags, pipe_with};
use shim_api::events;
use shim_api::runc::Options;
use shim_api::sink::SinkUri;
use shim_api::task::{
    CreateTaskRequest, CreateTaskResponse, ExecProcessRequest, StartRequest, StartResponse,
};
use shim_api::ttrpc::{Code, Status};
use std::ffi::OsString;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::Duration;
use sys::epoll::Interest;

/// After this, input's FIFO is opened for clients that wait for its reader before they start.
const FEED: Duration = Duration::from_millis(100);
/// Patience for a logger to get ready.
const LOGGER: Duration = Duration::from_secs(10);

/// The options of a request: runc's, or none.
pub(crate) fn options(any: Option<&shim_api::Any>) -> Result<Options, Status> {
    let Some(any) = any.filter(|any| !any.type_url.is_empty()) else {
        return Ok(Options::default());
    };
    match shim_api::type_name(any) {
        shim_api::runc::OPTIONS => {
            Options::decode(&any.value[..]).map_err(|e| unknown(format!("options: {e}")))
        }
        other => Err(Status::new(
            Code::InvalidArgument,
            format!("options of type {other:?} are not supported"),
        )),
    }
}

impl Shim {
    pub(super) fn create(&mut self, request: CreateTaskRequest, ticket: Ticket) -> Answer {
        if self.container.is_some() || request.id != self.me.id {
            let text = format!("this shim serves container {}", self.me.id);
            return Err(Status::new(Code::AlreadyExists, text));
        }
        if !request.checkpoint.is_empty() {
            let text = "restoring from a checkpoint is not supported";
            return Err(Status::new(Code::Unimplemented, text));
        }
        let options = options(request.options.as_ref())?;
        let runtime = Runtime::new(&options, &self.me.namespace, &self.me.own);
        let runtime = runtime.map_err(|e| unknown(e.to_string()))?;
        if !request.bundle.is_empty() {
            self.me.bundle = PathBuf::from(&request.bundle);
        }
        let kept = serde_json::to_vec(&runtime).unwrap_or_default();
        std::fs::write(self.me.bundle.join("runtime.json"), kept)
            .map_err(|e| unknown(format!("write runtime.json in the bundle: {e}")))?;
        let root = self.me.bundle.join("rootfs");
        let mounted = !request.rootfs.is_empty();
        crate::mounts::mount_all(&request.rootfs, &root)
            .map_err(|e| unknown(format!("failed to mount rootfs component: {e}")))?;
        let stdio = Spec {
            tty: request.terminal,
            stdin: request.stdin.clone(),
            stdout: request.stdout.clone(),
            stderr: request.stderr.clone(),
            owner: (options.io_uid, options.io_gid),
        };
        self.container = Some(Container {
            runtime,
            options,
            init: Process::new("", stdio, 0),
            execs: std::collections::BTreeMap::new(),
            paused: false,
            mounted,
            cgroups: Cgroups::default(),
            oom: None,
            request,
        });
        if let Err(status) = self.make("", ticket) {
            self.unmake();
            return Err(status);
        }
        Ok(None)
    }

    /// Takes back what `create` has done.
    fn unmake(&mut self) {
        if let Some(container) = self.container.take() {
            self.close_io(container.init.io);
            forget_console(container.init.console);
            if container.mounted {
                let _ = crate::mounts::unmount_all(&self.me.bundle.join("rootfs"));
            }
        }
        self.keep_sinks();
    }

    /// An exec that could not be started: it never ran, so there is no exit to publish, only
    /// something to delete.
    fn never_ran(&mut self, exec: &str) {
        let process = self.container.as_mut().and_then(|c| c.process_mut(exec));
        let Some(process) = process else { return };
        process.phase = Phase::Stopped;
        let (io, console) = (process.io, process.console.take());
        forget_console(console);
        self.close_io(io);
    }

    /// Opens a process's stdio; what is the process's own of it waits in `given`.
    fn open_io(&mut self, exec: &str) -> Result<(), Status> {
        self.next_io = (self.next_io + 1) & 0xff_ffff;
        let id = self.next_io;
        let spec = self.process(exec)?.stdio.clone();
        let (io, given) = crate::io::open(&spec, id, &self.me.own, &self.ctx)
            .map_err(|e| unknown(format!("failed to create init process I/O: {e}")))?;
        self.ios.insert(id, io);
        if let Some(process) = self.container.as_mut().and_then(|c| c.process_mut(exec)) {
            process.io = id;
            process.given = Some(given);
        }
        self.keep_sinks();
        Ok(())
    }

    /// Opens a process's stdio and, once its logger is ready, has the runtime make it.
    fn make(&mut self, exec: &str, ticket: Ticket) -> Result<(), Status> {
        if self.process(exec)?.given.is_none() {
            self.open_io(exec)?;
        }
        let gone = || not_found("process does not exist");
        let process = self.container.as_mut().and_then(|c| c.process_mut(exec)).ok_or_else(gone)?;
        let (id, tty, number) = (process.io, process.stdio.tty, process.number);
        let mut given = process.given.take().ok_or_else(gone)?;
        let mut console = None;
        if tty {
            let path = self.me.socket.with_extension(format!("c{number}"));
            let _ = std::fs::remove_file(&path);
            let listener = sys::unix::listen(&path, 0o600)
                .map_err(|e| unknown(format!("console socket {}: {e}", path.display())))?;
            console = Some((listener, path));
        }
        if let Some(process) = self.container.as_mut().and_then(|c| c.process_mut(exec)) {
            process.console = console;
        }
        let ready = match given.logger.take() {
            None => None,
            Some(logger) => Some(self.start_logger(exec, logger)?),
        };
        let waiting = Waiting { given, exec: exec.to_owned(), ticket, ready };
        match &waiting.ready {
            Some(ready) => {
                let token = Token::Logger(id).encode();
                let watched = self.ctx.epoll.add(ready.as_fd(), token, Interest::READ);
                watched.map_err(|e| unknown(format!("watch the logger: {e}")))?;
                self.ctx.timers.borrow_mut().after(LOGGER, Timer::Logger(id));
                self.waiting.insert(id, waiting);
                Ok(())
            }
            None => self.launch(&waiting),
        }
    }

    fn start_logger(
        &self,
        exec: &str,
        (program, args, out, err): (
            PathBuf,
            Vec<String>,
            std::os::fd::OwnedFd,
            std::os::fd::OwnedFd,
        ),
    ) -> Result<std::os::fd::OwnedFd, Status> {
        let (ready, write) = pipe_with(PipeFlags::CLOEXEC).map_err(|e| unknown(e.to_string()))?;
        let id = if exec.is_empty() { &self.me.id } else { exec };
        let command = sys::spawn::Command::new(program).args(args).inherit_env();
        let command =
            command.env("CONTAINER_ID", id).env("CONTAINER_NAMESPACE", &self.me.namespace);
        let command = command.fd(out.as_fd(), 3).fd(err.as_fd(), 4).fd(write.as_fd(), 5);
        command.spawn().map_err(|e| unknown(format!("failed to start binary process: {e}")))?;
        Ok(ready)
    }

    /// A logger says that it is ready, or its time is up.
    pub(crate) fn logger_ready(&mut self, id: u32, ready: bool) {
        let Some(waiting) = self.waiting.remove(&id) else { return };
        self.ctx.timers.borrow_mut().cancel(Timer::Logger(id));
        if let Some(fd) = &waiting.ready {
            let _ = self.ctx.epoll.remove(fd.as_fd());
        }
        let late = || unknown("failed to wait for binary to be ready: timed out");
        let result = if ready { self.launch(&waiting) } else { Err(late()) };
        if let Err(status) = result {
            if waiting.exec.is_empty() {
                self.unmake();
            } else {
                self.never_ran(&waiting.exec);
            }
            self.reply(waiting.ticket, Err(status));
        }
    }

    fn launch(&mut self, waiting: &Waiting) -> Result<(), Status> {
        let Waiting { given, exec, ticket, .. } = waiting;
        let process = self.process(exec)?;
        let options = &self.container()?.options;
        let bundle = &self.me.bundle;
        let mut words: Vec<OsString> = Vec::new();
        let mut word = |parts: [OsString; 2]| words.extend(parts);
        if exec.is_empty() {
            word(["--bundle".into(), bundle.into()]);
            word(["--pid-file".into(), bundle.join("init.pid").into()]);
        } else {
            let file = |kind: &str| bundle.join(format!("exec-{}.{kind}", process.number));
            word(["--process".into(), file("json").into()]);
            word(["--pid-file".into(), file("pid").into()]);
        }
        if let Some((_, path)) = &process.console {
            word(["--console-socket".into(), path.into()]);
        }
        let verb = if exec.is_empty() {
            if options.no_pivot_root {
                words.push("--no-pivot".into());
            }
            if options.no_new_keyring {
                words.push("--no-new-keyring".into());
            }
            "create"
        } else {
            words.push("--detach".into());
            "exec"
        };
        words.push((&self.me.id).into());
        let op =
            if exec.is_empty() { Op::Create(*ticket) } else { Op::Exec(exec.clone(), *ticket) };
        let given: Option<&Given> = Some(given).filter(|_| process.console.is_none());
        self.spawn(verb, words, given, None, op)
    }

    /// The runtime has made a process: its pid, and its terminal if it has one.
    fn adopt(&mut self, exec: &str, pid_file: PathBuf) -> Result<i32, String> {
        let text = std::fs::read_to_string(&pid_file)
            .map_err(|e| format!("{}: {e}", pid_file.display()))?;
        let pid = text.trim().parse::<i32>().ok().filter(|pid| *pid > 1);
        let pid = pid.ok_or_else(|| format!("{}: {text:?} is no pid", pid_file.display()))?;
        let process = self.container.as_mut().and_then(|c| c.process_mut(exec));
        let process = process.ok_or("the process is gone")?;
        process.pid = pid;
        if let Some(io) = self.ios.get_mut(&process.io) {
            io.begin(&self.ctx);
        }
        let Some((listener, path)) = process.console.take() else { return Ok(pid) };
        let (io, mut fds) = (process.io, Vec::new());
        if let Ok(Some(socket)) = sys::unix::accept(listener.as_fd()) {
            fds = sys::unix::recv_fds(socket.as_fd(), &mut [0; 4096])
                .map(|r| r.1)
                .unwrap_or_default();
        }
        let _ = std::fs::remove_file(path);
        let master = fds.pop().ok_or("the runtime did not hand the terminal over")?;
        if let Some(io) = self.ios.get_mut(&io) {
            io.set_terminal(master, &self.ctx).map_err(|e| format!("terminal: {e}"))?;
        }
        Ok(pid)
    }

    /// Second half of `create`.
    pub(super) fn created(&mut self, failure: Option<String>, ticket: Ticket) {
        let made = match failure {
            None => self.adopt("", self.me.bundle.join("init.pid")),
            Some(text) => Err(text),
        };
        let pid = match made {
            Ok(pid) => pid,
            Err(text) => {
                self.unmake();
                let status = unknown(format!("OCI runtime create failed: {text}"));
                return self.reply(ticket, Err(status));
            }
        };
        let Some(container) = &mut self.container else { return };
        container.init.phase = Phase::Created;
        container.cgroups = Cgroups::of(pid).unwrap_or_default();
        // Without the controller there is nothing to tell.
        if let Ok(watch) = container.cgroups.watch_oom()
            && self.ctx.epoll.add(watch.fd(), Token::Oom.encode(), Interest::READ).is_ok()
        {
            container.oom = Some(watch);
        }
        let request = &container.request;
        let event = events::TaskCreate {
            container_id: request.id.clone(),
            bundle: request.bundle.clone(),
            rootfs: request.rootfs.clone(),
            io: Some(events::TaskIo {
                stdin: request.stdin.clone(),
                stdout: request.stdout.clone(),
                stderr: request.stderr.clone(),
                terminal: request.terminal,
            }),
            checkpoint: request.checkpoint.clone(),
            pid: pid as u32,
        };
        container.request.rootfs = Vec::new();
        self.ctx.timers.borrow_mut().after(FEED, Timer::Feed(container.init.io));
        self.publisher.publish(&event, &self.ctx);
        self.reply(ticket, Ok(CreateTaskResponse { pid: pid as u32 }.encode_to_vec()));
        self.late_orphan(pid);
    }

    /// An end that came before anyone knew the process.
    fn late_orphan(&mut self, pid: i32) {
        if let Some((exit, at)) = self.orphans.remove(&pid) {
            self.process_ended(pid, exit, at);
        }
    }

    pub(super) fn start(&mut self, request: &StartRequest, ticket: Ticket) -> Answer {
        let process = self.process(&request.exec_id)?;
        let (phase, exec) = (process.phase, !request.exec_id.is_empty());
        let due = if exec { process.is_idle() } else { phase == Phase::Created };
        if !due {
            return Err(precondition(format!("cannot start a process that is {phase:?}")));
        }
        if exec {
            self.make(&request.exec_id, ticket)
                .inspect_err(|_| self.never_ran(&request.exec_id))?;
        } else {
            self.run("start", Vec::new(), None, Op::Start(ticket))?;
            if let Some(container) = &mut self.container {
                container.init.phase = Phase::Starting;
            }
        }
        Ok(None)
    }

    /// Second half of `start`.
    pub(super) fn started(&mut self, failure: Option<String>, ticket: Ticket) {
        let Some(container) = &mut self.container else { return };
        self.ctx.timers.borrow_mut().cancel(Timer::Feed(container.init.io));
        if let Some(io) = self.ios.get_mut(&container.init.io) {
            // A FIFO that is gone gives no input.
            let _ = io.open_input(&self.ctx);
        }
        let pid = container.init.pid as u32;
        if let Some(text) = failure {
            container.init.phase = Phase::Created;
            let status = unknown(format!("OCI runtime start failed: {text}"));
            self.reply(ticket, Err(status));
        } else {
            container.init.phase = Phase::Running;
            let event = events::TaskStart { container_id: self.me.id.clone(), pid };
            self.publisher.publish(&event, &self.ctx);
            self.reply(ticket, Ok(StartResponse { pid }.encode_to_vec()));
        }
        self.publish_exit("");
    }

    pub(super) fn exec(&mut self, request: ExecProcessRequest) -> Answer {
        let spec = request.spec.ok_or_else(|| {
            Status::new(Code::InvalidArgument, "exec: the process's specification is missing")
        })?;
        self.next_io = (self.next_io + 1) & 0xff_ffff;
        let number = self.next_io;
        let owner = self.container()?.options.clone();
        if request.exec_id.is_empty() || self.process(&request.exec_id).is_ok() {
            let text = format!("id {}: already exists", request.exec_id);
            return Err(Status::new(Code::AlreadyExists, text));
        }
        let file = self.me.bundle.join(format!("exec-{number}.json"));
        std::fs::write(&file, &spec.value)
            .map_err(|e| unknown(format!("write {}: {e}", file.display())))?;
        let stdio = Spec {
            tty: request.terminal,
            stdin: request.stdin,
            stdout: request.stdout,
            stderr: request.stderr,
            owner: (owner.io_uid, owner.io_gid),
        };
        let process = Process::new(&request.exec_id, stdio, number);
        if let Some(container) = &mut self.container {
            container.execs.insert(request.exec_id.clone(), process);
        }
        // Attachers of a sink come before the start, so that they miss nothing.
        if SinkUri::looks_like(&self.process(&request.exec_id)?.stdio.stdout) {
            self.open_io(&request.exec_id).inspect_err(|_| {
                if let Some(container) = &mut self.container {
                    container.execs.remove(&request.exec_id);
                }
            })?;
        }
        let container_id = self.me.id.clone();
        let event = events::TaskExecAdded { container_id, exec_id: request.exec_id };
        self.publisher.publish(&event, &self.ctx);
        empty()
    }

    /// Second half of an exec's `start`.
    pub(super) fn exec_started(&mut self, exec: &str, failure: Option<String>, ticket: Ticket) {
        let number = self.process(exec).map_or(0, |p| p.number);
        let pid_file = self.me.bundle.join(format!("exec-{number}.pid"));
        let made = match failure {
            None => self.adopt(exec, pid_file),
            Some(text) => Err(text),
        };
        let _ = std::fs::remove_file(self.me.bundle.join(format!("exec-{number}.json")));
        let Some(process) = self.container.as_mut().and_then(|c| c.process_mut(exec)) else {
            return self.reply(ticket, Err(not_found("process does not exist")));
        };
        match made {
            Ok(pid) => {
                process.phase = Phase::Running;
                let (container_id, exec_id) = (self.me.id.clone(), exec.to_owned());
                if let Some(io) = self.ios.get_mut(&process.io) {
                    // A FIFO that is gone gives no input.
                    let _ = io.open_input(&self.ctx);
                }
                let event = events::TaskExecStarted { container_id, exec_id, pid: pid as u32 };
                self.publisher.publish(&event, &self.ctx);
                self.reply(ticket, Ok(StartResponse { pid: pid as u32 }.encode_to_vec()));
                self.late_orphan(pid);
            }
            Err(text) => {
                self.never_ran(exec);
                let status = unknown(format!("OCI runtime exec failed: {text}"));
                self.reply(ticket, Err(status));
            }
        }
    }
}

fn forget_console(console: Option<(std::os::fd::OwnedFd, PathBuf)>) {
    if let Some((_, path)) = console {
        let _ = std::fs::remove_file(path);
    }
}
