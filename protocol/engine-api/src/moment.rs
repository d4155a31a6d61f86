//! Points in time as users and clients of the API give them: a duration before now, a date
//! with or without a time of day and a zone, or seconds of the epoch; and the texts that Go
//! has for what is none of these. All in nanoseconds.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone};

/// A duration such as `1h2m3.5s`.
///
/// # Errors
/// Go's text.
pub fn duration(text: &str) -> Result<i64, String> {
    let invalid = || format!("time: invalid duration {text:?}");
    let (minus, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| c != '.' && !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number, after) = rest.split_at(end);
        if !number.bytes().any(|b| b.is_ascii_digit()) || number.matches('.').count() > 1 {
            return Err(invalid());
        }
        let end = after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let nanos = match unit {
            "" => return Err(format!("time: missing unit in duration {text:?}")),
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return Err(format!("time: unknown unit {unit:?} in duration {text:?}")),
        };
        total += scaled(number, nanos).ok_or_else(invalid)?;
        if total > i128::from(i64::MAX) {
            return Err(invalid());
        }
        rest = after;
    }
    Ok(if minus { -(total as i64) } else { total as i64 })
}

/// A decimal number times a unit, its fraction cut.
fn scaled(number: &str, unit: i128) -> Option<i128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut total = whole.checked_mul(unit)?;
    let (mut scale, mut part) = (1i128, 0i128);
    for digit in fraction.bytes().take(18) {
        part = part * 10 + i128::from(digit - b'0');
        scale *= 10;
    }
    total = total.checked_add(part * unit / scale)?;
    Some(total)
}

/// Seconds of the epoch with a fraction, as clients send times.
///
/// # Errors
/// Go's text.
pub fn stamp(text: &str) -> Result<i64, String> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let number = |part: &str| {
        let digits = part.strip_prefix(['+', '-']).unwrap_or(part);
        let why = if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
            match part.parse::<i64>() {
                Ok(number) => return Ok(number),
                Err(_) => "value out of range",
            }
        } else {
            "invalid syntax"
        };
        Err(format!("strconv.ParseInt: parsing {part:?}: {why}"))
    };
    let (seconds, parsed) = (number(seconds)?, number(fraction)?);
    let power = 9 - i32::try_from(fraction.len()).unwrap_or(i32::MAX).min(64);
    let nanos = (parsed as f64 * 10f64.powi(power)) as i64;
    Ok(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
}

/// A moment in any of its forms; what has no zone is of `zone`.
///
/// # Errors
/// Go's text.
pub fn moment(text: &str, now: Timestamp, zone: &TimeZone) -> Result<i64, String> {
    let nanos = |t: Timestamp| i64::try_from(t.as_nanosecond()).unwrap_or(i64::MAX);
    if text != "0"
        && let Ok(ago) = duration(text)
    {
        // Whole seconds, as Go's clients send it.
        return Ok(nanos(now).saturating_sub(ago).div_euclid(1_000_000_000) * 1_000_000_000);
    }
    match date(text, zone) {
        Ok(time) => Ok(nanos(time)),
        Err(why) if text.contains('-') => Err(why),
        Err(_) => {
            stamp(text).map_err(|_| format!("failed to parse value as time or duration: {text:?}"))
        }
    }
}

/// Reads a date in the form that its signs tell of.
fn date(text: &str, zone: &TimeZone) -> Result<Timestamp, String> {
    let is_local = !text.contains(['z', 'Z', '+']) && text.matches('-').count() != 3;
    let layout = if text.contains('.') {
        if is_local {
            "2006-01-02T15:04:05.999999999"
        } else {
            "2006-01-02T15:04:05.999999999Z07:00"
        }
    } else if text.contains('T') {
        let mut colons = text.matches(':').count();
        if !is_local && !text.contains(['z', 'Z']) {
            colons = colons.saturating_sub(1);
        }
        match (colons, is_local) {
            (0, true) => "2006-01-02T15",
            (1, true) => "2006-01-02T15:04",
            (_, true) => "2006-01-02T15:04:05",
            (0, false) => "2006-01-02T15Z07:00",
            (1, false) => "2006-01-02T15:04Z07:00",
            (_, false) => "2006-01-02T15:04:05Z07:00",
        }
    } else if is_local {
        "2006-01-02"
    } else {
        "2006-01-02Z07:00"
    };
    Reader { text, layout, rest: text }.read(zone)
}

struct Reader<'a> {
    text: &'a str,
    layout: &'a str,
    rest: &'a str,
}

impl Reader<'_> {
    fn read(mut self, zone: &TimeZone) -> Result<Timestamp, String> {
        const PARTS: [(&str, usize); 6] =
            [("2006", 4), ("01", 2), ("02", 2), ("15", 2), ("04", 2), ("05", 2)];
        let mut numbers = [0_i16, 1, 1, 0, 0, 0];
        let mut layout = self.layout;
        for (at, (part, width)) in PARTS.iter().enumerate() {
            let Some((before, after)) = layout.split_once(part) else { break };
            self.literal(before)?;
            numbers[at] = self.number(part, *width)?;
            layout = after;
        }
        let fraction = self.fraction();
        let offset = if layout.ends_with("Z07:00") { Some(self.offset()?) } else { None };
        if !self.rest.is_empty() {
            return Err(format!("parsing time {:?}: extra text: {:?}", self.text, self.rest));
        }
        let [year, month, day, hour, minute, second] = numbers;
        for (wrong, what) in [
            (!(1..=12).contains(&month), "month"),
            (hour > 23, "hour"),
            (minute > 59, "minute"),
            (second > 59, "second"),
        ] {
            if wrong {
                return Err(self.range(what));
            }
        }
        let small = |n: i16| i8::try_from(n).unwrap_or(i8::MAX);
        let time = DateTime::new(
            year,
            small(month),
            small(day),
            small(hour),
            small(minute),
            small(second),
            fraction,
        )
        .map_err(|_| self.range("day"))?;
        let zone = offset.map_or_else(|| zone.clone(), TimeZone::fixed);
        time.to_zoned(zone).map(|zoned| zoned.timestamp()).map_err(|_| self.range("year"))
    }

    fn range(&self, what: &str) -> String {
        format!("parsing time {:?}: {what} out of range", self.text)
    }

    fn no(&self, part: &str) -> String {
        let Self { text, layout, rest } = self;
        format!("parsing time {text:?} as {layout:?}: cannot parse {rest:?} as {part:?}")
    }

    fn literal(&mut self, text: &str) -> Result<(), String> {
        self.rest = self.rest.strip_prefix(text).ok_or_else(|| self.no(text))?;
        Ok(())
    }

    fn number(&mut self, part: &str, width: usize) -> Result<i16, String> {
        let digits = self.rest.get(..width).filter(|d| d.bytes().all(|b| b.is_ascii_digit()));
        let number = digits.and_then(|d| d.parse().ok()).ok_or_else(|| self.no(part))?;
        self.rest = &self.rest[width..];
        Ok(number)
    }

    /// A fraction of a second, which may stand after any second.
    fn fraction(&mut self) -> i32 {
        let Some(after) = self.rest.strip_prefix('.') else { return 0 };
        let end = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
        if end == 0 {
            return 0;
        }
        let digits = &after[..end.min(9)];
        self.rest = &after[end..];
        format!("{digits:0<9}").parse().unwrap_or_default()
    }

    fn offset(&mut self) -> Result<Offset, String> {
        if let Some(rest) = self.rest.strip_prefix('Z') {
            self.rest = rest;
            return Ok(Offset::UTC);
        }
        let bytes = self.rest.as_bytes();
        let digit =
            |at: usize| bytes.get(at).filter(|b| b.is_ascii_digit()).map(|b| i32::from(b - b'0'));
        let sign = match bytes.first() {
            Some(b'+') => Some(1),
            Some(b'-') => Some(-1),
            _ => None,
        };
        let seconds = (|| {
            let hours = digit(1)? * 10 + digit(2)?;
            let minutes = digit(4)? * 10 + digit(5)?;
            (bytes.get(3) == Some(&b':')).then_some(sign? * (hours * 3600 + minutes * 60))
        })();
        let seconds = seconds.ok_or_else(|| self.no("Z07:00"))?;
        self.rest = &self.rest[6..];
        Offset::from_seconds(seconds).map_err(|_| self.range("time zone offset hour"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(text: &str) -> Result<i64, String> {
        let now = Timestamp::from_second(10_000).unwrap();
        moment(text, now, &TimeZone::fixed(Offset::from_hours(1).unwrap()))
    }

    #[test]
    fn moments_are_durations_dates_and_seconds() {
        const SECOND: i64 = 1_000_000_000;
        for (text, nanos) in [
            ("1h30m", (10_000 - 5400) * SECOND),
            ("-1s", 10_001 * SECOND),
            ("77", 77 * SECOND),
            ("0", 0),
            ("12.5", 12 * SECOND + 500_000_000),
            ("1970-01-01T00:01:00Z", 60 * SECOND),
            ("1970-01-01T00:01:00.5Z", 60 * SECOND + 500_000_000),
            ("1970-01-01T01:01:00+01:00", 60 * SECOND),
            ("1970-01-01T01:01:00", 60 * SECOND),
            ("1970-01-01T01:01", 60 * SECOND),
            ("1970-01-01T01", 0),
            ("1970-01-01T00:01-01:00", 3660 * SECOND),
            ("1970-01-02", 23 * 3600 * SECOND),
            ("1970-01-02Z", 86_400 * SECOND),
        ] {
            assert_eq!(at(text), Ok(nanos), "{text}");
        }
    }

    #[test]
    fn what_is_no_moment_is_told_as_go_tells_it() {
        for (text, why) in [
            ("x", "failed to parse value as time or duration: \"x\""),
            ("", "failed to parse value as time or duration: \"\""),
            ("5y", "failed to parse value as time or duration: \"5y\""),
            ("2020-13-01", "parsing time \"2020-13-01\": month out of range"),
            ("2020-02-31", "parsing time \"2020-02-31\": day out of range"),
            (
                "2020-1-1",
                "parsing time \"2020-1-1\" as \"2006-01-02\": cannot parse \"1-1\" as \"01\"",
            ),
            ("a-b", "parsing time \"a-b\" as \"2006-01-02\": cannot parse \"a-b\" as \"2006\""),
            ("2020-01-01x", "parsing time \"2020-01-01x\": extra text: \"x\""),
            ("2020-01-01T25:00", "parsing time \"2020-01-01T25:00\": hour out of range"),
        ] {
            assert_eq!(at(text), Err(why.to_owned()));
        }
    }

    #[test]
    fn durations_are_read_as_go_reads_them() {
        assert_eq!(duration("1h2m3.5s"), Ok(3_723_500_000_000));
        assert_eq!(duration("-1.5ms"), Ok(-1_500_000));
        assert_eq!(duration("5"), Err("time: missing unit in duration \"5\"".to_owned()));
        assert_eq!(duration("5y"), Err("time: unknown unit \"y\" in duration \"5y\"".to_owned()));
        assert_eq!(duration("x"), Err("time: invalid duration \"x\"".to_owned()));
    }

    #[test]
    fn stamps_are_seconds_with_a_fraction() {
        assert_eq!(stamp("12.5"), Ok(12_500_000_000));
        assert_eq!(stamp("12.000000001"), Ok(12_000_000_001));
        assert_eq!(stamp("x"), Err("strconv.ParseInt: parsing \"x\": invalid syntax".into()));
        assert!(stamp("1.").is_err() && stamp("99999999999999999999").is_err());
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let _ = at(&text);
            let _ = stamp(&text);
        }

        #[test]
        fn dates_that_jiff_writes_are_read(seconds in -2_000_000_000_i64..4_000_000_000) {
            let time = Timestamp::from_second(seconds).unwrap();
            prop_assert_eq!(at(&time.to_string()), Ok(seconds * 1_000_000_000));
        }
    }
}
