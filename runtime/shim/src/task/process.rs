//! What the shim knows of a container and its processes. Data and questions; no effects.

use crate::cgroups::{Cgroups, OomWatch};
use crate::core::Ticket;
use crate::io::{Given, Spec};
use crate::runtime::Runtime;
use shim_api::runc::Options;
use shim_api::task::{DeleteResponse, Status};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::SystemTime;
use sys::process::Exit;

/// Where a process is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The runtime makes it (or will: an exec that was only added).
    Creating,
    /// It waits for its start.
    Created,
    /// The runtime starts it.
    Starting,
    /// It runs.
    Running,
    /// It has ended and that was published.
    Stopped,
    /// The runtime takes it away.
    Deleting,
}

/// A process: the container's own or an exec.
pub(crate) struct Process {
    /// Empty: the container's own.
    pub(crate) exec: String,
    pub(crate) phase: Phase,
    /// 0: none yet.
    pub(crate) pid: i32,
    pub(crate) exit: Option<(Exit, SystemTime)>,
    pub(crate) waiters: Vec<Ticket>,
    pub(crate) stdio: Spec,
    pub(crate) io: u32,
    /// The process's own ends of its opened stdio, until the runtime gets them.
    pub(crate) given: Option<Given>,
    /// Where the runtime hands a terminal over.
    pub(crate) console: Option<(OwnedFd, PathBuf)>,
    /// Number of its files in the bundle.
    pub(crate) number: u32,
}

impl Process {
    /// A process that is to be made.
    pub(crate) fn new(exec: &str, stdio: Spec, number: u32) -> Self {
        Self {
            exec: exec.to_owned(),
            phase: Phase::Creating,
            pid: 0,
            exit: None,
            waiters: Vec::new(),
            stdio,
            io: 0,
            given: None,
            console: None,
            number,
        }
    }

    /// Whether nothing was done yet to make it run.
    pub(crate) fn is_idle(&self) -> bool {
        self.phase == Phase::Creating && (self.io == 0 || self.given.is_some())
    }

    /// The exit that clients may know of.
    pub(crate) fn published_exit(&self) -> Option<(Exit, SystemTime)> {
        self.exit.filter(|_| matches!(self.phase, Phase::Stopped | Phase::Deleting))
    }

    /// The answer to its deletion; one that never ran has no exit.
    pub(crate) fn deleted(&self) -> DeleteResponse {
        let killed = (Exit::Signal(crate::core::SIGKILL), SystemTime::now());
        let never = self.pid == 0 && self.exit.is_none();
        let (exit, at) = self.exit.unwrap_or(killed);
        DeleteResponse {
            pid: self.pid as u32,
            exit_status: if never { 0 } else { exit.code() },
            exited_at: (!never).then(|| shim_api::time::timestamp(at)),
        }
    }

    /// The status on the wire.
    pub(crate) fn status(&self, paused: bool) -> Status {
        match self.phase {
            Phase::Creating | Phase::Created | Phase::Starting => Status::Created,
            Phase::Running if paused => Status::Paused,
            Phase::Running => Status::Running,
            Phase::Stopped | Phase::Deleting => Status::Stopped,
        }
    }
}

/// The container.
pub(crate) struct Container {
    pub(crate) runtime: Runtime,
    pub(crate) options: Options,
    pub(crate) init: Process,
    pub(crate) execs: BTreeMap<String, Process>,
    pub(crate) paused: bool,
    pub(crate) mounted: bool,
    pub(crate) cgroups: Cgroups,
    pub(crate) oom: Option<OomWatch>,
    pub(crate) request: shim_api::task::CreateTaskRequest,
}

impl Container {
    /// A process by its exec's id.
    pub(crate) fn process(&self, exec: &str) -> Option<&Process> {
        if exec.is_empty() { Some(&self.init) } else { self.execs.get(exec) }
    }

    /// As [`Container::process`], to change it.
    pub(crate) fn process_mut(&mut self, exec: &str) -> Option<&mut Process> {
        if exec.is_empty() { Some(&mut self.init) } else { self.execs.get_mut(exec) }
    }

    /// The process of a pid.
    pub(crate) fn by_pid(&self, pid: i32) -> Option<&Process> {
        let mut all = std::iter::once(&self.init).chain(self.execs.values());
        all.find(|p| p.pid == pid && p.exit.is_none())
    }

    /// Whether a process lives.
    pub(crate) fn lives(&self) -> bool {
        let mut all = std::iter::once(&self.init).chain(self.execs.values());
        all.any(|p| p.pid != 0 && p.exit.is_none())
    }
}
