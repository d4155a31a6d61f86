//! Who may do what: passwords, tokens, certificates, and that all are read again.

#![allow(clippy::unwrap_used)]

mod common;
#[path = "common/keys.rs"]
mod keys;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use common::{ask, start};
use keys::{Pair, basic, has_tools, text};
use lab::{Registry, Reply, Scratch, run};
use serde_json::{Value, json};

fn with(registry: &Registry, method: &str, target: &str, authorization: &str) -> Reply {
    registry.send(method, target, &[("Authorization", authorization)], b"").unwrap()
}

fn hangup(registry: &Registry) {
    run("kill", ["-HUP", &registry.pid().to_string()]).unwrap().success().unwrap();
}

#[test]
fn users_of_a_password_file_get_in_and_others_a_challenge() {
    if !has_tools("users_of_a_password_file_get_in_and_others_a_challenge") {
        return;
    }
    let scratch = Scratch::new("access").unwrap();
    let file = text(&scratch.join("users"));
    run("htpasswd", ["-cbB", &file, "ann", "secret"]).unwrap().success().unwrap();
    let registry = start(&["--auth-htpasswd", &file, "--auth-realm=The Realm"]);
    for target in ["/v2/", "/v2/a/tags/list", "/v2/_catalog"] {
        let refused = ask(&registry, "GET", target);
        assert_eq!(refused.status, 401, "{target}");
        assert_eq!(refused.header("WWW-Authenticate"), Some("Basic realm=\"The Realm\""));
        assert_eq!(refused.json()["errors"][0]["code"], "UNAUTHORIZED");
    }
    assert_eq!(with(&registry, "GET", "/v2/", &basic("ann", "secret")).status, 200);
    for (user, password) in [("ann", "wrong"), ("bob", "secret"), ("", "")] {
        assert_eq!(with(&registry, "GET", "/v2/", &basic(user, password)).status, 401);
    }
    for broken in ["Basic", "Basic %%%", "Bearer x", "ann:secret"] {
        assert_eq!(with(&registry, "GET", "/v2/", broken).status, 401, "{broken}");
    }
    // Health needs no user, and says nothing.
    assert_eq!(ask(&registry, "GET", "/healthz").status, 200);
    let begun = with(&registry, "POST", "/v2/a/blobs/uploads/", &basic("ann", "secret"));
    assert_eq!(begun.status, 202);
    run("htpasswd", ["-cbB", &file, "bob", "other"]).unwrap().success().unwrap();
    lab::wait_until("the new user", Duration::from_secs(30), || {
        with(&registry, "GET", "/v2/", &basic("bob", "other")).status == 200
    })
    .unwrap();
    assert_eq!(with(&registry, "GET", "/v2/", &basic("ann", "secret")).status, 401);
}

#[test]
fn a_password_file_that_is_none_is_named_at_the_start() {
    let scratch = Scratch::new("access").unwrap();
    let file = scratch.join("users");
    std::fs::write(&file, "ann:{SHA}x\n").unwrap();
    let error = |flags: &[&str]| match Registry::start(lab::RegistryKind::Ferry, flags) {
        Ok(_) => panic!("it started"),
        Err(error) => error.to_string(),
    };
    let told = error(&["--auth-htpasswd", &text(&file)]);
    assert!(told.contains("line 1: the hash of \"ann\" is not bcrypt"), "{told}");
    let told = error(&["--auth-htpasswd", "/nowhere"]);
    assert!(told.contains("reading /nowhere: No such file or directory"), "{told}");
}

/// What tokens are checked against in these tests.
const FLAGS: [&str; 3] = [
    "--auth-token-realm=https://auth.example.org/token",
    "--auth-token-service=the registry",
    "--auth-token-issuer=the issuer",
];

fn claims(access: &Value) -> Value {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    json!({
        "iss": "the issuer", "sub": "ann", "aud": "the registry", "exp": now + 300,
        "nbf": now - 10, "iat": now, "jti": "1", "access": access,
    })
}

fn may(name: &str, actions: &[&str]) -> Value {
    json!([{"type": "repository", "name": name, "actions": actions}])
}

#[test]
fn a_token_says_which_repository_and_what() {
    if !has_tools("a_token_says_which_repository_and_what") {
        return;
    }
    let scratch = Scratch::new("access").unwrap();
    for rsa in [true, false] {
        let pair = Pair::own(&scratch, "signer", rsa);
        let bundle = format!("--auth-token-rootcertbundle={}", text(&pair.cert));
        let registry = start(&[&FLAGS[..], &[&bundle]].concat());
        let bearer = |access: &Value| {
            format!("Bearer {}", pair.token(json!({"kid": pair.id()}), &claims(access)))
        };
        let refused = ask(&registry, "GET", "/v2/");
        let challenge = "Bearer realm=\"https://auth.example.org/token\",service=\"the registry\"";
        assert_eq!((refused.status, refused.header("WWW-Authenticate")), (401, Some(challenge)));
        let refused = ask(&registry, "POST", "/v2/a/b/blobs/uploads/");
        let expected = format!("{challenge},scope=\"repository:a/b:pull,push\"");
        assert_eq!(refused.header("WWW-Authenticate"), Some(expected.as_str()));
        assert_eq!(with(&registry, "GET", "/v2/", &bearer(&json!([]))).status, 200);
        let push = bearer(&may("a/b", &["pull", "push"]));
        let pull = bearer(&may("a/b", &["pull"]));
        let begun = with(&registry, "POST", "/v2/a/b/blobs/uploads/", &push);
        assert_eq!(begun.status, 202);
        assert_eq!(with(&registry, "DELETE", begun.header("Location").unwrap(), &push).status, 204);
        let refused = with(&registry, "POST", "/v2/a/b/blobs/uploads/", &pull);
        let expected = format!("{expected},error=\"insufficient_scope\"");
        assert_eq!(refused.status, 401);
        assert_eq!(refused.header("WWW-Authenticate"), Some(expected.as_str()));
        assert_eq!(with(&registry, "GET", "/v2/a/b/tags/list", &pull).status, 404);
        assert_eq!(with(&registry, "GET", "/v2/a/c/tags/list", &pull).status, 401);
        let digest = oci::Digest::sha256(b"x");
        let delete = format!("/v2/a/b/blobs/{digest}");
        assert_eq!(with(&registry, "DELETE", &delete, &push).status, 401);
        assert_eq!(with(&registry, "DELETE", &delete, &bearer(&may("a/b", &["*"]))).status, 404);
        assert_eq!(with(&registry, "GET", "/v2/_catalog", &push).status, 401);
        let catalog = json!([{"type": "registry", "name": "catalog", "actions": ["*"]}]);
        assert_eq!(with(&registry, "GET", "/v2/_catalog", &bearer(&catalog)).status, 200);
        // A mount needs the right to pull from the other repository.
        let mount = format!("/v2/a/b/blobs/uploads/?mount={digest}&from=x/y");
        let refused = with(&registry, "POST", &mount, &push);
        let challenge = refused.header("WWW-Authenticate").unwrap();
        assert!(challenge.contains("repository:a/b:pull,push repository:x/y:pull"), "{challenge}");
        let mut both = may("a/b", &["pull", "push"]).as_array().unwrap().clone();
        both.extend(may("x/y", &["pull"]).as_array().unwrap().clone());
        assert_eq!(with(&registry, "POST", &mount, &bearer(&both.into())).status, 202);
    }
}

#[test]
fn a_token_that_is_old_foreign_or_forged_does_not_count() {
    if !has_tools("a_token_that_is_old_foreign_or_forged_does_not_count") {
        return;
    }
    let scratch = Scratch::new("access").unwrap();
    let (pair, stranger) =
        (Pair::own(&scratch, "signer", true), Pair::own(&scratch, "stranger", true));
    let bundle = format!("--auth-token-rootcertbundle={}", text(&pair.cert));
    let registry = start(&[&FLAGS[..], &[&bundle]].concat());
    let status = |token: &str| with(&registry, "GET", "/v2/", &format!("Bearer {token}")).status;
    let known = json!({"kid": pair.id()});
    let good = claims(&json!([]));
    assert_eq!(status(&pair.token(known.clone(), &good)), 200);
    // A token without the name of its key is tried with those of its kind.
    assert_eq!(status(&pair.token(json!({}), &good)), 200);
    for (claim, value) in [
        ("iss", json!("another")),
        ("aud", json!("another")),
        ("exp", json!(1_600_000_000)),
        ("nbf", json!(4_000_000_000u64)),
        ("exp", json!("tomorrow")),
        ("exp", Value::Null),
        ("access", json!("all")),
    ] {
        let mut bad = good.clone();
        bad[claim] = value;
        assert_eq!(status(&pair.token(known.clone(), &bad)), 401, "{claim}");
    }
    let mut listed = good.clone();
    listed["aud"] = json!(["another", "the registry"]);
    assert_eq!(status(&pair.token(known.clone(), &listed)), 200);
    assert_eq!(status(&stranger.token(json!({"kid": stranger.id()}), &good)), 401);
    assert_eq!(status(&stranger.token(known.clone(), &good)), 401);
    assert_eq!(status(&stranger.token(json!({"x5c": [stranger.x5c()]}), &good)), 401);
    let token = pair.token(known, &good);
    let (message, signature) = token.rsplit_once('.').unwrap();
    let (header, _) = message.split_once('.').unwrap();
    let other = pair.token(json!({}), &claims(&may("a", &["*"])));
    let body = other.split('.').nth(1).unwrap();
    assert_eq!(status(&format!("{header}.{body}.{signature}")), 401);
    let none = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0";
    assert_eq!(status(&format!("{none}.{body}.")), 401);
    for broken in ["", "a", "a.b", "a.b.c", "..", &"x".repeat(20_000)] {
        assert_eq!(status(broken), 401, "{broken}");
    }
}

#[test]
fn a_token_may_bring_the_certificate_that_the_bundle_vouches_for() {
    if !has_tools("a_token_may_bring_the_certificate_that_the_bundle_vouches_for") {
        return;
    }
    let scratch = Scratch::new("access").unwrap();
    let root = Pair::own(&scratch, "root", true);
    let (leaf, stranger) =
        (root.by(&scratch, "leaf", false), Pair::own(&scratch, "stranger", false));
    let bundle = format!("--auth-token-rootcertbundle={}", text(&root.cert));
    let registry = start(&[&FLAGS[..], &[&bundle]].concat());
    let status = |token: &str| with(&registry, "GET", "/v2/", &format!("Bearer {token}")).status;
    let good = claims(&json!([]));
    assert_eq!(status(&leaf.token(json!({"x5c": [leaf.x5c()]}), &good)), 200);
    assert_eq!(status(&leaf.token(json!({"x5c": [leaf.x5c(), root.x5c()]}), &good)), 200);
    assert_eq!(status(&root.token(json!({"x5c": [root.x5c()]}), &good)), 200);
    // The chain must lead to who signed.
    assert_eq!(status(&stranger.token(json!({"x5c": [leaf.x5c()]}), &good)), 401);
    assert_eq!(status(&stranger.token(json!({"x5c": [stranger.x5c(), root.x5c()]}), &good)), 401);
    assert_eq!(status(&leaf.token(json!({"x5c": []}), &good)), 401);
    assert_eq!(status(&leaf.token(json!({"x5c": ["AAAA"]}), &good)), 401);
}

#[test]
fn keys_of_a_jwks_file_count_and_are_read_again() {
    if !has_tools("keys_of_a_jwks_file_count_and_are_read_again") {
        return;
    }
    let scratch = Scratch::new("access").unwrap();
    let (one, two) = (Pair::own(&scratch, "one", false), Pair::own(&scratch, "two", false));
    let file = scratch.join("jwks.json");
    let keys = |jwk: Value| std::fs::write(&file, json!({"keys": [jwk]}).to_string()).unwrap();
    keys(one.jwk("first"));
    let flag = format!("--auth-token-jwks={}", text(&file));
    let registry = start(&[&FLAGS[..], &[&flag]].concat());
    let good = claims(&json!([]));
    let status = |pair: &Pair, id: &str| {
        let token = pair.token(json!({"kid": id}), &good);
        with(&registry, "GET", "/v2/", &format!("Bearer {token}")).status
    };
    assert_eq!((status(&one, "first"), status(&two, "second")), (200, 401));
    keys(two.jwk("second"));
    hangup(&registry);
    lab::wait_until("the second key", Duration::from_secs(30), || status(&two, "second") == 200)
        .unwrap();
    assert_eq!(status(&one, "first"), 401);
    // What cannot be read changes nothing.
    std::fs::write(&file, "{").unwrap();
    hangup(&registry);
    lab::wait_until("the complaint", Duration::from_secs(30), || {
        registry.log().contains("it stays as it was")
    })
    .unwrap();
    assert_eq!(status(&two, "second"), 200);
}

/// curl on a registry with TLS; its exit code and what it printed.
fn curl(registry: &Registry, words: &[&str], path: &str) -> lab::Finished {
    let url = format!("https://{}{path}", registry.address());
    run("curl", [&["-sS", "--max-time", "60"], words, &[&url]].concat()).unwrap()
}

#[test]
fn tls_serves_both_versions_of_http_and_takes_a_new_certificate_while_it_runs() {
    if !has_tools("tls_serves_both_versions_of_http_and_takes_a_new_certificate_while_it_runs") {
        return;
    }
    let scratch = Scratch::new("access").unwrap();
    let (old, new) = (Pair::own(&scratch, "old", false), Pair::own(&scratch, "new", true));
    let served = old.by(&scratch, "served", false);
    let (cert, key) = (text(&served.cert), text(&served.key));
    let registry = start(&["--tlscert", &cert, "--tlskey", &key]);
    let (old_ca, new_ca) = (text(&old.cert), text(&new.cert));
    let version = |http: &str| {
        let words =
            ["--cacert", &old_ca, http, "-o", "/dev/null", "-w", "%{http_code} %{http_version}"];
        curl(&registry, &words, "/v2/").success().unwrap()
    };
    assert_eq!(version("--http1.1"), "200 1.1");
    assert_eq!(version("--http2"), "200 2");
    let plain = registry.send("GET", "/v2/", &[], b"");
    assert!(plain.is_err() || plain.unwrap().status != 200);
    // A blob through both, larger than any window.
    let blob = scratch.join("blob");
    std::fs::write(&blob, vec![b'x'; 5 << 20]).unwrap();
    let digest = oci::Digest::sha256(&std::fs::read(&blob).unwrap());
    let (data, out) = (format!("@{}", text(&blob)), text(&scratch.join("out")));
    for http in ["--http1.1", "--http2"] {
        let target = format!("/v2/a{}/blobs/uploads/?digest={digest}", http.len());
        let words = ["--cacert", &old_ca, http, "-X", "POST", "--data-binary", &data];
        let pushed = curl(&registry, &[&words[..], &["-w", "%{http_code}"]].concat(), &target);
        assert_eq!(pushed.stdout, "201");
        let words = ["--cacert", &old_ca, http, "-o", &out];
        curl(&registry, &words, &format!("/v2/a{}/blobs/{digest}", http.len())).success().unwrap();
        assert!(digest.matches(&std::fs::read(&out).unwrap()));
    }
    let fresh = new.by(&scratch, "served", true);
    assert_eq!((&fresh.cert, &fresh.key), (&served.cert, &served.key));
    hangup(&registry);
    lab::wait_until("the new certificate", Duration::from_secs(30), || {
        curl(&registry, &["--cacert", &new_ca], "/v2/").code == 0
    })
    .unwrap();
    assert_ne!(curl(&registry, &["--cacert", &old_ca], "/v2/").code, 0);
}

#[test]
fn with_tlsverify_only_clients_with_a_certificate_get_in() {
    if !has_tools("with_tlsverify_only_clients_with_a_certificate_get_in") {
        return;
    }
    let scratch = Scratch::new("access").unwrap();
    let ca = Pair::own(&scratch, "ca", false);
    let (server, client) = (ca.by(&scratch, "server", false), ca.by(&scratch, "client", false));
    let stranger = Pair::own(&scratch, "stranger", false);
    let root = text(&ca.cert);
    let flags = [
        "--tlscert",
        &text(&server.cert),
        "--tlskey",
        &text(&server.key),
        "--tlscacert",
        &root,
        "--tlsverify",
    ];
    let registry = start(&flags);
    let as_client = |pair: &Pair| {
        let (cert, key) = (text(&pair.cert), text(&pair.key));
        curl(&registry, &["--cacert", &root, "--cert", &cert, "--key", &key], "/v2/").code
    };
    assert_eq!(as_client(&client), 0);
    assert_ne!(as_client(&stranger), 0);
    assert_ne!(curl(&registry, &["--cacert", &root], "/v2/").code, 0);
}
