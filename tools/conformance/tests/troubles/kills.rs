//! kill -9 in the middle of a pull: the next one fetches the rest alone, and nothing else is left.
//! Below ferryd is its own ferry-containerd, or a stock containerd.

use std::path::Path;
use std::thread::JoinHandle;
use std::time::Duration;

use lab::{Containerd, Engine, Kind, Scratch, noise, wait_until};
use oci::Digest;

use crate::fake::{Act, Fake, Gate};
use crate::origin::Layer;
use crate::{FLAGS, Store, leftovers, on, post, start};

const LONG: Duration = Duration::from_secs(120);
/// What is sent of the large layer before the kill.
const SENT: usize = 3 << 20;

fn layers(seed: u64) -> Vec<Layer> {
    vec![
        Layer::gzip(&[("a", b"1")]),
        Layer::gzip(&[("big/", b""), ("big/noise", &noise(seed, 5 << 20))]),
    ]
}

/// How much of a blob is in the store's ingests.
fn ingested(root: &Path) -> u64 {
    let words = [root.to_str().unwrap(), "-path", "*/ingest/*/data", "-printf", "%s\n"];
    let found = lab::run("find", words).unwrap().stdout;
    found.lines().filter_map(|line| line.parse().ok()).max().unwrap_or(0)
}

/// A pull that goes on beside the test, and stops in the middle of the large layer.
fn half_pulled(engine: &Engine, fake: &Fake, layer: &Layer, root: &Path) -> Half {
    let gate = Gate::default();
    let held = gate.clone();
    let end = format!("/blobs/{}", Digest::sha256(&layer.blob));
    fake.rule(on(end, move || Act::Hold(SENT, held.clone())));
    let socket = engine.scratch().join("s");
    let target = format!("/images/create?fromImage={}/x:1", fake.address);
    let pulling = std::thread::spawn(move || {
        // Its answer may be cut: the daemon may be killed.
        lab::http_unix(&socket, "POST", &target, &[("X-Registry-Auth", "e30=")], b"").ok();
    });
    wait_until("a part of the layer", LONG, || ingested(root) >= 1 << 20).unwrap();
    Half { gate, pulling }
}

struct Half {
    gate: Gate,
    pulling: JoinHandle<()>,
}

impl Half {
    /// Waits for the end of what was cut.
    fn end(self, fake: &Fake) {
        self.gate.open();
        fake.rule(|_| Act::Serve);
        self.pulling.join().unwrap();
    }
}

/// Pulls once more: the large layer comes by one request for what is not there.
fn assert_resumes(engine: &Engine, fake: &Fake, layer: &Layer, store: &Store, before: usize) {
    let said = post(engine, &fake.address.to_string(), "/images/create?fromImage=REG/x:1", "e30=");
    assert_eq!(said, "200 Status: Downloaded newer image for REG/x:1");
    let asked = &fake.gets(&layer.blob)[before..];
    let from = |range: &str| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<u64>().ok();
    let ranges: Vec<_> = asked.iter().map(|a| a.header("range").and_then(from)).collect();
    assert!(matches!(ranges[..], [Some(at)] if at >= 1 << 20), "{ranges:?}");
    // The lease of what was cut goes once the store is back.
    let is_clean = || matches!(&leftovers(store)[..], [name] if name.starts_with("image "));
    let cleaned = wait_until("nothing but the image", LONG, is_clean);
    assert!(cleaned.is_ok(), "{:?}", leftovers(store));
}

#[test]
fn a_pull_is_resumed_after_a_kill_of_either_daemon() {
    lab::require!("ctr");
    let mut ours = start(Kind::Ferryd);
    let store = Store::of(&ours);
    for (seed, killed) in [(1, "ferry-containerd"), (2, "ferryd")] {
        let (fake, layers) = (Fake::start(), layers(seed));
        fake.add("x", &layers);
        let half = half_pulled(&ours, &fake, &layers[1], &store.root);
        let before = fake.gets(&layers[1].blob).len();
        if killed == "ferryd" {
            ours.kill();
            half.end(&fake);
            ours.restart().unwrap();
        } else {
            let pids = ours.supervisor_pids();
            for pid in &pids {
                lab::run("kill", ["-KILL", &pid.to_string()]).unwrap().success().unwrap();
            }
            half.end(&fake);
            let anew = || ours.supervisor_pids().iter().any(|pid| !pids.contains(pid));
            wait_until("another ferry-containerd", LONG, anew).unwrap();
            let answers =
                || ours.api("GET", "/images/json", &[], b"").is_ok_and(|r| r.status == 200);
            wait_until("its answers", LONG, answers).unwrap();
        }
        assert_resumes(&ours, &fake, &layers[1], &store, before);
        ours.stock_cli(&["rmi", &format!("{}/x:1", fake.address)]).unwrap().success().unwrap();
    }
}

#[test]
fn on_a_stock_containerd_pulls_resume_and_wrong_layers_are_refused_too() {
    lab::require!("containerd", "ctr", "docker");
    let (fake, layers) = (Fake::start(), layers(3));
    fake.add("x", &layers);
    let at = fake.address.to_string();
    let scratch = Scratch::new("stock").unwrap();
    let mut containerd = Containerd::stock(&scratch).unwrap();
    let socket = format!("--containerd={}", containerd.socket().display());
    let flags = [&FLAGS[..], &[socket.as_str()]].concat();
    let ours = Engine::start_on_host_network(Kind::Ferryd, &flags).unwrap();
    let store = Store { socket: containerd.socket().to_owned(), root: scratch.join("c-root") };

    let wanted = Digest::sha256(&layers[1].blob);
    let mut flipped = layers[1].blob.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let got = Digest::sha256(&flipped);
    fake.rule(on(format!("/blobs/{wanted}"), move || Act::Instead(flipped.clone())));
    let said = post(&ours, &at, "/images/create?fromImage=REG/x:1", "e30=");
    assert_eq!(said, format!("200 filesystem layer verification failed for digest {wanted}"));
    assert!(ours.log().contains(&got.to_string()), "{}", ours.log());
    assert_eq!(leftovers(&store), Vec::<String>::new());

    let half = half_pulled(&ours, &fake, &layers[1], &store.root);
    let before = fake.gets(&layers[1].blob).len();
    containerd.kill();
    half.end(&fake);
    containerd.restart().unwrap();
    let answers = || ours.api("GET", "/images/json", &[], b"").is_ok_and(|r| r.status == 200);
    wait_until("ferryd's answers", LONG, answers).unwrap();
    assert_resumes(&ours, &fake, &layers[1], &store, before);
}
