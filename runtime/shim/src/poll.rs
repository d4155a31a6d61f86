//! The poll loop's vocabulary: tokens that say which descriptor an event belongs to, and
//! deadlines. No descriptors of its own.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Part of a process's stdio that a descriptor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Where output comes from: 0 standard output, 1 standard error.
    Source(u8),
    /// Where plain output goes to.
    Dest(u8),
    /// Where input comes from (a FIFO).
    Feed,
    /// Where input goes to.
    Input,
    /// The sink's listening socket.
    Listener,
    /// The log thread has room again, or is idle.
    Log,
    /// An attacher of the sink.
    Attacher(u32),
}

/// Which descriptor an event belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Token {
    /// The task service's listening socket.
    Listener,
    /// The signalfd.
    Signals,
    /// A connection of the task service.
    Conn(u32),
    /// The connection to the supervisor's event service.
    Publisher,
    /// A worker thread is done.
    Worker,
    /// The kernel's out-of-memory notice.
    Oom,
    /// The readiness pipe of a `binary://` logger.
    Logger(u32),
    /// A part of a process's stdio.
    Io(u32, Part),
}

impl Token {
    /// The token as epoll keeps it: kind, part, 24 bits of stdio id, 24 bits of attacher.
    pub(crate) fn encode(self) -> u64 {
        let plain = |kind: u64, id: u32| kind << 56 | u64::from(id);
        match self {
            Self::Listener => plain(0, 0),
            Self::Signals => plain(1, 0),
            Self::Conn(id) => plain(2, id),
            Self::Publisher => plain(3, 0),
            Self::Worker => plain(4, 0),
            Self::Oom => plain(5, 0),
            Self::Logger(id) => plain(6, id),
            Self::Io(id, part) => {
                let (part, sub) = match part {
                    Part::Source(n) => (u64::from(n), 0),
                    Part::Dest(n) => (2 + u64::from(n), 0),
                    Part::Feed => (4, 0),
                    Part::Input => (5, 0),
                    Part::Listener => (6, 0),
                    Part::Log => (7, 0),
                    Part::Attacher(sub) => (8, u64::from(sub & 0xff_ffff)),
                };
                7 << 56 | part << 48 | sub << 24 | u64::from(id & 0xff_ffff)
            }
        }
    }

    /// Undoes [`Token::encode`].
    pub(crate) fn decode(token: u64) -> Self {
        let id = token as u32;
        match token >> 56 {
            0 => Self::Listener,
            1 => Self::Signals,
            2 => Self::Conn(id),
            3 => Self::Publisher,
            4 => Self::Worker,
            5 => Self::Oom,
            6 => Self::Logger(id),
            _ => {
                let part = match token >> 48 & 0xff {
                    n @ 0..=1 => Part::Source(n as u8),
                    n @ 2..=3 => Part::Dest(n as u8 - 2),
                    4 => Part::Feed,
                    5 => Part::Input,
                    6 => Part::Listener,
                    7 => Part::Log,
                    _ => Part::Attacher((token >> 24) as u32 & 0xff_ffff),
                };
                Self::Io(id & 0xff_ffff, part)
            }
        }
    }
}

/// What a deadline is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Timer {
    /// A call of the runtime, by pid, takes too long.
    Job(i32),
    /// The supervisor's event service may be back.
    Publish,
    /// A FIFO for input is opened though its process was not started yet.
    Feed(u32),
    /// A process's end of output is not awaited longer.
    Drain(u32),
    /// A `binary://` logger does not get ready.
    Logger(u32),
    /// The shim leaves, whatever is still to be sent.
    Leave,
}

/// Deadlines, soonest first.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    next: u64,
    list: BTreeMap<(Instant, u64), Timer>,
}

impl Timers {
    /// Adds a deadline.
    pub(crate) fn after(&mut self, delay: Duration, what: Timer) {
        self.next += 1;
        self.list.insert((Instant::now() + delay, self.next), what);
    }

    /// Removes all deadlines of a thing.
    pub(crate) fn cancel(&mut self, what: Timer) {
        self.list.retain(|_, timer| *timer != what);
    }

    /// How long until the first deadline.
    pub(crate) fn patience(&self) -> Option<Duration> {
        let ((first, _), _) = self.list.first_key_value()?;
        Some(first.saturating_duration_since(Instant::now()))
    }

    /// Takes a deadline that has passed.
    pub(crate) fn pop(&mut self) -> Option<Timer> {
        let entry = self.list.first_entry()?;
        (entry.key().0 <= Instant::now()).then(|| entry.remove())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_survives_epoll() {
        let mut list = vec![Token::Listener, Token::Signals, Token::Conn(u32::MAX)];
        list.extend([Token::Publisher, Token::Worker, Token::Oom, Token::Logger(9)]);
        for part in [Part::Source(0), Part::Source(1), Part::Dest(0), Part::Dest(1), Part::Feed] {
            list.push(Token::Io(3, part));
        }
        for part in [Part::Input, Part::Listener, Part::Log, Part::Attacher(70_000)] {
            list.push(Token::Io(0xff_fffe, part));
        }
        for token in list {
            assert_eq!(Token::decode(token.encode()), token);
        }
    }
}
