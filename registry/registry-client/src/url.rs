//! Absolute http and https URLs: parsing, references relative to them, queries, origins.
//! What is sent where, and with which credentials, is decided elsewhere by comparing origins.

use std::fmt;

use http::Uri;
use http::uri::PathAndQuery;

/// How a URL is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Plain TCP.
    Http,
    /// TLS.
    Https,
}

impl Scheme {
    /// As it stands before `://`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// The port of a URL that names none.
    pub const fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// Why a text is no URL that a registry may be reached at.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUrl {
    /// Neither http nor https.
    #[error("unsupported protocol scheme {0:?}")]
    Scheme(String),
    /// No host, or a malformed one.
    #[error("no Host in request URL")]
    Host,
    /// User or password in the URL: they would travel with it.
    #[error("user information is not allowed in a URL")]
    User,
    /// Not a URL at all.
    #[error("malformed URL")]
    Malformed,
}

/// An absolute URL with scheme, host, path and perhaps a query; neither user nor fragment.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Url {
    scheme: Scheme,
    /// Host and port as given, the host in lower case.
    authority: String,
    target: PathAndQuery,
}

/// What two URLs share when the same server answers for both.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Origin {
    scheme: Scheme,
    host: String,
    port: u16,
}

impl Origin {
    /// Whether secrets meant for `self` may go to `other`: the same server, or the same
    /// host on its default ports by a better protected way.
    pub(crate) fn trusts(&self, other: &Self) -> bool {
        let upgraded = self.scheme == Scheme::Http
            && other.scheme == Scheme::Https
            && (self.port, other.port) == (80, 443);
        self.host == other.host
            && (upgraded || (self.scheme == other.scheme && self.port == other.port))
    }
}

impl Url {
    /// Parses an absolute URL; a fragment is dropped.
    pub fn parse(text: &str) -> Result<Self, InvalidUrl> {
        let (scheme, rest) = text.split_once("://").ok_or(InvalidUrl::Malformed)?;
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            other => return Err(InvalidUrl::Scheme(other.into())),
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        Self::new(scheme, authority, target)
    }

    /// A URL from its parts; an empty path becomes `/`.
    pub fn new(scheme: Scheme, authority: &str, target: &str) -> Result<Self, InvalidUrl> {
        if authority.contains('@') {
            return Err(InvalidUrl::User);
        }
        let authority = authority.to_ascii_lowercase();
        let parsed: http::uri::Authority = authority.parse().map_err(|_| InvalidUrl::Host)?;
        let port = authority.rsplit_once(':').filter(|(_, port)| !port.ends_with(']'));
        if parsed.host().is_empty() || port.is_some_and(|(_, port)| port.parse::<u16>().is_err()) {
            return Err(InvalidUrl::Host);
        }
        let target = match target.as_bytes().first() {
            Some(b'/') => target.parse(),
            None => Ok(PathAndQuery::from_static("/")),
            Some(_) => format!("/{target}").parse(),
        };
        Ok(Self { scheme, authority, target: target.map_err(|_| InvalidUrl::Malformed)? })
    }

    /// The root of a registry's API, for messages about what was never asked.
    pub(crate) fn of_registry(registry: &str) -> Self {
        let root = PathAndQuery::from_static("/v2/");
        Self { scheme: Scheme::Https, authority: registry.into(), target: root }
    }

    /// The scheme.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Host and port as given.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The host, IPv6 without brackets.
    pub fn host(&self) -> &str {
        split_authority(&self.authority).0
    }

    /// The port, given or by default.
    pub fn port(&self) -> u16 {
        split_authority(&self.authority).1.unwrap_or(self.scheme.default_port())
    }

    /// The path, without the query.
    pub fn path(&self) -> &str {
        self.target.path()
    }

    /// The query without `?`.
    pub fn query(&self) -> Option<&str> {
        self.target.query()
    }

    pub(crate) fn origin(&self) -> Origin {
        Origin { scheme: self.scheme, host: self.host().into(), port: self.port() }
    }

    /// What `reference` means when a document at this URL says it (RFC 3986, section 5.2).
    pub fn join(&self, reference: &str) -> Result<Self, InvalidUrl> {
        let reference = reference.trim();
        let reference = reference.split('#').next().unwrap_or_default();
        if let Some(scheme) = scheme_of(reference) {
            if !reference[scheme.len() + 1..].starts_with("//") {
                return Err(InvalidUrl::Scheme(scheme.to_ascii_lowercase()));
            }
            return Self::parse(reference);
        }
        if let Some(rest) = reference.strip_prefix("//") {
            return Self::parse(&format!("{}://{rest}", self.scheme.as_str()));
        }
        let (path, query) = match reference.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (reference, None),
        };
        let path = if path.is_empty() {
            self.path().to_owned()
        } else if path.starts_with('/') {
            without_dots(path)
        } else {
            let folder = self.path().rsplit_once('/').map_or("", |(folder, _)| folder);
            without_dots(&format!("{folder}/{path}"))
        };
        let query = if reference.is_empty() { self.query() } else { query };
        let target = query.map_or_else(|| path.clone(), |query| format!("{path}?{query}"));
        Self::new(self.scheme, &self.authority, &target)
    }

    /// The same server with another path (`/…`) and no query.
    pub fn with_path(&self, path: &str) -> Result<Self, InvalidUrl> {
        Self::new(self.scheme, &self.authority, path)
    }

    /// With one more parameter in the query.
    pub fn with_parameter(&self, name: &str, value: &str) -> Result<Self, InvalidUrl> {
        let mark = if self.query().is_some_and(|query| !query.is_empty()) { '&' } else { '?' };
        let target = self.target.as_str().trim_end_matches('?');
        let target = format!("{target}{mark}{}={}", escape(name), escape(value));
        Self::new(self.scheme, &self.authority, &target)
    }

    /// As hyper takes it.
    pub(crate) fn to_uri(&self) -> Uri {
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(match self.scheme {
            Scheme::Http => http::uri::Scheme::HTTP,
            Scheme::Https => http::uri::Scheme::HTTPS,
        });
        parts.authority = self.authority.parse().ok();
        parts.path_and_query = Some(self.target.clone());
        // All parts are there and were parsed before.
        Uri::from_parts(parts).unwrap_or_default()
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme.as_str(), self.authority, self.target)
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Host without brackets, and port, of `host`, `host:port`, `[v6]`, `[v6]:port`.
pub(crate) fn split_authority(authority: &str) -> (&str, Option<u16>) {
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, port) = rest.split_once(']').unwrap_or((rest, ""));
        return (host, port.strip_prefix(':').and_then(|port| port.parse().ok()));
    }
    match authority.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().ok()),
        None => (authority, None),
    }
}

fn scheme_of(reference: &str) -> Option<&str> {
    let (scheme, _) = reference.split_once(':')?;
    let word = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.');
    (scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && scheme.bytes().all(word))
        .then_some(scheme)
}

fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut folder = false;
    for part in path.split('/').skip(1) {
        folder = matches!(part, "." | "..");
        match part {
            "." => {}
            ".." => {
                kept.pop();
            }
            part => kept.push(part),
        }
    }
    let mut text = format!("/{}", kept.join("/"));
    if folder && !text.ends_with('/') {
        text.push('/');
    }
    text
}

/// Escapes as Go's `url.QueryEscape` does, so that URLs in messages look alike.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                escaped.push(char::from(byte));
            }
            b' ' => escaped.push('+'),
            byte => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

/// A form as Go encodes it: sorted by name.
pub(crate) fn encode_form(pairs: &[(&str, &str)]) -> String {
    let mut pairs = pairs.to_vec();
    pairs.sort_by_key(|(name, _)| *name);
    let pairs: Vec<String> =
        pairs.iter().map(|(name, value)| format!("{}={}", escape(name), escape(value))).collect();
    pairs.join("&")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn a_reference_is_resolved_against_its_base() {
        let base = url("https://r.io:5000/v2/a/b?x=1");
        for (reference, expected) in [
            ("", "https://r.io:5000/v2/a/b?x=1"),
            ("?y=2", "https://r.io:5000/v2/a/b?y=2"),
            ("c", "https://r.io:5000/v2/a/c"),
            ("../c?z", "https://r.io:5000/v2/c?z"),
            ("/up?_state=a%2Fb", "https://r.io:5000/up?_state=a%2Fb"),
            ("/a/./b/../c/", "https://r.io:5000/a/c/"),
            ("/..", "https://r.io:5000/"),
            ("//cdn.io/x", "https://cdn.io/x"),
            ("HTTP://Cdn.io/x#part", "http://cdn.io/x"),
            ("https://[::1]:5000/x", "https://[::1]:5000/x"),
            ("b:c/d", ""),
            ("./b:c", "https://r.io:5000/v2/a/b:c"),
        ] {
            let joined = base.join(reference).map(|url| url.to_string()).unwrap_or_default();
            assert_eq!(joined, expected, "{reference}");
        }
    }

    #[test]
    fn only_http_without_user_is_a_url() {
        for (text, error) in [
            ("ftp://a/", InvalidUrl::Scheme("ftp".into())),
            ("http://", InvalidUrl::Host),
            ("http:///x", InvalidUrl::Host),
            ("http://u:p@h/", InvalidUrl::User),
            ("http://h:99999/", InvalidUrl::Host),
            ("http://h:x/", InvalidUrl::Host),
            ("http://h/a b", InvalidUrl::Malformed),
            ("h/x", InvalidUrl::Malformed),
        ] {
            assert_eq!(Url::parse(text), Err(error), "{text}");
        }
        assert_eq!(
            url("http://h/").join("file:///etc/shadow"),
            Err(InvalidUrl::Scheme("file".into()))
        );
        assert_eq!(url("http://h/").join("data:x"), Err(InvalidUrl::Scheme("data".into())));
    }

    #[test]
    fn secrets_stay_with_the_origin_or_its_tls_side() {
        let trusts = |a: &str, b: &str| url(a).origin().trusts(&url(b).origin());
        assert!(trusts("https://a/x", "https://A:443/y"));
        assert!(trusts("http://a/x", "https://a/y"));
        assert!(trusts("http://[::1]:5000/", "http://[::1]:5000/x"));
        for (from, to) in [
            ("https://a/", "http://a/"),
            ("https://a/", "https://b/"),
            ("https://a/", "https://a.b/"),
            ("https://a:1/", "https://a:2/"),
            ("http://a:5000/", "https://a:5001/"),
            ("http://a:5000/", "https://a/"),
        ] {
            assert!(!trusts(from, to), "{from} {to}");
        }
    }

    #[test]
    fn host_and_port_come_apart() {
        let parts = |text: &str| (url(text).host().to_owned(), url(text).port());
        assert_eq!(parts("http://a/"), ("a".into(), 80));
        assert_eq!(parts("https://[::1]/"), ("::1".into(), 443));
        assert_eq!(parts("https://[fe80::1]:5000/"), ("fe80::1".into(), 5000));
    }

    #[test]
    fn parameters_are_appended_escaped() {
        let added = |text: &str| url(text).with_parameter("digest", "sha256:a b").unwrap();
        assert_eq!(added("http://h/u").to_string(), "http://h/u?digest=sha256%3Aa+b");
        assert_eq!(added("http://h/u?").to_string(), "http://h/u?digest=sha256%3Aa+b");
        assert_eq!(added("http://h/u?s=1").to_string(), "http://h/u?s=1&digest=sha256%3Aa+b");
        assert_eq!(encode_form(&[("b", "x/y"), ("a", "1")]), "a=1&b=x%2Fy");
    }

    proptest! {
        #[test]
        fn joining_never_panics_and_stays_absolute(reference in "\\PC{0,40}") {
            if let Ok(joined) = url("https://r.io/v2/a").join(&reference) {
                prop_assert_eq!(Url::parse(&joined.to_string()).unwrap(), joined.clone());
                prop_assert_eq!(joined.to_uri().to_string(), joined.to_string());
            }
        }

        #[test]
        fn no_text_panics(text in "(https?://)?[a-z0-9:@\\[\\]./?#%-]{0,30}") {
            let _ = Url::parse(&text);
        }
    }
}
