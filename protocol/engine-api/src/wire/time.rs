//! Go's durations and points in time.

use jiff::Timestamp;

use super::{Decoder, Wire};
use crate::json::{Encoder, Value};
use crate::view::Shown;

/// Nanoseconds, as Go's `time.Duration`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct GoDuration(pub i64);

impl Wire for GoDuration {
    fn go_type() -> String {
        "time.Duration".into()
    }
    fn decode(&mut self, value: &Value, d: &mut Decoder) {
        match value {
            Value::Null => {}
            Value::Number(n) => match n.as_i64() {
                Some(nanos) => self.0 = nanos,
                None => d.unfit(n.as_str(), "time.Duration"),
            },
            other => d.mismatch(other, "time.Duration"),
        }
    }
    fn encode(&self, e: &mut Encoder) {
        e.integer(self.0);
    }
    fn is_empty(&self) -> bool {
        self.0 == 0
    }
    fn show(&self) -> Shown<'_> {
        Shown::Duration(self.0)
    }
    fn zero<'a>() -> Shown<'a> {
        Shown::Duration(0)
    }
}

/// A point in time; Go's zero time, the year 1, when unset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub Timestamp);

impl Time {
    /// Go's zero time, `0001-01-01T00:00:00Z`, in seconds of the Unix epoch.
    const ZERO_SECOND: i64 = -62_135_596_800;

    /// The current time.
    pub fn now() -> Self {
        Self(Timestamp::now())
    }
    /// Whether this is Go's zero time.
    pub fn is_zero(&self) -> bool {
        *self == Self::default()
    }
    /// The text that Go writes: RFC 3339 in UTC, with as many digits of the
    /// second's fraction as it needs.
    pub fn rfc3339(&self) -> String {
        let nanos = self.0.subsec_nanosecond().rem_euclid(1_000_000_000);
        let seconds = self.0.as_nanosecond().div_euclid(1_000_000_000) as i64;
        let whole = Timestamp::from_second(seconds).unwrap_or_default();
        let text = whole.strftime("%Y-%m-%dT%H:%M:%S").to_string();
        if nanos == 0 {
            return format!("{text}Z");
        }
        let fraction = format!("{nanos:09}");
        format!("{text}.{}Z", fraction.trim_end_matches('0'))
    }
}

impl Default for Time {
    fn default() -> Self {
        Self(Timestamp::from_second(Self::ZERO_SECOND).unwrap_or_default())
    }
}

impl Wire for Time {
    fn go_type() -> String {
        "time.Time".into()
    }
    fn decode(&mut self, value: &Value, d: &mut Decoder) {
        match value {
            Value::Null => {}
            Value::String(s) => match s.parse() {
                Ok(time) => self.0 = time,
                Err(_) => d.mismatch(value, "time.Time"),
            },
            other => d.mismatch(other, "time.Time"),
        }
    }
    fn encode(&self, e: &mut Encoder) {
        e.string(&self.rfc3339());
    }
    fn show(&self) -> Shown<'_> {
        Shown::Time(self.0)
    }
    fn zero<'a>() -> Shown<'a> {
        Shown::Time(Self::default().0)
    }
}
