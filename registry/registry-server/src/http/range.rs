//! Ranges: which bytes a client wants, and which it brings.

/// What a `Range` header asks for of `size` bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Requested {
    /// Everything: no range, or one that is not understood, which is to be ignored.
    All,
    /// The bytes from the first to before the second number.
    Part(u64, u64),
    /// Nothing that is there.
    Nothing,
}

/// Reads a `Range` header. Several ranges at once get everything, as the RFC allows.
pub(crate) fn requested(header: Option<&str>, size: u64) -> Requested {
    let Some(range) = header.and_then(|text| text.trim().strip_prefix("bytes=")) else {
        return Requested::All;
    };
    let Some((first, last)) = range.split_once('-') else { return Requested::All };
    let (first, last) = (first.trim(), last.trim());
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        // Too large for any blob is as good as the largest.
        digits.then(|| text.parse().unwrap_or(u64::MAX))
    };
    match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => part(first, last.saturating_add(1), size),
        (Some(first), None) if last.is_empty() => part(first, size, size),
        (None, Some(0)) if first.is_empty() => Requested::Nothing,
        (None, Some(suffix)) if first.is_empty() => part(size.saturating_sub(suffix), size, size),
        _ => Requested::All,
    }
}

fn part(first: u64, end: u64, size: u64) -> Requested {
    if first >= size { Requested::Nothing } else { Requested::Part(first, end.min(size)) }
}

/// Where a chunk of an upload belongs: `FIRST-LAST`, both inclusive, without a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ContentRange {
    /// Its first byte.
    pub(crate) first: u64,
    /// Its last byte.
    pub(crate) last: u64,
}

impl ContentRange {
    /// Reads a `Content-Range` header of an upload. HTTP's own form, `bytes FIRST-LAST/SIZE`, is
    /// understood too, since some clients send it.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let text = text.strip_prefix("bytes").map_or(text, |t| t.trim_start_matches([' ', '=']));
        let text = text.split_once('/').map_or(text, |(range, _)| range);
        let (first, last) = text.split_once('-')?;
        let number = |text: &str| {
            let digits = text.bytes().all(|b| b.is_ascii_digit());
            if digits { text.parse::<u64>().ok() } else { None }
        };
        let range = Self { first: number(first)?, last: number(last)? };
        (range.first <= range.last && range.last < u64::MAX).then_some(range)
    }

    /// Number of bytes.
    pub(crate) fn length(self) -> u64 {
        self.last - self.first + 1
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_are_read_as_the_rfc_has_them() {
        use Requested::{All, Nothing, Part};
        for (header, expected) in [
            ("bytes=0-0", Part(0, 1)),
            ("bytes=2-", Part(2, 10)),
            ("bytes=-3", Part(7, 10)),
            ("bytes=-30", Part(0, 10)),
            ("bytes=5-99", Part(5, 10)),
            ("bytes=0-99999999999999999999999", Part(0, 10)),
            ("bytes=10-", Nothing),
            ("bytes=-0", Nothing),
            ("bytes=99999999999999999999999-", Nothing),
            ("bytes=3-2", All),
            ("bytes=0-1,3-4", All),
            ("bytes=", All),
            ("bytes=x-y", All),
            ("lines=0-1", All),
        ] {
            assert_eq!(requested(Some(header), 10), expected, "{header}");
        }
        assert_eq!(requested(None, 10), All);
        assert_eq!(requested(Some("bytes=0-0"), 0), Nothing);
    }

    #[test]
    fn a_chunks_place_is_inclusive_on_both_ends() {
        let range = ContentRange::parse("5-9").unwrap();
        assert_eq!((range.first, range.last, range.length()), (5, 9, 5));
        assert_eq!(ContentRange::parse("bytes 5-9/*"), Some(range));
        for bad in ["", "-", "5", "5-", "-9", "9-5", "a-b", "+1-2", "0-18446744073709551615"] {
            assert_eq!(ContentRange::parse(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_header_panics_and_a_part_is_always_inside(
            text in "(bytes=)?[0-9-]{0,30}", size: u64,
        ) {
            if let Requested::Part(first, end) = requested(Some(&text), size) {
                prop_assert!(first < end && end <= size);
            }
            let _ = ContentRange::parse(&text);
        }
    }
}
