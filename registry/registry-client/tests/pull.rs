//! Pulls against a registry that misbehaves.

#![allow(clippy::unwrap_used, reason = "helpers of tests may")]

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use oci::Digest;
use oci::media_type::DOCKER_MANIFEST;
use registry_client::{
    Client, ConnectKind, Credentials, Error, Object, Phase, Timeouts, Watch, Which,
};
use support::images::Image;
use support::{Answer, Ending, Fake, client, config, nobody, repository, repository_as};

fn latest() -> Which {
    Which::Tag("latest".into())
}

fn ok() -> Answer {
    Answer::new(200).json("{}")
}

#[tokio::test]
async fn a_tag_is_resolved_by_head_alone_when_the_headers_tell_enough() {
    let image = Image::new();
    let digest = image.digest();
    let fake = Fake::start(move |seen| image.answer(seen)).await;
    let found = repository(&fake).resolve(&latest()).await.unwrap();
    assert_eq!((found.digest, found.media_type.as_str()), (digest, DOCKER_MANIFEST));
    assert_eq!(fake.lines(), ["HEAD /v2/app/manifests/latest"]);
}

#[tokio::test]
async fn a_tag_is_fetched_when_the_digest_header_lacks_or_head_is_refused() {
    for refuse in [false, true] {
        let image = Image::new();
        let digest = image.digest();
        let fake = Fake::start(move |seen| match seen.method.as_str() {
            "HEAD" if refuse => Answer::new(405),
            _ => {
                let mut answer = image.answer(seen);
                answer.headers.retain(|(name, _)| name != "docker-content-digest");
                answer
            }
        })
        .await;
        let found = repository(&fake).resolve(&latest()).await.unwrap();
        assert_eq!(found.digest, digest);
        assert_eq!(fake.lines(), ["HEAD /v2/app/manifests/latest", "GET /v2/app/manifests/latest"]);
    }
}

#[tokio::test]
async fn every_type_of_manifest_is_asked_for() {
    let image = Image::new();
    let fake = Fake::start(move |seen| image.answer(seen)).await;
    repository(&fake).manifest(&latest()).await.unwrap();
    let seen = fake.seen().pop().unwrap();
    let accepted: Vec<&str> =
        seen.headers.iter().filter(|(n, _)| n == "accept").map(|(_, v)| v.as_str()).collect();
    assert_eq!(
        accepted,
        [
            "application/vnd.oci.image.index.v1+json",
            "application/vnd.oci.image.manifest.v1+json",
            "application/vnd.docker.distribution.manifest.list.v2+json",
            "application/vnd.docker.distribution.manifest.v2+json",
            "*/*"
        ]
    );
    assert!(seen.header("user-agent").unwrap().starts_with("ferry/"));
}

#[tokio::test]
async fn a_manifest_with_another_digest_is_refused_with_both() {
    let image = Image::new();
    let fake = Fake::start(move |seen| image.answer(seen)).await;
    let wanted = Digest::sha256(b"another");
    let error = repository(&fake).manifest(&Which::Digest(wanted)).await.unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains(&format!("expected digest {wanted}, got {}", Image::new().digest())),
        "{text}"
    );
    assert!(
        text.starts_with(&format!("{}/app: cannot fetch manifest sha256:", fake.host())),
        "{text}"
    );
    // Also when it is the server's own header that does not fit.
    let fake = Fake::start(|_| {
        let lie = Digest::sha256(b"lie").to_string();
        Answer::new(200)
            .with("content-type", DOCKER_MANIFEST)
            .with("docker-content-digest", lie)
            .body(Image::new().manifest)
    })
    .await;
    let error = repository(&fake).manifest(&latest()).await.unwrap_err();
    assert!(matches!(error, Error::DigestMismatch { .. }), "{error}");
}

#[tokio::test]
async fn a_manifest_named_by_sha512_is_verified_by_it() {
    let image = Image::new();
    let digest = Digest::of(oci::Algorithm::Sha512, &image.manifest);
    let fake = Fake::start(move |seen| image.answer(seen)).await;
    let found = repository(&fake).manifest(&Which::Digest(digest)).await.unwrap();
    assert_eq!(found.descriptor.digest, digest);
}

#[tokio::test]
async fn a_manifest_beyond_the_bound_is_refused_announced_or_not() {
    for ending in [Ending::Whole, Ending::Unframed] {
        let fake = Fake::start(move |_| {
            let body = vec![b' '; (4 << 20) + 1];
            Answer::new(200).with("content-type", DOCKER_MANIFEST).body(body).ending(ending)
        })
        .await;
        let error = repository(&fake).manifest(&latest()).await.unwrap_err();
        assert!(matches!(error, Error::TooLarge { limit: 4_194_304, .. }), "{error}");
    }
}

#[tokio::test]
async fn schema_one_is_refused_by_its_name() {
    for kind in [
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
        "application/vnd.docker.distribution.manifest.v1+json",
        "application/json",
    ] {
        let fake = Fake::start(move |_| {
            let body = r#"{"schemaVersion":1,"name":"a","tag":"b","fsLayers":[],"history":[]}"#;
            Answer::new(200).with("content-type", kind).body(body)
        })
        .await;
        for error in [
            repository(&fake).manifest(&latest()).await.unwrap_err(),
            repository(&fake).resolve(&latest()).await.unwrap_err(),
        ] {
            assert!(matches!(error, Error::SchemaOne { .. }), "{error}");
            assert!(error.to_string().contains("Docker schema 1"), "{error}");
        }
    }
}

#[derive(Default)]
struct Notes(Mutex<Vec<String>>);

impl Watch for Notes {
    fn retrying(&self, object: &Object, _: Duration, error: &Error) {
        self.0.lock().unwrap().push(format!("{object}: {error}"));
    }
}

#[tokio::test]
async fn failures_that_may_pass_are_repeated_and_told() {
    let image = Image::new();
    let count = AtomicUsize::new(0);
    let fake = Fake::start(move |seen| {
        if seen.path == "/v2/" {
            return ok();
        }
        match count.fetch_add(1, Ordering::SeqCst) {
            0 => Answer::new(502),
            1 => Answer::new(429).with("retry-after", "1"),
            2 => Answer::new(200).ending(Ending::Nothing),
            _ => image.answer(seen),
        }
    })
    .await;
    let notes = Arc::new(Notes::default());
    repository(&fake).with_watch(notes.clone()).manifest(&latest()).await.unwrap();
    let notes = notes.0.lock().unwrap().clone();
    assert_eq!(notes.len(), 3, "{notes:?}");
    assert!(notes[0].starts_with("manifest latest: ") && notes[0].contains("502 Bad Gateway"));
    assert!(notes[1].contains("(the server asks to wait 1 s)"));
    assert!(notes[2].contains("the connection broke: EOF"), "{notes:?}");
}

#[tokio::test]
async fn a_server_that_asks_for_a_long_wait_is_not_waited_for() {
    let fake = Fake::start(|seen| match seen.path.as_str() {
        "/v2/" => ok(),
        _ => Answer::error(429, "TOOMANYREQUESTS", "enough").with("retry-after", "3600"),
    })
    .await;
    let error = repository(&fake).manifest(&latest()).await.unwrap_err();
    let Error::RateLimited { retry_after, .. } = &error else { panic!("{error}") };
    assert_eq!(*retry_after, Some(Duration::from_secs(3600)));
    assert_eq!(fake.lines().len(), 1);
}

#[tokio::test]
async fn no_answer_in_time_is_an_error_that_says_so() {
    let fake = Fake::start(|seen| match seen.path.as_str() {
        "/v2/" => ok(),
        _ => ok().ending(Ending::Silence),
    })
    .await;
    let timeouts = Timeouts { answer: Duration::from_millis(200), ..Timeouts::default() };
    let retry = registry_client::Retry::NEVER;
    let client = Client::new(registry_client::Config { timeouts, retry, ..config() });
    let reference = format!("{}/app", fake.host()).parse().unwrap();
    let repository = client.repository(&reference, Credentials::Anonymous);
    let error = repository.manifest(&latest()).await.unwrap_err();
    assert!(matches!(error, Error::Timeout { phase: Phase::Answer, .. }), "{error}");
}

#[tokio::test]
async fn nobody_listening_is_told_at_once_in_gos_words() {
    let address = nobody();
    let reference = format!("{address}/app").parse().unwrap();
    let repository = client().repository(&reference, Credentials::Anonymous);
    let error = repository.manifest(&latest()).await.unwrap_err();
    assert!(matches!(error, Error::Connect { kind: ConnectKind::Refused, .. }), "{error}");
    assert_eq!(
        error.to_string(),
        format!(
            "{address}: cannot reach the registry: dial tcp {address}: connect: connection refused"
        )
    );
}

#[tokio::test]
async fn a_redirected_server_that_asks_for_credentials_gets_none() {
    let thief =
        Fake::start(|_| Answer::new(401).with("www-authenticate", "Basic realm=\"give me\"")).await;
    let target = thief.url("/steal");
    let fake = Fake::start(move |seen| match seen.path.as_str() {
        "/v2/" => Answer::new(401).with("www-authenticate", "Basic realm=\"r\""),
        _ => Answer::new(307).with("location", target.clone()),
    })
    .await;
    let repository = repository_as(&fake, Credentials::of("user", "secret", "", ""));
    let error = repository.manifest(&latest()).await.unwrap_err();
    assert!(matches!(error, Error::Unauthorized { .. }), "{error}");
    assert!(thief.seen().iter().all(|seen| seen.header("authorization").is_none()));
}

#[tokio::test]
async fn a_loop_of_redirects_ends() {
    let fake = Fake::start(|seen| match seen.path.as_str() {
        "/v2/" => ok(),
        path => Answer::new(307).with("location", path.to_owned()),
    })
    .await;
    let error = repository(&fake).manifest(&latest()).await.unwrap_err();
    assert!(error.to_string().ends_with("stopped after 10 redirects"), "{error}");
}

#[tokio::test]
async fn a_redirect_to_another_kind_of_url_is_refused() {
    for location in ["file:///etc/passwd", "https://user:pass@127.0.0.1/", "gopher://x/"] {
        let fake = Fake::start(move |seen| match seen.path.as_str() {
            "/v2/" => ok(),
            _ => Answer::new(307).with("location", location),
        })
        .await;
        let error = repository(&fake).manifest(&latest()).await.unwrap_err();
        assert!(matches!(error, Error::Protocol { .. }), "{location}: {error}");
    }
}
