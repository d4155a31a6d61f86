//! Docker's json-file lines: how bytes of a stream become records. Pure: bytes in, bytes out.

use shim_api::time::write_rfc3339_nano;
use std::time::SystemTime;

/// Longest piece of a line in one record; longer lines are cut into partial records.
pub(crate) const MAX_LINE: usize = 16 * 1024;

/// Cuts one stream into records.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    held: Vec<u8>,
    /// Of the line's first partial record, whose time all its records carry.
    since: Option<SystemTime>,
}

impl Lines {
    /// Takes output; calls `emit` with each record's text and time.
    pub(crate) fn feed(
        &mut self,
        mut data: &[u8],
        now: SystemTime,
        emit: &mut impl FnMut(&[u8], SystemTime),
    ) {
        while !data.is_empty() {
            let room = MAX_LINE - self.held.len();
            let window = &data[..room.min(data.len())];
            if let Some(end) = window.iter().position(|b| *b == b'\n') {
                let time = self.since.take().unwrap_or(now);
                if self.held.is_empty() {
                    emit(&data[..=end], time);
                } else {
                    self.held.extend_from_slice(&data[..=end]);
                    emit(&self.held, time);
                    self.held = Vec::new();
                }
                data = &data[end + 1..];
                continue;
            }
            let take = room.min(data.len());
            self.held.extend_from_slice(&data[..take]);
            data = &data[take..];
            if self.held.len() == MAX_LINE {
                let time = *self.since.get_or_insert(now);
                emit(&self.held, time);
                self.held.clear();
            }
        }
    }

    /// The stream has ended: an unfinished line goes out as it is.
    pub(crate) fn finish(&mut self, now: SystemTime, emit: &mut impl FnMut(&[u8], SystemTime)) {
        if !self.held.is_empty() {
            emit(&self.held, self.since.unwrap_or(now));
        }
        *self = Self::default();
    }
}

/// Appends a record: `{"log":…,"stream":…[,"attrs":…],"time":…}` and a newline.
pub(crate) fn record(out: &mut Vec<u8>, text: &[u8], stream: u8, attrs: &str, time: SystemTime) {
    out.extend_from_slice(b"{\"log\":\"");
    escape(out, text);
    out.extend_from_slice(b"\",\"stream\":\"");
    out.extend_from_slice(if stream == 0 { b"stdout" } else { b"stderr" });
    out.push(b'"');
    if !attrs.is_empty() {
        out.extend_from_slice(b",\"attrs\":");
        out.extend_from_slice(attrs.as_bytes());
    }
    out.extend_from_slice(b",\"time\":\"");
    write_rfc3339_nano(out, time);
    out.extend_from_slice(b"\"}\n");
}

/// Escapes as Go's json-file logger: quotes, backslashes, control characters, `<`, `>`, `&`,
/// U+2028, U+2029; each byte that is no UTF-8 becomes U+FFFD.
fn escape(out: &mut Vec<u8>, text: &[u8]) {
    for chunk in text.utf8_chunks() {
        let valid = chunk.valid().as_bytes();
        let mut start = 0;
        for (i, &byte) in valid.iter().enumerate() {
            let special = matches!(byte, 0..=0x1f | b'"' | b'\\' | b'<' | b'>' | b'&' | 0xe2);
            if !special || (byte == 0xe2 && !separator(&valid[i..])) {
                continue;
            }
            out.extend_from_slice(&valid[start..i]);
            start = i + if byte == 0xe2 { 3 } else { 1 };
            escape_one(out, byte, valid.get(i + 2).copied());
        }
        out.extend_from_slice(&valid[start..]);
        for _ in chunk.invalid() {
            out.extend_from_slice(b"\\ufffd");
        }
    }
}

fn separator(at: &[u8]) -> bool {
    matches!(at, [0xe2, 0x80, 0xa8 | 0xa9, ..])
}

fn escape_one(out: &mut Vec<u8>, byte: u8, third: Option<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    match byte {
        b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
        b'\n' => out.extend_from_slice(b"\\n"),
        b'\r' => out.extend_from_slice(b"\\r"),
        0xe2 => {
            out.extend_from_slice(b"\\u202");
            out.push(HEX[(third.unwrap_or(0) & 15) as usize]);
        }
        _ => {
            out.extend_from_slice(b"\\u00");
            out.extend_from_slice(&[HEX[(byte >> 4) as usize], HEX[(byte & 15) as usize]]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::UNIX_EPOCH;

    fn cut(data: &[u8], pieces: usize) -> Vec<Vec<u8>> {
        let (mut lines, mut seen) = (Lines::default(), Vec::new());
        let mut emit = |text: &[u8], _| seen.push(text.to_vec());
        for piece in data.chunks(pieces.max(1)) {
            lines.feed(piece, UNIX_EPOCH, &mut emit);
        }
        lines.finish(UNIX_EPOCH, &mut emit);
        seen
    }

    #[test]
    fn a_record_is_dockers() {
        let mut out = Vec::new();
        record(
            &mut out,
            b"a<\t\"\\\xff\xe2\x80\xa8\xe2\x82\xac\r\n",
            1,
            "{\"k\":\"v\"}",
            UNIX_EPOCH,
        );
        let wanted = "{\"log\":\"a\\u003c\\u0009\\\"\\\\\\ufffd\\u2028\u{20ac}\\r\\n\",\
            \"stream\":\"stderr\",\"attrs\":{\"k\":\"v\"},\"time\":\"1970-01-01T00:00:00Z\"}\n";
        assert_eq!(String::from_utf8(out).unwrap(), wanted);
    }

    #[test]
    fn long_lines_are_cut_at_sixteen_kibibytes() {
        let mut data = vec![b'x'; MAX_LINE + 5];
        data.extend_from_slice(b"\nlast");
        let seen = cut(&data, 1000);
        let lengths: Vec<usize> = seen.iter().map(Vec::len).collect();
        assert_eq!(lengths, [MAX_LINE, 6, 4]);
    }

    proptest! {
        #[test]
        fn no_byte_is_lost_and_every_record_is_json(
            data in proptest::collection::vec(
                prop_oneof![Just(b'\n'), any::<u8>(), Just(0xe2u8)], 0..400),
            repeat in 1usize..120, pieces in 1usize..5000,
        ) {
            let data = data.repeat(repeat);
            let seen = cut(&data, pieces);
            prop_assert_eq!(&seen.concat(), &data);
            for text in seen {
                prop_assert!(text.len() <= MAX_LINE);
                let mut out = Vec::new();
                record(&mut out, &text, 0, "", UNIX_EPOCH);
                let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
                let log = value["log"].as_str().unwrap();
                if let Ok(text) = std::str::from_utf8(&text) {
                    prop_assert_eq!(log, text);
                }
            }
        }
    }
}
