//! kill -9 at every moment: what was acknowledged is there and whole, what was not can be done
//! again, and nothing half-made stays.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use common::{ask, assert_consistent, assert_whole, push_blob, push_image, start};
use lab::{Registry, RegistryKind, Scratch, ours, run};
use oci::Digest;

/// Nothing of what was being made or removed is left.
fn assert_clean(registry: &Registry) {
    for folder in ["tmp", "trash"] {
        let path = registry.root().join("ferry").join(folder);
        let left: Vec<_> = fs::read_dir(&path).unwrap().flatten().map(|e| e.path()).collect();
        assert!(left.is_empty(), "{left:?}");
    }
    // A link leads to bytes: that is the promise.
    let base = registry.root().join("docker/registry/v2");
    let mut links = Vec::new();
    find(&base.join("repositories"), "link", &mut links);
    for link in links {
        let digest: Digest = fs::read_to_string(&link).unwrap().parse().unwrap();
        let hex = digest.hex();
        let algorithm = digest.algorithm().as_str();
        let data = base.join("blobs").join(algorithm).join(&hex[..2]).join(&hex).join("data");
        assert!(digest.matches(&fs::read(&data).unwrap()), "{}", link.display());
    }
}

fn find(folder: &Path, name: &str, found: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            find(&path, name, found);
        } else if path.file_name().is_some_and(|own| own == name) {
            found.push(path);
        }
    }
}

/// strace kills the server at the `n`th call of this kind. Returns whether it was killed.
fn killed_at(call: &str, n: u32, work: &dyn Fn(&Registry)) -> (bool, Registry) {
    let inject = format!("inject={call}:signal=SIGKILL:when={n}");
    let trace = format!("trace={call}");
    let before = ["strace", "-f", "-o", "/dev/null", "-e", &trace, "-e", &inject];
    let scratch = Scratch::new("crash").unwrap();
    // The store is made beforehand, so that only the work's calls count.
    let scratch = Registry::start_in(RegistryKind::Ferry, &[], scratch).unwrap().into_scratch();
    let registry = match Registry::start_below(&before, &[], scratch) {
        Ok(registry) => registry,
        Err(error) => panic!("{call} {n}: the server did not come up: {error:#}"),
    };
    work(&registry);
    let killed = registry.send("GET", "/v2/", &[], b"").is_err();
    (killed, registry)
}

/// Kills at each call in turn until the work gets through; looks at what is left each time.
fn at_every(call: &str, work: &dyn Fn(&Registry)) {
    for n in 1.. {
        let (killed, registry) = killed_at(call, n, work);
        let scratch = registry.into_scratch();
        let registry = Registry::start_in(RegistryKind::Ferry, &[], scratch).unwrap();
        assert_clean(&registry);
        assert_consistent(&registry);
        work(&registry);
        assert_consistent(&registry);
        assert_whole(&registry, "a/b", "t");
        assert_clean(&registry);
        if !killed {
            assert!(n > 1, "{call} is never called");
            return;
        }
        assert!(n < 200, "{call} without end");
    }
}

fn has_strace(test: &str) -> bool {
    let there = run("strace", ["-V"]).is_ok_and(|done| done.code == 0);
    if !there {
        eprintln!("SKIPPED: {test}: needs strace (cargo xtask setup)");
    }
    there
}

fn push_everything(registry: &Registry) {
    let Some(first) = push_image(registry, "a/b", "one", "t", None) else { return };
    push_image(registry, "a/b", "about one", "about", Some(&first));
}

#[test]
fn a_push_may_be_cut_at_every_rename() {
    if has_strace("a_push_may_be_cut_at_every_rename") {
        at_every("rename", &push_everything);
    }
}

#[test]
fn a_push_may_be_cut_at_every_sync() {
    if has_strace("a_push_may_be_cut_at_every_sync") {
        at_every("fsync", &push_everything);
    }
}

#[test]
fn a_push_may_be_cut_at_every_new_folder() {
    if has_strace("a_push_may_be_cut_at_every_new_folder") {
        at_every("mkdir", &push_everything);
    }
}

#[test]
fn a_deletion_and_a_collection_may_be_cut_at_every_rename() {
    if !has_strace("a_deletion_and_a_collection_may_be_cut_at_every_rename") {
        return;
    }
    let work = |registry: &Registry| {
        let gone = || {
            let digest = push_image(registry, "gone", "two", "x", None)?;
            let target = format!("/v2/gone/manifests/{digest}");
            registry.send("DELETE", &target, &[], b"").ok()?;
            push_image(registry, "a/b", "one", "t", None)?;
            let root = registry.root().display().to_string();
            let words = ["gc", "--root", &root, "--delete-untagged", "--min-age=0"];
            run(ours("ferry-registry").unwrap(), words).ok()
        };
        gone();
    };
    at_every("rename", &work);
}

#[test]
fn an_offline_collection_may_be_cut_at_every_rename() {
    if !has_strace("an_offline_collection_may_be_cut_at_every_rename") {
        return;
    }
    for n in 1..100 {
        let mut registry = start(&[]);
        push_image(&registry, "a/b", "one", "t", None).unwrap();
        for seed in ["two", "three"] {
            let digest = push_image(&registry, "gone", seed, "x", None).unwrap();
            assert_eq!(
                ask(&registry, "DELETE", &format!("/v2/gone/manifests/{digest}")).status,
                202
            );
        }
        push_blob(&registry, "a/b", b"loose").unwrap();
        registry.stop();
        let inject = format!("inject=rename:signal=SIGKILL:when={n}");
        let program = ours("ferry-registry").unwrap().display().to_string();
        let root = registry.root().display().to_string();
        let words = ["-f", "-o", "/dev/null", "-e", "trace=rename", "-e", &inject, &program, "gc"];
        let more = ["--root", &root, "--min-age=0"];
        let done = run("strace", words.iter().chain(&more)).unwrap();
        registry.restart().unwrap();
        assert_clean(&registry);
        assert_consistent(&registry);
        assert_whole(&registry, "a/b", "t");
        if done.code == 0 {
            assert!(n > 4, "a collection removes more than that: {done:?}");
            return;
        }
    }
    panic!("the collection never ended");
}

#[test]
fn pushes_go_on_after_kills_at_any_time_and_what_was_acknowledged_is_there() {
    let mut registry = start(&[]);
    let acknowledged = Mutex::new(BTreeMap::new());
    for round in 0..6u64 {
        std::thread::scope(|scope| {
            for client in 0..3 {
                let (registry, acknowledged) = (&registry, &acknowledged);
                scope.spawn(move || {
                    for n in 0.. {
                        let seed = format!("{round} {client} {}", n % 5);
                        let (name, tag) = (format!("r{client}"), format!("t{}", n % 5));
                        let Some(digest) = push_image(registry, &name, &seed, &tag, None) else {
                            return;
                        };
                        acknowledged.lock().unwrap().insert((name, tag), digest);
                    }
                });
            }
            // When it hits does not matter: every moment must do.
            let pid = registry.pid().to_string();
            scope.spawn(move || {
                std::thread::sleep(Duration::from_millis(150 + 170 * round));
                run("kill", ["-KILL", &pid]).unwrap();
            });
        });
        registry.restart().unwrap();
        assert_clean(&registry);
        assert_consistent(&registry);
        for ((name, tag), digest) in acknowledged.lock().unwrap().iter() {
            assert_whole(&registry, name, tag);
            assert_whole(&registry, name, &digest.to_string());
        }
    }
}

#[test]
fn an_upload_goes_on_after_a_kill_where_it_stood() {
    let mut registry = start(&[]);
    let at = ask(&registry, "POST", "/v2/a/blobs/uploads/");
    let at = at.header("Location").unwrap().to_owned();
    let bytes = vec![7; 3 << 20];
    let half = bytes.len() / 2;
    let reply = registry.send("PATCH", &at, &[], &bytes[..half]).unwrap();
    assert_eq!(reply.status, 202);
    registry.kill();
    registry.restart().unwrap();
    let status = ask(&registry, "GET", &at);
    assert_eq!(status.header("Range"), Some(format!("0-{}", half - 1).as_str()));
    let range = format!("{half}-{}", bytes.len() - 1);
    let digest = Digest::sha256(&bytes);
    let headers = [("Content-Range", range.as_str())];
    let reply = registry.send("PUT", &format!("{at}?digest={digest}"), &headers, &bytes[half..]);
    assert_eq!(reply.unwrap().status, 201);
    assert!(ask(&registry, "GET", &format!("/v2/a/blobs/{digest}")).body == bytes);
}
