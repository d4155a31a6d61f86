//! A registry in trouble, seen through the API: what a pull or push says, and with which status, is
//! dockerd's; and nothing half-made is left behind.

// The same misbehaving registry as the store's own tests have, one level down.
#[path = "../../../../store/supervisor/tests/registry/fake.rs"]
mod fake;
#[path = "../../../../store/supervisor/tests/registry/origin.rs"]
mod origin;

mod closed;
mod kills;
mod pulls;
mod tls;

use std::path::PathBuf;

use fake::{Act, Asked};
use lab::{Engine, Kind, noise};
use origin::Layer;
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
    let method = if target.starts_with("/distribution/") { "GET" } else { "POST" };
    let reply = engine.api(method, &target, &[("X-Registry-Auth", auth)], b"").unwrap();
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

/// The store below an engine.
struct Store {
    socket: PathBuf,
    root: PathBuf,
}

impl Store {
    /// An engine's own.
    fn of(engine: &Engine) -> Store {
        let scratch = engine.scratch();
        Store { socket: scratch.join("exec/containerd.sock"), root: scratch.join("data") }
    }
}

/// What a failed pull must not leave: leases, names, and ingests without anything that the next pull
/// could go on with.
fn leftovers(store: &Store) -> Vec<String> {
    let ctr = lab::peer("ctr").unwrap();
    let mut found = Vec::new();
    for (words, what) in [(["leases", "ls", "-q"], "lease"), (["images", "ls", "-q"], "image")] {
        let head = ["--address", store.socket.to_str().unwrap(), "-n", "moby"];
        let said = lab::run(&ctr, head.iter().chain(&words)).unwrap().success().unwrap();
        // One lease is the containers' for good.
        let lines = said.lines().filter(|line| *line != "ferryd-containers");
        found.extend(lines.map(|line| format!("{what} {line}")));
    }
    let empty = [store.root.to_str().unwrap(), "-path", "*/ingest/*/data", "-empty"];
    let ingests = lab::run("find", empty).unwrap();
    found.extend(ingests.stdout.lines().map(|line| format!("ingest {line}")));
    found
}

/// A rule for requests whose path ends so.
fn on(end: String, act: impl Fn() -> Act + Send + Sync + 'static) -> Box<Rule> {
    Box::new(move |asked: &Asked| if asked.path.ends_with(&end) { act() } else { Act::Serve })
}

type Rule = dyn Fn(&Asked) -> Act + Send + Sync;

/// A refusal's header and body.
fn json() -> (&'static str, String) {
    ("Content-Type", "application/json".into())
}

fn error(code: &str, message: &str) -> String {
    format!(r#"{{"errors":[{{"code":"{code}","message":"{message}"}}]}}"#)
}

/// `{"username":"user","password":"wrong"}`
const WRONG: &str = "eyJ1c2VybmFtZSI6InVzZXIiLCJwYXNzd29yZCI6Indyb25nIn0=";
/// `{"username":"user","password":"secret"}`
const RIGHT: &str = "eyJ1c2VybmFtZSI6InVzZXIiLCJwYXNzd29yZCI6InNlY3JldCJ9";
