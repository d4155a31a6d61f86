//! Blobs from a registry that misbehaves: ranges, breaks, silence, wrong sizes, redirects.

#![allow(clippy::unwrap_used, reason = "helpers of tests may")]

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine;
use futures_util::StreamExt;
use oci::media_type::OCI_LAYER;
use oci::{Descriptor, Digest};
use registry_client::{Client, Credentials, Error, Timeouts};
use support::images::noise;
use support::{Answer, Ending, Fake, Seen, client, config, repository, repository_as};

fn ok() -> Answer {
    Answer::new(200).json("{}")
}

/// A registry whose only blob is `content`.
fn blob_of(content: &bytes::Bytes) -> Descriptor {
    Descriptor::of(OCI_LAYER, content)
}

fn ranged(seen: &Seen, content: &[u8]) -> Answer {
    let from = seen.header("range").and_then(|r| r.strip_prefix("bytes="));
    match from.and_then(|r| r.trim_end_matches('-').parse::<usize>().ok()) {
        None => Answer::new(200).body(content),
        Some(from) => Answer::new(206)
            .with("content-range", format!("bytes {from}-{}/{}", content.len() - 1, content.len()))
            .body(&content[from..]),
    }
}

async fn whole(mut blob: registry_client::Blob) -> Result<Vec<u8>, Error> {
    let mut all = Vec::new();
    while let Some(chunk) = blob.next().await {
        all.extend_from_slice(&chunk?);
    }
    assert_eq!(blob.position() - blob.start(), all.len() as u64);
    Ok(all)
}

#[tokio::test]
async fn a_blob_begins_at_the_offset_or_says_that_it_does_not() {
    let content = noise(100_000);
    for ranges in [true, false] {
        let served = content.clone();
        let fake = Fake::start(move |seen| match seen.path.as_str() {
            "/v2/" => ok(),
            _ if ranges => ranged(seen, &served),
            _ => Answer::new(200).body(served.clone()),
        })
        .await;
        let blob = repository(&fake).blob(&blob_of(&content), 70_000).await.unwrap();
        let start = if ranges { 70_000 } else { 0 };
        assert_eq!((blob.start(), blob.size()), (start, Some(100_000)));
        assert!(whole(blob).await.unwrap() == content[start as usize..]);
        assert_eq!(fake.seen()[1].header("range"), Some("bytes=70000-"));
        assert_eq!(fake.seen()[1].header("accept-encoding"), Some("identity"));
    }
}

#[tokio::test]
async fn a_blob_that_is_all_there_is_not_asked_for() {
    let fake = Fake::start(|_| Answer::new(416)).await;
    let content = noise(1000);
    let blob = repository(&fake).blob(&blob_of(&content), 1000).await.unwrap();
    assert_eq!((blob.start(), blob.position()), (1000, 1000));
    blob.verify(Digest::sha256(&content)).unwrap();
    let error = blob.verify(Digest::sha256(b"")).unwrap_err().to_string();
    assert!(error.starts_with(&format!("{}/app: cannot fetch blob", fake.host())), "{error}");
    assert!(whole(blob).await.unwrap().is_empty());
    assert!(fake.seen().is_empty());
}

#[tokio::test]
async fn a_partial_answer_that_does_not_fit_the_question_is_refused() {
    let content = noise(1000);
    for range in ["bytes 0-999/1000", "bytes 501-999/1000", "bytes 500-999/2000", "nonsense", ""] {
        let fake = Fake::start(move |seen| match seen.path.as_str() {
            "/v2/" => ok(),
            _ => Answer::new(206).with("content-range", range).body(vec![0; 500]),
        })
        .await;
        let error = repository(&fake).blob(&blob_of(&content), 500).await.err().unwrap();
        let fits = matches!(error, Error::Protocol { .. } | Error::SizeMismatch { .. });
        assert!(fits, "{range}: {error}");
    }
}

#[tokio::test]
async fn a_broken_transfer_goes_on_where_it_stopped() {
    let content = noise(300_000);
    let served = content.clone();
    let count = AtomicUsize::new(0);
    let fake = Fake::start(move |seen| {
        if seen.path == "/v2/" {
            return ok();
        }
        match count.fetch_add(1, Ordering::SeqCst) {
            0 => ranged(seen, &served).ending(Ending::CutAfter(100_000)),
            // Between two breaks a server may be out of order, too.
            1 => Answer::new(503),
            2 => Answer::new(200).ending(Ending::Nothing),
            3 => ranged(seen, &served).ending(Ending::CutAfter(50_000)),
            _ => ranged(seen, &served),
        }
    })
    .await;
    let blob = repository(&fake).blob(&blob_of(&content), 0).await.unwrap();
    assert!(whole(blob).await.unwrap() == content);
    let ranges: Vec<Option<String>> =
        fake.seen().iter().skip(1).map(|s| s.header("range").map(Into::into)).collect();
    let at = |offset: u32| Some(format!("bytes={offset}-"));
    assert_eq!(ranges, [None, at(100_000), at(100_000), at(100_000), at(150_000)]);
}

#[tokio::test]
async fn a_server_without_ranges_is_read_again_without_a_seam() {
    let content = noise(200_000);
    let served = content.clone();
    let count = AtomicUsize::new(0);
    let fake = Fake::start(move |seen| {
        let answer = Answer::new(200).body(served.clone());
        match seen.path.as_str() {
            "/v2/" => ok(),
            _ if count.fetch_add(1, Ordering::SeqCst) == 0 => {
                answer.ending(Ending::CutAfter(99_999))
            }
            _ => answer,
        }
    })
    .await;
    let blob = repository(&fake).blob(&blob_of(&content), 0).await.unwrap();
    assert!(whole(blob).await.unwrap() == content);
}

#[tokio::test]
async fn a_silent_transfer_is_begun_again() {
    let content = noise(50_000);
    let served = content.clone();
    let count = AtomicUsize::new(0);
    let fake = Fake::start(move |seen| match seen.path.as_str() {
        "/v2/" => ok(),
        _ if count.fetch_add(1, Ordering::SeqCst) == 0 => {
            ranged(seen, &served).ending(Ending::StallAfter(10_000))
        }
        _ => ranged(seen, &served),
    })
    .await;
    let timeouts = Timeouts { body: Duration::from_millis(300), ..Timeouts::default() };
    let client = Client::new(registry_client::Config { timeouts, ..config() });
    let reference = format!("{}/app", fake.host()).parse().unwrap();
    let repository = client.repository(&reference, Credentials::Anonymous);
    let blob = repository.blob(&blob_of(&content), 0).await.unwrap();
    assert!(whole(blob).await.unwrap() == content);
}

#[tokio::test]
async fn a_blob_that_always_ends_early_is_truncated() {
    let content = noise(5_000);
    let fake = Fake::start(move |seen| match seen.path.as_str() {
        "/v2/" => ok(),
        // Without Content-Length: nothing but the descriptor says that bytes are missing.
        _ if seen.header("range").is_some() => {
            Answer::new(206).with("content-range", "bytes 1000-4999/5000").ending(Ending::Unframed)
        }
        _ => Answer::new(200).body(vec![7; 1000]).ending(Ending::Unframed),
    })
    .await;
    let blob = repository(&fake).blob(&blob_of(&content), 0).await.unwrap();
    let error = whole(blob).await.unwrap_err();
    assert!(matches!(error, Error::Truncated { expected: 5000, received: 1000, .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("the content ended after 1000 of 5000 bytes"), "{text}");
    // Four attempts in all.
    assert_eq!(fake.lines().len(), 4);
}

#[tokio::test]
async fn a_blob_of_another_size_is_refused_before_or_while_it_comes() {
    let content = noise(1000);
    for ending in [Ending::Whole, Ending::Unframed] {
        let fake = Fake::start(move |seen| match seen.path.as_str() {
            "/v2/" => ok(),
            _ => Answer::new(200).body(vec![0; 3000]).ending(ending),
        })
        .await;
        let error = match repository(&fake).blob(&blob_of(&content), 0).await {
            Err(error) => error,
            Ok(blob) => whole(blob).await.unwrap_err(),
        };
        assert!(matches!(error, Error::SizeMismatch { expected: 1000, .. }), "{error}");
    }
}

#[tokio::test]
async fn a_small_blob_is_verified_and_bounded() {
    let content = noise(1000);
    let served = content.clone();
    let fake = Fake::start(move |seen| match seen.path.as_str() {
        "/v2/" => ok(),
        _ => Answer::new(200).body(served.clone()),
    })
    .await;
    let repository = repository(&fake);
    let mut descriptor = blob_of(&content);
    assert_eq!(repository.blob_bytes(&descriptor, 1000).await.unwrap(), content);
    let error = repository.blob_bytes(&descriptor, 999).await.unwrap_err();
    assert!(matches!(error, Error::TooLarge { limit: 999, .. }), "{error}");
    descriptor.digest = Digest::sha256(b"other");
    let error = repository.blob_bytes(&descriptor, 1000).await.unwrap_err();
    let text = error.to_string();
    let (wanted, came) = (descriptor.digest, Digest::sha256(&content));
    assert!(
        text.contains(&format!("blob {wanted}: expected digest {wanted}, got {came}")),
        "{text}"
    );
}

#[tokio::test]
async fn a_blob_that_stands_in_its_descriptor_is_not_fetched() {
    let fake = Fake::start(|_| Answer::new(500)).await;
    let content = bytes::Bytes::from_static(b"{}");
    let encode = |data: &[u8]| Some(base64::engine::general_purpose::STANDARD.encode(data));
    let mut descriptor = blob_of(&content);
    descriptor.data = encode(&content);
    let repository = repository(&fake);
    assert_eq!(repository.blob_bytes(&descriptor, 10).await.unwrap(), content);
    assert!(fake.seen().is_empty());
    // One that does not fit its digest is no substitute.
    descriptor.data = encode(b"[]");
    assert!(repository.blob_bytes(&descriptor, 10).await.is_err());
}

#[tokio::test]
async fn redirects_are_followed_and_secrets_stay_at_home() {
    let content = noise(10_000);
    let served = content.clone();
    let cdn = Fake::start(move |_| Answer::new(200).body(served.clone())).await;
    let target = cdn.url("/blob?sig=1");
    let fake = Fake::start(move |seen| match seen.path.as_str() {
        "/v2/" => Answer::new(401).with("www-authenticate", "Basic realm=\"r\""),
        path if path.starts_with("/moved") => Answer::new(302).with("location", target.clone()),
        // First within the server, then away.
        _ => Answer::new(307).with("location", "/moved"),
    })
    .await;
    let repository = repository_as(&fake, Credentials::of("user", "secret", "", ""));
    let blob = repository.blob(&blob_of(&content), 0).await.unwrap();
    assert!(whole(blob).await.unwrap() == content);
    let seen = fake.seen();
    assert!(seen[1].header("authorization").is_some() && seen[2].header("authorization").is_some());
    let away = cdn.seen();
    assert_eq!(away.len(), 1);
    assert_eq!(away[0].header("authorization"), None);
    // The range of a resumed blob goes along.
    repository.blob(&blob_of(&content), 5).await.unwrap();
    assert_eq!(cdn.seen()[1].header("range"), Some("bytes=5-"));
}

#[tokio::test]
async fn a_layer_that_may_not_be_pushed_comes_from_its_url_without_credentials() {
    let content = noise(2000);
    let served = content.clone();
    let publisher = Fake::start(move |seen| match seen.path.as_str() {
        "/asks" => Answer::new(401).with("www-authenticate", "Basic realm=\"give me\""),
        _ => Answer::new(200).body(served.clone()),
    })
    .await;
    let fake = Fake::start(|seen| match seen.path.as_str() {
        "/v2/" => Answer::new(401).with("www-authenticate", "Basic realm=\"r\""),
        _ => Answer::error(404, "BLOB_UNKNOWN", "blob unknown to registry"),
    })
    .await;
    let repository = repository_as(&fake, Credentials::of("user", "secret", "", ""));
    let mut descriptor = blob_of(&content);
    assert!(repository.blob(&descriptor, 0).await.err().unwrap().is_not_found());
    descriptor.urls = vec!["ftp://x/".into(), publisher.url("/asks"), publisher.url("/layer")];
    let blob = repository.blob(&descriptor, 0).await.unwrap();
    assert!(whole(blob).await.unwrap() == content);
    let asked: Vec<String> = publisher.seen().iter().map(Seen::line).collect();
    assert_eq!(asked, ["GET /asks", "GET /layer"]);
    assert!(publisher.seen().iter().all(|seen| seen.header("authorization").is_none()));
}

#[tokio::test]
async fn dropping_a_blob_ends_its_connection() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut buffer = vec![0; 4096];
            let read = stream.read(&mut buffer).await.unwrap();
            if !buffer[..read].starts_with(b"GET /v2/app/") {
                // Not plain HTTP, or the first contact.
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
                stream.write_all(answer).await.ok();
                continue;
            }
            let head = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\nbegin";
            stream.write_all(head).await.unwrap();
            // The end of the stream, or a reset: the client is gone.
            return matches!(stream.read(&mut buffer).await, Ok(0) | Err(_));
        }
    });
    let reference = format!("{address}/app").parse().unwrap();
    let repository = client().repository(&reference, Credentials::Anonymous);
    let descriptor = Descriptor::new(OCI_LAYER, Digest::sha256(b""), 1_000_000);
    let mut blob = repository.blob(&descriptor, 0).await.unwrap();
    assert_eq!(blob.chunk().await.unwrap().unwrap(), "begin");
    drop(blob);
    let gone = tokio::time::timeout(Duration::from_secs(60), server).await;
    assert!(gone.expect("the connection stayed open").unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn many_blobs_come_side_by_side_on_several_threads() {
    let content = noise(400_000);
    let served = content.clone();
    let fake = Fake::start(move |seen| match seen.path.as_str() {
        "/v2/" => ok(),
        _ => ranged(seen, &served),
    })
    .await;
    let repository = repository(&fake);
    let tasks: Vec<_> = (0..16)
        .map(|_| {
            let (repository, content) = (repository.clone(), content.clone());
            tokio::spawn(async move {
                let blob = repository.blob(&blob_of(&content), 0).await.unwrap();
                assert!(whole(blob).await.unwrap() == content);
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let first = fake.seen().iter().filter(|seen| seen.path == "/v2/").count();
    assert_eq!(first, 1, "one first contact serves all");
}
