//! Docker's own words: one table of refusals, held against this client and against a
//! stock dockerd (its image store of old; that of containerd has texts of its own).

#![allow(clippy::unwrap_used, reason = "helpers of tests may")]

#[path = "../support/mod.rs"]
mod support;
mod table;

use std::collections::BTreeMap;

use lab::{Engine, Kind};
use oci::Reference;
use registry_client::{Asked, Credentials, Error, PushOptions, SearchFilter, Told, Which};
use support::images::Image;
use support::{Answer, Ending, Fake, Seen, client, nobody};
use table::{ROWS, coded, json, plain};

/// The registry of the table.
async fn registry() -> Fake {
    Fake::start(|seen| {
        let repository = seen.path.split('/').nth(2).unwrap_or_default();
        match ROWS.iter().find(|row| row.repository == repository) {
            Some(row) if row.repository == "scope" => {
                let realm = format!("http://{}/v2/token", seen.header("host").unwrap());
                let value = format!(r#"Bearer realm="{realm}",error="insufficient_scope""#);
                (row.answer)().with("www-authenticate", value)
            }
            Some(row) => (row.answer)(),
            None if repository.starts_with("token?") => json(200, r#"{"token":"T"}"#),
            None => Image::new().answer(seen),
        }
    })
    .await
}

fn expected(host: &str, (status, message): (u16, &str)) -> Told {
    Told { status, message: message.replace("HOST", host) }
}

async fn refused(reference: &Reference) -> Error {
    let repository = client().repository(reference, Credentials::Anonymous);
    repository.manifest(&Which::of(reference)).await.unwrap_err()
}

#[tokio::test]
async fn refusals_are_told_as_docker_tells_them() {
    let fake = registry().await;
    for row in ROWS {
        let reference: Reference =
            format!("{}/{}:latest", fake.host(), row.repository).parse().unwrap();
        let error = refused(&reference).await;
        assert_eq!(error.told(Asked::Pull(&reference)), expected(&fake.host(), row.pull));
        assert_eq!(error.told(Asked::Inspect(&reference)), expected(&fake.host(), row.look));
    }
}

#[tokio::test]
async fn the_table_is_what_a_stock_dockerd_says() {
    let Some(engine) = dockerd() else { return };
    let fake = registry().await;
    for row in ROWS {
        let name = format!("{}/{}", fake.host(), row.repository);
        let path = format!("/images/create?fromImage={name}&tag=latest");
        let told = ask(&engine, "POST", &path, None).await;
        assert_eq!(told, expected(&fake.host(), row.pull), "{}", row.repository);
        let told = ask(&engine, "GET", &format!("/distribution/{name}:latest/json"), None).await;
        assert_eq!(told, expected(&fake.host(), row.look), "{}", row.repository);
    }
}

/// A stock dockerd that shares our loopback and changes nothing on the host's network.
fn dockerd() -> Option<Engine> {
    if let Some(why) = lab::lacking(&["dockerd", "containerd", "runc"]) {
        eprintln!("SKIPPED: docker_texts against dockerd: {why}");
        return None;
    }
    let quiet = [
        "--bridge=none",
        "--ip-forward=false",
        "--iptables=false",
        "--ip6tables=false",
        "--userland-proxy=false",
    ];
    Some(Engine::start_on_host_network(Kind::Dockerd, &quiet).unwrap())
}

/// One request to its API; an error inside a stream counts as one before it.
async fn ask(engine: &Engine, method: &str, path: &str, body: Option<&str>) -> Told {
    let socket = engine.scratch().join("s").display().to_string();
    let url = format!("http://docker/v1.51{path}");
    let mut words: Vec<String> =
        ["-gsS", "--unix-socket", &socket, "-X", method].map(Into::into).to_vec();
    words.extend([
        "-w".into(),
        "\n%{http_code}".into(),
        "-H".into(),
        "X-Registry-Auth: e30=".into(),
    ]);
    if let Some(body) = body {
        words.extend([
            "-H".into(),
            "Content-Type: application/json".into(),
            "-d".into(),
            body.into(),
        ]);
    }
    words.push(url);
    let run =
        tokio::task::spawn_blocking(move || lab::run("curl", &words).unwrap().success().unwrap());
    let out = run.await.unwrap();
    let (body, status) = out.rsplit_once('\n').unwrap();
    let last = body.trim_end().lines().last().unwrap_or_default();
    let parsed: serde_json::Value = serde_json::from_str(last).unwrap_or_default();
    let message = parsed["message"].as_str().or(parsed["error"].as_str()).unwrap_or(body);
    Told { status: status.parse().unwrap(), message: message.to_owned() }
}

/// A registry whose token server answers by the first part of the repository's name.
async fn with_tokens(kind: &'static str) -> Fake {
    Fake::start(move |seen| {
        if !seen.path.starts_with("/token") {
            let realm = format!("http://{}/token", seen.header("host").unwrap());
            let value = match kind {
                "basic" => r#"Basic realm="x""#.to_owned(),
                _ => format!(r#"Bearer realm="{realm}",service="svc""#),
            };
            return coded(401, "UNAUTHORIZED", "authentication required", "null")
                .with("www-authenticate", value);
        }
        match kind {
            "wrong" => json(401, r#"{"details":"incorrect username or password"}"#),
            "denied" => coded(403, "DENIED", "token denied", "null"),
            "broken" => plain(500, "boom"),
            "junk" => Answer::new(200).body("junk"),
            _ => json(200, "{}"),
        }
    })
    .await
}

const TOKENS: &[(&str, u16, &str)] = &[
    ("wrong", 401, "unauthorized: incorrect username or password"),
    ("denied", 403, "denied: token denied"),
    ("broken", 500, "received unexpected HTTP status: 500 Internal Server Error"),
    (
        "junk",
        500,
        "unable to decode token response: invalid character 'j' looking for beginning of value",
    ),
    ("empty", 500, "authorization server did not include a token in the response"),
    ("basic", 500, "no basic auth credentials"),
];

/// What docker says of each to a pull and to a login.
fn token_texts(host: &str, status: u16, cause: &str) -> [Told; 2] {
    [
        Told {
            status,
            message: format!("Head \"http://{host}/v2/app/manifests/latest\": {cause}"),
        },
        Told { status, message: format!("Get \"http://{host}/v2/\": {cause}") },
    ]
}

#[tokio::test]
async fn token_servers_refusals_are_told_as_docker_tells_them() {
    for (kind, status, cause) in TOKENS {
        let fake = with_tokens(kind).await;
        let reference: Reference = format!("{}/app:latest", fake.host()).parse().unwrap();
        let [pull, login] = token_texts(&fake.host(), *status, cause);
        let repository = client().repository(&reference, Credentials::Anonymous);
        let error = repository.resolve(&Which::of(&reference)).await.unwrap_err();
        assert_eq!(error.told(Asked::Pull(&reference)), pull);
        let error = client().login(&fake.host(), &Credentials::Anonymous).await.unwrap_err();
        assert_eq!(error.told(Asked::Login), login);
        // On the way of a push docker leaves method and URL out.
        let content = bytes::Bytes::from_static(b"x");
        let descriptor = oci::Descriptor::of("application/x", &content);
        let options = PushOptions::default();
        let error = repository.push_blob(&descriptor, std::sync::Arc::new(content), &options).await;
        assert_eq!(error.unwrap_err().told(Asked::Push).message, *cause);
    }
}

#[tokio::test]
async fn the_token_texts_are_what_a_stock_dockerd_says() {
    let Some(engine) = dockerd() else { return };
    for (kind, status, cause) in TOKENS {
        let fake = with_tokens(kind).await;
        let [pull, login] = token_texts(&fake.host(), *status, cause);
        let path = format!("/images/create?fromImage={}/app&tag=latest", fake.host());
        assert_eq!(ask(&engine, "POST", &path, None).await, pull);
        let body = format!(r#"{{"serveraddress":"{}"}}"#, fake.host());
        assert_eq!(ask(&engine, "POST", "/auth", Some(&body)).await, login);
    }
}

/// Blobs that fail: docker's text, without its retries.
const BLOBS: &[(&str, &str)] = &[
    ("missing", "unknown blob"),
    (
        "denied",
        "pull access denied for HOST/denied, repository does not exist or may require 'docker login': denied: requested access to the resource is denied",
    ),
    ("many", "toomanyrequests: slow"),
    ("wrong", "filesystem layer verification failed for digest LAYER"),
];

async fn with_blobs() -> Fake {
    Fake::start(|seen: &Seen| {
        let image = Image::new();
        if !seen.path.ends_with(&image.layer_descriptor().digest.to_string()) {
            return image.answer(seen);
        }
        match seen.path.split('/').nth(2).unwrap_or_default() {
            "missing" => coded(404, "BLOB_UNKNOWN", "blob unknown to registry", "{}"),
            "denied" => coded(403, "DENIED", "requested access to the resource is denied", "[]"),
            "many" => coded(429, "TOOMANYREQUESTS", "slow", "null"),
            "short" => Answer::new(200).body(image.layer).ending(Ending::CutAfter(10)),
            _ => {
                let mut bytes = image.layer.to_vec();
                bytes[20] ^= 1;
                Answer::new(200).body(bytes)
            }
        }
    })
    .await
}

fn blob_text(host: &str, text: &str) -> String {
    let layer = Image::new().layer_descriptor().digest.to_string();
    text.replace("HOST", host).replace("LAYER", &layer)
}

#[tokio::test]
async fn failing_layers_are_told_as_docker_tells_them() {
    let fake = with_blobs().await;
    let layer = Image::new().layer_descriptor();
    let all = BLOBS.iter().copied().chain([("short", "unexpected EOF")]);
    for (name, text) in all {
        let reference: Reference = format!("{}/{name}:latest", fake.host()).parse().unwrap();
        let repository = client().repository(&reference, Credentials::Anonymous);
        let error = repository.blob_bytes(&layer, 1000).await.unwrap_err();
        assert_eq!(error.told(Asked::Pull(&reference)).message, blob_text(&fake.host(), text));
    }
}

#[tokio::test]
async fn the_layer_texts_are_what_a_stock_dockerd_says() {
    let Some(engine) = dockerd() else { return };
    let fake = with_blobs().await;
    for (name, text) in BLOBS {
        let path = format!("/images/create?fromImage={}/{name}&tag=latest", fake.host());
        let told = ask(&engine, "POST", &path, None).await;
        assert_eq!(told.message, blob_text(&fake.host(), text), "{name}");
    }
}

/// Requests that no registry needs to answer: docker's status and text.
fn other_texts() -> Vec<(&'static str, String, Option<String>, Told)> {
    let address = nobody();
    let dial = format!("dial tcp {address}: connect: connection refused");
    let told = |status, message: String| Told { status, message };
    let login = |server: &str| {
        Some(format!(r#"{{"username":"u","password":"p","serveraddress":"{server}"}}"#))
    };
    vec![
        (
            "POST",
            format!("/images/create?fromImage={address}/app&tag=latest"),
            None,
            told(500, format!("Get \"http://{address}/v2/\": {dial}")),
        ),
        ("POST", "/auth".into(), login(&address.to_string()), told(500, format!("Get \"http://{address}/v2/\": {dial}"))),
        (
            "POST",
            "/auth".into(),
            login("a b"),
            told(400, r#"unable to parse server address: parse "https://a b": invalid character " " in host name"#.into()),
        ),
        (
            "GET",
            "/images/search?term=a&limit=101".into(),
            None,
            told(400, "limit 101 is outside the range of [1, 100]".into()),
        ),
        (
            "GET",
            "/images/search?term=http://x/foo".into(),
            None,
            told(400, "invalid repository name: repository name (http://x/foo) should not have a scheme".into()),
        ),
        (
            "GET",
            r#"/images/search?term=a&filters={"nope":["x"]}"#.into(),
            None,
            told(400, "invalid filter 'nope'".into()),
        ),
    ]
}

#[tokio::test]
async fn other_texts_are_dockers_too() {
    let client = client();
    for (_, path, body, told) in other_texts() {
        let error = if let Some(name) = path.split("fromImage=").nth(1) {
            let reference: Reference = name.replace("&tag=", ":").parse().unwrap();
            refused(&reference).await.told(Asked::Pull(&reference))
        } else if let Some(body) = body {
            let parsed: serde_json::Value = serde_json::from_str(&body).unwrap();
            let address = parsed["serveraddress"].as_str().unwrap();
            let user = Credentials::of("u", "p", "", "");
            client.login(address, &user).await.unwrap_err().told(Asked::Login)
        } else {
            let term = path.split(['=', '&']).nth(1).unwrap();
            let limit = path.split("limit=").nth(1).map_or(0, |limit| limit.parse().unwrap());
            let mut filters = BTreeMap::new();
            if path.contains("nope") {
                filters.insert("nope".to_owned(), vec!["x".to_owned()]);
            }
            let error = match SearchFilter::parse(&filters) {
                Err(error) => error,
                Ok(filter) => {
                    let nobody = Credentials::Anonymous;
                    client.search(term, limit, &filter, &nobody, "").await.unwrap_err()
                }
            };
            error.told(Asked::Search)
        };
        assert_eq!(error, told, "{path}");
    }
}

#[tokio::test]
async fn the_other_texts_are_what_a_stock_dockerd_says() {
    let Some(engine) = dockerd() else { return };
    for (method, path, body, told) in other_texts() {
        let path = path.replace('"', "%22").replace('{', "%7B").replace('}', "%7D");
        assert_eq!(ask(&engine, method, &path, body.as_deref()).await, told, "{path}");
    }
}

#[tokio::test]
async fn a_private_registry_is_searched_as_docker_searches_it() {
    let fake = Fake::start(|seen| match seen.path.as_str() {
        "/v1/_ping" => json(200, "{}"),
        "/v1/search?q=ng+x&n=7" => {
            json(200, r#"{"num_results":2,"results":[{"name":"nginx","description":"web","star_count":5,"is_official":true,"is_automated":true},{"name":"other","description":null}]}"#)
        }
        _ => json(404, "{}"),
    })
    .await;
    let client = client();
    let all = SearchFilter::default();
    let nobody = Credentials::Anonymous;
    let found =
        client.search(&format!("{}/ng x", fake.host()), 7, &all, &nobody, "").await.unwrap();
    assert_eq!(found.len(), 2);
    assert_eq!((found[0].name.as_str(), found[0].star_count), ("nginx", 5));
    assert_eq!(fake.seen()[1].header("x-docker-token"), Some("true"));
    let filters = BTreeMap::from([("stars".to_owned(), vec!["3".to_owned()])]);
    let starred = SearchFilter::parse(&filters).unwrap();
    let found =
        client.search(&format!("{}/ng x", fake.host()), 7, &starred, &nobody, "").await.unwrap();
    assert_eq!(found.len(), 1);
    let error =
        client.search(&format!("{}/x", fake.host()), 0, &all, &nobody, "").await.unwrap_err();
    assert_eq!(
        error.told(Asked::Search),
        Told { status: 500, message: "Unexpected status code 404".into() }
    );
}
