//! Errors as docker tells them: the status and message of its API, word for word, since
//! tools match them. The rows of `tests/docker_texts.rs` were recorded from a stock dockerd.

use http::Method;
use oci::Reference;

use crate::answer::{Answer, ApiError, Code};
use crate::error::{Error, Object, Phase, Place};

/// What a user asked docker to do.
#[derive(Clone, Copy, Debug)]
pub enum Asked<'a> {
    /// Pull this.
    Pull(&'a Reference),
    /// Push.
    Push,
    /// Inspect what is in a registry.
    Inspect(&'a Reference),
    /// Log in.
    Login,
    /// Search.
    Search,
}

/// An error for docker's clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The HTTP status.
    pub status: u16,
    /// The message.
    pub message: String,
}

impl Error {
    /// The error as docker's API tells it.
    pub fn told(&self, asked: Asked<'_>) -> Told {
        match self {
            Self::NotFound { at, .. } if is_blob_fetch(at) => {
                Told { status: 404, message: "unknown blob".into() }
            }
            Self::NotFound { answer, .. }
            | Self::Unauthorized { answer, .. }
            | Self::Denied { answer, .. }
            | Self::RateLimited { answer, .. }
            | Self::Rejected { answer, .. }
            | Self::Server { answer, .. } => told_answer(answer, asked),
            Self::Token { at, cause } => {
                // Whatever was asked, what the token server said is told as it is.
                let cause = cause.told(Asked::Login);
                prefixed(at, asked, cause.status, &cause.message)
            }
            Self::NoCredentials { at } => prefixed(at, asked, 500, "no basic auth credentials"),
            Self::Connect { at, text, .. } | Self::Broken { at, text } => {
                prefixed(at, asked, 500, text)
            }
            Self::Timeout { at, phase, .. } => prefixed(at, asked, 500, waiting(at, *phase)),
            Self::InvalidParameter(message) => Told { status: 400, message: message.clone() },
            Self::Config(why) => Told { status: 400, message: why.to_string() },
            Self::InvalidRegistry { text } => Told { status: 400, message: text.clone() },
            Self::SchemaOne { .. } => Told { status: 400, message: schema_one(asked) },
            Self::Truncated { .. } => Told { status: 500, message: "unexpected EOF".into() },
            Self::DigestMismatch { at, .. } | Self::SizeMismatch { at, .. } => {
                Told { status: 500, message: unverified(at) }
            }
            Self::Protocol { what, .. } => Told { status: 500, message: what.clone() },
            _ => Told { status: 500, message: self.to_string() },
        }
    }
}

fn is_blob_fetch(at: &Place) -> bool {
    at.method == Method::GET && matches!(at.object, Object::Blob(_) | Object::Config(_))
}

fn told_answer(answer: &Answer, asked: Asked<'_>) -> Told {
    if let (Asked::Pull(reference), Some(first)) = (asked, answer.errors.first()) {
        return told_pull(first, reference);
    }
    if let Asked::Search = asked {
        return Told { status: 500, message: format!("Unexpected status code {}", answer.status) };
    }
    Told { status: answer.code().status(), message: answer.to_string() }
}

/// Of several errors docker tells the first; a bare code it does not translate.
fn told_pull(first: &ApiError, reference: &Reference) -> Told {
    let name = reference.familiar_name();
    let message = match first.code {
        _ if first.message.is_none() => first.to_string(),
        Code::Denied => format!(
            "pull access denied for {name}, repository does not exist or may require \
             'docker login': {first}"
        ),
        Code::ManifestUnknown => {
            format!("manifest for {} not found: {first}", reference.familiar())
        }
        Code::NameUnknown => format!("repository {name} not found: {first}"),
        _ => first.to_string(),
    };
    let hidden = first.code == Code::Denied && first.message.is_some();
    Told { status: if hidden { 404 } else { first.code.status() }, message }
}

/// Go's HTTP client puts method and URL before what went wrong; docker takes them off
/// again on the way of a push, and where it fetches blobs.
fn prefixed(at: &Place, asked: Asked<'_>, status: u16, cause: &str) -> Told {
    let blob = matches!(at.object, Object::Blob(_) | Object::Config(_) | Object::Upload);
    let bare = matches!(asked, Asked::Push) && at.object != Object::Registry;
    let message = if blob || bare {
        cause.to_owned()
    } else {
        let method = at.method.as_str();
        let method = format!("{}{}", &method[..1], method[1..].to_ascii_lowercase());
        format!("{method} \"{}\": {cause}", at.url)
    };
    Told { status, message }
}

fn waiting(at: &Place, phase: Phase) -> &'static str {
    match (phase, &at.object) {
        (Phase::Answer, Object::Registry) => {
            "context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
        }
        (Phase::Answer, _) => "net/http: timeout awaiting response headers",
        (Phase::Body, _) => "i/o timeout",
    }
}

fn unverified(at: &Place) -> String {
    match &at.object {
        Object::Manifest(reference) => {
            format!("manifest verification failed for digest {reference}")
        }
        Object::Config(digest) => format!("image config verification failed for digest {digest}"),
        Object::Blob(digest) => format!("filesystem layer verification failed for digest {digest}"),
        object => format!("verification failed for {object}"),
    }
}

fn schema_one(asked: Asked<'_>) -> String {
    let author = match asked {
        Asked::Pull(reference) | Asked::Inspect(reference) => format!(
            " Suggest the author of {reference} to upgrade the image to the OCI Format or Docker \
             Image manifest v2, schema 2."
        ),
        _ => String::new(),
    };
    format!(
        "Docker Image Format v1 and Docker Image manifest version 2, schema 1 support has been \
         removed.{author} More information at https://docs.docker.com/go/deprecated-image-specs/"
    )
}
