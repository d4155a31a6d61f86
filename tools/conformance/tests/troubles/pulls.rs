//! Pulls from a registry that refuses, breaks or lies.

use lab::{Engine, Kind};
use oci::Digest;

use crate::fake::{Act, Fake, Gate};
use crate::origin::Layer;
use crate::{Rule, error, layers, leftovers, on, post, start};

/// Every trouble of a pull by name.
fn troubles(layer: &Layer) -> Vec<(&'static str, Box<Rule>)> {
    let manifest = || "/manifests/1".to_owned();
    let blob = format!("/blobs/{}", Digest::sha256(&layer.blob));
    let refuse = |status: u16, code: &str, message: &str| {
        let body = error(code, message);
        move || Act::Say(status, vec![], body.clone())
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
        ("503", on(manifest(), || Act::Say(503, vec![], "busy".into()))),
        ("403 of a layer", on(blob.clone(), refuse(403, "DENIED", "not for you"))),
        ("404 of a layer", on(blob.clone(), refuse(404, "BLOB_UNKNOWN", "blob unknown"))),
        ("a cut layer", on(blob.clone(), move || Act::Hold(100_000, at_once.clone()))),
        ("a wrong layer", on(blob, move || Act::Instead(flipped.clone()))),
    ]
}

#[test]
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
    fake.rule(on(broken, || Act::Say(503, vec![], "busy".into())));
    let said = pull();
    assert!(said.contains("503"), "{said}");
    assert_eq!(fake.gets(&layers[1].blob).len(), 2);
    fake.rule(|asked| if asked.path.contains("/blobs/") { Act::Slowly } else { Act::Serve });
    let said = pull();
    assert!(said.starts_with("200 Status: Downloaded"), "{said}");
    assert_eq!(fake.most_at_once(), 1);
}
