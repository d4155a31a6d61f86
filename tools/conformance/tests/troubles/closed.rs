//! Registries that want to know who asks, and registries behind TLS: the words for who is let in
//! and who is not.

use std::sync::atomic::{AtomicUsize, Ordering};

use lab::{Engine, Kind, Registry, RegistryKind, Scratch};

use crate::fake::{Act, Asked, Fake};
use crate::{RIGHT, WRONG, json, layers, post, start};

#[test]
fn passwords_and_tls_are_met_as_dockerd_meets_them() {
    lab::require!("dockerd", "docker", "containerd", "runc");
    let scratch = Scratch::new("closed").unwrap();
    let file = |name: &str| scratch.join(name).display().to_string();
    lab::run("htpasswd", ["-Bbc", &file("users"), "user", "secret"]).unwrap().success().unwrap();
    let (key, cert) = (file("key"), file("cert"));
    let words = format!(
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=r \
         -addext subjectAltName=IP:127.0.0.1 -keyout {key} -out {cert}"
    );
    lab::run("openssl", words.split_whitespace()).unwrap().success().unwrap();
    let registry = |flags: &[&str]| Registry::start(RegistryKind::Ferry, flags).unwrap();
    let closed = registry(&[&format!("--auth-htpasswd={}", file("users"))]);
    let tls = registry(&[&format!("--tlscert={cert}"), &format!("--tlskey={key}")]);
    let archive = lab::layered_archive(scratch.path(), 2, 50_000).unwrap();
    let said = [Kind::Dockerd, Kind::Ferryd].map(|kind| {
        let engine = start(kind);
        let docker = |words: &[&str]| engine.stock_cli(words).unwrap().success().unwrap();
        docker(&["load", "-qi", archive.to_str().unwrap()]);
        let mut said = Vec::new();
        for registry in [&closed, &tls] {
            let at = registry.address().to_string();
            docker(&["tag", "layered:1", &format!("{at}/x:1")]);
            // Nobody, a wrong password, the right one: `{"username":"user","password":...}`.
            for auth in ["e30=", WRONG, RIGHT] {
                let push = post(&engine, &at, "/images/REG/x/push?tag=1", auth);
                said.push(push.split("sha256:").next().unwrap_or_default().to_owned());
            }
            docker(&["rmi", &format!("{at}/x:1")]);
            for auth in ["e30=", WRONG, RIGHT] {
                let target = "/images/create?fromImage=REG/x:1";
                said.push(post(&engine, &at, target, auth));
            }
        }
        said
    });
    assert_eq!(said[1], said[0]);
}

/// How a registry that lets everybody in at the first contact, or nobody, answers who it does not
/// know, and what a token server beside it does.
#[derive(Clone, Copy, Debug)]
struct Door {
    is_open_at_first: bool,
    scheme: &'static str,
    /// The type and body of its refusals.
    refusal: (&'static str, &'static str),
    /// The token server's answer to those whom it does not know.
    token: (u16, &'static str),
}

const JSON: (&str, &str) = (
    "application/json",
    r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required","detail":[]}]}"#,
);
const PLAIN: (&str, &str) = ("text/plain", "who are you?");
const UNKNOWN_USER: (u16, &str) = (401, r#"{"details":"incorrect username or password"}"#);
const NO_TOKEN: (u16, &str) = (403, r#"{"errors":[{"code":"DENIED","message":"no token"}]}"#);
const EMPTY_TOKEN: (u16, &str) = (200, r#"{"token":"of nobody"}"#);

/// What the scheme shows of the user whom [`RIGHT`] names.
const USER: &str = "Basic dXNlcjpzZWNyZXQ=";

impl Door {
    const fn new(
        is_open_at_first: bool,
        scheme: &'static str,
        refusal: (&'static str, &'static str),
        token: (u16, &'static str),
    ) -> Door {
        Door { is_open_at_first, scheme, refusal, token }
    }

    fn act(self, at: &str, asked: &Asked) -> Act {
        let shown = asked.header("authorization");
        let (kind, body) = self.refusal;
        let mut headers = vec![("Content-Type", kind.to_owned())];
        if asked.path.starts_with("/token") {
            let scoped = asked.path.contains("scope=repository%3Ax%3Apull");
            let is_user = shown == Some(USER) && scoped;
            let (status, body) = if is_user { (200, r#"{"token":"T"}"#) } else { self.token };
            return Act::Say(status, vec![("Content-Type", JSON.0.into())], body.into());
        }
        let (good, challenge) = match self.scheme {
            "Basic" => (USER, "Basic realm=\"r\"".to_owned()),
            _ => ("Bearer T", format!("Bearer realm=\"http://{at}/token\",service=\"s\"")),
        };
        if shown == Some(good) || (self.is_open_at_first && asked.path == "/v2/") {
            return Act::Serve;
        }
        headers.push(("WWW-Authenticate", challenge));
        Act::Say(401, headers, body.into())
    }
}

/// Both engines with an image to push.
fn engines_with_image() -> [Engine; 2] {
    let engines = [start(Kind::Dockerd), start(Kind::Ferryd)];
    let archive = lab::layered_archive(engines[0].scratch().path(), 2, 50_000).unwrap();
    for engine in &engines {
        docker(engine, &["load", "-qi", archive.to_str().unwrap()]);
    }
    engines
}

fn docker(engine: &Engine, words: &[&str]) -> String {
    engine.stock_cli(words).unwrap().success().unwrap()
}

/// dockerd never shows anything to a registry whose first answer asked for nothing; ferryd does
/// once it is asked, and tells dockerd's text where that does not help.
#[test]
fn who_asks_and_when_is_told_as_dockerd_tells_it() {
    lab::require!("dockerd", "docker", "containerd", "runc");
    let engines = engines_with_image();
    let pull = "/images/create?fromImage=REG/x:1";
    for door in [
        Door::new(true, "Basic", JSON, UNKNOWN_USER),
        Door::new(true, "Basic", PLAIN, UNKNOWN_USER),
        Door::new(true, "Bearer", JSON, UNKNOWN_USER),
        Door::new(true, "Bearer", PLAIN, NO_TOKEN),
        Door::new(true, "Bearer", JSON, EMPTY_TOKEN),
        Door::new(false, "Bearer", JSON, UNKNOWN_USER),
        Door::new(false, "Bearer", JSON, NO_TOKEN),
        Door::new(false, "Bearer", JSON, EMPTY_TOKEN),
    ] {
        let fake = Fake::start();
        fake.add("x", &layers());
        let at = fake.address.to_string();
        let own = at.clone();
        fake.rule(move |asked| door.act(&own, asked));
        for engine in &engines {
            docker(engine, &["tag", "layered:1", &format!("{at}/p:1")]);
        }
        for target in [pull, "/images/REG/p/push?tag=1", "/distribution/REG/x:1/json"] {
            for auth in ["e30=", WRONG] {
                let [expected, said] = [0, 1].map(|n| post(&engines[n], &at, target, auth));
                assert_eq!(said, expected, "{door:?} {target}");
            }
        }
        let said = post(&engines[1], &at, pull, RIGHT);
        assert!(said.starts_with("200 Status: "), "{door:?} {said}");
        docker(&engines[1], &["rmi", &format!("{at}/x:1")]);
    }
}

/// What a token server that numbers its tokens lets in: every other one is refused at blobs, as if
/// it had expired since the manifest; all are when nothing is to be accepted.
fn numbered(at: &str, given: &AtomicUsize, is_accepted: bool, asked: &Asked) -> Act {
    if asked.path.starts_with("/token") {
        let n = given.fetch_add(1, Ordering::Relaxed);
        return Act::Say(200, vec![json()], format!(r#"{{"token":"T{n}"}}"#));
    }
    let shown = asked.header("authorization").and_then(|shown| shown.strip_prefix("Bearer T"));
    let number = shown.and_then(|number| number.parse::<usize>().ok());
    let is_blob = asked.path.contains("/blobs/");
    let is_let_in = number.is_some_and(|n| !is_blob || (is_accepted && n % 2 == 1));
    if is_let_in {
        return Act::Serve;
    }
    let why = if is_blob { ",error=\"invalid_token\"" } else { "" };
    let challenge = format!("Bearer realm=\"http://{at}/token\",service=\"s\"{why}");
    Act::Say(401, vec![("WWW-Authenticate", challenge), json()], JSON.1.into())
}

#[test]
fn a_token_that_expires_in_the_middle_is_asked_for_anew() {
    lab::require!("dockerd", "containerd", "runc");
    let engines = [start(Kind::Dockerd), start(Kind::Ferryd)];
    // Layers that are here would not be asked for.
    for is_accepted in [false, true] {
        let fake = Fake::start();
        fake.add("x", &layers());
        let at = fake.address.to_string();
        let (own, given) = (at.clone(), AtomicUsize::new(0));
        fake.rule(move |asked| numbered(&own, &given, is_accepted, asked));
        let [theirs, ours] = engines
            .each_ref()
            .map(|engine| post(engine, &at, "/images/create?fromImage=REG/x:1", "e30="));
        // dockerd shows the token that it has as long as it says that it holds.
        let downloaded = "200 Status: Downloaded newer image for REG/x:1";
        let expected = if is_accepted { downloaded } else { theirs.as_str() };
        assert_eq!(ours, expected);
    }
}
