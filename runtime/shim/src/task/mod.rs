//! The task service: what each call means for the container. Effects go through the runtime's
//! command line (as children, awaited by the loop), stdio through `io`, events through the
//! publisher. No descriptors are polled here.

mod delete;
pub(crate) mod exits;
mod lifecycle;
pub(crate) use exits::write_record;
pub(crate) use lifecycle::options;
mod process;
mod queries;

use crate::core::{Job, RUNTIME, SIGKILL, Shim, Ticket};
use crate::io::Given;
use crate::poll::Timer;
pub(crate) use process::Container;
use process::{Phase, Process};
use prost::Message;
use shim_api::events;
use shim_api::task::{
    CheckpointTaskRequest, CloseIoRequest, KillRequest, Method, PauseRequest, ResizePtyRequest,
    ResumeRequest, SERVICE_V2, SERVICE_V3, ShutdownRequest, UpdateTaskRequest,
};
use shim_api::ttrpc::{Call, Code, Status};
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use sys::process::Exit;

/// What a call of the runtime is for.
#[derive(Debug)]
pub(crate) enum Op {
    /// Making the container.
    Create(Ticket),
    /// Starting its process.
    Start(Ticket),
    /// Making and starting an exec.
    Exec(String, Ticket),
    /// Anything else that somebody waits for, and what follows from its success.
    Plain(Ticket, Then),
    /// Taking the container away.
    Delete(Ticket),
    /// Nobody waits.
    Silent,
}

/// What follows from a call's success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    Nothing,
    Paused,
    Resumed,
    Checkpointed,
}

impl Op {
    /// Whether a process that nobody knows yet may end while it runs.
    pub(crate) fn makes_a_process(&self) -> bool {
        matches!(self, Self::Create(_) | Self::Exec(..))
    }
}

/// A process whose logger must be ready before it is made.
pub(crate) struct Waiting {
    given: Given,
    exec: String,
    ticket: Ticket,
    ready: Option<OwnedFd>,
}

type Answer = Result<Option<Vec<u8>>, Status>;

fn decode<M: Message + Default>(call: &Call) -> Result<M, Status> {
    M::decode(&call.payload[..])
        .map_err(|e| Status::new(Code::InvalidArgument, format!("{}: {e}", call.method)))
}

#[allow(clippy::unnecessary_wraps, reason = "handlers return it as it is")]
fn encoded(message: &impl Message) -> Answer {
    Ok(Some(message.encode_to_vec()))
}

#[allow(clippy::unnecessary_wraps, reason = "handlers return it as it is")]
fn empty() -> Answer {
    Ok(Some(Vec::new()))
}

fn unknown(text: impl Into<String>) -> Status {
    Status::new(Code::Unknown, text)
}

fn precondition(text: impl Into<String>) -> Status {
    Status::new(Code::FailedPrecondition, text)
}

fn not_found(text: impl Into<String>) -> Status {
    Status::new(Code::NotFound, text)
}

impl Shim {
    /// Handles a call: `Ok(None)` means that the answer follows.
    pub(crate) fn call(&mut self, call: &Call, ticket: Ticket) -> Answer {
        let unimplemented = |text: String| Status::new(Code::Unimplemented, text);
        if call.service != SERVICE_V2 && call.service != SERVICE_V3 {
            return Err(unimplemented(format!("service {}", call.service)));
        }
        let Some(method) = Method::parse(&call.method) else {
            return Err(unimplemented(format!("method {}", call.method)));
        };
        match method {
            Method::Create => self.create(decode(call)?, ticket),
            Method::Start => self.start(&decode(call)?, ticket),
            Method::Exec => self.exec(decode(call)?),
            Method::Delete => self.delete(&decode(call)?, ticket),
            Method::State => self.state(&decode(call)?),
            Method::Pids => self.pids(),
            Method::Stats => self.stats(),
            Method::Connect => self.connect(),
            Method::Wait => self.wait(&decode(call)?, ticket),
            Method::Kill => self.kill(&decode(call)?, ticket),
            Method::Pause => {
                let PauseRequest { .. } = decode(call)?;
                self.plain("pause", Vec::new(), None, Then::Paused, ticket)
            }
            Method::Resume => {
                let ResumeRequest { .. } = decode(call)?;
                self.plain("resume", Vec::new(), None, Then::Resumed, ticket)
            }
            Method::Update => {
                let request: UpdateTaskRequest = decode(call)?;
                let resources = request.resources.ok_or_else(|| {
                    Status::new(Code::InvalidArgument, "update: resources are missing")
                })?;
                let words = vec!["--resources".into(), "-".into()];
                self.plain("update", words, Some(&resources.value), Then::Nothing, ticket)
            }
            Method::Checkpoint => self.checkpoint(&decode(call)?, ticket),
            Method::ResizePty => self.resize(&decode(call)?),
            Method::CloseIo => self.close_input(&decode(call)?),
            Method::Shutdown => {
                let request: ShutdownRequest = decode(call)?;
                if self.container.is_none() || request.now {
                    self.leave();
                }
                empty()
            }
        }
    }

    fn container(&self) -> Result<&Container, Status> {
        self.container.as_ref().ok_or_else(|| not_found("container not created"))
    }

    fn process(&self, exec: &str) -> Result<&Process, Status> {
        self.container()?.process(exec).ok_or_else(|| not_found("process does not exist"))
    }

    /// Runs a sub-command on the container, its id behind the words.
    fn run(
        &mut self,
        verb: &'static str,
        mut words: Vec<OsString>,
        input: Option<&[u8]>,
        op: Op,
    ) -> Result<(), Status> {
        words.push((&self.me.id).into());
        self.spawn(verb, words, None, input, op)
    }

    fn spawn(
        &mut self,
        verb: &'static str,
        words: Vec<OsString>,
        given: Option<&Given>,
        input: Option<&[u8]>,
        op: Op,
    ) -> Result<(), Status> {
        let runtime = &self.container()?.runtime;
        let fds = given.map(|g| &g.fds);
        let call = runtime.call(verb, words, &self.me.bundle, fds, input);
        let call = call.map_err(|e| unknown(e.to_string()))?;
        let pid = call.child.pid();
        self.ctx.timers.borrow_mut().after(RUNTIME, Timer::Job(pid));
        self.jobs.insert(pid, Job { call, op, late: false });
        Ok(())
    }

    fn plain(
        &mut self,
        verb: &'static str,
        words: Vec<OsString>,
        input: Option<&[u8]>,
        then: Then,
        ticket: Ticket,
    ) -> Answer {
        self.run(verb, words, input, Op::Plain(ticket, then))?;
        Ok(None)
    }

    fn kill(&mut self, request: &KillRequest, ticket: Ticket) -> Answer {
        let finished = || not_found("process already finished");
        let signal = request.signal as i32;
        let container = self.container()?;
        let process = self.process(&request.exec_id)?;
        if process.exit.is_some() {
            return Err(finished());
        }
        if process.pid == 0 {
            return Err(precondition("process is not started yet"));
        }
        // What the runtime adds to a signal: all processes, thawing, and a process that still
        // waits for its start.
        let plain = !request.all
            && !container.paused
            && process.phase == Phase::Running
            && container.runtime.has_plain_processes();
        if !request.exec_id.is_empty() || plain {
            return match sys::process::signal_child(process.pid, signal) {
                Ok(()) => empty(),
                Err(e) if e.raw_os_error() == Some(3) => Err(finished()),
                Err(e) => Err(unknown(format!("signal {signal} to pid {}: {e}", process.pid))),
            };
        }
        let mut words: Vec<OsString> = Vec::new();
        if request.all {
            words.push("--all".into());
        }
        words.push((&self.me.id).into());
        words.push(signal.to_string().into());
        self.spawn("kill", words, None, None, Op::Plain(ticket, Then::Nothing))?;
        Ok(None)
    }

    fn checkpoint(&mut self, request: &CheckpointTaskRequest, ticket: Ticket) -> Answer {
        use shim_api::runc::CheckpointOptions;
        let any = request.options.as_ref().map(|any| CheckpointOptions::decode(&any.value[..]));
        let options = any.transpose().map_err(|e| unknown(e.to_string()))?.unwrap_or_default();
        let mut words: Vec<OsString> = vec!["--image-path".into(), (&request.path).into()];
        for (wanted, flag) in [
            (!options.exit, "--leave-running"),
            (options.open_tcp, "--tcp-established"),
            (options.external_unix_sockets, "--ext-unix-sk"),
            (options.terminal, "--shell-job"),
            (options.file_locks, "--file-locks"),
        ] {
            if wanted {
                words.push(flag.into());
            }
        }
        if !options.work_path.is_empty() {
            words.extend(["--work-path".into(), OsString::from(&options.work_path)]);
        }
        self.plain("checkpoint", words, None, Then::Checkpointed, ticket)
    }

    fn resize(&mut self, request: &ResizePtyRequest) -> Answer {
        let io = self.process(&request.exec_id)?.io;
        if let Some(terminal) = self.ios.get(&io).and_then(crate::io::Io::terminal) {
            let size = rustix::termios::Winsize {
                ws_row: request.height as u16,
                ws_col: request.width as u16,
                ws_xpixel: 0,
                ws_ypixel: 0,
            };
            rustix::termios::tcsetwinsize(terminal, size)
                .map_err(|e| unknown(format!("resize the terminal: {e}")))?;
        }
        empty()
    }

    fn close_input(&mut self, request: &CloseIoRequest) -> Answer {
        let io = self.process(&request.exec_id)?.io;
        if let Some(io) = self.ios.get_mut(&io).filter(|_| request.stdin) {
            io.close_input(&self.ctx);
        }
        empty()
    }

    /// A call of the runtime has ended.
    pub(crate) fn job_done(&mut self, job: Job, exit: Exit) {
        let failure = if exit == Exit::Code(0) {
            None
        } else if job.late {
            let verb = job.call.verb;
            Some(format!("{verb} did not end within {} seconds", RUNTIME.as_secs()))
        } else {
            let made = match &job.op {
                Op::Create(_) => Some(""),
                Op::Exec(exec, _) => Some(exec.as_str()),
                _ => None,
            };
            let io = made.and_then(|exec| self.process(exec).ok()).map_or(0, |p| p.io);
            let stderr = self.ios.get_mut(&io).map(crate::io::Io::said).unwrap_or_default();
            Some(job.call.failure(exit, &stderr))
        };
        match job.op {
            Op::Create(ticket) => self.created(failure, ticket),
            Op::Start(ticket) => self.started(failure, ticket),
            Op::Exec(exec, ticket) => self.exec_started(&exec, failure, ticket),
            Op::Delete(ticket) => self.taken_away(failure, ticket),
            Op::Plain(ticket, then) => {
                let result = match failure {
                    None => {
                        self.then(then);
                        Ok(Vec::new())
                    }
                    Some(text) => Err(self.plain_failure(job.call.verb, text)),
                };
                self.reply(ticket, result);
            }
            Op::Silent => {}
        }
        self.publish_by_program();
    }

    fn plain_failure(&self, verb: &str, text: String) -> Status {
        let lower = text.to_ascii_lowercase();
        let says = |words: &[&str]| words.iter().any(|w| lower.contains(w));
        if verb == "kill" && says(&["not running", "already finished", "no such process"]) {
            return not_found("process already finished");
        }
        if says(&["does not exist"]) {
            return not_found(format!("no such container: {text}"));
        }
        if verb == "checkpoint" && says(&["unknown command", "no help topic", "not supported"]) {
            let program = self.container.as_ref().map(|c| c.runtime.program.display().to_string());
            let program = program.unwrap_or_default();
            let text = format!("the runtime {program} has no checkpoint: {text}");
            return Status::new(Code::Unimplemented, text);
        }
        unknown(format!("OCI runtime {verb} failed: {text}"))
    }

    fn then(&mut self, then: Then) {
        let container_id = self.me.id.clone();
        let Some(container) = &mut self.container else { return };
        match then {
            Then::Nothing => {}
            Then::Paused => {
                container.paused = true;
                self.publisher.publish(&events::TaskPaused { container_id }, &self.ctx);
            }
            Then::Resumed => {
                container.paused = false;
                self.publisher.publish(&events::TaskResumed { container_id }, &self.ctx);
            }
            Then::Checkpointed => {
                let event = events::TaskCheckpointed { container_id, checkpoint: String::new() };
                self.publisher.publish(&event, &self.ctx);
            }
        }
    }

    /// Memory ran out, perhaps.
    pub(crate) fn oom(&mut self) {
        let Some(container) = &mut self.container else { return };
        match container.oom.as_mut().and_then(crate::cgroups::OomWatch::check) {
            Some(true) => {
                let event = events::TaskOom { container_id: self.me.id.clone() };
                self.publisher.publish(&event, &self.ctx);
            }
            Some(false) => {}
            None => {
                if let Some(watch) = container.oom.take() {
                    let _ = self.ctx.epoll.remove(watch.fd());
                }
            }
        }
    }

    /// Publishes through the supervisor's program where it has no ttrpc address.
    pub(crate) fn publish_by_program(&mut self) {
        while let Some(envelope) = self.publisher.take() {
            let program = &self.me.publish_binary;
            if !program.starts_with('/') {
                continue;
            }
            let memory = rustix::fs::memfd_create("event", rustix::fs::MemfdFlags::CLOEXEC);
            let Ok(memory) = memory else { continue };
            let bytes = envelope.event.unwrap_or_default().encode_to_vec();
            let written = rustix::io::pwrite(&memory, &bytes, 0);
            if written == Ok(bytes.len()) {
                use std::os::fd::AsFd;
                let command = sys::spawn::Command::new(program.as_str()).inherit_env();
                let command = command.args(["--address", &self.me.address, "publish"]);
                let command = command.args(["--topic", &envelope.topic]);
                let command = command.args(["--namespace", &self.me.namespace]);
                // Reaped by the loop as any child; what it could not deliver is lost.
                let _ = command.fd(memory.as_fd(), 0).spawn();
            }
        }
    }

    /// Ends everything in a container whose first process has gone but whose others have not,
    /// because they share someone else's process namespace.
    pub(crate) fn kill_the_rest(&mut self) {
        let words = vec!["--all".into(), (&self.me.id).into(), SIGKILL.to_string().into()];
        let _ = self.spawn("kill", words, None, None, Op::Silent);
    }
}
