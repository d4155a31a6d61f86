//! How a container is brought to an end: stopped, killed, removed.

use super::{Busy, CLOSING, Condition, Event, Grace, Machine, Output, Outputs, Refusal};
use crate::records::Phase;
use crate::signals::{SIGKILL, SIGTERM};

impl<R> Machine<R> {
    /// The daemon's end: what runs is stopped, what is being started is given up, and what waits
    /// for its next start goes on waiting for the next daemon.
    pub(super) fn shut_down(&mut self, reply: R, out: &mut Outputs<R>) {
        self.closing = true;
        if matches!(self.busy, Busy::Starting { .. }) {
            self.waiters.push((Condition::NotRunning, reply));
            self.cancel_start(out);
        } else if self.state.phase == Phase::Restarting {
            out.push(Output::Reply(reply, Ok(0)));
        } else {
            let was_stopped = self.state.stopped_by_user;
            self.stop(None, None, reply, false, out);
            self.not_asked = !was_stopped && self.state.phase.has_task();
        }
    }

    pub(super) fn stop(
        &mut self,
        signal: Option<u32>,
        timeout: Grace,
        reply: R,
        then_start: bool,
        out: &mut Outputs<R>,
    ) {
        if then_start && self.closing {
            return out.push(Output::Reply(reply, Err(Refusal::Failed(503, CLOSING.into()))));
        }
        if self.removing.is_some() {
            let refusal = if then_start { Refusal::MarkedForRemoval } else { Refusal::NotModified };
            return out.push(Output::Reply(reply, Err(refusal)));
        }
        let limit = timeout.unwrap_or(self.rules.stop_timeout);
        match (&mut self.busy, self.state.phase) {
            (Busy::Starting { .. }, _) => {
                out.push(Output::Reply(reply, Err(Refusal::Busy("is starting"))));
            }
            // A second stop joins the first: it may only end earlier.
            (Busy::Stopping { replies, then_start: also, .. }, _) => {
                *also |= then_start;
                replies.push(reply);
                if let Some(limit) = limit {
                    out.push(Output::StopTimer(self.timer, limit));
                }
            }
            (_, Phase::Restarting) => {
                self.settle_restarting(out);
                if then_start {
                    self.begin_start(vec![reply], true, out);
                } else {
                    out.push(Output::Event(Event::Stop));
                    out.push(Output::Reply(reply, Ok(0)));
                }
            }
            (_, phase) if phase.has_task() => {
                self.state.stopped_by_user = !then_start;
                self.timer += 1;
                self.busy = Busy::Stopping { replies: vec![reply], then_start, forced: false };
                out.push(Output::Record);
                let first = signal.unwrap_or(if self.rules.stop_signal == 0 {
                    SIGTERM
                } else {
                    self.rules.stop_signal
                });
                self.signal(first, None, out);
                if let Some(limit) = limit {
                    out.push(Output::StopTimer(self.timer, limit));
                }
            }
            _ if then_start && self.state.phase != Phase::Dead => {
                self.begin_start(vec![reply], true, out);
            }
            _ => out.push(Output::Reply(reply, Err(Refusal::NotModified))),
        }
    }

    /// Ends the wait for the next start: it counts as exited.
    fn settle_restarting(&mut self, out: &mut Outputs<R>) {
        self.timer += 1;
        self.state.phase = Phase::Exited;
        self.state.stopped_by_user = true;
        out.push(Output::Record);
        let code = self.state.exit_code;
        self.answer_waiters(code, false, out);
    }

    pub(super) fn kill(&mut self, signal: u32, reply: R, out: &mut Outputs<R>) {
        match self.state.phase {
            Phase::Restarting => {
                self.settle_restarting(out);
                self.cancel_start(out);
                out.push(Output::Reply(reply, Ok(0)));
            }
            phase if phase.has_task() => {
                let stop_signal =
                    if self.rules.stop_signal == 0 { SIGTERM } else { self.rules.stop_signal };
                if signal == SIGKILL || signal == stop_signal {
                    self.state.stopped_by_user = true;
                    out.push(Output::Record);
                }
                self.signal(signal, Some(reply), out);
            }
            _ => out.push(Output::Reply(reply, Err(Refusal::NotRunning))),
        }
    }

    pub(super) fn signal(&mut self, signal: u32, reply: Option<R>, out: &mut Outputs<R>) {
        out.push(Output::Event(Event::Kill(signal)));
        out.push(Output::Signal(signal, reply));
        if self.state.phase == Phase::Paused {
            self.state.phase = Phase::Running;
            out.push(Output::Record);
            out.push(Output::Thaw);
        }
    }

    pub(super) fn remove(&mut self, force: bool, volumes: bool, reply: R, out: &mut Outputs<R>) {
        if self.removing.is_some() {
            return out.push(Output::Reply(reply, Err(Refusal::RemovalInProgress)));
        }
        let refusal = match self.state.phase {
            _ if force => None,
            Phase::Running => Some(Refusal::RemoveRunning),
            Phase::Paused => Some(Refusal::RemovePaused),
            Phase::Restarting => Some(Refusal::RemoveRestarting),
            _ if matches!(self.busy, Busy::Starting { .. }) => Some(Refusal::RemoveRunning),
            _ => None,
        };
        if let Some(refusal) = refusal {
            return out.push(Output::Reply(reply, Err(refusal)));
        }
        self.removing = Some((volumes, vec![reply]));
        if self.cancel_start(out) {
            return;
        }
        if self.state.phase.has_task() {
            self.state.stopped_by_user = true;
            if let Busy::Stopping { forced, .. } = &mut self.busy {
                *forced = true;
            }
            out.push(Output::Record);
            return self.signal(SIGKILL, None, out);
        }
        if self.state.phase == Phase::Restarting {
            self.settle_restarting(out);
        }
        self.forget(out);
    }

    /// Gives a start up, at its next step or at once when it did not begin; false without one.
    pub(super) fn cancel_start(&mut self, out: &mut Outputs<R>) -> bool {
        if !matches!(self.busy, Busy::Starting { .. }) {
            return false;
        }
        if std::mem::take(&mut self.start_held) {
            self.start_failed(409, 137, "the start was cancelled".into(), 0, out);
        } else {
            out.push(Output::CancelStart);
        }
        true
    }

    pub(super) fn forget(&mut self, out: &mut Outputs<R>) {
        let (volumes, replies) = self.removing.take().unwrap_or((true, Vec::new()));
        self.gone = true;
        self.timer += 1;
        out.push(Output::Forget(volumes));
        out.push(Output::Event(Event::Destroy));
        let code = self.state.exit_code;
        out.extend(
            std::mem::take(&mut self.waiters).into_iter().map(|(_, r)| Output::Reply(r, Ok(code))),
        );
        out.extend(replies.into_iter().map(|r| Output::Reply(r, Ok(0))));
    }
}
