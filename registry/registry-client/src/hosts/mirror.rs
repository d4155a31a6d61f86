//! A mirror of docker.io, as `--registry-mirror` takes it.

use std::str::FromStr;

use crate::url::{InvalidUrl, Url};

/// A mirror's URL, checked by docker's rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror(Url);

impl Mirror {
    pub(crate) fn url(&self) -> &Url {
        &self.0
    }

    /// As docker shows it: with a slash at its end.
    pub fn shown(&self) -> String {
        format!("{}/", self.0.to_string().trim_end_matches('/'))
    }
}

/// Why a text is no mirror; in docker's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid mirror: {0}")]
pub struct InvalidMirror(String);

impl FromStr for Mirror {
    type Err = InvalidMirror;

    fn from_str(text: &str) -> Result<Self, InvalidMirror> {
        const SCHEMES: &str = "must use either 'https://' or 'http://'";
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(InvalidMirror(format!("no scheme specified for {text:?}: {SCHEMES}")));
        };
        if !matches!(scheme, "http" | "https") {
            let why = format!("unsupported scheme {scheme:?} in {text:?}: {SCHEMES}");
            return Err(InvalidMirror(why));
        }
        if rest.contains(['?', '#']) {
            let why = format!("query or fragment at end of the URI {text:?}");
            return Err(InvalidMirror(why));
        }
        let host = rest.split('/').next().unwrap_or_default();
        if let Some(c) = host.chars().find(|c| *c == ' ' || c.is_control()) {
            let c = char::to_string(&c);
            return Err(InvalidMirror(format!(
                "{text:?} is not a valid URI: parse {text:?}: invalid character {c:?} in host name"
            )));
        }
        Url::parse(text).map(Self).map_err(|why| {
            InvalidMirror(match why {
                InvalidUrl::User => {
                    let shown = without_password(text);
                    format!("username/password not allowed in URI {shown:?}")
                }
                why => format!("{text:?} is not a valid URI: {why}"),
            })
        })
    }
}

fn without_password(text: &str) -> String {
    let (scheme, rest) = text.split_once("://").unwrap_or_default();
    let (user, host) = rest.rsplit_once('@').unwrap_or_default();
    match user.split_once(':') {
        Some((name, _)) => format!("{scheme}://{name}:xxxxx@{host}"),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors_are_checked_in_dockers_words() {
        for (text, error) in [
            ("foo", r#"no scheme specified for "foo": must use either 'https://' or 'http://'"#),
            ("", r#"no scheme specified for "": must use either 'https://' or 'http://'"#),
            (
                "ftp://foo",
                r#"unsupported scheme "ftp" in "ftp://foo": must use either 'https://' or 'http://'"#,
            ),
            ("http://u:p@foo", r#"username/password not allowed in URI "http://u:xxxxx@foo""#),
            ("http://foo?x", r#"query or fragment at end of the URI "http://foo?x""#),
            ("http://foo#x", r#"query or fragment at end of the URI "http://foo#x""#),
            (
                "http://a b",
                r#""http://a b" is not a valid URI: parse "http://a b": invalid character " " in host name"#,
            ),
        ] {
            let told = text.parse::<Mirror>().unwrap_err().to_string();
            assert_eq!(told, format!("invalid mirror: {error}"));
        }
        for text in ["http://foo", "https://foo:5000/", "http://foo/bar"] {
            let mirror: Mirror = text.parse().unwrap();
            assert_eq!(mirror.shown(), format!("{}/", text.trim_end_matches('/')));
        }
    }
}
