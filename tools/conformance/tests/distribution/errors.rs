//! "Error Codes", and the semantics of HTTP where the specification says nothing of its own.

use lab::{Registry, RegistryKind};

use crate::support::*;

/// The codes of the specification, and those of its forerunner that it lets registries use.
const CODES: [&str; 15] = [
    "BLOB_UNKNOWN",
    "BLOB_UPLOAD_INVALID",
    "BLOB_UPLOAD_UNKNOWN",
    "DIGEST_INVALID",
    "MANIFEST_BLOB_UNKNOWN",
    "MANIFEST_INVALID",
    "MANIFEST_UNKNOWN",
    "NAME_INVALID",
    "NAME_UNKNOWN",
    "SIZE_INVALID",
    "UNAUTHORIZED",
    "DENIED",
    "UNSUPPORTED",
    "TOOMANYREQUESTS",
    "TAG_INVALID",
];

#[test]
fn errors_in_json_have_the_prescribed_form_and_codes() {
    both("errors_in_json_have_the_prescribed_form_and_codes", |r| {
        let digest = nothing();
        for (method, target) in [
            ("GET", "/v2/a/manifests/t".to_owned()),
            ("GET", format!("/v2/a/blobs/{digest}")),
            ("GET", "/v2/a/blobs/sha256:x".into()),
            ("GET", "/v2/a/tags/list".into()),
            ("DELETE", format!("/v2/a/manifests/{digest}")),
            ("DELETE", format!("/v2/a/blobs/{digest}")),
        ] {
            let reply = ask(r, method, &target);
            assert!((400..500).contains(&reply.status), "{target}");
            assert!(reply.header("Content-Type").unwrap().starts_with("application/json"));
            let body = reply.json();
            let errors = body["errors"].as_array().unwrap();
            assert_eq!(body.as_object().unwrap().len(), 1);
            for error in errors {
                assert!(CODES.contains(&error["code"].as_str().unwrap()), "{error}");
                assert!(error["message"].is_string());
                let known = ["code", "message", "detail"];
                assert!(error.as_object().unwrap().keys().all(|k| known.contains(&k.as_str())));
            }
        }
    });
}

#[test]
fn the_messages_are_those_that_docker_shows() {
    let asked: [(&str, String); 8] = [
        ("GET", "/v2/a/manifests/t".into()),
        ("GET", format!("/v2/a/manifests/{}", nothing())),
        ("GET", format!("/v2/a/blobs/{}", nothing())),
        ("GET", "/v2/a/blobs/sha256:zz".into()),
        ("GET", "/v2/a/tags/list".into()),
        ("GET", "/v2/a/blobs/uploads/123e4567-e89b-42d3-a456-426614174000".into()),
        ("DELETE", format!("/v2/a/blobs/{}", nothing())),
        ("GET", "/nothing".into()),
    ];
    if lab::docker_registry().is_none() {
        println!("SKIPPED: the_messages_are_those_that_docker_shows: no docker-registry");
        return;
    }
    let [theirs, ours] =
        [RegistryKind::Docker, RegistryKind::Ferry].map(|kind| Registry::start(kind, &[]).unwrap());
    for (method, target) in &asked {
        let [a, b] = [&theirs, &ours].map(|r| {
            let reply = ask(r, method, target);
            let error = &reply.json()["errors"][0];
            (reply.status, error["code"].clone(), error["message"].clone())
        });
        // Without its own state docker-registry finds an upload invalid, not unknown.
        if target.contains("uploads") {
            continue;
        }
        assert_eq!(a, b, "{method} {target}");
    }
}

#[test]
fn too_many_requests_say_when_to_come_again() {
    let r = Registry::start(RegistryKind::Ferry, &["--max-uploads=2"]).unwrap();
    begin(&r, "a");
    let second = begin(&r, "a");
    let reply = ask(&r, "POST", "/v2/a/blobs/uploads/");
    assert_error(&reply, 429, "TOOMANYREQUESTS");
    assert!(reply.header("Retry-After").unwrap().parse::<u32>().unwrap() > 0);
    ask(&r, "DELETE", &second);
    begin(&r, "a");
}

#[test]
fn a_method_that_does_not_fit_is_405_and_says_which_do() {
    ours(|r| {
        for (method, target, allowed) in [
            ("PATCH", "/v2/a/manifests/t", "GET, HEAD, PUT, DELETE"),
            ("PUT", "/v2/a/tags/list", "GET, HEAD"),
            ("GET", "/v2/a/blobs/uploads/", "POST"),
            ("POST", "/v2/", "GET, HEAD"),
        ] {
            let reply = ask(r, method, target);
            assert_error(&reply, 405, "UNSUPPORTED");
            assert_eq!(reply.header("Allow"), Some(allowed), "{target}");
        }
    });
}

#[test]
fn a_head_without_end_is_refused_and_the_server_goes_on() {
    use std::io::{Read, Write};
    ours(|r| {
        let mut stream = std::net::TcpStream::connect(r.address()).unwrap();
        stream.write_all(b"GET /v2/ HTTP/1.1\r\nHost: x\r\n").unwrap();
        let line = format!("X-Long: {}\r\n", "x".repeat(8000));
        for _ in 0..100 {
            if stream.write_all(line.as_bytes()).is_err() {
                break;
            }
        }
        let mut answer = String::new();
        // The connection may also simply end.
        stream.read_to_string(&mut answer).ok();
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
        assert_eq!(get(r, "/v2/").status, 200);
    });
}

#[test]
fn one_connection_serves_many_requests() {
    use std::io::{BufRead, BufReader, Write};
    both("one_connection_serves_many_requests", |r| {
        let mut stream = std::net::TcpStream::connect(r.address()).unwrap();
        let mut from = BufReader::new(stream.try_clone().unwrap());
        for _ in 0..3 {
            stream.write_all(b"HEAD /v2/ HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
            let mut lines = String::new();
            while !lines.ends_with("\r\n\r\n") {
                assert!(from.read_line(&mut lines).unwrap() > 0);
            }
            assert!(lines.starts_with("HTTP/1.1 200 OK\r\n"), "{lines}");
        }
    });
}
