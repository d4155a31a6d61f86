//! Pushes: the cheapest way first, and on from where an upload broke.

#![allow(clippy::unwrap_used, reason = "helpers of tests may")]

mod support;

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures_util::stream;
use oci::media_type::{OCI_LAYER, OCI_MANIFEST};
use oci::{Descriptor, Digest};
use registry_client::{BlobSource, Error, FileBlob, PushOptions, Pushed, Which};
use support::images::{Image, artifact, noise};
use support::store::{Store, holds, layer, methods, serve};
use support::{Answer, Ending, Fake, Seen, repository};

fn plain() -> PushOptions {
    PushOptions::default()
}

#[tokio::test]
async fn a_blob_goes_up_in_one_request_and_not_twice() {
    let store = Store::shared();
    let fake = serve(&store).await;
    let content = noise(3 << 20);
    let (descriptor, source) = layer(&content);
    let repository = repository(&fake);
    let pushed = repository.push_blob(&descriptor, source.clone(), &plain()).await.unwrap();
    assert_eq!(pushed, Pushed::Uploaded);
    assert!(holds(&store, &content));
    assert_eq!(methods(&fake), ["HEAD", "POST", "PUT"]);
    let put = fake.seen().pop().unwrap();
    assert_eq!(put.header("content-length"), Some("3145728"));
    assert_eq!(put.header("content-type"), Some("application/octet-stream"));
    let pushed = repository.push_blob(&descriptor, source, &plain()).await.unwrap();
    assert_eq!(pushed, Pushed::Existed);
}

#[tokio::test]
async fn a_file_goes_up_as_memory_does() {
    let store = Store::shared();
    let fake = serve(&store).await;
    let content = noise((5 << 20) + 3);
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&content).unwrap();
    let descriptor = Descriptor::of(OCI_LAYER, &content);
    let source = Arc::new(FileBlob::new(file));
    repository(&fake).push_blob(&descriptor, source, &plain()).await.unwrap();
    assert!(holds(&store, &content));
}

#[tokio::test]
async fn an_empty_blob_goes_up_too() {
    let store = Store::shared();
    let fake = serve(&store).await;
    let content = Bytes::new();
    let (descriptor, source) = layer(&content);
    for chunk in [None, Some(5)] {
        store.lock().unwrap().blobs.clear();
        let options = PushOptions { chunk, ..plain() };
        repository(&fake).push_blob(&descriptor, source.clone(), &options).await.unwrap();
        assert!(holds(&store, &content));
    }
}

#[tokio::test]
async fn a_blob_of_another_repository_is_mounted_else_sent() {
    let store = Store::shared();
    let fake = serve(&store).await;
    let content = noise(1000);
    let (descriptor, source) = layer(&content);
    let known = format!("base/{}", descriptor.digest);
    let options = PushOptions { mount_from: vec!["base".into()], ..plain() };
    // The registry does not find it there: its 202 is the upload that is then used.
    let pushed = repository(&fake).push_blob(&descriptor, source.clone(), &options).await.unwrap();
    assert_eq!(pushed, Pushed::Uploaded);
    assert_eq!(methods(&fake), ["HEAD", "POST", "PUT"]);
    store.lock().unwrap().blobs.clear();
    store.lock().unwrap().blobs.insert(known, content.to_vec());
    let pushed = repository(&fake).push_blob(&descriptor, source, &options).await.unwrap();
    assert_eq!(pushed, Pushed::Mounted("base".into()));
    assert!(holds(&store, &content));
    let mount = fake.lines().pop().unwrap();
    let hex = descriptor.digest.hex();
    assert_eq!(mount, format!("POST /v2/app/blobs/uploads/?from=base&mount=sha256%3A{hex}"));
}

#[tokio::test]
async fn a_mount_that_is_refused_is_no_reason_not_to_push() {
    let store = Store::shared();
    let inner = store.clone();
    let fake = Fake::start(move |seen| {
        if seen.path.contains("mount=") {
            return Answer::error(403, "DENIED", "not yours");
        }
        inner.lock().unwrap().answer(seen)
    })
    .await;
    let content = noise(1000);
    let (descriptor, source) = layer(&content);
    let options = PushOptions { mount_from: vec!["a".into(), "b".into()], ..plain() };
    let pushed = repository(&fake).push_blob(&descriptor, source, &options).await.unwrap();
    assert_eq!(pushed, Pushed::Uploaded);
    assert_eq!(methods(&fake), ["HEAD", "POST", "POST", "POST", "PUT"]);
}

#[tokio::test]
async fn chunks_are_as_long_as_wanted_but_not_shorter_than_the_registry_wants() {
    for (wanted, least, expected) in [
        (400, None, vec!["0-399", "400-799", "800-999"]),
        (400, Some(600), vec!["0-599", "600-999"]),
        (400, Some(5000), vec![]),
    ] {
        let store = Store::shared();
        store.lock().unwrap().min_chunk = least;
        let fake = serve(&store).await;
        let content = noise(1000);
        let (descriptor, source) = layer(&content);
        let options = PushOptions { chunk: Some(wanted), known_missing: true, ..plain() };
        repository(&fake).push_blob(&descriptor, source, &options).await.unwrap();
        assert!(holds(&store, &content));
        let ranges: Vec<String> = fake
            .seen()
            .iter()
            .filter(|seen| seen.method == "PATCH")
            .map(|seen| seen.header("content-range").unwrap().to_owned())
            .collect();
        assert_eq!(ranges, expected);
        assert!(!fake.lines()[0].starts_with("HEAD"));
    }
}

#[tokio::test]
async fn a_body_that_is_too_large_for_the_server_goes_in_pieces() {
    let store = Store::shared();
    store.lock().unwrap().max_body = Some(32 << 20);
    let fake = serve(&store).await;
    let content = Bytes::from(vec![7; (32 << 20) + 1]);
    let (descriptor, source) = layer(&content);
    repository(&fake).push_blob(&descriptor, source, &plain()).await.unwrap();
    assert!(holds(&store, &content));
    assert_eq!(methods(&fake), ["HEAD", "POST", "PUT", "POST", "PATCH", "PATCH", "PUT"]);
    // And when even those are, that is the error.
    store.lock().unwrap().blobs.clear();
    store.lock().unwrap().max_body = Some(10);
    let content = noise(100);
    let (descriptor, source) = layer(&content);
    let error = repository(&fake).push_blob(&descriptor, source, &plain()).await.unwrap_err();
    assert!(error.to_string().ends_with("unknown: too large"), "{error}");
}

/// Refuses a PUT as soon as its head is there, and reads on, as a proxy does that limits
/// bodies.
async fn hasty(listener: tokio::net::TcpListener) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    while let Ok((mut stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            let mut head = vec![0; 4096];
            while let Ok(read) = stream.read(&mut head).await
                && read > 0
            {
                let answer: &[u8] = match &head[..4] {
                    // A TLS handshake.
                    [0x16, ..] => return,
                    b"GET " => b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
                    b"HEAD" => b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n",
                    b"POST" => b"HTTP/1.1 202 Accepted\r\nlocation: /up\r\ncontent-length: 0\r\n\r\n",
                    b"PUT " => b"HTTP/1.1 413 Too Large\r\ncontent-length: 4\r\nconnection: close\r\n\r\nlots",
                    _ => b"",
                };
                stream.write_all(answer).await.ok();
            }
        });
    }
}

#[tokio::test]
async fn an_answer_that_comes_before_the_body_is_sent_is_heard() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(hasty(listener));
    let reference = format!("{address}/app").parse().unwrap();
    let repository =
        support::client().repository(&reference, registry_client::Credentials::Anonymous);
    let (descriptor, source) = layer(&Bytes::from(vec![7; 30 << 20]));
    let options = PushOptions { chunk: Some(30 << 20), ..plain() };
    let error = repository.push_blob(&descriptor, source, &options).await.unwrap_err();
    server.abort();
    let Error::Rejected { answer, .. } = &error else { panic!("{error}") };
    assert_eq!((answer.status, answer.to_string().as_str()), (413, "unknown: lots"));
}

#[tokio::test]
async fn a_broken_upload_goes_on_where_the_registry_has_it() {
    let store = Store::shared();
    let content = noise(100_000);
    let (inner, count) = (store.clone(), AtomicUsize::new(0));
    let broken = store.clone();
    let fake = Fake::start_taking(
        move |seen| inner.lock().unwrap().answer(seen),
        move |seen| {
            if !matches!(seen.method.as_str(), "PUT" | "PATCH") {
                return None;
            }
            match count.fetch_add(1, Ordering::SeqCst) {
                0 => {
                    // It kept 40,000 bytes of what it took.
                    broken.lock().unwrap().add(1, &noise(100_000)[..40_000]);
                    Some(50_000)
                }
                // The second break leaves nothing.
                1 => Some(10),
                _ => None,
            }
        },
    )
    .await;
    let (descriptor, source) = layer(&content);
    let pushed = repository(&fake).push_blob(&descriptor, source, &plain()).await.unwrap();
    assert_eq!(pushed, Pushed::Uploaded);
    assert!(holds(&store, &content));
    assert_eq!(methods(&fake), ["HEAD", "POST", "PUT", "GET", "PATCH", "GET", "PATCH", "PUT"]);
    let last = fake.seen().iter().rev().find(|seen| seen.method == "PATCH").cloned().unwrap();
    assert_eq!(last.header("content-range"), Some("40000-99999"));
}

#[tokio::test]
async fn an_upload_whose_last_answer_was_lost_is_found_done() {
    let store = Store::shared();
    let (inner, count) = (store.clone(), AtomicUsize::new(0));
    let fake = Fake::start(move |seen| {
        let answer = inner.lock().unwrap().answer(seen);
        let lost = seen.method == "PUT" && count.fetch_add(1, Ordering::SeqCst) == 0;
        if lost { answer.ending(Ending::Nothing) } else { answer }
    })
    .await;
    let content = noise(1000);
    let (descriptor, source) = layer(&content);
    repository(&fake).push_blob(&descriptor, source, &plain()).await.unwrap();
    assert!(holds(&store, &content));
    assert_eq!(methods(&fake), ["HEAD", "POST", "PUT", "GET", "HEAD"]);
}

#[tokio::test]
async fn an_upload_that_the_registry_forgot_is_begun_again() {
    let store = Store::shared();
    let (inner, count) = (store.clone(), AtomicUsize::new(0));
    let fake = Fake::start(move |seen| {
        if seen.method == "PATCH" && count.fetch_add(1, Ordering::SeqCst) == 1 {
            inner.lock().unwrap().uploads.clear();
        }
        inner.lock().unwrap().answer(seen)
    })
    .await;
    let content = noise(1000);
    let (descriptor, source) = layer(&content);
    let options = PushOptions { chunk: Some(300), ..plain() };
    repository(&fake).push_blob(&descriptor, source, &options).await.unwrap();
    assert!(holds(&store, &content));
}

#[tokio::test]
async fn a_registry_that_counts_otherwise_is_asked_and_followed() {
    let store = Store::shared();
    let (inner, count) = (store.clone(), AtomicUsize::new(0));
    let fake = Fake::start(move |seen| {
        let mut answer = inner.lock().unwrap().answer(seen);
        if seen.method == "PATCH" && count.fetch_add(1, Ordering::SeqCst) == 0 {
            // It says less than it has: the next chunk will be out of order.
            answer.headers.retain(|(name, _)| name != "range");
            answer = answer.with("range", "0-99");
        }
        answer
    })
    .await;
    let content = noise(1000);
    let (descriptor, source) = layer(&content);
    let options = PushOptions { chunk: Some(300), ..plain() };
    repository(&fake).push_blob(&descriptor, source, &options).await.unwrap();
    assert!(holds(&store, &content));
}

#[tokio::test]
async fn a_registry_that_never_gets_further_is_given_up() {
    let store = Store::shared();
    let inner = store.clone();
    let fake = Fake::start(move |seen| {
        let mut answer = inner.lock().unwrap().answer(seen);
        if seen.method == "PATCH" {
            answer.headers.retain(|(name, _)| name != "range");
            answer = answer.with("range", "0-299");
        }
        answer
    })
    .await;
    let (descriptor, source) = layer(&noise(1000));
    let options = PushOptions { chunk: Some(300), ..plain() };
    let error = repository(&fake).push_blob(&descriptor, source, &options).await.unwrap_err();
    let text = error.to_string();
    assert!(text.ends_with("had 300 bytes, took 300 more and says that it has 300"), "{text}");
}

#[tokio::test]
async fn an_upload_that_always_breaks_ends_with_its_error() {
    let store = Store::shared();
    let inner = store.clone();
    let fake = Fake::start_taking(
        move |seen| inner.lock().unwrap().answer(seen),
        |seen| matches!(seen.method.as_str(), "PUT" | "PATCH").then_some(10),
    )
    .await;
    let content = noise(100_000);
    let (descriptor, source) = layer(&content);
    let error = repository(&fake).push_blob(&descriptor, source, &plain()).await.unwrap_err();
    assert!(matches!(error, Error::Broken { .. }), "{error}");
    assert!(error.to_string().contains(&format!("cannot push blob {}", descriptor.digest)));
}

#[tokio::test]
async fn a_source_that_can_not_be_read_is_told_as_such() {
    struct Gone;
    impl BlobSource for Gone {
        fn read(
            &self,
            _: u64,
            _: u64,
            _: Option<registry_client::Files>,
        ) -> registry_client::Chunks {
            Box::pin(stream::iter([Err(std::io::Error::other("the disk is gone"))]))
        }
    }
    let store = Store::shared();
    let fake = serve(&store).await;
    let descriptor = Descriptor::new(OCI_LAYER, Digest::sha256(b"x"), 1000);
    let error =
        repository(&fake).push_blob(&descriptor, Arc::new(Gone), &plain()).await.unwrap_err();
    assert!(matches!(error, Error::Source { .. }), "{error}");
    assert!(error.to_string().ends_with("the disk is gone"), "{error}");
}

#[tokio::test]
async fn content_that_is_not_what_was_said_is_refused() {
    let store = Store::shared();
    let fake = serve(&store).await;
    let content = noise(100);
    let descriptor = Descriptor::new(OCI_LAYER, Digest::sha256(b"other"), 100);
    let error =
        repository(&fake).push_blob(&descriptor, Arc::new(content), &plain()).await.unwrap_err();
    let text = error.to_string();
    assert!(
        text.ends_with("digest invalid: provided digest did not match uploaded content"),
        "{text}"
    );
}

#[tokio::test]
async fn credentials_do_not_follow_an_upload_to_another_server() {
    let elsewhere = Fake::start(|seen| match seen.method.as_str() {
        "PUT" => Answer::new(201),
        _ => Answer::new(404),
    })
    .await;
    let target = elsewhere.url("/up?x=1");
    let fake = Fake::start(move |seen| {
        if seen.header("authorization").is_none() {
            return Answer::new(401).with("www-authenticate", "Basic realm=\"x\"");
        }
        match seen.method.as_str() {
            "POST" => Answer::new(202).with("location", target.clone()),
            _ => Answer::new(404),
        }
    })
    .await;
    let content = noise(100);
    let (descriptor, source) = layer(&content);
    let user = registry_client::Credentials::of("user", "secret", "", "");
    let repository = support::repository_as(&fake, user);
    repository.push_blob(&descriptor, source, &plain()).await.unwrap();
    let put = &elsewhere.seen()[0];
    assert_eq!(put.header("authorization"), None);
    assert!(put.path.starts_with("/up?x=1&digest=sha256%3A"), "{}", put.path);
    assert_eq!(put.body, content);
}

#[tokio::test]
async fn a_manifest_is_stored_under_tag_or_digest_and_deleted() {
    let store = Store::shared();
    let fake = serve(&store).await;
    let repository = repository(&fake);
    let image = Image::new();
    let tag = Which::Tag("v1".into());
    let kind = "application/vnd.docker.distribution.manifest.v2+json";
    let digest = repository.push_manifest(&tag, kind, image.manifest.clone()).await.unwrap();
    assert_eq!(digest, image.digest());
    assert_eq!(repository.manifest(&tag).await.unwrap().bytes, image.manifest);
    let by_digest = Which::Digest(digest);
    repository.push_manifest(&by_digest, kind, image.manifest.clone()).await.unwrap();
    let wrong = Which::Digest(Digest::sha256(b"x"));
    let error = repository.push_manifest(&wrong, kind, image.manifest.clone()).await.unwrap_err();
    assert!(matches!(error, Error::DigestMismatch { .. }), "{error}");
    repository.delete_manifest(&tag).await.unwrap();
    repository.delete_manifest(&by_digest).await.unwrap();
    assert!(repository.manifest(&by_digest).await.unwrap_err().is_not_found());
}

#[tokio::test]
async fn deletion_that_is_disabled_is_told_as_such() {
    let fake = Fake::start(|seen| match seen.method.as_str() {
        "DELETE" => Answer::error(405, "UNSUPPORTED", "The operation is unsupported."),
        _ => Answer::new(200).json("{}"),
    })
    .await;
    let error = repository(&fake).delete_blob(&Digest::sha256(b"x")).await.unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }), "{error}");
}

fn put(seen: &Seen) -> bool {
    seen.method == "PUT" && seen.path.contains("/manifests/sha256-")
}

#[tokio::test]
async fn referrers_are_listed_by_the_api_or_kept_under_the_fallback_tag() {
    for has_api in [true, false] {
        let store = Store::shared();
        store.lock().unwrap().referrers = has_api;
        let fake = serve(&store).await;
        let repository = repository(&fake);
        let image = Image::new();
        let subject = Descriptor::of(OCI_MANIFEST, &image.manifest);
        assert!(repository.referrers(&subject.digest, None).await.unwrap().is_empty());
        let mut pushed = Vec::new();
        for kind in ["application/a", "application/b"] {
            let bytes = artifact(kind, &subject);
            let which = Which::Digest(Digest::sha256(&bytes));
            pushed.push(repository.push_manifest(&which, OCI_MANIFEST, bytes).await.unwrap());
        }
        // Pushed again, it is not listed twice.
        let again = artifact("application/a", &subject);
        repository.push_manifest(&Which::Digest(pushed[0]), OCI_MANIFEST, again).await.unwrap();
        let mut found = repository.referrers(&subject.digest, None).await.unwrap();
        found.sort_by_key(|descriptor| descriptor.digest);
        let mut expected = pushed.clone();
        expected.sort();
        assert_eq!(found.iter().map(|d| d.digest).collect::<Vec<_>>(), expected);
        let one = repository.referrers(&subject.digest, Some("application/b")).await.unwrap();
        assert_eq!(one.len(), 1);
        assert_eq!(one[0].artifact_type.as_deref(), Some("application/b"));
        repository.delete_manifest(&Which::Digest(pushed[1])).await.unwrap();
        let left = repository.referrers(&subject.digest, None).await.unwrap();
        assert_eq!(left.iter().map(|d| d.digest).collect::<Vec<_>>(), [pushed[0]]);
        assert_eq!(fake.seen().iter().any(put), !has_api);
    }
}
