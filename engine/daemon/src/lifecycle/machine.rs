//! The pure state machine of one container: what happens to its state, what is to be
//! done and who is answered, for each message, finished effect, exit and timer. No
//! I/O, no clock, no lock: `lifecycle::container` drives it.

use std::time::Duration;

use super::restart::{Policy, next_delay};
use crate::records::{Phase, State};
use crate::signals::{SIGKILL, SIGTERM};

/// How long a stop waits before it kills: unsaid, without end, or a time.
#[allow(clippy::option_option, reason = "three cases, each Docker's own")]
pub type Grace = Option<Option<Duration>>;

/// What of the container's configuration the machine needs.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// Removed when it ends.
    pub auto_remove: bool,
    /// When it starts again by itself.
    pub policy: Policy,
    /// What `stop` sends.
    pub stop_signal: u32,
    /// How long `stop` waits before it kills; `None`: for ever.
    pub stop_timeout: Option<Duration>,
}

/// When a waiter is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// At once when it does not run, else at the last exit.
    NotRunning,
    /// At the next exit.
    NextExit,
    /// When it is gone.
    Removed,
}

/// Why a message was refused, or failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// Nothing to do: 304.
    NotModified,
    /// It has no running process.
    NotRunning,
    /// A paused container can't be started.
    StartPaused,
    /// It is paused already.
    AlreadyPaused,
    /// It is not paused.
    NotPaused,
    /// It waits for its next start.
    Restarting,
    /// Somebody else is removing it.
    RemovalInProgress,
    /// It is being removed, or its removal failed.
    MarkedForRemoval,
    /// It runs, and removal was not forced.
    RemoveRunning,
    /// It is paused, and removal was not forced.
    RemovePaused,
    /// It waits for its next start, and removal was not forced.
    RemoveRestarting,
    /// It is gone.
    Gone,
    /// Another transition is under way.
    Busy(&'static str),
    /// An effect failed: status and text.
    Failed(u16, String),
}

/// The answer to a message: an exit code for waiters, nothing for the rest.
pub type Answer = Result<i64, Refusal>;

/// What is asked of a container, with the token to answer by.
#[derive(Debug)]
pub enum Message<R> {
    /// Start it.
    Start(R),
    /// Stop it: signal and time to wait, where they differ from the container's own.
    Stop(Option<u32>, Grace, R),
    /// Stop and start it.
    Restart(Option<u32>, Grace, R),
    /// Send a signal.
    Kill(u32, R),
    /// Freeze it.
    Pause(R),
    /// Thaw it.
    Unpause(R),
    /// Remove it: forced; with its anonymous volumes.
    Remove(bool, bool, R),
    /// Answer when the condition holds.
    Wait(Condition, R),
    /// Start it at the daemon's start, as its policy wants.
    Revive(R),
    /// Stop it at the daemon's end; its policy still counts at the next start.
    Shutdown(Option<Duration>, R),
}

/// Everything that can happen.
#[derive(Debug)]
pub enum Input<R> {
    /// Somebody asks.
    Message(Message<R>),
    /// The task exists, its process not yet.
    Created {
        /// Which start.
        generation: u64,
        /// Its first process.
        pid: u32,
        /// Its sink is a process of its own.
        detached_sink: bool,
    },
    /// The process runs.
    Started {
        /// Which start.
        generation: u64,
        /// When.
        at: i64,
    },
    /// A start failed and was undone.
    StartFailed {
        /// Which start.
        generation: u64,
        /// The status of the reply.
        status: u16,
        /// The exit code that `run` shows.
        code: i64,
        /// Why.
        error: String,
    },
    /// A process ended.
    Exited {
        /// Which one.
        pid: u32,
        /// Its code, 128 + signal for a killed one.
        code: i64,
        /// When.
        at: i64,
        /// The kernel lacked memory.
        oom: bool,
    },
    /// A pause or an unpause is done.
    Frozen(bool, Result<(), String>, R),
    /// The remains of a run are gone.
    TornDown(u64),
    /// The time that `stop` waits is over.
    StopExpired(u64),
    /// The delay before a restart is over.
    RestartDue(u64),
}

/// What is to be done, in order.
#[derive(Debug)]
pub enum Output<R> {
    /// Write the state down and publish it.
    Record,
    /// Publish an event of the container.
    Event(Event),
    /// Answer.
    Reply(R, Answer),
    /// Begin a start.
    Start(u64),
    /// Give a start up at its next step.
    CancelStart,
    /// Send a signal, then answer, if somebody waits for that.
    Signal(u32, Option<R>),
    /// Freeze or thaw; the result comes back with the token.
    Freeze(bool, R),
    /// Thaw, since a frozen process can't die.
    Thaw,
    /// Delete the task and what belongs to the run.
    TearDown(u64),
    /// The container is gone: drop its records and name, leave a tombstone; with volumes or not.
    Forget(bool),
    /// Call back with `StopExpired`.
    StopTimer(u64, Duration),
    /// Call back with `RestartDue`.
    RestartTimer(u64, Duration),
}

/// What happened, for the bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A signal was sent.
    Kill(u32),
    /// Its process runs.
    Start,
    /// Its networks were left.
    Disconnect,
    /// `stop` has done its work.
    Stop,
    /// Its process ended: code, and seconds that it ran.
    Die(i64, i64),
    /// `restart` has done its work.
    Restart,
    /// Frozen.
    Pause,
    /// Thawed.
    Unpause,
    /// The kernel lacked memory.
    Oom,
    /// It is gone.
    Destroy,
}

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
    /// The daemon ends: the stop is not a user's.
    shutting_down: bool,
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
            shutting_down: false,
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
            | Message::Shutdown(_, r)
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
            Message::Shutdown(timeout, r) => {
                let was_stopped = self.state.stopped_by_user;
                self.stop(None, Some(timeout), r, false, out);
                self.shutting_down = !was_stopped;
            }
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
        if self.state.phase == Phase::Restarting && matches!(self.busy, Busy::Idle) {
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
        if (self.removing.is_some() || self.state.stopped_by_user) && early_exit.is_none() {
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
        let again =
            self.rules.policy.after_exit(code, self.state.restart_count, by_user) && !then_start;
        self.state.phase = if again { Phase::Restarting } else { Phase::Exited };
        if std::mem::take(&mut self.shutting_down) {
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

    fn stop(
        &mut self,
        signal: Option<u32>,
        timeout: Grace,
        reply: R,
        then_start: bool,
        out: &mut Outputs<R>,
    ) {
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

    fn kill(&mut self, signal: u32, reply: R, out: &mut Outputs<R>) {
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

    fn signal(&mut self, signal: u32, reply: Option<R>, out: &mut Outputs<R>) {
        out.push(Output::Event(Event::Kill(signal)));
        out.push(Output::Signal(signal, reply));
        if self.state.phase == Phase::Paused {
            self.state.phase = Phase::Running;
            out.push(Output::Record);
            out.push(Output::Thaw);
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

    fn remove(&mut self, force: bool, volumes: bool, reply: R, out: &mut Outputs<R>) {
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
    fn cancel_start(&mut self, out: &mut Outputs<R>) -> bool {
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

    fn forget(&mut self, out: &mut Outputs<R>) {
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

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
