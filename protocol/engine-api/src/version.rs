//! API versions: parsing, order, the range that is served. What differs
//! between versions is declared with the types and in `steps`.

use std::fmt;
use std::str::FromStr;

/// A version of the Engine API, such as 1.51. The major number has been 1
/// since the API exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApiVersion {
    /// The number before the dot.
    pub major: u16,
    /// The number after the dot.
    pub minor: u16,
}

impl ApiVersion {
    /// The oldest version served.
    pub const MIN: Self = Self::v1(24);
    /// The newest version served; what an unversioned request gets.
    pub const MAX: Self = Self::v1(51);

    /// Version 1.`minor`.
    pub const fn v1(minor: u16) -> Self {
        Self { major: 1, minor }
    }

    /// Whether this is version 1.`minor` or a newer one.
    pub fn at_least(self, minor: u16) -> bool {
        self >= Self::v1(minor)
    }

    /// Whether this is older than version 1.`minor`.
    pub fn before(self, minor: u16) -> bool {
        self < Self::v1(minor)
    }
}

impl Default for ApiVersion {
    fn default() -> Self {
        Self::MAX
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// A text that is no API version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid API version {0:?}")]
pub struct InvalidVersion(pub String);

impl FromStr for ApiVersion {
    type Err = InvalidVersion;

    /// Reads `1`, `1.51` and, as dockerd does, forms with leading zeros. Of a
    /// longer form such as `1.51.1` any positive tail makes it newer than
    /// `1.51`, which no version here can say: it is an error.
    fn from_str(s: &str) -> Result<Self, InvalidVersion> {
        let bad = || InvalidVersion(s.into());
        let (major, minor) = s.split_once('.').unwrap_or((s, "0"));
        let number = |t: &str| {
            let digits = !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
            digits.then(|| t.parse::<u16>().ok()).flatten().ok_or_else(bad)
        };
        Ok(Self { major: number(major)?, minor: number(minor)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_number_and_not_by_text() {
        let v = |s: &str| s.parse::<ApiVersion>().unwrap();
        assert!(v("1.9") < v("1.24"));
        assert_eq!(v("1.051"), ApiVersion::MAX);
        assert_eq!(v("1"), ApiVersion::v1(0));
        assert!("1.51.1".parse::<ApiVersion>().is_err());
        assert!("x".parse::<ApiVersion>().is_err());
    }
}
