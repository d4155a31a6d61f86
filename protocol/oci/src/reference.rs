//! Image references in Docker's normal form.
//!
//! `ubuntu` is `docker.io/library/ubuntu`; [`Reference::tagged`] adds `latest`.
//! Error texts are Docker's, since users and tools match them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::digest::{Digest, InvalidDigest};

const DEFAULT_DOMAIN: &str = "docker.io";
const LEGACY_DOMAIN: &str = "index.docker.io";
const OFFICIAL: &str = "library/";
/// Longest path of a repository, in bytes.
pub const MAX_PATH: usize = 255;

/// A parsed and normalised reference: registry, repository, and what in it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a text is no reference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidReference {
    /// Not in the grammar.
    #[error("invalid reference format")]
    Format,
    /// Upper case in the repository's name.
    #[error("invalid reference format: repository name ({0}) must be lowercase")]
    Uppercase(String),
    /// A bare image id.
    #[error("invalid repository name ({0}), cannot specify 64-byte hexadecimal strings")]
    Identifier(String),
    /// A path longer than 255 bytes.
    #[error("repository name must not be more than 255 characters")]
    TooLong,
    /// The digest after `@` is wrong.
    #[error(transparent)]
    Digest(#[from] InvalidDigest),
}

impl Reference {
    /// Parses and normalises; no tag is added.
    pub fn parse(s: &str) -> Result<Self, InvalidReference> {
        if is_identifier(s) {
            return Err(InvalidReference::Identifier(s.into()));
        }
        let (domain, rest) = split_domain(s);
        let remote = rest.split_once(':').map_or(rest.as_str(), |(name, _)| name);
        let remote = remote.split_once('@').map_or(remote, |(name, _)| name);
        if remote.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(InvalidReference::Uppercase(remote.into()));
        }
        let (named, digest) = match rest.split_once('@') {
            Some((named, digest)) => (named, Some(digest)),
            None => (rest.as_str(), None),
        };
        let (path, tag) = match named.split_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (named, None),
        };
        if !is_domain(&domain) || !is_path(path) || !tag.is_none_or(is_tag) {
            return Err(InvalidReference::Format);
        }
        if path.len() > MAX_PATH {
            return Err(InvalidReference::TooLong);
        }
        let digest = digest.map(parse_digest).transpose()?;
        Ok(Self { domain, path: path.into(), tag: tag.map(Into::into), digest })
    }

    /// The registry's host, with port if one was given.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The repository within the registry.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Registry and repository, without tag and digest.
    pub fn name(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// The tag.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// Whether there is neither tag nor digest.
    pub fn is_name_only(&self) -> bool {
        self.tag.is_none() && self.digest.is_none()
    }

    /// With the tag `latest` when there is neither tag nor digest.
    pub fn tagged(mut self) -> Self {
        if self.is_name_only() {
            self.tag = Some("latest".into());
        }
        self
    }

    /// Without tag and digest.
    pub fn without_tag(&self) -> Self {
        Self { tag: None, digest: None, ..self.clone() }
    }

    /// With another tag; the digest stays.
    pub fn with_tag(&self, tag: &str) -> Result<Self, InvalidReference> {
        if !is_tag(tag) {
            return Err(InvalidReference::Format);
        }
        Ok(Self { tag: Some(tag.into()), ..self.clone() })
    }

    /// With a digest; the tag stays.
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { digest: Some(digest), ..self.clone() }
    }

    /// Registry and repository as users write it: without `docker.io/` and `library/`.
    pub fn familiar_name(&self) -> String {
        if self.domain != DEFAULT_DOMAIN {
            return self.name();
        }
        match self.path.strip_prefix(OFFICIAL) {
            Some(name) if !name.contains('/') => name.into(),
            _ => self.path.clone(),
        }
    }

    /// The whole reference as users write it.
    pub fn familiar(&self) -> String {
        let mut text = self.familiar_name();
        self.push_suffix(&mut text);
        text
    }

    fn push_suffix(&self, text: &mut String) {
        if let Some(tag) = &self.tag {
            text.push(':');
            text.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            text.push('@');
            text.push_str(&digest.to_string());
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.name();
        self.push_suffix(&mut text);
        f.write_str(&text)
    }
}

impl FromStr for Reference {
    type Err = InvalidReference;

    fn from_str(s: &str) -> Result<Self, InvalidReference> {
        Self::parse(s)
    }
}

impl Serialize for Reference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Whether `s` is a full image id: 64 hexadecimal digits in lower case.
fn is_identifier(s: &str) -> bool {
    s.len() == 64 && s.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn split_domain(s: &str) -> (String, String) {
    let (domain, rest) = match s.split_once('/') {
        Some((first, rest))
            if first.contains(['.', ':'])
                || first == "localhost"
                || first.bytes().any(|b| b.is_ascii_uppercase()) =>
        {
            (if first == LEGACY_DOMAIN { DEFAULT_DOMAIN } else { first }, rest)
        }
        _ => (DEFAULT_DOMAIN, s),
    };
    if domain == DEFAULT_DOMAIN && !rest.contains('/') {
        return (domain.into(), format!("{OFFICIAL}{rest}"));
    }
    (domain.into(), rest.into())
}

fn is_domain(s: &str) -> bool {
    let (host, port) = if let Some(rest) = s.strip_prefix('[') {
        let Some((address, port)) = rest.split_once(']') else { return false };
        if address.is_empty() || !address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':') {
            return false;
        }
        match port.strip_prefix(':') {
            Some(port) => (None, Some(port)),
            None if port.is_empty() => (None, None),
            None => return false,
        }
    } else {
        match s.split_once(':') {
            Some((host, port)) => (Some(host), Some(port)),
            None => (Some(s), None),
        }
    };
    host.is_none_or(|host| host.split('.').all(is_label))
        && port.is_none_or(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()))
}

fn is_label(s: &str) -> bool {
    !s.is_empty()
        && s.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !s.starts_with('-')
        && !s.ends_with('-')
}

/// Whether `s` is a repository's name on its registry, its length apart.
pub fn is_path(s: &str) -> bool {
    s.split('/').all(is_component)
}

// alpha-numeric runs joined by one of: `.`, `_`, `__`, any number of `-`.
fn is_component(s: &str) -> bool {
    let bytes = s.as_bytes();
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let (Some(&first), Some(&last)) = (bytes.first(), bytes.last()) else { return false };
    if !word(first) || !word(last) {
        return false;
    }
    bytes.split(|&b| word(b)).all(|separator| {
        matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|&b| b == b'-')
    })
}

/// Whether `s` is a tag.
pub fn is_tag(s: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let bytes = s.as_bytes();
    bytes.len() <= 128
        && bytes.first().is_some_and(|&b| word(b))
        && bytes.iter().all(|&b| word(b) || matches!(b, b'.' | b'-'))
}

fn parse_digest(s: &str) -> Result<Digest, InvalidReference> {
    // The grammar wants at least 32 hexadecimal digits; below that the whole is no reference.
    let (algorithm, hex) = s.split_once(':').ok_or(InvalidReference::Format)?;
    let component = |c: &str| {
        c.bytes().next().is_some_and(|b| b.is_ascii_alphabetic())
            && c.bytes().all(|b| b.is_ascii_alphanumeric())
    };
    if !algorithm.split(['+', '.', '-', '_']).all(component)
        || hex.len() < 32
        || !hex.bytes().all(|b| b.is_ascii_hexdigit())
    {
        return Err(InvalidReference::Format);
    }
    Ok(s.parse()?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn normal(s: &str) -> String {
        s.parse::<Reference>().unwrap().tagged().to_string()
    }

    #[test]
    fn short_names_become_canonical() {
        let hex = "a".repeat(64);
        for (input, expected) in [
            ("ubuntu", "docker.io/library/ubuntu:latest".to_owned()),
            ("ubuntu:22.04", "docker.io/library/ubuntu:22.04".into()),
            ("me/app", "docker.io/me/app:latest".into()),
            ("docker.io/ubuntu", "docker.io/library/ubuntu:latest".into()),
            ("index.docker.io/ubuntu", "docker.io/library/ubuntu:latest".into()),
            ("localhost/app", "localhost/app:latest".into()),
            ("localhost:5000/app:v1", "localhost:5000/app:v1".into()),
            ("[::1]:5000/app", "[::1]:5000/app:latest".into()),
            ("[2001:db8::1]/a/b", "[2001:db8::1]/a/b:latest".into()),
            ("Host/app", "Host/app:latest".into()),
            ("a/b/c--d__e.f", "docker.io/a/b/c--d__e.f:latest".into()),
            (&format!("ubuntu@sha256:{hex}"), format!("docker.io/library/ubuntu@sha256:{hex}")),
            (&format!("r.io/x:t@sha256:{hex}"), format!("r.io/x:t@sha256:{hex}")),
        ] {
            assert_eq!(normal(input), expected, "{input}");
        }
    }

    #[test]
    fn the_familiar_form_drops_the_defaults_only() {
        let familiar = |s: &str| s.parse::<Reference>().unwrap().familiar();
        assert_eq!(familiar("docker.io/library/ubuntu:1"), "ubuntu:1");
        assert_eq!(familiar("docker.io/me/app"), "me/app");
        assert_eq!(familiar("quay.io/me/app"), "quay.io/me/app");
        assert_eq!(familiar("docker.io/library/a/b"), "library/a/b");
    }

    #[test]
    fn wrong_references_are_refused_in_dockers_words() {
        let error = |s: &str| s.parse::<Reference>().unwrap_err().to_string();
        for s in ["", "-a", "a:", "a@", "a//b", "a/", "/a", "a:b:c", "a.", "a___b", "a._b", ":x"] {
            assert_eq!(error(s), "invalid reference format", "{s}");
        }
        assert_eq!(
            error("Ubuntu"),
            "invalid reference format: repository name (library/Ubuntu) must be lowercase"
        );
        assert_eq!(
            error(&"a".repeat(64)),
            format!(
                "invalid repository name ({}), cannot specify 64-byte hexadecimal strings",
                "a".repeat(64)
            )
        );
        assert_eq!(
            error(&format!("a@sha256:{}", "a".repeat(40))),
            "invalid checksum digest length"
        );
        assert_eq!(error(&format!("a@md5:{}", "a".repeat(32))), "unsupported digest algorithm");
        assert_eq!(
            error(&format!("x/{}", "a".repeat(256))),
            "repository name must not be more than 255 characters"
        );
        assert_eq!(error(&format!("a:{}", "t".repeat(129))), "invalid reference format");
    }

    proptest! {
        #[test]
        fn what_parses_is_stable_in_both_forms(
            s in "([a-z]{1,4}(\\.[a-z]{2})?(:[0-9]{1,4})?/)?[a-z0-9]{1,5}(([._]|__|-{1,3})[a-z0-9]{1,3})?(/[a-z]{1,3})?(:[A-Za-z0-9_][\\w.-]{0,5})?"
        ) {
            if let Ok(reference) = s.parse::<Reference>() {
                prop_assert_eq!(&reference.to_string().parse::<Reference>().unwrap(), &reference);
                prop_assert_eq!(&reference.familiar().parse::<Reference>().unwrap(), &reference);
            }
        }

        #[test]
        fn no_text_panics(text in "[a-zA-Z0-9:/@\\[\\]._-]{0,40}") {
            let _ = text.parse::<Reference>();
        }
    }
}
