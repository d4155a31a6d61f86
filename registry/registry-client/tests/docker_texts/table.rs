//! The table: how a registry refuses, and what docker then says.

use crate::support::Answer;

const PLAIN: &str = "text/plain";
const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// How a registry answers for a repository, and what docker then says: `PULL` and `LOOK`
/// (`GET /distribution/…`), each with a status. `HOST` stands for the registry.
pub(crate) struct Row {
    pub(crate) repository: &'static str,
    pub(crate) answer: fn() -> Answer,
    pub(crate) pull: (u16, &'static str),
    pub(crate) look: (u16, &'static str),
}

pub(crate) fn json(status: u16, body: &str) -> Answer {
    Answer::new(status).json(body)
}

pub(crate) fn plain(status: u16, body: &str) -> Answer {
    Answer::new(status).with("content-type", PLAIN).body(body)
}

pub(crate) fn coded(status: u16, code: &str, message: &str, detail: &str) -> Answer {
    let body =
        format!(r#"{{"errors":[{{"code":"{code}","message":"{message}","detail":{detail}}}]}}"#);
    json(status, &body)
}

pub(crate) const ROWS: &[Row] = &[
    Row {
        repository: "unknown",
        answer: || coded(404, "MANIFEST_UNKNOWN", "manifest unknown", r#"{"Tag":"latest"}"#),
        pull: (
            404,
            "manifest for HOST/unknown:latest not found: manifest unknown: manifest unknown",
        ),
        look: (404, "manifest unknown: manifest unknown"),
    },
    Row {
        repository: "bare",
        answer: || json(404, r#"{"errors":[{"code":"MANIFEST_UNKNOWN"}]}"#),
        pull: (404, "manifest unknown"),
        look: (404, "manifest unknown"),
    },
    Row {
        repository: "noname",
        answer: || {
            coded(404, "NAME_UNKNOWN", "repository name not known to registry", r#"{"name":"x"}"#)
        },
        pull: (
            404,
            "repository HOST/noname not found: name unknown: repository name not known to registry",
        ),
        look: (404, "name unknown: repository name not known to registry"),
    },
    Row {
        repository: "denied",
        answer: || coded(403, "DENIED", "requested access to the resource is denied", "[]"),
        pull: (
            404,
            "pull access denied for HOST/denied, repository does not exist or may require 'docker login': denied: requested access to the resource is denied",
        ),
        look: (403, "denied: requested access to the resource is denied"),
    },
    Row {
        repository: "denied401",
        answer: || coded(401, "DENIED", "requested access to the resource is denied", "[]"),
        pull: (
            404,
            "pull access denied for HOST/denied401, repository does not exist or may require 'docker login': denied: requested access to the resource is denied",
        ),
        look: (403, "denied: requested access to the resource is denied"),
    },
    Row {
        repository: "unauth",
        answer: || {
            coded(401, "UNAUTHORIZED", "authentication required", r#"[{"Type":"repository"}]"#)
        },
        pull: (401, "unauthorized: authentication required"),
        look: (401, "unauthorized: authentication required"),
    },
    Row {
        repository: "unauthbare",
        answer: || coded(401, "UNAUTHORIZED", "authentication required", "null"),
        pull: (401, "unauthorized"),
        look: (401, "unauthorized"),
    },
    Row {
        repository: "many",
        answer: || coded(429, "TOOMANYREQUESTS", "You have reached your pull rate limit.", "null"),
        pull: (429, "toomanyrequests: You have reached your pull rate limit."),
        look: (429, "toomanyrequests: You have reached your pull rate limit."),
    },
    Row {
        repository: "manyraw",
        answer: || plain(429, "slow down"),
        pull: (429, "toomanyrequests: slow down"),
        look: (429, "toomanyrequests: slow down"),
    },
    Row {
        repository: "two",
        answer: || {
            let both = r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"one"},{"code":"DENIED","message":"two"}]}"#;
            json(400, both)
        },
        pull: (404, "manifest for HOST/two:latest not found: manifest unknown: one"),
        look: (404, "errors:\nmanifest unknown: one\ndenied: two\n"),
    },
    Row {
        repository: "none",
        answer: || json(404, r#"{"errors":[]}"#),
        pull: (
            500,
            r#"error parsing HTTP 404 response body: no error details found in HTTP response body: "{\"errors\":[]}""#,
        ),
        look: (
            500,
            r#"error parsing HTTP 404 response body: no error details found in HTTP response body: "{\"errors\":[]}""#,
        ),
    },
    Row {
        repository: "details",
        answer: || json(401, r#"{"details":"incorrect username or password"}"#),
        pull: (401, "unauthorized: incorrect username or password"),
        look: (401, "unauthorized: incorrect username or password"),
    },
    Row {
        repository: "odd",
        answer: || coded(404, "WEIRD_CODE", "something odd", r#""more""#),
        pull: (500, "unknown: something odd"),
        look: (500, "unknown: something odd"),
    },
    Row {
        repository: "unavailable",
        answer: || coded(503, "UNAVAILABLE", "service unavailable", "null"),
        pull: (500, "received unexpected HTTP status: 503 Service Unavailable"),
        look: (500, "received unexpected HTTP status: 503 Service Unavailable"),
    },
    Row {
        repository: "words",
        answer: || Answer { reason: Some("Backend fetch failed"), ..plain(503, "guru") },
        pull: (500, "received unexpected HTTP status: 503 Backend fetch failed"),
        look: (500, "received unexpected HTTP status: 503 Backend fetch failed"),
    },
    Row {
        repository: "plain401",
        answer: || plain(401, "go away\n"),
        pull: (401, "unauthorized: go away\n"),
        look: (401, "unauthorized: go away\n"),
    },
    Row {
        repository: "plain403",
        answer: || plain(403, "go away"),
        pull: (
            404,
            "pull access denied for HOST/plain403, repository does not exist or may require 'docker login': denied: go away",
        ),
        look: (403, "denied: go away"),
    },
    Row {
        repository: "plain404",
        answer: || plain(404, "404 page not found"),
        pull: (500, "unknown: 404 page not found"),
        look: (500, "unknown: 404 page not found"),
    },
    Row {
        repository: "empty401",
        answer: || json(401, ""),
        pull: (401, "unauthorized: authentication required"),
        look: (401, "unauthorized: authentication required"),
    },
    Row {
        repository: "empty404",
        answer: || json(404, ""),
        pull: (500, r#"error parsing HTTP 404 response body: unexpected end of JSON input: """#),
        look: (500, r#"error parsing HTTP 404 response body: unexpected end of JSON input: """#),
    },
    Row {
        repository: "html",
        answer: || Answer::new(200).with("content-type", "text/html").body("<html>hello</html>"),
        pull: (
            500,
            "error unmarshalling content: invalid character '<' looking for beginning of value",
        ),
        look: (
            500,
            "error unmarshalling content: invalid character '<' looking for beginning of value",
        ),
    },
    Row {
        repository: "halved",
        answer: || {
            Answer::new(200).with("content-type", MANIFEST).body(r#"{"schemaVersion":2,"broken"#)
        },
        pull: (500, "unexpected end of JSON input"),
        look: (500, "unexpected end of JSON input"),
    },
    Row {
        repository: "scope",
        answer: || coded(401, "UNAUTHORIZED", "authentication required", "null"),
        pull: (
            404,
            "pull access denied for HOST/scope, repository does not exist or may require 'docker login': denied: requested access to the resource is denied",
        ),
        look: (403, "errors:\ndenied: requested access to the resource is denied\nunauthorized\n"),
    },
];
