//! Who may do what: nobody is asked, or a password file is, or a token says it.

mod htpasswd;
mod keys;
mod ring_jwt;
mod token;

use std::path::PathBuf;

use http::{HeaderMap, HeaderValue, header};
use serde_json::json;

use crate::api::{ApiError, Code};
use crate::name::Repository;
use htpasswd::Passwords;
use token::Tokens;

/// Longest `Authorization` header that is looked at.
const MAX_HEADER: usize = 64 << 10;

/// What somebody wants to do with a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Pull,
    Push,
    Delete,
}

impl Action {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "push",
            Self::Delete => "delete",
        }
    }
}

/// What a request needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// These actions on a repository.
    Repository(Repository, &'static [Action]),
    /// The list of all repositories.
    Catalog,
}

impl Need {
    fn kind(&self) -> &'static str {
        match self {
            Self::Repository(..) => "repository",
            Self::Catalog => "registry",
        }
    }

    fn name(&self) -> &str {
        match self {
            Self::Repository(name, _) => name.as_str(),
            Self::Catalog => "catalog",
        }
    }

    fn actions(&self) -> Vec<&'static str> {
        match self {
            Self::Repository(_, actions) => actions.iter().map(|action| action.as_str()).collect(),
            Self::Catalog => vec!["*"],
        }
    }
}

/// How tokens are checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenOptions {
    /// Where clients get tokens.
    pub realm: String,
    /// The audience: this registry's name there.
    pub service: String,
    /// Who signs.
    pub issuer: String,
    /// Certificates of those whose signatures count.
    pub root_cert_bundle: Option<PathBuf>,
    /// Keys whose signatures count.
    pub jwks: Option<PathBuf>,
}

/// How requests are authorized.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Options {
    /// Everybody may do everything.
    #[default]
    None,
    /// Users of a password file may do everything.
    Htpasswd {
        /// The file.
        path: PathBuf,
        /// What clients show when they ask for the password.
        realm: String,
    },
    /// Tokens say who may do what.
    Token(TokenOptions),
}

/// The check itself.
pub(crate) enum Auth {
    None,
    Htpasswd(Box<Passwords>),
    Token(Box<Tokens>),
}

/// Why a check cannot be set up.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct InvalidAuth(pub String);

impl Auth {
    /// Sets the check up, reading its files.
    pub(crate) fn new(options: &Options) -> Result<Self, InvalidAuth> {
        Ok(match options {
            Options::None => Self::None,
            Options::Htpasswd { path, realm } => {
                Self::Htpasswd(Box::new(Passwords::open(path, realm)?))
            }
            Options::Token(options) => Self::Token(Box::new(Tokens::open(options)?)),
        })
    }

    /// Reads the files again; after an error what was known stays.
    pub(crate) fn reload(&self) -> Result<(), InvalidAuth> {
        match self {
            Self::None => Ok(()),
            Self::Htpasswd(passwords) => passwords.reload(),
            Self::Token(tokens) => tokens.reload(),
        }
    }

    /// Who is asking, if anybody must say so.
    ///
    /// # Errors
    /// 401 with the challenge.
    pub(crate) async fn check(
        &self,
        headers: &HeaderMap,
        needs: &[Need],
    ) -> Result<Option<String>, ApiError> {
        match self {
            Self::None => Ok(None),
            Self::Htpasswd(passwords) => passwords.check(headers, needs).await.map(Some),
            Self::Token(tokens) => tokens.check(headers, needs).map(Some),
        }
    }
}

/// The credentials after `scheme` in the `Authorization` header.
fn credentials<'h>(headers: &'h HeaderMap, scheme: &str) -> Option<&'h str> {
    let value = headers.get(header::AUTHORIZATION)?;
    let text = value.to_str().ok().filter(|text| text.len() <= MAX_HEADER)?;
    let (own, rest) = text.split_once(' ')?;
    own.eq_ignore_ascii_case(scheme).then(|| rest.trim())
}

/// 401, saying what was wanted and how to get it.
fn challenge(needs: &[Need], challenge: &str) -> ApiError {
    let wanted: Vec<_> = needs
        .iter()
        .flat_map(|need| need.actions().into_iter().map(move |action| (need, action)))
        .map(|(need, action)| {
            json!({"Type": need.kind(), "Class": "", "Name": need.name(), "Action": action})
        })
        .collect();
    let error = if wanted.is_empty() {
        ApiError::new(Code::Unauthorized)
    } else {
        ApiError::with(Code::Unauthorized, wanted)
    };
    let value = HeaderValue::from_str(challenge);
    error.header(header::WWW_AUTHENTICATE, value.unwrap_or(HeaderValue::from_static("Basic")))
}

/// A text between quotes in a header.
fn quoted(text: &str) -> String {
    let plain: String = text.chars().filter(|c| !c.is_control()).collect();
    format!("\"{}\"", plain.replace('\\', "\\\\").replace('"', "\\\""))
}
