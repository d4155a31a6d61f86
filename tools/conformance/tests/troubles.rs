//! A registry in trouble, seen through the API: what a pull or push says, and with which status, is
//! dockerd's; and nothing half-made is left behind.

// The same misbehaving registry as the store's own tests have, one level down.
#[path = "../../../store/supervisor/tests/registry/fake.rs"]
mod fake;
#[path = "../../../store/supervisor/tests/registry/origin.rs"]
mod origin;

use fake::{Act, Asked, Fake, Gate};
use lab::{Engine, Kind, Registry, RegistryKind, Scratch};
use oci::Digest;
use origin::{Layer, noise};
use serde_json::Value;

/// Engines on the host's loopback, where the registries are. One attempt: how often and how long
/// after each other things are tried is each engine's own.
const FLAGS: [&str; 3] = ["--bridge=none", "--iptables=false", "--max-download-attempts=1"];

fn start(kind: Kind) -> Engine {
    Engine::start_on_host_network(kind, &FLAGS).unwrap()
}

/// The status and the last message of a pull or push; `REG` is the registry.
fn post(engine: &Engine, at: &str, target: &str, auth: &str) -> String {
    let target = target.replace("REG", at);
    let reply = engine.api("POST", &target, &[("X-Registry-Auth", auth)], b"").unwrap();
    let text = reply.text();
    let said = |line: &str| -> Option<String> {
        let message: Value = serde_json::from_str(line).ok()?;
        let said = ["message", "error", "status"].iter().find_map(|key| message[key].as_str());
        said.map(str::to_owned)
    };
    let last = text.lines().rev().find_map(said).unwrap_or_default();
    format!("{} {last}", reply.status).replace(at, "REG")
}

fn layers() -> Vec<Layer> {
    vec![
        Layer::gzip(&[("a", b"1")]),
        Layer::gzip(&[("big/", b""), ("big/noise", &noise(3, 300_000))]),
    ]
}

/// What a failed pull must not leave: leases, names, and ingests without anything that the next pull
/// could go on with.
fn leftovers(engine: &Engine) -> Vec<String> {
    let root = engine.scratch().join("data");
    let socket = engine.scratch().join("exec/containerd.sock");
    let ctr = lab::peer("ctr").unwrap();
    let mut found = Vec::new();
    for (words, what) in [(["leases", "ls", "-q"], "lease"), (["images", "ls", "-q"], "image")] {
        let head = ["--address", socket.to_str().unwrap(), "-n", "moby"];
        let said = lab::run(&ctr, head.iter().chain(&words)).unwrap().success().unwrap();
        // One lease is the containers' for good.
        let lines = said.lines().filter(|line| *line != "ferryd-containers");
        found.extend(lines.map(|line| format!("{what} {line}")));
    }
    let empty = [root.to_str().unwrap(), "-path", "*/ingest/*/data", "-empty"];
    let ingests = lab::run("find", empty).unwrap();
    found.extend(ingests.stdout.lines().map(|line| format!("ingest {line}")));
    found
}

/// A rule for requests whose path ends so.
fn on(end: String, act: impl Fn() -> Act + Send + Sync + 'static) -> Box<Rule> {
    Box::new(move |asked: &Asked| if asked.path.ends_with(&end) { act() } else { Act::Serve })
}

type Rule = dyn Fn(&Asked) -> Act + Send + Sync;

fn error(code: &str, message: &str) -> &'static str {
    let body = format!(r#"{{"errors":[{{"code":"{code}","message":"{message}"}}]}}"#);
    Box::leak(body.into_boxed_str())
}

/// Every trouble of a pull by name.
fn troubles(layer: &Layer) -> Vec<(&'static str, Box<Rule>)> {
    let manifest = || "/manifests/1".to_owned();
    let blob = format!("/blobs/{}", Digest::sha256(&layer.blob));
    let refuse = |status: u16, code: &str, message: &str| {
        let body = error(code, message);
        move || Act::Refuse(status, vec![], body)
    };
    let mut flipped = layer.blob.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let at_once = Gate::default();
    at_once.open();
    vec![
        ("403", on(manifest(), refuse(403, "DENIED", "requested access is denied"))),
        ("404", on(manifest(), refuse(404, "MANIFEST_UNKNOWN", "manifest unknown"))),
        ("429", on(manifest(), refuse(429, "TOOMANYREQUESTS", "You have reached your limit"))),
        ("500", on(manifest(), refuse(500, "UNKNOWN", "broken"))),
        ("503", on(manifest(), || Act::Refuse(503, vec![], "busy"))),
        ("403 of a layer", on(blob.clone(), refuse(403, "DENIED", "not for you"))),
        ("404 of a layer", on(blob.clone(), refuse(404, "BLOB_UNKNOWN", "blob unknown"))),
        ("a cut layer", on(blob.clone(), move || Act::Hold(100_000, at_once.clone()))),
        ("a wrong layer", on(blob, move || Act::Instead(flipped.clone()))),
    ]
}

#[test]
#[ignore = "takes minutes: each trouble on both engines, with their waits"]
fn a_registry_in_trouble_is_told_of_as_dockerd_does_and_nothing_is_left() {
    lab::require!("dockerd", "containerd", "runc", "ctr");
    let (stock, ours) = (start(Kind::Dockerd), start(Kind::Ferryd));
    let (fake, layers) = (Fake::start(), layers());
    fake.add("x", &layers);
    let at = fake.address.to_string();
    let pull = |engine| post(engine, &at, "/images/create?fromImage=REG/x:1", "e30=");
    let mut differences = Vec::new();
    for (what, rule) in troubles(&layers[1]) {
        fake.rule(rule);
        let (said, expected) = (pull(&ours), pull(&stock));
        if said != expected {
            differences.push(format!("{what}: {said} instead of {expected}"));
        }
        assert_eq!(leftovers(&ours), Vec::<String>::new(), "{what}");
    }
    assert_eq!(differences, Vec::<String>::new());
    fake.rule(|_| Act::Serve);
    assert_eq!(pull(&ours), pull(&stock));
    assert_eq!(leftovers(&ours).len(), 1, "the image's name");
}

#[test]
fn the_limits_of_the_daemon_hold_in_the_store() {
    let flags = ["--bridge=none", "--iptables=false", "--max-concurrent-downloads=1"];
    let flags = [&flags[..], &["--max-download-attempts=2"]].concat();
    let ours = Engine::start_on_host_network(Kind::Ferryd, &flags).unwrap();
    let (fake, layers) = (Fake::start(), layers());
    fake.add("x", &layers);
    let at = fake.address.to_string();
    let pull = || post(&ours, &at, "/images/create?fromImage=REG/x:1", "e30=");
    let broken = format!("/blobs/{}", Digest::sha256(&layers[1].blob));
    fake.rule(on(broken, || Act::Refuse(503, vec![], "busy")));
    let said = pull();
    assert!(said.contains("503"), "{said}");
    assert_eq!(fake.gets(&layers[1].blob).len(), 2);
    fake.rule(|asked| if asked.path.contains("/blobs/") { Act::Slowly } else { Act::Serve });
    let said = pull();
    assert!(said.starts_with("200 Status: Downloaded"), "{said}");
    assert_eq!(fake.most_at_once(), 1);
}

/// A registry behind a password and one behind TLS: the words for who is let in and who is not.
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

/// `{"username":"user","password":"wrong"}`
const WRONG: &str = "eyJ1c2VybmFtZSI6InVzZXIiLCJwYXNzd29yZCI6Indyb25nIn0=";
/// `{"username":"user","password":"secret"}`
const RIGHT: &str = "eyJ1c2VybmFtZSI6InVzZXIiLCJwYXNzd29yZCI6InNlY3JldCJ9";
