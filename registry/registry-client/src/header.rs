//! Small headers of the distribution protocol: Link, Content-Range, Range of an upload,
//! Retry-After. Foreign text: each parser answers `None` rather than guess.

use std::time::{Duration, SystemTime};

use http::HeaderMap;

/// Longest wait that a server may ask for; beyond it the date is taken for nonsense.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(7 * 24 * 3600);

/// A header's text, if it is there and readable.
pub(crate) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// The length that a header announces.
pub(crate) fn length(headers: &HeaderMap) -> Option<u64> {
    text(headers, "content-length").and_then(|value| number(value.trim()))
}

/// Target of the `rel="next"` link (RFC 8288).
pub fn next_link(value: &str) -> Option<&str> {
    let mut rest = value;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let (target, after) = rest.strip_prefix('<')?.split_once('>')?;
        let end = parameters_end(after);
        if after[..end].split(';').any(is_next) {
            return Some(target);
        }
        rest = &after[end..];
    }
}

/// Where the parameters of a link end: at the first comma outside quotes.
fn parameters_end(text: &str) -> usize {
    let mut quoted = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'"' => quoted = !quoted,
            b',' if !quoted => return at,
            _ => {}
        }
    }
    text.len()
}

fn is_next(parameter: &str) -> bool {
    let Some((name, value)) = parameter.split_once('=') else { return false };
    name.trim().eq_ignore_ascii_case("rel")
        && value.trim().trim_matches('"').split(' ').any(|rel| rel.eq_ignore_ascii_case("next"))
}

/// The part of a body that an answer 206 holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentRange {
    /// First byte.
    pub first: u64,
    /// Last byte, inclusive.
    pub last: u64,
    /// Size of the whole, if it says so.
    pub size: Option<u64>,
}

impl ContentRange {
    /// `bytes FIRST-LAST/SIZE`, the size perhaps `*`.
    pub fn parse(value: &str) -> Option<Self> {
        let (unit, rest) = value.trim().split_once(' ')?;
        let (range, size) = rest.trim().split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let (first, last) = (number(first)?, number(last)?);
        let size = if size == "*" { None } else { Some(number(size)?) };
        let fits = first <= last && size.is_none_or(|size| last < size);
        (unit.eq_ignore_ascii_case("bytes") && fits).then_some(Self { first, last, size })
    }
}

/// How many bytes of an upload have arrived, by the `Range: 0-LAST` of its status. `0-0`
/// is both "one byte" and, from common servers, "nothing yet": the caller must not trust
/// a single byte.
pub fn uploaded(value: &str) -> Option<u64> {
    let value = value.trim();
    let value = value.strip_prefix("bytes=").or(value.strip_prefix("bytes ")).unwrap_or(value);
    let (first, last) = value.split_once('-')?;
    let last = number(last)?;
    (number(first)? == 0).then(|| if last == 0 { 0 } else { last.saturating_add(1) })
}

/// How long a server asks to wait: seconds, or a date.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    parse_retry_after(text(headers, "retry-after")?, SystemTime::now())
}

/// `Retry-After` as seconds or as an HTTP date, seen at `now`.
pub fn parse_retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    let wait = if let Some(seconds) = number(value) {
        Duration::from_secs(seconds)
    } else {
        let date = httpdate::parse_http_date(value).ok()?;
        date.duration_since(now).unwrap_or_default()
    };
    (wait <= MAX_RETRY_AFTER).then_some(wait)
}

/// Digits alone: no sign, no space.
fn number(text: &str) -> Option<u64> {
    (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_next_page_is_found_among_links() {
        for (value, expected) in [
            (r#"</v2/a/tags/list?last=b&n=2>; rel="next""#, Some("/v2/a/tags/list?last=b&n=2")),
            ("<https://r/x>;rel=next", Some("https://r/x")),
            (r#"</p>; rel="prev", </n>; title="a, b"; Rel="last NEXT""#, Some("/n")),
            (r#"</p>; rel="prev""#, None),
            ("</p>", None),
            ("/p; rel=next", None),
            ("<unclosed; rel=next", None),
            ("", None),
        ] {
            assert_eq!(next_link(value), expected, "{value}");
        }
    }

    #[test]
    fn a_content_range_is_exact_or_nothing() {
        let range = |first, last, size| Some(ContentRange { first, last, size });
        for (value, expected) in [
            ("bytes 5-9/10", range(5, 9, Some(10))),
            ("bytes 0-0/*", range(0, 0, None)),
            ("Bytes 1-2/3", range(1, 2, Some(3))),
            ("bytes 5-10/10", None),
            ("bytes 6-5/10", None),
            ("bytes */10", None),
            ("5-9/10", None),
            ("bytes +5-9/10", None),
            ("bytes 5-99999999999999999999/*", None),
        ] {
            assert_eq!(ContentRange::parse(value), expected, "{value}");
        }
    }

    #[test]
    fn the_state_of_an_upload_is_read_in_all_its_forms() {
        for (value, expected) in [
            ("0-99", Some(100)),
            ("bytes=0-99", Some(100)),
            ("0-0", Some(0)),
            ("5-9", None),
            ("0--1", None),
            ("", None),
        ] {
            assert_eq!(uploaded(value), expected, "{value}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        for (value, expected) in [
            ("7", Some(7)),
            ("0", Some(0)),
            ("Sun, 06 Nov 1994 08:49:47 GMT", Some(10)),
            ("Sun, 06 Nov 1994 08:49:00 GMT", Some(0)),
            ("-1", None),
            ("soon", None),
            ("99999999999", None),
        ] {
            let expected = expected.map(Duration::from_secs);
            assert_eq!(parse_retry_after(value, now), expected, "{value}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[ -~]{0,60}") {
            next_link(&text);
            ContentRange::parse(&text);
            uploaded(&text);
            parse_retry_after(&text, SystemTime::UNIX_EPOCH);
        }

        #[test]
        fn ranges_that_are_written_are_read(first in 0u64..1000, more in 0u64..1000) {
            let last = first + more;
            let value = format!("bytes {first}-{last}/{}", last + 1);
            prop_assert_eq!(
                ContentRange::parse(&value),
                Some(ContentRange { first, last, size: Some(last + 1) })
            );
        }
    }
}
