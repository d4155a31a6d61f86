//! "Pushing blobs": monolithic, chunked, cancelled, mounted.

use std::io::Write;
use std::time::Duration;

use lab::{Registry, RegistryKind, Reply, Request};
use oci::Digest;

use crate::support::*;

fn patch(r: &Registry, to: &str, range: &str, bytes: &[u8]) -> Reply {
    r.send("PATCH", to, &[OCTETS, ("Content-Range", range)], bytes).unwrap()
}

fn assert_pullable(r: &Registry, reply: &Reply, bytes: &[u8]) {
    assert_eq!(reply.status, 201, "{reply:?} {}", reply.text());
    let pulled = get(r, &location(reply));
    assert_eq!(pulled.status, 200);
    assert!(pulled.body == bytes);
}

#[test]
fn post_then_put_gives_a_session_with_a_uuid_and_then_a_pullable_location() {
    both("post_then_put", |r| {
        let post = ask(r, "POST", "/v2/a/blobs/uploads/");
        assert_eq!(post.status, 202);
        let session = location(&post);
        let path = session.split('?').next().unwrap();
        let uuid = path.rsplit('/').next().unwrap();
        let groups: Vec<usize> = uuid.split('-').map(str::len).collect();
        assert_eq!(groups, [8, 4, 4, 4, 12], "{session}");
        assert!(uuid.bytes().all(|b| b == b'-' || b.is_ascii_hexdigit()));
        let digest = Digest::sha256(b"bytes");
        let put = r.send("PUT", &with(&session, &format!("digest={digest}")), &[OCTETS], b"bytes");
        assert_pullable(r, &put.unwrap(), b"bytes");
    });
}

#[test]
fn each_session_has_an_id_of_its_own() {
    both("each_session_has_an_id_of_its_own", |r| {
        assert_ne!(begin(r, "a"), begin(r, "a"));
    });
}

#[test]
fn pushing_blobs_with_an_invalid_or_unsupported_digest_is_400() {
    ours(|r| {
        for bad in ["", "x", "sha256:", "sha256:abcd", "md5:d41d8cd98f00b204e9800998ecf8427e"] {
            let put =
                r.send("PUT", &with(&begin(r, "a"), &format!("digest={bad}")), &[OCTETS], b"x");
            assert_error(&put.unwrap(), 400, "DIGEST_INVALID");
            let post = format!("/v2/a/blobs/uploads/?digest={bad}");
            assert_error(&r.send("POST", &post, &[OCTETS], b"x").unwrap(), 400, "DIGEST_INVALID");
        }
        let none = r.send("PUT", &begin(r, "a"), &[OCTETS], b"x").unwrap();
        assert_error(&none, 400, "DIGEST_INVALID");
        let algorithm = ask(r, "POST", "/v2/a/blobs/uploads/?digest-algorithm=md5");
        assert_error(&algorithm, 400, "DIGEST_INVALID");
    });
}

#[test]
fn pushing_blobs_with_another_digest_than_theirs_is_refused_and_leaves_nothing() {
    both("pushing_blobs_with_another_digest_than_theirs", |r| {
        let digest = nothing();
        let session = begin(r, "a");
        let put = r.send("PUT", &with(&session, &format!("digest={digest}")), &[OCTETS], b"x");
        assert_error(&put.unwrap(), 400, "DIGEST_INVALID");
        assert_eq!(get(r, &format!("/v2/a/blobs/{digest}")).status, 404);
        assert_eq!(get(r, &session).status, 404, "the session is over");
    });
}

#[test]
fn single_post_makes_the_blob_or_falls_back_to_a_session() {
    both("single_post", |r| {
        let digest = Digest::sha256(b"bytes");
        let target = format!("/v2/a/blobs/uploads/?digest={digest}");
        let reply = r.send("POST", &target, &[OCTETS], b"bytes").unwrap();
        match r.kind() {
            RegistryKind::Ferry => assert_pullable(r, &reply, b"bytes"),
            RegistryKind::Docker => assert_eq!(reply.status, 202),
        }
    });
}

#[test]
fn single_post_of_another_digest_is_refused_and_without_a_body_begins_a_session() {
    ours(|r| {
        let target = format!("/v2/a/blobs/uploads/?digest={}", nothing());
        assert_error(&r.send("POST", &target, &[OCTETS], b"x").unwrap(), 400, "DIGEST_INVALID");
        let reply = ask(r, "POST", &target);
        assert_eq!(reply.status, 202);
        assert_eq!(get(r, &location(&reply)).status, 204);
        let empty = Digest::sha256(b"");
        let reply = ask(r, "POST", &format!("/v2/a/blobs/uploads/?digest={empty}"));
        assert_pullable(r, &reply, b"");
    });
}

#[test]
fn pushing_in_chunks_says_after_each_where_it_stands() {
    both("pushing_in_chunks_says_after_each_where_it_stands", |r| {
        let mut at = begin(r, "a");
        for (range, bytes) in [("0-4", b"01234"), ("5-9", b"56789")] {
            let reply = patch(r, &at, range, bytes);
            assert_eq!(reply.status, 202, "{reply:?}");
            let end = range.split('-').nth(1).unwrap();
            assert_eq!(reply.header("Range"), Some(format!("0-{end}").as_str()));
            at = location(&reply);
        }
        let digest = Digest::sha256(b"0123456789");
        let put = ask(r, "PUT", &with(&at, &format!("digest={digest}")));
        assert_pullable(r, &put, b"0123456789");
    });
}

#[test]
fn pushing_in_chunks_the_last_may_come_with_put() {
    both("pushing_in_chunks_the_last_may_come_with_put", |r| {
        let at = location(&patch(r, &begin(r, "a"), "0-4", b"01234"));
        let to = with(&at, &format!("digest={}", Digest::sha256(b"0123456789")));
        let put = r.send("PUT", &to, &[OCTETS, ("Content-Range", "5-9")], b"56789").unwrap();
        assert_pullable(r, &put, b"0123456789");
    });
}

#[test]
fn pushing_in_chunks_out_of_order_is_416_and_says_where_to_go_on() {
    ours(|r| {
        let at = begin(r, "a");
        for range in ["1-5", "10-14"] {
            let reply = patch(r, &at, range, b"01234");
            assert_error(&reply, 416, "BLOB_UPLOAD_INVALID");
            assert_eq!(location(&reply), at);
        }
        assert_eq!(patch(r, &at, "0-4", b"01234").status, 202);
        for range in ["0-4", "4-8", "6-10"] {
            let reply = patch(r, &at, range, b"01234");
            assert_eq!(reply.status, 416);
            assert_eq!(reply.header("Range"), Some("0-4"));
        }
        let to = with(&at, &format!("digest={}", Digest::sha256(b"0123456789")));
        let last = |range| r.send("PUT", &to, &[OCTETS, ("Content-Range", range)], b"56789");
        assert_eq!(last("6-10").unwrap().status, 416);
        assert_pullable(r, &last("5-9").unwrap(), b"0123456789");
    });
}

#[test]
fn pushing_in_chunks_the_current_status_is_204_with_location_and_range() {
    both("pushing_in_chunks_the_current_status", |r| {
        let begun = begin(r, "a");
        assert_eq!(get(r, &begun).status, 204);
        let at = location(&patch(r, &begun, "0-4", b"01234"));
        let reply = get(r, &at);
        assert_eq!((reply.status, reply.header("Range")), (204, Some("0-4")));
        let next = location(&reply);
        assert_eq!(patch(r, &next, "5-9", b"56789").status, 202);
    });
}

#[test]
fn pushing_in_chunks_without_a_content_range_appends() {
    both("pushing_in_chunks_without_a_content_range_appends", |r| {
        let mut at = begin(r, "a");
        for bytes in [b"01234", b"56789"] {
            let reply = r.send("PATCH", &at, &[OCTETS], bytes).unwrap();
            assert_eq!(reply.status, 202);
            at = location(&reply);
        }
        let put = ask(r, "PUT", &with(&at, &format!("digest={}", Digest::sha256(b"0123456789"))));
        assert_pullable(r, &put, b"0123456789");
    });
}

#[test]
fn pushing_in_chunks_of_http_without_a_length_works() {
    both("pushing_in_chunks_of_http_without_a_length_works", |r| {
        let headers = [OCTETS, ("Transfer-Encoding", "chunked")];
        let begun = begin(r, "a");
        let mut request = Request::begin(r.address(), "PATCH", &begun, &headers, None).unwrap();
        request.stream.write_all(b"5\r\n01234\r\n5\r\n56789\r\n0\r\n\r\n").unwrap();
        let reply = request.reply().unwrap();
        assert_eq!((reply.status, reply.header("Range")), (202, Some("0-9")));
        let to = with(&location(&reply), &format!("digest={}", Digest::sha256(b"0123456789")));
        assert_pullable(r, &ask(r, "PUT", &to), b"0123456789");
    });
}

#[test]
fn a_chunk_that_is_not_as_long_as_its_range_is_refused() {
    ours(|r| {
        let at = begin(r, "a");
        assert_error(&patch(r, &at, "0-9", b"01234"), 400, "SIZE_INVALID");
        for bad in ["x", "5", "9-5", "0-"] {
            assert_error(&patch(r, &at, bad, b"01234"), 400, "BLOB_UPLOAD_INVALID");
        }
        assert_eq!(get(r, &at).header("Range"), Some("0-0"));
    });
}

#[test]
fn an_interrupted_chunk_is_kept_as_far_as_it_came_and_the_upload_goes_on_from_there() {
    ours(|r| {
        let at = begin(r, "a");
        let bytes = noise(3_000_000);
        let length = Some(bytes.len() as u64);
        let mut request = Request::begin(r.address(), "PATCH", &at, &[OCTETS], length).unwrap();
        request.stream.write_all(&bytes[..1_700_000]).unwrap();
        drop(request);
        let mut offset = 0;
        lab::wait_until("the interrupted chunk", Duration::from_secs(30), || {
            let status = get(r, &at);
            let end = status.header("Range").unwrap().split('-').nth(1).unwrap().to_owned();
            offset = end.parse::<usize>().unwrap() + 1;
            offset > 1
        })
        .unwrap();
        // Whoever asks takes over; what had come by then counts.
        let rest = &bytes[offset..];
        let range = format!("{offset}-{}", bytes.len() - 1);
        assert_eq!(patch(r, &at, &range, rest).status, 202);
        let to = with(&at, &format!("digest={}", Digest::sha256(&bytes)));
        assert_pullable(r, &ask(r, "PUT", &to), &bytes);
    });
}

#[test]
fn a_digest_algorithm_other_than_sha256_may_be_announced_or_not() {
    ours(|r| {
        let digest = sha512(b"0123456789");
        for target in ["/v2/a/blobs/uploads/?digest-algorithm=sha512", "/v2/b/blobs/uploads/"] {
            let at = location(&ask(r, "POST", target));
            let at = location(&patch(r, &at, "0-9", b"0123456789"));
            let put = ask(r, "PUT", &with(&at, &format!("digest={digest}")));
            assert_pullable(r, &put, b"0123456789");
            assert!(location(&put).ends_with(&digest.to_string()));
        }
    });
}

#[test]
fn cancelling_an_upload_is_204_and_ends_it() {
    both("cancelling_an_upload_is_204_and_ends_it", |r| {
        let at = location(&patch(r, &begin(r, "a"), "0-4", b"01234"));
        assert_eq!(ask(r, "DELETE", &at).status, 204);
        assert_error(&get(r, &at), 404, "BLOB_UPLOAD_UNKNOWN");
    });
}

#[test]
fn an_upload_that_nobody_knows_or_of_another_repository_is_404() {
    ours(|r| {
        let begun = begin(r, "a");
        let unknown = "/v2/a/blobs/uploads/123e4567-e89b-42d3-a456-426614174000".to_owned();
        for target in [unknown, begun.replace("/v2/a/", "/v2/b/"), "/v2/a/blobs/uploads/x".into()] {
            for method in ["GET", "PATCH", "DELETE"] {
                assert_error(&ask(r, method, &target), 404, "BLOB_UPLOAD_UNKNOWN");
            }
            let put = ask(r, "PUT", &with(&target, &format!("digest={}", Digest::sha256(b""))));
            assert_error(&put, 404, "BLOB_UPLOAD_UNKNOWN");
        }
    });
}

#[test]
fn unfinished_uploads_time_out() {
    let r = Registry::start(RegistryKind::Ferry, &["--upload-expiry=1s"]).unwrap();
    let at = begin(&r, "a");
    let folder = r.root().join("ferry/uploads");
    // Asking is using: the folder is watched instead.
    lab::wait_until("the upload's end", Duration::from_secs(60), || {
        std::fs::read_dir(&folder).unwrap().count() == 0
    })
    .unwrap();
    assert_eq!(get(&r, &at).status, 404);
}

#[test]
fn mounting_a_blob_from_another_repository_is_201_with_a_pullable_location() {
    both("mounting_a_blob_from_another_repository", |r| {
        let digest = push_blob(r, "from/here", b"shared");
        let target = format!("/v2/to/there/blobs/uploads/?mount={digest}&from=from/here");
        let reply = ask(r, "POST", &target);
        assert_pullable(r, &reply, b"shared");
        assert!(location(&reply).contains("/v2/to/there/blobs/"));
        assert_eq!(reply.header("Docker-Content-Digest"), Some(digest.to_string().as_str()));
    });
}

#[test]
fn mounting_what_cannot_be_mounted_begins_an_upload() {
    both("mounting_what_cannot_be_mounted_begins_an_upload", |r| {
        let here = push_blob(r, "here", b"here");
        for target in [
            format!("/v2/to/blobs/uploads/?mount={}&from=here", nothing()),
            format!("/v2/to/blobs/uploads/?mount={here}&from=nowhere"),
            format!("/v2/to/blobs/uploads/?mount={here}"),
        ] {
            let reply = ask(r, "POST", &target);
            assert_eq!(reply.status, 202, "{target}");
            let put = with(&location(&reply), &format!("digest={here}"));
            let put = r.send("PUT", &put, &[OCTETS], b"here").unwrap();
            assert_pullable(r, &put, b"here");
            ask(r, "DELETE", &format!("/v2/to/blobs/{here}"));
        }
    });
}

#[test]
fn layer_upload_deduplication_the_same_blob_at_once_and_again_is_accepted() {
    both("layer_upload_deduplication", |r| {
        let bytes = noise(2_000_000);
        std::thread::scope(|scope| {
            for n in 0..4 {
                let bytes = &bytes;
                scope.spawn(move || push_blob(r, &format!("r{}", n % 2), bytes));
            }
        });
        push_blob(r, "r0", &bytes);
        for name in ["r0", "r1"] {
            let target = format!("/v2/{name}/blobs/{}", Digest::sha256(&bytes));
            assert!(get(r, &target).body == bytes);
        }
    });
}

#[test]
fn the_first_bytes_of_a_body_may_wait_for_100_continue() {
    both("the_first_bytes_of_a_body_may_wait_for_100_continue", |r| {
        use std::io::{BufRead, BufReader};
        let digest = Digest::sha256(b"01234");
        let to = with(&begin(r, "a"), &format!("digest={digest}"));
        let headers = [OCTETS, ("Expect", "100-continue")];
        let mut request = Request::begin(r.address(), "PUT", &to, &headers, Some(5)).unwrap();
        let mut from = BufReader::new(request.stream.try_clone().unwrap());
        let mut line = String::new();
        from.read_line(&mut line).unwrap();
        assert_eq!(line, "HTTP/1.1 100 Continue\r\n");
        from.read_line(&mut line).unwrap();
        request.stream.write_all(b"01234").unwrap();
        line.clear();
        from.read_line(&mut line).unwrap();
        assert_eq!(line, "HTTP/1.1 201 Created\r\n");
    });
}
