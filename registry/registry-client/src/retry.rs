//! When to try again: how often, how long to wait, and what the server asked for.

use std::time::Duration;

use crate::error::Error;

/// How failures that may pass are met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Attempts in all; 1 means none is repeated.
    pub attempts: u32,
    /// The first wait; each further one is twice as long.
    pub first_wait: Duration,
    /// The longest wait.
    pub longest_wait: Duration,
    /// The longest wait that a server's `Retry-After` may ask for; beyond it the error is
    /// returned at once.
    pub longest_asked: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: 5,
            first_wait: Duration::from_millis(400),
            longest_wait: Duration::from_secs(10),
            longest_asked: Duration::from_secs(60),
        }
    }
}

impl Retry {
    /// Every error is final.
    pub const NEVER: Self = Self {
        attempts: 1,
        first_wait: Duration::ZERO,
        longest_wait: Duration::ZERO,
        longest_asked: Duration::ZERO,
    };

    /// As many attempts as allowed.
    pub(crate) fn begin(self) -> Patience {
        Patience { retry: self, failed: 0 }
    }
}

/// What is left of the attempts at one thing.
#[derive(Clone, Debug)]
pub(crate) struct Patience {
    retry: Retry,
    failed: u32,
}

impl Patience {
    /// How long to wait after an error; `None` when it is final.
    pub(crate) fn after(&mut self, error: &Error) -> Option<Duration> {
        if !error.is_transient() {
            return None;
        }
        let wait = self.again()?;
        match error.retry_after() {
            Some(asked) => (asked <= self.retry.longest_asked).then_some(asked),
            None => Some(wait),
        }
    }

    /// The same, whatever the error was.
    pub(crate) fn again(&mut self) -> Option<Duration> {
        self.failed += 1;
        if self.failed >= self.retry.attempts {
            return None;
        }
        let doubled = self.retry.first_wait.saturating_mul(2u32.saturating_pow(self.failed - 1));
        Some(jittered(doubled.min(self.retry.longest_wait)))
    }

    /// Something went well: the next failure is the first again.
    pub(crate) fn renew(&mut self) {
        self.failed = 0;
    }
}

/// Between half and all of it, so that many clients don't come back at once.
fn jittered(wait: Duration) -> Duration {
    let share = getrandom::u32().map_or(1.0, |n| f64::from(n) / f64::from(u32::MAX));
    wait.mul_f64(0.5 + share / 2.0)
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;
    use crate::answer::Answer;
    use crate::error::{ConnectKind, Object, Place};
    use crate::url::Url;

    fn place() -> Box<Place> {
        Box::new(Place {
            method: Method::GET,
            url: Url::parse("http://h/").unwrap(),
            registry: "h".into(),
            repository: None,
            object: Object::Tags,
        })
    }

    fn answered(status: u16, after: Option<u64>) -> Error {
        let answer = Answer::read(status, &[], None, b"");
        Error::refused(place(), answer, after.map(Duration::from_secs))
    }

    #[test]
    fn waits_double_up_to_a_bound_and_end() {
        let retry = Retry {
            attempts: 5,
            first_wait: Duration::from_secs(1),
            longest_wait: Duration::from_secs(3),
            ..Retry::default()
        };
        let mut patience = retry.begin();
        for most in [1.0, 2.0, 3.0, 3.0] {
            let wait = patience.after(&answered(503, None)).unwrap().as_secs_f64();
            assert!((most / 2.0..=most).contains(&wait), "{wait} {most}");
        }
        assert_eq!(patience.after(&answered(503, None)), None);
        patience.renew();
        assert!(patience.after(&answered(500, None)).is_some());
    }

    #[test]
    fn a_server_may_ask_for_a_wait_but_not_for_any() {
        for status in [429, 503] {
            let after = |seconds| Retry::default().begin().after(&answered(status, Some(seconds)));
            assert_eq!(after(7), Some(Duration::from_secs(7)));
            assert_eq!(after(3600), None);
        }
    }

    #[test]
    fn what_will_not_pass_is_not_repeated() {
        for status in [400, 401, 403, 404, 405, 501] {
            assert_eq!(Retry::default().begin().after(&answered(status, None)), None, "{status}");
        }
        let refused = |kind| Error::Connect { at: place(), kind, text: String::new() };
        assert!(!refused(ConnectKind::Certificate).is_transient());
        assert!(!refused(ConnectKind::Name).is_transient());
        assert!(refused(ConnectKind::Refused).is_transient());
    }
}
