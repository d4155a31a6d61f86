//! Escapes in paths and queries, by the URL standard.

/// Resolves `%XX`; `plus` reads `+` as a space, as queries have it. Nothing if an escape is
/// broken or the result is no UTF-8.
pub(crate) fn unescape(text: &str, plus: bool) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                let (high, low) = (digit()?, digit()?);
                (high * 16 + low) as u8
            }
            b'+' if plus => b' ',
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

/// The parameters of a request, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads what stands after the `?`; nothing if an escape is broken.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        let pairs = pairs.map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((unescape(name, true)?, unescape(value, true)?))
        });
        pairs.collect::<Option<_>>().map(Self)
    }

    /// The first value of `name`.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// All values of `name`.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(own, _)| own == name).map(|(_, value)| value.as_str())
    }
}

/// Escapes what may not stand in a query's value.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parameters_come_decoded_and_in_order() {
        let query = Query::parse("digest=sha256%3Aab&tag=1&tag=2+3&flag").unwrap();
        assert_eq!(query.get("digest"), Some("sha256:ab"));
        assert_eq!(query.all("tag").collect::<Vec<_>>(), ["1", "2 3"]);
        assert_eq!((query.get("flag"), query.get("none")), (Some(""), None));
        assert!(Query::parse("a=%2").is_none() && Query::parse("a=%zz").is_none());
        assert!(unescape("%ff", false).is_none());
        assert_eq!(unescape("a+b%2Fc", false).unwrap(), "a+b/c");
    }

    proptest! {
        #[test]
        fn what_is_escaped_is_read_back(text: String) {
            prop_assert_eq!(unescape(&escape(&text), true), Some(text));
        }

        #[test]
        fn no_query_panics(text: String) {
            let _ = Query::parse(&text);
        }
    }
}
