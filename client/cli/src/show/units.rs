//! Times and sizes for people, in docker's words.

pub(crate) use engine_api::units::{bytes_size, human_size, human_size_3};
use jiff::tz::TimeZone;
use std::sync::OnceLock;

/// How long ago, roughly: `2 minutes`.
pub(crate) fn human_duration(seconds: i64) -> String {
    let (minutes, hours) = (seconds / 60, (seconds as f64 / 3600.0 + 0.5).floor() as i64);
    match () {
        () if seconds < 1 => "Less than a second".into(),
        () if seconds == 1 => "1 second".into(),
        () if seconds < 60 => format!("{seconds} seconds"),
        () if minutes == 1 => "About a minute".into(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".into(),
        () if hours < 48 => format!("{hours} hours"),
        () if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        () if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        () if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        () => format!("{} years", seconds / 3600 / 24 / 365),
    }
}

/// How long ago a second of the epoch was.
pub(crate) fn ago(second: i64) -> String {
    let now = jiff::Timestamp::now().as_second();
    format!("{} ago", human_duration(now - second))
}

/// The short form of an id, without its algorithm.
pub(crate) fn short_id(id: &str) -> String {
    let bare = id.split_once(':').map_or(id, |(_, hex)| hex);
    bare.chars().take(12).collect()
}

/// The local time zone. Only `/etc/localtime` is read where TZ does not name another, since
/// looking for the zone's name among all others costs more than a request.
pub(crate) fn zone() -> TimeZone {
    static ZONE: OnceLock<TimeZone> = OnceLock::new();
    let find = || {
        if std::env::var_os("TZ").is_some() {
            return TimeZone::system();
        }
        let data = std::fs::read("/etc/localtime").unwrap_or_default();
        TimeZone::tzif("Local", &data).unwrap_or(TimeZone::UTC)
    };
    ZONE.get_or_init(find).clone()
}

/// A second of the epoch as Go prints a local time.
pub(crate) fn local_time(second: i64) -> String {
    let Ok(time) = jiff::Timestamp::from_second(second) else { return String::new() };
    time.to_zoned(zone()).strftime("%Y-%m-%d %H:%M:%S %z %Z").to_string()
}

/// At most so many columns, the last an ellipsis when something was cut.
pub(crate) fn ellipsis(text: &str, columns: usize) -> String {
    if unicode_width::UnicodeWidthStr::width(text) <= columns {
        return text.to_owned();
    }
    let mut out = String::new();
    let mut used = 0;
    for letter in text.chars() {
        used += unicode_width::UnicodeWidthChar::width(letter).unwrap_or(0);
        if used + 1 > columns {
            break;
        }
        out.push(letter);
    }
    out + "…"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_roughly() {
        assert_eq!(human_duration(0), "Less than a second");
        assert_eq!(human_duration(61), "About a minute");
        assert_eq!(human_duration(3600), "About an hour");
        assert_eq!(human_duration(3600 * 24 * 3), "3 days");
        assert_eq!(human_duration(1_795_000_000), "56 years");
    }
}
