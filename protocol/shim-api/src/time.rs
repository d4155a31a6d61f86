//! RFC 3339 with nanoseconds as Go prints it (trailing zeros cut), and timestamps. No clock: the
//! caller brings the time.

use prost_types::Timestamp;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const DAY: i64 = 86_400;

/// A protobuf timestamp of a time.
pub fn timestamp(time: SystemTime) -> Timestamp {
    let (seconds, nanos) = split(time);
    Timestamp { seconds, nanos: nanos as i32 }
}

/// The time of a timestamp; nanoseconds out of range count as zero.
pub fn system_time(stamp: &Timestamp) -> SystemTime {
    let nanos = u32::try_from(stamp.nanos).ok().filter(|n| *n < 1_000_000_000).unwrap_or(0);
    let whole = Duration::from_secs(stamp.seconds.unsigned_abs());
    let base = if stamp.seconds >= 0 {
        UNIX_EPOCH.checked_add(whole)
    } else {
        UNIX_EPOCH.checked_sub(whole)
    };
    base.and_then(|t| t.checked_add(Duration::new(0, nanos))).unwrap_or(UNIX_EPOCH)
}

fn split(time: SystemTime) -> (i64, u32) {
    match time.duration_since(UNIX_EPOCH) {
        Ok(d) => (d.as_secs() as i64, d.subsec_nanos()),
        Err(e) => {
            let d = e.duration();
            match d.subsec_nanos() {
                0 => (-(d.as_secs() as i64), 0),
                n => (-(d.as_secs() as i64) - 1, 1_000_000_000 - n),
            }
        }
    }
}

/// Appends `2006-01-02T15:04:05.999999999Z` to a buffer.
pub fn write_rfc3339_nano(out: &mut Vec<u8>, time: SystemTime) {
    let (seconds, nanos) = split(time);
    let (year, month, day) = civil(seconds.div_euclid(DAY));
    let rest = seconds.rem_euclid(DAY);
    digits(out, year.unsigned_abs(), 4);
    out.push(b'-');
    digits(out, month, 2);
    out.push(b'-');
    digits(out, day, 2);
    out.push(b'T');
    digits(out, (rest / 3600) as u64, 2);
    out.push(b':');
    digits(out, (rest / 60 % 60) as u64, 2);
    out.push(b':');
    digits(out, (rest % 60) as u64, 2);
    if nanos > 0 {
        out.push(b'.');
        digits(out, nanos as u64, 9);
        while out.last() == Some(&b'0') {
            out.pop();
        }
    }
    out.push(b'Z');
}

/// As [`write_rfc3339_nano`], into a string.
pub fn rfc3339_nano(time: SystemTime) -> String {
    let mut out = Vec::with_capacity(30);
    write_rfc3339_nano(&mut out, time);
    String::from_utf8(out).unwrap_or_default()
}

fn digits(out: &mut Vec<u8>, value: u64, width: usize) {
    let mut text = [b'0'; 20];
    let mut left = value;
    for slot in text.iter_mut().rev() {
        *slot = b'0' + (left % 10) as u8;
        left /= 10;
    }
    out.extend_from_slice(&text[20 - width.min(20)..]);
}

/// Year, month, day of a day counted from 1970-01-01 (proleptic Gregorian calendar).
fn civil(days: i64) -> (i64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month as u64, day as u64)
}

/// Days from 1970-01-01 to a date.
fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Reads RFC 3339 with up to nine digits of fraction, `Z` or an offset. `None`: not such a time.
pub fn parse_rfc3339_nano(text: &str) -> Option<SystemTime> {
    let bytes = text.as_bytes();
    let number = |range: std::ops::Range<usize>| -> Option<i64> {
        let part = bytes.get(range)?;
        part.iter().all(u8::is_ascii_digit).then_some(())?;
        std::str::from_utf8(part).ok()?.parse().ok()
    };
    let at = |i: usize, c: u8| bytes.get(i).filter(|b| b.eq_ignore_ascii_case(&c)).map(|_| ());
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    at(4, b'-').and(at(7, b'-')).and(at(10, b'T')).and(at(13, b':')).and(at(16, b':'))?;
    let valid = (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24;
    (valid && minute < 60 && second < 61).then_some(())?;
    let mut next = 19;
    let mut nanos = 0u32;
    if bytes.get(next) == Some(&b'.') {
        let fraction = bytes[next + 1..].iter().take_while(|b| b.is_ascii_digit()).count();
        (1..=9).contains(&fraction).then_some(())?;
        let value = number(next + 1..next + 1 + fraction)?;
        nanos = value as u32 * 10u32.pow(9 - fraction as u32);
        next += 1 + fraction;
    }
    let offset = match bytes.get(next)? {
        b'Z' | b'z' if bytes.len() == next + 1 => 0,
        sign @ (b'+' | b'-') if bytes.len() == next + 6 => {
            at(next + 3, b':')?;
            let value = number(next + 1..next + 3)? * 3600 + number(next + 4..next + 6)? * 60;
            if *sign == b'+' { value } else { -value }
        }
        _ => return None,
    };
    let seconds = days_of(year, month, day) * DAY + hour * 3600 + minute * 60 + second - offset;
    Some(system_time(&Timestamp { seconds, nanos: nanos as i32 }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn go_prints_the_same_texts() {
        let at = |s: u64, n: u32| rfc3339_nano(UNIX_EPOCH + Duration::new(s, n));
        assert_eq!(at(0, 0), "1970-01-01T00:00:00Z");
        assert_eq!(at(1_709_164_799, 120_000_000), "2024-02-28T23:59:59.12Z");
        assert_eq!(at(1_709_164_800, 1), "2024-02-29T00:00:00.000000001Z");
    }

    #[test]
    fn go_zero_time_survives() {
        let zero = parse_rfc3339_nano("0001-01-01T00:00:00Z").unwrap();
        assert_eq!(rfc3339_nano(zero), "0001-01-01T00:00:00Z");
    }

    proptest! {
        #[test]
        fn a_printed_time_reads_back(s in 0u64..253_402_300_800, n in 0u32..1_000_000_000) {
            let time = UNIX_EPOCH + Duration::new(s, n);
            prop_assert_eq!(parse_rfc3339_nano(&rfc3339_nano(time)), Some(time));
            prop_assert_eq!(system_time(&timestamp(time)), time);
        }

        #[test]
        fn foreign_text_never_panics(text in ".{0,40}") {
            let _ = parse_rfc3339_nano(&text);
        }
    }
}
