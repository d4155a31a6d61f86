//! "Pull": manifests, blobs, and whether they exist.

use oci::{Digest, media_type};

use crate::support::*;

#[test]
fn determining_support_v2_is_200() {
    both("determining_support_v2_is_200", |r| {
        let reply = get(r, "/v2/");
        assert_eq!(reply.status, 200);
        assert_eq!(reply.header("Docker-Distribution-Api-Version"), Some("registry/2.0"));
    });
}

#[test]
fn pulling_manifests_by_tag_and_digest_gives_the_expected_bytes_and_their_digest() {
    both("pulling_manifests_by_tag_and_digest", |r| {
        let manifest = image(r, "a/b", "1", |_| {});
        let digest = Digest::sha256(&manifest).to_string();
        assert_eq!(put(r, "a/b", "t", &manifest).status, 201);
        for reference in ["t", &digest] {
            let reply = get_manifest(r, "a/b", reference);
            assert_eq!((reply.status, &reply.body), (200, &manifest));
            assert_eq!(reply.header("Docker-Content-Digest"), Some(digest.as_str()));
            let length = manifest.len().to_string();
            assert_eq!(reply.header("Content-Length"), Some(length.as_str()));
        }
    });
}

#[test]
fn pulling_manifests_the_content_type_is_the_pushed_one_without_parameters() {
    both("pulling_manifests_the_content_type_is_the_pushed_one", |r| {
        for (n, media) in [media_type::OCI_MANIFEST, media_type::DOCKER_MANIFEST].iter().enumerate()
        {
            let manifest = image(r, "a", &n.to_string(), |m| {
                m["mediaType"] = (*media).into();
                if *media == media_type::DOCKER_MANIFEST {
                    m["config"]["mediaType"] = media_type::DOCKER_CONFIG.into();
                    m["layers"][0]["mediaType"] = media_type::DOCKER_LAYER_GZIP.into();
                }
            });
            assert_eq!(put(r, "a", "t", &manifest).status, 201);
            assert_eq!(get_manifest(r, "a", "t").header("Content-Type"), Some(*media));
        }
    });
}

#[test]
fn pulling_manifests_a_type_that_the_document_does_not_name_is_kept() {
    ours(|r| {
        let manifest = image(r, "a", "1", |m| {
            m.as_object_mut().unwrap().remove("mediaType");
        });
        for media in [media_type::DOCKER_MANIFEST, media_type::OCI_MANIFEST] {
            let target = "/v2/a/manifests/t";
            let reply = r.send("PUT", target, &[("Content-Type", media)], &manifest).unwrap();
            assert_eq!(reply.status, 201);
            assert_eq!(get(r, target).header("Content-Type"), Some(media));
        }
    });
}

#[test]
fn pulling_manifests_that_are_not_there_is_404() {
    both("pulling_manifests_that_are_not_there_is_404", |r| {
        push_image(r, "a", "t");
        let digest = nothing().to_string();
        for (name, reference) in
            [("a", "other"), ("a", digest.as_str()), ("b", "t"), ("b", digest.as_str())]
        {
            let reply = get_manifest(r, name, reference);
            assert_error(&reply, 404, "MANIFEST_UNKNOWN");
        }
    });
}

#[test]
fn pulling_manifests_what_is_neither_tag_nor_digest_is_refused() {
    ours(|r| {
        for bad in [".x", "-x", "a%20b", &"x".repeat(129), "sha256:", "sha256:xyz", "md5:abcd"] {
            let reply = get(r, &format!("/v2/a/manifests/{bad}"));
            assert_eq!(reply.status, 400, "{bad}: {reply:?}");
        }
        let longest = "x".repeat(128);
        push_image(r, "a", &longest);
        assert_eq!(get(r, &format!("/v2/a/manifests/{longest}")).status, 200);
    });
}

#[test]
fn pulling_manifests_names_outside_the_grammar_are_no_repositories() {
    ours(|r| {
        for bad in ["A", "a//b", "a..b", "-a", "a_", "a___b", "..", &"a".repeat(256)] {
            let reply = get(r, &format!("/v2/{bad}/tags/list"));
            assert_error(&reply, 400, "NAME_INVALID");
        }
    });
}

#[test]
fn pulling_manifests_names_of_every_allowed_form_work() {
    both("pulling_manifests_names_of_every_allowed_form_work", |r| {
        for good in ["a", "a/b/c", "a.b", "a_b", "a__b", "a-b", "0", "tags/list/blobs"] {
            push_image(r, good, "t");
            assert_eq!(get_manifest(r, good, "t").status, 200, "{good}");
        }
    });
}

#[test]
fn pulling_blobs_gives_the_expected_bytes_and_their_digest() {
    both("pulling_blobs_gives_the_expected_bytes_and_their_digest", |r| {
        let bytes = noise(300_000);
        for content in [&bytes[..], b"x", b""] {
            let digest = push_blob(r, "a", content);
            let reply = get(r, &format!("/v2/a/blobs/{digest}"));
            assert_eq!(reply.status, 200);
            assert!(reply.body == content);
            let found: Digest = reply.header("Docker-Content-Digest").unwrap().parse().unwrap();
            assert!(found.matches(&reply.body));
        }
    });
}

#[test]
fn pulling_blobs_that_are_not_there_is_404() {
    both("pulling_blobs_that_are_not_there_is_404", |r| {
        let elsewhere = push_blob(r, "b", b"elsewhere");
        for digest in [nothing(), elsewhere] {
            let reply = get(r, &format!("/v2/a/blobs/{digest}"));
            assert_error(&reply, 404, "BLOB_UNKNOWN");
        }
    });
}

#[test]
fn pulling_blobs_supports_range() {
    both("pulling_blobs_supports_range", |r| {
        let bytes = noise(1000);
        let target = format!("/v2/a/blobs/{}", push_blob(r, "a", &bytes));
        let part = |range: &str| r.send("GET", &target, &[("Range", range)], b"").unwrap();
        for (range, from, to) in [
            ("bytes=0-0", 0, 1),
            ("bytes=10-", 10, 1000),
            ("bytes=-7", 993, 1000),
            ("bytes=5-9999", 5, 1000),
        ] {
            let reply = part(range);
            assert_eq!((reply.status, &reply.body[..]), (206, &bytes[from..to]), "{range}");
            let expected = format!("bytes {from}-{}/1000", to - 1);
            assert_eq!(reply.header("Content-Range"), Some(expected.as_str()));
            assert_eq!(reply.header("Content-Length"), Some((to - from).to_string().as_str()));
        }
        assert_eq!(get(r, &target).header("Accept-Ranges"), Some("bytes"));
    });
}

#[test]
fn pulling_blobs_requests_that_are_sent_ahead_are_answered_in_order() {
    use std::io::{Read, Write};
    both("pulling_blobs_requests_that_are_sent_ahead_are_answered_in_order", |r| {
        let bytes = noise(3_000_000);
        let (one, two) = (push_blob(r, "a", &bytes), push_blob(r, "a", b"small"));
        let mut stream = std::net::TcpStream::connect(r.address()).unwrap();
        let request = |digest: &Digest, more: &str| {
            format!("GET /v2/a/blobs/{digest} HTTP/1.1\r\nHost: x\r\n{more}\r\n")
        };
        let mut requests: String = [&one, &two, &one].iter().map(|d| request(d, "")).collect();
        requests.push_str(&request(&one, "Range: bytes=5-2000004\r\nConnection: close\r\n"));
        let mut writer = stream.try_clone().unwrap();
        let sending = std::thread::spawn(move || writer.write_all(requests.as_bytes()));
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        sending.join().unwrap().unwrap();
        let mut rest = &all[..];
        for expected in [&bytes[..], b"small", &bytes, &bytes[5..2_000_005]] {
            let end = rest.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
            assert!(rest.starts_with(b"HTTP/1.1 20"));
            assert!(rest[end..].starts_with(expected));
            rest = &rest[end + expected.len()..];
        }
        assert!(rest.is_empty());
    });
}

#[test]
fn pulling_blobs_a_range_beyond_the_end_is_416() {
    // docker-registry 2.8 announces more bytes than it then sends.
    ours(|r| {
        let target = format!("/v2/a/blobs/{}", push_blob(r, "a", b"0123456789"));
        let reply = r.send("GET", &target, &[("Range", "bytes=10-")], b"").unwrap();
        assert_error(&reply, 416, "SIZE_INVALID");
        assert_eq!(reply.header("Content-Range"), Some("bytes */10"));
    });
}

#[test]
fn pulling_blobs_a_range_of_another_version_or_in_another_unit_gets_everything() {
    ours(|r| {
        let digest = push_blob(r, "a", b"0123456789");
        let target = format!("/v2/a/blobs/{digest}");
        let etag = format!("\"{digest}\"");
        for (headers, status) in [
            ([("Range", "bytes=1-2"), ("If-Range", etag.as_str())], 206),
            ([("Range", "bytes=1-2"), ("If-Range", "\"other\"")], 200),
            ([("Range", "lines=1-2"), ("Accept", "*/*")], 200),
            ([("Range", "bytes=2-1"), ("Accept", "*/*")], 200),
            ([("Range", "bytes=0-1,3-4"), ("Accept", "*/*")], 200),
        ] {
            assert_eq!(
                r.send("GET", &target, &headers, b"").unwrap().status,
                status,
                "{headers:?}"
            );
        }
    });
}

#[test]
fn pulling_what_the_client_has_already_is_304() {
    both("pulling_what_the_client_has_already_is_304", |r| {
        let manifest = push_image(r, "a", "t");
        let blob = push_blob(r, "a", b"x");
        for (target, digest) in
            [("/v2/a/manifests/t".to_owned(), manifest), (format!("/v2/a/blobs/{blob}"), blob)]
        {
            let etag = format!("\"{digest}\"");
            let reply = r.send("GET", &target, &[ACCEPT, ("If-None-Match", &etag)], b"").unwrap();
            assert_eq!(reply.status, 304, "{target}");
        }
    });
}

#[test]
fn checking_if_content_exists_has_the_headers_of_get_and_no_body() {
    both("checking_if_content_exists_has_the_headers_of_get_and_no_body", |r| {
        let manifest = push_image(r, "a", "t");
        let blob = push_blob(r, "a", b"0123456789");
        for target in [
            "/v2/a/manifests/t".to_owned(),
            format!("/v2/a/manifests/{manifest}"),
            format!("/v2/a/blobs/{blob}"),
        ] {
            let head = r.send("HEAD", &target, &[ACCEPT], b"").unwrap();
            let get = r.send("GET", &target, &[ACCEPT], b"").unwrap();
            assert_eq!((head.status, get.status), (200, 200), "{target}");
            let shown = |reply: &lab::Reply| {
                let mut all: Vec<_> = reply
                    .headers
                    .iter()
                    .map(|(name, value)| (name.to_ascii_lowercase(), value.clone()))
                    .filter(|(name, _)| name != "date" && name != "connection")
                    .collect();
                all.sort();
                all
            };
            assert_eq!(shown(&head), shown(&get));
            assert_eq!(head.header("Content-Length"), Some(get.body.len().to_string().as_str()));
            assert!(head.header("Docker-Content-Digest").is_some() && head.body.is_empty());
        }
    });
}

#[test]
fn checking_if_content_exists_that_does_not_is_404() {
    both("checking_if_content_exists_that_does_not_is_404", |r| {
        push_image(r, "a", "t");
        let digest = nothing();
        for target in [
            "/v2/a/manifests/other".to_owned(),
            format!("/v2/a/manifests/{digest}"),
            format!("/v2/a/blobs/{digest}"),
            "/v2/b/manifests/t".to_owned(),
        ] {
            let reply = r.send("HEAD", &target, &[ACCEPT], b"").unwrap();
            assert_eq!((reply.status, reply.body.len()), (404, 0), "{target}");
        }
    });
}

#[test]
fn pulling_by_sha512_works_for_blobs_and_manifests() {
    ours(|r| {
        let manifest = image(r, "a", "1", |_| {});
        let digest = sha512(&manifest).to_string();
        assert_eq!(put(r, "a", &digest, &manifest).status, 201);
        let reply = get_manifest(r, "a", &digest);
        assert_eq!((reply.status, &reply.body), (200, &manifest));
        assert_eq!(reply.header("Docker-Content-Digest"), Some(digest.as_str()));
        let blob = sha512(b"blob");
        push_blob_as(r, "a", b"blob", &blob);
        let reply = get(r, &format!("/v2/a/blobs/{blob}"));
        assert_eq!((reply.status, &reply.body[..]), (200, &b"blob"[..]));
        assert_eq!(reply.header("Docker-Content-Digest"), Some(blob.to_string().as_str()));
    });
}

#[test]
fn registry_proxying_the_parameter_ns_is_ignored() {
    both("registry_proxying_the_parameter_ns_is_ignored", |r| {
        push_image(r, "a", "t");
        let target = "/v2/a/manifests/t?ns=registry.example.org";
        assert_eq!(r.send("GET", target, &[ACCEPT], b"").unwrap().status, 200);
    });
}
