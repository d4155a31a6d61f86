//! Authorization: tokens, scopes, their renewal, and where secrets may go.

#![allow(clippy::unwrap_used, reason = "helpers of tests may")]

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use registry_client::{
    Client, Config, CredentialFuture, CredentialRequest, CredentialSource, Credentials, Error,
    Hosts, PushOptions, Told, Which,
};
use support::images::{Image, noise};
use support::{Answer, Fake, Seen, client, config, repository, repository_as};

fn latest() -> Which {
    Which::Tag("latest".into())
}

fn host_of(seen: &Seen) -> &str {
    seen.header("host").unwrap()
}

/// Asks for a token of its own realm.
fn challenge(seen: &Seen, more: &str) -> Answer {
    let realm = format!("http://{}/token", host_of(seen));
    let value = format!(r#"Bearer realm="{realm}",service="the registry"{more}"#);
    Answer::error(401, "UNAUTHORIZED", "authentication required").with("www-authenticate", value)
}

/// A registry that wants tokens, and its token server in one.
fn guarded(image: &Image, seen: &Seen, token: &str) -> Answer {
    if seen.path.starts_with("/token") {
        return Answer::new(200).json(format!(r#"{{"token":"{token}","expires_in":300}}"#));
    }
    match seen.header("authorization") {
        Some(shown) if shown == format!("Bearer {token}") => image.answer(seen),
        _ => challenge(seen, ""),
    }
}

fn tokens(fake: &Fake) -> Vec<Seen> {
    fake.seen().into_iter().filter(|seen| seen.path.starts_with("/token")).collect()
}

#[tokio::test]
async fn a_token_is_asked_for_with_the_scope_that_is_needed_and_used_again() {
    let image = Image::new();
    let fake = Fake::start(move |seen| guarded(&image, seen, "T1")).await;
    let repository = repository_as(&fake, Credentials::of("user", "secret", "", ""));
    repository.manifest(&latest()).await.unwrap();
    repository.blob_bytes(&Image::new().layer_descriptor(), 1000).await.unwrap();
    let asked = tokens(&fake);
    assert_eq!(asked.len(), 1);
    assert_eq!(
        asked[0].line(),
        "GET /token?account=user&scope=repository%3Aapp%3Apull&service=the+registry"
    );
    assert_eq!(asked[0].header("authorization"), Some("Basic dXNlcjpzZWNyZXQ="));
    // Not one request too many: contact, token, manifest, blob.
    assert_eq!(fake.seen().len(), 4);
}

#[tokio::test]
async fn a_plugins_token_has_its_class() {
    let image = Image::new();
    let fake = Fake::start(move |seen| guarded(&image, seen, "T1")).await;
    repository(&fake).of_plugin().manifest(&latest()).await.unwrap();
    assert!(tokens(&fake)[0].path.contains("scope=repository%28plugin%29%3Aapp%3Apull"));
}

#[tokio::test]
async fn sessions_share_tokens_of_one_user_and_no_other() {
    let image = Image::new();
    let fake = Fake::start(move |seen| guarded(&image, seen, "T1")).await;
    let client = client();
    let reference = format!("{}/app", fake.host()).parse().unwrap();
    for user in ["a", "a", "b", ""] {
        let repository = client.repository(&reference, Credentials::of(user, "p", "", ""));
        repository.manifest(&latest()).await.unwrap();
    }
    assert_eq!(tokens(&fake).len(), 3);
}

#[tokio::test]
async fn many_at_once_fetch_one_token() {
    let image = Image::new();
    let fake = Fake::start(move |seen| guarded(&image, seen, "T1")).await;
    let repository = repository(&fake);
    let which = latest();
    let all = (0..8).map(|_| repository.manifest(&which));
    for result in futures_util::future::join_all(all).await {
        result.unwrap();
    }
    assert_eq!(tokens(&fake).len(), 1);
}

#[tokio::test]
async fn a_token_that_is_no_longer_accepted_is_renewed_once() {
    let image = Image::new();
    let given = Arc::new(AtomicUsize::new(0));
    let current = given.clone();
    let fake = Fake::start(move |seen| {
        if seen.path.starts_with("/token") {
            current.fetch_add(1, Ordering::SeqCst);
        }
        guarded(&image, seen, &format!("T{}", current.load(Ordering::SeqCst)))
    })
    .await;
    let repository = repository(&fake);
    repository.manifest(&latest()).await.unwrap();
    // The server forgets the first token.
    given.fetch_add(1, Ordering::SeqCst);
    repository.manifest(&latest()).await.unwrap();
    assert_eq!(tokens(&fake).len(), 2);
}

#[tokio::test]
async fn rights_that_were_granted_since_are_asked_for_anew() {
    let image = Image::new();
    let given = Arc::new(AtomicUsize::new(0));
    let current = given.clone();
    let fake = Fake::start(move |seen| {
        if seen.path.starts_with("/token") {
            let number = current.fetch_add(1, Ordering::SeqCst) + 1;
            return Answer::new(200).json(format!(r#"{{"token":"T{number}"}}"#));
        }
        match (seen.path.as_str(), seen.header("authorization")) {
            (_, None) => challenge(seen, ""),
            // The first token opens only the manifest.
            (path, Some("Bearer T1")) if path.contains("/blobs/") => {
                Answer::error(403, "DENIED", "not yet")
            }
            _ => image.answer(seen),
        }
    })
    .await;
    let repository = repository(&fake);
    repository.manifest(&latest()).await.unwrap();
    repository.blob_bytes(&Image::new().layer_descriptor(), 1000).await.unwrap();
    assert_eq!(given.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_fresh_token_that_is_refused_ends_it() {
    let fake = Fake::start(move |seen| match seen.path.as_str() {
        path if path.starts_with("/token") => Answer::new(200).json(r#"{"access_token":"T"}"#),
        _ => challenge(seen, r#",error="insufficient_scope""#),
    })
    .await;
    let error = repository(&fake).manifest(&latest()).await.unwrap_err();
    assert!(matches!(error, Error::Denied { .. }), "{error}");
    assert_eq!(tokens(&fake).len(), 1);
}

#[tokio::test]
async fn a_scope_that_the_registry_asks_for_is_added() {
    let image = Image::new();
    let fake = Fake::start(move |seen| {
        if seen.path.starts_with("/token") {
            let full = seen.path.contains("metadata");
            let token = if full { "full" } else { "part" };
            return Answer::new(200).json(format!(r#"{{"token":"{token}"}}"#));
        }
        match seen.header("authorization") {
            Some("Bearer full") => image.answer(seen),
            _ => challenge(seen, r#",scope="repository:app:metadata,pull repository:base:pull""#),
        }
    })
    .await;
    repository(&fake).manifest(&latest()).await.unwrap();
    assert!(
        tokens(&fake)
            .last()
            .unwrap()
            .path
            .contains("scope=repository%3Aapp%3Ametadata%2Cpull&scope=repository%3Abase%3Apull")
    );
}

#[tokio::test]
async fn a_challenge_that_only_the_resource_makes_is_answered() {
    let image = Image::new();
    let fake = Fake::start(move |seen| match seen.path.as_str() {
        "/v2/" => Answer::new(200).json("{}"),
        _ => guarded(&image, seen, "T1"),
    })
    .await;
    let repository = repository(&fake);
    repository.manifest(&latest()).await.unwrap();
    repository.manifest(&latest()).await.unwrap();
    // The second request knows already.
    assert_eq!(fake.lines().len(), 4);
}

#[tokio::test]
async fn an_identity_token_buys_tokens_by_post() {
    let image = Image::new();
    let fake = Fake::start(move |seen| guarded(&image, seen, "T1")).await;
    let repository = repository_as(&fake, Credentials::of("user", "", "I D", ""));
    repository.manifest(&latest()).await.unwrap();
    let asked = &tokens(&fake)[0];
    assert_eq!(asked.line(), "POST /token");
    assert_eq!(asked.header("content-type"), Some("application/x-www-form-urlencoded"));
    assert_eq!(
        String::from_utf8_lossy(&asked.body),
        "client_id=docker&grant_type=refresh_token&refresh_token=I+D&scope=repository%3Aapp%3Apull&service=the+registry"
    );
}

#[tokio::test]
async fn a_registry_token_goes_as_it_is() {
    let image = Image::new();
    let fake = Fake::start(move |seen| guarded(&image, seen, "given")).await;
    let repository = repository_as(&fake, Credentials::of("user", "secret", "", "given"));
    repository.manifest(&latest()).await.unwrap();
    assert!(tokens(&fake).is_empty());
}

#[tokio::test]
async fn basic_is_shown_when_asked_for_and_missed_when_there_is_none() {
    let image = Image::new();
    let fake = Fake::start(move |seen| match seen.header("authorization") {
        Some("Basic dXNlcjpzZWNyZXQ=") => image.answer(seen),
        _ => Answer::new(401).with("www-authenticate", r#"Basic realm="x""#).json("{}"),
    })
    .await;
    let known = repository_as(&fake, Credentials::of("user", "secret", "", ""));
    known.manifest(&latest()).await.unwrap();
    assert_eq!(fake.seen()[0].header("authorization"), None, "nothing is shown unasked");
    let error = repository(&fake).manifest(&latest()).await.unwrap_err();
    assert!(matches!(error, Error::NoCredentials { .. }), "{error}");
    let wrong = repository_as(&fake, Credentials::of("user", "wrong", "", ""));
    let error = wrong.manifest(&latest()).await.unwrap_err();
    assert!(matches!(error, Error::Unauthorized { .. }), "{error}");
}

#[tokio::test]
async fn of_two_ways_the_one_that_works_without_a_password_is_taken() {
    let image = Image::new();
    let fake = Fake::start(move |seen| {
        let mut answer = guarded(&image, seen, "T1");
        if answer.status == 401 {
            answer = answer.with("www-authenticate", r#"Basic realm="x""#);
            answer.headers.rotate_right(1);
        }
        answer
    })
    .await;
    repository(&fake).manifest(&latest()).await.unwrap();
    assert_eq!(tokens(&fake).len(), 1);
}

#[tokio::test]
async fn a_push_asks_for_both_rights_and_a_mount_for_the_source_too() {
    let fake = Fake::start(move |seen| {
        if seen.path.starts_with("/token") {
            return Answer::new(200).json(r#"{"token":"T"}"#);
        }
        match (seen.method.as_str(), seen.header("authorization")) {
            (_, None) => challenge(seen, ""),
            ("HEAD", _) => Answer::new(404),
            ("POST", _) => Answer::new(201),
            _ => Answer::new(500),
        }
    })
    .await;
    let content = noise(10);
    let descriptor = oci::Descriptor::of("application/x", &content);
    let options = PushOptions { mount_from: vec!["base".into()], ..PushOptions::default() };
    repository(&fake).push_blob(&descriptor, Arc::new(content), &options).await.unwrap();
    let asked: Vec<String> = tokens(&fake).iter().map(|seen| seen.path.clone()).collect();
    assert_eq!(
        asked,
        [
            "/token?scope=repository%3Aapp%3Apull%2Cpush&service=the+registry",
            "/token?scope=repository%3Aapp%3Apull%2Cpush&scope=repository%3Abase%3Apull&service=the+registry"
        ]
    );
}

#[tokio::test]
async fn a_token_servers_redirect_does_not_carry_the_password() {
    let thief = Fake::start(|_| Answer::new(200).json(r#"{"token":"T1"}"#)).await;
    let away = thief.url("/steal");
    let image = Image::new();
    let fake = Fake::start(move |seen| match seen.path.as_str() {
        path if path.starts_with("/token") => Answer::new(302).with("location", away.clone()),
        _ => guarded(&image, seen, "T1"),
    })
    .await;
    let user = repository_as(&fake, Credentials::of("user", "secret", "", ""));
    user.manifest(&latest()).await.unwrap();
    assert_eq!(thief.seen()[0].header("authorization"), None);
    // A form with a secret in it is not sent on at all.
    let identity = repository_as(&fake, Credentials::of("", "", "secret", ""));
    let error = identity.manifest(&latest()).await.unwrap_err().to_string();
    assert!(error.contains("redirects a request that holds a secret"), "{error}");
    assert_eq!(thief.seen().len(), 1);
}

#[tokio::test]
async fn what_a_token_server_says_is_told_with_the_request() {
    for (answer, kind, text) in [
        (
            Answer::new(401).json(r#"{"details":"incorrect username or password"}"#),
            "Unauthorized",
            "unauthorized: incorrect username or password",
        ),
        (Answer::error(403, "DENIED", "token denied"), "Denied", "denied: token denied"),
        (Answer::new(200).body("junk"), "Protocol", "unable to decode token response"),
        (Answer::new(200).json("{}"), "Protocol", "did not include a token"),
        (Answer::new(200).body(vec![b' '; 2 << 20]), "TooLarge", "larger than"),
    ] {
        let fake = Fake::start(move |seen| match seen.path.as_str() {
            path if path.starts_with("/token") => answer.clone(),
            _ => challenge(seen, ""),
        })
        .await;
        let error = repository(&fake).manifest(&latest()).await.unwrap_err();
        let shown = error.to_string();
        assert!(shown.contains("cannot fetch manifest latest: no token: "), "{shown}");
        assert!(shown.contains(text), "{shown}");
        let Error::Token { cause, .. } = error else { panic!("{shown}") };
        assert!(format!("{cause:?}").starts_with(kind), "{cause:?}");
    }
}

#[tokio::test]
async fn a_realm_that_can_not_be_used_is_refused() {
    for (value, why) in [
        ("Bearer service=\"x\"", "no realm specified for token auth challenge"),
        ("Bearer realm=\"ftp://x/\"", "unsupported protocol scheme"),
        ("Bearer realm=\"http://user:pw@x/\"", "user information is not allowed"),
    ] {
        let fake =
            Fake::start(move |_| Answer::new(401).with("www-authenticate", value).json("{}")).await;
        let error = repository(&fake).manifest(&latest()).await.unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
    }
}

/// Remembers who asked.
#[derive(Default)]
struct Asked(Mutex<Vec<String>>);

impl CredentialSource for Asked {
    fn credentials<'a>(&'a self, request: CredentialRequest<'a>) -> CredentialFuture<'a> {
        let whose = if request.upstream { "registry" } else { "mirror" };
        let line = format!("{whose} {} {}", request.host, request.challenges[0].scheme);
        self.0.lock().unwrap().push(line);
        Box::pin(async { Ok(Credentials::of("user", "secret", "", "")) })
    }
}

#[tokio::test]
async fn a_source_is_asked_when_a_server_wants_credentials_and_may_fail() {
    let image = Image::new();
    let open = Arc::new(AtomicUsize::new(1));
    let closed = open.clone();
    let fake = Fake::start(move |seen| match seen.header("authorization") {
        None if closed.load(Ordering::SeqCst) == 0 => {
            Answer::new(401).with("www-authenticate", "Basic realm=\"x\"").json("{}")
        }
        _ => image.answer(seen),
    })
    .await;
    let asked = Arc::new(Asked::default());
    let reference = format!("{}/app", fake.host()).parse().unwrap();
    let repository = client().repository_as(&reference, asked.clone());
    repository.manifest(&latest()).await.unwrap();
    assert!(asked.0.lock().unwrap().is_empty());
    open.store(0, Ordering::SeqCst);
    repository.manifest(&latest()).await.unwrap();
    repository.manifest(&latest()).await.unwrap();
    assert_eq!(*asked.0.lock().unwrap(), [format!("registry {} basic", fake.host())]);

    struct Broken;
    impl CredentialSource for Broken {
        fn credentials<'a>(&'a self, _: CredentialRequest<'a>) -> CredentialFuture<'a> {
            Box::pin(async { Err("the helper is gone".to_owned()) })
        }
    }
    let error = client().repository_as(&reference, Arc::new(Broken)).manifest(&latest()).await;
    let error = error.unwrap_err().to_string();
    assert!(error.ends_with("no credentials: the helper is gone"), "{error}");
}

#[tokio::test]
async fn a_registrys_password_never_goes_to_its_mirror() {
    let image = Image::new();
    let mirror = Fake::start(move |seen| match seen.header("authorization") {
        None => Answer::new(401).with("www-authenticate", "Basic realm=\"x\"").json("{}"),
        Some(_) => image.answer(seen),
    })
    .await;
    let image = Image::new();
    let fake = Fake::start(move |seen| match seen.header("authorization") {
        None => Answer::new(401).with("www-authenticate", "Basic realm=\"x\"").json("{}"),
        Some(_) => image.answer(seen),
    })
    .await;
    let root = tempfile::tempdir().unwrap();
    let folder = support::tls::certs_folder(root.path(), &fake.host());
    let text = format!(
        "server = \"{}\"\n[host.\"{}\"]\ncapabilities = [\"pull\", \"resolve\"]\n",
        fake.url(""),
        mirror.url("")
    );
    std::fs::write(folder.join("hosts.toml"), text).unwrap();
    let hosts = Hosts { folders: vec![root.path().into()], ..Hosts::default() };
    let client = Client::new(Config { hosts, ..config() });
    let reference = format!("{}/app", fake.host()).parse().unwrap();
    let fixed = client.repository(&reference, Credentials::of("user", "secret", "", ""));
    fixed.manifest(&latest()).await.unwrap();
    assert!(mirror.seen().iter().all(|seen| seen.header("authorization").is_none()));
    assert!(fake.seen().last().unwrap().header("authorization").is_some());
    // A source that knows the mirror decides for itself.
    let asked = Arc::new(Asked::default());
    client.repository_as(&reference, asked.clone()).manifest(&latest()).await.unwrap();
    assert_eq!(*asked.0.lock().unwrap(), [format!("mirror {} basic", mirror.host())]);
}

#[tokio::test]
async fn a_session_has_headers_of_its_own_but_no_credentials_through_them() {
    let image = Image::new();
    let fake = Fake::start(move |seen| image.answer(seen)).await;
    let mut headers = http::HeaderMap::new();
    headers.insert("x-meta-one", "1".parse().unwrap());
    headers.insert("user-agent", "docker/28".parse().unwrap());
    headers.append("x-meta-one", "2".parse().unwrap());
    headers.insert("authorization", "Basic x".parse().unwrap());
    headers.insert("content-length", "7".parse().unwrap());
    headers.insert("accept", "text/html".parse().unwrap());
    repository(&fake).with_headers(headers).manifest(&latest()).await.unwrap();
    let seen = fake.seen().pop().unwrap();
    let all = |name: &str| seen.headers.iter().filter(|(n, _)| n == name).count();
    assert_eq!((seen.header("x-meta-one"), all("x-meta-one")), (Some("1"), 2));
    assert_eq!(all("accept"), 5, "what a request asks for is not a session's to change");
    assert_eq!(all("content-length"), 0);
    assert_eq!(seen.header("user-agent"), Some("docker/28"));
    assert_eq!(seen.header("authorization"), None);
}

#[tokio::test]
async fn a_login_is_checked_and_gives_an_identity_token() {
    let fake = Fake::start(move |seen| {
        if seen.path.starts_with("/token") {
            return match seen.header("authorization") {
                Some("Basic dXNlcjpzZWNyZXQ=") => {
                    Answer::new(200).json(r#"{"token":"T","refresh_token":"R"}"#)
                }
                _ => Answer::new(401).json(r#"{"details":"incorrect username or password"}"#),
            };
        }
        match seen.header("authorization") {
            Some("Bearer T") => Answer::new(200).json("{}"),
            _ => challenge(seen, ""),
        }
    })
    .await;
    let client = client();
    let good = Credentials::of("user", "secret", "", "");
    let login = client.login(&fake.url("/v2/"), &good).await.unwrap();
    assert_eq!(login.identity_token.as_deref(), Some("R"));
    assert_eq!(
        tokens(&fake)[0].path,
        "/token?account=user&client_id=docker&offline_token=true&service=the+registry"
    );
    let bad = Credentials::of("user", "wrong", "", "");
    let error = client.login(&fake.host(), &bad).await.unwrap_err();
    let told = error.told(registry_client::Asked::Login);
    assert_eq!(told.status, 401);
    assert_eq!(
        told.message,
        format!("Get \"http://{}/v2/\": unauthorized: incorrect username or password", fake.host())
    );
}

#[tokio::test]
async fn a_login_by_password_alone_is_checked_against_the_registry() {
    let fake = Fake::start(move |seen| match seen.header("authorization") {
        Some("Basic dXNlcjpzZWNyZXQ=") => Answer::new(200).json("{}"),
        _ => Answer::new(401).with("www-authenticate", "Basic realm=\"x\"").json("{}"),
    })
    .await;
    let client = client();
    let login = client.login(&fake.host(), &Credentials::of("user", "secret", "", "")).await;
    assert_eq!(login.unwrap().identity_token, None);
    let error =
        client.login(&fake.host(), &Credentials::of("user", "x", "", "")).await.unwrap_err();
    let host = fake.host();
    let message =
        format!("login attempt to http://{host}/v2/ failed with status: 401 Unauthorized");
    assert_eq!(error.told(registry_client::Asked::Login), Told { status: 500, message });
}
