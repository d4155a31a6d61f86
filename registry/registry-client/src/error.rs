//! Everything that can go wrong, in one enum. Each text names the registry, the
//! repository, the object, and what to do where something can be done.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use http::Method;
use oci::Digest;

use crate::answer::{Answer, Code, status_line};
use crate::hosts::Capability;
use crate::url::{InvalidUrl, Url};

/// What a request was about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    /// The registry itself: the first contact, or a login.
    Registry,
    /// A token for the registry.
    Token,
    /// A manifest, by tag or digest.
    Manifest(String),
    /// A config.
    Config(Digest),
    /// Any other blob.
    Blob(Digest),
    /// An upload whose digest is not known yet.
    Upload,
    /// The tags of a repository.
    Tags,
    /// What refers to a manifest.
    Referrers(Digest),
    /// The repositories of a registry.
    Catalog,
    /// A search.
    Search(String),
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry => f.write_str("the registry"),
            Self::Token => f.write_str("a token"),
            Self::Manifest(reference) => write!(f, "manifest {reference}"),
            Self::Config(digest) => write!(f, "config {digest}"),
            Self::Blob(digest) => write!(f, "blob {digest}"),
            Self::Upload => f.write_str("an upload"),
            Self::Tags => f.write_str("the tags"),
            Self::Referrers(digest) => write!(f, "the referrers of {digest}"),
            Self::Catalog => f.write_str("the catalog"),
            Self::Search(term) => write!(f, "search for {term:?}"),
        }
    }
}

/// Where an error happened: the request and what it was for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The method.
    pub method: Method,
    /// The URL as requested, before redirects.
    pub url: Url,
    /// The registry as users write it.
    pub registry: String,
    /// The repository within it.
    pub repository: Option<String>,
    /// The object.
    pub object: Object,
}

impl Place {
    /// `registry/repository`, or the registry alone.
    pub fn name(&self) -> String {
        match &self.repository {
            Some(repository) => format!("{}/{repository}", self.registry),
            None => self.registry.clone(),
        }
    }

    /// Whether something is sent rather than fetched.
    fn writes(&self) -> bool {
        self.method != Method::GET && self.method != Method::HEAD
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = match self.method {
            Method::GET => "fetch",
            Method::HEAD => "look up",
            Method::DELETE => "delete",
            _ => "push",
        };
        match self.object {
            Object::Registry => write!(f, "{}: cannot reach the registry", self.name()),
            Object::Search(_) => write!(f, "{}: {} failed", self.name(), self.object),
            _ => write!(f, "{}: cannot {verb} {}", self.name(), self.object),
        }
    }
}

/// A place, kept small so that results stay small.
pub type At = Box<Place>;

/// Why no connection was made; the text is Go's, for users look it up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectKind {
    /// The name does not resolve.
    Name,
    /// Nobody listens.
    Refused,
    /// No answer in time.
    Timeout,
    /// The certificate is not accepted.
    Certificate,
    /// Plain HTTP where TLS was expected.
    PlainHttp,
    /// The proxy refused.
    Proxy,
    /// A configured certificate can't be used.
    Configuration,
    /// Anything else.
    Other,
}

/// What took too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The answer's head.
    Answer,
    /// The next bytes of the answer's body.
    Body,
}

/// Configuration that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file can't be read.
    #[error("cannot read {path}: {cause}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// A file's content can't be used.
    #[error("{path}: {why}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A value can't be used; the text is docker's.
    #[error("{0}")]
    Value(String),
}

/// A failed operation.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The object is not there.
    #[error("{at}: {answer}{}", hint(at, answer))]
    NotFound {
        /// Where.
        at: At,
        /// What the registry said.
        answer: Answer,
    },
    /// The registry does not know who asks, or does not accept the credentials.
    #[error("{at}: {answer} (log in to {} first, or check the credentials)", at.registry)]
    Unauthorized {
        /// Where.
        at: At,
        /// What the registry said.
        answer: Answer,
    },
    /// The registry knows who asks and says no.
    #[error("{at}: {answer}{}", hint(at, answer))]
    Denied {
        /// Where.
        at: At,
        /// What the registry said.
        answer: Answer,
    },
    /// Too many requests.
    #[error("{at}: {answer}{}", wait(retry_after.as_ref(), "too many requests: wait, or log in for a higher limit"))]
    RateLimited {
        /// Where.
        at: At,
        /// What the registry said.
        answer: Answer,
        /// When to come back, if it said so.
        retry_after: Option<Duration>,
    },
    /// Any other answer of 400 to 499.
    #[error("{at}: {answer}")]
    Rejected {
        /// Where.
        at: At,
        /// What the registry said.
        answer: Answer,
    },
    /// The registry failed.
    #[error("{at}: the server failed with {}{}", answer.status_line(), wait(retry_after.as_ref(), "try again later"))]
    Server {
        /// Where.
        at: At,
        /// What the registry said.
        answer: Answer,
        /// When to come back, if it said so.
        retry_after: Option<Duration>,
    },
    /// The registry wants user and password, and there are none.
    #[error("{at}: no basic auth credentials (log in to {} first)", at.registry)]
    NoCredentials {
        /// Where.
        at: At,
    },
    /// A login was not accepted.
    #[error("login attempt to {} failed with status: {}", at.url, status_line(*status))]
    Login {
        /// Where.
        at: At,
        /// The HTTP status.
        status: u16,
    },
    /// No token could be had.
    #[error("{at}: no token: {cause}")]
    Token {
        /// The request that needed it.
        at: At,
        /// What went wrong at the token server.
        cause: Box<Error>,
    },
    /// Content that is not what its digest says.
    #[error("{at}: expected digest {expected}, got {actual} (nothing was kept)")]
    DigestMismatch {
        /// Where.
        at: At,
        /// The digest that was asked for.
        expected: Box<Digest>,
        /// The digest of what came.
        actual: Box<Digest>,
    },
    /// Content whose size is not what its descriptor says.
    #[error("{at}: expected {expected} bytes, the server announces {actual}")]
    SizeMismatch {
        /// Where.
        at: At,
        /// The size of the descriptor.
        expected: u64,
        /// The size that the server announces or sends.
        actual: u64,
    },
    /// The content ended early, again and again.
    #[error("{at}: the content ended after {received} of {expected} bytes")]
    Truncated {
        /// Where.
        at: At,
        /// The size of the whole.
        expected: u64,
        /// What came.
        received: u64,
    },
    /// More than may be held in memory.
    #[error("{at}: larger than {limit} bytes")]
    TooLarge {
        /// Where.
        at: At,
        /// The bound.
        limit: u64,
    },
    /// A manifest of Docker's schema 1.
    #[error("{at}: Docker schema 1 ({media_type}) is not supported (its author must push it anew)")]
    SchemaOne {
        /// Where.
        at: At,
        /// The media type.
        media_type: String,
    },
    /// An answer that breaks the protocol.
    #[error("{at}: {what}")]
    Protocol {
        /// Where.
        at: At,
        /// What is wrong with it.
        what: String,
    },
    /// No connection.
    #[error("{at}: {text}")]
    Connect {
        /// Where.
        at: At,
        /// Of what kind.
        kind: ConnectKind,
        /// In Go's words.
        text: String,
    },
    /// No progress in time.
    #[error("{at}: no {} within {} s", waited(*phase), after.as_secs())]
    Timeout {
        /// Where.
        at: At,
        /// For what.
        phase: Phase,
        /// The limit.
        after: Duration,
    },
    /// The connection broke.
    #[error("{at}: the connection broke: {text}")]
    Broken {
        /// Where.
        at: At,
        /// In Go's words.
        text: String,
    },
    /// What should be pushed can't be read.
    #[error("{at}: cannot read what is to be sent: {cause}")]
    Source {
        /// Where.
        at: At,
        /// Why.
        cause: io::Error,
    },
    /// The registry can't do that.
    #[error("{at}: the registry does not support it ({what})")]
    Unsupported {
        /// Where.
        at: At,
        /// What is missing.
        what: &'static str,
    },
    /// A registry can't be searched; the text is docker's.
    #[error("{text}")]
    InvalidRegistry {
        /// The whole text.
        text: String,
    },
    /// A parameter that can't be used; the text is docker's.
    #[error("{0}")]
    InvalidParameter(String),
    /// Nothing is configured that may serve the request.
    #[error("no registry host of {registry} is configured to {what}")]
    NoHost {
        /// The registry.
        registry: String,
        /// What it would have to be able to do.
        what: Capability,
    },
    /// Broken configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

impl Error {
    /// Where it happened, if a request was made.
    pub fn at(&self) -> Option<&Place> {
        match self {
            Self::NotFound { at, .. }
            | Self::Unauthorized { at, .. }
            | Self::Denied { at, .. }
            | Self::RateLimited { at, .. }
            | Self::Rejected { at, .. }
            | Self::Server { at, .. }
            | Self::NoCredentials { at }
            | Self::Login { at, .. }
            | Self::Token { at, .. }
            | Self::DigestMismatch { at, .. }
            | Self::SizeMismatch { at, .. }
            | Self::Truncated { at, .. }
            | Self::TooLarge { at, .. }
            | Self::SchemaOne { at, .. }
            | Self::Protocol { at, .. }
            | Self::Connect { at, .. }
            | Self::Timeout { at, .. }
            | Self::Broken { at, .. }
            | Self::Source { at, .. }
            | Self::Unsupported { at, .. } => Some(at),
            Self::InvalidRegistry { .. }
            | Self::InvalidParameter(_)
            | Self::NoHost { .. }
            | Self::Config(_) => None,
        }
    }

    /// What the registry said, if it refused.
    pub fn answer(&self) -> Option<&Answer> {
        match self {
            Self::NotFound { answer, .. }
            | Self::Unauthorized { answer, .. }
            | Self::Denied { answer, .. }
            | Self::RateLimited { answer, .. }
            | Self::Rejected { answer, .. }
            | Self::Server { answer, .. } => Some(answer),
            _ => None,
        }
    }

    /// Whether the object is not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }

    /// Whether the same request may succeed a moment later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Server { answer, .. } => matches!(answer.status, 500 | 502 | 503 | 504),
            Self::RateLimited { .. } | Self::Timeout { .. } | Self::Broken { .. } => true,
            Self::Truncated { .. } => true,
            Self::Connect { kind, .. } => {
                matches!(kind, ConnectKind::Refused | ConnectKind::Timeout | ConnectKind::Other)
            }
            Self::Rejected { answer, .. } => answer.status == 408,
            Self::Token { cause, .. } => cause.is_transient(),
            _ => false,
        }
    }

    /// How long the server asked to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after, .. } | Self::Server { retry_after, .. } => {
                *retry_after
            }
            Self::Token { cause, .. } => cause.retry_after(),
            _ => None,
        }
    }

    /// Content with digest `actual` where `expected` was asked for.
    pub fn digest_mismatch(at: At, expected: Digest, actual: Digest) -> Self {
        Self::DigestMismatch { at, expected: Box::new(expected), actual: Box::new(actual) }
    }

    pub(crate) fn protocol(at: At, what: impl Into<String>) -> Self {
        Self::Protocol { at, what: what.into() }
    }

    /// A URL in an answer that can't be used.
    pub(crate) fn bad_url(at: At, what: &str, text: &str, why: &InvalidUrl) -> Self {
        Self::Protocol { at, what: format!("the {what} {text:?} can't be used: {why}") }
    }

    /// The error that a refusal is.
    pub(crate) fn refused(at: At, answer: Answer, retry_after: Option<Duration>) -> Self {
        match answer.status {
            500.. => Self::Server { at, answer, retry_after },
            429 => Self::RateLimited { at, answer, retry_after },
            404 => Self::NotFound { at, answer },
            401 if answer.code() == Code::Denied => Self::Denied { at, answer },
            401 => Self::Unauthorized { at, answer },
            403 => Self::Denied { at, answer },
            _ if answer.has(Code::ManifestUnknown) || answer.has(Code::NameUnknown) => {
                Self::NotFound { at, answer }
            }
            _ => Self::Rejected { at, answer },
        }
    }
}

fn waited(phase: Phase) -> &'static str {
    match phase {
        Phase::Answer => "answer",
        Phase::Body => "further bytes",
    }
}

/// How long the server asked to wait, else what is known without.
fn wait(retry_after: Option<&Duration>, otherwise: &str) -> String {
    match retry_after {
        Some(wait) => format!(" (the server asks to wait {} s)", wait.as_secs()),
        None => format!(" ({otherwise})"),
    }
}

/// What a user can do about it.
fn hint(at: &Place, answer: &Answer) -> String {
    let registry = &at.registry;
    match answer.code() {
        Code::Denied if at.writes() => {
            format!(" (log in to {registry} as a user who may write there)")
        }
        Code::Denied => format!(" (it does not exist, or {registry} wants a login)"),
        Code::ManifestUnknown | Code::NameUnknown => " (check name and tag)".into(),
        _ => String::new(),
    }
}
