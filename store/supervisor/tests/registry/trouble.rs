//! What must not go wrong when something else does: broken transfers, killed daemons, content that
//! is not what it should be, several pulls at once.

use crate::fake::{Act, Fake, Gate};
use crate::origin::{Layer, documents};
use lab::{Containerd, Scratch, noise, wait_until};
use oci::Digest;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(120);

fn pull(daemon: &Containerd, fake: &Fake, name: &str) -> lab::Finished {
    let image = format!("{}/{name}:1", fake.address);
    daemon.ctr(&["images", "pull", "--plain-http", &image]).unwrap()
}

/// A pull that goes on beside the test.
fn begin(daemon: &Containerd, fake: &Fake, name: &str) -> Child {
    let image = format!("{}/{name}:1", fake.address);
    Command::new(lab::peer("ctr").unwrap())
        .arg("--address")
        .arg(daemon.socket())
        .args(["images", "pull", "--plain-http", &image])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn root(scratch: &Scratch) -> PathBuf {
    scratch.join("c-root")
}

/// Files below a folder that are larger than `least`.
fn ingested(root: &Path, least: u64) -> Option<u64> {
    let entries = root.join("content/ingest").read_dir().ok()?;
    let sizes = entries.flatten().filter_map(|e| e.path().join("data").metadata().ok());
    sizes.map(|meta| meta.len()).find(|size| *size >= least)
}

/// Holds a store whose daemon is gone against itself.
pub(crate) fn assert_consistent(scratch: &Scratch) {
    let config = supervisor::Config {
        root: root(scratch),
        state: scratch.join("check-state"),
        address: scratch.join("check.sock"),
        ..supervisor::Config::default()
    };
    let state = std::sync::Arc::new(supervisor::State::open(&config).unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(supervisor::gc::collect(&state)).unwrap();
    assert_eq!(state.inconsistencies().unwrap(), Vec::<String>::new());
}

fn big() -> Layer {
    Layer::gzip(&[("big/", b""), ("big/noise", &noise(7, 4 << 20))])
}

fn small(n: u8) -> Layer {
    Layer::gzip(&[("small", &[n; 3000])])
}

#[test]
fn a_pull_goes_on_where_it_was_when_the_daemon_was_killed() {
    lab::require!("ctr");
    let (fake, layer) = (Fake::start(), big());
    fake.add("a", &[small(1), layer.clone()]);
    let scratch = Scratch::new("resume").unwrap();
    let mut daemon = half_pulled(&fake, &layer, &scratch);
    assert_consistent(&scratch);
    let at = ingested(&root(&scratch), 1 << 20).unwrap();
    let before = fake.gets(&layer.blob).len();
    daemon.restart().unwrap();
    let done = pull(&daemon, &fake, "a");
    assert_eq!(done.code, 0, "{}", done.stderr);
    let asked = &fake.gets(&layer.blob)[before..];
    let ranges: Vec<_> = asked.iter().map(|a| a.header("range")).collect();
    assert_eq!(ranges, [Some(&*format!("bytes={at}-"))]);
    daemon.kill();
    assert_consistent(&scratch);
}

/// Leaves half of a blob in the store of a daemon that is down.
fn half_pulled(fake: &Fake, layer: &Layer, scratch: &Scratch) -> Containerd {
    let held = Gate::default();
    let end = format!("/blobs/{}", Digest::sha256(&layer.blob));
    let gate = held.clone();
    fake.rule(move |asked| {
        if asked.path.ends_with(&end) { Act::Hold(1 << 20, gate.clone()) } else { Act::Serve }
    });
    let mut daemon = Containerd::ours(scratch).unwrap();
    let mut pulling = begin(&daemon, fake, "a");
    wait_until("a part of the blob", LONG, || ingested(&root(scratch), 1 << 20).is_some()).unwrap();
    daemon.kill();
    pulling.wait().unwrap();
    held.open();
    fake.rule(|_| Act::Serve);
    daemon
}

#[test]
fn a_part_that_is_damaged_or_can_not_be_continued_is_fetched_once_more() {
    lab::require!("ctr");
    for whole in [false, true] {
        let (fake, layer) = (Fake::start(), big());
        fake.add("a", std::slice::from_ref(&layer));
        let scratch = Scratch::new("again").unwrap();
        let mut daemon = half_pulled(&fake, &layer, &scratch);
        let before = fake.gets(&layer.blob).len();
        if whole {
            fake.rule(|_| Act::Whole);
        } else {
            let ingest = root(&scratch).join("content/ingest").read_dir().unwrap();
            let data = ingest.flatten().next().unwrap().path().join("data");
            let mut bytes = std::fs::read(&data).unwrap();
            bytes[5000] ^= 1;
            std::fs::write(&data, bytes).unwrap();
        }
        daemon.restart().unwrap();
        let done = pull(&daemon, &fake, "a");
        assert_eq!(done.code, 0, "{}", done.stderr);
        let asked = fake.gets(&layer.blob)[before..].to_vec();
        let ranges: Vec<bool> = asked.iter().map(|a| a.header("range").is_some()).collect();
        assert_eq!(ranges, if whole { vec![true] } else { vec![true, false] });
        daemon.kill();
        assert_consistent(&scratch);
    }
}

#[test]
fn content_that_is_not_what_it_should_be_is_refused_by_name_and_leaves_nothing() {
    lab::require!("ctr");
    let (fake, layer) = (Fake::start(), small(2));
    fake.add("a", &[small(1), layer.clone()]);
    let mut other = layer.blob.clone();
    *other.last_mut().unwrap() ^= 1;
    let (wanted, got) = (Digest::sha256(&layer.blob), Digest::sha256(&other));
    fake.rule(move |asked| {
        if asked.path.ends_with(&format!("/blobs/{wanted}")) {
            Act::Instead(other.clone())
        } else {
            Act::Serve
        }
    });
    // A config that promises another content of the layer.
    let mut lying = small(3);
    let (honest, promised) = (lying.diff_id, Digest::sha256(b"another"));
    lying.diff_id = promised;
    let (config, manifest) = documents(std::slice::from_ref(&lying), "amd64");
    fake.add_as("b", std::slice::from_ref(&lying), &config, &manifest);
    let scratch = Scratch::new("wrong").unwrap();
    let mut daemon = Containerd::ours(&scratch).unwrap();
    let done = pull(&daemon, &fake, "a");
    assert_eq!(done.code, 1);
    for digest in [wanted, got] {
        assert!(done.stderr.contains(&digest.to_string()), "{}", done.stderr);
    }
    let done = pull(&daemon, &fake, "b");
    assert_eq!(done.code, 1);
    for digest in [Digest::sha256(&lying.blob), honest, promised] {
        assert!(done.stderr.contains(&digest.to_string()), "{}", done.stderr);
    }
    // The collector takes what was whole but belongs to nothing.
    let empty = || {
        let rows = |words: &[&str]| daemon.ctr(words).unwrap().stdout.lines().count();
        rows(&["content", "ls"]) == 1 && rows(&["snapshots", "ls"]) == 1
    };
    wait_until("an empty store", LONG, empty).unwrap();
    // A part of the other layer may wait to be resumed; of the wrong one nothing does.
    let active = daemon.ctr(&["content", "active"]).unwrap().stdout;
    assert!(!active.contains(&wanted.to_string()), "{active}");
    daemon.kill();
    assert_consistent(&scratch);
}

#[test]
fn layers_that_several_pulls_want_are_fetched_and_unpacked_once() {
    lab::require!("ctr");
    let (fake, shared) = (Fake::start(), big());
    let names = ["a", "b", "c"];
    for (n, name) in names.iter().enumerate() {
        fake.add(name, &[small(9), shared.clone(), small(n as u8)]);
    }
    // Nobody gets the shared layer before all have their own.
    let gate = Gate::default();
    let (own, end) = (gate.clone(), format!("/blobs/{}", Digest::sha256(&shared.blob)));
    fake.rule(
        move |asked| if asked.path.ends_with(&end) { Act::After(own.clone()) } else { Act::Serve },
    );
    let scratch = Scratch::new("shared").unwrap();
    let mut daemon = Containerd::ours(&scratch).unwrap();
    let mut pulls = names.map(|name| begin(&daemon, &fake, name));
    let started = || (0..3).all(|n| !fake.gets(&small(n).blob).is_empty());
    wait_until("all pulls to be at work", LONG, started).unwrap();
    gate.open();
    for pull in &mut pulls {
        assert!(pull.wait().unwrap().success());
    }
    for blob in [&shared.blob, &small(9).blob] {
        assert_eq!(fake.gets(blob).len(), 1);
    }
    let snapshots = daemon.ctr(&["snapshots", "ls"]).unwrap().stdout;
    assert_eq!(snapshots.lines().count(), 1 + 2 + 3, "{snapshots}");
    daemon.kill();
    // Nobody unpacked a layer that was thrown away: folders are numbered one after the other.
    let folders = root(&scratch).join("snapshots").read_dir().unwrap().count();
    assert_eq!(folders, 5);
    assert_consistent(&scratch);
}

#[test]
fn a_kill_at_any_moment_of_a_pull_leaves_a_store_that_is_whole() {
    lab::require!("ctr");
    let fake = Fake::start();
    let layers: Vec<Layer> = (0..6)
        .map(|n| {
            Layer::gzip(&[
                ("d/", b""),
                (&format!("d/f{n}"), &noise(n, 200_000)),
                ("same", &noise(n, 50_000)),
            ])
        })
        .collect();
    fake.add("a", &layers);
    let scratch = Scratch::new("kill").unwrap();
    let mut daemon = Containerd::ours(&scratch).unwrap();
    for round in 0..8 {
        let mut pulling = begin(&daemon, &fake, "a");
        // Not a wait for anything: the moment is what the test varies.
        std::thread::sleep(Duration::from_millis(20 + 35 * round));
        daemon.kill();
        pulling.wait().unwrap();
        assert_consistent(&scratch);
        daemon.restart().unwrap();
        // An image that was acknowledged goes, so that the next round has something to do.
        daemon.ctr(&["images", "rm", &format!("{}/a:1", fake.address)]).unwrap();
    }
    let done = pull(&daemon, &fake, "a");
    assert_eq!(done.code, 0, "{}", done.stderr);
    daemon.kill();
    assert_consistent(&scratch);
}

#[test]
fn credentials_are_asked_from_the_client() {
    lab::require!("ctr");
    let fake = Fake::start();
    fake.add("a", &[small(1)]);
    fake.rule(|asked| match asked.header("authorization") {
        // user:secret
        Some("Basic dXNlcjpzZWNyZXQ=") => Act::Serve,
        _ => Act::Say(
            401,
            vec![("WWW-Authenticate", "Basic realm=\"x\"".into())],
            r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#.into(),
        ),
    });
    let scratch = Scratch::new("auth").unwrap();
    let daemon = Containerd::ours(&scratch).unwrap();
    let image = format!("{}/a:1", fake.address);
    let with = |user: &str| {
        let words = ["images", "pull", "--plain-http", "--user", user, &image];
        daemon.ctr(&words).unwrap()
    };
    let refused = pull(&daemon, &fake, "a");
    assert!(refused.code == 1, "{}", refused.stdout);
    let wrong = with("user:wrong");
    assert!(
        wrong.code == 1 && wrong.stderr.contains("authentication required"),
        "{}",
        wrong.stderr
    );
    let done = with("user:secret");
    assert_eq!(done.code, 0, "{}", done.stderr);
}
