//! Taking processes away: an exec at once, the container in three steps, since the runtime is asked
//! first and the root's unmount may take its time.

use super::{Answer, Op, Phase, encoded, not_found, precondition, unknown};
use crate::core::{Shim, Ticket};
use prost::Message;
use shim_api::events;
use shim_api::task::DeleteRequest;

impl Shim {
    pub(super) fn delete(&mut self, request: &DeleteRequest, ticket: Ticket) -> Answer {
        let phase = self.process(&request.exec_id)?.phase;
        let running = || precondition("cannot delete a running process");
        if !request.exec_id.is_empty() {
            let idle = self.process(&request.exec_id)?.is_idle();
            if phase != Phase::Stopped && !idle {
                return Err(running());
            }
            let gone = self.container.as_mut().and_then(|c| c.execs.remove(&request.exec_id));
            let gone = gone.ok_or_else(|| not_found("process does not exist"))?;
            self.close_io(gone.io);
            self.keep_sinks();
            for kind in ["json", "pid"] {
                let file = self.me.bundle.join(format!("exec-{}.{kind}", gone.number));
                let _ = std::fs::remove_file(file);
            }
            return encoded(&gone.deleted());
        }
        let force = match phase {
            Phase::Stopped => false,
            Phase::Created => true,
            _ => return Err(running()),
        };
        let words = if force { vec!["--force".into()] } else { Vec::new() };
        self.run("delete", words, None, Op::Delete(ticket))?;
        if let Some(container) = &mut self.container {
            container.init.phase = if force { phase } else { Phase::Deleting };
        }
        Ok(None)
    }

    /// The runtime has taken the container away: its root is unmounted beside the loop, since dirty
    /// pages may take their time.
    pub(super) fn taken_away(&mut self, failure: Option<String>, ticket: Ticket) {
        let Some(container) = &mut self.container else { return };
        if let Some(text) = failure.filter(|text| !text.contains("does not exist")) {
            container.init.phase = Phase::Stopped;
            let status = unknown(format!("OCI runtime delete failed: {text}"));
            return self.reply(ticket, Err(status));
        }
        self.deleting = Some(ticket);
        if !container.mounted {
            return self.unmounted(Ok(()));
        }
        let (waker, done) = (std::sync::Arc::clone(&self.worker), self.done.0.clone());
        let root = self.me.bundle.join("rootfs");
        let work = move || {
            let _ = done.send(crate::mounts::unmount_all(&root));
            waker.wake();
        };
        let builder = std::thread::Builder::new().name("unmount".into()).stack_size(64 * 1024);
        if builder.spawn(work).is_err() {
            let result = crate::mounts::unmount_all(&self.me.bundle.join("rootfs"));
            self.unmounted(result);
        }
    }

    /// Last part of `delete`.
    pub(crate) fn unmounted(&mut self, result: std::io::Result<()>) {
        let Some(ticket) = self.deleting.take() else { return };
        if let Err(e) = result {
            if let Some(container) = &mut self.container {
                container.init.phase = Phase::Stopped;
            }
            let text = format!("unmount {}: {e}", self.me.bundle.join("rootfs").display());
            return self.reply(ticket, Err(unknown(text)));
        }
        let Some(container) = self.container.take() else { return };
        for process in std::iter::once(&container.init).chain(container.execs.values()) {
            self.close_io(process.io);
        }
        if let Some(watch) = &container.oom {
            let _ = self.ctx.epoll.remove(watch.fd());
        }
        self.keep_sinks();
        let answer = container.init.deleted();
        let event = events::TaskDelete {
            container_id: self.me.id.clone(),
            pid: answer.pid,
            exit_status: answer.exit_status,
            exited_at: answer.exited_at,
            id: String::new(),
        };
        self.publisher.publish(&event, &self.ctx);
        self.reply(ticket, Ok(answer.encode_to_vec()));
        self.publish_by_program();
    }
}
