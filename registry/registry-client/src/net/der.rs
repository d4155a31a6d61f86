//! The fields of a certificate that rustls does not hand out: issuer, subject, and the
//! two ends of its validity (RFC 5280, section 4.1). Foreign bytes: anything odd is `None`.

/// What is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fields<'a> {
    /// The issuer's name, encoded.
    pub(crate) issuer: &'a [u8],
    /// The subject's name, encoded.
    pub(crate) subject: &'a [u8],
    /// Seconds since 1970.
    pub(crate) not_before: i64,
    /// Seconds since 1970.
    pub(crate) not_after: i64,
}

const SEQUENCE: u8 = 0x30;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const VERSION: u8 = 0xa0;

/// The fields of an encoded certificate.
pub(crate) fn fields(certificate: &[u8]) -> Option<Fields<'_>> {
    let (certificate, _) = expect(certificate, SEQUENCE)?;
    let (mut rest, _) = expect(certificate, SEQUENCE)?;
    if let Some((_, after)) = expect(rest, VERSION) {
        rest = after;
    }
    // Serial number, then the signature's algorithm.
    let (_, _, rest) = value(rest)?;
    let (_, rest) = expect(rest, SEQUENCE)?;
    let (_, after_issuer) = expect(rest, SEQUENCE)?;
    let issuer = &rest[..rest.len() - after_issuer.len()];
    let (validity, rest) = expect(after_issuer, SEQUENCE)?;
    let (_, after_subject) = expect(rest, SEQUENCE)?;
    let subject = &rest[..rest.len() - after_subject.len()];
    let (not_before, rest) = time(validity)?;
    let (not_after, _) = time(rest)?;
    Some(Fields { issuer, subject, not_before, not_after })
}

/// Content of a value with this tag, and what follows it.
fn expect(bytes: &[u8], wanted: u8) -> Option<(&[u8], &[u8])> {
    let (tag, content, rest) = value(bytes)?;
    (tag == wanted).then_some((content, rest))
}

/// Tag, content and rest.
fn value(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (digits.iter().fold(0, |sum, digit| sum << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

fn time(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let (tag, content, rest) = value(bytes)?;
    let text = std::str::from_utf8(content).ok()?.strip_suffix('Z')?;
    let (year, text) = match tag {
        UTC_TIME => {
            let (year, text) = text.split_at_checked(2)?;
            let year = number(year)?;
            (if year < 50 { 2000 + year } else { 1900 + year }, text)
        }
        GENERALIZED_TIME => {
            let (year, text) = text.split_at_checked(4)?;
            (number(year)?, text)
        }
        _ => return None,
    };
    let part = |at: usize| number(text.get(at..at + 2)?);
    let (month, day) = (part(0)?, part(2)?);
    let seconds = part(4)? * 3600 + part(6)? * 60 + part(8)?;
    let valid = (1..=12).contains(&month) && (1..=31).contains(&day) && text.len() == 10;
    valid.then(|| (days(year, month, day) * 86_400 + seconds, rest))
}

fn number(text: &str) -> Option<i64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

/// Days from 1970-01-01 in the Gregorian calendar.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Seconds since 1970 as Go prints a time in UTC: `2026-11-30T05:06:07Z`.
pub(crate) fn shown(seconds: i64) -> String {
    let (day, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let shifted = day + 719_468;
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_shifted = (5 * of_year + 2) / 153;
    let date = of_year - (153 * month_shifted + 2) / 5 + 1;
    let month = if month_shifted < 10 { month_shifted + 3 } else { month_shifted - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{date:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn certificate() -> (Vec<u8>, i64, i64) {
        let mut parameters = rcgen::CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
        parameters.not_before = rcgen::date_time_ymd(2001, 2, 3);
        parameters.not_after = rcgen::date_time_ymd(2055, 12, 31);
        let (from, to) = (parameters.not_before, parameters.not_after);
        let key = rcgen::KeyPair::generate().unwrap();
        let made = parameters.self_signed(&key).unwrap();
        (made.der().to_vec(), from.unix_timestamp(), to.unix_timestamp())
    }

    #[test]
    fn both_forms_of_time_are_read() {
        let (bytes, from, to) = certificate();
        let found = fields(&bytes).unwrap();
        assert_eq!((found.not_before, found.not_after), (from, to));
        assert_eq!(found.issuer[0], SEQUENCE);
        assert_eq!(found.issuer, found.subject, "it is its own issuer");
        assert_eq!(shown(found.not_before), "2001-02-03T00:00:00Z");
        assert_eq!(shown(found.not_after), "2055-12-31T00:00:00Z");
    }

    proptest! {
        #[test]
        fn damaged_certificates_are_refused(at in 0usize..300, byte: u8, cut in 0usize..400) {
            let (mut bytes, _, _) = certificate();
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
            fields(&bytes[..cut.min(bytes.len())]);
            fields(&bytes);
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            fields(&bytes);
        }

        #[test]
        fn days_and_dates_agree(seconds in -10_000_000_000i64..100_000_000_000) {
            let text = shown(seconds);
            let part = |at: std::ops::Range<usize>| text[at].parse::<i64>().unwrap();
            prop_assume!(text.len() == 20);
            prop_assert_eq!(
                days(part(0..4), part(5..7), part(8..10)) * 86_400
                    + part(11..13) * 3600 + part(14..16) * 60 + part(17..19),
                seconds
            );
        }
    }
}
