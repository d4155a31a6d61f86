//! One line of a json-file log: parsing, and formatting for a client. Pure.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;

use super::Options;

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow, default)]
    log: Cow<'a, str>,
    #[serde(borrow, default)]
    stream: Cow<'a, str>,
    #[serde(default)]
    attrs: Option<BTreeMap<String, String>>,
    #[serde(borrow, default)]
    time: Cow<'a, str>,
}

/// Whether a line was shown, or reading is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    /// Go on.
    Yes,
    /// Later than wanted: so are all that follow.
    TooLate,
}

/// Appends a line, without its newline, to `out` as `options` want it. A line that is no
/// JSON (cut by a crash) is left out.
pub(super) fn show(bytes: &[u8], options: &Options, out: &mut Vec<u8>) -> Shown {
    let Ok(line) = serde_json::from_slice::<Line<'_>>(bytes) else { return Shown::Yes };
    if options.since != 0 || options.until != 0 {
        let at = nanos(&line.time);
        if options.until != 0 && at > options.until {
            return Shown::TooLate;
        }
        if at < options.since {
            return Shown::Yes;
        }
    }
    let kind = if line.stream == "stderr" { 2 } else { 1 };
    if (kind == 1 && !options.stdout) || (kind == 2 && !options.stderr) {
        return Shown::Yes;
    }
    let start = out.len();
    if !options.raw {
        out.extend_from_slice(&[kind, 0, 0, 0, 0, 0, 0, 0]);
    }
    let body = out.len();
    if options.timestamps {
        out.extend_from_slice(padded(&line.time).as_bytes());
        out.push(b' ');
    }
    if options.details {
        let attributes = line.attrs.unwrap_or_default();
        let words: Vec<String> =
            attributes.iter().map(|(k, v)| format!("{}={}", escape(k), escape(v))).collect();
        out.extend_from_slice(words.join(",").as_bytes());
        out.push(b' ');
    }
    out.extend_from_slice(line.log.as_bytes());
    if !options.raw {
        let length = (out.len() - body) as u32;
        out[start + 4..start + 8].copy_from_slice(&length.to_be_bytes());
    }
    Shown::Yes
}

fn nanos(time: &str) -> i64 {
    let parsed = time.parse::<jiff::Timestamp>();
    parsed.ok().and_then(|t| i64::try_from(t.as_nanosecond()).ok()).unwrap_or_default()
}

/// The time with all nine digits, as `--timestamps` shows it.
fn padded(time: &str) -> Cow<'_, str> {
    let Some(text) = time.strip_suffix('Z') else { return Cow::Borrowed(time) };
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.len() == 9 {
        Cow::Borrowed(time)
    } else {
        Cow::Owned(format!("{whole}.{fraction:0<9}Z"))
    }
}

/// As Go's `url.QueryEscape`.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(byte as char);
            }
            b' ' => out.push('+'),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &[u8] =
        br#"{"log":"a\u003cb\n","stream":"stderr","attrs":{"k":"v w"},"time":"2026-01-02T03:04:05.5Z"}"#;

    fn shown(options: &Options) -> Vec<u8> {
        let mut out = Vec::new();
        show(LINE, options, &mut out);
        out
    }

    #[test]
    fn a_line_is_framed_by_its_stream_or_raw() {
        let both = Options { stdout: true, stderr: true, ..Options::default() };
        assert_eq!(shown(&both), b"\x02\0\0\0\0\0\0\x04a<b\n");
        assert_eq!(shown(&Options { raw: true, ..both.clone() }), b"a<b\n");
        assert!(shown(&Options { stderr: false, ..both }).is_empty());
    }

    #[test]
    fn time_and_attributes_stand_before_the_text() {
        let options = Options {
            stderr: true,
            raw: true,
            timestamps: true,
            details: true,
            ..Options::default()
        };
        assert_eq!(shown(&options), b"2026-01-02T03:04:05.500000000Z k=v+w a<b\n");
    }

    #[test]
    fn times_bound_what_is_shown() {
        let base = Options { stderr: true, ..Options::default() };
        let mut out = Vec::new();
        let late = nanos("2026-01-02T03:04:06Z");
        assert_eq!(show(LINE, &Options { since: late, ..base.clone() }, &mut out), Shown::Yes);
        assert!(out.is_empty());
        assert_eq!(
            show(LINE, &Options { until: late - 1_000_000_000, ..base }, &mut out),
            Shown::TooLate
        );
    }
}
