//! Names in requests, parsed once: repositories, tags, and what stands after `manifests/`.
//!
//! Their grammar keeps them safe as names of files: no component is empty, begins with a dot or
//! an underscore, or holds a slash.

use std::fmt;
use std::str::FromStr;

use oci::Digest;
use oci::reference::{MAX_PATH, is_path, is_tag};

/// Not a name of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid name")]
pub struct InvalidName;

/// A repository's name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Repository(String);

impl Repository {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Repository {
    type Err = InvalidName;

    fn from_str(s: &str) -> Result<Self, InvalidName> {
        if s.len() <= MAX_PATH && is_path(s) { Ok(Self(s.into())) } else { Err(InvalidName) }
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A tag.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(String);

impl Tag {
    /// The tag.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Tag {
    type Err = InvalidName;

    fn from_str(s: &str) -> Result<Self, InvalidName> {
        if is_tag(s) { Ok(Self(s.into())) } else { Err(InvalidName) }
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a manifest is asked for by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TagOrDigest {
    /// By tag.
    Tag(Tag),
    /// By digest.
    Digest(Digest),
}

impl fmt::Display for TagOrDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(f),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

/// A random name in the form of a version 4 UUID.
pub fn random_uuid() -> std::io::Result<String> {
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes).map_err(|e| std::io::Error::other(e.to_string()))?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = format!("{:032x}", u128::from_be_bytes(bytes));
    Ok([&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-"))
}

/// Whether `s` has the form of [`random_uuid`]'s names.
pub fn is_uuid(s: &str) -> bool {
    s.len() == 36
        && s.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_follow_the_specifications_grammar() {
        for good in ["a", "a/b", "a-b/c.d/e__f", "0", "a---b", &"x".repeat(255)] {
            assert!(good.parse::<Repository>().is_ok(), "{good}");
        }
        for bad in ["", "/a", "a/", "a//b", "A", "a..b", ".a", "_a", "a/../b", &"x".repeat(256)] {
            assert!(bad.parse::<Repository>().is_err(), "{bad}");
        }
        assert!("_x.Y-9".parse::<Tag>().is_ok() && "x".repeat(128).parse::<Tag>().is_ok());
        for bad in ["", ".x", "-x", "a/b", &"x".repeat(129)] {
            assert!(bad.parse::<Tag>().is_err(), "{bad}");
        }
        assert!(is_uuid(&random_uuid().unwrap()));
        assert!(!is_uuid("../../../../../../../../etc/passwd"));
    }

    proptest! {
        #[test]
        fn no_repository_leaves_its_folder(text in "[a-z0-9._/-]{0,30}") {
            if let Ok(name) = text.parse::<Repository>() {
                let odd = |c: &str| c.is_empty() || c.starts_with(['.', '_']);
                prop_assert!(!name.as_str().split('/').any(odd));
            }
        }
    }
}
