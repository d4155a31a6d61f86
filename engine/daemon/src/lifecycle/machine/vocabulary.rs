//! What the machine of a container is told and asked, and what it answers.

use std::time::Duration;

use crate::lifecycle::restart::Policy;

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
    /// Stop it at the daemon's end and start it no more; its policy counts at the next start.
    Shutdown(R),
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
