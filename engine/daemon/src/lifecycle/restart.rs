//! Restart policies: whether a container that ended starts again, and when.
//! Pure arithmetic; the timer itself is the driver's.

use std::time::Duration;

/// The first delay; it doubles up to [`MAX_DELAY`].
const FIRST_DELAY: Duration = Duration::from_millis(100);
/// The longest delay between two starts.
const MAX_DELAY: Duration = Duration::from_secs(60);
/// A run at least this long makes the delay begin anew.
const SETTLED: Duration = Duration::from_secs(10);

/// When a container starts again by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Policy {
    /// Never.
    #[default]
    No,
    /// After every exit, and at daemon start.
    Always,
    /// As `Always`, but a manual stop holds across a daemon start.
    UnlessStopped,
    /// After an exit with a code other than 0; at most so many times, 0 without bound.
    OnFailure(u32),
}

/// A policy's name that is none of the four.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPolicy {
    /// The name is unknown.
    #[error(
        "invalid restart policy: unknown policy '{0}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
    )]
    Unknown(String),
    /// A count with a policy that has none.
    #[error("invalid restart policy: maximum retry count can only be used with 'on-failure'{0}")]
    CountNotAllowed(&'static str),
    /// A negative count.
    #[error("invalid restart policy: maximum retry count cannot be negative")]
    Negative,
}

impl Policy {
    /// The policy of a host configuration's `RestartPolicy {Name, MaximumRetryCount}`.
    pub fn parse(name: &str, count: i64) -> Result<Self, InvalidPolicy> {
        let plain = match name {
            "on-failure" => {
                let count = u32::try_from(count).map_err(|_| InvalidPolicy::Negative)?;
                return Ok(Self::OnFailure(count));
            }
            "" | "no" => Self::No,
            "always" => Self::Always,
            "unless-stopped" => Self::UnlessStopped,
            other => return Err(InvalidPolicy::Unknown(other.to_owned())),
        };
        match count {
            0 => Ok(plain),
            n if n < 0 => Err(InvalidPolicy::CountNotAllowed(" and cannot be negative")),
            _ => Err(InvalidPolicy::CountNotAllowed("")),
        }
    }

    /// Whether the policy is one that conflicts with removal at exit.
    pub fn restarts(self) -> bool {
        self != Self::No
    }

    /// Whether an exit with `code`, after `count` restarts by policy, is followed by
    /// another start. A stop or kill by the user never is.
    pub fn after_exit(self, code: i64, count: u32, stopped_by_user: bool) -> bool {
        if stopped_by_user {
            return false;
        }
        match self {
            Self::No => false,
            Self::Always | Self::UnlessStopped => true,
            Self::OnFailure(max) => code != 0 && (max == 0 || count < max),
        }
    }

    /// Whether a container that is not running starts with the daemon.
    pub fn at_boot(self, ran: bool, code: i64, stopped_by_user: bool) -> bool {
        match self {
            Self::No => false,
            Self::Always => true,
            Self::UnlessStopped => !stopped_by_user,
            Self::OnFailure(_) => ran && code != 0 && !stopped_by_user,
        }
    }
}

/// The delay before the next start: doubled from the last one, or the first one
/// again after a run of ten seconds.
pub fn next_delay(last: Option<Duration>, ran: Duration) -> Duration {
    match last {
        Some(last) if ran < SETTLED => (last * 2).min(MAX_DELAY),
        _ => FIRST_DELAY,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_doubles_to_a_minute_and_begins_anew_after_ten_seconds_of_run() {
        let quick = Duration::from_millis(5);
        let mut delay = next_delay(None, quick);
        assert_eq!(delay, Duration::from_millis(100));
        for _ in 0..20 {
            delay = next_delay(Some(delay), quick);
        }
        assert_eq!(delay, MAX_DELAY);
        assert_eq!(next_delay(Some(delay), SETTLED), FIRST_DELAY);
    }

    #[test]
    fn on_failure_counts_and_a_manual_stop_ends_every_policy() {
        let three = Policy::parse("on-failure", 3).unwrap();
        assert!(three.after_exit(1, 2, false));
        assert!(!three.after_exit(1, 3, false));
        assert!(!three.after_exit(0, 0, false));
        for policy in [Policy::Always, Policy::UnlessStopped, Policy::OnFailure(0)] {
            assert!(!policy.after_exit(1, 0, true));
            assert!(policy.after_exit(1, 1000, false));
        }
    }

    #[test]
    fn a_manual_stop_holds_over_a_boot_only_with_unless_stopped() {
        assert!(Policy::Always.at_boot(true, 0, true));
        assert!(!Policy::UnlessStopped.at_boot(true, 0, true));
        assert!(Policy::UnlessStopped.at_boot(true, 0, false));
    }

    #[test]
    fn a_count_without_on_failure_is_refused() {
        assert_eq!(
            Policy::parse("always", 3).unwrap_err().to_string(),
            "invalid restart policy: maximum retry count can only be used with 'on-failure'"
        );
        assert!(Policy::parse("sometimes", 0).is_err());
    }
}
