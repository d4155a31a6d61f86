//! A pull-through cache: of ourselves, of docker-registry, and of registries that lie, stall or
//! are gone.

#![allow(clippy::unwrap_used)]

mod common;
#[path = "common/keys.rs"]
#[allow(dead_code, reason = "this file uses a part")]
mod keys;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use common::{ask, assert_whole, push_blob, push_image, start};
use lab::{Registry, RegistryKind, Reply, Request, Scratch, run, wait_until};
use oci::Digest;

/// A cache of what is at `address`.
fn cache_of(address: SocketAddr, more: &[&str]) -> Registry {
    let url = format!("--proxy-remote-url=http://{address}");
    start(&[&[url.as_str()], more].concat())
}

fn code(reply: &Reply) -> (u16, String) {
    (reply.status, reply.json()["errors"][0]["code"].as_str().unwrap_or_default().to_owned())
}

#[test]
fn what_was_pulled_once_is_served_when_the_registry_behind_is_gone() {
    let mut kinds = vec![RegistryKind::Ferry];
    if lab::docker_registry().is_some() {
        kinds.push(RegistryKind::Docker);
    } else {
        eprintln!("SKIPPED: a cache of docker-registry: it is not installed");
    }
    for kind in kinds {
        let mut upstream = Registry::start(kind, &[]).unwrap();
        let digest = push_image(&upstream, "a/b", "1", "t", None).unwrap();
        push_image(&upstream, "a/b", "2", "never-pulled", None);
        let cache = cache_of(upstream.address(), &[]);
        assert_whole(&cache, "a/b", "t");
        let fresh = ask(&cache, "GET", "/v2/a/b/manifests/t");
        assert_eq!(fresh.header("Warning"), None);
        upstream.kill();
        assert_whole(&cache, "a/b", "t");
        assert_whole(&cache, "a/b", &digest.to_string());
        let stale = ask(&cache, "GET", "/v2/a/b/manifests/t");
        assert!(stale.header("Warning").unwrap().starts_with("299 - \""), "{stale:?}");
        let tags = ask(&cache, "GET", "/v2/a/b/tags/list");
        assert_eq!(tags.json()["tags"], serde_json::json!(["t"]));
        let never = ask(&cache, "GET", "/v2/a/b/manifests/other");
        assert_eq!(code(&never), (503, "UNAVAILABLE".into()));
        assert_eq!(ask(&cache, "GET", "/v2/_catalog").json()["repositories"][0], "a/b");
    }
}

#[test]
fn a_tag_is_where_the_registry_behind_has_it_now() {
    let upstream = start(&[]);
    push_image(&upstream, "a", "1", "t", None).unwrap();
    let cache = cache_of(upstream.address(), &[]);
    assert_whole(&cache, "a", "t");
    let second = push_image(&upstream, "a", "2", "t", None).unwrap().to_string();
    let shown = |registry: &Registry| {
        let head = ask(registry, "HEAD", "/v2/a/manifests/t");
        head.header("Docker-Content-Digest").map(str::to_owned)
    };
    assert_eq!(shown(&cache).as_deref(), Some(second.as_str()));
    assert_whole(&cache, "a", "t");
    ask(&upstream, "DELETE", "/v2/a/manifests/t");
    assert_eq!(code(&ask(&cache, "GET", "/v2/a/manifests/t")), (404, "MANIFEST_UNKNOWN".into()));
    // Its bytes are known still.
    assert_whole(&cache, "a", &second);
}

#[test]
fn what_the_registry_behind_does_not_have_is_not_there() {
    let upstream = start(&[]);
    push_image(&upstream, "a", "1", "t", None).unwrap();
    let cache = cache_of(upstream.address(), &[]);
    let nothing = Digest::sha256(b"nothing");
    for (target, expected) in [
        ("/v2/a/manifests/x".to_owned(), "MANIFEST_UNKNOWN"),
        ("/v2/b/manifests/t".into(), "MANIFEST_UNKNOWN"),
        (format!("/v2/a/manifests/{nothing}"), "MANIFEST_UNKNOWN"),
        (format!("/v2/a/blobs/{nothing}"), "BLOB_UNKNOWN"),
        ("/v2/b/tags/list".into(), "NAME_UNKNOWN"),
    ] {
        assert_eq!(code(&ask(&cache, "GET", &target)), (404, expected.into()), "{target}");
        assert_eq!(ask(&cache, "HEAD", &target).status, 404, "{target}");
    }
}

#[test]
fn a_blob_of_one_repository_is_not_served_for_another_that_lacks_it() {
    let upstream = start(&[]);
    let digest = push_blob(&upstream, "a", b"content").unwrap();
    push_blob(&upstream, "b", b"other").unwrap();
    let cache = cache_of(upstream.address(), &[]);
    let of = |name: &str| ask(&cache, "GET", &format!("/v2/{name}/blobs/{digest}"));
    assert_eq!(of("a").body, b"content");
    assert_eq!(code(&of("b")), (404, "BLOB_UNKNOWN".into()));
    push_blob(&upstream, "b", b"content").unwrap();
    assert_eq!(of("b").body, b"content");
}

#[test]
fn nothing_can_be_pushed_or_deleted() {
    let upstream = start(&[]);
    let digest = push_image(&upstream, "a", "1", "t", None).unwrap();
    let cache = cache_of(upstream.address(), &[]);
    for (method, target) in [
        ("POST", "/v2/a/blobs/uploads/".to_owned()),
        ("PUT", "/v2/a/manifests/t".into()),
        ("DELETE", format!("/v2/a/manifests/{digest}")),
    ] {
        assert_eq!(code(&ask(&cache, method, &target)), (405, "UNSUPPORTED".into()));
    }
}

#[test]
fn requests_for_one_blob_at_once_fetch_it_once() {
    let upstream = start(&["--access-log=%/access"]);
    let bytes: Vec<u8> = (0..6_000_000u32).map(|n| (n / 7) as u8).collect();
    let digest = push_blob(&upstream, "a", &bytes).unwrap();
    let cache = cache_of(upstream.address(), &[]);
    let target = format!("/v2/a/blobs/{digest}");
    std::thread::scope(|scope| {
        for n in 0..8 {
            let (cache, bytes, target) = (&cache, &bytes, &target);
            scope.spawn(move || {
                // Some want only a part.
                let range = [("Range", "bytes=1000000-2999999")];
                let headers = if n % 2 == 0 { &range[..] } else { &[] };
                let reply = cache.send("GET", target, headers, b"").unwrap();
                if n % 2 == 0 {
                    assert_eq!(reply.status, 206);
                    assert!(reply.body == bytes[1_000_000..3_000_000]);
                } else {
                    assert_eq!(reply.status, 200);
                    assert!(&reply.body == bytes);
                }
            });
        }
    });
    let log = upstream.scratch().join("access");
    let line = format!("\"GET {target} ");
    wait_until("the line", Duration::from_secs(30), || {
        std::fs::read_to_string(&log).is_ok_and(|text| text.contains(&line))
    })
    .unwrap();
    assert_eq!(std::fs::read_to_string(&log).unwrap().matches(&line).count(), 1);
}

#[test]
fn what_nobody_uses_is_forgotten_and_fetched_again() {
    let upstream = start(&[]);
    push_image(&upstream, "a", "1", "t", None).unwrap();
    let cache = cache_of(upstream.address(), &["--proxy-ttl=1s"]);
    assert_whole(&cache, "a", "t");
    let repositories = cache.root().join("docker/registry/v2/repositories");
    wait_until("an empty cache", Duration::from_secs(60), || {
        std::fs::read_dir(&repositories).is_ok_and(|mut entries| entries.next().is_none())
    })
    .unwrap();
    assert_whole(&cache, "a", "t");
}

#[test]
fn its_own_user_is_shown_to_the_registry_behind() {
    if !keys::has_tools("its_own_user_is_shown_to_the_registry_behind") {
        return;
    }
    let scratch = Scratch::new("cache").unwrap();
    let users = keys::text(&scratch.join("users"));
    run("htpasswd", ["-cbB", &users, "ann", "secret"]).unwrap().success().unwrap();
    let password = scratch.join("password");
    std::fs::write(&password, "secret\n").unwrap();
    let open = start(&[]);
    push_image(&open, "a", "1", "t", None).unwrap();
    let scratch_of_upstream = open.into_scratch();
    let flags = ["--auth-htpasswd", &users];
    let upstream = Registry::start_in(RegistryKind::Ferry, &flags, scratch_of_upstream).unwrap();
    let stranger = cache_of(upstream.address(), &[]);
    assert_eq!(code(&ask(&stranger, "GET", "/v2/a/manifests/t")), (403, "DENIED".into()));
    let file = format!("--proxy-password-file={}", keys::text(&password));
    let known = cache_of(upstream.address(), &["--proxy-username=ann", &file]);
    assert_whole(&known, "a", "t");
}

/// A registry behind that does as it is told: it serves one blob, in parts that the test lets go.
struct Told {
    address: SocketAddr,
    parts: Sender<Vec<u8>>,
    requests: Receiver<String>,
}

impl Told {
    /// Announces `length` bytes for each GET of the blob.
    fn new(length: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (parts, to_send) = channel::<Vec<u8>>();
        let (told, requests) = channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                serve(stream.unwrap(), length, &to_send, &told);
            }
        });
        Self { address, parts, requests }
    }
}

/// One connection; a part of no bytes ends it.
fn serve(mut stream: TcpStream, length: usize, parts: &Receiver<Vec<u8>>, told: &Sender<String>) {
    let mut from = BufReader::new(stream.try_clone().unwrap());
    loop {
        let mut first = String::new();
        if from.read_line(&mut first).unwrap_or_default() == 0 {
            return;
        }
        let mut line = String::new();
        while from.read_line(&mut line).unwrap_or_default() > 2 {
            line.clear();
        }
        told.send(first.trim_end().to_owned()).ok();
        if !first.contains("/blobs/") {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").ok();
            continue;
        }
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
        stream.write_all(head.as_bytes()).ok();
        let mut left = length;
        while left > 0 {
            let Ok(part) = parts.recv() else { return };
            if part.is_empty() {
                return;
            }
            stream.write_all(&part).ok();
            left -= part.len();
        }
    }
}

/// Begins to read a blob from the cache; its head has been read.
fn begin(cache: &Registry, digest: &Digest) -> TcpStream {
    let target = format!("/v2/a/blobs/{digest}");
    let mut request = Request::begin(cache.address(), "GET", &target, &[], None).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        request.stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&head));
    request.stream
}

#[test]
fn bytes_are_passed_on_as_they_come_and_whoever_joins_gets_them_too() {
    let bytes = vec![b'x'; 1000];
    let digest = Digest::sha256(&bytes);
    let upstream = Told::new(bytes.len());
    let cache = cache_of(upstream.address, &[]);
    upstream.parts.send(bytes[..600].to_vec()).unwrap();
    let mut first = begin(&cache, &digest);
    let mut half = [0; 599];
    first.read_exact(&mut half).unwrap();
    let mut second = begin(&cache, &digest);
    second.read_exact(&mut half).unwrap();
    upstream.parts.send(bytes[600..].to_vec()).unwrap();
    for stream in [&mut first, &mut second] {
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        assert_eq!(half.len() + rest.len(), bytes.len());
    }
    let asked: Vec<String> = upstream.requests.try_iter().collect();
    let gets = asked.iter().filter(|line| line.starts_with("GET") && line.contains("/blobs/"));
    assert_eq!(gets.count(), 1, "{asked:?}");
}

#[test]
fn what_is_not_what_its_digest_says_is_never_served_whole_and_not_kept() {
    let bytes = vec![b'x'; 1000];
    let digest = Digest::sha256(&bytes);
    let upstream = Told::new(bytes.len());
    let cache = cache_of(upstream.address, &[]);
    let mut wrong = bytes.clone();
    wrong[999] = b'y';
    upstream.parts.send(wrong).unwrap();
    let mut stream = begin(&cache, &digest);
    let mut body = Vec::new();
    // The connection ends, in order or not, before the body does.
    stream.read_to_end(&mut body).ok();
    assert!(body.len() < bytes.len(), "{}", body.len());
    assert!(cache.log().contains("sent something else"), "{}", cache.log());
    let uploads = cache.root().join("ferry/uploads");
    wait_until("the upload's end", Duration::from_secs(30), || {
        std::fs::read_dir(&uploads).unwrap().next().is_none()
    })
    .unwrap();
    // The next one who asks gets the right ones.
    upstream.parts.send(bytes.clone()).unwrap();
    let reply = ask(&cache, "GET", &format!("/v2/a/blobs/{digest}"));
    assert!(reply.body == bytes);
}

#[test]
fn a_certificate_of_the_registry_behind_is_verified() {
    if !keys::has_tools("a_certificate_of_the_registry_behind_is_verified") {
        return;
    }
    let scratch = Scratch::new("cache").unwrap();
    let ca = keys::Pair::own(&scratch, "ca", false);
    let pair = ca.by(&scratch, "server", false);
    let (cert, key) = (keys::text(&pair.cert), keys::text(&pair.key));
    let upstream = start(&["--tlscert", &cert, "--tlskey", &key]);
    let url = format!("--proxy-remote-url=https://{}", upstream.address());
    let cache = start(&[&url]);
    let refused = ask(&cache, "GET", "/v2/a/manifests/t");
    assert_eq!(code(&refused), (503, "UNAVAILABLE".into()));
    assert!(refused.text().contains("certificate"), "{}", refused.text());
    let roots = format!("SSL_CERT_FILE={}", keys::text(&ca.cert));
    let fresh = Scratch::new("cache").unwrap();
    let cache = Registry::start_below(&["env", &roots], &[&url], fresh).unwrap();
    let known = ask(&cache, "GET", "/v2/a/manifests/t");
    assert_eq!(code(&known), (404, "MANIFEST_UNKNOWN".into()));
}
