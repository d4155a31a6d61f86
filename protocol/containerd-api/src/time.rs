//! Timestamps: protobuf's and the system clock's.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prost_types::Timestamp;

/// `time` as a protobuf timestamp.
pub fn timestamp(time: SystemTime) -> Timestamp {
    from_nanos(nanos(time))
}

/// A protobuf timestamp as a time; one before the epoch or malformed gives the epoch.
pub fn system_time(timestamp: &Timestamp) -> SystemTime {
    let seconds = u64::try_from(timestamp.seconds).unwrap_or_default();
    let nanos = u32::try_from(timestamp.nanos).unwrap_or_default().min(999_999_999);
    UNIX_EPOCH.checked_add(Duration::new(seconds, nanos)).unwrap_or(UNIX_EPOCH)
}

/// Nanoseconds since the epoch.
pub fn nanos(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// Nanoseconds since the epoch as a protobuf timestamp.
pub fn from_nanos(nanos: i64) -> Timestamp {
    Timestamp {
        seconds: nanos.div_euclid(1_000_000_000),
        nanos: nanos.rem_euclid(1_000_000_000) as i32,
    }
}

/// A protobuf timestamp as nanoseconds since the epoch.
pub fn to_nanos(timestamp: &Timestamp) -> i64 {
    timestamp.seconds.saturating_mul(1_000_000_000).saturating_add(i64::from(timestamp.nanos))
}

/// Now, as a protobuf timestamp.
pub fn now() -> Timestamp {
    timestamp(SystemTime::now())
}
