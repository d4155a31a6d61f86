//! Times and sizes for people, in docker's words.

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

/// A number with so many significant digits, as `%.4g` prints it.
fn significant(number: f64, digits: usize) -> String {
    if number == 0.0 {
        return "0".into();
    }
    let magnitude = number.abs().log10().floor() as i32;
    let scientific = format!("{number:.*e}", digits - 1);
    let exponent: i32 =
        scientific.split_once('e').and_then(|(_, e)| e.parse().ok()).unwrap_or(magnitude);
    if exponent < -4 || exponent >= digits as i32 {
        let (mantissa, _) = scientific.split_once('e').unwrap_or((&scientific, ""));
        let mantissa = if mantissa.contains('.') {
            mantissa.trim_end_matches('0').trim_end_matches('.')
        } else {
            mantissa
        };
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{mantissa}e{sign}{:02}", exponent.abs());
    }
    let places = (digits as i32 - 1 - exponent).max(0) as usize;
    let text = format!("{number:.places$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

fn scaled(size: f64, base: f64, digits: usize, units: &[&str]) -> String {
    let mut size = size;
    let mut unit = 0;
    while size >= base && unit + 1 < units.len() {
        size /= base;
        unit += 1;
    }
    format!("{}{}", significant(size, digits), units[unit])
}

const DECIMAL: [&str; 9] = ["B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"];
const BINARY: [&str; 9] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"];

/// A size in powers of 1000, four digits: `1.984MB`.
pub(crate) fn human_size(size: f64) -> String {
    scaled(size, 1000.0, 4, &DECIMAL)
}

/// A size in powers of 1000, three digits: `1.98MB`.
pub(crate) fn human_size_3(size: f64) -> String {
    scaled(size, 1000.0, 3, &DECIMAL)
}

/// A size in powers of 1024: `1.9MiB`.
pub(crate) fn bytes_size(size: f64) -> String {
    scaled(size, 1024.0, 4, &BINARY)
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
    fn sizes_have_the_digits_that_docker_prints() {
        assert_eq!(human_size(1_984_230.0), "1.984MB");
        assert_eq!(human_size_3(1_984_230.0), "1.98MB");
        assert_eq!(human_size(0.0), "0B");
        assert_eq!(human_size(1000.0), "1kB");
        assert_eq!(bytes_size(67_108_864.0), "64MiB");
    }

    #[test]
    fn times_are_told_roughly() {
        assert_eq!(human_duration(0), "Less than a second");
        assert_eq!(human_duration(61), "About a minute");
        assert_eq!(human_duration(3600), "About an hour");
        assert_eq!(human_duration(3600 * 24 * 3), "3 days");
        assert_eq!(human_duration(1_795_000_000), "56 years");
    }
}
