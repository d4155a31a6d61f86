//! Which requests go through which proxy: `HTTP_PROXY`, `HTTPS_PROXY`, `NO_PROXY` and
//! their explicit forms, by the rules of Go's clients, so that one setting serves all.

use std::net::IpAddr;

use base64::Engine;
use http::HeaderValue;

use crate::error::ConfigError;
use crate::hosts::Network;
use crate::url::{Scheme, Url};

/// The proxies in use.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Proxies {
    http: Option<Proxy>,
    https: Option<Proxy>,
    none: Vec<Exempt>,
}

/// One proxy.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Proxy {
    pub(crate) url: Url,
    /// Value of `Proxy-Authorization`.
    pub(crate) authorization: Option<HeaderValue>,
}

/// What is reached directly.
#[derive(Clone, Debug, PartialEq)]
enum Exempt {
    All,
    Network(Network),
    Address(IpAddr, Option<u16>),
    /// A host, those below it, or both, with perhaps a port.
    Domain {
        name: String,
        itself: bool,
        port: Option<u16>,
    },
}

impl Proxies {
    /// From the values of `http-proxy`, `https-proxy` and `no-proxy`; empty is none.
    pub fn new(http: &str, https: &str, none: &str) -> Result<Self, ConfigError> {
        let none = none.split(',').map(str::trim).filter(|part| !part.is_empty());
        Ok(Self {
            http: Proxy::parse(http)?,
            https: Proxy::parse(https)?,
            none: none.map(Exempt::parse).collect(),
        })
    }

    /// From the environment; upper case wins over lower.
    pub fn from_environment() -> Result<Self, ConfigError> {
        let value = |name: &str| {
            let found = [name.to_ascii_uppercase(), name.to_ascii_lowercase()];
            found.iter().find_map(|name| std::env::var(name).ok().filter(|v| !v.is_empty()))
        };
        let [http, https, none] =
            ["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"].map(|name| value(name).unwrap_or_default());
        Self::new(&http, &https, &none)
    }

    /// The proxy for a URL.
    pub(crate) fn of(&self, url: &Url) -> Option<&Proxy> {
        let proxy = match url.scheme() {
            Scheme::Http => self.http.as_ref(),
            Scheme::Https => self.https.as_ref(),
        }?;
        let (host, port) = (url.host(), url.port());
        let address: Option<IpAddr> = host.parse().ok();
        let own = host == "localhost" || address.is_some_and(|address| address.is_loopback());
        let exempt = own || self.none.iter().any(|rule| rule.covers(host, address, port));
        (!exempt).then_some(proxy)
    }
}

impl Proxy {
    fn parse(text: &str) -> Result<Option<Self>, ConfigError> {
        if text.is_empty() {
            return Ok(None);
        }
        let full = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let (scheme, rest) = full.split_once("://").unwrap_or_default();
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (user, authority) = match rest[..end].rsplit_once('@') {
            Some((user, authority)) => (Some(user), authority),
            None => (None, &rest[..end]),
        };
        // The text itself may hold a password, so no message repeats it.
        let url = Url::parse(&format!("{scheme}://{authority}"))
            .map_err(|why| ConfigError::Value(format!("proxy {scheme}://{authority}: {why}")))?;
        let authorization = user.map(|user| {
            let (name, password) = user.split_once(':').unwrap_or((user, ""));
            basic(&unescape(name), &unescape(password))
        });
        Ok(Some(Self { url, authorization: authorization.flatten() }))
    }
}

/// The value of an `Authorization` header of scheme Basic.
pub(crate) fn basic(user: &str, password: &str) -> Option<HeaderValue> {
    let pair = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    let mut value = HeaderValue::from_str(&format!("Basic {pair}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        let digits = digits.filter(|_| first == b'%');
        if let Some(byte) = digits.and_then(|two| u8::from_str_radix(two, 16).ok()) {
            bytes.push(byte);
            rest = &after[2..];
        } else {
            bytes.push(first);
            rest = after;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

impl Exempt {
    fn parse(text: &str) -> Self {
        let text = text.to_ascii_lowercase();
        if text == "*" {
            return Self::All;
        }
        if let Some(network) = Network::parse(&text) {
            return Self::Network(network);
        }
        let bare = text.trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = bare.parse() {
            return Self::Address(address, None);
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if port.parse::<u16>().is_ok() => (host, port.parse().ok()),
            _ => (text.as_str(), None),
        };
        if let Ok(address) = host.trim_start_matches('[').trim_end_matches(']').parse() {
            return Self::Address(address, port);
        }
        let below = host.strip_prefix("*.").or(host.strip_prefix('.'));
        Self::Domain { name: below.unwrap_or(host).into(), itself: below.is_none(), port }
    }

    fn covers(&self, host: &str, address: Option<IpAddr>, port: u16) -> bool {
        match self {
            Self::All => true,
            Self::Network(network) => address.is_some_and(|address| network.contains(address)),
            Self::Address(own, on) => address == Some(*own) && on.is_none_or(|on| on == port),
            Self::Domain { name, itself, port: on } => {
                let below =
                    host.strip_suffix(name.as_str()).is_some_and(|head| head.ends_with('.'));
                (below || *itself && host == name) && on.is_none_or(|on| on == port)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_exempt_by_gos_rules() {
        for (none, url, direct) in [
            ("", "https://a.io/", false),
            ("", "https://localhost:5000/", true),
            ("", "https://127.0.0.9/", true),
            ("", "https://[::1]/", true),
            ("*", "https://a.io/", true),
            ("a.io", "https://a.io/", true),
            ("a.io", "https://b.a.io/", true),
            ("a.io", "https://ba.io/", false),
            (".a.io", "https://a.io/", false),
            ("*.a.io", "https://b.a.io/", true),
            ("A.io:5000 , x", "https://a.io:5000/", true),
            ("a.io:5000", "https://a.io/", false),
            ("10.0.0.0/8", "https://10.1.2.3/", true),
            ("10.1.2.3", "https://10.1.2.3:5000/", true),
            ("10.1.2.3:1", "https://10.1.2.3:5000/", false),
            ("[fd00::1]:5000", "https://[fd00::1]:5000/", true),
            ("fd00::/8", "https://[fd00::1]/", true),
        ] {
            let proxies = Proxies::new("", "http://p:3128", none).unwrap();
            let found = proxies.of(&Url::parse(url).unwrap());
            assert_eq!(found.is_none(), direct, "{none} {url}");
        }
    }

    #[test]
    fn each_scheme_has_its_own_proxy() {
        let proxies = Proxies::new("plain:1", "https://u%40x:p%3A@tls:2/", "").unwrap();
        let of = |url: &str| proxies.of(&Url::parse(url).unwrap()).cloned().unwrap();
        assert_eq!(of("http://a.io/").url.to_string(), "http://plain:1/");
        let tls = of("https://a.io/");
        assert_eq!(tls.url.to_string(), "https://tls:2/");
        assert_eq!(tls.authorization, basic("u@x", "p:"));
        assert!(!format!("{tls:?}").contains("Basic"));
    }

    #[test]
    fn a_kind_of_proxy_that_is_not_supported_is_named() {
        let error = Proxies::new("", "socks5://u:secret@h:1080", "").unwrap_err().to_string();
        assert_eq!(error, "proxy socks5://h:1080: unsupported protocol scheme \"socks5\"");
    }
}
