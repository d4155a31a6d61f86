//! A process's end: output drained, exit recorded, published once its start was answered; and the
//! list of sinks that `delete` reads when the shim itself is gone.

use super::{Phase, Shim};
use serde::Deserialize;
use shim_api::events;
use shim_api::sink::ExitRecord;
use shim_api::task::WaitResponse;
use std::path::Path;
use std::time::SystemTime;
use sys::process::Exit;

use prost::Message;

impl Shim {
    /// The kernel says that a process has ended.
    pub(crate) fn process_ended(&mut self, pid: i32, exit: Exit, at: SystemTime) {
        let exec = self.container.as_ref().and_then(|c| c.by_pid(pid)).map(|p| p.exec.clone());
        let Some(exec) = exec else { return };
        let process = self.container.as_mut().and_then(|c| c.process_mut(&exec));
        if let Some(process) = process {
            process.exit = Some((exit, at));
        }
        self.publish_exit(&exec);
    }

    /// Records and publishes an end, unless its start is still being answered.
    pub(super) fn publish_exit(&mut self, exec: &str) {
        let Some(container) = &mut self.container else { return };
        let kills = container.cgroups.clone();
        let Some(process) = container.process_mut(exec) else { return };
        let Some((exit, at)) = process.exit else { return };
        if !matches!(process.phase, Phase::Created | Phase::Running) {
            return;
        }
        process.phase = Phase::Stopped;
        let (io, pid) = (process.io, process.pid as u32);
        let waiters = std::mem::take(&mut process.waiters);
        if let Some(io) = self.ios.get_mut(&io) {
            io.process_ended(&self.ctx);
            if let Some(sink) = io.sink() {
                let record = ExitRecord {
                    id: sink.id.clone(),
                    exec: sink.exec.clone(),
                    pid,
                    exit_code: exit.code(),
                    exited_at: at,
                    oom_killed: exit == Exit::Signal(crate::core::SIGKILL) && kills.oom_kills() > 0,
                };
                // A folder that is gone has no reader; the event tells all the same.
                let _ = write_record(&sink.exit, &record);
            }
        }
        let exited_at = Some(shim_api::time::timestamp(at));
        let event = events::TaskExit {
            container_id: self.me.id.clone(),
            id: if exec.is_empty() { self.me.id.clone() } else { exec.to_owned() },
            pid,
            exit_status: exit.code(),
            exited_at,
        };
        self.publisher.publish(&event, &self.ctx);
        let answer = WaitResponse { exit_status: exit.code(), exited_at }.encode_to_vec();
        for ticket in waiters {
            self.reply(ticket, Ok(answer.clone()));
        }
        if exec.is_empty() && shares_pids(&self.me.bundle) {
            self.kill_the_rest();
        }
        self.publish_by_program();
        self.leave_if_terminated();
    }

    /// Writes down which sinks live, for `delete` after a shim that was killed.
    pub(super) fn keep_sinks(&self) {
        let mut text = String::new();
        if let Some(container) = &self.container {
            for process in std::iter::once(&container.init).chain(container.execs.values()) {
                let Some(sink) = self.ios.get(&process.io).and_then(crate::io::Io::sink) else {
                    continue;
                };
                let file = match process.number {
                    0 => "init.pid".to_owned(),
                    n => format!("exec-{n}.pid"),
                };
                text.extend([&file, " ", &sink.to_string(), "\n"]);
            }
        }
        let path = self.me.bundle.join("sinks");
        if text.is_empty() {
            let _ = std::fs::remove_file(path);
        } else {
            let _ = std::fs::write(path, text);
        }
    }
}

/// Writes an exit record: a whole one or none.
pub(crate) fn write_record(path: &Path, record: &ExitRecord) -> std::io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    std::fs::write(&temporary, record.to_json())?;
    std::fs::rename(&temporary, path)
}

#[derive(Deserialize)]
struct Config {
    linux: Option<Linux>,
}

#[derive(Deserialize)]
struct Linux {
    #[serde(default)]
    namespaces: Vec<Namespace>,
}

#[derive(Deserialize)]
struct Namespace {
    r#type: String,
    #[serde(default)]
    path: String,
}

/// Whether a container lives in someone else's process namespace.
fn shares_pids(bundle: &Path) -> bool {
    let Ok(text) = std::fs::read(bundle.join("config.json")) else { return false };
    let Ok(Config { linux: Some(linux) }) = serde_json::from_slice(&text) else { return false };
    !linux.namespaces.iter().any(|n| n.r#type == "pid" && n.path.is_empty())
}
