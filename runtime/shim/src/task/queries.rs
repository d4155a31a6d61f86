//! Calls that only look: state, pids, stats, connect, wait.

use super::{Answer, Phase, Shim, encoded, precondition, unknown};
use crate::core::Ticket;
use shim_api::runc::{PROCESS_DETAILS, ProcessDetails};
use shim_api::task::{
    ConnectResponse, PidsResponse, ProcessInfo, StateRequest, StateResponse, StatsResponse,
    WaitRequest, WaitResponse,
};

impl Shim {
    pub(super) fn state(&self, request: &StateRequest) -> Answer {
        let container = self.container()?;
        let process = self.process(&request.exec_id)?;
        let exit = process.published_exit();
        encoded(&StateResponse {
            id: if request.exec_id.is_empty() {
                self.me.id.clone()
            } else {
                request.exec_id.clone()
            },
            bundle: self.me.bundle.display().to_string(),
            pid: process.pid as u32,
            status: process.status(container.paused) as i32,
            stdin: process.stdio.stdin.clone(),
            stdout: process.stdio.stdout.clone(),
            stderr: process.stdio.stderr.clone(),
            terminal: process.stdio.tty,
            exit_status: exit.map_or(0, |(exit, _)| exit.code()),
            exited_at: exit.map(|(_, at)| shim_api::time::timestamp(at)),
            exec_id: request.exec_id.clone(),
        })
    }

    /// All processes; the container's own is among them until it is deleted, or a supervisor that
    /// restarts would take an ended container for one that never was.
    pub(super) fn pids(&self) -> Answer {
        let container = self.container()?;
        let own = container.init.pid as u32;
        let mut pids = if container.init.phase == Phase::Deleting {
            Vec::new()
        } else {
            container.cgroups.pids()
        };
        if own != 0 && !pids.contains(&own) {
            pids.insert(0, own);
        }
        let info = |pid: u32| {
            let exec = container.execs.values().find(|p| p.pid as u32 == pid)?;
            let details = ProcessDetails { exec_id: exec.exec.clone() };
            Some(shim_api::pack(PROCESS_DETAILS, &details))
        };
        let processes = pids.into_iter().map(|pid| ProcessInfo { pid, info: info(pid) }).collect();
        encoded(&PidsResponse { processes })
    }

    pub(super) fn stats(&self) -> Answer {
        let container = self.container()?;
        if container.init.exit.is_some() || container.init.pid == 0 {
            return Err(unknown("cgroup does not exist: the process has ended"));
        }
        encoded(&StatsResponse { stats: Some(container.cgroups.stats()) })
    }

    pub(super) fn connect(&self) -> Answer {
        let task_pid = self.container.as_ref().map_or(0, |c| c.init.pid as u32);
        let version = env!("CARGO_PKG_VERSION").to_owned();
        encoded(&ConnectResponse { shim_pid: std::process::id(), task_pid, version })
    }

    pub(super) fn wait(&mut self, request: &WaitRequest, ticket: Ticket) -> Answer {
        let process = self.process(&request.exec_id)?;
        if let Some((exit, at)) = process.published_exit() {
            let exited_at = Some(shim_api::time::timestamp(at));
            return encoded(&WaitResponse { exit_status: exit.code(), exited_at });
        }
        if process.phase == Phase::Stopped {
            return Err(precondition("the process was never started"));
        }
        if let Some(p) = self.container.as_mut().and_then(|c| c.process_mut(&request.exec_id)) {
            p.waiters.push(ticket);
        }
        Ok(None)
    }
}
