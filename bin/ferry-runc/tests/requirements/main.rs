//! What the runtime specification requires, and runc's command line: each requirement asked of
//! ferry-runc and of those of its peers that claim it too. Which test stands for which requirement is
//! in docs/compatibility/runtime-spec-tests.md, which `mapping` holds against what is here. They need
//! root and a busybox; where those are missing they say so and pass.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may")]

#[path = "../common/mod.rs"]
mod common;

mod commands;
mod devices;
mod features;
mod hooks;
mod lifecycle;
mod mapping;
mod mounts;
mod namespaces;
mod process;
mod seccomp;
mod values;

use common::{Bundle, runtimes, text};
use serde_json::Value;

/// What a runtime made of a bundle.
struct Seen<'a> {
    runtime: &'a str,
    bundle: &'a Bundle,
    code: Option<i32>,
    /// On its standard output.
    said: String,
    /// On its standard error.
    error: String,
}

/// Runs a bundle on each runtime but those named, which claim something else, and looks at what came
/// of it. A peer that fails where ferry-runc must not is told of and proves nothing: it meets
/// machines that it can't work on.
fn each(
    name: &str,
    args: &[&str],
    but: &[&str],
    change: impl Fn(&Bundle, &mut Value),
    check: impl Fn(&Seen),
) {
    for (runtime, program) in runtimes() {
        if but.contains(&runtime) {
            continue;
        }
        let Some(mut bundle) = Bundle::new(name, args) else { return };
        bundle.program = program;
        bundle.edit(|spec| change(&bundle, spec));
        let out = bundle.run();
        let (said, error) = (text(&out.stdout), text(&out.stderr));
        check(&Seen { runtime, bundle: &bundle, code: out.status.code(), said, error });
    }
}

/// A program that runs and prints what `check` wants.
fn accepted(
    name: &str,
    script: &str,
    but: &[&str],
    change: impl Fn(&Bundle, &mut Value),
    check: impl Fn(&str, &str),
) {
    each(name, &["sh", "-c", script], but, change, |seen| {
        if seen.code == Some(0) {
            check(seen.runtime, &seen.said);
        } else {
            assert_ne!(seen.runtime, "ferry-runc", "{name}: {}{}", seen.said, seen.error);
            eprintln!("SKIPPED: {name} on {}: {}", seen.runtime, seen.error.trim_end());
        }
    });
}

/// A configuration that is refused, with nothing left of the container; the error holds `why`.
fn refused(name: &str, why: &str, but: &[&str], change: impl Fn(&Bundle, &mut Value)) {
    each(name, &["true"], but, change, |seen| {
        assert_ne!(seen.code, Some(0), "{} accepts: {name}", seen.runtime);
        let state = seen.bundle.path("state").join(&seen.bundle.id);
        assert!(!state.exists(), "{} leaves {name}", seen.runtime);
        if seen.runtime == "ferry-runc" {
            assert!(seen.error.contains(why), "{name}: {}", seen.error);
        }
    });
}

fn push(list: &mut Value, item: Value) {
    list.as_array_mut().unwrap().push(item);
}

fn remove(object: &mut Value, key: &str) {
    object.as_object_mut().unwrap().remove(key);
}

/// The namespace of a kind in the configuration.
fn namespace<'a>(spec: &'a mut Value, kind: &str) -> &'a mut Value {
    let all = spec["linux"]["namespaces"].as_array_mut().unwrap();
    all.iter_mut().find(|n| n["type"] == kind).unwrap()
}

fn without_namespace(spec: &mut Value, kind: &str) {
    spec["linux"]["namespaces"].as_array_mut().unwrap().retain(|n| n["type"] != kind);
}

const CRUN: &str = "crun-static";
/// Where ferry-runc goes by the specification's letter alone.
const ALONE: &[&str] = &["runc", CRUN];
