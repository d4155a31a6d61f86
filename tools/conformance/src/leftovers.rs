//! What a container may leave behind, counted before and after.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use lab::Engine;

/// Mounts, links, cgroups, namespaces and files that belong to an engine's containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftovers {
    mounts: BTreeSet<String>,
    /// Pins of network namespaces: names change, since a few are kept ready; the number is bounded.
    pins: usize,
    links: BTreeSet<String>,
    cgroups: BTreeSet<String>,
    state: BTreeSet<String>,
    store: BTreeSet<String>,
    shims: usize,
}

impl Leftovers {
    /// What is there now.
    pub fn of(engine: &Engine) -> Leftovers {
        Leftovers {
            mounts: mounts(engine, false),
            pins: mounts(engine, true).len(),
            links: links(engine),
            cgroups: cgroups(engine),
            state: state(engine),
            store: store(engine),
            shims: engine.shim_pids().len(),
        }
    }

    /// Waits (tear-down goes on after the reply) until nothing more is there than in
    /// `self`; says what stayed.
    pub fn assert_nothing_more(&self, engine: &Engine) {
        let mut now = Leftovers::of(engine);
        for _ in 0..500 {
            if now.is_within(self) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
            now = Leftovers::of(engine);
        }
        panic!("left behind:\n{now:#?}\nbefore:\n{self:#?}");
    }

    fn is_within(&self, before: &Leftovers) -> bool {
        self.mounts.is_subset(&before.mounts)
            && self.pins <= before.pins.max(READY_PINS)
            && self.links.is_subset(&before.links)
            && self.cgroups.is_subset(&before.cgroups)
            && self.state.is_subset(&before.state)
            && self.store.is_subset(&before.store)
            && self.shims <= before.shims
    }
}

/// The host's own namespace and those kept ready.
const READY_PINS: usize = 6;

/// Mounts of containers (their root, or below a folder named by an id), or pins of
/// namespaces. What the daemons mount once for themselves stays by design.
fn mounts(engine: &Engine, of_namespaces: bool) -> BTreeSet<String> {
    let of_container = |point: &str| {
        point.split('/').any(|part| part == "rootfs" || (part.len() >= 64 && is_hex(part)))
    };
    let points = engine.scratch().mounts().into_iter().map(|point| point.display().to_string());
    points
        .filter(|point| if of_namespaces { point.contains("/netns/") } else { of_container(point) })
        .collect()
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn links(engine: &Engine) -> BTreeSet<String> {
    let Some(netns) = engine.netns() else { return BTreeSet::new() };
    let text = netns.run("ip", &["-o", "link"]).unwrap_or_default();
    text.lines()
        .filter(|line| line.contains("veth"))
        .filter_map(|line| line.split(": ").nth(1))
        .map(str::to_owned)
        .collect()
}

/// Cgroups of this engine's containers, in every hierarchy.
fn cgroups(engine: &Engine) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for hierarchy in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
        let parent = hierarchy.path().join(engine.cgroup_parent());
        walk(&parent, 0, &mut |path| {
            if path.is_dir() {
                found.insert(path.display().to_string());
            }
        });
    }
    found
}

/// Files and folders below the engine's roots whose name is the id of a container or an exec;
/// sockets have half of it, an exec's after an `x`.
fn state(engine: &Engine) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for root in ["exec", "data/containers"] {
        walk(&engine.scratch().join(root), 7, &mut |path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let name = name.strip_prefix('x').unwrap_or(&name);
            if matches!(name.len(), 32 | 64) && is_hex(name) {
                found.insert(path.display().to_string());
            }
        });
    }
    found
}

/// What the store holds: snapshots, blobs, and blobs that are being written.
fn store(engine: &Engine) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for folder in ["snapshots", "content/blobs/sha256", "content/ingest"] {
        let folder = engine.scratch().join("data/containerd").join(folder);
        walk(&folder, 0, &mut |path| {
            found.insert(path.display().to_string());
        });
    }
    found
}

fn walk(folder: &Path, depth: usize, see: &mut dyn FnMut(&Path)) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        see(&path);
        if depth > 0 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&path, depth - 1, see);
        }
    }
}
