//! The pure state machine of one container: what happens to its state, what is to be
//! done and who is answered, for each message, finished effect, exit and timer. No
//! I/O, no clock, no lock: `lifecycle::container` drives it.

mod ending;
mod vocabulary;

use std::time::Duration;

pub use self::vocabulary::{
    Answer, Condition, Event, Grace, Input, Message, Output, Refusal, Rules,
};
use super::restart::next_delay;
use crate::records::{Phase, State};
use crate::signals::SIGKILL;

/// What is answered to who wants a start while the daemon ends.
const CLOSING: &str = "the daemon is shutting down";

#[derive(Debug)]
enum Busy<R> {
    Idle,
    Starting { replies: Vec<R>, early_exit: Option<(i64, i64, bool)>, restarted: bool },
    Stopping { replies: Vec<R>, then_start: bool, forced: bool },
    Freezing,
}

/// The machine. `R` is what answers are addressed by.
#[derive(Debug)]
pub struct Machine<R> {
    /// The state as it is to be written and shown.
    pub state: State,
    /// What was configured.
    pub rules: Rules,
    busy: Busy<R>,
    /// A removal under way: with volumes; who waits for it.
    removing: Option<(bool, Vec<R>)>,
    waiters: Vec<(Condition, R)>,
    /// The last run's remains are still being taken down.
    settling: bool,
    /// A start that waits for that.
    start_held: bool,
    delay: Option<Duration>,
    /// Makes old timers meaningless.
    timer: u64,
    /// The daemon ends: nothing is started any more.
    closing: bool,
    /// The stop under way is the daemon's, not a user's.
    not_asked: bool,
    gone: bool,
}

type Outputs<R> = Vec<Output<R>>;

impl<R> Machine<R> {
    /// A container at rest, or running as `state` says.
    pub fn new(state: State, rules: Rules) -> Self {
        Self {
            state,
            rules,
            busy: Busy::Idle,
            removing: None,
            waiters: Vec::new(),
            settling: false,
            start_held: false,
            delay: None,
            timer: 0,
            closing: false,
            not_asked: false,
            gone: false,
        }
    }

    /// Whether a removal is under way.
    pub fn is_removing(&self) -> bool {
        self.removing.is_some()
    }

    /// Whether it is gone.
    pub fn is_gone(&self) -> bool {
        self.gone
    }

    /// One step: what follows from `input` at `now` (nanoseconds since the epoch).
    pub fn on(&mut self, input: Input<R>, now: i64) -> Outputs<R> {
        let mut out = Vec::new();
        match input {
            Input::Message(message) => self.message(message, &mut out),
            Input::Created { generation, pid, detached_sink }
                if generation == self.state.generation =>
            {
                self.state.pid = pid;
                self.state.detached_sink = detached_sink;
                out.push(Output::Record);
            }
            Input::Started { generation, at } if generation == self.state.generation => {
                self.started(at, &mut out);
            }
            Input::StartFailed { generation, status, code, error }
                if generation == self.state.generation =>
            {
                self.start_failed(status, code, error, now, &mut out);
            }
            Input::Exited { pid, code, at, oom } if pid == self.state.pid && pid != 0 => {
                match &mut self.busy {
                    // Dead before the start was answered: told after it.
                    Busy::Starting { early_exit, .. } => *early_exit = Some((code, at, oom)),
                    _ => self.exited(code, at, oom, &mut out),
                }
            }
            Input::Frozen(frozen, result, reply) => self.frozen(frozen, result, reply, &mut out),
            Input::TornDown(generation)
                if generation == self.state.generation || self.start_held =>
            {
                self.settling = false;
                if std::mem::take(&mut self.start_held) {
                    out.push(Output::Start(self.state.generation));
                }
            }
            Input::StopExpired(timer)
                if timer == self.timer
                    && matches!(self.busy, Busy::Stopping { .. })
                    && self.state.phase.has_task() =>
            {
                self.signal(SIGKILL, None, &mut out);
            }
            Input::RestartDue(timer)
                if timer == self.timer
                    && !self.closing
                    && matches!(self.busy, Busy::Idle)
                    && self.state.phase == Phase::Restarting =>
            {
                self.begin_start(Vec::new(), false, &mut out);
            }
            _ => {}
        }
        out
    }

    fn message(&mut self, message: Message<R>, out: &mut Outputs<R>) {
        if self.gone {
            let (Message::Start(r)
            | Message::Stop(_, _, r)
            | Message::Restart(_, _, r)
            | Message::Kill(_, r)
            | Message::Pause(r)
            | Message::Unpause(r)
            | Message::Remove(_, _, r)
            | Message::Revive(r)
            | Message::Shutdown(r)
            | Message::Wait(_, r)) = message;
            return out.push(Output::Reply(r, Err(Refusal::Gone)));
        }
        match message {
            Message::Start(r) => self.start(r, out),
            Message::Stop(signal, timeout, r) => self.stop(signal, timeout, r, false, out),
            Message::Restart(signal, timeout, r) => self.stop(signal, timeout, r, true, out),
            Message::Kill(signal, r) => self.kill(signal, r, out),
            Message::Pause(r) => self.pause(r, out),
            Message::Unpause(r) => match self.state.phase {
                Phase::Paused => out.push(Output::Freeze(false, r)),
                _ => out.push(Output::Reply(r, Err(Refusal::NotPaused))),
            },
            Message::Remove(force, volumes, r) => self.remove(force, volumes, r, out),
            Message::Revive(r) => self.revive(r, out),
            Message::Shutdown(r) => self.shut_down(r, out),
            Message::Wait(Condition::NotRunning, r) if !self.is_active() => {
                out.push(Output::Reply(r, Ok(self.state.exit_code)));
            }
            Message::Wait(condition, r) => self.waiters.push((condition, r)),
        }
    }

    /// Runs, waits for its next start, or is being started.
    fn is_active(&self) -> bool {
        self.state.phase.is_running() || matches!(self.busy, Busy::Starting { .. })
    }

    fn start(&mut self, reply: R, out: &mut Outputs<R>) {
        let refusal = match (&mut self.busy, self.state.phase) {
            _ if self.removing.is_some() => Refusal::MarkedForRemoval,
            _ if self.closing => Refusal::Failed(503, CLOSING.into()),
            (Busy::Starting { replies, .. }, _) => return replies.push(reply),
            (_, Phase::Paused) => Refusal::StartPaused,
            (_, Phase::Running | Phase::Restarting) => Refusal::NotModified,
            (_, Phase::Dead) => Refusal::MarkedForRemoval,
            (_, Phase::Created | Phase::Exited) => {
                self.state.restart_count = 0;
                self.delay = None;
                return self.begin_start(vec![reply], false, out);
            }
        };
        out.push(Output::Reply(reply, Err(refusal)));
    }

    fn revive(&mut self, reply: R, out: &mut Outputs<R>) {
        if self.state.phase == Phase::Restarting && matches!(self.busy, Busy::Idle) && !self.closing
        {
            return self.begin_start(vec![reply], false, out);
        }
        self.start(reply, out);
    }

    fn begin_start(&mut self, replies: Vec<R>, restarted: bool, out: &mut Outputs<R>) {
        self.state.generation += 1;
        self.state.stopped_by_user = false;
        self.state.error.clear();
        self.state.oom_killed = false;
        self.timer += 1;
        self.busy = Busy::Starting { replies, early_exit: None, restarted };
        out.push(Output::Record);
        if self.settling {
            self.start_held = true;
        } else {
            out.push(Output::Start(self.state.generation));
        }
    }

    fn started(&mut self, at: i64, out: &mut Outputs<R>) {
        let Busy::Starting { replies, early_exit, restarted, .. } =
            std::mem::replace(&mut self.busy, Busy::Idle)
        else {
            return;
        };
        self.state.phase = Phase::Running;
        self.state.started_at = at;
        self.state.exit_code = 0;
        out.push(Output::Record);
        out.push(Output::Event(Event::Start));
        if restarted {
            out.push(Output::Event(Event::Restart));
        }
        out.extend(replies.into_iter().map(|r| Output::Reply(r, Ok(0))));
        let unwanted = self.removing.is_some() || self.state.stopped_by_user || self.closing;
        if unwanted && early_exit.is_none() {
            self.signal(SIGKILL, None, out);
        }
        if let Some((code, at, oom)) = early_exit {
            self.exited(code, at, oom, out);
        }
    }

    fn start_failed(
        &mut self,
        status: u16,
        code: i64,
        error: String,
        now: i64,
        out: &mut Outputs<R>,
    ) {
        let Busy::Starting { replies, .. } = std::mem::replace(&mut self.busy, Busy::Idle) else {
            return;
        };
        let was_restart = self.state.phase == Phase::Restarting;
        self.state.pid = 0;
        self.state.exit_code = code;
        self.state.error.clone_from(&error);
        if self.state.phase != Phase::Created {
            self.state.phase = Phase::Exited;
            if was_restart {
                self.state.finished_at = now;
            }
        }
        let refusal = Refusal::Failed(status, error);
        out.push(Output::Record);
        out.push(Output::Event(Event::Disconnect));
        if self.removing.is_some() || self.rules.auto_remove {
            self.forget(out);
        } else {
            self.answer_waiters(code, false, out);
        }
        out.extend(replies.into_iter().map(|r| Output::Reply(r, Err(refusal.clone()))));
    }

    fn exited(&mut self, code: i64, at: i64, oom: bool, out: &mut Outputs<R>) {
        let busy = std::mem::replace(&mut self.busy, Busy::Idle);
        let ran = at.saturating_sub(self.state.started_at).max(0);
        self.timer += 1;
        self.state.pid = 0;
        self.state.exit_code = code;
        self.state.finished_at = at;
        self.state.oom_killed |= oom;
        self.settling = true;
        let (replies, then_start, stopped) = match busy {
            Busy::Stopping { replies, then_start, forced } => (replies, then_start, !forced),
            _ => (Vec::new(), false, false),
        };
        let by_user = self.state.stopped_by_user || self.removing.is_some();
        let then_start = then_start && !self.closing;
        let again = self.rules.policy.after_exit(code, self.state.restart_count, by_user)
            && !then_start
            && !self.closing;
        self.state.phase = if again { Phase::Restarting } else { Phase::Exited };
        if std::mem::take(&mut self.not_asked) {
            self.state.stopped_by_user = false;
        }
        if again {
            self.state.restart_count += 1;
        }
        out.push(Output::Record);
        out.push(Output::Event(Event::Disconnect));
        if stopped {
            out.push(Output::Event(Event::Stop));
        }
        out.push(Output::Event(Event::Die(code, ran / 1_000_000_000)));
        out.push(Output::TearDown(self.state.generation));
        if then_start && self.removing.is_none() {
            self.answer_waiters(code, true, out);
            return self.begin_start(replies, true, out);
        }
        if again {
            let ran = Duration::from_nanos(ran.unsigned_abs());
            let delay = next_delay(self.delay, ran);
            self.delay = Some(delay);
            out.push(Output::RestartTimer(self.timer, delay));
        }
        self.answer_waiters(code, again, out);
        if self.removing.is_some() || (self.rules.auto_remove && !again) {
            self.forget(out);
        }
        out.extend(replies.into_iter().map(|r| Output::Reply(r, Ok(0))));
    }

    /// Answers those whose condition an exit meets; with `again` it will run once more.
    fn answer_waiters(&mut self, code: i64, again: bool, out: &mut Outputs<R>) {
        let due = |c: Condition| c == Condition::NextExit || (c == Condition::NotRunning && !again);
        for (condition, reply) in std::mem::take(&mut self.waiters) {
            if due(condition) {
                out.push(Output::Reply(reply, Ok(code)));
            } else {
                self.waiters.push((condition, reply));
            }
        }
    }

    fn pause(&mut self, reply: R, out: &mut Outputs<R>) {
        let refusal = match (&self.busy, self.state.phase) {
            (Busy::Idle, Phase::Running) => {
                self.busy = Busy::Freezing;
                return out.push(Output::Freeze(true, reply));
            }
            (_, Phase::Paused) => Refusal::AlreadyPaused,
            (_, Phase::Restarting) => Refusal::Restarting,
            (_, Phase::Running) => Refusal::Busy("is changing its state"),
            _ => Refusal::NotRunning,
        };
        out.push(Output::Reply(reply, Err(refusal)));
    }

    fn frozen(&mut self, frozen: bool, result: Result<(), String>, reply: R, out: &mut Outputs<R>) {
        if matches!(self.busy, Busy::Freezing) {
            self.busy = Busy::Idle;
        }
        match result {
            Ok(()) if self.state.phase.has_task() => {
                self.state.phase = if frozen { Phase::Paused } else { Phase::Running };
                out.push(Output::Record);
                out.push(Output::Event(if frozen { Event::Pause } else { Event::Unpause }));
                out.push(Output::Reply(reply, Ok(0)));
            }
            Ok(()) => out.push(Output::Reply(reply, Err(Refusal::NotRunning))),
            Err(error) => out.push(Output::Reply(reply, Err(Refusal::Failed(500, error)))),
        }
    }
}

#[cfg(test)]
mod tests;
