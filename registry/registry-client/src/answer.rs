//! A registry's refusal: its error codes and messages, read from whatever body came, and
//! worded as docker words them.

use std::fmt;

use serde::Deserialize;
use serde_json::Value;

use crate::challenge::Challenge;

/// Error bodies are read up to here.
pub(crate) const MAX_BODY: usize = 64 << 10;
/// Most errors of one body that are kept.
const MAX_ERRORS: usize = 32;

/// Error codes of the distribution specification and of common servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// Anything else.
    Unknown,
    /// The operation is not supported.
    Unsupported,
    /// Log in first.
    Unauthorized,
    /// Not allowed.
    Denied,
    /// Out of service.
    Unavailable,
    /// Too many requests.
    TooManyRequests,
    /// Content does not have the digest that was named.
    DigestInvalid,
    /// Content does not have the length that was named.
    SizeInvalid,
    /// A bad range.
    RangeInvalid,
    /// A bad repository name.
    NameInvalid,
    /// A bad tag.
    TagInvalid,
    /// No such repository.
    NameUnknown,
    /// No such manifest.
    ManifestUnknown,
    /// A malformed manifest.
    ManifestInvalid,
    /// A manifest whose signature does not hold.
    ManifestUnverified,
    /// A manifest names a blob that is not there.
    ManifestBlobUnknown,
    /// No such blob.
    BlobUnknown,
    /// No such upload.
    BlobUploadUnknown,
    /// A malformed upload.
    BlobUploadInvalid,
    /// A bad page size.
    PaginationNumberInvalid,
}

/// Code → name in bodies, the message it stands for, the HTTP status that docker gives it.
const CODES: &[(Code, &str, &str, u16)] = &[
    (Code::Unknown, "UNKNOWN", "unknown error", 500),
    (Code::Unsupported, "UNSUPPORTED", "The operation is unsupported.", 405),
    (Code::Unauthorized, "UNAUTHORIZED", "authentication required", 401),
    (Code::Denied, "DENIED", "requested access to the resource is denied", 403),
    (Code::Unavailable, "UNAVAILABLE", "service unavailable", 503),
    (Code::TooManyRequests, "TOOMANYREQUESTS", "too many requests", 429),
    (Code::DigestInvalid, "DIGEST_INVALID", "provided digest did not match uploaded content", 400),
    (Code::SizeInvalid, "SIZE_INVALID", "provided length did not match content length", 400),
    (Code::RangeInvalid, "RANGE_INVALID", "invalid content range", 416),
    (Code::NameInvalid, "NAME_INVALID", "invalid repository name", 400),
    (Code::TagInvalid, "TAG_INVALID", "manifest tag did not match URI", 400),
    (Code::NameUnknown, "NAME_UNKNOWN", "repository name not known to registry", 404),
    (Code::ManifestUnknown, "MANIFEST_UNKNOWN", "manifest unknown", 404),
    (Code::ManifestInvalid, "MANIFEST_INVALID", "manifest invalid", 400),
    (
        Code::ManifestUnverified,
        "MANIFEST_UNVERIFIED",
        "manifest failed signature verification",
        400,
    ),
    (Code::ManifestBlobUnknown, "MANIFEST_BLOB_UNKNOWN", "blob unknown to registry", 400),
    (Code::BlobUnknown, "BLOB_UNKNOWN", "blob unknown to registry", 404),
    (Code::BlobUploadUnknown, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry", 404),
    (Code::BlobUploadInvalid, "BLOB_UPLOAD_INVALID", "blob upload invalid", 404),
    (
        Code::PaginationNumberInvalid,
        "PAGINATION_NUMBER_INVALID",
        "invalid number of results requested",
        400,
    ),
];

impl Code {
    fn row(self) -> &'static (Self, &'static str, &'static str, u16) {
        CODES.iter().find(|row| row.0 == self).unwrap_or(&CODES[0])
    }

    fn of_name(name: &str) -> Self {
        CODES.iter().find(|row| row.1 == name).map_or(Self::Unknown, |row| row.0)
    }

    /// The message that the code stands for.
    pub fn message(self) -> &'static str {
        self.row().2
    }

    /// The status with which docker answers its own client.
    pub fn status(self) -> u16 {
        self.row().3
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.row().1.to_ascii_lowercase().replace('_', " "))
    }
}

/// One error of a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// The code.
    pub code: Code,
    /// The message; `None` when it adds nothing to the code.
    pub message: Option<String>,
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.message {
            Some(message) => write!(f, "{}: {message}", self.code),
            None => self.code.fmt(f),
        }
    }
}

/// What a registry said when it refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The status in the server's own words, where they are not the usual ones.
    reason: Option<String>,
    /// Its errors; none when the body held none.
    pub errors: Vec<ApiError>,
    /// Why no errors were found, as docker says it.
    unread: Option<String>,
}

impl Answer {
    /// Reads a refusal: what the challenge says first, then the body.
    pub fn read(
        status: u16,
        challenges: &[Challenge],
        content_type: Option<&str>,
        body: &[u8],
    ) -> Self {
        let mut errors: Vec<ApiError> =
            challenges.iter().find_map(of_challenge).into_iter().collect();
        let mut unread = None;
        if status < 500 {
            match of_body(status, content_type, body) {
                Ok(found) => errors.extend(found),
                Err(_) if !errors.is_empty() => {}
                Err(_) if status == 401 => errors.push(ApiError {
                    code: Code::Unauthorized,
                    message: Some(Code::Unauthorized.message().into()),
                }),
                Err(why) => {
                    let body = String::from_utf8_lossy(body);
                    unread =
                        Some(format!("error parsing HTTP {status} response body: {why}: {body:?}"));
                }
            }
        }
        Self { status, reason: None, errors, unread }
    }

    pub(crate) fn with_reason(mut self, reason: Option<String>) -> Self {
        self.reason = reason;
        self
    }

    /// The status as the server wrote it.
    pub fn status_line(&self) -> String {
        match &self.reason {
            Some(reason) => format!("{} {reason}", self.status),
            None => status_line(self.status),
        }
    }

    /// The first error's code; `Unknown` without one.
    pub fn code(&self) -> Code {
        self.errors.first().map_or(Code::Unknown, |error| error.code)
    }

    /// Whether any of its errors has this code.
    pub fn has(&self, code: Code) -> bool {
        self.errors.iter().any(|error| error.code == code)
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.errors.as_slice(), &self.unread) {
            ([error], _) => error.fmt(f),
            ([], Some(unread)) => f.write_str(unread),
            ([], None) => {
                write!(f, "received unexpected HTTP status: {}", self.status_line())
            }
            (errors, _) => {
                f.write_str("errors:\n")?;
                errors.iter().try_for_each(|error| writeln!(f, "{error}"))
            }
        }
    }
}

/// A status as HTTP/1.1 writes it, in Go's words.
pub(crate) fn status_line(status: u16) -> String {
    let reason = match status {
        413 => "Request Entity Too Large",
        416 => "Requested Range Not Satisfiable",
        418 => "I'm a teapot",
        status => http::StatusCode::from_u16(status)
            .ok()
            .and_then(|status| status.canonical_reason())
            .unwrap_or_default(),
    };
    format!("{status} {reason}").trim_end().to_owned()
}

/// A token server's verdict travels in the challenge.
fn of_challenge(challenge: &Challenge) -> Option<ApiError> {
    let code = match challenge.get("error") {
        Some("invalid_token") => Code::Unauthorized,
        Some("insufficient_scope") => Code::Denied,
        _ => return None,
    };
    let message = challenge.get("error_description").unwrap_or(code.message());
    challenge.is("bearer").then(|| ApiError { code, message: Some(message.into()) })
}

#[derive(Deserialize)]
struct Errors {
    #[serde(default)]
    details: Value,
    #[serde(default)]
    errors: Value,
}

fn of_body(status: u16, content_type: Option<&str>, body: &[u8]) -> Result<Vec<ApiError>, String> {
    let media_type = content_type.unwrap_or_default().split(';').next().unwrap_or_default();
    let plain = |text: String| {
        let code = match status {
            401 => Code::Unauthorized,
            403 => Code::Denied,
            429 => Code::TooManyRequests,
            _ => Code::Unknown,
        };
        vec![ApiError { code, message: Some(text) }]
    };
    if !matches!(media_type.trim(), "application/json" | "application/vnd.api+json") {
        return Ok(plain(String::from_utf8_lossy(body).into_owned()));
    }
    let parsed: Errors = serde_json::from_slice(body).map_err(|e| json_error(body, &e))?;
    if let Value::String(details) = parsed.details
        && !details.is_empty()
    {
        return Ok(plain(details));
    }
    let Value::Array(errors) = parsed.errors else {
        return Err("no error details found in HTTP response body".into());
    };
    if errors.is_empty() {
        return Err("no error details found in HTTP response body".into());
    }
    Ok(errors.iter().take(MAX_ERRORS).map(one).collect())
}

fn one(error: &Value) -> ApiError {
    let text = |name: &str| error.get(name).and_then(Value::as_str).unwrap_or_default();
    let code = Code::of_name(text("code"));
    let message = text("message");
    let bare = error.get("detail").is_none_or(Value::is_null)
        && (message.is_empty() || message == code.message());
    ApiError { code, message: (!bare).then(|| message.to_owned()) }
}

/// The commonest of Go's texts for JSON that is none.
pub(crate) fn json_error(body: &[u8], error: &serde_json::Error) -> String {
    let first = body.iter().find(|b| !b.is_ascii_whitespace());
    match first {
        Some(b'{' | b'[' | b'"' | b'-' | b'0'..=b'9' | b't' | b'f' | b'n') if !error.is_eof() => {
            error.to_string()
        }
        Some(b'{' | b'[' | b'"' | b'-' | b'0'..=b'9' | b't' | b'f' | b'n') | None => {
            "unexpected end of JSON input".into()
        }
        Some(_) => {
            let text = String::from_utf8_lossy(body);
            let c = text.trim_start().chars().next().unwrap_or_default();
            format!("invalid character {c:?} looking for beginning of value")
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::challenge;

    fn told(status: u16, content_type: &str, body: &str) -> String {
        Answer::read(status, &[], Some(content_type), body.as_bytes()).to_string()
    }

    #[test]
    fn bodies_are_worded_as_docker_words_them() {
        let json = "application/json; charset=utf-8";
        for (status, kind, body, expected) in [
            (
                404,
                json,
                r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{"Tag":"x"}}]}"#,
                "manifest unknown: manifest unknown",
            ),
            (
                404,
                json,
                r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#,
                "manifest unknown",
            ),
            (404, json, r#"{"errors":[{"code":"MANIFEST_UNKNOWN"}]}"#, "manifest unknown"),
            (
                403,
                json,
                r#"{"errors":[{"code":"DENIED","message":"no","detail":null}]}"#,
                "denied: no",
            ),
            (
                400,
                json,
                r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"one"},{"code":"DENIED","message":"two"}]}"#,
                "errors:\nmanifest unknown: one\ndenied: two\n",
            ),
            (404, json, r#"{"errors":[{"code":"WEIRD","message":"odd"}]}"#, "unknown: odd"),
            (
                401,
                json,
                r#"{"details":"incorrect username or password"}"#,
                "unauthorized: incorrect username or password",
            ),
            (
                404,
                json,
                r#"{"errors":[]}"#,
                r#"error parsing HTTP 404 response body: no error details found in HTTP response body: "{\"errors\":[]}""#,
            ),
            (
                404,
                json,
                "",
                r#"error parsing HTTP 404 response body: unexpected end of JSON input: """#,
            ),
            (
                404,
                json,
                "<p>",
                r#"error parsing HTTP 404 response body: invalid character '<' looking for beginning of value: "<p>""#,
            ),
            (401, json, "", "unauthorized: authentication required"),
            (401, "text/plain", "go away\n", "unauthorized: go away\n"),
            (403, "text/plain", "go away", "denied: go away"),
            (404, "text/html", "<p>", "unknown: <p>"),
            (429, "", "slow down", "toomanyrequests: slow down"),
            (
                503,
                json,
                r#"{"errors":[{"code":"UNAVAILABLE"}]}"#,
                "received unexpected HTTP status: 503 Service Unavailable",
            ),
        ] {
            assert_eq!(told(status, kind, body), expected, "{status} {body}");
        }
    }

    #[test]
    fn a_challenge_may_carry_the_verdict() {
        let of = |header: &str| {
            Answer::read(401, &challenge::parse(header), Some("application/json"), b"").to_string()
        };
        assert_eq!(
            of(r#"Bearer realm="x",error="insufficient_scope""#),
            "denied: requested access to the resource is denied"
        );
        assert_eq!(
            of(r#"Bearer realm="x",error="invalid_token",error_description="expired""#),
            "unauthorized: expired"
        );
    }

    proptest! {
        #[test]
        fn no_body_panics(status in 400u16..600, body in "\\PC{0,60}") {
            told(status, "application/json", &body);
        }

        #[test]
        fn no_json_body_panics(
            body in r#"\{"errors":(null|1|\[(\{"code":("DENIED"|1|null)(,"message":("x"|\[\]))?\}|3|null)\])\}"#
        ) {
            told(400, "application/json", &body);
        }
    }
}
