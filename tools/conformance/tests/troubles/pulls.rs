//! Pulls from a registry that refuses, breaks or lies.

use std::sync::atomic::{AtomicBool, Ordering};

use lab::{Engine, Kind};
use oci::Digest;

use crate::fake::{Act, Fake, Gate};
use crate::origin::{Layer, documents};
use crate::{Rule, Store, error, json, layers, leftovers, on, post, start};

fn for_an_hour(status: u16) -> impl Fn() -> Act {
    move || {
        Act::Say(status, vec![("Retry-After", "3600".into()), json()], error("UNKNOWN", "later"))
    }
}

/// Every trouble of a pull by name.
fn troubles(layer: &Layer, config: &[u8]) -> Vec<(&'static str, Box<Rule>)> {
    let config = format!("/blobs/{}", Digest::sha256(config));
    let config = || config.clone();
    let manifest = || "/manifests/1".to_owned();
    let blob = format!("/blobs/{}", Digest::sha256(&layer.blob));
    let refuse = |status: u16, code: &str, message: &str| {
        let body = error(code, message);
        move || Act::Say(status, vec![json()], body.clone())
    };
    let mut flipped = layer.blob.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let cut = |bytes: usize| {
        let at_once = Gate::default();
        at_once.open();
        move || Act::Hold(bytes, at_once.clone())
    };
    vec![
        ("403", on(manifest(), refuse(403, "DENIED", "requested access is denied"))),
        ("404", on(manifest(), refuse(404, "MANIFEST_UNKNOWN", "manifest unknown"))),
        ("429", on(manifest(), refuse(429, "TOOMANYREQUESTS", "You have reached your limit"))),
        ("500", on(manifest(), refuse(500, "UNKNOWN", "broken"))),
        ("429 for an hour", on(manifest(), for_an_hour(429))),
        ("503 for an hour", on(manifest(), for_an_hour(503))),
        ("503", on(manifest(), || Act::Say(503, vec![], "busy".into()))),
        ("401 of a layer", on(blob.clone(), refuse(401, "UNAUTHORIZED", "log in"))),
        ("403 of a layer", on(blob.clone(), refuse(403, "DENIED", "not for you"))),
        ("404 of a layer", on(blob.clone(), refuse(404, "BLOB_UNKNOWN", "blob unknown"))),
        ("a cut layer", on(blob.clone(), cut(100_000))),
        ("a wrong layer", on(blob, move || Act::Instead(flipped.clone()))),
        ("401 of the config", on(config(), refuse(401, "UNAUTHORIZED", "log in"))),
        ("403 of the config", on(config(), refuse(403, "DENIED", "not for you"))),
        ("404 of the config", on(config(), refuse(404, "BLOB_UNKNOWN", "blob unknown"))),
        ("429 of the config", on(config(), refuse(429, "TOOMANYREQUESTS", "slow down"))),
        ("503 of the config", on(config(), || Act::Say(503, vec![], "busy".into()))),
        ("a cut config", on(config(), cut(10))),
        ("a wrong config", on(config(), || Act::Instead(b"{}".to_vec()))),
    ]
}

/// Without how often it was tried: for configurations dockerd's option does not count.
fn without_count(said: &str) -> String {
    match said.split_once("after attempts=") {
        Some((before, after)) => {
            format!(
                "{before}after attempts={}",
                after.trim_start_matches(|c: char| c.is_ascii_digit())
            )
        }
        None => said.to_owned(),
    }
}

#[test]
fn a_registry_in_trouble_is_told_of_as_dockerd_does_and_nothing_is_left() {
    lab::require!("dockerd", "containerd", "runc", "ctr");
    let (stock, ours) = (start(Kind::Dockerd), start(Kind::Ferryd));
    let store = Store::of(&ours);
    let (fake, layers) = (Fake::start(), layers());
    fake.add("x", &layers);
    let at = fake.address.to_string();
    let pull = |engine| post(engine, &at, "/images/create?fromImage=REG/x:1", "e30=");
    let mut differences = Vec::new();
    for (what, rule) in troubles(&layers[1], &documents(&layers, "amd64").0) {
        fake.rule(rule);
        let [said, expected] = [&ours, &stock].map(|engine| without_count(&pull(engine)));
        if said != expected {
            differences.push(format!("{what}: {said} instead of {expected}"));
        }
        assert_eq!(leftovers(&store), Vec::<String>::new(), "{what}");
    }
    assert_eq!(differences, Vec::<String>::new());
    // Docker's words name the wrong layer; the log has what came in its place too.
    let mut wrong = layers[1].blob.clone();
    *wrong.last_mut().unwrap() ^= 1;
    let both = [&layers[1].blob, &wrong].map(|blob| Digest::sha256(blob).to_string());
    let told = |line: &str| both.iter().all(|digest| line.contains(digest));
    assert!(ours.log().lines().any(told), "{}", ours.log());
    fake.rule(|_| Act::Serve);
    assert_eq!(pull(&ours), pull(&stock));
    assert_eq!(leftovers(&store).len(), 1, "the image's name");
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
    fake.rule(on(broken, || Act::Say(503, vec![], "busy".into())));
    let said = pull();
    assert!(said.contains("503"), "{said}");
    assert_eq!(fake.gets(&layers[1].blob).len(), 2);
    // Who is told when to come back does so then.
    for status in [429, 503] {
        let first = AtomicBool::new(true);
        let later = move || Act::Say(status, vec![("Retry-After", "1".into())], String::new());
        let gone = || Act::Say(404, vec![json()], error("MANIFEST_UNKNOWN", "gone"));
        let act = move || if first.swap(false, Ordering::Relaxed) { later() } else { gone() };
        fake.rule(on("/manifests/1".into(), act));
        let said = pull();
        assert!(said.starts_with("404 ") && said.ends_with("gone"), "{said}");
    }
    fake.rule(|asked| if asked.path.contains("/blobs/") { Act::Slowly } else { Act::Serve });
    let said = pull();
    assert!(said.starts_with("200 Status: Downloaded"), "{said}");
    assert_eq!(fake.most_at_once(), 1);
}
