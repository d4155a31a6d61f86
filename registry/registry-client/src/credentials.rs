//! Who asks. Secrets show in no message and no debug output.

use std::fmt;
use std::future::{Future, ready};
use std::pin::Pin;

use http::HeaderValue;
use oci::{Algorithm, Hasher};

use crate::challenge::Challenge;

/// A password or token.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(String);

impl Secret {
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl<T: Into<String>> From<T> for Secret {
    fn from(text: T) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// Credentials for one registry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Credentials {
    /// None.
    #[default]
    Anonymous,
    /// User and password.
    Password {
        /// The user.
        username: String,
        /// The password.
        password: Secret,
    },
    /// What a login gave back; tokens are had for it.
    IdentityToken(Secret),
    /// A token that the registry takes as it is.
    RegistryToken(Secret),
}

impl Credentials {
    /// What the fields of an `X-Registry-Auth` mean together: the most specific one holds.
    pub fn of(username: &str, password: &str, identity_token: &str, registry_token: &str) -> Self {
        if !registry_token.is_empty() {
            Self::RegistryToken(registry_token.into())
        } else if !identity_token.is_empty() {
            Self::IdentityToken(identity_token.into())
        } else if !username.is_empty() {
            Self::Password { username: username.into(), password: password.into() }
        } else {
            Self::Anonymous
        }
    }

    /// The header of scheme Basic that they make.
    pub(crate) fn basic(&self) -> Option<HeaderValue> {
        match self {
            Self::Password { username, password } => crate::net::basic(username, password.expose()),
            _ => None,
        }
    }

    /// Tells the tokens of different users apart without keeping secrets about.
    pub(crate) fn fingerprint(&self) -> [u8; 32] {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        let (kind, first, second) = match self {
            Self::Anonymous => ("a", "", ""),
            Self::Password { username, password } => ("p", username.as_str(), password.expose()),
            Self::IdentityToken(token) => ("i", token.expose(), ""),
            Self::RegistryToken(token) => ("r", token.expose(), ""),
        };
        for part in [kind, first, second] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        let mut bytes = [0; 32];
        bytes.copy_from_slice(hasher.finish().as_bytes());
        bytes
    }
}

/// For which host credentials are wanted, and why.
#[derive(Clone, Copy, Debug)]
pub struct CredentialRequest<'a> {
    /// The registry as users write it: `docker.io`.
    pub registry: &'a str,
    /// Host and port of the server that asks: `registry-1.docker.io`, or a mirror's.
    pub host: &'a str,
    /// Whether that server is the registry itself.
    pub upstream: bool,
    /// How it wants to be answered.
    pub challenges: &'a [Challenge],
}

/// A future of credentials.
pub type CredentialFuture<'a> =
    Pin<Box<dyn Future<Output = Result<Credentials, String>> + Send + 'a>>;

/// Where credentials come from: fixed ones, or somebody who is asked when a server wants
/// them. An error's text is shown to the user.
pub trait CredentialSource: Send + Sync {
    /// The credentials for a host.
    fn credentials<'a>(&'a self, request: CredentialRequest<'a>) -> CredentialFuture<'a>;
}

/// Fixed credentials go to the registry itself, never to its mirrors.
impl CredentialSource for Credentials {
    fn credentials<'a>(&'a self, request: CredentialRequest<'a>) -> CredentialFuture<'a> {
        let given = if request.upstream { self.clone() } else { Self::Anonymous };
        Box::pin(ready(Ok(given)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_field_holds() {
        let all = Credentials::of("u", "p", "i", "r");
        assert_eq!(all, Credentials::RegistryToken("r".into()));
        assert_eq!(Credentials::of("u", "p", "i", ""), Credentials::IdentityToken("i".into()));
        assert_eq!(Credentials::of("", "p", "", ""), Credentials::Anonymous);
        let user = Credentials::of("u", "hidden", "", "");
        assert!(matches!(&user, Credentials::Password { username, .. } if username == "u"));
        assert!(!format!("{user:?}").contains("hidden"));
    }

    #[test]
    fn different_users_have_different_fingerprints() {
        let of = |user: &str, password: &str| Credentials::of(user, password, "", "").fingerprint();
        assert_ne!(of("a", "bc"), of("ab", "c"));
        assert_eq!(of("a", "b"), of("a", "b"));
    }
}
