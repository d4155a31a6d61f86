//! `WWW-Authenticate`: what a server wants to see before it answers (RFC 9110, section 11).
//! Foreign text, read leniently as the usual clients do, within bounds.

/// Longest header value that is read.
const MAX_LENGTH: usize = 16 << 10;
/// Most challenges of one answer.
const MAX_CHALLENGES: usize = 16;
/// Most parameters of one challenge.
const MAX_PARAMETERS: usize = 32;

/// One way to authenticate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// In lower case: `bearer`, `basic`.
    pub scheme: String,
    /// Names in lower case, each once; the first of several holds.
    parameters: Vec<(String, String)>,
}

impl Challenge {
    /// Whether the scheme is this one.
    pub fn is(&self, scheme: &str) -> bool {
        self.scheme == scheme
    }

    /// A parameter's value, if it is there and not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.parameters.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    fn add(&mut self, name: &str, value: String) {
        let name = name.to_ascii_lowercase();
        if self.parameters.len() < MAX_PARAMETERS
            && self.parameters.iter().all(|(known, _)| *known != name)
        {
            self.parameters.push((name, value));
        }
    }
}

/// Every challenge of all `WWW-Authenticate` headers of an answer.
pub(crate) fn of_headers(headers: &http::HeaderMap) -> Vec<Challenge> {
    let values = headers.get_all(http::header::WWW_AUTHENTICATE).iter();
    let mut challenges: Vec<Challenge> =
        values.filter_map(|value| value.to_str().ok()).flat_map(parse).collect();
    challenges.truncate(MAX_CHALLENGES);
    challenges
}

/// The challenges of one header value. What can't be read is skipped to the next comma.
pub fn parse(value: &str) -> Vec<Challenge> {
    if value.len() > MAX_LENGTH {
        return Vec::new();
    }
    let mut text = Text(value);
    let mut found: Vec<Challenge> = Vec::new();
    loop {
        text.skip(|b| matches!(b, b' ' | b'\t' | b','));
        if text.0.is_empty() {
            return found;
        }
        let word = text.take(is_token);
        if word.is_empty() {
            text.skip_to_comma();
            continue;
        }
        if let Some(challenge) = found.last_mut()
            && let Some(value) = text.value()
        {
            challenge.add(word, value);
            continue;
        }
        if found.len() == MAX_CHALLENGES {
            return found;
        }
        found.push(Challenge { scheme: word.to_ascii_lowercase(), parameters: Vec::new() });
        text.skip_token68();
    }
}

/// RFC 9110's `tchar`.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

struct Text<'a>(&'a str);

impl<'a> Text<'a> {
    fn take(&mut self, wanted: impl Fn(u8) -> bool) -> &'a str {
        let end = self.0.bytes().position(|b| !wanted(b)).unwrap_or(self.0.len());
        // A byte that is wanted is ASCII, so `end` is a boundary.
        let (taken, rest) = self.0.split_at(end);
        self.0 = rest;
        taken
    }

    fn skip(&mut self, wanted: impl Fn(u8) -> bool) {
        self.take(wanted);
    }

    fn skip_to_comma(&mut self) {
        let end = self.0.find(',').unwrap_or(self.0.len());
        self.0 = &self.0[end..];
    }

    /// The value after `=`, if one follows; nothing is consumed otherwise.
    fn value(&mut self) -> Option<String> {
        let rest = self.0.trim_start_matches([' ', '\t']).strip_prefix('=')?;
        self.0 = rest.trim_start_matches([' ', '\t']);
        if !self.0.starts_with('"') {
            let end = self.0.find([',', ' ', '\t']).unwrap_or(self.0.len());
            let (value, rest) = self.0.split_at(end);
            self.0 = rest;
            return Some(value.into());
        }
        let mut value = String::new();
        let mut escaped = false;
        for (at, c) in self.0.char_indices().skip(1) {
            match c {
                c if escaped => {
                    value.push(c);
                    escaped = false;
                }
                '\\' => escaped = true,
                '"' => {
                    self.0 = &self.0[at + 1..];
                    return Some(value);
                }
                c => value.push(c),
            }
        }
        // Unclosed: nothing after it can be trusted.
        self.0 = "";
        Some(String::new())
    }

    /// After a scheme: `Negotiate YWJj==`, whose token must not be read as a parameter.
    fn skip_token68(&mut self) {
        let rest = self.0.trim_start_matches([' ', '\t']);
        let word = |b: u8| b.is_ascii_alphanumeric() || b"-._~+/".contains(&b);
        let end = rest.bytes().position(|b| !word(b)).unwrap_or(rest.len());
        let tail = rest[end..].trim_start_matches('=');
        let bare = end == rest.len() - tail.len();
        let closed = tail.trim_start_matches([' ', '\t']);
        // `name=` followed by nothing is an empty parameter, which says nothing either.
        if end > 0 && (closed.is_empty() || closed.starts_with(',')) && (!bare || self.0 != rest) {
            self.0 = tail;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(value: &str) -> Vec<String> {
        let show = |c: Challenge| {
            let all: Vec<String> = c.parameters.iter().map(|(n, v)| format!("{n}={v}")).collect();
            format!("{} {}", c.scheme, all.join(";"))
        };
        parse(value).into_iter().map(show).collect()
    }

    #[test]
    fn challenges_are_read_as_registries_write_them() {
        for (value, expected) in [
            (
                r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#,
                vec![
                    "bearer realm=https://auth.docker.io/token;service=registry.docker.io;scope=repository:a/b:pull,push",
                ],
            ),
            (r#"Basic realm="a, b""#, vec!["basic realm=a, b"]),
            (r#"BASIC Realm = "x\"y\\z""#, vec![r#"basic realm=x"y\z"#]),
            ("Basic", vec!["basic "]),
            (
                "Bearer realm=https://x/token,service=s",
                vec!["bearer realm=https://x/token;service=s"],
            ),
            (
                r#"Basic realm="a", Bearer realm="b",scope="c""#,
                vec!["basic realm=a", "bearer realm=b;scope=c"],
            ),
            (r#"Negotiate YWJj==, Basic realm="a""#, vec!["negotiate ", "basic realm=a"]),
            (r#"Negotiate, Bearer realm="b""#, vec!["negotiate ", "bearer realm=b"]),
            (r#"Bearer realm="a",realm="b""#, vec!["bearer realm=a"]),
            (r#"Bearer realm="unclosed, Basic realm=x"#, vec!["bearer realm="]),
            (r#"Bearer "odd", realm="a""#, vec!["bearer realm=a"]),
            (r#"Bearer ,,realm="ä""#, vec!["bearer realm=ä"]),
            ("", vec![]),
            (",, ,", vec![]),
            ("=x", vec![]),
        ] {
            assert_eq!(shown(value), expected, "{value}");
        }
    }

    #[test]
    fn bounds_hold() {
        assert!(parse(&"a ".repeat(MAX_LENGTH)).is_empty());
        assert_eq!(parse(&"Basic,".repeat(100)).len(), MAX_CHALLENGES);
        let many: String = (0..100).map(|n| format!(",p{n}=x")).collect();
        assert_eq!(parse(&format!("Bearer a=b{many}"))[0].parameters.len(), MAX_PARAMETERS);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,80}") {
            parse(&text);
        }

        #[test]
        fn no_header_like_text_panics(text in "(Bearer|Basic|Negotiate|[a-z=\",\\\\ /+]){0,12}") {
            parse(&text);
        }

        #[test]
        fn what_is_written_is_read(realm in "[ -~]{1,30}", scope in "[a-z:,/]{1,20}") {
            let quoted = realm.replace('\\', "\\\\").replace('"', "\\\"");
            let parsed = parse(&format!("Bearer realm=\"{quoted}\",scope=\"{scope}\""));
            prop_assert_eq!(parsed.len(), 1);
            prop_assert_eq!(parsed[0].get("realm"), Some(realm.as_str()));
            prop_assert_eq!(parsed[0].get("scope"), Some(scope.as_str()));
        }
    }
}
